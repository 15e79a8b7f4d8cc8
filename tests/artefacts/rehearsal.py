"""The run behind deploy/grafana/dashboard.svg: two gateways, a Redis, a platform with edits and faults, a Prometheus.

    .venv/bin/python -m tests.artefacts.rehearsal FOLDER

takes seven and a half minutes; it says where its Prometheus is, and draws the picture at the end.
The load is a bounded number of callers that each keep to their pace.
"""

import asyncio
import contextlib
import hashlib
import itertools
import random
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import click

from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import ROOT, gateway_process, settings_for
from tests.support.prometheus import prometheus_server
from tests.support.redis_server import RedisServer, redis_server

SECONDS = 420
CALLERS = 30
READS_PER_CALLER = 10
"""A second, each."""
WARM_UP_SECONDS = 20
"""Until the first rates can be had."""
SPANS = (
    (110, 140, "the platform answers 502"),
    (210, 235, "a 429 asks for a pause"),
    (290, 320, "Redis is killed, and comes back empty"),
)
"""What goes wrong, from one second to another."""
SUBTITLE = (
    f"Two replicas on one Redis, {CALLERS * READS_PER_CALLER} reads a second of 50 campaigns that are edited every 4 s,"
    " a simulated platform with a limit of 60 calls a minute"
)
KEYS = {"reporting": "rehearsal-key-reporting", "agent-desktop": "rehearsal-key-agent-desktop"}
FRESHNESS = {"max": "90s", "status": {"Active": {"max": "15s"}}}
"""Shorter than the default, so that fifty campaigns are enough to need most of the budget."""


async def run(folder: Path) -> None:
    """The run, from an empty Redis to the picture."""
    clients = {
        name: {"key_sha256": hashlib.sha256(key.encode()).hexdigest(), "streams": ["support"], "scopes": ["read"]}
        for name, key in KEYS.items()
    }
    async with (
        Sandbox(SandboxConfig(campaigns=50, latency_seconds=0.12)) as sandbox,
        redis_server(folder) as redis,
        contextlib.AsyncExitStack() as stack,
    ):
        settings = settings_for(
            sandbox, folder, cache={"url": redis.url, "replicas": 2}, clients=clients, freshness=FRESHNESS
        )
        gateways = [await stack.enter_async_context(gateway_process(settings, folder)) for _ in range(2)]
        targets = {"campaign-gateway": [gateway.admin_url for gateway in gateways]}
        async with prometheus_server(folder, targets, "2s") as prometheus:
            click.echo(f"prometheus on {prometheus.url}, its data in {folder}")
            async with asyncio.TaskGroup() as group:
                load = read(sandbox, [gateway.url for gateway in gateways])
                jobs = [group.create_task(job) for job in (load, edit(sandbox))]
                await asyncio.sleep(WARM_UP_SECONDS)
                await break_things(sandbox, redis)
                for job in jobs:
                    job.cancel()
            await draw(prometheus.url)


async def read(sandbox: Sandbox, urls: Sequence[str]) -> None:
    """Callers of both clients, and one without a valid key."""
    ids = [campaign.id for campaign in sandbox.campaigns.all()]

    async def caller(number: int, session: aiohttp.ClientSession) -> None:
        rng = random.Random(number)
        key = list(KEYS.values())[number % 3 == 0] if number else "nobody's"
        pause = 1 / READS_PER_CALLER if number else 2.0
        for url in itertools.cycle(urls):
            # Most reads are for a few campaigns, as in life.
            campaign = ids[min(int(rng.paretovariate(0.7)) - 1, len(ids) - 1)]
            directive = {"Cache-Control": "no-cache"} if rng.random() < 0.001 else {}
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                headers = {"Authorization": f"Bearer {key}", **directive}
                async with session.get(f"{url}/v1/campaigns/{campaign}", headers=headers) as response:
                    await response.read()
            await asyncio.sleep(pause * rng.uniform(0.5, 1.5))

    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
        for number in range(CALLERS + 1):
            group.create_task(caller(number, session))


async def edit(sandbox: Sandbox) -> None:
    """People who edit campaigns."""
    rng = random.Random(7)
    ids = [campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY]
    for number in itertools.count():
        sandbox.campaigns.edit(rng.choice(ids), {"description": f"Edit {number}."})
        await asyncio.sleep(rng.expovariate(1 / 4))


async def break_things(sandbox: Sandbox, redis: RedisServer) -> None:
    """What goes wrong, as `SPANS` says."""
    began = asyncio.get_running_loop().time()

    async def until(second: float) -> None:
        await asyncio.sleep(max(0.0, began + second - asyncio.get_running_loop().time()))

    for begin, end, text in SPANS:
        await until(begin)
        click.echo(f"{begin:4d} s to {end} s: {text}")
        match text:
            case "the platform answers 502":
                fault = sandbox.faults.add("bad-gateway")
                await until(end)
                sandbox.faults.remove(fault.id)
            case "a 429 asks for a pause":
                sandbox.faults.add("limit-429-seconds", retry_after_seconds=end - begin, times=1)
            case "Redis is killed, and comes back empty":
                redis.kill()
                await until(end)
                await redis.start()
            case _:
                raise ValueError(text)
    await until(SECONDS)


async def draw(url: str) -> None:
    """The picture of the run."""
    words = ["-m", "deploy.picture", "--prometheus", url, "--minutes", str(SECONDS / 60), "--rate", "20s"]
    words += ["--subtitle", SUBTITLE]
    for begin, end, text in SPANS:
        words += ["--span", str(begin / 60), str(end / 60), text]
    click.echo(f"drawing: {shlex.join(words)}")
    process = await asyncio.create_subprocess_exec(sys.executable, *words, cwd=ROOT)
    await process.wait()


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1])))
