"""What a list of campaigns proves about stored answers, decided without asking anybody.

A *round* reads the list of one channel, newest change first, and compares each row's mark with the last list mark of
the same id. The laws of this module:

1. A row that has not moved since the last round proves every answer that was read since its mark was first seen: the
   answer was true when the round *began*. Their age restarts there, all at once, by one number.
2. A row that has moved proves nothing, and says that answers read before the round's end are out of date.
3. An answer is *covered* only if it was read after its row's mark had been seen, and carries that row's `updatedAt` or
   was read `SETTLE_SECONDS` later: a read right after a change may still show the old state, and would then be proven
   for ever. Before a row was first seen, an answer with its `updatedAt` and status is the same state.
4. Marks are compared for equality; that a list is in order is judged by the instants they name. A mark that steps back
   is a change like any other, but it is not at the top of the list: only a full round finds it.
5. A campaign that no list shows, or with a mark that names no instant, is not covered. It lives by its own lifetime.
6. The list may be older than the answers by id, by `Walk.lag` at most: so much is part of the stated bound. A list
   whose marks show that it lags further proves nothing.
7. A round of several pages sees its first page once more, and no further. While more than a page of campaigns changes
   under way, one that changed before it and does so again, ahead of being read, can pass unseen. The next round looks
   as far down as this one's beginning, and finds it.

All functions are pure; times are seconds of the clock that all replicas share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise

from service.contract.listing import Channel, Page, Row
from service.contract.marks import instant
from service.policy.entry import Entry, Swept

PAGE_ROWS = 100
"""Rows asked for at once; the platform may grant fewer."""
OVERLAP_ROWS = 3
"""Rows of the last page that are asked for again, to see that no row slipped between two pages."""
MAX_PAGES = 200
MAX_RETRIES = 3
"""How often a round looks for rows that may have slipped between two pages, before it gives up for this time."""
SETTLE_SECONDS = 20.0
"""How long answers by id may lag behind the list where their marks cannot tell."""
LONGEST_LAG_SECONDS = 120.0
"""A list that seems to lag by more shows marks that are no times of change."""


class Flaw(StrEnum):
    """Why a round proves nothing. Metric label and reason at the same time: a closed set."""

    UNSORTED = "unsorted"
    """Rows are not in the order asked for."""
    NO_PAGE = "no-page"
    """The answer holds no list."""
    SHORT_PAGE = "short-page"
    """The platform grants no rows although there are more."""
    TOO_LONG = "too-long"
    """The list has more pages than a round may ask for."""
    SHIFTING = "shifting"
    """Rows moved between two pages so much that some may have been missed."""
    DISAGREES = "disagrees"
    """Answers by id keep saying something else than their rows."""
    TOO_LATE = "too-late"
    """The list lags behind further than can be allowed for."""


@dataclass(frozen=True, slots=True)
class Known:
    """What rounds have seen of one campaign."""

    channel: Channel
    mark: str
    updated_at: str | None
    since: float
    """The end of the round that first saw this mark: answers read earlier are not covered by it."""
    has_moved: bool
    """Whether another mark was seen before it: answers read earlier are then out of date."""
    is_listed: bool = True
    """Whether the last full round showed it."""
    status: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    edges: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Round:
    """The last good round of one channel."""

    began: float
    top: str | None = None
    """The newest `updatedAt` when it began: what changed since then bears none that is older."""
    total: int | None = None
    """How many campaigns the platform said there are ..."""
    unlisted: int = 0
    """... and how many more than it showed in a full round."""
    walked: float = 0.0
    """When the last full round began."""


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of one stream's list as a whole."""

    rounds: Mapping[Channel, Round] = field(default_factory=dict)
    lasts: float = 0.0
    """Seconds for which a round's proof is good: until the next one has to be there."""
    blind: float = 0.0
    """Seconds after a read by id for which rounds may prove its answer: until the next such read has to be there."""
    calls: int = 0
    """Calls of a window that rounds need: every replica keeps them."""
    paced: tuple[Channel, ...] = ()
    """Channels whose rounds are kept up; the others have no campaign in use."""
    flaws: Mapping[Channel, Flaw] = field(default_factory=dict)
    """Why a channel's rounds prove nothing at present."""
    number: int = 0
    """Rises with each change."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is known of one stream's list."""

    head: Head = field(default_factory=Head)
    known: Mapping[str, Known] = field(default_factory=dict)


def attest(entry: Entry, known: Known | None, head: Head) -> Entry:
    """The entry with what the rounds say of it.

    A copy in doubt stays in doubt until a read by id, or a round that began well after the doubt.
    """
    if known is None or entry.is_invalid:
        return entry
    if entry.proven_at < known.since and known.has_moved:
        return entry if entry.swept is not None else replace(entry, swept=Swept(known.since, is_moved=True))
    if known.channel in head.flaws or known.channel not in head.rounds:
        return entry
    if not is_covered(entry, known):
        settled = known.since + SETTLE_SECONDS
        if known.is_listed and entry.swept is None and known.since <= entry.proven_at < settled:
            # Read just after a change, with another mark than the row's: good until it can have settled, and no longer.
            return replace(entry, swept=Swept(settled, is_moved=True))
        return entry
    began = head.rounds[known.channel].began
    if began <= (entry.proven_at if entry.swept is None else entry.swept.at + SETTLE_SECONDS):
        return entry
    return replace(entry, swept=Swept(began, lasts=head.lasts, blind=head.blind))


def is_covered(entry: Entry, known: Known) -> bool:
    """Whether rounds that do not see the campaign move prove the entry."""
    if not known.is_listed or entry.absence is not None:
        return False
    agrees = entry.mark is not None and entry.mark == known.updated_at
    if entry.proven_at < known.since:
        # Read before the row was first seen, and nothing tells them apart: it has not changed in between.
        return agrees and not known.has_moved and entry.campaign_status == known.status
    return agrees or entry.proven_at >= known.since + SETTLE_SECONDS


# One round, page by page.


@dataclass(frozen=True, slots=True)
class Walk:
    """A round under way."""

    channel: Channel
    began: float
    is_full: bool
    lag: float = 0.0
    """Seconds that the list may lag behind answers by id."""
    rows: Mapping[str, Row] = field(default_factory=dict)
    top: str | None = None
    """The first `updatedAt` that it met and that names an instant."""
    pages: int = 0
    skip: int | None = 0
    """Where the next page begins; None when there is nothing more to ask."""
    last: frozenset[str] = frozenset()
    """The ids of the last page."""
    total: int | None = None
    is_closing: bool = False
    """Whether only the first page is missing, once more."""
    retries: int = 0
    flaw: Flaw | None = None


def begin(view: View, channel: Channel, now: float, *, walk_after: float, lag: float = 0.0) -> Walk:
    """A new round: full when there was none for `walk_after` seconds. The list may lag by `lag` seconds."""
    last = view.head.rounds.get(channel)
    is_full = last is None or last.walked == 0.0 or now - last.walked >= walk_after
    return Walk(channel, now, is_full, lag)


def step(walk: Walk, page: Page | None, view: View) -> Walk:
    """The round after one more page."""
    if page is None:
        return replace(walk, flaw=Flaw.NO_PAGE, skip=None)
    if not _is_sorted(page):
        return replace(walk, flaw=Flaw.UNSORTED, skip=None)
    if walk.is_closing:
        return _closed(walk, page)
    ids = frozenset(row.id for row in page.rows)
    if walk.last and page.rows and not ids & walk.last:
        # More rows went than overlap. Once more from further up.
        return _again(walk)
    # Of a row seen twice the first counts: it moved down because others moved up.
    rows = {**walk.rows, **{row.id: row for row in page.rows if row.id not in walk.rows}}
    skip = walk.skip or 0
    total = page.total
    is_end = skip + len(page.rows) >= total if total is not None else not page.has_more
    if not page.rows and not is_end and page.has_more:
        # Where the total alone counts more, it counts what is not shown: rows without an id, or rows that went.
        return replace(walk, flaw=Flaw.SHORT_PAGE, skip=None)
    onward = max(skip + len(page.rows) - OVERLAP_ROWS, skip + 1)
    is_done = is_end or not page.rows or (not walk.is_full and _settles(page, walk, view))
    if not is_done and walk.pages + 1 >= MAX_PAGES:
        # What stands further down may have changed, or be there still.
        return replace(walk, flaw=Flaw.TOO_LONG, skip=None)
    is_closing = is_done and walk.pages > 0
    skip_next = None if is_done else onward
    return replace(
        walk,
        rows=rows,
        top=walk.top or next((row.updated_at for row in page.rows if instant(row.updated_at) is not None), None),
        pages=walk.pages + 1,
        skip=0 if is_closing else skip_next,
        last=ids,
        total=total,
        is_closing=is_closing,
    )


def _closed(walk: Walk, page: Page) -> Walk:
    """A round of several pages with its first page once more: what moved to the front meanwhile is there."""
    rows = {**walk.rows, **{row.id: row for row in page.rows}}
    return replace(walk, rows=rows, pages=walk.pages + 1, skip=None, total=page.total)


def _again(walk: Walk) -> Walk:
    if walk.retries >= MAX_RETRIES or not walk.skip:
        return replace(walk, flaw=Flaw.SHIFTING, skip=None)
    return replace(walk, pages=walk.pages + 1, retries=walk.retries + 1, skip=max(0, walk.skip - PAGE_ROWS // 2))


def _settles(page: Page, walk: Walk, view: View) -> bool:
    """Whether nothing further down can have changed: the page ends with rows that have not, and that are old enough.

    In a list that is in order, what changed since the last round began stands above what is older than the newest mark
    of that moment, whatever the platform's clock says and however coarse its marks are; and, where the list lags, above
    what is older than that round by more than that (here the clocks are taken to agree). Rows with equal marks come in
    any order, so a changed one may still follow where the page ends with that newest mark. Marks that came up during
    that round say nothing: what was read before they did may have changed since, with an older one.
    """
    if any(_is_changed(row, view) for row in page.rows[-OVERLAP_ROWS:]):
        return False
    last, end = view.head.rounds.get(walk.channel), instant(page.rows[-1].updated_at)
    top = instant(last.top) if last is not None else None
    if last is None or top is None or end is None:
        return False
    return end < min(top, last.began - walk.lag)


def _is_changed(row: Row, view: View) -> bool:
    known = view.known.get(row.id)
    return known is None or has_moved(known, row)


def has_moved(known: Known, row: Row) -> bool:
    """Whether the mark is another one; or the row shows something else under the same mark, which is as good a sign."""
    return known.mark != row.mark or known.fields != row.fields


def _is_sorted(page: Page) -> bool:
    moments = [moment for row in page.rows if (moment := instant(row.updated_at)) is not None]
    return all(earlier >= later for earlier, later in pairwise(moments))


@dataclass(frozen=True, slots=True)
class Result:
    """What a round found."""

    head: Head
    changed: Mapping[str, Known]
    """Rows that are new, have moved, or are gone."""
    moved: frozenset[str]
    """The ids whose stored answers are out of date."""
    wants_full: bool = False
    """Whether numbers say that rows came or went unseen."""


def conclude(walk: Walk, view: View, ended: float) -> Result:
    """What to remember of a round that went through."""
    head, last = view.head, view.head.rounds.get(walk.channel)
    changed, moved = {}, set()
    for id_, row in walk.rows.items():
        known = view.known.get(id_)
        if instant(row.updated_at) is None:
            # A row without a mark cannot be seen to move; nor one whose mark has no place in the order.
            if known is not None and known.is_listed:
                changed[id_] = replace(known, is_listed=False)
            continue
        is_moved = known is not None and has_moved(known, row)
        if known is not None and known.is_listed and not is_moved:
            continue
        if known is not None and not is_moved:
            # It had no mark for a while. What was out of date before is so still.
            changed[id_] = replace(known, is_listed=True)
            continue
        changed[id_] = Known(
            channel=walk.channel,
            mark=row.mark,
            updated_at=row.updated_at,
            since=ended,
            has_moved=is_moved,
            status=row.status,
            fields=row.fields,
            edges=row.edges,
        )
        if is_moved:
            moved.add(id_)
    if walk.is_full:
        for id_, known in view.known.items():
            if known.channel is walk.channel and known.is_listed and id_ not in walk.rows:
                changed[id_] = replace(known, mark="", since=ended, has_moved=True, is_listed=False)
                moved.add(id_)
    listed = _count(view, changed, walk.channel)
    unlisted = last.unlisted if last is not None else 0
    if walk.is_full and walk.total is not None:
        unlisted = walk.total - listed
    done = Round(
        began=walk.began,
        top=walk.top,
        total=walk.total,
        unlisted=unlisted,
        walked=walk.began if walk.is_full else (last.walked if last is not None else 0.0),
    )
    flaws = {channel: flaw for channel, flaw in head.flaws.items() if channel is not walk.channel}
    return Result(
        head=replace(head, rounds={**head.rounds, walk.channel: done}, number=head.number + 1, flaws=flaws),
        changed=changed,
        moved=frozenset(moved),
        wants_full=walk.total is not None and walk.total - listed != unlisted,
    )


def _count(view: View, changed: Mapping[str, Known], channel: Channel) -> int:
    old = sum(
        1 for id_, known in view.known.items() if known.channel is channel and known.is_listed and id_ not in changed
    )
    return old + sum(1 for known in changed.values() if known.is_listed)


def apply(view: View, head: Head, changed: Mapping[str, Known]) -> View:
    """The view with a round's result."""
    return View(head, {**view.known, **changed})


def lag_shown(walk: Walk, view: View) -> float:
    """The longest lag in seconds that this round's moved rows show; 0 where none does.

    A row that names an instant before the last round began, but was not shown by it, was late by the difference at
    least. The platform's clock is taken to agree with ours.
    """
    last = view.head.rounds.get(walk.channel)
    if last is None or walk.is_full:
        return 0.0
    lags = [0.0]
    for row in walk.rows.values():
        known, moment = view.known.get(row.id), instant(row.updated_at)
        if known is not None and moment is not None and known.updated_at != row.updated_at:
            lags.append(last.began - moment)
    # A mark from long ago has stepped back: that says nothing of lag.
    return max(lag for lag in lags if lag <= LONGEST_LAG_SECONDS)
