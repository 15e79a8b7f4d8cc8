"""One stream's lists for the replica that looks after them: their pages, the trust in them, what all replicas know."""

import logging
from dataclasses import dataclass, replace

from campaign_gateway.contract.answers import Verdict
from campaign_gateway.contract.listing import Channel, ListPage, list_body, read_page
from campaign_gateway.contract.operations import LIST
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.list_findings import ScanResult, with_flaw
from campaign_gateway.policy.list_scan import PAGE_ROWS, Scan
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexSnapshot, ListFlaw
from campaign_gateway.policy.trust import MOST_LAG_SECONDS, Lag, ListEvent, Trust
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.ports import CampaignIndex, Meter, Store
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep.config import CLIENT, PERMIT_SECONDS, SweepConfig

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PageRead:
    """A page of a list."""

    page: ListPage | None
    """None where the answer holds none."""
    started: float
    """When its read began."""


@dataclass(frozen=True, slots=True)
class NoPage:
    """No answer, or none that is a success."""

    was_forwarded: bool
    """Whether the platform was asked; else there was no call."""


class Lists:
    """Shared by polls and full scans: one page at a time is read."""

    def __init__(
        self,
        stream: Stream,
        index: CampaignIndex,
        store: Store,
        fetcher: Fetcher,
        config: SweepConfig,
        meter: Meter,
    ) -> None:
        """A stream's lists.

        Args:
            stream: whose.
            index: where they are known.
            store: whose clock counts.
            fetcher: asks the platform.
            config: what may be spent and believed.
            meter: where polls are counted.
        """
        self._stream = stream
        self._index = index
        self._store = store
        self._fetcher = fetcher
        self._meter = meter
        self.config = config
        self.page_rows = PAGE_ROWS
        """What the platform grants for one call."""
        self._lag = Lag()
        self._trust: dict[Channel, Trust] = {}
        self._said_of: set[Channel] = set()
        """The channels whose lists the log has said to be trusted."""

    def now(self) -> float:
        """The time."""
        return self._store.now()

    @property
    def snapshot(self) -> IndexSnapshot:
        """What is known."""
        return self._index.snapshot(self._stream.identity)

    # How far they are believed.

    @property
    def lag(self) -> float:
        """Seconds that the lists are taken to lag."""
        return self.config.lag if self.config.lag is not None else self._lag.allowed(self.now())

    def is_too_late(self, lag: float | None, now: float) -> bool:
        """Whether the list lags further than can be allowed for.

        Args:
            lag: as a poll has shown it; None where it has not.
            now: the time.
        """
        if lag is None:
            return False
        self._lag = self._lag.seen(lag, now)
        return lag > (self.config.lag if self.config.lag is not None else MOST_LAG_SECONDS)

    def backs_off_until(self, channel: Channel) -> float:
        """Until when nothing is asked of the channel's list, after a flaw."""
        return self._trust.get(channel, Trust()).quiet_until

    def judge(self, event: ListEvent, channel: Channel, found: ListFlaw | None = None) -> ListFlaw | None:
        """The flaw that all replicas are to know of the channel's list, after what became of a poll or a full scan."""
        before, published = self._trust.get(channel, Trust()), self.snapshot.state.flaws.get(channel)
        self._trust[channel], flaw = before.after(event, published, self.now(), found)
        return flaw

    # What all replicas are to know.

    async def publish(self, result: ScanResult) -> ScanResult | None:
        """The same, once all replicas can know of it; None where this replica was deposed meanwhile."""
        is_published = await self._index.publish(self._stream.identity, result.state, result.updates)
        return result if is_published else None

    async def publish_flaw(self, event: ListEvent, channel: Channel, found: ListFlaw | None = None) -> None:
        """Tells all replicas why the channel's list validates nothing, after such an event."""
        flaw, state = self.judge(event, channel, found), self.snapshot.state
        if flaw is None:
            return
        if state.flaws.get(channel) is not flaw:
            text = "the %s list of stream %s is not trusted (%s): lifetimes count"
            _log.warning(text, channel, self._stream.alias, flaw)
        state = replace(with_flaw(state, channel, flaw), number=state.number + 1)
        await self._index.publish(self._stream.identity, state, {})

    def note_trusted(self, channel: Channel, *, was_flawed: bool) -> None:
        """Logs that the list is trusted from now on, where it was not or nothing was known of it."""
        if was_flawed or channel not in self._said_of:
            again = " again" if was_flawed else ""
            text = "the %s list of stream %s is trusted%s: polls validate answers"
            _log.info(text, channel, self._stream.alias, again)
        self._said_of.add(channel)

    # Pages.

    async def read(self, scan: Scan, lane: Lane) -> PageRead | NoPage:
        """The scan's next page."""
        fetched = await self._fetcher.fetch(
            Request(self._stream, LIST, "", CLIENT, body=list_body(scan.channel, scan.skip, PAGE_ROWS)),
            lane,
            "scan" if scan.is_full else "sweep",
            PERMIT_SECONDS,
        )
        if isinstance(fetched, Failure) or fetched.answer.verdict is not Verdict.OK:
            self.count("failed")
            return NoPage(was_forwarded=not isinstance(fetched, Failure) or fetched.was_forwarded)
        body = fetched.answer.response.body
        page = await beside(len(body), read_page, body)
        if page is not None and page.total is not None and not scan.is_full:
            shown = len(page.rows)
            self.page_rows = shown if 0 < shown < page.total - scan.skip else self.page_rows
        return PageRead(page, fetched.started)

    def count(self, outcome: str) -> None:
        """One poll ended, or a page could not be read."""
        self._meter.validation("sweep", outcome)
