"""Answers as HTTP: status, headers, body, 304s and problem documents."""

import math
from collections.abc import Mapping
from email.utils import formatdate

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from service.policy.conditions import is_not_modified
from service.policy.entry import Entry
from service.policy.ledger import Quota
from service.policy.settle import Failure
from service.problems import Problem
from service.proxy.ports import Detail, Outcome, Reply

CACHE_NAME = "campaign-gateway"
SERVER = "campaign-gateway"
"""In place of aiohttp's default, which names its version."""

_encode = msgspec.json.Encoder().encode


class Bounds:
    """The staleness that answers announce, in seconds (RFC 5861)."""

    def __init__(self, stale_while_revalidate: float, stale_if_error: float) -> None:
        self._while_revalidate = stale_while_revalidate
        self._hard = stale_if_error

    def cache_control(self, lifetime: float) -> str:
        """The field for an entry of this lifetime. What is announced never reaches past the hard bound on age."""
        room = max(0.0, self._hard - lifetime)
        return (
            f"private, max-age={int(lifetime)}, "
            f"stale-while-revalidate={int(min(self._while_revalidate, room))}, stale-if-error={int(room)}"
        )


def render(reply: Reply, request_headers: CIMultiDictProxy[str], bounds: Bounds, request_id: str) -> web.Response:
    """The HTTP answer for a reply: 200, 304, or a problem."""
    headers = {"Cache-Status": cache_status(reply.outcome)}
    entry = reply.entry
    if entry is None:
        failure = reply.failure or Failure(Problem.INTERNAL, "there is no answer")
        return render_failure(failure, request_id, headers)
    headers["Age"] = str(int(reply.age))
    if entry.absence is not None:
        headers["Cache-Control"] = f"private, max-age={int(reply.lifetime)}"
        return render_failure(_absent(entry), request_id, headers)
    headers["Cache-Control"] = bounds.cache_control(reply.lifetime)
    headers["ETag"] = entry.etag
    last_modified = _last_modified(entry)
    if last_modified is not None:
        headers["Last-Modified"] = formatdate(last_modified, usegmt=True)
    headers["X-Content-Type-Options"] = "nosniff"
    tags = request_headers.getall(hdrs.IF_NONE_MATCH, [])
    since = request_headers.get(hdrs.IF_MODIFIED_SINCE)
    if is_not_modified(", ".join(tags) if tags else None, since, entry.etag, last_modified):
        return finish(web.Response(status=304, headers=headers), request_id)
    headers["Content-Type"] = entry.content_type
    return finish(web.Response(body=entry.body, headers=headers), request_id)


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
    body = _encode({name: value for name, value in document.items() if value is not None})
    fields = {"Cache-Control": "no-store", **(headers or {}), "Content-Type": "application/problem+json"}
    if failure.retry_after is not None:
        fields["Retry-After"] = str(max(1, math.ceil(failure.retry_after)))
    if problem is Problem.UNAUTHENTICATED:
        fields["WWW-Authenticate"] = "Bearer"
    return finish(web.Response(status=problem.status, body=body, headers=fields), request_id)


def finish(response: web.Response, request_id: str) -> web.Response:
    """The response with the fields that every answer carries."""
    response.headers["X-Request-ID"] = request_id
    response.headers["Server"] = SERVER
    return response


def _absent(entry: Entry) -> Failure:
    absence = entry.absence
    return Failure(
        Problem.CAMPAIGN_NOT_FOUND,
        "the platform knows no campaign with this id",
        upstream_status=absence.status if absence else None,
        upstream_code=absence.code if absence else None,
        upstream_message=absence.message if absence else None,
    )


def _last_modified(entry: Entry) -> int | None:
    """Whole seconds since the epoch; None for a mark that is unreadable or lies in the future (RFC 9110 8.8.2.1)."""
    updated_at = entry.updated_at
    return None if updated_at is None or updated_at > entry.proven_at else int(updated_at)
