"""Cached reads that are not by id alone: batches, chosen fields, lists, the status, beside plain aiohttp.

`python -m tests.bench.reads`; a minute. As `tests.bench` has it: one server on one core, in turns, the load (wrk, 64
connections) on another, medians. What is shown is the server's CPU time for one answer in microseconds. The peer gives
bytes that were made beforehand, and checks, counts and logs nothing; the last column is how many times as dear an answer of
the gateway is, which cuts, joins and looks at each campaign's age anew.
"""

import asyncio
import json
import os
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import click

from tests.bench import gateways, load
from tests.bench.__main__ import SCRATCH
from tests.bench.load import HOST, BadRunError, Peak
from tests.bench.report import median
from tests.bench.servers import BESIDE, AbsentError, Server, Servers
from tests.bench.surroundings import sandbox
from tests.support.wire import free_port

CAMPAIGNS = 1_000
TARGETS = 100
"""Different requests of each kind, chosen at random."""
BODIES = Path(__file__).parent / "apps" / "plain_bytes.py"


def _batch(size: int, more: str = "") -> Callable[[random.Random, Sequence[str]], str]:
    return lambda rng, ids: f"/v1/campaigns?ids={','.join(rng.sample(ids, size))}{more}"


KINDS: dict[str, Callable[[random.Random, Sequence[str]], str]] = {
    "by id": lambda rng, ids: f"/v1/campaigns/{rng.choice(ids)}",
    "by id, three fields": lambda rng, ids: f"/v1/campaigns/{rng.choice(ids)}?fields=name,status,updatedAt",
    "status": lambda rng, ids: f"/v1/campaigns/{rng.choice(ids)}/status",
    "list of 50": lambda rng, _: f"/v1/campaigns?type=voice&limit=50&skip={rng.randrange(10)}",
    "list of 50, two fields": lambda rng, _: (
        f"/v1/campaigns?type=voice&limit=50&skip={rng.randrange(10)}&fields=name,status"
    ),
    "batch of 10": _batch(10),
    "batch of 100": _batch(100),
    "batch of 100, two fields": _batch(100, "&fields=name,status"),
}


async def measure(rounds: int, seconds: int) -> dict[str, tuple[list[Peak], list[Peak]]]:
    """By kind, the gateway's runs and the peer's.

    Raises:
        AbsentError: a server did not start.
        BadRunError: an answer was wrong.
    """
    rng = random.Random(1)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=SCRATCH)))
        platform = await stack.enter_async_context(sandbox(CAMPAIGNS))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        servers = await stack.enter_async_context(Servers(folder))
        ids = [campaign.id for campaign in platform.campaigns.all()]
        own = await gateways.Gateways(servers, platform, "").start(gateways.GATEWAY, gateways.Setup())
        answers: dict[str, str] = {}
        for kind, target_of in KINDS.items():
            targets = sorted({target_of(rng, ids) for _ in range(TARGETS)})
            load.write_targets(folder / kind, targets, gateways.KEY)
            for target in targets:
                await _ask(session, own, target)
                answers[target] = await _ask(session, own, target)
        bodies, port = folder / "answers.json", free_port()
        bodies.write_text(json.dumps(answers))
        pid = await servers.start([sys.executable, BODIES, str(port), str(bodies)], port)
        peer = Server("plain aiohttp", port, pid)
        calls = len(platform.log)
        runs: dict[str, tuple[list[Peak], list[Peak]]] = defaultdict(lambda: ([], []))
        for _ in range(rounds):
            for kind in KINDS:
                for server, found in zip((own, peer), runs[kind], strict=True):
                    found.append(await load.peak(server, seconds, folder / kind))
        if len(platform.log) != calls:
            raise BadRunError("not all were hits")
        return runs


async def _ask(session: aiohttp.ClientSession, server: Server, target: str) -> str:
    headers = {"Host": HOST, "Authorization": f"Bearer {gateways.KEY}", "X-Request-ID": "bench-look"}
    async with session.get(server.url + target, headers=headers) as response:
        if response.status != 200:
            raise BadRunError(f"{response.status} for {target[:80]}")
        return await response.text()


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Turns of each server.")
@click.option("--seconds", default=1, show_default=True, help="Length of one turn.")
def main(rounds: int, seconds: int) -> None:
    """Measures cached reads that are not by id alone."""
    if not load.has_wrk():
        raise click.ClickException("wrk is not installed: tools/setup-bench, or Debian's package wrk")
    os.sched_setaffinity(0, {BESIDE})
    click.echo(f"{'':26} {'gateway':>9} {'aiohttp':>9} {'times':>7}")
    try:
        rows = asyncio.run(measure(rounds, seconds))
    except (AbsentError, BadRunError) as error:
        raise click.ClickException(str(error)) from error
    for kind, (own, peer) in rows.items():
        mine, other = median(own, "cpu"), median(peer, "cpu")
        click.echo(f"{kind:26} {mine:9.1f} {other:9.1f} {mine / other:6.2f}x {median(own, 'rate'):10,.0f}/s")


if __name__ == "__main__":
    main()
