"""The simulated platform at the command line: the real process, used as what it prints says."""

import asyncio
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

from tests.support.gateway import ROOT
from tests.support.waiting import until

SECONDS = 30.0


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
async def command(folder: Path, *words: str) -> AsyncIterator[Command]:
    with (folder / "output").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "campaign_gateway", *words),
            env={**os.environ, "PYTHONPATH": str(ROOT / "service")},
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


async def test_a_demo_takes_free_ports_and_each_command_that_it_prints_does_what_it_says(tmp_path: Path) -> None:
    with socket.socket() as ours:
        # Whoever has it already serves as well.
        with suppress(OSError):
            ours.bind(("127.0.0.1", 8080))
            ours.listen()
        async with command(tmp_path, "demo", "--admin-port=0") as demo:
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
