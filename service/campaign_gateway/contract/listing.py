"""The list of campaigns: what to ask for, and what its rows say.

A row is another projection than the answer by id, and cannot stand in for it: it is a sign of change, and carries a few
fields of its own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from campaign_gateway.contract.document import DocumentError, parse, plain
from campaign_gateway.contract.revisions import instant, revision_of

ROW_FIELDS = ("name", "status", "priority", "createdAt", "updatedAt")
"""What a row and the answer by id both carry, under the same names and with the same meaning."""

STATUSES = ("Active", "Completed", "Ready", "Paused", "Preparing", "Stopped", "Scheduled", "Rescheduled")
"""Those that are documented; the platform may show others."""


class Channel(StrEnum):
    """The two kinds of campaign; a list is of one of them."""

    VOICE = "voice"
    SMS = "sms"


@dataclass(frozen=True, slots=True)
class Row:
    """One campaign in a list."""

    id: str
    revision: str
    """Version sign of the row: compared for equality only, and only with another row's."""
    updated_at: str | None
    """The revision that the answer by id carries too, mostly; None for a row without one."""
    status: str | None
    fields: Mapping[str, Any]
    """Those of `ROW_FIELDS` that it has."""
    edges: tuple[float, ...] = ()
    """Moments named by its schedule, seconds since the epoch: the campaign may change there by itself."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """A list answer."""

    rows: tuple[Row, ...]
    total: int | None
    """How many campaigns match in all, as the platform says; None where it does not."""
    has_more: bool


def list_body(channel: Channel, skip: int, limit: int) -> bytes:
    """The body that asks for the campaigns changed last, after the first `skip` of them."""
    return json.dumps(
        {"type": channel.value, "limit": limit, "skip": skip, "sortBy": {"updatedAt": "desc"}}, separators=(",", ":")
    ).encode()


def read_page(body: bytes) -> ListPage | None:
    """The page in the body of a list answer; None when it holds none.

    Rows without an id are left out; ids stand under `_id`, `id` or `campId`.
    """
    try:
        document = parse(body)
    except DocumentError:
        return None
    data = document.get("data") if isinstance(document, dict) else None
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(results, list):
        return None
    total = data.get("totalResults")
    return ListPage(
        rows=tuple(row for row in map(_read_row, results) if row is not None),
        total=total if isinstance(total, int) and not isinstance(total, bool) and total >= 0 else None,
        has_more=data.get("hasMore") is True,
    )


def _read_row(found: Any) -> Row | None:
    if not isinstance(found, dict):
        return None
    id_ = next((found[name] for name in ("_id", "id", "campId") if isinstance(found.get(name), str)), None)
    if not id_:
        return None
    status = found.get("status")
    updated_at = revision_of(found)
    signs = (updated_at, found.get("campaignInstanceUpdatedAt"), status)
    return Row(
        id=plain(id_),
        revision="|".join("" if sign is None else plain(str(sign)) for sign in signs),
        updated_at=updated_at,
        status=plain(status) if isinstance(status, str) else None,
        fields={name: found[name] for name in ROW_FIELDS if name in found},
        edges=tuple(sorted(_moments(found.get("schedule")))),
    )


def _moments(schedule: Any) -> Iterator[float]:
    """Whatever in a schedule can be read as an instant; which keys name edges is not documented."""
    for value in schedule.values() if isinstance(schedule, dict) else ():
        if isinstance(value, str) and (moment := instant(value)) is not None:
            yield moment
