"""What a process holds of a stream's log of changes, for all who listen to it here."""

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import Change, ChangeType

Position = tuple[int, int]
"""Where an entry stands: milliseconds, and a number among those of one millisecond."""
START: Position = (0, 0)
"""Before the first entry of a log."""
MAX_CHANGES = 10_000
KEEP_SECONDS = 86_400.0
"""How much of a log is kept, unless the settings say otherwise."""
LOOKS_AT_A_TIME = 25
"""How many look in one turn of the loop, which takes some tenths of a millisecond."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a log."""

    position: Position
    change: Change
    rendered: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    """As answers show it, by the stream's alias: made once for all who listen."""


class Window:
    """The newest entries of one log, at most `most` of them and none older than `keep` seconds."""

    def __init__(self, most: int, keep: float) -> None:
        """A window on a log that is not known yet."""
        self._most = most
        self._keep = keep
        self._entries: list[Entry] = []
        self._degraded: dict[Channel | None, Entry] = {}
        """What was said last of each list that is not trusted; it stays for as long as that is so."""
        self._watchers: dict[Callable[[], None], None] = {}
        self._due: dict[Callable[[], None], None] = {}
        """Who of them has still to look."""
        self.made: dict[Hashable, tuple[bytes, Position]] = {}
        """What is shown of them, and up to where: made once for all who are there, until there are newer ones."""
        self.name = ""
        """The log's; empty while none is known. Positions in another one mean nothing here."""
        self.floor = self.last = START
        """The position before the oldest entry that is held, and that of the newest."""
        self.generation = 0
        """Rises when what was said before need not be all that was to be said: listeners are told to begin anew."""

    def load(
        self, name: str, floor: Position, entries: Sequence[Entry], last: Position, degraded: Iterable[Entry] = ()
    ) -> None:
        """Begins anew.

        Args:
            name: the log's.
            floor: where it begins.
            entries: all there are after `floor` and up to `last`.
            last: where it ends.
            degraded: what was said of lists that were not trusted, as far as entries say nothing else.
        """
        self.generation += bool(self.name)
        self.name, self.floor, self._entries = name, floor, []
        self._degraded = {entry.change.channel: entry for entry in degraded}
        self.extend(entries, last)

    def extend(self, entries: Sequence[Entry], last: Position) -> None:
        """Adds what follows the newest entry, up to `last`."""
        self._entries += entries
        for entry in entries:
            if entry.change.type is ChangeType.DEGRADED:
                self._degraded[entry.change.channel] = entry
            elif entry.change.type is ChangeType.RECOVERED:
                self._degraded.pop(entry.change.channel, None)
        self.last = last
        self.made.clear()
        self._drop(len(self._entries) - self._most)
        self.notify()

    def after(self, position: Position | None, now: float) -> Sequence[Entry] | None:
        """The entries after that position; None where some of them are not held, or nothing stands there.

        Args:
            position: None for all entries that are held.
            now: the time.
        """
        oldest = (now - self._keep) * 1000
        self._drop(bisect_right(self._entries, oldest, key=lambda entry: entry.position[0]))
        if position is None:
            position = self.floor
        if not self.floor <= position <= self.last:
            return None
        return self._entries[bisect_right(self._entries, position, key=lambda entry: entry.position) :]

    def degraded(self, position: Position) -> list[Entry]:
        """What was said of lists that are still not trusted, and does not come after that position."""
        return [entry for entry in self._degraded.values() if not position < entry.position <= self.last]

    def _drop(self, count: int) -> None:
        if count > 0:
            self.floor = self._entries[count - 1].position
            del self._entries[:count]

    async def wait(self, seconds: float, is_woken: asyncio.Event | None = None) -> None:
        """Waits for entries, another log, or somebody who calls `notify` or sets the event, or so long."""
        is_woken = is_woken or asyncio.Event()
        with self.watching(is_woken.set), suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await is_woken.wait()

    @contextmanager
    def watching(self, look: Callable[[], None]) -> Iterator[None]:
        """Has this called after entries, another log, and each `notify`, for as long as the block takes."""
        self._watchers[look] = None
        try:
            yield
        finally:
            del self._watchers[look]
            self._due.pop(look, None)

    def notify(self) -> None:
        """Has all who watch look, some of them in each turn of the loop: others have theirs in between."""
        if self._watchers and not self._due:
            asyncio.get_running_loop().call_soon(self._call_some)
        # Who waits for its turn keeps it, however often that comes.
        self._due.update(self._watchers)

    def _call_some(self) -> None:
        try:
            for look in list(islice(self._due, LOOKS_AT_A_TIME)):
                del self._due[look]
                look()
        finally:
            # One that fails is told by the loop, and holds nobody up.
            if self._due:
                asyncio.get_running_loop().call_soon(self._call_some)
