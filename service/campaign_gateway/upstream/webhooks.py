"""Posts events to a webhook, signed by the Standard Webhooks specification (https://www.standardwebhooks.com, 1.0.0).

The target is somebody else's program: it may hang, redirect, or answer without end. Nothing is followed, nothing sent
twice, and of an answer's body little is read and nothing kept. What counts is its status, and
for how long it asks to be left alone.
"""

import asyncio
import base64
import binascii
import hmac
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

import aiohttp
from typing_extensions import override
from yarl import URL

from campaign_gateway.contract.dates import http_date
from campaign_gateway.policy.webhooks import Delivery, Outcome, delivery_of
from campaign_gateway.proxy.ports import Target
from campaign_gateway.upstream.client import DIRECT, USER_AGENT, Route
from campaign_gateway.upstream.connection import bound_heads
from campaign_gateway.upstream.signer import Secret

DELIVERY_SECONDS = 10.0
"""From the attempt to connect to the status."""
DRAIN_SECONDS = 0.5
"""For the body after it."""
MAX_BODY = 64 * 2**10
MAX_HEAD = 64 * 2**10
CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
PREFIX = b"whsec_"


def keys_of(secret: bytes) -> list[bytes]:
    """The keys in a secret's file, one a line: `whsec_` and base64, or any other text as it is.

    Raises:
        ValueError: a line is no base64.
    """
    lines = (line.strip() for line in secret.splitlines())
    return [
        base64.b64decode(line.removeprefix(PREFIX), validate=True) if line.startswith(PREFIX) else line
        for line in lines
        if line
    ]


def signatures(keys: Sequence[bytes], id_: str, timestamp: int, body: bytes) -> str:
    """The field `webhook-signature`: one for each key."""
    signed = b"%b.%d.%b" % (id_.encode(), timestamp, body)
    digests = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return " ".join(f"v1,{digest}" for digest in digests)


class WebhookTarget(Target):
    """A webhook over HTTP. An async context manager: connections are closed on leaving."""

    def __init__(self, url: str, secret: Secret, route: Route = DIRECT, now: Callable[[], float] = time.time) -> None:
        """The one at this URL. A secret that is replaced by one that cannot be used stays in use.

        Raises:
            OSError: the file of authorities cannot be read, or holds no certificate.
            ValueError: the secret is none.
        """
        self._url = URL(url)
        self._proxy = route.proxy
        self._tls = True if route.ca_file is None else route.open_context()
        self._secret = secret
        self._keys, self._version = keys_of(secret.value), secret.version
        self._now = now

    async def __aenter__(self) -> Self:
        # A kept connection may have been closed at its other end, which would cost a failure.
        connector = aiohttp.TCPConnector(force_close=True, ssl=self._tls)
        bound_heads(connector, MAX_HEAD)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", "Content-Type": CONTENT_TYPE},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            proxy=self._proxy,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @override
    async def post(self, id_: str, body: bytes) -> Delivery:
        """Cancelling it closes the connection."""
        timestamp = int(self._now())
        headers = {
            "webhook-id": id_,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signatures(self._current_keys(), id_, timestamp, body),
        }
        try:
            async with asyncio.timeout(DELIVERY_SECONDS):
                response = await self._session.post(self._url, data=body, headers=headers, allow_redirects=False)
        except TimeoutError:
            return Delivery(Outcome.TIMEOUT)
        except (aiohttp.ClientError, OSError):
            return Delivery(Outcome.UNREACHABLE)
        await _drain(response)
        # Its own clock, where it shows it: a date that it names is of that one.
        written_at = http_date(response.headers.get("Date", "")) or self._now()
        return delivery_of(response.status, response.headers.get("Retry-After"), written_at)

    def _current_keys(self) -> Sequence[bytes]:
        secret = self._secret.value
        if self._secret.version != self._version:
            self._version = self._secret.version
            with suppress(binascii.Error):
                self._keys = keys_of(secret)
        return self._keys


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Takes a small body off the target's hands, and closes the connection."""
    left = MAX_BODY
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(DRAIN_SECONDS):
            while left > 0 and (piece := await response.content.read(left)):
                left -= len(piece)
    response.close()
