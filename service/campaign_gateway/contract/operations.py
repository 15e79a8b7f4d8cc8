"""What the platform can be asked, as a table. A new operation is a new row.

The platform documents five path prefixes for one resource space; a row is one line of its endpoint pages. In paths and
queries `{stream}` and `{account}` stand for the tenant's values, `{id}`, `{type}` and `{name}` for the request's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from urllib.parse import quote


class Kind(StrEnum):
    """What a call does, which decides whether it may be stored, repeated, or must invalidate."""

    READ = "R"
    READ_BY_POST = "RP"
    READ_PERSONAL = "RX"
    """A read that carries contacts' personal data: never stored."""
    WRITE = "W"


class Family(StrEnum):
    """The documented path prefixes."""

    A = "/campaign/api/v2/public/{stream}"
    B = "/agentassist/api/v1/public/{stream}"
    C = "/campaign/api/v1/public/{stream}"
    D = "/api/v2/public/{stream}"
    E = "/api/1.1/public/{stream}"


class Subject(StrEnum):
    """What an operation is about."""

    CAMPAIGN = "campaign"
    CONTACT_LIST = "contact-list"


class RequestBody(StrEnum):
    """The body of a request."""

    NOTHING = "nothing"
    JSON = "json"
    MAYBE_JSON = "maybe-json"
    """One JSON document or none, which is sent as `{}`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a successful answer looks like."""

    data: type = dict
    """The JSON type of its `data` member; `object` where nothing is promised of it."""
    ids: tuple[str, ...] = ()
    """Members of `data`, one of which must equal the id asked for; empty where the answer names none."""
    status_is_flag: bool = True
    """Whether the top-level `status` says success or failure; start and stop put a campaign status there."""
    has_revision: bool = False
    """Whether `data.updatedAt` changes with all that may change in it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the platform can do, at one of the places where it can be asked for."""

    name: str
    """What is done; the value of the metric label `operation`."""
    kind: Kind
    method: str
    family: Family
    path: str
    query: str = ""
    body: RequestBody = RequestBody.NOTHING
    answer: Shape = field(default_factory=Shape)
    subject: Subject = Subject.CAMPAIGN
    version: int = 2

    @property
    def resource(self) -> str:
        """The part of a cache key: the two versions show the same campaign in different ways."""
        return self.name if self.version > 1 else f"{self.name}-v1"

    @property
    def parameters(self) -> dict[str, str]:
        """Names and values of its query; a value in braces is the request's."""
        return dict(part.split("=", 1) for part in self.query.split("&") if part)


@dataclass(frozen=True, slots=True)
class Tenant:
    """Whose campaigns: what the platform wants to see in the path, two headers and the query of each call."""

    stream: str
    account: str
    app: str


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the platform, complete but for its host and its token."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    headers: Mapping[str, str]
    body: bytes | None = None


_CAMPAIGN = Shape(ids=("_id", "id", "campId"), has_revision=True)
_STATUS = Shape(ids=("id", "_id"))
_LIST_BY_ID = Shape(ids=("_id", "id"))
_ARRAY = Shape(data=list)
_CHANGED = Shape(data=object)
_TRIGGERED = Shape(data=object, status_is_flag=False)

_R, _RP, _RX, _W = Kind
_A, _B, _C, _D, _E = Family
_LISTS = "/campaign/contactList"
_ACCOUNT = "accountId={account}"
_TYPE = "campaignType={type}"
_JSON, _MAYBE, _LIST = RequestBody.JSON, RequestBody.MAYBE_JSON, Subject.CONTACT_LIST

OPERATIONS: tuple[Operation, ...] = (
    # Campaigns, v2.
    Operation("get", _R, "GET", _A, "/campaign/{id}", _ACCOUNT, answer=_CAMPAIGN),
    Operation("list", _RP, "POST", _A, "/campaign/getAllCampaignDetails", _ACCOUNT, _JSON),
    Operation("status", _RP, "POST", _A, "/campaign/{id}/status", f"{_ACCOUNT}&view=status", _MAYBE, _STATUS),
    Operation("outcomes", _RX, "POST", _A, "/campaign/{id}/status", "view=contacts", _JSON),
    Operation("create", _W, "POST", _A, "/campaign", f"{_ACCOUNT}&{_TYPE}", _JSON, _CHANGED),
    Operation("create", _W, "POST", _D, "/campaign", f"{_ACCOUNT}&campaignType=sms", _JSON, _CHANGED),
    Operation("update", _W, "PUT", _A, "/campaign/{id}", f"{_ACCOUNT}&{_TYPE}", _JSON, _CHANGED),
    Operation("delete", _W, "DELETE", _A, "/campaign/{id}", f"{_ACCOUNT}&{_TYPE}", answer=_CHANGED),
    *(
        Operation(name, _W, "POST", family, path, query, _MAYBE, _TRIGGERED)
        for name, family, path, query in (
            ("start", _D, "/campaign/trigger/{id}", f"{_ACCOUNT}&campaignType=voice&trigger=play"),
            ("stop", _D, "/campaign/trigger/{id}", f"{_ACCOUNT}&campaignType=voice&trigger=stop"),
            ("start", _A, "/campaign/{id}", "campaignType=sms&trigger=play"),
            # Two slashes, as the platform's page has them.
            ("stop", _A, "/campaign//trigger/{id}", f"{_ACCOUNT}&campaignType=sms&trigger=stop"),
        )
    ),
    Operation(
        "schedule-on", _W, "POST", _A, "/campaign/schedule", "enableSchedule=true&campaignName={name}", _JSON, _CHANGED
    ),
    Operation(
        "schedule-off",
        _W,
        "POST",
        _A,
        "/campaign/schedule",
        "enableSchedule=false&campaignName={name}",
        _MAYBE,
        _CHANGED,
    ),
    Operation("call-back", _W, "POST", _A, "/campaign/{id}/callContactAt", "", _JSON, _CHANGED),
    # Campaigns, v1.
    Operation("get", _R, "GET", _B, "/campaign/{id}", answer=_CAMPAIGN, version=1),
    Operation("list", _RP, "POST", _B, "/campaign/getAllCampaignDetails", "", _JSON, version=1),
    Operation("status", _RP, "POST", _B, "/campaign/{id}/status", "view=status", _MAYBE, _STATUS, version=1),
    Operation("outcomes", _RX, "POST", _B, "/campaign/{id}/status", "view=contacts", _JSON, version=1),
    Operation("create", _W, "POST", _B, "/campaign", _TYPE, _JSON, _CHANGED, version=1),
    Operation("update", _W, "PUT", _B, "/campaign/{id}", _TYPE, _JSON, _CHANGED, version=1),
    Operation("delete", _W, "DELETE", _B, "/campaign/{id}", _TYPE, answer=_CHANGED, version=1),
    Operation("start", _W, "POST", _C, "/campaign/{id}", f"{_TYPE}&trigger=play", _MAYBE, _TRIGGERED, version=1),
    Operation("stop", _W, "POST", _C, "/campaign/{id}", f"{_TYPE}&trigger=stop", _MAYBE, _TRIGGERED, version=1),
    # Contact lists: v2 in family A, v1 in family B, where only the contacts' query names the account.
    *(
        Operation(
            name, kind, method, family, _LISTS + path, query if version > 1 else v1_query, body, shape, _LIST, version
        )
        for family, version in ((_A, 2), (_B, 1))
        for name, kind, method, path, query, v1_query, body, shape in (
            ("contact-list-create", _W, "POST", "/createContactList", _ACCOUNT, "", _JSON, _CHANGED),
            ("contact-list-get", _R, "GET", "/{id}", _ACCOUNT, "", RequestBody.NOTHING, _LIST_BY_ID),
            (
                "contact-list-list",
                _RP,
                "POST",
                "/getAllListDetails",
                f"{_ACCOUNT}&type=call",
                "type=call",
                _MAYBE,
                _ARRAY,
            ),
            ("contact-list-update", _W, "PUT", "/{id}", _ACCOUNT, "", _JSON, _CHANGED),
            ("contact-list-delete", _W, "DELETE", "/{id}", _ACCOUNT, "", RequestBody.NOTHING, _CHANGED),
            ("contacts", _RX, "GET", "/{id}/getAllContacts", _ACCOUNT, _ACCOUNT, RequestBody.NOTHING, Shape()),
        )
    ),
    Operation("contacts-add", _W, "POST", _E, f"{_LISTS}/addContacts", "", _JSON, _CHANGED, _LIST),
)

LITERALS = frozenset(part for row in OPERATIONS for part in row.path.split("/") if part and part != "{id}")
"""Words that stand where ids stand. None of them is an id: the call about it would be another operation."""


@cache
def operation(name: str, *, version: int = 2, channel: str | None = None, family: Family | None = None) -> Operation:
    """The row of this name.

    Args:
        name: what is to be done.
        version: of the API.
        channel: `voice` or `sms`, where the platform has another place for each.
        family: where it has one for a special case.

    Raises:
        LookupError: there is none.
    """
    for row in OPERATIONS:
        given = row.parameters.get("campaignType", "{type}")
        fits_channel = channel is None or given in {"{type}", channel}
        if row.name == name and row.version == version and fits_channel and family in {None, row.family}:
            return row
    raise LookupError(f"no operation {name} for {channel} in version {version}")


GET = operation("get")
LIST = operation("list")


def build_call(operation: Operation, tenant: Tenant, values: Mapping[str, str], body: bytes | None = None) -> Call:
    """The call that asks for `operation`.

    Args:
        operation: a row of the table.
        tenant: whose campaigns.
        values: what the row's placeholders other than the tenant's stand for, such as `id`.
        body: JSON, where the operation takes one.

    Raises:
        KeyError: a placeholder has no value.
    """
    filled = {"stream": tenant.stream, "account": tenant.account, **values}
    encoded = {name: quote(value, safe="") for name, value in filled.items()}
    target = (operation.family + operation.path).format_map(encoded)
    if operation.query:
        target += "?" + operation.query.format_map(encoded)
    if body is None and operation.body is RequestBody.MAYBE_JSON:
        body = b"{}"
    headers = {"iid": tenant.app, "accountId": tenant.account, "Content-Type": "application/json"}
    return Call(method=operation.method, target=target, headers=headers, body=body)
