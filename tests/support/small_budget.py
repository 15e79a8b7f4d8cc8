"""A budget that is soon spent, in a window that soon ends, for real processes."""

from campaign_gateway.sandbox.platform import Sandbox

CALLS, WINDOW = 24, 4.0
BUDGET = {"default": {"calls": CALLS, "window": f"{WINDOW}s"}}


def arrivals(sandbox: Sandbox) -> list[float]:
    """When each call came in."""
    return [arrival.monotonic for arrival in sandbox.log.since(0)]
