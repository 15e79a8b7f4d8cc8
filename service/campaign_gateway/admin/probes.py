"""The operators' port: is it alive, is it ready and what is missing, and the metrics page."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from campaign_gateway.contract.ids import is_id
from campaign_gateway.policy.codings import accepts_gzip

SERVER = "campaign-gateway"


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that readiness depends on."""

    status: str
    """`ok`, `degraded` (it serves, with less) or `down` (it must not get requests)."""
    reason: str | None = None


Readiness = Callable[[], Mapping[str, Part]]
Explain = Callable[[str, str], Awaitable[object | None]]
"""What is known of the campaign of a stream's alias; None for an alias that is not there."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def admin_application(readiness: Readiness, registry: CollectorRegistry, explain: Explain) -> web.Application:
    """The application behind `admin_listen`: `/`, `/livez`, `/readyz`, `/metrics`, `/explain/{stream}/{id}`."""

    async def livez(_request: web.Request) -> web.Response:
        return answer_json(200, {"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        return answer_readiness(readiness())

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return answer_metrics(request, encode(registry), content_type)

    async def explained(request: web.Request) -> web.Response:
        campaign = request.match_info["id"]
        found = await explain(request.match_info["stream"], campaign) if is_id(campaign) else None
        return answer_json(404, {"detail": "no such stream or id"}) if found is None else answer_json(200, found)

    return application(livez, readyz, metrics, explained)


def application(livez: Handler, readyz: Handler, metrics: Handler, explained: Handler) -> web.Application:
    """The operators' routes with what answers them, and a page that names them."""
    made = web.Application()
    made.add_routes(
        [
            web.get("/", _home),
            web.get("/livez", livez),
            web.get("/readyz", readyz),
            web.get("/metrics", metrics),
            web.get("/explain/{stream}/{id}", explained),
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
    return answer_json(status, {"status": overall, "parts": parts})


def answer_metrics(request: web.Request, page: bytes, content_type: str) -> web.Response:
    """The metrics page, packed for whoever accepts that; on a thread, since it takes milliseconds."""
    answer = web.Response(
        body=page, headers={"Content-Type": content_type, "Vary": "Accept, Accept-Encoding"}, zlib_executor_size=0
    )
    if accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, []))):
        answer.enable_compression(web.ContentCoding.gzip)
    return answer


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
<li><a href="readyz">readyz</a>: whether it serves, with a reason for each part</li>
<li><a href="livez">livez</a>: whether the process answers</li>
<li><a href="metrics">metrics</a>: for Prometheus</li>
<li>explain/{stream}/{id}: what is known of one campaign, and what a read of it would do</li>
</ul>
</html>
"""


def answer_json(status: int, document: object) -> web.Response:
    """The document as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")


async def _name_server(_request: web.Request, response: web.StreamResponse) -> None:
    # In place of aiohttp's default, which names its version.
    response.headers["Server"] = SERVER
