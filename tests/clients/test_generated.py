"""Clients that widely used generators make of the running gateway's description, used against it as callers use them."""

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import ROOT, gateway_process, settings_for

HERE = Path(__file__).parent
TOOLS = ROOT / ".venv-clients"
NODE = TOOLS / "node" / "node_modules"
KEY = "cgk_the-client-key"
SECONDS = 120
"""For any one program; each takes a few."""

typescript = pytest.mark.skipif(
    not (NODE.parent / ".ready").is_file(), reason="no Node.js: tools/setup-clients says what is missing"
)
ENVIRON = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}


async def run(*command: str | Path, folder: Path) -> str:
    """What the program prints. It must end well, in time."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=folder, env=ENVIRON, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(SECONDS):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()
    return printed.decode()


@dataclass
class Served:
    """A gateway before a simulated platform, and its description in a file."""

    url: str
    folder: Path
    description: Path
    sandbox: Sandbox

    def judge(self, printed: str) -> None:
        """Holds what a client saw against what there is."""
        seen: dict[str, Any] = json.loads(printed.splitlines()[-1])
        names = {campaign.id: campaign.name for campaign in self.sandbox.campaigns.all()}
        assert len(seen["ids"]) == 2
        assert seen["name"] == names[seen["ids"][0]]
        assert seen["hours"]
        assert set(seen["cut"]) == {"name", "status"}
        assert seen["batch"] == [200, 200, 404]
        assert seen["in_batch"] == "/problems/campaign-not-found"
        told = ["campaign-not-found", "unauthenticated", "upstream-rejected"]
        assert seen["problems"] == [f"/problems/{name}" for name in told]


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    clients = {"caller": {"key_sha256": digest, "streams": ["support"], "scopes": ["read", "write"]}}
    async with Sandbox(SandboxConfig(campaigns=5)) as sandbox:
        tree = settings_for(sandbox, tmp_path, clients=clients, sweep={"share": 0})
        async with gateway_process(tree, tmp_path) as gateway, aiohttp.ClientSession() as session:
            async with session.get(f"{gateway.url}/openapi.json") as answer:
                description = tmp_path / "openapi.json"
                description.write_bytes(await answer.read())
            yield Served(gateway.url, tmp_path, description, sandbox)


async def test_a_python_client_is_generated_without_a_warning_and_used(served):
    config = served.folder / "config.yaml"
    config.write_text("post_hooks: []\n")
    generated = await run(
        *(TOOLS / "bin" / "openapi-python-client", "generate", "--path", served.description, "--config", config),
        *("--output-path", served.folder / "client", "--fail-on-warning"),
        folder=served.folder,
    )
    assert "warning" not in generated.lower()
    served.judge(
        await run(
            *(TOOLS / "bin" / "python", HERE / "use_python.py", served.folder / "client", served.url, KEY),
            folder=served.folder,
        )
    )


async def used_from_typescript(served: Served, program: str, *generate: str | Path) -> None:
    """Generates, checks the program's types strictly against what came of it, and runs it."""
    (served.folder / "node_modules").symlink_to(NODE)
    (served.folder / "package.json").write_text('{"type": "module"}')
    for name in ("tsconfig.json", "sdk.config.js", program):
        shutil.copy(HERE / name, served.folder)
    await run(NODE / ".bin" / generate[0], *generate[1:], folder=served.folder)
    await run(NODE / ".bin" / "tsc", "-p", "tsconfig.json", folder=served.folder)
    served.judge(await run("node", Path(program).with_suffix(".js"), served.url, KEY, folder=served.folder))


@typescript
async def test_types_are_generated_and_used_with_openapi_fetch(served):
    generate = ("openapi-typescript", "openapi.json", "-o", "schema.d.ts")
    await used_from_typescript(served, "use_fetch.ts", *generate)


@typescript
async def test_a_typescript_client_is_generated_and_used(served):
    await used_from_typescript(served, "use_sdk.ts", "openapi-ts", "-f", "sdk.config.js")


@typescript
@pytest.mark.parametrize("linter", ["redocly", "spectral"])
async def test_linters_find_no_error(served, linter):
    rules = ("--ruleset", HERE / "spectral.yaml") if linter == "spectral" else ()
    await run(NODE / ".bin" / linter, "lint", *rules, served.description, folder=served.folder)
