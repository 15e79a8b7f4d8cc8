"""Hits as bytes: the one way in which a fresh answer to a read by id is written.

A hit is rendered once. Per request only what moves with the clock is put in (`Age`, `ttl` and `Date`), beside the
request's id. What hits have in common they share, so that one takes little beside the stored answer. The fields are
those of `web.responses`, whose functions make them.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from http import HTTPStatus

from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.preconditions import is_not_modified
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Hit, Outcome, Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.web.record import Recorder
from campaign_gateway.web.responses import (
    FINAL_FIELDS,
    Bounds,
    cache_status,
    entry_fields,
    http_date_text,
    last_modified,
)

MAX_BYTES = 16 * 2**20
"""What all hits may keep alive whose answers are not in this process's store."""
RENDERED_BYTES = 1_000
"""What one of those takes beside its entry's body. Of the others, the store counts it."""
MAX_NUMBERS = 16_384
MAX_FORMS = 100
"""The platform's media types are few, but nothing holds it to that."""


class _Numbers(dict[int, bytes]):
    """Whole numbers as text: seconds of ages and lifetimes, which come again and again."""

    def __missing__(self, number: int) -> bytes:
        text = b"%d" % number
        if len(self) < MAX_NUMBERS:
            self[number] = text
        return text


NUMBERS = _Numbers()


class DateField:
    """The end of a head: the second in which it is sent, and what is behind it."""

    __slots__ = ("text", "until")

    def __init__(self) -> None:
        self.text = b""
        self.until = float("-inf")
        """The moment until which that is true, on the performance counter."""

    def refresh(self, now: float) -> None:
        """Renders it for this moment on the performance counter."""
        moment = time.time()
        self.text = f"\r\nDate: {http_date_text(int(moment))}\r\n\r\n".encode()
        self.until = now + 1 - moment % 1


class Form:
    """What hits of one kind have in common: what is constant of their heads, and of their log lines."""

    __slots__ = ("after_ttl", "before_id", "line", "start")

    def __init__(self, status: HTTPStatus, detail: Detail | None, content_type: str | None, line: bytes) -> None:
        before, _, after = cache_status(Outcome(ttl=0.0, detail=detail)).partition("ttl=0")
        media = "" if content_type is None else f"\r\nContent-Type: {content_type}"
        self.start = f"HTTP/1.1 {status} {status.phrase}\r\nCache-Status: {before}ttl=".encode()
        self.after_ttl = f"{after}\r\nAge: ".encode()
        self.before_id = f"{media}\r\nX-Request-ID: ".encode()
        self.line = line


class RenderedHit:
    """A hit as bytes, for as long as it stays one."""

    __slots__ = ("body", "end", "fields", "form", "hit", "id", "shown")

    def __init__(self, hit: Hit, form: Form, bounds: Bounds, shown: bytes) -> None:
        fields = entry_fields(hit.entry, hit.lifetime, bounds, hit.visibility)
        self.hit, self.form = hit, form
        self.fields = "".join([f"\r\n{name}: {value}" for name, value in fields.items()]).encode()
        self.body = hit.entry.body
        self.end = _end(len(self.body))
        """What stands between the request's id and the date."""
        self.id = hit.request.id.encode()
        self.shown = self.id if self.id == shown else shown
        """The id as log lines show it."""

    def is_held(self, tags: str | None, since: str | None) -> bool:
        """Whether the caller's copy is this one: by the values of `If-None-Match` and `If-Modified-Since`."""
        return is_not_modified(tags, since, self.hit.entry.etag, last_modified(self.hit.entry))


_FINAL = "".join(f"\r\n{name}: {value}" for name, value in FINAL_FIELDS.items())
NOT_MODIFIED_END = _FINAL.encode()


@lru_cache(4_096)
def _end(length: int) -> bytes:
    return f"{_FINAL}\r\nContent-Length: {length}".encode()


class RenderedHits:
    """The rendered hits of all streams.

    One stays until its answer leaves this process's store, which counts what both take, and says so. What was had from
    elsewhere has a bound of its own, and the oldest goes first.
    """

    def __init__(self, reader: Exchange, bounds: Bounds, recorder: Recorder) -> None:
        """Rendered hits.

        Args:
            reader: says what is a hit.
            bounds: the staleness to announce.
            recorder: makes their log lines.
        """
        self._reader = reader
        self._bounds = bounds
        self._recorder = recorder
        self._hits: dict[tuple[str, str], dict[bytes, RenderedHit]] = {}
        self._forms: dict[tuple[Detail | None, str | None], Form] = {}
        self.date = DateField()
        self._elsewhere: dict[str, int] = {}
        """Bytes of those whose answers are not in the store, by key, the oldest first."""
        self._bytes = 0

    def of(self, stream: str, resource: str) -> dict[bytes, RenderedHit]:
        """Those of one resource of a stream, by id. They may be out of date: see `current_age` of the reader."""
        return self._hits.setdefault((stream, resource), {})

    def rendered(self, hit: Hit, age: float) -> "Fresh | Reply":
        """The new hit's, kept in the place of the last one of its id, with its age in seconds.

        A reply where the platform knows no such thing.
        """
        key = hit.key
        self.forget(key)
        if hit.entry.absence is not None:
            return hit.reply(age)
        form = self._form(hit.detail, hit.entry.content_type)
        rendered = RenderedHit(hit, form, self._bounds, self._recorder.shown(hit.request.id))
        self._of(hit.request)[rendered.id] = rendered
        if hit.raw is not None:
            cost = self._elsewhere[key] = RENDERED_BYTES + 2 * len(rendered.body)
            self._bytes += cost
            while self._bytes > MAX_BYTES:
                self.forget(next(iter(self._elsewhere)))
        return rendered, age

    def forget(self, key: str | None) -> None:
        """Drops the hit of the entry with this key, if there is one; None for all."""
        if key is None:
            for hits in self._hits.values():
                hits.clear()
            self._elsewhere.clear()
            self._bytes = 0
            return
        stream, resource, id_ = key.split(":", 2)
        if self.of(stream, resource).pop(id_.encode(), None) is not None:
            self._bytes -= self._elsewhere.pop(key, 0)

    def follow(self, key: str | None) -> None:
        """Drops the hit of the entry with this key, which has left the store; None for all."""
        if key not in self._elsewhere:
            self.forget(key)

    def not_modified(self, hit: Hit) -> Form:
        """What is said of the hit to those who have it already."""
        return self._form(hit.detail, None)

    def replies(self, request: Request, ids: Sequence[str]) -> list[Reply | None]:
        """Of each id the whole fresh local answer to such a request, without directives; None where there is none.

        What is rendered of an answer stays: the next batch asks for much the same.
        """
        kept, current_age = self._of(request), self._reader.current_age

        def reply(id_: str) -> Reply | None:
            last = kept.get(id_.encode())
            if last is not None and (age := current_age(last.hit, request.client)) is not None:
                return last.hit.reply(age)
            hit = self._reader.hit(replace(request, id=id_))
            if hit is None or (age := current_age(hit, request.client)) is None:
                return None
            self.rendered(hit, age)
            return hit.reply(age)

        return [reply(id_) for id_ in ids]

    async def find(self, request: Request, last: RenderedHit | None) -> "Fresh | Reply | None":
        """What is kept of a hit out of the store, the last one if that still stands; None where there is none.

        A refusal where nothing is stored and no call may be made.
        """
        found = await self._reader.find(request, None if last is None else last.hit)
        if isinstance(found, tuple):
            return self._again(last, *found)
        self.forget(request.key)
        return found

    async def answer(self, request: Request) -> "Fresh | Reply":
        """The hit from wherever it is stored, or what is replied in its place."""
        # What a caller asks of freshness is for the reader to judge, each time.
        last = self._of(request).get(request.id.encode()) if request.directives == NO_DIRECTIVES else None
        answered = await self._reader.answer(request, None if last is None else last.hit)
        if isinstance(answered, Reply):
            self.forget(request.key)
            return answered
        return self._again(last, *answered)

    def _again(self, last: RenderedHit | None, hit: Hit, age: float) -> "Fresh | Reply":
        return (last, age) if last is not None and last.hit is hit else self.rendered(hit, age)

    def _form(self, detail: Detail | None, content_type: str | None) -> Form:
        """For hits with a body of this type, or None for those without one, since they have not been modified."""
        form = self._forms.get((detail, content_type))
        if form is None:
            if len(self._forms) >= MAX_FORMS:
                self._forms.clear()
            status = HTTPStatus.NOT_MODIFIED if content_type is None else HTTPStatus.OK
            form = Form(status, detail, content_type, self._recorder.hit_line(status, detail))
            self._forms[detail, content_type] = form
        return form

    def _of(self, request: Request) -> dict[bytes, RenderedHit]:
        return self.of(request.stream.identity, request.operation.resource)


Fresh = tuple[RenderedHit, float]
"""A hit and its age in seconds."""
