"""Full scans of one stream's lists, a page at a time, when polls leave room for one.

What each page says is published at once, so that a scan of a long list covers campaigns as it meets them. At its end
those are gone that neither it nor a poll beside it has met.
"""

from collections.abc import Iterable
from dataclasses import replace

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.list_findings import ScanResult, conclude_full, learn, without_flaw
from campaign_gateway.policy.list_scan import Scan, begin, step
from campaign_gateway.policy.pacing import LONGEST_POLL_INTERVAL_SECONDS, Pace
from campaign_gateway.policy.sweeping import IndexSnapshot, ListFlaw
from campaign_gateway.policy.trust import ListEvent
from campaign_gateway.proxy.sweep.config import lane_of
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.sweep.lists import Lists, NoPage

RETRY_SECONDS = 1.0
"""How soon a page that got no call is asked for again."""
EARLY_SCAN_PART = 0.2
"""The part of the distance between full scans after which numbers that disagree may cost one."""
NEVER = float("inf")


class FullScanner:
    """Reads one stream's lists to their ends while this replica holds the lease, one after the other."""

    def __init__(self, lists: Lists, disagreement: Disagreement) -> None:
        """A scanner.

        Args:
            lists: what is read.
            disagreement: begins anew when a list is not believed.
        """
        self._lists = lists
        self._disagreement = disagreement
        self._scan: Scan | None = None
        self._met: set[str] = set()
        """Ids that the scan, or a poll beside it, has met."""
        self._page_at = 0.0
        self.requested: set[Channel] = set()
        """Channels whose numbers disagree."""

    def reset(self) -> None:
        """Forgets what is under way, when this replica has acquired the lease."""
        self._scan = None
        self.requested.clear()

    def drop(self, channel: Channel) -> None:
        """Ends the scan of that channel, whose list is not believed."""
        if self._scan is not None and self._scan.channel is channel:
            self._scan = None

    def meet(self, channel: Channel, ids: Iterable[str]) -> None:
        """A poll has met these: they are not gone, should the scan of its channel pass them by."""
        if self._scan is not None and self._scan.channel is channel:
            self._met.update(ids)

    def next_page(self, pace: Pace, snapshot: IndexSnapshot, now: float) -> float:
        """When the next page is due; infinite where none is."""
        if self._scan is None:
            channel = self._next_channel(pace, snapshot, now)
            if channel is None:
                return NEVER
            self.requested.discard(channel)
            self._scan = begin(channel, now, is_full=True)
            self._met.clear()
        return self._page_at

    def _next_channel(self, pace: Pace, snapshot: IndexSnapshot, now: float) -> Channel | None:
        for channel in pace.poll_intervals:
            last = snapshot.state.polls.get(channel)
            if last is None or now < self._lists.backs_off_until(channel):
                continue
            since = now - last.full_scan_at
            is_requested = channel in self.requested and since > pace.full_scan_after * EARLY_SCAN_PART
            if not last.full_scan_at or since >= pace.full_scan_after or is_requested:
                return channel
        return None

    async def page(self, pace: Pace, *, is_crowded: bool) -> ScanResult | None:
        """Reads the next page; what it has found.

        Args:
            pace: as planned.
            is_crowded: whether callers wait for calls: then it stands in line with them.
        """
        scan = self._scan
        if scan is None:
            return None
        number = self._lists.snapshot.state.number
        read = await self._lists.read(scan, lane_of(is_overdue=is_crowded))
        now = self._lists.now()
        if self._lists.snapshot.state.number != number:
            # As for polls: another replica leads.
            self._scan = None
            return None
        if isinstance(read, NoPage):
            wait = pace.poll_intervals.get(scan.channel, LONGEST_POLL_INTERVAL_SECONDS)
            self._page_at = now + (wait if read.was_forwarded else RETRY_SECONDS)
            return None
        self._page_at = now + pace.page_after
        snapshot = self._lists.snapshot
        self._scan = scan = step(scan, read.page, snapshot)
        rows = read.page.rows if read.page is not None and scan.flaw in {None, ListFlaw.SHIFTING} else ()
        self._met.update(row.id for row in rows)
        # Rows that are known already cost nothing to publish, and none of them is published.
        result = learn(snapshot, scan.channel, rows, now)
        found = await self._lists.publish(result) if result.updates else None
        if scan.has_ended:
            self._scan = None
            await self._end(scan, now)
        return found

    async def _end(self, scan: Scan, now: float) -> None:
        channel = scan.channel
        if scan.flaw is not None and scan.flaw is not ListFlaw.SHIFTING:
            self._lists.count("failed")
            self._disagreement.clear()
            await self._lists.publish_flaw(ListEvent.SCAN_FLAWED, channel, scan.flaw)
            return
        result = conclude_full(scan, self._met, self._lists.snapshot, now) if scan.flaw is None else None
        if result is None:
            # Rows were passed by. Again, after the other channels.
            self._page_at = now + LONGEST_POLL_INTERVAL_SECONDS
            return
        if self._lists.judge(ListEvent.SCANNED, channel) is None:
            result = replace(result, state=without_flaw(result.state, channel))
        await self._lists.publish(result)
