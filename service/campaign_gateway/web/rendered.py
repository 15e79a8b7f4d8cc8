"""Hits as bytes: the one way in which a fresh answer to a read by id is written.

A hit is rendered once. Per request only what moves with the clock is filled in: `Age`, `ttl` and `Date`, beside the
request's id. The fields are those of `web.responses`, whose functions make them.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.preconditions import is_not_modified
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Hit, Outcome, Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.web.responses import (
    FINAL_FIELDS,
    Bounds,
    cache_status,
    entry_fields,
    http_date_text,
    last_modified,
)

LARGEST_BODY = 2**16
"""Bytes. What is longer fills the transport's buffer by itself; it is rendered for one request, which can wait."""
MAX_BYTES = 16 * 2**20
"""What all kept renderings may keep alive, beside what the store keeps anyway."""
RENDERED_BYTES = 1_500
"""What a rendered hit takes beside its entry's body."""


LineOf = Callable[[str, HTTPStatus, Detail | None], bytes]
"""Makes the log line of a rendering; see `Recorder.hit_line`."""


class Rendering:
    """A hit under one status: its answer and its log line, with what is constant rendered once, the rest in time."""

    __slots__ = (
        *("_end", "_head", "_hit", "_line", "_fields"),
        *("after_id", "body", "is_not_modified", "line", "refresh_at", "up_to_id"),
    )

    def __init__(self, hit: Hit, status: HTTPStatus, fields: dict[str, str], line_of: LineOf) -> None:
        self.is_not_modified = status is HTTPStatus.NOT_MODIFIED
        length = "" if self.is_not_modified else f"Content-Length: {len(hit.entry.body)}\r\n"
        before, _, after = cache_status(Outcome(ttl=0.0, detail=hit.detail)).partition("ttl=0")
        self._hit = hit
        self._head = f"HTTP/1.1 {status} {status.phrase}\r\nCache-Status: {before}ttl=%d{after}\r\nAge: %d".encode()
        self._fields = (
            "".join(f"\r\n{name}: {value}" for name, value in fields.items()).encode() + b"\r\nX-Request-ID: "
        )
        final = "".join(f"\r\n{name}: {value}" for name, value in FINAL_FIELDS.items())
        self._end = f"{final}\r\n{length}Date: %b\r\n\r\n".encode()
        self._line = line_of(hit.request.id, status, hit.detail)
        self.body = b"" if self.is_not_modified else hit.entry.body
        self.refresh_at = -1.0
        """The age in seconds from which the clock's fields have to be rendered anew."""
        self.up_to_id = self.after_id = b""
        """The head up to the request's id, and after it."""
        self.line = b""
        """The answer's part of a log line."""

    def refresh_clock_fields(self, age: float) -> None:
        """Renders `Age`, `ttl` and `Date` for this age, and for as long as they stay the same."""
        ttl, now = self._hit.lifetime - age, time.time()
        self.up_to_id = self._head % (int(ttl), int(age)) + self._fields
        self.after_id = self._end % http_date_text(int(now)).encode()
        self.line = self._line % int(age)
        self.refresh_at = age + min(1 - age % 1, ttl % 1, 1 - now % 1)


class RenderedHit:
    """A hit as bytes, for as long as it stays one."""

    __slots__ = ("_etag", "_not_modified", "hit", "ok")

    def __init__(self, hit: Hit, bounds: Bounds, line_of: LineOf) -> None:
        fields = entry_fields(hit.entry, hit.lifetime, bounds, hit.visibility)
        self.hit = hit
        self._etag = fields["ETag"]
        self._not_modified = Rendering(hit, HTTPStatus.NOT_MODIFIED, fields, line_of)
        self.ok = Rendering(hit, HTTPStatus.OK, {**fields, "Content-Type": hit.entry.content_type}, line_of)

    def for_copy(self, tags: str | None, since: str | None) -> Rendering:
        """The rendering for a caller with such a copy: the values of `If-None-Match` and `If-Modified-Since`."""
        is_good = is_not_modified(tags, since, self._etag, last_modified(self.hit.entry))
        return self._not_modified if is_good else self.ok

    @property
    def cost(self) -> int:
        """Bytes."""
        copies = 1 if self.hit.raw is None else 2
        return RENDERED_BYTES + copies * len(self.hit.entry.body)


class RenderedHits:
    """The rendered hits of all streams."""

    def __init__(self, reader: Exchange, bounds: Bounds, line_of: LineOf) -> None:
        """Rendered hits.

        Args:
            reader: says what is a hit.
            bounds: the staleness to announce.
            line_of: makes their log lines.
        """
        self._reader = reader
        self._bounds = bounds
        self._line_of = line_of
        self._hits: dict[tuple[str, str], dict[bytes, RenderedHit]] = {}
        self._bytes = 0

    def of(self, stream: str, resource: str) -> dict[bytes, RenderedHit]:
        """Those of one resource of a stream, by id. They may be out of date: see `current_age` of the reader."""
        return self._hits.setdefault((stream, resource), {})

    def keep(self, hit: Hit) -> RenderedHit | None:
        """The new hit's, in the place of the last one of its id; None where it is none that is kept."""
        self._drop(hit.request)
        if hit.entry.absence is not None or len(hit.entry.body) > LARGEST_BODY:
            return None
        rendered = RenderedHit(hit, self._bounds, self._line_of)
        if self._bytes + rendered.cost > MAX_BYTES:
            # Cheaper than to know which was used last: what is in use is soon there again.
            for hits in self._hits.values():
                hits.clear()
            self._bytes = 0
        self._of(hit.request)[hit.request.id.encode()] = rendered
        self._bytes += rendered.cost
        return rendered

    def rendered(self, hit: Hit, age: float) -> "Fresh | Reply":
        """The new hit's with its age in seconds; a reply where the platform knows no such thing."""
        if hit.entry.absence is not None:
            self._drop(hit.request)
            return hit.reply(age)
        return self.keep(hit) or RenderedHit(hit, self._bounds, self._line_of), age

    async def find(self, request: Request, last: RenderedHit | None) -> "Fresh | Reply | None":
        """What is kept of a hit out of the store, the last one if that still stands; None where there is none.

        A refusal where nothing is stored and no call may be made.
        """
        found = await self._reader.find(request, None if last is None else last.hit)
        if isinstance(found, tuple):
            hit, age = found
            rendered = last if last is not None and last.hit is hit else self.keep(hit)
            return None if rendered is None else (rendered, age)
        self._drop(request)
        return found

    async def answer(self, request: Request) -> "Fresh | Reply":
        """The hit from wherever it is stored, or what is replied in its place."""
        # What a caller asks of freshness is for the reader to judge, each time.
        last = self._of(request).get(request.id.encode()) if request.directives == NO_DIRECTIVES else None
        answered = await self._reader.answer(request, None if last is None else last.hit)
        if isinstance(answered, Reply):
            self._drop(request)
            return answered
        hit, age = answered
        return (last, age) if last is not None and last.hit is hit else self.rendered(hit, age)

    def _of(self, request: Request) -> dict[bytes, RenderedHit]:
        return self.of(request.stream.identity, request.operation.resource)

    def _drop(self, request: Request) -> None:
        old = self._of(request).pop(request.id.encode(), None)
        if old is not None:
            self._bytes -= old.cost


Fresh = tuple[RenderedHit, float]
"""A hit and its age in seconds."""
