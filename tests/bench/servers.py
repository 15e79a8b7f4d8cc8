"""The servers that are measured: started on one core of their own, asked what they have cost, and ended."""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.tls import Authority, Identity

_CORES = sorted(os.sched_getaffinity(0))
MEASURED = _CORES[0]
LOAD = _CORES[1 % len(_CORES)]
BESIDE = _CORES[2] if len(_CORES) > 2 else LOAD
"""Where all the rest runs: Redis, the simulated platform, the origin. It shares the load's core where there are two."""

START_SECONDS = 20.0
END_SECONDS = 5.0


class AbsentError(Exception):
    """Why a server cannot be measured on this machine."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that answers `/v1/campaigns/{id}`."""

    name: str
    port: int
    pid: int
    fields: Mapping[str, str] = field(default_factory=dict)
    """Header fields that every answer must have, and a text in each."""
    has_keys: bool = False
    """Whether it refuses requests without the client's key."""
    is_exact: bool = True
    """Whether bodies are the origin's bytes, not only its JSON."""
    has_tls: bool = False

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.has_tls else 'http'}://127.0.0.1:{self.port}"

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children so far."""
        return sum(map(_cpu_seconds, _family(self.pid)))


def identity_in(folder: Path) -> Identity:
    """The certificate of the servers that speak TLS; one for all that start in the folder."""
    found = Identity(folder / "authority-server.crt", folder / "authority-server.key")
    return found if found.cert_file.exists() else Authority(folder, "authority").issue("server", "127.0.0.1")


class Servers:
    """Starts processes, and ends them all when the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[asyncio.subprocess.Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for process in self._processes:
            try:
                await asyncio.wait_for(process.wait(), END_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def start(self, command: Iterable[object], port: int, environ: Mapping[str, str] | None = None) -> int:
        """The id of a process on the measured core, once it listens. What it says goes to `/dev/null`.

        Raises:
            AbsentError: it ended, or did not listen in time.
        """
        with on_core(MEASURED):
            process = await asyncio.create_subprocess_exec(
                *map(str, command),
                env={**os.environ, **(environ or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        self._processes.append(process)
        if not await is_listening(port, process, START_SECONDS):
            raise AbsentError(f"did not start: {' '.join(map(str, command))}")
        return process.pid


async def is_listening(port: int, process: asyncio.subprocess.Process, seconds: float) -> bool:
    """Whether somebody listens on the port within so many seconds; False at once when the process ends before."""
    deadline = asyncio.get_running_loop().time() + seconds
    while process.returncode is None and asyncio.get_running_loop().time() < deadline:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.005)
        else:
            writer.close()
            return True
    return False


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside runs on this core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _family(pid: int) -> list[int]:
    """The process and all that descend from it: a cache's worker may be a child of what was started."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
