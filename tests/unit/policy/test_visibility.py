from dataclasses import replace

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import decide
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.evidence import GOOD, Cause, Evidence
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import SETTLE_SECONDS, IndexedCampaign, IndexState, ListFlaw, Poll
from campaign_gateway.policy.visibility import LATE_FACTOR, LATE_STEP, LONGEST_REVISION, Visibility
from tests.support.builders import NOW, absence, entry, invalid, stamp

RULES = Freshness(max=600.0, missing=10.0, stale_while_revalidate=60.0, stale_if_error=86_400.0)
LAG = 5.0
STATE = IndexState({Channel.VOICE: Poll(NOW - 2, lasts=7.5)}, blind=300.0, lag=LAG)
BY_LIST = Visibility(12.5, NOW + 5.5)
BY_LIFETIME = Visibility(160.0)
"""A tenth of the time since the change, and the time for which it is served while it is read again."""


def row(of: Stored, since: float = NOW - 500, **members: object) -> IndexedCampaign:
    """The campaign's row, as seen before the entry was read and with its revision."""
    plain = IndexedCampaign(Channel.VOICE, "m", of.revision, since, has_changed=False, status="Ready")
    return replace(plain, **members)  # type: ignore[arg-type]


def seen(
    of: Stored,
    indexed: IndexedCampaign | None,
    state: IndexState = STATE,
    rules: Freshness = RULES,
    evidence: Evidence = GOOD,
) -> Visibility:
    found = decide(of, evidence, NO_DIRECTIVES, rules, NOW, (indexed, state)).visibility
    assert found is not None
    return found


READ = entry(10)
JUST_READ = entry(1)


@pytest.mark.parametrize(
    ("of", "indexed", "state", "expected"),
    [
        pytest.param(READ, row(READ), STATE, BY_LIST, id="validated-by-the-list"),
        pytest.param(JUST_READ, row(JUST_READ), STATE, BY_LIST, id="read-since-the-list-was"),
        pytest.param(READ, None, STATE, BY_LIFETIME, id="not-listed"),
        pytest.param(READ, row(READ, is_listed=False), STATE, BY_LIFETIME, id="not-listed-any-more"),
        pytest.param(READ, row(READ), IndexState(), BY_LIFETIME, id="no-list-was-read"),
        pytest.param(
            READ,
            row(READ),
            replace(STATE, flaws={Channel.VOICE: ListFlaw.UNSORTED}),
            BY_LIFETIME,
            id="a-list-with-a-flaw",
        ),
        pytest.param(
            READ,
            row(READ),
            replace(STATE, flaws={Channel.SMS: ListFlaw.UNSORTED}),
            BY_LIST,
            id="another-channel-s-flaw",
        ),
        pytest.param(READ, row(READ, channel=Channel.SMS), STATE, BY_LIFETIME, id="a-channel-without-a-list"),
        pytest.param(
            READ,
            row(READ),
            replace(STATE, polls={Channel.VOICE: Poll(NOW - 9.5, lasts=7.5)}),
            Visibility(9.5 + LATE_STEP + LAG, NOW + LATE_STEP),
            id="a-late-poll-widens-it-and-no-more",
        ),
        pytest.param(
            READ,
            row(READ),
            replace(STATE, polls={Channel.VOICE: Poll(NOW - 7.5 * LATE_FACTOR, lasts=7.5)}),
            BY_LIFETIME,
            id="polls-have-ceased",
        ),
        pytest.param(
            JUST_READ,
            row(JUST_READ, updated_at=stamp(NOW - 4), since=NOW - 3),
            STATE,
            BY_LIFETIME,
            id="perhaps-read-before-the-row-s-change",
        ),
        pytest.param(
            entry(3),
            row(READ, updated_at=stamp(NOW - 40), since=NOW - 3 - SETTLE_SECONDS),
            STATE,
            BY_LIST,
            id="read-well-after-the-row-s-change",
        ),
        pytest.param(absence(3), None, STATE, Visibility(10.0), id="an-absence-is-never-served-stale"),
        pytest.param(entry(159.9), None, STATE, BY_LIFETIME, id="stale-and-read-again-beside"),
        pytest.param(entry(160.1), None, STATE, Visibility(86_400.0), id="served-for-want-of-a-better-one"),
    ],
)
def test_the_bound(of: Stored, indexed: IndexedCampaign | None, state: IndexState, expected: Visibility) -> None:
    assert seen(of, indexed, state) == expected


@pytest.mark.parametrize(
    ("evidence", "indexed", "expected"),
    [
        pytest.param(invalid(Cause.PURGE, 1), row(READ), BY_LIFETIME, id="purged"),
        pytest.param(GOOD.unverified(NOW - 1), row(READ), BY_LIFETIME, id="unverified"),
        pytest.param(invalid(Cause.WRITE, 1), None, Visibility(86_400.0), id="overwritten"),
    ],
)
def test_the_bound_of_what_is_not_good(
    evidence: Evidence, indexed: IndexedCampaign | None, expected: Visibility
) -> None:
    assert seen(READ, indexed, evidence=evidence) == expected


def test_no_bound_is_beyond_the_hard_one() -> None:
    rules = replace(RULES, stale_if_error=120.0)
    assert [seen(of, None, rules=rules).bound for of in (READ, entry(119), entry(400))] == [120.0] * 3


MOVED = entry(100)


@pytest.mark.parametrize(
    ("revision", "newer"),
    [
        (stamp(NOW - 4), stamp(NOW - 4)),
        ("1770000000000", "1770000000000"),
        (None, None),
        ("2026-02-02 02:39", None),
        ("a\r\nSet-Cookie: b", None),
        ("\x7f", None),
        ("2026-02-02T02:39:56Z\N{EM DASH}", None),
        ("9" * LONGEST_REVISION, "9" * LONGEST_REVISION),
        ("9" * (LONGEST_REVISION + 1), None),
    ],
)
def test_what_is_out_of_date_says_what_is_newer_if_that_can_be_said(revision: str | None, newer: str | None) -> None:
    indexed = row(MOVED, since=NOW - 1, has_changed=True, updated_at=revision)
    assert seen(MOVED, indexed) == replace(BY_LIST, newer=newer)


def test_what_is_newer_is_known_also_where_the_list_is_late() -> None:
    indexed = row(MOVED, since=NOW - 100, has_changed=True, updated_at=stamp(NOW - 104))
    late = replace(STATE, polls={Channel.VOICE: Poll(NOW - 100, lasts=7.5)})
    assert seen(entry(200), indexed, late).newer == stamp(NOW - 104)


def test_what_was_read_since_it_moved_is_not_out_of_date() -> None:
    indexed = row(JUST_READ, since=NOW - 2, has_changed=True)
    assert seen(JUST_READ, indexed).newer is None
