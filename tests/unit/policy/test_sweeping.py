from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.evidence import GOOD, Cause
from campaign_gateway.policy.list_findings import conclude
from campaign_gateway.policy.sweeping import (
    SETTLE_SECONDS,
    IndexedCampaign,
    IndexSnapshot,
    IndexState,
    ListFlaw,
    Poll,
    believed,
    is_listed_reliably,
    is_superseded,
)
from tests.support.builders import NOW, absence, entry, invalid, stamp
from tests.support.lists import LONG_AGO, by_list, polled, read, row, rows, seen, snapshot_of, superseded, validated

VOICE, SMS = Channel


# What a poll validates.


def test_a_poll_validates_what_was_read_after_its_row_was_first_seen():
    listed = rows(3)
    snapshot = snapshot_of(listed, NOW - 100)
    kept = read(listed[1], NOW - 90)
    assert by_list(kept, snapshot, "c1") == validated(kept.validated_at), "no poll since"
    snapshot, _ = seen(snapshot, listed, NOW)
    assert by_list(kept, snapshot, "c1") == validated(NOW), "from where the poll began, not from where it ended"


@pytest.mark.parametrize(
    ("read_at", "shows", "is_good"),
    [
        pytest.param(NOW - 99, "after", True, id="after-the-poll"),
        pytest.param(NOW - 99.001, "after", True, id="before-its-end-with-the-new-revision"),
        pytest.param(NOW - 150, "after", True, id="before-it-with-the-new-revision"),
        pytest.param(NOW - 99.001, "before", False, id="before-its-end-with-the-old-revision"),
        pytest.param(NOW - 201, "after", False, id="from-before-the-poll-that-showed-the-old-revision"),
        pytest.param(NOW - 99.001, "another", False, id="another-revision"),
    ],
)
def test_which_reads_a_moved_row_leaves_good(read_at: float, shows: str, is_good: bool):
    # An answer that carries the row's new revision, and was read since the old one was seen, came after the change.
    before, after = row("c0"), row("c0", NOW - 150.5)
    snapshot = snapshot_of([before], NOW - 200)
    snapshot, _ = seen(snapshot, [after], NOW - 100)
    assert snapshot.campaigns["c0"].since == NOW - 99
    snapshot, _ = seen(snapshot, [after], NOW)
    kept = read({"before": before, "after": after, "another": row("c0", NOW - 7000)}[shows], read_at)
    assert by_list(kept, snapshot) == (validated(NOW) if is_good else superseded(NOW - 99))


def test_a_row_that_moved_under_the_same_revision_leaves_no_earlier_read_good():
    # Only the campaign's run has a new revision: an answer by id may carry this one from before.
    before = row("c0")
    after = replace(before, revision="by the run's revision")
    snapshot, _ = seen(snapshot_of([before], NOW - 200), [after], NOW - 100)
    assert by_list(read(before, NOW - 150), snapshot) == superseded(NOW - 99)


@pytest.mark.parametrize(
    ("read_at", "at"),
    [
        pytest.param(NOW - 5, NOW, id="before-the-last-poll"),
        pytest.param(NOW + 5, NOW + 5, id="after-it"),
        pytest.param(NOW + 30, NOW + 30, id="while-its-validation-is-good"),
        pytest.param(NOW + 30.001, None, id="when-polls-have-ceased"),
    ],
)
def test_a_read_while_polls_go_on_is_a_validation_like_theirs(read_at: float, at: float | None):
    listed = rows(1)
    snapshot, _ = seen(snapshot_of(listed), listed, NOW)
    assert by_list(read(listed[0], read_at), snapshot) == (GOOD if at is None else validated(at))


@pytest.mark.parametrize(
    ("status", "revision", "is_validated"),
    [("Ready", "by-time", True), ("Active", "by-time", False), ("Ready", "another", False)],
)
def test_an_answer_from_before_a_row_was_first_seen_is_validated_if_nothing_tells_them_apart(
    status: str, revision: str, is_validated: bool
):
    shown = row("c0")
    snapshot, _ = seen(snapshot_of([shown]), [shown], NOW)
    kept = replace(read(shown, NOW - 500), campaign_status=status)
    kept = kept if revision == "by-time" else replace(kept, revision=stamp(LONG_AGO + 1))
    assert (by_list(kept, snapshot) == validated(NOW)) is is_validated


@pytest.mark.parametrize("by", list(Cause))
@pytest.mark.parametrize("was_changed", [True, False])
def test_no_poll_says_anything_of_an_invalidated_entry(by: Cause, was_changed: bool):
    shown = row("c0")
    snapshot = snapshot_of([shown], NOW - 100)
    kept = read(shown, NOW - 50)
    listed = [row("c0", NOW - 20)] if was_changed else [shown]
    snapshot, _ = seen(snapshot, listed, NOW - 10)
    invalidated = invalid(by, ago=30)
    assert by_list(kept, snapshot) != GOOD
    assert by_list(kept, snapshot, evidence=invalidated) is invalidated


def test_a_poll_validates_what_was_read_soon_after_a_write_like_anything_else():
    shown = row("c0")
    snapshot, _ = seen(snapshot_of([shown], NOW - 100), [shown], NOW)
    settling = invalid(Cause.WRITE, ago=51, is_open=False)
    found = by_list(read(shown, NOW - 50), snapshot, evidence=settling)
    assert found == replace(settling, validation=validated(NOW).validation)


@pytest.mark.parametrize(
    ("since", "is_validated"),
    [
        pytest.param(NOW - SETTLE_SECONDS - 1, True, id="a-poll-well-after"),
        pytest.param(NOW - SETTLE_SECONDS + 1, False, id="a-poll-that-may-lag"),
        pytest.param(NOW + 20, False, id="no-poll-since"),
    ],
)
def test_an_unverified_copy_stays_that_until_a_poll_well_after(since: float, is_validated: bool):
    # What may have been missed is a write that invalidated it: a poll that may lag behind cannot make up for that.
    listed = rows(1)
    snapshot, _ = seen(snapshot_of(listed), listed, NOW)
    unverified = GOOD.unverified(since)
    after = by_list(read(listed[0], NOW - 50), snapshot, evidence=unverified)
    assert after == (validated(NOW) if is_validated else unverified)


def test_an_unverified_copy_that_the_list_shows_in_another_state_stays_unverified():
    before = row("c0")
    snapshot, _ = seen(snapshot_of([before]), [row("c0", NOW - 1)], NOW)
    unverified = GOOD.unverified(NOW + 20)
    assert by_list(read(before, NOW - 50), snapshot, evidence=unverified) is unverified


@pytest.mark.parametrize(
    ("after", "revision_agrees", "covered"),
    [
        pytest.param(0.0, True, True, id="the-row-s-revision"),
        pytest.param(-0.001, True, True, id="the-row-s-revision-read-before-it-was-first-seen"),
        pytest.param(0.0, False, False, id="another-revision"),
        pytest.param(SETTLE_SECONDS - 0.001, False, False, id="another-revision-not-settled"),
        pytest.param(SETTLE_SECONDS, False, True, id="another-revision-settled"),
    ],
)
def test_which_reads_are_listed_reliably(after: float, revision_agrees: bool, covered: bool):
    listed = row("c0")
    indexed = snapshot_of([listed]).campaigns["c0"]
    kept = read(listed if revision_agrees else row("c0", LONG_AGO - 1), indexed.since + after)
    assert is_listed_reliably(kept, indexed) is covered


def test_an_answer_without_a_revision_is_listed_reliably_once_it_has_settled():
    indexed = snapshot_of([row("c0")]).campaigns["c0"]
    assert not is_listed_reliably(entry(NOW - indexed.since, revision=None), indexed)
    assert is_listed_reliably(entry(NOW - indexed.since - SETTLE_SECONDS, revision=None), indexed)


def test_a_missing_campaign_is_never_listed_reliably():
    indexed = snapshot_of([row("c0")]).campaigns["c0"]
    assert not is_listed_reliably(absence(NOW - indexed.since - SETTLE_SECONDS), indexed)


@pytest.mark.drill(
    "a campaign that was not there is made",
    planted="the list shows it first; a 404 is read just after the gateway's own write",
    seen="the stored absence is not served once the list has shown it, nor longer than freshness.min after a write",
)
@pytest.mark.parametrize(
    ("after", "is_listed", "is_over"),
    [
        pytest.param(-1.0, True, True, id="read-before-the-list-showed-it"),
        pytest.param(1.0, True, False, id="read-afterwards-it-is-gone-again"),
        pytest.param(-1.0, False, False, id="no-list-shows-it-either"),
    ],
)
def test_an_absence_ends_when_the_list_first_shows_the_campaign(after: float, is_listed: bool, is_over: bool):
    indexed = replace(snapshot_of([row("c0")]).campaigns["c0"], is_listed=is_listed)
    assert is_superseded(absence(NOW - indexed.since - after), indexed) is is_over


def test_what_no_list_shows_lives_by_its_own_lifetime():
    listed = rows(2)
    snapshot, _ = seen(snapshot_of(listed), listed, NOW)
    kept = entry(50)
    assert by_list(kept, snapshot, "unlisted") == GOOD


def test_a_move_makes_what_was_read_before_out_of_date_and_validates_the_rest():
    before = rows(3)
    snapshot = snapshot_of(before)
    moved = row("c2", NOW - 1)
    snapshot, result = seen(snapshot, [moved, *before[:2]], NOW)
    assert result.changed == {"c2"}
    assert set(result.updates) == {"c2"}
    assert by_list(read(before[2], NOW - 50), snapshot, "c2") == superseded(NOW + 1)
    assert by_list(read(before[1], NOW - 50), snapshot, "c1") == validated(NOW)
    # Read again after the poll, and validated by the next one.
    again = read(moved, NOW + 1)
    assert by_list(again, snapshot, "c2") == validated(again.validated_at)
    snapshot, _ = seen(snapshot, [moved, *before[:2]], NOW + 10)
    assert by_list(again, snapshot, "c2") == validated(NOW + 10)


def test_a_read_right_after_a_change_that_still_shows_the_old_state_is_not_validated():
    before = row("c0")
    snapshot = snapshot_of([before])
    snapshot, _ = seen(snapshot, [row("c0", NOW - 1)], NOW)
    late = read(before, NOW + 2)
    for later in (10, 100, 1000):
        snapshot, _ = seen(snapshot, [row("c0", NOW - 1)], NOW + later)
        settled = snapshot.campaigns["c0"].since + SETTLE_SECONDS
        assert by_list(late, snapshot) == superseded(settled), "and not good for long"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"changed": NOW - 1}, id="forward"),
        pytest.param({"changed": LONG_AGO - 7}, id="contract-10-back"),
        pytest.param({"status": "Active"}, id="status-alone"),
    ],
)
def test_a_revision_that_differs_in_any_way_has_moved(changes: dict[str, Any]):
    snapshot = snapshot_of([row("c0")])
    snapshot, result = seen(snapshot, [row("c0", **changes)], NOW)
    assert result.changed == {"c0"}
    assert snapshot.campaigns["c0"].has_changed


def test_a_new_row_is_known_from_then_on_and_nothing_is_out_of_date():
    before = rows(2)
    snapshot, result = seen(snapshot_of(before), [row("new", NOW - 1), *before], NOW)
    assert (set(result.updates), result.changed) == ({"new"}, frozenset())
    early = read(row("new", NOW - 2), NOW - 0.5)
    assert by_list(early, snapshot, "new") == superseded(NOW + 1), "another revision"
    same = read(row("new", NOW - 1), NOW - 0.5)
    assert by_list(same, snapshot, "new") == validated(NOW)


def test_a_flaw_validates_nothing_but_what_has_moved_stays_out_of_date():
    before = rows(2)
    snapshot, _ = seen(snapshot_of(before), [row("c1", NOW - 1), before[0]], NOW)
    flawed = replace(snapshot, state=replace(snapshot.state, flaws={VOICE: ListFlaw.DISAGREES}))
    kept = read(before[0], NOW - 50)
    assert by_list(kept, snapshot) != GOOD
    assert by_list(kept, flawed) == GOOD
    assert by_list(read(before[1], NOW - 50), flawed, "c1") == superseded(NOW + 1)


def test_a_good_poll_ends_a_flaw():
    snapshot = snapshot_of(rows(1))
    flawed = IndexSnapshot(
        replace(snapshot.state, flaws={VOICE: ListFlaw.UNSORTED, SMS: ListFlaw.NO_PAGE}), snapshot.campaigns
    )
    ended = conclude(polled(flawed, rows(1), NOW), flawed, NOW).state.flaws
    assert ended == {SMS: ListFlaw.NO_PAGE}, "the other list is another matter"


def test_each_channel_s_polls_validate_its_own_campaigns():
    voice, sms = row("v"), row("s")
    snapshot, _ = seen(snapshot_of([voice]), [sms], NOW - 90, channel=SMS)
    snapshot, result = seen(snapshot, [voice], NOW)
    assert result.changed == frozenset(), "the other list's campaigns are not gone"
    assert by_list(read(voice, NOW - 50), snapshot, "v") == validated(NOW)
    assert by_list(read(sms, NOW - 50), snapshot, "s") == GOOD
    without = replace(snapshot, state=replace(snapshot.state, polls={VOICE: Poll(NOW)}))
    assert by_list(read(sms, NOW - 50), without, "s") == GOOD


def test_the_number_rises_with_each_poll():
    snapshot = snapshot_of(rows(1))
    assert seen(snapshot, rows(1), NOW)[0].state.number == snapshot.state.number + 1


def test_what_a_row_says_is_kept():
    edged = replace(row("c0", status="Active"), edges=(NOW + 5,))
    indexed = snapshot_of([edged], NOW - 100).campaigns["c0"]
    assert indexed == IndexedCampaign(
        VOICE,
        edged.revision,
        edged.updated_at,
        NOW - 99,
        False,
        status="Active",
        fields={"status": "Active"},
        edges=(NOW + 5,),
    )


@pytest.mark.drill("evidence from the future")
def test_polls_and_rows_from_the_future_are_not_believed():
    def row_since(since: float) -> IndexedCampaign:
        return IndexedCampaign(VOICE, "a", "a", since, has_changed=False)

    campaigns = {"c1": row_since(NOW - 5), "c2": row_since(NOW + 1), "c3": row_since(NOW + 2)}
    state = IndexState({VOICE: Poll(NOW + 1, 30.0), SMS: Poll(NOW + 2, 30.0)}, 90.0, number=7)
    found = believed(IndexSnapshot(state, campaigns), NOW)
    assert set(found.campaigns) == {"c1", "c2"}
    assert found.state == replace(state, polls={VOICE: Poll(NOW + 1, 30.0)})
