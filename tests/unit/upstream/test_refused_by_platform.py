"""What an account does when its platform allows less than was configured: on virtual time, judged by the platform."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.proxy.ports import Refused
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.sandbox.limit import SlidingWindow
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.upstream.budget import CallBudget
from tests.support.meters import CountingMeter
from tests.support.virtual_time import virtual_time

ACCOUNT, WINDOW, CALLS = "acc-1", 60.0, 60


class Platform:
    """Allows so many calls in a window, and tells how long to wait or not."""

    def __init__(self, calls: int, *, tells: bool = True) -> None:
        self.loop = asyncio.get_running_loop()
        self.window = SlidingWindow(calls, WINDOW)
        self.tells = tells
        self.tasks = Tasks()
        allowance = Allowance(CALLS, WINDOW, leave=2.0, timeout=10.0, reserve=5, lanes={Lane.WRITES: 3})
        ledgers = MemoryLedgers(StoreClock())
        self.budget = CallBudget(lambda _: allowance, ledgers, CountingMeter(), self.tasks, clock=self.loop.time)
        self.accepted: list[float] = []
        self.refused: list[float] = []
        self.strays: dict[int, float] = {}
        """Calls, by number, that are refused for no reason of ours, and for how long it says."""

    @property
    def sent(self) -> int:
        return len(self.accepted) + len(self.refused)

    async def call(self, number: int, lane: Lane = Lane.INTERACTIVE) -> None:
        try:
            async with self.budget.permit(ACCOUNT, lane, "c", 5.0, f"key-{number}"):
                await asyncio.sleep(random.uniform(0.05, 0.2))
                now = self.loop.time()
                stray = self.strays.pop(self.sent + 1, None)
                verdict = self.window.arrive(now) if stray is None else None
                if verdict is not None and verdict.within:
                    self.accepted.append(now)
                    return
                self.refused.append(now)
                told = stray if verdict is None else float(verdict.retry_after_seconds)
                await self.budget.pause(ACCOUNT, told if self.tells else None)
        except Refused:
            return

    async def demand(self, seconds: float, every: float = 0.5) -> None:
        """More calls than there are, for so long."""
        ends, number = self.loop.time() + seconds, 0
        while self.loop.time() < ends:
            number += 1
            self.tasks.spawn(self.call(number), name="caller")
            await asyncio.sleep(every)

    def in_window(self, number: int, times: list[float] | None = None) -> int:
        """Calls of the window of that number."""
        return sum(number * WINDOW <= at < (number + 1) * WINDOW for at in times or self.accepted)


def run(scenario: Callable[[], Any]) -> Platform:
    random.seed(11)
    with virtual_time() as loop:

        async def main() -> Platform:
            platform: Platform = await scenario()
            await platform.tasks.close()
            return platform

        return loop.run_until_complete(main())


@pytest.mark.parametrize("tells", [True, False], ids=["told", "not-told"])
@pytest.mark.parametrize("allowed", [25, 10, 45])
def test_a_lower_limit_is_found_within_three_windows_and_then_used_in_full(allowed: int, tells: bool) -> None:
    async def scenario() -> Platform:
        platform = Platform(allowed, tells=tells)
        await platform.demand(15 * WINDOW)
        return platform

    platform = run(scenario)
    windows = range(3, 15)
    used = [platform.in_window(number) for number in windows]
    assert sum(used) >= 0.8 * allowed * len(windows), used
    refused = [platform.in_window(number, platform.refused) for number in windows]
    assert max(refused) <= 1
    assert sum(refused) <= 4, "and rarely tried beyond"


def test_in_a_burst_a_lower_limit_is_found_at_once() -> None:
    async def scenario() -> Platform:
        platform = Platform(25)
        for number in range(CALLS - 3):
            platform.tasks.spawn(platform.call(number), name="caller")
        await asyncio.sleep(5)
        assert platform.budget.capacity(ACCOUNT) == 25
        return platform

    assert len(run(scenario).accepted) == 25


@pytest.mark.parametrize("told", [6.0, 30.0])
def test_one_stray_refusal_costs_its_pause_and_half_a_window(told: float) -> None:
    async def scenario() -> Platform:
        platform = Platform(CALLS)
        platform.strays[4] = told
        for number in range(4):
            await platform.call(-number)
            await asyncio.sleep(2)
        platform.tasks.spawn(platform.demand(5 * WINDOW), name="demand")
        began = platform.loop.time()
        await asyncio.sleep(0.1)
        assert platform.budget.capacity(ACCOUNT) == CALLS // 2
        await asyncio.sleep(told + WINDOW)
        assert platform.budget.capacity(ACCOUNT) == CALLS
        await asyncio.sleep(WINDOW)
        recent = sum(at > platform.loop.time() - WINDOW for at in platform.accepted)
        assert recent >= 0.9 * (CALLS - 3), "the whole budget is used again"
        assert platform.accepted[3] - platform.refused[0] < told + 0.5, "the first answer comes as the pause ends"
        assert began
        return platform

    assert len(run(scenario).refused) == 1


def test_the_probe_leaves_at_the_very_moment_at_which_the_pause_ends() -> None:
    async def scenario() -> Platform:
        platform = Platform(CALLS)
        platform.strays[21] = 6.0
        for number in range(21):
            await platform.call(number)
        paused_at = platform.refused[0]
        platform.tasks.spawn(platform.demand(12.0, every=0.25), name="demand")
        await asyncio.sleep(12)
        after = [at for at in platform.accepted if at > paused_at]
        assert after[0] <= paused_at + 6.0 + 0.3
        assert after[1] <= paused_at + 6.0 + 0.6, "and the next one follows its answer"
        return platform

    run(scenario)
