"""What a write can change of what reads have shown, as a table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from campaign_gateway.contract.operations import OPERATIONS, Kind

_ID_FIELDS = ("_id", "id", "campId", "contactListId")


class Scope(StrEnum):
    """Which stored answers of an operation a write can have changed."""

    ONE = "one"
    """That of the id it is about."""
    ALL = "all"
    MAYBE = "maybe"
    """Any of them, or none. To have all of them read again would cost more than it shows: lifetimes and polls of the
    list count, but for whoever wrote."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Stored answers that a write can have changed."""

    resource: str
    scope: Scope


_ONE, _ALL, _MAYBE = Scope
_CAMPAIGN = {"get": _ONE, "status": _ONE, "list": _ALL}
_LISTS = {"contact-list-get": _ALL, "contact-list-list": _ALL}
"""They name the campaigns that use them, or count their contacts."""

_EFFECTS: Mapping[str, Mapping[str, Scope]] = {
    "create": {**_CAMPAIGN, **_LISTS},
    "update": {**_CAMPAIGN, **_LISTS},
    "delete": {**_CAMPAIGN, **_LISTS},
    "start": {**_CAMPAIGN, **_LISTS},
    "stop": {**_CAMPAIGN, **_LISTS},
    "schedule-on": _CAMPAIGN,
    "schedule-off": _CAMPAIGN,
    # It names a run, not a campaign.
    "call-back": {"get": _MAYBE, "status": _MAYBE, "list": _MAYBE},
    "contact-list-create": {"contact-list-get": _ONE, "contact-list-list": _ALL},
    # Campaigns carry the names of their lists.
    "contact-list-update": {"get": _ALL, "list": _ALL, "contact-list-get": _ONE, "contact-list-list": _ALL},
    "contact-list-delete": {"get": _ALL, "list": _ALL, "contact-list-get": _ONE, "contact-list-list": _ALL},
    # The list is named, not identified.
    "contacts-add": {**_LISTS, "get": _MAYBE, "list": _MAYBE},
}

RESOURCES: Mapping[str, tuple[str, ...]] = {
    name: tuple(row.resource for row in OPERATIONS if row.name == name)
    for name in dict.fromkeys(row.name for row in OPERATIONS if row.kind in {Kind.READ, Kind.READ_BY_POST})
}
"""For each read that is stored, its resources in both versions: a write through either changes what both show."""


def effects_of(write: str) -> Iterator[Effect]:
    """What the write of this name can have changed."""
    for read, scope in _EFFECTS[write].items():
        yield from (Effect(resource, scope) for resource in RESOURCES[read])


def ids_named(document: Any) -> Iterable[str]:
    """The ids that a write's answer says it was about; they stand in several places."""
    if not isinstance(document, dict):
        return ()
    data = document.get("data")
    places = (document, data if isinstance(data, dict) else {})
    return {place[name] for place in places for name in _ID_FIELDS if isinstance(place.get(name), str)}
