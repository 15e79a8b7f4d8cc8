"""A caller's own share, as the `RateLimit` fields tell it."""

import pytest

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot
from campaign_gateway.policy.schedule import Quota, quota

ALLOWANCE = Allowance(calls=60, window=60.0, leave=3.0, timeout=10.0, clients=3)


def held(*clients: str, free_at: float = 30.0) -> Ledger:
    slots = (Slot(f"p{number}", Lane.INTERACTIVE, client, free_at) for number, client in enumerate(clients))
    return Ledger(slots=tuple(slots))


@pytest.mark.parametrize(
    ("ledger", "expected"),
    [
        pytest.param(held(), Quota(20, 60.0, 20, 60.0), id="nothing-used"),
        pytest.param(held("a", "a", "b"), Quota(20, 60.0, 18, 30.0), id="own-calls-count"),
        pytest.param(held(*["a"] * 25), Quota(20, 60.0, 0, 30.0), id="borrowed-beyond-the-share"),
        pytest.param(held(*["b"] * 50), Quota(20, 60.0, 10, 60.0), id="others-left-less-than-the-share"),
        pytest.param(held("a", free_at=130.0), Quota(20, 60.0, 19, 60.0), id="under-way-is-taken-to-end-now"),
        pytest.param(Ledger(paused_until=9.0), Quota(20, 60.0, 0, 60.0), id="paused"),
    ],
)
def test_the_share_and_what_is_left_of_it(ledger: Ledger, expected: Quota) -> None:
    assert quota(ledger, ALLOWANCE, "a", 0.0) == expected
