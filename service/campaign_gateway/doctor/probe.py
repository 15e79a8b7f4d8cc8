"""Measures what the contract could not know of the real platform: at most ten reads of a stream, and never a write."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.app.build import Plan
from campaign_gateway.contract.answers import Answer, Response, Verdict
from campaign_gateway.contract.document import DocumentError, parse
from campaign_gateway.contract.listing import Channel, list_body, read_page
from campaign_gateway.contract.operations import GET, LIST
from campaign_gateway.contract.requests import list_request
from campaign_gateway.doctor import measures, probe_verdicts
from campaign_gateway.doctor.calls import Asked, Calls
from campaign_gateway.doctor.findings import Finding
from campaign_gateway.doctor.measures import Seen, SeenCampaign, SeenPage
from campaign_gateway.policy.forecast import Forecast, forecast
from campaign_gateway.policy.list_scan import PAGE_ROWS
from campaign_gateway.policy.pacing import Capacity, Workload
from campaign_gateway.policy.trust import MOST_LAG_SECONDS
from campaign_gateway.proxy.fetch import Fetched
from campaign_gateway.proxy.request import Stream

_NOT_MODIFIED = 304


async def probe_stream(
    plan: Plan, calls: Calls, stream: Stream, first: Asked
) -> tuple[list[Finding], Mapping[str, Any]]:
    """What was found, and the same for programs.

    Args:
        plan: what the settings come to.
        calls: where they are made.
        stream: which.
        first: the first page of its voice list, which has been read already.
    """
    probe = _Probe(plan, calls, stream)
    probe.note_page(first, Channel.VOICE, 0)
    await probe.look()
    expected = _expect(plan, stream, probe.seen)
    row, lag = plan.settings.budget_of(stream.tenant.account), plan.settings.sweep.lag
    known_lag = None if lag == "auto" else lag
    found = probe_verdicts.judge(probe.seen, (row.calls, row.window), known_lag, expected, stream.alias)
    return found, probe_verdicts.as_document(probe.seen, calls.made(stream), expected)


def _expect(plan: Plan, stream: Stream, seen: Seen) -> Forecast:
    """What `plan` would say of lists of this size, all of whose campaigns are in use."""
    settings, account = plan.settings, stream.tenant.account
    row, lag = settings.budget_of(account), settings.sweep.lag
    listed = {channel: 0 if (one := seen.first(channel)) is None else measures.size_of(one) for channel in Channel}
    streams = sum(1 for other in plan.streams.values() if other.tenant.account == account)
    return forecast(
        Capacity(row.calls, row.window, row.reserved, settings.sweep.share, streams=streams),
        Workload(used=listed, listed=listed, page_rows=measures.granted_rows(seen) or PAGE_ROWS),
        max(measures.lag_of(seen), MOST_LAG_SECONDS if lag == "auto" else lag),
        settings.freshness.max,
    )


class _Probe:
    """The questions, and what the answers have shown."""

    def __init__(self, plan: Plan, calls: Calls, stream: Stream) -> None:
        self._calls = calls
        self._stream = stream
        # A slot falls free within a window, whatever else is going on.
        self._wait = plan.settings.budget_of(stream.tenant.account).window
        self.seen = Seen()

    async def look(self) -> None:
        """Asks what is not known yet, in the order of its worth."""
        await self._list(Channel.SMS, 0)
        for channel in Channel:
            await self._read_newest(channel)
        longest = self.seen.longest()
        if longest is not None and len(longest.page.rows) > 1:
            await self._list(longest.channel, 0, is_newest_first=False)
        for channel in Channel:
            first = self.seen.first(channel)
            if first is not None and measures.is_cut(first) and first.page.total:
                # The last row, if the total counts what is shown.
                await self._list(channel, max(len(first.page.rows), first.page.total - 1))
        for channel in Channel:
            # What changed before the first look and shows only now came late.
            await self._list(channel, 0)

    async def _list(self, channel: Channel, skip: int, *, is_newest_first: bool = True) -> None:
        order = {"type": channel.value, "limit": PAGE_ROWS, "skip": skip, "sortBy": {"updatedAt": "asc"}}
        body = list_body(channel, skip, PAGE_ROWS) if is_newest_first else list_request(order)
        asked = await self._calls.ask(self._stream, LIST, self._wait, body=body)
        self.note_page(asked, channel, skip, is_newest_first=is_newest_first)

    def note_page(self, asked: Asked, channel: Channel, skip: int, *, is_newest_first: bool = True) -> None:
        """Takes a list's answer in, if it is one."""
        answer = _good(asked)
        page = None if answer is None else read_page(answer.body)
        if page is not None:
            at = asked.sent_at + (asked.seconds_ahead or 0.0)
            self.seen.pages.append(SeenPage(channel, skip, PAGE_ROWS, page, at, is_newest_first))

    async def _read_newest(self, channel: Channel) -> None:
        first = self.seen.first(channel)
        rows = [] if first is None else measures.newest(first.page)
        if first is None or not rows:
            return
        answer = _good(await self._calls.ask(self._stream, GET, self._wait, id_=rows[0].id))
        if answer is None:
            return
        self.seen.campaigns.append(SeenCampaign(rows[0], first.asked_at, _fields(answer)))
        if not self.seen.headers:
            self.seen.headers = {name.lower(): value for name, value in answer.headers.items()}
            await self._validate(rows[0].id)

    async def _validate(self, id_: str) -> None:
        """Asks once more, if there is something to ask with (RFC 9110 section 13.1)."""
        fields = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
        asking = {fields[name]: self.seen.headers[name] for name in fields if name in self.seen.headers}
        if asking:
            asked = await self._calls.ask(self._stream, GET, self._wait, id_=id_, headers=asking)
            if asked.response is not None:
                self.seen.is_validated = asked.response.status == _NOT_MODIFIED


def _good(asked: Asked) -> Response | None:
    """The answer, if it is a success."""
    fetched = asked.fetched
    answer: Answer | None = fetched.answer if isinstance(fetched, Fetched) else None
    return asked.response if answer is not None and answer.verdict is Verdict.OK else None


def _fields(answer: Response) -> Mapping[str, Any]:
    try:
        document = parse(answer.body)
    except DocumentError:
        return {}
    data = document.get("data") if isinstance(document, dict) else None
    return data if isinstance(data, dict) else {}
