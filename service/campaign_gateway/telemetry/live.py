"""Requests as they come, a line each in words, for somebody who watches. A service has `logs` instead."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, TextIO

from typing_extensions import override

from campaign_gateway.telemetry import logs
from campaign_gateway.telemetry.history import PACKAGE
from campaign_gateway.telemetry.logs import TextFormatter

REQUESTS = "campaign_gateway.requests"

_COLOURS = {"hit": 32, "stale": 33, "miss": 36, "revalidated": 36}
"""SGR codes of ECMA-48; what fails is red, and what has none stays as it is."""
_RED = 31
_METHOD_WIDTH = 6
_PATH_WIDTH = 53
"""That of a campaign whose id is as long as the platform's are."""
_HOW_WIDTH = 24


class LiveFormatter(TextFormatter):
    """The lines of requests as a table; all other lines as text."""

    def __init__(self, paths: Mapping[str, str], calls_left: Callable[[], str], *, has_colours: bool) -> None:
        """A formatter.

        Args:
            paths: of operations, with `{id}` where the campaign's goes; an operation that has none stands for itself.
            calls_left: what is left of the budget, in words.
            has_colours: whether how a request was answered shows in its colour too.
        """
        super().__init__()
        self._paths, self._calls_left, self._has_colours = paths, calls_left, has_colours

    @override
    def render(self, line: Mapping[str, Any]) -> str:
        if line["logger"] != REQUESTS:
            return super().render(line)
        operation = line["operation"]
        path = self._paths.get(operation, f"({operation})").replace("{id}", line.get("campaign", "{id}"))
        many = f" x {line['stands_for']}" if "stands_for" in line else ""
        answered = f"{line['status']} {said_of(line)}{many}".ljust(_HOW_WIDTH)
        if self._has_colours:
            answered = _coloured(answered, line)
        asked = f"{line['method']:{_METHOD_WIDTH}} {path:{_PATH_WIDTH}}"
        took = f"{line['milliseconds']:.2f} ms".rjust(10)
        return f"{time.strftime('%H:%M:%S')}  {asked}  {answered} {took}  {self._calls_left()}"


def said_of(line: Mapping[str, Any]) -> str:
    """How a request was answered, by the members of its line: `hit, age 3 s`, `stale (budget), age 80 s`, a problem."""
    cache, detail = line.get("cache", "none"), line.get("detail")
    said = line.get("problem") or (cache if cache != "none" else "passed on" if "fwd" in line else "done")
    if detail is not None:
        said = f"{said} ({detail})"
    # What has just been read is as new as can be.
    return f"{said}, age {line['age']} s" if line.get("age") else said


def _coloured(text: str, line: Mapping[str, Any]) -> str:
    is_failure = line["status"] >= HTTPStatus.BAD_REQUEST
    colour = _RED if is_failure else _COLOURS.get(line.get("cache", "none"))
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def takes_colours(stream: TextIO) -> bool:
    """Whether it is a terminal whose user has not refused colours (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def set_up(paths: Mapping[str, str], calls_left: Callable[[], str]) -> None:
    """Sends requests, warnings and errors of the process to standard error, for whose reader nobody waits.

    Args:
        paths: see `LiveFormatter`.
        calls_left: see there.
    """
    logs.set_up(level="warning", format="text")
    # The console is told of what is not written here.
    logging.getLogger(PACKAGE).setLevel(logging.INFO)
    formatter = LiveFormatter(paths, calls_left, has_colours=takes_colours(sys.stderr))
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)
        handler.addFilter(_is_written)


def _is_written(record: logging.LogRecord) -> bool:
    return record.name == REQUESTS or record.levelno >= logging.WARNING
