"""What the story replies, and how it went."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from campaign_gateway.contract.answers import Response
from campaign_gateway.policy.decide import Decision, Detail, Fwd
from campaign_gateway.policy.evidence import Evidence
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexSnapshot
from campaign_gateway.policy.visibility import Visibility
from campaign_gateway.proxy.request import Request

_REFUSED = frozenset({Detail.BUDGET, Detail.PAUSED})


class Seconds(NamedTuple):
    """What calls to the platform took."""

    waiting: float
    """For their permits."""
    calling: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one exchange went. Header, log line and metrics are three renderings of it."""

    fwd: Fwd | None = None
    """Why it went forward; None for a hit."""
    fwd_status: int | None = None
    stored: bool = False
    collapsed: bool = False
    ttl: float | None = None
    """Remaining freshness lifetime in seconds, negative when stale; None when there is no entry."""
    detail: Detail | None = None
    seconds: Seconds | None = field(default=None, compare=False)
    """Of the calls that were made for it; None for none."""

    @property
    def cache(self) -> str:
        """The metric label `cache`: `hit`, `stale`, `miss`, `revalidated` or `none`."""
        if self.ttl is None:
            return "none"
        if self.ttl <= 0 and self.fwd_status is None:
            return "stale"
        if self.fwd is None:
            return "hit"
        return "miss" if self.fwd is Fwd.URI_MISS else "revalidated"


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller gets: a stored answer with its age and lifetime in seconds, an answer passed on, or a failure."""

    outcome: Outcome
    entry: Stored | None = None
    failure: Failure | None = None
    age: float = 0.0
    lifetime: float = 0.0
    passed: Response | None = None
    """The platform's own answer: of what is never stored, or the refusal behind `failure`."""
    written_at: float | None = None
    """Of a write: when it ended, in seconds of the store's clock."""
    visibility: Visibility | None = None
    """How soon changes are seen, for answers about one campaign; else None."""

    @property
    def is_refusal(self) -> bool:
        """Whether there is nothing to answer with, since no call may be made."""
        return (
            self.failure is not None
            and self.entry is None
            and self.outcome.detail in _REFUSED
            and self.outcome.fwd is None
            and not self.outcome.collapsed
        )


def reply_from(decision: Decision, outcome: Outcome | None = None) -> Reply:
    """The reply with what is stored, at the moment of the decision.

    Args:
        decision: says all of it.
        outcome: how the exchange went, where it went further than the store.
    """
    outcome = outcome or Outcome()
    detail = outcome.detail
    if decision.detail in _ALWAYS_SAID or (detail is None and outcome.fwd is None):
        detail = decision.detail
    ttl = decision.ttl.seconds
    return Reply(
        replace(outcome, ttl=ttl, detail=detail),
        decision.stored,
        age=decision.age,
        lifetime=decision.age + ttl,
        visibility=decision.visibility,
    )


_ALWAYS_SAID = frozenset({Detail.BEFORE_WRITE, Detail.MISSING})
"""What an answer is matters more than how it was come by."""


@dataclass(slots=True)
class Hit:
    """A fresh answer out of the store. It stays the answer while `Exchange.current_age` says so.

    Age and remaining lifetime move with the clock, the rest stands still, so whoever keeps a hit can render it once.
    """

    request: Request
    """Any client's."""
    entry: Stored
    validated_at: float
    """Age counts from here, in seconds of the store's clock."""
    lifetime: float
    """Seconds from there."""
    holds_until: float
    """The moment until which it is the answer, if nothing else is received."""
    until: float
    """The moment until which it is that without its use being noted; see `Exchange.current_age`."""
    detail: Detail | None
    evidence: Evidence
    snapshot: IndexSnapshot
    """What it was made from, beside what is stored: what the store knew of that, and the stream's list."""
    epoch: int
    """That of the store, when it was last known to be the answer."""
    raw: object = None
    """What `entry` was made of, where the hit is not this process' own."""
    visibility: Visibility | None = None
    """See `Reply`."""

    @property
    def key(self) -> str:
        """The entry's: made when it is wanted, for it takes more room than most of what is kept."""
        return self.request.key

    def reply(self, age: float) -> Reply:
        """The hit at this age in seconds."""
        outcome = Outcome(ttl=self.lifetime - age, detail=self.detail)
        return Reply(outcome, self.entry, None, age, self.lifetime, visibility=self.visibility)
