"""Log lines for a pipe that nobody reads, and for one that is read."""

import math
import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from campaign_gateway.telemetry.spool import Spool

LINE = "x" * 99 + "\n"


class Pipe:
    def __init__(self) -> None:
        self.out, self.into = os.pipe()

    def read_line(self) -> str:
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self.out, 1)
        return line.decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.out)
    os.close(made.into)


def test_lines_come_out_whole_and_in_order(pipe: Pipe) -> None:
    spool = Spool(pipe.into)
    lines = [f"line {number}\n" for number in range(50)]
    for line in lines:
        spool.write(line)
    spool.close()
    assert [pipe.read_line() for _ in lines] == lines
    assert spool.dropped == 0


@pytest.mark.parametrize(("is_shared", "most"), [(False, 2**16), (True, select.PIPE_BUF)])
def test_lines_are_written_in_few_pieces_where_nobody_else_writes(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch, *, is_shared: bool, most: int
) -> None:
    spool, sizes = Spool(pipe.into), list[int]()
    spool.is_shared = is_shared
    write = os.write

    def count(descriptor: int, piece: bytes) -> int:
        sizes.append(len(piece))
        return write(descriptor, piece)

    monkeypatch.setattr(os, "write", count)
    spool.write(LINE * 600)
    spool.close()
    assert len(sizes) == math.ceil(60_000 / (most // 100 * 100))
    assert max(sizes) <= most


@pytest.mark.drill(
    "nobody reads standard error",
    planted="a pipe that is full; a process with one, under requests, probes and SIGTERM",
    seen="nobody waits; lines are dropped, counted, and told of when there is a reader",
)
def test_nobody_waits_for_a_reader_and_the_dropped_lines_are_told_of(
    pipe: Pipe, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(pipe.into, most_bytes=1_000_000)
    for _ in range(20_000):
        spool.write(LINE)
    assert spool.dropped > 0
    taken = 20_000 - spool.dropped
    for _ in range(taken):
        assert pipe.read_line() == LINE
    spool.close()
    spool.write("end\n")
    assert pipe.read_line() == "end\n"
    spool.close()
    assert [record.args for record in caplog.records] == [(spool.dropped,)]


def test_a_pipe_that_does_not_block_is_waited_for_all_the_same(pipe: Pipe) -> None:
    os.set_blocking(pipe.into, False)
    spool = Spool(pipe.into)
    for _ in range(2_000):
        spool.write(LINE)
    assert [pipe.read_line() for _ in range(2_000)] == [LINE] * 2_000


def test_the_end_of_a_process_waits_for_its_last_lines_and_not_for_a_reader_who_never_comes() -> None:
    program = (
        "import logging, sys; from campaign_gateway.telemetry import logs; logs.set_up();"
        "[logging.warning('x' * 1000) for _ in range(int(sys.argv[1]))]"
    )
    read = subprocess.run(
        [sys.executable, "-c", program, "3"], stderr=subprocess.PIPE, text=True, timeout=30, check=True
    )
    assert len(read.stderr.splitlines()) == 3
    with subprocess.Popen([sys.executable, "-c", program, "10000"], stderr=subprocess.PIPE) as unread:
        assert unread.wait(timeout=30) == 0
