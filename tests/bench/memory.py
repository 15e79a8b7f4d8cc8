"""What a cached campaign takes in the local layer, and whether that grows under a flood of ids.

`python -m tests.bench.memory`; each part runs in a process of its own, so that its resident size says something.
"""

import asyncio
import gc
import json
import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path

from campaign_gateway.contract.answers import classify
from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.stored import Absence, Stored, stored_from
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.memory import MemoryStore
from tests.support.builders import as_body, campaign, envelope, response
from tests.support.meters import CountingMeter

ENTRIES = 100_000
TRACED = 20_000
"""Entries for tracemalloc, which makes everything slow."""
BODY_BYTES = 1_700
FLOOD = 50_000
"""Campaigns beyond those that fill the room, and as many ids that there are none of."""
ROOM = 64 * 2**20
"""The default of `cache.local_max_bytes`, for the flood."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes."""

    body: float
    """Of one body."""
    resident: float
    """What the process grows by for each of `ENTRIES` entries."""
    traced: float
    """What Python's own allocators are asked for, for each entry."""
    full: float
    """What the process has grown by when a store of `ROOM` bytes is full."""
    flooded: float
    """The same after the flood."""

    @property
    def ratio(self) -> float:
        """Resident bytes to bytes of bodies."""
        return self.resident / self.body


async def _resident_each() -> tuple[float, ...]:
    before, store = _resident(), _store(2**30)
    bodies = await _fill(store, range(ENTRIES))
    return bodies / ENTRIES, (_resident() - before) / ENTRIES


async def _traced_each() -> tuple[float, ...]:
    tracemalloc.start()
    store = _store(2**30)
    await _fill(store, range(TRACED))
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] / TRACED,)


async def _flood() -> tuple[float, ...]:
    before, store = _resident(), _store(ROOM)
    await _fill(store, range(2 * ROOM // BODY_BYTES))
    full = _resident() - before
    await _fill(store, range(ENTRIES, ENTRIES + FLOOD))
    for number in range(FLOOD):
        gone = Stored(b"", "", b"", None, None, time.time(), Absence(404, "404", f"Campaign {number} not found"))
        await _put(store, _id(number), gone)
    return full, _resident() - before


_PARTS = {"resident": _resident_each, "traced": _traced_each, "flood": _flood}


def _store(max_bytes: int) -> MemoryStore:
    return MemoryStore(max_bytes, StoreClock(), CountingMeter())


async def _fill(store: MemoryStore, numbers: range) -> int:
    """Puts entries made as a read of the platform makes them; the sum of their bodies' lengths."""
    total = 0
    for number in numbers:
        data = campaign(_id=_id(number), name=f"Campaign {number}", description="")
        data["description"] = "x" * max(0, BODY_BYTES - len(as_body(envelope(data))))
        answer = classify(GET, _id(number), response(as_body(envelope(data))), now=time.time())
        made, _ = stored_from(None, answer, time.time())
        await _put(store, _id(number), made)
        total += len(made.body)
    return total


async def _put(store: MemoryStore, id_: str, entry: Stored) -> None:
    key = f"0123456789abcdef:get:{id_}"
    await store.put(key, entry, (await store.get(key)).fence, keep=86_400.0)


def _id(number: int) -> str:
    return f"cd-{number:07x}-7b3e-4d58-9a61-c20e7f5b8d13"


def _resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure() -> Memory:
    """Measures it, each part in a process of its own; about a minute."""
    found: list[float] = []
    for part in _PARTS:
        command = [sys.executable, "-m", "tests.bench.memory", part]
        found += json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return Memory(*found)


async def _measure(part: str) -> tuple[float, ...]:
    # Once through everything, so that what is made once is not counted.
    await _fill(_store(2**30), range(100))
    return await _PARTS[part]()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_measure(sys.argv[1])) if sys.argv[1:] else asdict(measure())))
