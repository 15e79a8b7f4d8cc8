"""Hits of the gateway beside nginx', by the number of campaigns and the size of their bodies.

`python -m tests.bench.scale`; two minutes. As `tests.bench` has it: one server on one core, in turns, the load (wrk, 64
connections) on another, random ids, medians. What is shown is the server's CPU time for one answer in microseconds, and how
many times as many answers the gateway gives for the same time as nginx does. The gateway checks keys, counts all, and
writes lines as its default settings say; nginx does none of it.
"""

import asyncio
import os
import tempfile
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import click

from tests.bench import gateways, load
from tests.bench.__main__ import SCRATCH
from tests.bench.load import BadRunError, Peak
from tests.bench.peers import Surroundings, nginx
from tests.bench.report import median
from tests.bench.servers import BESIDE, AbsentError, Servers
from tests.bench.surroundings import Judge, Origin, sandbox

ROWS = ((1_000, 1_700), (10_000, 1_700), (1_000, 20_000), (200, 200_000))
"""Campaigns, and bytes of a body. The local layer has the size that it has by default."""


async def measure(campaigns: int, body_bytes: int, rounds: int, seconds: int) -> tuple[list[Peak], list[Peak]]:
    """The gateway's runs, and nginx'.

    Raises:
        AbsentError: a server did not start.
        BadRunError: an answer was wrong.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=SCRATCH)))
        platform = await stack.enter_async_context(sandbox(campaigns, body_bytes))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        servers = await stack.enter_async_context(Servers(folder))
        ids = [campaign.id for campaign in platform.campaigns.all()]
        heads, judge = folder / "heads", Judge(session, ids, gateways.KEY)
        load.write_heads(heads, ids, gateways.KEY)
        own = await gateways.Gateways(servers, platform, "").start(gateways.GATEWAY, gateways.Setup())
        origin = Origin(await judge.warm(own))
        runner = await origin.serve()
        stack.push_async_callback(runner.cleanup)
        peer = await nginx(Surroundings(servers, origin.port, folder / "unused", ""))
        bodies = await judge.warm(peer)
        asked = origin.asked, len(platform.log)
        runs: dict[str, list[Peak]] = defaultdict(list)
        for _ in range(rounds):
            for server in (own, peer):
                await judge.look(server, bodies)
                runs[server.name].append(await load.peak(server, seconds, heads))
        if asked != (origin.asked, len(platform.log)):
            raise BadRunError("not all were hits")
        return runs[own.name], runs[peer.name]


def _row(own: list[Peak], peer: list[Peak]) -> str:
    mine, other = median(own, "cpu"), median(peer, "cpu")
    return (
        f"{mine:9.1f} {other:9.1f} {other / mine:8.2f}x {median(own, 'rate'):10,.0f}/s {median(peer, 'rate'):10,.0f}/s"
    )


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Turns of each server.")
@click.option("--seconds", default=2, show_default=True, help="Length of one turn.")
def main(rounds: int, seconds: int) -> None:
    """Measures hits by number and size."""
    if not load.has_wrk():
        raise click.ClickException("wrk is not installed: tools/setup-bench, or Debian's package wrk")
    os.sched_setaffinity(0, {BESIDE})
    click.echo(f"{'campaigns':>9} {'bytes':>8} {'gateway':>9} {'nginx':>9} {'to nginx':>9}")
    for campaigns, body_bytes in ROWS:
        try:
            text = _row(*asyncio.run(measure(campaigns, body_bytes, rounds, seconds)))
        except (AbsentError, BadRunError) as error:
            text = f"missing: {error}"
        click.echo(f"{campaigns:9,} {body_bytes:8,} {text}")


if __name__ == "__main__":
    main()
