"""The logs of changes of a process that shares them with nobody."""

import uuid
from collections.abc import Callable, Collection, Mapping, Sequence

from typing_extensions import override

from campaign_gateway.policy.changes import (
    Addition,
    Change,
    Finding,
    LogState,
    Told,
    add,
    findings_in,
    state_after,
    written,
)
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState
from campaign_gateway.proxy.change_window import KEEP_SECONDS, MAX_CHANGES, START, Entry, Position, Window
from campaign_gateway.proxy.ports import ChangeLog

_NAME_BYTES = 8


class LocalChanges(ChangeLog):
    """Logs that end with the process: a cursor from before is of none of them."""

    def __init__(self, now: Callable[[], float], most: int = MAX_CHANGES, keep: float = KEEP_SECONDS) -> None:
        """Logs.

        Args:
            now: the store's clock.
            most: entries that a log is kept for ...
            keep: ... and seconds.
        """
        self._now = now
        self._most = most
        self._keep = keep
        self._windows: dict[str, Window] = {}
        self._states: dict[str, LogState] = {}
        self._told: dict[str, dict[str, Told]] = {}
        self.on_added: Callable[[str, Sequence[Change]], None] = lambda _stream, _changes: None

    def add_all(
        self, stream: str, before: IndexSnapshot, state: IndexState, updates: Mapping[str, IndexedCampaign]
    ) -> None:
        """Adds what the publication of an index says; see `RedisChanges.add_all`."""
        log, now = self._state(stream), self._now()
        findings = findings_in(before, updates, now)
        self._add(stream, add(log, self._told[stream], findings, state_after(log, state, now), now))

    @override
    async def follow(self, stream: str) -> Window:
        return self._window(stream)

    @override
    async def end(self, stream: str) -> Position:
        return self._window(stream).last

    @override
    async def note(self, stream: str, campaign: str, finding: Finding) -> None:
        log = self._state(stream)
        self._add(stream, add(log, self._told[stream], {campaign: finding}, log, self._now()))

    @override
    async def note_written(self, stream: str, campaigns: Collection[str], at: float, *, is_creation: bool) -> None:
        self._state(stream)
        self._add(stream, Addition(told=written(self._told[stream], campaigns, at, is_creation=is_creation)))

    def _state(self, stream: str) -> LogState:
        if stream not in self._states:
            self._states[stream] = LogState(uuid.uuid4().hex[:_NAME_BYTES], self._now())
            self._told[stream] = {}
        return self._states[stream]

    def _window(self, stream: str) -> Window:
        if (window := self._windows.get(stream)) is None:
            window = self._windows[stream] = Window(self._most, self._keep)
            window.load(self._state(stream).name, START, (), START)
        return window

    def _add(self, stream: str, addition: Addition) -> None:
        self._told[stream].update(addition.told)
        self._states[stream] = addition.state or self._states[stream]
        if not addition.changes:
            return
        window = self._window(stream)
        millisecond, number = window.last
        now = max(int(self._now() * 1000), millisecond)
        first = number + 1 if now == millisecond else 0
        entries = [Entry((now, first + place), change) for place, change in enumerate(addition.changes)]
        window.extend(entries, entries[-1].position)
        self.on_added(stream, addition.changes)
