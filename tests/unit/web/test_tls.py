import asyncio
import logging
import shutil
import ssl
from pathlib import Path

import pytest

from campaign_gateway.web.tls import TlsFiles, names_of_peer
from tests.support.tls import Authority, Identity


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def own(tmp_path: Path, authority: Authority) -> Identity:
    """The files that are watched."""
    made = Identity(tmp_path / "own.crt", tmp_path / "own.key")
    install(authority.issue("first", "localhost"), made)
    return made


def install(new: Identity, place: Identity) -> None:
    shutil.copy(new.cert_file, place.cert_file)
    shutil.copy(new.key_file, place.key_file)


async def shown(tls: TlsFiles, authority: Authority, client: Identity | None = None) -> str:
    """The common name of the certificate that a new connection is shown, and the names that its caller has there."""
    context = ssl.create_default_context(cafile=authority.file)
    if client is not None:
        context.load_cert_chain(client.cert_file, client.key_file)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(" ".join(names_of_peer(writer.transport)).encode() + b"\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=tls.context) as server:
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        try:
            # With TLS 1.3 a server refuses a caller after its handshake.
            named = (await reader.readuntil()).decode().strip()
            certificate = writer.get_extra_info("peercert")
            return f"{dict(row[0] for row in certificate['subject'])['commonName']} {named}".strip()
        finally:
            writer.close()


async def test_new_connections_see_the_new_certificate(own, authority, caplog):
    caplog.set_level(logging.INFO)
    tls = TlsFiles(own.cert_file, own.key_file)
    assert await shown(tls, authority) == "first"
    tls.look()
    assert caplog.messages == []
    install(authority.issue("second", "localhost"), own)
    tls.look()
    assert await shown(tls, authority) == "second"
    assert len(caplog.messages) == 1


async def test_files_of_no_use_leave_the_ones_before_in_use_and_have_one_line(own, authority, caplog):
    tls, other = TlsFiles(own.cert_file, own.key_file), authority.issue("other", "localhost")
    for spoil in (
        lambda: shutil.copy(other.cert_file, own.cert_file),
        lambda: own.cert_file.write_text("x"),
        own.cert_file.unlink,
    ):
        caplog.clear()
        spoil()
        for _ in range(3):
            tls.look()
        assert len(caplog.messages) == 1
        assert tls.fault is not None
        assert await shown(tls, authority) == "first"
    install(other, own)
    tls.look()
    assert tls.fault is None
    assert await shown(tls, authority) == "other"


async def test_an_authority_that_is_taken_away_vouches_for_nobody(own, authority, tmp_path):
    callers, others = Authority(tmp_path, "callers"), Authority(tmp_path, "others")
    client, file = callers.issue("billing"), tmp_path / "clients.crt"
    shutil.copy(callers.file, file)
    tls = TlsFiles(own.cert_file, own.key_file, file)
    assert await shown(tls, authority, client) == "first billing"
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await shown(tls, authority)
    shutil.copy(others.file, file)
    tls.look()
    with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
        await shown(tls, authority, client)


def test_nothing_older_than_tls_1_2_is_spoken(own):
    assert TlsFiles(own.cert_file, own.key_file).context.newest.minimum_version is ssl.TLSVersion.TLSv1_2


class Shown(asyncio.BaseTransport):
    def __init__(self, **certificate):
        super().__init__({"peercert": certificate})


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, []),
        ({"subject": ((("commonName", "billing"),),)}, ["billing"]),
        (
            {"subject": ((("commonName", "x"),),), "subjectAltName": (("DNS", "a.b"), ("URI", "spiffe://a/b"))},
            ["a.b", "spiffe://a/b"],
        ),
        ({"subject": ((("commonName", "x"),),), "subjectAltName": (("IP Address", "::1"),)}, ["x"]),
    ],
)
def test_a_peers_names(certificate, names):
    assert list(names_of_peer(Shown(**certificate))) == names
    assert list(names_of_peer(None)) == []
