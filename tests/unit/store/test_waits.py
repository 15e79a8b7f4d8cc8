import asyncio
import math

import pytest

from campaign_gateway.store.waits import Changes, Wakes
from tests.support.doubles import begun, turns
from tests.support.virtual_time import timers, virtual_time


@pytest.mark.parametrize("kind", [Changes, Wakes])
def test_a_wait_ends_with_what_came_or_with_its_time(kind):
    async def waiting() -> list[float]:
        waits, ends = kind(), []
        loop = asyncio.get_running_loop()
        loop.call_later(3.0, waits.notify, "another")
        await waits.wait("one", 5.0)
        ends.append(loop.time())
        loop.call_later(3.0, waits.notify, "one")
        for seconds in (5.0, 5.0):
            await waits.wait("one", seconds)
            ends.append(loop.time())
        return ends

    with virtual_time() as loop:
        assert loop.run_until_complete(waiting()) == [5.0, 8.0, 13.0]


@pytest.mark.parametrize("kind", [Changes, Wakes])
async def test_who_waits_for_ever_needs_no_timer(kind):
    waits = kind()
    before = timers()
    waiting = [begun(waits.wait(f"stream {n}", math.inf)) for n in range(500)]
    await turns()
    assert timers() == before
    for n in range(500):
        waits.notify(f"stream {n}")
    await asyncio.gather(*waiting)


async def test_news_of_before_do_not_count_and_wakes_do_once():
    wait_for_change, wakes = Changes(), Wakes()
    for waits in (wait_for_change, wakes):
        waits.notify("one")
        waits.notify("one")
    async with asyncio.timeout(5):
        await wakes.wait("one", math.inf)
    waiting = [begun(waits.wait("one", math.inf)) for waits in (wait_for_change, wakes)]
    await turns()
    assert not any(task.done() for task in waiting)
    for waits in (wait_for_change, wakes):
        waits.notify("one")
    await asyncio.gather(*waiting)
