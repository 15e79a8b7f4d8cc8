"""The feed of changes, from outside: three gateways on one Redis whose leader dies, and the README's consumer."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import ROOT, GatewayProcess, gateway_process, settings_for
from tests.support.listener import PATIENCE, Consumer, listening, silent_listeners
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

BUDGETS = {"default": {"calls": 600, "window": "60s"}}
"""Polls each few seconds, also on a busy machine."""
SILENT = int(os.environ.get("SILENT", "200"))
"""Listeners who never read."""


def are_known(consumer: Consumer, names: set[str]) -> bool:
    return names <= consumer.names()


async def leader_of(gateways: list[GatewayProcess]) -> GatewayProcess | None:
    for gateway in gateways:
        if await gateway.metric("sweep_leading") == 1:
            return gateway
    return None


@pytest.mark.drill(
    "the leader dies while campaigns change",
    planted="SIGKILL among edits, creations and deletions; a consumer that goes on at another replica each time",
    seen="each change once in the log, in order, and the consumer has them all",
)
async def test_no_change_is_lost_or_doubled_when_the_leader_is_killed(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url, "timeout": "5s"}, budgets=BUDGETS)
    quiet = [campaign for campaign in sandbox.campaigns.all() if campaign.due is None and campaign.status == "Ready"]
    edited, gone = [campaign.id for campaign in quiet[:3]], quiet[3].id
    consumer = Consumer()
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(gateway_process(settings, tmp_path)) for _ in range(3)]
        await redis.wait_for_listeners(3)

        async def are_lists_known() -> bool:
            return any([await gateway.metric("sweep_up") == 1 for gateway in gateways])

        async with listening(consumer, gateways[0]):
            await until(are_lists_known, PATIENCE)
            sandbox.campaigns.edit(edited[0], {"name": "round 0"})
            await until(lambda: "round 0" in consumer.names(), PATIENCE)
        for number in range(1, 3):
            leader = await leader_of(gateways)
            for id_ in edited:
                sandbox.campaigns.edit(id_, {"name": f"round {number} {id_}"})
            if leader is not None and number == 1:
                leader.process.kill()
                gateways.remove(leader)
            async with listening(consumer, gateways[number % len(gateways)]):
                expected = {f"round {number} {id_}" for id_ in edited}
                await until(partial(are_known, consumer, expected), PATIENCE)
        sandbox.campaigns.delete(gone)
        async with gateways[0].session.get(f"{gateways[0].url}/v1/campaigns/{gone}") as response:
            assert response.status == 404
        async with listening(consumer, gateways[1]):
            await until(lambda: consumer.changes[-1]["type"] == "campaign.deleted", PATIENCE)
        url = f"{gateways[0].url}/v1/changes?after=0&limit=1000"
        async with gateways[0].session.get(url) as response:
            log = (await response.json())["changes"]
    assert consumer.resets == 0
    assert [change["id"] for change in consumer.changes] == [change["id"] for change in log]
    states = [(change["subject"], change["data"].get("updatedAt")) for change in log if "updatedAt" in change["data"]]
    assert len(set(states)) == len(states), "each state once"
    assert {change["type"] for change in log if change["subject"] in edited} == {"campaign.updated"}
    for id_ in edited:
        names = [change["data"]["name"] for change in log if change["subject"] == id_]
        assert names == [name for name in ("round 0", f"round 1 {id_}", f"round 2 {id_}") if name in names]


async def test_the_consumer_in_the_readme_survives_restarts(sandbox: Sandbox, tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(import json.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(program.splitlines()) <= 13
    script = tmp_path / "consumer.py"
    script.write_text(program.replace("wait=30s", "wait=1s"))
    quiet = [campaign for campaign in sandbox.campaigns.all() if campaign.due is None and campaign.status == "Ready"]
    first, second, third = (campaign.id for campaign in quiet[:3])
    said: list[str] = []

    @contextlib.asynccontextmanager
    async def consuming(gateway: GatewayProcess) -> AsyncIterator[None]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(script)),
            cwd=tmp_path,
            env={"GATEWAY": gateway.url},
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None

        async def read(output: asyncio.StreamReader) -> None:
            while line := await output.readline():
                said.append(line.decode().strip())

        reading = asyncio.create_task(read(process.stdout))  # noqa: TID251 - ends with the process
        try:
            yield
        finally:
            process.kill()
            await process.wait()
            await reading

    async with gateway_process(settings_for(sandbox, tmp_path, budgets=BUDGETS), tmp_path) as gateway:
        async with consuming(gateway):
            await until((tmp_path / "cursor").exists, PATIENCE)
            await until(lambda: is_up(gateway), PATIENCE)
            sandbox.campaigns.edit(first, {"name": "one"})
            await until(lambda: f"campaign.updated {first}" in said, PATIENCE)
        sandbox.campaigns.edit(second, {"name": "two"})
        await until(lambda: has_changed(gateway, 2), PATIENCE)
        async with consuming(gateway):
            sandbox.campaigns.edit(third, {"name": "three"})
            await until(lambda: f"campaign.updated {third}" in said, PATIENCE)
    assert f"campaign.updated {second}" in said


async def is_up(gateway: GatewayProcess) -> bool:
    return await gateway.metric("sweep_up") == 1


async def has_changed(gateway: GatewayProcess, count: int) -> bool:
    return await gateway.metric("campaign_changes_total", type="campaign.updated") >= count


@pytest.mark.drill(
    "thousands of listeners that never read",
    planted="as many sockets as may listen; edits of some kilobytes; no one takes a byte",
    seen="one more is refused; each is cut off; hits are answered; memory, descriptors and counts are what they were",
)
async def test_those_who_never_read_are_cut_off_and_cost_nobody_anything(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    changes = {"subscribers": SILENT, "client_subscribers": SILENT, "max": 100}
    budgets = {"default": {"calls": 100_000, "window": "60s"}}
    async with Sandbox(SandboxConfig(campaigns=40, calls=100_000)) as sandbox:
        settings = settings_for(sandbox, tmp_path, budgets=budgets, changes=changes, send_timeout="2s")
        edited, hit = [each.id for each in sandbox.campaigns.all() if each.due is None and each.status == "Ready"][:2]
        async with gateway_process(settings, tmp_path) as gateway:

            async def are_listening(count: int) -> bool:
                return await gateway.metric("subscribers") == count

            for id_ in (edited, hit):
                assert (await gateway.get(id_))[0] == 200
            held, before = descriptors_of(gateway), memory_of(gateway)
            with silent_listeners(gateway, SILENT):
                await until(lambda: are_listening(SILENT), PATIENCE)
                async with gateway.session.get(f"{gateway.url}/v1/changes?wait=1s") as response:
                    assert (response.status, response.headers["Retry-After"]) == (503, "5")
                number, most, deadline = 0, 0, asyncio.get_running_loop().time() + 2 * PATIENCE
                while not await are_listening(0):
                    assert asyncio.get_running_loop().time() < deadline
                    number += 1
                    sandbox.campaigns.edit(edited, {"name": f"edit {number} " + "x" * 20_000})
                    assert (await gateway.get(edited, cache_control="no-cache"))[0] == 200
                    assert (await gateway.get(hit))[0] == 200
                    most = max(most, memory_of(gateway))
                assert await gateway.metric("connections_unread_total") == SILENT
                await until(lambda: descriptors_of(gateway) <= held + 5, PATIENCE)
    grown = most - before
    # What waits for all of them is made once; what is each one's own is its connection and its task.
    assert grown < 16 * 2**20 + SILENT * 48 * 2**10
    figure(f"{SILENT} cut off after {number} edits of 20 kB, {grown / SILENT / 1024:.0f} KiB for each")


def descriptors_of(gateway: GatewayProcess) -> int:
    return len(list(Path(f"/proc/{gateway.process.pid}/fd").iterdir()))


def memory_of(gateway: GatewayProcess) -> int:
    """Resident bytes."""
    pages = Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
