"""The first decision: what to do with a request, before anything is asked of the platform."""

from dataclasses import dataclass
from enum import StrEnum

from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.freshness import Freshness, age


class Fwd(StrEnum):
    """Why a request goes forward (RFC 9211 section 2.2)."""

    URI_MISS = "uri-miss"
    STALE = "stale"
    REQUEST = "request"
    METHOD = "method"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Reuse:
    """Answer from the entry."""

    entry: Entry
    is_stale: bool = False
    wants_refresh: bool = False
    """Whether a new proof should be had beside the answer (stale-while-revalidate, RFC 5861 section 3)."""


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask the platform; `fallback` is what may be served when that fails."""

    reason: Fwd
    fallback: Entry | None = None


@dataclass(frozen=True, slots=True)
class NotCached:
    """`only-if-cached`, and nothing usable is stored."""


Plan = Reuse | Forward | NotCached


def plan(entry: Entry | None, directives: RequestDirectives, now: float, freshness: Freshness) -> Plan:
    """What to do with a read, given what is stored.

    A wish for newer proof (`no-cache`, `max-age`, `min-fresh`) becomes a `Forward` with the entry as fallback, so
    that it costs nobody their answer when the budget is spent. `max-stale` lets a caller take what others would wait
    for.
    """
    usable = entry if entry is not None and freshness.is_usable(entry, now) else None
    if usable is None:
        return NotCached() if directives.only_if_cached else Forward(Fwd.URI_MISS if entry is None else Fwd.STALE)

    if usable.is_overwritten:
        # As RFC 9111 section 4.4 has it: not to be sent before it was validated, whatever staleness a caller takes.
        return NotCached() if directives.only_if_cached else Forward(Fwd.STALE, usable)
    ttl = freshness.ttl(usable, now)
    wants_newer = (
        directives.no_cache
        or (directives.newer_than is not None and usable.attested_at < directives.newer_than)
        or (directives.max_age is not None and age(usable, now) > directives.max_age)
        or (directives.min_fresh is not None and ttl < directives.min_fresh)
    )
    if wants_newer:
        return NotCached() if directives.only_if_cached else Forward(Fwd.REQUEST, usable)
    if ttl > 0:
        return Reuse(usable)
    if -ttl <= _staleness_taken(directives, freshness):
        return Reuse(usable, is_stale=True, wants_refresh=True)
    return NotCached() if directives.only_if_cached else Forward(Fwd.STALE, usable)


def _staleness_taken(directives: RequestDirectives, freshness: Freshness) -> float:
    """Seconds of staleness that the caller takes without waiting; negative for none."""
    if directives.max_stale is not None:
        return directives.max_stale
    # RFC 9111 section 5.2.1.1: max-age alone does not take a stale answer.
    return -1.0 if directives.max_age is not None else freshness.stale_while_revalidate
