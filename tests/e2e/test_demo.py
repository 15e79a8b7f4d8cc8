"""The simulated platform at the command line: the real process, used as what it prints says."""

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway.sandbox.magic import MAGIC_IDS
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import ROOT
from tests.support.waiting import until

SECONDS = 60.0
"""Long enough for a machine that has ten other things to do."""


@dataclass
class Command:
    """A command that runs until it is stopped, and all that it has printed."""

    process: asyncio.subprocess.Process
    output: Path

    @property
    def said(self) -> str:
        return self.output.read_text()

    async def says(self, text: str) -> None:
        def has_said() -> bool:
            assert self.process.returncode is None, self.said
            return text in self.said

        await until(has_said, SECONDS)


@asynccontextmanager
async def command(folder: Path, *words: str, **environ: str) -> AsyncIterator[Command]:
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "campaign_gateway", *words),
            env={**os.environ, "PYTHONPATH": str(ROOT / "service"), **environ},
            stdout=output,
            stderr=output,
        )
    try:
        yield Command(process, folder / "output")
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()


async def paste(words: Sequence[str]) -> str:
    """What a printed command prints, once it has succeeded."""
    done = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await done.communicate()
    assert done.returncode == 0
    return said.decode()


@pytest.mark.drill(
    "a port that the demo would take",
    planted="another program listens there",
    seen="a free one, and a line that says so",
)
async def test_a_demo_takes_free_ports_and_each_command_that_it_prints_does_what_it_says(tmp_path: Path) -> None:
    with socket.socket() as ours:
        # Whoever has it already serves as well.
        with suppress(OSError):
            ours.bind(("127.0.0.1", 8080))
            ours.listen()
        # As in the image, which lets others in.
        async with command(tmp_path, "demo", "--admin-port=0", GATEWAY_DEMO_HOST="0.0.0.0") as demo:
            await demo.says("Ctrl-C stops it.")
            assert "Port 8080 is taken: a free one is used instead." in demo.said
            printed = [shlex.split(line) for line in re.findall(r"^  (curl .*)$", demo.said, re.MULTILINE)]
            twice, ask, edit, read_name, break_, mend, hundred = printed

            assert "fwd=uri-miss" in await paste(twice)
            assert "; hit;" in await paste(twice)
            await demo.says(" 200 hit ")
            assert re.search(
                r"^\d\d:\d\d:\d\d  GET +/v1/campaigns/\S+ +200 miss +\d+\.\d\d ms  \d+ of 60 calls left$",
                demo.said,
                re.MULTILINE,
            )

            await paste(ask)
            await paste(edit)

            async def is_seen() -> bool:
                return '"Edited"' in await paste(read_name)

            await until(is_seen, SECONDS)

            await paste(break_)
            assert "200 OK" in await paste(twice)
            # What was never read has no stored answer.
            assert "upstream-unavailable" in await paste([*twice[:-1], twice[-1] + "-not-stored"])
            await demo.says(" 502 upstream-unavailable ")
            await paste(mend)

            await paste(hundred)
            await until(lambda: hits_in(demo.said) > 100, SECONDS)


def hits_in(said: str) -> int:
    """How many hits the lines stand for."""
    return sum(int(many or 1) for many in re.findall(r" 200 hit(?:,? [^\n]*?)?(?: x (\d+))? +[\d.]+ ms", said))


ALL, READ, SLOW = "sandbox-only-key", "sandbox-only-key-that-reads", "sandbox-only-key-for-one-a-minute"
SPENT = "/v1/streams/spent"


async def test_tests_of_others_can_have_each_problem_from_a_sandbox_with_a_gateway(tmp_path: Path) -> None:
    ports = ["--port=0", "--gateway-port=0", "--admin-port=0"]
    words = ["sandbox", "--with-gateway", "--json", "--seed=2", *ports]
    async with command(tmp_path, *words) as sandbox, aiohttp.ClientSession() as session:
        await until(lambda: sandbox.said.endswith("}\n"), SECONDS)
        ready = json.loads(sandbox.said)
        assert (ready["key"], ready["keys"]) == (ALL, {"all": ALL, "read": READ, "slow": SLOW})
        assert ready["streams"] == ["sandbox", "spent"]
        seeded = Sandbox(SandboxConfig(seed=2)).campaigns.all()
        assert ready["campaigns"] == [campaign.id for campaign in seeded]

        async def status_of(method: str, path: str, key: str | None = ALL, **options: Any) -> tuple[int, str]:
            """The status, and the problem or how it was answered."""
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            async with session.request(method, ready["gateway"] + path, headers=headers, **options) as answer:
                if "problem" in answer.content_type:
                    return answer.status, (await answer.json())["type"].removeprefix("/problems/")
                return answer.status, answer.headers["Cache-Status"]

        async def read(campaign: str, key: str | None = ALL, stream: str = "/v1") -> tuple[int, str]:
            return await status_of("GET", f"{stream}/campaigns/{campaign}", key)

        # The platform's answers, by ids.
        for name, row in MAGIC_IDS.items():
            if name.startswith("problem-") and name not in {"problem-upstream-rejected", "problem-upstream-paused"}:
                assert "{} {}".format(*await read(name)) == re.split("[;:,]", row.gives)[0]
        rejected = (422, "upstream-rejected")
        assert (
            await status_of("PUT", "/v1/campaigns/problem-upstream-rejected?type=sms", json={"name": "x"}) == rejected
        )
        assert (await read("answer-slow"))[0] == 200
        assert "fwd=uri-miss" in (await read("answer-stale"))[1]

        async def is_stale() -> bool:
            return "stale" in (await read("answer-stale"))[1]

        await until(is_stale, SECONDS)

        # The gateway's own, by keys and streams.
        first, second, *_ = ready["campaigns"]
        assert await read(first, key=None) == (401, "unauthenticated")
        assert await status_of("DELETE", f"/v1/campaigns/{first}", READ) == (403, "forbidden")
        assert (await read(first, SLOW))[0] == 200
        assert await read(first, SLOW) == (429, "rate-limited")
        assert await read("problem-upstream-paused", stream=SPENT) == (503, "upstream-paused")
        assert (await read(second))[0] == 200


async def test_a_stream_whose_calls_are_spent_says_so(tmp_path: Path) -> None:
    ports = ["--port=0", "--gateway-port=0", "--admin-port=0"]
    async with (
        command(tmp_path, "sandbox", "--with-gateway", "--host=0.0.0.0", *ports) as sandbox,
        aiohttp.ClientSession() as session,
    ):
        await sandbox.says("curl -si -H 'Authorization: Bearer sandbox-only-key' ")
        (url,) = re.findall(r"gateway in front +(\S+)", sandbox.said)
        answers = []
        for number in range(2):
            path = f"{url}{SPENT}/campaigns/answer-slow-{number}"
            async with session.get(path, headers={"Authorization": f"Bearer {ALL}"}) as answer:
                answers.append((answer.status, "budget-exhausted" in await answer.text()))
        assert answers == [(200, False), (503, True)]
