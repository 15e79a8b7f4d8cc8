"""Long lists in short pages: what a full scan, and polls, may cost, on virtual time and the simulated platform's own list.

Seen to fail: with a poll that begins anew whenever it gets no call, the list of 4,500 is never validated; with a full scan
at once, cold readers beside it are refused.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from campaign_gateway.contract.operations import GET
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.sandbox.journal import most_in_window
from tests.bench.freshness.scenarios import CALLS, WINDOW, Scenario
from tests.bench.freshness.simulated import Inside, put_together
from tests.bench.freshness.world import Platform, Truth
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.simulation

ROWS = 50
"""What the contract's samples show for one call."""


class Place:
    """A gateway's inside before a long list."""

    def __init__(self, campaigns: int) -> None:
        scenario = Scenario(campaigns, 0, page_rows=ROWS)
        self.platform, self.tasks = Platform(scenario), Tasks()
        self.ids = [campaign.id for campaign in self.platform.campaigns.all()]
        self.inside: Inside = put_together(scenario, self.platform, Truth(), self.tasks)
        self.tasks.supervise(self.inside.sweeper.run, name="sweep")

    async def read(self, number: int) -> Reply:
        return await self.inside.exchange.read(Request(self.platform.stream, GET, self.ids[number], "callers"))

    async def keep_reading(self, count: int) -> None:
        while True:
            for number in range(count):
                self.tasks.spawn(self.read(number), name="read")
            await asyncio.sleep(5)

    @property
    def known(self) -> int:
        return len(self.inside.index.snapshot(self.platform.stream.identity).campaigns)

    async def until_validated(self, seconds: float) -> float:
        began = time.monotonic()
        while not (self.inside.stated().is_validating and self.known == len(self.ids)):
            await asyncio.sleep(1.0)
            assert time.monotonic() - began < seconds, f"{self.known} of {len(self.ids)} are known"
        return time.monotonic() - began


def played(campaigns: int, script: Callable[[Place], Awaitable[None]]) -> Place:
    async def playing() -> Place:
        place = Place(campaigns)
        await script(place)
        await place.tasks.close()
        return place

    with virtual_time() as loop:
        place = loop.run_until_complete(playing())
    assert most_in_window(place.platform.arrivals, WINDOW) <= CALLS
    return place


@pytest.mark.parametrize("campaigns", [4_500, 10_000])
def test_a_long_list_is_validated(campaigns: int) -> None:
    async def script(place: Place) -> None:
        place.tasks.spawn(place.keep_reading(20), name="callers")
        await place.until_validated(1_200)
        scanned = len(place.platform.pages)
        assert scanned <= campaigns / (ROWS - 3) + 4, "each page once"
        # And then the list costs its polls, and a scan now and then.
        before, began = len(place.platform.arrivals), time.monotonic()
        await asyncio.sleep(600)
        minutes = (time.monotonic() - began) / 60
        assert (len(place.platform.arrivals) - before) / minutes <= 45

    played(campaigns, script)


def test_a_full_scan_takes_a_tenth_of_the_calls_while_callers_wait() -> None:
    async def script(place: Place) -> None:
        place.tasks.spawn(place.keep_reading(5), name="callers")
        number = 100
        for _ in range(240):
            # Twice as many as there are calls.
            for _ in range(2):
                number += 1
                place.tasks.spawn(place.read(number), name="read")
            await asyncio.sleep(1)

    place = played(10_000, script)
    late = [at for at in place.platform.pages if at > place.platform.arrivals[0] + 65]
    assert late, "it goes on"
    # A poll may take a second page beside it.
    assert most_in_window(late, WINDOW) <= CALLS / 10 + 1


def test_a_first_scan_leaves_cold_readers_their_calls() -> None:
    async def script(place: Place) -> None:
        for number in range(5):
            await place.read(number)
        replies = []
        for number in range(100, 140):
            replies.append(await place.read(number))
            await asyncio.sleep(0.5)
        refused = [reply.failure.problem for reply in replies if reply.failure is not None]
        assert refused.count(Problem.BUDGET_EXHAUSTED) <= 2, refused

    played(3_000, script)
