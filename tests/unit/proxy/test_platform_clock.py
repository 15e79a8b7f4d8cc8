import logging
import time
from email.utils import formatdate

import pytest

from campaign_gateway.policy.clock_offset import AGREED, FAR_OFF_SECONDS, MAX_ANSWERS
from campaign_gateway.proxy.platform_clock import PlatformClock
from tests.support.doubles import START, ManualClock


class Wall:
    """A platform's clock beside the store's, which stands still but for what a test does to it."""

    def __init__(self) -> None:
        self.store = ManualClock()
        self.clock = PlatformClock(self.store.now)
        self.began = time.monotonic()

    def answer(self, ahead: float, count: int = 1) -> None:
        """Answers that were there at once, written half a second past a second that is `ahead` of the store's."""
        for _ in range(count):
            self.clock.note(self.began, self.began, formatdate(START + ahead, usegmt=True))


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_until_an_answer_tells_the_clocks_agree(wall: Wall) -> None:
    for date in (None, "", "soon", "Mon, 99 Feb 2026 02:40:37 GMT"):
        wall.clock.note(wall.began, wall.began, date)
    assert (wall.clock.is_known, wall.clock.offset(), wall.clock.seconds_ahead()) == (False, AGREED, None)
    assert wall.clock.now() == START


@pytest.mark.parametrize("ahead", [-30.0, 0.0, 30.0])
def test_an_answer_tells_the_platforms_time(wall: Wall, ahead: float) -> None:
    wall.answer(ahead)
    assert wall.clock.is_known
    # The clock that stands still is the store's: the monotonic one goes on meanwhile.
    assert wall.clock.seconds_ahead() == pytest.approx(ahead + 0.5, abs=1.0)
    assert abs(wall.clock.now() - START - ahead - 0.5) < 1.0


def test_a_step_of_the_stores_clock_is_no_step_of_the_platforms(wall: Wall) -> None:
    wall.answer(0.0)
    told = wall.clock.now()
    wall.store.advance(-40.0)
    assert wall.clock.seconds_ahead() == pytest.approx(40.5, abs=1.0)
    assert abs(wall.clock.now() - told) < 1.0


def test_what_the_stores_clock_is_knowingly_ahead_is_nobodys_fault(wall: Wall) -> None:
    """After Redis' clock was set back, replicas go on by the time before."""
    wall.clock = PlatformClock(wall.store.now, lambda: 3600.0)
    wall.answer(-3600.0, MAX_ANSWERS)
    assert not wall.clock.is_far_off
    assert wall.clock.seconds_ahead() == pytest.approx(-3600.0, abs=1.0)
    wall.answer(-3500.0, MAX_ANSWERS)
    assert wall.clock.is_far_off


def test_one_line_for_each_change_of_state(wall: Wall, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    wall.answer(2.0, MAX_ANSWERS)
    assert not caplog.records
    states = []
    for ahead in (-12.0, -13.0, FAR_OFF_SECONDS - 4.0, 0.0):
        wall.answer(ahead, MAX_ANSWERS)
        states.append(wall.clock.is_far_off)
    assert states == [True, True, False, False]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "s behind ours" in caplog.text
