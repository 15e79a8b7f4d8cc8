"""The platform over HTTP: each call is sent exactly once, and its answer is whole or an error.

What aiohttp would do by itself and must not, because the platform counts every arrival and tokens may be single-use:
send a request again on a connection that was closed, follow redirects (with our credential in a header it does not know
to drop), take proxies from the environment, keep cookies, unfold a compressed answer without a limit.
"""

import asyncio
import errno
import ssl
import time
import zlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import aiohttp
from typing_extensions import override
from yarl import URL

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import Call
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import Upstream, UpstreamError
from campaign_gateway.proxy.request import Stream
from campaign_gateway.upstream.connection import bound_heads
from campaign_gateway.upstream.signer import Signer

USER_AGENT = "campaign-gateway"
KEEPALIVE_SECONDS = 15.0
"""Idle connections are closed before a front door does it (60 s is common), which would cost a repeated call."""

_SAYS_ENOUGH = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS})
"""Statuses that count whatever their body: nobody may call on because a page about it cannot be read."""

_FULL_FIELDS = 4
"""So many fields of a head may be as long as one may be."""
_PACKED = frozenset({"gzip", "x-gzip", "deflate"})
_ANY_HEADER = 47
"""For zlib: the largest window, and the header says whether it is gzip or zlib (RFC 1950, RFC 1952)."""
_PIECE_BYTES = 2**14
_STEP_BYTES = 2**18
"""What is unfolded at a time, before others have their turn."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one call, in seconds and bytes."""

    timeout: float
    connect_timeout: float
    max_body: int
    """After decompression."""
    max_header: int = 2**16
    """For one field of a head. The limits of aiohttp are lower than what front doors are known to add."""
    max_headers: int = 1_000

    @property
    def max_head(self) -> int:
        """For all that comes before a body."""
        return _FULL_FIELDS * self.max_header


@dataclass(frozen=True, slots=True)
class Route:
    """How to get to a server, the platform as a rule, and how to know that it is the one."""

    proxy: str | None = None
    """An HTTP proxy to connect through; of what is encrypted it sees the server's name and port only."""
    ca_file: Path | None = None
    """The authorities that may vouch for the server; None takes the system's."""
    min_tls: str = "1.2"

    def open_context(self) -> ssl.SSLContext:
        """What TLS goes by.

        Raises:
            OSError: the file cannot be read, or holds no certificate.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        context.minimum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[self.min_tls]
        return context


DIRECT = Route()


class PlatformClient(Upstream):
    """The platform over HTTP. An async context manager: connections are closed on leaving."""

    def __init__(self, origin: str, limits: Limits, signers: Mapping[str, Signer], route: Route = DIRECT) -> None:
        """A client for the host at `origin`, with a signer per credential name."""
        self._route = route
        self._origin = origin
        self._limits = limits
        self._signers = signers

    async def __aenter__(self) -> Self:
        # The authorities take a while to read; in clear text nobody asks for them.
        tls = self._route.open_context() if self._origin.startswith("https:") else True
        async with AsyncExitStack() as stack:
            kept = aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_SECONDS, ssl=tls)
            self._session = await stack.enter_async_context(self._open(kept))
            # Where one kept connection was dead, the next is as old: what is sent again goes out on a new one.
            self._session_anew = await stack.enter_async_context(
                self._open(aiohttp.TCPConnector(force_close=True, ssl=tls))
            )
            self._stack = stack.pop_all()
        return self

    def _open(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        bound_heads(connector, self._limits.max_head)
        trace = aiohttp.TraceConfig()
        trace.on_connection_reuseconn.append(_note_reused)
        trace.on_request_headers_sent.append(_note_sent)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(
                total=self._limits.timeout, sock_connect=self._limits.connect_timeout, sock_read=self._limits.timeout
            ),
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            proxy=self._route.proxy,
            trace_configs=[trace],
            max_line_size=self._limits.max_header,
            max_field_size=self._limits.max_header,
            max_headers=self._limits.max_headers,
        )
        # There is no public switch for it: a GET on a connection that the platform closed would be sent twice.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @override
    def credential_version(self, stream: Stream) -> int:
        return self._signers[stream.credential].version

    @override
    async def renew_credential(self, stream: Stream, version: int) -> bool:
        return self._signers[stream.credential].renew(version)

    @override
    async def send(self, stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        """Cancelling it closes the connection."""
        url = URL(self._origin + call.target, encoded=True)
        if url.raw_path_qs != call.target:
            raise ValueError("the URL differs from the requested one")
        headers = {**call.headers, "auth": self._signers[stream.credential].token()}
        seen = SimpleNamespace(reused=False, sent=False, answered=False, leave_by=leave_by)
        try:
            session = self._session_anew if is_anew else self._session
            async with session.request(
                call.method, url, headers=headers, data=call.body, allow_redirects=False, trace_request_ctx=seen
            ) as response:
                seen.answered = True
                return Response(
                    status=response.status,
                    content_type=response.headers.get("Content-Type", ""),
                    body=await self._read_if_needed(response),
                    retry_after=response.headers.get("Retry-After"),
                    date=response.headers.get("Date"),
                    headers=response.headers,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(error, seen) from error

    async def _read_if_needed(self, response: aiohttp.ClientResponse) -> bytes:
        """The body; nothing where it cannot be read, and the status says enough."""
        try:
            return await self._read(response)
        except (UpstreamError, aiohttp.ClientPayloadError):
            if response.status not in _SAYS_ENOUGH:
                raise
            response.close()
            return b""

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in _PACKED | {"identity", ""}:
            raise UpstreamError(Problem.UPSTREAM_INVALID, "the answer's content encoding was not requested")
        unfold = zlib.decompressobj(wbits=_ANY_HEADER) if encoding in _PACKED else None
        room = self._limits.max_body
        pieces: list[bytes] = []
        async for packed in response.content.iter_chunked(_PIECE_BYTES):
            if pieces:
                # What has come already is read without a pause, and may be a chunk for each byte.
                await asyncio.sleep(0)
            piece: bytes = packed
            while piece:
                try:
                    # One byte more than there is room for tells too much from just enough.
                    decoded = piece if unfold is None else unfold.decompress(piece, min(room + 1, _STEP_BYTES))
                except zlib.error as error:
                    raise UpstreamError(Problem.UPSTREAM_INVALID, "the answer's compression is damaged") from error
                room -= len(decoded)
                if room < 0:
                    raise UpstreamError(
                        Problem.UPSTREAM_INVALID, f"the answer is larger than {self._limits.max_body} bytes"
                    )
                pieces.append(decoded)
                if unfold is None:
                    break
                piece = unfold.unconsumed_tail
                if piece:
                    # Little may unfold to much.
                    await asyncio.sleep(0)
                elif unfold.unused_data:
                    # Another member (RFC 1952 section 2.2).
                    piece, unfold = unfold.unused_data, zlib.decompressobj(wbits=_ANY_HEADER)
        if unfold is not None and not unfold.eof:
            raise UpstreamError(Problem.UPSTREAM_INVALID, "the answer is cut short")
        return b"".join(pieces)


async def _note_reused(_session: object, context: SimpleNamespace, _params: object) -> None:
    context.trace_request_ctx.reused = True


async def _note_sent(_session: object, context: SimpleNamespace, _params: object) -> None:
    # aiohttp calls this before the first byte is written: without it, nothing has left.
    seen = context.trace_request_ctx
    if time.monotonic() > seen.leave_by:
        raise TimeoutError("the permit has expired")
    seen.sent = True


def _why_not_connected(error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        # OpenSSL's own words: expired, of another name, or of an authority that nobody here knows.
        why = getattr(getattr(error, "certificate_error", error.__cause__), "verify_message", "")
        return f"the platform's certificate is not valid{f': {why}' if why else ''}"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "no connection: the platform's name is not resolved"
    if error.os_error.errno == errno.ECONNREFUSED:
        return "no connection: it is refused"
    return "no connection"


def _translate(error: Exception, seen: SimpleNamespace) -> UpstreamError:
    """The error in our words. aiohttp's own `status` on protocol errors is its invention and never looked at."""
    match error:
        case TimeoutError():
            what = "answer" if seen.sent else "connection"
            return UpstreamError(Problem.UPSTREAM_TIMEOUT, f"no {what} in time", was_sent=seen.sent)
        case aiohttp.ClientHttpProxyError():
            text = f"the proxy does not connect to the platform (status {error.status})"
            return UpstreamError(Problem.UPSTREAM_UNAVAILABLE, text, was_sent=False)
        case aiohttp.ClientProxyConnectionError():
            return UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "no connection to the proxy", was_sent=False)
        case aiohttp.ClientResponseError():
            return UpstreamError(Problem.UPSTREAM_INVALID, "the answer breaks HTTP")
        case aiohttp.ClientPayloadError():
            return UpstreamError(Problem.UPSTREAM_INVALID, "the answer is cut short")
        case aiohttp.ClientConnectorError():
            return UpstreamError(Problem.UPSTREAM_UNAVAILABLE, _why_not_connected(error), was_sent=False)
        case _:
            what = "the connection was closed" if seen.sent else "no connection"
            may_repeat = seen.reused and not seen.answered
            return UpstreamError(Problem.UPSTREAM_UNAVAILABLE, what, was_sent=seen.sent, may_repeat=may_repeat)
