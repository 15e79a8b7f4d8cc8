"""Certificates made on the spot, and TLS in front of a server that was built without it."""

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.wire import Exchange

_PEM = serialization.Encoding.PEM


@dataclass(frozen=True)
class Identity:
    """The files of one certificate and its key."""

    cert_file: Path
    key_file: Path

    def server_context(self, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLContext:
        """What a server that shows this certificate goes by."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.cert_file, self.key_file)
        context.maximum_version = newest
        return context


class Authority:
    """A certificate authority of its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(name, self._key.public_key(), path_length=0).add_extension(usage, critical=True)
        self.file = self._write(f"{name}.crt", builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, *hosts: str) -> Identity:
        """A certificate for these host names and addresses; for none of them, a client's."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, key.public_key(), path_length=None)
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        signed = builder.add_extension(issuer, critical=False).sign(self._key, hashes.SHA256())
        plain = serialization.NoEncryption()
        secret = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain)
        return Identity(
            self._write(f"{self._name}-{name}.crt", signed.public_bytes(_PEM)),
            self._write(f"{self._name}-{name}.key", secret),
        )

    def _builder(self, name: str, key: ec.EllipticCurvePublicKey, path_length: int | None) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_common_name(name))
            .issuer_name(_common_name(self._name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=path_length is not None, path_length=path_length), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )

    def _write(self, name: str, pem: bytes) -> Path:
        path = self._folder / name
        path.write_bytes(pem)
        return path


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@asynccontextmanager
async def tls_front(backend_port: int, server: Identity, clients: Authority) -> AsyncIterator[int]:
    """The port of a listener that takes only clients certified by the authority and passes their bytes on, decrypted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients.file)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.cert_file, server.key_file)
    tasks = set[asyncio.Task[None]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            behind, ahead = await asyncio.open_connection("127.0.0.1", backend_port)
            try:
                await asyncio.gather(_copy(reader, ahead), _copy(behind, writer))
            finally:
                ahead.close()
        except (OSError, asyncio.CancelledError):
            pass  # the server is gone, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


async def tunnel(exchange: Exchange) -> None:
    """What a proxy does when it is asked to connect: passes bytes on, both ways."""
    host, _, port = exchange.head.split()[1].decode().rpartition(":")
    behind, ahead = await asyncio.open_connection(host, int(port))
    await exchange.send(b"HTTP/1.1 200 Connected\r\n\r\n")
    try:
        await asyncio.gather(_copy(exchange.reader, ahead), _copy(behind, exchange.writer))
    finally:
        ahead.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while piece := await source.read(2**16):
        sink.write(piece)
        await sink.drain()
    sink.close()
