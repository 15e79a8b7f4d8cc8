import pytest

from campaign_gateway.proxy.ports import USED_SECONDS
from campaign_gateway.store import usage as usage_module
from campaign_gateway.store.usage import HALF_LIFE_SECONDS, Usage

NOW = 1_770_000_000.0
A, B = "stream a", "stream b"


@pytest.fixture
def first() -> list[str]:
    """The streams whose first use was reported, each time."""
    return []


@pytest.fixture
def usage(first: list[str]) -> Usage:
    return Usage(first.append)


def test_nothing_is_in_use_at_first(usage):
    assert usage.streams(NOW) == []
    assert usage.used(A, NOW) == usage.interest(A, NOW) == {}
    assert usage.used_at(A, "c1") is None


def test_a_campaign_is_in_use_for_a_while(usage):
    usage.note(A, "c1", NOW)
    usage.note(A, "c2", NOW + 10)
    assert usage.used(A, NOW + USED_SECONDS) == {"c1": NOW, "c2": NOW + 10}
    assert usage.streams(NOW + USED_SECONDS) == [A]
    assert usage.used(A, NOW + USED_SECONDS + 1) == usage.used(A, NOW) == {"c2": NOW + 10}, "forgotten for good"
    assert usage.used(A, NOW + USED_SECONDS + 11) == {}
    assert usage.streams(NOW) == []


def test_a_stream_that_nobody_uses_any_more_is_forgotten_without_being_looked_at(usage):
    usage.note(A, "c1", NOW)
    usage.note(B, "c1", NOW + 100)
    assert usage.streams(NOW + USED_SECONDS + 1) == [B]
    assert usage.used_at(A, "c1") is None


def test_notes_that_arrive_late_take_nothing_back(usage):
    usage.note(A, "c1", NOW)
    usage.note(A, "c1", NOW - 300)
    assert usage.used(A, NOW) == {"c1": NOW}
    assert usage.streams(NOW + USED_SECONDS) == [A]
    assert usage.used_at(A, "c1") == NOW


@pytest.mark.parametrize(
    ("notes", "reads"),
    [
        ([(0.0, 1)], 1.0),
        ([(0.0, 5)], 5.0),
        ([(0.0, 0)], 0.0),
        ([(-HALF_LIFE_SECONDS, 1)], 0.5),
        ([(-HALF_LIFE_SECONDS, 1), (0.0, 1)], 1.5),
        ([(0.0, 1), (-HALF_LIFE_SECONDS, 1)], 1.5),
        ([(-2 * HALF_LIFE_SECONDS, 4), (-HALF_LIFE_SECONDS, 2), (0.0, 1)], 3.0),
        ([(5.0, 1)], 1.0),
    ],
    ids=["one", "several", "unknown", "faded", "faded-and-new", "late", "three", "from-the-future"],
)
def test_a_read_counts_half_after_each_half_life(usage, notes, reads):
    for seconds, times in notes:
        usage.note(A, "c1", NOW + seconds, times)
    assert usage.interest(A, NOW) == {"c1": pytest.approx(reads)}


def test_interest_is_in_what_is_in_use(usage):
    usage.note(A, "c1", NOW - USED_SECONDS - 1)
    usage.note(A, "c2", NOW)
    assert set(usage.interest(A, NOW)) == {"c2"}
    assert usage.interest(B, NOW) == {}


def test_the_first_use_is_reported(usage, first):
    usage.note(A, "c1", NOW)
    usage.note(A, "c2", NOW + 1)
    usage.note(B, "c1", NOW)
    usage.note(A, "c1", NOW + USED_SECONDS)
    assert first == [A, B]
    usage.note(A, "c1", NOW + 2 * USED_SECONDS + 1)
    assert first == [A, B, A], "again after a quiet time, though nobody has looked meanwhile"


def test_whoever_found_nothing_in_use_learns_of_the_next_use_whatever_the_clock_does(usage, first):
    usage.note(A, "c1", NOW)
    assert usage.used(A, NOW + USED_SECONDS + 1) == {}
    # The store's clock steps back: the time since the last use is not long any longer.
    usage.note(A, "c1", NOW + 5)
    assert first == [A, A]


def test_a_stream_has_room_for_so_many_and_the_old_make_room(usage, monkeypatch):
    monkeypatch.setattr(usage_module, "MAX_USED", 3)
    assert [usage.note(A, f"c{n}", NOW) for n in range(4)] == [True, True, True, False]
    assert usage.note(A, "c1", NOW + 60), "of what is there"
    assert usage.note(B, "c1", NOW)
    later = NOW + USED_SECONDS + 1
    assert set(usage.streams(later)) == {A}
    assert usage.note(A, "new", later)
    assert usage.used(A, later) == {"c1": NOW + 60, "new": later}
