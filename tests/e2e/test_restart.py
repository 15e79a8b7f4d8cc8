"""Gateways without Redis that are started again and again: one budget and warm entries, judged by the platform's log."""

import asyncio
import contextlib
import itertools
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.small_budget import BUDGET, CALLS, WINDOW, arrivals

LIVES = 10
OPEN_SECONDS = 0.3
"""Beyond the window: how long a place is held for the time that its call took."""


@pytest.fixture
async def wide_sandbox() -> AsyncIterator[Sandbox]:
    """A platform that counts nothing itself: what arrives is what the gateways let out."""
    async with Sandbox(SandboxConfig(campaigns=40, calls=100_000, latency_seconds=0.02)) as platform:
        yield platform


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "home")}


def short_of_budget(sandbox: Sandbox, folder: Path) -> dict[str, Any]:
    """Settings with a budget that is soon spent; calls take a part of the window at most, as they do by default."""
    settings = settings_for(sandbox, folder, budgets=BUDGET, sweep={"share": 0})
    settings["platform"] |= {"timeout": "500ms", "connect_timeout": "100ms"}
    return settings


async def knock(gateway: GatewayProcess, numbers: "itertools.count[int]", seconds: float) -> None:
    """Cold reads, more than the budget allows, for so long."""

    async def caller() -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await gateway.get(f"cd-{next(numbers)}")
            await asyncio.sleep(0.03)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(caller())


def used(times: list[float]) -> float:
    """The part of the budget that was spent in the time from the first call to the last."""
    return len(times) / (CALLS * (times[-1] - times[0]) / WINDOW)


async def end(gateway: GatewayProcess, how: signal.Signals) -> None:
    gateway.process.send_signal(how)
    await gateway.process.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
async def test_a_loop_of_restarts_keeps_to_one_budget_and_uses_it(
    wide_sandbox: Sandbox, tmp_path: Path, home: dict[str, str], how: signal.Signals
) -> None:
    settings = short_of_budget(wide_sandbox, tmp_path)
    numbers, lives, ends = itertools.count(), random.Random(12), []
    for _ in range(LIVES):
        async with gateway_process(settings, tmp_path, home) as gateway:
            await knock(gateway, numbers, lives.uniform(0.5, 2.5))
            ends.append(time.monotonic())
            await end(gateway, how)
    times = arrivals(wide_sandbox)
    assert times[-1] - times[0] > 3 * WINDOW
    assert most_in_window(times, WINDOW) <= CALLS
    # As long as somebody asked, and however long a start takes: what a kill leaves open is held a little longer.
    spent = [sum(1 for at in times if moment - WINDOW - OPEN_SECONDS < at < moment) for moment in ends]
    assert statistics.mean(min(calls, CALLS) for calls in spent) >= 0.9 * CALLS


async def test_several_on_one_machine_keep_to_one_budget_and_use_it(
    wide_sandbox: Sandbox, tmp_path: Path, home: dict[str, str]
) -> None:
    """As where the next one is started before the last one has ended."""
    settings = short_of_budget(wide_sandbox, tmp_path)
    numbers = itertools.count()
    async with (
        gateway_process(settings, tmp_path, home) as one,
        gateway_process(settings, tmp_path, home) as two,
        asyncio.TaskGroup() as group,
    ):
        for gateway in (one, two):
            group.create_task(knock(gateway, numbers, 3 * WINDOW))
    times = arrivals(wide_sandbox)
    assert most_in_window(times, WINDOW) <= CALLS
    assert used(times) >= 0.9


async def test_a_damaged_file_opens_no_new_window(wide_sandbox: Sandbox, tmp_path: Path, home: dict[str, str]) -> None:
    settings = short_of_budget(wide_sandbox, tmp_path)
    for content in (None, b"damaged"):
        for path in (tmp_path / "home").rglob("*.ledger"):
            path.write_bytes(content or b"")
        async with gateway_process(settings, tmp_path, home) as gateway:
            await knock(gateway, itertools.count(), 1.0)
            await end(gateway, signal.SIGKILL)
    # All but the call that only a write may make.
    assert len(arrivals(wide_sandbox)) == CALLS - 1


async def test_where_nothing_can_be_written_it_serves_and_says_so(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = settings_for(sandbox, tmp_path)
    async with gateway_process(settings, tmp_path, {"XDG_STATE_HOME": str(tmp_path / "file")}) as gateway:
        status, _, _ = await gateway.get(sandbox.campaigns.all()[0].id)
        readiness = await gateway.get_json("/readyz")
        is_written = await gateway.metric("written_down", kind="calls")
        await end(gateway, signal.SIGTERM)
    assert (status, is_written, readiness["status"]) == (200, 0.0, "ready")
    assert readiness["parts"]["store"] == {"status": "ok", "reason": "calls are not written down (Not a directory)"}
    assert len([record for record in gateway.records() if record["level"] == "warning"]) == 1


# Entries.


def warm(sandbox: Sandbox, folder: Path, **sections: Any) -> dict[str, Any]:
    """Settings that keep entries, and give a change of a campaign's own no chance to be seen in time."""
    sections = {"cache": {"state_dir": str(folder / "state")}, "sweep": {"share": 0}, **sections}
    return settings_for(sandbox, folder, **sections)


async def test_the_next_process_begins_with_the_entries_of_the_last(sandbox: Sandbox, tmp_path: Path) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY][:5]
    settings = warm(sandbox, tmp_path)
    async with gateway_process(settings, tmp_path) as gateway:
        first = [await gateway.get(id_) for id_ in ids]
        await end(gateway, signal.SIGTERM)
    sandbox.log.clear()
    async with gateway_process(settings, tmp_path) as gateway:
        again = [await gateway.get(id_) for id_ in ids]
    assert [body for _, _, body in again] == [body for _, _, body in first]
    assert [headers["ETag"] for _, headers, _ in again] == [headers["ETag"] for _, headers, _ in first]
    for _, headers, _ in again:
        # Nobody waited, and nothing is called fresh that nobody has looked at since.
        assert "; hit; ttl=-" in headers["Cache-Status"]
        assert "detail=stale-while-revalidate" in headers["Cache-Status"]


async def test_what_was_written_just_before_a_crash_is_not_answered_from_before_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    campaign = next(campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY)
    settings = warm(sandbox, tmp_path)
    async with gateway_process(settings, tmp_path) as gateway:
        await gateway.get(campaign)
        await end(gateway, signal.SIGTERM)
    async with gateway_process(settings, tmp_path) as gateway:
        url = f"{gateway.url}/v1/campaigns/{campaign}/start"
        async with gateway.session.post(url) as answer:
            assert answer.status == 200
        await end(gateway, signal.SIGKILL)
    sandbox.log.clear()
    async with gateway_process(settings, tmp_path) as gateway:
        _, headers, body = await gateway.get(campaign)
    assert "fwd=stale; fwd-status=200" in headers["Cache-Status"]
    assert b"Active" in body
    assert len(sandbox.log.of("get")) == 1


async def test_files_hold_no_secret_and_are_for_nobody_else(sandbox: Sandbox, tmp_path: Path) -> None:
    async with gateway_process(warm(sandbox, tmp_path), tmp_path) as gateway:
        await gateway.get(sandbox.campaigns.all()[0].id)
        await end(gateway, signal.SIGTERM)
    files = list((tmp_path / "state").iterdir())
    assert {path.suffix or path.name for path in files} == {".ledger", ".lock", "lock", "entries"}
    for path in files:
        assert path.stat().st_mode & 0o077 == 0
        assert sandbox.config.secret.encode() not in path.read_bytes()
