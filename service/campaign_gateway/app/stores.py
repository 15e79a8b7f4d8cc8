"""Opens the store that the settings name: Redis with copies in this process, or this process and its files alone."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from campaign_gateway.admin.probes import Part
from campaign_gateway.app import status
from campaign_gateway.app.build import build_seals
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.proxy.ports import CampaignIndex, ChangeLog, Handlers, Ledgers, SendingRecords, Store
from campaign_gateway.settings import state_folder
from campaign_gateway.settings.tree import Cache, CacheSentinel
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.local.ledger_file import FileLedgers
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.store.local.snapshot import Snapshot
from campaign_gateway.store.local.webhooks import LocalSendingRecords
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.seal import Refusal, Seals
from campaign_gateway.upstream.signer import read_secret

if TYPE_CHECKING:
    from campaign_gateway.store.open import RedisTarget

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
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


async def open_stores(runtime: Runtime, handlers: Handlers) -> Stores:
    """The stores, started; `handlers` are called with what other replicas publish."""
    settings, clock, metrics = runtime.settings, runtime.clock, runtime.metrics
    memory = MemoryStore(settings.cache.local_max_bytes, clock, metrics)
    status.show_memory(metrics.gauges, memory)
    if settings.cache.url != "memory://":
        return await _open_redis(runtime, memory, handlers)
    ledgers, part = await _open_files(runtime, memory)
    log = LocalChanges(clock.now, settings.changes.max, settings.changes.keep)
    return Stores(
        local=memory,
        entries=memory,
        index=LocalIndex(memory.epoch, clock.now, log),
        ledgers=ledgers,
        log=log,
        webhooks=LocalSendingRecords(clock.now),
        part=part,
    )


async def _open_redis(runtime: Runtime, memory: MemoryStore, handlers: Handlers) -> Stores:
    # Only here, for redis-py is a sixth of a cold start, and a gateway on its own has no use for it.
    from campaign_gateway.store.open import open_redis  # noqa: PLC0415

    plan, stack, watchers = runtime.plan, runtime.stack, runtime.watchers
    cache, kept = plan.settings.cache, plan.settings.changes
    opened = open_redis(
        redis_target(cache),
        prefix=cache.prefix,
        unwatched=cache.local_unwatched,
        local=memory,
        clock=runtime.clock,
        meter=runtime.metrics,
        seals=_open_seals(runtime),
        most=kept.max,
        keep=kept.keep,
    )
    link, store, index = opened.link, opened.store, opened.index
    stack.push_async_callback(link.close)
    stack.push_async_callback(opened.listener.close)
    await link.start(watchers)
    stack.push_async_callback(store.close)
    status.show_redis(runtime.metrics.gauges, lambda: link.is_up)
    store.start(watchers, handlers)

    def step() -> None:
        memory.clear()
        index.step()

    runtime.clock.on_step = step
    index.start(watchers, plan.identities.values(), may_hold_leases=lambda: plan.settings.sweep.share > 0)
    opened.log.start(watchers)
    stack.push_async_callback(index.depart)
    return Stores(
        local=memory,
        entries=store,
        index=index,
        ledgers=opened.ledgers,
        log=opened.log,
        webhooks=opened.webhooks,
        part=lambda: status.redis_part(link.fault),
    )


def _open_seals(runtime: Runtime) -> Seals:
    cache, metrics = runtime.settings.cache, runtime.metrics
    store = "redis" if cache.url != "memory://" else "file"
    # All of them at once, so that the first refusal is seen as a rise from zero.
    refused = {reason: metrics.store_operations(store, "unseal", reason.value) for reason in Refusal}

    def count(reason: Refusal) -> None:
        refused[reason].value += 1

    return build_seals(cache.seal, count)


async def _open_files(runtime: Runtime, memory: MemoryStore) -> tuple[Ledgers, Callable[[], Part]]:
    """The ledgers of a gateway without Redis; into `memory` goes what is left of an earlier run."""
    plan, cache, clock = runtime.plan, runtime.settings.cache, runtime.clock
    folder = state_folder(cache)
    if folder is None:
        _log.warning(
            "no directory for the calls of the window (set cache.state_dir): a restart may spend the budget again"
        )
        return MemoryLedgers(clock), lambda: status.NOT_WRITTEN_DOWN
    ledgers = FileLedgers(folder, plan.settings.platform.url, plan.allowance, clock)
    await ledgers.open()
    faults: dict[str, Callable[[], str | None]] = {"calls": lambda: ledgers.fault}
    if cache.state_dir is not None:
        streams = frozenset(plan.identities.values())
        snapshot = Snapshot(folder, memory, streams, cache.local_max_bytes, _open_seals(runtime))
        await snapshot.load()
        runtime.stack.push_async_callback(snapshot.close)
        runtime.watchers.supervise(snapshot.run, name="snapshot")
        faults["entries"] = lambda: snapshot.fault
    status.show_files(runtime.metrics.gauges, faults)
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
