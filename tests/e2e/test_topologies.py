"""Ways to reach Redis, and the ways in which a server that can be reached refuses: the real process, real servers."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.store.redis.failures import MEANINGS, REFUSES
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer, redis_server
from tests.support.tls import Authority, copy, tls_front
from tests.support.waiting import until

FOUND = "redis is connected"


def lost(kind: str) -> str:
    """What is said when Redis is lost."""
    return f"redis is unavailable ({kind}): {MEANINGS.get(kind, REFUSES)}; continuing without it"


USER, PASSWORD = "gateway", "correct-horse"


@asynccontextmanager
async def gateways(sandbox: Sandbox, folder: Path, count: int, **cache: Any) -> AsyncIterator[list[GatewayProcess]]:
    # A long time-out: a loaded machine is not a lost Redis. Long lifetimes: what is seen before they end was published by another replica.
    freshness = {"min": "5m", "max": "10m", "status": {}}
    settings = settings_for(sandbox, folder, cache={"timeout": "5s", **cache}, freshness=freshness)
    async with AsyncExitStack() as stack:
        opening = (stack.enter_async_context(gateway_process(settings, folder)) for _ in range(count))
        yield [await gateway for gateway in opening]


def still(sandbox: Sandbox) -> list[str]:
    """Ids of campaigns that change only when a test changes them."""
    return [campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY]


async def expect_shared(sandbox: Sandbox, one: GatewayProcess, two: GatewayProcess) -> None:
    """A miss on one is a hit on the other, and what one learns is published to the other."""
    campaign = still(sandbox)[0]
    assert (await one.get(campaign))[0] == 200
    await until(lambda: counted(one, operation="put", outcome="stored"))
    _, found, _ = await two.get(campaign)
    assert "; hit; " in found["Cache-Status"]
    assert await two.metric("store_operations_total", store="redis", operation="get", outcome="hit") == 1
    assert len(sandbox.log.of("get")) == 1

    sandbox.campaigns.edit(campaign, {"description": "changed"})
    _, changed, _ = await one.get(campaign, Cache_Control="no-cache")
    assert changed["ETag"] != found["ETag"]

    async def is_received() -> bool:
        return (await two.get(campaign))[1]["ETag"] == changed["ETag"]

    await until(is_received)
    assert len(sandbox.log.of("get")) == 2

    # More at once than there are connections: they wait for each other, and Redis is not taken for lost.
    crowd = await asyncio.gather(*(one.get(still(sandbox)[1]) for _ in range(150)))
    assert {status for status, _, _ in crowd} == {200}
    assert len(sandbox.log.of("get")) == 3
    for gateway in (one, two):
        assert changes(gateway) == [FOUND]
        await until(gateway.is_ready)
        assert await gateway.metric("store_up", store="redis") == 1


async def counted(gateway: GatewayProcess, *, times: int = 1, **labels: str) -> bool:
    return await gateway.metric("store_operations_total", store="redis", **labels) >= times


async def expect_lost(gateway: GatewayProcess, campaigns: list[str], kind: str) -> None:
    """Redis is of no use for this reason: reads go on, and the probes, the gauge, the counter and the log tell it."""
    looks = await gateway.metric("store_operations_total", store="redis", operation="look", outcome=kind)
    for campaign in (*campaigns, *campaigns):
        assert (await gateway.get(campaign))[0] == 200
    # Asked several times, and said once.
    await until(lambda: counted(gateway, times=int(looks) + 3, operation="look", outcome=kind))
    ready = await gateway.get_json("/readyz")
    assert ready["status"] == "degraded"
    store = ready["parts"]["store"]
    assert store["status"] == "degraded"
    assert re.fullmatch(rf"redis: {kind} at [^ ]+: {MEANINGS.get(kind, REFUSES)}", store["reason"])
    assert ready["parts"]["budget"]["status"] == "degraded"
    assert await gateway.metric("store_up", store="redis") == 0
    assert changes(gateway)[-1:] == [lost(kind)]
    assert changes(gateway).count(lost(kind)) == 1


def changes(gateway: GatewayProcess) -> list[str]:
    """What the log says of Redis as a whole."""
    messages = [str(record["message"]) for record in gateway.records()]
    return [message for message in messages if message.startswith("redis is ")]


def expect_no_error_logged(gateway: GatewayProcess) -> None:
    assert not [record for record in gateway.records() if record["level"] == "error" or "exception" in record]
    assert not [line for line in gateway.log if not line.startswith("{")]


async def expect_found_again(gateway: GatewayProcess, campaign: str) -> None:
    """Redis is used again, without a restart."""

    await until(gateway.is_ready)
    stored = await gateway.metric("store_operations_total", store="redis", operation="put", outcome="stored")
    assert (await gateway.get(campaign))[0] == 200
    await until(lambda: counted(gateway, times=int(stored) + 1, operation="put", outcome="stored"))
    assert await gateway.metric("store_up", store="redis") == 1
    assert changes(gateway)[-1] == FOUND


@dataclass(frozen=True)
class Tls:
    """A Redis behind TLS that demands certificates, and a client's good ones."""

    port: int
    ca: Authority
    files: dict[str, str]


@asynccontextmanager
async def redis_behind_tls(redis: RedisServer, folder: Path, *hosts: str) -> AsyncIterator[Tls]:
    ca = Authority(folder, "ca")
    client = ca.issue("client")
    files = {"ca_file": str(ca.file), "cert_file": str(client.cert_file), "key_file": str(client.key_file)}
    async with tls_front(redis.port, ca.issue("server", *(hosts or ("127.0.0.1", "localhost"))), ca) as port:
        yield Tls(port, ca, files)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_replicas_share_a_redis_over_mutual_tls(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, host: str
) -> None:
    async with redis_behind_tls(redis, tmp_path) as tls:
        url = f"rediss://{host}:{tls.port}/0"
        async with gateways(sandbox, tmp_path, 2, url=url, tls=tls.files) as (one, two):
            await expect_shared(sandbox, one, two)


async def test_replicas_share_a_redis_over_mutual_tls_that_sentinels_name(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    async with redis_behind_tls(redis, tmp_path) as tls:
        file = tmp_path / "sentinel.conf"
        # The sentinel has no TLS: it cannot reach the master itself, and has patience with it.
        file.write_text(f"sentinel monitor main 127.0.0.1 {tls.port} 1\nsentinel down-after-milliseconds main 600000\n")
        sentinel = RedisServer(tmp_path)
        try:
            await sentinel.start(str(file), "--sentinel")
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main/0"
            async with gateways(sandbox, tmp_path, 2, url=url, tls=tls.files) as (one, two):
                await expect_shared(sandbox, one, two)
        finally:
            sentinel.kill()


@pytest.mark.parametrize("way", ["TLS", "IPv6"])
async def test_replicas_share_a_redis_that_sentinels_with_a_password_name(
    sandbox: Sandbox, tmp_path: Path, way: str
) -> None:
    secret, file, ca = tmp_path / "sentinel-password", tmp_path / "sentinel.conf", Authority(tmp_path, "ca")
    secret.write_text(f"{PASSWORD}\n")
    host = "::1" if way == "IPv6" else "127.0.0.1"
    sentinel = RedisServer(tmp_path, requirepass=PASSWORD, bind="127.0.0.1 ::1")
    async with redis_server(tmp_path, bind="127.0.0.1 ::1") as redis, AsyncExitStack() as stack:
        file.write_text(f"sentinel monitor main {host} {redis.port} 1\n")
        stack.callback(sentinel.kill)
        await sentinel.start(str(file), "--sentinel")
        cache: dict[str, Any] = {"sentinel": {"password_file": str(secret)}}
        cache["url"] = f"redis+sentinel://[::1]:{sentinel.port}/main/0"
        if way == "TLS":
            port = await stack.enter_async_context(tls_front(sentinel.port, ca.issue("sentinel", host), ca))
            client = ca.issue("client")
            files = {"ca_file": ca.file, "cert_file": client.cert_file, "key_file": client.key_file}
            cache["sentinel"]["tls"] = {name: str(path) for name, path in files.items()}
            cache["url"] = f"redis+sentinel://127.0.0.1:{port}/main/0"
        one, two = await stack.enter_async_context(gateways(sandbox, tmp_path, 2, **cache))
        await expect_shared(sandbox, one, two)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("another authority", "connection"),
        ("no client certificate", "connection"),
        ("another host's", "connection"),
        ("no TLS", "timeout"),
    ],
)
async def test_a_tls_that_fails_costs_redis_and_nothing_else(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, fault: str, kind: str
) -> None:
    hosts = ("redis.example.com",) if fault == "another host's" else ()
    async with redis_behind_tls(redis, tmp_path, *hosts) as tls:
        files, port = dict(tls.files), tls.port
        if fault == "another authority":
            # The client's own certificate stays the right one: the server takes it, the client refuses the server.
            files["ca_file"] = str(Authority(tmp_path, "stranger").file)
        elif fault == "no client certificate":
            del files["cert_file"], files["key_file"]
        elif fault == "no TLS":
            port = redis.port
        cache = {"url": f"rediss://127.0.0.1:{port}/0", "tls": files, "timeout": "250ms"}
        async with gateways(sandbox, tmp_path, 1, **cache) as (gateway,):
            await expect_lost(gateway, still(sandbox)[:2], kind)
            assert len(sandbox.log.of("get")) == 2
            expect_no_error_logged(gateway)


async def test_replicas_share_a_redis_behind_a_unix_socket(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    async with (
        redis_server(tmp_path, unixsocket=str(path)),
        gateways(sandbox, tmp_path, 2, url=f"unix://{path}") as (one, two),
    ):
        await expect_shared(sandbox, one, two)


@asynccontextmanager
async def administrator(redis: RedisServer) -> AsyncIterator[Redis]:
    client = redis.client()
    try:
        yield client
    finally:
        await client.aclose()


async def let_in(admin: Redis, *rules: str) -> None:
    """Gives the gateway's user all rights, and then applies the rules."""
    await admin.execute_command("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", "~*", "&*", "+@all", *rules)


async def test_replicas_share_a_redis_as_a_user_with_a_password(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    secret = tmp_path / "redis-password"
    # As an editor leaves it, with a byte order mark.
    secret.write_text(f"\ufeff{PASSWORD}\n")
    async with administrator(redis) as admin:
        await let_in(admin, "resetkeys", "~cg:*", "resetchannels", "&cg:*")
        cache = {"url": redis.url, "username": USER, "password_file": str(secret)}
        async with gateways(sandbox, tmp_path, 2, **cache) as (one, two):
            await expect_shared(sandbox, one, two)


async def test_a_wrong_password_is_told_apart_and_a_right_one_is_taken_without_a_restart(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    ids = still(sandbox)
    secret = tmp_path / "redis-password"
    secret.write_text("a guess")
    async with administrator(redis) as admin:
        await let_in(admin)
        cache = {"url": redis.url, "username": USER, "password_file": str(secret)}
        async with gateways(sandbox, tmp_path, 1, **cache) as (gateway,):
            await expect_lost(gateway, ids[:2], "auth")
            secret.write_text(PASSWORD)
            await expect_found_again(gateway, ids[2])

            # Rotated on the server first: connections that are open go on until another one is needed.
            gateway.log.clear()
            await admin.execute_command("ACL", "SETUSER", USER, "resetpass", ">rotated")
            await asyncio.gather(*(gateway.get(campaign) for campaign in ids[5:17]))
            await expect_lost(gateway, ids[:4], "auth")
            secret.write_text("rotated")
            await expect_found_again(gateway, ids[4])
            assert not [line for line in gateway.log if PASSWORD in line or "rotated" in line]
            expect_no_error_logged(gateway)


@pytest.mark.parametrize(
    ("rules", "store", "budget"),
    [
        pytest.param(("-info", "-config"), "ok", "ok", id="what-managed-servers-refuse"),
        pytest.param(("-@scripting",), "degraded", "degraded", id="no-scripts"),
        pytest.param(("resetkeys", "~other:*"), "degraded", "degraded", id="no-keys"),
        pytest.param(("resetchannels",), "ok", "ok", id="no-channels"),
        pytest.param(("-time",), "degraded", "degraded", id="no-time"),
    ],
)
async def test_rights_that_are_missing_cost_what_they_are_for_and_no_read(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, rules: tuple[str, ...], store: str, budget: str
) -> None:
    ids = still(sandbox)
    secret = tmp_path / "redis-password"
    secret.write_text(PASSWORD)
    async with administrator(redis) as admin:
        await let_in(admin, *rules)
        cache = {"url": redis.url, "username": USER, "password_file": str(secret)}
        async with gateways(sandbox, tmp_path, 1, **cache) as (gateway,):
            # The copies of before a subscription go with it, and what Redis does not take is then asked for again.
            await until(lambda: listens(admin, "resetchannels" not in rules))
            for campaign in ids[:4] * 3:
                assert (await gateway.get(campaign))[0] == 200
            assert len(sandbox.log.of("get")) == 4
            if budget == "degraded":
                await until(lambda: counted(gateway, times=3, outcome="noperm"))
            parts = (await gateway.get_json("/readyz"))["parts"]
            assert (parts["store"]["status"], parts["budget"]["status"]) == (store, budget)
            assert changes(gateway) == [FOUND if store == "ok" else lost("noperm")]
            expect_no_error_logged(gateway)
            await let_in(admin)
            await expect_found_again(gateway, ids[5])


async def listens(admin: Redis, expected: bool) -> bool:
    [(_, listeners)] = await admin.pubsub_numsub("cg:bus")
    return bool(listeners) == expected


async def test_scripts_that_the_server_forgot_are_loaded_again_unnoticed(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    ids = still(sandbox)
    async with administrator(redis) as admin, gateways(sandbox, tmp_path, 2, url=redis.url) as (one, two):
        for number, campaign in enumerate(ids[:4], 1):
            await admin.script_flush()
            assert (await one.get(campaign))[0] == 200
            await until(partial(counted, one, times=number, operation="put", outcome="stored"))
            _, headers, _ = await two.get(campaign)
            assert "; hit; " in headers["Cache-Status"]
        for gateway in (one, two):
            for outcome in ("noscript", "other"):
                assert not await counted(gateway, outcome=outcome)
            await until(gateway.is_ready)
            assert changes(gateway) == [FOUND]


async def test_a_server_busy_with_a_script_is_not_waited_for(sandbox: Sandbox, tmp_path: Path) -> None:
    known, *unknown = still(sandbox)
    async with (
        redis_server(tmp_path, busy_reply_threshold="50") as redis,
        administrator(redis) as admin,
        gateways(sandbox, tmp_path, 1, url=redis.url, timeout="250ms", local_unwatched="0s") as (gateway,),
    ):
        await until(lambda: listens(admin, expected=True))
        await gateway.get(known)
        await until(lambda: counted(gateway, operation="put", outcome="stored"))
        hog = Redis(port=redis.port, socket_timeout=None, retry=Retry(NoBackoff(), 0))
        async with hog, asyncio.TaskGroup() as group:

            async def keep_busy() -> None:
                with pytest.raises(ResponseError, match="killed"):
                    await hog.eval("while true do end", 0)

            group.create_task(keep_busy())
            await until(lambda: answers(admin, "BUSY"))
            async with asyncio.timeout(20):
                asked = [gateway.get(campaign) for campaign in (known, unknown[0]) for _ in range(20)]
                assert {status for status, _, _ in await asyncio.gather(*asked)} == {200}
            await expect_lost(gateway, [known, unknown[1]], "busy")
            await admin.script_kill()
        await expect_found_again(gateway, unknown[2])
        assert len(sandbox.log.of("get")) == 4
        expect_no_error_logged(gateway)


async def answers(client: Redis, error: str) -> bool:
    """Whether the server answers a plain question with this error."""
    try:
        await client.ping()
    except (RedisError, OSError) as refusal:
        return error in f"{type(refusal).__name__} {refusal}"
    return False


@pytest.mark.drill(
    "a demoted primary that keeps its connections",
    planted="behind one address that leads new connections to the new primary; a write and a purge through one replica",
    seen="left within about a second; the other replica is told of the write then, and asks",
)
async def test_a_demoted_primary_that_keeps_its_connections_is_left_for_the_new_one(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    purged, written, *_ = still(sandbox)
    async with (
        redis_server(tmp_path) as successor,
        administrator(redis) as old,
        administrator(successor) as new,
        address_of(redis) as address,
        gateways(sandbox, tmp_path, 2, url=f"redis://127.0.0.1:{address.port}/0") as (one, two),
    ):
        await redis.wait_for_listeners(2)
        for campaign in (purged, written):
            for gateway in (one, two):
                assert (await gateway.get(campaign))[0] == 200
        await new.execute_command("REPLICAOF", "127.0.0.1", redis.port)
        await until(lambda: has_caught_up(new))
        await new.execute_command("REPLICAOF", "NO", "ONE")
        address.backend = successor.port
        before = sandbox.log.since(0)[-1].index + 1
        await old.execute_command("REPLICAOF", "127.0.0.1", successor.port)
        async with one.session.post(f"{one.url}/v1/campaigns/{written}/start") as answer:
            assert answer.status == 200
        async with one.session.post(f"{one.url}/v1/purge", json={"campaigns": [purged]}) as answer:
            assert answer.status in {200, 202}, "done here, and maybe not said to others yet"
        for gateway in (one, two):
            await until(partial(is_back_since, gateway, lost("readonly")))
            expect_no_error_logged(gateway)
        await successor.wait_for_listeners(2)

        async def is_told_and_asks() -> bool:
            await two.get(written)
            return written in {arrival.campaign_id for arrival in sandbox.log.of("get", since=before)}

        await until(is_told_and_asks)


def is_back_since(gateway: GatewayProcess, loss: str) -> bool:
    return loss in changes(gateway) and changes(gateway)[-1] == FOUND


async def has_caught_up(copy: Redis) -> bool:
    return (await copy.info("replication")).get("master_link_status") == "up"


@dataclass
class Address:
    """A port that leads each new connection to the backend of that moment."""

    backend: int
    port: int = 0


@asynccontextmanager
async def address_of(redis: RedisServer) -> AsyncIterator[Address]:
    address, tasks = Address(redis.port), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            behind, ahead = await asyncio.open_connection("127.0.0.1", address.backend)
            try:
                await asyncio.gather(copy(reader, ahead), copy(behind, writer))
            finally:
                ahead.close()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    address.port = listener.sockets[0].getsockname()[1]
    try:
        yield address
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_copy_that_lost_its_master_and_refuses_reads_is_lost_until_it_is_a_master(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    ids = still(sandbox)
    async with administrator(redis) as admin, gateways(sandbox, tmp_path, 1, url=redis.url) as (gateway,):
        await gateway.get(ids[0])
        await admin.config_set("replica-serve-stale-data", "no")
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await until(lambda: answers(admin, "MasterDown"))
        # It still answers TIME: without a second question it would be lost and found twice a second.
        await expect_lost(gateway, ids[:2], "masterdown")
        await admin.execute_command("REPLICAOF", "NO", "ONE")
        await expect_found_again(gateway, ids[2])
        assert changes(gateway) == [FOUND, lost("masterdown"), FOUND]
        expect_no_error_logged(gateway)
