"""Plain hits for callers who are known already: what a head means is found out once, not for each request.

Most requests differ from one before in nothing but the campaign, the request's id and the tags of a copy. What they
have in common, the method and the other fields, is a *standing* as soon as one of them has passed every check of the
API and was answered with a hit. The next of that standing, on any connection, is answered with its campaign's sheet, in
one write, if there is a hit for it. Everything else takes the whole way. Whatever could withdraw an authorisation ends
the epoch, and all standings with it.
"""

import os
import re
from http import HTTPStatus
from time import perf_counter

from aiohttp import HttpVersion, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDictProxy
from typing_extensions import override

from service.contract.operations import GET
from service.policy.conditions import is_not_modified
from service.proxy.epoch import Epoch
from service.proxy.exchange import Exchange
from service.proxy.ports import Ask, HitLog, RequestMeter
from service.web.answers import VERSION, Bounds
from service.web.server import ASKED
from service.web.sheets import Sheet, Sheets

MAX_KNOWN = 256
"""Standings that are remembered."""
MAX_FIELDS_BYTES = 4_096
"""A head with more in its fields makes no standing: memory is bounded."""

_KEEP = "keep-alive"
_ID = re.compile(rb"[A-Za-z0-9_-]{1,128}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
VARIABLE = frozenset(
    {
        b"x-request-id",
        b"if-none-match",
        b"traceparent",
        b"tracestate",
        b"x-b3-traceid",
        b"x-b3-spanid",
        b"x-b3-parentspanid",
    }
)
"""Fields in lower case that differ from one request to the next, and of which no more is read than `answer` is told."""
_OTHER_MATTERS = (
    *(hdrs.CACHE_CONTROL, hdrs.PRAGMA, VERSION, hdrs.RANGE, hdrs.IF_RANGE),
    *(hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.IF_MATCH),
    *(hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING, hdrs.TRAILER, hdrs.EXPECT, hdrs.UPGRADE),
)
"""A head with one of these fields is not plain: a wish, another condition, a body, or another protocol."""

_Key = tuple[str, HttpVersion, str, tuple[tuple[bytes, bytes], ...]]
"""Method, version, the path up to the id, and the fields but for those that vary."""


def tags_of(headers: CIMultiDictProxy[str]) -> str | None:
    """The value of `If-None-Match`, several lines joined with commas."""
    return ", ".join(headers.getall(hdrs.IF_NONE_MATCH)) if hdrs.IF_NONE_MATCH in headers else None


def request_id_of(headers: CIMultiDictProxy[str]) -> str:
    """The request's own id, if it is a good one, or a new one."""
    given = headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


def new_request_id() -> str:
    """An id for a request that has none."""
    return os.urandom(16).hex()


class Standing:
    """Who asks, and how: answers with hits, counts and logs them."""

    __slots__ = (
        *(
            "_ask",
            "_caller",
            "_client",
            "_count_not_modified",
            "_count_ok",
            "_current_age",
            "_is_head",
            "_log_hit",
            "_make",
            "_sheets",
        ),
    )

    def __init__(
        self, exchange: Exchange, sheets: Sheets, meter: RequestMeter, log: HitLog, method: str, ask: Ask
    ) -> None:
        operation, client, stream = ask.operation.name, ask.client, ask.stream
        self._ask = ask
        self._client = client
        self._is_head = method == hdrs.METH_HEAD
        self._current_age, self._make, self._log_hit = exchange.current_age, sheets.make, log.hit
        self._sheets = sheets.of_stream(stream.identity)
        self._count_ok = meter.hits(operation, client, HTTPStatus.OK).hit
        self._count_not_modified = meter.hits(operation, client, HTTPStatus.NOT_MODIFIED).hit
        members = {"method": method, "operation": operation, "client": client, "stream": stream.alias}
        self._caller = log.caller(members)

    def answer(self, id_: bytes, request_id: bytes, tags: str | None, began: float) -> tuple[int, bytes] | None:
        """Status and bytes of the answer, if there is a hit for the campaign; it counts as given.

        Args:
            id_: of the campaign, as it came.
            request_id: plain.
            tags: of the caller's copy, see `tags_of`.
            began: when the request came, on the performance counter.
        """
        sheet = self._sheets.get(id_)
        if sheet is None or (age := self._current_age(sheet.hit, self._client)) is None:
            sheet = self._look_up(id_)
            if sheet is None or (age := self._current_age(sheet.hit, self._client)) is None:
                return None
        if tags is not None and is_not_modified(tags, None, sheet.etag, None):
            form, hit = sheet.not_modified, self._count_not_modified
        else:
            form, hit = sheet.ok, self._count_ok
        if age >= form.turns_at:
            form.turn(age)
        answer = b"".join((form.up_to_id, request_id, form.after_id, b"" if self._is_head else form.body))
        seconds = perf_counter() - began
        hit(seconds, age)
        self._log_hit(request_id, self._caller, form.line, seconds)
        return form.status, answer

    def _look_up(self, id_: bytes) -> Sheet | None:
        if not _ID.fullmatch(id_):
            return None
        ask = self._ask
        return self._make(Ask(ask.stream, ask.operation, id_.decode(), ask.client))


STANDING = web.RequestKey("STANDING", Standing)
"""On a request that was answered with a hit and is plain."""


class Standings:
    """The standings there are, for as long as their authorisations hold."""

    def __init__(self, exchange: Exchange, bounds: Bounds, meter: RequestMeter, log: HitLog, epoch: Epoch) -> None:
        """Standings.

        Args:
            exchange: says what is a hit.
            bounds: the staleness to announce.
            meter: where hits are counted.
            log: where their lines go.
            epoch: ends when authorisations do.
        """
        self.epoch = epoch
        self._exchange = exchange
        self._meter = meter
        self._log = log
        self.sheets = Sheets(exchange, bounds, log)
        self._known: dict[_Key, Standing] = {}
        self._number = epoch.number

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, request: web.BaseRequest, epoch: int) -> None:
        """Remembers who asked and how, if the request was answered with a hit.

        Args:
            request: that was answered.
            epoch: that of the moment when it was authorised.
        """
        ask = request.get(ASKED)
        if ask is None or epoch != self.epoch.number or not _is_plain(request, ask):
            return
        standing = Standing(self._exchange, self.sheets, self._meter, self._log, request.method, ask)
        request[STANDING] = standing
        if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_FIELDS_BYTES:
            return
        if self._number != epoch or len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._number = epoch
        self._known[_key(request, request.raw_path.rpartition("/")[0])] = standing

    def answer(self, request: web.BaseRequest, began: float) -> "Rendered | None":
        """The answer, if the request has a standing and there is a hit for it; it counts as given."""
        before, _, id_ = request.raw_path.rpartition("/")
        standing = self._known.get(_key(request, before))
        if standing is None or self._number != self.epoch.number:
            return None
        headers = request.headers
        request_id = request_id_of(headers).encode("ascii")
        answered = standing.answer(id_.encode("utf-8", "surrogateescape"), request_id, tags_of(headers), began)
        if answered is None:
            return None
        request[STANDING] = standing
        return Rendered(request.writer, *answered)


def _is_plain(request: web.BaseRequest, ask: Ask) -> bool:
    """Whether the request, which was taken for `ask`, asks for a campaign by id and says nothing more about it."""
    headers = request.headers
    return (
        request.version == HttpVersion11
        and ask.operation.name == GET.name
        and request.raw_path.startswith("/v1/")
        and request.raw_path.endswith(f"/{ask.id}")
        and not any(name in headers for name in _OTHER_MATTERS)
        and headers.get(hdrs.CONNECTION, _KEEP).lower() == _KEEP
    )


def _key(request: web.BaseRequest, before: str) -> _Key:
    fields = tuple([pair for pair in request.raw_headers if pair[0].lower() not in VARIABLE])
    return request.method, request.version, before, fields


class Rendered(web.StreamResponse):
    """An answer that is bytes already, head and body, for a connection that stays open."""

    def __init__(self, to: AbstractStreamWriter, status: int, answer: bytes) -> None:
        super().__init__(status=status)
        self._keep_alive = True
        self._to = to
        self._answer = answer

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return self._to

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        await self._to.write_eof(self._answer)
        self._eof_sent = True
