"""Answers as HTTP: status, headers, body, 304s and problem documents."""

import math
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, TypeVar

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from campaign_gateway.contract.operations import Subject
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.codings import GZIP, packed_tag
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.outlook import Quota
from campaign_gateway.policy.preconditions import is_not_modified
from campaign_gateway.policy.settle import NOT_FOUND, Failure
from campaign_gateway.policy.stored import Stored, json_type
from campaign_gateway.policy.visibility import Visibility
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.writers import format_write_token
from campaign_gateway.web.packed import is_packed_for

CACHE_NAME = "campaign-gateway"
SERVER = "campaign-gateway"
"""In place of aiohttp's default, which names its version."""

FINAL_FIELDS = {"Server": SERVER, "X-Content-Type-Options": "nosniff"}
"""What every answer carries, behind the request's id."""

VERSION = "Campaign-Gateway-Version"
"""Carries the moment of a write, from its answer to the reads that must not be older."""


BOUND = "Campaign-Gateway-Bound"
"""Seconds within which a change of the campaign is seen."""
SERVER_TIMING = "Server-Timing"
NEWER = "Campaign-Gateway-Newer"
"""The revision of what an answer that is known to be out of date does not show yet."""


_Response = TypeVar("_Response", bound=web.StreamResponse)


class Fail(Protocol):
    """Renders a failure, with the request's id and further fields."""

    def __call__(self, failure: Failure, request_id: str, headers: Mapping[str, str] | None = None, /) -> web.Response:
        """The answer."""
        ...


_encode = msgspec.json.Encoder().encode


class Bounds:
    """The staleness that answers announce, in seconds (RFC 5861)."""

    def __init__(self, stale_while_revalidate: float, stale_if_error: float) -> None:
        self.announce(stale_while_revalidate, stale_if_error)

    def announce(self, stale_while_revalidate: float, stale_if_error: float) -> None:
        """Other ones, from the next answer on that is made."""
        self._while_revalidate, self._hard = stale_while_revalidate, stale_if_error

    def cache_control(self, lifetime: float) -> str:
        """The field for an entry of this lifetime. What is announced never reaches past the hard bound on age."""
        # A lifetime is the difference of two moments: a few of its last bits mean nothing.
        lifetime = round(lifetime, 3)
        room = max(0.0, self._hard - lifetime)
        return (
            f"private, max-age={int(lifetime)}, "
            f"stale-while-revalidate={int(min(self._while_revalidate, room))}, stale-if-error={int(room)}"
        )


def render(
    reply: Reply,
    request_headers: CIMultiDictProxy[str],
    bounds: Bounds,
    request_id: str,
    subject: Subject = Subject.CAMPAIGN,
    fail: Fail | None = None,
    *,
    may_pack: bool = False,
) -> web.Response:
    """The HTTP answer for a reply: 200, 304, the platform's own, or a failure.

    Args:
        reply: what the story came to.
        request_headers: its conditions.
        bounds: the staleness to announce.
        request_id: of the request.
        subject: what was asked for.
        fail: renders failures; None for problem documents.
        may_pack: whether a body is said to be packed where the caller can unpack it. `Packer.pack` does it.
    """
    fail = fail or render_failure
    headers = {"Cache-Status": cache_status(reply.outcome), **server_timing(reply.outcome)}
    if reply.written_at is not None:
        headers[VERSION] = format_write_token(reply.written_at)
    if reply.passed is not None:
        passed = reply.passed
        headers |= {"Cache-Control": "no-store", "Content-Type": json_type(passed.content_type)}
        return finish(web.Response(status=passed.status, body=passed.body, headers=headers), request_id)
    entry = reply.entry
    if entry is None:
        return fail(reply.failure or Failure(Problem.INTERNAL, "there is no answer"), request_id, headers)
    headers["Age"] = str(int(reply.age))
    if entry.absence is not None:
        headers["Cache-Control"] = f"private, max-age={int(reply.lifetime)}"
        headers |= visibility_fields(reply.visibility)
        return fail(absent(entry, subject), request_id, headers)
    headers |= entry_fields(entry, reply.lifetime, bounds, reply.visibility)
    is_packed = may_pack and is_packed_for(request_headers, len(entry.body))
    if may_pack:
        headers["Vary"] = hdrs.ACCEPT_ENCODING
    if is_packed:
        headers["ETag"] = packed_tag(entry.etag)
    modified = last_modified(entry)
    tags = request_headers.getall(hdrs.IF_NONE_MATCH, [])
    since = request_headers.get(hdrs.IF_MODIFIED_SINCE)
    if is_not_modified(", ".join(tags) if tags else None, since, headers["ETag"], modified):
        return finish(web.Response(status=304, headers=headers), request_id)
    headers["Content-Type"] = entry.content_type
    if is_packed:
        headers["Content-Encoding"] = GZIP
    return finish(web.Response(body=entry.body, headers=headers), request_id)


def entry_fields(entry: Stored, lifetime: float, bounds: Bounds, visibility: Visibility | None) -> dict[str, str]:
    """The fields that a 200 and a 304 have in common, but for those that move with the clock."""
    fields = {"Cache-Control": bounds.cache_control(lifetime), "ETag": entry.etag}
    modified = last_modified(entry)
    if modified is not None:
        fields["Last-Modified"] = http_date_text(modified)
    return fields | visibility_fields(visibility)


def visibility_fields(visibility: Visibility | None) -> dict[str, str]:
    """The fields that say how soon changes are seen; none where that is not about one campaign."""
    if visibility is None:
        return {}
    # Never less than is true, but for the last bits of a sum of moments.
    fields = {BOUND: str(math.ceil(round(visibility.bound, 3)))}
    if visibility.newer is not None:
        fields[NEWER] = visibility.newer
    return fields


def cache_status(outcome: Outcome) -> str:
    """The `Cache-Status` field (RFC 9211)."""
    parts = [CACHE_NAME]
    if outcome.fwd is not None:
        parts.append(f"fwd={outcome.fwd}")
    elif outcome.ttl is not None:
        parts.append("hit")
    if outcome.fwd_status is not None:
        parts.append(f"fwd-status={outcome.fwd_status}")
    if outcome.stored:
        parts.append("stored")
    if outcome.collapsed:
        parts.append("collapsed")
    if outcome.ttl is not None:
        parts.append(f"ttl={math.floor(outcome.ttl)}")
    if outcome.detail is not None:
        parts.append(f"detail={outcome.detail}")
    return "; ".join(parts)


def server_timing(outcome: Outcome) -> dict[str, str]:
    """The `Server-Timing` field (W3C), where calls were made: milliseconds of their waits for permits, and of them."""
    if outcome.seconds is None:
        return {}
    waiting, calling = (round(seconds * 1000, 1) for seconds in outcome.seconds)
    return {SERVER_TIMING: f"cache;desc={outcome.cache}, permit;dur={waiting}, upstream;dur={calling}"}


def concerns_quota(reply: Reply) -> bool:
    """Whether the answer cost a call of the caller's share, or was kept from one by it."""
    outcome = reply.outcome
    return (outcome.fwd is not None and not outcome.collapsed) or outcome.detail in {Detail.BUDGET, Detail.PAUSED}


def quota_fields(quota: Quota) -> dict[str, str]:
    """The `RateLimit` fields (IETF draft, httpapi-ratelimit-headers): the policy, and what is left of it."""
    return {
        "RateLimit-Policy": f'"calls";q={quota.calls};w={math.ceil(quota.window)}',
        "RateLimit": f'"calls";r={quota.remaining};t={math.ceil(quota.reset)}',
    }


def render_failure(failure: Failure, request_id: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A problem document (RFC 9457)."""
    fields = {"Cache-Control": "no-store", **(headers or {}), "Content-Type": "application/problem+json"}
    body = _encode(problem_document(failure, request_id))
    return finish(
        web.Response(status=failure.problem.status, body=body, headers={**fields, **advice(failure)}), request_id
    )


def render_options(allow: str, request_id: str) -> web.Response:
    """The answer to OPTIONS, at a path that takes these methods."""
    headers = {"Allow": f"{allow}, OPTIONS", "Cache-Control": "no-store"}
    return finish(web.Response(status=HTTPStatus.NO_CONTENT, headers=headers), request_id)


def problem_document(failure: Failure, request_id: str) -> dict[str, object]:
    """The members of a problem document (RFC 9457)."""
    problem = failure.problem
    document = {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": failure.detail,
        "request_id": request_id,
        "upstream_status": failure.upstream_status,
        "upstream_code": failure.upstream_code,
        "upstream_message": failure.upstream_message,
    }
    return {name: value for name, value in document.items() if value is not None}


def advice(failure: Failure) -> dict[str, str]:
    """Fields that say what a caller can do about a failure."""
    fields = {}
    if failure.retry_after is not None:
        fields["Retry-After"] = str(max(1, math.ceil(failure.retry_after)))
    if failure.problem is Problem.UNAUTHENTICATED:
        fields["WWW-Authenticate"] = "Bearer"
    return fields


def finish(response: _Response, request_id: str) -> _Response:
    """The response with the fields that every answer carries."""
    response.headers["X-Request-ID"] = request_id
    response.headers.update(FINAL_FIELDS)
    return response


@lru_cache(10_000)
def http_date_text(moment: int) -> str:
    """The moment as HTTP writes it (RFC 9110 section 5.6.7)."""
    return formatdate(moment, usegmt=True)


def absent(entry: Stored, subject: Subject) -> Failure:
    """The failure of an entry that says that there is no such thing."""
    absence = entry.absence
    return Failure(
        NOT_FOUND[subject],
        f"the platform knows no {subject.value.replace('-', ' ')} with this id",
        upstream_status=absence.status if absence else None,
        upstream_code=absence.code if absence else None,
        upstream_message=absence.message if absence else None,
    )


def last_modified(entry: Stored) -> int | None:
    """Whole seconds since the epoch; None for a revision that is unreadable or in the future (RFC 9110 8.8.2.1)."""
    # As the platform names it, whatever its clock: a validator is the origin's, and one and the same for one version.
    moment = instant(entry.revision)
    return None if moment is None or moment > entry.validated_at else int(moment)
