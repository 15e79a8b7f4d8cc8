"""The first decision: what to do with a request, before anything is asked of the platform."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.evidence import GOOD, Evidence
from campaign_gateway.policy.freshness import Freshness, Lifetime
from campaign_gateway.policy.stored import Stored, is_from_the_future
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, validate_by_list
from campaign_gateway.policy.visibility import Visibility, visibility


class Choice(StrEnum):
    """What is done with a read."""

    FRESH = "fresh"
    """Answered from what is stored."""
    STALE = "stale"
    """Answered from it as well, and read again beside (stale-while-revalidate, RFC 5861 section 3)."""
    FORWARD = "forward"
    """The platform is asked, or another replica that does."""
    NOT_CACHED = "not-cached"
    """`only-if-cached`, and nothing that is stored will do."""


class Fwd(StrEnum):
    """Why a request goes forward (RFC 9211 section 2.2)."""

    URI_MISS = "uri-miss"
    STALE = "stale"
    REQUEST = "request"
    METHOD = "method"
    BYPASS = "bypass"


class Detail(StrEnum):
    """The closed set of words after `detail=` in `Cache-Status`."""

    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_IF_ERROR = "stale-if-error"
    BUDGET = "budget"
    PAUSED = "paused"
    MISSING = "missing"
    UNCHANGED = "unchanged"
    SWEEP = "sweep"
    """A poll of the list has validated it since it was read."""
    ROW = "row"
    """It is made of the campaign's row in the list."""
    BEFORE_WRITE = "before-write"
    """It may be out of date by a write since; a newer one could not be had."""
    UNSHARED = "unshared"
    """Other replicas do not know yet what was written or purged: until they do, they may answer from before it."""


NO_TIME = Lifetime(0.0, "")


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and all that is said of the stored answer at this moment. Times are seconds.

    Without a stored answer only `choice` and `fwd` mean anything.
    """

    choice: Choice
    stored: Stored | None = None
    """What there is: the answer, or what may be fallen back on if it `is_usable`."""
    evidence: Evidence = GOOD
    is_usable: bool = False
    """Whether it may be served at all."""
    fwd: Fwd | None = None
    """Why it goes forward."""
    age: float = 0.0
    """Since it was last validated, by a read or by the list; not below zero, also when clocks disagree."""
    ttl: Lifetime = NO_TIME
    """For how long it goes on being fresh, negative once it is stale, and why."""
    until: float = inf
    """The moment until which a fresh answer is that, and says the same of itself, if nothing else is received."""
    detail: Detail | None = None
    visibility: Visibility | None = None
    """How soon changes are seen; None of what is not about one campaign."""

    @property
    def fallback(self) -> Stored | None:
        """What may be served when the platform does not answer."""
        return self.stored if self.is_usable else None


Listed = tuple[IndexedCampaign | None, IndexState]
"""What the list has shown of the campaign that a request is about, and what is known of the list as a whole."""


def decide(
    stored: Stored | None,
    evidence: Evidence,
    directives: RequestDirectives,
    rules: Freshness,
    now: float,
    listed: Listed | None = None,
) -> Decision:
    """What to do with a read, given what is stored.

    A directive that asks for a newer answer (`no-cache`, `max-age`, `min-fresh`) sends the request forward with the
    stored one as fallback, so that it costs nobody their answer when the budget is spent. `max-stale` lets a caller
    take what others would wait for. An answer from the future is none.

    Args:
        stored: what is stored.
        evidence: what the store knows of it.
        directives: what the caller asks for.
        rules: those of freshness.
        now: the time.
        listed: None where it is not about one campaign.
    """
    if stored is None or is_from_the_future(stored.validated_at, now):
        # How old it is, nobody knows: it may be past any bound.
        return Decision(Choice.NOT_CACHED if directives.only_if_cached else Choice.FORWARD, fwd=Fwd.URI_MISS)
    if listed is not None:
        evidence = validate_by_list(stored, evidence, *listed)
    word = evidence.validation
    validated_at = stored.validated_at if word is None else max(stored.validated_at, word.at)
    lifetime = rules.lifetime(stored, evidence)
    ttl = rules.remaining(stored, evidence, lifetime, now)
    age = max(0.0, now - validated_at)
    is_usable = rules.is_usable(stored, evidence, now)
    is_before = directives.newer_than is not None and validated_at < directives.newer_than
    choice, fwd = _choose(evidence, directives, rules, age, ttl.seconds, is_usable=is_usable, is_before=is_before)
    seen = None
    if listed is not None:
        seen = visibility(stored, evidence, *listed, now, rules, lifetime.seconds, ttl.seconds)
    detail = None
    if evidence.is_overwritten or is_before:
        detail = Detail.BEFORE_WRITE
    elif stored.absence is not None:
        detail = Detail.MISSING
    elif choice is Choice.STALE:
        detail = Detail.STALE_WHILE_REVALIDATE
    elif validated_at > stored.validated_at:
        detail = Detail.SWEEP
    until = now + ttl.seconds if seen is None else min(now + ttl.seconds, seen.until)
    return Decision(choice, stored, evidence, is_usable, fwd, age, ttl, until, detail, seen)


def _choose(
    evidence: Evidence,
    directives: RequestDirectives,
    rules: Freshness,
    age: float,
    ttl: float,
    *,
    is_usable: bool,
    is_before: bool,
) -> tuple[Choice, Fwd | None]:
    forward = Choice.NOT_CACHED if directives.only_if_cached else Choice.FORWARD
    if not is_usable or evidence.is_overwritten:
        # As RFC 9111 section 4.4 has it: not to be sent before it was validated, whatever staleness a caller takes.
        return forward, Fwd.STALE
    must_validate = (
        directives.no_cache
        or is_before
        or (directives.max_age is not None and age > directives.max_age)
        or (directives.min_fresh is not None and ttl < directives.min_fresh)
    )
    if must_validate:
        return forward, Fwd.REQUEST
    if ttl > 0:
        return Choice.FRESH, None
    if -ttl <= _staleness_taken(directives, rules):
        return Choice.STALE, None
    return forward, Fwd.STALE


def _staleness_taken(directives: RequestDirectives, rules: Freshness) -> float:
    """Seconds of staleness that the caller takes without waiting; negative for none."""
    if directives.max_stale is not None:
        return directives.max_stale
    # RFC 9111 section 5.2.1.1: max-age alone does not take a stale answer.
    return -1.0 if directives.max_age is not None else rules.stale_while_revalidate
