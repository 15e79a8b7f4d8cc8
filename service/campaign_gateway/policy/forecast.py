"""What a pace comes to: the bounds that it gives, and the calls that it takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from campaign_gateway.policy.pacing import Capacity, Pace, Workload, plan_pace

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a steady workload. Times are seconds, calls and changes are a minute's."""

    pace: Pace
    signal: float
    """Within which a change that moves a revision is seen."""
    blind: float
    """Within which any change of a campaign in use is seen."""
    calls: Mapping[str, float]
    """By what they are for."""
    capacity: float
    """Calls that there are, less the reserve."""
    changes: float
    """Of campaigns in use."""
    readable: float
    """Changes that the calls suffice to read by id."""


def described(seen: Forecast) -> list[tuple[str, str]]:
    """What a forecast says of bounds and paces, for people."""
    rows = [("signal bound", spelled(seen.signal)), ("blind bound", spelled(seen.blind))]
    rows += [(f"poll of {channel}", f"every {spelled(pace)}") for channel, pace in seen.pace.poll_intervals.items()]
    if not seen.pace.poll_intervals:
        return [*rows, ("polls", "none: reading each campaign is as good, and lifetimes count")]
    return [
        *rows,
        ("rotation", f"each campaign in use every {spelled(seen.pace.rotation)}"),
        ("full scan", f"every {spelled(seen.pace.full_scan_after)}"),
    ]


def spelled(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    for unit, length in (("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"


def forecast(capacity: Capacity, workload: Workload, lag: float, longest: float) -> Forecast:
    """What to expect.

    Args:
        capacity: the account's calls.
        workload: what is in use, and how it changes.
        lag: seconds that the list may lag behind answers by id.
        longest: the longest lifetime in seconds, which is all there is where no polls are made.
    """
    pace = plan_pace(capacity, workload)
    per_minute = _MINUTE / capacity.window
    changes = sum(workload.moves.values()) * _MINUTE
    pages = sum(
        max(1, math.ceil(workload.listed.get(channel, 0) / workload.page_rows)) for channel in pace.poll_intervals
    )
    calls = {
        "callers and writes": capacity.others * per_minute,
        "polls of the list": sum(
            _MINUTE / seconds * (1 + workload.moves.get(channel, 0.0) * seconds / workload.page_rows)
            for channel, seconds in pace.poll_intervals.items()
        ),
        "full scans": _MINUTE * pages / pace.full_scan_after,
        "reads in rotation": _MINUTE * sum(workload.used.values()) / pace.rotation,
    }
    spendable = (capacity.calls - capacity.reserve) * per_minute
    readable = max(0.0, spendable - sum(calls.values()))
    calls["changed campaigns"] = min(changes, readable)
    is_validating = bool(pace.poll_intervals)
    return Forecast(
        pace=pace,
        signal=max(map(pace.lasts, pace.poll_intervals)) + lag if is_validating else longest,
        blind=max(pace.blind, longest) if is_validating else longest,
        calls=calls,
        capacity=spendable,
        changes=changes,
        readable=readable,
    )
