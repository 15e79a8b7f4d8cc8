"""Two gateway processes with the default settings on one Redis: polls of the list, seen from outside."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

USED = 5
"""Campaigns that are read: enough for a list to be worth its calls."""


@pytest.fixture
async def gateways(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> AsyncIterator[list[GatewayProcess]]:
    """Two of them, whose callers have asked for a few campaigns, and whose polls validate."""
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url, "timeout": "1s"})
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(gateway_process(settings, tmp_path)) for _ in range(2)]
        await redis.wait_for_listeners(2)
        for gateway in both:
            for campaign in used(sandbox):
                assert (await gateway.get(campaign))[0] == 200
        await until(lambda: all_validating(both), 15)
        yield both


def used(sandbox: Sandbox) -> list[str]:
    quiet = [campaign.id for campaign in sandbox.campaigns.all() if campaign.due is None and campaign.status == "Ready"]
    return quiet[:USED]


async def all_validating(gateways: list[GatewayProcess]) -> bool:
    return all([await gateway.metric("sweep_up") == 1 for gateway in gateways])


async def test_a_change_is_seen_by_all_within_the_stated_bound_for_one_read(
    gateways: list[GatewayProcess], sandbox: Sandbox
) -> None:
    campaign = used(sandbox)[0]
    before = len(sandbox.log.of("get"))
    bound = await gateways[0].metric("signal_bound_seconds")
    assert bound < 60
    sandbox.campaigns.edit(campaign, {"name": "Ebb tide"})

    async def is_seen() -> bool:
        return all([b"Ebb tide" in (await gateway.get(campaign))[2] for gateway in gateways])

    assert await until(is_seen, bound) < bound
    reads = [call for call in sandbox.log.of("get")[before:] if call.campaign_id == campaign]
    assert len(reads) == 1

    async def is_validated_by_a_poll() -> bool:
        _, headers, _ = await gateways[1].get(campaign)
        return "detail=sweep" in headers["Cache-Status"] and float(headers["Age"]) < bound

    await until(is_validated_by_a_poll, bound)


async def test_a_list_out_of_order_is_not_believed_and_reads_go_on(
    gateways: list[GatewayProcess], sandbox: Sandbox
) -> None:
    sandbox.faults.add("list-unsorted")

    async def is_down() -> bool:
        reasons = [(await gateway.get_json("/readyz"))["parts"]["sweep"]["reason"] or "" for gateway in gateways]
        return all("voice" in reason and "sms" in reason for reason in reasons)

    await until(is_down, 40)
    assert [await gateway.metric("sweep_up") for gateway in gateways] == [0, 0]
    lines = [line for gateway in gateways for line in gateway.log if "is not trusted (unsorted)" in line]
    assert 1 <= len(lines) <= 2
    readiness = await gateways[0].get_json("/readyz")
    assert readiness["parts"]["sweep"]["status"] == "degraded"
    assert "unsorted" in readiness["parts"]["sweep"]["reason"]
    for gateway in gateways:
        for campaign in used(sandbox):
            status, headers, _ = await gateway.get(campaign)
            assert status == 200
            assert "detail=sweep" not in headers["Cache-Status"]


async def test_another_holds_the_lease_when_the_leader_is_killed(
    gateways: list[GatewayProcess], sandbox: Sandbox
) -> None:
    leading = [gateway for gateway in gateways if await gateway.metric("sweep_leading") == 1]
    assert len(leading) == 1
    other = next(gateway for gateway in gateways if gateway is not leading[0])
    before = len(sandbox.log.of("list"))
    leading[0].process.kill()

    async def is_leading() -> bool:
        return await other.metric("sweep_leading") == 1

    assert await until(is_leading, 8) < 8

    async def goes_on() -> bool:
        return len(sandbox.log.of("list")) > before and await all_validating([other])

    await until(goes_on, 20)
    # One poll of each channel, and no burst.
    assert len(sandbox.log.of("list")) - before <= 6
