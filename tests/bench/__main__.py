"""`make bench`: hits of the gateway beside other caches, what its parts cost, its memory and its start.

It takes less than ten minutes. Servers run on one core, one after the other in turns, and the load on another; the
medians of the turns are shown. How to read the table:

- *us/request* is the server's CPU time for one answer, children included. It is the steadiest figure: what else runs on
  the machine moves requests a second more than it. *to nginx* is the ratio of it: 2.0 serves twice as many per core.
- *p50* and *p99* at full speed, on 64 connections, say little beside the rate. Those at a rate are what callers see who
  ask at times drawn beforehand (`pace`): 2,000 and 8,000 a second, and half of what nginx can give. *of the load* is what the
  load may have added to the one before it, being one thread itself.
- Two workers share the one core: when an answer costs them no more than it costs one, they double the rate on two.
- Hits out of Redis are also compared with plain redis-py at one connection, where nothing can be joined.
- The peers check no keys, write no log lines and count nothing; the gateway does all of it (lines go to `/dev/null`).
- A Redis runs on the load's core where there are only two, and is no part of its users' CPU time.
- The ladder takes the gateway's work apart, on one cache in memory.
- Callers' libraries and proxies add fields that are new in each request. They mean nothing to the answer, so they are to
  cost nothing but their bytes: `VARYING` has the usual ones, each measured by itself.

It fails when an answer was wrong, and when a request has become far dearer, measured by plain aiohttp in the same run.
"""

import asyncio
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import click

from campaign_gateway.sandbox.platform import Sandbox
from tests.bench import gateways, load, memory, report, start
from tests.bench.load import BadRunError, Paced, Peak
from tests.bench.peers import PEERS, Surroundings
from tests.bench.servers import BESIDE, AbsentError, Server, Servers
from tests.bench.surroundings import Judge, Origin, sandbox
from tests.support.redis_server import redis_server

ROUNDS = 5
SECONDS = 3
VARYING = {
    "traceparent": "traceparent: 00-0af7651916cd43dd8448eb21~-b7ad6b71692033~-01",
    "x-amzn-trace-id": "X-Amzn-Trace-Id: Root=1-67891233-abcdef01234567~",
    "x-datadog-trace-id": "x-datadog-trace-id: 62391~",
    "baggage": "baggage: session=~,region=eu-west-1",
    "cookie": "Cookie: seen=~; theme=dark",
}
"""Fields of callers, each with a part that differs in each request."""
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""In memory: nginx keeps its answers in files."""


class Bench:
    """One run: the servers that came up, and what has been measured."""

    def __init__(self, servers: Servers, judge: Judge, heads: Path) -> None:
        self._servers = servers
        self._judge = judge
        self._heads = heads
        self.running: dict[str, Server] = {}
        self.bodies: dict[str, bytes] = {}
        self.absent: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.peaks: dict[str, list[Peak]] = defaultdict(list)
        self.paced: dict[float, dict[str, list[Paced]]] = defaultdict(lambda: defaultdict(list))
        self.alone: dict[str, list[Peak]] = defaultdict(list)
        self.varying: dict[str, list[Peak]] = defaultdict(list)

    async def try_to_take(self, name: str, starting: Awaitable[Server]) -> None:
        """Warms a server and looks at it; what the first one answers is what all have to answer."""
        try:
            server = await starting
            bodies = await self._judge.warm(server)
            self.bodies = self.bodies or bodies
            await self._judge.look(server, self.bodies)
        except AbsentError as error:
            self.absent[name] = str(error)
        except BadRunError as error:
            self.failed[name] = str(error)
        else:
            self.running[name] = server

    async def turn(self, seconds: int) -> None:
        """Each server once at full speed."""
        for name, server in list(self.running.items()):
            try:
                await self._judge.look(server, self.bodies)
                self.peaks[name].append(await load.peak(server, seconds, self._heads))
            except BadRunError as error:
                self._fail(name, error)

    async def turn_alone(self, seconds: int) -> None:
        """Those that are compared at one connection, once at that."""
        for name in report.ALONE:
            if name not in self.running:
                continue
            try:
                self.alone[name].append(await load.peak(self.running[name], seconds, self._heads, connections=1))
            except BadRunError as error:
                self._fail(name, error)

    async def turn_varying(self, seconds: int) -> None:
        """The gateway once with each of the fields that differ in each request."""
        for name, field in VARYING.items():
            if gateways.GATEWAY not in self.running:
                return
            heads = self._heads.with_name(name)
            load.write_heads(heads, self.bodies, gateways.KEY, field)
            try:
                self.varying[name].append(await load.peak(self.running[gateways.GATEWAY], seconds, heads))
            except BadRunError as error:
                self._fail(gateways.GATEWAY, error)

    @property
    def half_rate(self) -> float:
        """Half of what nginx gives, or the gateway where there is no nginx."""
        return report.median(self.peaks.get(report.NGINX) or self.peaks[gateways.GATEWAY], "rate") / 2

    async def paced_turn(self, rate: float, seconds: int) -> None:
        """Those whose latency is compared, once at this rate, if their own peak is beyond that."""
        for name in report.PACED:
            if name not in self.running or report.median(self.peaks[name], "rate") < rate:
                continue
            try:
                if (found := await load.paced(self.running[name], rate, seconds, self._heads)) is not None:
                    self.paced[rate][name].append(found)
            except BadRunError as error:
                self._fail(name, error)

    def _fail(self, name: str, error: BadRunError) -> None:
        self.failed[name] = str(error)
        del self.running[name]


async def measure(rounds: int, seconds: int) -> Bench:
    """Starts everything, measures in turns, and ends everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=SCRATCH)))
        platform: Sandbox = await stack.enter_async_context(sandbox())
        redis = await stack.enter_async_context(redis_server(folder))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        servers = await stack.enter_async_context(Servers(folder))
        ids = [campaign.id for campaign in platform.campaigns.all()]
        heads = folder / "heads"
        load.write_heads(heads, ids, gateways.KEY)
        bench = Bench(servers, Judge(session, ids, gateways.KEY), heads)

        own = gateways.Gateways(servers, platform, redis.url)
        await own.find_out()
        for name, setup in {**gateways.GATEWAYS, **gateways.STEPS}.items():
            if name == gateways.SLOW and not own.has_hot_path:
                bench.absent[name] = "this version has no such setting"
                continue
            await bench.try_to_take(name, own.start(name, setup))
        if not bench.bodies:
            raise click.ClickException(f"no gateway came up: {bench.absent | bench.failed}")
        origin = Origin(bench.bodies)
        runner = await origin.serve()
        stack.push_async_callback(runner.cleanup)
        answers = folder / "bodies.json"
        answers.write_text(json.dumps({id_: body.decode() for id_, body in bench.bodies.items()}))
        around = Surroundings(servers, origin.port, answers, redis.url)
        for name, starter in PEERS.items():
            await bench.try_to_take(name, starter(around))

        asked = origin.asked, len(platform.log)
        for number in range(rounds):
            click.echo(f"round {number + 1} of {rounds}", err=True)
            await bench.turn(seconds)
            await bench.turn_alone(seconds)
            await bench.turn_varying(max(1, seconds // 3))
        for number in range(rounds):
            click.echo(f"at given rates: {number + 1} of {rounds}", err=True)
            for rate in (*report.RATES, bench.half_rate):
                await bench.paced_turn(rate, seconds)
        if asked != (origin.asked, len(platform.log)):
            now = origin.asked, len(platform.log)
            bench.failed["all"] = (
                f"not all were hits: origin and platform were asked {asked} times before, and now {now}"
            )
        return bench


@click.command()
@click.option("--rounds", default=ROUNDS, show_default=True, help="Turns of each server.")
@click.option("--seconds", default=SECONDS, show_default=True, help="Length of one turn.")
@click.option("--keep/--no-keep", default=True, help="Whether the results are written to tests/bench/results.")
def main(rounds: int, seconds: int, *, keep: bool) -> None:
    """Measures hits, memory and start."""
    if not load.has_wrk():
        raise click.ClickException("wrk is not installed: tools/setup-bench, or Debian's package wrk")
    os.sched_setaffinity(0, {BESIDE})
    bench = asyncio.run(measure(rounds, seconds))
    result = report.Result(
        rounds=rounds,
        seconds=seconds,
        peaks=bench.peaks,
        paced=bench.paced,
        alone=bench.alone,
        varying=bench.varying,
        absent=bench.absent,
        failed=bench.failed,
        memory=memory.measure(),
        start=start.measure(),
    )
    click.echo(report.table(result))
    sys.exit(report.judge(result, keep=keep))


if __name__ == "__main__":
    main()
