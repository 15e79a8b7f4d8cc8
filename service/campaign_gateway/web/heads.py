"""Heads of requests: which fields matter to an answer, and when two heads ask in the same way."""

import os
import re
from collections.abc import Hashable

from aiohttp import HttpVersion, HttpVersion11, hdrs, web
from multidict import CIMultiDictProxy, istr

from campaign_gateway.policy.trace_context import TraceContext, read_trace_context
from campaign_gateway.web.responses import VERSION
from campaign_gateway.web.server import OVERRIDES

COMPARED = frozenset({b"authorization", b"connection", b"host", b"origin", b"sec-fetch-site", b"te"})
"""Fields in lower case that two heads of one grant have in common, byte for byte."""
READ_EACH_TIME = frozenset({b"x-request-id", b"if-none-match", b"traceparent", b"tracestate"})
"""Those that may differ and are read anew from each request."""
NOT_PLAIN = frozenset(
    name.lower().encode()
    for name in (
        *(hdrs.CACHE_CONTROL, hdrs.PRAGMA, VERSION),
        *(hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.IF_MATCH, hdrs.IF_RANGE, hdrs.RANGE),
        *(hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_ENCODING, hdrs.TRAILER),
        *(hdrs.EXPECT, hdrs.UPGRADE, hdrs.SEC_WEBSOCKET_KEY1),
        *OVERRIDES,
    )
)
"""Those that no grant covers: a directive, another condition, a body, another protocol, or another method."""
MATTERS = COMPARED | READ_EACH_TIME | NOT_PLAIN
"""All fields that anything here reads. Whatever is not among them means nothing to an answer, and may differ."""

_KEEP = "keep-alive"
_TRACEPARENT, _TRACESTATE = istr("traceparent"), istr("tracestate")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Head = tuple[str, HttpVersion, str, tuple[tuple[bytes, bytes], ...]]
"""Method, version, the path up to the id, and the fields that matter, but for those that are read each time."""
_IN_HEAD = COMPARED | NOT_PLAIN


def head_of(http: web.BaseRequest) -> tuple[Head, str]:
    """What heads that ask in the same way have in common, and the last part of the path: the id, if it is one."""
    before, _, id_ = http.raw_path.rpartition("/")
    fields = tuple([pair for pair in http.raw_headers if pair[0].lower() in _IN_HEAD])
    return (http.method, http.version, before, fields), id_


def is_plain(http: web.BaseRequest, id_: str) -> bool:
    """Whether the request asks for the id, which the path was understood to name, and says nothing more about it."""
    return (
        http.version == HttpVersion11
        and http.raw_path.startswith("/v1/")
        and http.raw_path.endswith(f"/{id_}")
        and all(option.lower() == _KEEP for option in http.headers.getall(hdrs.CONNECTION, ()))
        and not any(name.lower() in NOT_PLAIN for name, _ in http.raw_headers)
    )


def tags_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The value of `If-None-Match`, several lines joined with commas."""
    return ", ".join(headers.getall(hdrs.IF_NONE_MATCH)) if hdrs.IF_NONE_MATCH in headers else None


def request_id_of(headers: CIMultiDictProxy[str]) -> str:
    """The request's own id, if it is a good one, or a new one."""
    given = headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def trace_of(headers: CIMultiDictProxy[str]) -> TraceContext | None:
    """The trace that the request belongs to, if it names one."""
    if _TRACEPARENT not in headers:
        return None
    # Given twice, it is no good (W3C Trace Context section 3.2), and neither is what they make together.
    return read_trace_context(",".join(headers.getall(_TRACEPARENT)), ",".join(headers.getall(_TRACESTATE, ())))


def new_request_id() -> str:
    """An id for a request that has none."""
    return os.urandom(16).hex()


class Sights:
    """Tells what has been seen before. What comes only once is not worth being learned."""

    def __init__(self, most: int) -> None:
        """Remembers so many; it forgets all of them rather than to keep more."""
        self._most = most
        self._seen: set[int] = set()

    def is_again(self, what: Hashable) -> bool:
        """Whether this was seen before. Another one with the same hash counts as the same."""
        number = hash(what)
        if number in self._seen:
            return True
        if len(self._seen) >= self._most:
            self._seen.clear()
        self._seen.add(number)
        return False
