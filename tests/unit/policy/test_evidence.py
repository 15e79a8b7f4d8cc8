from collections.abc import Callable

import pytest

from campaign_gateway.policy.evidence import GOOD, WRITE_SETTLE_SECONDS, Cause, CopyState, Evidence, Invalidation
from tests.support.builders import NOW, entry, invalid

WRITTEN, PURGED, UNVERIFIED = invalid(Cause.WRITE, 9), invalid(Cause.PURGE, 9), GOOD.unverified(NOW - 9)
SETTLING = invalid(Cause.WRITE, 9, is_open=False)

WRITE: Callable[[Evidence], Evidence] = lambda before: before.invalidated(Cause.WRITE, NOW)  # noqa: E731 - a table's row
PURGE: Callable[[Evidence], Evidence] = lambda before: before.invalidated(Cause.PURGE, NOW)  # noqa: E731
GAP: Callable[[Evidence], Evidence] = lambda before: before.unverified(NOW)  # noqa: E731

STATES = {"good": GOOD, "settling": SETTLING, "unverified": UNVERIFIED, "purged": PURGED, "overwritten": WRITTEN}
AFTER = {
    # event   good           settling       unverified     purged         overwritten
    "write": ("overwritten", "overwritten", "overwritten", "overwritten", "overwritten"),
    "purge": ("purged",      "purged",      "purged",      "purged",      "overwritten"),
    "gap":   ("unverified",  "unverified",  "unverified",  "purged",      "overwritten"),
}  # fmt: skip
EVENTS = {"write": WRITE, "purge": PURGE, "gap": GAP}


def said(evidence: Evidence) -> str:
    match evidence.state:
        case CopyState.INVALIDATED:
            return "overwritten" if evidence.is_overwritten else "purged"
        case state:
            assert not evidence.is_overwritten
            return state.value


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_what_becomes_of_each_state(state: str, event: str):
    after = dict(zip(STATES, AFTER[event], strict=True))[state]
    assert said(EVENTS[event](STATES[state])) == after


@pytest.mark.parametrize("evidence", [GOOD, SETTLING], ids=["nothing", "a-write-before-it"])
def test_what_was_read_since_is_good(evidence: Evidence):
    assert evidence.state is CopyState.GOOD


def test_an_invalidation_says_when_it_was():
    assert WRITE(UNVERIFIED) == Evidence(Invalidation(NOW, Cause.WRITE, is_open=True), unverified_since=NOW - 9)


@pytest.mark.parametrize(
    ("before", "written_at", "after"),
    [
        pytest.param(GOOD, 0.0, GOOD, id="no-write"),
        pytest.param(GOOD, NOW - WRITE_SETTLE_SECONDS - 1, GOOD, id="a-write-long-before-it"),
        pytest.param(GOOD, NOW - 9, SETTLING, id="a-write-just-before-it"),
        pytest.param(GOOD, NOW + 3600, GOOD, id="a-write-by-a-clock-that-was-wrong"),
        pytest.param(PURGED, NOW - 4, PURGED, id="invalidated-since"),
        pytest.param(SETTLING, NOW - 4, SETTLING, id="known-already"),
    ],
)
def test_which_answers_may_be_from_before_a_write(before: Evidence, written_at: float, after: Evidence):
    assert before.settling(entry(0), written_at) == after
