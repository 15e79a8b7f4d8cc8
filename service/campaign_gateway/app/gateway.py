"""Starts the gateway and stops it again, in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from campaign_gateway.admin.console import console_routes
from campaign_gateway.admin.probes import admin_application
from campaign_gateway.app import build, status
from campaign_gateway.app.certificates import show_certificates
from campaign_gateway.app.console import OperatorsConsole, look_at_streams
from campaign_gateway.app.listen import WorkerSlot, listen, listen_for_operators
from campaign_gateway.app.live import Live
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.stores import Opener, Stores
from campaign_gateway.app.webhooks import Webhooks, open_webhooks
from campaign_gateway.proxy.bounds import StatedBounds, stated_bounds
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.explain import Explainer, Explanation
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.forward import Forwarder
from campaign_gateway.proxy.hints import Hints, Readers
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.ports import NO_TRACES, CampaignIndex, Handlers, Ledgers, Store, Traces
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.settings import Address, Log, Settings, SettingsFile, traces_fault, wants_traces
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.history import PACKAGE, History
from campaign_gateway.telemetry.logs import HitLines, dropped_lines
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.telemetry.turns import LoopWatch
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.client import PlatformClient
from campaign_gateway.web.actions import Actions
from campaign_gateway.web.api import Api
from campaign_gateway.web.changes import Changes
from campaign_gateway.web.clients import Clients
from campaign_gateway.web.fast import FastRoad, is_supported
from campaign_gateway.web.grants import Grants
from campaign_gateway.web.operators import OperatorsRunner
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds
from campaign_gateway.web.server import Connection, Server, insist_on_compiled_parser
from campaign_gateway.web.sockets import connection_limit, say_serving
from campaign_gateway.web.tls import TlsFiles
from campaign_gateway.web.unsent import UnsentWatch

_log = logging.getLogger(__name__)

FAREWELL_SECONDS = 3.0
"""The last of the grace, or a quarter of a short one: for answers that were given and are still on their way into the
store, and for telling other replicas."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway."""

    settings: Settings
    listen: Address
    """Where the API is, with the port that was taken; the first of several."""
    admin_listen: Address | Path
    api: Api
    server: Server
    sites: Sequence[web.BaseSite]
    reload: Callable[[], None]
    """Has the settings read again, if they are in a file, and webhooks that have stopped go on."""

    async def drain(self, who: str) -> None:
        """Turns callers away before the listener goes: not ready, and connections closed with each answer.

        New requests are still taken for the time that load balancers need to notice; then the listener closes.

        Args:
            who: has asked for it, for the log.
        """
        in_flight, connections = self.server.in_flight, self.server.open_count
        text = "stopping (%s): %d requests in flight on %d connections, the listener closes in %g s"
        _log.info(text, who, in_flight, connections, self.settings.shutdown.drain)
        self.api.drain()
        await asyncio.sleep(self.settings.shutdown.drain)
        for site in self.sites:
            await site.stop()


@asynccontextmanager
async def running(
    settings: Settings,
    slot: WorkerSlot | None = None,
    file: SettingsFile | None = None,
    routes: Sequence[web.RouteDef] = (),
) -> AsyncIterator[Gateway]:
    """A gateway that serves until the block ends, and then finishes what is in flight within the grace time.

    Args:
        settings: all of them.
        slot: where it listens when it is one of several workers.
        file: where the settings are written, to be read again when they change there; None to go by these.
        routes: of others, beside its own on the operators' address.

    Raises:
        OSError: an address cannot be bound.
        RuntimeError: the HTTP parser is not the compiled one.
    """
    insist_on_compiled_parser()
    metrics = _open_metrics(settings)
    grace = settings.shutdown.grace
    farewell = min(FAREWELL_SECONDS, grace / 4)
    watchers, fills, clock = Tasks(metrics.task_failures), Tasks(metrics.task_failures), StoreClock()
    plan = build.plan_gateway(settings)
    # Left in reverse: the API's listener and its requests, probes, fills, and then what the fills use.
    async with AsyncExitStack() as stack:
        traces = _open_traces(settings, metrics, stack, farewell / 4)
        platform = await stack.enter_async_context(
            build.build_platform(settings, build.build_signers(settings.credentials))
        )
        flights, readers, writers = Flights(fills), Readers(), Writers(clock.now, settings.freshness.read_your_writes)
        opener = Opener(plan, metrics, clock, watchers, stack)
        stores = await opener.open(Handlers(flights.forget, writers.note, readers.hand))
        store, index = stores.entries, stores.index
        budget = await _open_budget(plan, stores.ledgers, metrics, watchers, stack)
        stack.push_async_callback(watchers.close)
        stack.push_async_callback(fills.close, farewell / 2)
        fetcher = Fetcher(platform, budget, store, metrics, lambda: clock.ahead, traces)
        timeouts, is_polled = Timeouts(settings.platform.timeout), settings.sweep.share > 0
        feed = _open_feed(plan, stores, clock, fetcher, metrics, watchers, fills)
        exchange = Exchange(
            *(store, index, fetcher, flights, plan.freshness, metrics, timeouts, writers, traces, feed.note_read),
            is_polled=is_polled,
        )
        webhooks = await open_webhooks(plan, stores, feed, metrics, stack)
        invalidator = Invalidator(store, flights, exchange, metrics, fills)
        forwarder = Forwarder(exchange, fetcher, invalidator, index, store, writers, timeouts, fills, feed)
        hints = Hints(readers, invalidator, exchange, index, store, fills)
        actions = Actions(exchange, forwarder, invalidator, settings.platform.max_request, hints)
        stated = partial(_stated_bounds, plan, index, store)
        rooms = plan, index, store, fetcher, exchange, budget, readers, stated, watchers, metrics
        sweepers = {stream.alias: _open_sweeper(stream, *rooms) for stream in plan.streams.values()}
        explainer = Explainer(
            *(store, index, lambda: plan.freshness, stated, budget.remaining, exchange.prospect, webhooks.informed)
        )
        bounds = Bounds(plan.freshness.stale_while_revalidate, plan.freshness.stale_if_error)
        clients, lines = _open_clients(settings, metrics, watchers), _open_lines(settings.log, slot, stack)
        recorder = Recorder(metrics, lines, traces)
        hits = _rendered_hits(stores, exchange, bounds, recorder)
        grants = Grants(exchange, recorder, hits, bounds, clients.epoch, budget.quota)
        api = Api(
            *(actions, plan.streams, settings.default_stream, clients, bounds, recorder, budget.quota, grants),
            Changes(feed, build.build_change_limits(settings), clients.epoch),
            has_docs=settings.docs,
        )
        status.show_platform(metrics.gauges, fetcher.breaker, fetcher.clock)
        live = Live(
            *(plan, budget, exchange, writers, sweepers.values(), bounds, hits, clients, lines, metrics, slot, webhooks)
        )
        reloader = _open_reloader(settings, file, live, watchers)
        server, tls = _build_server(settings, api, metrics, watchers, stack), _open_tls(settings, metrics, watchers)
        readiness = status.Readiness(
            partial(
                status.readiness,
                *(plan, api, server, tls, stores.part, budget, index, fetcher, stated, webhooks.part),
                *([watchers.failing, fills.failing], reloader),
            )
        )
        watchers.supervise(readiness.watch, name="watch readiness")
        console = _open_console(
            *(plan, readiness, budget, index, stores, fetcher, sweepers, explainer, metrics, clients, invalidator),
            *(platform, reloader, slot, watchers, stack),
        )
        probes = readiness, metrics.collect, partial(_explain, explainer, plan.streams)
        operators = admin_application(*probes, [*console_routes(console), *routes])
        admin_listen = await _listen_for_operators(operators, settings, farewell / 8, slot, stack)
        runner = web.ServerRunner(server, shutdown_timeout=grace - farewell)
        sites, addresses = await listen(runner, settings.listen, slot, stack, tls=None if tls is None else tls.context)
        say_serving(addresses, admin_listen)
        yield Gateway(settings, addresses[0], admin_listen, api, server, sites, partial(_go_on, reloader, webhooks))


def _open_sweeper(
    stream: Stream,
    plan: build.Plan,
    index: CampaignIndex,
    store: Store,
    fetcher: Fetcher,
    exchange: Exchange,
    budget: CallBudget,
    readers: Readers,
    stated: Callable[[str], StatedBounds],
    watchers: Tasks,
    metrics: Metrics,
) -> Sweeper:
    config = build.build_sweep_config(plan, stream, budget, fetcher.clock.seconds_ahead)
    sweeper = Sweeper(stream, index, store, fetcher, exchange.read_again, config, watchers, metrics)
    readers.register(stream.identity, sweeper.hint, partial(index.is_leading, stream.identity))
    status.show_sweep(metrics.gauges, stream, sweeper, index, stated)
    watchers.supervise(sweeper.run, name=f"sweep {stream.alias}")
    return sweeper


def _open_console(
    plan: build.Plan,
    readiness: status.Readiness,
    budget: CallBudget,
    index: CampaignIndex,
    stores: Stores,
    fetcher: Fetcher,
    sweepers: Mapping[str, Sweeper],
    explainer: Explainer,
    metrics: Metrics,
    clients: Clients,
    invalidator: Invalidator,
    platform: PlatformClient,
    reloader: Reloader,
    slot: WorkerSlot | None,
    watchers: Tasks,
    stack: AsyncExitStack,
) -> OperatorsConsole:
    history, events = History(metrics, partial(look_at_streams, plan, index, explainer)), logging.getLogger(PACKAGE)
    events.addHandler(history)
    stack.callback(events.removeHandler, history)
    fetcher.on_call = history.note_call
    watchers.supervise(history.run, name="note figures")
    return OperatorsConsole(
        *(plan, readiness, budget, index, stores.local, fetcher, sweepers, explainer, history, metrics, clients),
        *(invalidator, platform.credential_version, reloader, None if slot is None else slot.number),
    )


async def _listen_for_operators(
    probes: web.Application, settings: Settings, shutdown: float, slot: WorkerSlot | None, stack: AsyncExitStack
) -> Address | Path:
    admin = OperatorsRunner(probes, settings.known_hosts, shutdown, settings.send_timeout, settings.max_unsent)
    return await listen_for_operators(admin, settings.admin_listen, slot, stack)


def _open_feed(
    plan: build.Plan,
    stores: Stores,
    clock: StoreClock,
    fetcher: Fetcher,
    metrics: Metrics,
    watchers: Tasks,
    fills: Tasks,
) -> Feed:
    # Of two aliases of one stream, the first one counts.
    aliases = {identity: alias for alias, identity in sorted(plan.identities.items(), reverse=True)}
    feed = Feed(stores.log, stores.index, clock.now, fills, metrics, aliases, fetcher.clock.seconds_ahead)
    stores.log.on_added = feed.note_added
    for stream in plan.streams.values():
        status.show_changes(metrics, stream, stores.index, feed)
    watchers.supervise(feed.keep_in_use, name="note listeners")
    return feed


def _rendered_hits(stores: Stores, exchange: Exchange, bounds: Bounds, recorder: Recorder) -> RenderedHits:
    hits = RenderedHits(exchange, bounds, recorder)
    stores.local.on_dropped = hits.follow
    return hits


async def _open_budget(
    plan: build.Plan, ledgers: Ledgers, metrics: Metrics, watchers: Tasks, stack: AsyncExitStack
) -> CallBudget:
    cache = plan.settings.cache
    budget = CallBudget(plan.allowance, ledgers, metrics, watchers, replicas=cache.replicas * plan.settings.workers)
    status.show_budget(metrics.gauges, budget, plan)
    await budget.start(plan.accounts)
    stack.push_async_callback(budget.depart)
    return budget


async def _explain(
    explainer: Explainer, streams: Mapping[str, Stream], alias: str, campaign: str
) -> Explanation | None:
    stream = streams.get(alias)
    return None if stream is None else await explainer.explain(stream, campaign)


def _open_metrics(settings: Settings) -> Metrics:
    metrics = Metrics(CollectorRegistry())
    show_certificates(metrics.gauges, settings)
    status.show_logs(metrics.gauges, dropped_lines)
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=metrics.registry)
    return metrics


def _open_lines(log: Log, slot: WorkerSlot | None, stack: AsyncExitStack) -> HitLines:
    access = AccessLines(log.access, log.hits_per_second, log.slow)
    lines = HitLines(access=access) if slot is None else HitLines(access=access, worker=slot.number)
    stack.callback(lines.flush)
    return lines


def _stated_bounds(plan: build.Plan, index: CampaignIndex, store: Store, stream: str) -> StatedBounds:
    return stated_bounds(index, store, plan.freshness.max, stream)


def _open_reloader(settings: Settings, file: SettingsFile | None, live: Live, watchers: Tasks) -> Reloader:
    reloader = Reloader(settings, file, live.adopt)
    status.show_reloads(live.metrics.gauges, reloader)
    if file is not None:
        watchers.supervise(reloader.watch, name="watch settings")
    return reloader


def _go_on(reloader: Reloader, webhooks: Webhooks) -> None:
    # Whatever the settings are: no mistake in them keeps back what is sent by those in use.
    webhooks.resume()
    reloader.ask()


def _open_clients(settings: Settings, metrics: Metrics, watchers: Tasks) -> Clients:
    clients = build.build_clients(settings)
    status.show_keys(metrics.gauges, clients)
    watchers.supervise(clients.watch, name="watch keys")
    return clients


def _open_traces(settings: Settings, metrics: Metrics, stack: AsyncExitStack, seconds: float) -> Traces:
    """Where spans go; at the end, so long is waited for the last ones to be sent.

    Raises:
        ValueError: a variable of OpenTelemetry has a value that cannot be meant.
    """
    traces: Traces = NO_TRACES
    if wants_traces() and traces_fault() is None:
        # Only here: its packages are an extra, and take 200 ms to import.
        from campaign_gateway.telemetry.traces import OpenTelemetryTraces  # noqa: PLC0415

        traces = opened = OpenTelemetryTraces(settings.platform.url)
        stack.push_async_callback(opened.close, seconds)
    status.show_traces(metrics.gauges, traces)
    return traces


def _open_tls(settings: Settings, metrics: Metrics, watchers: Tasks) -> TlsFiles | None:
    if settings.tls is None:
        return None
    tls = TlsFiles(settings.tls.cert_file, settings.tls.key_file, settings.tls.client_ca_file)
    status.show_tls(metrics.gauges, tls)
    watchers.supervise(tls.watch, name="watch certificates")
    return tls


def _build_server(settings: Settings, api: Api, metrics: Metrics, watchers: Tasks, stack: AsyncExitStack) -> Server:
    """The server under the API, with the fast road if it is wanted and this aiohttp allows for it."""
    connect: Callable[..., Connection] = Connection
    if settings.hot_path and is_supported():
        road = FastRoad(api.epoch)
        stack.push_async_callback(road.close)
        connect = road.connect
    most, count_refused = connection_limit(), metrics.connection_refused
    max_age = settings.listen_options.max_connection_age
    server = Server(api.handle, api.refuse, connect, settings.keepalive, most, count_refused, max_age)
    status.show_server(metrics.gauges, server)
    unsent = UnsentWatch(server.transports, settings.send_timeout, settings.max_unsent, metrics.connection_unread)
    watchers.supervise(unsent.watch, name="end unread answers")
    turns = LoopWatch(metrics.loop_blocked)
    status.show_turns(metrics.gauges, turns)
    stack.enter_context(turns.watching())
    return server
