import asyncio

import pytest
from typing_extensions import override

from campaign_gateway.upstream import connection as connection_module
from campaign_gateway.upstream.connection import PlatformConnection

PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"a" * 300_000
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"


class Transport(asyncio.Transport):
    """Whether bytes are taken from the platform."""

    is_closed = is_paused = False

    @override
    def close(self) -> None:
        self.is_closed = True

    @override
    def is_closing(self) -> bool:
        return self.is_closed

    @override
    def pause_reading(self) -> None:
        self.is_paused = True

    @override
    def resume_reading(self) -> None:
        self.is_paused = False


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
async def connection(transport: Transport) -> PlatformConnection:
    made = PlatformConnection(2**18, asyncio.get_running_loop())
    made.connection_made(transport)
    made.set_response_params()
    return made


async def turns(transport: Transport) -> int:
    """How many turns of the loop it takes until bytes are taken again."""
    count = 0
    while transport.is_paused and not transport.is_closed:
        await asyncio.sleep(0)
        count += 1
    return count


@pytest.fixture
def no_time(monkeypatch):
    monkeypatch.setattr(connection_module, "TURN_SECONDS", -1.0)


@pytest.mark.drill("no end of interim answers, of a head, of chunks, of answers unasked for")
@pytest.mark.usefixtures("no_time")
async def test_what_takes_long_to_parse_gives_others_their_turn(connection: PlatformConnection, transport: Transport):
    connection.data_received(CHUNKS)
    connection.data_received(b"")
    assert await turns(transport) > 5
    _, body = await connection.read()
    assert await body.read() == b"a" * 10_000
    assert not connection.should_close


@pytest.mark.usefixtures("no_time")
async def test_what_comes_between_two_turns_keeps_its_place(connection: PlatformConnection, transport: Transport):
    connection.data_received(BODY[:100_000])
    connection.data_received(BODY[100_000:])
    await turns(transport)
    _, body = await connection.read()
    assert await body.read() == b"a" * 300_000


@pytest.mark.usefixtures("no_time")
async def test_a_connection_that_is_lost_between_two_turns_loses_nothing(connection: PlatformConnection):
    connection.data_received(BODY)
    connection.connection_lost(None)
    _, body = await connection.read()
    assert await body.read() == b"a" * 300_000


@pytest.mark.drill(
    "no end of interim answers, of a head, of chunks, of answers unasked for",
    planted="100,000 of each, 256 KiB of fields",
    seen="the call ends, others have their turn, the connection is not used again",
)
@pytest.mark.parametrize("run", [PROCESSING * 20_000, EMPTY * 20_000], ids=["interim", "final"])
async def test_a_run_of_answers_ends_the_connection(connection: PlatformConnection, transport: Transport, run: bytes):
    connection.data_received(run)
    await turns(transport)
    assert transport.is_closed
    assert len(connection) < 1_000, "of those after the first"
    assert connection.should_close


@pytest.mark.usefixtures("no_time")
async def test_a_connection_with_bytes_that_nobody_has_parsed_is_not_used_again(connection: PlatformConnection):
    connection.data_received(EMPTY + PROCESSING * 1_000)
    assert (await connection.read())[0].code == 200
    assert connection.should_close


async def test_each_request_has_bounds_of_its_own(connection: PlatformConnection):
    for _ in range(5):
        connection.data_received(PROCESSING * 3_000 + EMPTY)
        assert (await connection.read())[0].code == 200
        assert not connection.should_close
        connection.set_response_params()
