"""What a permit costs, by how many calls are in the window: `python -m tests.bench.permits`.

Microseconds of one core from the request for a permit to the end of its call, the best of some rounds, with the ledger in
memory and most of the budget used. With Redis comes one trip, and the ledger's bytes: 60 for each call in the window.
"""

import asyncio
import time

from prometheus_client import CollectorRegistry

from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.budget import CallBudget

BUDGETS = (60, 600, 6000)
"""Calls in a window."""
USED = 0.6
ROUNDS, TIMES = 9, 6
CLIENTS = 5


async def _microseconds(calls: int) -> float:
    allowance = Allowance(calls, 60.0, 2.0, 10.0, reserve=calls // 12, lanes={Lane.WRITES: calls // 12})
    tasks = Tasks()
    budget = CallBudget(lambda _: allowance, MemoryLedgers(StoreClock()), Metrics(CollectorRegistry()), tasks)

    async def take(count: int) -> None:
        for number in range(count):
            async with budget.permit("account", Lane.INTERACTIVE, f"client-{number % CLIENTS}", 1.0):
                pass

    await take(int(calls * USED))
    best = float("inf")
    for _ in range(ROUNDS if calls > BUDGETS[0] else 3):
        began = time.process_time()
        await take(TIMES)
        best = min(best, time.process_time() - began)
    await tasks.close()
    return best / TIMES * 1e6


def main() -> None:
    """Prints the table."""
    print(f"{'budget':>8}{'in the window':>16}{'a permit, us':>14}")
    for calls in BUDGETS:
        print(f"{calls:8}{int(calls * USED):16}{asyncio.run(_microseconds(calls)):14.0f}")


if __name__ == "__main__":
    main()
