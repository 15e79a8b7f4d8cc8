import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any, TypeVar

import pytest

from campaign_gateway.policy.ledger import (
    LONGEST_PAUSE_SECONDS,
    QUIET_SECONDS,
    SILENCE_SECONDS,
    Allowance,
    Lane,
    Ledger,
)
from campaign_gateway.policy.schedule import PROBE_SECONDS
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers, Refused
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.upstream import budget
from campaign_gateway.upstream.account import SCHEDULE_SECONDS, Account
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.queue import CallPermit
from tests.support.counting import python_calls
from tests.support.doubles import ManualClock, begun, turns
from tests.support.meters import CountingMeter

_T = TypeVar("_T")

ACCOUNT = "acc-1"
WINDOW, LEAVE, TIMEOUT = 64.0, 1.0, 4.0
MOST = LEAVE + TIMEOUT + WINDOW
WRITES, INTERACTIVE, VALIDATION, BACKGROUND = Lane


class Server:
    """What several replicas share."""

    def __init__(self, clock: StoreClock) -> None:
        self.clock = clock
        self.by_account: dict[str, Ledger] = {}
        self.noticed: set[str] = set()


class ScriptedLedgers:
    """Implements `Ledgers` on a server that can be lost, before a change or just after it."""

    is_local = False
    reports_ends = False
    uncertainty = 0.0

    def __init__(self, kept: Server) -> None:
        self.kept = kept
        self.is_lost = False
        self.is_answer_lost = False
        self.changes = 0

    def now(self) -> float:
        return self.kept.clock.now()

    def server(self, _account: str) -> str:
        return "run-1"

    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        if self.is_lost:
            raise LedgerLostError("scripted")
        self.kept.noticed |= set(accounts)
        return frozenset(self.kept.noticed)

    async def change(self, account: str, step: Callable[[Ledger | None, float], tuple[Ledger, _T]]) -> _T:
        self.changes += 1
        await asyncio.sleep(0)
        if self.is_lost:
            raise LedgerLostError("scripted")
        ledger, result = step(self.kept.by_account.get(account), self.now())
        self.kept.by_account[account] = ledger
        await asyncio.sleep(0)
        if self.is_answer_lost:
            raise LedgerLostError("scripted")
        return result


class Counter:
    """A budget at a counter, and the callers in front of it."""

    def __init__(self, budget: CallBudget, clock: ManualClock, meter: CountingMeter) -> None:
        self.budget, self.clock, self.meter = budget, clock, meter
        self.order: list[str] = []
        self.callers: list[asyncio.Task[None]] = []

    def permit(
        self, lane: Lane = INTERACTIVE, wait: float = 0.0, client: str = "c", account: str = ACCOUNT, key: str = ""
    ) -> Any:
        return self.budget.permit(account, lane, client, wait, key)

    async def call(self, *args: Any, **kwargs: Any) -> None:
        """One call that takes no time."""
        async with self.permit(*args, **kwargs):
            pass

    async def calls(self, count: int) -> int:
        """How many of so many calls were let out."""
        done = 0
        for number in range(count):
            try:
                await self.call(client=f"c{number}")
            except Refused:
                continue
            done += 1
        return done

    async def refusal(self, *args: Any, **kwargs: Any) -> Failure:
        with pytest.raises(Refused) as refused:
            await self.call(*args, **kwargs)
        return refused.value.failure

    def caller(
        self, name: str, lane: Lane = INTERACTIVE, client: str = "c", wait: float = 1000.0, *, void: bool = False
    ) -> asyncio.Task[None]:
        """Queues for a permit, notes its turn, and ends its call at once."""

        async def queue() -> None:
            async with self.permit(lane, wait, client) as permit:
                self.order.append(name)
                if void:
                    permit.void()

        self.callers.append(begun(queue()))
        return self.callers[-1]

    async def queue(self, *names: str, **options: Any) -> None:
        """Returns once callers of these names wait."""
        for name in names:
            _ = self.caller(name, **options)
        await turns(40)

    async def pass_time(self, seconds: float) -> None:
        """Moves the clock, and lets those who wait look at it."""
        self.clock.advance(seconds)
        self.budget.wake()
        await turns(40)

    async def look(self) -> None:
        """What a replica does once a second."""
        await self.budget.report(ACCOUNT)

    async def close(self) -> None:
        for caller in self.callers:
            caller.cancel()
        await asyncio.gather(*self.callers, return_exceptions=True)


class Shop:
    """Opens counters: a local one, or several on one server."""

    def __init__(self) -> None:
        self.clock, self.tasks = ManualClock(1024.0), Tasks()
        self.server = Server(self.clock)
        self.counters: list[Counter] = []

    def local(self, calls: int, *, window: float = WINDOW, real_time: bool = False, **fields: Any) -> Counter:
        ledgers = MemoryLedgers(StoreClock() if real_time else self.clock)
        clock = time.monotonic if real_time else self.clock.monotonic
        return self._open(ledgers, Allowance(calls, window, LEAVE, TIMEOUT, **fields), 1, clock)

    async def after_a_pause(self) -> Counter:
        """Of five calls, and one pause of 30 s that has just ended."""
        counter = self.local(5)
        await counter.budget.pause(ACCOUNT, 30)
        self.clock.advance(30)
        return counter

    async def several(self, calls: int, count: int = 2, **fields: Any) -> list[tuple[Counter, ScriptedLedgers]]:
        """Replicas that all know each other."""
        opened = []
        for _ in range(count):
            ledgers = ScriptedLedgers(self.server)
            allowance = Allowance(calls, WINDOW, LEAVE, TIMEOUT, **fields)
            opened.append((self._open(ledgers, allowance, count, self.clock.monotonic), ledgers))
        for _ in range(2):
            for counter, _ in opened:
                await counter.look()
        return opened

    def _open(self, ledgers: Ledgers, allowance: Allowance, replicas: int, clock: Callable[[], float]) -> Counter:
        meter = CountingMeter()
        budget = CallBudget(lambda _: allowance, ledgers, meter, self.tasks, replicas=replicas, clock=clock)
        self.counters.append(Counter(budget, self.clock, meter))
        return self.counters[-1]

    async def close(self) -> None:
        for counter in self.counters:
            await counter.close()
        await self.tasks.close()


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    opened = Shop()
    yield opened
    await opened.close()


# Slots.


async def test_as_many_calls_as_allowed_go_at_once_and_not_one_more(shop: Shop):
    counter = shop.local(3)
    for left in (2, 1, 0):
        await counter.call()
        assert counter.budget.remaining(ACCOUNT) == left
    failure = await counter.refusal()
    assert (failure.problem, failure.retry_after) == (Problem.BUDGET_EXHAUSTED, WINDOW)


async def test_a_permit_takes_no_more_steps_where_many_calls_are_in_the_window(shop: Shop) -> None:
    counter = shop.local(6000, reserve=5, lanes={WRITES: 60})

    async def steps() -> int:
        with python_calls() as calls:
            await counter.call()
        return len(calls)

    for _ in range(20):
        await counter.call()
    few = await steps()
    for _ in range(400):
        await counter.call()
    assert await steps() <= few


async def test_a_slot_is_held_until_a_window_after_the_end_of_its_call_not_after_its_start(shop: Shop):
    """A slow call may have arrived at its very end."""
    counter = shop.local(1)
    async with counter.permit():
        shop.clock.advance(TIMEOUT)
        assert counter.budget.remaining(ACCOUNT) == 0
    shop.clock.advance(WINDOW - 0.5)
    assert (await counter.refusal()).retry_after == 0.5
    shop.clock.advance(0.5)
    await counter.call()


async def test_a_permit_says_until_when_its_request_may_leave(shop: Shop):
    async with shop.local(1).permit() as permit:
        assert permit.leave_by == shop.clock.monotonic() + LEAVE


async def test_a_call_that_failed_keeps_its_slot(shop: Shop):
    counter = shop.local(1)
    with pytest.raises(LookupError):
        async with counter.permit():
            raise LookupError
    assert counter.budget.remaining(ACCOUNT) == 0


async def test_void_gives_the_slot_back_at_once(shop: Shop):
    counter = shop.local(1)
    async with counter.permit() as permit:
        permit.void()
    assert counter.budget.remaining(ACCOUNT) == 1
    await counter.call()


async def test_accounts_do_not_share(shop: Shop):
    counter = shop.local(1)
    await counter.call(account="one")
    await counter.call(account="two")
    await counter.budget.pause("one", 30)
    assert (counter.budget.is_paused("one"), counter.budget.is_paused("two")) == (True, False)
    assert (await counter.refusal(account="one", client="x")).problem is Problem.UPSTREAM_PAUSED
    assert (await counter.refusal(account="two", client="x")).problem is Problem.BUDGET_EXHAUSTED


async def test_each_account_has_its_own_allowance(shop: Shop):
    calls = {"small": 1, "large": 3}
    budget = CallBudget(
        lambda account: Allowance(calls[account], WINDOW, LEAVE, TIMEOUT),
        MemoryLedgers(shop.clock),
        CountingMeter(),
        shop.tasks,
    )
    assert (budget.remaining("small"), budget.remaining("large")) == (1, 3)


async def test_another_allowance_holds_from_the_next_call_on(shop: Shop):
    allowed: dict[str, Any] = {"calls": 2, "window": WINDOW}
    budget = CallBudget(
        lambda _: Allowance(leave=LEAVE, timeout=TIMEOUT, **allowed),
        MemoryLedgers(shop.clock),
        CountingMeter(),
        shop.tasks,
        clock=shop.clock.monotonic,
    )
    counter = Counter(budget, shop.clock, CountingMeter())
    await counter.call()
    await counter.call()
    assert (await counter.refusal()).retry_after == WINDOW
    allowed["calls"] = 3
    budget.amend()
    await counter.call()
    assert budget.remaining(ACCOUNT) == 0
    allowed["calls"], allowed["window"] = 1, 2 * WINDOW
    budget.amend()
    shop.clock.advance(WINDOW)
    await counter.call()
    assert (await counter.refusal()).retry_after == 2 * WINDOW
    assert budget.capacity(ACCOUNT) == 1


async def test_more_calls_serve_those_who_wait(shop: Shop):
    allowed = [1]
    budget = CallBudget(
        lambda _: Allowance(allowed[0], WINDOW, LEAVE, TIMEOUT),
        MemoryLedgers(shop.clock),
        CountingMeter(),
        shop.tasks,
        clock=shop.clock.monotonic,
    )
    counter = Counter(budget, shop.clock, CountingMeter())
    async with counter.permit():
        await counter.queue("a")
        assert counter.order == []
        allowed[0] = 2
        budget.amend()
        await turns(40)
        assert counter.order == ["a"]


@pytest.mark.parametrize("lane", [VALIDATION, BACKGROUND])
async def test_lanes_that_nobody_waits_for_leave_the_reserve_alone(shop: Shop, lane: Lane):
    counter = shop.local(5, reserve=2)
    await counter.call()
    for _ in range(2):
        await counter.call(lane)
        # Background calls are spread over the window.
        shop.clock.advance(WINDOW / 5)
    assert (await counter.refusal(lane)).problem is Problem.BUDGET_EXHAUSTED
    assert counter.budget.remaining(ACCOUNT) == 2


@pytest.mark.parametrize("lane", [VALIDATION, BACKGROUND])
async def test_while_no_caller_needs_a_call_there_is_no_reserve_but_what_writes_can_count_on(shop: Shop, lane: Lane):
    counter = shop.local(5, reserve=3, lanes={WRITES: 1})
    for _ in range(4):
        await counter.call(lane)
        shop.clock.advance(WINDOW / 5)
    assert (await counter.refusal(lane)).problem is Problem.BUDGET_EXHAUSTED
    await counter.call(WRITES)


# Waiting.


async def test_a_wait_that_cannot_succeed_is_refused_at_once_and_told_when_it_can(shop: Shop):
    counter = shop.local(1)
    await counter.call()
    shop.clock.advance(20)
    failure = await counter.refusal(wait=43)
    assert failure.retry_after == WINDOW - 20
    shop.clock.advance(failure.retry_after)
    await counter.call()


async def test_the_queue_in_front_counts_into_the_wait(shop: Shop):
    counter = shop.local(2)
    await counter.call()
    shop.clock.advance(10)
    await counter.call()
    await counter.queue("first", wait=55)
    failure = await counter.refusal(wait=55, client="c")
    assert failure.retry_after == WINDOW, "the slot that falls free sooner is spoken for"


async def test_a_refusal_asks_no_ledger_and_waits_for_nothing(shop: Shop):
    [(counter, ledgers), _] = await shop.several(1)
    await counter.call()
    asked = ledgers.changes
    for lane in Lane:
        failure = counter.budget.refusal(ACCOUNT, lane, "c", f"key-{lane}", 0.0)
        assert failure is not None
        assert failure.problem is Problem.BUDGET_EXHAUSTED
        assert (await counter.refusal(lane)).retry_after == WINDOW
    assert ledgers.changes == asked
    shop.clock.advance(WINDOW)
    assert counter.budget.refusal(ACCOUNT, INTERACTIVE, "c", "key", 0.0) is None


async def test_many_refusals_come_of_one_look_at_the_calls_and_forget_none_of_each_other(shop: Shop, monkeypatch):
    looks = 0
    absorbed = Account.absorbed

    def counted(account: Account, now: float) -> Ledger:
        nonlocal looks
        looks += 1
        return absorbed(account, now)

    monkeypatch.setattr(Account, "absorbed", counted)
    counter = shop.local(10)
    for _ in range(10):
        await counter.call()
        shop.clock.advance(1)

    def refuse(number: int) -> float:
        failure = counter.budget.refusal(ACCOUNT, INTERACTIVE, "c", f"key-{number}", 5.0)
        assert failure is not None
        assert failure.retry_after is not None
        assert counter.budget.quota(ACCOUNT, "c").remaining == 0
        return failure.retry_after

    looks = 0
    waits = [refuse(number) for number in range(10)]
    assert waits == [WINDOW - 10 + number for number in range(10)], "each is told of the next slot"
    assert looks <= 2
    assert counter.budget.outlook(ACCOUNT).is_contended
    shop.clock.advance(SCHEDULE_SECONDS)
    assert refuse(11) > waits[-1], "in the next window: all slots of this one are spoken for"


async def test_a_queue_holds_nobody_whose_turn_does_not_come_in_time(shop: Shop):
    counter = shop.local(2)
    await counter.call()
    shop.clock.advance(10)
    await counter.call()
    for number in range(50):
        _ = counter.caller(str(number), wait=WINDOW)
    await turns(40)
    assert counter.budget.waiting(ACCOUNT) == 2


async def test_a_refusal_does_not_hold_for_one_who_can_wait_longer(shop: Shop):
    counter = shop.local(1)
    await counter.call()
    await counter.refusal(wait=10)
    await counter.queue("patient", wait=WINDOW)
    await counter.pass_time(WINDOW)
    assert counter.order == ["patient"]


async def test_a_wait_ends_when_the_window_does(shop: Shop):
    counter = shop.local(1, window=0.05, real_time=True)
    await counter.call()
    await counter.call(wait=5.0)
    assert counter.meter.events["wait", "interactive"] == 2


async def test_a_wait_is_bounded_and_leaves_nothing_behind(shop: Shop):
    """The slot that was promised is not given up: its call takes longer than it was thought."""
    counter = shop.local(1, window=0.05, real_time=True)
    async with counter.permit() as permit:
        began = time.monotonic()
        failure = await counter.refusal(wait=0.1)
        assert time.monotonic() - began < 0.15
        assert failure.problem is Problem.BUDGET_EXHAUSTED
        assert failure.retry_after is not None
        permit.void()
    assert counter.budget.remaining(ACCOUNT) == 1


async def test_more_callers_than_the_queue_holds_are_turned_away(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(budget, "LONGEST_QUEUE", 2)
    counter = shop.local(1)
    await counter.call()
    for number in range(2):
        _ = counter.caller(str(number))
    await turns(40)
    failure = await counter.refusal(wait=1000)
    assert (failure.problem, failure.retry_after) == (Problem.OVERLOADED, 1.0)


# Order.


async def test_within_a_client_first_come_is_first_served(shop: Shop):
    counter = shop.local(1)
    async with counter.permit() as permit:
        await counter.queue(*"abcde", void=True)
        assert counter.order == []
        permit.void()
    await turns(40)
    assert counter.order == list("abcde")


async def test_a_newcomer_does_not_overtake_the_queue(shop: Shop):
    counter = shop.local(1)
    await counter.call()
    await counter.queue("first")
    shop.clock.advance(WINDOW)
    await counter.queue("newcomer")
    assert counter.order == ["first"]
    await counter.pass_time(WINDOW)
    assert counter.order == ["first", "newcomer"]


async def test_clients_take_turns_whoever_came_in_numbers(shop: Shop):
    counter = shop.local(1)
    await counter.call(VALIDATION)
    for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
        _ = counter.caller(name, client=name[0])
    await turns(40)
    for _ in range(6):
        await counter.pass_time(WINDOW)
    assert sorted(counter.order) == ["a1", "a2", "a3", "b1", "b2", "c1"]
    assert counter.order.index("b1") < counter.order.index("a3"), "not one client after the other"


async def test_of_slots_that_fall_free_together_each_client_gets_its_part(shop: Shop):
    counter = shop.local(4)
    for _ in range(4):
        await counter.call(VALIDATION)
    for name in ("a1", "a2", "a3", "a4", "b1", "b2"):
        _ = counter.caller(name, client=name[0])
    await turns(40)
    await counter.pass_time(WINDOW)
    assert counter.order == ["a1", "b1", "a2", "b2"]


async def test_lanes_are_served_in_their_order_whoever_came_first(shop: Shop):
    counter = shop.local(4)
    for _ in range(4):
        await counter.call()
    for lane in reversed(Lane):
        _ = counter.caller(lane.value, lane)
    await turns(40)
    await counter.pass_time(WINDOW)
    assert counter.order == [lane.value for lane in Lane]


@pytest.mark.parametrize("greedy", [INTERACTIVE, WRITES, VALIDATION])
async def test_a_client_beyond_its_fair_part_yields_each_slot_that_falls_free(shop: Shop, greedy: Lane):
    counter = shop.local(4)
    for _ in range(4):
        await counter.call(greedy, client="greedy")
        shop.clock.advance(1)
    for number in range(3):
        _ = counter.caller(f"greedy-{number}", greedy, client="greedy")
    await counter.queue("modest", client="modest")
    await counter.pass_time(WINDOW - 4)
    assert counter.order == ["modest"]
    await counter.pass_time(1)
    assert counter.order[1].startswith("greedy")


@pytest.mark.parametrize("greedy", [INTERACTIVE, WRITES, VALIDATION])
async def test_a_client_that_takes_all_it_can_leaves_another_its_fair_part_after_a_window(shop: Shop, greedy: Lane):
    """The greedy one asks four times a second, in bursts; the other every four seconds, and holds a fourth at most."""
    counter = shop.local(64)
    answers: list[bool] = []

    async def modest(number: int) -> None:
        try:
            await counter.call(client="modest", wait=5.0, key=f"modest-{number}")
        except Refused:
            answers.append(False)
        else:
            answers.append(True)

    async def ask(number: int) -> None:
        with contextlib.suppress(Refused):
            await counter.call(greedy, client="greedy", wait=5.0, key=f"greedy-{number}")

    for second in range(3 * int(WINDOW)):
        counter.callers += [begun(ask(16 * second + each)) for each in range(16)]
        if second % 4 == 0:
            counter.callers.append(begun(modest(second)))
        for _ in range(4):
            await counter.pass_time(0.25)
    await counter.pass_time(5)
    assert answers[-30:] == [True] * 30, "once the first window has passed"


async def test_all_who_wait_are_served_at_the_pace_of_the_window(shop: Shop):
    counter = shop.local(3, window=0.04, real_time=True)
    sent: list[float] = []

    async def call() -> None:
        async with counter.permit(wait=5.0):
            sent.append(time.monotonic())

    await asyncio.gather(*(call() for _ in range(12)))
    assert len(sent) == 12
    assert all(later - earlier >= 0.04 for earlier, later in zip(sent, sent[3:], strict=False))


# Cancellation.


async def test_a_waiter_that_is_cancelled_leaves_the_queue(shop: Shop):
    counter = shop.local(1)
    async with counter.permit() as permit:
        gone = counter.caller("gone")
        await counter.queue("next", void=True)
        gone.cancel()
        await turns(40)
        permit.void()
    await turns(40)
    assert counter.order == ["next"]
    assert counter.budget.remaining(ACCOUNT) == 1


async def given(counter: Counter, waiting: asyncio.Task[None]) -> None:
    """Returns in the moment in which a queued waiter has its turn and has not run yet."""
    queued = counter.budget.waiting(ACCOUNT)
    while counter.budget.waiting(ACCOUNT) == queued:
        await asyncio.sleep(0)
    assert not waiting.done()


async def test_a_turn_given_in_the_moment_of_a_cancellation_is_passed_on(shop: Shop):
    """1. the slot falls free and is given to the first; 2. before that one runs, it is cancelled."""
    counter = shop.local(1)
    async with counter.permit() as permit:
        gone = counter.caller("gone")
        await counter.queue("next", void=True)
        permit.void()
    await given(counter, gone)
    gone.cancel()
    await turns(40)
    assert counter.order == ["next"], "at once, and not when the window has passed"
    assert counter.budget.remaining(ACCOUNT) == 1


async def test_a_turn_given_after_a_cancellation_is_not_lost(shop: Shop):
    """1. the ledger is asked; 2. the waiter is cancelled; 3. the ledger has given it a slot."""
    [(counter, _), _] = await shop.several(1)
    gone = counter.caller("gone")
    await asyncio.sleep(0)
    while not shop.server.by_account[ACCOUNT].slots:
        await asyncio.sleep(0)
    gone.cancel()
    await turns(40)
    assert counter.order == []
    assert counter.budget.remaining(ACCOUNT) == 1, "or each such moment costs the account a call"
    await counter.call()


# Pauses.


async def test_a_pause_refuses_calls_and_says_for_how_long(shop: Shop):
    counter = shop.local(5)
    assert await counter.budget.pause(ACCOUNT, 30) == 30.0
    assert counter.budget.is_paused(ACCOUNT)
    assert counter.budget.remaining(ACCOUNT) == 0
    shop.clock.advance(10)
    failure = await counter.refusal(wait=10)
    assert (failure.problem, failure.retry_after) == (Problem.UPSTREAM_PAUSED, 20.0)


@pytest.mark.parametrize(
    ("told", "lasts"),
    [
        pytest.param([None], WINDOW, id="of-unknown-length-a-window"),
        pytest.param([30, 5], 30.0, id="it-only-grows"),
        pytest.param([999_999_999], LONGEST_PAUSE_SECONDS, id="years-are-a-mistake"),
    ],
)
async def test_how_long_a_pause_lasts(shop: Shop, told: list[float | None], lasts: float):
    counter = shop.local(5)
    answers = [await counter.budget.pause(ACCOUNT, seconds) for seconds in told]
    assert answers[-1] == lasts
    assert (await counter.refusal()).retry_after == lasts


async def test_a_pause_refuses_those_who_queue_and_cannot_wait_for_its_end(shop: Shop):
    counter = shop.local(3)
    async with counter.permit(), counter.permit(), counter.permit():
        queued = [counter.caller(name, wait=100) for name in "abc"]
        await turns(40)
        await counter.budget.pause(ACCOUNT, 120)
    refusals = await asyncio.gather(*queued, return_exceptions=True)
    told = [(each.failure.problem, each.failure.retry_after) for each in refusals if isinstance(each, Refused)]
    assert [problem for problem, _ in told] == [Problem.UPSTREAM_PAUSED] * 3
    assert told[0][1] == 120.0
    assert counter.order == []


async def test_who_was_told_to_come_back_is_told_of_a_pause_that_began_since(shop: Shop):
    counter = shop.local(1)
    await counter.call()
    shop.clock.advance(1)
    assert (await counter.refusal(key="k", wait=1)).problem is Problem.BUDGET_EXHAUSTED
    await counter.budget.pause(ACCOUNT, 120)
    assert (await counter.refusal(key="k", wait=1)).problem is Problem.UPSTREAM_PAUSED


async def test_a_pause_is_told_when_it_begins_and_when_it_is_over(shop: Shop, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    counter = shop.local(5)
    await counter.calls(2)
    for _ in range(3):
        await counter.budget.pause(ACCOUNT, 30)
        await counter.refusal()
    shop.clock.advance(30)
    await counter.call()
    shop.clock.advance(WINDOW * 50)
    await counter.calls(3)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        (
            "WARNING",
            f"the platform asked for a pause: no call of account {ACCOUNT} for 30 s (2 were in the window, 2 may be later)",
        ),
        ("INFO", f"the pause of account {ACCOUNT} is over: 5 calls in a window may be made"),
    ]


async def test_an_onlooker_is_told_the_same_and_changes_nothing(shop: Shop):
    counter = shop.local(1)
    assert counter.budget.prospect(ACCOUNT, INTERACTIVE, "c", "k", 1.0) is None
    await counter.call()
    before = counter.meter.events.copy()
    looked = counter.budget.prospect(ACCOUNT, INTERACTIVE, "c", "k", 1.0)
    assert counter.meter.events == before
    assert looked == await counter.refusal(key="k", wait=1.0)


async def test_after_a_pause_one_call_finds_out_for_all(shop: Shop):
    counter = await shop.after_a_pause()
    async with counter.permit():
        failure = await counter.refusal(client="another")
        assert (failure.problem, failure.retry_after) == (Problem.UPSTREAM_PAUSED, PROBE_SECONDS)
    shop.clock.advance(WINDOW * 50)
    assert await counter.calls(5) == 5
    assert not counter.budget.is_paused(ACCOUNT)


async def test_a_probe_that_is_refused_pauses_again(shop: Shop):
    counter = await shop.after_a_pause()
    async with counter.permit():
        await counter.budget.pause(ACCOUNT, 20)
    assert (await counter.refusal(client="another")).retry_after == 20.0


async def test_a_probe_that_never_left_passes_the_task_on(shop: Shop):
    counter = await shop.after_a_pause()
    async with counter.permit() as permit:
        permit.void()
    await counter.call(client="another")


async def test_a_pause_is_one_for_all_replicas(shop: Shop):
    [(one, _), (two, _)] = await shop.several(4)
    await one.budget.pause(ACCOUNT, 30)
    assert (await two.refusal()).problem is Problem.UPSTREAM_PAUSED
    assert two.budget.is_paused(ACCOUNT)


# One ledger for several.


async def test_replicas_share_one_budget(shop: Shop):
    [(one, _), (two, _)] = await shop.several(5)
    assert await one.calls(3) == 3
    assert await two.calls(5) == 2
    assert (one.budget.replicas(ACCOUNT), two.budget.replicas(ACCOUNT)) == (2, 2)
    assert two.budget.remaining(ACCOUNT) == 0


async def test_starting_shows_a_replica_to_the_others(shop: Shop):
    [(one, _)] = await shop.several(4, 1)
    newcomer = CallBudget(
        lambda _: Allowance(4, WINDOW, LEAVE, TIMEOUT), ScriptedLedgers(shop.server), CountingMeter(), shop.tasks
    )
    await newcomer.start([ACCOUNT])
    await one.look()
    assert (one.budget.replicas(ACCOUNT), newcomer.replicas(ACCOUNT)) == (2, 2)


async def test_one_that_departs_is_not_missed(shop: Shop):
    [(one, _), (two, _)] = await shop.several(4)
    await two.budget.depart()
    shop.clock.advance(SILENCE_SECONDS + 1)
    assert await one.calls(5) == 4
    assert one.budget.replicas(ACCOUNT) == 1


async def test_departing_without_a_ledger_is_quiet(shop: Shop):
    [(one, ledgers)] = await shop.several(4, 1)
    ledgers.is_lost = True
    await one.budget.depart()


async def test_an_end_that_is_reported_frees_the_slot_for_the_others_a_window_later(shop: Shop):
    [(one, _), (two, _)] = await shop.several(1)
    await one.call()
    await one.look()
    shop.clock.advance(WINDOW - 2)
    await one.look()
    assert (await two.refusal()).retry_after == 2.0
    shop.clock.advance(2)
    assert await two.calls(1) == 1


# A shared clock that steps.

STEPS = pytest.mark.parametrize("seconds", [3600.0, 90.0, 2.0, -2.0, -90.0, -900.0])
stepping = pytest.mark.drill(
    "the clock that replicas share steps",
    planted="by two seconds to an hour, forward and back, between two reports",
    seen="no window sees more calls than the budget, slots and pauses end when they would have",
)


@stepping
@STEPS
@pytest.mark.parametrize("first", ["the-one-that-called", "the-other"])
async def test_a_step_of_the_shared_clock_frees_no_slot_and_holds_none(shop: Shop, seconds: float, first: str):
    [(one, _), (two, _)] = await shop.several(6)
    used = 0
    for _ in range(4):
        # What is allotted to the other is given up when it is missed.
        used += await one.calls(6)
        await two.look()
    assert used > 3, "more than its share"
    shop.clock.advance(WINDOW - 10)
    for counter in (one, two):
        await counter.look()
    shop.clock.step(seconds)
    shop.clock.advance(1)
    counters = (one, two) if first == "the-one-that-called" else (two, one)
    later = sum([await counter.calls(6) for counter in counters])
    assert used + later <= 6
    shop.clock.advance(9.25)
    for counter in counters:
        await counter.look()
    assert sum([await counter.calls(6) for counter in counters]) >= used - 1, "one may be allotted to the other"


@stepping
@STEPS
async def test_a_step_of_the_shared_clock_makes_no_pause_longer_or_shorter(shop: Shop, seconds: float):
    [(one, _), (two, _)] = await shop.several(4)
    await one.budget.pause(ACCOUNT, 30)
    shop.clock.advance(10)
    for counter in (one, two):
        await counter.look()
    shop.clock.step(seconds)
    for counter in (two, one):
        await counter.look()
        assert (await counter.refusal()).retry_after == 20.0
    shop.clock.advance(20.25)
    assert await two.calls(1) == 1


@stepping
@pytest.mark.parametrize("lost", ["is_lost", "is_answer_lost"])
async def test_a_replica_whose_last_report_may_have_been_lost_moves_nothing(shop: Shop, lost: str):
    """It does not know which of its reports the ledger holds."""
    [(one, ledgers), (two, _)] = await shop.several(2)
    assert await two.calls(1) == 1
    held = shop.server.by_account[ACCOUNT].slots
    shop.clock.advance(20)
    setattr(ledgers, lost, True)
    await one.look()
    setattr(ledgers, lost, False)
    shop.clock.advance(20)
    await one.look()
    assert shop.server.by_account[ACCOUNT].slots == held


# A lost ledger.


async def test_a_lone_replica_goes_on_without_a_pause_and_keeps_to_the_whole_budget(shop: Shop):
    [(one, ledgers)] = await shop.several(4, 1)
    assert await one.calls(1) == 1
    ledgers.is_lost = True
    assert await one.calls(5) == 3
    assert one.budget.is_cut_off(ACCOUNT)
    assert one.budget.remaining(ACCOUNT) == 0
    shop.clock.advance(WINDOW)
    assert await one.calls(5) == 4


async def test_a_loss_that_is_over_at_the_next_look_refuses_nobody_who_can_wait(shop: Shop):
    [(one, ledgers), _] = await shop.several(1)
    ledgers.is_lost = True
    async with asyncio.TaskGroup() as group:
        calling = group.create_task(one.call(wait=5))
        await turns(40)
        assert not calling.done()
        assert (await one.refusal()).problem is Problem.BUDGET_EXHAUSTED, "who cannot wait is refused at once"
        ledgers.is_lost = False
    assert not one.budget.is_cut_off(ACCOUNT)


@pytest.mark.parametrize("lane", [INTERACTIVE, WRITES])
async def test_one_of_several_goes_on_at_once_with_what_was_allotted_to_it(shop: Shop, lane: Lane):
    [(one, first), (two, second)] = await shop.several(6, lanes={WRITES: 1})
    assert await one.calls(1) == 1
    await one.look()
    first.is_lost = second.is_lost = True
    await one.call(lane)
    assert one.budget.is_cut_off(ACCOUNT)
    assert await one.calls(6) == (1 if lane is WRITES else 0), "of 2 calls, one is for writes"
    await one.call(WRITES) if lane is INTERACTIVE else None
    assert await two.calls(6) == 2
    assert (await two.refusal()).problem is Problem.BUDGET_EXHAUSTED


async def test_what_it_begins_of_its_allotment_falls_free_like_any_call(shop: Shop):
    [(one, ledgers), _] = await shop.several(6)
    ledgers.is_lost = True
    assert await one.calls(6) == 3
    shop.clock.advance(WINDOW - 0.5)
    assert await one.calls(6) == 0
    shop.clock.advance(0.5)
    assert await one.calls(6) == 3


async def test_after_all_the_others_had_begun_it_keeps_to_its_share(shop: Shop):
    [(one, ledgers), (two, _)] = await shop.several(6)
    # Callers of one miss what is allotted to two, and the other way round.
    assert await one.calls(6) == 3
    await two.look()
    assert await one.calls(6) == 3
    ledgers.is_lost = True
    await one.look()
    failure = await one.refusal()
    assert failure.retry_after is not None
    assert failure.retry_after >= WINDOW
    shop.clock.advance(failure.retry_after - 0.5)
    assert await one.calls(1) == 0
    shop.clock.advance(0.5)
    assert one.budget.remaining(ACCOUNT) == 3
    assert await one.calls(6) == 3
    shop.clock.advance(WINDOW)
    assert await one.calls(6) == 3


async def test_what_is_allotted_to_others_is_given_back_when_it_is_missed(shop: Shop):
    [(one, _), (two, ledgers)] = await shop.several(12, lanes={WRITES: 2})
    asked = ledgers.changes
    for number in range(12):
        _ = one.caller(str(number), WRITES, wait=5.0)
    await turns(40)
    assert len(one.order) == 6
    assert ledgers.changes == asked
    await two.budget.look()
    assert ledgers.changes == asked + 1, "two was notified, though it has nothing to report"
    await one.pass_time(0.5)
    assert len(one.order) == 11, "two keeps the least there is"


async def test_what_was_begun_without_the_ledger_is_in_it_when_it_is_back(shop: Shop):
    [(one, ledgers), (two, _)] = await shop.several(6)
    ledgers.is_lost = True
    assert await one.calls(2) == 2
    assert await two.calls(6) == 3
    ledgers.is_lost = False
    await one.look()
    assert len(shop.server.by_account[ACCOUNT].slots) == 5
    await one.look()
    assert await one.calls(6) == 1
    assert await two.calls(6) == 0


@pytest.mark.parametrize("is_made", [True, False], ids=["made", "not-made"])
async def test_of_a_change_whose_answer_was_lost_the_smaller_allotment_is_believed(shop: Shop, is_made: bool):
    [(one, ledgers), (two, _)] = await shop.several(6)
    ledgers.is_answer_lost, ledgers.is_lost = is_made, not is_made
    assert await one.calls(1) == 1
    ledgers.is_lost = True
    begun = 1 + await one.calls(6)
    assert begun >= 2
    assert begun + await two.calls(6) <= 6


async def test_before_the_ledger_is_whole_again_what_was_allotted_may_be_begun(shop: Shop):
    [(one, _), (two, _)] = await shop.several(6)
    shop.server.by_account.clear()
    assert await one.calls(6) == 3
    assert await two.calls(6) == 3
    await one.look()
    assert len(shop.server.by_account[ACCOUNT].slots) == 6


async def test_an_account_that_nobody_uses_is_reported_only_now_and_then(shop: Shop):
    [(one, ledgers), (two, _)] = await shop.several(6)
    ledgers.changes = 0
    for _ in range(60):
        shop.clock.advance(1)
        await one.budget.look()
        await two.budget.look()
    assert ledgers.changes <= 5
    assert one.budget.remaining(ACCOUNT) == 6


async def test_one_that_is_quiet_is_not_missed_before_its_time(shop: Shop):
    [(one, _), _] = await shop.several(6)
    shop.clock.advance(QUIET_SECONDS + SILENCE_SECONDS - 1)
    await one.look()
    assert one.budget.remaining(ACCOUNT) == 6
    shop.clock.advance(2)
    await one.look()
    assert one.budget.remaining(ACCOUNT) == 3, "or it may be cut off"


async def test_a_replica_that_never_saw_the_ledger_believes_the_settings(shop: Shop):
    clock = shop.clock
    ledgers = ScriptedLedgers(shop.server)
    ledgers.is_lost = True
    allowance = Allowance(6, WINDOW, LEAVE, TIMEOUT)
    budget = CallBudget(lambda _: allowance, ledgers, CountingMeter(), shop.tasks, replicas=3, clock=clock.monotonic)
    counter = Counter(budget, clock, CountingMeter())
    failure = await counter.refusal()
    clock.advance(failure.retry_after or 0.0)
    assert await counter.calls(6) == 2


async def test_one_of_several_goes_on_only_when_what_others_had_under_way_has_left_the_window(shop: Shop):
    """1. one has all calls under way; 2. the ledger is lost to all; 3. they arrive at the end of their time."""
    [(one, first), (two, second)] = await shop.several(2)
    async with one.permit(client="a"):
        await one.refusal(client="b")
        await two.look()
        async with one.permit(client="b"):
            first.is_lost = second.is_lost = True
            await two.look()
            failure = await two.refusal()
            shop.clock.advance(LEAVE + TIMEOUT)
    arrived = shop.clock.now()
    shop.clock.advance((failure.retry_after or 0.0) - LEAVE - TIMEOUT)
    await two.call()
    assert shop.clock.now() >= arrived + WINDOW


async def test_one_that_is_cut_off_alone_goes_on_only_when_what_others_sent_before_they_missed_it_has_left_the_window(
    shop: Shop,
):
    """The others have the whole budget until they notice."""
    [(one, _), (two, lost)] = await shop.several(2)
    await one.refusal(client="a") if await one.calls(2) < 2 else None
    await two.look()
    lost.is_lost = True
    await two.look()
    failure = await two.refusal()
    shop.clock.advance(SILENCE_SECONDS - 0.5)
    sent = await one.calls(1)
    last = shop.clock.now()
    assert sent == 1
    shop.clock.advance((failure.retry_after or 0.0) - SILENCE_SECONDS + 0.5)
    await two.call()
    assert shop.clock.now() >= last + WINDOW


@pytest.mark.parametrize("is_emptied", [False, True], ids=["as-it-was", "empty"])
async def test_when_the_ledger_is_back_own_calls_are_put_back_first(shop: Shop, is_emptied: bool):
    [(one, ledgers)] = await shop.several(4, 1)
    assert await one.calls(2) == 2
    ledgers.is_lost = True
    assert await one.calls(1) == 1
    ledgers.is_lost = False
    if is_emptied:
        shop.server.by_account.clear()
    assert await one.calls(4) == 1
    assert not one.budget.is_cut_off(ACCOUNT)
    assert len(shop.server.by_account[ACCOUNT].slots) == 4


async def test_when_the_ledger_is_back_empty_nobody_goes_before_all_have_put_their_calls_back(shop: Shop):
    [(one, _), (two, _)] = await shop.several(4)
    assert await two.calls(3) == 2
    await one.look()
    assert await two.calls(1) == 1
    shop.server.by_account.clear()
    assert await one.calls(4) == 0
    await two.look()
    assert await one.calls(4) == 1


async def test_when_the_ledger_is_back_replicas_go_on_exactly(shop: Shop):
    [(one, first), (two, second)] = await shop.several(4)
    first.is_lost = second.is_lost = True
    assert (await one.calls(4), await two.calls(4)) == (2, 2)
    first.is_lost = second.is_lost = False
    await one.look()
    await two.look()
    assert (await one.calls(4), await two.calls(4)) == (0, 0)
    shop.clock.advance(WINDOW)
    await two.look()
    await one.look()
    assert (await one.calls(4), await two.calls(4)) == (2, 2)


async def test_a_pause_told_while_the_ledger_is_lost_outlives_the_loss(shop: Shop):
    [(one, ledgers)] = await shop.several(4, 1)
    ledgers.is_lost = True
    assert await one.budget.pause(ACCOUNT, 30) == 30.0
    assert (await one.refusal()).problem is Problem.UPSTREAM_PAUSED
    ledgers.is_lost = False
    shop.clock.advance(1)
    failure = await one.refusal()
    assert (failure.problem, failure.retry_after) == (Problem.UPSTREAM_PAUSED, 29.0)


async def test_a_change_whose_answer_was_lost_costs_no_slot(shop: Shop):
    [(one, ledgers)] = await shop.several(1, 1)
    ledgers.is_answer_lost = True
    await one.call()
    ledgers.is_answer_lost = False
    assert len(shop.server.by_account[ACCOUNT].slots) == 1, "made, though nobody got the answer"
    shop.clock.advance(WINDOW)
    await one.call()


async def test_a_void_while_the_ledger_is_lost_is_told_when_it_is_back(shop: Shop):
    [(one, ledgers)] = await shop.several(1, 1)
    async with one.permit() as permit:
        ledgers.is_lost = True
        permit.void()
    await one.look()
    assert one.budget.remaining(ACCOUNT) == 1
    ledgers.is_lost = False
    await one.look()
    assert shop.server.by_account[ACCOUNT].slots == ()


async def test_a_waiter_survives_the_loss_and_the_return_of_the_ledger(shop: Shop):
    [(one, ledgers), (two, _)] = await shop.several(1)
    await one.call()
    _ = one.caller("patient", wait=10_000)
    await turns(40)
    ledgers.is_lost = True
    await one.pass_time(1)
    assert one.order == []
    ledgers.is_lost = False
    shop.clock.advance(WINDOW)
    await two.look()
    await one.pass_time(0)
    assert one.order == ["patient"]


# All of it.


@pytest.mark.parametrize("seed", range(12))
async def test_in_no_window_are_there_more_arrivals_than_calls(shop: Shop, seed: int):
    """A call may arrive at any moment between its permit and its end."""
    dice = random.Random(seed)
    calls, replicas = dice.randint(1, 6), dice.randint(1, 3)
    opened = await shop.several(calls, replicas)
    flying: list[tuple[CallPermit, Any, float]] = []
    arrivals: list[float] = []
    refused = 0
    for _ in range(400):
        shop.clock.advance(dice.choice([0.0, 0.0, 0.25, 1.0]))
        for counter, _ in opened:
            await counter.look()
        old = [each for each in flying if each[2] <= shop.clock.now() - LEAVE - TIMEOUT + 1]
        if old or (flying and dice.random() < 0.5):
            permit, manager, sent = ended = old[0] if old else dice.choice(flying)
            flying.remove(ended)
            if dice.random() < 0.2:
                permit.void()
            else:
                arrivals.append(dice.choice([sent, shop.clock.now(), dice.uniform(sent, shop.clock.now())]))
            await manager.__aexit__(None, None, None)
            continue
        manager = dice.choice(opened)[0].permit(dice.choice(list(Lane)))
        try:
            flying.append((await manager.__aenter__(), manager, shop.clock.now()))
        except Refused:
            refused += 1
    for _, manager, sent in flying:
        arrivals.append(sent)
        await manager.__aexit__(None, None, None)
    arrivals.sort()
    assert len(arrivals) > calls
    assert refused > 0
    assert all(later - earlier >= WINDOW - 1e-6 for earlier, later in zip(arrivals, arrivals[calls:], strict=False))


# What is counted.


@pytest.mark.parametrize("lane", Lane)
async def test_each_permit_and_each_refusal_is_one_wait_of_its_lane(shop: Shop, lane: Lane):
    counter = shop.local(2)
    await counter.call(WRITES)
    await counter.call(lane)
    await counter.refusal(lane)
    assert sum(counter.meter.events.values()) == 3
    assert counter.meter.events["wait", lane.value] == (3 if lane is WRITES else 2)


# A ledger that outlives the process.


class LastingLedgers(MemoryLedgers):
    reports_ends = True


@pytest.mark.parametrize("is_void", [False, True])
async def test_a_ledger_that_outlives_the_process_is_told_the_end_of_a_call_at_once(shop: Shop, *, is_void: bool):
    """Else the next process holds the slot for as long as a call can take."""
    ledgers = LastingLedgers(shop.clock)
    counter = shop._open(ledgers, Allowance(2, WINDOW, LEAVE, TIMEOUT), 1, shop.clock.monotonic)
    async with counter.permit() as permit:
        assert [slot.free_at for slot in ledgers._by_account[ACCOUNT].slots] == [shop.clock.now() + MOST]
        shop.clock.advance(1)
        if is_void:
            permit.void()
    await turns(40)
    free_at = [slot.free_at for slot in ledgers._by_account[ACCOUNT].slots]
    assert free_at == ([] if is_void else [shop.clock.now() + WINDOW])
