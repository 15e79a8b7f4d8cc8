"""Small real servers and clients on the loopback that speak bytes, so that they can also speak badly."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from ssl import SSLContext

Answer = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request as it came in, and the way back."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    """Of all requests to the server, from 1."""
    on_connection: int
    """Of the requests on its connection, from 1."""

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields as written."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Ends the connection with a RST."""
        peer = self.writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.writer.transport.abort()


@dataclass
class RawServer:
    port: int = 0
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client has gone before its answer, or after it."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def heads(self) -> list[bytes]:
        return [exchange.head for exchange in self.exchanges]


@asynccontextmanager
async def tcp_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """The port of a server on loopback that lets `serve` deal with each connection, which ends with it."""
    tasks = set[asyncio.Task[None]]()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the other side is gone, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(run, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


@asynccontextmanager
async def raw_server(answer: Answer, tls: SSLContext | None = None) -> AsyncIterator[RawServer]:
    """A server that reads request heads and lets `answer` deal with each, in order, until a connection ends."""
    server, tasks = RawServer(), set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        count = 0
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                count += 1
                exchange = Exchange(head, reader, writer, len(server.exchanges) + 1, count)
                server.exchanges.append(exchange)
                await answer(exchange)
        except (asyncio.IncompleteReadError, ConnectionError):
            server.lost.set()
        except asyncio.CancelledError:
            pass  # the server is closing
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
        for exchange in server.exchanges:
            exchange.writer.transport.abort()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class Answered:
    """One HTTP answer, read off the wire."""

    status: int
    version: bytes
    fields: Message
    body: bytes
    head: bytes

    def __getitem__(self, name: str) -> str | None:
        return self.fields.get(name)


def parse_answers(received: bytes, *, to_head: bool = False) -> list[Answered]:
    """The whole answers at the start of these bytes."""
    answers = []
    while (end := received.find(b"\r\n\r\n") + 4) > 3:
        head = received[:end]
        line, _, rest = head.partition(b"\r\n")
        version, status, *_ = line.split(b" ")
        fields = BytesParser().parsebytes(rest, headersonly=True)
        has_none = to_head or status in {b"304", b"204"}
        length = 0 if has_none else int(fields["Content-Length"] or 0)
        if len(received) < end + length:
            break
        answers.append(Answered(int(status), version, fields, received[end : end + length], head))
        received = received[end + length :]
    return answers


async def talk(port: int, *pieces: bytes, count: int = 1, to_head: bool = False) -> list[Answered]:
    """The answers to these bytes: until there are `count`, and where the last one closes, until it is closed.

    On a plain socket, because a stream loses what it has received when a later piece cannot be sent.
    """
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(peer, ("127.0.0.1", port))

        async def send() -> None:
            for piece in pieces:
                await loop.sock_sendall(peer, piece)
                for _ in range(3):
                    await asyncio.sleep(0)

        sending = asyncio.create_task(send())  # noqa: TID251
        received = b""
        try:
            while True:
                answers = parse_answers(received, to_head=to_head)
                if len(answers) >= count and answers[-1]["Connection"] != "close":
                    return answers
                piece = await _receive(peer)
                if not piece:
                    return answers
                received += piece
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def _receive(peer: socket.socket) -> bytes:
    try:
        return await asyncio.get_running_loop().sock_recv(peer, 2**16)
    except ConnectionError:
        return b""
