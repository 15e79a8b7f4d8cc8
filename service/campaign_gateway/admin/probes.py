"""The operators' port: is it alive, is it ready and what is missing, and the metrics page."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from campaign_gateway.admin.answers import answer_json, packed
from campaign_gateway.contract.ids import is_id

SERVER = "campaign-gateway"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that readiness depends on."""

    status: str
    """`ok`, `degraded` (it serves, with less) or `down` (it must not get requests)."""
    reason: str | None = None
    since: str | None = None
    """When its status became so, as RFC 3339 has it; None while it is `ok`."""


Readiness = Callable[[], Mapping[str, Part]]
Collect = Callable[[], Awaitable[Iterable[Metric]]]
"""All metrics, as they are now."""
Explain = Callable[[str, str], Awaitable[object | None]]
"""What is known of the campaign of a stream's alias; None for an alias that is not there."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Families(Collector):
    """Families of metrics that were collected before, for an encoder."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    @override
    def collect(self) -> Iterable[Metric]:
        return self._families


def admin_application(
    readiness: Readiness, collect: Collect, explain: Explain, routes: Sequence[web.RouteDef] = ()
) -> web.Application:
    """Behind `admin_listen`: `/`, `/livez`, `/readyz`, `/metrics`, `/explain/{stream}/{id}`, and these routes."""

    async def livez(_request: web.Request) -> web.Response:
        return answer_json(200, {"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        return answer_readiness(readiness())

    async def metrics(request: web.Request) -> web.Response:
        return await answer_metrics(request, Families(await collect()))

    async def explained(request: web.Request) -> web.Response:
        campaign = request.match_info["id"]
        found = await explain(request.match_info["stream"], campaign) if is_id(campaign) else None
        return answer_json(404, {"detail": "no such stream or id"}) if found is None else answer_json(200, found)

    return application(livez, readyz, metrics, explained, routes)


def application(
    livez: Handler, readyz: Handler, metrics: Handler, explained: Handler, routes: Sequence[web.RouteDef]
) -> web.Application:
    """The operators' routes with what answers them, and a page that names them."""
    made = web.Application()
    made.add_routes(
        [
            web.get("/", _home),
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/explain/{stream}/{id}", explained),
            *routes,
        ]
    )
    made.on_response_prepare.append(_name_server)
    return made


_RANK = {"ok": 0, "degraded": 1, "down": 2}


def answer_readiness(parts: Mapping[str, Part]) -> web.Response:
    """As ready as the worst of the parts."""
    worst = max(parts.values(), key=lambda part: _RANK[part.status])
    status = 503 if worst.status == "down" else 200
    overall = {"ok": "ready", "degraded": "degraded", "down": "not ready"}[worst.status]
    said = {name: _known(part) for name, part in parts.items()}
    return answer_json(status, {"status": overall, "parts": said})


def _known(part: Part) -> dict[str, str | None]:
    known: dict[str, str | None] = {"status": part.status, "reason": part.reason}
    return known if part.since is None else known | {"since": part.since}


async def answer_metrics(request: web.Request, families: Collector) -> web.Response:
    """The families in the form that the request prefers, packed for whoever accepts that; made on threads."""
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    # Some 10 to 25 us a line, and callers or probes come to the same loop.
    page = await asyncio.to_thread(encode, families)
    answer = web.Response(
        body=page, headers={"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}, zlib_executor_size=0
    )
    return packed(request, answer)


async def _home(_request: web.Request) -> web.Response:
    return web.Response(text=_HOME, content_type="text/html", headers=_HOME_FIELDS)


_HOME_FIELDS = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"}
_HOME = """<!doctype html>
<html lang="en">
<title>Campaign gateway</title>
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<h1>Campaign gateway</h1>
<ul>
<li><a href="console">console</a>: what it does, for people</li>
<li><a href="console/state.json">console/state.json</a>: the same, for programs</li>
<li><a href="readyz">readyz</a>: whether it serves, with a reason for each part</li>
<li><a href="livez">livez</a>: whether the process answers</li>
<li><a href="metrics">metrics</a>: for Prometheus</li>
<li>explain/{stream}/{id}: what is known of one campaign, and what a read of it would do</li>
</ul>
</html>
"""


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    # In place of aiohttp's default, which names its version.
    response.headers["Server"] = SERVER
