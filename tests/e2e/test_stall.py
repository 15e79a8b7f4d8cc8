"""A process that stood still, like one of a paused machine, and what it answers first when it goes on."""

import asyncio
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.estate import KEYS, Estate, estate

STOPS = (2.0, 3.0, 2.0, 4.0, 2.0, 3.0)
"""Seconds."""


@pytest.mark.drill(
    "a process stands still, and writes end meanwhile",
    planted="SIGSTOP for 2 to 4 s, requests wait in its sockets, another replica purges",
    seen="what it answers first is no hit from before the purge",
)
async def test_nothing_from_before_an_invalidation_is_a_hit_after_a_stop(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    async with estate(2, tmp_path) as fleet:
        campaign = fleet.sandbox.campaigns.all()[0].id
        raw = f"GET /v1/campaigns/{campaign} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEYS['reader']}\r\n\r\n".encode()
        stopped, answered = fleet.gateways[0], 0
        old: list[str] = []
        for number, seconds in enumerate(STOPS):
            before, after = f"before-{number}", f"after-{number}"
            await rename(fleet, campaign, before, at=0)
            connections = [
                await asyncio.open_connection("127.0.0.1", int(stopped.url.rpartition(":")[2])) for _ in "ab"
            ]
            for reader, writer in connections:
                writer.write(raw)
                assert before in (await answer(reader))[1]
            stopped.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            await rename(fleet, campaign, after, at=1)
            for _, writer in connections:
                writer.write(raw)
            stopped.process.send_signal(signal.SIGCONT)
            for reader, writer in connections:
                status, body = await answer(reader)
                answered += 1
                # Where Redis did not answer in time it may be had as what it is: stale.
                if "; hit" in status and "detail=stale" not in status and after not in body:
                    old.append(status)
                writer.close()
        figure(f"{answered} answers after stops of {min(STOPS):.0f} to {max(STOPS):.0f} s, {len(old)} old hits")
        assert old == []


async def rename(fleet: Estate, campaign: str, name: str, *, at: int) -> None:
    """An edit at the platform, and the purge that tells the gateways, through the one of this number; then it is read.

    A process that was stopped with a command under way has lost Redis for a moment, and says of a purge that the others
    could not be told yet: that one is sent again.
    """
    fleet.sandbox.campaigns.edit(campaign, {"name": name})
    async with asyncio.timeout(30):
        while (await fleet.ask("POST /v1/purge", body=b'{"all": true}', at=at)).status != 200:
            await asyncio.sleep(0.05)
        while name not in (await fleet.ask(f"GET /v1/campaigns/{campaign}", at=at)).body.decode():
            await asyncio.sleep(0.05)


async def answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """`Cache-Status` and body."""
    async with asyncio.timeout(30):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        assert length is not None
        found = re.search(r"Cache-Status: (.*)\r", head)
        return found[1] if found else "", (await reader.readexactly(int(length[1]))).decode()
