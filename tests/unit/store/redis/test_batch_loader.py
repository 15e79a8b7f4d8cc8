import asyncio
from collections.abc import Sequence

import pytest

from campaign_gateway.store.redis import batch_loader as module
from campaign_gateway.store.redis.batch_loader import Lookups
from tests.support.doubles import turns


class Server:
    """Answers each name with itself in capitals; a trip waits until it is let go."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.gates: list[asyncio.Future[None]] = []
        self.lookups = Lookups(self.fetch)

    async def fetch(self, names: list[str]) -> Sequence[object]:
        self.trips.append(names)
        gate = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return [name.upper() for name in names]

    def ask(self, *names: str, part: int = 0) -> asyncio.Task[Sequence[object]]:
        return asyncio.ensure_future(self.lookups.get(part, names))  # noqa: TID251

    async def let_go(self, error: Exception | None = None) -> None:
        await turns()
        gate = self.gates.pop(0)
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)
        await turns()


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_alone_a_look_up_goes_out_at_once(server: Server) -> None:
    asked = server.ask("a", "g")
    await server.let_go()
    assert await asked == ["A", "G"]
    assert server.trips == [["a", "g"]]


async def test_those_that_come_meanwhile_go_out_together_and_each_name_once(server: Server) -> None:
    asked = [server.ask(name, "g") for name in ("a", "b", "c", "b")]
    await server.let_go()
    assert server.trips == [["a", "g"], ["b", "g", "c"]]
    await server.let_go()
    assert await asyncio.gather(*asked) == [["A", "G"], ["B", "G"], ["C", "G"], ["B", "G"]]
    last = server.ask("d", "g")
    await server.let_go()
    assert await last == ["D", "G"]
    assert len(server.trips) == 3, "and then it is as before"


async def test_parts_do_not_wait_for_each_other(server: Server) -> None:
    first, second = server.ask("a", part=1), server.ask("b", part=2)
    await turns()
    assert server.trips == [["a"], ["b"]]
    await server.let_go()
    await server.let_go()
    assert [await first, await second] == [["A"], ["B"]]


async def test_a_failure_reaches_all_who_went_together_and_nobody_else(server: Server) -> None:
    asked = [server.ask(name) for name in "abc"]
    await server.let_go(ConnectionError("alone"))
    later = server.ask("d")
    await server.let_go(ConnectionError("together"))
    await server.let_go()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["alone", "together", "together"]
    assert await later == ["D"]


async def test_who_gives_up_takes_nobody_along(server: Server) -> None:
    first, second, third = (server.ask(name) for name in "abc")
    await turns()
    first.cancel()
    await turns()
    second.cancel()
    await turns()
    assert server.trips == [["a"], ["b", "c"]], "the first one's end lets the others go"
    del server.gates[0]
    await server.let_go()
    assert await third == ["C"]


async def test_a_trip_has_a_largest_size(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_AT_ONCE", 2)
    asked = [server.ask(name) for name in "abcd"]
    for _ in range(3):
        await server.let_go()
    assert server.trips == [["a"], ["b", "c"], ["d"]]
    assert await asyncio.gather(*asked) == [["A"], ["B"], ["C"], ["D"]]


async def test_nobody_waits_for_ever_when_the_gateway_stops(server: Server) -> None:
    first, second = server.ask("a"), server.ask("b")
    await server.let_go()
    await server.lookups._tasks.close()
    with pytest.raises(ConnectionAbortedError):
        await second
    assert await first == ["A"]
