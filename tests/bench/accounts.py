"""`make bench-accounts`: what many accounts cost one gateway, while nobody asks and while each is asked ten times a second.

The real process before the simulated platform, one stream for each account, with its cache in memory and in a Redis. It
takes about six minutes; figures go to standard output and to `results/accounts.json`.

- *cpu* is the gateway's, in per cent of one core, over the measured time.
- *starved* is the part of that time in which it could have run and something else had its core: a row with much of it
  says more about the machine than about the gateway.
- *commands* are Redis' own count of what it carried out in a second, those inside scripts included.
- *scrape* is the median time of one `GET /metrics`, during which the gateway does nothing else.
- *p50*, *p99*, *max*: what callers see. The longest wait is about the longest time for which the loop was blocked.

Reads go to a few campaigns of each account that were read before, so that nearly all are hits; meanwhile their lists are
polled as always, out of each account's own budget.
"""

import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import click
from ruamel.yaml import YAML

from campaign_gateway.sandbox.config import Stream
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.bench.load import HOST
from tests.bench.servers import LOAD, Server, Servers, on_core
from tests.support.gateway import settings_for
from tests.support.redis_server import RedisServer, redis_server
from tests.support.wire import free_port

RESULTS = Path(__file__).parent / "results"
ACCOUNTS = (1, 100, 500)
MEMORY, REDIS = "memory", "redis"
CAMPAIGNS = 4
"""Of each account; all of them are read."""
READS = 10.0
"""A second, for each account."""
LEAD_IN_SECONDS = 5.0
"""After the start, and after the first reads, before anything is measured."""
AT_ONCE = 32
PATIENCE_SECONDS = 60.0
"""For the first answers to all; a gateway that takes longer has no room for the load."""
SCRAPES = 5
MIB = 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Row:
    """One gateway over the measured seconds."""

    accounts: int
    cache: str
    load: str
    cpu: float
    """Per cent of one core."""
    starved: float
    """Per cent of the time in which it waited for a core."""
    commands: float
    """Of Redis, a second; 0 without one."""
    resident: float
    """MiB at the end."""
    scrape: float
    """Milliseconds."""
    scrape_bytes: int
    reads: int = 0
    """Answers counted; 0 where nobody asked, or where the gateway could not keep up."""
    kept_up: bool = True
    p50: float = 0.0
    """Milliseconds, as the two others."""
    p99: float = 0.0
    longest: float = 0.0
    by_command: Mapping[str, float] = field(default_factory=dict)
    """Of Redis' commands a second, by name."""


class Commands:
    """What a Redis has carried out, by command; what asks for that is left out."""

    def __init__(self, server: RedisServer | None) -> None:
        self._client = None if server is None else server.client()

    async def counts(self) -> Counter[str]:
        """Since its start."""
        if self._client is None:
            return Counter()
        stats = await self._client.info("commandstats")
        named = {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}
        return Counter({name: calls for name, calls in named.items() if name not in {"info", "client|setinfo"}})

    async def close(self) -> None:
        """Ends the connection."""
        if self._client is not None:
            await self._client.aclose()


@dataclass(frozen=True, slots=True)
class Watched:
    """What a span of time took: per cent of one core, twice, and Redis' commands a second by name."""

    cpu: float
    starved: float
    commands: Mapping[str, float]


class Subject:
    """One gateway with so many accounts."""

    def __init__(self, server: Server, admin_port: int, commands: Commands, session: aiohttp.ClientSession) -> None:
        self._server = server
        self._admin = f"http://127.0.0.1:{admin_port}/metrics"
        self._commands = commands
        self._session = session

    async def warm(self, paths: list[str]) -> bool:
        """Reads each campaign until it is answered, and says whether all were within the patience."""
        todo = iter(paths)

        async def knock() -> None:
            for path in todo:
                while await self._status(path) != 200:
                    await asyncio.sleep(0.5)

        try:
            async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(knock())
        except TimeoutError:
            return False
        return True

    async def _status(self, path: str) -> int:
        async with self._session.get(f"http://127.0.0.1:{self._server.port}{path}") as response:
            await response.read()
            return response.status

    async def idle(self, accounts: int, cache: str, seconds: float) -> Row:
        """What it costs while nobody asks."""
        watched = await self._watched(asyncio.sleep(seconds))
        return await self._row(accounts, cache, "idle", watched, {})

    async def loaded(self, accounts: int, cache: str, seconds: float, heads: Path | None) -> Row:
        """What it costs while each account is asked `READS` times a second; None where it cannot answer all of them."""
        said: dict[str, Any] = {"kept_up": False}

        async def load() -> None:
            if heads is None:
                await asyncio.sleep(seconds)
            else:
                said.update(await _load(self._server.port, READS * accounts, seconds, heads))

        watched = await self._watched(load())
        return await self._row(accounts, cache, f"{READS:g} reads/s each", watched, said)

    async def _watched(self, work: Awaitable[None]) -> Watched:
        """What it took while the work went on."""
        before, cpu, waited = await self._commands.counts(), self._server.cpu_seconds(), self._waited()
        began = time.perf_counter()
        await work
        seconds = time.perf_counter() - began
        cpu, waited = self._server.cpu_seconds() - cpu, self._waited() - waited
        counts = await self._commands.counts()
        counts.subtract(before)
        rates = {name: calls / seconds for name, calls in counts.most_common() if calls}
        return Watched(100 * cpu / seconds, 100 * waited / seconds, rates)

    def _waited(self) -> float:
        """Seconds so far for which its loop's thread could run and did not."""
        return int(Path(f"/proc/{self._server.pid}/schedstat").read_text().split()[1]) / 1e9

    async def _row(self, accounts: int, cache: str, load: str, watched: Watched, said: Mapping[str, Any]) -> Row:
        times = []
        text = b""
        for _ in range(SCRAPES):
            began = time.perf_counter()
            async with self._session.get(self._admin) as response:
                text = await response.read()
            times.append(time.perf_counter() - began)
        return Row(
            accounts=accounts,
            cache=cache,
            load=load,
            cpu=watched.cpu,
            starved=watched.starved,
            commands=sum(watched.commands.values()),
            resident=int(Path(f"/proc/{self._server.pid}/statm").read_text().split()[1]) * PAGE_BYTES / MIB,
            scrape=statistics.median(times) * 1e3,
            scrape_bytes=len(text),
            reads=said.get("requests", 0),
            kept_up=said.get("kept_up", True),
            p50=said.get("p50", 0) / 1e3,
            p99=said.get("p99", 0) / 1e3,
            longest=said.get("max", 0) / 1e3,
            by_command=watched.commands,
        )


async def _load(port: int, rate: float, seconds: float, heads: Path) -> Any:
    command = (sys.executable, "-m", "tests.bench.pace", str(port), str(rate), str(seconds), str(heads), "sleeping")
    with on_core(LOAD):
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    # It ends with an error where an answer is no 200.
    return {} if process.returncode else json.loads(said)


async def measure(accounts: int, cache: str, seconds: float, lead_in: float = LEAD_IN_SECONDS) -> list[Row]:
    """One gateway with so many accounts, first idle and then loaded.

    Raises:
        AbsentError: it did not start.
    """
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(Servers(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        more = tuple(Stream(f"st-{number}", f"{number:024x}", CAMPAIGNS) for number in range(1, accounts))
        platform_ = await stack.enter_async_context(Sandbox(SandboxConfig(campaigns=CAMPAIGNS, streams=more)))
        redis = await stack.enter_async_context(redis_server(servers.folder)) if cache == REDIS else None
        commands = Commands(redis)
        stack.push_async_callback(commands.close)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        port, admin_port = free_port(), free_port()
        config = servers.folder / "gateway.yaml"
        url = "memory://" if redis is None else redis.url
        with config.open("w") as file:
            YAML(typ="safe", pure=True).dump(_settings(platform_, servers.folder, port, admin_port, url), file)
        pid = await servers.start([sys.executable, "-m", "campaign_gateway", "serve", "--config", config], port)
        subject = Subject(Server("gateway", port, pid), admin_port, commands, session)
        await asyncio.sleep(lead_in)
        rows = [await subject.idle(accounts, cache, seconds)]
        paths = [
            f"/v1/streams/s{number}/campaigns/{campaign.id}"
            for number, tenant in enumerate(platform_.tenants.values())
            for campaign in tenant.campaigns.all()
        ]
        heads = servers.folder / "heads"
        fields = f"Host: {HOST}|User-Agent: bench|Accept: */*|X-Request-ID: bench-"
        heads.write_text("".join(f"GET {path} HTTP/1.1|{fields}\n" for path in paths))
        is_warm = await subject.warm(paths)
        await asyncio.sleep(lead_in)
        return [*rows, await subject.loaded(accounts, cache, seconds, heads if is_warm else None)]


def _settings(platform_: Sandbox, folder: Path, port: int, admin_port: int, url: str) -> dict[str, Any]:
    streams = {
        f"s{number}": {"stream_id": tenant.stream_id, "account_id": tenant.account_id, "credential": "main"}
        for number, tenant in enumerate(platform_.tenants.values())
    }
    return settings_for(
        platform_,
        folder,
        listen=f"127.0.0.1:{port}",
        admin_listen=f"127.0.0.1:{admin_port}",
        streams=streams,
        cache={"url": url},
    )


def table(rows: list[Row]) -> str:
    """The rows for people."""
    head = f"{'accounts':>8} {'cache':>7}  {'load':17}{'cpu':>8}{'starved':>10}{'commands/s':>12}{'resident':>11}{'scrape':>11}"
    lines = [head + f"{'p50':>10}{'p99':>10}{'max':>10}"]
    for row in rows:
        times = [f"{value:.1f} ms" if row.reads and row.kept_up else "-" for value in (row.p50, row.p99, row.longest)]
        lines.append(
            f"{row.accounts:8,} {row.cache:>7}  {row.load:17}{row.cpu:6.1f} %{row.starved:8.1f} %{row.commands:12,.0f}"
            f"{row.resident:7.0f} MiB{row.scrape:8.1f} ms"
            + "".join(f"{text:>10}" for text in times)
            + ("" if row.kept_up else "  cannot keep up")
        )
    return "\n".join(lines)


@click.command()
@click.option("--accounts", "counts", type=click.IntRange(min=1), multiple=True, default=ACCOUNTS, show_default=True)
@click.option("--cache", "caches", type=click.Choice((MEMORY, REDIS)), multiple=True, default=(MEMORY, REDIS))
@click.option("--seconds", type=float, default=20.0, show_default=True, help="Measured time of each row.")
def main(counts: tuple[int, ...], caches: tuple[str, ...], seconds: float) -> None:
    """Measures what many accounts cost."""
    rows: list[Row] = []
    for cache in caches:
        for accounts in counts:
            rows += asyncio.run(measure(accounts, cache, seconds))
            print(table(rows[-2:]), file=sys.stderr, flush=True)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    print(table(rows) + f"\n\n{machine}")
    if (counts, caches) == (ACCOUNTS, (MEMORY, REDIS)):
        kept = {"machine": machine, "seconds": seconds, "rows": [asdict(row) for row in rows]}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "accounts.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
