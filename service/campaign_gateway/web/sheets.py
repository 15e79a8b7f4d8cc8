"""Hits as bytes: what an answer of `web.answers` looks like on the wire, rendered once for each entry.

Only what moves with the clock is filled in per request: `Age`, `ttl` and `Date`, beside the request's id. The fields
and their order are those of the slow path, and the same functions make them.
"""

import time
from http import HTTPStatus

from campaign_gateway.proxy.exchange import Exchange
from campaign_gateway.proxy.ports import HitLog
from campaign_gateway.proxy.reply import Hit, Outcome, Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.web.answers import FINAL_FIELDS, Bounds, cache_status, entry_fields, http_date_text

LARGEST_BODY = 2**16
"""Bytes. What is longer fills the transport's buffer by itself, and waiting for a slow reader is the slow path's."""
MAX_BYTES = 16 * 2**20
"""What all sheets may keep alive, beside what the store keeps anyway."""
SHEET_BYTES = 1_500
"""What a sheet takes beside its entry's body."""


class Form:
    """A hit under one status: its answer and its log line, with what is constant rendered once, the rest in time."""

    __slots__ = (
        "_end",
        "_head",
        "_hit",
        "_line",
        "_rest",
        "after_id",
        "body",
        "line",
        "status",
        "turns_at",
        "up_to_id",
    )

    def __init__(self, hit: Hit, status: HTTPStatus, fields: dict[str, str], log: HitLog) -> None:
        has_body = status is HTTPStatus.OK
        length = f"Content-Length: {len(hit.entry.body)}\r\n" if has_body else ""
        before, _, after = cache_status(Outcome(ttl=0.0, detail=hit.detail)).partition("ttl=0")
        members = {"campaign": hit.request.id, "status": status.value, "cache": "hit", "detail": hit.detail}
        self.status = status
        self._hit = hit
        self._head = f"HTTP/1.1 {status} {status.phrase}\r\nCache-Status: {before}ttl=%d{after}\r\nAge: %d".encode()
        self._rest = "".join(f"\r\n{name}: {value}" for name, value in fields.items()).encode() + b"\r\nX-Request-ID: "
        final = "".join(f"\r\n{name}: {value}" for name, value in FINAL_FIELDS.items())
        self._end = f"{final}\r\n{length}Date: %b\r\n\r\n".encode()
        self._line = log.answer({name: value for name, value in members.items() if value is not None})
        self.turns_at = -1.0
        """The age in seconds from which `turn` has to render anew."""
        self.up_to_id = self.after_id = b""
        """The head up to the request's id, and after it."""
        self.body = hit.entry.body if has_body else b""
        self.line = b""
        """The answer's part of a log line."""

    def turn(self, age: float) -> None:
        """Renders `Age`, `ttl` and `Date` for this age, and for as long as they stay the same."""
        ttl, now = self._hit.lifetime - age, time.time()
        self.up_to_id = self._head % (int(ttl), int(age)) + self._rest
        self.after_id = self._end % http_date_text(int(now)).encode()
        self.line = self._line % int(age)
        self.turns_at = age + min(1 - age % 1, ttl % 1, 1 - now % 1)


class Sheet:
    """A hit as bytes, for as long as it stays one."""

    __slots__ = ("etag", "hit", "not_modified", "ok")

    def __init__(self, hit: Hit, bounds: Bounds, log: HitLog) -> None:
        fields = entry_fields(hit.entry, hit.lifetime, bounds, hit.visibility)
        self.hit = hit
        self.etag = fields["ETag"]
        self.not_modified = Form(hit, HTTPStatus.NOT_MODIFIED, fields, log)
        self.ok = Form(hit, HTTPStatus.OK, {**fields, "Content-Type": hit.entry.content_type}, log)

    @property
    def cost(self) -> int:
        """Bytes."""
        copies = 1 if self.hit.raw is None else 2
        return SHEET_BYTES + copies * len(self.hit.entry.body)


class Sheets:
    """The sheets of all streams."""

    def __init__(self, exchange: Exchange, bounds: Bounds, log: HitLog) -> None:
        self._exchange = exchange
        self._bounds = bounds
        self._log = log
        self._kept: dict[str, dict[bytes, Sheet]] = {}
        self._bytes = 0

    def of_stream(self, identity: str) -> dict[bytes, Sheet]:
        """The stream's sheets by campaign id. They may be out of date: `Exchange.current_age` tells."""
        return self._kept.setdefault(identity, {})

    async def look_up(self, ask: Request) -> tuple[Sheet, float] | Reply:
        """The sheet of a hit, from wherever it is stored, and its age in seconds; or what is replied in its place."""
        last = self.of_stream(ask.stream.identity).get(ask.id.encode())
        answered = await self._exchange.answer(ask, None if last is None else last.hit)
        if isinstance(answered, Reply):
            self.drop(ask)
            return answered
        hit, age = answered
        sheet = self._again(last, hit)
        return hit.reply(age) if sheet is None else (sheet, age)

    async def find(self, ask: Request, last: Sheet | None) -> tuple[Sheet, float] | Reply | None:
        """The sheet of a hit, the last one if that still stands, and its age in seconds; None where there is none.

        A refusal where nothing is stored and no call may be made.
        """
        found = await self._exchange.find(ask, None if last is None else last.hit)
        if isinstance(found, Reply):
            self.drop(ask)
            return found
        sheet = None if found is None else self._again(last, found[0])
        if found is None or sheet is None:
            self.drop(ask)
            return None
        return sheet, found[1]

    def _again(self, last: Sheet | None, hit: Hit) -> Sheet | None:
        return last if last is not None and last.hit is hit else self.keep(hit)

    def make(self, ask: Request) -> Sheet | None:
        """A new sheet; None where there is no fresh local answer, or none that is rendered here."""
        hit = self._exchange.hit(ask)
        return None if hit is None else self.keep(hit)

    def keep(self, hit: Hit) -> Sheet | None:
        """The sheet of a new hit, in the place of its campaign's last one; None where it is not rendered here."""
        self.drop(hit.request)
        if hit.entry.absence is not None or len(hit.entry.body) > LARGEST_BODY:
            return None
        sheet = Sheet(hit, self._bounds, self._log)
        if self._bytes + sheet.cost > MAX_BYTES:
            # Cheaper than to know which was used last: what is in use is soon there again.
            for sheets in self._kept.values():
                sheets.clear()
            self._bytes = 0
        self.of_stream(hit.request.stream.identity)[hit.request.id.encode()] = sheet
        self._bytes += sheet.cost
        return sheet

    def drop(self, ask: Request) -> None:
        """Forgets the campaign's sheet."""
        old = self.of_stream(ask.stream.identity).pop(ask.id.encode(), None)
        if old is not None:
            self._bytes -= old.cost
