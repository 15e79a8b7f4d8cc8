"""Opens the store that the settings name: Redis with copies in this process, or this process and its files alone."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from campaign_gateway.admin.probes import Part
from campaign_gateway.app import status
from campaign_gateway.app.build import Plan, build_seals
from campaign_gateway.proxy.ports import CampaignIndex, ChangeLog, Handlers, Ledgers, SendingRecords, Store
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.settings import state_folder
from campaign_gateway.settings.tree import Cache, CacheSentinel
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.local.ledger_file import FileLedgers
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.store.local.snapshot import Snapshot
from campaign_gateway.store.local.webhooks import LocalSendingRecords
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.seal import Refusal, Seals
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.signer import read_secret

if TYPE_CHECKING:
    from campaign_gateway.store.open import RedisTarget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """What is kept of the platform, and where its calls are written down."""

    local: MemoryStore
    """What of it is in this process."""
    entries: Store
    index: CampaignIndex
    ledgers: Ledgers
    log: ChangeLog
    webhooks: SendingRecords
    part: Callable[[], Part]
    """How ready they are."""


@dataclass(frozen=True, slots=True)
class Opener:
    """What every kind of store is opened with."""

    plan: Plan
    metrics: Metrics
    clock: StoreClock
    watchers: Tasks
    stack: AsyncExitStack
    """Closes what was opened."""

    async def open(self, handlers: Handlers) -> Stores:
        """The stores, started. `handlers` are called with what other replicas publish."""
        memory = MemoryStore(self.plan.settings.cache.local_max_bytes, self.clock, self.metrics)
        status.show_memory(self.metrics.gauges, memory)
        if self.plan.settings.cache.url == "memory://":
            ledgers, part = await self._open_files(memory)
            kept = self.plan.settings.changes
            log = LocalChanges(self.clock.now, kept.max, kept.keep)
            index, webhooks = LocalIndex(memory.epoch, self.clock.now, log), LocalSendingRecords(self.clock.now)
            return Stores(memory, memory, index, ledgers, log, webhooks, part)
        return await self._open_redis(memory, handlers)

    async def _open_redis(self, memory: MemoryStore, handlers: Handlers) -> Stores:
        # Only here, for redis-py is a sixth of a cold start, and a gateway on its own has no use for it.
        from campaign_gateway.store.open import open_redis  # noqa: PLC0415

        cache, kept = self.plan.settings.cache, self.plan.settings.changes
        opened = open_redis(
            redis_target(cache),
            *(cache.prefix, cache.local_unwatched, memory, self.clock, self.metrics, self._seals()),
            most=kept.max,
            keep=kept.keep,
        )
        link, store, index = opened.link, opened.store, opened.index
        self.stack.push_async_callback(link.close)
        self.stack.push_async_callback(opened.listener.close)
        await link.start(self.watchers)
        self.stack.push_async_callback(store.close)
        status.show_redis(self.metrics.gauges, lambda: link.is_up)
        store.start(self.watchers, handlers)

        def step() -> None:
            memory.clear()
            index.step()

        self.clock.on_step = step
        index.start(
            self.watchers, self.plan.identities.values(), may_hold_leases=lambda: self.plan.settings.sweep.share > 0
        )
        opened.log.start(self.watchers)
        self.stack.push_async_callback(index.depart)
        return Stores(
            *(memory, store, index, opened.ledgers, opened.log, opened.webhooks),
            lambda: status.redis_part(link.fault),
        )

    def _seals(self) -> Seals:
        store = "redis" if self.plan.settings.cache.url != "memory://" else "file"
        # All of them at once, so that the first refusal is seen as a rise from zero.
        refused = {reason: self.metrics.store_operations(store, "unseal", reason.value) for reason in Refusal}

        def count(reason: Refusal) -> None:
            refused[reason].value += 1

        return build_seals(self.plan.settings.cache.seal, count)

    async def _open_files(self, memory: MemoryStore) -> tuple[Ledgers, Callable[[], Part]]:
        """The ledgers of a gateway without Redis; into `memory` goes what is left of an earlier run."""
        cache = self.plan.settings.cache
        folder = state_folder(cache)
        if folder is None:
            _log.warning(
                "no directory for the calls of the window (set cache.state_dir): a restart may spend the budget again"
            )
            return MemoryLedgers(self.clock), lambda: status.NOT_WRITTEN_DOWN
        ledgers = FileLedgers(folder, self.plan.settings.platform.url, self.plan.allowance, self.clock)
        await ledgers.open()
        faults: dict[str, Callable[[], str | None]] = {"calls": lambda: ledgers.fault}
        if cache.state_dir is not None:
            streams = frozenset(self.plan.identities.values())
            snapshot = Snapshot(folder, memory, streams, cache.local_max_bytes, self._seals())
            await snapshot.load()
            self.stack.push_async_callback(snapshot.close)
            self.watchers.supervise(snapshot.run, name="snapshot")
            faults["entries"] = lambda: snapshot.fault
        status.show_files(self.metrics.gauges, faults)
        return ledgers, partial(status.files_part, faults)


def redis_target(cache: Cache) -> "RedisTarget":
    """Which Redis the settings name, and how to be let in."""
    from campaign_gateway.store.open import Access, RedisTarget, Tls  # noqa: PLC0415 - as above

    def access(section: Cache | CacheSentinel) -> Access:
        tls, file = section.tls, section.password_file
        password = None if file is None else lambda: read_secret(file).decode("utf-8", "replace")
        files = None if tls is None else Tls(tls.ca_file, tls.cert_file, tls.key_file)
        return Access(section.username, password, files)

    sentinel = access(cache.sentinel) if cache.sentinel is not None else Access()
    return RedisTarget(cache.url, cache.timeout, access(cache), sentinel)
