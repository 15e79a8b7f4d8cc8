from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.policy.window import CallLog, Lane

# Times in these tests are quarters of a second, on which float arithmetic is exact.
QUARTER = 0.25
WINDOW = 8.0


@dataclass
class Traffic:
    """A call log under simulated load, and the moments at which its calls reached the platform."""

    log: CallLog
    now: float = 0.0
    in_flight: list[float] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)

    def take(self) -> None:
        if self.log.free(self.now) > 0:
            self.log.take()
            self.in_flight.append(self.now)

    def take_all(self) -> None:
        for _ in range(self.log.calls):
            self.take()

    def end(self, which: int, part: int) -> None:
        """One call ends; it had arrived after `part` quarters of its time."""
        if self.in_flight:
            taken = self.in_flight.pop(which % len(self.in_flight))
            self.log.end(self.now)
            self.arrivals.append(taken + (self.now - taken) * part / 4)

    def give_back(self, which: int) -> None:
        if self.in_flight:
            self.in_flight.pop(which % len(self.in_flight))
            self.log.give_back()

    def end_all(self, part: int) -> None:
        while self.in_flight:
            self.end(0, part)


STEPS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 40), st.just(0)),
    st.tuples(st.just("take"), st.just(0), st.just(0)),
    st.tuples(st.just("take_all"), st.just(0), st.just(0)),
    st.tuples(st.just("end"), st.integers(0, 7), st.integers(0, 4)),
    st.tuples(st.just("end_all"), st.integers(0, 4), st.just(0)),
    st.tuples(st.just("give_back"), st.integers(0, 7), st.just(0)),
)


def run(calls: int, steps: list[tuple[str, int, int]]) -> Traffic:
    traffic = Traffic(CallLog(calls, WINDOW))
    for step, one, other in steps:
        match step:
            case "pass":
                traffic.now += one * QUARTER
            case "take":
                traffic.take()
            case "take_all":
                traffic.take_all()
            case "end":
                traffic.end(one, other)
            case "end_all":
                traffic.end_all(one)
            case _:
                traffic.give_back(one)
    return traffic


def most_in_a_window(arrivals: list[float]) -> int:
    """The most arrivals in any half-open window."""
    return max((sum(start <= arrival < start + WINDOW for arrival in arrivals) for start in arrivals), default=0)


@given(st.integers(1, 5), st.lists(STEPS, max_size=60), st.integers(0, 4))
@settings(max_examples=150, deadline=None)
def test_no_window_sees_more_arrivals_than_calls(calls: int, steps: list[tuple[str, int, int]], part: int):
    traffic = run(calls, steps)
    traffic.end_all(part)
    assert most_in_a_window(traffic.arrivals) <= calls


@given(st.integers(1, 5), st.lists(STEPS, max_size=60))
@settings(max_examples=60, deadline=None)
def test_places_are_neither_lost_nor_made(calls: int, steps: list[tuple[str, int, int]]):
    traffic = run(calls, steps)
    assert 0 <= traffic.log.free(traffic.now) <= calls - len(traffic.in_flight)
    traffic.end_all(0)
    assert traffic.log.free(traffic.now + WINDOW) == calls


@given(st.integers(1, 5), st.lists(STEPS, max_size=60), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_wait_is_enough_when_nobody_else_takes_a_place(calls: int, steps: list[tuple[str, int, int]], places: int):
    traffic = run(calls, steps)
    places = min(places, calls)
    was_idle = not traffic.in_flight
    waited = traffic.log.wait(traffic.now, places)
    traffic.end_all(0)
    if was_idle and waited:
        assert traffic.log.free(traffic.now + waited - QUARTER / 2) < places
    assert traffic.log.free(traffic.now + waited) >= places


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=8), st.floats(0, 100))
@settings(max_examples=60, deadline=None)
def test_wait_is_enough_at_any_moment_to_a_microsecond(ends: list[float], later: float):
    log = CallLog(len(ends), WINDOW)
    for end in ends:
        log.take()
        log.end(end)
    now = max(ends) + later
    assert log.free(now + log.wait(now, len(ends)) + 1e-6) == len(ends)


def used(*ends: float, calls: int = 3, in_flight: int = 0) -> CallLog:
    log = CallLog(calls, WINDOW)
    for end in ends:
        log.take()
        log.end(end)
    for _ in range(in_flight):
        log.take()
    return log


@pytest.mark.parametrize(
    ("log", "now", "free"),
    [
        pytest.param(used(), 0.0, 3, id="unused"),
        pytest.param(used(in_flight=1), 0.0, 2, id="law-1-from-the-permit-on"),
        pytest.param(used(in_flight=1), 1e9, 2, id="law-1-however-long-the-call-takes"),
        pytest.param(used(1.0), 1.0, 2, id="law-1-after-its-end-too"),
        pytest.param(used(1.0), 8.75, 2, id="law-1-until-a-window-after-its-end"),
        pytest.param(used(1.0), 9.0, 3, id="law-1-and-not-longer"),
        pytest.param(used(5.0, 1.0, 3.0), 9.0, 1, id="ends-out-of-order"),
        pytest.param(used(1.0, in_flight=2), 2.0, 0, id="all-held"),
        pytest.param(used(calls=0), 0.0, 0, id="no-calls-at-all"),
    ],
)
def test_free(log: CallLog, now: float, free: int):
    assert log.free(now) == free


def test_a_call_that_never_left_gives_its_place_back_at_once():
    log = used(in_flight=3)
    log.give_back()
    assert log.free(0.0) == 1


@pytest.mark.parametrize(
    ("log", "now", "places", "seconds"),
    [
        pytest.param(used(), 0.0, 1, 0.0, id="free"),
        pytest.param(used(1.0), 2.0, 2, 0.0, id="enough-free"),
        pytest.param(used(1.0, 2.0, 4.0), 5.0, 1, 4.0, id="the-first-to-come-free"),
        pytest.param(used(4.0, 1.0, 2.0), 5.0, 1, 4.0, id="the-first-to-come-free-whatever-the-order"),
        pytest.param(used(1.0, 2.0, 4.0), 5.0, 2, 5.0, id="the-second"),
        pytest.param(used(1.0, 2.0, 4.0), 5.0, 3, 7.0, id="all"),
        pytest.param(used(1.0, in_flight=2), 5.0, 1, 4.0, id="one-ended-others-in-flight"),
        pytest.param(used(1.0, in_flight=2), 5.0, 2, 8.0, id="in-flight-may-end-now"),
        pytest.param(used(in_flight=3), 5.0, 1, 8.0, id="all-in-flight"),
    ],
)
def test_wait(log: CallLog, now: float, places: int, seconds: float):
    assert log.wait(now, places) == seconds


@pytest.mark.parametrize(
    ("lane", "is_waited_for"),
    [
        pytest.param(Lane.WRITES, True, id="writes"),
        pytest.param(Lane.INTERACTIVE, True, id="interactive"),
        pytest.param(Lane.PROOF, False, id="proof"),
        pytest.param(Lane.BACKGROUND, False, id="background"),
    ],
)
def test_the_reserve_is_for_those_who_wait(lane: Lane, is_waited_for: bool):
    assert lane.is_waited_for is is_waited_for


def test_lanes_stand_in_the_order_of_service():
    # design-6.1
    assert [str(lane) for lane in Lane] == ["writes", "interactive", "proof", "background"]
