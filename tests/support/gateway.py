"""The real process, started with real settings on free ports, and the few questions tests ask it."""

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from ruamel.yaml import YAML

from campaign_gateway.sandbox.platform import Sandbox

ROOT = Path(__file__).parents[2]
_SERVING = re.compile(r"serving on ([0-9.:]+), metrics and probes on ([0-9.:]+)")


def settings_for(sandbox: Sandbox, folder: Path, **sections: Any) -> dict[str, Any]:
    """Settings for a gateway in front of the sandbox; `sections` replace or add top-level keys."""
    secret = folder / "client-secret"
    if not secret.exists():
        secret.write_text(sandbox.config.secret)
    return {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "platform": {"url": sandbox.url, "timeout": "2s", "connect_timeout": "1s"},
        "credentials": {"main": {"client_id": sandbox.config.client_id, "client_secret_file": str(secret)}},
        "streams": {
            "support": {
                "stream_id": sandbox.config.stream_id,
                "account_id": sandbox.config.account_id,
                "credential": "main",
            }
        },
        "shutdown": {"drain": "0ms", "grace": "10s"},
        **sections,
    }


class GatewayProcess:
    """A running `campaign-gateway serve`."""

    def __init__(self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession, config: Path) -> None:
        self.process = process
        self.session = session
        self.config = config
        self.url = ""
        self.admin_url = ""
        self.log: list[str] = []
        self._is_up = asyncio.Event()

    async def read_log(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())
            if match := _SERVING.search(self.log[-1]):
                self.url, self.admin_url = (f"http://{address}" for address in match.groups())
                self._is_up.set()

    async def wait_until_up(self) -> None:
        async with asyncio.timeout(60):
            await self._is_up.wait()

    async def get(self, campaign: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of a read on the default stream; underscores in header names become dashes."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(f"{self.url}/v1/campaigns/{campaign}", headers=fields) as response:
            return response.status, response.headers, await response.read()

    async def get_json(self, path: str) -> Any:
        async with self.session.get(self.admin_url + path) as response:
            return await response.json()

    async def metrics(self) -> str:
        async with self.session.get(f"{self.admin_url}/metrics") as response:
            return await response.text()

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in (await self.metrics()).splitlines():
            match = re.fullmatch(rf"campaign_gateway_{name}(?:{{(.*)}})? (\S+)", line)
            found = dict(re.findall(r'(\w+)="([^"]*)"', match[1] or "")) if match else {}
            if match and labels.items() <= found.items():
                total += float(match[2])
        return total

    async def is_ready(self) -> bool:
        """Whether all parts are well; soon after a start, and after a read, the lists in use are still to be read."""
        return bool((await self.get_json("/readyz"))["status"] == "ready")

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log if line.startswith("{")]

    def write(self, settings: Mapping[str, Any]) -> None:
        """Puts other settings into its file, at once and as a whole."""
        write_settings(self.config, settings)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def write_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """The file is another one from one moment to the next."""
    made = path.with_suffix(".new")
    with made.open("w") as file:
        YAML(typ="safe", pure=True).dump(dict(settings), file)
    made.replace(path)


def _allow(descriptors: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))


@asynccontextmanager
async def gateway_process(
    settings: Mapping[str, Any],
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    descriptors: int | None = None,
) -> AsyncIterator[GatewayProcess]:
    """A gateway process with these settings, ended with SIGKILL if the test has not ended it.

    It knows of no earlier one, unless the settings or `environ` give both a place for that. It has so many file
    descriptors, if that is given.
    """
    config = folder / f"gateway-{os.urandom(4).hex()}.yaml"
    write_settings(config, settings)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "campaign_gateway", "serve", "--config", str(config)),
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(config.with_suffix(".state")), **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=None if descriptors is None else partial(_allow, descriptors),
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session, asyncio.TaskGroup() as group:
        gateway = GatewayProcess(process, session, config)
        group.create_task(gateway.read_log())
        try:
            await gateway.wait_until_up()
            yield gateway
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
