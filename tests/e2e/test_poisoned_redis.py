"""What somebody who can write to Redis puts there: the real process, a real server, and its values made up or moved."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.policy.stored import Stored
from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.store.codec import encode
from campaign_gateway.store.seal import NO_SECRET, Seal, Seals
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

OLD, NEW = "the old key of 32 characters ...", "the new key of 32 characters ..."
HEAD_BYTES = 65
FORGED = b'{"data": {"status": "Ready", "name": "made up"}}'

Values = dict[str, bytes]


def ready(sandbox: Sandbox) -> list[str]:
    return [campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY]


async def entries(redis: RedisServer) -> Values:
    """What stands at the keys of entries."""
    raw: Any
    async with redis.client() as raw:
        return {key.decode(): await raw.get(key) for key in await raw.keys("cg:entry:*")}


def moved(values: Values) -> Values:
    return dict(zip(values, reversed(list(values.values())), strict=True))


def made_up(values: Values, *secrets: bytes) -> Values:
    """Answers with all that can be known without the gateway's key."""
    seal = Seal("entry", Seals(lambda: secrets) if secrets else NO_SECRET)
    return {
        key: value[:HEAD_BYTES]
        + encode(Stored(FORGED, "application/json", b"", None, "Ready", float(value[16:32]) / 1e6), key, seal)
        for key, value in values.items()
    }


@pytest.mark.drill("answers that somebody else wrote into Redis")
@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize(
    ("poison", "reason"),
    [(moved, "altered"), (made_up, "key"), (lambda values: made_up(values, OLD.encode()), "key")],
    ids=["moved", "made-up", "made-with-another-key"],
)
async def test_nobody_without_the_key_answers_a_caller(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path, poison: Any, reason: str, *, encrypt: bool
):
    one, two = ready(sandbox)[:2]
    (tmp_path / "seal").write_text(NEW)
    cache = {"url": redis.url, "timeout": "5s", "seal": {"key_file": str(tmp_path / "seal"), "encrypt": encrypt}}
    settings = settings_for(sandbox, tmp_path, cache=cache, sweep={"share": 0})
    async with gateway_process(settings, tmp_path) as gateway:
        assert await gateway.metric("store_operations_total", store="redis", operation="unseal", outcome=reason) == 0
        true = {campaign: (await gateway.get(campaign))[2] for campaign in (one, two)}
        await until(lambda: holds(redis, 2))
    assert any(b"campaignName" in value or b"name" in value for value in (await entries(redis)).values()) != encrypt
    async with redis.client() as raw:
        for key, value in poison(await entries(redis)).items():
            await raw.set(key, value)
    async with gateway_process(settings, tmp_path) as gateway:
        for campaign in (one, two):
            status, fields, body = await gateway.get(campaign)
            assert (status, body) == (200, true[campaign])
            assert "fwd=uri-miss" in fields["Cache-Status"]
        assert await gateway.metric("store_operations_total", store="redis", operation="unseal", outcome=reason) >= 2


async def ended(gateway: GatewayProcess) -> None:
    """In good order: a dead replica's share of the budget is withheld for a while."""
    gateway.terminate()
    await gateway.process.wait()


async def holds(redis: RedisServer, count: int) -> bool:
    return len(await entries(redis)) == count


async def test_a_replaced_key_reads_what_the_old_one_sealed(sandbox: Sandbox, redis: RedisServer, tmp_path: Path):
    one, two = ready(sandbox)[:2]
    (tmp_path / "old").write_text(OLD)
    (tmp_path / "new").write_text(NEW)

    def settings(*names: str) -> dict[str, Any]:
        seal = {"key_file": [str(tmp_path / name) for name in names]}
        cache = {"url": redis.url, "timeout": "5s", "seal": seal}
        return settings_for(sandbox, tmp_path, cache=cache, sweep={"share": 0})

    async with gateway_process(settings("old"), tmp_path) as gateway:
        await gateway.get(one)
        await until(lambda: holds(redis, 1))
        await ended(gateway)
    async with gateway_process(settings("new", "old"), tmp_path) as gateway:
        assert "; hit; " in (await gateway.get(one))[1]["Cache-Status"]
        await gateway.get(two)
        await until(lambda: holds(redis, 2))
        await ended(gateway)
    async with gateway_process(settings("new"), tmp_path) as gateway:
        assert "; hit; " in (await gateway.get(two))[1]["Cache-Status"]
        assert "fwd=uri-miss" in (await gateway.get(one))[1]["Cache-Status"]
        assert await gateway.metric("store_operations_total", store="redis", operation="unseal", outcome="key") >= 1


@pytest.mark.drill("a ledger that somebody else wrote into Redis")
async def test_replicas_with_different_keys_do_not_add_up_to_two_budgets(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
):
    """As while a first key is given to one replica after the other: neither can read the other's ledger."""
    calls, window = 10, 3.0
    async with AsyncExitStack() as stack:
        gateways = []
        for name in (OLD, NEW):
            (tmp_path / name).write_text(name)
            settings = settings_for(
                sandbox,
                tmp_path,
                cache={"url": redis.url, "timeout": "5s", "seal": {"key_file": str(tmp_path / name)}},
                budgets={"default": {"calls": calls, "window": f"{window:.0f}s"}},
                sweep={"share": 0},
            )
            gateways.append(await stack.enter_async_context(gateway_process(settings, tmp_path)))
        campaigns = [campaign.id for campaign in sandbox.campaigns.all()]
        for number in range(4):
            asked = campaigns[20 * number : 20 * number + 20]
            await asyncio.gather(*(gateway.get(campaign) for campaign in asked for gateway in gateways))
            await asyncio.sleep(0.5)
    assert most_in_window([arrival.monotonic for arrival in sandbox.log.since(0)], window) <= calls
