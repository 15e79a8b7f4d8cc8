import pytest

from campaign_gateway.store.clock import STEP_SECONDS, Stamp, StoreClock, shift_between, stamp
from tests.support.doubles import Machine

WALL = 1_770_000_000.0
MONOTONIC = 5000.0


@pytest.fixture
def clock(machine: Machine) -> StoreClock:
    return StoreClock()


def test_it_tells_the_machine_s_time_until_it_is_set(machine: Machine, clock: StoreClock) -> None:
    assert (clock.now(), clock.uncertainty) == (WALL, 0.0)
    machine.advance(12.5)
    assert clock.now() == WALL + 12.5


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_changes_nothing(machine: Machine, clock: StoreClock, step: float) -> None:
    machine.wall += step
    machine.advance(1)
    assert clock.now() == WALL + 1


@pytest.mark.parametrize("ahead", [-50.0, -0.25, 0.0, 0.25, 50.0])
def test_it_tells_the_server_s_time_once_set(machine: Machine, clock: StoreClock, ahead: float) -> None:
    clock.set(WALL + ahead, MONOTONIC, MONOTONIC)
    assert clock.now() == WALL + ahead
    machine.advance(3)
    assert clock.now() == WALL + ahead + 3


def test_the_server_answered_in_the_middle_of_the_trip(machine: Machine, clock: StoreClock) -> None:
    machine.advance(2)
    clock.set(WALL + 100, MONOTONIC, MONOTONIC + 2)
    assert clock.now() == WALL + 101
    assert clock.uncertainty == 1.0


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 1.0])
def test_the_true_time_is_within_the_error(machine: Machine, clock: StoreClock, part: float) -> None:
    """Wherever in the trip the server looked at its clock."""
    trip = 0.5
    asked, server_ahead = machine.monotonic, 7.0
    told = machine.wall + part * trip + server_ahead
    machine.advance(trip)
    clock.set(told, asked, machine.monotonic)
    assert abs(clock.now() - (machine.wall + server_ahead)) <= clock.uncertainty


def test_the_error_is_that_of_the_last_setting(machine: Machine, clock: StoreClock) -> None:
    clock.set(WALL, MONOTONIC - 4, MONOTONIC)
    clock.set(WALL, MONOTONIC - 0.5, MONOTONIC)
    assert clock.uncertainty == 0.25


@pytest.mark.parametrize(
    ("correction", "steps"),
    [
        pytest.param(0.0, 0, id="none"),
        pytest.param(0.5, 0, id="small"),
        pytest.param(STEP_SECONDS, 0, id="at-the-limit"),
        pytest.param(STEP_SECONDS + 0.25, 1, id="forwards"),
        pytest.param(-STEP_SECONDS - 0.25, 1, id="backwards"),
    ],
)
def test_a_step_is_told_after_the_clock_is_set(
    machine: Machine, clock: StoreClock, correction: float, steps: int
) -> None:
    told: list[float] = []
    clock.on_step = lambda: told.append(clock.now())
    clock.set(WALL + correction, MONOTONIC, MONOTONIC)
    assert told == [WALL + correction] * steps


def test_a_step_is_told_once(machine: Machine, clock: StoreClock) -> None:
    told: list[float] = []
    clock.on_step = lambda: told.append(clock.now())
    for _ in range(3):
        clock.set(WALL + 60, MONOTONIC, MONOTONIC)
    assert told == [WALL + 60]


# What a later process makes of a moment.

WRITTEN = Stamp(now=100.0, boot="run-1", monotonic=50.0, wall=1000.0)


@pytest.mark.parametrize(
    ("read", "shift"),
    [
        pytest.param(Stamp(120.0, "run-1", 70.0, 1020.0), 0.0, id="the-same-clocks"),
        pytest.param(Stamp(3720.0, "run-1", 70.0, 4620.0), 3600.0, id="a-wall-clock-put-forward"),
        pytest.param(Stamp(-3480.0, "run-1", 70.0, -2580.0), -3600.0, id="a-wall-clock-put-back"),
        pytest.param(Stamp(120.0, "run-2", 3.0, 1020.0), 0.0, id="another-run-of-the-machine"),
        pytest.param(Stamp(-3500.0, "run-2", 3.0, -2600.0), -3600.0, id="another-run-and-time-went-back"),
        pytest.param(Stamp(120.0, "run-1", 20.0, 1020.0), 0.0, id="a-monotonic-clock-of-another-kind"),
    ],
)
def test_an_earlier_instant_keeps_its_distance(read: Stamp, shift: float) -> None:
    assert shift_between(WRITTEN, read) == shift


def test_without_a_name_for_the_machine_s_run_the_wall_clock_counts() -> None:
    nameless = Stamp(100.0, "", 50.0, 1000.0)
    assert shift_between(nameless, Stamp(120.0, "", 51.0, 1020.0)) == 0.0


def test_a_stamp_tells_this_moment(machine: Machine, clock: StoreClock) -> None:
    made = stamp(clock.now())
    assert (made.now, made.monotonic, made.wall) == (WALL, MONOTONIC, WALL)
    assert made.boot == stamp(0.0).boot
