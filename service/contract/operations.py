"""What the platform can be asked, as a table. A new operation is a new row.

The platform documents five path prefixes for one resource space; an operation lives in one of them. `{stream}`,
`{account}` and `{id}` in paths and queries stand for the tenant's and the request's values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
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


@dataclass(frozen=True, slots=True)
class Shape:
    """What a successful answer looks like."""

    data: type = dict
    """The JSON type of its `data` member; `type(None)` where the answer has none."""
    ids: tuple[str, ...] = ()
    """Members of `data`, one of which must equal the id asked for; empty where the answer names none."""
    status_is_flag: bool = True
    """Whether the top-level `status` says success or failure; start and stop put a campaign status there."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing the platform can do."""

    name: str
    """The value of the metric label `operation`; unique."""
    kind: Kind
    method: str
    family: Family
    path: str
    query: tuple[tuple[str, str], ...]
    answer: Shape


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


GET = Operation(
    name="get",
    kind=Kind.READ,
    method="GET",
    family=Family.A,
    path="/campaign/{id}",
    query=(("accountId", "{account}"),),
    answer=Shape(ids=("_id", "id", "campId")),
)

LIST = Operation(
    name="list",
    kind=Kind.READ_BY_POST,
    method="POST",
    family=Family.A,
    path="/campaign/getAllCampaignDetails",
    query=(("accountId", "{account}"),),
    answer=Shape(),
)

OPERATIONS = {operation.name: operation for operation in (GET, LIST)}


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
        target += "?" + "&".join(f"{name}={value.format_map(encoded)}" for name, value in operation.query)
    headers = {"iid": tenant.app, "accountId": tenant.account, "Content-Type": "application/json"}
    return Call(method=operation.method, target=target, headers=headers, body=body)
