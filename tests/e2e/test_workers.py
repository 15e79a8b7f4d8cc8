"""Several workers of one service: one address, one budget, one fill, one scrape; judged from outside."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import ROOT, GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

WORKERS = 3


@asynccontextmanager
async def service(
    sandbox: Sandbox, redis: RedisServer, folder: Path, count: int = WORKERS, **sections: Any
) -> AsyncIterator[GatewayProcess]:
    settings = settings_for(sandbox, folder, workers=count, cache={"url": redis.url, "timeout": "1s"}, **sections)
    # A killed supervisor leaves its folder behind.
    async with gateway_process(settings, folder, {"TMPDIR": str(folder)}) as gateway:
        yield gateway


async def ask(gateway: GatewayProcess, campaign: str) -> int:
    """The status of a read on a connection of its own, which any worker may get."""
    return (await gateway.get(campaign, Connection="close"))[0]


def workers_of(gateway: GatewayProcess) -> dict[int, int]:
    """The process ids of the workers by number."""
    supervisor = gateway.process.pid
    found = {}
    for pid in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        found[int(words[words.index(b"--worker") + 1])] = int(pid)
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def who_answered(gateway: GatewayProcess) -> list[int]:
    """The worker of each request in the log."""
    return [record["worker"] for record in gateway.records() if record["message"] == "request"]


async def test_all_workers_answer_and_one_scrape_has_the_sum(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = sandbox.campaigns.all()[0].id
    async with service(sandbox, redis, tmp_path) as gateway:
        asked = 0
        async with asyncio.timeout(60):
            while len(set(who_answered(gateway))) < WORKERS:
                assert await ask(gateway, campaign) == 200
                asked += 1
        assert await gateway.metric("requests_total") == asked
        assert await gateway.metric("workers_up") == WORKERS
        families = list(text_string_to_metric_families(await gateway.metrics()))
        assert len({family.name for family in families}) == len(families), "each family stands together"
        [requests] = [family for family in families if family.name == "campaign_gateway_requests"]
        assert {sample.labels["worker"] for sample in requests.samples} == {"0", "1", "2"}
        await until(gateway.is_ready)
        ready = await gateway.get_json("/readyz")
        assert ready["parts"]["workers"] == {"status": "ok", "reason": None}
        assert (await gateway.get_json(f"/explain/support/{campaign}"))["is_stored"] is True
        state = await gateway.get_json("/console/state.json")
        assert state["worker"] in range(WORKERS)
        assert (state["workers"], state["stream"]) == (WORKERS, "support")

        async def shows_the_call_of_all() -> bool:
            cells = (await gateway.get_json("/console/state.json"))["account"]["cells"]
            return [cell["client"] for cell in cells if cell["lane"] == "interactive"] == ["anonymous"]

        await until(shows_the_call_of_all)


async def test_a_killed_worker_is_replaced_while_the_others_serve(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign, lanes = sandbox.campaigns.all()[0].id, 4
    async with service(sandbox, redis, tmp_path) as gateway, asyncio.TaskGroup() as group:
        before, cut, answered = workers_of(gateway), 0, 0
        is_over = False

        async def read() -> None:
            nonlocal cut, answered
            while not is_over:
                try:
                    assert await ask(gateway, campaign) == 200
                    answered += 1
                except aiohttp.ClientError:
                    cut += 1

        for _ in range(lanes):
            group.create_task(read())
        await until(lambda: answered >= 20)
        os.kill(before[1], signal.SIGKILL)
        await until(lambda: not is_running(before[1]))
        at_death = answered
        ready = await gateway.get_json("/readyz")
        assert (ready["status"], ready["parts"]["workers"]["reason"]) == ("degraded", "not ready: worker 1")
        await until(lambda: answered >= at_death + 50)
        async with asyncio.timeout(60):
            while await gateway.metric("workers_up") < WORKERS:
                await asyncio.sleep(0.05)
        is_over = True
        assert cut <= 2 * lanes, "only what the killed worker had taken on"
        assert await gateway.metric("worker_restarts_total", worker="1") == 1
        assert await gateway.metric("worker_restarts_total") == 1
        after = workers_of(gateway)
        assert after[1] != before[1]
        assert (after[0], after[2]) == (before[0], before[2])
        await until(gateway.is_ready)


async def test_sigterm_finishes_what_all_workers_have_in_flight_and_exits_with_0(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all()[:24]]
    shutdown = {"drain": "300ms", "grace": "10s"}
    async with service(sandbox, redis, tmp_path, shutdown=shutdown, sweep={"share": 0}) as gateway:
        pids = workers_of(gateway).values()
        sandbox.faults.add("latency", seconds=1.2)
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(ask(gateway, campaign)) for campaign in ids]
            await sandbox.log.wait_for(len(ids))
            gateway.terminate()
            async with asyncio.timeout(60):
                while (await gateway.get_json("/readyz"))["status"] != "not ready":
                    await asyncio.sleep(0.01)
        assert {read.result() for read in reads} == {200}
        assert await gateway.process.wait() == 0
        # Their lines come through two pipes.
        await until(lambda: set(who_answered(gateway)) == set(range(WORKERS)))
        assert not any(map(is_running, pids))


async def test_sigint_stops_all_and_exits_with_0(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    async with service(sandbox, redis, tmp_path, count=2) as gateway:
        pids = workers_of(gateway).values()
        gateway.process.send_signal(signal.SIGINT)
        assert await gateway.process.wait() == 0
        assert not any(map(is_running, pids))
        assert not [line for line in gateway.log if "Traceback" in line]


async def test_no_worker_outlives_a_killed_supervisor(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    async with service(sandbox, redis, tmp_path) as gateway:
        pids = list(workers_of(gateway).values())
        assert len(pids) == WORKERS
        gateway.process.kill()
        await until(lambda: not any(map(is_running, pids)))


async def test_a_cold_campaign_asked_of_all_workers_costs_one_call(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = sandbox.campaigns.all()[0].id
    async with service(sandbox, redis, tmp_path) as gateway:
        sandbox.faults.add("latency", seconds=0.5)
        answers = await asyncio.gather(*(ask(gateway, campaign) for _ in range(100)))
        assert set(answers) == {200}
        # Their lines come through two pipes.
        await until(lambda: set(who_answered(gateway)) == set(range(WORKERS)))
        assert len(sandbox.log.of("get")) == 1


async def test_all_workers_together_keep_to_the_budget(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    budgets = {"default": {"calls": 20, "window": "3s"}}
    async with service(sandbox, redis, tmp_path, budgets=budgets) as gateway:
        answers = await asyncio.gather(*(ask(gateway, campaign) for campaign in ids[:61]))
        assert (answers.count(200), answers.count(503)) == (19, 42), "one is for writes"
        # Their lines come through two pipes.
        await until(lambda: set(who_answered(gateway)) == set(range(WORKERS)))
        assert most_in_window([arrival.monotonic for arrival in sandbox.log.since(0)], 3.0) <= 20


async def test_a_port_that_is_taken_ends_the_service_with_1(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        alone = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        # As another service of this kind would hold it; the kernel would let us in beside it.
        shared = stack.enter_context(socket.create_server(("127.0.0.1", 0), reuse_port=True))
        for key, taken in [("listen", alone), ("listen", shared), ("admin_listen", alone)]:
            settings = settings_for(sandbox, tmp_path, workers=2, cache={"url": redis.url})
            config = tmp_path / "gateway.yaml"
            with config.open("w") as file:
                YAML(typ="safe", pure=True).dump({**settings, key: f"127.0.0.1:{taken.getsockname()[1]}"}, file)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "campaign_gateway", "serve", "--config", str(config)),
                cwd=ROOT,
                stderr=asyncio.subprocess.PIPE,
            )
            _, errors = await process.communicate()
            assert process.returncode == 1
            assert b"address already in use" in errors
            start, fault = errors.splitlines()
            assert b"starting" in start
            assert b"Traceback" not in fault


@pytest.mark.parametrize("count", [1, 2])
async def test_each_address_is_served_and_every_address_is_one_of_both_families(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, count: int
) -> None:
    listen = ["127.0.0.1:0", "[::]:0"]
    async with service(sandbox, redis, tmp_path, count, listen=listen, allow_anonymous=True) as gateway:
        await until(lambda: any(line["message"].endswith(" too") for line in gateway.records()))
        [other] = {line["message"] for line in gateway.records() if line["message"].endswith(" too")}
        campaign = sandbox.campaigns.all()[0].id
        assert await ask(gateway, campaign) == 200
        for host in ("[::1]", "127.0.0.1"):
            url = f"http://{host}:{other.removesuffix(' too').rpartition(':')[2]}/v1/campaigns/{campaign}"
            async with gateway.session.get(url) as answer:
                assert answer.status == 200
