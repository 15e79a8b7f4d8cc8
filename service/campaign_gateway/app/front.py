"""Opens what callers meet: who they are, the API, and the server under it."""

from collections.abc import Callable
from dataclasses import dataclass

from campaign_gateway.app import build, status
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.story import Story
from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.logs import HitLines
from campaign_gateway.telemetry.turns import LoopWatch
from campaign_gateway.web.actions import Actions
from campaign_gateway.web.api import Api
from campaign_gateway.web.changes import Changes
from campaign_gateway.web.clients import Clients
from campaign_gateway.web.fast import FastRoad, is_supported
from campaign_gateway.web.grants import Grants
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds
from campaign_gateway.web.server import Connection, Server
from campaign_gateway.web.sockets import connection_limit
from campaign_gateway.web.tls import TlsFiles
from campaign_gateway.web.unsent import UnsentWatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """What callers meet."""

    clients: Clients
    bounds: Bounds
    """The staleness that answers announce."""
    lines: HitLines
    hits: RenderedHits
    api: Api
    server: Server
    tls: TlsFiles | None


def open_front(runtime: Runtime, story: Story) -> Front:
    """All of it; nobody can connect yet."""
    settings, rules = runtime.settings, runtime.plan.freshness
    bounds = Bounds(rules.stale_while_revalidate, rules.stale_if_error)
    clients, lines = _open_clients(runtime), _open_lines(runtime)
    recorder = Recorder(runtime.metrics, lines, runtime.traces)
    hits = RenderedHits(story.exchange, bounds, recorder)
    story.stores.local.on_dropped = hits.follow
    quota = story.budget.quota
    api = Api(
        actions=Actions(story.exchange, story.forwarder, story.invalidator, settings.platform.max_request, story.hints),
        streams=runtime.plan.streams,
        default_stream=settings.default_stream,
        clients=clients,
        bounds=bounds,
        recorder=recorder,
        quota=quota,
        grants=Grants(story.exchange, recorder, hits, bounds, clients.epoch, quota),
        changes=Changes(story.feed, build.build_change_limits(settings), clients.epoch),
        has_docs=settings.docs,
    )
    server, tls = _build_server(runtime, api), _open_tls(runtime)
    return Front(clients=clients, bounds=bounds, lines=lines, hits=hits, api=api, server=server, tls=tls)


def _open_clients(runtime: Runtime) -> Clients:
    clients = build.build_clients(runtime.settings)
    status.show_keys(runtime.metrics.gauges, clients)
    runtime.watchers.supervise(clients.watch, name="watch keys")
    return clients


def _open_lines(runtime: Runtime) -> HitLines:
    log = runtime.settings.log
    access = AccessLines(log.access, log.hits_per_second, log.slow)
    lines = HitLines(access=access) if runtime.worker is None else HitLines(access=access, worker=runtime.worker)
    runtime.stack.callback(lines.flush)
    return lines


def _build_server(runtime: Runtime, api: Api) -> Server:
    """The server under the API, with the fast road if it is wanted and this aiohttp allows for it."""
    settings, metrics, watchers, stack = runtime.settings, runtime.metrics, runtime.watchers, runtime.stack
    connect: Callable[..., Connection] = Connection
    if settings.hot_path and is_supported():
        road = FastRoad(api.epoch)
        stack.push_async_callback(road.close)
        connect = road.connect
    server = Server(
        api.handle,
        api.refuse,
        connect,
        keepalive=settings.keepalive,
        most=connection_limit(),
        count_refused=metrics.connection_refused,
        max_age=settings.listen_options.max_connection_age,
    )
    status.show_server(metrics.gauges, server)
    unsent = UnsentWatch(server.transports, settings.send_timeout, settings.max_unsent, metrics.connection_unread)
    watchers.supervise(unsent.watch, name="end unread answers")
    turns = LoopWatch(metrics.loop_blocked)
    status.show_turns(metrics.gauges, turns)
    stack.enter_context(turns.watching())
    return server


def _open_tls(runtime: Runtime) -> TlsFiles | None:
    settings = runtime.settings.tls
    if settings is None:
        return None
    tls = TlsFiles(settings.cert_file, settings.key_file, settings.client_ca_file)
    status.show_tls(runtime.metrics.gauges, tls)
    runtime.watchers.supervise(tls.watch, name="watch certificates")
    return tls
