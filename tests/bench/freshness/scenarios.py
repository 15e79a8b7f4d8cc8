"""What is simulated, and what is seen of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from campaign_gateway.policy.freshness import Freshness, StatusRule

CALLS, WINDOW, RESERVE, SHARE, LAG = 60, 60.0, 5, 0.5, 10.0
"""The budget, and the settings' defaults for the rest."""
TIMEOUT, LEAVE = 10.0, 3.0
LATENCY = (0.05, 0.15)
"""Seconds of one call, evenly spread."""
READ_SECONDS = 5.0
"""Between two reads of the same campaign by its callers, on the average over all campaigns in use."""
SETTLE_SECONDS = 900.0
"""From the moment when every campaign in use has been answered once to the first edit measured in the steady state."""
LIFETIMES = Freshness(status={"Active": StatusRule(max=15.0), "Preparing": StatusRule(max=5.0)})
MINUTE = Freshness(factor=0.0, min=60.0, max=60.0, default=60.0, stale_while_revalidate=0.0)


@dataclass(frozen=True, slots=True)
class Policy:
    """How stored answers are kept true."""

    name: str
    freshness: Freshness
    share: float
    """The part of the budget for polls of the list."""
    is_limited: bool = True
    """Whether there is a budget, and a platform that insists on it."""


SWEEP = Policy("sweep", LIFETIMES, SHARE)
BY_ID = Policy("lifetimes", LIFETIMES, 0.0)
FIXED = Policy("fixed", MINUTE, 0.0, is_limited=False)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One simulation; its randomness comes from the seed alone."""

    campaigns: int
    used: int
    """Campaigns that callers read."""
    edits: float = 1.0
    """Edits a second, of any of the campaigns."""
    policy: Policy = SWEEP
    page_rows: int = 50
    """Rows of the list that the platform grants for one call."""
    zipf: float = 0.0
    """How uneven callers' interest is: that of the k-th campaign is in proportion to k to the power of minus this."""
    others: float = 0.0
    """Calls a minute that callers spend on what is never stored."""
    measured: float = 600.0
    """Seconds in which edits are measured, after the cold start and again in the steady state."""
    patience: float = 120.0
    """Seconds for which the edits of the steady state are waited for at most."""
    seed: int = 1


@dataclass(slots=True)
class Phase:
    """What was seen in one span of time. Times are seconds of the simulation."""

    delays: list[float] = field(default_factory=list)
    """From each measured edit of a campaign in use to the moment from which reads are answered with it."""
    unseen: list[float] = field(default_factory=list)
    """For those that were never seen: how long that was waited for."""
    bound: float = 0.0
    """The widest bound on a change's visibility that was published meanwhile."""
    proving: float = 0.0
    """The part of the time in which polls validated stored answers."""
    calls: Mapping[str, float] = field(default_factory=dict)
    """Calls a minute, by reason."""
    in_vain: float = 0.0
    """Reads by id a minute that brought what was stored already; the rotation's, which are for that, left out."""
    reads: Mapping[str, int] = field(default_factory=dict)
    """Callers' reads, by what the cache did."""
    outdated: float = 0.0
    """The part of their answers that showed an older version than the platform had at that moment."""


@dataclass(slots=True)
class Result:
    """What was seen of one simulation."""

    warm_up: float = 0.0
    """From the start, with nothing stored, until each campaign in use had been answered once."""
    validated: float | None = None
    """From the start until polls validated stored answers and had shown every campaign; None if that never came about."""
    most: int = 0
    """Calls in the fullest window of the whole run, as the platform saw them arrive."""
    most_pages: int = 0
    """Pages after the first of lists, which is what full scans consist of, in the fullest window of the warm-up."""
    cold: Phase = field(default_factory=Phase)
    """From the end of the warm-up on."""
    steady: Phase = field(default_factory=Phase)
    """From `SETTLE_SECONDS` later on."""
    elapsed: float = 0.0
    """What the simulation took, in seconds of CPU."""
