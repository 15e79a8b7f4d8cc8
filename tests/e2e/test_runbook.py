"""What the runbook tells people to search for is there: in the log, the settings, `/metrics`, `/readyz`."""

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from campaign_gateway.cli import main
from campaign_gateway.policy.sweeping import ListFlaw
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.settings import Settings
from campaign_gateway.usage import commands
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
WORDS = sorted(set(re.findall(r"`([^`]+)`", (ROOT / "deploy" / "runbook.md").read_text("utf-8").replace("\n", " "))))
KEY = "runbook-test-key"

STAGED = {
    '"problem":"forbidden"',
    '"problem":"unauthenticated"',
    '"problem":"upstream-unauthorized"',
    "the platform asked for a pause",
    "the platform refuses credential",
}
"""Phrases to search the log for, each of which an incident of this test writes."""
WRITTEN = {"task ... failed", "worker 1 ended with -9", "does not answer", "a caller does not read its answer"}
"""Phrases of the log whose incidents other tests stage (tasks, workers, callers): compared with the text of the call."""
COMMANDS = {word for word in WORDS if word.startswith("campaign-gateway ")}
OTHER = {"504 not-cached", "410 Gone", "listen to the bus", "sweep ...", "ACL LIST", "CLIENT LIST"} | {
    "kubectl exec POD -- sh -c 'kill -HUP 1'",
}
"""Answers, names of tasks, and commands of Redis and Kubernetes."""


def test_every_phrase_of_the_runbook_is_known_to_this_test() -> None:
    assert {word for word in WORDS if re.search(r'[ "]', word)} == STAGED | WRITTEN | OTHER | COMMANDS


@pytest.mark.parametrize("line", sorted(COMMANDS))
def test_a_command_is_one_that_there_is(line: str) -> None:
    (options,) = [
        {option for parameter in command.params for option in parameter.opts}
        for name, command in commands(main)
        if line.startswith(f"campaign-gateway {name}")
    ]
    assert set(re.findall(r"--[a-z-]+", line)) <= options


def texts() -> Iterator[str]:
    """Every string in the package."""
    for path in (ROOT / "service" / "campaign_gateway").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize("phrase", sorted(WRITTEN | {"listen to the bus", "sweep ..."}))
def test_a_phrase_is_one_that_the_gateway_writes(phrase: str) -> None:
    pattern = re.escape(re.sub(r"\.\.\.|-?\d+", "%", phrase)).replace("%", ".*")
    assert any(re.search(pattern, text) for text in texts())


async def incidents(gateway: GatewayProcess, sandbox: Sandbox) -> None:
    """A caller without a key, one without the right, a pause, and a wrong secret."""
    key = {"Authorization": f"Bearer {KEY}"}
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    assert (await gateway.get(ids[0]))[0] == 401
    async with gateway.session.post(f"{gateway.url}/v1/purge", data=b'{"all": true}', headers=key) as refused:
        assert refused.status == 403
    sandbox.faults.add("limit-429-seconds", times=1, retry_after_seconds=1)
    assert (await gateway.get(ids[0], **key))[0] == 503

    async def is_over() -> bool:
        return (await gateway.get(ids[0], **key))[0] == 200

    await until(is_over)
    sandbox.app.secret = sandbox.config.secret[::-1]
    for id_ in ids[1:5]:
        assert (await gateway.get(id_, **key))[0] == 502


def keys_of(model: Any, path: str = "") -> Iterator[str]:
    """Every key of the settings with those above it, `*` for a name that people choose."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield f"{path}{name}"
            yield from keys_of(field.annotation, f"{path}{name}.")
        return
    for inner in getattr(model, "__args__", ()):
        yield from keys_of(inner, path)
        yield from keys_of(inner, f"{path}*.")


async def test_what_the_runbook_tells_people_to_search_for_is_there(sandbox: Sandbox, tmp_path: Path) -> None:
    clients = {
        "reporting": {
            "key_sha256": hashlib.sha256(KEY.encode()).hexdigest(),
            "streams": ["support"],
            "scopes": ["read"],
        }
    }
    async with gateway_process(settings_for(sandbox, tmp_path, clients=clients), tmp_path) as gateway:
        await incidents(gateway, sandbox)
        await until(lambda: all(any(phrase in line for line in gateway.log) for phrase in STAGED))
        page, ready = await gateway.metrics(), await gateway.get_json("/readyz")
        lines = gateway.records()
    settings = set(keys_of(Settings))
    known = {
        *settings,
        *(key.rpartition(".")[2] for key in settings),
        *re.findall(r"\w+", page),
        *re.findall(r'"([^"]+)"', page),
        *ready["parts"],
        *(name for line in lines for name in line),
        *(flaw.value for flaw in ListFlaw),
        *re.findall(r"\w+", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")),
        *texts(),
    }
    for word in WORDS:
        if word in STAGED | WRITTEN | OTHER | COMMANDS or re.fullmatch(r"[1-5]\d\d|\d", word):
            continue
        assert word in known or word.strip("?=") in known or (ROOT / "deploy" / word).exists(), word
