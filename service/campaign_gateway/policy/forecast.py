"""What a pace comes to: the bounds that it gives, and the calls that it takes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from campaign_gateway.policy.pacing import Demand, Pace, Supply, plan_pace

_MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to be expected of a steady demand. Times are seconds, calls and changes are a minute's."""

    pace: Pace
    signal: float
    """Within which a change that moves a mark is seen."""
    blind: float
    """Within which any change of a campaign in use is seen."""
    calls: Mapping[str, float]
    """By what they are for."""
    supply: float
    """Calls that there are, less the reserve."""
    changes: float
    """Of campaigns in use."""
    readable: float
    """Changes that the calls suffice to read by id."""


def forecast(supply: Supply, demand: Demand, lag: float, longest: float) -> Forecast:
    """What to expect.

    Args:
        supply: the account's calls.
        demand: what is in use, and how it changes.
        lag: seconds that the list may lag behind answers by id.
        longest: the longest lifetime in seconds, which is all there is where no rounds are made.
    """
    pace = plan_pace(supply, demand)
    per_minute = _MINUTE / supply.window
    changes = sum(demand.moves.values()) * _MINUTE
    pages = sum(max(1, math.ceil(demand.listed.get(channel, 0) / demand.page_rows)) for channel in pace.rounds)
    calls = {
        "callers and writes": supply.others * per_minute,
        "polls of the list": sum(
            _MINUTE / seconds * (1 + demand.moves.get(channel, 0.0) * seconds / demand.page_rows)
            for channel, seconds in pace.rounds.items()
        ),
        "full scans": _MINUTE * pages / pace.walk_after,
        "turns by id": _MINUTE * sum(demand.used.values()) / pace.rotation,
    }
    spendable = (supply.calls - supply.reserve) * per_minute
    readable = max(0.0, spendable - sum(calls.values()))
    calls["changed campaigns"] = min(changes, readable)
    is_proving = bool(pace.rounds)
    return Forecast(
        pace=pace,
        signal=max(map(pace.lasts, pace.rounds)) + lag if is_proving else longest,
        blind=max(pace.blind, longest) if is_proving else longest,
        calls=calls,
        supply=spendable,
        changes=changes,
        readable=readable,
    )
