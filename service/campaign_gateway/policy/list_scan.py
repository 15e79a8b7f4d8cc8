"""The list of one channel, read page by page: a poll of what may have changed, or a full scan to its end.

Laws of this module:

1. A poll reads from the top down to rows that are older than whatever can have changed since the last poll began. What
   changed since then bears no `updatedAt` older than the newest of that moment, whatever the platform's clock says and
   however coarse its revisions are; nor, where the list lags, one older than that moment by more than the lag.
2. No row may slip through between two pages. Pages overlap, so none does where revisions differ and the list stands
   still. Where a run of equal revisions goes over the end of a page, its rows may come in another order with each
   question: then as many of them have to be met, in one pass, as there are places in the run. What moved to the front
   meanwhile is met by looking there once more, down to what was met before.
3. Its proof counts from its first page, however long it takes, so it can wait for calls between two pages.
4. The first poll of a channel is its first page: a place to begin from. Rows are listed reliably as a full scan meets
   them.
5. A full scan proves nothing: polls do. Polls go on beside it, and show what moves to the front behind its back.
6. What a poll or a scan has met is true whether or not it comes to its end (`learn`).

All functions are pure; times are seconds of the clock that all replicas share.
"""

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import pairwise

from campaign_gateway.contract.listing import Channel, Page, Row
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState, ListFlaw, Poll, has_changed

PAGE_ROWS = 100
"""Rows asked for at once; the platform may grant fewer."""
OVERLAP_ROWS = 3
"""Rows of the last page that are asked for again, to see that no row slipped between two pages."""
MAX_PAGES = 2_000
"""Of a full scan."""
MAX_POLL_PAGES = 30
"""A poll that has not come to its end by then would not be cheaper than a full scan."""
MAX_RETRIES = 3
"""How often rows are looked for that may have slipped between two pages, before a scan is given up for this time ..."""
PAGES_A_RETRY = 20
"""... and how many more pages allow for once more."""
LONGEST_LAG_SECONDS = 120.0
"""A list that seems to lag by more shows revisions that are no times of change."""
CLOCK_SECONDS = 1.0
"""How well the platform's clock is known: its answers name whole seconds."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows with equal revisions that go over the end of a page."""

    revision: float
    """The instant that they name."""
    start: int
    """The place in the list where they begin."""
    met: frozenset[str]
    """Those that this pass has met."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A poll, or a full scan, under way."""

    channel: Channel
    began: float
    is_full: bool
    """Whether it goes to the end of the list."""
    offset: float | None = None
    """Seconds that the platform's clock is ahead of ours; None where that is not known."""
    rows: Mapping[str, Row] = field(default_factory=dict)
    """What a poll has met; of a full scan, what its last page has shown."""
    top: str | None = None
    """The first `updatedAt` that it met and that names an instant."""
    pages: int = 0
    skip: int | None = 0
    """Where the next page begins; None when there is nothing more to ask."""
    last: frozenset[str] = frozenset()
    """The ids of the last page."""
    total: int | None = None
    run: "Run | None" = None
    """The equal revisions in which the last page ended."""
    is_short: bool = False
    """Whether this pass met fewer rows of such a run than there are."""
    is_closing: bool = False
    """Whether it looks at the front once more."""
    is_whole: bool = False
    """Whether one page has shown the whole list."""
    retries: int = 0
    flaw: ListFlaw | None = None


def begin(channel: Channel, now: float, *, is_full: bool = False, offset: float | None = None) -> Scan:
    """A poll, or a full scan, that has read nothing yet.

    Args:
        channel: whose list.
        now: the time.
        is_full: whether it goes to the end.
        offset: seconds that the platform's clock is ahead of ours; None where that is not known.
    """
    return Scan(channel, now, is_full, offset)


def step(scan: Scan, page: Page | None, snapshot: IndexSnapshot) -> Scan:
    """The scan after one more page; it has ended when there is nothing more to ask."""
    skip = scan.skip or 0
    flaw = _flaw_of(page, skip)
    if page is None or flaw is not None:
        return replace(scan, flaw=flaw, skip=None)
    shown, is_end = len(page.rows), _is_end(page, skip)
    met = replace(
        scan,
        # What a later page shows is newer.
        rows={**({} if scan.is_full else scan.rows), **{row.id: row for row in page.rows}},
        top=scan.top or next((row.updated_at for row in page.rows if instant(row.updated_at) is not None), None),
        pages=scan.pages + 1,
        last=frozenset(row.id for row in page.rows),
        total=page.total,
        # An empty list where there was another one is more likely a mistake than a deletion of everything.
        is_whole=is_end and skip == 0 and (shown > 0 or not _was_there(scan.channel, snapshot)),
    )
    is_in_run = scan.run is not None and bool(page.rows) and instant(page.rows[0].updated_at) == scan.run.revision
    if scan.last and page.rows and not met.last & scan.last and not is_in_run:
        # More rows went than overlap. Once more from further up.
        return _retry(scan, max(0, skip - max(1, shown // 2)))
    onward = None if is_end or not page.rows else max(skip + shown - OVERLAP_ROWS, skip + 1)
    if scan.is_closing:
        return _close(met, None if _is_met(page, scan) else onward)
    if None not in {scan.total, page.total} and (page.total or 0) < (scan.total or 0):
        # Rows went: places are no measure any longer.
        met = replace(met, is_short=True)
    met = _follow_run(met, page, skip, is_end=onward is None)
    if scan.is_full:
        return _go_on(met, onward, MAX_PAGES)
    if onward is not None and scan.channel in snapshot.state.polls and not _settles(page, met, snapshot):
        return _go_on(met, onward, MAX_POLL_PAGES)
    if skip == 0:
        return replace(met, skip=None)
    return _go_on(replace(met, is_closing=True, last=frozenset()), 0, MAX_POLL_PAGES)


def _flaw_of(page: Page | None, skip: int) -> ListFlaw | None:
    if page is None:
        return ListFlaw.NO_PAGE
    if not _is_sorted(page):
        return ListFlaw.UNSORTED
    # Where the total alone counts more, it counts what is not shown: rows without an id, or rows that went.
    return ListFlaw.SHORT_PAGE if not page.rows and page.has_more and not _is_end(page, skip) else None


def _is_end(page: Page, skip: int) -> bool:
    return skip + len(page.rows) >= page.total if page.total is not None else not page.has_more


def _was_there(channel: Channel, snapshot: IndexSnapshot) -> bool:
    return channel in snapshot.state.polls and snapshot.state.polls[channel].total != 0


def _close(scan: Scan, onward: int | None) -> Scan:
    if onward is not None:
        return _go_on(scan, onward, MAX_POLL_PAGES)
    if not scan.is_short:
        return replace(scan, skip=None)
    again = replace(scan, is_short=False, is_closing=False, run=None, last=frozenset(), total=None)
    return _go_on(again, 0, MAX_POLL_PAGES)


def _is_met(page: Page, scan: Scan) -> bool:
    """Whether the page reaches down to what the poll met at first."""
    top = instant(scan.top)
    moments = (instant(row.updated_at) for row in page.rows if row.id in scan.rows)
    return top is None or any(moment is not None and moment <= top for moment in moments)


def _follow_run(scan: Scan, page: Page, skip: int, *, is_end: bool) -> Scan:
    """The scan with its run of equal revisions carried over this page, or closed in it and counted."""
    revisions = [instant(row.updated_at) for row in page.rows]
    run, is_short = scan.run, scan.is_short
    last = revisions[-1] if revisions else None
    if run is not None and last is not None and last > run.revision:
        # So much has moved to the front that the page stands above the run again.
        run, is_short = None, True
    if run is not None:
        here = frozenset(row.id for row, revision in zip(page.rows, revisions, strict=True) if revision == run.revision)
        if run.revision in revisions[1:] and revisions[0] != run.revision:
            # The page shows where it begins: all of it stands from there on.
            run = Run(run.revision, skip + revisions.index(run.revision), here)
        else:
            run = replace(run, met=run.met | here)
        if last != run.revision or is_end:
            end = skip + max(
                (place + 1 for place, revision in enumerate(revisions) if revision == run.revision), default=0
            )
            is_short = is_short or len(run.met) < end - run.start
            run = None
    if run is None and last is not None:
        start = revisions.index(last)
        run = Run(last, skip + start, frozenset(row.id for row in page.rows[start:]))
    return replace(scan, run=run, is_short=is_short)


def _go_on(scan: Scan, skip: int | None, most: int) -> Scan:
    if skip is not None and scan.pages >= most:
        # What stands further down may have changed, or be there still.
        return replace(scan, flaw=ListFlaw.TOO_LONG if scan.is_full else ListFlaw.SHIFTING, skip=None)
    return replace(scan, skip=skip)


def _retry(scan: Scan, skip: int) -> Scan:
    if scan.retries >= MAX_RETRIES + scan.pages // PAGES_A_RETRY:
        return replace(scan, flaw=ListFlaw.SHIFTING, skip=None)
    again = replace(scan, retries=scan.retries + 1, pages=scan.pages + 1, rows={} if scan.is_full else scan.rows)
    return _go_on(again, skip, MAX_PAGES if scan.is_full else MAX_POLL_PAGES)


def _settles(page: Page, scan: Scan, snapshot: IndexSnapshot) -> bool:
    """Whether nothing further down can have changed: the page ends with rows that have not, and that are old enough.

    Rows with equal revisions come in any order, so a changed one may still follow where the page ends with the newest
    revision that the last poll met, unless that revision can be nobody's any longer. Revisions that came up during that
    poll say nothing: what was read before they did may have changed since, with an older one.
    """
    if any(_is_changed(row, snapshot) for row in page.rows[-OVERLAP_ROWS:]):
        return False
    last = snapshot.state.polls[scan.channel]
    end, top = instant(page.rows[-1].updated_at), instant(last.top)
    if top is None or end is None:
        return False
    young = last.began + (scan.offset or 0.0) - snapshot.state.lag - CLOCK_SECONDS
    # Who knows the platform's clock knows when a revision can be no new one's.
    is_over = scan.offset is not None and top < young - _grain(last.top)
    return end < min(top, young) or (end == top and is_over)


def _grain(revision: str | None) -> float:
    """Seconds within which two changes may bear this very revision: its last digits tell."""
    text = (revision or "").split("+")[0].rstrip("Z")
    seconds, _, fraction = text.partition(".")
    if fraction.strip("0"):
        return 0.001
    return 60.0 if seconds.endswith(":00") else 1.0


def _is_changed(row: Row, snapshot: IndexSnapshot) -> bool:
    indexed = snapshot.campaigns.get(row.id)
    return indexed is not None and has_changed(indexed, row)


def _is_sorted(page: Page) -> bool:
    moments = [moment for row in page.rows if (moment := instant(row.updated_at)) is not None]
    return all(earlier >= later for earlier, later in pairwise(moments))


def lag_shown(scan: Scan, snapshot: IndexSnapshot) -> float | None:
    """The longest lag in seconds that this poll's moved rows show; None where no row has moved.

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


@dataclass(frozen=True, slots=True)
class ScanResult:
    """What a poll, or a page of a full scan, found."""

    state: IndexState
    updates: Mapping[str, IndexedCampaign]
    """Rows that are new, have moved, or are gone."""
    moved: frozenset[str]
    """The ids whose stored answers are out of date."""

    wants_full: bool = False
    """Whether numbers say that rows came or went unseen."""

    @property
    def met(self) -> Iterable[str]:
        """The ids that are new: what is stored of them may be out of date."""
        return (id_ for id_, indexed in self.updates.items() if indexed.is_listed and id_ not in self.moved)


def learn(snapshot: IndexSnapshot, channel: Channel, rows: Iterable[Row], ended: float) -> ScanResult:
    """What rows say, whether or not the poll or scan that met them comes to its end. The head's number rises.

    Args:
        snapshot: what is known.
        channel: whose list.
        rows: as they were met.
        ended: when the last of them came.
    """
    last = snapshot.state.polls.get(channel)
    told_until = math.inf if last is None else last.began - snapshot.state.lag
    updates, moved = {}, set()
    for row in rows:
        indexed = snapshot.campaigns.get(row.id)
        if instant(row.updated_at) is None:
            # A row without a revision cannot be seen to move; nor one whose revision has no place in the order.
            if indexed is not None and indexed.is_listed:
                updates[row.id] = replace(indexed, is_listed=False)
            continue
        is_changed = indexed is not None and has_changed(indexed, row)
        if indexed is not None and indexed.is_listed and not is_changed:
            continue
        if indexed is not None and not is_changed:
            # It had no revision for a while. What was out of date before is so still.
            updates[row.id] = replace(indexed, is_listed=True)
            continue
        updates[row.id] = IndexedCampaign(
            channel=channel,
            revision=row.revision,
            updated_at=row.updated_at,
            since=ended,
            has_changed=is_changed,
            status=row.status,
            fields=row.fields,
            edges=row.edges,
            # The same text under another revision: an answer that carries it may be from before.
            changed_after=told_until if indexed is not None and indexed.updated_at != row.updated_at else math.inf,
        )
        if is_changed:
            moved.add(row.id)
    return ScanResult(replace(snapshot.state, number=snapshot.state.number + 1), updates, frozenset(moved))


def conclude(scan: Scan, snapshot: IndexSnapshot, ended: float, lasts: float = 0.0) -> ScanResult:
    """What to remember of a poll that went through.

    Args:
        scan: the poll.
        snapshot: what was known when it ended.
        ended: when that was.
        lasts: seconds for which its proof is good.
    """
    result, last = learn(snapshot, scan.channel, scan.rows.values(), ended), snapshot.state.polls.get(scan.channel)
    if scan.is_whole:
        result = _without_the_gone(result, snapshot, scan.channel, scan.rows.keys(), ended)
    listed = _count(snapshot, result.updates, scan.channel)
    unlisted = last.unlisted if last is not None else 0
    full_scan_at = last.full_scan_at if last is not None else 0.0
    if scan.is_whole:
        unlisted, full_scan_at = scan.total - listed if scan.total is not None else unlisted, scan.began
    done = Poll(scan.began, lasts, scan.top, scan.total, unlisted, full_scan_at)
    flaws = {channel: flaw for channel, flaw in snapshot.state.flaws.items() if channel is not scan.channel}
    state = replace(result.state, polls={**snapshot.state.polls, scan.channel: done}, flaws=flaws)
    wants_full = full_scan_at > 0 and scan.total is not None and scan.total - listed != unlisted
    return replace(result, state=state, wants_full=wants_full)


def conclude_full(scan: Scan, seen: AbstractSet[str], snapshot: IndexSnapshot, ended: float) -> ScanResult | None:
    """What to remember of a full scan at its end, beside what its rows said; polls go on proving.

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
    nothing = ScanResult(replace(snapshot.state, number=snapshot.state.number + 1), {}, frozenset())
    result = _without_the_gone(nothing, snapshot, scan.channel, seen, ended)
    unlisted = 0 if scan.total is None else scan.total - _count(snapshot, result.updates, scan.channel)
    done = replace(last, full_scan_at=scan.began, unlisted=unlisted, total=scan.total)
    return replace(result, state=replace(result.state, polls={**snapshot.state.polls, scan.channel: done}))


def forget(snapshot: IndexSnapshot, channel: Channel) -> ScanResult:
    """The list as one that has not been polled yet: more has changed than a poll can tell.

    Nothing covers its campaigns until a full scan meets them again.
    """
    polls = {other: last for other, last in snapshot.state.polls.items() if other is not channel}
    updates = {
        id_: replace(indexed, is_listed=False)
        for id_, indexed in snapshot.campaigns.items()
        if indexed.channel is channel and indexed.is_listed
    }
    return ScanResult(replace(snapshot.state, polls=polls, number=snapshot.state.number + 1), updates, frozenset())


def _without_the_gone(
    result: ScanResult, snapshot: IndexSnapshot, channel: Channel, seen: AbstractSet[str], ended: float
) -> ScanResult:
    gone = {
        id_: replace(indexed, revision="", since=ended, has_changed=True, is_listed=False, changed_after=math.inf)
        for id_, indexed in snapshot.campaigns.items()
        if indexed.channel is channel and indexed.is_listed and id_ not in seen
    }
    return replace(result, updates={**result.updates, **gone}, moved=result.moved | gone.keys())


def _count(snapshot: IndexSnapshot, updates: Mapping[str, IndexedCampaign], channel: Channel) -> int:
    old = sum(
        1
        for id_, indexed in snapshot.campaigns.items()
        if indexed.channel is channel and indexed.is_listed and id_ not in updates
    )
    return old + sum(1 for indexed in updates.values() if indexed.is_listed)
