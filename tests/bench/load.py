"""The load: wrk at full speed, and `pace` at a given rate; both on a core of their own."""

import asyncio
import json
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.servers import LOAD, Server, on_core

CONNECTIONS = 64
PATIENCE = "20s"
"""What wrk waits for an answer: on a busy machine the slowest servers take longer than its usual two seconds."""
HOST = "gateway.internal"
"""What all requests name: some caches take it for a part of an answer's name."""
_SCRIPT = Path(__file__).with_name("load.lua")


class BadRunError(Exception):
    """Answers that must not be counted."""


@dataclass(frozen=True, slots=True)
class Peak:
    """One run at full speed."""

    rate: float
    """Answers a second."""
    cpu: float
    """Microseconds of the server's CPU for each."""
    p50: float
    """Microseconds, as `p99`."""
    p99: float


@dataclass(frozen=True, slots=True)
class Paced:
    """One run at a given rate: microseconds."""

    p50: float
    p99: float
    p999: float
    late_p99: float
    """Of the load itself: what it may have added."""
    late_p999: float


def write_heads(file: Path, ids: Iterable[str], key: str, more: str = "") -> None:
    """As `write_targets`, for reads of these campaigns."""
    write_targets(file, (f"/v1/campaigns/{id_}" for id_ in ids), key, more)


def write_targets(file: Path, targets: Iterable[str], key: str, more: str = "") -> None:
    """The requests for both kinds of load, one a line, `|` between their lines, up to the request id's value.

    Args:
        file: where to.
        targets: what is read.
        key: the client's.
        more: a further field; `~` stands for a number that is another one in each request.
    """
    more = more and f"{more}|"
    fields = f"Host: {HOST}|User-Agent: bench|Accept: */*|Authorization: Bearer {key}|{more}X-Request-ID: bench-"
    file.write_text("".join(f"GET {target} HTTP/1.1|{fields}\n" for target in targets))


async def peak(server: Server, seconds: int, heads: Path, connections: int = CONNECTIONS) -> Peak:
    """What the server does with as many requests as so many connections can ask.

    Raises:
        BadRunError: an answer was not a 200, or a connection broke.
    """
    before = server.cpu_seconds()
    options = ("-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", PATIENCE, "-s", str(_SCRIPT))
    said = await _run("wrk", *options, server.url, "--", str(heads))
    cpu = server.cpu_seconds() - before
    if said["bad_status"] or said["broken"] or not said["requests"]:
        raise BadRunError(f"{said['bad_status']} answers above 399, {said['broken']} broken, of {said['requests']}")
    return Peak(said["requests"] / said["seconds"], cpu / said["requests"] * 1e6, said["p50"], said["p99"])


async def paced(server: Server, rate: float, seconds: float, heads: Path, *, is_sleeping: bool = False) -> Paced | None:
    """What callers wait who ask at this rate; None when the server cannot keep up with them.

    Args:
        server: who is asked.
        rate: requests a second.
        seconds: for how long.
        heads: see `write_heads`.
        is_sleeping: whether the load leaves its core to others between requests.

    Raises:
        BadRunError: an answer was not a 200.
    """
    arguments = (str(server.port), str(rate), str(seconds), str(heads), *(("sleeping",) if is_sleeping else ()))
    said = await _run(sys.executable, "-m", "tests.bench.pace", *arguments)
    if not said["kept_up"]:
        return None
    return Paced(said["p50"], said["p99"], said["p999"], said["late_p99"], said["late_p999"])


def has_wrk() -> bool:
    """Whether the load's program is there."""
    return shutil.which("wrk") is not None


async def _run(*command: str) -> Any:
    with on_core(LOAD):
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
    said, _ = await process.communicate()
    last = said.decode().strip().rpartition("\n")[2]
    if process.returncode or not last.startswith("{"):
        raise BadRunError(f"{command[0]}: {last}")
    return json.loads(last)
