"""The call budget: a fair queue per account in front of its ledger, its own or shared with other replicas.

Who gets the next call is decided in `policy.schedule`; what a replica knows of an account, and how it goes on without
the shared ledger, is in `upstream.account`; those who wait are in `upstream.queue`. A refusal is cheap: it is answered
out of the ledger as last seen, before anything is made for the caller.
"""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from typing_extensions import override

from campaign_gateway.policy import capacity as learning
from campaign_gateway.policy.cells import Window, window_of
from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot, SlotRequest, Wait, WaitReason, held_slots
from campaign_gateway.policy.outlook import Outlook, Quota, outlook, quota, remaining
from campaign_gateway.policy.reports import depart
from campaign_gateway.policy.schedule import GATHER_SECONDS
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import Budget, LedgerLostError, Ledgers, Meter, Refused
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.upstream.account import REPORT_SECONDS, Account
from campaign_gateway.upstream.pauses import is_paused
from campaign_gateway.upstream.queue import CallPermit, Queue, Waiter

LONGEST_QUEUE = 2_000
LOOK_SECONDS = 0.25
"""How often a replica asks whether others miss calls that are allotted to it."""


class CallBudget(Budget):
    """The calls of all accounts, each with its queue."""

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
        self._queues: dict[str, Queue] = {}

    async def start(self, accounts: Sequence[str]) -> None:
        """Shows this replica in the shared ledgers, and keeps doing so."""
        if self._ledgers.is_local:
            return
        for account in accounts:
            await self.report(account)
        # Whoever has nothing to say would not learn of this one for a while.
        await self._notify(accounts)
        self._tasks.supervise(self._keep_reporting, name="report calls")

    def amend(self) -> None:
        """Asks anew what each account may do, and looks after those who wait again."""
        for name, queue in self._queues.items():
            queue.account.amend(self._allowance(name))
        self.wake()

    async def depart(self) -> None:
        """Takes this replica out of the shared ledgers, so that nobody waits for it or withholds its share."""
        for queue in self._queues.values():
            try:
                await queue.account.change(lambda ledger, _allowance, _now: (depart(ledger, self._replica), None))
            except LedgerLostError:
                continue

    # What is known without asking anybody.

    def remaining(self, account: str) -> int:
        """Calls that a waiting caller could send now."""
        return remaining(*self._queue(account).account.seen())

    def outlook(self, account: str) -> Outlook:
        """What the account's calls look like to whoever plans calls that nobody waits for."""
        queue = self._queue(account)
        known = outlook(*queue.account.seen())
        return replace(known, is_contended=True) if queue.callers and not known.is_contended else known

    def capacity(self, account: str) -> int:
        """Calls in a window, as far as the platform was seen to allow them."""
        queue = self._queue(account)
        ledger, _, now = queue.account.seen()
        return learning.learned(ledger, queue.account.allowance, now)

    def window_calls(self, account: str) -> Mapping[Lane, int]:
        """Calls that each lane holds at present."""
        ledger, _, now = self._queue(account).account.seen()
        return Counter(slot.lane for slot in held_slots(ledger, now))

    def window(self, account: str) -> Window:
        """The account's window, call by call."""
        known = self._queue(account).account
        ledger, permitted, now = known.seen()
        return window_of(ledger, known.allowance, permitted, now)

    def quota(self, account: str, client: str) -> Quota:
        """The client's own share of the account's calls."""
        ledger, allowance, now = self._queue(account).account.seen()
        return quota(ledger, allowance, client, now)

    def is_paused(self, account: str) -> bool:
        """Whether the platform has asked for a pause that is not over."""
        return is_paused(self._queue(account).account.ledger)

    def pause_left(self, account: str) -> float:
        """Seconds until the pause that the platform has asked for may be over; 0 without one."""
        ledger = self._queue(account).account.ledger
        return 0.0 if ledger is None else max(0.0, ledger.paused_until - self._ledgers.now())

    def waiting(self, account: str) -> int:
        """How many wait for the account's calls in this replica."""
        return len(self._queue(account).waiters)

    def replicas(self, account: str) -> int:
        """How many replicas share the budget, as last seen."""
        return self._queue(account).account.known

    def is_cut_off(self, account: str) -> bool:
        """Whether the shared ledger is lost and this replica goes on by itself."""
        return self._queue(account).account.is_cut_off

    @override
    def refusal(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        known = self._queue(account).account
        foreseen = self._foresee(account, lane, client, key, wait)
        if foreseen is None:
            return None
        self._meter.budget_wait(lane.value, 0.0)
        if wait > 0 and lane.is_waited_for and not foreseen.is_promised:
            known.promise(client, key, self._ledgers.now() + foreseen.wait.seconds)
        return _failure(known, foreseen.wait)

    @override
    def prospect(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        foreseen = self._foresee(account, lane, client, key, wait)
        return None if foreseen is None else _failure(self._queue(account).account, foreseen.wait)

    def _foresee(self, account: str, lane: Lane, client: str, key: str, wait: float) -> "_Foreseen | None":
        """The wait that is longer than the one that is asked for; None where there is none, or it is not known."""
        queue = self._queue(account)
        known = queue.account
        if known.has_spare(lane) and not queue.waiters:
            return None
        claims = known.claims()
        if claims is None:
            return None
        now = self._ledgers.now()
        at = known.promises.promised_at(client, key)
        if at is not None and at > now - known.allowance.window:
            return None if at <= now + wait else _Foreseen(Wait(at - now, WaitReason.SPENT), is_promised=True)
        forecast = claims.forecast(SlotRequest("", lane, client), queue.ahead_of(lane, client))
        if forecast is None or forecast.reason is WaitReason.ALLOTTED:
            return None
        since = claims.now - now
        forecast = known.in_time(Wait(max(0.0, forecast.seconds + since), forecast.reason, forecast.soonest + since))
        return None if forecast.soonest <= wait else _Foreseen(forecast, is_promised=False)

    def wake(self) -> None:
        """Has all who wait looked after again, as if a call had ended."""
        for queue in self._queues.values():
            queue.woken.set()

    # Calls.

    @override
    @asynccontextmanager
    async def permit(
        self, account: str, lane: Lane, client: str, wait: float, key: str = ""
    ) -> AsyncIterator[CallPermit]:
        if (refused := self.refusal(account, lane, client, key, wait)) is not None:
            raise Refused(refused)
        queue = self._queue(account)
        began, number = self._clock(), next(self._numbers)
        is_promised = queue.account.take_promise(client, key)
        request = SlotRequest(f"{self._replica}.{number}", lane, client, number, is_promised)
        try:
            permit = await self._queue_up(queue, Waiter(request, key, wait > 0, began + wait, _future()))
        finally:
            self._meter.budget_wait(lane.value, self._clock() - began)
        try:
            yield permit
        finally:
            self._end(queue, permit)

    @override
    async def pause(self, account: str, seconds: float | None) -> float:
        queue = self._queue(account)

        def step(ledger: Ledger, allowance: Allowance, now: float) -> tuple[Ledger, float]:
            paused = learning.pause(ledger, allowance, seconds, now)
            return paused, paused.paused_until - now

        try:
            return await queue.account.change(step)
        except LedgerLostError:
            now = self._ledgers.now()
            ledger, left = step(queue.account.absorbed(now), queue.account.allowance, now)
            queue.account.keep_pause(ledger)
            return left

    async def _queue_up(self, queue: Queue, waiter: Waiter) -> CallPermit:
        if len(queue.waiters) >= LONGEST_QUEUE:
            raise Refused(Failure(Problem.OVERLOADED, "too many calls wait for the budget", retry_after=1.0))
        queue.join(waiter)
        if not queue.is_served:
            queue.is_served = True
            self._tasks.spawn(self._serve(queue), name="serve calls")
        try:
            return await waiter.permit
        except asyncio.CancelledError:
            if waiter in queue.waiters:
                queue.remove(waiter)
            elif waiter.permit.done() and not waiter.permit.cancelled() and waiter.permit.exception() is None:
                waiter.permit.result().void()
                self._end(queue, waiter.permit.result())
            raise

    def _end(self, queue: Queue, permit: CallPermit) -> None:
        queue.account.end(permit.id, is_void=permit.is_void)
        queue.woken.set()
        if self._ledgers.reports_ends and not queue.has_ends_to_report:
            queue.has_ends_to_report = True
            self._tasks.spawn(self._report_ends(queue), name="report ends of calls")

    async def _serve(self, queue: Queue) -> None:
        """Gives slots to waiting calls, and refuses those whose wait cannot succeed."""
        try:
            while queue.waiters:
                queue.woken.clear()
                requested_at = self._clock()
                waiters = queue.in_order(requested_at, self._ledgers.now())
                answers = await queue.account.grant([waiter.request for waiter in waiters])
                pauses = [self._settle(queue, *pair, requested_at) for pair in zip(waiters, answers, strict=True)]
                await self._call_in(queue, answers)
                if queue.waiters:
                    await queue.wait_until_woken(min(filter(None, pauses), default=GATHER_SECONDS))
        finally:
            queue.is_served = False

    def _settle(self, queue: Queue, waiter: Waiter, answer: Slot | Wait, requested_at: float) -> float | None:
        """Passes the answer on. Returns the seconds after which to ask again for a call that goes on waiting."""
        has_left = waiter.permit.done()
        if isinstance(answer, Slot):
            permit = CallPermit(answer.id, requested_at + queue.account.allowance.leave)
            if has_left:
                permit.void()
                self._end(queue, permit)
            else:
                waiter.permit.set_result(permit)
        elif not has_left:
            pause = queue.look_again_after(answer, waiter.give_up_at - self._clock())
            if pause is not None:
                return pause
            self._refuse(queue, waiter, answer)
        queue.remove(waiter)
        return None

    def _refuse(self, queue: Queue, waiter: Waiter, wait: Wait) -> None:
        request = waiter.request
        if waiter.can_wait and request.lane.is_waited_for:
            queue.account.promise(request.client, waiter.key, self._ledgers.now() + wait.seconds)
        waiter.permit.set_exception(Refused(_failure(queue.account, wait)))

    # The ledger.

    async def _call_in(self, queue: Queue, answers: Sequence[Slot | Wait]) -> None:
        """Asks the other replicas to look at the ledger, if that is what somebody waits for."""
        is_missed = any(isinstance(answer, Wait) and answer.reason is WaitReason.ALLOTTED for answer in answers)
        if is_missed and not queue.is_notified:
            await self._notify([queue.account.name])
        queue.is_notified = is_missed

    async def _notify(self, accounts: Sequence[str]) -> frozenset[str] | None:
        """The accounts whose ledgers somebody asked to look at; None where that cannot be known."""
        try:
            return await self._ledgers.notify(accounts)
        except LedgerLostError:
            return None

    async def report(self, account: str) -> None:
        """Shows this replica in the account's ledger, with all that it knows."""
        queue = self._queue(account)
        try:
            await queue.account.report(has_waiters=bool(queue.waiters))
        except LedgerLostError:
            return
        queue.woken.set()

    async def refresh(self, account: str) -> None:
        """Has what is known of the account as new as it can be: a quiet replica sees a shared ledger rarely."""
        if not self._ledgers.is_local:
            await self.report(account)

    async def _report_ends(self, queue: Queue) -> None:
        queue.has_ends_to_report = False
        await self.report(queue.account.name)

    async def _keep_reporting(self) -> None:
        due = self._clock() + REPORT_SECONDS
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if is_due := self._clock() >= due:
                due = self._clock() + REPORT_SECONDS
            await self.look(is_due=is_due)

    async def look(self, *, is_due: bool = True) -> None:
        """Shows this replica where it is asked to look and, when that is due, where it has something to say."""
        noticed = await self._notify([queue.account.name for queue in self._queues.values() if queue.is_notified])
        for queue in list(self._queues.values()):
            account = queue.account
            is_rested = queue.looked_at + REPORT_SECONDS <= self._clock()
            is_noticed = noticed is not None and account.name in noticed and is_rested
            # Whoever cannot be asked by others finds out by looking.
            has_to = is_due and (noticed is None or bool(queue.waiters) or account.has_to_report())
            if is_noticed:
                queue.looked_at = self._clock()
            if is_noticed or has_to:
                await self.report(queue.account.name)

    def _queue(self, account: str) -> Queue:
        queue = self._queues.get(account)
        if queue is None:
            allowance = self._allowance(account)
            known = Account(account, allowance, self._ledgers, self._replica, self._replicas, self._clock)
            queue = self._queues[account] = Queue(known)
        return queue


@dataclass(frozen=True, slots=True)
class _Foreseen:
    wait: Wait
    is_promised: bool
    """Whether the caller was told so before."""


def _future() -> asyncio.Future[CallPermit]:
    return asyncio.get_running_loop().create_future()


def _failure(account: Account, wait: Wait) -> Failure:
    if wait.reason is WaitReason.PAUSED or is_paused(account.ledger):
        return Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=wait.seconds)
    return Failure(Problem.BUDGET_EXHAUSTED, "the account's calls are spent for now", retry_after=wait.seconds)
