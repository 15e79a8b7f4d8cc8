"""The clock that replicas share, while their server's is set, lost and replaced."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ReadOnlyError, ResponseError

from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink
from tests.support.meters import CountingMeter
from tests.support.virtual_time import VirtualLoop, virtual_time

KEYS = Keys("cg")
KEY = KEYS.clock
pytestmark = pytest.mark.drill(
    "Redis' clock is set back",
    planted="a server whose time steps, a copy that is behind, lost or odd values of the correction",
    seen="all replicas go on by the time before the step; a clock set forward is followed",
)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with virtual_time() as loop:
        yield loop


class Server:
    """As much of a client, and of the server behind it, as the link asks for."""

    def __init__(self) -> None:
        self.step = 0.0
        """By which its clock is off the true one."""
        self.values: dict[str, object] = {}
        self.refuses: dict[str, Exception] = {}

    async def time(self) -> tuple[int, int]:
        now = time.time() + self.step
        return int(now), int(now % 1 * 1e6)

    async def get(self, key: str) -> object:
        if "get" in self.refuses:
            raise self.refuses["get"]
        return self.values.get(key)

    async def set(self, key: str, value: str) -> None:
        if "set" in self.refuses:
            raise self.refuses["set"]
        self.values[key] = value.encode()

    async def ping(self) -> None: ...

    def register_script(self, _text: str) -> Any:
        async def run(**_: Any) -> None: ...

        return run

    async def config_get(self, _name: str) -> dict[str, str]:
        return {}


class Replica:
    def __init__(self, server: Any) -> None:
        self.clock, self.steps = StoreClock(), 0
        self.link = RedisLink(server, self.clock, CountingMeter(), KEYS)

    async def look(self) -> float:
        """By how much the shared clock is ahead of the true one afterwards."""
        await self.link.look()
        assert self.link.is_up
        self.clock.on_step = self._count
        return round(self.clock.now() - time.time(), 3)

    def _count(self) -> None:
        self.steps += 1


async def _looks(server: Server, step: float, **refuses: Exception) -> tuple[list[float], list[int]]:
    replicas = [Replica(server), Replica(server)]
    for replica in replicas:
        await replica.look()
    server.step, server.refuses = server.step + step, refuses
    ahead = [await replica.look() for replica in (*replicas, *replicas)]
    newcomer = Replica(server)
    return [*ahead, await newcomer.look()], [replica.steps for replica in replicas]


@pytest.mark.parametrize(
    ("before", "step", "after", "steps"),
    [
        pytest.param(0.0, -3600.0, 0.0, 0, id="an-hour-back"),
        pytest.param(30.0, -30.0, 30.0, 0, id="set-right-after-it-was-ahead"),
        pytest.param(0.0, -1.5, 0.0, 0, id="back-by-little"),
        pytest.param(0.0, -0.5, -0.5, 0, id="back-by-less-than-a-step"),
        pytest.param(0.0, 3600.0, 3600.0, 1, id="an-hour-forward"),
    ],
)
def test_the_shared_clock_does_not_go_back(
    loop: VirtualLoop, before: float, step: float, after: float, steps: int
) -> None:
    server = Server()
    server.step = before
    assert loop.run_until_complete(_looks(server, step)) == ([after] * 5, [steps] * 2)


def test_one_step_after_the_other_is_made_up_for(loop: VirtualLoop) -> None:
    server, replica = Server(), Replica(Server())
    replica.link.client = server

    async def looks() -> list[float]:
        ahead = []
        for step in (0.0, -10.0, 50.0, -30.0, 0.0):
            server.step = step
            ahead.append(await replica.look())
        return ahead

    assert loop.run_until_complete(looks()) == [0.0, 0.0, 60.0, 60.0, 90.0]


@pytest.mark.parametrize("value", [None, b"0.000000", b"", b"x", b"-5.000000", b"nan", b"1e9", b"9999999999.000000"])
def test_a_correction_that_is_lost_or_none_is_written_again(loop: VirtualLoop, value: bytes | None) -> None:
    server = Server()
    replica = Replica(server)

    async def looks() -> list[float]:
        await replica.look()
        server.step = -100.0
        await replica.look()
        server.values[KEY] = value
        return [await replica.look(), await Replica(server).look()]

    assert loop.run_until_complete(looks()) == [0.0, 0.0]


@pytest.mark.parametrize(
    "refuses", [{"set": ReadOnlyError()}, {"set": NoPermissionError()}, {"set": ResponseError("OOM")}]
)
def test_where_it_cannot_be_written_down_the_server_is_followed(
    loop: VirtualLoop, refuses: dict[str, Exception]
) -> None:
    assert loop.run_until_complete(_looks(Server(), -100.0, **refuses)) == ([-100.0] * 5, [1, 1])


def test_who_may_not_read_it_goes_on_with_what_is_known(loop: VirtualLoop) -> None:
    ahead, _ = loop.run_until_complete(_looks(Server(), 0.0, get=NoPermissionError()))
    assert ahead == [0.0] * 5
