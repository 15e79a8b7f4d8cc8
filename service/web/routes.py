"""The API's routes, as a table over the raw request target.

The raw target is the only truth: aiohttp's own `path` is decoded and normalised, so `..%2f` and `//` would arrive as
something else than what was sent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from service.contract.operations import GET, Operation
from service.policy.settle import Failure
from service.problems import Problem

_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}")
MAX_FIELDS = 50
_CAMPAIGN_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Route:
    """One resource: where it is, and which operation each method on it asks for."""

    path: re.Pattern[str]
    methods: Mapping[str, Operation]
    scope: str

    @property
    def allow(self) -> str:
        """The value of an `Allow` field."""
        return ", ".join(sorted(self.methods))


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for."""

    operation: Operation
    scope: str
    stream: str | None
    """The alias in the path; None where it names none."""
    id: str
    fields: frozenset[str] | None = None
    """Members of `data` to be cut down to; None for all."""


ROUTES = (
    Route(
        re.compile(r"/v1(?:/streams/(?P<stream>[^/]+))?/campaigns/(?P<id>[^/]+)"),
        {"GET": GET, "HEAD": GET},
        scope="read",
    ),
)


class NoRouteError(Exception):
    """The request is for nothing that there is."""

    def __init__(self, failure: Failure, operation: str = "none", allow: str | None = None) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.operation = operation
        self.allow = allow


def find(method: str, raw_target: str) -> Target:
    """What the request is for, with its names decoded and found fit.

    Raises:
        NoRouteError: no such route, method, or a name or query that cannot be meant.
    """
    path, _, query = raw_target.partition("?")
    for route in ROUTES:
        match = route.path.fullmatch(path)
        if match is None:
            continue
        operation = route.methods.get(method)
        if operation is None:
            failure = Failure(Problem.METHOD_NOT_ALLOWED, f"this route takes {route.allow}")
            raise NoRouteError(failure, allow=route.allow)
        names = {
            name: None if text is None else unquote(text, errors="replace") for name, text in match.groupdict().items()
        }
        campaign = names["id"] or ""
        if not _CAMPAIGN_ID.fullmatch(campaign):
            raise NoRouteError(
                Failure(Problem.INVALID_REQUEST, "a campaign id is 1 to 128 of A-Z a-z 0-9 _ -"), operation.name
            )
        return Target(operation, route.scope, names["stream"], campaign, _fields(query, operation.name))
    raise NoRouteError(Failure(Problem.NOT_FOUND, "there is nothing at this path"))


def _fields(query: str, operation: str) -> frozenset[str] | None:
    """What `?fields=` names; None without a query.

    Raises:
        NoRouteError: any other parameter, or a list that cannot be meant.
    """
    if not query:
        return None
    name, _, value = query.partition("=")
    if name != "fields" or "&" in value:
        raise NoRouteError(Failure(Problem.INVALID_REQUEST, "the only parameter here is fields"), operation)
    fields = unquote(value, errors="replace").split(",")
    if len(fields) > MAX_FIELDS or not all(map(_FIELD.fullmatch, fields)):
        detail = f"fields is a list of 1 to {MAX_FIELDS} names, with commas between them"
        raise NoRouteError(Failure(Problem.INVALID_REQUEST, detail), operation)
    return frozenset(fields)
