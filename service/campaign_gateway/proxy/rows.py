"""A few fields of a campaign out of its row in the list, where that has been polled and no stored answer is fresh."""

import asyncio
from collections import Counter

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.fields import decide_by_row, is_in_rows
from campaign_gateway.policy.pacing import WORTHWHILE
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.reply import Reply, reply_from
from campaign_gateway.proxy.request import Request

COMPANY_SECONDS = 0.05
"""How long a caller waits for others like it before the list is not yet polled for them."""
POLL_WAIT_SECONDS = 3.0
"""How long a caller who asks for a few fields waits for the first poll of the list, before a read by id is made."""


class Rows:
    """Answers requests for a few fields."""

    def __init__(self, store: Store, index: CampaignIndex, *, is_polled: bool) -> None:
        self._store = store
        self._index = index
        self.is_polled = is_polled
        self._together: dict[str, Counter[str]] = {}
        """Campaigns of which a few fields are asked for, by stream, while its list is not known yet."""

    async def reply(self, request: Request) -> Reply | None:
        """An answer out of the list; None where no poll vouches for one, or a row does not hold what is asked for."""
        stream, fields = request.stream.identity, request.fields
        if request.operation.name != GET.name or request.directives != NO_DIRECTIVES:
            return None
        if fields is None or not is_in_rows(fields):
            return None
        if self.is_polled and not self._index.snapshot(stream).state.polls:
            await self._wait_for_a_poll(stream, request.id)
        snapshot, now = self._index.snapshot(stream), self._store.now()
        decision = decide_by_row(snapshot.campaigns.get(request.id), snapshot.state, fields, now)
        # The list may lag behind, and show what was before an invalidation.
        if decision is None or now - decision.age - snapshot.state.lag < self._store.invalidated_at(request.key):
            return None
        self._index.record_use(stream, request.id, now)
        return reply_from(decision)

    async def _wait_for_a_poll(self, stream: str, id_: str) -> None:
        """Brings about the first poll of the list, where enough ask for a few fields at once to be worth one."""
        together = self._together.setdefault(stream, Counter())
        together[id_] += 1
        try:
            await asyncio.sleep(COMPANY_SECONDS)
            if len(together) >= WORTHWHILE:
                self._index.record_use(stream, id_, self._store.now())
                await self._index.wait_for_change(stream, POLL_WAIT_SECONDS)
        finally:
            together[id_] -= 1
            if not together[id_]:
                del together[id_]
