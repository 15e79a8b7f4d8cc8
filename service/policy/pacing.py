"""How calls are split between list rounds and reads by id, so that changes are seen as soon as the budget allows.

Each *pass* (the rounds of a channel; the rotation of reads by id through all campaigns in use) costs some calls and
shows some changes that no other pass would show. A change waits half a pass on average, so the sum of all waits is
least when calls are given to passes in proportion to the square root of cost times changes (the rule for refreshing
copies of pages that change at known rates). Pure arithmetic; times are seconds, rates are per second.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from service.contract.listing import Channel
from service.policy.sweeping import PAGE_ROWS

SHORTEST_ROUND_SECONDS = 2.0
"""Below this a round costs more than it shows."""
SHORTEST_ROTATION_SECONDS = 30.0
SILENT_PART = 0.001
"""The part of changes believed to move no mark, until more of them are seen."""
QUIET_RATE = 1 / 86_400
"""Changes a second believed of a campaign of which nothing is known: one a day."""
WALK_SECONDS = 600.0
"""Shortest distance between full rounds."""
WALK_PART = 0.05
"""The part of the calls that full rounds may take."""
KNOWING_PART = 0.4
"""The part of its calls that rounds and rotation keep when changed campaigns want them all."""
FULL = 0.9
"""The part of the calls that are left which is planned for: changes come in bursts, and a queue always busy grows."""
WORTHWHILE = 3
"""Campaigns in use from which a list shows more than reading each of them would."""
SLACK = 1.5
"""How much later than planned a round may come before its proof has run out."""
SPREAD_SECONDS = 1.0
"""What all replicas need to hear of a round."""


@dataclass(frozen=True, slots=True)
class Supply:
    """The calls of one account, in one window."""

    calls: int
    window: float
    reserve: int
    share: float
    """The part of them that looking after stored answers may take."""
    others: float = 0.0
    """What callers and writes spend."""
    streams: int = 1
    """How many streams share the account."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is in use, and how it changes."""

    used: Mapping[Channel, int]
    """Campaigns that callers ask for."""
    listed: Mapping[Channel, int] = field(default_factory=dict)
    """Campaigns there are."""
    moves: Mapping[Channel, float] = field(default_factory=dict)
    """Changes a second, of campaigns in use, that move a mark."""
    silent: float = SILENT_PART
    """The part of changes that moves none."""
    page_rows: int = PAGE_ROWS
    """Rows that the platform grants for one call."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to do what."""

    rounds: Mapping[Channel, float]
    """Seconds between two rounds of a channel; channels that are not here are left alone."""
    rotation: float = math.inf
    """Seconds between two reads by id of the same campaign."""
    walk_after: float = WALK_SECONDS
    """Seconds between two full rounds."""
    reads: float = 0.0
    """Reads by id a second that changes ask for."""

    @property
    def calls_a_second(self) -> float:
        """What rounds need, the rare full ones left out."""
        return sum(1 / seconds for seconds in self.rounds.values())

    @property
    def lasts(self) -> float:
        """Seconds for which a round's proof has to be good."""
        return max(self.rounds.values(), default=0.0) * SLACK + SPREAD_SECONDS

    @property
    def blind(self) -> float:
        """Seconds within which every campaign in use is read by id."""
        return self.rotation * SLACK


def plan_pace(supply: Supply, demand: Demand) -> Pace:
    """The best split there is. An empty one where reading each campaign would show as much as the list does."""
    used = {channel: count for channel, count in demand.used.items() if count}
    total = sum(used.values())
    if total < WORTHWHILE or supply.share <= 0:
        return Pace({})
    moves = {channel: demand.moves.get(channel, 0.0) + count * QUIET_RATE for channel, count in used.items()}
    # Every change of a campaign in use costs a read by id, whoever pays for it.
    reads = sum(demand.moves.get(channel, 0.0) for channel in used)
    rate = _rate(supply, reads)
    pages = sum(math.ceil(demand.listed.get(channel, 0) / demand.page_rows) for channel in used)
    walk_after = max(WALK_SECONDS, pages / (WALK_PART * rate))
    rate -= pages / walk_after

    pages_of = {channel: 1 + moves[channel] * SHORTEST_ROUND_SECONDS / demand.page_rows for channel in used}
    passes: dict[Channel | None, float] = {channel: math.sqrt(moves[channel] * pages_of[channel]) for channel in used}
    passes[None] = math.sqrt(demand.silent * sum(moves.values()) * total)
    whole = sum(passes.values())
    rates = {name: rate * part / whole for name, part in passes.items()}
    rounds = {channel: max(SHORTEST_ROUND_SECONDS, pages_of[channel] / rates[channel]) for channel in used}
    left = rate - sum(pages_of[channel] / seconds for channel, seconds in rounds.items())
    return Pace(rounds, max(SHORTEST_ROTATION_SECONDS, total / left), walk_after, reads)


def _rate(supply: Supply, reads: float) -> float:
    """Calls a second for rounds and rotation: its part of what callers, writes and changed campaigns leave."""
    left = supply.calls - supply.reserve - supply.others
    wanted = min(supply.share * supply.calls, FULL * left - reads * supply.window * supply.streams)
    # More changes than can be read: knowing which they are goes before reading them. Fewer calls than callers want:
    # rounds are stretched rather than given up.
    calls = max(wanted, supply.share * left * KNOWING_PART, 1.0)
    return calls / supply.streams / supply.window
