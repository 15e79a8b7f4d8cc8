"""From what a request is for to what the story is asked: reads, batches, what is sent on, purges, hints."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.document import DocumentError
from campaign_gateway.contract.ids import is_id
from campaign_gateway.contract.operations import Family, Operation, RequestBody, operation
from campaign_gateway.contract.requests import channel_of, list_request
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.proxy.forward import Forwarder
from campaign_gateway.proxy.hints import Hints
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.web.bodies import JSON_OR_FORM, ONLY_JSON, Body, read_body
from campaign_gateway.web.queries import MAX_PAGE_ROWS
from campaign_gateway.web.rejected import invalid
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.routes import Action, Target

MAX_QUESTION_BYTES = 64 * 2**10
"""Of the body of a read: what a list is asked for. Filters are sorted, which takes its time."""
MAX_NAMED = 1_000
"""Campaigns in one purge or hint; beyond, all of them is the shorter word."""

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Authorized:
    """A request that may go on: what it is for, and who wants it."""

    http: web.BaseRequest
    target: Target
    stream: Stream
    client: str
    directives: RequestDirectives

    @property
    def operation(self) -> Operation:
        """The platform's, as far as the target names it; a write's may depend on the channel."""
        return self.target.operation or operation(self.target.name)

    @property
    def is_plain_read(self) -> bool:
        """Whether it asks for one stored answer by its id, whole."""
        target = self.target
        return target.action is Action.READ and bool(target.id) and target.fields is None


class Actions:
    """Asks the story."""

    def __init__(
        self, exchange: Exchange, forwarder: Forwarder, invalidator: Invalidator, max_body: int, hints: Hints
    ) -> None:
        """Actions.

        Args:
            exchange: answers reads.
            forwarder: sends on what is never stored.
            invalidator: purges.
            max_body: the largest body of a request, in bytes.
            hints: takes hints.
        """
        self._exchange = exchange
        self._forwarder = forwarder
        self._invalidator = invalidator
        self._max_body = max_body
        self._hints = hints

    async def read(self, authorized: Authorized) -> Reply:
        """One read, from the cache or through it."""
        target, row = authorized.target, authorized.operation
        body = target.body
        if row.body is RequestBody.JSON and body is None:
            body = self._list_body((await self._body(authorized, row.body, MAX_QUESTION_BYTES)).document)
        request = Request(
            authorized.stream, row, target.id, authorized.client, authorized.directives, target.fields, body
        )
        return await self._exchange.read(request)

    async def batch(self, authorized: Authorized, hits: RenderedHits) -> Sequence[Reply]:
        """The reads of all ids, at once; of hits that still stand nothing is asked."""
        target, ids, directives = authorized.target, authorized.target.parameters["ids"], authorized.directives
        each = Request(authorized.stream, operation("get"), "", authorized.client, directives, target.fields)
        kept = hits.replies(each, ids) if directives == NO_DIRECTIVES else [None] * len(ids)
        rest = [replace(each, id=id_) for id_, reply in zip(ids, kept, strict=True) if reply is None]
        read = iter(await self._exchange.read_all(rest))
        return [
            next(read)
            if reply is None
            else reply
            if target.fields is None
            else await self._exchange.cut(replace(each, id=id_), reply)
            for id_, reply in zip(ids, kept, strict=True)
        ]

    async def send(self, authorized: Authorized) -> Reply:
        """Something that is sent on and never stored."""
        target, row = authorized.target, authorized.operation
        if target.operation is None and target.name == "outcomes":
            page = {"page": 1, "limit": MAX_PAGE_ROWS, **target.parameters}
            body = Body(_encode(page), page)
        else:
            body = await self._body(authorized, row.body)
        values: dict[str, str] = {}
        if "campaignName" in target.parameters:
            values["name"] = target.parameters["campaignName"]
        if "campaignType" in row.query and (target.operation is None or "{type}" in row.query):
            located = await self._locate(authorized, body.document)
            if isinstance(located, Reply):
                return located
            values["type"] = located
            row = target.operation or _creation(target.name, located, body.document)
        return await self._forwarder.send(
            Request(authorized.stream, row, target.id, authorized.client, body=body.raw, values=values)
        )

    async def purge(self, authorized: Authorized) -> Reply:
        """Stored answers made stale until they are validated."""
        document = (await self._body(authorized, RequestBody.JSON)).document
        match document:
            case {"all": True, **rest} if not rest:
                campaigns = None
            case _:
                campaigns = _campaigns_in(document)
                if campaigns is None:
                    raise invalid(f'the body is {{"campaigns": [1 to {MAX_NAMED} ids]}} or {{"all": true}}')
        is_shared = await self._invalidator.purge(authorized.stream, campaigns, authorized.client)
        body = _encode({"purged": "all" if campaigns is None else campaigns})
        if is_shared:
            return Reply(Outcome(), passed=Response(HTTPStatus.OK, "application/json", body))
        # Done here; the other replicas are told as soon as Redis takes it.
        taken = Response(HTTPStatus.ACCEPTED, "application/json", body)
        return Reply(Outcome(detail=Detail.UNSHARED), passed=taken)

    async def hint(self, authorized: Authorized) -> Reply:
        """Campaigns that are said to have changed, to be read first."""
        campaigns = _campaigns_in((await self._body(authorized, RequestBody.JSON)).document)
        if campaigns is None:
            raise invalid(f'the body is {{"campaigns": [1 to {MAX_NAMED} ids]}}')
        await self._hints.give(authorized.stream, campaigns, authorized.client)
        # Stale from now on, that is done; the reads are still to come (RFC 9110 section 15.3.3).
        taken = Response(HTTPStatus.ACCEPTED, "application/json", _encode({"accepted": campaigns}))
        return Reply(Outcome(), passed=taken)

    async def _locate(self, authorized: Authorized, document: Any) -> str | Reply:
        """Voice or SMS: as the request says, or the campaign itself; the reply says why neither does."""
        given = authorized.target.parameters.get("type") or channel_of(document)
        if given is not None:
            return str(given)
        if not authorized.target.id:
            raise invalid("the body does not show whether it is for voice or sms: set type")
        return await self._forwarder.channel(authorized.stream, authorized.target.id, authorized.client)

    async def _body(self, authorized: Authorized, kind: RequestBody, most: int | None = None) -> Body:
        # The platform's own samples declare nothing, so its clients declare what their libraries do.
        types = ONLY_JSON if authorized.target.stream_id is None else JSON_OR_FORM
        return await read_body(authorized.http, kind, min(self._max_body, most or self._max_body), types)

    @staticmethod
    def _list_body(document: Any) -> bytes:
        try:
            return list_request(document)
        except DocumentError as error:
            raise invalid(str(error)) from error


def _creation(name: str, channel: str, document: Any) -> Operation:
    """The platform's place for this: advanced SMS campaigns are made elsewhere."""
    is_advanced = name == "create" and channel == "sms" and isinstance(document, dict)
    family = Family.D if is_advanced and document.get("format") == "advanced" else None
    return operation(name, channel=channel, family=family)


def _campaigns_in(document: Any) -> list[str] | None:
    """The campaigns that a body names, each once; None where it names none, too many, or anything else."""
    match document:
        case {"campaigns": [*ids], **rest} if not rest and 0 < len(ids) <= MAX_NAMED and all(map(_is_id, ids)):
            return list(dict.fromkeys(ids))
        case _:
            return None


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)
