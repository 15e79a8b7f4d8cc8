from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.entry import Cause, Swept
from campaign_gateway.policy.list_scan import conclude
from campaign_gateway.policy.sweeping import (
    SETTLE_SECONDS,
    Known,
    ListFlaw,
    Poll,
    View,
    attest,
    is_covered,
)
from tests.support.builders import NOW, absence, entry, invalid, stamp
from tests.support.lists import LONG_AGO, polled, read, row, rows, seen, view_of

VOICE, SMS = Channel


# What a poll proves.


def test_a_poll_proves_what_was_read_after_its_row_was_first_seen():
    listed = rows(3)
    view = view_of(listed, NOW - 100)
    kept = read(listed[1], NOW - 90)
    assert attest(kept, view.known["c1"], view.head).attested_at == kept.proven_at, "no poll since"
    view, _ = seen(view, listed, NOW)
    proven = attest(kept, view.known["c1"], view.head)
    assert proven == replace(kept, swept=Swept(NOW, lasts=30.0, blind=300.0))
    assert proven.attested_at == NOW, "its age counts from where the poll began, not from where it ended"


@pytest.mark.parametrize(
    ("read_at", "shows", "is_good"),
    [
        pytest.param(NOW - 99, "after", True, id="after-the-poll"),
        pytest.param(NOW - 99.001, "after", True, id="before-its-end-with-the-new-mark"),
        pytest.param(NOW - 150, "after", True, id="before-it-with-the-new-mark"),
        pytest.param(NOW - 99.001, "before", False, id="before-its-end-with-the-old-mark"),
        pytest.param(NOW - 201, "after", False, id="from-before-the-poll-that-showed-the-old-mark"),
        pytest.param(NOW - 99.001, "another", False, id="another-mark"),
    ],
)
def test_which_reads_a_moved_row_leaves_good(read_at: float, shows: str, is_good: bool):
    # An answer that carries the row's new mark, and was read since the old one was seen, came after the change.
    before, after = row("c0"), row("c0", NOW - 150.5)
    view = view_of([before], NOW - 200)
    view, _ = seen(view, [after], NOW - 100)
    assert view.known["c0"].since == NOW - 99
    view, _ = seen(view, [after], NOW)
    kept = read({"before": before, "after": after, "another": row("c0", NOW - 7000)}[shows], read_at)
    swept = attest(kept, view.known["c0"], view.head).swept
    assert swept == (Swept(NOW, lasts=30.0, blind=300.0) if is_good else Swept(NOW - 99, is_moved=True))


def test_a_row_that_moved_under_the_same_mark_leaves_no_earlier_read_good():
    # Only the campaign's run has a new mark: an answer by id may carry this one from before.
    before = row("c0")
    after = replace(before, mark="by the run's mark")
    view, _ = seen(view_of([before], NOW - 200), [after], NOW - 100)
    assert attest(read(before, NOW - 150), view.known["c0"], view.head).swept == Swept(NOW - 99, is_moved=True)


@pytest.mark.parametrize(
    ("read_at", "at"),
    [
        pytest.param(NOW - 5, NOW, id="before-the-last-poll"),
        pytest.param(NOW + 5, NOW + 5, id="after-it"),
        pytest.param(NOW + 30, NOW + 30, id="while-its-proof-is-good"),
        pytest.param(NOW + 30.001, None, id="when-polls-have-ceased"),
    ],
)
def test_a_read_while_polls_go_on_is_a_proof_like_theirs(read_at: float, at: float | None):
    listed = rows(1)
    view, _ = seen(view_of(listed), listed, NOW)
    swept = attest(read(listed[0], read_at), view.known["c0"], view.head).swept
    assert swept == (None if at is None else Swept(at, lasts=30.0, blind=300.0))


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
def test_no_poll_says_anything_of_an_invalidated_entry(by: Cause, was_moved: bool):
    shown = row("c0")
    view = view_of([shown], NOW - 100)
    kept = read(shown, NOW - 50)
    listed = [row("c0", NOW - 20)] if was_moved else [shown]
    view, _ = seen(view, listed, NOW - 10)
    marked = invalid(kept, by, ago=30)
    assert attest(kept, view.known["c0"], view.head) != kept
    assert attest(marked, view.known["c0"], view.head) is marked


def test_a_poll_proves_what_was_read_soon_after_a_write_like_anything_else():
    shown = row("c0")
    view, _ = seen(view_of([shown], NOW - 100), [shown], NOW)
    settling = invalid(read(shown, NOW - 50), Cause.WRITE, ago=51, is_open=False)
    assert attest(settling, view.known["c0"], view.head).attested_at == NOW


@pytest.mark.parametrize(
    ("since", "is_proven"),
    [
        pytest.param(NOW - SETTLE_SECONDS - 1, True, id="a-poll-well-after"),
        pytest.param(NOW - SETTLE_SECONDS + 1, False, id="a-poll-that-may-lag"),
        pytest.param(NOW + 20, False, id="no-poll-since"),
    ],
)
def test_a_copy_in_doubt_stays_in_doubt_until_a_poll_well_after(since: float, is_proven: bool):
    # What may have been missed is a write that invalidated it: a poll that may lag behind cannot make up for that.
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
    assert set(result.updates) == {"c2"}
    assert attest(read(before[2], NOW - 50), view.known["c2"], view.head).swept == Swept(NOW + 1, is_moved=True)
    assert attest(read(before[1], NOW - 50), view.known["c1"], view.head).attested_at == NOW
    # Read again after the poll, and proven by the next one.
    again = read(moved, NOW + 1)
    assert attest(again, view.known["c2"], view.head).attested_at == again.proven_at
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
    assert (set(result.updates), result.moved) == ({"new"}, frozenset())
    early = read(row("new", NOW - 2), NOW - 0.5)
    assert attest(early, view.known["new"], view.head).swept == Swept(NOW + 1, is_moved=True), "another mark"
    same = read(row("new", NOW - 1), NOW - 0.5)
    assert attest(same, view.known["new"], view.head).attested_at == NOW


def test_a_flaw_proves_nothing_but_what_has_moved_stays_out_of_date():
    before = rows(2)
    view, _ = seen(view_of(before), [row("c1", NOW - 1), before[0]], NOW)
    flawed = replace(view.head, flaws={VOICE: ListFlaw.DISAGREES})
    kept = read(before[0], NOW - 50)
    assert attest(kept, view.known["c0"], view.head).swept is not None
    assert attest(kept, view.known["c0"], flawed) == kept
    moved = attest(read(before[1], NOW - 50), view.known["c1"], flawed).swept
    assert moved is not None
    assert moved.is_moved


def test_a_good_poll_ends_a_flaw():
    view = view_of(rows(1))
    flawed = View(replace(view.head, flaws={VOICE: ListFlaw.UNSORTED, SMS: ListFlaw.NO_PAGE}), view.known)
    ended = conclude(polled(flawed, rows(1), NOW), flawed, NOW).head.flaws
    assert ended == {SMS: ListFlaw.NO_PAGE}, "the other list is another matter"


def test_each_channel_s_polls_prove_its_own_campaigns():
    voice, sms = row("v"), row("s")
    view, _ = seen(view_of([voice]), [sms], NOW - 90, channel=SMS)
    view, result = seen(view, [voice], NOW)
    assert result.moved == frozenset(), "the other list's campaigns are not gone"
    assert attest(read(voice, NOW - 50), view.known["v"], view.head).attested_at == NOW
    assert attest(read(sms, NOW - 50), view.known["s"], view.head).swept is None
    assert attest(read(sms, NOW - 50), view.known["s"], replace(view.head, polls={VOICE: Poll(NOW)})).swept is None


def test_the_number_rises_with_each_round():
    view = view_of(rows(1))
    assert seen(view, rows(1), NOW)[0].head.number == view.head.number + 1


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
