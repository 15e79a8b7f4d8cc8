"""What the story replies, and how it went."""

from dataclasses import dataclass
from enum import StrEnum

from campaign_gateway.contract.answers import Response
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.plan import Fwd
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexSnapshot
from campaign_gateway.policy.visibility import Visibility
from campaign_gateway.proxy.request import Request


class Detail(StrEnum):
    """The closed set of words after `detail=` in `Cache-Status`."""

    STALE_WHILE_REVALIDATE = "stale-while-revalidate"
    STALE_IF_ERROR = "stale-if-error"
    BUDGET = "budget"
    PAUSED = "paused"
    MISSING = "missing"
    UNCHANGED = "unchanged"
    SWEEP = "sweep"
    """Its newest proof is a poll of the list."""
    ROW = "row"
    """It is made of the campaign's row in the list."""
    BEFORE_WRITE = "before-write"
    """It may be out of date by a write since; a newer proof could not be had."""


_REFUSED = frozenset({Detail.BUDGET, Detail.PAUSED})


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
    """What a caller gets: an entry with its age and lifetime in seconds, an answer passed on, or a failure."""

    outcome: Outcome
    entry: Entry | None = None
    failure: Failure | None = None
    age: float = 0.0
    lifetime: float = 0.0
    passed: Response | None = None
    """The platform's own answer: of what is never stored, or the refusal behind `failure`."""
    version: float | None = None
    """Of a write; see `proxy.versions`."""
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


@dataclass(slots=True)
class Hit:
    """A fresh answer out of the store. It stays the answer while `Exchange.current_age` says so.

    Age and remaining lifetime move with the clock, the rest stands still, so whoever keeps a hit can render it once.
    """

    request: Request
    """Any client's."""
    key: str
    entry: Entry
    """With what polls of the list say of it."""
    validated_at: float
    """Age counts from here, in seconds of the store's clock."""
    lifetime: float
    """Seconds from there."""
    until: float
    """The moment until which it is good without more being noted; see `Exchange.current_age`."""
    detail: Detail | None
    stored: Entry
    snapshot: IndexSnapshot
    """What it was made from, besides: the stored entry and what was known of the stream's list."""
    epoch: int
    """That of the store, when it was last known to be the answer."""
    raw: object = None
    """What `stored` was made of, where the hit is not this process' own."""
    visibility: Visibility | None = None
    """See `Reply`."""

    def reply(self, age: float) -> "Reply":
        """The hit at this age in seconds."""
        outcome = Outcome(ttl=self.lifetime - age, detail=self.detail)
        return Reply(outcome, self.entry, None, age, self.lifetime, visibility=self.visibility)
