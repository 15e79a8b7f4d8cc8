import pytest

from campaign_gateway.sandbox.marks import mark, moment, moved


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1_770_127_511.214, "2026-02-03T14:05:11.214Z"),
        (1_770_127_511.2138, "2026-02-03T14:05:11.214Z"),
        (1_770_127_511.9996, "2026-02-03T14:05:12.000Z"),
    ],
)
def test_a_revision_has_milliseconds_and_z(at, text):
    assert mark(at) == text


def test_a_revision_reads_back():
    assert mark(moment("2026-02-03T14:05:11.214Z")) == "2026-02-03T14:05:11.214Z"


@pytest.mark.parametrize("text", ["2026-02-03", "2026-02-03T00:00:00", "2026-02-03T01:00:00+01:00"])
def test_a_moment_without_a_zone_is_utc(text):
    assert mark(moment(text)) == "2026-02-03T00:00:00.000Z"


def test_two_edits_in_one_millisecond_have_two_revisions():
    first = mark(1.0)
    assert moved(first, 1.0) == "1970-01-01T00:00:01.001Z"
    assert moved(first, 2.0) == "1970-01-01T00:00:02.000Z"
