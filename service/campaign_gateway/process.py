"""A process that runs until it is stopped: its loop, its signals, and how it ends.

Exit codes: 0 stopped as asked, 2 bad settings or command, 1 anything else.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import click

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2


class UntilStopped:
    """Returns when somebody asks the process to stop. Who asks before it is called has the start given up."""

    def __init__(self, deadline: float | None, stops: frozenset[signal.Signals]) -> None:
        """Takes the signals over, for the task that starts the service.

        Args:
            deadline: seconds from being asked until the process ends, come what may; None for no such end.
            stops: the signals that ask. Others that would kill are ignored.
        """
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._starting = asyncio.current_task()
        self._asked: asyncio.Future[str] = self._loop.create_future()
        self._stops = stops
        for number in stops:
            self._loop.add_signal_handler(number, self._ask, number.name)
        for number in _DEADLY - stops:
            self._loop.add_signal_handler(number, _log.info, "%s is ignored", number.name)

    async def __call__(self, lifeline: int | None = None) -> str:
        """Waits; the end of what is read from `lifeline`, a file descriptor, asks as well. Returns who has asked."""
        self._starting = None
        # What the start has made stays to the end: to look through it for garbage keeps all callers waiting for 20 ms.
        gc.freeze()
        gc.enable()
        if lifeline is not None:
            self._loop.add_reader(lifeline, self._ask, "the supervisor is gone")
        who = await self._asked
        if lifeline is not None:
            self._loop.remove_reader(lifeline)
        return who

    def on_hangup(self, do: Callable[[], None]) -> None:
        """Has this done for each SIGHUP from now on, unless that one ends the process."""
        if signal.SIGHUP not in self._stops:
            self._loop.add_signal_handler(signal.SIGHUP, do)

    def _ask(self, who: str) -> None:
        if self._asked.done():
            return
        self._asked.set_result(who)
        if self._deadline is not None:
            self._loop.call_later(self._deadline, _cut_off)
        if self._starting is not None:
            self._starting.cancel()


_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
_DEADLY = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""Signals whose default is death, and that other services take for a reload, a report or a new log file."""


def _cut_off() -> None:
    _log.warning("stopping took longer than shutdown.drain and shutdown.grace: what is left is cut off")
    logging.shutdown()
    os._exit(0)


def run_until_stopped(
    work: Callable[[UntilStopped], Coroutine[Any, Any, _T]],
    deadline: float | None = None,
    *,
    ends_with_terminal: bool = False,
) -> _T:
    """Runs it on a loop of its own; it ends the process itself where it is stopped before it serves."""
    import uvloop  # noqa: PLC0415

    stops = _STOPS | {signal.SIGHUP} if ends_with_terminal else _STOPS

    async def run() -> _T:
        return await work(UntilStopped(deadline, stops))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    except asyncio.CancelledError:
        sys.exit(0)


@contextmanager
def ending_in_one_line(tell: Callable[[str, Mapping[str, object]], None]) -> Iterator[None]:
    """Ends the process, with a line for each reason, if what is inside it fails.

    Args:
        tell: takes each line, and what it is made of.
    """
    from campaign_gateway.settings import SettingsError  # noqa: PLC0415

    try:
        yield
    except Exception as failure:  # noqa: BLE001 - the last one there is to catch it
        error: Exception = failure
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        match error:
            case SettingsError():
                for mistake in error.mistakes:
                    tell(str(mistake), mistake._asdict())
                sys.exit(EXIT_BAD_SETTINGS)
            case OSError(strerror=str()):
                where = "" if error.filename is None else f"{error.filename}: "
                tell(f"{where}{error.strerror}", {})
            case OSError() | RuntimeError():
                tell(str(error), {})
            case _:
                # In a line of its own a traceback would be as many lines as it has.
                frames = [f"{row.filename}:{row.lineno}" for row in traceback.extract_tb(error.__traceback__)]
                tell(f"ended by an error: {type(error).__name__}: {error}", {"frames": frames})
        sys.exit(EXIT_FAILED)


def fail(code: int, *lines: str) -> NoReturn:
    """Ends the process with this exit code, after these lines on standard error."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)
