"""Polls and full scans of one stream's lists, and what they show, published for all replicas.

One page at a time: a poll, or a scan, that gets no call waits where it is. Polls go before pages of scans. What rows
say is published page by page, so that a scan of a long list covers campaigns as it meets them; that a poll went through
is published at its end, and proves whatever did not move.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace

from campaign_gateway.contract.answers import Verdict
from campaign_gateway.contract.listing import Channel, list_body, read_page
from campaign_gateway.contract.operations import LIST
from campaign_gateway.policy import list_scan
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.list_scan import MAX_POLL_PAGES, PAGE_ROWS, Scan, ScanResult
from campaign_gateway.policy.pacing import LONGEST_POLL_INTERVAL_SECONDS, Pace
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexSnapshot, ListFlaw
from campaign_gateway.policy.trust import MOST_LAG_SECONDS, Lag, Trust
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.ports import CampaignIndex, Meter, Store
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep.config import CLIENT, PERMIT_SECONDS, SweepConfig, lane
from campaign_gateway.proxy.sweep.disagreement import Disagreement

_log = logging.getLogger(__name__)

AGAIN_SECONDS = 1.0
"""How soon a poll or a page that got no call asks again."""
STARVED_SECONDS = 120.0
"""Polls that are due for so long, and have not gone through, are said to prove nothing."""
STALE_SCAN_SECONDS = 300.0
"""A poll that has waited for so long begins anew."""
EARLY_SCAN_PART = 0.2
"""The part of the distance between full scans after which numbers that disagree may cost one."""
RATE_SECONDS = 120.0
"""Over which the rate of changes is averaged."""


class Poller:
    """Reads one stream's lists while this replica leads."""

    def __init__(
        self,
        stream: Stream,
        index: CampaignIndex,
        store: Store,
        fetcher: Fetcher,
        config: SweepConfig,
        disagreement: Disagreement,
        meter: Meter,
    ) -> None:
        """A poller.

        Args:
            stream: whose lists.
            index: where they are known.
            store: whose clock counts.
            fetcher: asks the platform.
            config: what may be spent and believed.
            disagreement: compares rows with reads by id.
            meter: where polls are counted.
        """
        self._stream = stream
        self._index = index
        self._store = store
        self._fetcher = fetcher
        self._config = config
        self._disagreement = disagreement
        self._meter = meter
        self.page_rows = PAGE_ROWS
        """What the platform grants for one call."""
        self.rates: dict[Channel, float] = {}
        """Changes a second of campaigns in use."""
        self._lag = Lag()
        self._trust: dict[Channel, Trust] = {}
        self._unsound: dict[Channel, ListFlaw] = {}
        """Lists in which a full scan has found a flaw: no poll ends it."""
        self._polls: dict[Channel, Scan] = {}
        """Polls that wait for a call."""
        self._scan: Scan | None = None
        self._met: set[str] = set()
        """Ids that the full scan, or a poll beside it, has met."""
        self._wants_scan: set[Channel] = set()
        self._retry_at: dict[Channel, float] = {}
        self._page_at = 0.0
        self._due_since: dict[Channel, float] = {}

    def reset(self) -> None:
        """Forgets what is under way, when this replica has come to lead."""
        self._polls.clear()
        self._scan = None
        self._wants_scan.clear()
        self._retry_at.clear()
        self._due_since.clear()

    @property
    def _snapshot(self) -> IndexSnapshot:
        return self._index.snapshot(self._stream.identity)

    @property
    def lag(self) -> float:
        """Seconds that the lists are taken to lag."""
        return self._config.lag if self._config.lag is not None else self._lag.allowed(self._store.now())

    # What is due.

    def next_poll(self, pace: Pace, snapshot: IndexSnapshot, waiting: int, now: float) -> tuple[float, Channel | None]:
        """When the next poll is due, and whose.

        Args:
            pace: as planned.
            snapshot: what is known.
            waiting: reads by id that wait for a call.
            now: the time.
        """
        capacity = self._config.capacity()
        due: dict[Channel, float] = {}
        for channel in pace.poll_intervals:
            last = snapshot.state.polls.get(channel)
            begin_at = 0.0 if last is None else last.began + pace.distance(channel, capacity, waiting)
            if channel in self._polls:
                begin_at = 0.0
            quiet_until = self._trust.get(channel, Trust()).quiet_until
            due[channel] = max(begin_at, self._retry_at.get(channel, 0.0), quiet_until)
        if not due:
            return now, None
        # The one that has waited longest beyond its distance.
        channel = min(due, key=due.__getitem__)
        return due[channel], channel

    def next_page(self, pace: Pace, snapshot: IndexSnapshot, now: float) -> float:
        """When the next page of a full scan is due; infinite where none is wanted."""
        if self._polls:
            return float("inf")
        if self._scan is None:
            channel = self._whose_scan(pace, snapshot, now)
            if channel is None:
                return float("inf")
            self._wants_scan.discard(channel)
            self._scan = list_scan.begin(channel, now, is_full=True)
            self._met.clear()
        return self._page_at

    def _whose_scan(self, pace: Pace, snapshot: IndexSnapshot, now: float) -> Channel | None:
        for channel in pace.poll_intervals:
            last = snapshot.state.polls.get(channel)
            if last is None or now < self._trust.get(channel, Trust()).quiet_until:
                continue
            is_early = now - last.full_scan_at > pace.full_scan_after * EARLY_SCAN_PART
            if (
                not last.full_scan_at
                or now - last.full_scan_at >= pace.full_scan_after
                or (channel in self._wants_scan and is_early)
            ):
                return channel
        return None

    # Polls.

    async def poll(self, channel: Channel, pace: Pace, used: Mapping[str, float]) -> ScanResult | None:
        """Goes on with the channel's poll to its end, or until it gets no call; what it has found."""
        now = self._store.now()
        self._due_since.setdefault(channel, now)
        scan = self._polls.pop(channel, None)
        if scan is None or now - scan.began > STALE_SCAN_SECONDS:
            scan = list_scan.begin(channel, now, offset=self._config.platform_offset())
        snapshot = self._snapshot
        last = snapshot.state.polls.get(channel)
        is_overdue = last is None or now - last.began > LONGEST_POLL_INTERVAL_SECONDS
        capacity = self._config.capacity()
        paid_by = lane(is_overdue=is_overdue and capacity.is_wanted and capacity.free <= 0)
        while scan.skip is not None:
            body, started, retry_at = await self._page(scan, paid_by, pace)
            if body is None:
                self._polls[channel] = scan
                self._retry_at[channel] = retry_at
                await self._note_starved(channel)
                return None
            if scan.pages == 0:
                scan = replace(scan, began=started)
            page = read_page(body)
            if page is not None and page.total is not None and 0 < len(page.rows) < page.total - (scan.skip or 0):
                self.page_rows = len(page.rows)
            scan = list_scan.step(scan, page, snapshot)
        return await self._conclude(scan, pace, used)

    async def _page(self, scan: Scan, paid_by: Lane, pace: Pace) -> tuple[bytes | None, float, float]:
        """The body of the scan's next page and when its read began; or None, and when to ask again."""
        fetched = await self._fetcher.fetch(
            Request(self._stream, LIST, "", CLIENT, body=list_body(scan.channel, scan.skip or 0, PAGE_ROWS)),
            paid_by,
            "scan" if scan.is_full else "sweep",
            PERMIT_SECONDS,
        )
        now = self._store.now()
        if not isinstance(fetched, Failure) and fetched.answer.verdict is Verdict.OK:
            return fetched.answer.response.body, fetched.started, now
        self._meter.proof("sweep", "failed")
        if isinstance(fetched, Failure) and not fetched.was_forwarded:
            # No call: as soon as there may be one.
            return None, now, now + AGAIN_SECONDS
        # The wire, the limit or the credential, not the list: again in its turn.
        self._due_since[scan.channel] = now
        return None, now, now + pace.poll_intervals.get(scan.channel, LONGEST_POLL_INTERVAL_SECONDS)

    async def _note_starved(self, channel: Channel) -> None:
        """Says that polls prove nothing, where they have got no call, or come to no end, for too long."""
        late = self._store.now() - self._due_since[channel]
        if late > STARVED_SECONDS and channel not in self._snapshot.state.flaws:
            await self._publish_flaw(ListFlaw.STARVED, channel)

    async def _conclude(self, scan: Scan, pace: Pace, used: Mapping[str, float]) -> ScanResult | None:
        ended, channel = self._store.now(), scan.channel
        # Pages of full scans have been published meanwhile by nobody: polls and pages take turns.
        snapshot = self._snapshot
        lag = list_scan.lag_shown(scan, snapshot) if scan.flaw is None else None
        if lag is not None:
            self._lag = self._lag.seen(lag, ended)
        most = self._config.lag if self._config.lag is not None else MOST_LAG_SECONDS
        flaw = scan.flaw or (ListFlaw.TOO_LATE if lag is not None and lag > most else None)
        flaw = flaw or self._disagreement.found(scan, snapshot, self.lag)
        if self._scan is not None and self._scan.channel is channel:
            self._met.update(scan.rows)
        if flaw is ListFlaw.SHIFTING:
            # So busy a list says nothing this time; it is no reason to distrust it. What was met is true all the same.
            self._meter.proof("sweep", "failed")
            self._retry_at[channel] = ended + pace.poll_intervals.get(channel, LONGEST_POLL_INTERVAL_SECONDS)
            await self._note_starved(channel)
            found = await self._publish(list_scan.learn(self._snapshot, channel, scan.rows.values(), ended))
            if scan.pages >= MAX_POLL_PAGES:
                await self._publish(list_scan.forget(self._snapshot, channel))
            return found
        if flaw is not None:
            await self._distrust(flaw, channel)
            return None
        lasts = pace.lasts(channel) + (ended - scan.began)
        result = list_scan.conclude(scan, snapshot, ended, lasts)
        flaws = dict(result.state.flaws)
        if channel in self._unsound:
            flaws[channel] = self._unsound[channel]
        state = replace(result.state, blind=pace.blind, paced=tuple(pace.poll_intervals), lag=self.lag, flaws=flaws)
        if result.wants_full:
            self._wants_scan.add(channel)
        found = await self._publish(replace(result, state=state))
        moved = found.moved if found is not None else frozenset()
        self._due_since.pop(channel, None)
        self._trust[channel] = self._trust.get(channel, Trust()).held(ended)
        if channel in snapshot.state.flaws and channel not in flaws:
            _log.info("the %s list of stream %s is trusted again", channel, self._stream.alias)
        self._meter.proof("sweep", "changed" if moved else "unchanged")
        self._note_rate(scan, snapshot, sum(1 for id_ in moved if id_ in used))
        return found

    def _note_rate(self, scan: Scan, snapshot: IndexSnapshot, moved: int) -> None:
        last = snapshot.state.polls.get(scan.channel)
        seconds = scan.began - last.began if last is not None else 0.0
        if seconds <= 0:
            return
        part = min(1.0, seconds / RATE_SECONDS)
        before = self.rates.get(scan.channel, 0.0)
        self.rates[scan.channel] = before + part * (moved / seconds - before)

    # Full scans.

    async def page(self, pace: Pace, *, is_crowded: bool) -> ScanResult | None:
        """Reads the full scan's next page; what it has found.

        Args:
            pace: as planned.
            is_crowded: whether callers wait for calls: then it stands in line with them.
        """
        scan = self._scan
        if scan is None or scan.skip is None:
            self._scan = None
            return None
        body, _, retry_at = await self._page(scan, lane(is_overdue=is_crowded), pace)
        now = self._store.now()
        self._page_at = retry_at if body is None else now + pace.page_after
        if body is None:
            return None
        snapshot, page = self._snapshot, read_page(body)
        self._scan = scan = list_scan.step(scan, page, snapshot)
        rows = page.rows if page is not None and scan.flaw in {None, ListFlaw.SHIFTING} else ()
        self._met.update(row.id for row in rows)
        # Rows that are known already cost nothing to publish, and none of them is published.
        result = list_scan.learn(snapshot, scan.channel, rows, now)
        found = await self._publish(result) if result.updates else None
        if scan.skip is None:
            self._scan = None
            await self._end_scan(scan, now)
        return found

    async def _end_scan(self, scan: Scan, now: float) -> None:
        channel = scan.channel
        if scan.flaw is not None and scan.flaw is not ListFlaw.SHIFTING:
            self._unsound[channel] = scan.flaw
            await self._distrust(scan.flaw, channel)
            return
        snapshot = self._snapshot
        result = list_scan.conclude_full(scan, self._met, snapshot, now) if scan.flaw is None else None
        if result is None:
            # Rows were passed by. Again, when others have had their turn.
            self._page_at = now + LONGEST_POLL_INTERVAL_SECONDS
            return
        is_sound_again = self._unsound.pop(channel, None) is not None
        if is_sound_again:
            flaws = {other: flaw for other, flaw in result.state.flaws.items() if other is not channel}
            result = replace(result, state=replace(result.state, flaws=flaws))
        await self._publish(result)

    # What all replicas are to know.

    async def _publish(self, result: ScanResult) -> ScanResult | None:
        """The same, once all replicas can know of it; None where this replica was deposed meanwhile."""
        is_published = await self._index.publish(self._stream.identity, result.state, result.updates)
        return result if is_published else None

    async def _distrust(self, flaw: ListFlaw, channel: Channel) -> None:
        self._meter.proof("sweep", "failed")
        self._disagreement.clear()
        self._trust[channel] = self._trust.get(channel, Trust()).lost(self._store.now())
        self._scan = None if self._scan is not None and self._scan.channel is channel else self._scan
        await self._publish_flaw(flaw, channel)

    async def _publish_flaw(self, flaw: ListFlaw, channel: Channel) -> None:
        state = self._snapshot.state
        if state.flaws.get(channel) is not flaw:
            text = "the %s list of stream %s proves nothing (%s): lifetimes count until it does"
            _log.warning(text, channel, self._stream.alias, flaw)
        state = replace(state, flaws={**state.flaws, channel: flaw}, number=state.number + 1)
        await self._index.publish(self._stream.identity, state, {})
