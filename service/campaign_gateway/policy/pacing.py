"""How calls are split between polls of the list and reads by id, so that changes are seen as soon as the budget allows.

A change of a campaign in use costs one read by id, whoever pays for it: those go out at once. Polls are the elastic
part. Each pass (the polls of a channel) costs some calls and shows some changes; a change waits half a pass on average,
so the sum of all waits is least when calls are given to passes in proportion to the square root of cost times changes
(the rule for refreshing copies of pages that change at known rates). How far apart the next two polls are then is what
the ledger's next window leaves room for. Pure arithmetic; times are seconds, rates are per second.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.list_scan import PAGE_ROWS
from campaign_gateway.policy.sweeping import IndexSnapshot

SHORTEST_POLL_INTERVAL_SECONDS = 2.0
"""Below this a poll costs more than it shows."""
LONGEST_POLL_INTERVAL_SECONDS = 15.0
"""Polls come so often whoever else wants the calls; if the budget allows as much in four windows at all."""
FLOOR_PART = 0.2
"""The part of the budget that polls take for that, at most, when callers want all of it."""
ROTATION_CALLS = 3.0 / 60.0
"""Reads by id in rotation, a second of a budget of one call a second: as many are made always ..."""
IDLE_ROTATION_CALLS = 10.0 / 60.0
"""... and as many where calls are left over."""
SHORTEST_ROTATION_SECONDS = 30.0
QUIET_RATE = 1 / 86_400
"""Changes a second believed of a campaign of which nothing is known: one a day."""
FULL_SCAN_SECONDS = 600.0
"""Shortest distance between two full scans."""
FULL_SCAN_PART = 0.025
"""The part of the calls that full scans may take."""
FIRST_SCAN_PART = 0.4
"""The same while the first one is under way, of what callers leave."""
CROWDED_SCAN_PART = 0.1
"""The part of all calls that a full scan may take while callers wait."""
SCAN_SPREAD_PART = 0.3
"""The part of the distance between two full scans over which the pages of one are spread."""
KNOWING_PART = 0.4
"""The part of its calls that polls keep when changed campaigns want them all."""
WORTHWHILE = 3
"""Campaigns in use from which a list shows more than reading each of them would."""
CAUTION = 1.0
"""Standard deviations of the reads to come that polls leave room for."""
NEAR_SECONDS = 3.0
"""From how far ahead on calls have to suffice: bursts shorter than this wait."""
EARLY = 0.5
"""The part of the planned distance below which no poll comes."""
STRETCH = 1.45
"""How much later than planned a poll comes at the most, whatever else wants calls ..."""
SLACK = 1.7
"""... and how much later it may come before its validation has run out."""
APART = 2.0
"""How much further apart the polls of a quiet channel may be than those of the busiest."""
SPREAD_SECONDS = 1.0
"""Until all replicas know of a poll."""


@dataclass(frozen=True, slots=True)
class Capacity:
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
    free: int = 1_000
    """Calls that could be made now, by whoever leaves the reserve alone."""
    falls: tuple[float, ...] = ()
    """Seconds until each of the others can be made again, the soonest first."""
    is_contended: bool = False
    """Whether callers wait for calls, or were refused some a moment ago."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is in use, and how it changes."""

    used: Mapping[Channel, int]
    """Campaigns that callers ask for."""
    listed: Mapping[Channel, int] = field(default_factory=dict)
    """Campaigns there are."""
    moves: Mapping[Channel, float] = field(default_factory=dict)
    """Changes a second, of campaigns in use, that move a revision."""
    rotation_rate: float = math.inf
    """Reads by id a second that the rotation makes of late, where it is not as many as planned."""
    page_rows: int = PAGE_ROWS
    """Rows that the platform grants for one call."""
    is_scanned: bool = True
    """Whether each list has been seen to its end once."""
    is_listened: bool = False
    """Whether somebody wants to know of every change."""


def listed_of(snapshot: IndexSnapshot) -> Counter[Channel]:
    """How many campaigns each list has shown."""
    return Counter(indexed.channel for indexed in snapshot.campaigns.values())


def workload_of(
    snapshot: IndexSnapshot,
    shown: Counter[Channel],
    used: Iterable[str],
    rates: Mapping[Channel, float],
    rotation_rate: float,
    page_rows: int,
    *,
    is_listened: bool = False,
) -> Workload:
    """What is in use of a stream's lists.

    Args:
        snapshot: what is known of them.
        shown: `listed_of` it.
        used: the ids that callers ask for.
        rates: changes a second, of campaigns in use.
        rotation_rate: reads by id a second that the rotation makes of late.
        page_rows: rows that the platform grants for one call.
        is_listened: whether somebody wants to know of every change, of campaigns that nobody uses too.
    """
    listed = Counter(shown)
    channels = Counter(snapshot.campaigns[id_].channel if id_ in snapshot.campaigns else None for id_ in used)
    # One in use in each list, say: it is polled like one that is little used.
    counts = {channel: max(channels[channel], int(is_listened)) for channel in Channel}
    is_scanned = True
    for channel in Channel:
        last = snapshot.state.polls.get(channel)
        if last is None or not last.full_scan_at:
            # Not all of this list is known yet: what is in use may be in it.
            counts[channel] += channels[None]
            is_scanned = is_scanned and not counts[channel]
        if last is not None and last.total is not None:
            listed[channel] = max(listed[channel], last.total)
    return Workload(counts, listed, rates, rotation_rate, page_rows, is_scanned, is_listened)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to do what."""

    poll_intervals: Mapping[Channel, float]
    """Seconds between two polls of a channel, as planned; channels that are not here are left alone."""
    rotation: float = math.inf
    """Seconds between two reads by id of the same campaign."""
    full_scan_after: float = FULL_SCAN_SECONDS
    """Seconds between two full scans."""
    page_after: float = 0.0
    """Seconds between two pages of one."""
    reads: float = 0.0
    """Reads by id a second that changes ask for."""

    @property
    def calls_a_second(self) -> float:
        """What polls need."""
        return sum(1 / seconds for seconds in self.poll_intervals.values())

    def lasts(self, channel: Channel) -> float:
        """Seconds for which a poll's validation has to be good."""
        return self.poll_intervals.get(channel, 0.0) * SLACK + SPREAD_SECONDS

    @property
    def blind(self) -> float:
        """Seconds within which every campaign in use is read by id."""
        return self.rotation * SLACK

    def distance(self, channel: Channel, capacity: Capacity, waiting: int) -> float:
        """Seconds between the channel's last poll and the next one, as the calls of the next window leave room for.

        At each moment from `NEAR_SECONDS` on, what is free by then has to suffice for the reads that wait, those that
        changes are expected to ask for, with a margin for chance, and the polls until then.

        Args:
            channel: whose poll.
            capacity: with what is free, and when the rest falls free.
            waiting: reads by id that wait already.
        """
        planned = self.poll_intervals[channel]
        reads = self.reads * capacity.streams + capacity.others / capacity.window
        ahead = (*capacity.falls, capacity.window) if capacity.falls else (capacity.window,)
        room = min(
            (capacity.free - waiting + number - reads * seconds - CAUTION * math.sqrt(reads * seconds)) / seconds
            for number, seconds in enumerate(ahead)
            if seconds >= min(NEAR_SECONDS, capacity.window)
        )
        rate = min(max(room, 0.0), capacity.share * capacity.calls / capacity.window) / capacity.streams
        stretch = self.calls_a_second / rate if rate > 0 else math.inf
        return planned * min(max(stretch, EARLY), STRETCH)

    def spare(self, capacity: Capacity) -> int:
        """Calls that reads by id may make now, so that those of the polls to come are there when they are due."""
        rate = self.calls_a_second / STRETCH * capacity.streams
        ahead = enumerate((*capacity.falls, capacity.window))
        return math.floor(min(capacity.free + number - rate * seconds for number, seconds in ahead))


def plan_pace(capacity: Capacity, workload: Workload) -> Pace:
    """The best split there is. An empty one where reading each campaign would show as much as the list does."""
    used = {channel: count for channel, count in workload.used.items() if count}
    total = sum(used.values())
    if (total < WORTHWHILE and not workload.is_listened) or capacity.share <= 0 or not capacity.calls:
        return Pace({})
    moves = {channel: workload.moves.get(channel, 0.0) + count * QUIET_RATE for channel, count in used.items()}
    # Every change of a campaign in use costs a read by id, whoever pays for it.
    reads = sum(workload.moves.get(channel, 0.0) for channel in used)
    a_second = capacity.calls / capacity.window / capacity.streams
    pages = sum(max(1, math.ceil(workload.listed.get(channel, 0) / workload.page_rows)) for channel in used)
    full_scan_after = max(FULL_SCAN_SECONDS, pages / (FULL_SCAN_PART * a_second))

    left = (capacity.calls - capacity.reserve - capacity.others) / capacity.window / capacity.streams - reads
    fixed = min(ROTATION_CALLS * a_second, workload.rotation_rate) + pages / full_scan_after
    most = capacity.share * a_second
    # More changes than can be read: knowing which they are goes before reading them. Fewer calls than callers want:
    # polls are stretched rather than given up.
    ideal = min(most, left) - fixed
    floor = min(FLOOR_PART * a_second, len(used) / LONGEST_POLL_INTERVAL_SECONDS)
    rate = max(ideal, KNOWING_PART * (min(most, left + reads) - fixed), floor)

    pages_of = {channel: 1 + moves[channel] * SHORTEST_POLL_INTERVAL_SECONDS / workload.page_rows for channel in used}
    passes = {channel: math.sqrt(moves[channel] * pages_of[channel]) for channel in used}
    busiest = max(part / pages_of[channel] for channel, part in passes.items())
    passes = {channel: max(part, busiest * pages_of[channel] / APART) for channel, part in passes.items()}
    whole = sum(passes.values())
    poll_intervals = {
        channel: max(SHORTEST_POLL_INTERVAL_SECONDS, pages_of[channel] * whole / (rate * part))
        for channel, part in passes.items()
    }
    spent = sum(pages_of[channel] / seconds for channel, seconds in poll_intervals.items())
    rotated = min(
        max(left - spent - pages / full_scan_after, ROTATION_CALLS * a_second), IDLE_ROTATION_CALLS * a_second
    )
    if capacity.is_contended:
        page_after = 1 / (CROWDED_SCAN_PART * a_second)
    elif workload.is_scanned:
        page_after = SCAN_SPREAD_PART * full_scan_after / pages
    else:
        page_after = 1 / max(FIRST_SCAN_PART * max(left, 0.0), CROWDED_SCAN_PART * a_second)
    return Pace(poll_intervals, max(SHORTEST_ROTATION_SECONDS, total / rotated), full_scan_after, page_after, reads)
