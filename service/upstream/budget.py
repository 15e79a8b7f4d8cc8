"""The call budget: a fair queue per account in front of its ledger, alone or shared with other replicas.

How a replica goes on when the shared ledger is lost (never by failing open):

1. It always keeps its own calls itself. If it is the only replica known, they are the whole truth: no pause.
2. If it is one of several, it sends nothing while calls that it cannot know of may be in the window: until the others
   have missed it, and one window after their last call. Then it keeps to its share: the budget divided by the replicas
   last known, rounded down, which the others withhold for a while (`WITHHELD_WINDOWS`).
3. When the ledger is there again, it first puts its own calls back (`policy.ledger.absorb`), and goes on exactly.

A refusal is cheap: it is answered out of the ledger as last seen, before anything is made for the caller.
"""

import asyncio
import itertools
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from service.policy import capacity as learning
from service.policy import ledger as books
from service.policy import schedule
from service.policy.ledger import Allowance, Lane, Ledger, Place, Report, Wait, Want, Why
from service.policy.schedule import Outlook, Quota, Schedule
from service.policy.settle import Failure
from service.problems import Problem
from service.proxy.ports import LedgerLostError, Ledgers, Meter, Refused
from service.proxy.tasks import Tasks
from service.upstream.promises import Promises

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

REPORT_SECONDS = 1.0
"""How often a replica shows itself in a shared ledger, and writes down which of its calls have ended."""
BLIP_SECONDS = 1.5
"""A loss of the ledger that may be over at the next look: callers who can wait are kept this long, not refused."""
LONGEST_QUEUE = 2_000
SCHEDULE_SECONDS = 0.25
"""How long refusals are answered out of the same look at the ledger."""
SHIFTS = 1024
"""Parts of a second in which the distance between the shared clock and the monotonic one is told, rounded up."""


class CallPermit:
    """Implements `Permit`."""

    def __init__(self, id_: str, leave_by: float) -> None:
        self.id = id_
        self.leave_by = leave_by
        self.is_void = False

    def void(self) -> None:
        """See `Permit`."""
        self.is_void = True


@dataclass(slots=True)
class _Own:
    """One of this replica's own calls; the time is monotonic, so it is true whatever the shared clock does."""

    lane: Lane
    client: str
    free_at: float
    place: Place
    """The same for the ledger, as told last."""
    shift: float = math.nan
    """The distance between the clocks that `place` was made for."""


@dataclass(slots=True, eq=False)
class _Waiter:
    want: Want
    key: str
    can_wait: bool
    give_up_at: float
    turn: asyncio.Future[CallPermit]


@dataclass(slots=True)
class _Account:
    name: str
    allowance: Allowance
    promises: Promises
    known: int
    """How many replicas there were when the shared ledger was last seen."""
    own: dict[str, _Own] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    succeeded: set[str] = field(default_factory=set)
    queue: list[_Waiter] = field(default_factory=list)
    queued: Counter[str] = field(default_factory=Counter)
    """Callers in the queue, by client."""
    ledger: Ledger | None = None
    """As last seen, or this replica's own while the shared one is lost."""
    seen: Ledger | None = None
    """The same with what this replica has known since; None when it has to be worked out anew ..."""
    seen_at: float = 0.0
    """... as it has to be some time after this moment."""
    claims: Schedule | None = None
    """Made of `seen`, for refusals."""
    lost_at: float | None = None
    pause_owed: float = 0.0
    """Until when the platform asked for a pause while the shared ledger was lost."""
    is_served: bool = False
    owes_ends: bool = False
    """Whether calls have ended that are about to be reported."""
    call: asyncio.Event = field(default_factory=asyncio.Event)

    def forget_seen(self) -> None:
        """What was worked out is out of date."""
        self.seen = self.claims = None


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

    # What is known without asking anybody.

    def remaining(self, account: str) -> int:
        """Calls that a waiting caller could send now."""
        ledger, allowance, now = self._seen(self._state(account))
        return schedule.remaining(ledger, allowance, now)

    def outlook(self, account: str) -> Outlook:
        """What the account's calls look like to whoever plans calls that nobody waits for."""
        state = self._state(account)
        ledger, allowance, now = self._seen(state)
        known = schedule.outlook(ledger, allowance, now)
        return replace(known, is_wanted=True) if state.queued and not known.is_wanted else known

    def capacity(self, account: str) -> int:
        """Calls in a window, as far as the platform was seen to allow them."""
        state = self._state(account)
        ledger, _, now = self._seen(state)
        return learning.learned(ledger, state.allowance, now)

    def window_calls(self, account: str) -> Mapping[Lane, int]:
        """Calls that each lane holds at present."""
        ledger, _, now = self._seen(self._state(account))
        return Counter(place.lane for place in ledger.places if place.free_at > now)

    def quota(self, account: str, client: str) -> Quota:
        """The client's own share of the account's calls."""
        return schedule.quota(*self._seen(self._state(account))[:2], client, self._ledgers.now())

    def is_paused(self, account: str) -> bool:
        """Whether the platform has asked for a pause that is not over."""
        ledger = self._state(account).ledger
        return ledger is not None and ledger.paused_until > 0

    def pause_left(self, account: str) -> float:
        """Seconds until the pause that the platform has asked for may be over; 0 without one."""
        ledger = self._state(account).ledger
        return 0.0 if ledger is None else max(0.0, ledger.paused_until - self._ledgers.now())

    def replicas(self, account: str) -> int:
        """How many replicas share the budget, as last seen."""
        return self._state(account).known

    def is_cut_off(self, account: str) -> bool:
        """Whether the shared ledger is lost and this replica goes on by itself."""
        return self._state(account).lost_at is not None

    def refusal(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        """See `Budget`."""
        state = self._state(account)
        claims = self._claims(state)
        if claims is None:
            return None
        now = self._ledgers.now()
        at = state.promises.told(client, key)
        if at is not None and at > now - state.allowance.window:
            if at <= now + wait:
                return None
            self._meter.budget_wait(lane.value, 0.0)
            return _failure(Wait(at - now, Why.SPENT))
        told = claims.forecast(Want("", lane, client), self._ahead(state, lane, client))
        since = claims.now - now
        if told is None or told.soonest + since <= wait:
            return None
        self._meter.budget_wait(lane.value, 0.0)
        told = replace(told, seconds=max(0.0, told.seconds + since))
        if wait > 0 and lane.is_waited_for:
            self._promise(state, client, key, now + told.seconds)
        return _failure(told)

    # Calls.

    @asynccontextmanager
    async def permit(
        self, account: str, lane: Lane, client: str, wait: float, key: str = ""
    ) -> AsyncIterator[CallPermit]:
        """See `Budget`."""
        if (refused := self.refusal(account, lane, client, key, wait)) is not None:
            raise Refused(refused)
        state = self._state(account)
        began = self._clock()
        number = next(self._numbers)
        is_promised = self._is_promised(state, client, key)
        want = Want(f"{self._replica}.{number}", lane, client, number, is_promised)
        try:
            permit = await self._queue_up(state, _Waiter(want, key, wait > 0, began + wait, _future()))
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
            paused = learning.pause(ledger, allowance, seconds, now)
            return paused, paused.paused_until - now

        try:
            return await self._change(state, step)
        except LedgerLostError:
            now = self._ledgers.now()
            state.ledger, left = step(self._absorbed(state, state.allowance, now), state.allowance, now)
            state.pause_owed = now + left
            state.forget_seen()
            return left

    async def _queue_up(self, state: _Account, waiter: _Waiter) -> CallPermit:
        if len(state.queue) >= LONGEST_QUEUE:
            raise Refused(Failure(Problem.OVERLOADED, "too many calls wait for the budget", retry_after=1.0))
        state.queue.append(waiter)
        if waiter.want.lane.is_waited_for:
            state.queued[waiter.want.client] += 1
        state.call.set()
        if not state.is_served:
            state.is_served = True
            self._tasks.spawn(self._serve(state), name="serve calls")
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter in state.queue:
                self._leave(state, waiter)
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                waiter.turn.result().void()
                self._end(state, waiter.turn.result())
            raise

    def _leave(self, state: _Account, waiter: _Waiter) -> None:
        if waiter not in state.queue:
            return
        state.queue.remove(waiter)
        client = waiter.want.client
        if waiter.want.lane.is_waited_for:
            state.queued[client] -= 1
            if not state.queued[client]:
                del state.queued[client]

    def _end(self, state: _Account, permit: CallPermit) -> None:
        if permit.is_void:
            state.own.pop(permit.id, None)
            state.voided.add(permit.id)
        else:
            if permit.id in state.own:
                state.own[permit.id].free_at = self._clock() + state.allowance.window
                state.own[permit.id].shift = math.nan
            state.succeeded.add(permit.id)
        state.forget_seen()
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
                    await self._sleep(state, min(filter(None, pauses), default=schedule.GATHER_SECONDS))
        finally:
            state.is_served = False

    def _in_order(self, state: _Account) -> list[_Waiter]:
        """Those who wait, in the order in which they are served; as many as there can be places."""
        by_id = {waiter.want.id: waiter for waiter in state.queue}
        wants = schedule.line_up(state.ledger, state.allowance, [waiter.want for waiter in state.queue])
        now = self._clock()
        last = max(1, state.allowance.calls)
        # Who is too far back to be weighed, and has to be told because its time is up.
        late = [want for want in wants[last:] if by_id[want.id].give_up_at <= now]
        return [by_id[want.id] for want in (*wants[:last], *late)]

    def _tell(self, state: _Account, waiter: _Waiter, answer: Place | Wait, asked: float) -> float | None:
        """Passes the answer on. Returns the seconds after which to ask again for a call that goes on waiting."""
        if isinstance(answer, Place):
            state.own[answer.id] = _Own(answer.lane, answer.client, asked + state.allowance.most, answer)
            state.forget_seen()
            permit = CallPermit(answer.id, asked + state.allowance.leave)
            if waiter.turn.done():
                permit.void()
                self._end(state, permit)
            else:
                waiter.turn.set_result(permit)
        elif self._clock() + answer.soonest <= waiter.give_up_at and not waiter.turn.done():
            return max(answer.soonest, 0.001)
        elif (
            not waiter.turn.done()
            and self._is_blip(state)
            and self._clock() + schedule.GATHER_SECONDS <= waiter.give_up_at
        ):
            return schedule.GATHER_SECONDS
        elif not waiter.turn.done():
            want = waiter.want
            if waiter.can_wait and want.lane.is_waited_for:
                self._promise(state, want.client, waiter.key, self._ledgers.now() + answer.seconds)
            waiter.turn.set_exception(Refused(_failure(answer)))
        self._leave(state, waiter)
        return None

    async def _sleep(self, state: _Account, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await state.call.wait()
        except TimeoutError:
            return

    # Promises.

    def _ahead(self, state: _Account, lane: Lane, client: str) -> int:
        """How many of those who wait go before one more caller of the client: its own, and as many of each other's."""
        queued, own = state.queued, state.queued.get(client, 0)
        if not lane.is_waited_for:
            return queued.total()
        return own + sum(min(count, own + 1) for other, count in queued.items() if other != client)

    def _promise(self, state: _Account, client: str, key: str, at: float) -> None:
        if state.promises.give(client, key, at, self._ledgers.now()) and state.claims is not None:
            state.claims.promise(client)
        state.seen = None

    def _is_promised(self, state: _Account, client: str, key: str) -> bool:
        """Whether the caller was told to come now: by this replica, or perhaps by another."""
        now = self._ledgers.now()
        if state.promises.take(client, key, now):
            state.forget_seen()
            return True
        others = state.ledger.promises if state.ledger is not None else ()
        return any(row.client == client and row.replica != self._replica and row.at <= now for row in others)

    # The ledger.

    async def _ask(self, state: _Account, wants: list[Want]) -> list[Place | Wait]:
        try:
            return await self._change(state, partial(_grant, wants))
        except LedgerLostError:
            # The change may have been made all the same: places nobody knows of are given back when it can be said.
            state.voided.update(want.id for want in wants)
        allowance = self._alone(state)
        if allowance is None:
            left = self._sit_out_left(state)
            return [Wait(left, Why.SPENT, left)] * len(wants)
        renamed = [replace(want, id=f"{want.id}.alone") for want in wants]
        now = self._ledgers.now()
        state.ledger, answers = schedule.grant(self._absorbed(state, allowance, now), allowance, renamed, now)
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
                state.forget_seen()
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
        now = self._clock()
        for id_ in [id_ for id_, own in state.own.items() if own.free_at <= now]:
            del state.own[id_]
        state.forget_seen()
        return result

    def _alone(self, state: _Account) -> Allowance | None:
        """What this replica may do now; None while it has to sit out."""
        if state.lost_at is None or state.known == 1:
            return state.allowance
        return schedule.share(state.allowance, state.known) if self._sit_out_left(state) <= 0 else None

    def _is_blip(self, state: _Account) -> bool:
        return state.lost_at is not None and self._clock() - state.lost_at < BLIP_SECONDS

    def _sit_out_left(self, state: _Account) -> float:
        # The others may go on with the whole budget until they miss this replica, and their last calls may take all of
        # their time to arrive.
        lost_at = state.lost_at or 0.0
        return lost_at + books.SILENCE_SECONDS + state.allowance.most - self._clock()

    def _seen(self, state: _Account) -> tuple[Ledger, Allowance, float]:
        """What this replica knows, what it may do, and the time."""
        now = self._ledgers.now()
        allowance = self._alone(state) or replace(state.allowance, calls=0)
        if state.seen is None or not 0 <= now - state.seen_at < REPORT_SECONDS:
            state.seen, state.seen_at = self._absorbed(state, allowance, now), now
        return state.seen, allowance, now

    def _claims(self, state: _Account) -> Schedule | None:
        """The table of claims as this replica knows it; None where it does not know enough to refuse anybody."""
        now = self._ledgers.now()
        if state.ledger is None or self._is_blip(state) or self._alone(state) is None:
            return None
        if not books.is_whole(state.ledger, now):
            return None
        if state.claims is None or not 0 <= now - state.claims.now < SCHEDULE_SECONDS:
            ledger, allowance, now = self._seen(state)
            state.claims = Schedule(ledger, allowance, now)
        return state.claims

    def _absorbed(self, state: _Account, allowance: Allowance, now: float) -> Ledger:
        """The ledger as this replica alone knows it."""
        ledger = state.ledger
        if ledger is not None and state.lost_at is not None:
            others = () if state.known > 1 else ledger.places
            ledger = replace(ledger, replicas={}, expected=0, whole_at=0.0, places=others)
        report = self._report_of(state, now, frozenset(state.voided), frozenset(state.succeeded))
        return books.absorb(ledger, replace(report, known=1), allowance, now)

    def _report_of(self, state: _Account, now: float, voided: frozenset[str], succeeded: frozenset[str]) -> Report:
        shift = math.ceil((now + self._ledgers.error - self._clock()) * SHIFTS) / SHIFTS
        for id_, own in state.own.items():
            if own.shift != shift:
                own.place, own.shift = Place(id_, own.lane, own.client, own.free_at + shift), shift
        return Report(
            self._replica,
            state.known,
            {id_: own.place for id_, own in state.own.items()},
            voided,
            succeeded,
            self._ledgers.server(state.name),
            state.promises.rows(self._replica, now),
            state.promises.refused,
        )

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
            allowance = self._allowance(account)
            state = self._accounts[account] = _Account(account, allowance, Promises(allowance), known=self._replicas)
        return state


def _grant(
    wants: Sequence[Want], ledger: Ledger, allowance: Allowance, now: float
) -> tuple[Ledger, list[Place | Wait]]:
    return schedule.grant(ledger, allowance, wants, now)


def _future() -> asyncio.Future[CallPermit]:
    return asyncio.get_running_loop().create_future()


def _failure(wait: Wait) -> Failure:
    if wait.why is Why.PAUSED:
        return Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=wait.seconds)
    return Failure(Problem.BUDGET_EXHAUSTED, "the account's calls for now are spent", retry_after=wait.seconds)
