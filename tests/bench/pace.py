"""An open-loop load: requests are due at times drawn beforehand, and latency counts from then.

`python -m tests.bench.pace PORT RATE SECONDS HEADS [sleeping]` prints one line of JSON. wrk and h2load measure from when a
request left, and h2load's clients all keep one time, so they can show a server's peak and not what callers see below it. One
thread spins on one core; requests that find no idle connection wait for one, and their wait counts. Told to sleep in
between, it leaves the core to others and is up to a millisecond late.

How late it is itself is said, too (`late_...`): the longest that an answer, or a request that was due, may have waited
for its turn in this thread. What a server shows beyond that is the server's.
"""

import gc
import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 64
PATIENCE = 1.0
"""Seconds behind its times after which the server counts as unable to keep up."""
POINTS = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
SLEEPING_PATIENCE = 5.0
"""The same beside whatever else runs on its core."""


@dataclass(slots=True)
class _Connection:
    sock: socket.socket
    due: float = 0.0
    got: bytes = b""


def run(
    port: int, rate: float, seconds: float, heads: list[bytes], *, is_sleeping: bool = False
) -> tuple[list[float], list[float], bool]:
    """Latencies in seconds, the load's own turns between two looks at its sockets, and whether the server kept up.

    Both lists are ascending; a turn counts once for each request that was due, or answered, in it.

    Raises:
        ValueError: an answer was not a 200 with a length.
    """
    rng = random.Random(1)
    poll = select.epoll()
    connections = {}
    for _ in range(CONNECTIONS):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        poll.register(sock, select.EPOLLIN)
        connections[sock.fileno()] = _Connection(sock)
    latencies: list[float] = []
    turns: list[float] = []
    idle, turn = deque(connections.values()), 10_000_000
    clock = time.perf_counter
    patience = SLEEPING_PATIENCE if is_sleeping else PATIENCE
    due = clock()
    end = due + seconds
    looked_at = due
    while due < end or len(idle) < CONNECTIONS:
        now = clock()
        if now - due > patience:
            return sorted(latencies), sorted(turns), False
        if due <= now and due < end and idle:
            connection, turn = idle.popleft(), turn + 1
            connection.due = due
            connection.sock.send(b"%s%d\r\n\r\n" % (rng.choice(heads), turn))
            due += rng.expovariate(rate)
            turns.append(now - looked_at)
        answered = poll.poll(max(0.0, min(due - now, patience)) if is_sleeping else 0)
        before, looked_at = looked_at, clock()
        turns.extend([looked_at - before] * len(answered))
        for number, _ in answered:
            connection = connections[number]
            connection.got += connection.sock.recv(65_536)
            if _is_whole(connection.got):
                latencies.append(clock() - connection.due)
                connection.got = b""
                idle.append(connection)
    return sorted(latencies), sorted(turns), True


def _is_whole(answer: bytes) -> bool:
    head_ends = answer.find(b"\r\n\r\n")
    if head_ends < 0 and answer:
        return False
    head = answer[:head_ends].lower()
    before, found, length = head.partition(b"content-length:")
    if not before.startswith(b"http/1.1 200") or not found:
        raise ValueError(f"not an answer to count: {answer[:80]!r}")
    return len(answer) >= head_ends + 4 + int(length.partition(b"\r\n")[0])


def main() -> None:
    """Runs it and prints what came of it: microseconds."""
    port, rate, seconds, file, *options = sys.argv[1:]
    heads = [line.replace("|", "\r\n").encode() for line in Path(file).read_text("utf-8").splitlines()]
    gc.disable()
    latencies, turns, kept_up = run(int(port), float(rate), float(seconds), heads, is_sleeping=options == ["sleeping"])
    said: dict[str, float] = {"kept_up": kept_up, "requests": len(latencies)}
    if kept_up:
        said |= {name: _at(latencies, part) for name, part in POINTS.items()} | {"max": round(latencies[-1] * 1e6)}
        said |= {f"late_{name}": _at(turns, part) for name, part in POINTS.items()}
    print(json.dumps(said))


def _at(ascending: list[float], part: float) -> int:
    return round(ascending[int(len(ascending) * part)] * 1e6)


if __name__ == "__main__":
    main()
