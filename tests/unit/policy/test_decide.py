from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import Choice, Decision, Detail, Fwd, decide
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives, read_directives
from campaign_gateway.policy.evidence import GOOD, Cause, Evidence, Validation
from campaign_gateway.policy.freshness import Freshness, Lifetime
from campaign_gateway.policy.stored import Stored, is_from_the_future
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.policy.visibility import Visibility
from tests.support.builders import NOW, absence, entry, invalid

RULES = Freshness(stale_while_revalidate=60, stale_if_error=3600, missing=10)
"""Under these the campaigns below, changed 1000 s before their read, are fresh for 100 s."""

# Outcomes. `+` names the entry that may be served when asking fails.
MISS = "forward: uri-miss"
STALE = "forward: stale"
STALE_OR = "forward: stale + entry"
ASKED_OR = "forward: request + entry"
HIT = "reuse"
REFRESH = "reuse: stale, refresh"
NONE = "not cached"

STATES = {
    "nothing": None,
    "fresh": entry(age=40),
    "stale-in-the-swr-window": entry(age=130),
    "stale-beyond-it": entry(age=200),
    "past-the-hard-bound": entry(age=3601),
    "absence-fresh": absence(age=4),
    "absence-old": absence(age=11),
}

WRITTEN, PURGED, LONG_PURGED, NO_LONGER, SETTLING = (
    (entry(age=40), invalid(Cause.WRITE, 4)),
    (entry(age=40), invalid(Cause.PURGE, 4)),
    (entry(age=140), invalid(Cause.PURGE, 61)),
    (absence(age=4), invalid(Cause.PURGE, 1)),
    (entry(age=1), invalid(Cause.WRITE, 2, is_open=False)),
)

TABLE = {
    # directives                       nothing  fresh     in window  beyond     past   absence   old
    "":                           (MISS, HIT,      REFRESH,  STALE_OR, STALE, HIT,      STALE),
    "no-cache":                   (MISS, ASKED_OR, ASKED_OR, ASKED_OR, STALE, ASKED_OR, STALE),
    "max-age=3":                  (MISS, ASKED_OR, ASKED_OR, ASKED_OR, STALE, ASKED_OR, STALE),
    "max-age=60, max-stale":      (MISS, HIT,      ASKED_OR, ASKED_OR, STALE, HIT,      STALE),
    "max-age=1000, max-stale":    (MISS, HIT,      REFRESH,  REFRESH,  STALE, HIT,      STALE),
    "min-fresh=5":                (MISS, HIT,      ASKED_OR, ASKED_OR, STALE, HIT,      STALE),
    "min-fresh=80":               (MISS, ASKED_OR, ASKED_OR, ASKED_OR, STALE, ASKED_OR, STALE),
    "max-stale":                  (MISS, HIT,      REFRESH,  REFRESH,  STALE, HIT,      STALE),
    "max-stale=50":               (MISS, HIT,      REFRESH,  STALE_OR, STALE, HIT,      STALE),
    "max-stale=100":              (MISS, HIT,      REFRESH,  REFRESH,  STALE, HIT,      STALE),
    "only-if-cached":             (NONE, HIT,      REFRESH,  NONE,     NONE,  HIT,      NONE),
    "only-if-cached, max-stale":  (NONE, HIT,      REFRESH,  REFRESH,  NONE,  HIT,      NONE),
    "only-if-cached, max-age=3":  (NONE, NONE,     NONE,     NONE,     NONE,  NONE,     NONE),
    "only-if-cached, no-cache":   (NONE, NONE,     NONE,     NONE,     NONE,  NONE,     NONE),
    "only-if-cached, min-fresh=80": (NONE, NONE,   NONE,     NONE,     NONE,  NONE,     NONE),
}  # fmt: skip


def cells() -> Iterator[Any]:
    for directives, outcomes in TABLE.items():
        for state, outcome in zip(STATES, outcomes, strict=True):
            yield pytest.param(STATES[state], directives, outcome, id=f"{state}-{directives or 'no-directives'}")


def said(decision: Decision, stored: Stored | None) -> str:
    """The decision in the table's words; the answer in it can only be the stored one."""
    assert decision.stored is stored
    match decision.choice:
        case Choice.NOT_CACHED:
            return NONE
        case Choice.FRESH:
            return HIT
        case Choice.STALE:
            return REFRESH
        case Choice.FORWARD:
            return f"forward: {decision.fwd}" + (" + entry" if decision.fallback else "")


def decided(
    stored: Stored | None, directives: RequestDirectives, rules: Freshness = RULES, evidence: Evidence = GOOD
) -> str:
    return said(decide(stored, evidence, directives, rules, NOW), stored)


@pytest.mark.parametrize(("stored", "directives", "outcome"), [*cells()])
def test_what_is_done(stored: Stored | None, directives: str, outcome: str):
    assert decided(stored, read_directives(directives)) == outcome


POLLED = Evidence(validation=Validation(NOW - 10, lasts=30, blind=300))

INVALID_TABLE = {
    # directives                       overwritten purged    long ago  absence settling
    "":                           (STALE_OR, REFRESH,  STALE_OR, STALE, HIT),
    "no-cache":                   (STALE_OR, ASKED_OR, ASKED_OR, STALE, ASKED_OR),
    "max-age=1000":               (STALE_OR, STALE_OR, STALE_OR, STALE, HIT),
    "max-age=1000, max-stale":    (STALE_OR, REFRESH,  REFRESH,  STALE, HIT),
    "max-stale":                  (STALE_OR, REFRESH,  REFRESH,  STALE, HIT),
    "max-stale=3":                (STALE_OR, STALE_OR, STALE_OR, STALE, HIT),
    "min-fresh=5":                (STALE_OR, ASKED_OR, ASKED_OR, STALE, ASKED_OR),
    "only-if-cached":             (NONE,     REFRESH,  NONE,     NONE,  HIT),
    "only-if-cached, max-stale":  (NONE,     REFRESH,  REFRESH,  NONE,  HIT),
}  # fmt: skip


def invalid_cells() -> Iterator[Any]:
    states = {"overwritten": WRITTEN, "purged": PURGED, "long": LONG_PURGED, "absence": NO_LONGER, "settling": SETTLING}
    for directives, outcomes in INVALID_TABLE.items():
        for (state, (stored, evidence)), outcome in zip(states.items(), outcomes, strict=True):
            yield pytest.param(stored, evidence, directives, outcome, id=f"{state}-{directives or 'no-directives'}")


@pytest.mark.parametrize(("stored", "evidence", "directives", "outcome"), [*invalid_cells()])
def test_what_is_done_with_what_was_invalidated(stored: Stored, evidence: Evidence, directives: str, outcome: str):
    assert decided(stored, read_directives(directives), evidence=evidence) == outcome


@pytest.mark.parametrize(
    ("stored", "evidence", "since", "outcome"),
    [
        pytest.param(entry(age=40), GOOD, 39, ASKED_OR, id="read-before-it"),
        pytest.param(entry(age=40), GOOD, 40, HIT, id="read-at-that-moment"),
        pytest.param(entry(age=40), GOOD, 41, HIT, id="read-after-it"),
        pytest.param(entry(age=130), GOOD, 131, REFRESH, id="read-after-it-and-stale"),
        pytest.param(absence(age=4), GOOD, 3, ASKED_OR, id="an-absence-from-before-it"),
        pytest.param(entry(age=40), POLLED, 11, HIT, id="a-poll-that-began-after-it"),
        pytest.param(entry(age=40), POLLED, 9, ASKED_OR, id="a-poll-before-it"),
        pytest.param(*WRITTEN, 41, STALE_OR, id="read-after-it-and-overwritten-since"),
        pytest.param(None, GOOD, 1, MISS, id="nothing"),
    ],
)
def test_an_answer_newer_than_a_write_is_asked_for(
    stored: Stored | None, evidence: Evidence, since: float, outcome: str
):
    assert decided(stored, RequestDirectives(newer_than=NOW - since), evidence=evidence) == outcome


def test_only_if_cached_takes_no_answer_from_before_a_write():
    directives = RequestDirectives(newer_than=NOW - 39, only_if_cached=True)
    assert decided(entry(age=40), directives) == NONE


@pytest.mark.parametrize(
    "directives",
    [
        pytest.param("max-age=1000", id="rfc9111-5.2.1.1-max-age-without-max-stale-wants-nothing-stale"),
        pytest.param("max-stale=20", id="rfc9111-5.2.1.2-max-stale-exceeded"),
        pytest.param("max-stale=0", id="rfc9111-5.2.1.2-max-stale-0"),
    ],
)
def test_a_caller_s_limit_on_staleness_holds_in_the_swr_window(directives: str):
    # Stale by 30 s, which a caller without directives is given while a refresh runs.
    stored = STATES["stale-in-the-swr-window"]
    assert decided(stored, read_directives(directives)) == STALE_OR


@pytest.mark.parametrize(
    ("past", "directives", "outcome"),
    [
        pytest.param(99.5, "", HIT, id="rfc9111-4.2-just-fresh"),
        pytest.param(100, "", REFRESH, id="rfc9111-4.2-as-old-as-its-lifetime-is-stale"),
        pytest.param(160, "", REFRESH, id="rfc5861-3-end-of-the-swr-window"),
        pytest.param(160.5, "", STALE_OR, id="rfc5861-3-after-the-swr-window"),
        pytest.param(3600, "", STALE_OR, id="at-the-hard-bound"),
        pytest.param(3600.5, "", STALE, id="after-the-hard-bound"),
        pytest.param(40, "max-age=40", HIT, id="rfc9111-5.2.1.1-as-old-as-allowed"),
        pytest.param(40, "max-age=39", ASKED_OR, id="rfc9111-5.2.1.1-older"),
        pytest.param(40, "min-fresh=60", HIT, id="rfc9111-5.2.1.3-as-fresh-as-asked"),
        pytest.param(40, "min-fresh=61", ASKED_OR, id="rfc9111-5.2.1.3-less-fresh"),
        pytest.param(200, "max-stale=99", STALE_OR, id="rfc9111-5.2.1.2-staler-than-allowed"),
        pytest.param(-1, "", HIT, id="validated-by-a-clock-that-may-be-ahead"),
        pytest.param(-1, "max-age=0", HIT, id="validated-by-a-clock-that-may-be-ahead-has-age-0"),
    ],
)
def test_boundary(past: float, directives: str, outcome: str):
    stored = entry(past)
    assert decided(stored, read_directives(directives)) == outcome


@pytest.mark.drill("evidence from the future")
@pytest.mark.parametrize("past", [-1.25, -3600, -1e300, float("-inf")])
@pytest.mark.parametrize("directives", ["", "max-stale", "only-if-cached, max-stale"])
def test_an_answer_from_the_future_is_none(past: float, directives: str):
    asked = read_directives(directives)
    assert decide(replace(entry(0), validated_at=NOW - past), GOOD, asked, RULES, NOW) == decide(
        None, GOOD, asked, RULES, NOW
    )


def test_no_swr_window_means_nothing_stale_unasked():
    stored = entry(age=101)
    assert decided(stored, NO_DIRECTIVES, replace(RULES, stale_while_revalidate=0)) == STALE_OR


def test_the_swr_window_ends_at_the_hard_bound():
    stored = entry(age=120)
    rules = replace(RULES, stale_while_revalidate=1e6, stale_if_error=110)
    assert decided(stored, read_directives("max-stale"), rules) == STALE


def age_of(stored: Stored) -> float:
    return max(0.0, NOW - stored.validated_at)


SECONDS = st.none() | st.floats(0, 5000)
DIRECTIVES = st.builds(
    RequestDirectives,
    st.booleans(),
    max_age=SECONDS,
    min_fresh=SECONDS,
    max_stale=SECONDS | st.just(float("inf")),
    only_if_cached=st.booleans(),
)
STORED = st.none() | st.floats(-100, 5000).map(entry) | st.floats(-100, 50).map(absence)
ANY_RULES = st.builds(
    Freshness,
    min=st.floats(0, 1000),
    max=st.floats(0, 5000),
    missing=st.floats(0, 5000),
    stale_while_revalidate=st.floats(0, 5000),
    stale_if_error=st.floats(0, 5000),
)


@given(STORED, DIRECTIVES, ANY_RULES)
def test_nothing_past_the_hard_bound_is_ever_served_or_kept_to_serve(
    stored: Stored | None, directives: RequestDirectives, rules: Freshness
):
    decision = decide(stored, GOOD, directives, rules, NOW)
    if stored is not None and (decision.fallback is not None or decision.choice in {Choice.FRESH, Choice.STALE}):
        assert age_of(stored) <= rules.stale_if_error
        assert stored.absence is None or age_of(stored) <= rules.missing


@given(STORED, DIRECTIVES, ANY_RULES)
def test_every_decision_keeps_its_word(stored: Stored | None, directives: RequestDirectives, rules: Freshness):
    decision = decide(stored, GOOD, directives, rules, NOW)
    match decision.choice:
        case Choice.FRESH | Choice.STALE as choice:
            assert stored is not None
            left = rules.lifetime(stored).seconds - age_of(stored)
            # Calling an answer fresh is allowed only within its lifetime; who asks for a newer one is never passed over.
            assert (choice is Choice.STALE) == (left <= 0)
            assert not directives.no_cache
            assert directives.max_age is None or age_of(stored) <= directives.max_age
            assert directives.min_fresh is None or left >= directives.min_fresh
        case Choice.FORWARD:
            assert not directives.only_if_cached
            assert (decision.fwd is Fwd.URI_MISS) == (stored is None or is_from_the_future(stored.validated_at, NOW))
        case Choice.NOT_CACHED:
            assert directives.only_if_cached


# What is said of the answer. Beside the moments that the tables of `test_freshness` hold.

CHANGED, UNVERIFIED = Evidence(superseded_since=NOW - 4), GOOD.unverified(NOW - 4)


@pytest.mark.parametrize(
    ("stored", "evidence", "age", "ttl", "detail"),
    [
        pytest.param(entry(40), GOOD, 40.0, Lifetime(60.0, "factor"), None, id="by-its-read"),
        pytest.param(entry(40), POLLED, 10.0, Lifetime(20.0, "sweep"), Detail.SWEEP, id="by-a-poll"),
        pytest.param(
            entry(40),
            Evidence(validation=Validation(NOW - 60, lasts=30, blind=300)),
            *(40.0, Lifetime(60.0, "factor"), None),
            id="read-since-the-poll",
        ),
        pytest.param(
            entry(130), GOOD, 130.0, Lifetime(-30.0, "factor"), Detail.STALE_WHILE_REVALIDATE, id="stale-in-the-window"
        ),
        pytest.param(entry(200), GOOD, 200.0, Lifetime(-100.0, "factor"), None, id="stale-beyond-it"),
        pytest.param(absence(4), GOOD, 4.0, Lifetime(6.0, "missing"), Detail.MISSING, id="an-absence"),
        pytest.param(
            entry(40), CHANGED, 40.0, Lifetime(-4.0, "changed"), Detail.STALE_WHILE_REVALIDATE, id="changed-since"
        ),
        pytest.param(
            entry(40), UNVERIFIED, 40.0, Lifetime(-4.0, "unverified"), Detail.STALE_WHILE_REVALIDATE, id="unverified"
        ),
        pytest.param(*WRITTEN, 40.0, Lifetime(-4.0, "write"), Detail.BEFORE_WRITE, id="overwritten"),
        pytest.param(*PURGED, 40.0, Lifetime(-4.0, "purge"), Detail.STALE_WHILE_REVALIDATE, id="purged"),
        pytest.param(*SETTLING, 1.0, Lifetime(4.0, "write"), None, id="settling"),
        pytest.param(entry(-1), GOOD, 0.0, Lifetime(100.0, "factor"), None, id="read-by-a-clock-ahead"),
    ],
)
def test_what_is_said_of_an_answer(
    stored: Stored, evidence: Evidence, age: float, ttl: Lifetime, detail: Detail | None
):
    decision = decide(stored, evidence, NO_DIRECTIVES, RULES, NOW)
    assert (decision.age, decision.ttl, decision.detail) == (age, ttl, detail)
    assert decision.until == NOW + ttl.seconds


def test_an_answer_from_before_a_write_that_the_caller_knows_of_is_said_to_be_that():
    directives = RequestDirectives(newer_than=NOW - 39)
    assert decide(absence(40), GOOD, directives, RULES, NOW).detail is Detail.BEFORE_WRITE
    assert decide(absence(38), GOOD, directives, RULES, NOW).detail is Detail.MISSING


def test_the_list_has_its_say_and_tells_how_soon_changes_are_seen():
    stored = entry(40)
    row = IndexedCampaign(Channel.VOICE, "m", stored.revision, NOW - 500, has_changed=False, status="Ready")
    state = IndexState({Channel.VOICE: Poll(NOW - 10, lasts=30.0)}, blind=300.0)
    decision = decide(stored, GOOD, NO_DIRECTIVES, RULES, NOW, (row, state))
    assert (decision.age, decision.ttl, decision.detail) == (10.0, Lifetime(20.0, "sweep"), Detail.SWEEP)
    assert decision.visibility == Visibility(30.0, NOW + 20.0)
    # A poll that is late says something else of the bound each second.
    late = replace(state, polls={Channel.VOICE: Poll(NOW - 31, lasts=30.0)})
    decision = decide(entry(0), GOOD, NO_DIRECTIVES, RULES, NOW, (replace(row, updated_at=entry(0).revision), late))
    assert decision.visibility is not None
    assert (decision.choice, decision.until) == (Choice.FRESH, decision.visibility.until)
    assert decision.until < NOW + decision.ttl.seconds
    decision = decide(stored, GOOD, NO_DIRECTIVES, RULES, NOW, (replace(row, since=NOW - 4, updated_at="x"), state))
    assert (decision.choice, decision.ttl) == (Choice.STALE, Lifetime(-4.0, "changed"))
    assert decide(stored, GOOD, NO_DIRECTIVES, RULES, NOW, (None, state)).ttl == Lifetime(60.0, "factor")
