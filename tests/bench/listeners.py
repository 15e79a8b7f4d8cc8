"""Callers who listen to the feed, many in one process: `python -m tests.bench.listeners PORT COUNT KEY`.

It says when all of them listen, and then for each line on its input what they have got since the one before: one line of
JSON, `{"events": {cursor: [how often, the last's milliseconds]}, "delays": [...]}`. Times count from the cursor, which
names the millisecond in which the change was added.
"""

import asyncio
import json
import re
import sys
import time
from collections import defaultdict
from typing import cast

import uvloop
from typing_extensions import override

from tests.bench.load import HOST

AT_ONCE = 50
_EVENT = re.compile(
    rb"^id: ([0-9a-f]+-[0-9a-f]+-([0-9]+)-[0-9]+)\nevent: campaign[^\n]*\ndata: [^\n]*\n\n", re.MULTILINE
)


class Seen:
    """What all of them have got."""

    def __init__(self) -> None:
        self.events: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
        self.delays: list[float] = []

    def note(self, cursor: bytes, added_at: int, now: float) -> None:
        """One of them has got this event."""
        delay = now * 1000 - added_at
        event = self.events[cursor.decode()]
        event[0] += 1
        event[1] = max(event[1], delay)
        self.delays.append(delay)

    def told(self) -> str:
        """What there was since it was told before."""
        text = json.dumps({"events": self.events, "delays": self.delays})
        self.events.clear()
        self.delays.clear()
        return text


class Listener(asyncio.Protocol):
    """One of them."""

    def __init__(self, key: str, seen: Seen) -> None:
        self._key, self._seen = key, seen
        self._rest = b""
        self.is_listening = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        head = f"GET /v1/changes HTTP/1.1|Host: {HOST}|Accept: text/event-stream|Authorization: Bearer {self._key}||"
        cast("asyncio.Transport", transport).write(head.replace("|", "\r\n").encode())

    @override
    def data_received(self, data: bytes) -> None:
        now = time.time()
        data = self._rest + data
        end = 0
        for match in _EVENT.finditer(data):
            self._seen.note(match[1], int(match[2]), now)
            end = match.end()
        if not self.is_listening.done() and b"retry: " in data:
            self.is_listening.set_result(None)
        self._rest = data[max(end, len(data) - 2_000) :]

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        sys.exit(f"a listener was cut off: {exc}, {self._rest[:200]!r}")


async def main(port: int, count: int, key: str) -> None:
    """Listens until its input ends."""
    loop, seen = asyncio.get_running_loop(), Seen()
    for number in range(0, count, AT_ONCE):
        some = range(number, min(number + AT_ONCE, count))
        made = [loop.create_connection(lambda: Listener(key, seen), "127.0.0.1", port) for _ in some]
        await asyncio.gather(*(listener.is_listening for _, listener in await asyncio.gather(*made)))
    print(flush=True)
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(seen.told(), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
