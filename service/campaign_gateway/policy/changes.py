"""What has changed, for the log of changes: decided from what was seen of a campaign and what the log has said of it.

Lists, reads by id and writes each show states of a campaign, some of them late. The log keeps beside its entries what
it has said last of each campaign (`Told`); a *finding* is compared with that, so each change is said once, whoever sees
it first. The laws of this module:

1. A state is the campaign's `updatedAt` and status. A list that shows another revision or other fields of a row under
   the same state has seen a change too.
2. Who sees a state that was told already adds nothing. Several changes between two looks are one.
3. A read that began before what was told of the campaign is out of date. Between lists and reads, which may lag behind
   each other for a while, an earlier `updatedAt` is. What lists show one after the other never is: replicas' clocks
   differ.
4. What is met for the first time was created only if the whole list was known before. Until then it was changed if its
   `updatedAt` says so, and else was there: so a log that begins anew tells nobody of campaigns that are old. Of lists
   that were known before that, it says that they are not trusted until they are again.
5. A deletion that goes through says what is so from then on. What another write leaves behind is told when it is seen,
   and said to be that write's.

All functions are pure; times are seconds of the clock that all replicas share.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.sweeping import (
    SETTLE_SECONDS,
    IndexedCampaign,
    IndexSnapshot,
    IndexState,
    is_gone,
)

WRITTEN_SECONDS = 60.0
"""A change that is seen so long after a write is said to be the write's."""
UNREAD = "unread"
"""Why a list is not trusted that was lost with the log before: nothing is seen of it until it is read as a whole."""


class ChangeType(StrEnum):
    """What can be said in the log: a closed set."""

    CREATED = "campaign.created"
    UPDATED = "campaign.updated"
    STATUS_CHANGED = "campaign.status-changed"
    DELETED = "campaign.deleted"
    DEGRADED = "stream.degraded"
    """A list is not trusted: changes are seen late, or by reads only."""
    RECOVERED = "stream.recovered"


class SeenBy(StrEnum):
    """What has shown a change."""

    LIST = "list"
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Finding:
    """A state in which a campaign was seen."""

    seen_by: SeenBy
    at: float
    """When: the end of the poll, the begin of the read."""
    channel: Channel | None = None
    name: str | None = None
    status: str | None = None
    updated_at: str | None = None
    is_gone: bool = False
    is_touched: bool = False
    """Whether it changed since it was seen before, though the state is the same."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the log has said last of a campaign, or would have, had it been new."""

    seen_by: SeenBy
    at: float
    status: str | None = None
    updated_at: str | None = None
    is_gone: bool = False
    written_at: float = 0.0
    """When a write last may have changed it; 0 for never."""


@dataclass(frozen=True, slots=True)
class LogState:
    """What is known of a stream's log as a whole."""

    name: str
    """Chosen when the log began: another one's positions mean nothing in it."""
    began: float
    whole: tuple[Channel, ...] = ()
    """The channels of which all campaigns are known."""
    flaws: Mapping[Channel, str] = field(default_factory=dict)
    """Why lists are not trusted, as it was told."""
    flawed_at: Mapping[Channel, float] = field(default_factory=dict)
    """When it was."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log."""

    type: ChangeType
    at: float
    """When it was seen."""
    seen_by: SeenBy
    campaign: str | None = None
    """None for what is said of the stream."""
    channel: Channel | None = None
    name: str | None = None
    status: str | None = None
    previous_status: str | None = None
    updated_at: str | None = None
    reason: str | None = None
    """Why a list is not trusted."""


@dataclass(frozen=True, slots=True)
class Addition:
    """What is to be added to a log, and to be remembered of it, in one step."""

    changes: tuple[Change, ...] = ()
    told: Mapping[str, Told] = field(default_factory=dict)
    """By campaign."""
    state: LogState | None = None
    """None where it stays as it is."""


def findings_in(before: IndexSnapshot, updates: Mapping[str, IndexedCampaign], now: float) -> dict[str, Finding]:
    """What a publication of the index says of campaigns: of those that are new in it, have changed, or are gone.

    Args:
        before: the index as it was.
        updates: what it is to hold from now on.
        now: the time.
    """
    return {
        id_: _finding(before.campaigns.get(id_), row, now)
        for id_, row in updates.items()
        # A row that polls cannot compare, or whose list is not known at present, is neither new nor gone.
        if row.is_listed or is_gone(row)
    }


def _finding(before: IndexedCampaign | None, row: IndexedCampaign, now: float) -> Finding:
    name = row.fields.get("name")
    if is_gone(row):
        return Finding(SeenBy.LIST, now, row.channel, name if isinstance(name, str) else None, is_gone=True)
    is_same_state = before is not None and (before.updated_at, before.status) == (row.updated_at, row.status)
    return Finding(
        SeenBy.LIST,
        now,
        row.channel,
        name if isinstance(name, str) else None,
        row.status,
        row.updated_at,
        is_touched=before is not None
        and is_same_state
        and not is_gone(before)
        and (before.revision != row.revision or before.fields != row.fields),
    )


def begun(name: str, now: float, before: LogState | None) -> LogState:
    """The state of a log that begins.

    Args:
        name: the log's.
        now: the time.
        before: that of the log that was lost; None where none was.
    """
    lost = [] if before is None else sorted({*before.whole, *_unread(before)})
    return LogState(name, now, flaws=dict.fromkeys(lost, UNREAD), flawed_at=dict.fromkeys(lost, now))


def _unread(log: LogState) -> list[Channel]:
    return [channel for channel, reason in log.flaws.items() if reason == UNREAD]


def state_after(log: LogState, state: IndexState, now: float) -> LogState:
    """The log's state once the index is in that one."""
    scanned = [channel for channel, poll in state.polls.items() if poll.full_scan_at]
    flaws = {channel: UNREAD for channel in _unread(log) if channel not in scanned}
    flaws |= {channel: flaw.value for channel, flaw in state.flaws.items()}
    flawed_at = {channel: log.flawed_at.get(channel, now) for channel in flaws}
    return replace(log, whole=tuple(sorted({*log.whole, *scanned})), flaws=flaws, flawed_at=flawed_at)


def degradations(log: LogState) -> list[Change]:
    """What was said of the lists that are not trusted, whether or not the log still holds it."""
    return [_of_trust(channel, reason, log.flawed_at.get(channel, log.began)) for channel, reason in log.flaws.items()]


def add(
    log: LogState, told: Mapping[str, Told], findings: Mapping[str, Finding], after: LogState, now: float
) -> Addition:
    """What findings add to a log.

    Args:
        log: its state.
        told: what it has said last of the campaigns that there are findings of.
        findings: by campaign.
        after: the state from now on, see `state_after`.
        now: the time.
    """
    changes, said = [], {}
    for id_, finding in findings.items():
        new, change = _compare(id_, told.get(id_), finding, log)
        if new is not None:
            said[id_] = new
        if change is not None:
            changes.append(change)
    changes += _changes_of_trust(log, after, now)
    return Addition(tuple(changes), said, after if after != log else None)


def _changes_of_trust(log: LogState, after: LogState, now: float) -> Iterable[Change]:
    for channel in sorted(log.flaws.keys() ^ after.flaws.keys()):
        yield _of_trust(channel, after.flaws.get(channel), now)


def _of_trust(channel: Channel, reason: str | None, at: float) -> Change:
    type_ = ChangeType.RECOVERED if reason is None else ChangeType.DEGRADED
    return Change(type_, at, SeenBy.LIST, channel=channel, reason=reason)


def _compare(id_: str, told: Told | None, finding: Finding, log: LogState) -> tuple[Told | None, Change | None]:
    """What is to be remembered of the campaign, and what to be said; None for each where nothing is."""
    if told is not None and _is_out_of_date(finding, told):
        return None, None
    type_ = _type_of(told, finding, log)
    if type_ is None:
        is_known = told is not None or finding.is_gone
        if is_known or (finding.seen_by is not SeenBy.LIST and log.whole):
            # What lists have not shown yet, they will.
            return None, None
        return _told(finding), None
    written_at = told.written_at if told is not None else 0.0
    is_written = written_at and written_at <= finding.at < written_at + WRITTEN_SECONDS
    change = Change(
        type_,
        finding.at,
        SeenBy.WRITE if is_written else finding.seen_by,
        id_,
        finding.channel,
        finding.name,
        finding.status,
        told.status if told is not None else None,
        finding.updated_at,
    )
    return _told(finding), change


def _type_of(told: Told | None, finding: Finding, log: LogState) -> ChangeType | None:
    """What the finding is news of; None where it is none."""
    if finding.is_gone:
        return None if told is None or told.is_gone or _is_expected(told) else ChangeType.DELETED
    if told is None:
        if finding.seen_by is not SeenBy.LIST:
            return None
        if finding.channel in log.whole:
            return ChangeType.CREATED
        changed_at = instant(finding.updated_at)
        return ChangeType.UPDATED if changed_at is not None and changed_at > log.began else None
    if told.is_gone or _is_expected(told):
        return ChangeType.CREATED
    if told.status != finding.status:
        return ChangeType.STATUS_CHANGED
    return ChangeType.UPDATED if told.updated_at != finding.updated_at or finding.is_touched else None


def _is_expected(told: Told) -> bool:
    """Whether all that is known of the campaign is a write that may have made it."""
    return told.seen_by is SeenBy.WRITE and not told.is_gone


def _is_out_of_date(finding: Finding, told: Told) -> bool:
    is_list, was_list = finding.seen_by is SeenBy.LIST, told.seen_by is SeenBy.LIST
    if is_list is not was_list and not _is_expected(told):
        ours, theirs = _order(finding), _order(told)
        if ours is not None and theirs is not None and ours != theirs:
            return ours < theirs and finding.at < told.at + SETTLE_SECONDS
    # Publications of the index come one after the other, whatever clocks of replicas say, and what is left out here of
    # what a list shows would never be told. A read that is left out is shown by the list later.
    return not is_list and finding.at < told.at


def _order(seen: Finding | Told) -> float | None:
    """The moment that the state names; that of a deletion is after all others."""
    return math.inf if seen.is_gone else instant(seen.updated_at)


def _told(finding: Finding) -> Told:
    return Told(finding.seen_by, finding.at, finding.status, finding.updated_at, finding.is_gone)


def written(told: Mapping[str, Told], ids: Iterable[str], at: float, *, is_creation: bool) -> dict[str, Told]:
    """What is to be remembered after a write through the gateway, of the campaigns that it may have changed.

    Args:
        told: what the log has said last of them.
        ids: the campaigns.
        at: when the write ended.
        is_creation: whether it made them.
    """
    new = {id_: Told(SeenBy.WRITE, at, written_at=at) for id_ in ids if id_ not in told and is_creation}
    return new | {id_: replace(told[id_], written_at=at) for id_ in ids if id_ in told}
