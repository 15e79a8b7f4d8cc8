"""Several gateway processes on one Redis: one budget and one fill for all of them, judged by the platform's log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from campaign_gateway.store.redis.keys import Keys
from tests.support.estate import LASTING
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer, redis_cluster
from tests.support.small_budget import BUDGET, CALLS, WINDOW, arrivals


@pytest.fixture
async def wide_sandbox() -> AsyncIterator[Sandbox]:
    """A platform that counts nothing itself: what arrives is what the gateways let out."""
    async with Sandbox(SandboxConfig(campaigns=400, calls=100_000, latency_seconds=0.03)) as platform:
        yield platform


@asynccontextmanager
async def fleet(
    count: int, sandbox: Sandbox, folder: Path, redis: RedisServer, url: str | None = None, **sections: Any
) -> AsyncIterator[list[GatewayProcess]]:
    cache = {"url": url or redis.url, "timeout": "1s"}
    settings = settings_for(sandbox, folder, cache=cache, budgets=BUDGET, **sections)
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(gateway_process(settings, folder)) for _ in range(count)]


async def overload(gateways: list[GatewayProcess], sandbox: Sandbox, seconds: float) -> list[int]:
    """Ten times the budget in distinct cold reads, for so many seconds. Returns the statuses."""
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    ends = asyncio.get_running_loop().time() + seconds
    statuses: list[int] = []

    async def knock(gateway: GatewayProcess, lane: int) -> None:
        step = lane
        while asyncio.get_running_loop().time() < ends:
            # A new id each time, so that nothing is ever cached; the platform's "missing" costs a call as well.
            step += 1
            with contextlib.suppress(aiohttp.ClientError):
                status, _, _ = await gateway.get(f"{ids[lane % len(ids)]}-{id(gateway)}-{step}")
                statuses.append(status)
            await asyncio.sleep(0.05)

    await asyncio.gather(*(knock(gateway, lane * 100) for gateway in gateways for lane in range(4)))
    return statuses


def used(times: list[float], windows: int) -> float:
    """The part of the budget of the first so many windows that was spent, the last one's tenth left out."""
    spent = sum(1 for at in times if at < times[0] + (windows - 0.1) * WINDOW)
    return spent / (CALLS * windows)


async def test_the_fleet_keeps_to_one_budget_and_uses_it(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet(4, wide_sandbox, tmp_path, redis) as gateways:
        statuses = await overload(gateways, wide_sandbox, 3 * WINDOW)
    times = arrivals(wide_sandbox)
    assert most_in_window(times, WINDOW) <= CALLS
    assert used(times, 3) >= 0.9
    assert set(statuses) == {404, 503}


async def kill_for_good(redis: RedisServer) -> None:
    redis.kill()


async def restart_empty(redis: RedisServer) -> None:
    redis.kill()
    await redis.start()


async def restart_empty_later(redis: RedisServer) -> None:
    redis.kill()
    await asyncio.sleep(4 * WINDOW)
    await redis.start()


async def hang_for_a_while(redis: RedisServer) -> None:
    redis.pause()
    await asyncio.sleep(1.5 * WINDOW)
    redis.resume()


async def flush(redis: RedisServer) -> None:
    client = redis.client()
    await client.flushall()
    await client.aclose()


async def make_read_only(redis: RedisServer) -> None:
    client = redis.client()
    await client.execute_command("REPLICAOF", "127.0.0.1", "1")
    await client.aclose()


async def fill_up(redis: RedisServer) -> None:
    client = redis.client()
    await client.config_set("maxmemory", "1")
    await client.aclose()


@pytest.mark.parametrize("fault", [restart_empty, hang_for_a_while, flush, fill_up])
async def test_redis_lost_and_found_keeps_the_budget(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path, fault: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with fleet(4, wide_sandbox, tmp_path, redis) as gateways:
        async with asyncio.TaskGroup() as group:
            group.create_task(overload(gateways, wide_sandbox, 4.5 * WINDOW))
            await asyncio.sleep(1.2 * WINDOW)
            await fault(redis)
        times = arrivals(wide_sandbox)
    assert most_in_window(times, WINDOW) <= CALLS
    assert sum(1 for at in times if at > times[0] + 3.5 * WINDOW) >= CALLS - 4, "exact again once it is there"


@pytest.mark.parametrize("fault", [kill_for_good, make_read_only, restart_empty_later])
async def test_redis_lost_for_good_leaves_each_replica_its_share(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path, fault: Callable[[RedisServer], Awaitable[None]]
) -> None:
    async with fleet(4, wide_sandbox, tmp_path, redis) as gateways:
        async with asyncio.TaskGroup() as group:
            group.create_task(overload(gateways, wide_sandbox, 6 * WINDOW))
            await asyncio.sleep(0.8 * WINDOW)
            await fault(redis)
        times = arrivals(wide_sandbox)
    assert most_in_window(times, WINDOW) <= CALLS
    assert sum(1 for at in times if at > times[0] + 2 * WINDOW) >= CALLS - 4, "shares of a fourth each"


async def test_cold_reads_and_writes_go_on_at_once_when_redis_is_lost(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    ids = [campaign.id for campaign in wide_sandbox.campaigns.all()]
    calls = {"default": {"calls": 60, "window": "60s"}}
    cache = {"url": redis.url, "timeout": "1s"}
    settings = settings_for(wide_sandbox, tmp_path, cache=cache, budgets=calls, sweep={"share": 0})
    async with gateway_process(settings, tmp_path) as one, gateway_process(settings, tmp_path) as two:
        for number, gateway in enumerate((one, two, one, two, one, two)):
            assert (await gateway.get(ids[number]))[0] == 200
        await asyncio.sleep(2.5)
        redis.kill()
        began = asyncio.get_running_loop().time()
        statuses = [(await gateway.get(id_))[0] for id_ in ids[10:20] for gateway in (one, two)]
        for gateway in (one, two):
            async with gateway.session.post(f"{gateway.url}/v1/campaigns/{ids[0]}/stop?type=voice") as stopped:
                assert stopped.status != 503
        assert asyncio.get_running_loop().time() - began < 2 * 2
        assert set(statuses) == {200}
        # All that is left, and not one call more.
        statuses = [(await gateway.get(id_))[0] for id_ in ids[20:60] for gateway in (one, two)]
        assert statuses.count(503) > 20
        assert most_in_window(arrivals(wide_sandbox), 60.0) <= 60
        assert len(arrivals(wide_sandbox)) >= 50


async def test_a_lone_replica_goes_on_without_a_pause_when_redis_is_lost(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet(1, wide_sandbox, tmp_path, redis) as gateways:
        async with asyncio.TaskGroup() as group:
            group.create_task(overload(gateways, wide_sandbox, 3 * WINDOW))
            await asyncio.sleep(WINDOW)
            redis.kill()
        times = arrivals(wide_sandbox)
    assert most_in_window(times, WINDOW) <= CALLS
    assert used(times, 3) >= 0.9


async def test_a_cold_herd_on_all_replicas_costs_one_call(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = wide_sandbox.campaigns.all()[0].id
    async with fleet(8, wide_sandbox, tmp_path, redis) as gateways:
        wide_sandbox.faults.add("latency", seconds=0.4)
        answers = await asyncio.gather(*(gateway.get(campaign) for gateway in gateways for _ in range(100)))
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, _, body in answers}) == 1
        assert len({headers["ETag"] for _, headers, _ in answers}) == 1
        assert len(wide_sandbox.log.of("get")) == 1
        fleetwide = [await gateway.metric("collapsed_requests_total", scope="fleet") for gateway in gateways]
        assert sorted(fleetwide) == [0, 1, 1, 1, 1, 1, 1, 1]


async def test_when_the_leader_is_killed_another_replica_takes_over(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = wide_sandbox.campaigns.all()[0].id
    timeouts = {"url": wide_sandbox.url, "timeout": "6s", "connect_timeout": "1s"}
    async with fleet(8, wide_sandbox, tmp_path, redis, platform=timeouts) as (leader, *others):
        fault = wide_sandbox.faults.add("hang")
        async with asyncio.TaskGroup() as group:

            async def first() -> None:
                with contextlib.suppress(aiohttp.ClientError):
                    await leader.get(campaign)

            group.create_task(first())
            await wide_sandbox.log.wait_for(1)
            waiting = [group.create_task(other.get(campaign)) for other in others for _ in range(100)]
            leader.process.kill()
            wide_sandbox.faults.remove(fault.id)
        assert {task.result()[0] for task in waiting} == {200}
        assert len(wide_sandbox.log.of("get")) == 2


async def test_a_hit_in_one_replica_is_a_hit_in_the_others_and_then_costs_no_redis_trip(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = wide_sandbox.campaigns.all()[0].id
    async with fleet(2, wide_sandbox, tmp_path, redis) as (one, two):
        _, first, _ = await one.get(campaign)
        async with asyncio.timeout(20):
            while await one.metric("store_operations_total", store="redis", operation="put", outcome="stored") < 1:
                await asyncio.sleep(0.02)
        await asyncio.sleep(1.1)
        _, second, _ = await two.get(campaign)
        assert second["ETag"] == first["ETag"]
        assert "; hit; " in second["Cache-Status"]
        assert int(second["Age"]) >= 1, "an age does not restart when an entry moves between layers"
        trips = await two.metric("store_operations_total", store="redis", operation="get")
        for _ in range(20):
            assert "; hit; " in (await two.get(campaign))[1]["Cache-Status"]
        assert await two.metric("store_operations_total", store="redis", operation="get") == trips
        assert len(wide_sandbox.log.of("get")) == 1


async def test_a_sentinel_failover_keeps_the_budget(wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    copy, sentinel = RedisServer(tmp_path), RedisServer(tmp_path)
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"sentinel monitor main 127.0.0.1 {redis.port} 1\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n"
    )
    try:
        await copy.start("--replicaof", f"127.0.0.1 {redis.port}")
        await sentinel.start(str(file), "--sentinel")
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main/0"
        await asyncio.sleep(1.5)
        async with fleet(3, wide_sandbox, tmp_path, redis, url) as gateways:
            async with asyncio.TaskGroup() as group:
                group.create_task(overload(gateways, wide_sandbox, 4.5 * WINDOW))
                await asyncio.sleep(1.1 * WINDOW)
                redis.kill()
            times = arrivals(wide_sandbox)
            assert [await gateway.metric("store_up", store="redis") for gateway in gateways] == [1, 1, 1]
        assert most_in_window(times, WINDOW) <= CALLS
        assert sum(1 for at in times if at > times[0] + 3.5 * WINDOW) >= CALLS // 2
    finally:
        copy.kill()
        sentinel.kill()


async def test_a_cluster_serves_the_fleet_and_keeps_the_budget_when_the_ledgers_node_fails(
    wide_sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    async with redis_cluster(tmp_path, copies=True) as cluster:
        campaigns = [campaign.id for campaign in wide_sandbox.campaigns.all()][:12]
        async with fleet(3, wide_sandbox, tmp_path, redis, cluster.url) as gateways:
            await asyncio.gather(*(gateways[number % 3].get(id_) for number, id_ in enumerate(campaigns)))
            for gateway in gateways:
                for id_ in campaigns:
                    assert (await gateway.get(id_))[0] == 200
            assert len(wide_sandbox.log.of("get")) == len(campaigns)
            node = await cluster.holder(Keys("cg").ledger(wide_sandbox.config.account_id))
            async with asyncio.TaskGroup() as group:
                group.create_task(overload(gateways, wide_sandbox, 6 * WINDOW))
                await asyncio.sleep(1.1 * WINDOW)
                node.kill()
            times = arrivals(wide_sandbox)
            assert [await gateway.metric("store_up", store="redis") for gateway in gateways] == [1, 1, 1]
        assert most_in_window(times, WINDOW) <= CALLS
        assert sum(1 for at in times if at > times[0] + 5 * WINDOW) >= CALLS // 2


async def test_a_hit_from_redis_is_what_redis_holds_at_that_moment(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    cache = {"url": redis.url, "timeout": "1s", "local_max_bytes": "1B"}
    settings = settings_for(sandbox, tmp_path, cache=cache, freshness=LASTING, sweep={"share": 0})
    id_ = sandbox.campaigns.all()[0].id
    async with gateway_process(settings, tmp_path) as one, gateway_process(settings, tmp_path) as two:

        async def ask() -> tuple[str, bytes]:
            status, headers, body = await one.get(id_, X_Request_ID="same")
            assert status == 200
            return headers["Cache-Status"], body

        async def ask_until_hits() -> bytes:
            """Returns once the next request on this connection repeats the last one."""
            told = [await ask() for _ in range(5)]
            assert told[-1][0].endswith(("; ttl=599", "; ttl=598", "; ttl=597")), told
            return told[-1][1]

        client = redis.client()
        first = await ask_until_hits()
        asked = await one.metric("store_operations_total", store="redis", operation="get", outcome="hit")
        assert (await ask())[1] == first
        assert await one.metric("store_operations_total", store="redis", operation="get", outcome="hit") == asked + 1

        sandbox.campaigns.edit(id_, {"description": "changed"})
        async with one.session.post(f"{two.url}/v1/purge", json={"campaigns": [id_]}) as purged:
            assert purged.status == 200
        async with asyncio.timeout(20):
            while b"changed" not in (await ask())[1]:
                pass
        second = await ask_until_hits()

        (name,) = [name async for name in client.scan_iter(f"*:get:{id_}", _type="string")]
        await client.set(name, b"of somebody else")
        assert "fwd=uri-miss" in (await ask())[0]
        assert await ask_until_hits() == second
        await client.delete(name)
        assert "fwd=uri-miss" in (await ask())[0]
        assert await ask_until_hits() == second
        await client.aclose()
        redis.kill()
        status, headers, body = await one.get(id_, X_Request_ID="same")
        # One of several, which begins what was allotted to it.
        assert (status, body) == (200, second)
        assert "fwd=uri-miss" in headers["Cache-Status"]
