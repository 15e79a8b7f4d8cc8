"""Several workers on one address: a small process that starts them, watches them, and answers operators for all.

1. The start is all or nothing. A worker that ends before all are up ends the service, with its exit code: what keeps
   it from starting (the settings, a port) would keep it from starting for ever.
2. From then on a worker that ends is replaced, after a pause that doubles while it keeps ending; the others serve.
3. No worker outlives the supervisor, whatever ended that: each stops when its standard input ends.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from campaign_gateway.admin.workers import WorkerClient, workers_application
from campaign_gateway.settings import Address, Settings
from campaign_gateway.telemetry.metrics import WorkerMetrics
from campaign_gateway.web.operators import OperatorsRunner
from campaign_gateway.web.sockets import bind, bind_all, named, say_serving

_log = logging.getLogger(__name__)

UntilStopped = Callable[[], Coroutine[Any, Any, str]]

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A worker that ran this long has not died of its start: the next one follows after the first pause again."""
WATCH_SECONDS = 1.5
"""How often each worker is asked whether it is alive, and how long the answer may take."""
MISSES = 4
"""Answers in a row that may be missing before a worker is taken for hung, and killed: another serves within 10 s."""
START_SECONDS = 60.0
"""How long a worker may take until it serves; nobody asks it before."""
STOP_MARGIN_SECONDS = 1.0
"""Beyond `shutdown.drain` and `grace`: a worker that can still count cuts itself off by then, and others are killed."""
EXIT_FAILED, EXIT_BAD_SETTINGS = 1, 2


async def supervise(
    settings: Settings,
    command: Sequence[str],
    until_stopped: UntilStopped,
    on_hangup: Callable[[Callable[[], None]], None] = lambda _do: None,
) -> int:
    """Runs the workers until asked to stop, and then lets all of them finish.

    Args:
        settings: the workers read them again, each for itself.
        command: starts a worker, when its number, the API's ports and the path of its admin socket are added. It says
            so on its standard output once it serves.
        until_stopped: returns when the service has to stop.
        on_hangup: told what to do for each SIGHUP, which is for the workers.

    Returns:
        The exit code: 0 if stopped as asked, 2 if a worker refused the settings, 1 for anything else.

    Raises:
        OSError: an address cannot be bound, or there is no place for the workers' sockets.
    """
    async with AsyncExitStack() as stack:
        # Readable by nobody else, as `mkdtemp` makes it.
        folder = stack.enter_context(TemporaryDirectory(prefix="campaign-gateway-"))
        sockets = [Path(folder, str(number)) for number in range(settings.workers)]
        with named("listen"):
            listen = _reserve(settings.listen, stack)
        metrics = WorkerMetrics(settings.workers)
        client = await stack.enter_async_context(WorkerClient(sockets))
        operators = workers_application(client, metrics.registry, metrics.answered)
        limits = settings.known_hosts, 0.25, settings.send_timeout, settings.max_unsent
        runner = OperatorsRunner(operators, *limits)
        admin_listen = await _open(runner, settings.admin_listen, stack)

        def report() -> None:
            say_serving(listen, admin_listen)

        start = Start(settings.workers, report)
        ports = ",".join(str(address.port) for address in listen)
        workers = [
            Worker(number, (*command, str(number), ports, str(path)), start, metrics.restarted)
            for number, path in enumerate(sockets)
        ]

        def hang_up() -> None:
            for worker in workers:
                worker.hang_up()

        on_hangup(hang_up)
        stop_seconds = settings.shutdown.seconds + STOP_MARGIN_SECONDS
        return await _run(workers, client, until_stopped, stop_seconds)


async def _run(
    workers: Sequence["Worker"], client: WorkerClient, until_stopped: UntilStopped, stop_seconds: float
) -> int:
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(until_stopped())
        watching = group.create_task(_watch(workers, client))
        keeping = [group.create_task(worker.keep()) for worker in workers]
        await asyncio.wait([stopping, *keeping], return_when=asyncio.FIRST_COMPLETED)
        is_stopped = stopping.done()
        if is_stopped:
            _log.info("stopping (%s): %d workers", stopping.result(), len(workers))
        for worker in workers:
            worker.stop()
        _, late = await asyncio.wait(keeping, timeout=stop_seconds)
        if late:
            _log.warning("%d workers did not stop in time: they are killed", len(late))
        for worker in workers:
            worker.kill()
        stopping.cancel()
        watching.cancel()
    # A worker that had only begun to start was ended by the signal itself, and one that was late by us.
    bad = {task.result() for task in keeping if task not in late} - {0, -signal.SIGTERM}
    if EXIT_BAD_SETTINGS in bad:
        return EXIT_BAD_SETTINGS
    return 0 if is_stopped and not bad else EXIT_FAILED


async def _watch(workers: Sequence["Worker"], client: WorkerClient) -> None:
    while True:
        alive, _ = await asyncio.gather(client.fetch("/livez", WATCH_SECONDS), asyncio.sleep(WATCH_SECONDS))
        for worker in workers:
            worker.note_answer(answered=worker.number in alive)


class Start:
    """The first start of all workers together."""

    def __init__(self, workers: int, when_done: Callable[[], None]) -> None:
        self._missing = set(range(workers))
        self._when_done = when_done

    @property
    def is_done(self) -> bool:
        """Whether all have been up."""
        return not self._missing

    def up(self, number: int) -> None:
        """One is up, for the first time or again."""
        if number in self._missing:
            self._missing.remove(number)
            if not self._missing:
                self._when_done()


class Worker:
    """One worker, and each that follows in its place when it ends."""

    def __init__(self, number: int, command: Sequence[str], start: Start, on_restart: Callable[[int], None]) -> None:
        self.number = number
        self._command = command
        self._start = start
        self._on_restart = on_restart
        self._process: asyncio.subprocess.Process | None = None
        self._is_up = False
        self._misses = 0
        self._is_stopping = asyncio.Event()

    async def keep(self) -> int:
        """Keeps a worker here until told to stop, or until one ends before the start is done. Returns its exit code."""
        pause = 0.0
        while True:
            began = time.monotonic()
            code = await self._run_one()
            if self._is_stopping.is_set() or not self._start.is_done:
                return code
            pause = next_pause(pause, time.monotonic() - began)
            _log.error("worker %d ended with %d: the next one starts in %g s", self.number, code, pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._is_stopping.wait()
            if self._is_stopping.is_set():
                return 0
            self._on_restart(self.number)

    async def _run_one(self) -> int:
        try:
            # Its input is what it holds on to; in a session of its own, so that a terminal's Ctrl-C comes by us alone.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            _log.error("worker %d cannot be started: %s", self.number, error)
            return EXIT_FAILED
        self._process, self._misses = process, 0
        try:
            if self._is_stopping.is_set():
                process.terminate()
            await self._wait_until_up(process)
            return await process.wait()
        finally:
            self.kill()
            self._process, self._is_up = None, False

    async def _wait_until_up(self, process: asyncio.subprocess.Process) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                self._is_up = process.stdout is not None and bool(await process.stdout.readline())
        except TimeoutError:
            _log.error("worker %d does not come up: it is killed", self.number)
            self.kill()
        if self._is_up:
            self._start.up(self.number)

    def note_answer(self, *, answered: bool) -> None:
        """Whether the worker has answered in time; after too many missing answers it is killed.

        One that is still starting is not expected to: on a busy machine that takes longer than a hang may last.
        """
        self._misses = self._misses + 1 if self._is_up and not answered else 0
        if self._misses >= MISSES and self._process is not None:
            _log.error("worker %d does not answer: it is killed", self.number)
            self.kill()

    def stop(self) -> None:
        """Asks the worker to finish, and lets no other follow."""
        self._is_stopping.set()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    def hang_up(self) -> None:
        """Passes a SIGHUP on. One that is still starting reads the settings anyway, and would die of it."""
        if self._is_up and self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Ends the worker at once, if it runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def next_pause(last: float, ran: float) -> float:
    """Seconds before the next start, after a pause of `last` and a worker that ran for `ran` seconds."""
    if ran >= STEADY_SECONDS:
        return FIRST_PAUSE_SECONDS
    return min(max(2 * last, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def _reserve(addresses: Sequence[Address], stack: AsyncExitStack) -> list[Address]:
    """The addresses with the ports that were taken, which are the workers' to listen on until the stack is left."""
    # Without SO_REUSEPORT at first: with it, another service of ours on this port would silently share the callers.
    probes = bind_all(addresses)
    taken = [Address(row.host, made[0].getsockname()[1]) for row, made in zip(addresses, probes, strict=True)]
    for sockets in probes:
        for probe in sockets:
            probe.close()
    for sockets in bind_all(taken, is_shared=True):
        for held in sockets:
            stack.callback(held.close)
    return taken


async def _open(runner: web.BaseRunner, address: Address, stack: AsyncExitStack) -> Address:
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    with named("admin_listen"):
        sockets = bind(*address)
    for made in sockets:
        await web.SockSite(runner, made).start()
    return Address(address.host, runner.addresses[0][1])
