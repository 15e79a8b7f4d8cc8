"""The feed of changes while everything goes wrong that it is for: the simulated platform's own history is the judge."""

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from typing_extensions import override

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.listener import PATIENCE, Consumer, listening
from tests.support.redis_server import redis_server
from tests.support.waiting import until

SECONDS = float(os.environ.get("FEED", "120"))
SEED = int(os.environ.get("FEED_SEED", "1"))
REPLICAS = 3
SETTINGS: dict[str, Any] = {
    "budgets": {"default": {"calls": 600, "window": "60s"}},
    "freshness": {"max": "20s", "status": {"Active": {"max": "20s"}}},
}


class World:
    """Campaigns that change, and what each was called, in order."""

    def __init__(self, sandbox: Sandbox, rng: Random) -> None:
        self.sandbox, self.rng = sandbox, rng
        quiet = [each for each in sandbox.campaigns.all() if each.due is None and each.status == "Ready"]
        self.ids = [each.id for each in quiet[:12]]
        self.names: dict[str, list[str]] = defaultdict(list)

    async def change(self, seconds: float) -> None:
        """Edits some, now and then."""
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            number += 1
            id_, name = self.rng.choice(self.ids), f"edit {number}"
            self.sandbox.campaigns.edit(id_, {"name": name})
            self.names[id_].append(name)
            await asyncio.sleep(self.rng.expovariate(2.0))

    def last(self, id_: str) -> str | None:
        return self.names[id_][-1] if self.names[id_] else None


class Holder(Consumer):
    """A consumer that holds each campaign's name, and reads all again when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, str] = {}
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.of_logs: list[list[dict[str, Any]]] = [[]]
        self.has_to_read = False

    @override
    def take(self, block: dict[str, str]) -> None:
        resets, count = self.resets, len(self.changes)
        super().take(block)
        if self.resets > resets:
            self.has_to_read = True
            self.of_logs.append([])
        for change in self.changes[count:]:
            self.of_logs[-1].append(change)
            if change["type"] in {"campaign.updated", "campaign.created"} and "name" in change["data"]:
                self.held[change["subject"]] = change["data"]["name"]
                self.seen[change["subject"]].append(change["data"]["name"])

    async def read_again(self, gateway: GatewayProcess, ids: list[str]) -> None:
        """All that it holds, as a reset asks for."""
        self.has_to_read = False
        for id_ in ids:
            headers = {"Cache-Control": "no-cache"}
            async with gateway.session.get(f"{gateway.url}/v1/campaigns/{id_}", headers=headers) as response:
                if response.status == 200:
                    self.held[id_] = (await response.json())["data"]["name"]


@pytest.mark.drill(
    "the feed, while its leader is killed, Redis restarted empty, a replica stopped",
    planted="random edits for two minutes; a consumer that goes on at another replica each few seconds",
    seen="it holds the platform's last state of each campaign; in each log no change twice, and all in order",
)
@pytest.mark.timeout(SECONDS + 420)
async def test_a_consumer_holds_what_the_platform_does(tmp_path: Path, figure: Callable[[str], None]) -> None:
    rng, holder = Random(SEED), Holder()
    async with (
        Sandbox(SandboxConfig(campaigns=40, calls=100_000)) as sandbox,
        redis_server(tmp_path) as redis,
        AsyncExitStack() as stack,
    ):
        world = World(sandbox, rng)
        settings = settings_for(sandbox, tmp_path, cache={"url": redis.url, "timeout": "2s"}, **SETTINGS)
        gateways = [await stack.enter_async_context(gateway_process(settings, tmp_path)) for _ in range(REPLICAS)]
        await redis.wait_for_listeners(REPLICAS)

        async def go_wrong() -> None:
            await asyncio.sleep(SECONDS * 0.25)
            leader = await leading(gateways)
            if leader is not None:
                gateways.remove(leader)
                leader.process.kill()
            await asyncio.sleep(SECONDS * 0.2)
            redis.kill()
            await asyncio.sleep(1.0)
            await redis.start()
            await asyncio.sleep(SECONDS * 0.2)
            stopped = gateways[-1]
            stopped.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(4.0)
            stopped.process.send_signal(signal.SIGCONT)

        async def consume() -> None:
            while True:
                gateway = rng.choice(gateways)
                with suppress(TimeoutError, aiohttp.ClientError, AssertionError):
                    async with asyncio.timeout(rng.uniform(2.0, 8.0)), listening(holder, gateway):
                        await until(lambda: holder.has_to_read, PATIENCE)
                if holder.has_to_read:
                    with suppress(aiohttp.ClientError):
                        await holder.read_again(gateway, world.ids)

        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(go_wrong()), group.create_task(consume())]
            await asyncio.sleep(10.0)
            await world.change(SECONDS)
            changed = [id_ for id_ in world.ids if world.last(id_)]
            with suppress(TimeoutError):
                await until(lambda: not missing(holder, world), 5 * PATIENCE)
            for job in jobs:
                job.cancel()
    assert missing(holder, world) == {}, "held, and at the platform"
    for log in holder.of_logs:
        states = Counter((change["subject"], change["data"]["updatedAt"]) for change in log if "name" in change["data"])
        assert max(states.values(), default=1) == 1, "a state twice in one log"
    for id_ in changed:
        places = [world.names[id_].index(name) for name in dict.fromkeys(holder.seen[id_]) if name in world.names[id_]]
        assert places == sorted(places), f"{id_} out of order"
    edits, told = sum(map(len, world.names.values())), sum(map(len, holder.of_logs))
    figure(f"{edits} edits, {told} changes told, {holder.resets} resets, none lost, none twice")


def missing(holder: Holder, world: World) -> dict[str, tuple[str | None, str]]:
    """What is held of each campaign that is not what the platform has, and that."""
    return {
        id_: (holder.held.get(id_), names[-1])
        for id_, names in world.names.items()
        if names and holder.held.get(id_) != names[-1]
    }


async def leading(gateways: list[GatewayProcess]) -> GatewayProcess | None:
    for gateway in gateways:
        if await gateway.metric("sweep_leading") == 1:
            return gateway
    return None
