"""`campaign-gateway top`: the console's figures and cells in a terminal, out of the same JSON."""

import json
import os
import select
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import click

REFRESH_SECONDS = 2.0
ANSWER_SECONDS = 10.0
CELLS_IN_A_ROW = 30
LAST = 8
"""Events, and calls, that are shown where nothing says how many lines there are."""

_LANES = {"interactive": "callers", "proof": "validation", "background": "background", "writes": "writes"}
_MARKS = {"free": ".", "reserve": "-", "learned": "x", "withheld": "?"}
"""Of cells that are no calls; a call is the first letter of its lane."""
_COLOURS = {"interactive": 34, "proof": 35, "background": 36, "writes": 33, "degraded": 33, "down": 31, "ok": 32}
_DIM, _BOLD = 2, 1
_SIGNS = {"ok": "+", "degraded": "!", "down": "X"}
_SCREEN, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


class NoAnswerError(Exception):
    """The gateway does not answer, or not with this."""


def fetch(admin: str, stream: str | None) -> Mapping[str, Any]:
    """What the console of the gateway behind this `admin_listen` says.

    Raises:
        NoAnswerError: nothing, or something else.
    """
    base = admin if "://" in admin else f"http://{admin}"
    url = f"{base.rstrip('/')}/console/state.json" + (f"?stream={quote(stream, safe='')}" if stream else "")
    # Whatever proxy the environment names is for the way out.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            state = json.load(answer)
    except urllib.error.HTTPError as error:
        error.close()
        raise NoAnswerError(f"{url} answers {error.code}") from None
    except (OSError, ValueError) as error:
        raise NoAnswerError(f"{url} does not answer: {getattr(error, 'reason', error)}") from None
    if not isinstance(state, dict) or "account" not in state:
        raise NoAnswerError(f"{url} is no console of this gateway")
    return state


def run(admin: str, stream: str | None, *, is_once: bool) -> None:
    """Prints the state once, or on a terminal again and again until `q` or Ctrl-C.

    Raises:
        NoAnswerError: the first time, or the only one.
    """
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    state = fetch(admin, stream)
    if is_once or not is_terminal:
        click.echo("\n".join(_Page(sys.stdout.isatty()).lines(state, None)))
        return
    with _full_screen():
        trouble = ""
        while True:
            _show(state, trouble)
            if _is_ended(REFRESH_SECONDS):
                return
            try:
                state, trouble = fetch(admin, stream), ""
            except NoAnswerError as error:
                trouble = str(error)


def _show(state: Mapping[str, Any], trouble: str) -> None:
    columns, rows = shutil.get_terminal_size()
    page = _Page(is_coloured=True, columns=columns)
    lines = page.lines(state, rows - 2)
    lines.append(page.ink(trouble, "down") if trouble else page.ink("q ends", _DIM))
    sys.stdout.write(_HOME + "".join(f"{line}{_CLEAR_LINE}\r\n" for line in lines[: rows - 1]) + _CLEAR_BELOW)
    sys.stdout.flush()


@contextmanager
def _full_screen() -> Iterator[None]:
    # Not on every system, as nothing else here is.
    import termios  # noqa: PLC0415
    import tty  # noqa: PLC0415

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        sys.stdout.write(_SCREEN)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _is_ended(seconds: float) -> bool:
    """Whether somebody presses q, or the terminal goes, within so many seconds."""
    until, keys = time.monotonic() + seconds, sys.stdin.fileno()
    while (left := until - time.monotonic()) > 0:
        if select.select([keys], [], [], left)[0]:
            pressed = os.read(keys, 64)
            if not pressed or b"q" in pressed.lower():
                return True
    return False


class _Page:
    """The state as lines of text."""

    def __init__(self, is_coloured: bool, columns: int = 0) -> None:  # noqa: FBT001 - one of two
        """A page of so many columns; 0 cuts nothing."""
        self._is_coloured = is_coloured
        self._columns = columns

    def ink(self, text: str, what: str | int) -> str:
        """The text, coloured for what it stands for."""
        number = _COLOURS[what] if isinstance(what, str) else what
        return f"\x1b[{number}m{text}\x1b[0m" if self._is_coloured else text

    def lines(self, state: Mapping[str, Any], most: int | None) -> list[str]:
        """All of it, in so many lines at most; None for as many as it takes."""
        head = [*self._head(state), "", *self._account(state["account"]), ""]
        last = LAST if most is None else max(0, (most - len(head) - 3) // 2)
        body = ["what happened", *self._events(state["events"][:last]), "", "calls to the platform"]
        return [*head, *body, *self._calls(state["calls"][:last])]

    def _head(self, state: Mapping[str, Any]) -> Iterator[str]:
        worker = "" if state["worker"] is None else f" · worker {state['worker']} of {state['workers']}"
        at = time.strftime("%H:%M:%S", time.localtime(state["now"]))
        yield self.ink(f"campaign gateway {state['version']} · stream {_plain(state['stream'])}{worker} · {at}", _BOLD)
        well = [chip for chip in state["strip"] if chip["status"] == "ok"]
        yield "  ".join(f"{self.ink(_SIGNS['ok'], 'ok')} {_plain(chip['text'])}" for chip in well)
        for chip in state["strip"]:
            if chip["status"] != "ok":
                since = f", since {chip['since']}" if chip["since"] else ""
                said = f"{_SIGNS[chip['status']]} {chip['text']}: {chip['reason']}{since}"
                yield self.ink(self._cut(said), chip["status"])
        seen = state["figures"]
        at_once = "" if seen["at_once"] is None else f", {seen['at_once']:.1%} without waiting"
        signal, oldest, bound, slowest = (
            span(seen[name]) for name in ("signal_bound", "oldest", "hard_bound", "slowest")
        )
        bounds = f"an edit is seen within {signal} · oldest {oldest} of {bound} · slowest {slowest}"
        yield self._cut(f"reads {seen['reads']:.1f} a second{at_once} · {bounds}")

    def _account(self, account: Mapping[str, Any]) -> Iterator[str]:
        is_paused = account["pause"] != "open"
        state = f", next free in {span(account['next_free'])}"
        if is_paused:
            state = (
                f", paused for {span(account['pause_left'])}" if account["pause_left"] else ", the pause is to be tried"
            )
        said = f"account {account['name']}: {account['remaining']} of {account['calls']} calls left{state}"
        yield self.ink(self._cut(said), "degraded" if is_paused or account["cut_off"] else _BOLD)
        cells = account["cells"]
        for first in range(0, len(cells), CELLS_IN_A_ROW):
            yield " ".join(self._cell(cell, is_paused=is_paused) for cell in cells[first : first + CELLS_IN_A_ROW])
        for lane, name in _LANES.items():
            held = account["held"].get(lane, 0)
            if held:
                by = Counter(_plain(cell["client"]) for cell in cells if cell["lane"] == lane)
                who = ", ".join(f"{client} {count}" for client, count in by.items())
                yield f"{self.ink(lane[0], lane)} {name} {held}  {self.ink(self._cut(who, 20), _DIM)}"

    def _cell(self, cell: Mapping[str, Any], *, is_paused: bool) -> str:
        if cell["kind"] == "call":
            return self.ink(cell["lane"][0], cell["lane"])
        mark = "/" if is_paused and cell["kind"] in {"free", "reserve"} else _MARKS[cell["kind"]]
        return self.ink(mark, _DIM)

    def _events(self, events: list[Mapping[str, Any]]) -> Iterator[str]:
        for event in events:
            at = time.strftime("%H:%M:%S", time.localtime(event["time"]))
            colour = {"warning": "degraded", "error": "down"}.get(event["level"])
            line = self._cut(f"{at} {event['text']}")
            yield line if colour is None else self.ink(line, colour)

    def _calls(self, calls: list[Mapping[str, Any]]) -> Iterator[str]:
        for call in calls:
            at = time.strftime("%H:%M:%S", time.localtime(call["time"]))
            answer = call["outcome"] if call["status"] is None else f"{call['status']} {call['outcome']}"
            what = f"{call['operation']} {call['campaign']}".strip()
            who, took = f"{call['lane']:11} {call['client']:14}", f"{span(call['seconds']):>8}"
            yield self._cut(f"{at} {who} {answer:12} {took} {call['reason']:9} {what}")

    def _cut(self, text: str, less: int = 0) -> str:
        text = _plain(text)
        return text[: self._columns - less] if self._columns else text


def _plain(text: str) -> str:
    """The text as it steers no terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def span(seconds: float | None) -> str:
    """A span of time in the unit that suits it."""
    if seconds is None:
        return "-"
    for unit, length, from_ in (("d", 86_400, 172_800), ("h", 3_600, 7_200), ("m", 60, 120), ("s", 1, 1)):
        if seconds >= from_:
            return f"{seconds / length:.1f} {unit}" if seconds < 10 * length else f"{seconds / length:.0f} {unit}"
    return f"{seconds * 1000:.1f} ms"
