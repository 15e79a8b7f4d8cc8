"""One read, from start to end: look up, plan, and then reuse, or fetch, settle and reply."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from service.policy.entry import Entry
from service.policy.freshness import Freshness, age
from service.policy.ledger import Lane
from service.policy.plan import Forward, Fwd, NotCached, Reuse, plan
from service.policy.settle import Failure, Fill, settle
from service.policy.wishes import Wishes
from service.problems import Problem
from service.proxy.collapse import Flight, Flights, Landed
from service.proxy.fetch import Fetched, Fetcher
from service.proxy.ports import Ask, Detail, Found, Meter, Outcome, Reply, Store
from service.proxy.rest import Rests

MAX_FLIGHTS = 2_000
"""Fills under way at once. Each holds a few kilobytes; beyond this, more waiting helps nobody within its deadline."""

_DETAIL_OF_REFUSAL = {
    Problem.BUDGET_EXHAUSTED: Detail.BUDGET,
    Problem.OVERLOADED: Detail.BUDGET,
    Problem.UPSTREAM_PAUSED: Detail.PAUSED,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller without a stored answer is kept, in seconds."""

    for_call: float
    """The time-out of one call."""

    @property
    def for_permit(self) -> float:
        """What may be spent waiting for a permit."""
        return self.for_call / 2

    @property
    def total(self) -> float:
        """From asking for a fill to giving up on it: the last permit that is waited for leaves a whole call's time."""
        return self.for_permit + self.for_call


class Exchange:
    """Answers reads out of the store and the platform."""

    def __init__(
        self, store: Store, fetcher: Fetcher, flights: Flights, freshness: Freshness, meter: Meter, patience: Patience
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._flights = flights
        self._freshness = freshness
        self._meter = meter
        self._patience = patience
        self._rests = Rests()

    async def read(self, ask: Ask) -> Reply:
        """The best answer there is for `ask`, within the caller's patience."""
        near = self._store.peek(ask.key)
        if near is not None:
            match plan(near, ask.wishes, self._store.now(), self._freshness):
                case Reuse(is_stale=False):
                    return self._reply(near, Outcome())
                case _:
                    # Another replica may have stored something newer.
                    pass
        found = await self._store.get(ask.key)
        match plan(found.entry, ask.wishes, self._store.now(), self._freshness):
            case Reuse(entry, is_stale, wants_refresh):
                if wants_refresh:
                    self._refresh(ask, found)
                return self._reply(entry, Outcome(detail=Detail.STALE_WHILE_REVALIDATE if is_stale else None))
            case Forward(reason, fallback):
                return await self._forward(ask, found, reason, fallback)
            case NotCached():
                return Reply(Outcome(), failure=Failure(Problem.NOT_CACHED, "only-if-cached, and nothing fits"))

    async def _forward(self, ask: Ask, found: Found, reason: Fwd, fallback: Entry | None) -> Reply:
        resting = self._rests.current(ask.key, self._store.now()) if fallback is not None else None
        if resting is not None and fallback is not None:
            return self._fall_back(fallback, resting, Outcome())
        lane = Lane.PROOF if reason is Fwd.REQUEST and fallback is not None else Lane.INTERACTIVE
        joined = self._flights.current(ask.key, landed=reason is not Fwd.REQUEST)
        if joined is not None:
            self._meter.collapsed("process")
        landed = await self._wait(joined or self._start(ask, found, lane, reason, has_fallback=fallback is not None))
        while joined is not None and fallback is None and not joined.is_patient and _is_refused(landed):
            # The joined flight did not wait for a permit, and may have had no right to the reserve; this caller has.
            joined = self._flights.current(ask.key, landed=False)
            landed = await self._wait(joined or self._start(ask, found, lane, reason, has_fallback=False))
        collapsed = joined is not None
        if isinstance(landed, Fill):
            collapsed = collapsed or landed.is_followed
            detail = Detail.UNCHANGED if landed.is_unchanged else None
            outcome = Outcome(reason, landed.upstream_status, stored=True, collapsed=collapsed, detail=detail)
            return self._reply(landed.entry, outcome)
        outcome = Outcome(
            reason if landed.was_forwarded else None,
            landed.upstream_status,
            collapsed=collapsed,
            detail=_DETAIL_OF_REFUSAL.get(landed.problem),
        )
        if fallback is not None:
            return self._fall_back(fallback, landed, outcome)
        return Reply(outcome, failure=landed)

    async def _wait(self, flight: Flight | Failure) -> Landed:
        if isinstance(flight, Failure):
            return flight
        try:
            return await flight.wait(self._patience.total)
        except TimeoutError:
            return Failure(Problem.UPSTREAM_TIMEOUT, f"no answer within {self._patience.total:g} s")
        except Exception:  # noqa: BLE001 - logged by the task that it ended; whoever has a stored answer gets that
            return Failure(Problem.INTERNAL, "an error in the gateway")

    def _refresh(self, ask: Ask, found: Found) -> None:
        if self._flights.current(ask.key) is None and self._rests.current(ask.key, self._store.now()) is None:
            self._start(ask, found, Lane.BACKGROUND, "refresh", has_fallback=True)

    def _start(self, ask: Ask, found: Found, lane: Lane, reason: str, *, has_fallback: bool) -> Flight | Failure:
        if len(self._flights) >= MAX_FLIGHTS:
            return Failure(Problem.OVERLOADED, "too many reads are waiting for the platform", retry_after=1.0)
        # With something to serve already, nobody is kept waiting for the budget.
        wait = 0.0 if has_fallback else self._patience.for_permit

        async def fill(land: Callable[[Landed], None]) -> None:
            await self._fill(ask, found, land, partial(self._fetcher.fetch, ask, lane, reason, wait))

        return self._flights.start(ask.key, fill, is_patient=not has_fallback)

    async def _fill(
        self, ask: Ask, found: Found, land: Callable[[Landed], None], fetch: Callable[[], Awaitable[Fetched | Failure]]
    ) -> None:
        """Gets a newer proof than `found`: from the platform, or from the replica that is getting one already."""
        began, give_up_at = self._store.now(), time.monotonic() + self._patience.total
        lead = await self._store.lead(ask.key)
        while not lead.is_mine and not self._is_proof(lead.found.entry, found.entry, ask.wishes, began):
            left = give_up_at - time.monotonic()
            if left <= 0:
                land(Failure(Problem.UPSTREAM_TIMEOUT, "another replica's read took too long"))
                return
            await self._store.follow(ask.key, left)
            lead = await self._store.lead(ask.key)
        try:
            newer = lead.found.entry
            if newer is not None and self._is_proof(newer, found.entry, ask.wishes, began):
                self._rests.end(ask.key)
                status = newer.absence.status if newer.absence is not None else HTTPStatus.OK
                self._meter.collapsed("fleet")
                land(Fill(newer, is_unchanged=False, upstream_status=status, is_followed=True))
                return
            landed = self._settle(ask, lead.found, await fetch())
            land(landed)
            if isinstance(landed, Fill):
                bound = self._freshness.bound(landed.entry)
                await self._store.put(ask.key, landed.entry, lead.found.fence, bound)
        finally:
            if lead.is_mine:
                await self._store.leave(ask.key)

    def _settle(self, ask: Ask, found: Found, fetched: Fetched | Failure) -> Landed:
        landed = fetched if isinstance(fetched, Failure) else settle(found.entry, fetched.answer, fetched.started)
        if isinstance(landed, Fill):
            self._rests.end(ask.key)
            self._meter.proof("read", "unchanged" if landed.is_unchanged else "changed")
        elif landed.was_forwarded:
            self._rests.begin(ask.key, landed, self._store.now())
            self._meter.proof("read", "failed")
        return landed

    def _is_proof(self, entry: Entry | None, than: Entry | None, wishes: Wishes, began: float) -> bool:
        """Whether what another replica stored serves this caller as well as a call of ours would."""
        if entry is None or (than is not None and entry.proven_at <= than.proven_at):
            return False
        decision = plan(entry, wishes, self._store.now(), self._freshness)
        return entry.proven_at >= began or (isinstance(decision, Reuse) and not decision.is_stale)

    def _reply(self, entry: Entry, outcome: Outcome) -> Reply:
        now_age = age(entry, self._store.now())
        lifetime = self._freshness.lifetime(entry)
        detail = Detail.MISSING if entry.absence is not None else outcome.detail
        return Reply(replace(outcome, ttl=lifetime - now_age, detail=detail), entry, None, now_age, lifetime)

    def _fall_back(self, entry: Entry, failure: Failure, outcome: Outcome) -> Reply:
        if not self._freshness.is_usable(entry, self._store.now()):
            # It was usable when the read began, and grew too old while the caller waited.
            return Reply(outcome, failure=failure)
        detail = _DETAIL_OF_REFUSAL.get(failure.problem, Detail.STALE_IF_ERROR)
        return self._reply(entry, replace(outcome, detail=detail))


def _is_refused(landed: Landed) -> bool:
    """Whether no permit was to be had, as it was asked for."""
    return isinstance(landed, Failure) and not landed.was_forwarded and landed.problem in _DETAIL_OF_REFUSAL
