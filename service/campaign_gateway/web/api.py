"""The API: one handler that takes every request from its head to its answer, log line and count."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from aiohttp import hdrs, web

from campaign_gateway.contract.operations import Subject, operation
from campaign_gateway.policy.directives import RequestDirectives, read_directives
from campaign_gateway.policy.outlook import Quota
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import RequestMeter
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.versions import read_token
from campaign_gateway.web import dropin, routes
from campaign_gateway.web.answers import VERSION, Bounds, Fail, concerns_quota, quota_fields, render, render_failure
from campaign_gateway.web.batch import render_batch
from campaign_gateway.web.bodies import BodyError
from campaign_gateway.web.clients import Client, Clients, DeniedError, allow
from campaign_gateway.web.docs.pages import DOCS, page_at, render_page
from campaign_gateway.web.perform import Authorized, Performer
from campaign_gateway.web.routes import Action, NoRouteError, Target
from campaign_gateway.web.server import fault_of
from campaign_gateway.web.standing import Known, Rendered, Standings, new_request_id, request_id_of

_NO_OUTCOME = Outcome()
_log = logging.getLogger("campaign_gateway.requests")


@dataclass(slots=True)
class _Record:
    """What is known of a request so far, for its log line and its metrics."""

    request_id: str
    operation: str = "none"
    client: str = "none"
    stream: str | None = None
    campaign: str | None = None
    replies: Sequence[Reply] = ()


class Api:
    """Answers requests on the API port."""

    def __init__(
        self,
        performer: Performer,
        streams: Mapping[str, Stream],
        default_stream: str | None,
        clients: Clients,
        bounds: Bounds,
        meter: RequestMeter,
        quota: Callable[[str, str], Quota],
        standings: Standings | None = None,
    ) -> None:
        """The API.

        Args:
            performer: asks the story.
            streams: by alias.
            default_stream: the alias for paths that name none.
            clients: who may.
            bounds: the staleness to announce.
            meter: where requests are counted.
            quota: tells a client's share of an account's calls.
            standings: answers plain hits of callers who are known; None where each request takes the whole way.
        """
        self._performer = performer
        self._streams = streams
        self._default_stream = default_stream
        self._clients = clients
        self._bounds = bounds
        self._meter = meter
        self._quota = quota
        self._standings = standings
        self.epoch = clients.epoch
        """Ends when what was authorised before has to be authorised anew."""
        self.is_draining = False
        """While set, every answer closes its connection: callers go elsewhere before the listener is gone."""

    def drain(self) -> None:
        """From the next request on, open connections are closed with their answers."""
        self.is_draining = True
        self.epoch.end()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer, whatever happens."""
        began = time.perf_counter()
        known = None if self._standings is None or self.is_draining else self._standings.find(request, began)
        if known is not None and (hit := known.answer()) is not None:
            return hit
        record = _Record(request_id_of(request.headers) if known is None else known.request_id)
        is_dropin = not request.raw_path.startswith("/v1/") and dropin.is_platform_path(request.raw_path)
        fail = dropin.render_platform_failure if is_dropin else render_failure
        try:
            if known is not None and (ask := known.ask) is not None:
                answered = await self._answer_known(request, record, known, ask)
                if isinstance(answered, Rendered):
                    return answered
                response = answered
            else:
                response = await self._answer(request, record, dropin.find if is_dropin else routes.find, fail)
        except NoRouteError as error:
            record.operation = error.operation
            response = fail(error.failure, record.request_id)
            if error.allow is not None:
                response.headers[hdrs.ALLOW] = error.allow
        except DeniedError as error:
            response = fail(Failure(error.problem, error.detail), record.request_id)
        except BodyError as error:
            response = fail(error.failure, record.request_id)
            if not request.content.is_eof():
                # What is left of it is not waited for.
                response.force_close()
        except Exception:  # noqa: BLE001 - the last line of defence: the caller gets an answer, its id finds the reason
            _log.exception("request failed", extra={"fields": {"request_id": record.request_id}})
            failure = Failure(Problem.INTERNAL, "an error in the gateway; the request id finds it in the log")
            response = fail(failure, record.request_id)
        if self.is_draining:
            response.force_close()
        self._note(request.method, record, response, time.perf_counter() - began)
        return response

    def refuse(self, failure: Failure) -> web.Response:
        """The answer to something that the parser would not take for a request."""
        record = _Record(new_request_id())
        response = render_failure(failure, record.request_id)
        self._note("none", record, response, 0.0)
        return response

    async def _answer(
        self, request: web.BaseRequest, record: _Record, find: Callable[[str, str], Target], fail: Fail
    ) -> web.Response:
        fault = fault_of(request)
        if fault is not None:
            response = fail(Failure(Problem.INVALID_REQUEST, fault), record.request_id)
            response.force_close()
            return response
        headers = request.headers
        page = page_at(request.method, request.raw_path)
        if page is not None:
            record.operation = DOCS
            return render_page(page, headers, record.request_id)
        epoch = self.epoch.number
        client = self._clients.identify(headers.getall(hdrs.AUTHORIZATION, []))
        record.client = client.name
        target = find(request.method, request.raw_path)
        record.operation, record.campaign = target.name, target.id or None
        stream = self._stream_of(target, client)
        record.stream = stream.alias
        allow(client, stream.alias, target.scope)
        asked = Authorized(request, target, stream, client.name, _directives(request))
        if target.action is Action.BATCH:
            record.replies = await self._performer.batch(asked)
            return render_batch(target.parameters["ids"], record.replies, record.request_id)
        reply = await self._perform(asked)
        if self._standings is not None:
            self._standings.learn(request, epoch)
        return self._render(request, record, reply, stream, _subject_of(target), fail)

    async def _answer_known(
        self, request: web.BaseRequest, record: _Record, known: Known, ask: Request
    ) -> Rendered | web.Response:
        """The answer to a request that needs no more checking. One that is rendered already counts as given."""
        record.operation, record.campaign = ask.operation.name, ask.id
        record.client, record.stream = ask.client, ask.stream.alias
        found = await known.look_up(ask)
        if isinstance(found, Reply):
            reply = found
            if not self.is_draining and (refused := known.refuse(ask, reply)) is not None:
                return refused
        else:
            sheet, age = found
            if not self.is_draining:
                return known.render(sheet, age)
            reply = sheet.hit.reply(age)
        return self._render(request, record, reply, ask.stream, ask.operation.subject, render_failure)

    def _render(
        self, request: web.BaseRequest, record: _Record, reply: Reply, stream: Stream, subject: Subject, fail: Fail
    ) -> web.Response:
        record.replies = (reply,)
        response = render(reply, request.headers, self._bounds, record.request_id, subject, fail)
        if concerns_quota(reply):
            response.headers.update(quota_fields(self._quota(stream.tenant.account, record.client)))
        return response

    async def _perform(self, asked: Authorized) -> Reply:
        match asked.target.action:
            case Action.READ | Action.BATCH:
                return await self._performer.read(asked)
            case Action.SEND:
                return await self._performer.send(asked)
            case Action.PURGE:
                return await self._performer.purge(asked)
            case Action.HINT:
                return await self._performer.hint(asked)

    def _stream_of(self, target: Target, client: Client) -> Stream:
        """The stream that the target names.

        Raises:
            DeniedError: there is none, or none that the client may use where it is named by the platform's own id.
        """
        if target.stream_id is not None:
            for alias, stream in self._streams.items():
                if stream.tenant.stream == target.stream_id and alias in client.streams:
                    return stream
            # Whether there is such a stream is not told.
            raise DeniedError(Problem.FORBIDDEN, "this client has no right to that stream")
        stream_of_alias = self._streams.get(target.stream or self._default_stream or "")
        if stream_of_alias is None:
            named = "no stream has this alias" if target.stream else "no stream is the default: name one in the path"
            raise DeniedError(Problem.UNKNOWN_STREAM, named)
        return stream_of_alias

    def _note(self, method: str, record: _Record, response: web.Response, seconds: float) -> None:
        outcome = record.replies[0].outcome if len(record.replies) == 1 else _NO_OUTCOME
        self._meter.request(record.operation, record.client, response.status, outcome.cache, seconds)
        ages = [reply.age for reply in record.replies if reply.entry is not None]
        for age in ages:
            self._meter.served(record.operation, age)
        fields = {
            "request_id": record.request_id,
            "method": method,
            "operation": record.operation,
            "client": record.client,
            "stream": record.stream,
            "campaign": record.campaign,
            "status": response.status,
            "cache": outcome.cache,
            "fwd": outcome.fwd,
            "detail": outcome.detail,
            "age": int(max(ages)) if ages else None,
            "milliseconds": round(seconds * 1000, 2),
        }
        _log.info("request", extra={"fields": {name: value for name, value in fields.items() if value is not None}})


def _directives(request: web.BaseRequest) -> RequestDirectives:
    headers = request.headers
    directives = read_directives(_joined(headers.getall(hdrs.CACHE_CONTROL, [])), headers.get(hdrs.PRAGMA))
    tokens = headers.getall(VERSION, [])
    if not tokens:
        return directives
    versions = [read_token(token.strip()) for token in tokens]
    known = [version for version in versions if version is not None]
    if len(known) < len(versions):
        raise DeniedError(Problem.INVALID_REQUEST, f"{VERSION} is not one that the answer to a write carried")
    return replace(directives, newer_than=max(known))


def _subject_of(target: Target) -> Subject:
    if target.action in {Action.PURGE, Action.HINT}:
        return Subject.CAMPAIGN
    return (target.operation or operation(target.name)).subject


def _joined(values: list[str]) -> str | None:
    return ", ".join(values) if values else None
