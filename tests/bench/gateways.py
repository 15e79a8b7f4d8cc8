"""The gateway, as `campaign-gateway serve` runs it, in the ways that it can be set."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.web.clients import new_key
from tests.bench.servers import Server, Servers, identity_in
from tests.support.gateway import settings_for
from tests.support.wire import free_port

KEY, _DIGEST = new_key()
FRESH = "2h"
"""Longer than the bench takes: every answer is a hit."""
FIELDS = {"Age": "", "Cache-Status": "; hit; ", "ETag": '"', "X-Request-ID": "bench-", "Last-Modified": "GMT"}


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to run it."""

    cache: Mapping[str, str] | None = None
    """Settings of the cache beside Redis' address; None for a cache in memory."""
    is_hot: bool = True
    """Whether the fast connection may answer."""
    without: str = ""
    """What is taken out of its work: see `apps/gateway_without.py`."""
    has_keys: bool = True
    workers: int = 1
    has_tls: bool = False


GATEWAY = "gateway"
SLOW = "gateway, hot_path: false"
REDIS_HITS = "gateway, Redis hits"
COPIES = "gateway, local copies of Redis"
TWO_WORKERS = "gateway, two workers"
TLS = "gateway, TLS"
GATEWAYS: Mapping[str, Setup] = {
    GATEWAY: Setup(),
    SLOW: Setup(is_hot=False),
    COPIES: Setup(cache={}),
    TLS: Setup(has_tls=True),
    TWO_WORKERS: Setup(cache={}, workers=2),
    REDIS_HITS: Setup(cache={"local_max_bytes": "1B"}),
}
STEPS: Mapping[str, Setup] = {
    "slow path alone": Setup(is_hot=False, without="metrics,lines", has_keys=False),
    "+ log lines": Setup(is_hot=False, without="metrics", has_keys=False),
    "+ metrics": Setup(is_hot=False, has_keys=False),
}
"""The ladder below the gateway with all of its work."""


class Gateways:
    """Starts gateways in front of one sandbox."""

    def __init__(self, servers: Servers, sandbox: Sandbox, redis_url: str) -> None:
        self._servers = servers
        self._sandbox = sandbox
        self._redis_url = redis_url
        self.has_hot_path = False
        """Whether this version of the gateway has one that can be switched off."""

    async def find_out(self) -> None:
        """Looks whether there is a fast connection."""
        config = self._write(free_port(), Setup(), hot_path=False)
        command = (sys.executable, "-m", "campaign_gateway", "check", "--config", str(config))
        nowhere = asyncio.subprocess.DEVNULL
        check = await asyncio.create_subprocess_exec(*command, stdout=nowhere, stderr=nowhere)
        self.has_hot_path = not await check.wait()

    async def start(self, name: str, setup: Setup) -> Server:
        """A gateway whose cache is still empty.

        Raises:
            AbsentError: it did not start.
        """
        port = free_port()
        config = self._write(port, setup, **({} if setup.is_hot or not self.has_hot_path else {"hot_path": False}))
        module = ["tests.bench.apps.gateway_without", setup.without] if setup.without else ["campaign_gateway"]
        # It knows of no earlier one.
        environ = {"XDG_STATE_HOME": str(config.with_suffix(".state"))}
        pid = await self._servers.start([sys.executable, "-m", *module, "serve", "--config", config], port, environ)
        return Server(name, port, pid, FIELDS, has_keys=setup.has_keys, has_tls=setup.has_tls)

    def _write(self, port: int, setup: Setup, **others: Any) -> Path:
        # Hits only: nothing is read again for as long as the bench runs, and no list is asked for.
        settings = settings_for(
            self._sandbox,
            self._servers.folder,
            listen=f"127.0.0.1:{port}",
            budgets={"default": {"calls": 100_000, "window": "60s"}},
            sweep={"share": 0},
            freshness={"min": FRESH, "max": FRESH, "status": {}},
            workers=setup.workers,
            **others,
        )
        if setup.has_tls:
            identity = identity_in(self._servers.folder)
            settings["tls"] = {"cert_file": str(identity.cert_file), "key_file": str(identity.key_file)}
        if setup.has_keys:
            settings["clients"] = {"bench": {"key_sha256": _DIGEST, "streams": ["support"], "scopes": ["read"]}}
        if setup.cache is not None:
            settings["cache"] = {"url": self._redis_url, "prefix": f"cg-{port}", **setup.cache}
        config = self._servers.folder / f"gateway-{port}.yaml"
        with config.open("w") as file:
            YAML(typ="safe", pure=True).dump(settings, file)
        return config
