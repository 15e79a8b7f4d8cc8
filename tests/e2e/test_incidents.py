"""Incidents as those on call meet them: logs alone, `/readyz` alone, and `/explain` alone each name the cause."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.waiting import until


@pytest.fixture
async def gateway(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with gateway_process(settings_for(sandbox, tmp_path, sweep={"share": 0}), tmp_path) as process:
        yield process


async def part(gateway: GatewayProcess, name: str) -> tuple[str, str]:
    found: dict[str, Any] = (await gateway.get_json("/readyz"))["parts"][name]
    return found["status"], found["reason"] or ""


async def lines(gateway: GatewayProcess, start: str) -> list[str]:
    """The messages that begin so, once there is one."""

    def found() -> list[str]:
        return [f"{line['level']} {line['message']}" for line in gateway.records() if line["message"].startswith(start)]

    await until(found)
    return found()


async def requests(gateway: GatewayProcess, problem: str) -> list[dict[str, Any]]:
    """The lines of requests with this problem, once there is one: what the runbook has people search for."""

    def found() -> list[dict[str, Any]]:
        return [line for line in gateway.records() if line.get("problem") == problem]

    await until(found)
    return found()


async def problem_of(gateway: GatewayProcess, campaign: str) -> str:
    _, headers, body = await gateway.get(campaign)
    return body.decode().partition("/problems/")[2].partition('"')[0] if "problem" in headers["Content-Type"] else ""


async def test_the_platform_asks_for_a_pause(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    sandbox.faults.add("limit-429-seconds", times=1, retry_after_seconds=3)
    assert [await problem_of(gateway, id_) for id_ in ids[:3]] == ["upstream-paused"] * 3
    status, reason = await part(gateway, "budget")
    assert status == "degraded"
    assert f"{sandbox.config.account_id} until " in reason
    explained = await gateway.get_json(f"/explain/support/{ids[5]}")
    assert (explained["refusal"], explained["next"]) == (
        "upstream-paused",
        "refuse (upstream-paused: the platform asked for a pause)",
    )
    assert 0 < explained["retry_after"] <= 4
    told = await lines(gateway, "the platform asked for a pause")
    assert len(told) == 1
    assert told[0].startswith("warning ")
    first, *others = await requests(gateway, "upstream-paused")
    assert (first["level"], first["status"], first["upstream_status"]) == ("warning", 503, 429)
    assert all(line["level"] == "warning" for line in others)

    async def may_be_tried() -> bool:
        return "until it answers the next call" in (await part(gateway, "budget"))[1]

    await until(may_be_tried)

    async def is_over() -> bool:
        return (await gateway.get(ids[0]))[0] == 200

    await until(is_over)
    await gateway.get(ids[1])
    assert len(await lines(gateway, f"the pause of account {sandbox.config.account_id} is over")) == 1
    assert (await part(gateway, "budget"))[0] == "ok"


async def test_the_secret_is_a_wrong_one(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    ids, secret = [campaign.id for campaign in sandbox.campaigns.all()], sandbox.config.secret
    sandbox.app.secret = secret[::-1]
    assert [await problem_of(gateway, id_) for id_ in ids[:3]] == ["upstream-unauthorized"] * 3
    status, reason = await part(gateway, "credential")
    assert status == "degraded"
    assert reason.startswith("main is refused (status 401")
    assert "tried again from " in reason
    assert (await gateway.get_json(f"/explain/support/{ids[5]}"))["refusal"] == "upstream-unauthorized"
    told = await lines(gateway, "the platform refuses credential main (stream support, status 401, code ")
    assert len(told) == 1
    first, *_ = await requests(gateway, "upstream-unauthorized")
    assert (first["level"], first["status"], first["upstream_status"]) == ("warning", 502, 401)
    sandbox.app.secret = secret

    async def is_over() -> bool:
        return (await gateway.get(ids[0]))[0] == 200

    await until(is_over)
    assert len(await lines(gateway, "the platform accepts credential main again")) == 1
    assert (await part(gateway, "credential"))[0] == "ok"


async def test_the_platform_cannot_be_reached(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    fault = sandbox.faults.add("reset")
    assert [await problem_of(gateway, id_) for id_ in ids[:5]] == ["upstream-unavailable"] * 5
    status, reason = await part(gateway, "platform")
    assert status == "degraded"
    assert reason.startswith(f"{sandbox.url}: the connection was closed, since ")
    assert len(await lines(gateway, "the platform fails (the connection was closed)")) == 1
    sandbox.faults.remove(fault.id)
    assert (await gateway.get(ids[6]))[0] == 200
    assert len(await lines(gateway, "the platform answers again, after ")) == 1
    assert (await part(gateway, "platform"))[0] == "ok"


async def test_a_caller_who_is_not_known(sandbox: Sandbox, tmp_path: Path) -> None:
    clients = {"reporting": {"key_sha256": "ab" * 32, "streams": ["support"], "scopes": ["read"]}}
    async with gateway_process(settings_for(sandbox, tmp_path, clients=clients), tmp_path) as gateway:
        await asyncio.gather(*(gateway.get("c-1", Authorization="Bearer cgk_wrong") for _ in range(2)))
        first, *_ = await requests(gateway, "unauthenticated")
    assert (first["level"], first["status"], first["peer"]) == ("info", 401, "127.0.0.1")
    assert first["reason"] == "send Authorization: Bearer <client key>"
    assert first["operation"] == "get"
    assert "cgk_wrong" not in "".join(gateway.log)
