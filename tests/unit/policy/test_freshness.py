from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.evidence import GOOD, Cause, Evidence, Validation
from campaign_gateway.policy.freshness import Freshness, StatusRule
from campaign_gateway.policy.stored import Stored
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
    entry, st.floats(-1e8, 1e8), revision=REVISIONS, campaign_status=st.sampled_from(["Active", "Ready", "Rerun", None])
)


def changed(seconds_before: float, status: str | None = "Ready") -> Stored:
    """A campaign that was changed so long before it was read."""
    return entry(revision=stamp(NOW - seconds_before), campaign_status=status)


def by_clock(ahead: float, of: Stored) -> Stored:
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
        pytest.param({}, entry(revision=None), 30.0, id="revision-missing-default"),
        pytest.param({}, entry(revision="soon"), 30.0, id="revision-unreadable-default"),
        pytest.param({}, entry(revision="2026-02-02T02:40:00"), 30.0, id="revision-without-zone-default"),
        pytest.param({}, entry(revision="1770000000000"), 30.0, id="revision-a-number-default"),
        pytest.param({}, changed(-1), 30.0, id="revision-in-the-future-default"),
        pytest.param({}, changed(-0.001), 30.0, id="revision-a-millisecond-ahead-default"),
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
def test_lifetime(rules: dict[str, Any], of: Stored, lifetime: float):
    assert Freshness(**rules).lifetime(of).seconds == pytest.approx(lifetime)


def test_lifetime_counts_from_the_change_to_the_validation_not_to_now():
    # A renewed validation is a longer trust; time that only passes is not.
    unchanged = stamp(NOW - 2000)
    early, late = entry(age=1000, revision=unchanged), entry(age=0, revision=unchanged)
    assert Freshness().lifetime(early).seconds == pytest.approx(100)
    assert Freshness().lifetime(late).seconds == pytest.approx(200)


def test_the_defaults_are_the_documented_ones():
    told = Freshness()
    assert (told.factor, told.min, told.max, told.default, told.missing) == (0.1, 5, 600, 30, 10)
    assert (told.stale_while_revalidate, told.stale_if_error) == (60, 24 * 3600)


@given(RULES, ENTRIES)
def test_lifetime_is_never_negative_and_never_past_the_hard_bound(rules: Freshness, of: Stored):
    assert 0 <= rules.lifetime(of).seconds <= rules.stale_if_error


@given(RULES, ENTRIES)
def test_a_fresh_entry_is_usable(rules: Freshness, of: Stored):
    if NOW - of.validated_at < rules.lifetime(of).seconds:
        assert rules.is_usable(of, GOOD, NOW)


@pytest.mark.parametrize(
    ("of", "is_usable"),
    [
        pytest.param(entry(0), True, id="new"),
        pytest.param(entry(3600), True, id="at-the-hard-bound"),
        pytest.param(entry(3600.01), False, id="past-the-hard-bound"),
        pytest.param(entry(-50), True, id="validated-by-a-clock-ahead"),
        pytest.param(absence(9.9), True, id="absence-fresh"),
        pytest.param(absence(10.1), False, id="absence-past-its-lifetime"),
        pytest.param(absence(3601), False, id="absence-past-the-hard-bound"),
    ],
)
def test_usable(of: Stored, is_usable: bool):
    assert Freshness(stale_if_error=3600).is_usable(of, GOOD, NOW) is is_usable


@pytest.mark.parametrize("missing", [10.0, 0.0])
def test_an_absence_is_of_no_use_once_it_is_not_fresh(missing: float):
    # rfc9111-4.2: fresh while the lifetime is greater than the age, so not at equality.
    assert not Freshness(missing=missing).is_usable(absence(missing), GOOD, NOW)


@pytest.mark.parametrize(
    ("rules", "of", "bound"),
    [
        pytest.param({}, entry(), 86_400.0, id="campaign"),
        pytest.param({"stale_if_error": 60}, entry(), 60.0, id="campaign-shorter"),
        pytest.param({}, absence(), 10.0, id="absence"),
        pytest.param({"stale_if_error": 4}, absence(), 4.0, id="absence-within-the-hard-bound"),
    ],
)
def test_bound(rules: dict[str, Any], of: Stored, bound: float):
    assert Freshness(**rules).bound(of) == bound


def ttl_of(of: Stored, evidence: Evidence, now: float = NOW, rules: Freshness | None = None) -> float:
    rules = rules or Freshness()
    return rules.remaining(of, evidence, rules.lifetime(of, evidence), now).seconds


def polled(ago: float, lasts: float, blind: float) -> Evidence:
    """That of a poll of the list, begun that long before the present."""
    return Evidence(validation=Validation(NOW - ago, lasts, blind))


def changed_since(ago: float) -> Evidence:
    return Evidence(superseded_since=NOW - ago)


READ = entry(50, revision=stamp(NOW - 1050))
"""Fresh for 100 s by its read, of which 50 are left."""


@pytest.mark.parametrize(
    ("of", "evidence", "ttl"),
    [
        pytest.param(entry(50, revision=stamp(NOW - 1050)), GOOD, 50.0, id="no-poll"),
        pytest.param(entry(150, revision=stamp(NOW - 1150)), GOOD, -50.0, id="no-poll-stale"),
        pytest.param(entry(-50, revision=stamp(NOW - 950)), GOOD, 100.0, id="validated-by-a-clock-ahead"),
        pytest.param(READ, polled(4, 10, 1000), 6.0, id="validated-by-a-poll"),
        pytest.param(READ, polled(4, 100, 1000), 96.0, id="longer-than-by-the-read"),
        pytest.param(entry(5000, revision=stamp(NOW - 5001)), polled(4, 10, 9000), 6.0, id="its-read-stale-long-ago"),
        pytest.param(READ, polled(4, 100, 60), 10.0, id="no-longer-than-the-blind-bound"),
        pytest.param(READ, polled(10, 10, 1000), 50.0, id="run-out-the-read-counts-again"),
        pytest.param(READ, polled(4, 10, 50), 50.0, id="blind-bound-reached-the-read-counts-again"),
        pytest.param(
            entry(150, revision=stamp(NOW - 1150)), polled(12, 10, 1000), -50.0, id="run-out-and-the-read-too"
        ),
        pytest.param(replace(READ, campaign_status="Active"), polled(4, 100, 1000), 11.0, id="within-the-status-max"),
        pytest.param(READ, polled(4, 5000, 9000), 596.0, id="within-the-general-max"),
        pytest.param(READ, changed_since(4), -4.0, id="moved"),
        pytest.param(entry(150, revision=stamp(NOW - 1150)), changed_since(4), -50.0, id="moved-and-stale-before"),
        pytest.param(READ, changed_since(0), 0.0, id="moved-now-is-not-fresh"),
        pytest.param(absence(5), changed_since(4), -4.0, id="an-absence-that-has-changed"),
    ],
)
def test_ttl(of: Stored, evidence: Evidence, ttl: float):
    rules = Freshness(status={"Active": StatusRule(max=15)})
    assert ttl_of(of, evidence, rules=rules) == pytest.approx(ttl)


@pytest.mark.parametrize(("unread", "is_usable"), [(3600, True), (3601, False)])
def test_polls_do_not_move_the_hard_bound(unread: float, is_usable: bool):
    assert Freshness(stale_if_error=3600).is_usable(entry(unread), polled(1, 100, 9000), NOW) is is_usable


MOMENTS = st.floats(-1e6, 1e6).map(lambda ago: NOW - ago)
WORDS = st.builds(Validation, MOMENTS, st.floats(0, 1e5), st.floats(0, 1e6))


@given(RULES, ENTRIES, WORDS)
def test_no_word_of_the_list_makes_an_answer_fresh_past_poll_and_read(rules: Freshness, of: Stored, word: Validation):
    ttl, by_id = (ttl_of(of, evidence, rules=rules) for evidence in (Evidence(validation=word), GOOD))
    by_list = min(word.at + word.lasts, of.validated_at + word.blind) - NOW
    assert ttl <= max(by_list, by_id) + 1e-6
    assert ttl >= by_id or ttl > 0


@given(RULES, ENTRIES, MOMENTS, st.booleans())
def test_what_speaks_against_an_answer_only_shortens_its_time(
    rules: Freshness, of: Stored, since: float, is_changed: bool
):
    against = Evidence(superseded_since=since) if is_changed else GOOD.unverified(since)
    ttl = ttl_of(of, against, rules=rules)
    assert ttl <= ttl_of(of, GOOD, rules=rules)
    assert ttl <= since - NOW


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
        pytest.param(absence(5), 4, -4.0, id="an-absence"),
    ],
)
def test_an_invalidated_entry_has_been_stale_since(of: Stored, by: Cause, ago: float, ttl: float):
    assert ttl_of(of, invalid(by, ago)) == pytest.approx(ttl)
    assert ttl_of(of, replace(invalid(by, ago), validation=Validation(NOW - 1, 10, 1000))) == pytest.approx(ttl)


@pytest.mark.parametrize(
    ("rules", "of", "lifetime"),
    [
        pytest.param({}, changed(10**6), 5.0, id="min"),
        pytest.param({}, entry(revision=None), 5.0, id="min-and-not-the-default"),
        pytest.param({"status": {"Ready": StatusRule(min=20)}}, changed(10**6), 20.0, id="the-status-s-min"),
        pytest.param({"status": {"Ready": StatusRule(max=2)}}, changed(10**6), 2.0, id="within-the-status-s-max"),
        pytest.param({"stale_if_error": 1}, changed(10**6), 1.0, id="within-the-hard-bound"),
        pytest.param({}, absence(), 5.0, id="an-absence-too"),
        pytest.param({"missing": 2}, absence(), 2.0, id="an-absence-within-its-own"),
    ],
)
def test_what_was_read_soon_after_a_write_is_trusted_for_the_shortest_time(
    rules: dict[str, Any], of: Stored, lifetime: float
):
    settling = invalid(WRITE, 3, is_open=False)
    assert Freshness(**rules).lifetime(of, settling).seconds == lifetime
    assert ttl_of(of, settling, NOW + 1, Freshness(**rules)) == lifetime - 1
    assert Freshness(**rules).is_usable(of, settling, NOW)


@pytest.mark.parametrize(
    ("of", "evidence", "is_usable"),
    [
        pytest.param(entry(40), invalid(WRITE, 4), True, id="overwritten-to-fall-back-on"),
        pytest.param(entry(40), invalid(PURGE, 4), True, id="purged"),
        pytest.param(entry(3601), invalid(PURGE, 4), False, id="past-the-hard-bound"),
        pytest.param(absence(4), invalid(PURGE, 1), False, id="an-absence-is-worth-nothing-then"),
        pytest.param(absence(4), invalid(WRITE, 5, is_open=False), True, id="an-absence-read-after-a-write"),
        pytest.param(absence(6), invalid(WRITE, 7, is_open=False), False, id="an-absence-that-a-write-may-have-ended"),
        pytest.param(entry(40), changed_since(4), True, id="changed-since-to-fall-back-on"),
        pytest.param(absence(5), changed_since(4), False, id="an-absence-that-the-list-has-ended"),
    ],
)
def test_usable_though_invalidated(of: Stored, evidence: Evidence, is_usable: bool):
    assert Freshness(stale_if_error=3600).is_usable(of, evidence, NOW) is is_usable


@pytest.mark.parametrize(
    ("of", "evidence", "why"),
    [
        pytest.param(READ, GOOD, "factor", id="nothing-else"),
        pytest.param(changed(20), GOOD, "min", id="below-min"),
        pytest.param(changed(10**9), GOOD, "max", id="above-max"),
        pytest.param(changed(10**9, "Active"), GOOD, "status.Active.max", id="above-its-status-s-max"),
        pytest.param(changed(1000, "Active"), GOOD, "status.Active.max", id="at-its-status-s-max"),
        pytest.param(changed(80, "Active"), GOOD, "factor", id="between-the-clamps"),
        pytest.param(entry(revision=None), GOOD, "default", id="no-time-of-change"),
        pytest.param(absence(4), GOOD, "missing", id="missing"),
        pytest.param(READ, polled(4, 10, 1000), "sweep", id="polled"),
        pytest.param(READ, polled(10, 10, 1000), "factor", id="polled-too-long-ago"),
        pytest.param(READ, changed_since(4), "changed", id="changed"),
        pytest.param(READ, GOOD.unverified(NOW - 4), "unverified", id="unverified"),
        pytest.param(READ, invalid(WRITE, 4), "write", id="overwritten"),
        pytest.param(READ, invalid(PURGE, 4), "purge", id="purged"),
        pytest.param(READ, invalid(PURGE, 4).unverified(NOW - 4), "purge", id="purged-and-unverified"),
        pytest.param(READ, invalid(WRITE, 60, is_open=False), "write", id="settling"),
    ],
)
def test_why(of: Stored, evidence: Evidence, why: str):
    rules = Freshness(status={"Active": StatusRule(max=15)})
    assert rules.remaining(of, evidence, rules.lifetime(of, evidence), NOW).why == why
