"""One entry explained to an operator: what is stored, what it rests on, and what would happen next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.decide import Choice, Decision
from campaign_gateway.policy.evidence import Evidence
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.assess import Assessor
from campaign_gateway.proxy.bounds import StatedBounds
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.request import Request, Stream


@dataclass(frozen=True, slots=True)
class Listing:
    """What polls of the list have shown of the campaign. Times are seconds before now."""

    channel: str
    is_listed: bool
    has_changed: bool
    """Whether it was seen to change; answers read before `seen_ago` are then out of date."""
    seen_ago: float
    """When its present revision was first seen."""


@dataclass(frozen=True, slots=True)
class Informed:
    """A webhook that is told of the stream's changes."""

    name: str
    cursor: str
    """It has received everything up to it; empty before the first look at the changes."""
    behind: float
    """Seconds for which the oldest change has been waiting; 0 where none does."""
    fault: str | None
    """Why it does not take changes, where it has not for long, or no longer."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All of it. Seconds; None where nothing is known."""

    stream: str
    campaign: str
    is_stored: bool
    is_absent: bool
    """What is stored is that there is no such campaign."""
    age: float | None
    proof: str | None
    """What it rests on: `read` (by id) or `sweep` (a poll of the list); or what speaks against it.

    That is `changed` (the list has shown another state since) or `unverified` (a change may have been missed, by a gap
    in the bus or a restart).
    """
    edited_ago: float | None
    """Since the change that the stored revision names."""
    read_ago: float | None
    lifetime: float | None
    why: str | None
    """Which rule the lifetime comes from."""
    ttl: float | None
    stale_at_most: float
    """The hard bound on the time since its read by id."""
    next: str
    """What a read would do now."""
    refusal: str | None
    """The problem for which no call would be made for it now."""
    retry_after: float | None
    """Seconds until one may be made, where that is known."""
    budget_remaining: int
    signal_bound: float
    blind_bound: float
    listed: Listing | None
    webhooks: Sequence[Informed] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """Looks, and asks the platform nothing."""

    store: Store
    index: CampaignIndex
    rules: Callable[[], Freshness]
    bounds: Callable[[str], StatedBounds]
    """By the stream's identity."""
    remaining: Callable[[str], int]
    """Calls left, by account."""
    prospect: Callable[[Request, Decision], Failure | None]
    """Why a call would be refused; see `Exchange.prospect`."""
    informed: Callable[[str], Sequence[Informed]] = lambda _stream: ()
    """Who is told of changes, by the stream's alias."""

    async def explain(self, stream: Stream, id_: str) -> Explanation:
        """What is known of one campaign."""
        request = Request(stream, GET, id_, "none")
        found = await self.store.get(request.key)
        explained = self._explain(request, found.stored, found.evidence)
        return replace(explained, webhooks=self.informed(stream.alias))

    def glance(self, stream: Stream, id_: str) -> tuple[Explanation, Stored | None]:
        """As `explain`, of this process's own copy, and that copy; nobody is asked."""
        request = Request(stream, GET, id_, "none")
        copy = self.store.peek(request.key)
        return self._explain(request, copy.stored, copy.evidence), copy.stored

    def _explain(self, request: Request, found: Stored | None, evidence: Evidence) -> Explanation:
        stream, id_ = request.stream, request.id
        indexed = self.index.snapshot(stream.identity).campaigns.get(id_)
        now, bounds = self.store.now(), self.bounds(stream.identity)
        rules = self.rules()
        decision = Assessor(self.index, rules, self.store.now).decide(request, found, evidence)
        stored, ttl = decision.stored, decision.ttl
        needs_call = decision.choice in {Choice.FORWARD, Choice.STALE}
        refusal = self.prospect(request, decision) if needs_call else None
        return Explanation(
            stream=stream.alias,
            campaign=id_,
            is_stored=stored is not None,
            is_absent=stored is not None and stored.absence is not None,
            age=None if stored is None else decision.age,
            proof=None if stored is None else _validation(stored, decision),
            edited_ago=None if stored is None or stored.updated_at is None else now - stored.updated_at,
            read_ago=None if stored is None else now - stored.validated_at,
            lifetime=None if stored is None else decision.age + ttl.seconds,
            why=None if stored is None else ttl.why,
            ttl=None if stored is None else ttl.seconds,
            stale_at_most=rules.stale_if_error,
            next=_next(decision, refusal),
            refusal=None if refusal is None else refusal.problem.value.name,
            retry_after=None if refusal is None else refusal.retry_after,
            budget_remaining=self.remaining(stream.tenant.account),
            signal_bound=bounds.signal,
            blind_bound=bounds.blind,
            listed=None
            if indexed is None
            else Listing(indexed.channel.value, indexed.is_listed, indexed.has_changed, now - indexed.since),
        )


def _next(decision: Decision, refusal: Failure | None) -> str:
    why_not = "" if refusal is None else f" ({refusal.problem.value.name}: {refusal.detail})"
    match decision.choice:
        case Choice.FRESH:
            return "answer from it"
        case Choice.STALE if refusal is not None:
            return f"answer from it; no refresh now{why_not}"
        case Choice.STALE:
            return "answer from it, and refresh it in the background"
        case Choice.FORWARD if refusal is not None:
            return f"{'refuse' if decision.fallback is None else 'fall back on it'}{why_not}"
        case Choice.FORWARD:
            fallback = "" if decision.fallback is None else ", and fall back on it"
            return f"call the platform ({decision.fwd}){fallback}"
        case Choice.NOT_CACHED:
            return "nothing"


def _validation(stored: Stored, decision: Decision) -> str:
    evidence = decision.evidence
    if evidence.unverified_since is not None:
        return "unverified"
    if evidence.superseded_since is not None:
        return "changed"
    return "sweep" if evidence.validation is not None and evidence.validation.at > stored.validated_at else "read"
