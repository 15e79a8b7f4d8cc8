"""Polls of one stream's lists.

One page at a time: a poll that gets no call waits where it is. What rows say, and that the poll went through, which
validates whatever did not change, is published at its end.

| a poll ...                   | and then                                                          |
|------------------------------|-------------------------------------------------------------------|
| gets no page                 | goes on where it is, as soon as there may be one                  |
| waits for too long           | begins anew                                                       |
| goes through                 | validates what has not changed                                    |
| finds the list shifting      | validates nothing this time; what it met is true all the same     |
| shifts for too many pages    | makes the list one that was not polled yet                        |
| finds another flaw           | ends the trust in the list for a while (`policy.trust`)           |
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.list_findings import (
    ScanResult,
    conclude,
    forget,
    lag_shown,
    learn,
    with_flaw,
    without_flaw,
)
from campaign_gateway.policy.list_scan import MAX_POLL_PAGES, Scan, begin, step
from campaign_gateway.policy.pacing import LONGEST_POLL_INTERVAL_SECONDS, Pace
from campaign_gateway.policy.sweeping import IndexSnapshot, ListFlaw
from campaign_gateway.policy.trust import ListEvent
from campaign_gateway.proxy.sweep.config import lane_of
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.sweep.full_scan import FullScanner
from campaign_gateway.proxy.sweep.lists import Lists, NoPage

RETRY_SECONDS = 1.0
"""How soon a poll that got no call asks again."""
STARVED_SECONDS = 120.0
"""Polls that are due for so long, and have not gone through, are said to validate nothing."""
STALE_SCAN_SECONDS = 300.0
"""A poll that has waited for so long begins anew."""
RATE_SECONDS = 120.0
"""Over which the rate of changes is averaged."""


@dataclass(slots=True)
class _ChannelPolls:
    """What is under way for one channel."""

    waiting: Scan | None = None
    """A poll that waits for a call."""
    retry_at: float = 0.0
    due_since: float | None = None
    """Since when polls are due, and none has gone through."""


class Poller:
    """Polls one stream's lists while this replica holds the lease."""

    def __init__(self, lists: Lists, full_scan: FullScanner, disagreement: Disagreement) -> None:
        """A poller.

        Args:
            lists: what is polled.
            full_scan: receives the rows that polls have met beside it, and where one is wanted.
            disagreement: compares rows with reads by id.
        """
        self._lists = lists
        self._full_scan = full_scan
        self._disagreement = disagreement
        self._channels = {channel: _ChannelPolls() for channel in Channel}
        self.rates: dict[Channel, float] = {}
        """Changes a second of campaigns in use."""

    def reset(self) -> None:
        """Forgets what is under way, when this replica has acquired the lease."""
        self._channels = {channel: _ChannelPolls() for channel in Channel}

    @property
    def is_waiting(self) -> bool:
        """Whether a poll waits for a call."""
        return any(channel.waiting for channel in self._channels.values())

    def next_poll(self, pace: Pace, snapshot: IndexSnapshot, waiting: int, now: float) -> tuple[float, Channel | None]:
        """When the next poll is due, and whose.

        Args:
            pace: as planned.
            snapshot: what is known.
            waiting: reads by id that wait for a call.
            now: the time.
        """
        capacity = self._lists.config.capacity()
        due: dict[Channel, float] = {}
        for channel in pace.poll_intervals:
            ours, last = self._channels[channel], snapshot.state.polls.get(channel)
            begin_at = 0.0
            if last is not None and ours.waiting is None:
                begin_at = last.began + pace.distance(channel, capacity, waiting)
            due[channel] = max(begin_at, ours.retry_at, self._lists.backs_off_until(channel))
        if not due:
            return now, None
        # The one that has waited longest beyond its distance.
        channel = min(due, key=due.__getitem__)
        return due[channel], channel

    async def poll(self, channel: Channel, pace: Pace, used: Mapping[str, float]) -> ScanResult | None:
        """Goes on with the channel's poll to its end, or until it gets no call; what it has found."""
        now, ours = self._lists.now(), self._channels[channel]
        if ours.due_since is None:
            ours.due_since = now
        scan, ours.waiting = ours.waiting, None
        if scan is None or now - scan.began > STALE_SCAN_SECONDS:
            scan = begin(channel, now, offset=self._lists.config.platform_offset())
        snapshot = self._lists.snapshot
        last, capacity = snapshot.state.polls.get(channel), self._lists.config.capacity()
        is_overdue = last is None or now - last.began > LONGEST_POLL_INTERVAL_SECONDS
        lane = lane_of(is_overdue=is_overdue and capacity.is_contended and capacity.free <= 0)
        while not scan.has_ended:
            number = self._lists.snapshot.state.number
            read = await self._lists.read(scan, lane)
            if self._lists.snapshot.state.number != number:
                # Only one page is read at a time: another replica leads, and rows from before would undo what it shows.
                return None
            if isinstance(read, NoPage):
                await self._wait(scan, read, pace)
                return None
            scan = step(scan if scan.pages else replace(scan, began=read.started), read.page, snapshot)
        return await self._end(scan, pace, used)

    async def _wait(self, scan: Scan, read: NoPage, pace: Pace) -> None:
        ours, now = self._channels[scan.channel], self._lists.now()
        ours.waiting, ours.retry_at = scan, now + RETRY_SECONDS
        if read.was_forwarded:
            # The wire, the limit or the credential, not the list: again when the next poll would be due.
            ours.due_since, ours.retry_at = now, now + _interval(pace, scan.channel)
        await self._note_starved(scan.channel)

    async def _note_starved(self, channel: Channel) -> None:
        """Says that polls validate nothing, where they have got no call, or come to no end, for too long."""
        due_since = self._channels[channel].due_since
        is_starved = due_since is not None and self._lists.now() - due_since > STARVED_SECONDS
        if is_starved and channel not in self._lists.snapshot.state.flaws:
            await self._lists.publish_flaw(ListEvent.POLLS_STARVED, channel)

    # Its end.

    async def _end(self, scan: Scan, pace: Pace, used: Mapping[str, float]) -> ScanResult | None:
        ended = self._lists.now()
        # Pages of full scans have been published meanwhile by nobody: only one page is read at a time.
        snapshot = self._lists.snapshot
        self._full_scan.meet(scan.channel, scan.rows)
        match self._flaw(scan, snapshot, ended):
            case None:
                return await self._validate(scan, snapshot, pace, used, ended)
            case ListFlaw.SHIFTING:
                return await self._learn(scan, pace, ended)
            case flaw:
                self._lists.count("failed")
                self._disagreement.clear()
                self._full_scan.drop(scan.channel)
                await self._lists.publish_flaw(ListEvent.POLL_FLAWED, scan.channel, flaw)
                return None

    def _flaw(self, scan: Scan, snapshot: IndexSnapshot, ended: float) -> ListFlaw | None:
        """Why the poll validates nothing; None where it does."""
        lag = lag_shown(scan, snapshot) if scan.flaw is None else None
        is_too_late = self._lists.is_too_late(lag, ended)
        flaw = scan.flaw or (ListFlaw.TOO_LATE if is_too_late else None)
        return flaw or self._disagreement.found(scan, snapshot, self._lists.lag)

    async def _learn(self, scan: Scan, pace: Pace, ended: float) -> ScanResult | None:
        """So busy a list says nothing this time; it is no reason to distrust it. What was met is true all the same."""
        channel = scan.channel
        self._lists.count("failed")
        self._channels[channel].retry_at = ended + _interval(pace, channel)
        await self._note_starved(channel)
        found = await self._lists.publish(learn(self._lists.snapshot, channel, scan.rows.values(), ended))
        if scan.pages >= MAX_POLL_PAGES:
            await self._lists.publish(forget(self._lists.snapshot, channel))
        return found

    async def _validate(
        self, scan: Scan, snapshot: IndexSnapshot, pace: Pace, used: Mapping[str, float], ended: float
    ) -> ScanResult | None:
        channel, flaws = scan.channel, snapshot.state.flaws
        result = conclude(scan, snapshot, ended, pace.lasts(channel) + (ended - scan.began))
        flaw = self._lists.judge(ListEvent.POLLED, channel)
        state = with_flaw(result.state, channel, flaw) if flaw else without_flaw(result.state, channel)
        state = replace(state, blind=pace.blind, paced=tuple(pace.poll_intervals), lag=self._lists.lag)
        if result.needs_full_scan:
            self._full_scan.requested.add(channel)
        found = await self._lists.publish(replace(result, state=state))
        self._channels[channel].due_since = None
        if flaw is None:
            self._lists.note_trusted(channel, was_flawed=channel in flaws)
        changed = found.changed if found is not None else frozenset()
        self._lists.count("changed" if changed else "unchanged")
        self._note_rate(scan, snapshot, sum(1 for id_ in changed if id_ in used))
        return found

    def _note_rate(self, scan: Scan, snapshot: IndexSnapshot, changes: int) -> None:
        last = snapshot.state.polls.get(scan.channel)
        seconds = scan.began - last.began if last is not None else 0.0
        if seconds <= 0:
            return
        part = min(1.0, seconds / RATE_SECONDS)
        before = self.rates.get(scan.channel, 0.0)
        self.rates[scan.channel] = before + part * (changes / seconds - before)


def _interval(pace: Pace, channel: Channel) -> float:
    return pace.poll_intervals.get(channel, LONGEST_POLL_INTERVAL_SECONDS)
