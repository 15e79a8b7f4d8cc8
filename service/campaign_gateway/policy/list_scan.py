"""The list of one channel, read page by page: a poll of what may have changed, or a full scan to its end.

| phase        | after a page that                                              | it goes on as                   |
|--------------|----------------------------------------------------------------|---------------------------------|
| any          | shows a flaw, or is one too many                               | `ENDED`, with the flaw          |
| any          | has no row of the page before it: more went than overlap       | the same, from further up       |
| `DESCENDING` | leaves something to read further down                          | the same, one page on           |
| `DESCENDING` | is a full scan's last one, or the first and last of a poll     | `ENDED`                         |
| `DESCENDING` | is a poll's last one of several                                | `CLOSING`, from the front       |
| `CLOSING`    | does not reach down to what the poll met at first              | the same, one page on           |
| `CLOSING`    | does, and rows may have slipped through                        | `DESCENDING`, from the front    |
| `CLOSING`    | does, and none can have                                        | `ENDED`                         |

Laws of this module:

1. A poll reads from the top down to rows that are older than whatever can have changed since the last poll began. What
   changed since then bears no `updatedAt` older than the newest of that moment, whatever the platform's clock says and
   however coarse its revisions are; nor, where the list lags, one older than that moment by more than the lag.
2. No row may slip through between two pages. Pages overlap, so none does where revisions differ and the list stands
   still. Where a run of equal revisions goes over the end of a page, its rows may come in another order with each
   question: then as many of them have to be met, in one pass, as there are places in the run. What moved to the front
   meanwhile is met by looking there once more, down to what was met before.
3. Its validation counts from its first page, however long it takes, so it can wait for calls between two pages.
4. The first poll of a channel is its first page: a place to begin from. Rows are listed reliably as a full scan meets
   them.
5. A full scan validates nothing: polls do. Polls go on beside it, and show what moves to the front behind its back.
6. What a poll or a scan has met is true whether or not it comes to its end (`policy.list_findings`).

All functions are pure; times are seconds of the clock that all replicas share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from itertools import pairwise

from campaign_gateway.contract.listing import Channel, ListPage, Row
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.sweeping import IndexSnapshot, ListFlaw, has_changed

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
CLOCK_SECONDS = 1.0
"""How well the platform's clock is known: its answers name whole seconds."""


class Phase(Enum):
    """What a poll or a full scan is about to do."""

    DESCENDING = auto()
    """Reads on, towards the older rows."""
    CLOSING = auto()
    """Looks at the front once more."""
    ENDED = auto()


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
    phase: Phase = Phase.DESCENDING
    skip: int = 0
    """Where the next page begins, unless it has ended."""
    last: frozenset[str] = frozenset()
    """The ids of the last page."""
    total: int | None = None
    run: "Run | None" = None
    """The equal revisions in which the last page ended."""
    is_short: bool = False
    """Whether this pass met fewer rows of such a run than there are."""
    is_whole: bool = False
    """Whether one page has shown the whole list."""
    retries: int = 0
    flaw: ListFlaw | None = None

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to ask."""
        return self.phase is Phase.ENDED

    @property
    def most_pages(self) -> int:
        """Pages that may be asked for."""
        return MAX_PAGES if self.is_full else MAX_POLL_PAGES

    def ended(self, flaw: ListFlaw | None = None) -> "Scan":
        """The scan at its end."""
        return replace(self, phase=Phase.ENDED, flaw=flaw)

    def onward(self, skip: int, phase: Phase | None = None) -> "Scan":
        """The scan before its page at that place, if it may ask for one more."""
        if self.pages >= self.most_pages:
            # What stands further down may have changed, or be there still.
            return self.ended(ListFlaw.TOO_LONG if self.is_full else ListFlaw.SHIFTING)
        return replace(self, skip=skip, phase=phase or self.phase)


def begin(channel: Channel, now: float, *, is_full: bool = False, offset: float | None = None) -> Scan:
    """A poll, or a full scan, that has read nothing yet.

    Args:
        channel: whose list.
        now: the time.
        is_full: whether it goes to the end.
        offset: seconds that the platform's clock is ahead of ours; None where that is not known.
    """
    return Scan(channel, now, is_full, offset)


def step(scan: Scan, page: ListPage | None, snapshot: IndexSnapshot) -> Scan:
    """The scan after one more page."""
    flaw = _flaw_of(page, scan.skip)
    if page is None or flaw is not None:
        return scan.ended(flaw)
    met = _with_page(scan, page, snapshot)
    if _is_apart(scan, met, page):
        return _retry(scan, max(0, scan.skip - max(1, len(page.rows) // 2)))
    following = max(scan.skip + len(page.rows) - OVERLAP_ROWS, scan.skip + 1)
    is_last = not page.rows or _is_end(page, scan.skip)
    if scan.phase is Phase.CLOSING:
        return _close(met) if is_last or _is_met(page, scan) else met.onward(following)
    met = _run_of(met, page, is_last=is_last)
    if not is_last and (scan.is_full or not _settles(page, met, snapshot)):
        return met.onward(following)
    if scan.is_full or scan.skip == 0:
        return met.ended()
    return replace(met, last=frozenset()).onward(0, Phase.CLOSING)


def _with_page(scan: Scan, page: ListPage, snapshot: IndexSnapshot) -> Scan:
    """The scan with what the page shows."""
    has_fewer = scan.total is not None and page.total is not None and page.total < scan.total
    return replace(
        scan,
        # What a later page shows is newer.
        rows={**({} if scan.is_full else scan.rows), **{row.id: row for row in page.rows}},
        top=scan.top or next((row.updated_at for row in page.rows if instant(row.updated_at) is not None), None),
        pages=scan.pages + 1,
        last=frozenset(row.id for row in page.rows),
        total=page.total,
        # Where rows went, places are no measure any longer.
        is_short=scan.is_short or (has_fewer and scan.phase is Phase.DESCENDING),
        is_whole=_is_end(page, scan.skip) and scan.skip == 0 and (bool(page.rows) or not _was_there(scan, snapshot)),
    )


def _is_apart(scan: Scan, met: Scan, page: ListPage) -> bool:
    """Whether the page has nothing of the one before it: more rows went than overlap."""
    if not scan.last or not page.rows or met.last & scan.last:
        return False
    return scan.run is None or instant(page.rows[0].updated_at) != scan.run.revision


def _flaw_of(page: ListPage | None, skip: int) -> ListFlaw | None:
    if page is None:
        return ListFlaw.NO_PAGE
    if not _is_sorted(page):
        return ListFlaw.UNSORTED
    # Where the total alone counts more, it counts what is not shown: rows without an id, or rows that went.
    return ListFlaw.SHORT_PAGE if not page.rows and page.has_more and not _is_end(page, skip) else None


def _is_end(page: ListPage, skip: int) -> bool:
    return skip + len(page.rows) >= page.total if page.total is not None else not page.has_more


def _was_there(scan: Scan, snapshot: IndexSnapshot) -> bool:
    """Whether the list held something: that it is empty now is more likely a mistake than a deletion of everything."""
    last = snapshot.state.polls.get(scan.channel)
    return last is not None and last.total != 0


def _close(scan: Scan) -> Scan:
    """The poll once it has met at the front what it met at first."""
    if not scan.is_short:
        return scan.ended()
    again = replace(scan, is_short=False, run=None, last=frozenset(), total=None)
    return again.onward(0, Phase.DESCENDING)


def _is_met(page: ListPage, scan: Scan) -> bool:
    """Whether the page reaches down to what the poll met at first."""
    top = instant(scan.top)
    moments = (instant(row.updated_at) for row in page.rows if row.id in scan.rows)
    return top is None or any(moment is not None and moment <= top for moment in moments)


def _run_of(scan: Scan, page: ListPage, *, is_last: bool) -> Scan:
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
            run = Run(run.revision, scan.skip + revisions.index(run.revision), here)
        else:
            run = replace(run, met=run.met | here)
        if last != run.revision or is_last:
            end = scan.skip + max(
                (place + 1 for place, revision in enumerate(revisions) if revision == run.revision), default=0
            )
            is_short = is_short or len(run.met) < end - run.start
            run = None
    if run is None and last is not None:
        start = revisions.index(last)
        run = Run(last, scan.skip + start, frozenset(row.id for row in page.rows[start:]))
    return replace(scan, run=run, is_short=is_short)


def _retry(scan: Scan, skip: int) -> Scan:
    """The scan before the page once more from further up."""
    if scan.retries >= MAX_RETRIES + scan.pages // PAGES_A_RETRY:
        return scan.ended(ListFlaw.SHIFTING)
    again = replace(scan, retries=scan.retries + 1, pages=scan.pages + 1, rows={} if scan.is_full else scan.rows)
    return again.onward(skip)


def _settles(page: ListPage, scan: Scan, snapshot: IndexSnapshot) -> bool:
    """Whether nothing further down can have changed: the page ends with rows that have not, and that are old enough.

    Rows with equal revisions come in any order, so a changed one may still follow where the page ends with the newest
    revision that the last poll met, unless that revision can be nobody's any longer. Revisions that came up during that
    poll say nothing: what was read before they did may have changed since, with an older one.
    """
    last = snapshot.state.polls.get(scan.channel)
    if last is None:
        # The first poll is its first page.
        return True
    if any(_is_changed(row, snapshot) for row in page.rows[-OVERLAP_ROWS:]):
        return False
    end, top = instant(page.rows[-1].updated_at), instant(last.top)
    if top is None or end is None:
        return False
    young = last.began + (scan.offset or 0.0) - snapshot.state.lag - CLOCK_SECONDS
    # Who knows the platform's clock knows when a revision can be no new one's.
    is_over = scan.offset is not None and top < young - _grain(last.top)
    return end < min(top, young) or (end == top and is_over)


def _grain(revision: str | None) -> float:
    """Seconds within which two changes may bear this very revision: its last digits show it."""
    text = (revision or "").split("+")[0].rstrip("Z")
    seconds, _, fraction = text.partition(".")
    if fraction.strip("0"):
        return 0.001
    return 60.0 if seconds.endswith(":00") else 1.0


def _is_changed(row: Row, snapshot: IndexSnapshot) -> bool:
    indexed = snapshot.campaigns.get(row.id)
    return indexed is not None and has_changed(indexed, row)


def _is_sorted(page: ListPage) -> bool:
    moments = [moment for row in page.rows if (moment := instant(row.updated_at)) is not None]
    return all(earlier >= later for earlier, later in pairwise(moments))
