"""Gateway processes on one Redis in front of a simulated platform, and the few ways in which tests talk to them."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
from yarl import URL

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer, redis_server

KEYS = {"writer": "cgk_writer-key", "other": "cgk_other-key", "reader": "cgk_reader-key"}
_SCOPES = {"writer": ["read", "write", "purge"], "other": ["read", "write"], "reader": ["read"]}
CALLER = {
    "auth": "the.callers.token",
    "iid": "st-of-the-caller",
    "accountId": "5f0000000000000000000001",
    "Content-Type": "application/x-www-form-urlencoded",
}
"""What a client that was written for the platform goes on sending."""

LASTING = {"factor": 0.0, "min": "10m", "max": "10m", "default": "10m", "missing": "10m", "status": {}}
"""Freshness that outlives every test: what changes, changes by an invalidation."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def cache(self) -> str:
        return self.headers["Cache-Status"]

    @property
    def problem(self) -> str:
        """The name of its problem."""
        return str(self.document["type"]).removeprefix("/problems/")


@dataclass(frozen=True)
class Estate:
    sandbox: Sandbox
    gateways: list[GatewayProcess]
    session: aiohttp.ClientSession
    redis: RedisServer

    async def ask(
        self,
        line: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEYS["writer"],
        at: int = 0,
    ) -> Answer:
        """The answer of one gateway to a request line without a version, its target encoded already."""
        method, target = line.split(" ", 1)
        fields = {"Content-Type": "application/json", **(headers or {})}
        if key is not None:
            fields["Authorization"] = f"Bearer {key}"
        url = URL(self.gateways[at].url + target, encoded=True)
        async with self.session.request(method, url, data=body, headers=fields) as response:
            return Answer(response.status, response.headers, await response.read())

    async def ask_platform(self, line: str, body: bytes | None = None) -> Answer:
        """The platform's own answer."""
        config = self.sandbox.config
        method, target = line.split(" ", 1)
        token = jwt.encode({"appId": config.client_id}, config.secret, config.algorithm)
        fields = {"auth": token, "iid": config.app_id, "accountId": config.account_id}
        url = URL(self.sandbox.url + target, encoded=True)
        async with self.session.request(method, url, data=body, headers=fields) as response:
            return Answer(response.status, response.headers, await response.read())


def clients() -> dict[str, Any]:
    """Those of `KEYS`, as settings."""
    return {
        name: {"key_sha256": hashlib.sha256(key.encode()).hexdigest(), "streams": ["support"], "scopes": _SCOPES[name]}
        for name, key in KEYS.items()
    }


@asynccontextmanager
async def estate(replicas: int, folder: Path, *, timeout: str = "2s", **sections: Any) -> AsyncIterator[Estate]:
    """So many gateways. `timeout` is that of their calls, `sections` are other settings of theirs."""
    config = SandboxConfig(
        app_id="st-of-the-app", campaigns=4, calls=100_000, preparing_seconds=0.0, queue_seconds=0.0, run_seconds=3600.0
    )
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(config))
        redis = await stack.enter_async_context(redis_server(folder))
        settings = settings_for(sandbox, folder)
        settings["streams"]["support"]["app_id"] = config.app_id
        settings["platform"]["timeout"] = timeout
        settings |= {
            "clients": clients(),
            "cache": {"url": redis.url, "timeout": "2s"},
            "budgets": {"default": {"calls": 5000, "window": "60s"}},
            "freshness": LASTING,
            "sweep": {"share": 0},
            **sections,
        }
        gateways = [await stack.enter_async_context(gateway_process(settings, folder)) for _ in range(replicas)]
        await redis.wait_for_listeners(replicas)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield Estate(sandbox, gateways, session, redis)
