"""Schedules: what `schedule` bodies say, and when the next start is."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from campaign_gateway.sandbox.answers import invalid

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Plan:
    """When a campaign starts by itself.

    Attributes:
        start: First start, seconds since the epoch.
        end: No start at or after this moment.
        every_days: A start each so many days; 0 without a daily recurrence.
        every_weeks: Weeks between two weeks with starts; 0 without a weekly recurrence.
        days: Weekday numbers (Monday is 0) of a weekly recurrence.
    """

    start: float
    end: float
    every_days: int = 0
    every_weeks: int = 0
    days: frozenset[int] = frozenset()

    @property
    def recurs(self) -> bool:
        """More than one start may follow from this plan."""
        return bool(self.every_days or self.every_weeks)

    def next_start(self, after: float) -> float | None:
        """The first start later than a moment, in seconds since the epoch; None when there is none left."""
        if self.start > after:
            return self.start
        if not self.recurs:
            return None
        first = datetime.fromtimestamp(self.start, UTC)
        gone = int((after - self.start) // timedelta(days=1).total_seconds())
        # A weekly plan has a start at least once in its span of weeks, a daily one in its span of days.
        for days in range(gone, gone + 1 + max(self.every_days, 7 * (self.every_weeks + 1))):
            candidate = first + timedelta(days=days)
            if candidate.timestamp() > after and self._falls_on(first, candidate, days):
                return candidate.timestamp() if candidate.timestamp() < self.end else None
        return None

    def _falls_on(self, first: datetime, candidate: datetime, days: int) -> bool:
        if self.every_days:
            return days % self.every_days == 0
        weeks = (days + first.weekday()) // 7
        return weeks % self.every_weeks == 0 and candidate.weekday() in self.days


def plan(body: Any, now: float) -> Plan:
    """The plan a request body describes; times carry no zone in the API and are read as UTC.

    Raises:
        RefusedError: 412, the body does not describe a schedule that lies ahead.
    """
    if not isinstance(body, dict):
        raise invalid("the body must be an object")
    start, end = (_time(body, key) for key in ("startDateTime", "endDateTime"))
    if start <= now:
        raise invalid("startDateTime must be later than now")
    if end <= start:
        raise invalid("endDateTime must be later than startDateTime")
    recurrence = body.get("recurrenceObject")
    if recurrence is None:
        return Plan(start, end)
    if not isinstance(recurrence, dict):
        raise invalid("recurrenceObject must be an object")
    match recurrence.get("recurType"):
        case "Daily":
            return Plan(start, end, every_days=_count(recurrence.get("dailyDetails"), "onceEveryNdays"))
        case "Weekly":
            # The vendor's weekly table says `dailyDetails`, its sample `weeklyDetails`: both are taken.
            details = recurrence.get("weeklyDetails", recurrence.get("dailyDetails"))
            weeks = _count(details, "onceEveryNweeks")
            return Plan(start, end, every_weeks=weeks, days=_weekdays(details))
        case other:
            raise invalid(f"recurType must be Daily or Weekly, not {other!r}")


def _time(body: dict[str, Any], key: str) -> float:
    try:
        # `strptime` takes the unpadded day that one vendor sample shows.
        return datetime.strptime(body[key], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except (KeyError, TypeError, ValueError) as error:
        raise invalid(f"{key} must be YYYY-MM-DD HH:mm:ss") from error


def _count(details: Any, key: str) -> int:
    count = details.get(key) if isinstance(details, dict) else None
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise invalid(f"{key} must be a whole number from 1")
    return count


def _weekdays(details: Any) -> frozenset[int]:
    days = details.get("whichDays") if isinstance(details, dict) else None
    if not isinstance(days, list) or not days or any(day not in DAYS for day in days):
        raise invalid("whichDays must be a list of Mon..Sun")
    return frozenset(DAYS.index(day) for day in days)
