import asyncio
from collections.abc import Iterator

import pytest

from campaign_gateway.telemetry.turns import BEAT_SECONDS, SPAN_SECONDS, SPANS, LoopWatch
from tests.support.virtual_time import VirtualLoop, timers, virtual_time


class Watched:
    """A loop on virtual time, whose turns take what is said: `computed` of it by this process."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.seen: list[float] = []
        self.watch = LoopWatch(self.seen.append, lambda: self.used)
        self.used = 0.0
        self.loop = loop

    def turn(self, seconds: float, computed: float) -> None:
        self.loop.pass_time(seconds)
        self.used += computed

    async def run(self, *turns: tuple[float, float], then: float = BEAT_SECONDS) -> float:
        """The longest turn, after so many seconds without one."""
        with self.watch.watching():
            for turn in turns:
                await asyncio.sleep(0)
                self.turn(*turn)
                await asyncio.sleep(BEAT_SECONDS)
            await asyncio.sleep(then)
            return self.watch.longest()


@pytest.fixture
def watched() -> Iterator[Watched]:
    with virtual_time() as loop:
        yield Watched(loop)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        pytest.param((0.0, 0.0), 0.0, id="nothing-happens"),
        pytest.param((0.25, 0.25), 0.24, id="what-is-left-of-the-turn-at-the-beat"),
        pytest.param((0.25, 0.003), 0.003, id="another-process-had-the-processor"),
        pytest.param((0.25, 0.5), 0.24, id="threads-compute-beside-it"),
        pytest.param((0.005, 0.005), 0.0, id="shorter-than-a-beat"),
    ],
)
def test_a_turn_counts_as_long_as_it_held_up_a_beat_by_work_of_this_process(
    watched: Watched, turn: tuple[float, float], expected: float
) -> None:
    longest = watched.loop.run_until_complete(watched.run(turn))
    assert longest == pytest.approx(expected)
    assert max(watched.seen) == pytest.approx(expected)


def test_each_beat_is_observed(watched: Watched) -> None:
    watched.loop.run_until_complete(watched.run((0.1, 0.1), (0.3, 0.3)))
    assert len([seconds for seconds in watched.seen if seconds]) == 2


@pytest.mark.parametrize(("computed", "beats"), [(0.0, 10), (0.002, 11), (0.003, 100)])
def test_only_a_busy_loop_has_a_beat_each_ten_milliseconds(watched: Watched, computed: float, beats: int) -> None:
    watched.loop.run_until_complete(watched.run(*[(0.0, computed)] * 99, then=0.009))
    assert len(watched.seen) == pytest.approx(beats, abs=2)


def test_a_turn_of_more_than_a_minute_ago_is_forgotten(watched: Watched) -> None:
    run = watched.run((0.1, 0.1), then=SPAN_SECONDS * (SPANS - 2))
    assert watched.loop.run_until_complete(run) == pytest.approx(0.09)
    run = watched.run((0.05, 0.05), then=SPAN_SECONDS * SPANS + 1)
    assert watched.loop.run_until_complete(run) == 0.0


def test_the_end_leaves_no_timer(watched: Watched) -> None:
    async def left() -> int:
        await watched.run()
        return timers()

    assert watched.loop.run_until_complete(left()) == 0
