import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.entry import Cause, Entry, Swept
from campaign_gateway.policy.freshness import Freshness, StatusRule, age
from tests.support.builders import NOW, absence, entry, invalid, stamp

SECONDS = st.floats(0, 1e7)
CAPS = st.none() | SECONDS
RULES = st.builds(
    Freshness,
    factor=st.floats(0, 100),
    min=SECONDS,
    max=SECONDS,
    default=SECONDS,
    missing=SECONDS,
    stale_while_revalidate=SECONDS,
    stale_if_error=SECONDS,
    status=st.dictionaries(st.sampled_from(["Active", "Ready"]), st.builds(StatusRule, min=CAPS, max=CAPS)),
)
REVISIONS = st.none() | st.just("soon") | st.floats(-1e9, 1e9).map(lambda seconds: stamp(NOW + seconds))
ENTRIES = st.floats(-1e8, 1e8).map(absence) | st.builds(
    entry,
    st.floats(-1e8, 1e8),
    revision=REVISIONS,
    campaign_status=st.sampled_from(["Active", "Ready", "Rerun", None]),
)


def changed(seconds_before: float, status: str | None = "Ready") -> Entry:
    """A campaign that was changed so long before it was read."""
    return entry(revision=stamp(NOW - seconds_before), campaign_status=status)


def by_clock(ahead: float, of: Entry) -> Entry:
    """The entry as read from a platform whose clock is so far ahead."""
    return replace(of, clock_offset=float(ahead))


@pytest.mark.parametrize(
    ("rules", "of", "lifetime"),
    [
        pytest.param({}, changed(1000), 100.0, id="factor-x-time-since-change"),
        pytest.param({"factor": 0.5}, changed(100), 50.0, id="another-factor"),
        pytest.param({}, changed(0), 5.0, id="just-changed-min"),
        pytest.param({}, changed(20), 5.0, id="below-min"),
        pytest.param({}, changed(50), 5.0, id="at-min"),
        pytest.param({}, changed(6000), 600.0, id="at-max"),
        pytest.param({}, changed(10**9), 600.0, id="above-max"),
        pytest.param({"factor": 0}, changed(1000), 5.0, id="factor-0-is-min"),
        pytest.param({"factor": 0, "min": 0}, changed(1000), 0.0, id="factor-0-min-0"),
        pytest.param({}, entry(revision=None), 30.0, id="mark-missing-default"),
        pytest.param({}, entry(revision="soon"), 30.0, id="mark-unreadable-default"),
        pytest.param({}, entry(revision="2026-02-02T02:40:00"), 30.0, id="mark-without-zone-default"),
        pytest.param({}, entry(revision="1770000000000"), 30.0, id="mark-a-number-default"),
        pytest.param({}, changed(-1), 30.0, id="mark-in-the-future-default"),
        pytest.param({}, changed(-0.001), 30.0, id="mark-a-millisecond-ahead-default"),
        pytest.param({}, by_clock(-200, changed(1200)), 100.0, id="a-clock-behind"),
        pytest.param({}, by_clock(200, changed(800)), 100.0, id="a-clock-ahead"),
        pytest.param({}, by_clock(25, changed(-20)), 5.0, id="just-changed-by-a-clock-ahead"),
        pytest.param({}, by_clock(-25, changed(20)), 30.0, id="in-the-future-of-a-clock-behind"),
        pytest.param({"default": 1000}, entry(revision=None), 600.0, id="default-is-clamped-to-max"),
        pytest.param({"default": 1}, entry(revision=None), 5.0, id="default-is-clamped-to-min"),
        pytest.param({"status": {"Active": StatusRule(max=15)}}, changed(1000, "Active"), 15.0, id="status-max"),
        pytest.param(
            {"status": {"Active": StatusRule(max=15)}}, changed(80, "Active"), 8.0, id="status-max-not-reached"
        ),
        pytest.param({"status": {"Active": StatusRule(max=15)}}, changed(1000, "Ready"), 100.0, id="status-of-another"),
        pytest.param(
            {"status": {"Active": StatusRule(max=15)}}, changed(1000, "Rerun"), 100.0, id="contract-12.11-new-status"
        ),
        pytest.param({"status": {"Active": StatusRule(max=15)}}, changed(1000, None), 100.0, id="no-status"),
        pytest.param(
            {"status": {"Active": StatusRule(max=15)}},
            entry(revision=None, campaign_status="Active"),
            15.0,
            id="status-max-holds-for-the-default",
        ),
        pytest.param(
            {"status": {"Active": StatusRule(max=5000)}}, changed(10**9, "Active"), 600.0, id="status-max-cannot-widen"
        ),
        pytest.param({"status": {"Ready": StatusRule(min=60)}}, changed(0), 60.0, id="status-min"),
        pytest.param(
            {"status": {"Ready": StatusRule(max=2)}}, changed(1000), 2.0, id="status-max-below-the-general-min"
        ),
        pytest.param({"status": {"Ready": StatusRule(min=20, max=40)}}, changed(300), 30.0, id="status-both-between"),
        pytest.param({"stale_if_error": 60}, changed(1000), 60.0, id="hard-bound"),
        pytest.param({"stale_if_error": 2}, changed(0), 2.0, id="hard-bound-below-min"),
        pytest.param({}, absence(), 10.0, id="missing"),
        pytest.param({"min": 60, "default": 90}, absence(), 10.0, id="missing-is-not-clamped"),
        pytest.param({"missing": 900, "stale_if_error": 60}, absence(), 60.0, id="missing-within-the-hard-bound"),
        pytest.param({"missing": 0}, absence(), 0.0, id="missing-0"),
    ],
)
def test_lifetime(rules: dict[str, Any], of: Entry, lifetime: float):
    assert Freshness(**rules).lifetime(of) == pytest.approx(lifetime)


def test_lifetime_counts_from_the_change_to_the_proof_not_to_now():
    # A renewed proof is a longer trust; time that only passes is not.
    unchanged = stamp(NOW - 2000)
    early, late = entry(age=1000, revision=unchanged), entry(age=0, revision=unchanged)
    assert Freshness().lifetime(early) == pytest.approx(100)
    assert Freshness().lifetime(late) == pytest.approx(200)


def test_the_defaults_are_the_documented_ones():
    told = Freshness()
    assert (told.factor, told.min, told.max, told.default, told.missing) == (0.1, 5, 600, 30, 10)
    assert (told.stale_while_revalidate, told.stale_if_error) == (60, 24 * 3600)


@given(RULES, ENTRIES)
def test_lifetime_is_never_negative_and_never_past_the_hard_bound(rules: Freshness, of: Entry):
    assert 0 <= rules.lifetime(of) <= rules.stale_if_error


@given(RULES, ENTRIES)
def test_a_fresh_entry_is_usable(rules: Freshness, of: Entry):
    if age(of, NOW) < rules.lifetime(of):
        assert rules.is_usable(of, NOW)


@pytest.mark.parametrize(
    ("of", "is_usable"),
    [
        pytest.param(entry(0), True, id="new"),
        pytest.param(entry(3600), True, id="at-the-hard-bound"),
        pytest.param(entry(3600.01), False, id="past-the-hard-bound"),
        pytest.param(entry(-50), True, id="proven-by-a-clock-ahead"),
        pytest.param(absence(9.9), True, id="absence-fresh"),
        pytest.param(absence(10.1), False, id="absence-past-its-lifetime"),
        pytest.param(absence(3601), False, id="absence-past-the-hard-bound"),
    ],
)
def test_usable(of: Entry, is_usable: bool):
    assert Freshness(stale_if_error=3600).is_usable(of, NOW) is is_usable


@pytest.mark.parametrize("missing", [10.0, 0.0])
def test_an_absence_is_of_no_use_once_it_is_not_fresh(missing: float):
    # rfc9111-4.2: fresh while the lifetime is greater than the age, so not at equality.
    assert not Freshness(missing=missing).is_usable(absence(missing), NOW)


@pytest.mark.parametrize(
    ("rules", "of", "bound"),
    [
        pytest.param({}, entry(), 86_400.0, id="campaign"),
        pytest.param({"stale_if_error": 60}, entry(), 60.0, id="campaign-shorter"),
        pytest.param({}, absence(), 10.0, id="absence"),
        pytest.param({"stale_if_error": 4}, absence(), 4.0, id="absence-within-the-hard-bound"),
    ],
)
def test_bound(rules: dict[str, Any], of: Entry, bound: float):
    assert Freshness(**rules).bound(of) == bound


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        pytest.param(entry(12.5), 12.5, id="rfc9111-4.2.3-since-the-proof"),
        pytest.param(entry(0), 0.0, id="proven-now"),
        pytest.param(entry(-3), 0.0, id="proven-by-a-clock-ahead"),
        pytest.param(absence(4), 4.0, id="absence"),
    ],
)
def test_age(of: Entry, seconds: float):
    assert age(of, NOW) == seconds
    assert math.copysign(1, age(of, NOW)) == 1


def swept(of: Entry, ago: float, **fields: Any) -> Entry:
    """The entry with a list poll's word, that long before the present."""
    return replace(of, swept=Swept(NOW - ago, **fields))


READ = entry(50, revision=stamp(NOW - 1050))
"""Fresh for 100 s by its read, of which 50 are left."""


@pytest.mark.parametrize(
    ("of", "ttl"),
    [
        pytest.param(entry(50, revision=stamp(NOW - 1050)), 50.0, id="no-poll"),
        pytest.param(entry(150, revision=stamp(NOW - 1150)), -50.0, id="no-poll-stale"),
        pytest.param(entry(-50, revision=stamp(NOW - 950)), 100.0, id="proven-by-a-clock-ahead"),
        pytest.param(swept(READ, 4, lasts=10, blind=1000), 6.0, id="proven-by-a-poll"),
        pytest.param(swept(READ, 4, lasts=100, blind=1000), 96.0, id="longer-than-by-the-read"),
        pytest.param(
            swept(entry(5000, revision=stamp(NOW - 5001)), 4, lasts=10, blind=9000), 6.0, id="its-read-stale-long-ago"
        ),
        pytest.param(swept(READ, 4, lasts=100, blind=60), 10.0, id="no-longer-than-the-blind-bound"),
        pytest.param(swept(READ, 10, lasts=10, blind=1000), 50.0, id="run-out-the-read-counts-again"),
        pytest.param(swept(READ, 4, lasts=10, blind=50), 50.0, id="blind-bound-reached-the-read-counts-again"),
        pytest.param(
            swept(entry(150, revision=stamp(NOW - 1150)), 12, lasts=10, blind=1000),
            -50.0,
            id="run-out-and-the-read-too",
        ),
        pytest.param(
            swept(replace(READ, campaign_status="Active"), 4, lasts=100, blind=1000), 11.0, id="within-the-status-max"
        ),
        pytest.param(swept(READ, 4, lasts=5000, blind=9000), 596.0, id="within-the-general-max"),
        pytest.param(swept(READ, 4, is_changed=True), -4.0, id="moved"),
        pytest.param(
            swept(entry(150, revision=stamp(NOW - 1150)), 4, is_changed=True), -50.0, id="moved-and-stale-before"
        ),
        pytest.param(swept(READ, 0, is_changed=True), 0.0, id="moved-now-is-not-fresh"),
        pytest.param(swept(absence(5), 4, is_changed=True), -4.0, id="an-absence-that-has-changed"),
    ],
)
def test_ttl(of: Entry, ttl: float):
    assert Freshness(status={"Active": StatusRule(max=15)}).ttl(of, NOW) == pytest.approx(ttl)


@pytest.mark.parametrize(
    ("of", "seconds"),
    [
        pytest.param(swept(READ, 4, lasts=10, blind=1000), 4.0, id="since-the-poll-began"),
        pytest.param(swept(READ, 60, lasts=10, blind=1000), 50.0, id="since-the-read-if-that-is-newer"),
        pytest.param(swept(READ, 4, is_changed=True), 50.0, id="a-poll-that-saw-it-move-proves-nothing"),
    ],
)
def test_age_counts_from_the_newest_proof(of: Entry, seconds: float):
    assert age(of, NOW) == seconds


@pytest.mark.parametrize(("unread", "is_usable"), [(3600, True), (3601, False)])
def test_rounds_do_not_move_the_hard_bound(unread: float, is_usable: bool):
    proven = swept(entry(unread), 1, lasts=100, blind=9000)
    assert Freshness(stale_if_error=3600).is_usable(proven, NOW) is is_usable


WORDS = st.builds(
    Swept, st.floats(-1e6, 1e6).map(lambda ago: NOW - ago), st.booleans(), st.floats(0, 1e5), st.floats(0, 1e6)
)


@given(RULES, ENTRIES, WORDS)
def test_no_word_of_the_list_makes_an_entry_fresh_past_both_proofs(rules: Freshness, of: Entry, word: Swept):
    ttl, by_id = rules.ttl(replace(of, swept=word), NOW), rules.ttl(of, NOW)
    if word.is_changed:
        assert ttl <= by_id
        assert ttl <= word.at - NOW
    else:
        by_list = min(word.at + word.lasts, of.validated_at + word.blind) - NOW
        assert ttl <= max(by_list, by_id) + 1e-6
        assert ttl >= by_id or ttl > 0


# What was invalidated.

WRITE, PURGE = Cause.WRITE, Cause.PURGE


@pytest.mark.parametrize("by", list(Cause))
@pytest.mark.parametrize(
    ("of", "ago", "ttl"),
    [
        pytest.param(READ, 4, -4.0, id="stale-since-then"),
        pytest.param(READ, 0, 0.0, id="at-this-moment"),
        pytest.param(READ, -0.2, 0.0, id="by-a-clock-ahead"),
        pytest.param(entry(150, revision=stamp(NOW - 1150)), 4, -50.0, id="stale-before"),
        pytest.param(swept(READ, 1, lasts=10, blind=1000), 4, -4.0, id="no-poll-makes-it-fresh"),
        pytest.param(absence(5), 4, -4.0, id="an-absence"),
    ],
)
def test_an_invalidated_entry_has_been_stale_since(of: Entry, by: Cause, ago: float, ttl: float):
    assert Freshness().ttl(invalid(of, by, ago), NOW) == pytest.approx(ttl)


@pytest.mark.parametrize(
    ("rules", "of", "lifetime"),
    [
        pytest.param({}, changed(10**6), 5.0, id="min"),
        pytest.param({}, entry(revision=None), 5.0, id="min-and-not-the-default"),
        pytest.param({"status": {"Ready": StatusRule(min=20)}}, changed(10**6), 20.0, id="the-status-s-min"),
        pytest.param({"status": {"Ready": StatusRule(max=2)}}, changed(10**6), 2.0, id="within-the-status-s-max"),
        pytest.param({"stale_if_error": 1}, changed(10**6), 1.0, id="within-the-hard-bound"),
        pytest.param({}, absence(), 10.0, id="an-absence-has-its-own"),
    ],
)
def test_what_was_read_soon_after_a_write_is_trusted_for_the_shortest_time(
    rules: dict[str, Any], of: Entry, lifetime: float
):
    settling = invalid(of, WRITE, 3, is_open=False)
    assert Freshness(**rules).lifetime(settling) == lifetime
    assert Freshness(**rules).ttl(settling, NOW + 1) == lifetime - 1
    assert Freshness(**rules).is_usable(settling, NOW)


@pytest.mark.parametrize(
    ("of", "is_usable"),
    [
        pytest.param(invalid(entry(40), WRITE, 4), True, id="overwritten-to-fall-back-on"),
        pytest.param(invalid(entry(40), PURGE, 4), True, id="purged"),
        pytest.param(invalid(entry(3601), PURGE, 4), False, id="past-the-hard-bound"),
        pytest.param(invalid(absence(4), PURGE, 1), False, id="an-absence-is-worth-nothing-then"),
        pytest.param(invalid(absence(4), WRITE, 5, is_open=False), True, id="an-absence-read-after-a-write"),
    ],
)
def test_usable_though_invalidated(of: Entry, is_usable: bool):
    assert Freshness(stale_if_error=3600).is_usable(of, NOW) is is_usable


@pytest.mark.parametrize(
    ("of", "why"),
    [
        pytest.param(invalid(READ, WRITE, 4), "write", id="overwritten"),
        pytest.param(invalid(READ, PURGE, 4), "purge", id="purged"),
        pytest.param(invalid(READ, WRITE, 60, is_open=False), "write", id="settling"),
        pytest.param(invalid(swept(READ, 4, is_changed=True), PURGE, 4), "purge", id="purged-and-moved"),
        pytest.param(swept(READ, 4, is_changed=True), "moved", id="moved"),
        pytest.param(absence(4), "missing", id="missing"),
        pytest.param(READ, "factor", id="neither"),
    ],
)
def test_why(of: Entry, why: str):
    assert Freshness().why(of, NOW) == why
