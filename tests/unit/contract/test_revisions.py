from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.contract.revisions import instant, revision_of
from tests.support.builders import NOW, campaign, stamp, without


@pytest.mark.parametrize(
    ("updated_at", "revision"),
    [
        pytest.param("2026-02-03T14:06:48.902Z", "2026-02-03T14:06:48.902Z", id="contract-6-iso"),
        pytest.param("yesterday", "yesterday", id="contract-12.9-not-iso"),
        pytest.param(1_770_127_608_902, "1770127608902", id="contract-12.9-number"),
        pytest.param(1.5, "1.5", id="contract-12.9-fraction"),
        pytest.param(0, "0", id="contract-12.9-zero"),
        pytest.param("", None, id="empty-text-is-none"),
        pytest.param(None, None, id="null"),
        pytest.param(True, None, id="true-is-no-number"),
        pytest.param(["2026-02-03T14:06:48.902Z"], None, id="list"),
        pytest.param({"$date": 1}, None, id="object"),
    ],
)
def test_revision_is_the_text_of_updated_at(updated_at: Any, revision: str | None):
    assert revision_of(campaign(updatedAt=updated_at)) == revision


def test_no_updated_at_is_no_revision():
    # contract-10: a status answer carries none, and `createdAt` does not stand in for it.
    assert revision_of(without(campaign(createdAt="2026-02-03T14:05:11.214Z"), "updatedAt")) is None


def test_one_instant_spelled_twice_is_two_revisions():
    # contract-10: compared for equality only, so nothing is normalised away.
    assert revision_of({"updatedAt": "2026-02-03T14:06:48.900Z"}) != revision_of(
        {"updatedAt": "2026-02-03T14:06:48.9Z"}
    )


@pytest.mark.parametrize(
    ("revision", "seconds"),
    [
        pytest.param("1970-01-01T00:00:00.000Z", 0.0, id="epoch"),
        pytest.param(stamp(NOW), NOW, id="contract-6-milliseconds-and-z"),
        pytest.param("1970-01-01T01:00:00+01:00", 0.0, id="offset"),
        pytest.param("1970-01-01T00:00:01.250Z", 1.25, id="fraction"),
        pytest.param("1969-12-31T23:59:59Z", None, id="before-the-epoch"),
        pytest.param("9999-12-31T23:59:59Z", 253_402_300_799.0, id="the-last-second"),
        pytest.param("9999-12-31T23:59:59-00:01", None, id="after-the-last-year"),
        pytest.param(None, None, id="no-revision"),
        pytest.param("2026-02-03T14:06:48", None, id="no-zone"),
        pytest.param("2026-2-3 9:00:00", None, id="contract-6-unpadded-day"),
        pytest.param("2026-02-03", None, id="date-alone"),
        pytest.param("1770127608902", None, id="contract-12.9-number"),
        pytest.param("2026-02-30T00:00:00Z", None, id="no-such-day"),
        pytest.param("soon", None, id="contract-12.9-not-iso"),
        pytest.param("\ud800", None, id="lone-surrogate"),
        pytest.param("0001-01-01T00:00:00+23:59", None, id="before-the-first-year"),
    ],
)
def test_instant(revision: str | None, seconds: float | None):
    assert instant(revision) == seconds


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_none(revision: str):
    found = instant(revision)
    assert found is None or isinstance(found, float)


@given(st.integers(min_value=0, max_value=250_000_000_000_000))
def test_instant_reads_what_the_platform_writes(milliseconds: int):
    assert instant(stamp(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, abs=0.0011)
