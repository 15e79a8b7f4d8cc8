"""How long an entry may be called fresh, and how old it may get (RFC 9111 section 4.2, RFC 5861)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from campaign_gateway.policy.entry import Entry


@dataclass(frozen=True, slots=True)
class StatusRule:
    """Clamps for campaigns in one status; None keeps the general one, and `max` can only be narrower than that."""

    min: float | None = None
    max: float | None = None


_NO_RULE = StatusRule()


@dataclass(frozen=True, slots=True)
class Freshness:
    """The rules; all times in seconds."""

    factor: float = 0.1
    min: float = 5.0
    max: float = 600.0
    default: float = 30.0
    """For entries whose revision is missing, unreadable or in the future."""
    missing: float = 10.0
    stale_while_revalidate: float = 60.0
    stale_if_error: float = 86_400.0
    """The hard bound on age: nothing older is served, whatever happens."""
    status: Mapping[str, StatusRule] = field(default_factory=dict)

    def lifetime(self, entry: Entry) -> float:
        """Seconds from its read by id during which the entry is fresh by that read alone.

        The longer ago a campaign was changed, the longer it is trusted (the heuristic of RFC 9111 section 4.2.2, on
        `updatedAt`), within a clamp that the campaign's status can narrow. Never past the hard bound.
        """
        if entry.absence is not None:
            return self.bound(entry)
        lowest, highest = self._clamp(entry)
        updated_at = entry.updated_at
        if entry.invalidation is not None and not entry.is_invalid:
            # The platform may show the state from before a write for a while.
            wanted = lowest
        elif updated_at is None or updated_at > entry.validated_at:
            wanted = self.default
        else:
            wanted = self.factor * (entry.validated_at - updated_at)
        return min(max(wanted, lowest), highest, self.stale_if_error)

    def ttl(self, entry: Entry, now: float) -> float:
        """Seconds for which the entry goes on being fresh; negative once it is stale.

        A list poll's proof is good for as long as it says, within the clamp of the campaign's status; when it has run
        out, the read by id counts again. A campaign seen to have moved has been stale since then.
        """
        # No entry is younger than nothing, also when clocks disagree.
        by_id = self.lifetime(entry) - max(0.0, now - entry.validated_at)
        if entry.invalidation is not None and entry.is_invalid:
            return min(by_id, entry.invalidation.at - now, 0.0)
        swept = entry.swept
        if swept is None:
            return by_id
        if swept.is_changed:
            return min(by_id, swept.at - now)
        _, highest = self._clamp(entry)
        latest = entry.validated_at + min(swept.blind, self.stale_if_error)
        by_list = min(swept.at + min(swept.lasts, highest), latest) - now
        return by_list if by_list > 0 else by_id

    def why(self, entry: Entry, now: float) -> str:
        """Which rule the entry's lifetime comes from: the name of a setting, or what a poll of the list showed."""
        if entry.absence is not None:
            return "missing"
        if entry.invalidation is not None:
            return entry.invalidation.by.value
        if entry.swept is not None and entry.swept.is_changed:
            return "moved"
        if entry.swept is not None and self.ttl(entry, now) != self.lifetime(entry) - (now - entry.validated_at):
            return "sweep"
        lowest, highest = self._clamp(entry)
        lifetime = self.lifetime(entry)
        if lifetime in {lowest, highest}:
            section = f"status.{entry.campaign_status}." if entry.campaign_status in self.status else ""
            return section + ("max" if lifetime == highest else "min")
        updated_at = entry.updated_at
        return "default" if updated_at is None or updated_at > entry.validated_at else "factor"

    def _clamp(self, entry: Entry) -> tuple[float, float]:
        rule = self.status.get(entry.campaign_status or "", _NO_RULE)
        highest = self.max if rule.max is None else min(self.max, rule.max)
        return min(self.min if rule.min is None else rule.min, highest), highest

    def is_usable(self, entry: Entry, now: float) -> bool:
        """Whether the entry may be served at all: within the hard bound, and an absence only while fresh.

        The bound counts from the read by id: polls of a list cannot keep an answer alive for ever.
        """
        unread = now - entry.validated_at
        if entry.absence is not None:
            return unread < self.bound(entry) and not entry.is_invalid
        return unread <= self.bound(entry)

    def bound(self, entry: Entry) -> float:
        """The age in seconds past which the entry is of no use and may leave the store."""
        return min(self.missing, self.stale_if_error) if entry.absence is not None else self.stale_if_error


def age(entry: Entry, now: float) -> float:
    """Seconds since the entry's newest proof began; not below zero, also when clocks disagree."""
    return max(0.0, now - entry.attested_at)
