"""The supervisor over programs that behave as workers may: a few lines each, run by the interpreter alone."""

import asyncio
import logging
import os
import re
import signal
import socket
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway import supervisor
from campaign_gateway.admin.workers import WorkerClient
from campaign_gateway.settings import Address, Settings, read_tree
from campaign_gateway.supervisor import next_pause, supervise
from tests.support.waiting import until

UP = "print('up', flush=True)"
UNTIL_TOLD = "sys.stdin.read()"
"""Waits for the supervisor's end, or a signal's."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    secret = tmp_path / "client-secret"
    secret.write_text("an invented secret")
    return read_tree(
        {
            "listen": "127.0.0.1:0",
            "admin_listen": "127.0.0.1:0",
            "workers": 2,
            "credentials": {"main": {"client_id": "cs-1", "client_secret_file": str(secret)}},
            "streams": {"support": {"stream_id": "st-1", "account_id": "acc-1", "credential": "main"}},
            "cache": {"url": "redis://127.0.0.1:1"},
            "shutdown": {"drain": "0ms", "grace": "100ms"},
        }
    )


class Service:
    """A supervisor under test, what it logs, and the program that its workers run."""

    def __init__(self, settings: Settings, folder: Path, log: pytest.LogCaptureFixture) -> None:
        self.settings, self.folder, self.log = settings, folder, log
        self.program = folder / "worker.py"
        self.asked = asyncio.Event()
        self.code: int | None = None

    def write(self, text: str) -> None:
        """What a worker does: `number`, `port` and `path` are what it is given, `first` is whether it is the first one
        at its number."""
        head = f"""
            import os, signal, sys, time
            number, port, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
            folder = {str(self.folder)!r}
            first = not os.path.exists(f"{{folder}}/{{number}}")
            open(f"{{folder}}/{{number}}", "a").write(f"{{os.getpid()}}\\n")
        """
        self.program.write_text(textwrap.dedent(head) + textwrap.dedent(text))

    async def run(self) -> int:
        command = (sys.executable, "-S", "-E", str(self.program))

        async def until_stopped() -> str:
            await self.asked.wait()
            return "the test"

        async with asyncio.timeout(20):
            return await supervise(self.settings, command, until_stopped)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Once it serves; `code` is what it ended with."""
        async with asyncio.TaskGroup() as group:
            run = group.create_task(self.run())
            await until(lambda: self.said("serving on 127.0.0.1:"))
            yield
            self.asked.set()
        self.code = run.result()

    def pids(self, number: int) -> list[int]:
        """All processes that there were at a number, the newest last."""
        revision = self.folder / str(number)
        return [int(pid) for pid in revision.read_text().split()] if revision.exists() else []

    def said(self, text: str) -> bool:
        return any(text in message for message in self.log.messages)

    def admin_url(self) -> str:
        [line] = [message for message in self.log.messages if message.startswith("serving on")]
        return f"http://{line.rpartition(' ')[2]}"


@pytest.fixture
def service(settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Service:
    caplog.set_level(logging.INFO)
    return Service(settings, tmp_path, caplog)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_serves_when_all_are_up_and_ends_with_0_when_asked(service: Service):
    service.write(f"{UP}\n{UNTIL_TOLD}")
    async with service.running():
        pass
    assert service.code == 0
    assert not any(is_running(pid) for number in (0, 1) for pid in service.pids(number))


async def test_all_are_told_the_same_free_port_and_a_socket_in_a_private_folder(service: Service):
    service.write(f"""
        print(f"{{port}} {{path}} {{os.stat(os.path.dirname(path)).st_mode:o}}", file=open(f"{{folder}}/told-{{number}}", "w"))
        {UP}
        {UNTIL_TOLD}
    """)
    async with service.running():
        pass
    told = [(service.folder / f"told-{number}").read_text().split() for number in (0, 1)]
    assert told[0][0] == told[1][0]
    assert service.said(f"serving on 127.0.0.1:{told[0][0]},")
    assert told[0][1] != told[1][1]
    assert told[0][2] == "40700"
    assert not Path(told[0][1]).parent.exists()


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param("sys.exit(2)", 2, id="bad-settings"),
        pytest.param("sys.exit(1)", 1, id="a-failure"),
        pytest.param("sys.exit(7)", 1, id="an-unknown-code"),
        pytest.param("sys.exit(0)", 1, id="gone-though-nobody-asked"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", 1, id="killed"),
        pytest.param("os.kill(os.getpid(), signal.SIGTERM)", 1, id="terminated-though-nobody-asked"),
    ],
)
async def test_a_worker_that_does_not_start_ends_the_service(service: Service, end: str, code: int):
    service.write(f"""
        if number == 1:
            {end}
        {UP}
        {UNTIL_TOLD}
    """)
    assert await service.run() == code
    assert not service.said("serving on")
    assert len(service.pids(0)) <= 1
    assert len(service.pids(1)) == 1
    assert not any(map(is_running, service.pids(0)))


async def test_a_program_that_is_not_there_ends_the_service(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/no/such/program")
    assert await service.run() == 1
    assert service.said("worker 0 cannot be started: ")


async def test_once_all_were_up_whatever_ends_a_worker_is_tried_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 0.02)
    service.write(f"{UP}\n{UNTIL_TOLD}")
    async with service.running():
        service.write("sys.exit(2)")
        os.kill(service.pids(1)[0], signal.SIGKILL)
        await until(lambda: len(service.pids(1)) >= 4)
        service.write(f"{UP}\n{UNTIL_TOLD}")
        count = len(service.pids(1))
        await until(lambda: len(service.pids(1)) > count)
        async with aiohttp.ClientSession() as session, session.get(f"{service.admin_url()}/metrics") as response:
            page = await response.text()
    assert service.code == 0
    assert len(service.pids(0)) == 1
    found = dict(re.findall(r'^campaign_gateway_worker_restarts_total{worker="(\d)"} (\S+)$', page, re.MULTILINE))
    assert found["0"] == "0.0"
    assert float(found["1"]) >= 4
    assert service.said("worker 1 ended with -9: the next one starts in 0.01 s")
    assert service.said("worker 1 ended with 2: the next one starts in 0.02 s")


async def test_it_stops_at_once_also_while_a_worker_is_away(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE_SECONDS", 1000.0)
    service.write(f"{UP}\n{UNTIL_TOLD}")
    async with service.running():
        os.kill(service.pids(1)[0], signal.SIGKILL)
        await until(lambda: service.said("worker 1 ended"))
    assert service.code == 0


@pytest.mark.drill(
    "a worker that hangs, when it serves or before",
    planted="a program that never answers",
    seen="killed and replaced within 10 s; a slow start is no hang",
)
async def test_a_worker_that_does_not_answer_is_killed_and_replaced(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)
    service.write(f"{UP}\n{UNTIL_TOLD}")
    async with service.running():
        await until(lambda: len(service.pids(1)) >= 2)
    assert service.code == 0
    assert service.said("worker 1 does not answer: it is killed")
    assert not is_running(service.pids(1)[0])


@pytest.mark.drill("a worker that hangs, when it serves or before")
async def test_the_next_worker_may_take_longer_to_start_than_one_may_hang(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.02)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_SECONDS", 0.01)
    # The first one at number 1 hangs when it is up; the next one comes up once it is allowed to, hours later.
    service.write(f"""
        if number == 1 and not first:
            while not os.path.exists(f"{{folder}}/go"):
                time.sleep(0.01)
        {UP}
        {UNTIL_TOLD}
    """)
    rounds = 0
    fetch = WorkerClient.fetch

    async def count(client: WorkerClient, target: str, seconds: float) -> dict[int, Any]:
        nonlocal rounds
        rounds += 1
        # Number 0 answers, so that only the other one is replaced.
        return {0: None, **await fetch(client, target, seconds)}

    monkeypatch.setattr(WorkerClient, "fetch", count)
    async with service.running():
        await until(lambda: len(service.pids(1)) >= 2)
        begun = rounds
        await until(lambda: rounds >= begun + 5 * supervisor.MISSES)
        assert len(service.pids(1)) == 2
        (service.folder / "go").touch()
        await until(lambda: len(service.pids(1)) >= 3)
    assert service.code == 0


@pytest.mark.drill("a worker that hangs, when it serves or before")
async def test_a_worker_that_does_not_come_up_is_killed(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "START_SECONDS", 0.5)
    service.write(f"{UNTIL_TOLD}")
    assert await service.run() == 1
    assert service.said("does not come up: it is killed")


async def test_a_worker_that_does_not_stop_is_killed_in_the_end(service: Service, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "STOP_MARGIN_SECONDS", 0.1)
    service.write(f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{UP}\ntime.sleep(1000)")
    async with service.running():
        pass
    assert service.code == 0, "it was asked to stop, and has"
    assert service.said("2 workers did not stop in time")
    assert not any(is_running(pid) for number in (0, 1) for pid in service.pids(number))


async def test_it_can_be_stopped_before_all_are_up(service: Service):
    service.write(f"time.sleep(1000 * number)\n{UP}\n{UNTIL_TOLD}")
    async with asyncio.TaskGroup() as group:
        running = group.create_task(service.run())
        await until(lambda: service.pids(0) and service.pids(1))
        service.asked.set()
    assert running.result() == 0
    assert not service.said("serving on")


async def test_a_worker_that_is_being_started_when_it_is_stopped_is_stopped_too(
    service: Service, monkeypatch: pytest.MonkeyPatch
):
    start = asyncio.create_subprocess_exec

    async def stop_meanwhile(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        service.asked.set()
        await asyncio.sleep(0.1)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", stop_meanwhile)
    service.write(f"{UP}\n{UNTIL_TOLD}")
    assert await service.run() == 0
    assert not service.said("did not stop in time")


@pytest.mark.parametrize(
    ("last", "ran", "pause"),
    [
        pytest.param(0.0, 0.0, 0.5, id="the-first"),
        pytest.param(0.5, 1.0, 1.0, id="doubles"),
        pytest.param(16.0, 59.0, 30.0, id="is-bounded"),
        pytest.param(30.0, 0.0, 30.0, id="stays-bounded"),
        pytest.param(30.0, 60.0, 0.5, id="begins-anew-after-a-steady-run"),
    ],
)
def test_pauses(last: float, ran: float, pause: float):
    assert next_pause(last, ran) == pause


async def test_a_port_that_is_reserved_is_shared_by_workers_and_by_nobody_else():
    async with AsyncExitStack() as stack:
        [taken] = supervisor._reserve([Address("127.0.0.1", 0)], stack)
        assert taken.port > 0
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(taken)
        for _ in range(2):
            stack.enter_context(socket.create_server(taken, reuse_port=True))
        with pytest.raises(OSError, match="in use"):
            supervisor._reserve([taken], stack)
