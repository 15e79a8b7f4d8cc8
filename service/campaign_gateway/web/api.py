"""The API: one handler that takes every request from its head to its answer.

One road: authorise, or recall the grant of an equal head; get the answer; make it bytes; write it down.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from aiohttp import hdrs, web

from campaign_gateway.contract.operations import Subject, operation
from campaign_gateway.policy.directives import RequestDirectives, read_directives
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.writers import parse_write_token
from campaign_gateway.web import platform_paths, routes
from campaign_gateway.web.actions import Actions, Authorized
from campaign_gateway.web.batch import render_batch
from campaign_gateway.web.changes import Changes
from campaign_gateway.web.clients import Client, Clients, allow
from campaign_gateway.web.docs.pages import DOCS, page_at, render_page
from campaign_gateway.web.grants import Caller, Grant, Grants
from campaign_gateway.web.heads import new_request_id, request_id_of, tags_of, trace_of
from campaign_gateway.web.limits import admitted
from campaign_gateway.web.packed import Packer
from campaign_gateway.web.record import Record, Recorder
from campaign_gateway.web.rejected import RejectedError, nothing_here
from campaign_gateway.web.rendered import Fresh
from campaign_gateway.web.rendered_refusals import QuotaOf
from campaign_gateway.web.responses import (
    VERSION,
    Bounds,
    Fail,
    concerns_quota,
    quota_fields,
    render,
    render_failure,
    render_options,
)
from campaign_gateway.web.routes import Action, Target
from campaign_gateway.web.server import fault_of
from campaign_gateway.web.written import Written

_log = logging.getLogger("campaign_gateway.requests")


class Api:
    """Answers requests on the API port."""

    def __init__(
        self,
        *,
        actions: Actions,
        streams: Mapping[str, Stream],
        default_stream: str | None,
        clients: Clients,
        bounds: Bounds,
        recorder: Recorder,
        quota: QuotaOf,
        grants: Grants,
        changes: Changes | None = None,
        has_docs: bool = True,
    ) -> None:
        """The API.

        Args:
            actions: asks the story.
            streams: by alias.
            default_stream: the alias for paths that name none.
            clients: who may.
            bounds: the staleness to announce.
            recorder: writes answers down.
            quota: a client's share of an account's calls.
            grants: answers reads by id.
            changes: answers those who listen; None where nobody can.
            has_docs: whether it shows its description, to everybody.
        """
        self._has_docs = has_docs
        self._actions = actions
        self._streams = streams
        self._default_stream = default_stream
        self._clients = clients
        self._bounds = bounds
        self._recorder = recorder
        self._quota = quota
        self._grants = grants
        self._packer = Packer()
        self._changes = changes
        self.epoch = clients.epoch
        """Ends when what was authorised before has to be authorised anew."""
        self.is_draining = False
        """While set, every answer closes its connection: callers go elsewhere before the listener is gone."""

    def drain(self) -> None:
        """From the next request on, open connections are closed with their answers."""
        self.is_draining = True
        self.epoch.end()

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """The answer, whatever happens."""
        began, request_id, trace = time.perf_counter(), request_id_of(http.headers), trace_of(http.headers)
        grant, id_ = self._grants.recall(http)
        limits = None if grant is None else grant.limits
        if grant is not None and (limits is None or limits.allows(http.protocol, began)):
            answer = grant.answer(id_.encode("ascii"), request_id.encode("ascii"), tags_of(http.headers), began, trace)
            if answer is not None:
                if limits is not None:
                    limits.take(began)
                return self._closing(Written(http, answer, grant))
        record = Record(http.method, request_id, began, trace=trace)
        self._recorder.begin(record)
        is_platform_path = not http.raw_path.startswith("/v1/") and platform_paths.is_platform_path(http.raw_path)
        fail = platform_paths.render_platform_failure if is_platform_path else render_failure
        response: web.StreamResponse
        try:
            if grant is not None:
                request = grant.request(id_)
                record.operation, record.client, record.route = request.operation.name, request.client, grant.route
                with admitted(limits, http, began):
                    record.campaign, record.stream = request.id, request.stream.alias
                    response = self._read(http, record, grant, request, await grant.look_up(request), fail)
            else:
                find = platform_paths.find if is_platform_path else routes.find
                response = await self._answer(http, record, find, fail)
        except RejectedError as error:
            record.operation = error.operation or record.operation
            if http.method == hdrs.METH_OPTIONS and error.allow is not None:
                response = render_options(error.allow, record.request_id)
            else:
                record.failure, record.peer, record.reason = error.failure, http.remote, error.reason
                response = fail(error.failure, record.request_id)
                if error.allow is not None:
                    response.headers[hdrs.ALLOW] = error.allow
            if error.has_to_close:
                response.force_close()
        except Exception:  # noqa: BLE001 - the last line of defence: the caller gets an answer, its id finds the reason
            _log.exception("request failed", extra={"fields": {"request_id": record.request_id}})
            failure = record.failure = Failure(Problem.INTERNAL, "an error in the gateway; its log has the request id")
            response = fail(failure, record.request_id)
        if not isinstance(response, Written):
            self._recorder.write(record, response.status)
        return self._closing(response)

    def _closing(self, response: web.StreamResponse) -> web.StreamResponse:
        """The response, which closes its connection while the gateway drains."""
        if self.is_draining:
            response.force_close()
        return response

    def refuse(self, failure: Failure) -> web.Response:
        """The answer to something that the parser would not take for a request."""
        record = Record("none", new_request_id(), time.perf_counter(), failure=failure)
        response = render_failure(failure, record.request_id)
        self._recorder.write(record, response.status)
        return response

    async def _answer(
        self, http: web.BaseRequest, record: Record, find: Callable[[str, str], Target], fail: Fail
    ) -> web.StreamResponse:
        if (fault := fault_of(http)) is not None:
            raise RejectedError(Problem.INVALID_REQUEST, fault, has_to_close=True)
        make_page = page_at(http.method, http.raw_path, http.headers, has_docs=self._has_docs)
        if make_page is not None:
            record.operation = DOCS
            # To make the first page of a kind, and to pack it, takes 40 ms.
            return await asyncio.to_thread(lambda: render_page(make_page(), http.headers, record.request_id))
        if http.method == hdrs.METH_OPTIONS:
            # Needs no key: the paths and their methods are public. No path takes it, so this raises.
            find(http.method, http.raw_path)
        client = self._identify(http, record, find)
        with admitted(client.limits, http, record.began):
            return await self._answer_client(http, record, client, find, fail)

    async def _answer_client(
        self, http: web.BaseRequest, record: Record, client: Client, find: Callable[[str, str], Target], fail: Fail
    ) -> web.StreamResponse:
        authorized = self._authorise(http, record, client, find)
        target, stream = authorized.target, authorized.stream
        if authorized.is_plain_read:
            caller = Caller(
                http.method, stream, authorized.operation, client.name, target.route, client.limits, client.key
            )
            grant = self._grants.give(caller, fail)
            is_plain = self._clients.certified(http) is None and self._grants.learn(http, target.id, grant)
            request = grant.request(target.id, authorized.directives)
            found = grant.local(request) or await grant.look_up(request)
            return self._read(http, record, grant, request, found, fail, is_plain=is_plain)
        if target.action is Action.BATCH:
            record.replies = await self._actions.batch(authorized, self._grants.hits)
            size = sum(len(reply.entry.body) for reply in record.replies if reply.entry is not None)
            parts = target.parameters["ids"], record.replies, record.request_id, http.headers
            return await beside(size, render_batch, *parts)
        if target.action is Action.CHANGES and self._changes is not None:
            return await self._changes.answer(authorized, record, self._permission(authorized, client))
        reply = await self._perform(authorized)
        may_pack = target.action is Action.READ and not target.id
        response = self._render(http, record, reply, stream, _subject_of(target), fail, may_pack=may_pack)
        return await self._packer.pack(response)

    def _permission(self, authorized: Authorized, client: Client) -> Callable[[], bool]:
        """Says whenever it is asked whether who was authorised still is, and this process goes on."""
        known_in = self.epoch.number

        def may_go_on() -> bool:
            nonlocal known_in
            epoch = self.epoch.number
            if known_in != epoch and self._is_authorized(authorized, client):
                known_in = epoch
            return known_in == epoch and not self.is_draining

        return may_go_on

    def _is_authorized(self, authorized: Authorized, client: Client) -> bool:
        http = authorized.http
        try:
            now = self._clients.certified(http) or self._clients.identify(http.headers.getall(hdrs.AUTHORIZATION, []))
            allow(now, authorized.stream.alias, authorized.target.scope)
        except RejectedError:
            return False
        return now.name == client.name

    def _identify(self, http: web.BaseRequest, record: Record, find: Callable[[str, str], Target]) -> Client:
        """Whose request it is.

        Raises:
            RejectedError: it goes no further.
        """
        try:
            self._clients.admit(http.headers)
            client = self._clients.certified(http)
            if client is None:
                client = self._clients.identify(http.headers.getall(hdrs.AUTHORIZATION, []))
            record.client = client.name
            if client.limits is not None:
                client.limits.check(http.protocol, record.began)
        except RejectedError:
            # Whoever looks for a caller without a right key, or that asks too often, wants to know what it asks for.
            with suppress(RejectedError):
                record.operation = find(http.method, http.raw_path).name
            raise
        return client

    def _authorise(
        self, http: web.BaseRequest, record: Record, client: Client, find: Callable[[str, str], Target]
    ) -> Authorized:
        """What the request is for, if the client may have that.

        Raises:
            RejectedError: it goes no further.
        """
        target = find(http.method, http.raw_path)
        record.operation, record.campaign, record.route = target.name, target.id or None, target.route
        alias = self._alias_of(target, client)
        record.stream = alias if alias in self._streams else None
        allow(client, alias, target.scope)
        return Authorized(http, target, self._streams[alias], client.name, _directives(http))

    def _read(
        self,
        http: web.BaseRequest,
        record: Record,
        grant: Grant,
        request: Request,
        found: Fresh | Reply,
        fail: Fail,
        *,
        is_plain: bool = True,
    ) -> web.StreamResponse:
        """The answer to a read by id, with what was found for it."""
        request_id = record.request_id.encode("ascii")
        if not isinstance(found, Reply):
            since = None if is_plain else http.headers.get(hdrs.IF_MODIFIED_SINCE)
            answer = grant.write(*found, request_id, tags_of(http.headers), record.began, since, record.trace)
        elif (refused := grant.refuse(found, request, request_id, record.began, record.trace)) is not None:
            answer = refused
        else:
            return self._render(http, record, found, request.stream, request.operation.subject, fail)
        return Written(http, answer, grant if is_plain else None)

    def _render(
        self,
        http: web.BaseRequest,
        record: Record,
        reply: Reply,
        stream: Stream,
        subject: Subject,
        fail: Fail,
        *,
        may_pack: bool = False,
    ) -> web.Response:
        record.replies, record.failure = (reply,), reply.failure
        response = render(reply, http.headers, self._bounds, record.request_id, subject, fail, may_pack=may_pack)
        if concerns_quota(reply):
            response.headers.update(quota_fields(self._quota(stream.tenant.account, record.client)))
        return response

    async def _perform(self, authorized: Authorized) -> Reply:
        match authorized.target.action:
            case Action.READ | Action.BATCH:
                return await self._actions.read(authorized)
            case Action.SEND:
                return await self._actions.send(authorized)
            case Action.PURGE:
                return await self._actions.purge(authorized)
            case Action.HINT:
                return await self._actions.hint(authorized)
            case Action.CHANGES:
                raise nothing_here()

    def _alias_of(self, target: Target, client: Client) -> str:
        """The alias of the stream that the target names, or what it names that is none of the client's.

        Raises:
            RejectedError: it names none, and none is the default.
        """
        if target.stream_id is not None:
            # Looked for among the client's own: whether there is another one stays unsaid.
            own = (alias for alias in client.streams if self._streams[alias].tenant.stream == target.stream_id)
            return min(own, default="")
        alias = self._default_stream if target.stream is None else target.stream
        if alias is None:
            raise RejectedError(Problem.UNKNOWN_STREAM, "no stream is the default: name one in the path")
        return alias


def _directives(http: web.BaseRequest) -> RequestDirectives:
    headers = http.headers
    directives = read_directives(_joined(headers.getall(hdrs.CACHE_CONTROL, [])), headers.get(hdrs.PRAGMA))
    tokens = headers.getall(VERSION, [])
    if not tokens:
        return directives
    moments = [parse_write_token(token.strip()) for token in tokens]
    known = [moment for moment in moments if moment is not None]
    if len(known) < len(moments):
        raise RejectedError(Problem.INVALID_REQUEST, f"{VERSION} is not from the answer to a write")
    return replace(directives, newer_than=max(known))


def _subject_of(target: Target) -> Subject:
    if target.action in {Action.PURGE, Action.HINT}:
        return Subject.CAMPAIGN
    return (target.operation or operation(target.name)).subject


def _joined(values: list[str]) -> str | None:
    return ", ".join(values) if values else None
