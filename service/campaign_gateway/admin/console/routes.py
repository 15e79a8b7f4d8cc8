"""What is at `/console`: the page's own files, and what it asks for.

Everything is read without a key, as all of `admin_listen`, and refused to pages of other sites there. A purge wants a
client's key, which the page keeps in memory only.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple, Protocol

import msgspec
from aiohttp import hdrs, web

from campaign_gateway.admin.answers import answer_json, packed, read_body
from campaign_gateway.contract.ids import is_id

Handler = Callable[[web.Request], Any]

PAGE_ROWS = 50
MOST_ROWS = 200
"""Campaigns in one answer."""
LONGEST_QUESTION = 200
"""Characters of a search."""
WHAT_IF = ("calls", "reserve", "share", "others", "used", "changes")
"""What a forecast may be asked to take instead of what is so."""

_TEXT = "; charset=utf-8"
_FILES = {
    "/console": ("console.html", "text/html" + _TEXT),
    "/console/console.css": ("console.css", "text/css" + _TEXT),
    "/console/console.js": ("console.js", "text/javascript" + _TEXT),
    "/console/draw.js": ("draw.js", "text/javascript" + _TEXT),
    "/console/overview.js": ("overview.js", "text/javascript" + _TEXT),
    "/console/campaigns.js": ("campaigns.js", "text/javascript" + _TEXT),
    "/console/screens.js": ("screens.js", "text/javascript" + _TEXT),
}
_JSON = ("/console/state.json", "/console/campaigns.json", "/console/forecast.json", "/console/settings.json")
_PURGE = "/console/purge"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_FIELDS = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


class Purged(NamedTuple):
    """What became of a purge."""

    status: int
    document: Mapping[str, object]


class Console(Protocol):
    """What the console is told. A stream is named by its alias; None is the first. None is told of any other."""

    async def state(self, stream: str | None) -> Mapping[str, object] | None:
        """All that is shown at a glance; see the README."""
        ...

    async def campaigns(self, stream: str | None, question: str, first: int, count: int) -> object | None:
        """Campaigns whose id or name holds the question, those that are read most before others, from `first` on."""
        ...

    def forecast(self, stream: str | None, changed: Mapping[str, float]) -> object | None:
        """What the calls suffice for as things are, and with these values (`WHAT_IF`).

        Raises:
            ValueError: they go together in no way.
        """
        ...

    def settings(self) -> object:
        """The effective settings, secrets masked."""
        ...

    async def purge(self, authorization: Sequence[str], stream: str, campaign: str) -> Purged:
        """Makes what is stored of a campaign stale, for a client with these `Authorization` field values."""
        ...


def console_routes(console: Console) -> list[web.RouteDef]:
    """The page, and what answers it."""

    async def state(request: web.Request) -> web.Response:
        return _known(request, await console.state(request.query.get("stream")))

    async def campaigns(request: web.Request) -> web.Response:
        question = request.query.get("q", "")[:LONGEST_QUESTION]
        first, count = _number(request, "first", 0, 10**9), _number(request, "count", PAGE_ROWS, MOST_ROWS)
        return _known(request, await console.campaigns(request.query.get("stream"), question, first, count))

    async def forecast(request: web.Request) -> web.Response:
        try:
            changed = {name: _finite(request.query[name]) for name in WHAT_IF if request.query.get(name)}
            return _known(request, console.forecast(request.query.get("stream"), changed))
        except ValueError as error:
            return answer_json(400, {"detail": str(error)})

    async def settings(request: web.Request) -> web.Response:
        return _known(request, console.settings())

    async def purge(request: web.Request) -> web.Response:
        wanted = await _read_purge(request)
        if wanted is None:
            return answer_json(400, {"detail": 'the body is {"stream": "...", "campaign": "..."}, as application/json'})
        status, document = await console.purge(request.headers.getall(hdrs.AUTHORIZATION, []), *wanted)
        return answer_json(status, document)

    answers = zip(_JSON, (state, campaigns, forecast, settings), strict=True)
    return [*page_routes(), *(web.get(path, handler) for path, handler in answers), web.post(_PURGE, purge)]


def page_routes(forward: Handler | None = None) -> list[web.RouteDef]:
    """The page's own files; with `forward`, all else that is at `/console` goes there."""
    files = [web.get(path, _file(*row)) for path, row in _FILES.items()]
    if forward is None:
        return files
    return [*files, *(web.get(path, forward) for path in _JSON), web.post(_PURGE, forward)]


def _file(name: str, content_type: str) -> Handler:
    async def answer(request: web.Request) -> web.Response:
        # Read each time: some kilobytes, for few.
        body = resources.files(__package__).joinpath("static", name).read_bytes()
        fields = {**_FIELDS, "Content-Type": content_type, "Vary": "Accept-Encoding"}
        return packed(request, web.Response(body=body, headers=fields))

    return answer


def _known(request: web.Request, document: object | None) -> web.Response:
    if document is None:
        return answer_json(404, {"detail": "no such stream"})
    fields = {"Content-Type": "application/json", "Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    return packed(request, web.Response(body=msgspec.json.encode(document), headers=fields, zlib_executor_size=0))


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, "")
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < len(str(most)) + 2 else default


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError("numbers from 0 on")
    return value


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    stream: str
    campaign: str


async def _read_purge(request: web.Request) -> tuple[str, str] | None:
    """The stream and the campaign in the body; None where it is another one.

    Its type keeps out forms of other pages, which no browser lets name this one.
    """
    body = await read_body(request) if request.content_type == "application/json" else None
    try:
        wanted = msgspec.json.decode(body or b"", type=_Wanted)
    except msgspec.MsgspecError:
        return None
    return (wanted.stream, wanted.campaign) if is_id(wanted.campaign) else None
