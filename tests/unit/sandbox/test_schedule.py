from datetime import UTC, datetime

import pytest

from campaign_gateway.sandbox.answers import RefusedError
from campaign_gateway.sandbox.schedule import Plan, plan

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()  # a Sunday
SPAN = {"startDateTime": "2026-03-02 09:00:00", "endDateTime": "2026-03-27 18:00:00"}


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def starts(made: Plan, count: int) -> list[str]:
    found: list[str] = []
    after = NOW
    while len(found) < count and (start := made.next_start(after)):
        found.append(datetime.fromtimestamp(start, UTC).strftime("%a %d"))
        after = start
    return found


def weekly(weeks, *days, key="weeklyDetails"):
    return {"recurType": "Weekly", key: {"onceEveryNweeks": weeks, "whichDays": list(days)}}


@pytest.mark.parametrize(
    ("recurrence", "expected"),
    [
        (None, ["Mon 02"]),
        (
            {"recurType": "Daily", "dailyDetails": {"onceEveryNdays": 1}},
            ["Mon 02", "Tue 03", "Wed 04", "Thu 05", "Fri 06"],
        ),
        ({"recurType": "Daily", "dailyDetails": {"onceEveryNdays": 10}}, ["Mon 02", "Thu 12", "Sun 22"]),
        (weekly(1, "Mon", "Thu"), ["Mon 02", "Thu 05", "Mon 09", "Thu 12", "Mon 16"]),
        (weekly(2, "Mon", "Thu"), ["Mon 02", "Thu 05", "Mon 16", "Thu 19"]),
        (weekly(1, "Sun", key="dailyDetails"), ["Mon 02", "Sun 08", "Sun 15", "Sun 22"]),
    ],
)
def test_starts(recurrence, expected):
    made = plan(SPAN | ({"recurrenceObject": recurrence} if recurrence else {}), NOW)
    assert starts(made, 5) == expected
    assert made.recurs is bool(recurrence)


def test_an_unpadded_day_is_taken():
    assert plan(SPAN | {"startDateTime": "2026-03-2 09:00:00"}, NOW).start == at("2026-03-02 09:00:00")


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        SPAN | {"startDateTime": "2026-02-28 09:00:00"},
        SPAN | {"endDateTime": "2026-03-02 09:00:00"},
        SPAN | {"endDateTime": "2026-03-27T18:00:00Z"},
        SPAN | {"startDateTime": 5},
        SPAN | {"recurrenceObject": []},
        SPAN | {"recurrenceObject": {"recurType": "Hourly"}},
        SPAN | {"recurrenceObject": {"recurType": "Daily"}},
        SPAN | {"recurrenceObject": {"recurType": "Daily", "dailyDetails": {"onceEveryNdays": 0}}},
        SPAN | {"recurrenceObject": {"recurType": "Weekly", "weeklyDetails": {"onceEveryNweeks": True}}},
        SPAN | {"recurrenceObject": weekly(1)},
        SPAN | {"recurrenceObject": weekly(1, "Monday")},
    ],
)
def test_a_bad_schedule_is_refused(body):
    with pytest.raises(RefusedError) as refusal:
        plan(body, NOW)
    assert refusal.value.status == 412
