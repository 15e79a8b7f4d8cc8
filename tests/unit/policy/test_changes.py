"""What is news for the log of changes, as tables: what it has said, what is seen, what it says then."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import (
    WRITTEN_SECONDS,
    Addition,
    ChangeType,
    Finding,
    LogState,
    SeenBy,
    Told,
    add,
    begun,
    degradations,
    findings_in,
    state_after,
    written,
)
from campaign_gateway.policy.list_findings import conclude, forget
from campaign_gateway.policy.list_scan import begin
from campaign_gateway.policy.sweeping import (
    SETTLE_SECONDS,
    IndexedCampaign,
    IndexSnapshot,
    IndexState,
    ListFlaw,
    Poll,
    apply,
)
from tests.support.builders import NOW, stamp
from tests.support.lists import row

VOICE, SMS = Channel
CREATED, UPDATED, STATUS, DELETED, DEGRADED, RECOVERED = ChangeType
EARLY, LATE, LATEST = stamp(NOW - 9_000), stamp(NOW + 10), stamp(NOW + 20)
"""Before the log began at `NOW`, and twice after it."""
NEW = LogState("log", NOW)
WHOLE = replace(NEW, whole=(VOICE,))


def told(updated_at: str | None = EARLY, status: str | None = "Ready", by: str = "list", **fields: Any) -> Told:
    return Told(SeenBy(by), fields.pop("at", NOW), status, updated_at, **fields)


def seen(updated_at: str | None = LATE, status: str | None = "Ready", by: str = "list", **fields: Any) -> Finding:
    return Finding(SeenBy(by), fields.pop("at", NOW + 60), VOICE, "A name", status, updated_at, **fields)


GONE_TOLD = told(None, None, is_gone=True)
GONE = seen(None, None, is_gone=True)
EXPECTED = Told(SeenBy.WRITE, NOW, written_at=NOW)


@pytest.mark.parametrize(
    ("before", "finding", "log", "expected"),
    [
        pytest.param(None, seen(), WHOLE, CREATED, id="new-in-a-list-that-is-known"),
        pytest.param(None, seen(EARLY), WHOLE, CREATED, id="new-with-an-old-mark"),
        pytest.param(None, seen(EARLY), NEW, None, id="met-for-the-first-time"),
        pytest.param(None, seen(LATE), NEW, UPDATED, id="met-for-the-first-time-and-changed-since"),
        pytest.param(None, seen("no time"), NEW, None, id="met-for-the-first-time-without-a-time"),
        pytest.param(None, seen(by="read"), WHOLE, None, id="read-before-the-list-shows-it"),
        pytest.param(None, GONE, WHOLE, None, id="gone-and-never-known"),
        pytest.param(told(), seen(EARLY), WHOLE, None, id="the-same"),
        pytest.param(told(), seen(LATE), WHOLE, UPDATED, id="another-mark"),
        pytest.param(told(LATE), seen(EARLY), WHOLE, UPDATED, id="a-mark-that-steps-back"),
        pytest.param(told(), seen(EARLY, is_touched=True), WHOLE, UPDATED, id="another-row-under-the-same-mark"),
        pytest.param(told(), seen(LATE, "Active"), WHOLE, STATUS, id="another-status"),
        pytest.param(told(), seen(EARLY, "Active"), WHOLE, STATUS, id="another-status-under-the-same-mark"),
        pytest.param(told(None), seen(LATE), WHOLE, UPDATED, id="had-no-mark"),
        pytest.param(told(), GONE, WHOLE, DELETED, id="gone"),
        pytest.param(GONE_TOLD, GONE, WHOLE, None, id="gone-already"),
        pytest.param(GONE_TOLD, seen(), WHOLE, CREATED, id="there-again"),
        pytest.param(told(by="read"), seen(LATE), WHOLE, UPDATED, id="the-list-after-a-read"),
        pytest.param(told(), seen(LATE, by="read"), WHOLE, UPDATED, id="a-read-before-the-list"),
        pytest.param(told(LATE, by="read"), seen(LATE), WHOLE, None, id="the-list-shows-what-was-read"),
        pytest.param(told(), replace(GONE, seen_by=SeenBy.READ), WHOLE, DELETED, id="a-read-finds-nothing"),
        pytest.param(EXPECTED, seen(), WHOLE, CREATED, id="made-through-the-gateway"),
        pytest.param(EXPECTED, seen(by="read"), NEW, CREATED, id="made-through-the-gateway-and-read"),
        pytest.param(EXPECTED, GONE, WHOLE, None, id="made-and-deleted-unseen"),
    ],
)
def test_what_is_news(before: Told | None, finding: Finding, log: LogState, expected: ChangeType | None) -> None:
    addition = add(log, {} if before is None else {"c1": before}, {"c1": finding}, log, NOW)
    assert [change.type for change in addition.changes] == ([] if expected is None else [expected])
    if expected is not None:
        (change,), remembered = addition.changes, addition.told["c1"]
        previous = before.status if before is not None else None
        said = (change.campaign, change.status, change.previous_status, change.updated_at, change.at)
        assert said == ("c1", finding.status, previous, finding.updated_at, finding.at)
        assert (remembered.updated_at, remembered.status) == (finding.updated_at, finding.status)
        again = add(log, addition.told, {"c1": replace(finding, at=finding.at + 1, is_touched=False)}, log, NOW)
        assert again == Addition(), "nothing is said twice"


@pytest.mark.parametrize(
    ("before", "finding", "is_news"),
    [
        pytest.param(
            told(LATE, by="read", at=NOW + 60), seen(LATEST, by="read", at=NOW + 59), False, id="begun-before"
        ),
        pytest.param(told(LATE, at=NOW + 60), seen(EARLY, by="read", at=NOW + 61), False, id="a-read-lags"),
        pytest.param(told(LATE, by="read", at=NOW + 60), seen(EARLY, at=NOW + 61), False, id="the-list-lags"),
        pytest.param(GONE_TOLD, seen(LATE, by="read", at=NOW + 1), False, id="a-read-lags-behind-a-deletion"),
        pytest.param(told(LATE, at=NOW + 60), seen(LATEST, by="read", at=NOW + 61), True, id="a-read-is-ahead"),
        pytest.param(
            told(LATE, at=NOW), seen(EARLY, by="read", at=NOW + SETTLE_SECONDS), True, id="longer-than-anything-lags"
        ),
        pytest.param(told(LATE, at=NOW), seen(EARLY, at=NOW + 1), True, id="a-list-never-lags-behind-itself"),
        pytest.param(told(None, at=NOW), seen(EARLY, by="read", at=NOW + 1), True, id="no-times-to-tell-by"),
        pytest.param(told(EARLY, at=NOW + 1), seen(LATE, at=NOW), True, id="another-leader-whose-clock-is-behind"),
        pytest.param(
            told(EARLY, by="read", at=NOW + 1), seen(LATE, at=NOW), True, id="a-list-that-shows-more-than-a-read"
        ),
        pytest.param(
            told(LATE, by="read", at=NOW + 1), seen(LATE, "Active", at=NOW), True, id="a-list-with-another-status"
        ),
        pytest.param(EXPECTED, seen(LATE, at=NOW - 0.1), True, id="made-just-now-by-another-clock"),
    ],
)
def test_what_is_out_of_date_is_no_news(before: Told, finding: Finding, is_news: bool) -> None:
    addition = add(WHOLE, {"c1": before}, {"c1": finding}, WHOLE, NOW)
    assert bool(addition.changes) is is_news
    assert is_news or not addition.told


@pytest.mark.parametrize(
    ("seconds", "by"), [(0.0, SeenBy.WRITE), (WRITTEN_SECONDS - 1, SeenBy.WRITE), (WRITTEN_SECONDS, SeenBy.LIST)]
)
def test_a_change_that_is_seen_soon_after_a_write_is_the_writes(seconds: float, by: SeenBy) -> None:
    before = written({"c1": told()}, ["c1", "unknown"], NOW + 9, is_creation=False)
    assert before.keys() == {"c1"}, "a write says nothing of what nobody has seen yet"
    addition = add(WHOLE, before, {"c1": seen(at=NOW + 9 + seconds)}, WHOLE, NOW)
    assert [change.seen_by for change in addition.changes] == [by]
    later = add(WHOLE, addition.told, {"c1": seen(LATEST, at=NOW + 200)}, WHOLE, NOW)
    assert [change.seen_by for change in later.changes] == [SeenBy.LIST]


def test_a_list_is_degraded_once_and_recovers_once() -> None:
    said: list[tuple[ChangeType, Channel | None, str | None]] = []
    log = WHOLE
    for flaws in (
        {},
        {VOICE: ListFlaw.UNSORTED},
        {VOICE: ListFlaw.TOO_LATE, SMS: ListFlaw.STARVED},
        {SMS: ListFlaw.STARVED},
        {},
    ):
        addition = add(log, {}, {}, state_after(log, IndexState(flaws=flaws), NOW), NOW)
        said += [(change.type, change.channel, change.reason) for change in addition.changes]
        log = addition.state or log
    assert said == [
        (DEGRADED, VOICE, "unsorted"),
        (DEGRADED, SMS, "starved"),
        (RECOVERED, VOICE, None),
        (RECOVERED, SMS, None),
    ]


def test_what_was_said_of_lists_is_known_for_as_long_as_they_are_not_trusted() -> None:
    states = [{VOICE: ListFlaw.UNSORTED}, {VOICE: ListFlaw.UNSORTED, SMS: ListFlaw.STARVED}, {SMS: ListFlaw.STARVED}]
    log, known = WHOLE, list[dict[Channel | None, float]]()
    for number, flaws in enumerate(states):
        log = state_after(log, IndexState(flaws=flaws), NOW + number)
        known.append({change.channel: change.at for change in degradations(log)})
        assert add(WHOLE, {}, {}, log, NOW + number).changes != ()
    assert known == [{VOICE: NOW}, {VOICE: NOW, SMS: NOW + 1}, {SMS: NOW + 1}]
    assert {(change.type, change.reason) for change in degradations(log)} == {(DEGRADED, "starved")}
    assert degradations(state_after(log, IndexState(), NOW + 9)) == []


def test_lists_that_were_lost_are_not_trusted_before_they_are_read_as_a_whole() -> None:
    log = begun("next", NOW, replace(WHOLE, whole=(SMS, VOICE)))
    assert {(one.channel, one.reason, one.at) for one in degradations(log)} == {
        (SMS, "unread", NOW),
        (VOICE, "unread", NOW),
    }
    assert begun("after", NOW + 1, log).flaws == log.flaws, "also if that one is lost before"
    part, whole = ({VOICE: Poll(NOW, full_scan_at=at)} for at in (0.0, NOW + 5))
    assert state_after(log, IndexState(polls=part), NOW + 5) == log
    after = state_after(log, IndexState(polls=whole), NOW + 5)
    assert [(one.type, one.channel) for one in add(log, {}, {}, after, NOW + 5).changes] == [(RECOVERED, VOICE)]
    assert begun("first", NOW, None).flaws == {}


# The index, poll by poll.


class Feed:
    """An index and its log, as the leader publishes them."""

    def __init__(self) -> None:
        self.index = IndexSnapshot()
        self.log, self.told = NEW, dict[str, Told]()
        self.now = NOW

    def publish(self, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> list[tuple[str, str | None]]:
        after = state_after(self.log, state, self.now)
        addition = add(self.log, self.told, findings_in(self.index, updates, self.now), after, self.now)
        self.index = apply(self.index, state, updates)
        self.told |= addition.told
        self.log = addition.state or self.log
        return [(change.type.value.partition(".")[2], change.campaign) for change in addition.changes]

    def poll(self, *rows: Any, is_whole: bool = False) -> list[tuple[str, str | None]]:
        self.now += 10
        scan = replace(begin(VOICE, self.now - 1), rows={one.id: one for one in rows}, is_whole=is_whole, top=LATE)
        result = conclude(scan, self.index, self.now)
        return self.publish(result.state, result.updates)


def test_a_log_that_begins_tells_nobody_of_what_was_there() -> None:
    feed = Feed()
    assert feed.poll(row("c1"), row("c2"), is_whole=True) == []
    assert feed.poll(row("c1"), row("c2", NOW + 60)) == [("updated", "c2")]
    assert feed.poll(row("c3"), row("c1")) == [("created", "c3")]
    assert feed.poll(row("c3"), row("c1"), is_whole=True) == [("deleted", "c2")]


def test_a_restart_that_lost_the_index_tells_what_changed_meanwhile_and_nothing_else() -> None:
    feed = Feed()
    feed.poll(row("c1"), row("c2"), row("c3"), is_whole=True)
    feed.index = IndexSnapshot()
    said = feed.poll(row("c1"), row("c2", NOW + 60), row("c4"), is_whole=True)
    assert said == [("updated", "c2"), ("created", "c4")]


def test_what_ends_while_the_list_is_forgotten_is_told() -> None:
    feed = Feed()
    feed.poll(row("c1"), row("c2"), is_whole=True)
    result = forget(feed.index, VOICE)
    assert feed.publish(result.state, result.updates) == []
    assert feed.poll(row("c1"), is_whole=True) == [("deleted", "c2")]
    assert feed.poll(row("c1"), is_whole=True) == []
