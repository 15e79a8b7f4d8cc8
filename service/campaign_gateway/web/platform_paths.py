"""The platform's own paths, for clients that were written for it: they change the host, and nothing else.

A request is understood by its normalised path (decoded, without doubled or trailing slashes) and by the parameters that
tell operations apart; what is sent on is made anew from the table. So quirks of the platform's pages are understood,
and what fits no documented operation is refused, never taken for another one. Errors have the platform's own shape.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from urllib.parse import unquote, unquote_plus

import msgspec
from aiohttp import web

from campaign_gateway.contract.ids import is_id
from campaign_gateway.contract.operations import LITERALS, OPERATIONS, Family, Kind, Operation
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.web.queries import name
from campaign_gateway.web.rejected import RejectedError, invalid, nothing_here, wrong_method
from campaign_gateway.web.responses import advice, finish
from campaign_gateway.web.routes import Action, Target

_PREFIXES = tuple((family, tuple(family.value.split("/")[1:-1])) for family in Family)
_ROWS = tuple((row, tuple(part for part in row.path.split("/") if part)) for row in OPERATIONS)
_CREDENTIALS_REFUSED = "Invalid SDK credentials"
_LIMIT_TEXT = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."
_REFUSED_CODE = 4002

_encode = msgspec.json.Encoder().encode


def is_platform_path(raw_target: str) -> bool:
    """Whether the target lies under one of the platform's prefixes."""
    return _family(_segments(raw_target)) is not None


def find(method: str, raw_target: str) -> Target:
    """What a request to one of the platform's paths is for.

    Raises:
        RejectedError: no operation that the platform documents.
    """
    segments = _segments(raw_target)
    family = _family(segments)
    if family is None:
        raise nothing_here()
    depth = len(dict(_PREFIXES)[family])
    stream_id, rest = segments[depth], segments[depth + 1 :]
    rows = [row for row, parts in _ROWS if row.family is family and _fits(parts, rest)]
    if not rows:
        raise RejectedError(Problem.NOT_FOUND, "the platform has no operation at this path")
    taken = [row for row in rows if method in _methods(row)]
    if not taken:
        raise wrong_method(", ".join(sorted({name for row in rows for name in _methods(row)})))
    given = _parameters(raw_target.partition("?")[2])
    row = next((row for row in taken if _agrees(row, given)), None)
    if row is None:
        raise invalid("the query fits no operation that the platform documents here", taken[0].name)
    return _target(row, stream_id, rest, given)


def _segments(raw_target: str) -> tuple[str, ...]:
    path = raw_target.partition("?")[0]
    return tuple(unquote(part, errors="replace") for part in path.split("/") if part)


def _family(segments: Sequence[str]) -> Family | None:
    for family, prefix in _PREFIXES:
        if tuple(segments[: len(prefix)]) == prefix and len(segments) > len(prefix):
            return family
    return None


def _fits(parts: Sequence[str], segments: Sequence[str]) -> bool:
    if len(parts) != len(segments):
        return False
    return all(
        segment not in LITERALS if part == "{id}" else part == segment
        for part, segment in zip(parts, segments, strict=True)
    )


def _methods(row: Operation) -> frozenset[str]:
    """The documented one; and GET for a read by POST, which is how the platform's own samples send it."""
    if row.kind is Kind.READ or (row.kind is Kind.READ_PERSONAL and row.method == "GET"):
        return frozenset({"GET", "HEAD"}) if row.kind is Kind.READ else frozenset({"GET"})
    return frozenset({row.method, "GET"}) if row.kind is not Kind.WRITE else frozenset({row.method})


def _parameters(query: str) -> dict[str, str]:
    """By lower-case name. The platform's pages have a backslash before each `&`."""
    given: dict[str, str] = {}
    for part in query.split("&"):
        key, _, value = part.partition("=")
        lower = unquote_plus(key, errors="replace").lower()
        decoded = unquote_plus(value, errors="replace").removesuffix("\\")
        if lower in given and given[lower] != decoded and lower != "accountid":
            raise invalid("a parameter of the query is given twice")
        given[lower] = decoded
    return given


def _agrees(row: Operation, given: Mapping[str, str]) -> bool:
    """Whether the query names what the row's own query names. The account is the stream's, whatever is said."""
    for key, value in row.parameters.items():
        said = given.get(key.lower())
        match value:
            case "{account}":
                continue
            case "{type}":
                if said not in {None, "voice", "sms"}:
                    return False
            case "{name}":
                if said is None:
                    return False
            case _:
                # The list of contact lists is unambiguous without its only `type`.
                if said != value and not (said is None and key == "type"):
                    return False
    return True


def _target(row: Operation, stream_id: str, segments: Sequence[str], given: Mapping[str, str]) -> Target:
    named = next((segment for segment in segments if segment not in LITERALS), "")
    if "{id}" in row.path and not is_id(named):
        raise invalid("an id is 1 to 128 of A-Z a-z 0-9 _ -", row.name)
    parameters = {}
    if "{type}" in row.query and "campaigntype" in given:
        parameters["type"] = given["campaigntype"]
    if "{name}" in row.query:
        try:
            parameters["campaignName"] = name(given["campaignname"])
        except ValueError as error:
            raise invalid(f"campaignName is {error}", row.name) from error
    action = Action.READ if row.kind in {Kind.READ, Kind.READ_BY_POST} else Action.SEND
    scope = "write" if row.kind is Kind.WRITE else "read"
    route = row.family + row.path
    return Target(action, row.name, scope, None, named, parameters, operation=row, stream_id=stream_id, route=route)


def render_platform_failure(
    failure: Failure, request_id: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A failure in the platform's own shape."""
    status, body = platform_error(failure)
    fields = {"Cache-Control": "no-store", **(headers or {}), "Content-Type": "application/json"}
    return finish(web.Response(status=status, body=body, headers={**fields, **advice(failure)}), request_id)


def platform_error(failure: Failure) -> tuple[int, bytes]:
    """Status and body of a failure, as the platform would send them.

    What the platform itself has said is passed on. Where no call may be made now, clients get what
    they know from it, 429 and its text: they wait then.
    """
    problem = failure.problem
    message = failure.upstream_message or failure.detail
    status, code = int(problem.status), failure.upstream_code
    if problem in _PASSED_ON and failure.upstream_status is not None:
        status = failure.upstream_status
    elif problem in {Problem.BUDGET_EXHAUSTED, Problem.UPSTREAM_PAUSED, Problem.OVERLOADED, Problem.RATE_LIMITED}:
        status, message, code = HTTPStatus.TOO_MANY_REQUESTS, _LIMIT_TEXT, None
    elif problem in {Problem.UNAUTHENTICATED, Problem.FORBIDDEN, Problem.UNKNOWN_STREAM}:
        message, code = f"{_CREDENTIALS_REFUSED}: {failure.detail}", str(_REFUSED_CODE)
    shown = int(code) if code is not None and code.isascii() and code.isdigit() and len(code) < 10 else code or status  # noqa: PLR2004
    return status, _encode({"errors": [{"msg": message, "code": shown}]})


_PASSED_ON = frozenset({Problem.UPSTREAM_REJECTED, Problem.CAMPAIGN_NOT_FOUND, Problem.CONTACT_LIST_NOT_FOUND})
