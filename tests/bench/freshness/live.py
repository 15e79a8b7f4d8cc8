"""The same question to real processes in real time: the simulated platform, two gateways, and a Redis between them."""

import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import redis_server

CAMPAIGNS, USED, EDITS = 200, 50, 0.25
"""Half a hundred in use, so that the cold start takes one window and not four."""
CALLS = 60
WARM_UP, MEASURED, TAIL = 75.0, 120.0, 30.0
READ_SECONDS = 1.0
"""Between two reads of the same campaign from the same gateway, which is how exactly a change is seen to arrive."""


@dataclass(slots=True)
class Live:
    """What was seen, in seconds."""

    delays: list[float] = field(default_factory=list)
    """From an edit to the answer of each gateway that showed it."""
    unseen: int = 0
    most: int = 0
    calls: dict[str, float] = field(default_factory=dict)
    """Calls a minute, of the measured time."""
    signal: float = 0.0
    """The bound that the gateways published at the end."""


class _Run:
    def __init__(self, sandbox: Sandbox, gateways: list[GatewayProcess]) -> None:
        self._sandbox = sandbox
        self._gateways = gateways
        self._random = Random(1)
        self._ids = [campaign.id for campaign in sandbox.campaigns.all()]
        self._used = self._random.sample(self._ids, USED)
        self._edited: dict[str, list[float]] = {}
        self._seen: dict[tuple[int, str], list[float]] = {}
        self._began = time.monotonic()

    async def run(self) -> Live:
        whole = WARM_UP + MEASURED + TAIL
        async with asyncio.TaskGroup() as group:
            group.create_task(self._edit(WARM_UP + MEASURED))
            for number, gateway in enumerate(self._gateways):
                for campaign in self._used:
                    group.create_task(self._read(number, gateway, campaign, whole))
        live = Live()
        begin, end = self._began + WARM_UP, self._began + WARM_UP + MEASURED
        for number in range(len(self._gateways)):
            for campaign in self._used:
                seen = self._seen.get((number, campaign), [])
                for turn, at in enumerate(self._edited.get(campaign, ())):
                    if begin <= at < end and turn < len(seen):
                        live.delays.append(seen[turn] - at)
                    elif begin <= at < end:
                        live.unseen += 1
        arrivals = self._sandbox.log.since(0)
        live.most = most_in_window([arrival.monotonic for arrival in arrivals], 60.0)
        for arrival in arrivals:
            if begin <= arrival.monotonic < end:
                name = str(arrival.operation)
                live.calls[name] = live.calls.get(name, 0.0) + 60 / MEASURED
        live.signal = max([await gateway.metric("signal_bound_seconds") for gateway in self._gateways])
        return live

    async def _edit(self, seconds: float) -> None:
        while (left := self._began + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._random.expovariate(EDITS)))
            campaign = self._random.choice(self._ids)
            edited = self._edited.setdefault(campaign, [])
            edited.append(time.monotonic())
            self._sandbox.campaigns.edit(campaign, {"description": f"edit {len(edited)}"})

    async def _read(self, number: int, gateway: GatewayProcess, campaign: str, seconds: float) -> None:
        await asyncio.sleep(self._random.uniform(0, READ_SECONDS))
        while time.monotonic() < self._began + seconds:
            status, headers, body = await gateway.get(campaign)
            wait = READ_SECONDS
            if status == 200:
                said = json.loads(body)["data"]["description"]
                turn = int(said.removeprefix("edit ")) if said.startswith("edit ") else 0
                seen = self._seen.setdefault((number, campaign), [])
                seen.extend([time.monotonic()] * (turn - len(seen)))
            else:
                wait = max(wait, float(headers.get("Retry-After", "1")))
            await asyncio.sleep(wait)


async def measure() -> Live:
    """One run."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sandbox = await stack.enter_async_context(Sandbox(SandboxConfig(campaigns=CAMPAIGNS, calls=CALLS)))
        redis = await stack.enter_async_context(redis_server(folder))
        settings = settings_for(sandbox, folder, cache={"url": redis.url})
        gateways = [await stack.enter_async_context(gateway_process(settings, folder)) for _ in range(2)]
        return await _Run(sandbox, gateways).run()
