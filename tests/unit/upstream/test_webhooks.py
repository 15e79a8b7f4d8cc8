"""Deliveries: signed by the specification's own example, and to targets that behave badly."""

import asyncio
import base64
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from campaign_gateway.policy.webhooks import Delivery, Outcome
from campaign_gateway.upstream import signer
from campaign_gateway.upstream import webhooks as module
from campaign_gateway.upstream.client import Route
from campaign_gateway.upstream.signer import Secret
from campaign_gateway.upstream.webhooks import WebhookTarget, keys_of, signatures
from tests.support.tls import Authority
from tests.support.waiting import until
from tests.support.wire import Exchange, RawServer, free_port, raw_server

README = Path(__file__).parents[3] / "README.md"
SECRET = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXAMPLE = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
"""Of the example with that secret, as the libraries of the specification have them in their tests."""


def test_the_example_of_the_specification() -> None:
    assert signatures(keys_of(SECRET), *EXAMPLE) == SIGNATURE


def test_two_secrets_make_two_signatures() -> None:
    both = signatures(keys_of(b"some plain text\r\n" + SECRET + b"\n"), *EXAMPLE)
    assert both == f"{signatures([b'some plain text'], *EXAMPLE)} {SIGNATURE}"


@asynccontextmanager
async def posting(url: str, secret: Path | bytes = SECRET) -> AsyncIterator[WebhookTarget]:
    async with WebhookTarget(url, Secret(secret), now=lambda: 1614265330.9) as target:
        yield target


async def outcome_of(server: RawServer) -> Outcome:
    async with posting(f"{server.url}/hook?a=b") as target:
        return (await target.post(EXAMPLE[0], EXAMPLE[2])).outcome


async def test_what_is_sent() -> None:
    bodies = []

    async def answer(exchange: Exchange) -> None:
        bodies.append(await exchange.reader.readexactly(len(EXAMPLE[2])))
        await exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with raw_server(answer) as server:
        assert await outcome_of(server) is Outcome.RECEIVED
    fields = {name.lower(): value for name, value in server.exchanges[0].fields}
    assert server.heads[0].startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert bodies == [EXAMPLE[2]]
    assert fields["content-type"] == "application/cloudevents+json; charset=utf-8"
    sent = (fields["webhook-id"], fields["webhook-timestamp"], fields["webhook-signature"])
    assert sent == (EXAMPLE[0], "1614265330", SIGNATURE)


async def test_a_secret_that_is_replaced_and_one_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    other = base64.b64encode(b"another secret of ours").decode()

    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with patch.object(signer, "LOOK_SECONDS", 0.0):
        async with raw_server(answer) as server, posting(server.url, file) as target:
            for text in (SECRET.decode(), f"whsec_{other}\n{SECRET.decode()}", "whsec_no base64 at all"):
                file.write_text(text)
                await target.post(EXAMPLE[0], EXAMPLE[2])
    first, second, third = (dict(exchange.fields)["webhook-signature"] for exchange in server.exchanges)
    assert first == SIGNATURE
    assert second.split()[1] == SIGNATURE
    assert third == second, "what cannot be used leaves the last good one in use"


async def test_the_authorities_of_its_own(tmp_path: Path) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    authority = Authority(tmp_path, "inside")
    outcomes = []
    async with raw_server(answer, authority.issue("crm", "127.0.0.1").server_context()) as server:
        url = server.url.replace("http://", "https://")
        for route in (Route(ca_file=authority.file), Route()):
            async with WebhookTarget(url, Secret(SECRET), route) as target:
                outcomes.append((await target.post("m", b"{}")).outcome)
    assert outcomes == [Outcome.RECEIVED, Outcome.UNREACHABLE]
    authority.file.write_text("no certificate")
    with pytest.raises(OSError, match="NO_CERTIFICATE"):
        WebhookTarget(url, Secret(SECRET), Route(ca_file=authority.file))


async def test_a_proxy_of_its_own() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")

    url = "https://crm.example.com/hook"
    async with raw_server(refuse) as proxy, WebhookTarget(url, Secret(SECRET), Route(proxy.url)) as target:
        assert (await target.post("m", b"{}")).outcome is Outcome.UNREACHABLE
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [b"CONNECT crm.example.com:443 HTTP/1.1"]


@pytest.mark.drill(
    "a webhook's target that behaves badly",
    planted="no answer, half a head, one byte by byte, a redirect to the operators' port, bodies, heads and interim answers without end",
    seen="one request, which is told as what it is; little is read, and nothing followed",
)
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n", Outcome.REDIRECTED),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", Outcome.REFUSED),
        (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", Outcome.GONE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n{endless}", Outcome.RECEIVED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nbegun", Outcome.RECEIVED),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnone", Outcome.RECEIVED),
        (b"{endless}", Outcome.UNREACHABLE),
        (b"no HTTP\r\n\r\n", Outcome.UNREACHABLE),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, Outcome.UNREACHABLE),
        (b"HTTP/1.1 200 OK\r\nX: {endless}", Outcome.UNREACHABLE),
        (b"", Outcome.TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nX: y", Outcome.TIMEOUT),
        (b"HTTP/1.1 200 OK\r\nX: {drip}", Outcome.TIMEOUT),
    ],
    ids=[
        "redirect",
        "500",
        "410",
        "endless",
        "hung body",
        "no gzip",
        "noise",
        "no HTTP",
        "interim",
        "endless head",
        "hangs",
        "hangs in the head",
        "slow head",
    ],
)
async def test_targets_that_behave_badly(answer: bytes, outcome: Outcome) -> None:
    pieces = 0

    async def nobody(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def behave(exchange: Exchange) -> None:
        nonlocal pieces
        start, _, rest = answer.replace(b"{drip}", b"").partition(b"{endless}")
        await exchange.send(start.replace(b"{elsewhere}", elsewhere.url.encode()), rest)
        while b"{endless}" in answer:
            await exchange.send(b"x" * 65_536)
            pieces += 1
        while b"{drip}" in answer:
            await exchange.send(b"x")
            await asyncio.sleep(0.01)

    patience = 0.2 if outcome is Outcome.TIMEOUT else 30.0
    with patch.object(module, "DELIVERY_SECONDS", patience), patch.object(module, "DRAIN_SECONDS", 0.2):
        async with raw_server(nobody) as elsewhere, raw_server(behave) as server:
            assert await outcome_of(server) is outcome
            assert len(server.exchanges) == 1
            assert elsewhere.exchanges == []
    assert pieces < 200, "the rest of a gigabyte is not taken"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        (b"Retry-After: 90", 90.0),
        (b"Date: Wed, 01 Jan 2031 00:00:00 GMT\r\nRetry-After: Wed, 01 Jan 2031 00:02:00 GMT", 120.0),
        (b"Retry-After: Thu, 25 Feb 2021 15:03:10 GMT", pytest.approx(59.1)),
        (b"X: y", 0.0),
    ],
    ids=["seconds", "by its own clock", "by ours", "none"],
)
async def test_when_to_come_back(fields: bytes, seconds: float) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 503 Later\r\n" + fields + b"\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(answer) as server, posting(server.url) as target:
        assert await target.post(EXAMPLE[0], EXAMPLE[2]) == Delivery(Outcome.REFUSED, seconds)


async def test_nobody_is_there() -> None:
    async with posting(f"http://127.0.0.1:{free_port()}/") as target:
        assert await target.post(EXAMPLE[0], EXAMPLE[2]) == Delivery(Outcome.UNREACHABLE)


async def test_the_receiver_in_the_readme(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(import base64.*?)```", README.read_text("utf-8"), re.DOTALL)
    script, port = tmp_path / "receiver.py", free_port()
    script.write_text(program)
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET.decode(), "PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, str(script)], env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}/"
            found = []

            async def is_refused() -> bool:
                # Made for another time: the signature is right.
                async with posting(url) as target:
                    found.append((await target.post("old", b'{"type": "old"}')).outcome)
                return found[-1] is not Outcome.UNREACHABLE

            await until(is_refused, 30)
            assert found[-1] is Outcome.REFUSED
            for secret, outcome in ((b"some other secret", Outcome.REFUSED), (SECRET, Outcome.RECEIVED)):
                async with WebhookTarget(url, Secret(secret)) as target:
                    assert await target.post("new", b'{"type": "campaign.updated"}') == Delivery(outcome)
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == "new campaign.updated\n"
        finally:
            process.kill()
