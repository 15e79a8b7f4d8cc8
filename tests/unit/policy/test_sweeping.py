import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.contract.listing import Channel, Page, Row
from service.policy.entry import Cause, Entry, Swept
from service.policy.sweeping import (
    LONGEST_LAG_SECONDS,
    MAX_PAGES,
    MAX_RETRIES,
    OVERLAP_ROWS,
    SETTLE_SECONDS,
    Flaw,
    Head,
    Known,
    Result,
    Round,
    View,
    Walk,
    apply,
    attest,
    begin,
    conclude,
    is_covered,
    lag_shown,
    step,
)
from tests.support.builders import NOW, absence, entry, invalid, stamp

VOICE, SMS = Channel
WALK_AFTER = 600.0
LONG_AGO = NOW - 5000


def row(id_: str, changed: float = LONG_AGO, *, status: str = "Ready", mark: str | None = "by-time") -> Row:
    updated_at = stamp(changed) if mark == "by-time" else mark
    return Row(id_, f"{updated_at}||{status}", updated_at, status, {"status": status})


def rows(count: int, newest: float = LONG_AGO) -> list[Row]:
    """So many campaigns, changed one second after the other."""
    return [row(f"c{number}", newest - number) for number in range(count)]


def paged(listed: Sequence[Row], walk: Walk, size: int = 100, **fields: Any) -> Page:
    """What the platform answers to the walk's next question."""
    assert walk.skip is not None
    shown = tuple(listed[walk.skip : walk.skip + size])
    page = Page(shown, len(listed), has_more=walk.skip + len(shown) < len(listed))
    return replace(page, **fields)


def walked(
    view: View, listed: Sequence[Row], now: float, channel: Channel = VOICE, size: int = 100, **fields: Any
) -> Walk:
    """A whole round over a list that stands still."""
    walk = begin(view, channel, now, walk_after=WALK_AFTER)
    while walk.skip is not None:
        walk = step(walk, paged(listed, walk, size, **fields), view)
    return walk


def seen(view: View, listed: Sequence[Row], now: float, **options: Any) -> tuple[View, Result]:
    """The view after such a round, which took a second."""
    walk = walked(view, listed, now, **options)
    assert walk.flaw is None
    result = conclude(walk, view, now + 1)
    head = replace(result.head, lasts=30.0, blind=300.0)
    return apply(view, head, result.changed), result


def view_of(listed: Sequence[Row], now: float = NOW - 100, **options: Any) -> View:
    return seen(View(), listed, now, **options)[0]


def read(id_row: Row, at: float) -> Entry:
    """What a read by id brought, begun then."""
    return entry(NOW - at, mark=id_row.updated_at)


# What a round proves.


def test_a_round_proves_what_was_read_after_its_row_was_first_seen():
    listed = rows(3)
    view = view_of(listed, NOW - 100)
    kept = read(listed[1], NOW - 90)
    assert attest(kept, view.known["c1"], view.head) == kept, "no round since"
    view, _ = seen(view, listed, NOW)
    proven = attest(kept, view.known["c1"], view.head)
    assert proven == replace(kept, swept=Swept(NOW, lasts=30.0, blind=300.0))
    assert proven.attested_at == NOW, "its age counts from where the round began, not from where it ended"


def test_a_read_that_began_before_the_round_s_end_is_not_covered():
    # The row was read somewhere between the round's begin and its end: before or after the answer, nobody knows.
    before, after = row("c0"), row("c0", NOW - 101)
    view, _ = seen(view_of([before], NOW - 200), [after], NOW - 100)
    since = view.known["c0"].since
    assert since == NOW - 99
    view, _ = seen(view, [after], NOW)
    assert attest(read(after, since - 0.001), view.known["c0"], view.head).attested_at == since - 0.001
    assert attest(read(after, since), view.known["c0"], view.head).attested_at == NOW


@pytest.mark.parametrize(
    ("status", "mark", "is_proven"),
    [("Ready", "by-time", True), ("Active", "by-time", False), ("Ready", "another", False)],
)
def test_an_answer_from_before_a_row_was_first_seen_is_proven_if_nothing_tells_them_apart(
    status: str, mark: str, is_proven: bool
):
    shown = row("c0")
    view, _ = seen(view_of([shown]), [shown], NOW)
    kept = replace(read(shown, NOW - 500), campaign_status=status)
    kept = kept if mark == "by-time" else replace(kept, mark=stamp(LONG_AGO + 1))
    assert (attest(kept, view.known["c0"], view.head).attested_at == NOW) is is_proven


@pytest.mark.parametrize("by", list(Cause))
@pytest.mark.parametrize("was_moved", [True, False])
def test_no_round_says_anything_of_an_invalidated_entry(by: Cause, was_moved: bool):
    shown = row("c0")
    view = view_of([shown], NOW - 100)
    kept = read(shown, NOW - 50)
    listed = [row("c0", NOW - 20)] if was_moved else [shown]
    view, _ = seen(view, listed, NOW - 10)
    marked = invalid(kept, by, ago=30)
    assert attest(kept, view.known["c0"], view.head) != kept
    assert attest(marked, view.known["c0"], view.head) is marked


def test_a_round_proves_what_was_read_soon_after_a_write_like_anything_else():
    shown = row("c0")
    view, _ = seen(view_of([shown], NOW - 100), [shown], NOW)
    settling = invalid(read(shown, NOW - 50), Cause.WRITE, ago=51, is_open=False)
    assert attest(settling, view.known["c0"], view.head).attested_at == NOW


@pytest.mark.parametrize(
    ("since", "is_proven"),
    [
        pytest.param(NOW - SETTLE_SECONDS - 1, True, id="a-round-well-after"),
        pytest.param(NOW - SETTLE_SECONDS + 1, False, id="a-round-that-may-lag"),
        pytest.param(NOW + 20, False, id="no-round-since"),
    ],
)
def test_a_copy_in_doubt_stays_in_doubt_until_a_round_well_after(since: float, is_proven: bool):
    # What may have been missed is a write that invalidated it: a round that may lag behind cannot make up for that.
    listed = rows(1)
    view, _ = seen(view_of(listed), listed, NOW)
    kept = replace(read(listed[0], NOW - 50), swept=Swept(since, is_moved=True))
    attested = attest(kept, view.known["c0"], view.head)
    assert attested.attested_at == (NOW if is_proven else kept.proven_at)
    assert (attested == kept) is not is_proven


@pytest.mark.parametrize(
    ("after", "mark_agrees", "covered"),
    [
        pytest.param(0.0, True, True, id="the-row-s-mark"),
        pytest.param(-0.001, True, True, id="the-row-s-mark-read-before-it-was-first-seen"),
        pytest.param(0.0, False, False, id="another-mark"),
        pytest.param(SETTLE_SECONDS - 0.001, False, False, id="another-mark-not-settled"),
        pytest.param(SETTLE_SECONDS, False, True, id="another-mark-settled"),
    ],
)
def test_which_reads_are_covered(after: float, mark_agrees: bool, covered: bool):
    listed = row("c0")
    known = view_of([listed]).known["c0"]
    kept = read(listed if mark_agrees else row("c0", LONG_AGO - 1), known.since + after)
    assert is_covered(kept, known) is covered


def test_an_answer_without_a_mark_is_covered_once_it_has_settled():
    known = view_of([row("c0")]).known["c0"]
    assert not is_covered(entry(NOW - known.since, mark=None), known)
    assert is_covered(entry(NOW - known.since - SETTLE_SECONDS, mark=None), known)


def test_a_missing_campaign_is_never_covered():
    known = view_of([row("c0")]).known["c0"]
    assert not is_covered(absence(NOW - known.since - SETTLE_SECONDS), known)


def test_what_no_list_shows_lives_by_its_own_lifetime():
    listed = rows(2)
    view, _ = seen(view_of(listed), listed, NOW)
    kept = entry(50)
    assert attest(kept, view.known.get("unlisted"), view.head) == kept


def test_a_move_makes_what_was_read_before_out_of_date_and_proves_the_rest():
    before = rows(3)
    view = view_of(before)
    moved = row("c2", NOW - 1)
    view, result = seen(view, [moved, *before[:2]], NOW)
    assert result.moved == {"c2"}
    assert set(result.changed) == {"c2"}
    assert attest(read(before[2], NOW - 50), view.known["c2"], view.head).swept == Swept(NOW + 1, is_moved=True)
    assert attest(read(before[1], NOW - 50), view.known["c1"], view.head).attested_at == NOW
    # Read again after the round, and proven by the next one.
    again = read(moved, NOW + 1)
    assert attest(again, view.known["c2"], view.head).swept is None
    view, _ = seen(view, [moved, *before[:2]], NOW + 10)
    assert attest(again, view.known["c2"], view.head).attested_at == NOW + 10


def test_a_read_right_after_a_change_that_still_shows_the_old_state_is_not_proven():
    before = row("c0")
    view = view_of([before])
    view, _ = seen(view, [row("c0", NOW - 1)], NOW)
    late = read(before, NOW + 2)
    for later in (10, 100, 1000):
        view, _ = seen(view, [row("c0", NOW - 1)], NOW + later)
        doubtful = attest(late, view.known["c0"], view.head)
        assert doubtful.attested_at == late.proven_at
        assert doubtful.swept == Swept(view.known["c0"].since + SETTLE_SECONDS, is_moved=True), "and not good for long"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"changed": NOW - 1}, id="forward"),
        pytest.param({"changed": LONG_AGO - 7}, id="contract-10-back"),
        pytest.param({"status": "Active"}, id="status-alone"),
    ],
)
def test_a_mark_that_differs_in_any_way_has_moved(changes: dict[str, Any]):
    view = view_of([row("c0")])
    view, result = seen(view, [row("c0", **changes)], NOW)
    assert result.moved == {"c0"}
    assert view.known["c0"].has_moved


def test_a_new_row_is_known_from_then_on_and_nothing_is_out_of_date():
    before = rows(2)
    view, result = seen(view_of(before), [row("new", NOW - 1), *before], NOW)
    assert (set(result.changed), result.moved) == ({"new"}, frozenset())
    early = read(row("new", NOW - 2), NOW - 0.5)
    assert attest(early, view.known["new"], view.head) == early, "another mark: nobody knows"


def test_a_flaw_proves_nothing_but_what_has_moved_stays_out_of_date():
    before = rows(2)
    view, _ = seen(view_of(before), [row("c1", NOW - 1), before[0]], NOW)
    flawed = replace(view.head, flaws={VOICE: Flaw.DISAGREES})
    kept = read(before[0], NOW - 50)
    assert attest(kept, view.known["c0"], view.head).swept is not None
    assert attest(kept, view.known["c0"], flawed) == kept
    moved = attest(read(before[1], NOW - 50), view.known["c1"], flawed).swept
    assert moved is not None
    assert moved.is_moved


def test_a_good_round_ends_a_flaw():
    view = view_of(rows(1))
    flawed = View(replace(view.head, flaws={VOICE: Flaw.UNSORTED, SMS: Flaw.NO_PAGE}), view.known)
    ended = conclude(walked(flawed, rows(1), NOW), flawed, NOW).head.flaws
    assert ended == {SMS: Flaw.NO_PAGE}, "the other list is another matter"


def test_each_channel_s_rounds_prove_its_own_campaigns():
    voice, sms = row("v"), row("s")
    view, _ = seen(view_of([voice]), [sms], NOW - 90, channel=SMS)
    view, result = seen(view, [voice], NOW)
    assert result.moved == frozenset(), "the other list's campaigns are not gone"
    assert attest(read(voice, NOW - 50), view.known["v"], view.head).attested_at == NOW
    assert attest(read(sms, NOW - 50), view.known["s"], view.head).swept is None
    assert attest(read(sms, NOW - 50), view.known["s"], replace(view.head, rounds={VOICE: Round(NOW)})).swept is None


def test_the_number_rises_with_each_round():
    view = view_of(rows(1))
    assert view.head.number == 1
    assert seen(view, rows(1), NOW)[0].head.number == 2


def test_what_a_row_says_is_kept():
    edged = replace(row("c0", status="Active"), edges=(NOW + 5,))
    known = view_of([edged], NOW - 100).known["c0"]
    assert known == Known(
        VOICE,
        edged.mark,
        edged.updated_at,
        NOW - 99,
        False,
        status="Active",
        fields={"status": "Active"},
        edges=(NOW + 5,),
    )


# Rows without a mark, and rows that go.


@pytest.mark.parametrize("mark", [None, "1770127608902", "yesterday"], ids=["none", "number", "text"])
def test_a_row_without_a_mark_or_without_a_place_in_the_order_is_not_covered(mark: str | None):
    listed = [row("c0", mark=mark), row("c1")]
    view, result = seen(view_of(listed), listed, NOW)
    assert "c0" not in view.known
    assert not result.wants_full, "it is counted as one that is there"


def test_a_row_that_loses_its_mark_is_not_covered_any_more():
    listed = rows(2)
    view = view_of(listed)
    kept = read(listed[1], NOW - 50)
    view, _ = seen(view, [listed[0], row("c1", mark=None)], NOW)
    assert attest(kept, view.known["c1"], view.head).swept is None
    view, _ = seen(view, [listed[0], row("c1", mark=None)], NOW + 10)
    assert attest(kept, view.known["c1"], view.head).swept is None


def test_a_mark_that_was_gone_for_a_while_takes_nothing_back():
    before, after = row("c0"), row("c0", NOW - 11)
    kept = read(before, NOW - 50)
    view = view_of([before])
    for now, listed in ((NOW - 10, after), (NOW, row("c0", mark=None)), (NOW + 10, after)):
        view, _ = seen(view, [listed], now)
        moved = attest(kept, view.known["c0"], view.head).swept
        assert moved == Swept(NOW - 9, is_moved=True)
    assert view.known["c0"].is_listed
    assert not seen(view, [after], NOW + 20)[1].wants_full


def test_a_full_round_sees_what_is_gone():
    listed = rows(3)
    view = view_of(listed, NOW - 2 * WALK_AFTER)
    kept = read(listed[1], NOW - WALK_AFTER)
    view, result = seen(view, [listed[0], listed[2]], NOW)
    assert result.moved == {"c1"}
    assert attest(kept, view.known["c1"], view.head).swept == Swept(NOW + 1, is_moved=True)
    later = read(listed[1], NOW + 5)
    view, result = seen(view, [listed[0], listed[2]], NOW + 2 * WALK_AFTER)
    assert result.moved == frozenset(), "once"
    assert attest(later, view.known["c1"], view.head).swept is None


def test_what_was_gone_and_is_back_has_moved():
    listed = rows(2)
    view = view_of(listed, NOW - 2 * WALK_AFTER)
    view, _ = seen(view, listed[:1], NOW)
    view, result = seen(view, listed, NOW + 2 * WALK_AFTER)
    assert result.moved == {"c1"}
    assert view.known["c1"].is_listed


def test_a_partial_round_declares_nothing_gone():
    listed = rows(300)
    view = view_of(listed)
    _, result = seen(view, listed, NOW)
    assert (result.changed, result.moved) == ({}, frozenset())


@pytest.mark.parametrize(
    ("listed", "wants_full"),
    [
        pytest.param(rows(250), False, id="as-before"),
        pytest.param(rows(249), True, id="one-went"),
        pytest.param([*rows(250), row("far-below", LONG_AGO - 9000)], True, id="one-came-far-below"),
        pytest.param([row("new", NOW - 1), *rows(250)], False, id="one-came-and-was-seen"),
        pytest.param([row("new", NOW - 1), *rows(249)], True, id="one-came-and-one-went"),
    ],
)
def test_a_total_that_disagrees_wants_a_full_round(listed: list[Row], wants_full: bool):
    view = view_of(rows(250), NOW - 100)
    view, result = seen(view, listed, NOW)
    assert result.wants_full is wants_full
    # The full round finds out, and is content.
    walk = begin(view, VOICE, NOW + 10, walk_after=0.0)
    while walk.skip is not None:
        walk = step(walk, paged(listed, walk), view)
    assert not conclude(walk, view, NOW + 11).wants_full


def test_without_a_total_nothing_is_counted():
    view = view_of(rows(250), total=None)
    assert view.head.rounds[VOICE].total is None
    assert not seen(view, rows(249), NOW, total=None)[1].wants_full


# When rounds are full, and where they stop.


@pytest.mark.parametrize(
    ("rounds", "is_full"),
    [
        pytest.param({}, True, id="the-first"),
        pytest.param({SMS: Round(NOW - 10, walked=NOW - 10)}, True, id="the-first-of-its-channel"),
        pytest.param({VOICE: Round(NOW - 10, walked=NOW - WALK_AFTER + 1)}, False, id="soon-after"),
        pytest.param({VOICE: Round(NOW - 10, walked=NOW - WALK_AFTER)}, True, id="when-it-is-time"),
        pytest.param({VOICE: Round(NOW - 10)}, True, id="never-yet"),
    ],
)
def test_which_rounds_are_full(rounds: Mapping[Channel, Round], is_full: bool):
    walk = begin(View(Head(rounds)), VOICE, NOW, walk_after=WALK_AFTER)
    assert (walk.is_full, walk.began, walk.skip) == (is_full, NOW, 0)


def test_a_partial_round_does_not_put_off_the_full_one():
    view = view_of(rows(2), NOW - 100)
    view, _ = seen(view, rows(2), NOW)
    assert view.head.rounds[VOICE].walked == NOW - 100


def test_it_stops_where_a_page_ends_with_old_rows_that_have_not_changed():
    listed = rows(300)
    view = view_of(listed)
    odd = row("odd", mark="yesterday")
    assert walked(view_of([odd, *listed]), [odd, *listed], NOW).pages == 1, "whatever row has no place in the order"
    assert walked(View(), listed, NOW).pages == 5, "a full one goes to the end, and sees the first page again"
    assert walked(view, listed, NOW).pages == 1
    moved = [row(f"c{number}", NOW - number / 1000) for number in range(60, 220)]
    others = [each for each in listed if each.id not in {one.id for one in moved}]
    walk = walked(view, [*moved, *others], NOW)
    assert walk.pages == 3, "two, and the first once more"
    assert conclude(walk, view, NOW).moved == {one.id for one in moved}


def test_it_goes_on_while_rows_are_young_enough_to_stand_above_one_that_the_list_shows_late():
    """The list lags: a change from before the last round may come to light below changes that were seen at once."""
    before = [*(row(f"c{number}", NOW - 8 - number / 1000) for number in range(150)), row("late", NOW - 60)]
    view = view_of(before, NOW - 5, size=200)
    late = row("late", NOW - 9)
    now = [*before[:150], late]
    for lag, pages in ((0.0, 1), (10.0, 3)):
        walk = begin(view, VOICE, NOW, walk_after=WALK_AFTER, lag=lag)
        while walk.skip is not None:
            walk = step(walk, paged(now, walk), view)
        assert walk.pages == pages
        assert conclude(walk, view, NOW).moved == ({"late"} if pages > 1 else set())


@pytest.mark.parametrize(
    "above", [[], [row("odd", mark=None)], [row("odd", mark="yesterday")]], ids=["nothing", "no-mark", "no-instant"]
)
def test_equal_marks_are_walked_through(above: list[Row]):
    # contract-9: order among equal keys is unknown, so one that changed may stand below those that did not.
    before = [*rows(150, NOW - 10), row("deep", LONG_AGO)]
    same = [replace(each, mark=f"{stamp(NOW - 10)}||Ready", updated_at=stamp(NOW - 10)) for each in before[:150]]
    view = view_of([*above, *same, before[150]], NOW - 5, size=200)
    late = row("deep", NOW - 10)
    walk = walked(view, [*above, *same, late], NOW)
    assert conclude(walk, view, NOW).moved == {"deep"}


def test_after_a_round_that_met_no_mark_the_list_is_walked_to_its_end():
    same = [row(f"c{number}", NOW - 10) for number in range(150)]
    view = view_of([*same, row("deep")], NOW - 9, size=200)
    view, _ = seen(view, [], NOW - 5)
    walk = walked(view, [*same, row("deep", NOW - 10)], NOW)
    assert conclude(walk, view, NOW).moved == {"deep"}


def test_equal_marks_are_walked_through_after_a_full_round_of_several_pages_too():
    # The newest mark is that of the first page's first row, however many pages came after it.
    same, others = [row(f"s{number}", NOW - 10) for number in range(110)], rows(140)
    view = view_of([*same, *others], NOW - 5)
    assert view.head.rounds[VOICE].top == stamp(NOW - 10)
    walk = walked(view, [*same, row("c70", NOW - 10), *others[:70], *others[71:]], NOW)
    assert conclude(walk, view, NOW).moved == {"c70"}


def test_a_page_of_marks_that_came_up_during_the_last_round_is_walked_through():
    # Its later pages showed some of what had changed under way, and not all of it.
    listed = rows(250)
    late = [row(f"c{number}", NOW - 4) for number in range(100, 249)]
    rest = [each for each in listed if each.id not in {one.id for one in late}]
    walk = begin(View(), VOICE, NOW - 5, walk_after=WALK_AFTER)
    walk = step(walk, paged(listed, walk), View())
    walk = replace(walk, rows={**walk.rows, **{one.id: one for one in late}, "c249": listed[249]}, skip=None)
    result = conclude(walk, View(), NOW - 3)
    view = apply(View(), result.head, result.changed)
    moved = walked(view, [*late, row("c249", NOW - 4.5), *rest[:-1]], NOW)
    assert conclude(moved, view, NOW + 1).moved == {"c249"}


@pytest.mark.parametrize("size", [1000, 200, 100, 50, 10, 4, 3, 2])
def test_whatever_page_size_is_granted_a_full_round_sees_all(size: int):
    listed = rows(60)
    walk = walked(View(), listed, NOW, size=size)
    assert walk.flaw is None
    assert sorted(walk.rows) == sorted(each.id for each in listed)


def test_without_a_total_the_platform_s_word_of_more_counts():
    assert len(walked(View(), rows(250), NOW, total=None).rows) == 250


def test_an_empty_list_is_a_good_round():
    view, result = seen(View(), [], NOW)
    assert (result.changed, result.wants_full) == ({}, False)
    assert view.head.rounds[VOICE] == Round(NOW, None, 0, 0, NOW)


# Flaws.


def test_no_page_is_a_flaw():
    walk = step(begin(View(), VOICE, NOW, walk_after=WALK_AFTER), None, View())
    assert (walk.flaw, walk.skip) == (Flaw.NO_PAGE, None)


@pytest.mark.parametrize(
    ("listed", "flaw"),
    [
        pytest.param([row("a", NOW - 2), row("b", NOW - 1)], Flaw.UNSORTED, id="oldest-first"),
        pytest.param([row("a", NOW - 1), row("b", NOW - 1)], None, id="equal"),
        pytest.param([row("a", NOW - 1), row("b", mark=None), row("c", NOW - 2)], None, id="none-between"),
        pytest.param(
            [row("a", NOW - 2), row("b", mark=None), row("c", NOW - 1)], Flaw.UNSORTED, id="none-hides-nothing"
        ),
        pytest.param(
            [row("a", mark="2026-02-02T02:00:00+00:00"), row("b", mark="2026-02-02T02:30:00+01:00")],
            None,
            id="instants-not-text",
        ),
    ],
)
def test_the_order_is_judged(listed: list[Row], flaw: Flaw | None):
    walk = begin(View(), VOICE, NOW, walk_after=WALK_AFTER)
    assert step(walk, Page(tuple(listed), len(listed), has_more=False), View()).flaw is flaw


def test_an_empty_page_though_there_is_more_is_a_flaw():
    walk = begin(View(), VOICE, NOW, walk_after=WALK_AFTER)
    assert step(walk, Page((), 5, has_more=True), View()).flaw is Flaw.SHORT_PAGE
    walk = step(walk, Page(tuple(rows(2)), 5, has_more=True), View())
    assert step(walk, Page((), 5, has_more=True), View()).flaw is Flaw.SHORT_PAGE


def endless(walk: Walk, view: View, size: int = 10) -> Walk:
    """The round over a list of which each page is like the last one, but for its campaigns and their marks."""
    asked = 0
    while walk.skip is not None:
        asked += 1
        assert asked <= MAX_PAGES
        listed = tuple(row(f"c{n}", LONG_AGO - n) for n in range(walk.skip, walk.skip + size))
        walk = step(walk, Page(listed, None, has_more=True), view)
    return walk


@pytest.mark.parametrize("is_full", [True, False])
def test_a_list_longer_than_a_round_may_be_proves_nothing_and_declares_nothing_gone(is_full: bool):
    view = View(Head({VOICE: Round(NOW - 10, top=stamp(NOW - 20), walked=NOW - 10)}))
    walk = begin(view, VOICE, NOW, walk_after=0.0 if is_full else WALK_AFTER)
    assert endless(walk, view).flaw is Flaw.TOO_LONG


def test_a_list_that_ends_with_the_last_page_that_may_be_asked_for_is_good():
    size = 100
    listed = rows(size + (MAX_PAGES - 1) * (size - OVERLAP_ROWS))
    walk = walked(View(), listed, NOW, size=size)
    assert (walk.flaw, walk.pages, len(walk.rows)) == (None, MAX_PAGES + 1, len(listed))


def test_a_total_that_counts_more_than_is_shown_is_no_flaw():
    listed = rows(250)
    view, result = seen(View(), listed, NOW - 100, total=251)
    assert set(view.known) == {each.id for each in listed}
    assert not result.wants_full
    assert not seen(view, listed, NOW, total=251)[1].wants_full
    assert seen(view, listed, NOW, total=250)[1].wants_full


# Rows that shift between two pages.


def shifted(before: Sequence[Row], after: Sequence[Row], view: View) -> Walk:
    """A round whose first page comes from one list, and the others from another."""
    walk = begin(view, VOICE, NOW, walk_after=0.0)
    walk = step(walk, paged(before, walk), view)
    while walk.skip is not None:
        walk = step(walk, paged(after, walk), view)
    return walk


@pytest.mark.parametrize("gone", [1, OVERLAP_ROWS - 1])
def test_rows_that_move_up_within_the_overlap_are_not_missed(gone: int):
    listed = rows(150)
    walk = shifted(listed, listed[gone:], View())
    assert walk.flaw is None
    assert set(walk.rows) == {each.id for each in listed}


def test_rows_that_move_up_by_more_are_looked_for_further_up():
    listed = rows(150)
    walk = shifted(listed, listed[20:], View())
    assert walk.flaw is None
    assert set(walk.rows) == {each.id for each in listed}


def test_rows_that_move_down_are_seen_twice_and_count_once():
    listed = rows(150)
    walk = shifted(listed, [row("new", NOW), *listed], View())
    assert walk.flaw is None
    assert set(walk.rows) == {"new", *(each.id for each in listed)}


def test_what_changed_under_way_is_found_by_the_next_round_though_its_mark_is_older_than_this_one():
    # Marks may be coarser than time, or the platform's clock behind: all these changed after the round had begun.
    listed = rows(300)
    view = view_of(listed)
    changed = [row(f"c{number}", NOW - 1) for number in [*range(100, 250), 0]]
    after = [row("new", NOW + 1), *changed, *listed[1:100], *listed[250:]]
    walk = shifted(listed, after, view)
    result = conclude(walk, view, NOW + 2)
    assert result.moved == {each.id for each in changed} - {"c0"}, "which was read before it changed"
    view = apply(view, result.head, result.changed)
    assert conclude(walked(view, after, NOW + 10), view, NOW + 11).moved == {"c0"}


def test_what_passes_a_round_unseen_is_found_by_the_next_one():
    listed = rows(300)
    view = view_of(listed)
    busy, rest = [row(f"c{number}", NOW - 1) for number in range(100, 200)], [*listed[:100], *listed[201:]]
    before = [*busy, row("c200", NOW - 2), *rest]
    between = [row("c200", NOW + 1), *busy, *rest]
    after = [*(row(f"c{number}", NOW + 2) for number in range(100)), *between[:101], *rest[100:]]
    walk = begin(view, VOICE, NOW, walk_after=WALK_AFTER)
    for shown in (before, between, after):
        walk = step(walk, paged(shown, walk), view)
    assert walk.skip is None
    result = conclude(walk, view, NOW + 3)
    assert "c200" not in result.moved, "it went to the front before its page came, and from the front before that came"
    view = apply(view, result.head, result.changed)
    assert conclude(walked(view, after, NOW + 10), view, NOW + 11).moved == {"c200"}


def test_a_row_that_moved_to_the_front_under_way_is_not_taken_for_gone():
    """Else each full round of a busy list would find some gone, and the numbers of the next would ask for another."""
    listed = rows(150)
    walk = shifted(listed, [row("c120", NOW), *[each for each in listed if each.id != "c120"]], View())
    assert walk.flaw is None
    assert walk.rows["c120"].updated_at == stamp(NOW)
    assert conclude(walk, View(), NOW).head.rounds[VOICE].top == listed[0].updated_at, "the newest as it began"


def test_a_list_that_is_another_one_at_each_question_is_given_up():
    walk = begin(View(), VOICE, NOW, walk_after=0.0)
    asked = 0
    while walk.skip is not None:
        asked += 1
        walk = step(walk, Page(tuple(row(f"{asked}-{n}") for n in range(100)), 10_000, has_more=True), View())
    assert walk.flaw is Flaw.SHIFTING
    assert asked <= 2 + MAX_RETRIES


@pytest.mark.parametrize("size", [100, 10])
def test_a_platform_that_only_skips_whole_pages_is_given_up_soon(size: int):
    # A round is paid from the budget: it may not go back and forth for hundreds of calls.
    listed = rows(1000)
    walk = begin(View(), VOICE, NOW, walk_after=0.0)
    asked = 0
    while walk.skip is not None:
        asked += 1
        start = walk.skip // size * size
        walk = step(walk, Page(tuple(listed[start : start + size]), 1000, has_more=True), View())
    assert walk.flaw is Flaw.SHIFTING
    assert asked <= 3 * (MAX_RETRIES + 1)


def test_a_platform_that_grants_one_row_at_a_time_is_given_up_soon():
    listed = rows(5)
    walk = begin(View(), VOICE, NOW, walk_after=0.0)
    asked = 0
    while walk.skip is not None:
        asked += 1
        walk = step(walk, paged(listed, walk, 1), View())
    assert walk.flaw is Flaw.SHIFTING
    assert asked <= 2 + 2 * MAX_RETRIES


# Lag.


@pytest.mark.parametrize(
    ("moved_at", "lag"),
    [
        pytest.param(NOW + 1, 0.0, id="after-the-last-round"),
        pytest.param(NOW, 0.0, id="as-the-last-round-began"),
        pytest.param(NOW - 5, 5.0, id="before-it"),
        pytest.param(NOW - LONGEST_LAG_SECONDS, LONGEST_LAG_SECONDS, id="at-most"),
        pytest.param(NOW - LONGEST_LAG_SECONDS - 1, 0.0, id="stepped-back"),
    ],
)
def test_lag_that_a_late_row_shows(moved_at: float, lag: float):
    view = view_of([row("c0")], NOW)
    assert lag_shown(walked(view, [row("c0", moved_at)], NOW + 10), view) == pytest.approx(lag)


def test_the_longest_of_several_lags():
    view = view_of(rows(3), NOW)
    assert lag_shown(walked(view, [row("c1", NOW - 2), row("c0", NOW - 4), *rows(3)[2:]], NOW + 10), view) == 4.0


@pytest.mark.parametrize(
    "listed", [[row("c0")], [row("new", NOW - 5), row("c0")], [row("c0", mark="soon")], [row("c0", mark=None)]]
)
def test_what_shows_no_lag(listed: list[Row]):
    view = view_of([row("c0")], NOW)
    assert lag_shown(walked(view, listed, NOW + 10), view) == 0.0


def test_full_and_first_rounds_show_no_lag():
    view = view_of([row("c0")], NOW - WALK_AFTER - 1)
    late = [row("c0", NOW - WALK_AFTER - 5)]
    assert lag_shown(walked(view, late, NOW), view) == 0.0
    assert lag_shown(walked(View(), late, NOW), View()) == 0.0


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
        # Marks are coarser than time, so that several campaigns carry the same one; and of another clock.
        return row(self.id, int(self.changes[self.version(at)]) - self.behind)

    def change(self, now: float) -> None:
        if not self.is_deleted and int(now) > int(self.changes[-1]):
            self.changes.append(now)


@dataclass
class Answer:
    """A read by id, and the version that it showed."""

    campaign: Campaign
    entry: Entry
    version: int


class Truth:
    """Campaigns that change at any moment, rounds over them, and reads by id that may lag behind."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = NOW
        self.size = random.choice([2, 3, 4, 5, 8, 100])
        self.behind = random.choice([0, 0, 1, 60, -60])
        self.campaigns: list[Campaign] = []
        for _ in range(random.randrange(1, 30)):
            self.add(NOW - random.randrange(1, 30))
        self.answers: list[Answer] = []
        self.view = View()
        self.walk: Walk | None = None
        self.wants_full = False
        self.salt = 0.0
        self.proven = self.moved = 0

    def run(self, steps: int) -> None:
        acts = [self.change, self.create, self.delete, self.read, self.read, self.ask, self.ask, self.ask]
        for _ in range(steps):
            self.now += self.random.choice([0.25, 0.25, 0.5, 2.0, 10.0])
            self.random.choice(acts)()

    def change(self) -> None:
        for campaign in self.random.sample(self.campaigns, min(len(self.campaigns), self.random.choice([1, 1, 2, 12]))):
            known = self.view.known.get(campaign.id)
            is_seen = known is not None and known.updated_at == campaign.row(self.now).updated_at
            if self.walk is None or is_seen:
                # One that changed before a round of several pages and again during it can pass unseen: law 7.
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

    def ask(self) -> None:
        if self.walk is None:
            walk_after = 0.0 if self.wants_full or self.random.random() < 0.1 else math.inf
            self.walk = begin(self.view, VOICE, self.now, walk_after=walk_after)
            self.salt = self.random.random()
        there = [campaign.row(self.now) for campaign in self.campaigns if not campaign.is_deleted]
        # Among equal marks any order, but one that lasts for the round.
        there.sort(key=lambda each: (each.updated_at, crc32(f"{self.salt}{each.id}".encode())), reverse=True)
        self.walk = step(self.walk, paged(there, self.walk, self.size), self.view)
        assert self.walk.pages <= MAX_PAGES + MAX_RETRIES
        if self.walk.skip is not None:
            return
        if self.walk.flaw is None:
            self.now += self.random.choice([0.0, 0.25])
            result = conclude(self.walk, self.view, self.now)
            head = replace(result.head, lasts=30.0, blind=300.0)
            self.view, self.wants_full = apply(self.view, head, result.changed), result.wants_full
            self.check()
        else:
            assert self.walk.flaw is Flaw.SHIFTING
        self.walk = None

    def check(self) -> None:
        for answer in self.answers:
            swept = attest(answer.entry, self.view.known.get(answer.campaign.id), self.view.head).swept
            if swept is None or answer.campaign.is_deleted:
                # That a campaign is gone, a full round sees, and the total before it: `wants_full`.
                continue
            if swept.is_moved:
                self.moved += 1
                continue
            self.proven += 1
            changed = [at for at in answer.campaign.changes[answer.version + 1 :] if at <= swept.at]
            assert not changed, (
                f"{answer.campaign.id} is called proven at {swept.at - NOW}, changed at {changed[0] - NOW}"
            )


@given(st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_nothing_is_proven_that_had_changed_when_the_round_began(random: Random):
    Truth(random).run(120)


def test_the_simulated_rounds_do_prove_and_do_see_moves():
    truths = [Truth(Random(seed)) for seed in range(20)]
    for truth in truths:
        truth.run(300)
    assert sum(truth.proven for truth in truths) > 1000
    assert sum(truth.moved for truth in truths) > 1000


ROWS = st.builds(row, st.sampled_from([f"c{n}" for n in range(8)]), st.sampled_from([LONG_AGO, NOW]))
PAGES = st.none() | st.builds(
    Page, st.lists(ROWS, max_size=5).map(tuple), st.none() | st.integers(0, 500), has_more=st.booleans()
)


@given(st.lists(PAGES, min_size=1, max_size=5), st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_round_goes_on_for_ever(pages: list[Page | None], is_full: bool):
    view = view_of([row("c0")], NOW - 100)
    walk = begin(view, VOICE, NOW, walk_after=0.0 if is_full else WALK_AFTER)
    asked = 0
    while walk.skip is not None:
        walk = step(walk, pages[asked % len(pages)], view)
        asked += 1
        assert asked <= MAX_PAGES + MAX_RETRIES
    if walk.flaw is None:
        conclude(walk, view, NOW + 1)
