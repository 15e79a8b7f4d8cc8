"""One entry explained to an operator: what is stored, what it rests on, and what would happen next."""

from collections.abc import Callable
from dataclasses import dataclass

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.freshness import Freshness, age
from campaign_gateway.policy.plan import Forward, Reuse, plan
from campaign_gateway.policy.sweeping import validate_by_list
from campaign_gateway.proxy.bounds import StatedBounds
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.request import Request, Stream


@dataclass(frozen=True, slots=True)
class Listed:
    """What polls of the list have shown of the campaign. Times are seconds before now."""

    channel: str
    is_listed: bool
    has_changed: bool
    """Whether it was seen to change; answers read before `seen_ago` are then out of date."""
    seen_ago: float
    """When its present revision was first seen."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it. Seconds; None where there is nothing to tell."""

    stream: str
    campaign: str
    is_stored: bool
    is_absent: bool
    """What is stored is that there is no such campaign."""
    age: float | None
    proof: str | None
    """`read` (by id), `sweep` (a poll of the list), or `moved` (seen to have changed since it was read)."""
    read_ago: float | None
    lifetime: float | None
    why: str | None
    """Which rule the lifetime comes from."""
    ttl: float | None
    stale_at_most: float
    """The hard bound on the time since its read by id."""
    next: str
    """What a read would do now."""
    budget_remaining: int
    signal_bound: float
    blind_bound: float
    listed: Listed | None


@dataclass(frozen=True, slots=True)
class Explainer:
    """Looks, and asks the platform nothing."""

    store: Store
    index: CampaignIndex
    freshness: Freshness
    bounds: Callable[[str], StatedBounds]
    """By the stream's identity."""
    remaining: Callable[[str], int]
    """Calls left, by account."""

    async def explain(self, stream: Stream, id_: str) -> Explanation:
        """What is known of one campaign."""
        found = await self.store.get(Request(stream, GET, id_, "none").key)
        snapshot, now = self.index.snapshot(stream.identity), self.store.now()
        indexed, bounds = snapshot.campaigns.get(id_), self.bounds(stream.identity)
        entry = None if found.entry is None else validate_by_list(found.entry, indexed, snapshot.state)
        ttl = None if entry is None else self.freshness.ttl(entry, now)
        return Explanation(
            stream=stream.alias,
            campaign=id_,
            is_stored=entry is not None,
            is_absent=entry is not None and entry.absence is not None,
            age=None if entry is None else age(entry, now),
            proof=None if entry is None else _proof(entry),
            read_ago=None if entry is None else now - entry.validated_at,
            lifetime=None if entry is None or ttl is None else age(entry, now) + ttl,
            why=None if entry is None else self.freshness.why(entry, now),
            ttl=ttl,
            stale_at_most=self.freshness.stale_if_error,
            next=self._next(entry, now),
            budget_remaining=self.remaining(stream.tenant.account),
            signal_bound=bounds.signal,
            blind_bound=bounds.blind,
            listed=None
            if indexed is None
            else Listed(indexed.channel.value, indexed.is_listed, indexed.has_changed, now - indexed.since),
        )

    def _next(self, entry: Entry | None, now: float) -> str:
        match plan(entry, NO_DIRECTIVES, now, self.freshness):
            case Reuse(is_stale=False):
                return "answer from it"
            case Reuse():
                return "answer from it, and read it again beside"
            case Forward(reason, fallback):
                return f"ask the platform ({reason}){', and fall back on it' if fallback is not None else ''}"
            case _:
                return "nothing"


def _proof(entry: Entry) -> str:
    if entry.swept is not None and entry.swept.is_changed:
        return "moved"
    return "sweep" if entry.attested_at > entry.validated_at else "read"
