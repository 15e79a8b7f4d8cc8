from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives, read_directives
from campaign_gateway.policy.entry import Cause, Entry, Swept
from campaign_gateway.policy.freshness import Freshness, age
from campaign_gateway.policy.plan import Forward, Fwd, NotCached, Plan, Reuse, plan
from tests.support.builders import NOW, absence, entry, invalid

RULES = Freshness(stale_while_revalidate=60, stale_if_error=3600, missing=10)
"""Under these the campaigns below, changed 1000 s before their proof, are fresh for 100 s."""

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

WRITTEN, PURGED, LONG_PURGED, NO_MORE, SETTLING = (
    invalid(entry(age=40), Cause.WRITE, 4),
    invalid(entry(age=40), Cause.PURGE, 4),
    invalid(entry(age=140), Cause.PURGE, 61),
    invalid(absence(age=4), Cause.PURGE, 1),
    invalid(entry(age=1), Cause.WRITE, 2, is_open=False),
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


def said(decision: Plan, stored: Entry | None) -> str:
    """The decision in the table's words; the entry in it can only be the stored one."""
    match decision:
        case NotCached():
            return NONE
        case Reuse(found, is_stale, wants_refresh):
            assert found is stored
            assert is_stale == wants_refresh
            return REFRESH if is_stale else HIT
        case Forward(reason, fallback):
            assert fallback is None or fallback is stored
            return f"forward: {reason}" + (" + entry" if fallback else "")


@pytest.mark.parametrize(("stored", "directives", "outcome"), [*cells()])
def test_plan(stored: Entry | None, directives: str, outcome: str):
    assert said(plan(stored, read_directives(directives), NOW, RULES), stored) == outcome


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
    states = {"overwritten": WRITTEN, "purged": PURGED, "long": LONG_PURGED, "absence": NO_MORE, "settling": SETTLING}
    for directives, outcomes in INVALID_TABLE.items():
        for (state, stored), outcome in zip(states.items(), outcomes, strict=True):
            yield pytest.param(stored, directives, outcome, id=f"{state}-{directives or 'no-directives'}")


@pytest.mark.parametrize(("stored", "directives", "outcome"), [*invalid_cells()])
def test_plan_of_what_was_invalidated(stored: Entry, directives: str, outcome: str):
    assert said(plan(stored, read_directives(directives), NOW, RULES), stored) == outcome


@pytest.mark.parametrize(
    ("stored", "since", "outcome"),
    [
        pytest.param(entry(age=40), 39, ASKED_OR, id="read-before-it"),
        pytest.param(entry(age=40), 40, HIT, id="read-at-that-moment"),
        pytest.param(entry(age=40), 41, HIT, id="read-after-it"),
        pytest.param(entry(age=130), 131, REFRESH, id="read-after-it-and-stale"),
        pytest.param(absence(age=4), 3, ASKED_OR, id="an-absence-from-before-it"),
        pytest.param(
            replace(entry(age=40), swept=Swept(NOW - 10, lasts=30, blind=300)),
            11,
            HIT,
            id="a-poll-that-began-after-it",
        ),
        pytest.param(
            replace(entry(age=40), swept=Swept(NOW - 10, lasts=30, blind=300)), 9, ASKED_OR, id="a-poll-before-it"
        ),
        pytest.param(WRITTEN, 41, STALE_OR, id="read-after-it-and-overwritten-since"),
        pytest.param(None, 1, MISS, id="nothing"),
    ],
)
def test_a_proof_newer_than_a_write_is_asked_for(stored: Entry | None, since: float, outcome: str):
    assert said(plan(stored, RequestDirectives(newer_than=NOW - since), NOW, RULES), stored) == outcome


def test_only_if_cached_takes_no_proof_from_before_a_write():
    directives = RequestDirectives(newer_than=NOW - 39, only_if_cached=True)
    assert plan(entry(age=40), directives, NOW, RULES) == NotCached()


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
    decision = plan(stored, read_directives(directives), NOW, RULES)
    assert isinstance(decision, Forward)
    assert decision.fallback is stored


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
        pytest.param(-30, "", HIT, id="proven-by-a-clock-ahead"),
        pytest.param(-30, "max-age=0", HIT, id="proven-by-a-clock-ahead-has-age-0"),
    ],
)
def test_boundary(past: float, directives: str, outcome: str):
    stored = entry(past)
    assert said(plan(stored, read_directives(directives), NOW, RULES), stored) == outcome


def test_no_swr_window_means_nothing_stale_unasked():
    stored = entry(age=101)
    assert said(plan(stored, NO_DIRECTIVES, NOW, replace(RULES, stale_while_revalidate=0)), stored) == STALE_OR


def test_the_swr_window_ends_at_the_hard_bound():
    stored = entry(age=120)
    rules = replace(RULES, stale_while_revalidate=1e6, stale_if_error=110)
    assert said(plan(stored, read_directives("max-stale"), NOW, rules), stored) == STALE


SECONDS = st.none() | st.floats(0, 5000)
WISHES = st.builds(
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


@given(STORED, WISHES, ANY_RULES)
def test_nothing_past_the_hard_bound_is_ever_served_or_kept_to_serve(
    stored: Entry | None, directives: RequestDirectives, rules: Freshness
):
    match plan(stored, directives, NOW, rules):
        case Reuse(found) | Forward(_, Entry() as found):
            assert found is stored
            assert age(found, NOW) <= rules.stale_if_error
            assert found.absence is None or age(found, NOW) <= rules.missing
        case Forward() | NotCached():
            pass


@given(STORED, WISHES, ANY_RULES)
def test_every_plan_keeps_its_word(stored: Entry | None, directives: RequestDirectives, rules: Freshness):
    match plan(stored, directives, NOW, rules):
        case Reuse(found, is_stale):
            # Calling an entry fresh is allowed only within its lifetime; a wish for newer proof is never passed over.
            assert is_stale == (age(found, NOW) >= rules.lifetime(found))
            assert not directives.no_cache
            assert directives.max_age is None or age(found, NOW) <= directives.max_age
            assert directives.min_fresh is None or rules.lifetime(found) - age(found, NOW) >= directives.min_fresh
        case Forward(reason):
            assert not directives.only_if_cached
            assert (reason is Fwd.URI_MISS) == (stored is None)
        case NotCached():
            assert directives.only_if_cached
