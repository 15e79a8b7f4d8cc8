"""What those who listen to changes cost, and what hits wait beside them.

`python -m tests.bench.feed`; a minute and a half. One gateway without Redis on one core, all callers on another. Changes
are edits at the platform that a read shows at once, so each costs a call with listeners or without. How to read it:

- *CPU* is the gateway's, beyond what the same edits and reads take while nobody listens.
- *Bytes* are resident ones of the process; what the kernel holds of a connection is not in them.
- *The last* is the last listener that has got a change, counted from the millisecond in which it was added to the log.
- Hits are asked at times drawn beforehand (`pace`), in turns; of each kind the best turn is shown, and compared. What the
  load itself may have added (*of the load*) is more beside listeners, who share its core.

It fails when a listener misses a change or gets one twice.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from statistics import median
from subprocess import PIPE
from typing import Any

import aiohttp
import click

from campaign_gateway.sandbox.platform import Sandbox
from tests.bench import gateways, load
from tests.bench.load import BadRunError, Paced
from tests.bench.servers import BESIDE, LOAD, Server, Servers, on_core
from tests.bench.surroundings import Judge, sandbox

LISTENERS = 1_000
CAMPAIGNS = 200
ROUNDS = 3
SECONDS = 4.0
QUIET_SECONDS = 16.0
"""Long enough for a comment to each."""
CHANGES_A_SECOND = 4
HITS_A_SECOND = 500
PATIENCE = 20.0


class Listeners:
    """A process of callers who listen."""

    def __init__(self, process: asyncio.subprocess.Process, count: int) -> None:
        self._process = process
        self._count = count

    async def told(self) -> Any:
        """What they have got since this was asked before."""
        if self._process.stdin is None:
            raise TypeError("they listen to nobody")
        self._process.stdin.write(b"\n")
        return json.loads(await line_of(self._process))

    async def have_all(self, changes: int) -> tuple[list[float], list[float]]:
        """Milliseconds until the last had each of so many changes, and until each of them had each.

        Raises:
            BadRunError: they have not all got them once.
        """
        events: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
        delays: list[float] = []
        async with asyncio.timeout(PATIENCE):
            while len(delays) < changes * self._count:
                await asyncio.sleep(0.1)
                told = await self.told()
                delays += told["delays"]
                for cursor, (count, last) in told["events"].items():
                    events[cursor] = events[cursor][0] + count, max(events[cursor][1], last)
        if len(events) != changes or any(count != self._count for count, _ in events.values()):
            raise BadRunError(f"of {changes} changes, {self._count} listeners got {events}")
        return [last for _, last in events.values()], delays


@asynccontextmanager
async def listening(port: int, count: int) -> AsyncIterator[Listeners]:
    """Callers who listen."""
    command = (sys.executable, "-m", "tests.bench.listeners", str(port), str(count), gateways.KEY)
    with on_core(LOAD):
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=2**26)
    try:
        await line_of(process)
        yield Listeners(process, count)
    finally:
        process.kill()
        await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    """The next line that it says."""
    if process.stdout is None or not (line := await process.stdout.readline()):
        raise BadRunError("the listeners have ended")
    return line


class Bench:
    """A gateway, its platform, and what has been measured."""

    def __init__(self, server: Server, platform: Sandbox, session: aiohttp.ClientSession, heads: Path) -> None:
        self.server = server
        self._platform = platform
        self._session = session
        self._heads = heads
        self._ids = cycle([campaign.id for campaign in platform.campaigns.all()])
        self._edits = 0
        self.cpu: dict[str, list[float]] = defaultdict(list)
        """Seconds for one change, by who listens."""
        self.hits: dict[tuple[str, str], list[Paced]] = defaultdict(list)
        """By who listens, and what goes on."""
        self.last: list[float] = []
        self.delays: list[float] = []

    async def change(self, seconds: float) -> int:
        """Changes campaigns for so long; how many."""
        loop = asyncio.get_running_loop()
        began, count = loop.time(), round(seconds * CHANGES_A_SECOND)
        headers = {"Authorization": f"Bearer {gateways.KEY}", "Cache-Control": "no-cache"}
        for number in range(count):
            await asyncio.sleep(began + number / CHANGES_A_SECOND - loop.time())
            self._edits += 1
            id_ = next(self._ids)
            self._platform.campaigns.edit(id_, {"name": f"Edit {self._edits}"})
            async with self._session.get(f"{self.server.url}/v1/campaigns/{id_}", headers=headers) as response:
                if response.status != 200:
                    raise BadRunError(f"{response.status} where a change was to be read")
        return count

    async def turn(self, who: str, seconds: float, listeners: Listeners | None) -> None:
        """One look at changes, one at hits, and one at both."""
        before = self.server.cpu_seconds()
        count = await self.change(seconds)
        await self._take(listeners, count)
        self.cpu[who].append((self.server.cpu_seconds() - before) / count)
        await self._ask(who, "quiet", seconds)
        async with asyncio.TaskGroup() as group:
            changing = group.create_task(self.change(seconds))
            group.create_task(self._ask(who, "changes", seconds))
        await self._take(listeners, changing.result())

    async def _take(self, listeners: Listeners | None, changes: int) -> None:
        if listeners is not None:
            last, delays = await listeners.have_all(changes)
            self.last += last
            self.delays += delays

    async def _ask(self, who: str, what: str, seconds: float) -> None:
        found = await load.paced(self.server, HITS_A_SECOND, seconds, self._heads, is_sleeping=True)
        if found is None:
            raise BadRunError("it could not keep up with the hits")
        self.hits[who, what].append(found)

    def resident(self) -> int:
        """Bytes of the gateway's process."""
        pages = Path(f"/proc/{self.server.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def measure(listeners: int, rounds: int, seconds: float) -> str:
    """Starts everything, measures in turns, and gives the table."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-feed-")))
        platform = await stack.enter_async_context(sandbox(CAMPAIGNS))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        servers = await stack.enter_async_context(Servers(folder))
        server = await gateways.Gateways(servers, platform, "").start(gateways.GATEWAY, gateways.Setup())
        ids = [campaign.id for campaign in platform.campaigns.all()]
        load.write_heads(folder / "heads", ids, gateways.KEY)
        await Judge(session, ids, gateways.KEY).warm(server)
        bench = Bench(server, platform, session, folder / "heads")
        grown: list[float] = []
        quiet = 0.0
        for number in range(rounds):
            click.echo(f"round {number + 1} of {rounds}", err=True)
            # The first ones are dearer, and those who have left are noticed.
            await bench.change(1.0)
            await bench.turn("nobody", seconds, None)
            resident = bench.resident()
            async with listening(server.port, listeners) as listened:
                if not number:
                    before = server.cpu_seconds()
                    await asyncio.sleep(QUIET_SECONDS)
                    quiet = (server.cpu_seconds() - before) / QUIET_SECONDS
                    # Afterwards there is room that the first round has left.
                    grown.append((bench.resident() - resident) / listeners)
                await bench.turn("all", seconds, listened)
                if not number:
                    grown.append((bench.resident() - resident) / listeners)
        return table(bench, listeners, quiet, grown)


def table(bench: Bench, listeners: int, quiet: float, grown: list[float]) -> str:
    """What was found, in words."""
    alone, beside = median(bench.cpu["nobody"]), median(bench.cpu["all"])
    delays, last = sorted(bench.delays), sorted(bench.last)
    lines = [
        f"{listeners} listeners, {len(last)} changes:",
        f"  bytes of each: {grown[0]:,.0f} when they have come, {grown[1]:,.0f} after changes",
        f"  CPU of each while nothing changes: {quiet / listeners * 1e6:.1f} us a second",
        f"  CPU of a change: {alone * 1e3:.2f} ms while nobody listens, {beside * 1e3:.2f} ms for all",
        f"  CPU of a change for each: {(beside - alone) / listeners * 1e6:.1f} us",
        f"  from the log to a listener: p50 {at(delays, 0.5):.0f} ms, p99 {at(delays, 0.99):.0f} ms",
        f"  from the log to the last: p50 {at(last, 0.5):.0f} ms, p99 {at(last, 0.99):.0f} ms",
        f"hits at {HITS_A_SECOND} a second, us:",
    ]
    for what in ("quiet", "changes"):
        nobody, everybody = (
            min(bench.hits[who, what], key=lambda turn: (turn.p99, turn.p50)) for who in ("nobody", "all")
        )
        said = (
            f"{who}: p50 {turn.p50:.0f}, p99 {turn.p99:.0f} (of the load {turn.late_p99:.0f})"
            for who, turn in (("nobody", nobody), ("all", everybody))
        )
        lines.append(f"  {what:8} {'; '.join(said)}; p99 {everybody.p99 / nobody.p99:.2f} times")
    return "\n".join(lines)


def at(ascending: list[float], part: float) -> float:
    """A quantile."""
    return ascending[int(len(ascending) * part)]


@click.command()
@click.option("--listeners", default=LISTENERS, show_default=True, help="How many listen.")
@click.option("--rounds", default=ROUNDS, show_default=True, help="Turns without and with them.")
@click.option("--seconds", default=SECONDS, show_default=True, help="Length of one look.")
def main(listeners: int, rounds: int, seconds: float) -> None:
    """Measures the feed of changes."""
    os.sched_setaffinity(0, {BESIDE})
    click.echo(asyncio.run(measure(listeners, rounds, seconds)))


if __name__ == "__main__":
    main()
