"""The API: one handler that takes every request from its head to its answer, log line and count."""

import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import hdrs, web

from service.policy.ledger import Quota
from service.policy.settle import Failure
from service.policy.wishes import read_wishes
from service.problems import Problem
from service.proxy.exchange import Exchange
from service.proxy.ports import Ask, Outcome, Reply, RequestMeter, Stream
from service.web.answers import Bounds, concerns_quota, quota_fields, render, render_failure
from service.web.clients import Clients, DeniedError, allow
from service.web.routes import NoRouteError, find
from service.web.server import fault_of

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_log = logging.getLogger("service.requests")


@dataclass(slots=True)
class _Record:
    """What is known of a request so far, for its log line and its metrics."""

    request_id: str
    operation: str = "none"
    client: str = "none"
    stream: str | None = None
    campaign: str | None = None
    reply: Reply | None = None


class Api:
    """Answers requests on the API port."""

    def __init__(
        self,
        exchange: Exchange,
        streams: Mapping[str, Stream],
        default_stream: str | None,
        clients: Clients,
        bounds: Bounds,
        meter: RequestMeter,
        quota: Callable[[str, str], Quota],
    ) -> None:
        """The API.

        Args:
            exchange: answers reads.
            streams: by alias.
            default_stream: the alias for paths that name none.
            clients: who may.
            bounds: the staleness to announce.
            meter: where requests are counted.
            quota: tells a client's share of an account's calls.
        """
        self._exchange = exchange
        self._streams = streams
        self._default_stream = default_stream
        self._clients = clients
        self._bounds = bounds
        self._meter = meter
        self._quota = quota
        self.is_draining = False
        """While set, every answer closes its connection: callers go elsewhere before the listener is gone."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer, whatever happens."""
        began = time.perf_counter()
        record = _Record(_request_id(request))
        try:
            response = await self._answer(request, record)
        except NoRouteError as error:
            record.operation = error.operation
            response = render_failure(error.failure, record.request_id)
            if error.allow is not None:
                response.headers[hdrs.ALLOW] = error.allow
        except DeniedError as error:
            response = render_failure(Failure(error.problem, error.detail), record.request_id)
        except Exception:  # noqa: BLE001 - the last line of defence: the caller gets an answer, its id finds the reason
            _log.exception("request failed", extra={"fields": {"request_id": record.request_id}})
            failure = Failure(Problem.INTERNAL, "an error in the gateway; the request id finds it in the log")
            response = render_failure(failure, record.request_id)
        if self.is_draining:
            response.force_close()
        self._note(request.method, record, response, time.perf_counter() - began)
        return response

    def refuse(self, failure: Failure) -> web.Response:
        """The answer to something that the parser would not take for a request."""
        record = _Record(_new_id())
        response = render_failure(failure, record.request_id)
        self._note("none", record, response, 0.0)
        return response

    async def _answer(self, request: web.BaseRequest, record: _Record) -> web.Response:
        fault = fault_of(request)
        if fault is not None:
            response = render_failure(Failure(Problem.INVALID_REQUEST, fault), record.request_id)
            response.force_close()
            return response
        headers = request.headers
        client = self._clients.identify(headers.getall(hdrs.AUTHORIZATION, []))
        record.client = client.name
        target = find(request.method, request.raw_path)
        record.operation, record.campaign = target.operation.name, target.id
        alias = target.stream or self._default_stream
        stream = self._streams.get(alias or "")
        if stream is None:
            named = "no stream has this alias" if target.stream else "no stream is the default: name one in the path"
            raise DeniedError(Problem.UNKNOWN_STREAM, named)
        record.stream = stream.alias
        allow(client, stream.alias, target.scope)
        wishes = read_wishes(_joined(headers.getall(hdrs.CACHE_CONTROL, [])), headers.get(hdrs.PRAGMA))
        record.reply = await self._exchange.read(
            Ask(stream, target.operation, target.id, client.name, wishes, target.fields)
        )
        response = render(record.reply, headers, self._bounds, record.request_id)
        if concerns_quota(record.reply):
            response.headers.update(quota_fields(self._quota(stream.tenant.account, client.name)))
        return response

    def _note(self, method: str, record: _Record, response: web.Response, seconds: float) -> None:
        reply = record.reply
        outcome = reply.outcome if reply is not None else Outcome()
        self._meter.request(record.operation, record.client, response.status, outcome.cache, seconds)
        if reply is not None and reply.entry is not None:
            self._meter.served(record.operation, reply.age)
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
            "age": int(reply.age) if reply is not None and reply.entry is not None else None,
            "milliseconds": round(seconds * 1000, 2),
        }
        _log.info("request", extra={"fields": {name: value for name, value in fields.items() if value is not None}})


def _request_id(request: web.BaseRequest) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if _REQUEST_ID.fullmatch(given) else _new_id()


def _new_id() -> str:
    return uuid.uuid4().hex


def _joined(values: list[str]) -> str | None:
    return ", ".join(values) if values else None
