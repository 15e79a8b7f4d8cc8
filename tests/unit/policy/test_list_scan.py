from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.contract.listing import Channel, ListPage, Row
from campaign_gateway.policy.evidence import GOOD
from campaign_gateway.policy.list_findings import LONGEST_LAG_SECONDS, conclude, conclude_full, forget, lag_shown, learn
from campaign_gateway.policy.list_scan import MAX_PAGES, MAX_POLL_PAGES, MAX_RETRIES, OVERLAP_ROWS, Scan, begin, step
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import SETTLE_SECONDS, IndexSnapshot, IndexState, ListFlaw, Poll, apply
from tests.support.builders import NOW, stamp
from tests.support.examples import scaled
from tests.support.lists import (
    LASTS,
    LONG_AGO,
    by_list,
    paged,
    polled,
    read,
    row,
    rows,
    scanned,
    seen,
    snapshot_of,
    superseded,
    validated,
)

VOICE, SMS = Channel


# Rows without a revision, and rows that go.


@pytest.mark.parametrize("revision", [None, "1770127608902", "yesterday"], ids=["none", "number", "text"])
def test_a_row_without_a_revision_or_without_a_place_in_the_order_is_not_listed_reliably(revision: str | None):
    listed = [row("c0", revision=revision), row("c1")]
    snapshot, result = seen(snapshot_of(listed), listed, NOW)
    assert "c0" not in snapshot.campaigns
    assert not result.needs_full_scan, "it is counted as one that is there"


def test_a_row_that_loses_its_revision_is_not_listed_reliably_any_more():
    listed = rows(2)
    snapshot = snapshot_of(listed)
    kept = read(listed[1], NOW - 50)
    snapshot, _ = seen(snapshot, [listed[0], row("c1", revision=None)], NOW)
    assert by_list(kept, snapshot, "c1") == GOOD
    snapshot, _ = seen(snapshot, [listed[0], row("c1", revision=None)], NOW + 10)
    assert by_list(kept, snapshot, "c1") == GOOD


def test_a_revision_that_was_gone_for_a_while_takes_nothing_back():
    before, after = row("c0"), row("c0", NOW - 11)
    kept = read(before, NOW - 50)
    snapshot = snapshot_of([before])
    for now, listed in ((NOW - 10, after), (NOW, row("c0", revision=None)), (NOW + 10, after)):
        snapshot, _ = seen(snapshot, [listed], now)
        known = by_list(kept, snapshot)
        assert known == superseded(NOW - 9)
    assert snapshot.campaigns["c0"].is_listed
    assert not seen(snapshot, [after], NOW + 20)[1].needs_full_scan


def test_a_full_poll_sees_what_is_gone():
    listed = rows(3)
    snapshot = snapshot_of(listed, NOW - 2 * 600.0)
    kept = read(listed[1], NOW - 600.0)
    snapshot, result = seen(snapshot, [listed[0], listed[2]], NOW)
    assert result.changed == {"c1"}
    assert by_list(kept, snapshot, "c1") == superseded(NOW + 1)
    later = read(listed[1], NOW + 5)
    snapshot, result = seen(snapshot, [listed[0], listed[2]], NOW + 2 * 600.0)
    assert result.changed == frozenset(), "once"
    assert by_list(later, snapshot, "c1") == GOOD


def test_what_was_gone_and_is_back_has_moved():
    listed = rows(2)
    snapshot = snapshot_of(listed, NOW - 2 * 600.0)
    snapshot, _ = seen(snapshot, listed[:1], NOW)
    snapshot, result = seen(snapshot, listed, NOW + 2 * 600.0)
    assert result.changed == {"c1"}
    assert snapshot.campaigns["c1"].is_listed


def test_a_partial_poll_declares_nothing_gone():
    listed = rows(300)
    snapshot = snapshot_of(listed)
    _, result = seen(snapshot, listed, NOW)
    assert (result.updates, result.changed) == ({}, frozenset())


@pytest.mark.parametrize(
    ("listed", "needs_full_scan"),
    [
        pytest.param(rows(250), False, id="as-before"),
        pytest.param(rows(249), True, id="one-went"),
        pytest.param([*rows(250), row("far-below", LONG_AGO - 9000)], True, id="one-came-far-below"),
        pytest.param([row("new", NOW - 1), *rows(250)], False, id="one-came-and-was-seen"),
        pytest.param([row("new", NOW - 1), *rows(249)], True, id="one-came-and-one-went"),
    ],
)
def test_a_total_that_disagrees_needs_a_full_scan(listed: list[Row], needs_full_scan: bool):
    snapshot = snapshot_of(rows(250), NOW - 100)
    snapshot, result = seen(snapshot, listed, NOW)
    assert result.needs_full_scan is needs_full_scan
    # A full scan finds out, and the next poll is content.
    snapshot = scanned(snapshot, listed, NOW + 10)
    assert set(snapshot.campaigns) >= {each.id for each in listed}
    assert not seen(snapshot, listed, NOW + 20)[1].needs_full_scan


def test_without_a_total_nothing_is_counted():
    snapshot = snapshot_of(rows(250), total=None)
    assert snapshot.state.polls[VOICE].total is None
    assert not seen(snapshot, rows(249), NOW, total=None)[1].needs_full_scan


# When polls are full, and where they stop.


def test_the_first_poll_is_a_page_to_begin_from():
    listed = rows(250)
    snapshot, result = seen(IndexSnapshot(), listed, NOW - 100, size=50)
    assert set(snapshot.campaigns) == {each.id for each in listed[:50]}
    assert not result.needs_full_scan, "the list is not known to its end yet"
    assert snapshot.state.polls[VOICE] == Poll(NOW - 100, 30.0, listed[0].updated_at, 250, 0, 0.0)


def test_a_full_scan_lists_rows_as_it_meets_them_and_polls_validate_them():
    listed = rows(250)
    snapshot, _ = seen(IndexSnapshot(), listed, NOW - 100, size=50)
    scan, kept = begin(VOICE, NOW - 90, is_full=True), read(listed[120], NOW - 500)
    for page in range(1, 5):
        scan = step(scan, paged(listed, scan, 50), snapshot)
        result = learn(snapshot, VOICE, scan.rows.values(), NOW - 90 + page)
        snapshot = apply(snapshot, result.state, result.updates)
        snapshot, _ = seen(snapshot, listed, NOW - 80 + page, size=50)
        assert (by_list(kept, snapshot, "c120") == validated(NOW - 80 + page)) is (page >= 3), page


def test_a_poll_does_not_put_off_the_full_scan():
    snapshot = snapshot_of(rows(200), NOW - 100)
    snapshot, _ = seen(snapshot, rows(200), NOW)
    assert snapshot.state.polls[VOICE].full_scan_at == NOW - 100


def test_it_stops_where_a_page_ends_with_old_rows_that_have_not_changed():
    listed = rows(300)
    snapshot = snapshot_of(listed)
    odd = row("odd", revision="yesterday")
    assert polled(snapshot_of([odd, *listed]), [odd, *listed], NOW).pages == 1, "whatever row has no place in the order"
    assert polled(snapshot, listed, NOW).pages == 1
    moved = [row(f"c{number}", NOW - number / 1000) for number in range(60, 220)]
    others = [each for each in listed if each.id not in {one.id for one in moved}]
    scan = polled(snapshot, [*moved, *others], NOW)
    assert scan.pages == 3, "two, and the first once more"
    assert conclude(scan, snapshot, NOW).changed == {one.id for one in moved}


def test_it_goes_on_while_rows_are_young_enough_to_stand_above_one_that_the_list_shows_late():
    """The list lags: a change from before the last poll may come to light below changes that were seen at once."""
    before = [*(row(f"c{number}", NOW - 8 - number / 1000) for number in range(150)), row("late", NOW - 60)]
    snapshot = snapshot_of(before, NOW - 5, size=200)
    late = row("late", NOW - 9)
    now = [*before[:150], late]
    for lag, pages in ((0.0, 1), (10.0, 3)):
        snapshot = replace(snapshot, state=replace(snapshot.state, lag=lag))
        scan = polled(snapshot, now, NOW)
        assert scan.pages == pages
        assert conclude(scan, snapshot, NOW).changed == ({"late"} if pages > 1 else set())


@pytest.mark.parametrize(
    "above",
    [[], [row("odd", revision=None)], [row("odd", revision="yesterday")]],
    ids=["nothing", "no-revision", "no-instant"],
)
def test_equal_revisions_are_read_through(above: list[Row]):
    # contract-9: order among equal keys is unknown, so one that changed may stand below those that did not.
    before = [*rows(150, NOW - 10), row("deep", LONG_AGO)]
    same = [replace(each, revision=f"{stamp(NOW - 10)}||Ready", updated_at=stamp(NOW - 10)) for each in before[:150]]
    snapshot = snapshot_of([*above, *same, before[150]], NOW - 5, size=200)
    late = row("deep", NOW - 10)
    scan = polled(snapshot, [*above, *same, late], NOW)
    assert conclude(scan, snapshot, NOW).changed == {"deep"}


def test_after_a_poll_that_met_no_revision_the_list_is_read_to_its_end():
    same = [row(f"c{number}", NOW - 10) for number in range(150)]
    snapshot = snapshot_of([*same, row("deep")], NOW - 9, size=200)
    snapshot, _ = seen(snapshot, [], NOW - 5)
    scan = polled(snapshot, [*same, row("deep", NOW - 10)], NOW)
    assert conclude(scan, snapshot, NOW).changed == {"deep"}


def test_equal_revisions_are_read_through_after_a_full_poll_of_several_pages_too():
    # The newest revision is that of the first page's first row, however many pages came after it.
    same, others = [row(f"s{number}", NOW - 10) for number in range(110)], rows(140)
    snapshot = snapshot_of([*same, *others], NOW - 5)
    assert snapshot.state.polls[VOICE].top == stamp(NOW - 10)
    scan = polled(snapshot, [*same, row("c70", NOW - 10), *others[:70], *others[71:]], NOW)
    assert conclude(scan, snapshot, NOW).changed == {"c70"}


def test_a_page_of_revisions_that_came_up_during_the_last_poll_is_read_through():
    # Its later pages showed some of what had changed under way, and not all of it.
    listed = rows(250)
    late = [row(f"c{number}", NOW - 4) for number in range(100, 249)]
    rest = [each for each in listed if each.id not in {one.id for one in late}]
    scan = begin(VOICE, NOW - 5, is_full=True)
    scan = step(scan, paged(listed, scan), IndexSnapshot())
    scan = replace(scan, rows={**scan.rows, **{one.id: one for one in late}, "c249": listed[249]})
    result = conclude(scan, IndexSnapshot(), NOW - 3)
    snapshot = apply(IndexSnapshot(), result.state, result.updates)
    moved = polled(snapshot, [*late, row("c249", NOW - 4.5), *rest[:-1]], NOW)
    assert conclude(moved, snapshot, NOW + 1).changed == {"c249"}


@pytest.mark.parametrize("size", [1000, 200, 100, 50, 10, 4, 3, 2])
def test_whatever_page_size_is_granted_a_full_poll_sees_all(size: int):
    listed = rows(60)
    snapshot = snapshot_of(listed, NOW, size=size)
    assert sorted(snapshot.campaigns) == sorted(each.id for each in listed)


def test_without_a_total_the_platform_s_word_of_more_counts():
    assert len(snapshot_of(rows(250), NOW, total=None).campaigns) == 250


def test_an_empty_list_is_a_good_poll():
    snapshot, result = seen(IndexSnapshot(), [], NOW)
    assert (result.updates, result.needs_full_scan) == ({}, False)
    assert snapshot.state.polls[VOICE] == Poll(NOW, 30.0, None, 0, 0, NOW)


# Flaws.


def test_no_page_is_a_flaw():
    scan = step(begin(VOICE, NOW, is_full=True), None, IndexSnapshot())
    assert (scan.flaw, scan.has_ended) == (ListFlaw.NO_PAGE, True)


@pytest.mark.parametrize(
    ("listed", "flaw"),
    [
        pytest.param([row("a", NOW - 2), row("b", NOW - 1)], ListFlaw.UNSORTED, id="oldest-first"),
        pytest.param([row("a", NOW - 1), row("b", NOW - 1)], None, id="equal"),
        pytest.param([row("a", NOW - 1), row("b", revision=None), row("c", NOW - 2)], None, id="none-between"),
        pytest.param(
            [row("a", NOW - 2), row("b", revision=None), row("c", NOW - 1)], ListFlaw.UNSORTED, id="none-hides-nothing"
        ),
        pytest.param(
            [row("a", revision="2026-02-02T02:00:00+00:00"), row("b", revision="2026-02-02T02:30:00+01:00")],
            None,
            id="instants-not-text",
        ),
    ],
)
def test_the_order_is_judged(listed: list[Row], flaw: ListFlaw | None):
    scan = begin(VOICE, NOW, is_full=True)
    assert step(scan, ListPage(tuple(listed), len(listed), has_more=False), IndexSnapshot()).flaw is flaw


def test_an_empty_page_though_there_is_more_is_a_flaw():
    scan = begin(VOICE, NOW, is_full=True)
    assert step(scan, ListPage((), 5, has_more=True), IndexSnapshot()).flaw is ListFlaw.SHORT_PAGE
    scan = step(scan, ListPage(tuple(rows(2)), 5, has_more=True), IndexSnapshot())
    assert step(scan, ListPage((), 5, has_more=True), IndexSnapshot()).flaw is ListFlaw.SHORT_PAGE


def endless(scan: Scan, snapshot: IndexSnapshot, newest: float, size: int = 10) -> Scan:
    """The poll over a list of which each page is like the last one, but for its campaigns and their revisions."""
    asked = 0
    while not scan.has_ended:
        asked += 1
        assert asked <= MAX_PAGES
        listed = tuple(row(f"c{n}", newest - n / 1000) for n in range(scan.skip, scan.skip + size))
        scan = step(scan, ListPage(listed, None, has_more=True), snapshot)
    return scan


@pytest.mark.parametrize("is_full", [True, False])
def test_a_list_longer_than_a_poll_may_be_validates_nothing_and_declares_nothing_gone(is_full: bool):
    snapshot = IndexSnapshot(IndexState({VOICE: Poll(NOW - 10, top=stamp(NOW - 20), full_scan_at=NOW - 10)}))
    scan = endless(begin(VOICE, NOW, is_full=is_full), snapshot, LONG_AGO if is_full else NOW)
    assert scan.flaw is (ListFlaw.TOO_LONG if is_full else ListFlaw.SHIFTING)
    assert scan.pages == (MAX_PAGES if is_full else MAX_POLL_PAGES)


def test_a_list_that_ends_with_the_last_page_that_may_be_asked_for_is_good():
    size = 100
    listed = rows(size + (MAX_PAGES - 1) * (size - OVERLAP_ROWS))
    scan = begin(VOICE, NOW, is_full=True)
    while not scan.has_ended:
        scan = step(scan, paged(listed, scan, size), IndexSnapshot())
    assert (scan.flaw, scan.pages, listed[-1].id in scan.rows) == (None, MAX_PAGES, True)


def test_a_total_that_counts_more_than_is_shown_is_no_flaw():
    listed = rows(250)
    snapshot = snapshot_of(listed, NOW - 100, total=251)
    assert set(snapshot.campaigns) == {each.id for each in listed}
    assert not seen(snapshot, listed, NOW, total=251)[1].needs_full_scan
    assert seen(snapshot, listed, NOW, total=250)[1].needs_full_scan


# Rows that shift between two pages.


def shifted(
    before: Sequence[Row], after: Sequence[Row], snapshot: IndexSnapshot, *, is_full: bool = True
) -> tuple[Scan, set[str]]:
    """A scan whose first page comes from one list, and the others from another; and the ids that it met."""
    scan, met = begin(VOICE, NOW, is_full=is_full), set[str]()
    listed = before
    while not scan.has_ended:
        scan = step(scan, paged(listed, scan), snapshot)
        met |= scan.rows.keys()
        listed = after
    return scan, met


@pytest.mark.parametrize(
    ("moved_up", "new"),
    [
        pytest.param(1, [], id="one-up"),
        pytest.param(OVERLAP_ROWS - 1, [], id="up-within-the-overlap"),
        pytest.param(20, [], id="further-up"),
        pytest.param(0, [row("new", NOW)], id="down-seen-twice"),
    ],
)
def test_rows_that_move_meanwhile_are_met_once(moved_up: int, new: list[Row]):
    listed = rows(150)
    scan, met = shifted(listed, [*new, *listed[moved_up:]], IndexSnapshot())
    assert scan.flaw is None
    assert met == {each.id for each in listed}, "polls show what is new"


def test_what_moves_to_the_front_behind_a_poll_is_met_there():
    # It had changed before the poll began, and did so again before its page came.
    listed = rows(300)
    snapshot = snapshot_of(listed)
    busy, rest = [row(f"c{n}", NOW - 1 - n / 1000) for n in range(100, 200)], [*listed[:100], *listed[201:]]
    before = [*busy, row("c200", NOW - 2), *rest]
    scan, _ = shifted(before, [row("c200", NOW + 1), *busy, *rest], snapshot, is_full=False)
    assert scan.flaw is None
    assert "c200" in conclude(scan, snapshot, NOW + 3).changed


def test_the_front_is_read_down_to_what_was_met_before():
    # One that had changed goes to the front before its page comes, and more than a page of others before that is read.
    listed = rows(400)
    snapshot = snapshot_of(listed)
    busy, rest = [row(f"c{n}", NOW - 1 - n / 1000) for n in range(100, 200)], [*listed[:100], *listed[201:]]
    before = [*busy, row("c200", NOW - 2), *rest]
    between = [row("c200", NOW + 1), *busy, *rest]
    ahead = [row(f"c{number}", NOW + 2) for number in range(250, 390)]
    gone = {each.id for each in ahead}
    after = [*ahead, *(each for each in between if each.id not in gone)]
    scan = begin(VOICE, NOW)
    for shown in (before, between):
        scan = step(scan, paged(shown, scan), snapshot)
    assert "c200" not in scan.rows
    while not scan.has_ended:
        scan = step(scan, paged(after, scan), snapshot)
    assert scan.flaw is None
    assert "c200" in conclude(scan, snapshot, NOW + 3).changed


def test_a_row_that_moved_to_the_front_under_way_is_not_taken_for_gone():
    """Else each full scan of a busy list would find some gone, and the numbers of the next would ask for another."""
    listed = rows(150)
    snapshot = snapshot_of(listed, NOW - 700)
    after = [row("c120", NOW), *[each for each in listed if each.id != "c120"]]
    scan, met = shifted(listed, after, snapshot)
    assert scan.flaw is None
    assert "c120" not in met
    assert conclude_full(scan, met, snapshot, NOW + 1) is None, "not as many as there are"
    result = conclude_full(scan, met | {"c120"}, snapshot, NOW + 1)
    assert result is not None
    assert (result.changed, result.state.polls[VOICE].full_scan_at) == (frozenset(), NOW)


# Equal revisions.


class Shuffled:
    """A list in which rows with equal revisions come in another order with each question."""

    def __init__(self, seed: int, count: int = 500) -> None:
        self.random = Random(seed)
        self.bulk = [row(f"b{number}", NOW - 8) for number in range(count)]
        self.rest = rows(200)

    def page(self, scan: Scan, size: int) -> ListPage:
        self.random.shuffle(self.bulk)
        return paged([*self.bulk, *self.rest], scan, size)

    def poll(self, snapshot: IndexSnapshot, now: float, size: int, offset: float | None = None) -> Scan:
        scan = begin(VOICE, now, offset=offset)
        while not scan.has_ended:
            scan = step(scan, self.page(scan, size), snapshot)
        return scan


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [50, 100, 250])
def test_no_row_hides_among_equal_revisions(seed: int, size: int):
    """An edit of many at once: a poll validates nothing before it has met every one of them."""
    listed = Shuffled(seed)
    before = [*(row(each.id, LONG_AGO - 9000 - number) for number, each in enumerate(listed.bulk)), *listed.rest]
    before.sort(key=lambda each: str(each.updated_at), reverse=True)
    snapshot = snapshot_of(before, NOW - 20, size=size)
    scan = listed.poll(snapshot, NOW, size)
    if scan.flaw is None:
        assert conclude(scan, snapshot, NOW + 1).changed == {each.id for each in listed.bulk}
    else:
        assert scan.flaw is ListFlaw.SHIFTING
        assert scan.pages <= MAX_POLL_PAGES
        # What it has met is true all the same.
        assert len(learn(snapshot, VOICE, scan.rows.values(), NOW + 1).changed) > size


def test_a_poll_looks_again_until_it_has_met_all():
    # Eight rows with one revision, of which the first page shows six, and the second one any five.
    ahead = [row(f"a{number}", NOW - 1 - number / 1000) for number in range(94)]
    before = [*ahead, *(row(f"b{number}", LONG_AGO + 9 - number) for number in range(8)), *rows(200, LONG_AGO)]
    snapshot = snapshot_of(before, NOW - 20)
    ahead = [replace(each, revision=each.revision + "'", status="Active") for each in ahead]
    passes = set()
    for seed in range(12):
        listed = Shuffled(seed, count=8)
        scan = begin(VOICE, NOW)
        while not scan.has_ended:
            listed.random.shuffle(listed.bulk)
            scan = step(scan, paged([*ahead, *listed.bulk, *rows(200, LONG_AGO)], scan), snapshot)
        assert scan.flaw is None
        assert conclude(scan, snapshot, NOW + 1).changed >= {each.id for each in listed.bulk}
        passes.add((scan.pages + 2) // 3)
    assert min(passes) == 1
    assert max(passes) > 1


def test_equal_revisions_that_can_be_nobody_s_any_more_are_not_read_through():
    listed = Shuffled(1)
    snapshot = snapshot_of([*listed.bulk, *listed.rest], NOW - 6, size=1000)
    assert listed.poll(snapshot, NOW, 50).pages > 10, "nobody knows the platform's clock"
    assert listed.poll(snapshot, NOW, 50, offset=0.0).pages > 10, "a change just after the last poll may bear it"
    snapshot, _ = seen(snapshot, [*listed.bulk, *listed.rest], NOW + 60, size=1000)
    assert listed.poll(snapshot, NOW + 70, 50, offset=0.0).pages == 1
    assert listed.poll(snapshot, NOW + 70, 50, offset=-70.0).pages > 10, "a clock that is behind"


def test_a_list_that_is_another_one_at_each_question_is_given_up():
    scan = begin(VOICE, NOW, is_full=True)
    asked = 0
    while not scan.has_ended:
        asked += 1
        listed = tuple(row(f"{asked}-{n}", LONG_AGO - 100 * asked - n) for n in range(100))
        scan = step(scan, ListPage(listed, 10_000, has_more=True), IndexSnapshot())
    assert scan.flaw is ListFlaw.SHIFTING
    assert asked <= 2 + MAX_RETRIES


@pytest.mark.parametrize("size", [100, 10])
def test_a_platform_that_only_skips_whole_pages_is_given_up_soon(size: int):
    # A poll is paid from the budget: it may not go back and forth for hundreds of calls.
    listed = rows(1000)
    scan = begin(VOICE, NOW, is_full=True)
    asked = 0
    while not scan.has_ended:
        asked += 1
        start = scan.skip // size * size
        scan = step(scan, ListPage(tuple(listed[start : start + size]), 1000, has_more=True), IndexSnapshot())
    assert scan.flaw is ListFlaw.SHIFTING
    assert asked <= 3 * (MAX_RETRIES + 1)


def test_a_platform_that_grants_one_row_at_a_time_is_given_up_soon():
    listed = rows(5)
    scan = begin(VOICE, NOW, is_full=True)
    asked = 0
    while not scan.has_ended:
        asked += 1
        scan = step(scan, paged(listed, scan, 1), IndexSnapshot())
    assert scan.flaw is ListFlaw.SHIFTING
    assert asked <= 2 + 2 * MAX_RETRIES


# Lag.


@pytest.mark.parametrize(
    ("moved_at", "lag"),
    [
        pytest.param(NOW + 1, 0.0, id="after-the-last-poll"),
        pytest.param(NOW, 0.0, id="as-the-last-poll-began"),
        pytest.param(NOW - 5, 5.0, id="before-it"),
        pytest.param(NOW - LONGEST_LAG_SECONDS, LONGEST_LAG_SECONDS, id="at-most"),
        pytest.param(NOW - LONGEST_LAG_SECONDS - 1, None, id="stepped-back"),
    ],
)
def test_lag_that_a_late_row_shows(moved_at: float, lag: float | None):
    snapshot = snapshot_of([row("c0")], NOW)
    assert lag_shown(polled(snapshot, [row("c0", moved_at)], NOW + 10), snapshot) == pytest.approx(lag)


def test_the_longest_of_several_lags():
    snapshot = snapshot_of(rows(3), NOW)
    assert (
        lag_shown(polled(snapshot, [row("c1", NOW - 2), row("c0", NOW - 4), *rows(3)[2:]], NOW + 10), snapshot) == 4.0
    )


@pytest.mark.parametrize(
    "listed", [[row("c0")], [row("new", NOW - 5), row("c0")], [row("c0", revision="soon")], [row("c0", revision=None)]]
)
def test_what_shows_no_lag(listed: list[Row]):
    snapshot = snapshot_of([row("c0")], NOW)
    assert lag_shown(polled(snapshot, listed, NOW + 10), snapshot) is None


def test_the_first_poll_shows_no_lag():
    assert lag_shown(polled(IndexSnapshot(), [row("c0", NOW - 5)], NOW), IndexSnapshot()) is None


@pytest.mark.parametrize(("offset", "lag"), [(None, 5.0), (0.0, 5.0), (-5.0, 0.0), (30.0, 35.0)])
def test_a_clock_that_is_off_is_no_lag(offset: float | None, lag: float):
    snapshot = snapshot_of([row("c0")], NOW)
    poll = replace(polled(snapshot, [row("c0", NOW - 5)], NOW + 10), offset=offset)
    assert lag_shown(poll, snapshot) == lag


# Whatever happens.


class Campaign:
    """One campaign of the truth: when it was changed, and when it was there."""

    def __init__(self, id_: str, created: float, behind: int) -> None:
        self.id = id_
        self.behind = behind
        self.changes = [created]
        self.is_deleted = False

    def version(self, at: float) -> int:
        return max(0, bisect_right(self.changes, at) - 1)

    def row(self, at: float) -> Row:
        # Revisions are coarser than time, so that several campaigns carry the same one; and of another clock.
        return row(self.id, int(self.changes[self.version(at)]) - self.behind)

    def change(self, now: float) -> None:
        if not self.is_deleted and int(now) > int(self.changes[-1]):
            self.changes.append(now)


@dataclass
class Answer:
    """A read by id, and the version that it showed."""

    campaign: Campaign
    entry: Stored
    version: int


class Truth:
    """Campaigns that change at any moment, polls and full scans over them, and reads by id that may lag behind."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = NOW
        self.size = random.choice([4, 5, 8, 100])
        self.behind = random.choice([0, 0, 1, 60, -60])
        self.is_clock_known = random.random() < 0.5
        self.campaigns: list[Campaign] = []
        for _ in range(random.randrange(1, 30)):
            self.add(NOW - random.randrange(1, 30))
        self.answers: list[Answer] = []
        self.snapshot = IndexSnapshot()
        self.poll: Scan | None = None
        self.scan: Scan | None = None
        self.met: set[str] = set()
        self.needs_full_scan = True
        self.salt = 0.0
        self.validated = self.changed = 0

    def run(self, steps: int) -> None:
        acts = [self.change, self.create, self.delete, self.read, self.read]
        acts += [self.go_on_polling] * 3 + [self.go_on_scanning]
        for _ in range(steps):
            self.now += self.random.choice([0.25, 0.25, 0.5, 2.0, 10.0])
            self.random.choice(acts)()

    def change(self) -> None:
        for campaign in self.random.sample(self.campaigns, min(len(self.campaigns), self.random.choice([1, 1, 2, 12]))):
            campaign.change(self.now)

    def create(self) -> None:
        self.add(self.now)

    def add(self, created: float) -> None:
        self.campaigns.append(Campaign(f"c{len(self.campaigns)}", created, self.behind))

    def delete(self) -> None:
        if self.random.random() < 0.3:
            self.random.choice(self.campaigns).is_deleted = True

    def read(self) -> None:
        campaign = self.random.choice(self.campaigns)
        began = self.now
        self.now += self.random.choice([0.0, 0.25, 3.0])
        seen_at = self.now - self.random.choice([0.0, 0.0, 1.0, SETTLE_SECONDS - 0.25])
        self.answers.append(Answer(campaign, read(campaign.row(seen_at), began), campaign.version(seen_at)))

    def page(self, scan: Scan) -> ListPage:
        there = [campaign.row(self.now) for campaign in self.campaigns if not campaign.is_deleted]
        # Among equal revisions any order, and another one with each question.
        self.salt = self.random.random()
        there.sort(key=lambda each: (each.updated_at, crc32(f"{self.salt}{each.id}".encode())), reverse=True)
        return paged(there, scan, self.size)

    def go_on_polling(self) -> None:
        if self.poll is None:
            self.poll = begin(VOICE, self.now, offset=-float(self.behind) if self.is_clock_known else None)
        self.poll = step(self.poll, self.page(self.poll), self.snapshot)
        assert self.poll.pages <= MAX_POLL_PAGES
        if not self.poll.has_ended:
            return
        poll, self.poll = self.poll, None
        self.met |= poll.rows.keys()
        if poll.flaw is not None:
            assert poll.flaw is ListFlaw.SHIFTING
            result = learn(self.snapshot, VOICE, poll.rows.values(), self.now)
            self.snapshot = apply(self.snapshot, result.state, result.updates)
            if poll.pages >= MAX_POLL_PAGES:
                result = forget(self.snapshot, VOICE)
                self.snapshot = apply(self.snapshot, result.state, result.updates)
            return
        self.now += self.random.choice([0.0, 0.25])
        result = conclude(poll, self.snapshot, self.now, LASTS)
        self.snapshot, self.needs_full_scan = apply(self.snapshot, result.state, result.updates), result.needs_full_scan
        self.check()

    def go_on_scanning(self) -> None:
        if self.poll is not None or VOICE not in self.snapshot.state.polls:
            return
        if self.scan is None:
            self.scan, self.met = begin(VOICE, self.now, is_full=True), set()
        self.scan = step(self.scan, self.page(self.scan), self.snapshot)
        rows = self.scan.rows.values() if self.scan.flaw is None else ()
        self.met |= self.scan.rows.keys()
        result = learn(self.snapshot, VOICE, rows, self.now)
        self.snapshot = apply(self.snapshot, result.state, result.updates)
        if not self.scan.has_ended:
            return
        ended = conclude_full(self.scan, self.met, self.snapshot, self.now) if self.scan.flaw is None else None
        self.scan = None
        if ended is not None:
            self.snapshot = apply(self.snapshot, ended.state, ended.updates)

    def check(self) -> None:
        for answer in self.answers:
            evidence = by_list(answer.entry, self.snapshot, answer.campaign.id)
            if answer.campaign.is_deleted:
                continue
            if evidence.superseded_since is not None:
                self.changed += 1
                continue
            word = evidence.validation
            if word is None or word.at == answer.entry.validated_at:
                # That a campaign is gone, a full scan sees, and the total before it. What a read by id is good for is
                # seen by the polls after it.
                continue
            self.validated += 1
            changed = [at for at in answer.campaign.changes[answer.version + 1 :] if at <= word.at]
            assert not changed, (
                f"{answer.campaign.id} is called validated at {word.at - NOW}, changed at {changed[0] - NOW}"
            )


@given(st.randoms(use_true_random=False))
def test_nothing_is_validated_that_had_changed_when_the_poll_began(random: Random):
    Truth(random).run(120)


def test_the_simulated_polls_do_validate_and_do_see_moves():
    truths = [Truth(Random(seed)) for seed in range(20)]
    for truth in truths:
        truth.run(300)
    assert sum(truth.validated for truth in truths) > 1000
    assert sum(truth.changed for truth in truths) > 1000


ROWS = st.builds(row, st.sampled_from([f"c{n}" for n in range(8)]), st.sampled_from([LONG_AGO, NOW]))
PAGES = st.none() | st.builds(
    ListPage, st.lists(ROWS, max_size=5).map(tuple), st.none() | st.integers(0, 500), has_more=st.booleans()
)


@given(st.lists(PAGES, min_size=1, max_size=5), st.booleans())
@settings(max_examples=scaled(200))
def test_no_poll_goes_on_for_ever(pages: list[ListPage | None], is_full: bool):
    snapshot = snapshot_of([row("c0")], NOW - 100)
    scan = begin(VOICE, NOW, is_full=is_full)
    asked = 0
    while not scan.has_ended:
        scan = step(scan, pages[asked % len(pages)], snapshot)
        asked += 1
        assert asked <= (MAX_PAGES if is_full else MAX_POLL_PAGES)
    if scan.flaw is None:
        conclude(scan, snapshot, NOW + 1)
