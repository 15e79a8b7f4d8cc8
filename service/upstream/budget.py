"""The call budget: a fair queue per account in front of its ledger, alone or shared with other replicas.

How a replica goes on when the shared ledger is lost (never by failing open):

1. It always keeps its own calls itself. If it is the only replica known, they are the whole truth: no pause.
2. If it is one of several, it sends nothing while calls that it cannot know of may be in the window: until the others
   have missed it, and one window after their last call. Then it keeps to its share: the budget divided by the replicas
   last known, rounded down, which the others withhold for a while (`WITHHELD_WINDOWS`).
3. When the ledger is there again, it first puts its own calls back (`policy.ledger.absorb`), and goes on exactly.
"""

import asyncio
import itertools
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from service.policy import ledger as books
from service.policy.ledger import Allowance, Lane, Ledger, Place, Quota, Report, Wait, Want, Why
from service.policy.settle import Failure
from service.problems import Problem
from service.proxy.ports import LedgerLostError, Ledgers, Meter, Refused
from service.proxy.tasks import Tasks

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

REPORT_SECONDS = 1.0
"""How often a replica shows itself in a shared ledger, and writes down which of its calls have ended."""
BLIP_SECONDS = 1.5
"""A loss of the ledger that may be over at the next look: callers who can wait are kept this long, not refused."""
LONGEST_QUEUE = 2_000
MEMO_SECONDS = 0.25
"""How long a refusal holds for the same client and lane without asking the ledger again, so that an overload of callers
is not an overload of Redis."""

_LANES = {lane: number for number, lane in enumerate(Lane)}


class CallPermit:
    """Implements `Permit`."""

    def __init__(self, id_: str, leave_by: float) -> None:
        self.id = id_
        self.leave_by = leave_by
        self.is_void = False
        self.was_limited = False

    def void(self) -> None:
        """See `Permit`."""
        self.is_void = True


@dataclass(slots=True)
class _Own:
    """One of this replica's own calls; the time is monotonic, so it is true whatever the shared clock does."""

    lane: Lane
    client: str
    free_at: float


@dataclass(slots=True, eq=False)
class _Waiter:
    want: Want
    arrival: int
    give_up_at: float
    turn: asyncio.Future[CallPermit]


@dataclass(slots=True)
class _Account:
    name: str
    allowance: Allowance
    known: int
    """How many replicas there were when the shared ledger was last seen."""
    own: dict[str, _Own] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    queue: list[_Waiter] = field(default_factory=list)
    refused: dict[tuple[Lane, str], tuple[float, Wait]] = field(default_factory=dict)
    """The last refusals, and when they were given."""
    ledger: Ledger | None = None
    """As last seen, or this replica's own while the shared one is lost."""
    lost_at: float | None = None
    pause_owed: float = 0.0
    """Until when the platform asked for a pause while the shared ledger was lost."""
    is_served: bool = False
    owes_ends: bool = False
    """Whether calls have ended that are about to be reported."""
    call: asyncio.Event = field(default_factory=asyncio.Event)


class CallBudget:
    """Implements `Budget`."""

    def __init__(
        self,
        allowance: Callable[[str], Allowance],
        ledgers: Ledgers,
        meter: Meter,
        tasks: Tasks,
        *,
        replicas: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """A budget.

        Args:
            allowance: what an account may do.
            ledgers: where it is written down.
            meter: where waits are counted.
            tasks: where the queues are served.
            replicas: how many there are at least, for as long as a shared ledger has not said.
            clock: monotonic seconds.
        """
        self._allowance = allowance
        self._ledgers = ledgers
        self._meter = meter
        self._tasks = tasks
        self._clock = clock
        self._replicas = replicas
        self._replica = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._accounts: dict[str, _Account] = {}

    async def start(self, accounts: Sequence[str]) -> None:
        """Shows this replica in the shared ledgers, and keeps doing so."""
        for account in accounts:
            state = self._state(account)
            if self._ledgers.is_shared:
                await self._report(state)
                self._tasks.spawn(self._keep_reporting(state), name="report calls")

    async def depart(self) -> None:
        """Takes this replica out of the shared ledgers, so that nobody waits for it or withholds its share."""
        for state in self._accounts.values():
            try:
                await self._change(state, lambda ledger, _allowance, _now: (books.depart(ledger, self._replica), None))
            except LedgerLostError:
                continue

    def remaining(self, account: str) -> int:
        """Calls that a waiting caller could send now."""
        state = self._state(account)
        now = self._ledgers.now()
        allowance = self._alone(state)
        if allowance is None:
            return 0
        return books.remaining(self._absorbed(state, allowance, now), allowance, now)

    def keep(self, account: str, lane: Lane, calls: int) -> None:
        """Keeps so many calls of each window for a lane, from now on, beside what the settings keep."""
        state = self._state(account)
        kept = max(calls, self._allowance(account).lanes.get(lane, 0))
        if state.allowance.lanes.get(lane, 0) != kept:
            state.allowance = replace(state.allowance, lanes={**state.allowance.lanes, lane: kept})

    def capacity(self, account: str) -> int:
        """Calls in a window, as far as the platform was seen to allow them."""
        state = self._state(account)
        now = self._ledgers.now()
        return books.capacity(self._absorbed(state, state.allowance, now), state.allowance, now)

    def spent(self, account: str) -> int:
        """Calls that callers and writes hold at present."""
        state = self._state(account)
        now = self._ledgers.now()
        ledger = self._absorbed(state, state.allowance, now)
        return sum(1 for place in ledger.places if place.lane.is_waited_for and place.free_at > now)

    def quota(self, account: str, client: str) -> Quota:
        """The client's own share of the account's calls."""
        state = self._state(account)
        now = self._ledgers.now()
        allowance = self._alone(state) or replace(state.allowance, calls=0)
        return books.quota(self._absorbed(state, allowance, now), allowance, client, now)

    def is_paused(self, account: str) -> bool:
        """Whether the platform has asked for a pause that is not over."""
        ledger = self._state(account).ledger
        return ledger is not None and ledger.paused_until > 0

    def replicas(self, account: str) -> int:
        """How many replicas share the budget, as last seen."""
        return self._state(account).known

    def is_cut_off(self, account: str) -> bool:
        """Whether the shared ledger is lost and this replica goes on by itself."""
        return self._state(account).lost_at is not None

    @asynccontextmanager
    async def permit(self, account: str, lane: Lane, client: str, wait: float) -> AsyncIterator[CallPermit]:
        """See `Budget`."""
        state = self._state(account)
        began = self._clock()
        number = next(self._numbers)
        want = Want(f"{self._replica}.{number}", lane, client)
        try:
            permit = await self._queue_up(state, _Waiter(want, number, began + wait, _future()))
        finally:
            self._meter.budget_wait(lane.value, self._clock() - began)
        try:
            yield permit
        finally:
            self._end(state, permit)

    async def pause(self, account: str, seconds: float | None) -> float:
        """See `Budget`."""
        state = self._state(account)

        def step(ledger: Ledger, allowance: Allowance, now: float) -> tuple[Ledger, float]:
            paused = books.pause(ledger, allowance, seconds, now)
            return paused, paused.paused_until - now

        try:
            return await self._change(state, step)
        except LedgerLostError:
            now = self._ledgers.now()
            state.ledger, left = step(self._absorbed(state, state.allowance, now), state.allowance, now)
            state.pause_owed = now + left
            return left

    async def _queue_up(self, state: _Account, waiter: _Waiter) -> CallPermit:
        if len(state.queue) >= LONGEST_QUEUE:
            raise Refused(Failure(Problem.OVERLOADED, "too many calls wait for the budget", retry_after=1.0))
        if (memo := self._known_refusal(state, waiter)) is not None:
            raise _refusal(memo)
        state.queue.append(waiter)
        state.call.set()
        if not state.is_served:
            state.is_served = True
            self._tasks.spawn(self._serve(state), name="serve calls")
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in state.queue:
                state.queue.remove(waiter)
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                waiter.turn.result().void()
                self._end(state, waiter.turn.result())
            raise

    def _known_refusal(self, state: _Account, waiter: _Waiter) -> Wait | None:
        given_at, wait = state.refused.get((waiter.want.lane, waiter.want.client), (float("-inf"), None))
        now = self._clock()
        if wait is None or now - given_at > MEMO_SECONDS or given_at + wait.seconds <= waiter.give_up_at:
            return None
        return Wait(given_at + wait.seconds - now, wait.why)

    def _end(self, state: _Account, permit: CallPermit) -> None:
        if permit.is_void:
            state.own.pop(permit.id, None)
            state.voided.add(permit.id)
        else:
            if permit.id in state.own:
                state.own[permit.id].free_at = self._clock() + state.allowance.window
            state.succeeded.add(permit.id)
        state.call.set()
        if self._ledgers.wants_ends and not state.owes_ends:
            state.owes_ends = True
            self._tasks.spawn(self._report_ends(state), name="report ends of calls")

    async def _serve(self, state: _Account) -> None:
        """Gives places to waiting calls, and refuses those whose wait cannot succeed."""
        try:
            while state.queue:
                state.call.clear()
                asked = self._clock()
                waiters = self._in_order(state)
                answers = await self._ask(state, [waiter.want for waiter in waiters])
                pauses = [self._tell(state, *pair, asked) for pair in zip(waiters, answers, strict=True)]
                if state.queue:
                    await self._sleep(state, min(filter(None, pauses), default=books.GATHER_SECONDS))
        finally:
            state.is_served = False

    def _tell(self, state: _Account, waiter: _Waiter, answer: Place | Wait, asked: float) -> float | None:
        """Passes the answer on. Returns the seconds after which to ask again for a call that goes on waiting."""
        if isinstance(answer, Place):
            state.own[answer.id] = _Own(answer.lane, answer.client, asked + state.allowance.most)
            permit = CallPermit(answer.id, asked + state.allowance.leave)
            if waiter.turn.done():
                permit.void()
                self._end(state, permit)
            else:
                waiter.turn.set_result(permit)
        elif self._clock() + answer.seconds <= waiter.give_up_at and not waiter.turn.done():
            return max(answer.seconds, 0.001)
        elif (
            not waiter.turn.done()
            and self._is_blip(state)
            and self._clock() + books.GATHER_SECONDS <= waiter.give_up_at
        ):
            return books.GATHER_SECONDS
        elif not waiter.turn.done():
            state.refused[waiter.want.lane, waiter.want.client] = (asked, answer)
            waiter.turn.set_exception(_refusal(answer))
        if waiter in state.queue:
            state.queue.remove(waiter)
        return None

    async def _sleep(self, state: _Account, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await state.call.wait()
        except TimeoutError:
            return

    def _in_order(self, state: _Account) -> list[_Waiter]:
        """By lane; first come, first served, but where callers wait: there whoever has the fewest calls goes first."""
        places = state.ledger.places if state.ledger is not None else ()
        held = Counter((place.lane, place.client) for place in places)
        ranked = []
        for waiter in sorted(state.queue, key=lambda waiter: waiter.arrival):
            whose = (waiter.want.lane, waiter.want.client)
            fewest = held[whose] if waiter.want.lane.is_waited_for else 0
            ranked.append((_LANES[waiter.want.lane], fewest, waiter.arrival, waiter))
            held[whose] += 1
        return [row[-1] for row in sorted(ranked, key=lambda row: row[:-1])]

    async def _ask(self, state: _Account, wants: list[Want]) -> list[Place | Wait]:
        try:
            return await self._change(state, lambda ledger, allowance, now: books.grant(ledger, allowance, wants, now))
        except LedgerLostError:
            # The change may have been made all the same: places nobody knows of are given back when it can be said.
            state.voided.update(want.id for want in wants)
        allowance = self._alone(state)
        if allowance is None:
            return [Wait(self._sit_out_left(state), Why.SPENT)] * len(wants)
        renamed = [replace(want, id=f"{want.id}.alone") for want in wants]
        now = self._ledgers.now()
        state.ledger, answers = books.grant(self._absorbed(state, allowance, now), allowance, renamed, now)
        return answers

    async def _change(self, state: _Account, step: Callable[[Ledger, Allowance, float], tuple[Ledger, _T]]) -> _T:
        """Puts this replica's calls into the ledger and does the step on it, as one change."""
        voided, succeeded = frozenset(state.voided), frozenset(state.succeeded)

        def whole(ledger: Ledger | None, now: float) -> tuple[Ledger, tuple[Ledger, _T]]:
            # Early for what has to fall free, late for what has to be held: the shared clock is known only so well.
            report = self._report_of(state, now, voided, succeeded)
            early = now - self._ledgers.error
            ledger = books.absorb(ledger, report, state.allowance, early)
            if state.pause_owed > max(early, ledger.paused_until):
                ledger = replace(ledger, paused_until=state.pause_owed)
            ledger, result = step(ledger, state.allowance, early)
            return ledger, (ledger, result)

        try:
            ledger, result = await self._ledgers.change(state.name, whole)
        except LedgerLostError as error:
            if state.lost_at is None:
                state.lost_at = self._clock()
                _log.warning("the ledger of calls is lost (%s): %d replicas were known", error, state.known)
            raise
        if state.lost_at is not None:
            _log.info("the ledger of calls is there again")
        state.lost_at = None
        state.pause_owed = 0.0
        state.ledger = ledger
        state.known = max(len(ledger.replicas), ledger.expected if self._ledgers.now() < ledger.whole_at else 1)
        state.voided -= voided
        state.succeeded -= succeeded
        state.own = {id_: own for id_, own in state.own.items() if own.free_at > self._clock()}
        return result

    def _alone(self, state: _Account) -> Allowance | None:
        """What this replica may do now; None while it has to sit out."""
        if state.lost_at is None or state.known == 1:
            return state.allowance
        return books.share(state.allowance, state.known) if self._sit_out_left(state) <= 0 else None

    def _is_blip(self, state: _Account) -> bool:
        return state.lost_at is not None and self._clock() - state.lost_at < BLIP_SECONDS

    def _sit_out_left(self, state: _Account) -> float:
        # The others may go on with the whole budget until they miss this replica, and their last calls may take all of
        # their time to arrive.
        lost_at = state.lost_at or 0.0
        return lost_at + books.SILENCE_SECONDS + state.allowance.most - self._clock()

    def _absorbed(self, state: _Account, allowance: Allowance, now: float) -> Ledger:
        """The ledger as this replica alone knows it."""
        ledger = state.ledger
        if ledger is not None and state.lost_at is not None:
            others = () if state.known > 1 else ledger.places
            ledger = replace(ledger, replicas={}, expected=0, whole_at=0.0, places=others)
        report = self._report_of(state, now, frozenset(state.voided), frozenset(state.succeeded))
        return books.absorb(ledger, replace(report, known=1), allowance, now)

    def _report_of(self, state: _Account, now: float, voided: frozenset[str], succeeded: frozenset[str]) -> Report:
        shift = now + self._ledgers.error - self._clock()
        places: Mapping[str, Place] = {
            id_: Place(id_, own.lane, own.client, own.free_at + shift) for id_, own in state.own.items()
        }
        return Report(self._replica, state.known, places, voided, succeeded, self._ledgers.server(state.name))

    async def _report(self, state: _Account) -> None:
        try:
            await self._change(state, lambda ledger, _allowance, _now: (ledger, None))
        except LedgerLostError:
            return
        state.call.set()

    async def _report_ends(self, state: _Account) -> None:
        state.owes_ends = False
        await self._report(state)

    async def _keep_reporting(self, state: _Account) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await self._report(state)

    def _state(self, account: str) -> _Account:
        state = self._accounts.get(account)
        if state is None:
            state = self._accounts[account] = _Account(account, self._allowance(account), known=self._replicas)
        return state


def _future() -> asyncio.Future[CallPermit]:
    return asyncio.get_running_loop().create_future()


def _refusal(wait: Wait) -> Refused:
    if wait.why is Why.PAUSED:
        return Refused(Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=wait.seconds))
    return Refused(Failure(Problem.BUDGET_EXHAUSTED, "the account's calls for now are spent", retry_after=wait.seconds))
