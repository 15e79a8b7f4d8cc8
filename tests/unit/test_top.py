"""The console's figures in a terminal: what is printed, line by line, and how it ends."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner
from typing_extensions import override

from campaign_gateway.cli import main
from campaign_gateway.top import span


def call(lane: str, client: str, free_in: float) -> dict[str, Any]:
    return {"kind": "call", "lane": lane, "client": client, "free_in": free_in}


def state(**account: Any) -> dict[str, Any]:
    free = [{"kind": kind, "lane": None, "client": None, "free_in": None} for kind in ("free", "reserve", "learned")]
    cells = [
        call("writes", "ops", 50.0),
        call("interactive", "desk", 3.0),
        call("interactive", "desk", 9.0),
        *free * 10,
    ]
    return {
        "version": "0.1.0",
        "now": 1_800_000_000.0,
        "worker": None,
        "workers": 1,
        "stream": "support",
        "strip": [
            {"name": "listener", "status": "ok", "text": "callers", "reason": None, "since": None},
            {
                "name": "store",
                "status": "degraded",
                "text": "store redis:6379",
                "reason": "timeout",
                "since": "10:00:00Z",
            },
        ],
        "figures": {
            "reads": 12.34,
            "at_once": 0.5,
            "signal_bound": 14.0,
            "oldest": 9.5,
            "slowest": 0.01,
            "hard_bound": 86_400.0,
        },
        "account": {
            "name": "acc-1",
            "calls": 33,
            "remaining": 20,
            "pause": "open",
            "pause_left": 0.0,
            "next_free": 3.0,
            "cut_off": False,
            "held": {"writes": 1, "interactive": 2},
            "cells": cells,
            **account,
        },
        "events": [{"time": 1_800_000_000.0, "level": "warning", "source": "a", "text": "redis lost \x1b[2J"}],
        "calls": [
            {
                "time": 1_800_000_000.0,
                "lane": "interactive",
                "client": "desk",
                "operation": "get",
                "campaign": "c-1",
                "reason": "uri-miss",
                "outcome": "ok",
                "status": 200,
                "seconds": 0.1,
            }
        ],
    }


@contextmanager
def admin(document: Any, status: int = 200) -> Iterator[str]:
    """An address that answers with this."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        @override
        def log_message(self, *_: Any) -> None:
            pass

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def printed(document: Any, *options: str) -> list[str]:
    with admin(document) as address:
        result = CliRunner().invoke(main, ["top", "--admin", address, *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_it_prints_figures_cells_events_and_calls():
    lines = printed(state(), "--once")
    assert lines[0].startswith("campaign gateway 0.1.0 · stream support · ")
    assert lines[1:4] == [
        "+ callers",
        "! store redis:6379: timeout, since 10:00:00Z",
        "reads 12.3 a second, 50.0% without waiting · an edit is seen within 14 s · oldest 9.5 s of 24 h · slowest 10.0 ms",
    ]
    assert lines[5:10] == [
        "account acc-1: 20 of 33 calls left, next free in 3.0 s",
        "w i i . - x . - x . - x . - x . - x . - x . - x . - x . - x",
        ". - x",
        "i callers 2  desk 2",
        "w writes 1  ops 1",
    ]
    assert lines[12].endswith(" redis lost ?[2J"), "nothing steers the terminal"
    assert lines[15].split()[1:] == ["interactive", "desk", "200", "ok", "100.0", "ms", "uri-miss", "get", "c-1"]


@pytest.mark.parametrize(
    ("pause", "left", "said"),
    [
        ("paused", 38.2, "paused for 38 s"),
        ("over", 0.0, "the pause is to be tried"),
        ("probing", 0.0, "the pause is to be tried"),
    ],
)
def test_a_pause_is_told_and_no_cell_is_free(pause, left, said):
    lines = printed(state(pause=pause, pause_left=left))
    assert lines[5] == f"account acc-1: 20 of 33 calls left, {said}"
    assert lines[7] == "/ / x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0.0 ms"), (1, "1.0 s"), (90, "90 s"), (600, "10 m"), (7200, "2.0 h"), (864_000, "10 d")],
)
def test_spans(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("document", "status", "said"),
    [
        ({"detail": "no such stream"}, 404, "answers 404"),
        ([1], 200, "is no console"),
        ({"account": 0}, 500, "answers 500"),
    ],
)
def test_what_is_no_console_ends_it_in_one_line(document, status, said):
    with admin(document, status) as address:
        result = CliRunner().invoke(main, ["top", "--admin", address, "--stream", "a/b"])
    assert result.exit_code == 1
    assert (
        result.output
        == f"http://{address}/console/state.json?stream=a%2Fb {said}{' of this gateway' if 'no' in said else ''}\n"
    )


@pytest.mark.parametrize("is_asked_by_key", [True, False], ids=["q", "Ctrl-C"])
def test_on_a_terminal_it_goes_on_until_it_is_ended_and_leaves_the_terminal_as_it_was(is_asked_by_key):
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with admin(state()) as address:
        command = [sys.executable, "-m", "campaign_gateway", "top", "--admin", address]
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
        shown = b""
        while b"q ends" not in shown:
            assert select.select([ours], [], [], 30)[0], shown
            shown += os.read(ours, 65_536)
        if is_asked_by_key:
            os.write(ours, b"xq")
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    shown += os.read(ours, 65_536)
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)
    assert b"\x1b[34mi\x1b[0m" in shown
    assert shown.endswith(b"\x1b[?25h\x1b[?1049l")
