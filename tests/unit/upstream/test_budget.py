import asyncio
import random
import time
from typing import Any

import pytest

from service.policy.window import Lane
from service.problems import Problem
from service.proxy.ports import Refused
from service.upstream.budget import LONGEST_PAUSE_SECONDS, Allowance, LocalBudget, LocalPermit
from tests.support.doubles import CountingMeter, ManualClock, turns

ACCOUNT = "acc-1"
WAITED_FOR = [Lane.WRITES, Lane.INTERACTIVE]
BESIDE = [Lane.PROOF, Lane.BACKGROUND]


class Counter:
    """A budget at a counter, and the callers in front of it."""

    def __init__(self, calls: int, window: float = 60.0, kept: int = 0, *, real_time: bool = False) -> None:
        self.clock, self.meter = ManualClock(1000.0), CountingMeter()
        now = time.monotonic if real_time else self.clock.now
        self.budget = LocalBudget(lambda _: Allowance(calls, window, kept), self.meter, now)
        self.order: list[str] = []
        self.callers: list[asyncio.Task[None]] = []

    def permit(self, lane: Lane = Lane.INTERACTIVE, wait: float = 0.0, account: str = ACCOUNT):
        return self.budget.permit(account, lane, wait)

    async def call(self, lane: Lane = Lane.INTERACTIVE, wait: float = 0.0, account: str = ACCOUNT) -> None:
        """One call that takes no time."""
        async with self.permit(lane, wait, account):
            pass

    async def refusal(self, lane: Lane = Lane.INTERACTIVE, wait: float = 0.0, account: str = ACCOUNT):
        with pytest.raises(Refused) as refused:
            await self.call(lane, wait, account)
        return refused.value.failure

    def caller(
        self, name: str, wait: float = 1000.0, *, leave: asyncio.Event | None = None, void: bool = True
    ) -> asyncio.Task[None]:
        """Queues for a permit, keeps it until told, and notes its turn."""

        async def queue() -> None:
            async with self.permit(wait=wait) as permit:
                self.order.append(name)
                if leave is not None:
                    await leave.wait()
                if void:
                    permit.void()

        self.callers.append(asyncio.create_task(queue()))  # noqa: TID251
        return self.callers[-1]

    async def close(self) -> None:
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)


@pytest.fixture
async def open_counter():
    opened: list[Counter] = []

    def make(calls: int, window: float = 60.0, kept: int = 0, *, real_time: bool = False) -> Counter:
        opened.append(Counter(calls, window, kept, real_time=real_time))
        return opened[-1]

    yield make
    for counter in opened:
        await counter.close()


# Places.


async def test_as_many_calls_as_allowed_go_at_once_and_not_one_more(open_counter):
    counter = open_counter(calls=3)
    for left in (2, 1, 0):
        await counter.call()
        assert counter.budget.remaining(ACCOUNT) == left
    failure = await counter.refusal()
    assert (failure.problem, failure.retry_after) == (Problem.BUDGET_EXHAUSTED, 60.0)


async def test_a_place_is_held_until_a_window_after_the_end_of_its_call_not_after_its_start(open_counter):
    """A slow call may have arrived at its very end."""
    counter = open_counter(calls=1)
    async with counter.permit():
        counter.clock.advance(100)
        assert counter.budget.remaining(ACCOUNT) == 0
    counter.clock.advance(59.9)
    assert (await counter.refusal()).retry_after == pytest.approx(0.1)
    counter.clock.advance(0.1)
    await counter.call()


async def test_a_call_that_failed_keeps_its_place(open_counter):
    counter = open_counter(calls=1)
    with pytest.raises(LookupError):
        async with counter.permit():
            raise LookupError
    assert counter.budget.remaining(ACCOUNT) == 0


async def test_void_gives_the_place_back_at_once(open_counter):
    counter = open_counter(calls=1)
    async with counter.permit() as permit:
        permit.void()
    assert counter.budget.remaining(ACCOUNT) == 1
    await counter.call()


async def test_accounts_do_not_share(open_counter):
    counter = open_counter(calls=1)
    await counter.call(account="one")
    await counter.call(account="two")
    counter.budget.pause("one", 30)
    assert (await counter.refusal(account="one")).problem is Problem.UPSTREAM_PAUSED
    assert (await counter.refusal(account="two")).problem is Problem.BUDGET_EXHAUSTED


async def test_each_account_has_its_own_allowance():
    calls = {"small": 1, "large": 3}
    budget = LocalBudget(lambda account: Allowance(calls[account], 60, 0), CountingMeter(), ManualClock().now)
    assert (budget.remaining("small"), budget.remaining("large")) == (1, 3)


# The reserve.


@pytest.mark.parametrize("lane", BESIDE)
async def test_lanes_that_nobody_waits_for_leave_the_reserve_alone(open_counter, lane):
    counter = open_counter(calls=5, kept=2)
    for _ in range(3):
        await counter.call(lane)
    failure = await counter.refusal(lane)
    assert (failure.problem, failure.retry_after) == (Problem.BUDGET_EXHAUSTED, 60.0)
    assert counter.budget.remaining(ACCOUNT) == 2


@pytest.mark.parametrize("lane", WAITED_FOR)
async def test_lanes_that_somebody_waits_for_may_use_it(open_counter, lane):
    counter = open_counter(calls=5, kept=2)
    for _ in range(5):
        await counter.call(lane)
    assert counter.budget.remaining(ACCOUNT) == 0


@pytest.mark.parametrize("lane", BESIDE)
async def test_a_lane_below_the_reserve_never_queues_in_front_of_somebody(open_counter, lane):
    counter = open_counter(calls=2, kept=1)
    await counter.call()
    await counter.call()
    assert (await counter.refusal(lane, wait=1000)).problem is Problem.BUDGET_EXHAUSTED


async def test_the_reserves_retry_after_counts_the_reserve_in(open_counter):
    counter = open_counter(calls=2, kept=1)
    await counter.call()
    counter.clock.advance(10)
    await counter.call()
    assert (await counter.refusal(Lane.PROOF)).retry_after == 60.0
    assert (await counter.refusal(Lane.INTERACTIVE)).retry_after == 50.0


# Waiting.


async def test_a_wait_that_cannot_succeed_is_refused_at_once(open_counter):
    counter = open_counter(calls=1)
    await counter.call()
    counter.clock.advance(20)
    assert (await counter.refusal(wait=39)).retry_after == 40.0


async def test_the_queue_in_front_counts_into_the_wait(open_counter):
    counter = open_counter(calls=2)
    await counter.call()
    counter.clock.advance(10)
    await counter.call()
    counter.caller("first", wait=55)
    await turns()
    failure = await counter.refusal(wait=55)
    assert failure.retry_after == 60.0, "the place that falls free in 50 s is spoken for"


async def test_a_wait_ends_when_the_window_does(open_counter):
    counter = open_counter(calls=1, window=0.05, real_time=True)
    await counter.call()
    await counter.call(wait=5.0)
    assert counter.meter.events["wait", "interactive"] == 2


async def test_waiting_is_first_come_first_served(open_counter):
    counter = open_counter(calls=1)
    async with counter.permit() as permit:
        for name in "abcde":
            counter.caller(name)
        await turns()
        assert counter.order == []
        permit.void()
    await turns()
    assert counter.order == list("abcde")


async def test_a_newcomer_does_not_overtake_the_queue(open_counter):
    counter = open_counter(calls=1)
    await counter.call()
    leave = asyncio.Event()
    counter.caller("first", leave=leave)
    await turns()
    counter.clock.advance(60)
    counter.caller("newcomer")
    await turns()
    assert counter.order == ["first"]
    leave.set()
    await turns()
    assert counter.order == ["first", "newcomer"]


async def test_a_wait_is_bounded_and_leaves_nothing_behind(open_counter):
    counter = open_counter(calls=1, window=0.01)
    async with counter.permit() as permit:
        failure = await counter.refusal(wait=0.02)
        assert failure.problem is Problem.BUDGET_EXHAUSTED
        assert failure.retry_after is not None
        permit.void()
    assert counter.budget.remaining(ACCOUNT) == 1


async def test_a_waiter_that_is_cancelled_leaves_the_queue(open_counter):
    counter = open_counter(calls=1)
    async with counter.permit() as permit:
        gone = counter.caller("gone")
        counter.caller("next")
        await turns()
        gone.cancel()
        await turns()
        permit.void()
    await turns()
    assert counter.order == ["next"]
    assert counter.budget.remaining(ACCOUNT) == 1


async def test_a_waiter_that_is_cancelled_with_its_turn_just_given_gives_it_on(open_counter):
    """1. the place falls free and is given to the first; 2. before that one runs, it is cancelled."""
    counter = open_counter(calls=1)
    async with counter.permit() as permit:
        gone = counter.caller("gone")
        counter.caller("next")
        await turns()
        permit.void()
    gone.cancel()
    await turns()
    assert counter.order == ["next"], "at once, and not when the window has passed"
    assert counter.budget.remaining(ACCOUNT) == 1


async def test_a_turn_given_in_the_moment_of_the_time_out_is_not_lost(open_counter):
    """1. the place falls free and is given; 2. in the same step of the loop the waiter's time runs out."""
    counter = open_counter(calls=1, window=0.01)
    async with counter.permit() as permit:
        waiter = counter.caller("late", wait=0.03)
        await turns()
        time.sleep(0.04)  # the loop is busy past the deadline
        await asyncio.sleep(0)  # now the deadline is due in the same step as what follows
        permit.void()
    await asyncio.gather(waiter, return_exceptions=True)
    assert counter.budget.remaining(ACCOUNT) == 1, "or each such moment costs the account a call for good"


async def test_all_who_wait_are_served_at_the_pace_of_the_window(open_counter):
    counter = open_counter(calls=3, window=0.04, real_time=True)
    sent: list[float] = []

    async def call() -> None:
        async with counter.permit(wait=5.0):
            sent.append(time.monotonic())

    await asyncio.gather(*(call() for _ in range(12)))
    assert len(sent) == 12
    assert all(later - earlier >= 0.04 for earlier, later in zip(sent, sent[3:], strict=False))


@pytest.mark.parametrize("seed", range(12))
async def test_in_no_window_are_there_more_arrivals_than_calls(open_counter, seed):
    """A call may arrive at any moment between its permit and its end."""
    dice = random.Random(seed)
    calls, window = dice.randint(1, 6), 10.0
    counter = open_counter(calls, window, kept=0)
    flying: list[tuple[LocalPermit, Any, float]] = []
    arrivals: list[float] = []
    refused = 0
    for _ in range(600):
        counter.clock.advance(dice.choice([0.0, 0.0, 0.1, 0.7, 2.3]))
        if flying and dice.random() < 0.5:
            permit, manager, sent = flying.pop(dice.randrange(len(flying)))
            if dice.random() < 0.2:
                permit.void()
            else:
                arrivals.append(dice.choice([sent, counter.clock.now(), dice.uniform(sent, counter.clock.now())]))
            await manager.__aexit__(None, None, None)
            continue
        manager = counter.permit(dice.choice(list(Lane)))
        try:
            flying.append((await manager.__aenter__(), manager, counter.clock.now()))
        except Refused:
            refused += 1
    for _, manager, sent in flying:
        arrivals.append(sent)
        await manager.__aexit__(None, None, None)
    arrivals.sort()
    assert len(arrivals) > 3 * calls
    assert refused > 0
    assert all(later - earlier >= window - 1e-6 for earlier, later in zip(arrivals, arrivals[calls:], strict=False))


# Pauses.


async def test_a_pause_refuses_calls_and_says_for_how_long(open_counter):
    counter = open_counter(calls=5)
    assert counter.budget.pause(ACCOUNT, 30) == 30.0
    assert counter.budget.remaining(ACCOUNT) == 0
    counter.clock.advance(10)
    failure = await counter.refusal(wait=1000)
    assert (failure.problem, failure.retry_after) == (Problem.UPSTREAM_PAUSED, 20.0)
    counter.clock.advance(20)
    assert counter.budget.remaining(ACCOUNT) == 5
    await counter.call()


async def test_a_pause_of_unknown_length_is_one_window(open_counter):
    counter = open_counter(calls=5, window=60)
    assert counter.budget.pause(ACCOUNT, None) == 60.0
    assert (await counter.refusal()).retry_after == 60.0


async def test_a_pause_only_grows(open_counter):
    counter = open_counter(calls=5)
    counter.budget.pause(ACCOUNT, 30)
    assert counter.budget.pause(ACCOUNT, 5) == 30.0
    assert (await counter.refusal()).retry_after == 30.0


async def test_a_pause_of_years_is_taken_for_a_mistake(open_counter):
    counter = open_counter(calls=5)
    counter.budget.pause(ACCOUNT, 999_999_999)
    assert (await counter.refusal()).retry_after == LONGEST_PAUSE_SECONDS


async def test_a_pause_refuses_those_who_queue_already(open_counter):
    counter = open_counter(calls=1)
    async with counter.permit() as permit:
        queued = [counter.caller(name) for name in "abc"]
        await turns()
        counter.budget.pause(ACCOUNT, 30)
        permit.void()
    refusals = await asyncio.gather(*queued, return_exceptions=True)
    assert [type(refusal) for refusal in refusals] == [Refused] * 3
    assert {refusal.failure.retry_after for refusal in refusals if isinstance(refusal, Refused)} == {30.0}
    assert counter.order == []
    counter.clock.advance(30)
    assert counter.budget.remaining(ACCOUNT) == 1, "nobody took a place along"


async def test_a_waiter_cancelled_in_the_moment_of_a_pause_gives_nothing_back_twice(open_counter):
    counter = open_counter(calls=2)
    await counter.call()
    async with counter.permit():
        queued = counter.caller("queued")
        await turns()
        counter.budget.pause(ACCOUNT, 30)
        queued.cancel()
        await turns()
        counter.clock.advance(30)
        assert counter.budget.remaining(ACCOUNT) == 0


# What is counted.


@pytest.mark.parametrize("lane", Lane)
async def test_each_permit_and_each_refusal_is_one_wait_of_its_lane(open_counter, lane):
    counter = open_counter(calls=2, kept=1)
    await counter.call(Lane.WRITES)
    if lane in WAITED_FOR:
        await counter.call(lane)
    else:
        await counter.refusal(lane)
    assert counter.meter.of("wait") == 2
    assert counter.meter.events["wait", lane.value] == (2 if lane is Lane.WRITES else 1)
