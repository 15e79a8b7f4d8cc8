"""Lists of campaigns: what a list body asks for, and the rows and paging that answer it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from campaign_gateway.sandbox.answers import invalid
from campaign_gateway.sandbox.campaigns import Campaign, Kind
from campaign_gateway.sandbox.marks import moment

# The samples' page size. The real default is not documented, nor the most that is granted to who asks for more.
PAGE_ROWS = 50

_SORTABLE = ("name", "createdAt", "updatedAt")
_ORDERS = ("asc", "desc")
_DEFAULT_SORT = (("createdAt", "desc"),)
_FILTERS: Mapping[str, Callable[[Campaign], Any]] = {
    "status": lambda campaign: campaign.fields.get("status"),
    "priority": lambda campaign: str(campaign.fields.get("priority")),
    "dialingMode": lambda campaign: campaign.fields.get("dialingMode"),
}


@dataclass(frozen=True, slots=True)
class Paging:
    """Which rows of the whole match: `limit` of them after the first `skip`."""

    skip: int = 0
    limit: int = PAGE_ROWS

    def envelope(self, rows: Sequence[Any]) -> dict[str, Any]:
        """The `data` of a list answer: the rows of this page and where they stand in all of them."""
        page = rows[self.skip : self.skip + self.limit]
        return {
            "results": list(page),
            "skip": self.skip,
            "limit": self.limit,
            "hasMore": self.skip + len(page) < len(rows),
            "totalPages": math.ceil(len(rows) / self.limit),
            "totalResults": len(rows),
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """A list body, understood.

    Attributes:
        kind: Voice or SMS: a list never mixes them.
        paging: Where and how much.
        sort: Field and order of each sort key, the first one strongest.
        filters: For each filter its accepted values as text.
        since: Earliest `createdAt`, seconds since the epoch. Which timestamp the platform filters is unknown.
        until: Latest `createdAt`.
    """

    kind: Kind
    paging: Paging = field(default_factory=Paging)
    sort: tuple[tuple[str, str], ...] = _DEFAULT_SORT
    filters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    since: float = -math.inf
    until: float = math.inf


@dataclass(slots=True)
class Lists:
    """How lists are answered; it may change while the platform runs.

    Attributes:
        page_rows: The most rows that one page has, whatever is asked for.
    """

    page_rows: int = PAGE_ROWS


def wanted(body: Mapping[str, Any], page_rows: int = PAGE_ROWS) -> Wanted:
    """What a list body asks for, where a page has `page_rows` rows at most.

    Raises:
        RefusedError: 412, something in it is not acceptable.
    """
    if body.get("type") not in list(Kind):
        raise invalid("type must be voice or sms")
    limit = min(_number(body, "limit") or PAGE_ROWS, page_rows)
    skip, page = _number(body, "skip"), _number(body, "page")
    if not skip and page:
        # Both may be sent, and which one wins is unknown: here `skip`, unless it says nothing.
        skip = (page - 1) * limit
    return Wanted(
        kind=Kind(body["type"]),
        paging=Paging(skip or 0, limit),
        sort=_sort(body.get("sortBy")),
        filters=_filters(body.get("filters")),
        since=_date(body, "startDate", -math.inf),
        until=_date(body, "endDate", math.inf),
    )


def matching(campaigns: Sequence[Campaign], asked: Wanted, *, is_sorted: bool = True) -> list[Campaign]:
    """The campaigns that a list body matches, in its order; unsorted they keep the order given."""
    found = [campaign for campaign in campaigns if campaign.kind is asked.kind and _is_wanted(campaign, asked)]
    if is_sorted:
        # Weakest key first: the sort is stable.
        for key, order in reversed(asked.sort):
            found.sort(key=lambda campaign: str(campaign.fields.get(key, "")), reverse=order == "desc")
    return found


def _is_wanted(campaign: Campaign, asked: Wanted) -> bool:
    if any(_FILTERS[name](campaign) not in values for name, values in asked.filters.items()):
        return False
    if math.isinf(asked.since) and math.isinf(asked.until):
        return True
    return asked.since <= moment(campaign.fields["createdAt"]) <= asked.until


def _number(body: Mapping[str, Any], key: str) -> int | None:
    """A paging number from 0; None where it is absent or the empty string that the documentation allows."""
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise invalid(f"{key} must be a number from 0 or an empty string")
    return value


def _sort(given: Any) -> tuple[tuple[str, str], ...]:
    if given is None or given == {}:
        return _DEFAULT_SORT
    if not isinstance(given, dict):
        raise invalid("sortBy must be an object")
    for key, order in given.items():
        if key not in _SORTABLE or order not in _ORDERS:
            raise invalid("sortBy takes name, createdAt and updatedAt, each asc or desc")
    return tuple(given.items())


def _filters(given: Any) -> dict[str, frozenset[str]]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise invalid("filters must be an object")
    for key, values in given.items():
        if key not in _FILTERS or not isinstance(values, list):
            raise invalid("filters takes lists under status, priority and dialingMode")
    # An empty list filters nothing. Priorities are numbers here and text in campaigns.
    return {key: frozenset(map(str, values)) for key, values in given.items() if values}


def _date(body: Mapping[str, Any], key: str, absent: float) -> float:
    value = body.get(key)
    if value is None or value == "":
        return absent
    try:
        return moment(value)
    except (TypeError, ValueError):
        raise invalid(f"{key} must be a date") from None
