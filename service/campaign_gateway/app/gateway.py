"""Starts the gateway and stops it again, in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from aiohttp import web

from campaign_gateway.app import status
from campaign_gateway.app.front import Front, open_front
from campaign_gateway.app.listen import WorkerSlot, listen, listen_for_operators
from campaign_gateway.app.live import Live
from campaign_gateway.app.operators import open_operators
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.runtime import Runtime, open_runtime
from campaign_gateway.app.story import open_story, open_sweepers
from campaign_gateway.app.webhooks import Webhooks
from campaign_gateway.settings import Address, Settings, SettingsFile
from campaign_gateway.web.api import Api
from campaign_gateway.web.operators import OperatorsRunner
from campaign_gateway.web.server import Server, insist_on_compiled_parser
from campaign_gateway.web.sockets import say_serving

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
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
    # Left in reverse: the API's listener and its requests, probes, fills, and then what the fills use.
    async with AsyncExitStack() as stack:
        runtime = open_runtime(settings, slot, stack)
        story = await open_story(runtime)
        sweepers = open_sweepers(runtime, story)
        front = open_front(runtime, story)
        reloader = _open_reloader(runtime, file, Live(runtime, story, sweepers.values(), front))
        operators = open_operators(runtime, story, sweepers, front, reloader, routes)
        admin_listen = await _listen_for_operators(runtime, operators)
        sites, addresses = await _listen(runtime, front)
        say_serving(addresses, admin_listen)
        yield Gateway(
            settings=settings,
            listen=addresses[0],
            admin_listen=admin_listen,
            api=front.api,
            server=front.server,
            sites=sites,
            reload=partial(_go_on, reloader, story.webhooks),
        )


def _open_reloader(runtime: Runtime, file: SettingsFile | None, live: Live) -> Reloader:
    reloader = Reloader(runtime.settings, file, live.adopt)
    status.show_reloads(runtime.metrics.gauges, reloader)
    if file is not None:
        runtime.watchers.supervise(reloader.watch, name="watch settings")
    return reloader


def _go_on(reloader: Reloader, webhooks: Webhooks) -> None:
    # Whatever the settings are: no mistake in them keeps back what is sent by those in use.
    webhooks.resume()
    reloader.ask()


async def _listen_for_operators(runtime: Runtime, operators: web.Application) -> Address | Path:
    settings, shutdown = runtime.settings, runtime.farewell / 8
    admin = OperatorsRunner(operators, settings.known_hosts, shutdown, settings.send_timeout, settings.max_unsent)
    return await listen_for_operators(admin, settings.admin_listen, runtime.slot, runtime.stack)


async def _listen(runtime: Runtime, front: Front) -> tuple[list[web.SockSite], list[Address]]:
    settings = runtime.settings
    runner = web.ServerRunner(front.server, shutdown_timeout=settings.shutdown.grace - runtime.farewell)
    tls = None if front.tls is None else front.tls.context
    return await listen(runner, settings.listen, runtime.slot, runtime.stack, tls=tls)
