"""How many instructions a hit takes: a measure of its price that no busy neighbour changes.

`python -m tests.bench.instructions`; half a minute with valgrind, else a second. Requests are those of `hits`. Two
figures:

- Instructions of Python's bytecode, traced. They are the same each time, on any machine, but for another version of
  Python. A unit test holds them.
- Instructions of the processor, by callgrind, with clocks that stand still: the difference of two runs of which one answers
  more hits. They move by half a percent, and see what the first ones do not: work inside of what is written in C.

It fails where one is beyond `MOST` times what is recorded; `--record` writes down what it finds. Whoever makes a hit
dearer on purpose records that in the same commit, whose body says why.
"""

import asyncio
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import click

from campaign_gateway.web import grants, patterns
from tests.bench.hits import SIZE, Room, head, logging_to_nowhere

FILE = Path(__file__).parent / "results" / "instructions.json"
MOST = 1.1
CAMPAIGNS = 100
TRACED = 500
"""Hits."""
FEW, MANY = 300, 5_300
"""Hits that the two runs under callgrind answer."""


def recorded() -> Mapping[str, float]:
    """The figures of this version of Python, by name; empty where there are none."""
    version = ".".join(platform.python_version_tuple()[:2])
    found: Mapping[str, float] = json.loads(FILE.read_text("utf-8")).get(version, {})
    return found


async def bytecodes() -> float:
    """Instructions of Python for one hit."""
    room, count = Room(CAMPAIGNS, SIZE), 0
    await room.open()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    heads, before = _heads(TRACED), sys.gettrace()
    with logging_to_nowhere():
        room.hits(heads)
        sys.settrace(trace)
        try:
            room.take(heads)
        finally:
            sys.settrace(before)
        room.hits(heads)
    return count / TRACED


def machine() -> float | None:
    """Instructions of the processor for one hit; None where there is no valgrind."""
    if shutil.which("valgrind") is None:
        return None
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={os.devnull}",
        sys.executable,
        "-m",
        __spec__.name,
    ]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    runs = [
        subprocess.Popen([*command, "--answer", str(hits)], stderr=subprocess.PIPE, env=environment, text=True)
        for hits in (FEW, MANY)
    ]
    few, many = (_collected(run) for run in runs)
    return (many - few) / (MANY - FEW)


def _collected(run: subprocess.Popen[str]) -> int:
    _, said = run.communicate()
    found = re.search(r"Collected : (\d+)", said)
    if run.returncode or found is None:
        raise click.ClickException(f"valgrind failed: {said}")
    return int(found[1])


async def _answer(hits: int) -> None:
    """So many hits, while no time passes."""
    room, heads = Room(CAMPAIGNS, SIZE), _heads(MANY)
    await room.open()
    moment = time.perf_counter()
    # Not functions of Python's, which would be counted.
    for module in (grants, patterns):
        module.perf_counter = itertools.repeat(moment).__next__  # type: ignore[attr-defined]
    time.time = itertools.repeat(time.time()).__next__
    time.monotonic = itertools.repeat(time.monotonic()).__next__
    with logging_to_nowhere():
        room.hits(heads[:FEW])
        room.hits(heads[:hits])


def _heads(count: int) -> list[bytes]:
    return [head(number % CAMPAIGNS, number) for number in range(count)]


@click.command()
@click.option("--record", is_flag=True, help="Write down what is found.")
@click.option("--answer", type=int, hidden=True)
def main(answer: int | None, *, record: bool) -> None:
    """Counts the instructions of a hit."""
    if answer is not None:
        asyncio.run(_answer(answer))
        return
    found = {"bytecodes": asyncio.run(bytecodes()), "machine": machine()}
    figures = {name: round(figure) for name, figure in found.items() if figure is not None}
    for name, figure in figures.items():
        click.echo(f"{name:10} {figure:7,} a hit, recorded {recorded().get(name, 0):7,.0f}")
    if record:
        version = ".".join(platform.python_version_tuple()[:2])
        known = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
        known[version] = known.get(version, {}) | figures
        FILE.write_text(json.dumps(known, indent=2) + "\n", "utf-8")
    elif dear := [name for name, figure in figures.items() if figure > MOST * recorded().get(name, figure)]:
        raise click.ClickException(f"a hit takes more than {MOST} times what is recorded: {', '.join(dear)}")


if __name__ == "__main__":
    main()
