"""How far a connection gets: the name, TCP, a proxy, TLS. What was seen is a value, also where it is a failure."""

import asyncio
import contextlib
import os
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

PATIENCE_SECONDS = 5.0
"""For a name, and for what answers slower than a gateway would wait: the time it takes says what to set."""
_NUMBER = re.compile(r"\[Errno (\d+)\]")


@dataclass(frozen=True, slots=True)
class Names:
    """What a name stands for."""

    addresses: tuple[str, ...] = ()
    fault: str = ""
    """The resolver's words; empty where there are addresses."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An attempt to connect."""

    seconds: float
    address: str = ""
    """Whom it reached; empty where nobody."""
    fault: str = ""
    """The system's words."""
    is_slow: bool = False
    """Whether nobody has answered at all, neither yes nor no."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A proxy's answer to CONNECT."""

    status: int = 0
    """0 where it was no answer of HTTP."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What TLS came to."""

    version: str = ""
    """Empty where it failed."""
    certificate: bytes = b""
    """The one that was shown, in DER; also where it was not accepted."""
    fault: str = ""
    """OpenSSL's words."""


async def resolve(host: str, port: int) -> Names:
    """The addresses of the host, as this machine's resolver has them."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        return Names(fault=f"the resolver gave no answer within {PATIENCE_SECONDS:g} s")
    except OSError as error:
        return Names(fault=error.strerror or str(error))
    return Names(tuple(dict.fromkeys(str(row[4][0]) for row in found)))


async def connect(host: str, port: int) -> Connected:
    """Whether a TCP connection is made; it is closed again. A `host` that is a path is a Unix socket's."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            opening = (
                asyncio.open_unix_connection(host) if host.startswith("/") else asyncio.open_connection(host, port)
            )
            _, writer = await opening
    except TimeoutError:
        return Connected(time.monotonic() - began, fault="no answer", is_slow=True)
    except OSError as error:
        return Connected(time.monotonic() - began, fault=_words(error))
    peer = writer.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) else host
    writer.transport.abort()
    return Connected(time.monotonic() - began, address)


async def ask_proxy(proxy: tuple[str, int], target: tuple[str, int]) -> Tunnel:
    """What the proxy answers when it is asked to connect to the target."""
    try:
        async with _through(proxy, target) as (tunnel, _, _):
            return tunnel
    except (OSError, TimeoutError) as error:
        return Tunnel(reason=_words(error))


async def greet(host: str, port: int, context: ssl.SSLContext, proxy: tuple[str, int] | None = None) -> Handshake:
    """What TLS comes to, and whose certificate is shown. Where it is refused, a second look asks for nothing but it."""
    try:
        return await _shake_hands(host, port, context, proxy)
    except ssl.SSLCertVerificationError as error:
        fault = error.verify_message or error.reason
    except ssl.SSLError as error:
        return Handshake(fault=_openssl(error))
    except (OSError, TimeoutError) as error:
        return Handshake(fault=_words(error))
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(OSError, TimeoutError):
        return Handshake(certificate=(await _shake_hands(host, port, unchecked, proxy)).certificate, fault=fault)
    return Handshake(fault=fault)


async def _shake_hands(host: str, port: int, context: ssl.SSLContext, proxy: tuple[str, int] | None) -> Handshake:
    async with _through(proxy, (host, port)) as (_, _, writer):
        await writer.start_tls(context, server_hostname=host)
        shown = writer.get_extra_info("ssl_object")
        return Handshake(shown.version(), shown.getpeercert(binary_form=True) or b"")


@asynccontextmanager
async def _through(
    proxy: tuple[str, int] | None, target: tuple[str, int]
) -> AsyncIterator[tuple[Tunnel, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        reader, writer = await asyncio.open_connection(*(proxy or target))
        try:
            yield Tunnel() if proxy is None else await _tunnel(reader, writer, target), reader, writer
        finally:
            # A farewell could take as long as the other side likes.
            writer.transport.abort()


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: tuple[str, int]) -> Tunnel:
    """RFC 9110 section 9.3.6."""
    host, port = target
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    writer.write(f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return Tunnel(reason="it closed the connection")
    except asyncio.LimitOverrunError:
        return Tunnel(reason="it answers without end")
    version, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    status, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/") or not status.isascii() or not status.isdigit():
        return Tunnel(reason="it does not speak HTTP")
    return Tunnel(int(status[:3]), "".join(char for char in reason[:100] if char.isprintable()))


def _words(failure: OSError | TimeoutError) -> str:
    # asyncio puts addresses into the text, and joins several failures into one that has no number.
    numbers = [failure.errno] if failure.errno else [int(found) for found in _NUMBER.findall(str(failure))]
    if numbers:
        return os.strerror(numbers[-1])
    if isinstance(failure, TimeoutError):
        return f"no answer within {PATIENCE_SECONDS:g} s"
    return str(failure) or "the connection was closed"


def _openssl(failure: ssl.SSLError) -> str:
    return (failure.reason or str(failure)).replace("_", " ").lower()
