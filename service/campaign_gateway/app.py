"""The wiring: builds each room once out of the settings, starts and stops them in order. Only this knows everybody."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from campaign_gateway.admin.probes import Part, admin_application
from campaign_gateway.contract.operations import Tenant
from campaign_gateway.policy.freshness import Freshness, StatusRule
from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.policy.pacing import Capacity
from campaign_gateway.policy.sweeping import ListFlaw
from campaign_gateway.proxy.bounds import StatedBounds, stated_bounds
from campaign_gateway.proxy.collapse import Flights
from campaign_gateway.proxy.exchange import Exchange, Patience
from campaign_gateway.proxy.explain import Explainer, Explanation
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.forward import Forwarder
from campaign_gateway.proxy.hints import Hints, Readers
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.platform_clock import PlatformClock, describe
from campaign_gateway.proxy.ports import CampaignIndex, Ledgers, Store
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import SweepConfig, Sweeper
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.versions import Versions
from campaign_gateway.settings import (
    Address,
    Credential,
    FreshnessSettings,
    Settings,
    secret_from_environment,
    state_folder,
)
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.local.ledger_file import FileLedgers
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.store.local.snapshot import Snapshot
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.telemetry.logs import HitLines
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.client import Limits, PlatformClient
from campaign_gateway.upstream.signer import Claims, Recipient, Secret, Signer
from campaign_gateway.web.actions import Actions
from campaign_gateway.web.api import Api
from campaign_gateway.web.clients import Client, Clients
from campaign_gateway.web.fast import FastRoad, is_supported
from campaign_gateway.web.grants import Grants
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds
from campaign_gateway.web.server import Server, insist_on_compiled_parser

_log = logging.getLogger(__name__)

BACKLOG = 1024
ANONYMOUS = "anonymous"
LEAVE_SECONDS = 1.0
"""Beyond the time for connecting: how long a permit may go unused before its request may not leave any longer."""
FILLS_GRACE_SECONDS = 2.0
"""At the end, for answers that were given and are still on their way into the store."""


class Seat(NamedTuple):
    """The place of one of several workers, as their supervisor gives it out."""

    number: int
    port: int
    """The API's, on which all of them listen."""
    admin_socket: Path
    """Where this one answers for `admin_listen`."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    settings: Settings
    listen: Address
    """Where the API is, with the port that was taken."""
    admin_listen: Address | Path
    api: Api
    site: web.TCPSite

    async def drain(self) -> None:
        """Turns callers away before the listener goes: not ready, and connections closed with each answer.

        New requests are still taken for the time that load balancers need to notice; then the listener closes.
        """
        self.api.drain()
        await asyncio.sleep(self.settings.shutdown.drain)
        await self.site.stop()


@asynccontextmanager
async def running(settings: Settings, seat: Seat | None = None) -> AsyncIterator[Gateway]:
    """A gateway that serves until the block ends, and then finishes what is in flight within the grace time.

    Args:
        settings: all of them.
        seat: where it listens when it is one of several workers.

    Raises:
        OSError: an address cannot be bound.
        RuntimeError: the HTTP parser is not the compiled one.
    """
    insist_on_compiled_parser()
    metrics = _open_metrics()
    watchers, fills = Tasks(), Tasks()
    freshness = build_freshness(settings.freshness)
    clock = StoreClock()
    versions = Versions(clock.now, settings.freshness.read_your_writes)
    streams = build_streams(settings)
    signers = {name: build_signer(credential) for name, credential in settings.credentials.items()}
    limits = Limits(settings.platform.timeout, settings.platform.connect_timeout, settings.platform.max_body)

    # Left in reverse: the API's listener and its requests, probes, fills, and then what the fills use.
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(PlatformClient(settings.platform.url, limits, signers))
        flights, readers = Flights(fills), Readers()
        store, index, ledgers, store_part = await _open_store(
            settings, streams, metrics, clock, _Ears(watchers, flights.forget, versions.note, readers.hand), stack
        )
        budget = _build_budget(settings, streams, ledgers, metrics, watchers)
        await budget.start(sorted({stream.tenant.account for stream in streams.values()}))
        stack.push_async_callback(budget.depart)
        stack.push_async_callback(watchers.close)
        stack.push_async_callback(fills.close, FILLS_GRACE_SECONDS)
        fetcher = Fetcher(platform, budget, store, metrics)
        _show_platform(fetcher, metrics)
        patience = Patience(settings.platform.timeout)
        exchange = Exchange(
            store,
            index,
            fetcher,
            flights,
            freshness,
            metrics,
            patience,
            versions,
            has_rounds=settings.sweep.share > 0,
        )
        invalidator = Invalidator(store, flights, exchange, metrics)
        forwarder = Forwarder(exchange, fetcher, invalidator, index, store, versions, patience, fills)
        hints = Hints(readers, invalidator, exchange, index, store, fills)
        actions = Actions(exchange, forwarder, invalidator, settings.platform.max_request, hints)
        stated = partial(stated_bounds, index, store, settings.freshness.max)
        sweepers = _build_sweepers(settings, streams, budget, exchange, fetcher, index, store, watchers, metrics)
        for stream, sweeper in sweepers:
            readers.register(stream.identity, sweeper.hint, partial(index.is_leading, stream.identity))
            _show_sweep(stream, sweeper, index, stated, metrics)
            watchers.spawn(sweeper.run(), name="sweep")
        explainer = Explainer(store, index, freshness, stated, budget.remaining)
        bounds = Bounds(freshness.stale_while_revalidate, freshness.stale_if_error)
        clients = build_clients(settings)
        recorder = Recorder(metrics, _open_lines(seat, stack))
        rendered = RenderedHits(exchange, bounds, recorder.hit_line)
        grants = Grants(exchange, recorder, rendered, bounds, clients.epoch, budget.quota)
        api = Api(actions, streams, settings.default_stream, clients, bounds, recorder, budget.quota, grants)

        def readiness() -> dict[str, Part]:
            listener = Part("down", "stopping") if api.is_draining else Part("ok")
            return {
                "listener": listener,
                "store": store_part(),
                "budget": _budget_part(budget, streams),
                "sweep": _sweep_part(index, streams),
                "platform_clock": _clock_part(fetcher.clock),
            }

        async def explain(alias: str, campaign: str) -> Explanation | None:
            stream = streams.get(alias)
            return None if stream is None else await explainer.explain(stream, campaign)

        operators = admin_application(readiness, metrics.registry, explain)
        admin = web.AppRunner(operators, access_log=None, shutdown_timeout=1.0)
        admin_listen = await _listen_for_operators(admin, settings.admin_listen, seat, stack)
        runner = web.ServerRunner(_build_server(settings, api, stack), shutdown_timeout=settings.shutdown.grace)
        site, listen = await _listen(runner, settings.listen, seat, stack)
        _log.info("serving on %s, metrics and probes on %s", listen, admin_listen)
        yield Gateway(settings, listen, admin_listen, api, site)


def _open_metrics() -> Metrics:
    metrics = Metrics(CollectorRegistry())
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=metrics.registry)
    return metrics


def _open_lines(seat: Seat | None, stack: AsyncExitStack) -> HitLines:
    lines = HitLines() if seat is None else HitLines(worker=seat.number)
    stack.callback(lines.flush)
    return lines


def _build_server(settings: Settings, api: Api, stack: AsyncExitStack) -> Server:
    """The server under the API, with the fast road if it is wanted and this aiohttp allows for it."""
    if not settings.hot_path or not is_supported():
        return Server(api.handle, api.refuse)
    road = FastRoad(api.epoch)
    stack.push_async_callback(road.close)
    return Server(api.handle, api.refuse, road.connect)


def build_freshness(settings: FreshnessSettings) -> Freshness:
    """The policy's rules out of the settings."""
    rules = {status: StatusRule(rule.min, rule.max) for status, rule in settings.status.items()}
    return Freshness(**{**settings.model_dump(exclude={"read_your_writes"}), "status": rules})


def build_streams(settings: Settings) -> dict[str, Stream]:
    """The streams by alias."""
    streams = {}
    for alias, row in settings.streams.items():
        tenant = Tenant(row.stream_id, row.account_id, row.app_id or row.stream_id)
        client_id = settings.credentials[row.credential].client_id
        # Everything that makes one stream's campaigns another thing than a second one's with the same ids.
        parts = (settings.platform.url, tenant.stream, tenant.account, tenant.app, client_id)
        identity = hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()
        streams[alias] = Stream(alias, tenant, row.credential, identity)
    return streams


def build_clients(settings: Settings) -> Clients:
    """The callers; without any in the settings, everybody is the same anonymous one."""
    everything = Client(ANONYMOUS, frozenset(settings.streams), frozenset({"read", "write", "purge"}))
    by_hash = {row.key_sha256: Client(name, row.streams, row.scopes) for name, row in settings.clients.items()}
    return Clients(by_hash, None if by_hash else everything)


def build_signer(credential: Credential) -> Signer:
    """The signer of one credential.

    Raises:
        OSError: a secret's file cannot be read.
    """
    source = credential.private_key_file or credential.client_secret_file
    secret = Secret(source or secret_from_environment(credential.client_secret_env or "").encode())
    claims = Claims(credential.client_id, credential.subject, credential.token_lifetime, credential.jti)
    jwe = credential.jwe
    recipient = Recipient(Secret(jwe.public_key_file), jwe.key_id, jwe.alg, jwe.enc) if jwe is not None else None
    return Signer(claims, credential.algorithm, secret, recipient)


@dataclass(frozen=True, slots=True)
class _Ears:
    """What is to be told of other replicas' doings, and where that is listened for."""

    watchers: Tasks
    on_invalidated: Callable[[str | None], None]
    on_written: Callable[[str], object]
    on_hinted: Callable[[str, Sequence[str]], object]


async def _open_store(
    settings: Settings,
    streams: Mapping[str, Stream],
    metrics: Metrics,
    clock: StoreClock,
    ears: _Ears,
    stack: AsyncExitStack,
) -> tuple[Store, CampaignIndex, Ledgers, Callable[[], Part]]:
    """The store, the index, the ledgers, and how ready the store is."""
    memory = MemoryStore(settings.cache.local_max_bytes, clock, metrics)
    gauge = metrics.gauges.add
    gauge("entries", "Entries kept in this process.", lambda: len(memory), store="memory")
    gauge(
        "entries_bytes", "Their bytes, as counted against local_max_bytes.", lambda: memory.bytes_used, store="memory"
    )
    if settings.cache.url == "memory://":
        ledgers, part = await _open_files(settings, streams, memory, metrics, clock, ears.watchers, stack)
        return memory, LocalIndex(memory.epoch, clock.now), ledgers, part
    # Only here, for redis-py is a sixth of a cold start, and a gateway on its own has no use for it.
    from campaign_gateway.store.open import Target, Tls, open_shared  # noqa: PLC0415

    cache = settings.cache
    tls = Tls(cache.tls.ca_file, cache.tls.cert_file, cache.tls.key_file) if cache.tls is not None else None
    file = cache.password_file
    password = None if file is None else lambda: file.read_text("utf-8", "replace").strip()
    target = Target(cache.url, cache.timeout, cache.username, password, tls)
    shared = open_shared(target, cache.prefix, cache.local_unwatched, memory, clock, metrics)
    link, store, index = shared.link, shared.store, shared.index
    stack.push_async_callback(link.close)
    await link.start(ears.watchers)
    gauge("store_up", "Whether the store answers (1) or not (0).", lambda: link.is_up, store="redis")
    store.start(ears.watchers, ears.on_invalidated, ears.on_written, ears.on_hinted)
    clock.on_step = memory.clear
    identities = [stream.identity for stream in streams.values()]
    index.start(ears.watchers, identities, may_lead=settings.sweep.share > 0)
    stack.push_async_callback(index.leave)
    return store, index, shared.ledgers, lambda: Part("ok") if link.is_up else Part("degraded", f"redis: {link.state}")


async def _open_files(
    settings: Settings,
    streams: Mapping[str, Stream],
    memory: MemoryStore,
    metrics: Metrics,
    clock: StoreClock,
    watchers: Tasks,
    stack: AsyncExitStack,
) -> tuple[Ledgers, Callable[[], Part]]:
    """The ledgers of a gateway without Redis, what is stored from an earlier run, and what a restart would not find."""
    folder = state_folder(settings.cache)
    if folder is None:
        _log.warning(
            "there is no directory to write calls down in (set cache.state_dir): a restart spends a budget anew"
        )
        return MemoryLedgers(clock), lambda: Part("ok", "calls are not written down (no directory)")
    ledgers = FileLedgers(folder, settings.platform.url, _allowances(settings, streams), clock)
    await ledgers.open()
    faults: dict[str, Callable[[], str | None]] = {"calls": lambda: ledgers.fault}
    if settings.cache.state_dir is not None:
        identities = frozenset(stream.identity for stream in streams.values())
        snapshot = Snapshot(folder, memory, identities, settings.cache.local_max_bytes)
        await snapshot.load()
        stack.push_async_callback(snapshot.close)
        watchers.spawn(snapshot.run(), name="snapshot")
        faults["entries"] = lambda: snapshot.fault
    for kind, fault in faults.items():
        text = "Whether what a restart has to find is written down (1) or not (0)."
        metrics.gauges.add("written_down", text, partial(_is_none, fault), kind=kind)

    def part() -> Part:
        lost = [f"{kind} are not written down ({reason})" for kind, fault in faults.items() if (reason := fault())]
        return Part("ok", "; ".join(lost) or None)

    return ledgers, part


def _is_none(read: Callable[[], str | None]) -> bool:
    return read() is None


def _build_sweepers(
    settings: Settings,
    streams: Mapping[str, Stream],
    budget: CallBudget,
    exchange: Exchange,
    fetcher: Fetcher,
    index: CampaignIndex,
    store: Store,
    watchers: Tasks,
    metrics: Metrics,
) -> list[tuple[Stream, Sweeper]]:
    """A sweeper for each stream; none of them runs yet."""
    sweep = settings.sweep
    lag = None if sweep.lag == "auto" else sweep.lag
    sweepers = []
    for stream in streams.values():
        capacity = partial(_capacity, settings, streams, budget, stream.tenant.account)
        config = SweepConfig(sweep.share, lag, capacity, fetcher.clock.seconds_ahead)
        sweeper = Sweeper(stream, index, store, fetcher, exchange.read_again, config, watchers, metrics)
        sweepers.append((stream, sweeper))
    return sweepers


def _capacity(settings: Settings, streams: Mapping[str, Stream], budget: CallBudget, account: str) -> Capacity:
    row, known = settings.budget_of(account), budget.outlook(account)
    return Capacity(
        calls=known.capacity,
        window=row.window,
        # While no caller needs calls, only what writes can count on is kept.
        reserve=row.kept if known.callers or known.is_wanted else int(row.lanes.writes * row.calls),
        share=settings.sweep.share,
        others=known.callers,
        streams=sum(1 for stream in streams.values() if stream.tenant.account == account),
        free=known.free,
        falls=known.falls,
        is_wanted=known.is_wanted,
    )


def _show_sweep(
    stream: Stream, sweeper: Sweeper, index: CampaignIndex, stated: Callable[[str], StatedBounds], metrics: Metrics
) -> None:
    """Publishes the stream's bounds, and whether polls of its list give them."""
    gauge, alias, identity = metrics.gauges.add, stream.alias, stream.identity
    text = "Seconds within which a change that moves a campaign's mark is seen."
    gauge("signal_bound_seconds", text, lambda: stated(identity).signal, stream=alias)
    text = "Seconds within which any change of a campaign in use is seen."
    gauge("blind_bound_seconds", text, lambda: stated(identity).blind, stream=alias)
    text = "Whether polls of the stream's list prove stored answers (1) or lifetimes count (0)."
    gauge("sweep_up", text, lambda: stated(identity).is_proving, stream=alias)
    text = "Whether this replica looks after the stream's list."
    gauge("sweep_leading", text, lambda: sweeper.is_leading, stream=alias)
    text = "Campaigns that the stream's lists have shown."
    gauge("sweep_campaigns", text, lambda: len(index.snapshot(identity).campaigns), stream=alias)
    text = "Why the stream's list proves nothing (1), if it is not trusted."
    for flaw in ListFlaw:
        gauge("sweep_distrusted", text, partial(_is_distrusted, index, identity, flaw), stream=alias, flaw=flaw.value)


def _show_platform(fetcher: Fetcher, metrics: Metrics) -> None:
    """Publishes what answers have told of the platform: whose credentials it refuses, how far its clock is off."""
    gauge, clock = metrics.gauges.add, fetcher.clock
    text = "Credentials that the platform keeps refusing, and that are tried only now and then."
    gauge("credentials_refused", text, lambda: fetcher.refusals.open_count(time.monotonic()))
    text = "Seconds by which the platform's clock is ahead of the store's, told from the Date of its answers."
    gauge("platform_clock_offset_seconds", text, lambda: clock.offset().seconds)
    text = "Seconds by which that may be wrong, either way; infinite until an answer has told the time."
    gauge(
        "platform_clock_uncertainty_seconds",
        text,
        lambda: clock.offset().uncertainty if clock.is_known else float("inf"),
    )


def _clock_part(clock: PlatformClock) -> Part:
    if not clock.is_far_off:
        return Part("ok")
    return Part(
        "degraded",
        f"the platform's clock is {describe(clock.offset())}: the times that it names are corrected by that; "
        "see which of the two is wrong",
    )


def _is_distrusted(index: CampaignIndex, identity: str, flaw: ListFlaw) -> bool:
    return flaw in index.snapshot(identity).state.flaws.values()


def _sweep_part(index: CampaignIndex, streams: Mapping[str, Stream]) -> Part:
    told = [
        f"the {channel} list of {alias} is not trusted ({flaw}): lifetimes count"
        for alias, stream in streams.items()
        for channel, flaw in index.snapshot(stream.identity).state.flaws.items()
    ]
    return Part("degraded", "; ".join(told)) if told else Part("ok")


def _allowances(settings: Settings, streams: Mapping[str, Stream]) -> Callable[[str], Allowance]:
    """What each account may do."""

    def allowance(account: str) -> Allowance:
        row = settings.budget_of(account)
        aliases = {alias for alias, stream in streams.items() if stream.tenant.account == account}
        return Allowance(
            calls=row.calls,
            window=row.window,
            leave=settings.platform.connect_timeout + LEAVE_SECONDS,
            timeout=settings.platform.timeout,
            reserve=row.kept,
            lanes={Lane(name): int(part * row.calls) for name, part in row.lanes.model_dump().items()},
            clients=sum(1 for client in settings.clients.values() if client.streams & aliases) or 1,
            longest_pause=settings.pause.max,
        )

    return allowance


def _build_budget(
    settings: Settings, streams: Mapping[str, Stream], ledgers: Ledgers, metrics: Metrics, watchers: Tasks
) -> CallBudget:
    allowance = _allowances(settings, streams)
    budget = CallBudget(allowance, ledgers, metrics, watchers, replicas=settings.cache.replicas * settings.workers)
    gauge = metrics.gauges.add
    for account in sorted({stream.tenant.account for stream in streams.values()}):
        remaining, paused = partial(budget.remaining, account), partial(budget.is_paused, account)
        replicas, cut_off = partial(budget.replicas, account), partial(budget.is_cut_off, account)
        calls = partial(float, allowance(account).calls)
        gauge("budget_calls", "Calls that the account may make in a window.", calls, account=account)
        gauge("budget_remaining", "Calls that the account could make now.", remaining, account=account)
        gauge("budget_paused", "Whether the platform asked for a pause that is not over.", paused, account=account)
        gauge("budget_replicas", "Replicas that share the budget, as last seen.", replicas, account=account)
        gauge("budget_cut_off", "Whether the shared ledger of calls is lost (1).", cut_off, account=account)
        text = "Calls in a window, as far as the platform was seen to allow them."
        gauge("budget_capacity", text, partial(budget.capacity, account), account=account)
        text = "Seconds until the pause that the platform asked for may be over; 0 without one."
        gauge("budget_pause_ends_seconds", text, partial(budget.pause_left, account), account=account)
        text = "Calls of the window that each lane holds."
        for lane in Lane:
            held = partial(_held, budget, account, lane)
            gauge("budget_window_calls", text, held, account=account, lane=lane.value)
    return budget


def _held(budget: CallBudget, account: str, lane: Lane) -> int:
    return budget.window_calls(account).get(lane, 0)


def _budget_part(budget: CallBudget, streams: Mapping[str, Stream]) -> Part:
    accounts = sorted({stream.tenant.account for stream in streams.values()})
    if any(map(budget.is_cut_off, accounts)):
        return Part("degraded", "the shared ledger of calls is lost: keeping to this replica's share")
    if any(map(budget.is_paused, accounts)):
        return Part("degraded", "the platform asked for a pause")
    return Part("ok")


async def _listen(
    runner: web.BaseRunner, address: Address, seat: Seat | None, stack: AsyncExitStack
) -> tuple[web.TCPSite, Address]:
    """A listening site, and the address it got."""
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    port = address.port if seat is None else seat.port
    site = web.TCPSite(runner, address.host, port, backlog=BACKLOG, reuse_port=seat is not None)
    await site.start()
    return site, Address(address.host, runner.addresses[0][1])


async def _listen_for_operators(
    runner: web.BaseRunner, address: Address, seat: Seat | None, stack: AsyncExitStack
) -> Address | Path:
    """Where it listens: at the address, or where the supervisor asks."""
    if seat is None:
        return (await _listen(runner, address, None, stack))[1]
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.UnixSite(runner, seat.admin_socket).start()
    return seat.admin_socket
