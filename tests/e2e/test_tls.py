"""TLS on the API's port: the real process, real certificates."""

import shutil
import ssl
from pathlib import Path

import aiohttp
import pytest

from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.web.clients import new_key
from tests.support.gateway import gateway_process, settings_for
from tests.support.tls import Authority, Identity
from tests.support.waiting import until


async def test_callers_are_who_their_certificate_says_on_connections_that_look_alike(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    server, callers = Authority(tmp_path, "server"), Authority(tmp_path, "callers")
    own, (key, digest) = server.issue("own", "127.0.0.1"), new_key()
    settings = settings_for(sandbox, tmp_path)
    settings["clients"] = {
        "reporting": {"key_sha256": digest, "streams": ["support"]},
        "billing": {"key_sha256": "0" * 64, "streams": ["support"], "rate": "2/h"},
    }
    names = {"reporting.internal": "reporting", "billing": "billing"}
    settings["tls"] = {
        "cert_file": str(own.cert_file),
        "key_file": str(own.key_file),
        "client_ca_file": str(callers.file),
        "client_names": names,
    }
    campaign = sandbox.campaigns.all()[0].id
    async with gateway_process(settings, tmp_path) as gateway:
        url = f"{gateway.url.replace('http:', 'https:')}/v1/campaigns/{campaign}"

        async def status(session: aiohttp.ClientSession, **headers: str) -> int:
            async with session.get(url, headers=headers) as response:
                return response.status

        reporting, billing = callers.issue("reporting", "reporting.internal"), callers.issue("billing")
        async with (
            session_of(server, reporting) as one,
            session_of(server, billing) as two,
            session_of(server, callers.issue("x")) as three,
            session_of(server) as four,
        ):
            # Heads are equal; only the connection tells. Often enough for the fast connection to learn one.
            assert [await status(one) for _ in range(6)] == [200] * 6
            assert [await status(two) for _ in range(3)] == [200, 200, 429]
            assert await status(one) == 200
            assert await status(three) == 401
            assert await status(three, Authorization=f"Bearer {key}") == 200
            with pytest.raises(aiohttp.ClientError):
                await status(four)
        assert await gateway.metric("requests_total", client="billing", status="429") == 1


def session_of(server: Authority, client: Identity | None = None) -> aiohttp.ClientSession:
    """Callers who trust the server's authority, and show a certificate."""
    context = ssl.create_default_context(cafile=server.file)
    if client is not None:
        context.load_cert_chain(client.cert_file, client.key_file)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))


async def test_a_certificate_is_replaced_without_a_restart_and_a_bad_one_is_not_taken(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    own = old.issue("own", "127.0.0.1")
    settings = settings_for(sandbox, tmp_path, tls={"cert_file": str(own.cert_file), "key_file": str(own.key_file)})
    async with gateway_process(settings, tmp_path) as gateway:
        url = f"{gateway.url.replace('http:', 'https:')}/docs"

        async def serves(authority: Authority) -> bool:
            try:
                # Each on a connection of its own.
                async with session_of(authority) as session, session.get(url) as response:
                    return response.status == 200
            except aiohttp.ClientConnectorCertificateError:
                return False

        async with session_of(old) as session:
            async with session.get(url) as response:
                assert response.status == 200
            own.cert_file.write_text("not a certificate")
            await until(lambda: any("stays in use" in line for line in gateway.log))
            assert (await gateway.metric("tls_files_refused")) == 1
            assert "previous certificate" in str(await gateway.get_json("/readyz"))
            assert await serves(old)
            replacement = new.issue("own", "127.0.0.1")
            shutil.copy(replacement.key_file, own.key_file)
            shutil.copy(replacement.cert_file, own.cert_file)
            await until(lambda: serves(new))
            # The connection from before goes on with what it began with.
            async with session.get(url) as response:
                assert response.status == 200
        assert (await gateway.metric("tls_files_refused")) == 0
        await until(gateway.is_ready)
