"""Opens what operators see: probes, metrics, `/explain` and the console."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial

from aiohttp import web

from campaign_gateway.admin.console import console_routes
from campaign_gateway.admin.probes import admin_application
from campaign_gateway.app.console import OperatorsConsole, look_at_streams
from campaign_gateway.app.front import Front
from campaign_gateway.app.readiness import Readiness, readiness
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.story import Story
from campaign_gateway.proxy.explain import Explanation
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.telemetry.history import PACKAGE, History


def open_operators(
    runtime: Runtime,
    story: Story,
    sweepers: Mapping[str, Sweeper],
    front: Front,
    reloader: Reloader,
    routes: Sequence[web.RouteDef],
) -> web.Application:
    """All of it, with these routes of others; nobody can connect yet."""
    ready = Readiness(partial(readiness, runtime, story, front, reloader))
    runtime.watchers.supervise(ready.watch, name="watch readiness")
    console = OperatorsConsole(
        plan=runtime.plan,
        readiness=ready,
        budget=story.budget,
        index=story.stores.index,
        memory=story.stores.local,
        fetcher=story.fetcher,
        sweepers=sweepers,
        explainer=story.explainer,
        history=_open_history(runtime, story),
        metrics=runtime.metrics,
        clients=front.clients,
        invalidator=story.invalidator,
        credential_version=story.platform.credential_version,
        reloader=reloader,
        worker=runtime.worker,
    )
    explain = partial(_explain, runtime, story)
    return admin_application(ready, runtime.metrics.collect, explain, [*console_routes(console), *routes])


def _open_history(runtime: Runtime, story: Story) -> History:
    look = partial(look_at_streams, runtime.plan, story.stores.index, story.explainer)
    history, events = History(runtime.metrics, look), logging.getLogger(PACKAGE)
    events.addHandler(history)
    runtime.stack.callback(events.removeHandler, history)
    story.fetcher.on_call = history.note_call
    runtime.watchers.supervise(history.run, name="note figures")
    return history


async def _explain(runtime: Runtime, story: Story, alias: str, campaign: str) -> Explanation | None:
    stream = runtime.plan.streams.get(alias)
    return None if stream is None else await story.explainer.explain(stream, campaign)
