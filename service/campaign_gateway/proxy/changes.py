"""The feed of changes as the story knows it: who listens, and what reads and writes add to what lists have shown."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from campaign_gateway.contract.document import DocumentError, parse
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET, Subject
from campaign_gateway.contract.requests import channel_of
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.changes import Change, ChangeType, Finding, SeenBy
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.change_window import Position, Window
from campaign_gateway.proxy.ports import CampaignIndex, ChangeLog, Meter
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks

LISTENING_SECONDS = 5.0
"""How often it is noted that somebody listens: well within the time for which that counts."""
CATCH_UP_SECONDS = 5.0
"""How long a window may take to hold what the log does: as often it is looked whether the log is still the same."""
LONGEST_DELAY_SECONDS = 3_600.0
"""A change that took longer was not looked for: nobody used the stream, or its `updatedAt` is no time."""
_OF_A_RUN = frozenset({"call-back"})
"""Writes whose id is no campaign's."""


class Feed:
    """What has changed, for those who listen here."""

    def __init__(
        self,
        log: ChangeLog,
        index: CampaignIndex,
        now: Callable[[], float],
        tasks: Tasks,
        meter: Meter,
        aliases: Mapping[str, str],
        seconds_ahead: Callable[[], float | None] = lambda: None,
    ) -> None:
        """A feed.

        Args:
            log: where changes are.
            index: what lists have shown.
            now: the store's clock.
            tasks: where changes are added that nobody waits for.
            meter: where they are counted.
            aliases: of the streams, by identity.
            seconds_ahead: of the platform's clock to that of the store; None where that is not known.
        """
        self._log = log
        self._index = index
        self.now = now
        self._tasks = tasks
        self._meter = meter
        self._aliases = aliases
        self._seconds_ahead = seconds_ahead
        self._windows: dict[str, Window] = {}
        self._listeners: Counter[str] = Counter()

    def listeners(self, stream: str) -> int:
        """How many listen to the stream here."""
        return self._listeners[stream]

    @property
    def all_listeners(self) -> int:
        """How many listen to any stream here."""
        return self._listeners.total()

    async def window(self, stream: str) -> Window | None:
        """The window on the stream's log; None where it cannot be read. The stream counts as used from now on."""
        self._index.record_listening(stream, self.now())
        window = await self._log.follow(stream)
        if window is not None:
            self._windows[stream] = window
        return window

    async def catch_up(self, stream: str, window: Window, position: Position) -> bool:
        """Whether the window says what came after that position, or that there is none: another replica may be ahead.

        False where that cannot be known at present.
        """
        if position <= window.last:
            return True
        log, end = window.name, await self._log.end(stream)
        if end is None:
            return False
        clock = asyncio.get_running_loop().time
        until = clock() + CATCH_UP_SECONDS
        while window.name == log and window.last < position <= end:
            if clock() >= until:
                return False
            await window.wait(until - clock())
        return True

    @contextmanager
    def listening(self, stream: str) -> Iterator[None]:
        """Counts one who listens, for as long as the block takes."""
        self._listeners[stream] += 1
        try:
            yield
        finally:
            self._listeners[stream] -= 1

    async def keep_in_use(self) -> None:
        """Has polls go on while somebody listens, for as long as it runs."""
        while True:
            for stream in [stream for stream, count in self._listeners.items() if count > 0]:
                await self.window(stream)
            await asyncio.sleep(LISTENING_SECONDS)

    def wake(self) -> None:
        """Has all who listen look whether they still may."""
        for window in self._windows.values():
            window.notify()

    # What is added.

    def note_added(self, stream: str, changes: Sequence[Change]) -> None:
        """Counts what this replica has added to a stream's log."""
        alias, now, ahead = self._aliases.get(stream, ""), self.now(), self._seconds_ahead() or 0.0
        for change in changes:
            moment = None if change.type is ChangeType.DELETED else instant(change.updated_at)
            seconds = math.inf if moment is None else now - (moment - ahead)
            # The platform's clock is known to a second: what is seen at once may seem to be seen before.
            delay = max(0.0, seconds) if abs(seconds) <= LONGEST_DELAY_SECONDS else None
            self._meter.change(alias, change.type.value, delay)

    def note_read(self, request: Request, stored: Stored) -> None:
        """Adds what a read by id has shown, if lists have not."""
        stream, id_ = request.stream.identity, request.id
        if request.operation is not GET:
            return
        snapshot = self._index.snapshot(stream)
        row = snapshot.campaigns.get(id_)
        if row is None:
            # Where lists are polled, they tell what is new; elsewhere reads are all there is.
            if not snapshot.state.polls and stored.absence is None:
                self._tasks.spawn(self._add_read(stream, id_, None, stored), name="note change")
            return
        is_same = not row.is_listed if stored.absence is not None else _state_of(stored) == (row.updated_at, row.status)
        if not is_same:
            self._tasks.spawn(self._add_read(stream, id_, row.channel, stored), name="note change")

    async def _add_read(self, stream: str, id_: str, channel: Channel | None, stored: Stored) -> None:
        if stored.absence is not None:
            finding = Finding(SeenBy.READ, stored.validated_at, channel, is_gone=True)
        else:
            data = await beside(len(stored.body), _data_of, stored.body)
            name = data.get("name") if isinstance(data, dict) else None
            updated_at, status = _state_of(stored)
            finding = Finding(
                SeenBy.READ,
                stored.validated_at,
                channel or channel_of(data),
                name if isinstance(name, str) else None,
                status,
                updated_at,
            )
        await self._log.note(stream, id_, finding)

    async def note_write(self, request: Request, ids: Collection[str], *, has_succeeded: bool) -> None:
        """Adds what a write has certainly done, and has what is seen of it named after it.

        Args:
            request: the write.
            ids: the campaigns that it was about, or that its answer names.
            has_succeeded: whether the platform said so.
        """
        stream, operation, now = request.stream.identity, request.operation, self.now()
        if operation.subject is not Subject.CAMPAIGN or operation.name in _OF_A_RUN or not ids:
            return
        if operation.name != "delete":
            is_creation = operation.name == "create" and has_succeeded
            await self._log.note_written(stream, ids, now, is_creation=is_creation)
            return
        rows = self._index.snapshot(stream).campaigns
        for id_ in ids if has_succeeded else ():
            channel = rows[id_].channel if id_ in rows else None
            await self._log.note(stream, id_, Finding(SeenBy.WRITE, now, channel, is_gone=True))


def _state_of(stored: Stored) -> tuple[str | None, str | None]:
    return stored.revision, stored.campaign_status


def _data_of(body: bytes) -> object:
    try:
        document = parse(body)
    except DocumentError:
        return None
    return document.get("data") if isinstance(document, dict) else None
