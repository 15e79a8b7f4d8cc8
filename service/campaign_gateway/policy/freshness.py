"""How long a stored answer may be called fresh, and how old it may get (RFC 9111 section 4.2, RFC 5861)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from campaign_gateway.policy.evidence import GOOD, Cause, CopyState, Evidence
from campaign_gateway.policy.stored import Stored


@dataclass(frozen=True, slots=True)
class StatusRule:
    """Clamps for campaigns in one status; None keeps the general one, and `max` can only be narrower than that."""

    min: float | None = None
    max: float | None = None


class Lifetime(NamedTuple):
    """A time in seconds, and why it is that long."""

    seconds: float
    why: str
    """The name of a setting, or what is known of the answer: `sweep`, `changed`, `unverified`, `write` or `purge`."""


_NO_RULE = StatusRule()


@dataclass(frozen=True, slots=True)
class Freshness:
    """The rules; all times in seconds."""

    factor: float = 0.1
    min: float = 5.0
    max: float = 600.0
    default: float = 30.0
    """For answers whose revision is missing, unreadable or in the future."""
    missing: float = 10.0
    stale_while_revalidate: float = 60.0
    stale_if_error: float = 86_400.0
    """The hard bound on age: nothing older is served, whatever happens."""
    status: Mapping[str, StatusRule] = field(default_factory=dict)

    def lifetime(self, stored: Stored, evidence: Evidence = GOOD) -> Lifetime:
        """For how long after its read by id it is fresh by that read alone.

        The longer ago a campaign was changed, the longer it is trusted (the heuristic of RFC 9111 section 4.2.2, on
        `updatedAt`), within a clamp that the campaign's status can narrow. Never past the hard bound.
        """
        lowest, highest = self._clamp(stored)
        updated_at = stored.updated_at
        # The platform may show the state from before a write for a while.
        settles = evidence.invalidation is not None and not evidence.invalidation.is_open
        if stored.absence is not None:
            longest = self.bound(stored)
            return Lifetime(min(lowest, longest), Cause.WRITE.value) if settles else Lifetime(longest, "missing")
        if settles:
            proposed, why = lowest, Cause.WRITE.value
        elif updated_at is None or updated_at > stored.validated_at:
            proposed, why = self.default, "default"
        else:
            proposed, why = self.factor * (stored.validated_at - updated_at), "factor"
        seconds = min(max(proposed, lowest), highest, self.stale_if_error)
        if seconds in {lowest, highest} and why in {"default", "factor"}:
            section = f"status.{stored.campaign_status}." if stored.campaign_status in self.status else ""
            why = section + ("max" if seconds == highest else "min")
        return Lifetime(seconds, why)

    def remaining(self, stored: Stored, evidence: Evidence, lifetime: Lifetime, now: float) -> Lifetime:
        """For how long it goes on being fresh, by all that is known of it; negative once it is stale.

        A poll's word is good for as long as it says, within the clamp of the campaign's status; when it has run out,
        the read by id counts again. What speaks against an answer has made it stale since then.

        Args:
            stored: the answer.
            evidence: what is known of it.
            lifetime: as `lifetime` says.
            now: the time.
        """
        # Nothing is younger than nothing, also when clocks disagree.
        by_id = lifetime.seconds - max(0.0, now - stored.validated_at)
        invalidation = evidence.invalidation
        if invalidation is not None and invalidation.is_open:
            return Lifetime(min(by_id, invalidation.at - now, 0.0), invalidation.by.value)
        if evidence.unverified_since is not None:
            return Lifetime(min(by_id, evidence.unverified_since - now), "unverified")
        if evidence.superseded_since is not None:
            return Lifetime(min(by_id, evidence.superseded_since - now), "changed")
        if (word := evidence.validation) is not None:
            _, highest = self._clamp(stored)
            latest = stored.validated_at + min(word.blind, self.stale_if_error)
            by_list = min(word.at + min(word.lasts, highest), latest) - now
            if by_list > 0:
                return Lifetime(by_list, "sweep")
        return Lifetime(by_id, lifetime.why)

    def _clamp(self, stored: Stored) -> tuple[float, float]:
        rule = self.status.get(stored.campaign_status or "", _NO_RULE)
        highest = self.max if rule.max is None else min(self.max, rule.max)
        return min(self.min if rule.min is None else rule.min, highest), highest

    def is_usable(self, stored: Stored, evidence: Evidence, now: float) -> bool:
        """Whether it may be served at all: within the hard bound, and an absence only while fresh.

        The bound counts from the read by id: polls of a list cannot keep an answer alive for ever.
        """
        unread = now - stored.validated_at
        if stored.absence is not None:
            speaks_against = evidence.state is CopyState.INVALIDATED or evidence.superseded_since is not None
            return unread < self.lifetime(stored, evidence).seconds and not speaks_against
        return unread <= self.bound(stored)

    def bound(self, stored: Stored) -> float:
        """The age in seconds past which it is of no use and may leave the store."""
        return min(self.missing, self.stale_if_error) if stored.absence is not None else self.stale_if_error
