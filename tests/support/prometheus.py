"""A real Prometheus on loopback, with our rules, and the few questions tests ask it."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ruamel.yaml import YAML

from tests.support.gateway import ROOT
from tests.support.wire import free_port

RULES = ROOT / "deploy" / "prometheus"


def program(name: str) -> str:
    """Where it is.

    Raises:
        AssertionError: it is not installed.
    """
    path = shutil.which(name)
    assert path is not None, f"{name} is not on the PATH: run tools/setup-artefacts"
    return path


class Prometheus:
    """A running server."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def api(self, path: str, **parameters: str) -> Any:
        """The `data` of an API answer.

        Raises:
            ValueError: the server says that the question is wrong.
        """
        async with self._session.get(f"{self.url}/api/v1/{path}", params=parameters) as response:
            answer = await response.json()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant vector, or one without labels for a scalar."""
        data = await self.api("query", query=expression)
        return data["result"] if data["resultType"] == "vector" else [{"metric": {}, "value": data["result"]}]

    async def wait_until_up(self) -> None:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with self._session.get(f"{self.url}/-/ready") as response:
                        if response.ok:
                            return
                await asyncio.sleep(0.1)


def settings_for(targets: Mapping[str, Sequence[str]], interval: str) -> dict[str, Any]:
    """Prometheus' settings: scrape these URLs, by job, under our rules."""
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(RULES / "rules.yml"), str(RULES / "alerts.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [urlsplit(url).netloc for url in urls]}]}
            for job, urls in targets.items()
        ],
    }


@asynccontextmanager
async def prometheus_server(
    folder: Path, targets: Mapping[str, Sequence[str]], interval: str = "1s"
) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes `targets`; its data stay in `folder`, for a later one to go on with."""
    config, address = folder / "prometheus.yml", f"127.0.0.1:{free_port()}"
    with config.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings_for(targets, interval), file)
    with (folder / "prometheus.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(f"http://{address}", session)
            await server.wait_until_up()
            yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
