"""The API's routes, as a table over the raw request target.

The raw target is the only truth: aiohttp's own `path` is decoded and normalised, so `..%2f` and `//` would arrive as
something else than what was sent.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from campaign_gateway.contract.document import DocumentError
from campaign_gateway.contract.ids import is_id
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import LITERALS, Operation
from campaign_gateway.contract.requests import list_request
from campaign_gateway.web import queries
from campaign_gateway.web.queries import Reader, read_query
from campaign_gateway.web.rejected import invalid, nothing_here, wrong_method


class Action(StrEnum):
    """What is done about a request."""

    READ = "read"
    """Answered from the cache, or through it."""
    BATCH = "batch"
    """Several such reads in one answer."""
    SEND = "send"
    """Passed on and never stored: writes, and personal data."""
    PURGE = "purge"
    HINT = "hint"
    """A caller's word that something has changed."""
    CHANGES = "changes"
    """What has changed, for as long as somebody listens."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is for."""

    action: Action
    name: str
    """The value of the metric label `operation`."""
    scope: str
    stream: str | None = None
    """The alias in the path; None where it names none."""
    id: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of the query, read."""
    body: bytes | None = None
    """Canonical, for reads that are asked by one."""
    operation: Operation | None = None
    """The platform's, where the request leaves no choice."""
    stream_id: str | None = None
    """The platform's id of the stream, in place of an alias."""
    route: str = field(default="", compare=False)
    """Its path, with placeholders."""

    @property
    def fields(self) -> frozenset[str] | None:
        """Members that answers are cut down to; None for all."""
        return self.parameters.get("fields")


@dataclass(frozen=True, slots=True)
class Method:
    """What one method on a resource does."""

    action: Action
    name: str
    scope: str
    parameters: Mapping[str, Reader] = field(default_factory=dict)
    required: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Route:
    """One resource: where it is, under `/v1` and under `/v1/streams/{stream}`."""

    path: str
    methods: Mapping[str, Method]

    @property
    def allow(self) -> str:
        """The value of an `Allow` field."""
        return ", ".join(sorted(self.methods))

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches its raw path."""
        return re.compile(r"/v1(?:/streams/(?P<stream>[^/]+))?" + self.path.replace("{id}", "(?P<id>[^/]+)"))


_FIELDS = {"fields": queries.field_names}
_TYPE = {"type": queries.choice(*Channel)}
_NAME = {"campaignName": queries.name}
_PAGE = {"page": queries.whole(1, queries.MAX_COUNT), "limit": queries.whole(1, queries.MAX_PAGE_ROWS)}
_LIST = {
    **_TYPE,
    **_PAGE,
    **_FIELDS,
    "skip": queries.whole(0, queries.MAX_COUNT),
    "status": queries.words,
    "priority": queries.numbers,
    "dialingMode": queries.words,
    "sort": queries.sorting,
    "startDate": queries.date,
    "endDate": queries.date,
    "ids": queries.id_list,
}

_CHANGES = {
    "after": queries.cursor,
    "wait": queries.seconds(queries.MAX_WAIT_SECONDS),
    "limit": queries.whole(1, queries.MAX_CHANGES),
    "type": queries.change_types,
    "ids": queries.id_list,
    "status": queries.words,
}


def _read(name: str, parameters: Mapping[str, Reader] = _FIELDS) -> dict[str, Method]:
    method = Method(Action.READ, name, "read", parameters)
    return {"GET": method, "HEAD": method}


def _personal(name: str, parameters: Mapping[str, Reader]) -> dict[str, Method]:
    return {"GET": Method(Action.SEND, name, "read", parameters)}


def _write(method: str, name: str, parameters: Mapping[str, Reader], *required: str) -> dict[str, Method]:
    return {method: Method(Action.SEND, name, "write", parameters, frozenset(required))}


ROUTES = (
    Route("/campaigns/{id}", {**_read("get"), **_write("PUT", "update", _TYPE), **_write("DELETE", "delete", _TYPE)}),
    Route("/campaigns", {**_read("list", _LIST), **_write("POST", "create", _TYPE)}),
    Route("/campaigns/{id}/status", _read("status")),
    Route("/campaigns/{id}/outcomes", _personal("outcomes", _PAGE)),
    Route("/campaigns/{id}/start", _write("POST", "start", _TYPE)),
    Route("/campaigns/{id}/stop", _write("POST", "stop", _TYPE)),
    Route(
        "/schedules",
        {
            **_write("POST", "schedule-on", _NAME, "campaignName"),
            **_write("DELETE", "schedule-off", _NAME, "campaignName"),
        },
    ),
    Route("/campaign-instances/{id}/call-backs", _write("POST", "call-back", {})),
    Route("/contact-lists", {**_read("contact-list-list"), **_write("POST", "contact-list-create", {})}),
    Route(
        "/contact-lists/{id}",
        {
            **_read("contact-list-get"),
            **_write("PUT", "contact-list-update", {}),
            **_write("DELETE", "contact-list-delete", {}),
        },
    ),
    Route("/contact-lists/{id}/contacts", _personal("contacts", {})),
    Route("/contacts", _write("POST", "contacts-add", {})),
    Route("/purge", {"POST": Method(Action.PURGE, "purge", "purge")}),
    Route(
        "/changes",
        {method: Method(Action.CHANGES, "changes", "read", _CHANGES) for method in ("GET", "HEAD")},
    ),
    Route("/changed", {"POST": Method(Action.HINT, "changed", "purge")}),
)
LONGEST_KEPT = 512
MAX_KEPT = 1_024
"""Targets whose meaning is remembered: the same questions come again and again, and to read one takes 50 to 300 us."""
_PATTERNS = tuple((route, route.pattern) for route in ROUTES)


def find(method: str, raw_target: str) -> Target:
    """What the request is for, with its names decoded and found fit.

    Raises:
        RejectedError: no such route, method, or a name or query that cannot be meant.
    """
    return (_find if len(raw_target) > LONGEST_KEPT else _found)(method, raw_target)


def _find(method: str, raw_target: str) -> Target:
    path, _, query = raw_target.partition("?")
    for route, pattern in _PATTERNS:
        match = pattern.fullmatch(path)
        if match is not None:
            return _target(route, method, match.groupdict(), query)
    is_slash_too_many = path.endswith("/") and any(pattern.fullmatch(path[:-1]) for _, pattern in _PATTERNS)
    raise nothing_here(but_without_slash=is_slash_too_many)


_found = lru_cache(MAX_KEPT)(_find)


def _target(route: Route, method: str, raw_names: Mapping[str, str | None], query: str) -> Target:
    row = route.methods.get(method)
    if row is None:
        raise wrong_method(route.allow)
    names = {name: unquote(text or "", errors="replace") for name, text in raw_names.items()}
    if "id" in names and not is_id(names["id"]):
        raise invalid("an id is 1 to 128 of A-Z a-z 0-9 _ -", row.name)
    if names.get("id") in LITERALS:
        raise invalid("this is a reserved word of the platform, not an id", row.name)
    given = read_query(query, row.parameters, row.required, row.name)
    stream = names["stream"] if raw_names["stream"] is not None else None
    path = f"/v1{'' if stream is None else '/streams/{stream}'}{route.path}"
    return _complete(Target(row.action, row.name, row.scope, stream, names.get("id", ""), given, route=path))


def _complete(target: Target) -> Target:
    """The target with what its parameters make of it."""
    given = target.parameters
    if target.name == "list" and "ids" in given:
        if given.keys() - {"ids", "fields"}:
            raise invalid("ids can be combined with fields only", target.name)
        return replace(target, action=Action.BATCH, name="batch")
    if target.name == "list":
        if "type" not in given:
            raise invalid("type is needed, voice or sms; or ids", target.name)
        try:
            return replace(target, body=list_request(_list_members(given)))
        except DocumentError as error:
            raise invalid(str(error), target.name) from error
    return target


def _list_members(given: Mapping[str, Any]) -> dict[str, Any]:
    """The list request's members, named as the platform names them."""
    members = {name: given[name] for name in ("type", "limit", "skip", "page", "startDate", "endDate") if name in given}
    filters = {name: given[name] for name in ("status", "priority", "dialingMode") if name in given}
    return {**members, "sortBy": given.get("sort"), "filters": filters}
