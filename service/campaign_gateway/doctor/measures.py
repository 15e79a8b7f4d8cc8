"""What a probe has shown of a stream's lists. Pure: pages and answers in, numbers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from campaign_gateway.contract.listing import ROW_FIELDS, Channel, ListPage, Row
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.list_scan import CLOCK_SECONDS

_OWN_FIELDS = frozenset(ROW_FIELDS) - {"status", "updatedAt"}
"""What no lag of the list explains a difference of; `status` moves by itself."""


@dataclass(frozen=True, slots=True)
class SeenPage:
    """One page of a list."""

    channel: Channel
    skip: int
    limit: int
    """Rows that were asked for."""
    page: ListPage
    asked_at: float
    """Seconds since 1970 by the platform's clock, before the request left."""
    is_newest_first: bool = True


@dataclass(frozen=True, slots=True)
class SeenCampaign:
    """A row, and the answer by id that was read after it."""

    row: Row
    listed_at: float
    """When its page was asked for, by the platform's clock."""
    fields: Mapping[str, Any]
    """Of the answer by id."""


@dataclass(slots=True)
class Seen:
    """All that a probe of one stream has seen."""

    pages: list[SeenPage] = field(default_factory=list)
    campaigns: list[SeenCampaign] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of an answer by id; names in lower case."""
    is_validated: bool | None = None
    """Whether a conditional read was answered with 304; None where none was made."""

    def first(self, channel: Channel) -> SeenPage | None:
        """The first page of that list, newest first."""
        return next((seen for seen in self.pages if seen.channel is channel and seen.is_newest_first), None)

    def longest(self) -> SeenPage | None:
        """The first page of the list with the most campaigns."""
        firsts = [seen for channel in Channel if (seen := self.first(channel)) is not None]
        return max(firsts, key=size_of, default=None)


def size_of(seen: SeenPage) -> int:
    """How many campaigns the list has, as far as its first page says."""
    return max(seen.page.total or 0, seen.skip + len(seen.page.rows))


def granted_rows(seen: Seen) -> int | None:
    """The fewest rows that a page grants where it has not shown all; None where each list fits into one page."""
    cut = [len(one.page.rows) for one in seen.pages if one.skip == 0 and is_cut(one)]
    return min((count for count in cut if count), default=None)


def is_cut(seen: SeenPage) -> bool:
    """Whether there is more of the list than the page has."""
    return seen.page.has_more or (seen.page.total or 0) > seen.skip + len(seen.page.rows)


def sort_of(seen: Seen) -> bool | None:
    """Whether the order that was asked for is that of the rows; None where they cannot show it."""
    is_known = False
    for one in seen.pages:
        moments = [moment for row in one.page.rows if (moment := instant(row.updated_at)) is not None]
        if not one.is_newest_first:
            moments.reverse()
        if any(later > earlier for earlier, later in pairwise(moments)):
            return False
        is_known |= len(set(moments)) > 1
    longest = seen.longest()
    turned = next((one for one in seen.pages if not one.is_newest_first), None)
    if longest is None or turned is None or not is_known:
        return None
    shared = {row.id for row in longest.page.rows} & {row.id for row in turned.page.rows}
    if shared and size_of(longest) >= 2 * len(longest.page.rows):
        # A page that is sorted by itself holds the same rows both ways. Rows of one moment may come in any order.
        return None if _oldest(longest) == max(map(_moment, turned.page.rows)) else False
    return True


def lag_of(seen: Seen) -> float:
    """Seconds that a list was certainly behind; 0 where none was seen to be."""
    behind = [_lag(campaign) for campaign in seen.campaigns]
    for channel in Channel if sort_of(seen) is not False else ():
        firsts = [one for one in seen.pages if one.channel is channel and one.skip == 0 and one.is_newest_first]
        behind += [_lateness(row, firsts[0]) for later in firsts[1:] for row in later.page.rows]
    return max(behind, default=0.0)


def _lateness(row: Row, before: SeenPage) -> float:
    """Seconds by which the row came late, if its change was over when an earlier page did not show it."""
    changed = instant(row.updated_at)
    if changed is None or any((one.id, one.updated_at) == (row.id, row.updated_at) for one in before.page.rows):
        return 0.0
    if is_cut(before) and changed <= _oldest(before):
        # It may have been on a later page.
        return 0.0
    return max(0.0, before.asked_at - changed - CLOCK_SECONDS)


def _moment(row: Row) -> float:
    return instant(row.updated_at) or 0.0


def _oldest(seen: SeenPage) -> float:
    return min(map(_moment, seen.page.rows), default=0.0)


def _lag(campaign: SeenCampaign) -> float:
    changed, shown = instant(_text(campaign.fields.get("updatedAt"))), instant(campaign.row.updated_at)
    if changed is None or shown is None or changed <= shown:
        return 0.0
    # What was changed after the page was asked for shows nothing.
    return max(0.0, campaign.listed_at - changed - CLOCK_SECONDS)


def differences_of(seen: Seen) -> tuple[str, ...]:
    """Fields that a row shows otherwise than the answer by id, and no lag explains."""
    found = set()
    for campaign in seen.campaigns:
        names = _OWN_FIELDS | {"updatedAt"} if _is_older(campaign) else _OWN_FIELDS
        row = {**campaign.row.fields, "updatedAt": campaign.row.updated_at}
        if _lag(campaign) == 0.0:
            found |= {
                name for name in names & row.keys() & campaign.fields.keys() if row[name] != campaign.fields[name]
            }
    return tuple(sorted(found))


def _is_older(campaign: SeenCampaign) -> bool:
    """Whether the answer by id names no later change than the row: then a difference is one of form."""
    changed, shown = instant(_text(campaign.fields.get("updatedAt"))), instant(campaign.row.updated_at)
    return changed is None or shown is None or changed <= shown


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def hidden_of(seen: Seen, channel: Channel) -> int | None:
    """Campaigns that `totalResults` counts beyond those that are shown, negative for fewer; None where unknown."""
    pages = [one for one in seen.pages if one.channel is channel and one.is_newest_first]
    last = max(pages, key=lambda one: one.skip, default=None)
    if last is None or last.page.total is None:
        return None
    beyond = last.page.total - last.skip - len(last.page.rows)
    if last.page.has_more:
        # There is at least one more, and it should be counted.
        return min(0, beyond - 1) or None
    # A page without rows is asked for where the total has its last one.
    return beyond


def newest(page: ListPage) -> Sequence[Row]:
    """Its rows, those that changed last first, whatever its order."""
    return sorted(page.rows, key=_moment, reverse=True)
