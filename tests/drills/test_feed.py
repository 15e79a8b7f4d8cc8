"""The feed of changes while everything goes wrong that it is for: the simulated platform's own history is the judge."""

import asyncio
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from typing_extensions import override

from campaign_gateway.sandbox.campaigns import Campaign, Kind
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.listener import PATIENCE, Consumer, listening
from tests.support.redis_server import redis_server
from tests.support.waiting import until

SECONDS = float(os.environ.get("FEED", "120"))
SEED = int(os.environ.get("FEED_SEED", "1"))
REPLICAS = 3
CAMPAIGNS = 12
"""That change."""
LONGEST = 20.0
"""Seconds of the longest lifetime, which is the bound while no list gives one."""
SLACK = 1.0
"""Seconds that a change may take from the poll's end into the log, and a bound to be asked for, on a busy machine."""
SETTINGS: dict[str, Any] = {
    "budgets": {"default": {"calls": 600, "window": "60s"}},
    "freshness": {"max": f"{LONGEST:g}s", "status": {"Active": {"max": f"{LONGEST:g}s"}}},
}


@dataclass(frozen=True, slots=True)
class State:
    """What a campaign was from a moment on; each state has a name of its own, and no name is a deletion."""

    at: float
    id: str
    name: str | None
    status: str = ""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a gateway has published as the signal bound, and when."""

    at: float
    seconds: float
    by: str


class World:
    """Campaigns that are made, edited, put into other states, and deleted; and what each was, in order."""

    def __init__(self, sandbox: Sandbox, rng: Random) -> None:
        self.sandbox, self.rng = sandbox, rng
        quiet = [each for each in sandbox.campaigns.all() if each.due is None and each.status == "Ready"]
        self.ids = [each.id for each in quiet[:CAMPAIGNS]]
        self.model = next(each for each in quiet if each.kind is Kind.SMS)
        self.history: dict[str, list[State]] = defaultdict(list)

    async def change(self, seconds: float) -> None:
        """Changes some, now and then."""
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            number += 1
            self._change_one(f"state {number}")
            await asyncio.sleep(self.rng.expovariate(2.0))

    def _change_one(self, name: str) -> None:
        campaigns, id_ = self.sandbox.campaigns, self.rng.choice(self.ids)
        at, new = time.time(), {"name": name}
        match self.rng.choices(("edit", "status", "create", "delete"), (12, 5, 2, 2))[0]:
            case "delete" if len(self.ids) > CAMPAIGNS / 2:
                campaigns.delete(id_)
                self.ids.remove(id_)
                self.history[id_].append(State(at, id_, None))
                return
            case "create":
                made: Campaign | None = campaigns.create(Kind.SMS, {**self.model.fields, **new})
                self.ids += [made.id] if made is not None else []
            case "status":
                made = campaigns.edit(id_, {**new, "status": self.rng.choice(("Ready", "Paused", "Stopped"))})
            case _:
                made = campaigns.edit(id_, new)
        assert made is not None
        self.history[made.id].append(State(at, made.id, made.name, made.status))

    def names(self, id_: str) -> list[str]:
        return [state.name for state in self.history[id_] if state.name is not None]


class Holder(Consumer):
    """A consumer that holds each campaign's name and status, and reads all again when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, tuple[str, str]] = {}
        self.seen: dict[str, list[str]] = defaultdict(list)
        self.of_logs: list[list[dict[str, Any]]] = [[]]
        self.has_to_read = False

    @override
    def take(self, block: dict[str, str]) -> None:
        resets, count = self.resets, len(self.changes)
        super().take(block)
        if self.resets > resets:
            self.has_to_read = True
            self.of_logs.append([])
        for change in self.changes[count:]:
            self.of_logs[-1].append(change)
            # What was deleted while nobody looked is in no log.
            self.has_to_read |= change["type"] == "stream.recovered"
            if change["type"] == "campaign.deleted":
                self.held.pop(change["subject"], None)
            elif change["type"].startswith("campaign."):
                self.held[change["subject"]] = change["data"]["name"], change["data"]["status"]
                self.seen[change["subject"]].append(change["data"]["name"])

    async def read_again(self, gateway: GatewayProcess, ids: list[str]) -> None:
        """All that it holds, and what there is, as a reset asks for."""
        self.has_to_read = False
        for id_ in {*ids, *self.held}:
            headers = {"Cache-Control": "no-cache"}
            async with gateway.session.get(f"{gateway.url}/v1/campaigns/{id_}", headers=headers) as response:
                if response.status == 200:
                    data = (await response.json())["data"]
                    self.held[id_] = data["name"], data["status"]
                elif response.status == 404:
                    self.held.pop(id_, None)


class Ear(Consumer):
    """Hears all that is told, and notes when it was written down."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, float] = {}
        """When each name was."""
        self.reset_at: list[float] = []

    @override
    def take(self, block: dict[str, str]) -> None:
        resets, count = self.resets, len(self.changes)
        super().take(block)
        if self.resets > resets:
            self.reset_at.append(time.time())
        for change in self.changes[count:]:
            if "updatedAt" in change["data"]:
                self.told.setdefault(change["data"]["name"], datetime.fromisoformat(change["time"]).timestamp())

    async def hear(self, gateway: GatewayProcess) -> None:
        """Listens for as long as it runs."""
        while True:
            with suppress(aiohttp.ClientError, AssertionError):
                await self.listen(gateway)
            await asyncio.sleep(0.1)


@pytest.mark.drill(
    "the feed, while its leader is killed, Redis restarted empty, a replica stopped",
    planted="random edits, creations, deletions and states for two minutes; a consumer that goes on at another replica each "
    "few seconds",
    seen="it holds the platform's last state of each campaign; in each log no change twice, and all in order; "
    "at no moment was a change that is older than the signal bound published then not in the log",
)
@pytest.mark.timeout(SECONDS + 420)
async def test_a_consumer_holds_what_the_platform_does(tmp_path: Path, figure: Callable[[str], None]) -> None:
    rng, holder = Random(SEED), Holder()
    async with (
        Sandbox(SandboxConfig(campaigns=40, calls=100_000)) as sandbox,
        redis_server(tmp_path) as redis,
        AsyncExitStack() as stack,
    ):
        world = World(sandbox, rng)
        settings = settings_for(sandbox, tmp_path, cache={"url": redis.url, "timeout": "2s"}, **SETTINGS)
        gateways = [await stack.enter_async_context(gateway_process(settings, tmp_path)) for _ in range(REPLICAS)]
        await redis.wait_for_listeners(REPLICAS)
        ears, bounds = [Ear() for _ in gateways], list[Bound]()

        async def go_wrong() -> None:
            await asyncio.sleep(SECONDS * 0.25)
            leader = await leading(gateways)
            if leader is not None:
                gateways.remove(leader)
                leader.process.kill()
            await asyncio.sleep(SECONDS * 0.2)
            redis.kill()
            await asyncio.sleep(1.0)
            await redis.start()
            await asyncio.sleep(SECONDS * 0.2)
            stopped = gateways[-1]
            stopped.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(4.0)
            stopped.process.send_signal(signal.SIGCONT)

        async def consume() -> None:
            while True:
                gateway = rng.choice(gateways)
                with suppress(TimeoutError, aiohttp.ClientError, AssertionError):
                    async with asyncio.timeout(rng.uniform(2.0, 8.0)), listening(holder, gateway):
                        await until(lambda: holder.has_to_read, PATIENCE)
                if holder.has_to_read:
                    with suppress(aiohttp.ClientError):
                        await holder.read_again(gateway, world.ids)

        async def note_bounds() -> None:
            while True:
                for gateway in list(gateways):
                    at = time.time()
                    with suppress(aiohttp.ClientError, TimeoutError):
                        async with asyncio.timeout(SLACK):
                            bounds.append(Bound(at, await gateway.metric("signal_bound_seconds"), gateway.url))
                await asyncio.sleep(0.2)

        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(job) for job in (go_wrong(), consume(), note_bounds())]
            jobs += [group.create_task(ear.hear(gateway)) for ear, gateway in zip(ears, gateways, strict=True)]
            await asyncio.sleep(10.0)
            await world.change(SECONDS)
            with suppress(TimeoutError):
                await until(lambda: not missing(holder, world), 5 * PATIENCE)
            for job in jobs:
                job.cancel()
    assert missing(holder, world) == {}, "held, and at the platform"
    for log in holder.of_logs:
        states = Counter(
            (change["subject"], change["data"]["updatedAt"]) for change in log if "updatedAt" in change["data"]
        )
        assert max(states.values(), default=1) == 1, "a state twice in one log"
    for id_ in world.history:
        names = world.names(id_)
        places = [names.index(name) for name in dict.fromkeys(holder.seen[id_]) if name in names]
        assert places == sorted(places), f"{id_} out of order"
    reasons = {change["data"].get("reason") for ear in ears for change in ear.changes}
    assert "unread" in reasons, "after the reset nobody was told that the list is lost"
    judged, late = judge(world.history, ears, bounds)
    assert late == [], "a change not in the log, though it was older than the bound that was published"
    assert judged > len(bounds) / 4, "bounds that were given by lists"
    told = sum(map(len, holder.of_logs))
    figure(
        f"{sum(map(len, world.history.values()))} changes, {told} told, {holder.resets} resets, none lost, none twice; "
        f"{judged} of {len(bounds)} bounds were given by lists, and all kept"
    )


def judge(
    history: Mapping[str, list[State]], ears: list[Ear], bounds: list[Bound]
) -> tuple[int, list[tuple[Bound, State]]]:
    """How many of the bounds lists gave, and which were not kept, by which state.

    A state counts as told with a later one of the campaign. Of those before a reset, that one tells; a deletion moves no
    revision, so it is not in the signal bound.
    """
    told: dict[str | None, float] = {}
    for ear in ears:
        for name, at in ear.told.items():
            told[name] = min(at, told.get(name, at))
    resets, judged, late = sorted(at for ear in ears for at in ear.reset_at), 0, []
    for bound in bounds:
        if bound.seconds >= LONGEST:
            continue
        judged += 1
        known_at = max((at for at in resets if at <= bound.at), default=0.0)
        for states in history.values():
            due = [state for state in states if known_at < state.at < bound.at - bound.seconds - SLACK]
            later = [state for state in states if due and due[-1].at <= state.at < bound.at]
            if later and not any(state.name is None or told.get(state.name, bound.at) < bound.at for state in later):
                late.append((bound, due[-1]))
    return judged, late


def missing(holder: Holder, world: World) -> dict[str, tuple[tuple[str, str] | None, State]]:
    """What is held of each campaign that is not what the platform has, and that."""
    return {
        id_: (holder.held.get(id_), states[-1])
        for id_, states in world.history.items()
        if holder.held.get(id_) != (None if (last := states[-1]).name is None else (last.name, last.status))
    }


async def leading(gateways: list[GatewayProcess]) -> GatewayProcess | None:
    for gateway in gateways:
        if await gateway.metric("sweep_leading") == 1:
            return gateway
    return None
