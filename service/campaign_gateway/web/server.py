"""The HTTP server under the API: aiohttp's own protocol, with its error answers made ours.

Below the router, because what the parser refuses never reaches one: its stock answer repeats the offending line, which
may hold a client key, and its logger writes it.
"""

import asyncio
import logging
import random
import re
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
from typing_extensions import override

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem

MAX_TARGET_BYTES = 32_768
MAX_FIELD_BYTES = 16_384
MAX_FIELDS = 100
KEEPALIVE_SECONDS = 75.0
ROOM_AGAIN = 0.9
"""The part of the connections that may be open when a server that was full says that it has room again."""
AGE_SPREAD = 0.1
"""The part of a connection's greatest age by which it may be more or less."""
LINGER_SECONDS = 2.0
"""How long an unread request body is drained before the connection is closed."""

OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})

_VERSIONS = frozenset({HttpVersion10, HttpVersion11})
_HOST = re.compile(r"[A-Za-z0-9.\-_~%\[\]:]+")
_log = logging.getLogger(__name__)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Refuse = Callable[[Failure], web.Response]
"""Makes the answer for a request that never became one, and counts it."""


@contextmanager
def when_lost(http: web.BaseRequest, look: Callable[[], None]) -> Iterator[None]:
    """Has this called if the request's connection is lost before the block ends: aiohttp tells no handler."""
    connection = http.protocol
    if not isinstance(connection, Connection):
        raise TypeError("a connection of another server")
    connection.on_lost = look
    try:
        yield
    finally:
        connection.on_lost = None


class Connection(web.RequestHandler):
    """One connection. Every error answer is a problem document that repeats nothing of the request."""

    __slots__ = ("_aging", "_is_old", "_max_age", "_refuse", "on_lost")

    def __init__(self, manager: web.Server, refuse: Refuse, max_age: float | None = None, **options: object) -> None:
        """A connection that an answer closes after `max_age` seconds, a tenth more or less; None: never."""
        super().__init__(manager, **options)  # type: ignore[arg-type]
        self._refuse = refuse
        self._max_age = max_age
        self._aging: asyncio.TimerHandle | None = None
        self._is_old = False
        self.on_lost: Callable[[], None] | None = None
        """Called when it is lost; see `when_lost`."""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._max_age is not None:
            # Connections that came at once, after a restart say, do not come again at once.
            spread = random.uniform(1 - AGE_SPREAD, 1 + AGE_SPREAD)  # noqa: S311 - nobody gains by guessing it
            self._aging = self._loop.call_later(self._max_age * spread, self.grow_old)

    @override
    def connection_lost(self, exc: BaseException | None) -> None:
        if self._aging is not None:
            self._aging.cancel()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def grow_old(self) -> None:
        """Has the next answer close the connection."""
        self._is_old = True

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        # Requests that wait behind this one are answered first.
        if self._is_old and not self._messages and not resp.prepared:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    @override
    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("the answer was begun already")
        if isinstance(exc, LineTooLong) and exc.args[1] == MAX_FIELD_BYTES:
            failure = Failure(Problem.HEADER_TOO_LARGE, f"a header field is longer than {MAX_FIELD_BYTES} bytes")
        elif isinstance(exc, LineTooLong):
            failure = Failure(Problem.INVALID_REQUEST, f"the request target is longer than {MAX_TARGET_BYTES} bytes")
        elif status < 500:  # noqa: PLR2004 - the parser's verdicts are 4xx
            failure = Failure(Problem.INVALID_REQUEST, "the request is not well-formed HTTP/1.1")
        else:
            _log.error("request failed", exc_info=exc)
            failure = Failure(Problem.INTERNAL, "an error in the gateway; its log has the request id")
        response = self._refuse(failure)
        response.force_close()
        return response


class Server(web.Server):
    """Makes connections."""

    def __init__(
        self,
        handler: Handler,
        refuse: Refuse,
        connect: Callable[..., Connection] = Connection,
        *,
        keepalive: float = KEEPALIVE_SECONDS,
        most: int = sys.maxsize,
        count_refused: Callable[[], None] = lambda: None,
        max_age: float | None = None,
    ) -> None:
        """A server that closes what comes beyond `most` connections, and has each of them counted.

        Connections grow at most `max_age` seconds old, see `Connection`.
        """
        super().__init__(handler)
        self._keepalive = keepalive
        self._most = most
        self._count_refused = count_refused
        self._max_age = max_age
        self.is_full = False
        """Whether connections have been refused since there was room."""
        self._refuse = refuse
        self._connect = connect
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._all_lost = asyncio.Event()
        self._all_lost.set()

    @property
    def open_count(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def in_flight(self) -> int:
        """How many requests are being answered."""
        return sum(connection._current_request is not None for connection in self._open)  # noqa: SLF001

    def transports(self) -> Collection[asyncio.Transport]:
        """Those of all open connections."""
        return self._open.values()

    @override
    def __call__(self) -> web.RequestHandler:
        return self._connect(
            self,
            self._refuse,
            self._max_age,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=self._keepalive,
            lingering_time=LINGER_SECONDS,
            # The listening sockets have it: to ask for it on each connection takes as long as half a hit.
            tcp_keepalive=False,
            max_line_size=MAX_TARGET_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            max_headers=MAX_FIELDS,
        )

    @override
    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._open[handler] = transport
        self._all_lost.clear()
        if len(self._open) > self._most:
            self._turn_away(transport)

    def _turn_away(self, transport: asyncio.Transport) -> None:
        # Accepted first: in the kernel's queue it would look like a gateway that hangs. And set up, for aiohttp's sake.
        self._loop.call_soon(transport.abort)
        self._count_refused()
        if not self.is_full:
            self.is_full = True
            _log.warning(
                "%d callers are connected, and there are file descriptors for no more: others are refused", self._most
            )

    @override
    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._open.pop(handler, None)
        if self.is_full and len(self._open) <= self._most * ROOM_AGAIN:
            self.is_full = False
            _log.info("connections of callers are accepted again")
        if not self._open:
            self._all_lost.set()

    @override
    async def shutdown(self, timeout: float | None = None) -> None:
        """Ends all connections within `timeout` seconds, once each has sent what it has to send.

        aiohttp waits that long for the answers, once more after giving them up, and not at all for bytes that wait for
        their reader.
        """
        try:
            async with asyncio.timeout(timeout):
                await super().shutdown(timeout)
                await self._all_lost.wait()
        except TimeoutError:
            for connection, transport in self._open.items():
                if connection._task_handler is not None:  # noqa: SLF001 - as aiohttp does in the end
                    connection._task_handler.cancel()  # noqa: SLF001
                transport.abort()


def insist_on_compiled_parser() -> None:
    """Refuses to run on aiohttp's pure-Python parser, which is slower and accepts more.

    Raises:
        RuntimeError: the compiled one is not there.
    """
    if HttpRequestParser is HttpRequestParserPy:
        raise RuntimeError("aiohttp runs without its compiled parser (AIOHTTP_NO_EXTENSIONS?)")


def fault_of(http: web.BaseRequest) -> str | None:
    """What is wrong with a request that the parser let through; None when nothing is.

    Each of these is read differently by some other HTTP implementation, which is how requests are smuggled.
    """
    headers = http.headers
    hosts = headers.getall(hdrs.HOST, ())
    encodings = headers.getall(hdrs.TRANSFER_ENCODING, ())
    if http.version not in _VERSIONS:
        return "the protocol version is not HTTP/1.0 or HTTP/1.1"
    if any(name in headers for name in OVERRIDES):
        # The platform itself may honour them: then it would not do what was understood here.
        return "method overrides are not accepted"
    if not http.raw_path.startswith("/"):
        return "the request target is not a path"
    if len(hosts) > 1 or (not hosts and http.version == HttpVersion11):
        return "exactly one Host field is needed"
    if hosts and not _HOST.fullmatch(hosts[0]):
        return "the Host field is not a host"
    if encodings and (http.version != HttpVersion11 or [text.lower() for text in encodings] != ["chunked"]):
        return "the transfer encoding is not understood"
    return None
