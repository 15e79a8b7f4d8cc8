"""What to remember of rows that a poll or a full scan has met (`policy.list_scan`).

Laws of this module:

1. A row is compared with what the index holds of its campaign (`Finding`). What comes of that is true whether or not
   the poll or scan comes to its end.
2. Only a poll that went through says how long what did not change is validated.
3. Only what has shown the whole list says that the others are gone.

All functions are pure; times are seconds of the clock that all replicas share.
"""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import Enum, auto

from campaign_gateway.contract.listing import Channel, Row
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.list_scan import Scan
from campaign_gateway.policy.sweeping import (
    IndexedCampaign,
    IndexSnapshot,
    IndexState,
    ListFlaw,
    Poll,
    has_changed,
    is_gone,
)

LONGEST_LAG_SECONDS = 120.0
"""A list that seems to lag by more shows revisions that are no times of change."""


class Finding(Enum):
    """What a row says of its campaign."""

    NEW = auto()
    CHANGED = auto()
    UNCHANGED = auto()
    RELISTED = auto()
    """It had no revision for a while, and has the same one as before. What was out of date before is so still."""
    UNORDERED = auto()
    """A row without a revision cannot be seen to change; nor one whose revision has no place in the order."""


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a poll, or a page of a full scan, found."""

    state: IndexState
    updates: Mapping[str, IndexedCampaign]
    """What the index is to hold of campaigns that are new, have changed, or are gone."""
    changed: frozenset[str]
    """The ids whose stored answers are out of date."""
    needs_full_scan: bool = False
    """Whether numbers say that rows came or went unseen."""

    @property
    def met(self) -> Iterable[str]:
        """The ids that are new: what is stored of them may be out of date."""
        return (id_ for id_, indexed in self.updates.items() if indexed.is_listed and id_ not in self.changed)


def compare(row: Row, indexed: IndexedCampaign | None) -> Finding:
    """What the row says of its campaign, beside what the index holds of it."""
    if instant(row.updated_at) is None:
        return Finding.UNORDERED
    if indexed is None:
        return Finding.NEW
    if has_changed(indexed, row):
        return Finding.CHANGED
    return Finding.UNCHANGED if indexed.is_listed else Finding.RELISTED


def learn(snapshot: IndexSnapshot, channel: Channel, rows: Iterable[Row], ended: float) -> ScanResult:
    """What rows say. The state's number rises.

    Args:
        snapshot: what is known.
        channel: whose list.
        rows: as they were met.
        ended: when the last of them came.
    """
    last = snapshot.state.polls.get(channel)
    known_until = math.inf if last is None else last.began - snapshot.state.lag
    updates, changed = {}, set()
    for row in rows:
        indexed = snapshot.campaigns.get(row.id)
        match compare(row, indexed):
            case Finding.NEW:
                updates[row.id] = _listed(channel, row, ended)
            case Finding.CHANGED if indexed is not None:
                # The same text under another revision: an answer that carries it may be from before.
                after = known_until if indexed.updated_at != row.updated_at else math.inf
                updates[row.id] = replace(_listed(channel, row, ended), has_changed=True, changed_after=after)
                changed.add(row.id)
            case Finding.RELISTED if indexed is not None:
                updates[row.id] = replace(indexed, is_listed=True)
            case Finding.UNORDERED if indexed is not None and indexed.is_listed:
                updates[row.id] = replace(indexed, is_listed=False)
            case _:
                continue
    return ScanResult(_next(snapshot.state), updates, frozenset(changed))


def _listed(channel: Channel, row: Row, ended: float) -> IndexedCampaign:
    return IndexedCampaign(
        channel=channel,
        revision=row.revision,
        updated_at=row.updated_at,
        since=ended,
        has_changed=False,
        status=row.status,
        fields=row.fields,
        edges=row.edges,
    )


def conclude(scan: Scan, snapshot: IndexSnapshot, ended: float, lasts: float = 0.0) -> ScanResult:
    """What to remember of a poll that went through.

    Args:
        scan: the poll.
        snapshot: what was known when it ended.
        ended: when that was.
        lasts: seconds for which its validation is good.
    """
    result = learn(snapshot, scan.channel, scan.rows.values(), ended)
    if scan.is_whole:
        result = _without_the_gone(result, snapshot, scan.channel, scan.rows.keys(), ended)
    listed = _count(snapshot, result.updates, scan.channel)
    last = snapshot.state.polls.get(scan.channel, Poll(0.0))
    done = replace(last, began=scan.began, lasts=lasts, top=scan.top, total=scan.total)
    if scan.is_whole:
        unlisted = last.unlisted if scan.total is None else scan.total - listed
        done = replace(done, full_scan_at=scan.began, unlisted=unlisted)
    needs_full_scan = done.full_scan_at > 0 and scan.total is not None and scan.total - listed != done.unlisted
    state = without_flaw(_with_poll(result.state, scan.channel, done), scan.channel)
    return replace(result, state=state, needs_full_scan=needs_full_scan)


def conclude_full(scan: Scan, seen: AbstractSet[str], snapshot: IndexSnapshot, ended: float) -> ScanResult | None:
    """What to remember of a full scan at its end, beside what its rows said; polls go on validating.

    Args:
        scan: the scan; its own rows were learned page by page.
        seen: all ids that its pages, and polls meanwhile, have shown.
        snapshot: what was known when it ended.
        ended: when that was.

    Returns:
        None where rows were passed by unseen, which are not gone therefore.
    """
    last = snapshot.state.polls.get(scan.channel)
    if last is None:
        return None
    if last.full_scan_at and scan.total is not None and len(seen) < scan.total - max(0, last.unlisted):
        return None
    nothing = ScanResult(_next(snapshot.state), {}, frozenset())
    result = _without_the_gone(nothing, snapshot, scan.channel, seen, ended)
    unlisted = 0 if scan.total is None else scan.total - _count(snapshot, result.updates, scan.channel)
    done = replace(last, full_scan_at=scan.began, unlisted=unlisted, total=scan.total)
    return replace(result, state=_with_poll(result.state, scan.channel, done))


def forget(snapshot: IndexSnapshot, channel: Channel) -> ScanResult:
    """The list as one that has not been polled yet: more has changed than a poll can show.

    Nothing covers its campaigns until a full scan meets them again.
    """
    polls = {other: last for other, last in snapshot.state.polls.items() if other is not channel}
    updates = {
        id_: replace(indexed, is_listed=False)
        for id_, indexed in snapshot.campaigns.items()
        if indexed.channel is channel and indexed.is_listed
    }
    return ScanResult(replace(_next(snapshot.state), polls=polls), updates, frozenset())


def lag_shown(scan: Scan, snapshot: IndexSnapshot) -> float | None:
    """The longest lag in seconds that this poll's changed rows show; None where no row has changed.

    A row that names an instant before the last poll began, but was not shown by it, was late by the difference at
    least.
    """
    last = snapshot.state.polls.get(scan.channel)
    if last is None:
        return None
    lags = []
    for row in scan.rows.values():
        indexed, moment = snapshot.campaigns.get(row.id), instant(row.updated_at)
        if indexed is not None and indexed.revision and moment is not None and indexed.updated_at != row.updated_at:
            lags.append(max(0.0, last.began - (moment - (scan.offset or 0.0))))
    # A revision from long ago has stepped back: that says nothing of lag.
    return max((lag for lag in lags if lag <= LONGEST_LAG_SECONDS), default=None)


def with_flaw(state: IndexState, channel: Channel, flaw: ListFlaw) -> IndexState:
    """The state in which the channel's list validates nothing."""
    return replace(state, flaws={**state.flaws, channel: flaw})


def without_flaw(state: IndexState, channel: Channel) -> IndexState:
    """The state in which it does."""
    return replace(state, flaws={other: flaw for other, flaw in state.flaws.items() if other is not channel})


def _with_poll(state: IndexState, channel: Channel, poll: Poll) -> IndexState:
    return replace(state, polls={**state.polls, channel: poll})


def _next(state: IndexState) -> IndexState:
    return replace(state, number=state.number + 1)


def _without_the_gone(
    result: ScanResult, snapshot: IndexSnapshot, channel: Channel, seen: AbstractSet[str], ended: float
) -> ScanResult:
    gone = {
        id_: replace(indexed, revision="", since=ended, has_changed=True, is_listed=False, changed_after=math.inf)
        for id_, indexed in snapshot.campaigns.items()
        # Those too that are not listed at present: what has ended meanwhile would be taken for there.
        if indexed.channel is channel and not is_gone(indexed) and id_ not in seen
    }
    return replace(result, updates={**result.updates, **gone}, changed=result.changed | gone.keys())


def _count(snapshot: IndexSnapshot, updates: Mapping[str, IndexedCampaign], channel: Channel) -> int:
    old = sum(
        1
        for id_, indexed in snapshot.campaigns.items()
        if indexed.channel is channel and indexed.is_listed and id_ not in updates
    )
    return old + sum(1 for indexed in updates.values() if indexed.is_listed)
