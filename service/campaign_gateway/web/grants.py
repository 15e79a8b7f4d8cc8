"""Grants: what a head means is found out once, not for each request.

Most reads by id differ from one before in nothing but the id, the request's id, the tags of a copy, and fields that
mean nothing to the answer. Who asks, for which kind of thing and how, is a *grant*: given when a request has passed
every check of the API, and recalled for an equal head, on any connection. Whatever could withdraw an authorisation ends
the epoch, and all grants with it.
"""

import re
from collections.abc import Coroutine
from dataclasses import dataclass, field
from time import perf_counter

from aiohttp import hdrs, web

from campaign_gateway.contract.operations import LITERALS, Operation
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.web.clients import NO_KEY, ClientKey
from campaign_gateway.web.heads import Head, Sights, head_of, is_plain
from campaign_gateway.web.limits import ClientLimits
from campaign_gateway.web.record import CallerRecorder, Recorder
from campaign_gateway.web.rendered import NOT_MODIFIED_END, NUMBERS, Fresh, RenderedHit, RenderedHits
from campaign_gateway.web.rendered_refusals import QuotaOf, RenderedRefusals
from campaign_gateway.web.responses import Bounds, Fail

MAX_HEADS = 256
"""Heads that are remembered."""
MAX_SIGHTS = 1_024
"""Heads that are known to have come once."""
MAX_FIELDS_BYTES = 4_096
"""A head with more in the fields that matter is not remembered: memory is bounded."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_LITERALS = frozenset(literal.encode() for literal in LITERALS)


@dataclass(frozen=True, slots=True)
class Caller:
    """What a grant is for."""

    method: str
    stream: Stream
    operation: Operation
    client: str
    route: str
    """Of the path, with placeholders."""
    limits: ClientLimits | None = field(default=None, compare=False)
    """The client's own; None where it has none."""
    key: ClientKey = NO_KEY
    """What the client has shown."""


class Grant:
    """Who may read what, and how; answers such reads, and writes them down."""

    __slots__ = (
        *("_caller", "_caller_text", "_client", "_count_not_modified", "_count_ok", "_current_age", "_date", "_hits"),
        *("_is_head", "_is_refused", "_key", "_log", "_now", "_reader", "_record", "_refusals"),
        *("epoch", "limits", "look_up", "rendered", "route", "validity"),
    )

    def __init__(
        self,
        caller: Caller,
        reader: Exchange,
        hits: RenderedHits,
        record: CallerRecorder,
        refusals: RenderedRefusals,
        now: Epoch,
    ) -> None:
        self._caller = caller
        self._reader, self._hits, self._record, self._refusals, self._now = reader, hits, record, refusals, now
        self.epoch = now.number
        """The one in which it holds."""
        self.limits, self.route = caller.limits, caller.route
        self._client, self._key = caller.client, caller.key
        self._current_age = reader.current_age
        self._count_ok, self._count_not_modified = record.count_ok, record.count_not_modified
        self._log, self._caller_text = record.write, record.caller
        self.look_up = hits.answer
        """See `RenderedHits.answer`: what `local` does not have, from wherever it has to be had."""
        self.validity = reader.validity
        self.rendered = hits.of(caller.stream.identity, caller.operation.resource)
        self._date = hits.date
        self._is_head = caller.method == hdrs.METH_HEAD
        self._is_refused = False
        """Whether the last request for what is not stored was refused."""

    def request(self, id_: str, directives: RequestDirectives = NO_DIRECTIVES) -> Request:
        """The read of this id."""
        caller = self._caller
        self._key.used = perf_counter()
        return Request(caller.stream, caller.operation, id_, caller.client, directives)

    def answer(
        self, id_: bytes, request_id: bytes, tags: str | None, began: float, trace: TraceContext | None = None
    ) -> bytes | None:
        """The whole answer, if there is a rendered hit, or a refusal that is certain; it counts as given.

        Args:
            id_: what is asked for, plain.
            request_id: plain.
            tags: of the caller's copy, see `heads.tags_of`.
            began: when the request came, on the performance counter.
            trace: that it belongs to.
        """
        rendered = self.rendered.get(id_)
        if rendered is None or (age := self._current_age(rendered.hit, self._client)) is None:
            if id_ in _LITERALS:
                return None
            request = self.request(id_.decode())
            found = self.local(request)
            if not isinstance(found, tuple):
                return None if found is None else self.refuse(found, request, request_id, began, trace)
            rendered, age = found
        return self.write(rendered, age, request_id, tags, began, trace=trace)

    def local(self, request: Request) -> Fresh | Reply | None:
        """What can be had at once: a fresh local answer, or a refusal that is certain."""
        hit = self._reader.hit(request)
        if hit is None:
            return self._certain_refusal(request) if request.directives == NO_DIRECTIVES else None
        age = self._current_age(hit, self._client)
        return None if age is None else self._hits.rendered(hit, age)

    def find(
        self, id_: bytes, request_id: bytes, tags: str | None, began: float, trace: TraceContext | None = None
    ) -> Coroutine[None, None, bytes | None] | None:
        """The whole answer, if the store gives one in one trip; it counts as given. Arguments as for `answer`.

        None where that is not to be expected: only what was there a moment ago, or would be refused, is worth the trip.
        """
        last = self.rendered.get(id_)
        if id_ in _LITERALS or ((not self._is_refused) if last is None else (last.hit.raw is None)):
            return None
        request = self.request(id_.decode())
        if last is None and self._reader.holds(request) is not None:
            return None
        return self._find(request, request_id, tags, began, trace)

    async def _find(
        self, request: Request, request_id: bytes, tags: str | None, began: float, trace: TraceContext | None
    ) -> bytes | None:
        last = self.rendered.get(request.id.encode())
        found = await self._hits.find(request, last)
        if found is None and last is None:
            # The next one for what is not stored takes the whole road, with one look-up.
            self._is_refused = False
        if found is None or self.epoch != self._now.number:
            return None
        if isinstance(found, Reply):
            return self.refuse(found, request, request_id, began, trace)
        return self.write(*found, request_id, tags, began, trace=trace)

    def write(
        self,
        rendered: RenderedHit,
        age: float,
        request_id: bytes,
        tags: str | None,
        began: float,
        since: str | None = None,
        trace: TraceContext | None = None,
    ) -> bytes:
        """The whole answer with this hit at this age; it counts as given. `since`: the value of `If-Modified-Since`."""
        ended, date, hit = perf_counter(), self._date, rendered.hit
        self._key.used = ended
        if ended >= date.until:
            date.refresh(ended)
        form, end, body, count = rendered.form, rendered.end, rendered.body, self._count_ok
        if (tags is not None or since is not None) and rendered.is_held(tags, since):
            form, end, body, count = self._hits.not_modified(hit), NOT_MODIFIED_END, b"", self._count_not_modified
        elif self._is_head:
            body = b""
        seconds, text, ttl = ended - began, NUMBERS[int(age)], NUMBERS[int(hit.lifetime - age)]
        count(seconds, age)
        self._log(request_id, self._caller_text, rendered.shown, form.line, text, ended, seconds, trace)
        start, id_field, moment = form.start, form.before_id, date.text
        return b"".join((start, ttl, form.after_ttl, text, rendered.fields, id_field, request_id, end, moment, body))

    def refuse(
        self, reply: Reply, request: Request, request_id: bytes, began: float, trace: TraceContext | None = None
    ) -> bytes | None:
        """The whole answer, if the reply is a refusal; it counts as given."""
        refusal = self._refusals.of(reply)
        if refusal is None:
            return None
        self._is_refused = True
        answer = refusal.answer(request_id, is_head=self._is_head)
        self._record.refusal(reply, request.id, refusal.status, request_id, began, trace)
        return answer

    def _certain_refusal(self, request: Request) -> Reply | None:
        """The refusal, if it is known that nothing is stored and no call may be made."""
        return self._reader.refused(request) if self._reader.holds(request) is False else None


class Grants:
    """The grants there are, for as long as their authorisations hold."""

    def __init__(
        self, reader: Exchange, recorder: Recorder, hits: RenderedHits, bounds: Bounds, epoch: Epoch, quota: QuotaOf
    ) -> None:
        """Grants.

        Args:
            reader: says what is a hit.
            recorder: writes answers down.
            hits: the rendered ones.
            bounds: the staleness to announce.
            epoch: ends when authorisations do.
            quota: a client's share of an account's calls.
        """
        self._reader, self._recorder, self._bounds, self._quota = reader, recorder, bounds, quota
        self.hits = hits
        self._epoch = epoch
        self._number = epoch.number
        self._by_caller: dict[tuple[Caller, Fail], Grant] = {}
        """By caller, its key among them, and how failures look: closed sets, both of them."""
        self._by_head: dict[Head, Grant] = {}
        self._sights = Sights(MAX_SIGHTS)

    def __len__(self) -> int:
        return len(self._by_head)

    def give(self, caller: Caller, fail: Fail) -> Grant:
        """The grant of a request that has passed every check just now; `fail` renders its failures."""
        self._end_old_ones()
        grant = self._by_caller.get((caller, fail))
        if grant is None:
            operation, stream = caller.operation.name, caller.stream
            record = self._recorder.of_caller(caller.method, caller.route, operation, caller.client, stream.alias)
            refusals = RenderedRefusals(self._bounds, self._quota, stream, caller.client, fail)
            grant = Grant(caller, self._reader, self.hits, record, refusals, self._epoch)
            self._by_caller[caller, fail] = grant
        return grant

    def learn(self, http: web.BaseRequest, id_: str, grant: Grant) -> bool:
        """Whether the request's head, for this id, says nothing that the grant does not; then an equal one is its too.

        It is remembered when it comes for the second time.
        """
        if not is_plain(http, id_):
            return False
        head, _ = head_of(http)
        if sum(len(name) + len(value) for name, value in head[3]) <= MAX_FIELDS_BYTES and self._sights.is_again(head):
            self._end_old_ones()
            if len(self._by_head) >= MAX_HEADS:
                self._by_head.clear()
            self._by_head[head] = grant
        return True

    def recall(self, http: web.BaseRequest) -> tuple[Grant | None, str]:
        """The grant of an equal head, if there is one, and the id that this one asks for."""
        head, id_ = head_of(http)
        grant = self._by_head.get(head)
        if grant is None or grant.epoch != self._epoch.number or not _ID.fullmatch(id_) or id_ in LITERALS:
            return None, id_
        return grant, id_

    def _end_old_ones(self) -> None:
        if self._number != self._epoch.number:
            self._number = self._epoch.number
            self._by_caller.clear()
            self._by_head.clear()
