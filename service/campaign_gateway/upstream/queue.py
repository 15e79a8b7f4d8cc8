"""Those who wait for the next call of one account, in front of what one replica knows of it."""

import asyncio
from collections import Counter
from dataclasses import dataclass

from typing_extensions import override

from campaign_gateway.policy.budget_mode import NEVER, Mode
from campaign_gateway.policy.ledger import Lane, SlotRequest, Wait
from campaign_gateway.policy.schedule import GATHER_SECONDS
from campaign_gateway.policy.serving_order import line_up
from campaign_gateway.proxy.ports import Permit
from campaign_gateway.upstream.account import Account

LEAST_PAUSE_SECONDS = 0.001
"""Nobody asks again sooner than this."""


class CallPermit(Permit):
    """The right to send one call, until `leave_by`."""

    def __init__(self, id_: str, leave_by: float) -> None:
        self.id = id_
        self.leave_by = leave_by
        self.is_void = False

    @override
    def void(self) -> None:
        self.is_void = True


@dataclass(slots=True, eq=False)
class Waiter:
    """One who waits for a call."""

    request: SlotRequest
    key: str
    """What is asked for."""
    can_wait: bool
    give_up_at: float
    """Monotonic."""
    permit: asyncio.Future[CallPermit]


class Queue:
    """Those who wait for an account's calls."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.waiters: list[Waiter] = []
        self.callers: Counter[str] = Counter()
        """How many of them are callers, by client."""
        self.is_served = False
        self.has_ends_to_report = False
        """Whether calls have ended that are about to be reported."""
        self.looked_at = NEVER
        """When the ledger was last looked at for others."""
        self.is_notified = False
        """Whether the other replicas were asked to look at the ledger, since somebody began to wait for that."""
        self.woken = asyncio.Event()
        """Set when something has changed for those who wait."""

    def join(self, waiter: Waiter) -> None:
        """One more waits."""
        self.waiters.append(waiter)
        if waiter.request.lane.is_waited_for:
            self.callers[waiter.request.client] += 1
        self.woken.set()

    def remove(self, waiter: Waiter) -> None:
        """One no longer waits."""
        if waiter not in self.waiters:
            return
        self.waiters.remove(waiter)
        client = waiter.request.client
        if waiter.request.lane.is_waited_for:
            self.callers[client] -= 1
            if not self.callers[client]:
                del self.callers[client]

    def ahead_of(self, lane: Lane, client: str) -> int:
        """How many of those who wait go before one more caller of the client: its own, and as many of each other's."""
        own = self.callers.get(client, 0)
        if not lane.is_waited_for:
            return self.callers.total()
        return own + sum(min(count, own + 1) for other, count in self.callers.items() if other != client)

    def in_order(self, now: float, ledger_now: float) -> list[Waiter]:
        """Those who wait, in the order in which they are served; as many as there can be slots.

        Args:
            now: monotonic time.
            ledger_now: the time of the ledger's clock.
        """
        by_id = {waiter.request.id: waiter for waiter in self.waiters}
        waiting = [waiter.request for waiter in self.waiters]
        requests = line_up(self.account.ledger, self.account.allowance, waiting, ledger_now)
        last = max(1, self.account.allowance.calls)
        # Who is too far back to be weighed, and has to be answered because its time is up.
        late = [request for request in requests[last:] if by_id[request.id].give_up_at <= now]
        return [by_id[request.id] for request in (*requests[:last], *late)]

    def look_again_after(self, wait: Wait, left: float) -> float | None:
        """The seconds after which a call that has so many left asks again; None where that cannot succeed."""
        if wait.soonest <= left:
            return max(wait.soonest, LEAST_PAUSE_SECONDS)
        is_brief_loss = self.account.mode is Mode.BRIEF_LOSS
        return GATHER_SECONDS if is_brief_loss and left >= GATHER_SECONDS else None

    async def wait_until_woken(self, seconds: float) -> None:
        """Waits until something has changed for those who wait, or so long."""
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            return
