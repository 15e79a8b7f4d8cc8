"""What a sweeper may spend and believe."""

from collections.abc import Callable
from dataclasses import dataclass

from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import Capacity

CLIENT = "sweep"
"""Who spends these calls, in the ledger."""
PERMIT_SECONDS = 1.0
"""How long a poll, or a page, waits for its call; then others go first, and it asks again."""


@dataclass(slots=True)
class SweepConfig:
    """What may be spent and believed, by the settings in use."""

    share: float
    """The part of the budget for looking after stored answers; 0 switches it off."""
    lag: float | None
    """Seconds that the lists may lag behind answers by id; None to measure it."""
    capacity: Callable[[], Capacity]
    """The account's calls, as they stand."""
    platform_offset: Callable[[], float | None] = lambda: None
    """Seconds that the platform's clock is ahead of the store's; None where that is not known."""


def lane_of(*, is_overdue: bool) -> Lane:
    """What pays for a poll, a page or a read in rotation: what is overdue stands in line with the callers who wait."""
    return Lane.INTERACTIVE if is_overdue else Lane.VALIDATION
