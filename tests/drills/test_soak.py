"""The soak: a fleet under a mixed load while one thing after another goes wrong, its clocks among them.

The truth is the simulated platform's: each answer's body must have been true within its `Age`, and its log counts the calls.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from campaign_gateway.problems import Problem
from campaign_gateway.sandbox.faults import FaultName
from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.drills.callers import Caller, Reply, Wish, draw
from tests.drills.probes import FakedClock, TurnWatch
from tests.support.estate import KEYS, clients
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer

SECONDS = float(os.environ.get("SOAK", "1200"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
CALLERS = 45
CALLS, WINDOW = 30, 10.0
BOUND_SECONDS = 141.0
"""No answer may be older: `freshness.max` and `stale_if_error`, and a second that `Age` is rounded by."""
SLACK_SECONDS = 2.5
"""An `Age` in whole seconds, a clock of Redis that is read each second, and the way of an edit to this file's list."""
RECOVERY_SECONDS = 90.0
NO_CACHE = "Cache-Control: no-cache\r\n"
GROWTH = 1.15
"""Memory of the last quarter to that of the second: more is a leak."""
DESIGNED = {problem.value.name for problem in Problem} - {Problem.INTERNAL.value.name}

PLATFORM_FAULTS: Mapping[str, Mapping[str, Any]] = {
    name: {}
    for name in FaultName
    if name not in {FaultName.LIST_UNSORTED, FaultName.LIST_LAG, FaultName.MARKS_FROZEN, FaultName.STATUS}
    and name not in {FaultName.TOTAL_OF_PAGE, FaultName.TOTAL_HIDDEN, FaultName.ROWS_DIFFER}
} | {
    FaultName.LIMIT_429_SECONDS: {"retry_after_seconds": 3},
    FaultName.LIMIT_429_DATE: {"retry_after_seconds": 3},
    FaultName.SLOW_BODY: {"seconds": 0.2, "size_bytes": 40},
}


@dataclass
class Truth:
    """What each campaign was called, and since when on the monotonic clock."""

    names: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def note(self, campaign: str, name: str) -> None:
        self.names.setdefault(campaign, [(float("-inf"), name)]).append((time.monotonic(), name))

    def held(self, campaign: str, name: str, since: float) -> bool:
        """Whether it was called so at some moment from then on."""
        history = self.names[campaign]
        ends = [moment for moment, _ in history[1:]] + [float("inf")]
        return any(name == was and end >= since for (_, was), end in zip(history, ends, strict=True))


@dataclass
class Fleet:
    """What the soak drives and looks at."""

    sandbox: Sandbox
    redis: RedisServer
    gateways: list[GatewayProcess]
    clocks: Mapping[str, FakedClock]
    random: Random
    truth: Truth = field(default_factory=Truth)
    seen: Counter[tuple[int, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=12))
    excused: set[GatewayProcess] = field(default_factory=set)
    """Those of which a process was killed just now: what it had taken on is lost."""

    def pids(self, gateway: GatewayProcess) -> list[int]:
        """The processes that serve: the service's own, or its workers."""
        pid = gateway.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children] or [pid]

    def blame(self, what: str) -> None:
        self.wrong.append(f"{what}; lately: {', '.join(self.history)}")


@asynccontextmanager
async def fleet(folder: Path, watch: TurnWatch) -> AsyncIterator[Fleet]:
    """Two services of one process and one of two workers, each wall clock and Redis' own in the drill's hands."""
    clocks = {name: FakedClock(folder / f"clock-{name}") for name in ("redis", "gateway")}
    redis = RedisServer(folder)
    redis.environ = clocks["redis"].environ
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(SandboxConfig(campaigns=12, calls=10**6)))
        await redis.start()
        stack.callback(redis.kill)
        settings = settings_for(
            sandbox,
            folder,
            clients=clients(),
            cache={"url": redis.url, "timeout": "500ms"},
            budgets={"default": {"calls": CALLS, "window": f"{WINDOW}s"}},
            freshness={"max": "20s", "min": "2s", "stale_while_revalidate": "5s", "stale_if_error": "120s"},
        )
        environs = [watch.environ, watch.environ | clocks["gateway"].environ, watch.environ]
        gateways = [
            await stack.enter_async_context(gateway_process(settings | {"workers": workers}, folder, environ))
            for workers, environ in zip((1, 1, 2), environs, strict=True)
        ]
        yield Fleet(sandbox, redis, gateways, clocks, Random(SEED))


async def call(fleet: Fleet, gateway: GatewayProcess, ends: float, seed: str) -> None:
    """One caller: asks, waits a little, and judges each answer."""
    random, caller = Random(seed), Caller(int(gateway.url.rpartition(":")[2]))
    ids = [campaign.id for campaign in fleet.sandbox.campaigns.all()]
    while time.monotonic() < ends:
        await asyncio.sleep(random.random() * 0.3)
        wish, began = draw(random, ids, KEYS), time.monotonic()
        try:
            if random.random() < 0.02:
                async with asyncio.timeout(0.05):
                    reply = await caller.ask(wish.raw)
            else:
                reply = await caller.ask(wish.raw)
        except TimeoutError:
            fleet.seen[0, "the caller gave up"] += 1
            if time.monotonic() - began > 1 and gateway not in fleet.excused:
                fleet.blame(f"no answer to {wish.line}")
        except (OSError, EOFError) as error:
            fleet.seen[0, "lost"] += 1
            if gateway not in fleet.excused:
                fleet.blame(f"{type(error).__name__} for {wish.line}")
        else:
            judge(fleet, wish, reply, began)
    caller.hang_up()


def judge(fleet: Fleet, wish: Wish, reply: Reply, began: float) -> None:
    """Counts an answer, and notes what is wrong with it."""
    fleet.seen[reply.status, reply.problem] += 1
    if reply.status >= 400 and reply.problem not in DESIGNED:
        fleet.blame(f"{reply.status} for {wish.line}: {reply.body[:200]!r}")
    if not wish.campaign or reply.status != 200:
        return
    name = re.search(rb'"name":\s*"([^"]*)"', reply.body)
    age = int(reply.fields["Age"])
    if name is None or not fleet.truth.held(wish.campaign, name[1].decode(), began - age - SLACK_SECONDS):
        fleet.blame(f"{wish.campaign} was not {name and name[1]!r} within Age: {age} ({reply.fields['Cache-Status']})")
    if age > BOUND_SECONDS:
        fleet.blame(f"{wish.campaign} with Age: {age}")


async def edit(fleet: Fleet, ends: float) -> None:
    """Someone at the platform who renames one campaign after the other."""
    campaigns, number = fleet.sandbox.campaigns, 0
    for campaign in campaigns.all():
        fleet.truth.note(campaign.id, campaign.name)
    while time.monotonic() < ends:
        number += 1
        chosen = fleet.random.choice(campaigns.all()).id
        campaigns.edit(chosen, {"name": f"n-{number}"})
        fleet.truth.note(chosen, f"n-{number}")
        await asyncio.sleep(fleet.random.uniform(0.5, 4.0))


async def platform_fails(fleet: Fleet) -> None:
    name = fleet.random.choice(list(PLATFORM_FAULTS))
    fleet.history.append(name)
    fleet.faults["the platform's answers"] += 1
    fault = fleet.sandbox.faults.add(name, **PLATFORM_FAULTS[name])
    await asyncio.sleep(fleet.random.uniform(4.0, 12.0))
    fleet.sandbox.faults.remove(fault.id)


async def redis_hangs(fleet: Fleet) -> None:
    fleet.redis.pause()
    await asyncio.sleep(fleet.random.uniform(0.5, 6.0))
    fleet.redis.resume()


async def redis_dies(fleet: Fleet) -> None:
    fleet.redis.kill()
    await asyncio.sleep(fleet.random.uniform(0.1, 5.0))
    await fleet.redis.start()


async def redis_command(fleet: Fleet, *words: str) -> None:
    client = fleet.redis.client()
    await client.execute_command(*words)
    await client.aclose()


async def redis_forgets(fleet: Fleet) -> None:
    await redis_command(fleet, "FLUSHALL")


async def redis_forgets_scripts(fleet: Fleet) -> None:
    await redis_command(fleet, "SCRIPT", "FLUSH")


async def redis_drops_clients(fleet: Fleet) -> None:
    await redis_command(fleet, "CLIENT", "KILL", "TYPE", "normal")
    await redis_command(fleet, "CLIENT", "KILL", "TYPE", "pubsub")


async def redis_lies(fleet: Fleet) -> None:
    client = fleet.redis.client()
    for key in await client.keys("cg:[efil]*"):
        if fleet.random.random() < 0.3:
            await client.set(key, fleet.random.randbytes(fleet.random.randrange(200)))
    await client.aclose()


async def redis_clock_steps(fleet: Fleet) -> None:
    await step(fleet, "redis")


async def own_clock_steps(fleet: Fleet) -> None:
    await step(fleet, "gateway")


async def step(fleet: Fleet, whose: str) -> None:
    """Off by up to an hour, and set right again."""
    seconds = fleet.random.choice((-3600.0, -90.0, -15.0, -2.0, 2.0, 15.0, 90.0, 3600.0))
    fleet.history.append(f"{whose} {seconds:+}")
    fleet.clocks[whose].step(seconds)
    await asyncio.sleep(fleet.random.uniform(3.0, 20.0))
    fleet.clocks[whose].step(0.0)
    await asyncio.sleep(2.0)


async def process_stands_still(fleet: Fleet) -> None:
    gateway = fleet.random.choice(fleet.gateways[:2])
    gateway.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(fleet.random.uniform(1.0, 8.0))
    gateway.process.send_signal(signal.SIGCONT)


async def worker_dies(fleet: Fleet) -> None:
    gateway = fleet.gateways[2]
    fleet.excused.add(gateway)
    os.kill(fleet.random.choice(fleet.pids(gateway)), signal.SIGKILL)
    await asyncio.sleep(4.0)
    fleet.excused.discard(gateway)


async def odd_connections(fleet: Fleet) -> None:
    starts = (b"", b"GET / HT", b"\x16\x03\x01", b"GET /v1/campaigns/c1 HTTP/1.1\r\nHost: x\r\n")
    streams = []
    for _ in range(100):
        port = int(fleet.random.choice(fleet.gateways).url.rpartition(":")[2])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(fleet.random.choice(starts))
        streams.append(writer)
    await asyncio.sleep(2.0)
    for writer in streams:
        writer.transport.abort()


FAULTS: tuple[tuple[float, Callable[[Fleet], Awaitable[None]]], ...] = (
    (10.0, platform_fails),
    (1.0, redis_hangs),
    (1.0, redis_dies),
    (1.0, redis_forgets),
    (1.0, redis_forgets_scripts),
    (1.0, redis_drops_clients),
    (1.0, redis_lies),
    (2.0, redis_clock_steps),
    (2.0, own_clock_steps),
    (1.0, process_stands_still),
    (1.0, worker_dies),
    (1.0, odd_connections),
)


async def break_things(fleet: Fleet, ends: float) -> None:
    """One fault after the other, with a quiet time at the end."""
    weights, faults = zip(*FAULTS, strict=True)
    while time.monotonic() < ends - min(20.0, SECONDS / 4):
        fault = fleet.random.choices(faults, weights)[0]
        fleet.history.append(fault.__name__)
        if fault is not platform_fails:
            fleet.faults[fault.__name__.replace("_", " ")] += 1
        await fault(fleet)
        await asyncio.sleep(fleet.random.uniform(1.0, 6.0))


async def sample(fleet: Fleet, ends: float) -> list[list[float]]:
    """The memory in MiB of the first two processes, every five seconds."""
    samples: list[list[float]] = []
    while time.monotonic() < ends:
        samples.append([_resident(gateway.process.pid) for gateway in fleet.gateways[:2]])
        await asyncio.sleep(5.0)
    return samples


def _resident(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def growth(samples: list[list[float]]) -> float:
    """How much the last quarter of the samples is above the second one, as a ratio, in the process where it is most."""
    quarter = max(1, len(samples) // 4)
    second, last = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    return max(
        sum(part[of] for part in last) / len(last) / (sum(part[of] for part in second) / len(second)) for of in (0, 1)
    )


@pytest.mark.drill(
    "everything, one after the other and again",
    planted="a mixed load on three services while the platform, Redis, clocks, processes and callers go wrong at random",
    seen="each body true within its `Age`, no call beyond the budget, no 5xx that is not designed, memory flat, no task ended",
)
@pytest.mark.timeout(SECONDS + 240)
async def test_a_fleet_under_random_faults(tmp_path: Path, figure: Callable[[str], None]) -> None:
    watch = TurnWatch(tmp_path / "watch")
    async with fleet(tmp_path, watch) as running:
        ends = time.monotonic() + SECONDS
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(sample(running, ends))
            group.create_task(edit(running, ends))
            group.create_task(break_things(running, ends))
            for number in range(CALLERS):
                gateway = running.gateways[number % 3]
                group.create_task(call(running, gateway, ends, f"{SEED} {number}"))
        arrivals = [arrival.monotonic for arrival in running.sandbox.log.since(0)]
        worst, grown, turn = most_in_window(arrivals, WINDOW), growth(sampling.result()), watch.longest()
        asked = sum(running.seen.values())
        figure(f"{SECONDS:.0f} s, seed {SEED}, {asked:,} requests, {sum(running.faults.values())} faults")
        figure(f"{len(arrivals):,} calls, {worst} of {CALLS} in the fullest {WINDOW:.0f} s")
        figure(f"memory x {grown:.2f}, longest turn {turn * 1000:.0f} ms")
        for (status, problem), count in sorted(running.seen.items()):
            sys.stdout.write(f"{status} {problem} {count}\n")
        sys.stdout.write(f"{dict(running.faults)}\n")
        assert not running.wrong, kinds(running.wrong)
        for gateway in running.gateways:
            await recover(running, gateway)
            assert await gateway.metric("task_failures_total") == 0
            traces = [line for line in gateway.log if "Traceback" in line or "never retrieved" in line]
            assert not traces
    assert worst <= CALLS
    assert grown <= GROWTH


async def recover(fleet: Fleet, gateway: GatewayProcess) -> None:
    """Returns when all is well again but the list's trust, which takes its time; a pause ends with a call that is accepted."""
    ids, not_ok = [campaign.id for campaign in fleet.sandbox.campaigns.all()], {}
    caller = Caller(int(gateway.url.rpartition(":")[2]))
    ends = time.monotonic() + RECOVERY_SECONDS
    while time.monotonic() < ends:
        await caller.ask(Wish(f"GET /v1/campaigns/{fleet.random.choice(ids)}", KEYS["reader"], more=NO_CACHE).raw)
        parts = (await gateway.get_json("/readyz"))["parts"]
        not_ok = {name: part for name, part in parts.items() if part["status"] != "ok" and name != "sweep"}
        if not not_ok:
            break
        await asyncio.sleep(0.5)
    assert not not_ok
    caller.hang_up()


def kinds(wrong: list[str]) -> str:
    """How often each kind of mistake was made, and the first of each."""
    first: dict[str, str] = {}
    counted = Counter(re.sub(r"cd-[\w-]+|\d+", "#", text.partition(";")[0])[:70] for text in wrong)
    for text in wrong:
        first.setdefault(re.sub(r"cd-[\w-]+|\d+", "#", text.partition(";")[0])[:70], text)
    return "\n".join(f"{count} x {first[kind]}" for kind, count in counted.most_common(12))
