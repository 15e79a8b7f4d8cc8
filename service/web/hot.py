"""The hot path: a hit for a caller who just had one on this connection, without parsing the request again.

Below aiohttp, where bytes come in. The laws of this module:

1. Nothing of HTTP is read here. A read is answered only if it is, byte for byte, a head that aiohttp has parsed, that
   was authorised, and that was answered with a plain hit on this very connection: its *template*. Only the campaign's
   id and the value of `X-Request-ID` may differ, and only in characters that mean nothing to a parser. Everything else
   goes to aiohttp untouched.
2. Only when no request is in flight, or answers would change their order. That is an exact count: of requests parsed,
   and of answers written.
3. Only when aiohttp's parser stands between two requests: the last read that it saw ended with the head of a request
   without a body. By its bytes alone, a request inside another one's body could not be told from a request.
4. Only while nothing has changed that the template's authorisation came from. Whatever could, ends the *epoch*.
5. What may be answered, and how old it may be, is the exchange's to say, each time.
6. Nobody is waited for: not when the caller reads slowly, not when the connection is closing.

So the slow path decides all, and this one repeats it. A test drives both with the same bytes.
"""

import asyncio
import os
import re
from time import perf_counter
from typing import cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.streams import EMPTY_PAYLOAD
from typing_extensions import override

from service.contract.operations import GET
from service.policy.conditions import is_not_modified
from service.proxy.exchange import Exchange
from service.proxy.ports import Ask, HitLog, RequestMeter
from service.web.answers import VERSION, Bounds
from service.web.epoch import Epoch
from service.web.server import ASKED, Connection, Refuse
from service.web.sheets import Sheet, Sheets

_KEEP = "keep-alive"
_END = b"\r\n\r\n"
_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")
_REQUEST_ID = re.compile(rb"\r\nX-Request-ID:[ \t]*([A-Za-z0-9._:-]{1,128})[ \t]*\r\n", re.IGNORECASE)
_PLAIN = bytes(
    byte if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"._:-") else ord("A") for byte in range(256)
)
"""A table for `translate` that changes every byte that has no place in a request's id."""
_LONGEST_REQUEST_ID = 128
_OTHER_MATTERS = (
    *(hdrs.CACHE_CONTROL, hdrs.PRAGMA, VERSION, hdrs.RANGE, hdrs.IF_RANGE),
    *(hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.IF_MATCH),
    *(hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING, hdrs.TRAILER, hdrs.EXPECT, hdrs.UPGRADE),
)
"""A head with one of these fields is no template: a wish, another condition, a body, or another protocol."""


class HotPath:
    """What the connections of one server share."""

    def __init__(self, exchange: Exchange, bounds: Bounds, meter: RequestMeter, log: HitLog, epoch: Epoch) -> None:
        """A hot path.

        Args:
            exchange: says what is a hit.
            bounds: the staleness to announce.
            meter: where hits are counted.
            log: where their lines go.
            epoch: ends when templates do.
        """
        self.exchange = exchange
        self.meter = meter
        self.log = log
        self.epoch = epoch
        self.sheets = Sheets(exchange, bounds, log)
        self.taken = 0
        """Requests that were answered here."""

    def learn(self, head: bytes, epoch: int, request: web.BaseRequest, ask: Ask) -> "Template | None":
        """The template that this head makes; None where it has something about it that is not for here.

        Args:
            head: the whole read that the request came in.
            epoch: that of the moment when it came in.
            request: as aiohttp parsed it.
            ask: what it was taken for.
        """
        headers = request.headers
        if (
            request.version != HttpVersion11
            or ask.operation.name != GET.name
            or not request.raw_path.startswith("/v1/")
        ):
            return None
        if any(name in headers for name in _OTHER_MATTERS) or headers.get(hdrs.CONNECTION, _KEEP).lower() != _KEEP:
            return None
        line = f"{request.method} {request.raw_path} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        before, found, _ = line.rpartition(f"/{ask.id} HTTP/1.1\r\n".encode())
        if not found or not head.startswith(line):
            return None
        start = len(before) + 1
        rest = head[start + len(ask.id) :]
        match = _REQUEST_ID.search(rest)
        if headers.getall("X-Request-ID", []) != ([match[1].decode()] if match else []):
            return None
        between, after = (rest[: match.start(1)], rest[match.end(1) :]) if match else (rest, b"")
        tags = headers.getall(hdrs.IF_NONE_MATCH, [])
        return Template(
            self, epoch, request.method, ask, ", ".join(tags) if tags else None, head[:start], between, after
        )


class Template:
    """A head that was answered with a hit, as what stands before, between and after its two variable parts."""

    __slots__ = (
        *("_after", "_ask", "_before", "_between", "_caller", "_client", "_current_age", "_gap", "_has_request_id"),
        *("_is_head", "_log_hit", "_not_modified", "_ok", "_path", "_rest", "_sheets", "_start", "_tags", "epoch"),
    )

    def __init__(
        self,
        path: HotPath,
        epoch: int,
        method: str,
        ask: Ask,
        tags: str | None,
        before: bytes,
        between: bytes,
        after: bytes,
    ) -> None:
        operation, client, stream = ask.operation.name, ask.client, ask.stream
        self.epoch = epoch
        self._path = path
        self._current_age, self._log_hit = path.exchange.current_age, path.log.hit
        self._client = client
        self._ask = ask
        self._is_head = method == hdrs.METH_HEAD
        self._tags = tags
        self._before, self._between, self._after = before, between, after
        self._start, self._gap, self._rest = len(before), len(between), len(after)
        self._has_request_id = bool(after)
        self._sheets = path.sheets.of_stream(stream.identity)
        self._ok = path.meter.hits(operation, client, 200)
        self._not_modified = path.meter.hits(operation, client, 304) if tags is not None else self._ok
        self._caller = path.log.members(
            {"method": method, "operation": operation, "client": client, "stream": stream.alias}
        )

    def answer(self, data: bytes) -> bytes | None:
        """The whole answer to `data`, if that is this head and there is a hit for it; it counts as given."""
        began = perf_counter()
        end = data.find(b" ", self._start)
        if not (data.startswith(self._before) and data.startswith(self._between, end) and data.endswith(self._after)):
            return None
        request_id = data[end + self._gap : len(data) - self._rest]
        if not self._has_request_id:
            if request_id:
                return None
            request_id = os.urandom(16).hex().encode()
        elif not 0 < len(request_id) <= _LONGEST_REQUEST_ID or request_id.translate(_PLAIN) != request_id:
            return None
        sheet = self._sheets.get(data[self._start : end])
        age = self._current_age(sheet.hit, self._client) if sheet is not None else None
        if sheet is None or age is None:
            sheet = self._look_up(data[self._start : end])
            age = self._current_age(sheet.hit, self._client) if sheet is not None else None
            if sheet is None or age is None:
                return None
        if self._tags is not None and is_not_modified(self._tags, None, sheet.hit.entry.etag, None):
            form, meter = sheet.not_modified, self._not_modified
        else:
            form, meter = sheet.ok, self._ok
        if age >= form.turns_at:
            form.turn(age)
        answer = b"".join((form.up_to_id, request_id, form.after_id, b"" if self._is_head else form.body))
        seconds = perf_counter() - began
        self._path.taken += 1
        meter.hit(seconds, age)
        self._log_hit(request_id, self._caller, form.line, seconds)
        return answer

    def _look_up(self, id_: bytes) -> Sheet | None:
        if not _ID.fullmatch(id_):
            return None
        ask = self._ask
        return self._path.sheets.make(Ask(ask.stream, ask.operation, id_.decode(), ask.client))


class HotConnection(Connection):
    """A connection that repeats the last hit's head by itself."""

    __slots__ = ("_answered", "_candidate", "_candidate_epoch", "_is_between", "_path", "_template")

    def __init__(self, path: HotPath, manager: web.Server, refuse: Refuse, **options: object) -> None:
        super().__init__(manager, refuse, **options)
        self._path = path
        self._template: Template | None = None
        self._answered = 0
        self._is_between = True
        self._candidate = b""
        """The read that the one request in flight came in, if it was a whole head and nothing else."""
        self._candidate_epoch = 0

    @override
    def data_received(self, data: bytes) -> None:
        template = self._template
        if (
            template is not None
            and template.epoch == self._path.epoch.number
            and self._is_between
            and self._answered == self._request_count
            and not (self._paused or self._close or self._force_close)
            and (answer := template.answer(data)) is not None
        ):
            cast("asyncio.Transport", self.transport).write(answer)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            return
        was_idle = self._is_between and self._answered == self._request_count
        parsed = self._request_count
        self._candidate_epoch = self._path.epoch.number
        super().data_received(data)
        self._is_between = (
            self._request_count == parsed + 1
            and data.endswith(_END)
            and data.find(_END) == len(data) - len(_END)
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not self._upgraded
        )
        self._candidate = data if was_idle and self._is_between else b""

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        sent, is_lost = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if is_lost or not sent.keep_alive:
            self._template = None
        elif self._candidate and (ask := request.get(ASKED)) is not None:
            learned = self._path.learn(self._candidate, self._candidate_epoch, request, ask)
            self._template = learned or self._template
        self._candidate = b""
        return sent, is_lost
