"""One request from its arrival to its answer, in the platform's order.

1. It is written down, counted against the limit, and the faults it meets are noted.
2. Faults delay it, reset it, or answer in place of the platform.
3. Over the limit, unknown path, wrong method (before any token is looked at), token, tenant: each may refuse it.
4. The operation is carried out.
5. Faults change the answer or the way it is sent.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web

from campaign_gateway.sandbox import answers, campaign_calls, contact_calls, run_calls
from campaign_gateway.sandbox.answers import Answer, RefusedError, bad_credentials, invalid
from campaign_gateway.sandbox.auth import Authenticator
from campaign_gateway.sandbox.canned import CANNED, canned
from campaign_gateway.sandbox.config import SandboxConfig
from campaign_gateway.sandbox.delivery import deliver, reset
from campaign_gateway.sandbox.distortions import DISTORTIONS
from campaign_gateway.sandbox.faults import FaultName, Faults, Met, Parameters
from campaign_gateway.sandbox.journal import Arrival, Journal
from campaign_gateway.sandbox.limit import SlidingWindow, Verdict
from campaign_gateway.sandbox.listing import Lists
from campaign_gateway.sandbox.magic import MagicIds
from campaign_gateway.sandbox.operations import Match, OperationName, match
from campaign_gateway.sandbox.tenant import Call, Tenant

# A body that stops coming must not hold the sandbox open for ever.
_BODY_SECONDS = 30.0

_N = OperationName
_HANDLERS: Mapping[OperationName, Callable[[Call, Tenant], Answer]] = {
    _N.GET: campaign_calls.get,
    _N.LIST: campaign_calls.list_,
    _N.STATUS: campaign_calls.status,
    _N.OUTCOMES: campaign_calls.outcomes,
    _N.CREATE: campaign_calls.create,
    _N.UPDATE: campaign_calls.update,
    _N.DELETE: campaign_calls.delete,
    _N.TRIGGER: run_calls.trigger,
    _N.SCHEDULE: run_calls.schedule,
    _N.CALL_BACK: run_calls.call_back,
    _N.CONTACT_LIST_CREATE: contact_calls.create,
    _N.CONTACT_LIST_GET: contact_calls.get,
    _N.CONTACT_LIST_LIST: contact_calls.list_,
    _N.CONTACT_LIST_UPDATE: contact_calls.update,
    _N.CONTACT_LIST_DELETE: contact_calls.delete,
    _N.CONTACTS: contact_calls.contacts,
    _N.CONTACTS_ADD: contact_calls.add,
}


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One request with everything that is known about it once its body is there."""

    asked: Match
    arrival: Arrival
    verdict: Verdict
    met: Met
    token: str | None
    body: bytes


class Frontend:
    """The HTTP side of the platform."""

    def __init__(
        self,
        config: SandboxConfig,
        *,
        tenants: Mapping[str, Tenant],
        limits: Mapping[str, SlidingWindow],
        lists: Lists,
        authenticator: Authenticator,
        faults: Faults,
        magic: MagicIds,
        journal: Journal,
        now: Callable[[], float],
    ) -> None:
        """A frontend for these parts.

        Args:
            config: Settings.
            tenants: Applications by stream id.
            limits: Rate limits by account id.
            lists: How lists are answered.
            authenticator: Verifies tokens.
            faults: What goes wrong.
            magic: What goes wrong for some ids.
            journal: Where arrivals are written down.
            now: Seconds since the epoch.
        """
        self._config = config
        self._tenants = tenants
        self._limits = limits
        self._lists = lists
        self._authenticator = authenticator
        self._faults = faults
        self._magic = magic
        self._journal = journal
        self._now = now

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        asked = match(request.method, request.raw_path)
        token = request.headers.get("auth")
        arrival = self._journal.record(
            token=token,
            method=request.method,
            target=request.raw_path,
            operation=asked.name,
            version=asked.version,
            stream_id=asked.stream_id,
            campaign_id=asked.id,
            iid=request.headers.get("iid"),
            account_id=request.headers.get("accountId"),
            content_type=request.headers.get("Content-Type"),
        )
        verdict = self._limit(asked).arrive(arrival.at)
        met = self._faults.meet(asked.name, asked.id) + self._magic.meet(asked.id, self._tenants.get(asked.stream_id))
        arrival.faults = met.names
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except (TimeoutError, ConnectionError):
            arrival.reason = "the body did not come"
            return reset(request)
        except web.HTTPRequestEntityTooLarge as refusal:
            arrival.status = refusal.status
            return web.Response(status=refusal.status)
        arrival.keep_body(body)
        await self._delay(met, performed=False)
        answer = self._decided(_Exchange(asked, arrival, verdict, met, token, body))
        await self._delay(met, performed=True)
        if answer is None:
            return reset(request)
        if met.first(*DISTORTIONS):
            # A large body takes a while to make, and the loop has other requests to serve.
            answer = await asyncio.to_thread(_distorted, answer, met)
        if "ETag" in answer.headers and request.headers.get("If-None-Match") == answer.headers["ETag"]:
            answer = Answer(HTTPStatus.NOT_MODIFIED, b"", "", answer.headers)
        arrival.status = answer.status
        # The platform's own clock in `Date`, so that a client can notice that its clock differs.
        headers = {"Date": formatdate(self._now(), usegmt=True), "Server": "sandbox"}
        return await deliver(request, answer, met, headers=headers)

    def _limit(self, asked: Match) -> SlidingWindow:
        tenant = self._tenants.get(asked.stream_id)
        # What names no application of ours still arrives, and is charged to the first account.
        return self._limits[tenant.account_id if tenant else self._config.account_id]

    async def _delay(self, met: Met, *, performed: bool) -> None:
        if self._config.latency_seconds and not performed:
            await asyncio.sleep(self._config.latency_seconds)
        for fault in met.faults:
            if fault.parameters.performed is performed:
                if fault.name is FaultName.LATENCY:
                    await fault.pause(fault.parameters.seconds)
                elif fault.name is FaultName.HANG:
                    await fault.pause()

    def _decided(self, exchange: _Exchange) -> Answer | None:
        """The platform's answer, or what a fault puts in its place; None for a reset."""
        hiding = exchange.met.first(FaultName.RESET, *CANNED)
        if hiding is None:
            return self._answer(exchange)
        if hiding.parameters.performed:
            self._answer(exchange)
        if hiding.name is FaultName.RESET:
            return None
        return canned(hiding.name, hiding.parameters, target=exchange.arrival.target, now=self._now())

    def _answer(self, exchange: _Exchange) -> Answer:
        """What the platform answers when nothing is in the way."""
        arrival, verdict = exchange.arrival, exchange.verdict
        if not verdict.within:
            arrival.reason = "over the rate limit"
            given = Parameters(retry_after_seconds=verdict.retry_after_seconds)
            return canned(self._config.limit_form, given, target=arrival.target, now=self._now())
        if not exchange.asked.row and not exchange.asked.wrong_method:
            arrival.reason = "no such path"
            return answers.no_route()
        try:
            return self._performed(exchange)
        except RefusedError as refusal:
            arrival.reason = refusal.reason
            return answers.refusal_answer(refusal)

    def _performed(self, exchange: _Exchange) -> Answer:
        asked, met = exchange.asked, exchange.met
        if asked.wrong_method:
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, answers.WRONG_METHOD)
        exchange.arrival.claims = self._authenticator.verify(exchange.token)
        tenant = self._tenant(asked, exchange.arrival)
        lag = met.first(FaultName.LIST_LAG)
        call = Call(
            match=asked,
            body=exchange.body,
            list_lag_seconds=lag.parameters.seconds if lag else 0.0,
            page_rows=self._lists.page_rows,
            is_sorted=met.first(FaultName.LIST_UNSORTED) is None,
            is_quiet=met.first(FaultName.MARKS_FROZEN) is not None,
        )
        return _HANDLERS[asked.name](call, tenant)

    def _tenant(self, asked: Match, arrival: Arrival) -> Tenant:
        """The application that path, headers and query agree on."""
        row, tenant = asked.row, self._tenants.get(asked.stream_id)
        if tenant is None:
            if self._authenticator.app.account_level:
                raise RefusedError(HTTPStatus.BAD_REQUEST, answers.UNKNOWN_STREAM)
            raise bad_credentials("unknown application id in the path")
        if arrival.iid not in {None, tenant.app_id}:
            raise bad_credentials("header iid is not the application's")
        if arrival.account_id not in {None, tenant.account_id}:
            raise bad_credentials("header accountId is not the application's account")
        if asked.query.get("accountId", tenant.account_id) != tenant.account_id:
            raise bad_credentials("query accountId is not the application's account")
        if row and row.needs_account_query and "accountId" not in asked.query:
            raise invalid("the query needs accountId")
        if row and row.tenant_headers and (arrival.iid is None or arrival.account_id is None):
            raise invalid("the headers iid and accountId are required")
        return tenant


def _distorted(answer: Answer, met: Met) -> Answer:
    for name, distort in DISTORTIONS.items():
        fault = met.first(name)
        if fault is not None:
            answer = distort(answer, fault.parameters)
    return answer
