"""The description of the API, the page that shows it, and a page about each problem: a closed list.

No request makes a file name. The viewer is Swagger UI as released (`tools/vendor-docs`); the page
and its start are ours.
"""

import gzip
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import resources

from aiohttp import hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy, MultiMapping

from campaign_gateway.policy.codings import GZIP, accepts_gzip, packed_tag
from campaign_gateway.policy.preconditions import is_not_modified
from campaign_gateway.policy.stored import make_etag
from campaign_gateway.problems import Problem
from campaign_gateway.web.rejected import nothing_here, wrong_method
from campaign_gateway.web.responses import finish

DOCS = "docs"
"""The value of the metric label `operation` for all of them."""

_DESCRIPTION = "/openapi.json"
_TEXT = "; charset=utf-8"
_HOME = "/"
_FILES = {
    "/docs": ("page.html", "text/html" + _TEXT),
    "/docs/page.css": ("page.css", "text/css" + _TEXT),
    "/docs/start.js": ("start.js", "text/javascript" + _TEXT),
    "/docs/icon.svg": ("icon.svg", "image/svg+xml"),
    "/docs/swagger-ui.css": ("swagger-ui/swagger-ui.css", "text/css" + _TEXT),
    "/docs/swagger-ui-bundle.js": ("swagger-ui/swagger-ui-bundle.js", "text/javascript" + _TEXT),
}
_OF_PROBLEMS = frozenset({"/docs/page.css", "/docs/icon.svg"})
"""Of these files, what the pages about problems use too."""
_PROBLEMS = "/problems"
_PROBLEM_AT: Mapping[str, Problem | None] = {_PROBLEMS: None, **{problem.type: problem for problem in Problem}}
_ALLOW = "GET, HEAD"
_NO_FIELDS: MultiMapping[str] = CIMultiDict()
_WEIGHT = re.compile(r"[01](\.[0-9]{0,3})?")

_FIELDS = {
    # Asked for each time, and mostly a 304: a new release never meets files of an old one.
    "Cache-Control": "no-cache",
    # The viewer's stylesheet holds its icons as data.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What is at a path, the same for everybody."""

    body: bytes
    content_type: str
    etag: str
    is_negotiated: bool = False
    """Whether `Accept` chose it."""
    coding: str | None = None
    location: str | None = None
    """Where it is instead."""


def page_at(
    method: str, raw_target: str, headers: MultiMapping[str] = _NO_FIELDS, *, has_docs: bool = True
) -> Callable[[], Page] | None:
    """What makes the page for a request; None where its target is not one of these. A query changes nothing.

    The first page of a kind takes some 40 ms to make.

    Args:
        method: the request's.
        raw_target: as it was sent.
        headers: the request's.
        has_docs: whether the description and its viewer are there, and not only the pages about problems.

    Raises:
        RejectedError: it is one of these, and the method none of theirs; or it is one of these and a slash; or it is
            no problem.
    """
    path = raw_target.partition("?")[0]
    if path.endswith("/") and _is_page(path[:-1], has_docs=has_docs):
        raise nothing_here(but_without_slash=True)
    if not _is_page(path, has_docs=has_docs):
        if path.startswith(f"{_PROBLEMS}/"):
            raise nothing_here()
        return None
    if method not in {"GET", "HEAD"}:
        raise wrong_method(_ALLOW)
    if path not in _PROBLEM_AT:
        return partial(_load, path)
    is_json = _prefers_json(",".join(headers.getall(hdrs.ACCEPT, [])))
    return partial(_load_problem, path, is_json=is_json, has_docs=has_docs)


def _is_page(path: str, *, has_docs: bool) -> bool:
    if path in {_HOME, _DESCRIPTION} or path in _FILES:
        return has_docs or path in _OF_PROBLEMS
    return path in _PROBLEM_AT


def _prefers_json(accept: str) -> bool:
    """Whether JSON is named before HTML, or HTML not at all: a person's browser names it, `*/*` is left to the page."""
    weights = {"json": 0.0, "html": 0.0}
    for part in accept.lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        kind = media[-4:]
        if kind in weights:
            weight = next((text[2:] for text in parameters if text.startswith("q=")), "1")
            weights[kind] = max(weights[kind], float(weight) if _WEIGHT.fullmatch(weight) else 0.0)
    return weights["json"] > weights["html"]


@cache
def _load_problem(path: str, *, is_json: bool, has_docs: bool) -> Page:
    # Only here, as below.
    from campaign_gateway.web.docs.problem_pages import as_html, as_json  # noqa: PLC0415

    problem = _PROBLEM_AT[path]
    body = as_json(problem) if is_json else as_html(problem, has_docs=has_docs)
    content_type = "application/json" if is_json else "text/html" + _TEXT
    return Page(body, content_type, make_etag(body), is_negotiated=True)


@cache
def _load(path: str) -> Page:
    if path == _HOME:
        return Page(b"", "", "", location="/docs")
    if path == _DESCRIPTION:
        # Only here: its tables take part in every start, and few gateways are asked for it.
        from campaign_gateway.web.docs.openapi import document  # noqa: PLC0415

        body, content_type = json.dumps(document(), separators=(",", ":")).encode(), "application/json"
    else:
        name, content_type = _FILES[path]
        body = resources.files(__package__).joinpath("viewer", name).read_bytes()
    return Page(body, content_type, make_etag(body))


@cache
def _packed(page: Page) -> Page:
    """The page for those who accept gzip."""
    # Without a time of its own, all replicas have the same bytes.
    return replace(page, body=gzip.compress(page.body, mtime=0), etag=packed_tag(page.etag), coding=GZIP)


def render_page(page: Page, request_headers: CIMultiDictProxy[str], request_id: str) -> web.Response:
    """The page as an answer: 200, 302 for the root, or 304 for a caller who has it; packed for whoever accepts that."""
    if page.location is not None:
        return finish(web.Response(status=302, headers={**_FIELDS, "Location": page.location}), request_id)
    if accepts_gzip(",".join(request_headers.getall(hdrs.ACCEPT_ENCODING, []))):
        page = _packed(page)
    varies = "Accept, Accept-Encoding" if page.is_negotiated else "Accept-Encoding"
    headers = {**_FIELDS, "ETag": page.etag, "Vary": varies}
    tags = request_headers.getall(hdrs.IF_NONE_MATCH, [])
    if is_not_modified(", ".join(tags) if tags else None, None, page.etag, None):
        return finish(web.Response(status=304, headers=headers), request_id)
    headers |= {"Content-Type": page.content_type, **({"Content-Encoding": page.coding} if page.coding else {})}
    return finish(web.Response(body=page.body, headers=headers), request_id)
