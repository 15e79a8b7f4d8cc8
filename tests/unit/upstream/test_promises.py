"""What `Retry-After` says is true: on virtual time, before a platform that counts for itself."""

import asyncio
import contextlib
import math
import random
from collections.abc import Callable

import pytest

from campaign_gateway.policy.ledger import Allowance, Lane, Promise
from campaign_gateway.proxy.ports import Refused
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.sandbox.limit import SlidingWindow
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.promises import MOST_ROWS, Promises
from tests.support.meters import CountingMeter
from tests.support.virtual_time import virtual_time

ACCOUNT, WINDOW, CALLS = "acc-1", 60.0, 60
PATIENCE = 5.0
ALLOWANCE = Allowance(CALLS, WINDOW, leave=2.0, timeout=10.0, reserve=5, lanes={Lane.WRITES: 3})


class Counter:
    """Callers who come back when they are told, and what became of them."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.tasks = Tasks()
        ledgers = MemoryLedgers(StoreClock())
        self.budget = CallBudget(lambda _: ALLOWANCE, ledgers, CountingMeter(), self.tasks, clock=self.loop.time)
        self.platform = SlidingWindow(CALLS, WINDOW)
        self.answered: list[float] = []
        """When each caller had its answer."""
        self.told: list[float] = []
        self.kept: list[float] = []
        """Of callers who were told to come back: how late they were answered, in seconds; their whole try is one answer."""

    async def call(self, lane: Lane, client: str, wait: float, key: str) -> None:
        async with self.budget.permit(ACCOUNT, lane, client, wait, key):
            assert self.platform.arrive(self.loop.time()).within, "no window sees more than the budget"
            await asyncio.sleep(random.uniform(0.05, 0.3))

    async def caller(self, number: int, client: str = "c") -> None:
        back_at: float | None = None
        while True:
            try:
                await self.call(Lane.INTERACTIVE, client, PATIENCE, f"key-{number}")
            except Refused as refused:
                if back_at is not None:
                    self.kept.append(math.inf)
                wait = max(1, math.ceil(refused.failure.retry_after or 0.0))
                self.told.append(wait)
                await asyncio.sleep(wait + random.uniform(0.0, 0.1))
                back_at = self.loop.time()
            else:
                if back_at is not None:
                    self.kept.append(self.loop.time() - back_at)
                self.answered.append(self.loop.time())
                return

    async def poll(self, every: float) -> None:
        while True:
            with contextlib.suppress(Refused):
                await self.call(Lane.VALIDATION, "sweep", 0.0, "poll")
            await asyncio.sleep(every)

    async def newcomers(self, every: float) -> None:
        """Callers who never come back."""
        number = 10_000
        while True:
            number += 1
            self.tasks.spawn(self._once(number), name="newcomer")
            await asyncio.sleep(every)

    async def _once(self, number: int) -> None:
        try:
            await self.call(Lane.INTERACTIVE, "c", PATIENCE, f"key-{number}")
        except Refused:
            return

    def part_kept(self) -> float:
        """The part of those who came back when told who had their answer with that try."""
        return sum(late < PATIENCE for late in self.kept) / len(self.kept)


def run(scenario: Callable[[Counter], object]) -> Counter:
    random.seed(7)
    with virtual_time() as loop:

        async def main() -> Counter:
            counter = Counter()
            await scenario(counter)  # type: ignore[misc]
            await counter.tasks.close()
            return counter

        return loop.run_until_complete(main())


def test_of_eighty_cold_readers_at_once_all_are_answered_when_they_come_back_as_told() -> None:
    async def scenario(counter: Counter) -> None:
        counter.tasks.spawn(counter.poll(0.9), name="poll")
        await asyncio.gather(*(counter.caller(number) for number in range(80)))

    counter = run(scenario)
    assert len(counter.told) == len(counter.kept) <= 80 - (CALLS - 3) + 1
    assert counter.part_kept() == 1.0
    assert sorted(counter.kept)[int(0.95 * len(counter.kept))] <= 2.0
    assert max(counter.answered) < WINDOW + 5


def test_cold_readers_take_at_once_all_that_polls_had_planned() -> None:
    async def scenario(counter: Counter) -> None:
        counter.tasks.spawn(counter.poll(2.0), name="poll")
        await asyncio.sleep(40)
        await asyncio.gather(*(counter.caller(number) for number in range(40)))

    counter = run(scenario)
    assert sum(at < 42 for at in counter.answered) >= CALLS - 3 - 21, "what is held by polls, and no more, is missing"
    assert max(counter.told) <= 25, "and the next slot is not a window away"
    assert counter.part_kept() == 1.0


@pytest.mark.parametrize("every", [0.2, 2.0])
def test_in_an_overload_of_newcomers_those_who_were_told_to_come_back_are_answered(every: float) -> None:
    async def scenario(counter: Counter) -> None:
        counter.tasks.spawn(counter.poll(0.9), name="poll")
        counter.tasks.spawn(counter.newcomers(every), name="newcomers")
        for number in range(5 * 60):
            counter.tasks.spawn(counter.caller(number), name="caller")
            await asyncio.sleep(1.5)
        await asyncio.sleep(300)

    counter = run(scenario)
    assert len(counter.kept) > 30
    assert counter.part_kept() >= 0.95


def test_a_caller_that_asks_again_before_its_time_is_told_the_same_moment() -> None:
    async def scenario(counter: Counter) -> None:
        await asyncio.gather(*(counter.caller(number) for number in range(CALLS - 3)))
        told = []
        for _ in range(5):
            failure = counter.budget.refusal(ACCOUNT, Lane.INTERACTIVE, "c", "key", PATIENCE)
            assert failure is not None
            told.append(counter.loop.time() + (failure.retry_after or 0.0))
            await asyncio.sleep(3)
        assert told == [pytest.approx(told[0])] * 5
        await asyncio.sleep(told[0] - counter.loop.time())
        await counter.call(Lane.INTERACTIVE, "c", PATIENCE, "key")

    run(scenario)


# What is remembered.


def test_promises_of_one_moment_are_one_row_and_are_taken_one_by_one() -> None:
    promises = Promises(ALLOWANCE)
    for number in range(5):
        assert promises.give("c", f"key-{number}", 60.0, 0.0)
    assert promises.rows("r1", 0.0) == (Promise("r1", "c", 60.0, 5),)
    assert promises.take("c", "key-3", 60.0)
    assert not promises.take("c", "key-3", 60.0)
    assert promises.rows("r1", 60.0) == (Promise("r1", "c", 60.0, 4),)
    assert promises.rows("r1", 60.0 + ALLOWANCE.hold) == (), "nobody came for them"


def test_what_is_promised_is_bounded() -> None:
    promises = Promises(ALLOWANCE)
    assert not promises.give("c", "far", 1000.0, 0.0), "told, and no slot is left to it"
    assert not promises.give("c", "", 60.0, 0.0), "nobody can know when it is back"
    given = [promises.give(f"c{number}", "key", 60.0, 0.0) for number in range(MOST_ROWS + 10)]
    assert sum(given) == MOST_ROWS == len(promises.rows("r1", 0.0))
    assert set(promises.refused) == {f"c{number}" for number in range(MOST_ROWS + 10)} | {"c"}
