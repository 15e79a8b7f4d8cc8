"""`make bench`: hits of the gateway beside a plain aiohttp application, in one run, as ratios of server CPU.

Bounded: loopback only, a few interleaved rounds of a fixed number of requests. The client is Python too and shares the
machine, so requests per second say little; CPU per request of the server process is the steadiest figure.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from service.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import gateway_process, settings_for
from tests.support.redis_server import free_port, redis_server

ROUNDS = 5
REQUESTS = 4_000
CONNECTIONS = 32
CAMPAIGNS = 50
RESULTS = Path(__file__).parent / "results"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(url: str, ids: list[str], pid: int) -> tuple[float, float]:
    """Server CPU in microseconds per request, and requests per second."""
    numbers = iter(range(REQUESTS))
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def knock() -> None:
            for number in numbers:
                async with session.get(f"{url}/v1/campaigns/{ids[number % len(ids)]}") as response:
                    await response.read()
                    assert response.status == 200

        before, began = cpu_seconds(pid), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(knock())
        seconds = time.perf_counter() - began
        return (cpu_seconds(pid) - before) / REQUESTS * 1e6, REQUESTS / seconds


@asynccontextmanager
async def plain_aiohttp(ids: list[str], body: bytes) -> AsyncIterator[tuple[str, int]]:
    """The peer: address and process id."""
    port = free_port()
    peer = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.peer", str(port), *ids), stdin=asyncio.subprocess.PIPE
    )
    assert peer.stdin is not None
    peer.stdin.write(body)
    peer.stdin.close()
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield f"http://127.0.0.1:{port}", peer.pid
    finally:
        peer.kill()
        await peer.wait()


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Sandbox(SandboxConfig(campaigns=CAMPAIGNS)) as sandbox, redis_server(folder) as redis:
            ids = [campaign.id for campaign in sandbox.campaigns.all()]
            memory = settings_for(sandbox, folder)
            shared = settings_for(sandbox, folder, cache={"url": redis.url})
            freshness = {"min": "10m", "max": "10m", "status": {}}
            async with (
                gateway_process({**memory, "freshness": freshness}, folder) as in_memory,
                gateway_process({**shared, "freshness": freshness}, folder) as on_redis,
            ):
                body = b""
                for campaign in ids:
                    _, _, body = await in_memory.get(campaign)
                sandbox.limits[sandbox.config.account_id].calls = 10_000
                for campaign in ids:
                    await on_redis.get(campaign)
                async with plain_aiohttp(ids, body) as (peer_url, peer_pid):
                    subjects = {
                        "plain aiohttp": (peer_url, peer_pid),
                        "gateway, memory": (in_memory.url, in_memory.process.pid),
                        "gateway, local copies of Redis": (on_redis.url, on_redis.process.pid),
                    }
                    rounds: dict[str, list[tuple[float, float]]] = {subject: [] for subject in subjects}
                    for _ in range(ROUNDS):
                        for subject, (url, pid) in subjects.items():
                            rounds[subject].append(await load(url, ids, pid))
    report(rounds)


def report(rounds: dict[str, list[tuple[float, float]]]) -> None:
    """Prints the table and keeps the raw numbers."""
    base = statistics.median(cpu for cpu, _ in rounds["plain aiohttp"])
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, aiohttp {aiohttp.__version__}"
    print(f"{machine}; {ROUNDS} interleaved rounds of {REQUESTS} hits on {CONNECTIONS} connections, medians\n")
    print(f"{'server':32} {'us CPU/request':>15} {'to plain aiohttp':>17} {'requests/s':>11}")
    for name, rows in rounds.items():
        cpu, rate = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:32} {cpu:15.0f} {base / cpu:16.2f}x {rate:11.0f}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "hits.json").write_text(json.dumps({"machine": machine, "rounds": rounds}, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
