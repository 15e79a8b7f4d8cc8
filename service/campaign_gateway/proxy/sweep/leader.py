"""Looks after one stream's stored answers: polls of its lists, and reads by id of what has changed.

One replica holds the lease; the others use what it publishes. The holder counts what is in use, plans its pace
(`policy.pacing`), and does what is due: reads by id of what has changed go out as soon as there is a call for them;
polls take what the next window leaves; pages of full scans and reads in rotation fill the rest. It sleeps until
something is due, or until somebody wakes it: a poll or a read that has ended, a hint, the first caller after none.
Nothing is done for campaigns that nobody asks for, but for polls while somebody listens to the stream's changes.

A list that shows itself not to be trusted is published as flawed: nothing is validated then, and lifetimes count again
until a later poll goes through.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.list_findings import ScanResult
from campaign_gateway.policy.pacing import Pace, Workload, listed_of, plan_pace, workload_of
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.flights import FillResult
from campaign_gateway.proxy.ports import USED_SECONDS, CampaignIndex, Meter, Store
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep.config import CLIENT, SweepConfig
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.sweep.full_scan import FullScanner
from campaign_gateway.proxy.sweep.lists import Lists
from campaign_gateway.proxy.sweep.poll import Poller
from campaign_gateway.proxy.sweep.rotation import Rotation
from campaign_gateway.proxy.tasks import Tasks

__all__ = ["CLIENT", "USED_SECONDS", "SweepConfig", "Sweeper"]

_log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 1.0
"""How long the leader sleeps while campaigns are in use: others spend calls too, and nobody wakes it for that."""
SHORTEST_SLEEP_SECONDS = 0.02
"""Whatever is due and cannot begin (eight reads are under way), or is due in less than the clock can show, is looked
at again after this, and not at once without end; who can begin it wakes the leader before."""


class Sweeper:
    """Holds the lease or waits for one stream."""

    def __init__(
        self,
        *,
        stream: Stream,
        index: CampaignIndex,
        store: Store,
        fetcher: Fetcher,
        refresh: Callable[[Request, Lane, str], Awaitable[FillResult]],
        config: SweepConfig,
        tasks: Tasks,
        meter: Meter,
    ) -> None:
        """A sweeper.

        Args:
            stream: whose lists.
            index: where they are known.
            store: where entries and the clock are.
            fetcher: asks the platform.
            refresh: reads one campaign by id, into the store.
            config: what may be spent and believed.
            tasks: where polls and reads run.
            meter: where polls are counted.
        """
        self._stream = stream
        self._index = index
        self._store = store
        self._config = config
        self._tasks = tasks
        self._woken = asyncio.Event()
        disagreement = Disagreement()
        self._lists = Lists(stream, index, store, fetcher, config, meter)
        self._full_scan = FullScanner(self._lists, disagreement)
        self._poller = Poller(self._lists, self._full_scan, disagreement)
        self._rotation = Rotation(stream, index, store, refresh, disagreement, tasks, self._woken.set)
        self._is_polling = False
        self._counted: Mapping[str, IndexedCampaign] = {}
        self._shown: Counter[Channel] = Counter()
        """How many campaigns of each list are in `_counted`: they are looked at several times a second."""
        self.pace = Pace({})
        self.is_leading = False

    async def run(self) -> None:
        """Holds the lease or waits, for as long as it runs."""
        while True:
            await self._hold_or_wait()

    def adopt(self, share: float, lag: float | None) -> None:
        """Goes by these from now on; see `SweepConfig`."""
        self._config.share, self._config.lag = share, lag
        self._woken.set()

    async def _hold_or_wait(self) -> None:
        """One look, and the sleep until the next one."""
        if not self._config.share:
            self.is_leading = False
            await self._woken.wait()
            self._woken.clear()
            return
        if not self._index.is_leading(self._stream.identity):
            self.is_leading = False
            await self._index.wait(self._stream.identity, math.inf)
            return
        if not self.is_leading:
            self.take_over()
        seconds = self.look_once()
        if seconds > LONGEST_SLEEP_SECONDS:
            await self._index.wait(self._stream.identity, seconds)
        else:
            await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()

    def take_over(self) -> None:
        """Has acquired the lease."""
        self.is_leading = True
        self._poller.reset()
        self._full_scan.reset()
        self._rotation.reset()

    def hint(self, ids: Sequence[str]) -> None:
        """Has these campaigns read first: callers' own systems say that they have changed."""
        if self.is_leading:
            self._rotation.enqueue(ids, self._store.now(), "hint")
            self._woken.set()

    def workload(self) -> Workload:
        """What is in use of the stream, and how it changes; of the latter only the leader knows."""
        return self._workload(self._index.snapshot(self._stream.identity), self._index.used(self._stream.identity))

    def _workload(self, snapshot: IndexSnapshot, used: Mapping[str, float]) -> Workload:
        if self._counted is not snapshot.campaigns:
            self._counted, self._shown = snapshot.campaigns, listed_of(snapshot)
        return workload_of(
            snapshot,
            self._shown,
            used,
            rates=self._poller.rates,
            rotation_rate=self._rotation.rate,
            page_rows=self._lists.page_rows,
            is_listened=self._index.is_listened(self._stream.identity),
        )

    def look_once(self) -> float:
        """Starts whatever is due; the seconds until there may be something more to do."""
        now = self._store.now()
        snapshot = self._index.snapshot(self._stream.identity)
        used = self._index.used(self._stream.identity)
        capacity = self._config.capacity()
        self.pace = plan_pace(capacity, self._workload(snapshot, used))
        if not self.pace.poll_intervals:
            # Too few are in use for the list to be worth its calls. What has been hinted at is read all the same.
            at = self._rotation.start(self.pace, capacity, used, snapshot, now)
            return min(max(SHORTEST_SLEEP_SECONDS, at - now), LONGEST_SLEEP_SECONDS if used else math.inf)
        at = min(
            self._start_poll(snapshot, used, now, is_crowded=capacity.is_contended),
            self._rotation.start(self.pace, capacity, used, snapshot, now),
        )
        return min(max(SHORTEST_SLEEP_SECONDS, at - now), LONGEST_SLEEP_SECONDS)

    def _start_poll(self, snapshot: IndexSnapshot, used: Mapping[str, float], now: float, *, is_crowded: bool) -> float:
        """Starts the poll, or the page of a full scan, that is due, one at a time; when the next one is."""
        if self._is_polling:
            return math.inf
        due, channel = self._poller.next_poll(self.pace, snapshot, self._rotation.waiting(now), now)
        if channel is not None and due <= now:
            self._spawn(self._poller.poll(channel, self.pace, used), used)
            return math.inf
        page_at = math.inf if self._poller.is_waiting else self._full_scan.next_page(self.pace, snapshot, now)
        if page_at <= now:
            self._spawn(self._full_scan.page(self.pace, is_crowded=is_crowded), used)
            return math.inf
        return min(due, page_at)

    def _spawn(self, work: Awaitable[ScanResult | None], used: Mapping[str, float]) -> None:
        async def polling() -> None:
            found = await work
            if found is not None:
                self._rotation.enqueue(found.changed, self._store.now())
                await self._rotation.compare(id_ for id_ in found.met if id_ in used)

        self._is_polling = True
        self._tasks.spawn(polling(), name="poll", on_end=self._polled)

    def _polled(self) -> None:
        self._is_polling = False
        self._woken.set()
