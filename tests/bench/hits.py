"""What a hit costs the process itself, without sockets: by the number of campaigns, and by the size of their bodies.

`python -m tests.bench.hits`; a quarter of a minute. Requests go to a connection of the fast road as its transport would
hand them over, for campaigns in random order, with everything on: authorised, counted, logged. The kernel and the loop
have no part in it. What is shown is the thread's CPU time for one hit in microseconds, the least of some rounds, beside
what the first hit of each campaign takes, which is when it is rendered. It fails if a hit of many campaigns is far dearer than
one of few. Each row is measured in a process of its own.
"""

import asyncio
import gc
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from aiohttp import web
from prometheus_client import CollectorRegistry
from typing_extensions import override

from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import NO_TRACES, Traces
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.telemetry.logs import JsonFormatter
from campaign_gateway.telemetry.metrics import Metrics
from tests.support.doubles import LONG_AGO, ManualClock
from tests.support.fast import KEYS, Gateway

SIZE = 1_700
"""Bytes of most bodies."""
COUNTS = (1_000, 5_000, 10_000, 100_000)
SIZES = (SIZE, 20_000, 200_000)
FEW = 200
"""Campaigns where the size of bodies is compared."""
SAMPLERS = ("always_off", "always_on")
"""Of traces, where those are wanted."""
HITS = 20_000
ROUNDS = 7
MOST_TO_LEAST = 2.0
"""What a hit of many campaigns may cost beside one of the fewest. What is left of it is memory that no cache holds: 1.6
to 1.7 at 100,000, where a search would be ten."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU."""

    hit: float
    first: float
    """Of the first hit of a campaign."""


class Unheard(asyncio.Transport):
    """A transport that takes whatever is written, and drops it."""

    @override
    def write(self, data: object) -> None:
        pass

    @override
    def is_closing(self) -> bool:
        return False


class Room:
    """A web room with so many campaigns in memory, and one connection to it."""

    def __init__(self, count: int, size: int, traces: Traces = NO_TRACES) -> None:
        clock = cast("ManualClock", StoreClock())
        self._gateway = Gateway(clock=clock, meter=Metrics(CollectorRegistry()), max_bytes=2**30, traces=traces)
        self._count, self._size = count, size
        server, loop = web.Server(self._gateway.api.handle), asyncio.get_running_loop()
        self._connection = self._gateway.fast.connect(server, self._gateway.api.refuse, loop=loop, access_log=None)

    async def open(self) -> None:
        """Stores the campaigns, and lets the connection learn its head."""
        entry = Stored(b"", "application/json", b"digest", LONG_AGO, "Ready", time.time())
        for number in range(self._count):
            body = json.dumps({"data": {"_id": id_of(number), "description": "x" * (self._size - 80)}}).encode()
            await self._gateway.put(id_of(number), replace(entry, body=body))
        self._connection.connection_made(Unheard())
        while not self._gateway.fast.taken:
            self._connection.data_received(head(0, 0))
            await asyncio.sleep(0.01)

    def hits(self, heads: list[bytes]) -> float:
        """Microseconds of CPU for one of these, all of which have to be hits."""
        taken = self._gateway.fast.taken
        began = time.thread_time()
        self.take(heads)
        seconds = time.thread_time() - began
        if self._gateway.fast.taken != taken + len(heads):
            raise RuntimeError("not all of them were hits of the fast road")
        self._gateway.lines.flush()
        return seconds * 1e6 / len(heads)

    def take(self, heads: list[bytes]) -> None:
        """Answers these, and nothing else."""
        take = self._connection.data_received
        for each in heads:
            take(each)

    def cost(self) -> Cost:
        """Measured."""
        first = self.hits([head(number, number) for number in range(1, self._count)])
        # As the gateway does, once it serves.
        gc.collect()
        gc.freeze()
        choose = random.Random(1).randrange
        rounds = [[head(choose(self._count), number) for number in range(HITS)] for _ in range(ROUNDS)]
        return Cost(min(map(self.hits, rounds)), first)


def id_of(number: int) -> str:
    """A campaign's."""
    return f"cd-{number:07x}-7b3e-4d58-9a61-c20e7f5b8d13"


def head(campaign: int, request: int) -> bytes:
    """A request's."""
    return (
        f"GET /v1/campaigns/{id_of(campaign)} HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
        f"Authorization: Bearer {KEYS['reporting']}\r\nX-Request-ID: bench-{request:012x}\r\n\r\n"
    ).encode()


@contextmanager
def logging_to_nowhere() -> Iterator[None]:
    """Meanwhile, lines are made and written, and nobody reads them."""
    log = logging.getLogger("campaign_gateway.requests")
    before = log.handlers, log.propagate, log.level
    handler = logging.FileHandler(os.devnull)
    handler.setFormatter(JsonFormatter())
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.handlers, log.propagate, level = before
        log.setLevel(level)
        handler.close()


async def _measure(count: int, size: int, sampler: str = "") -> Cost:
    room = Room(count, size, _open_traces(sampler) if sampler else NO_TRACES)
    await room.open()
    with logging_to_nowhere():
        return room.cost()


def _open_traces(sampler: str) -> Traces:
    """Traces of which the sampler takes what it takes, sent to nobody."""
    os.environ["OTEL_TRACES_SAMPLER"] = sampler
    # Only here: without traces, none of it is imported.
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    from campaign_gateway.telemetry.traces import OpenTelemetryTraces

    class Nowhere(SpanExporter):
        @override
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return OpenTelemetryTraces("https://platform.example", Nowhere)


def _measured(count: int, size: int, sampler: str = "") -> Cost:
    command = [sys.executable, "-m", "tests.bench.hits", str(count), str(size), sampler]
    cost = Cost(*json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    traced = f", traces {sampler}" if sampler else ""
    print(f"{count:>9,} campaigns of {size:>7,} bytes: {cost.hit:6.2f} us a hit, {cost.first:6.1f} the first{traced}")
    return cost


def main() -> None:
    """Prints the table.

    Raises:
        SystemExit: a hit of many campaigns is far dearer than one of few.
    """
    by_count = {count: _measured(count, SIZE).hit for count in COUNTS}
    for size in SIZES:
        _measured(FEW, size)
    for sampler in SAMPLERS:
        _measured(FEW, SIZE, sampler)
    worst = max(by_count.values()) / min(by_count.values())
    print(f"dearest to cheapest by the number of campaigns: {worst:.2f}")
    if worst > MOST_TO_LEAST:
        raise SystemExit(f"a hit of many campaigns costs {worst:.2f} times one of few, more than {MOST_TO_LEAST}")


if __name__ == "__main__":
    if sys.argv[1:]:
        count, size, sampler = sys.argv[1:]
        found = asyncio.run(_measure(int(count), int(size), sampler))
        print(json.dumps([found.hit, found.first]))
    else:
        main()
