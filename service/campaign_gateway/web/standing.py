"""Plain hits and refusals for callers who are known: what a head means is found out once, not for each request.

Most requests differ from one before in nothing but the campaign, the request's id and the tags of a copy. What they
have in common, the method and the other fields, is a *standing* as soon as one of them has passed every check of the
API and was answered with a hit, or refused for want of calls. The next of that standing, on any connection, is
answered with its campaign's sheet, in one write, if there is a hit for it, and with the refusal, if nothing is stored
and no call may be made. Everything else takes the whole way. Whatever could withdraw an authorisation ends the epoch,
and all standings with it.
"""

import os
import re
from http import HTTPStatus
from time import perf_counter

from aiohttp import HttpVersion, HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDictProxy
from typing_extensions import override

from campaign_gateway.contract.operations import GET, LITERALS
from campaign_gateway.policy.conditions import is_not_modified
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.exchange import Exchange
from campaign_gateway.proxy.ports import HitLog, RequestMeter
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.web.answers import VERSION, Bounds
from campaign_gateway.web.refused import Form, Forms, QuotaOf
from campaign_gateway.web.server import ASKED
from campaign_gateway.web.sheets import Sheet, Sheets

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
    """Who asks, and how: answers with hits and refusals, counts and logs them."""

    __slots__ = (
        *(
            "_ask",
            "_caller",
            "_client",
            "_count_not_modified",
            "_count_ok",
            "_current_age",
            "_forms",
            "_is_head",
            "_is_refused",
            "_log",
            "_log_hit",
            "_make",
            "_meter",
            "_sheets",
        ),
        *("_exchange", "_find", "look_up"),
    )

    def __init__(
        self,
        exchange: Exchange,
        sheets: Sheets,
        meter: RequestMeter,
        log: HitLog,
        method: str,
        ask: Request,
        forms: Forms,
    ) -> None:
        operation, client, stream = ask.operation.name, ask.client, ask.stream
        self._ask = ask
        self._client = client
        self._exchange, self._meter, self._log, self._forms = exchange, meter, log, forms
        self._is_refused = False
        """Whether the last one of this standing for what is not stored was refused."""
        self._is_head = method == hdrs.METH_HEAD
        self._current_age, self._make, self._log_hit = exchange.current_age, sheets.make, log.hit
        self._sheets = sheets.of_stream(stream.identity)
        self.look_up, self._find = sheets.look_up, sheets.find
        self._count_ok = meter.hits(operation, client, HTTPStatus.OK).hit
        self._count_not_modified = meter.hits(operation, client, HTTPStatus.NOT_MODIFIED).hit
        members = {"method": method, "operation": operation, "client": client, "stream": stream.alias}
        self._caller = log.caller(members)

    def answer(self, id_: bytes, request_id: bytes, tags: str | None, began: float) -> bytes | None:
        """The whole answer, if there is a hit for the campaign, or a refusal; it counts as given.

        Args:
            id_: of the campaign, as it came.
            request_id: plain.
            tags: of the caller's copy, see `tags_of`.
            began: when the request came, on the performance counter.
        """
        sheet = self._sheets.get(id_)
        if sheet is None or (age := self._current_age(sheet.hit, self._client)) is None:
            ask = self.ask_for(id_)
            sheet = None if ask is None else self._make(ask)
            if sheet is None or (age := self._current_age(sheet.hit, self._client)) is None:
                return None if ask is None else self._refuse_missing(ask, request_id, began)
        return self.render(sheet, age, request_id, tags, began)

    def _refuse_missing(self, ask: Request, request_id: bytes, began: float) -> bytes | None:
        """The refusal, if it is certain that nothing is stored and no call may be made."""
        if self._exchange.holds(ask) is not False or (reply := self._exchange.refused(ask)) is None:
            return None
        form = self.form_of(reply)
        return None if form is None else self.refuse(ask.id, form, reply, request_id, began)

    def form_of(self, reply: Reply) -> Form | None:
        """The reply as bytes, but for the request's id, if it is a refusal; see `refuse`."""
        return self._forms.of(reply)

    def refuse(self, id_: str, form: Form, reply: Reply, request_id: bytes, began: float) -> bytes:
        """The whole answer to one who is refused; it counts as given."""
        self._is_refused = True
        answer = form.answer(request_id, has_body=not self._is_head)
        status, outcome = form.failure.problem.status, reply.outcome
        members = {"campaign": id_, "status": status, "cache": outcome.cache, "detail": outcome.detail}
        seconds = perf_counter() - began
        self._meter.request(self._ask.operation.name, self._client, status, outcome.cache, seconds)
        self._log_hit(request_id, self._caller, self._log.ageless(members), seconds)
        return answer

    async def find(self, ask: Request, last: Sheet | None) -> "Found | None":
        """See `Sheets.find`."""
        found = await self._find(ask, last)
        if found is None and last is None:
            # The next one for what is not stored takes the whole way, with one look-up.
            self._is_refused = False
        return found

    def render_found(
        self, ask: Request, found: "Found", request_id: bytes, tags: str | None, began: float
    ) -> bytes | None:
        """The whole answer, if it is one that is rendered here; it counts as given then."""
        if not isinstance(found, Reply):
            return self.render(*found, request_id, tags, began)
        form = self.form_of(found)
        return None if form is None else self.refuse(ask.id, form, found, request_id, began)

    def wanted(self, id_: bytes) -> tuple[Request, Sheet | None] | None:
        """What to `find`, with its last sheet: what is not local, and was there a moment ago or would be refused."""
        sheet = self._sheets.get(id_)
        if (not self._is_refused) if sheet is None else (sheet.hit.raw is None):
            return None
        ask = self.ask_for(id_)
        if ask is None or (sheet is None and self._exchange.holds(ask) is not None):
            return None
        return ask, sheet

    def ask_for(self, id_: bytes) -> Request | None:
        """What is asked for by this id, if it can be a campaign's."""
        if not _ID.fullmatch(id_) or (id_text := id_.decode()) in LITERALS:
            return None
        return Request(self._ask.stream, self._ask.operation, id_text, self._ask.client)

    def render(self, sheet: Sheet, age: float, request_id: bytes, tags: str | None, began: float) -> bytes:
        """The whole answer from this sheet at this age in seconds; it counts as given."""
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
        return answer


Found = tuple[Sheet, float] | Reply
"""A hit's sheet and its age in seconds, or a refusal."""

STANDING = web.RequestKey("STANDING", Standing)
"""On a request that was answered with a hit, or refused for want of calls, and is plain."""


class Standings:
    """The standings there are, for as long as their authorisations hold."""

    def __init__(
        self, exchange: Exchange, bounds: Bounds, meter: RequestMeter, log: HitLog, epoch: Epoch, quota: QuotaOf
    ) -> None:
        """Standings.

        Args:
            exchange: says what is a hit.
            bounds: the staleness to announce.
            meter: where hits are counted.
            log: where their lines go.
            epoch: ends when authorisations do.
            quota: tells a client's share of an account's calls.
        """
        self.epoch = epoch
        self._bounds, self._quota = bounds, quota
        self._exchange = exchange
        self._meter = meter
        self._log = log
        self.sheets = Sheets(exchange, bounds, log)
        self._known: dict[_Key, Standing] = {}
        self._number = epoch.number

    def __len__(self) -> int:
        return len(self._known)

    def learn(self, request: web.BaseRequest, epoch: int) -> None:
        """Remembers who asked and how, if the request was answered with a hit or refused for want of calls.

        Args:
            request: that was answered.
            epoch: that of the moment when it was authorised.
        """
        ask = request.get(ASKED)
        if ask is None or epoch != self.epoch.number or not _is_plain(request, ask):
            return
        forms = Forms(self._bounds, self._quota, ask.stream, ask.client)
        standing = Standing(self._exchange, self.sheets, self._meter, self._log, request.method, ask, forms)
        request[STANDING] = standing
        if sum(len(name) + len(value) for name, value in request.raw_headers) > MAX_FIELDS_BYTES:
            return
        if self._number != epoch or len(self._known) >= MAX_KNOWN:
            self._known.clear()
            self._number = epoch
        self._known[_key(request, request.raw_path.rpartition("/")[0])] = standing

    def find(self, request: web.BaseRequest, began: float) -> "Known | None":
        """The request as one of a standing's, if it is."""
        before, _, id_ = request.raw_path.rpartition("/")
        standing = self._known.get(_key(request, before))
        if standing is None or self._number != self.epoch.number:
            return None
        return Known(request, standing, id_.encode("utf-8", "surrogateescape"), began)


class Known:
    """A request that has a standing."""

    __slots__ = ("_began", "_id", "_request", "_standing", "_tags", "request_id")

    def __init__(self, request: web.BaseRequest, standing: Standing, id_: bytes, began: float) -> None:
        headers = request.headers
        self._request, self._standing, self._id, self._began = request, standing, id_, began
        self._tags = tags_of(headers)
        self.request_id = request_id_of(headers)
        """The request's own or a new one."""

    @property
    def ask(self) -> Request | None:
        """What it asks for, if that can be there."""
        return self._standing.ask_for(self._id)

    def answer(self) -> "Rendered | None":
        """The answer, if there is a local hit; it counts as given."""
        request_id = self.request_id.encode("ascii")
        answer = self._standing.answer(self._id, request_id, self._tags, self._began)
        return None if answer is None else self._to_send(answer)

    def render(self, sheet: Sheet, age: float) -> "Rendered":
        """The answer from this sheet at this age in seconds; it counts as given."""
        request_id = self.request_id.encode("ascii")
        return self._to_send(self._standing.render(sheet, age, request_id, self._tags, self._began))

    def refuse(self, ask: Request, reply: Reply) -> "Rendered | None":
        """The answer, if the reply is a refusal; it counts as given."""
        form = self._standing.form_of(reply)
        if form is None:
            return None
        request_id = self.request_id.encode("ascii")
        return self._to_send(self._standing.refuse(ask.id, form, reply, request_id, self._began))

    async def look_up(self, ask: Request) -> tuple[Sheet, float] | Reply:
        """See `Sheets.look_up`."""
        return await self._standing.look_up(ask)

    def _to_send(self, answer: bytes) -> "Rendered":
        self._request[STANDING] = self._standing
        return Rendered(self._request.writer, answer)


def _is_plain(request: web.BaseRequest, ask: Request) -> bool:
    """Whether the request, which was taken for `request`, asks for a campaign by id and says nothing more about it."""
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

    def __init__(self, to: AbstractStreamWriter, answer: bytes) -> None:
        # Not the base's own: of all that it sets up, nobody asks for more than this.
        self._keep_alive = True
        self._to = to
        self._answer = answer

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return self._to

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        await self._to.write_eof(self._answer)
