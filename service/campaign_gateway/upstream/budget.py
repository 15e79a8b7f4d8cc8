"""The call budget: a fair queue per account in front of its ledger, alone or shared with other replicas.

Who gets the next call is decided in `policy.schedule`; what a replica knows of an account, and how it goes on without
the shared ledger, is in `upstream.account`. A refusal is cheap: it is answered out of the ledger as last seen, before
anything is made for the caller.
"""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from campaign_gateway.policy import capacity as learning
from campaign_gateway.policy import schedule
from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot, SlotRequest, Wait, WaitReason, depart
from campaign_gateway.policy.schedule import Outlook, Quota
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers, Meter, Refused
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.upstream.account import NEVER, REPORT_SECONDS, Account

LONGEST_QUEUE = 2_000
LOOK_SECONDS = 0.25
"""How often a replica asks whether others miss calls that are allotted to it."""


class CallPermit:
    """Implements `Permit`."""

    def __init__(self, id_: str, leave_by: float) -> None:
        self.id = id_
        self.leave_by = leave_by
        self.is_void = False

    def void(self) -> None:
        """See `Permit`."""
        self.is_void = True


@dataclass(slots=True, eq=False)
class _Waiter:
    request: SlotRequest
    key: str
    can_wait: bool
    give_up_at: float
    permit: asyncio.Future[CallPermit]


class _Queue(Account):
    """An account, and those who wait for its calls."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.waiters: list[_Waiter] = []
        self.callers: Counter[str] = Counter()
        """How many of them are callers, by client."""
        self.is_served = False
        self.has_ends_to_report = False
        """Whether calls have ended that are about to be reported."""
        self.looked_at = NEVER
        """When the ledger was last looked at for others."""
        self.is_notified = False
        """Whether the other replicas were asked to look at the ledger, since somebody began to wait for that."""
        self.call = asyncio.Event()

    def join(self, waiter: _Waiter) -> None:
        """One more waits."""
        self.waiters.append(waiter)
        if waiter.request.lane.is_waited_for:
            self.callers[waiter.request.client] += 1
        self.call.set()

    def leave(self, waiter: _Waiter) -> None:
        """One does not wait any longer."""
        if waiter not in self.waiters:
            return
        self.waiters.remove(waiter)
        client = waiter.request.client
        if waiter.request.lane.is_waited_for:
            self.callers[client] -= 1
            if not self.callers[client]:
                del self.callers[client]

    def ahead_of(self, lane: Lane, client: str) -> int:
        """How many of those who wait go before one more caller of the client: its own, and as many of each other's."""
        own = self.callers.get(client, 0)
        if not lane.is_waited_for:
            return self.callers.total()
        return own + sum(min(count, own + 1) for other, count in self.callers.items() if other != client)

    def in_order(self, now: float) -> list[_Waiter]:
        """Those who wait, in the order in which they are served; as many as there can be slots."""
        by_id = {waiter.request.id: waiter for waiter in self.waiters}
        requests = schedule.line_up(
            self.ledger, self.allowance, [waiter.request for waiter in self.waiters], self._ledgers.now()
        )
        last = max(1, self.allowance.calls)
        # Who is too far back to be weighed, and has to be told because its time is up.
        late = [request for request in requests[last:] if by_id[request.id].give_up_at <= now]
        return [by_id[request.id] for request in (*requests[:last], *late)]


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
        self._accounts: dict[str, _Queue] = {}

    async def start(self, accounts: Sequence[str]) -> None:
        """Shows this replica in the shared ledgers, and keeps doing so."""
        if not self._ledgers.is_shared:
            return
        for account in accounts:
            await self._report(self._state(account))
        # Whoever has nothing to say would not learn of this one for a while.
        await self._notify(accounts)
        self._tasks.spawn(self._keep_reporting(), name="report calls")

    async def depart(self) -> None:
        """Takes this replica out of the shared ledgers, so that nobody waits for it or withholds its share."""
        for state in self._accounts.values():
            try:
                await state.change(lambda ledger, _allowance, _now: (depart(ledger, self._replica), None))
            except LedgerLostError:
                continue

    # What is known without asking anybody.

    def remaining(self, account: str) -> int:
        """Calls that a waiting caller could send now."""
        return schedule.remaining(*self._state(account).seen())

    def outlook(self, account: str) -> Outlook:
        """What the account's calls look like to whoever plans calls that nobody waits for."""
        state = self._state(account)
        known = schedule.outlook(*state.seen())
        return replace(known, is_wanted=True) if state.callers and not known.is_wanted else known

    def capacity(self, account: str) -> int:
        """Calls in a window, as far as the platform was seen to allow them."""
        state = self._state(account)
        ledger, _, now = state.seen()
        return learning.learned(ledger, state.allowance, now)

    def window_calls(self, account: str) -> Mapping[Lane, int]:
        """Calls that each lane holds at present."""
        ledger, _, now = self._state(account).seen()
        return Counter(slot.lane for slot in ledger.slots if slot.free_at > now)

    def quota(self, account: str, client: str) -> Quota:
        """The client's own share of the account's calls."""
        ledger, allowance, now = self._state(account).seen()
        return schedule.quota(ledger, allowance, client, now)

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
        return self._state(account).is_cut_off

    def refusal(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        """See `Budget`."""
        state = self._state(account)
        if state.has_spare(lane) and not state.waiters:
            return None
        claims = state.claims()
        if claims is None:
            return None
        now = self._ledgers.now()
        at = state.promises.told(client, key)
        if at is not None and at > now - state.allowance.window:
            if at <= now + wait:
                return None
            self._meter.budget_wait(lane.value, 0.0)
            return _failure(Wait(at - now, WaitReason.SPENT))
        told = claims.forecast(SlotRequest("", lane, client), state.ahead_of(lane, client))
        if told is None or told.reason is WaitReason.ALLOTTED:
            return None
        since = claims.now - now
        told = state.in_time(Wait(max(0.0, told.seconds + since), told.reason, told.soonest + since))
        if told.soonest <= wait:
            return None
        self._meter.budget_wait(lane.value, 0.0)
        if wait > 0 and lane.is_waited_for:
            state.promise(client, key, now + told.seconds)
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
        began, number = self._clock(), next(self._numbers)
        request = SlotRequest(f"{self._replica}.{number}", lane, client, number, state.take_promise(client, key))
        try:
            permit = await self._queue_up(state, _Waiter(request, key, wait > 0, began + wait, _future()))
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
            return await state.change(step)
        except LedgerLostError:
            now = self._ledgers.now()
            ledger, left = step(state.absorbed(now), state.allowance, now)
            state.keep_pause(ledger)
            return left

    async def _queue_up(self, state: _Queue, waiter: _Waiter) -> CallPermit:
        if len(state.waiters) >= LONGEST_QUEUE:
            raise Refused(Failure(Problem.OVERLOADED, "too many calls wait for the budget", retry_after=1.0))
        state.join(waiter)
        if not state.is_served:
            state.is_served = True
            self._tasks.spawn(self._serve(state), name="serve calls")
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            if waiter in state.waiters:
                state.leave(waiter)
            elif waiter.permit.done() and not waiter.permit.cancelled() and waiter.permit.exception() is None:
                waiter.permit.result().void()
                self._end(state, waiter.permit.result())
            raise

    def _end(self, state: _Queue, permit: CallPermit) -> None:
        state.end(permit.id, is_void=permit.is_void)
        state.call.set()
        if self._ledgers.wants_ends and not state.has_ends_to_report:
            state.has_ends_to_report = True
            self._tasks.spawn(self._report_ends(state), name="report ends of calls")

    async def _serve(self, state: _Queue) -> None:
        """Gives slots to waiting calls, and refuses those whose wait cannot succeed."""
        try:
            while state.waiters:
                state.call.clear()
                asked = self._clock()
                waiters = state.in_order(asked)
                answers = await state.grant([waiter.request for waiter in waiters])
                pauses = [self._tell(state, *pair, asked) for pair in zip(waiters, answers, strict=True)]
                await self._call_in(state, answers)
                if state.waiters:
                    await self._sleep(state, min(filter(None, pauses), default=schedule.GATHER_SECONDS))
        finally:
            state.is_served = False

    def _tell(self, state: _Queue, waiter: _Waiter, answer: Slot | Wait, asked: float) -> float | None:
        """Passes the answer on. Returns the seconds after which to ask again for a call that goes on waiting."""
        if isinstance(answer, Slot):
            permit = CallPermit(answer.id, asked + state.allowance.leave)
            if waiter.permit.done():
                permit.void()
                self._end(state, permit)
            else:
                waiter.permit.set_result(permit)
        elif not waiter.permit.done():
            left = waiter.give_up_at - self._clock()
            if answer.soonest <= left:
                return max(answer.soonest, 0.001)
            if state.is_brief_loss and left >= schedule.GATHER_SECONDS:
                return schedule.GATHER_SECONDS
            request = waiter.request
            if waiter.can_wait and request.lane.is_waited_for:
                state.promise(request.client, waiter.key, self._ledgers.now() + answer.seconds)
            waiter.permit.set_exception(Refused(_failure(answer)))
        state.leave(waiter)
        return None

    async def _sleep(self, state: _Queue, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await state.call.wait()
        except TimeoutError:
            return

    # The ledger.

    async def _call_in(self, state: _Queue, answers: Sequence[Slot | Wait]) -> None:
        """Asks the other replicas to look at the ledger, if that is what somebody waits for."""
        is_missed = any(isinstance(answer, Wait) and answer.reason is WaitReason.ALLOTTED for answer in answers)
        if is_missed and not state.is_notified:
            await self._notify([state.name])
        state.is_notified = is_missed

    async def _notify(self, accounts: Sequence[str]) -> frozenset[str] | None:
        """The accounts whose ledgers somebody asked to look at; None where that cannot be known."""
        try:
            return await self._ledgers.notify(accounts)
        except LedgerLostError:
            return None

    async def _report(self, state: _Queue) -> None:
        try:
            await state.report(has_waiters=bool(state.waiters))
        except LedgerLostError:
            return
        state.call.set()

    async def _report_ends(self, state: _Queue) -> None:
        state.has_ends_to_report = False
        await self._report(state)

    async def _keep_reporting(self) -> None:
        due = self._clock() + REPORT_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if is_due := self._clock() >= due:
                due = self._clock() + REPORT_SECONDS
            await self._report_all(is_due=is_due)

    async def _report_all(self, *, is_due: bool = True) -> None:
        """Shows this replica where it is asked to look and, when that is due, where it has something to say."""
        noticed = await self._notify([state.name for state in self._accounts.values() if state.is_notified])
        for state in list(self._accounts.values()):
            is_told = (
                noticed is not None and state.name in noticed and state.looked_at + REPORT_SECONDS <= self._clock()
            )
            # Whoever cannot be told by others finds out by looking.
            has_to = is_due and (noticed is None or bool(state.waiters) or state.has_to_report())
            if is_told:
                state.looked_at = self._clock()
            if is_told or has_to:
                await self._report(state)

    def _state(self, account: str) -> _Queue:
        state = self._accounts.get(account)
        if state is None:
            allowance = self._allowance(account)
            state = _Queue(account, allowance, self._ledgers, self._replica, self._replicas, self._clock)
            self._accounts[account] = state
        return state


def _future() -> asyncio.Future[CallPermit]:
    return asyncio.get_running_loop().create_future()


def _failure(wait: Wait) -> Failure:
    if wait.reason is WaitReason.PAUSED:
        return Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=wait.seconds)
    return Failure(Problem.BUDGET_EXHAUSTED, "the account's calls for now are spent", retry_after=wait.seconds)
