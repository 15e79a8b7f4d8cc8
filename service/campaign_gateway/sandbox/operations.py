"""The operations of the platform as a table, and the match of a request against it.

One row is one line of the vendor's endpoint pages. The five path families name one resource space; a write through
any of them changes what reads through every other one return.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote, unquote_plus


class OperationName(StrEnum):
    """The closed set of operations; faults and the request log use these words."""

    GET = "get"
    LIST = "list"
    STATUS = "status"
    OUTCOMES = "outcomes"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    TRIGGER = "trigger"
    SCHEDULE = "schedule"
    CALL_BACK = "call-back"
    CONTACT_LIST_CREATE = "contact-list-create"
    CONTACT_LIST_GET = "contact-list-get"
    CONTACT_LIST_LIST = "contact-list-list"
    CONTACT_LIST_UPDATE = "contact-list-update"
    CONTACT_LIST_DELETE = "contact-list-delete"
    CONTACTS = "contacts"
    CONTACTS_ADD = "contacts-add"
    UNKNOWN = "unknown"


class Family(StrEnum):
    """A path family; the letter is the documentation's order, the value is what stands before the stream id."""

    A = "/campaign/api/v2/public"
    B = "/agentassist/api/v1/public"
    C = "/campaign/api/v1/public"
    D = "/api/v2/public"
    E = "/api/1.1/public"


@dataclass(frozen=True, slots=True)
class Row:
    """One operation in some families.

    Attributes:
        families: Where it lives.
        method: The only method it answers.
        path: Segments after the stream id; `*` stands for an id.
        name: Which operation it is.
        needs_account_query: v2 documents `accountId` in the query, so the request must carry it.
        campaign_type: The only value of the query's `campaignType` that this path serves; empty for any.
        view: The query's `view`, where one path serves two operations.
        tenant_headers: False where the vendor's sample leaves `iid` and `accountId` out.
    """

    families: tuple[Family, ...]
    method: str
    path: tuple[str, ...]
    name: OperationName
    needs_account_query: bool = False
    campaign_type: str = ""
    view: str = ""
    tenant_headers: bool = True


_N, _F = OperationName, Family
_AB, _V2, _V1 = (_F.A, _F.B), (_F.A,), (_F.B,)
_LISTS = ("campaign", "contactList")

# A literal never fits `*`, so order matters only between rows that differ by view: the named view stands first.
TABLE: tuple[Row, ...] = (
    # Campaigns.
    Row(_V2, "POST", ("campaign",), _N.CREATE, needs_account_query=True),
    Row(_V1, "POST", ("campaign",), _N.CREATE),
    Row((_F.D,), "POST", ("campaign",), _N.CREATE, needs_account_query=True, campaign_type="sms"),
    Row(_V2, "POST", ("campaign", "schedule"), _N.SCHEDULE),
    Row(_V2, "POST", ("campaign", "getAllCampaignDetails"), _N.LIST, needs_account_query=True),
    Row(_V1, "POST", ("campaign", "getAllCampaignDetails"), _N.LIST),
    # Contact lists.
    Row((_F.E,), "POST", (*_LISTS, "addContacts"), _N.CONTACTS_ADD),
    Row(_V2, "POST", (*_LISTS, "createContactList"), _N.CONTACT_LIST_CREATE, needs_account_query=True),
    Row(_V1, "POST", (*_LISTS, "createContactList"), _N.CONTACT_LIST_CREATE),
    Row(_V2, "POST", (*_LISTS, "getAllListDetails"), _N.CONTACT_LIST_LIST, needs_account_query=True),
    Row(_V1, "POST", (*_LISTS, "getAllListDetails"), _N.CONTACT_LIST_LIST),
    Row(_V2, "GET", (*_LISTS, "*"), _N.CONTACT_LIST_GET, needs_account_query=True),
    Row(_V1, "GET", (*_LISTS, "*"), _N.CONTACT_LIST_GET),
    Row(_V2, "PUT", (*_LISTS, "*"), _N.CONTACT_LIST_UPDATE, needs_account_query=True),
    Row(_V1, "PUT", (*_LISTS, "*"), _N.CONTACT_LIST_UPDATE),
    Row(_V2, "DELETE", (*_LISTS, "*"), _N.CONTACT_LIST_DELETE, needs_account_query=True),
    Row(_V1, "DELETE", (*_LISTS, "*"), _N.CONTACT_LIST_DELETE),
    Row(_AB, "GET", (*_LISTS, "*", "getAllContacts"), _N.CONTACTS, needs_account_query=True, tenant_headers=False),
    # Triggers: each kind has a path of its own in v2, and v1 shares one.
    Row((_F.D,), "POST", ("campaign", "trigger", "*"), _N.TRIGGER, needs_account_query=True, campaign_type="voice"),
    Row(_V2, "POST", ("campaign", "trigger", "*"), _N.TRIGGER, needs_account_query=True, campaign_type="sms"),
    Row(_V2, "POST", ("campaign", "*"), _N.TRIGGER, campaign_type="sms"),
    Row((_F.C,), "POST", ("campaign", "*"), _N.TRIGGER),
    # One campaign.
    Row(_V2, "GET", ("campaign", "*"), _N.GET, needs_account_query=True),
    Row(_V1, "GET", ("campaign", "*"), _N.GET),
    Row(_V2, "PUT", ("campaign", "*"), _N.UPDATE, needs_account_query=True),
    Row(_V1, "PUT", ("campaign", "*"), _N.UPDATE),
    Row(_V2, "DELETE", ("campaign", "*"), _N.DELETE, needs_account_query=True),
    Row(_V1, "DELETE", ("campaign", "*"), _N.DELETE),
    Row(_AB, "POST", ("campaign", "*", "status"), _N.OUTCOMES, view="contacts"),
    Row(_V2, "POST", ("campaign", "*", "status"), _N.STATUS, needs_account_query=True),
    Row(_V1, "POST", ("campaign", "*", "status"), _N.STATUS),
    Row(_V2, "POST", ("campaign", "*", "callContactAt"), _N.CALL_BACK),
)

_LITERALS = frozenset(segment for row in TABLE for segment in row.path if segment != "*")


@dataclass(frozen=True, slots=True)
class Match:
    """A request recognised, as far as it could be.

    Attributes:
        name: The operation; `unknown` where no row has this path, or none with this method.
        version: 1 or 2, the version of the API that the family belongs to.
        row: The row, None for an unknown operation.
        stream_id: The application id in the path, empty where there is none.
        id: The id in the path, decoded; empty where there is none.
        query: Decoded query; of a repeated key the last value.
        wrong_method: A row has this path but another method.
    """

    name: OperationName
    version: int = 2
    row: Row | None = None
    stream_id: str = ""
    id: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    wrong_method: bool = False


def match(method: str, target: str) -> Match:
    """The operation that a request line asks for.

    Args:
        method: The method of the request.
        target: The raw request target. Doubled slashes, a trailing slash and backslashes before `&` are
            tolerated, because the vendor's own pages show them.
    """
    path, _, raw_query = target.partition("?")
    query = _query(raw_query)
    segments = tuple(unquote(segment) for segment in path.split("/") if segment)
    for family in Family:
        prefix = tuple(family.value.strip("/").split("/"))
        if segments[: len(prefix)] == prefix and len(segments) > len(prefix):
            stream_id, rest = segments[len(prefix)], segments[len(prefix) + 1 :]
            return _match_rows(family, method, stream_id, rest, query)
    return Match(OperationName.UNKNOWN, query=query)


def _match_rows(family: Family, method: str, stream_id: str, rest: tuple[str, ...], query: Mapping[str, str]) -> Match:
    version = 1 if family in {Family.B, Family.C} else 2
    same_path = [row for row in TABLE if family in row.families and _fits(row.path, rest)]
    for row in same_path:
        if row.method == method and row.view in {"", query.get("view")}:
            named = next((given for part, given in zip(row.path, rest, strict=True) if part == "*"), "")
            return Match(row.name, version, row, stream_id, named, query)
    return Match(OperationName.UNKNOWN, version, None, stream_id, "", query, wrong_method=bool(same_path))


def _fits(path: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    if len(path) != len(segments):
        return False
    return all(
        given not in _LITERALS if part == "*" else part == given for part, given in zip(path, segments, strict=True)
    )


def _query(raw: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for pair in raw.split("&"):
        key, _, value = pair.partition("=")
        if key:
            # `...\&trigger=play` of the vendor's pages leaves a backslash at the end of the value before it.
            query[unquote_plus(key)] = unquote_plus(value).removesuffix("\\")
    return query
