"""One fill per key and fleet, however many ask: flight, lease, permit, send, settle and store, top to bottom.

Whose fill it is, and who may join it, are `proxy.flights`.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.decide import Choice, Decision, Detail, Fwd
from campaign_gateway.policy.evidence import CopyState
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure, Fill, settle
from campaign_gateway.policy.stored import Stored, is_from_the_future
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.assess import Assessor
from campaign_gateway.proxy.backoff import Backoffs
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.flights import DETAIL_OF_REFUSAL, Claim, FillResult, Flight, Flights, Timeouts
from campaign_gateway.proxy.ports import NO_TRACES, Found, Lease, Meter, Put, Store, Traces, seconds_of
from campaign_gateway.proxy.reply import Outcome, Reply, reply_from
from campaign_gateway.proxy.request import Request

MAX_FLIGHTS = 2_000
"""Fills under way at once. Each holds a few kilobytes; beyond this, more waiting helps nobody within its deadline."""

LONGEST_WAY_SECONDS = 3_600.0
"""A change that was longer on its way was not looked for: nobody asked for the campaign, or its revision is no time."""


class Fills:
    """Gets newer answers: from the platform, or from the replica that is getting one already."""

    def __init__(
        self,
        *,
        store: Store,
        assessor: Assessor,
        fetcher: Fetcher,
        flights: Flights,
        meter: Meter,
        timeouts: Timeouts,
        on_stored: Callable[[Request, Stored], None],
        traces: Traces = NO_TRACES,
    ) -> None:
        self._store = store
        self._assessor = assessor
        self._fetcher = fetcher
        self._flights = flights
        self._meter = meter
        self._timeouts = timeouts
        self._on_stored = on_stored
        self._traces = traces
        self._backoffs = Backoffs()

    # For callers who wait.

    async def reply(self, request: Request, found: Found, decision: Decision) -> Reply:
        """The reply to a request that goes forward: with what a fill brings, what is fallen back on, or a failure."""
        if decision.fallback is not None and (failure := self._backing_off(request, decision)) is not None:
            return self._fall_back(request, found, failure, Outcome(detail=_detail_of(failure)))
        claim = self._claim(request, decision)
        joined = self._flights.to_join(request.key, claim)
        if joined is not None:
            self._meter.collapsed("process")
        reason = decision.fwd or Fwd.URI_MISS
        while True:
            flight = joined or self._start(request, found, claim, reason)
            result = flight if isinstance(flight, Failure) else await flight.wait(self._timeouts.total)
            if joined is None or joined.serves(claim):
                break
            joined = self._flights.to_join(request.key, claim)
        collapsed = joined is not None
        if joined is not None:
            self._traces.join(joined.calls)
        took = seconds_of(flight.calls if isinstance(flight, Flight) else ())
        if isinstance(result, Fill):
            collapsed = collapsed or result.is_collapsed
            detail = Detail.UNCHANGED if result.is_unchanged else None
            outcome = Outcome(
                reason, result.upstream_status, stored=True, collapsed=collapsed, detail=detail, seconds=took
            )
            return self._serve(request, self._assessor.decide(request, result.stored, result.evidence), outcome)
        fwd = reason if result.was_forwarded else None
        outcome = Outcome(fwd, result.upstream_status, collapsed=collapsed, detail=_detail_of(result), seconds=took)
        return self._fall_back(request, found, result, outcome)

    def refused(self, request: Request) -> Reply | None:
        """See `Exchange.refused`."""
        claim = Claim(Lane.INTERACTIVE, self._timeouts.for_permit, request.directives.newer_than)
        if self._flights.to_join(request.key, claim) is not None:
            return None
        failure = self._refusal(request, claim)
        return None if failure is None else Reply(Outcome(detail=_detail_of(failure)), failure=failure)

    def prospect(self, request: Request, decision: Decision) -> Failure | None:
        """See `Exchange.prospect`."""
        if decision.fallback is not None and (failure := self._backing_off(request, decision)) is not None:
            return failure
        claim = self._claim(request, decision)
        return self._fetcher.prospect(request, claim.lane, claim.wait)

    def _claim(self, request: Request, decision: Decision) -> Claim:
        newer_than = request.directives.newer_than
        # What was written a moment ago is worth as much as what nobody has: the stored answer is known to be wrong.
        if decision.fallback is None or decision.evidence.is_overwritten or newer_than is not None:
            lane = Lane.INTERACTIVE
        else:
            # Polls of the list, which validate many answers, go before a read that validates one, unless the caller
            # asked for it.
            lane = Lane.VALIDATION if decision.fwd is Fwd.REQUEST else Lane.BACKGROUND
        # With something to serve already, nobody is kept waiting for the budget.
        wait = self._timeouts.for_permit if decision.fallback is None else 0.0
        return Claim(lane, wait, newer_than, accepts_finished=decision.fwd is not Fwd.REQUEST)

    def _backing_off(self, request: Request, decision: Decision) -> Failure | None:
        """The failure for which the key is left alone; one from before a write that got through is out of date."""
        invalidation = decision.evidence.invalidation
        written_at = invalidation.at if invalidation is not None and decision.evidence.is_overwritten else 0.0
        since = max(written_at, request.directives.newer_than or 0.0)
        return self._backoffs.current(request.key, self._store.now(), since)

    def _fall_back(self, request: Request, found: Found, failure: Failure, outcome: Outcome) -> Reply:
        decision = self._assessor.decide(request, found.stored, found.evidence)
        if decision.fallback is None:
            # There was nothing; or it grew too old while the caller waited.
            return Reply(outcome, failure=failure)
        return self._serve(request, decision, replace(outcome, detail=outcome.detail or Detail.STALE_IF_ERROR))

    def _serve(self, request: Request, decision: Decision, outcome: Outcome) -> Reply:
        self._assessor.note_use(request, decision.stored)
        return reply_from(decision, outcome)

    # For nobody who waits.

    def refresh(self, request: Request, found: Found) -> Flight | Failure | None:
        """Reads again what is stored, beside everything else; None where it is read already, or failed just now."""
        claim = Claim(Lane.BACKGROUND, wait=0.0)
        is_read = self._flights.to_join(request.key, claim) is not None
        if is_read or self._backoffs.current(request.key, self._store.now()) is not None:
            return None
        return self._start(request, found, claim, "refresh")

    async def refreshed(self, request: Request, found: Found) -> FillResult | None:
        """What `refresh` brings."""
        flight = self.refresh(request, found)
        return await flight.wait(self._timeouts.total) if isinstance(flight, Flight) else flight

    async def read_again(self, request: Request, lane: Lane, reason: str) -> FillResult:
        """See `Exchange.read_again`."""
        found = await self._store.get(request.key)
        claim = Claim(lane, self._timeouts.for_permit, request.directives.newer_than, accepts_finished=False)
        flight = self._flights.to_join(request.key, claim) or self._start(request, found, claim, reason)
        return flight if isinstance(flight, Failure) else await flight.wait(self._timeouts.total)

    # The fill itself.

    def _start(self, request: Request, found: Found, claim: Claim, reason: str) -> Flight | Failure:
        if (refusal := self._refusal(request, claim)) is not None:
            return refusal
        flight = Flight(request, found, claim, reason, self._store.now())
        self._flights.start(flight, self._fly)
        return flight

    def _refusal(self, request: Request, claim: Claim) -> Failure | None:
        """Why no flight may be started; None where one may."""
        if len(self._flights) >= MAX_FLIGHTS:
            return Failure(Problem.OVERLOADED, "too many reads are waiting for the platform", retry_after=1.0)
        return self._fetcher.refusal(request, claim.lane, claim.wait)

    async def _fly(self, flight: Flight) -> None:
        request, key, claim = flight.request, flight.request.key, flight.claim
        give_up_at = time.monotonic() + self._timeouts.total
        with flight.always_settles():
            lease = await self._store.acquire_lease(key, flight.found)
            while (fill := self._filled_elsewhere(flight, lease)) is None and not lease.is_mine:
                left = give_up_at - time.monotonic()
                if left <= 0:
                    failure = Failure(Problem.UPSTREAM_TIMEOUT, "another replica's read took too long")
                    flight.result.set_result(failure)
                    return
                await self._store.wait_for_lease(key, left)
                lease = await self._store.acquire_lease(key, lease.found)
            try:
                if fill is not None:
                    flight.result.set_result(fill)
                    return
                fetched = await self._fetcher.fetch(request, claim.lane, flight.reason, claim.wait, calls=flight.calls)
                result = self._settle(request, lease.found, fetched)
                flight.result.set_result(result)
                if isinstance(result, Fill):
                    keep = self._assessor.rules.bound(result.stored)
                    if await self._store.put(key, result.stored, lease.found.fence, keep) is Put.STORED:
                        self._note_change(request, lease.found.stored, result.stored)
                        self._on_stored(request, result.stored)
            finally:
                if lease.is_mine:
                    await self._store.release_lease(key, lease.found.fence)

    def _is_filled(self, flight: Flight, lease: Lease) -> bool:
        """Whether what another replica stored serves the flight's callers as well as a call of its own would."""
        stored, evidence, before = lease.found.stored, lease.found.evidence, flight.found.stored
        now = self._store.now()
        if stored is None or evidence.state is CopyState.INVALIDATED or is_from_the_future(stored.validated_at, now):
            return False
        is_older = before is not None and stored.validated_at <= before.validated_at
        if before is not None and is_older and not is_from_the_future(before.validated_at, now):
            return False
        if stored.validated_at >= flight.began:
            return True
        return self._assessor.decide(flight.request, stored, evidence).choice is Choice.FRESH

    def _filled_elsewhere(self, flight: Flight, lease: Lease) -> Fill | None:
        """What another replica made; None where a call has to be made."""
        stored = lease.found.stored
        if stored is None or not self._is_filled(flight, lease):
            return None
        self._backoffs.succeeded(flight.request.key)
        self._meter.collapsed("fleet")
        status = stored.absence.status if stored.absence is not None else HTTPStatus.OK
        return Fill(
            stored, is_unchanged=False, upstream_status=status, evidence=lease.found.evidence, is_collapsed=True
        )

    def _settle(self, request: Request, found: Found, fetched: Fetched | Failure) -> FillResult:
        if isinstance(fetched, Failure):
            result: FillResult = fetched
        else:
            result = settle(
                request.operation, found.stored, fetched.answer, fetched.started, fetched.clock, found.written_at
            )
        if isinstance(result, Fill):
            self._backoffs.succeeded(request.key)
            self._meter.validation("read", "unchanged" if result.is_unchanged else "changed")
        elif result.was_forwarded:
            self._backoffs.failed(request.key, result, self._store.now())
            self._meter.validation("read", "failed")
        return result

    def _note_change(self, request: Request, before: Stored | None, after: Stored) -> None:
        """Counts how long it took until a change was stored, where the campaign's revisions show it."""
        if request.operation.name != GET.name or before is None or after.updated_at is None:
            return
        seconds = self._store.now() - after.updated_at
        if before.revision != after.revision and before.absence is None and 0 <= seconds <= LONGEST_WAY_SECONDS:
            self._meter.change_visible(request.stream.alias, seconds)


def _detail_of(failure: Failure) -> Detail | None:
    """What is said of a request that was not sent."""
    return DETAIL_OF_REFUSAL.get(failure.problem)
