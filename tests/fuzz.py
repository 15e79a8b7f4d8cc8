"""`make fuzz`: mutated requests to two real gateways, one with the hot path and one without. No answer may differ.

Each talk is a connection to both. It begins with a good request, after which the hot path knows its head, and goes on with
mutations of it, sent to both at once or each awaited, until they close it or the talk is over. A last good
request shows what state all of it has left the connection in. Inputs are made of the seed alone, and a difference is
tried again, slowly, before it counts: so what is printed can be repeated.

Compared are all bytes but dates, ages and what counts them down, and ids that the gateway made up.
"""

import asyncio
import itertools
import random
import re
import select
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

import click

from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.estate import KEYS, clients
from tests.support.gateway import GatewayProcess, gateway_process, settings_for

TALK = 24
"""Mutated requests on one connection, at most."""
PATIENCE, LONG_PATIENCE = 0.004, 0.4
"""Seconds for an answer to begin that may never come, since a request may not have ended."""
REPEATS = 3
LATEST = 10.0
"""Seconds for an answer that the other gateway has given."""
ODDITIES = (
    *(b"\x00", b"\t", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b" ", b"\x7f", b"\x80", b"\xff", b"\xc3\xa9", b'"'),
    *(b"\\", b"%", b"%00", b"%2f", b"%2e%2e", b"..", b"/", b"//", b"?", b"#", b"&", b"=", b",", b";", b":"),
    *(b"*", b"W/", b"0", b"-1", b"11111111111111111111", b"a" * 130, b"a" * 9_000, b"HTTP/1.0", b"HTTP/2.0"),
    *(b"HEAD ", b"POST ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"GET ", b"?fields=name,status"),
)
FIELDS = (
    *(b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 5, 5"),
    *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip, chunked", b"Connection: close"),
    *(b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue"),
    *(b"Host: other", b"Host:", b"Cache-Control: no-cache", b"Cache-Control: max-age=0", b"Range: bytes=0-1"),
    *(b"Cache-Control: only-if-cached", b"Cache-Control: max-stale", b"If-None-Match: *"),
    *(
        b'If-None-Match: "x", W/"y"',
        b"X-Request-ID: r-2",
        b"x-request-id:r-3",
        b"If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",
    ),
    *(b"Authorization: Bearer nobody", b"Accept-Encoding: gzip", b"X-A: b", b"X-A : b"),
    *(b"X-Forwarded-For: 10.0.0.1", b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    *(b" folded", b"Origin: null", b"Campaign-Gateway-Version: 1", b"Pragma: no-cache"),
    *(b"Content-Type: application/json", b"Cookie: a=b", b"TE: trailers", b"Trailer: X"),
)
_BREAKS = (
    b"Content-Length",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"Expect",
    b"Host",
    b" ",
    b"X-A ",
    b"Trailer",
)
GENTLE = tuple(field for field in FIELDS if not field.startswith(_BREAKS))
WORD = b"aZ0-_.~:,%/?=&"
"""Few, so that the ids that they make are soon known to be missing: a call to the platform costs more than all else."""
ROUGH = 0.3
"""The part of the talks whose inputs need not be requests at all."""
PIPELINED = 0.5
"""The part of the talks whose inputs are all sent at once."""
_VARIES = re.compile(
    rb"^Date: .+|^Age: \d+|^Retry-After: \d+|^Campaign-Gateway-Bound: \d+|\bdur=[\d.]+|\bttl=-?\d+|\bmax-age=\d+|;[rt]=\d+"
    rb"|\b[0-9a-f]{32}\b|\"age\":\d+"
)
"""In a line of an answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


def requests_about(campaigns: Sequence[str]) -> list[bytes]:
    """Good requests, of all kinds that a client with the right to read may make, and some that it may not."""
    key = KEYS["reader"]
    first = campaigns[0]
    lines = [f"GET /v1/campaigns/{campaign}" for campaign in campaigns]
    lines += [f"HEAD /v1/campaigns/{first}", f"GET /v1/campaigns/{first}/status"]
    lines += [f"GET /v1/campaigns/{first}?fields=name,status", "GET /v1/campaigns?type=voice&limit=5&skip=0"]
    lines += [f"GET /v1/campaigns?ids={','.join(campaigns[:3])}"]
    lines += ["GET /v1/campaigns/cd-none", "GET /v1/streams/support/campaigns/" + first, "GET /problems/not-found"]
    heads = [[line + " HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}"] for line in lines]
    heads += [[*head, "X-Request-ID: r-1"] for head in heads[:4]]
    heads += [[*heads[0], 'If-None-Match: "none"', "User-Agent: fuzz/1", "Accept: */*"]]
    whole = ["\r\n".join([*head, "", ""]).encode() for head in heads]
    body = b'{"campaigns": ["cd-none"]}'
    head = ["POST /v1/purge HTTP/1.1", *heads[0][1:], "Content-Type: application/json", ""]
    post = "\r\n".join(head)
    whole.append(post.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    whole.append(post.encode() + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    return whole


@dataclass(frozen=True)
class Talk:
    """What is said on one connection."""

    good: bytes
    inputs: Sequence[bytes]
    is_pipelined: bool

    def without(self, told: int) -> "Talk":
        """What is left of it on the next connection."""
        return replace(self, inputs=self.inputs[told:])


class Mutator:
    """Makes inputs of good requests; a seed makes the same ones on any machine."""

    def __init__(self, seed: int, good: Sequence[bytes]) -> None:
        self._random = random.Random(seed)
        self._good = good

    def talks(self, count: int) -> Iterator[Talk]:
        """A good request and mutations of it, again and again, until there are so many mutations."""
        while count > 0:
            good = self._random.choice(self._good)
            # What breaks HTTP ends its connection, and most of all that is arbitrary does.
            mutated = self._mutated if self._random.random() < ROUGH else self._reworded
            inputs = [mutated(good) for _ in range(min(count, TALK))]
            yield Talk(good, inputs, is_pipelined=self._random.random() < PIPELINED)
            count -= TALK

    def _reworded(self, data: bytes) -> bytes:
        """A mutation that nearly always is a request: other characters in a target or a field, other fields."""
        pick = self._random
        for _ in range(pick.choice((1, 1, 2, 3))):
            head, end, body = data.partition(b"\r\n\r\n")
            first, *fields = head.split(b"\r\n")
            match pick.randrange(6):
                case 0 | 1:
                    at = pick.randrange(first.index(b"/") + 1, len(first) - len(b" HTTP/1.1") + 1)
                    first = first[:at] + bytes([pick.choice(WORD)]) + first[at + pick.randrange(2) :]
                case 2:
                    field = pick.randrange(len(fields))
                    at = pick.randrange(fields[field].index(b":") + 1, len(fields[field]) + 1)
                    fields[field] = fields[field][:at] + bytes([pick.choice(WORD)]) + fields[field][at + 1 :]
                case 3 | 4:
                    fields.insert(pick.randrange(len(fields) + 1), pick.choice(GENTLE))
                case _:
                    pick.shuffle(fields)
            data = b"\r\n".join([first, *fields]) + end + body
        return data

    def _mutated(self, data: bytes) -> bytes:
        pick = self._random
        for _ in range(pick.choice((1, 1, 1, 2, 3, 5))):
            at, end = sorted((pick.randrange(len(data) + 1), pick.randrange(len(data) + 1)))
            end = min(end, at + 12)
            lines = data.split(b"\r\n")
            line = pick.randrange(len(lines))
            match pick.randrange(10):
                case 0 | 1:
                    # Most bytes that are no text end a connection.
                    byte = pick.randrange(256) if pick.random() < 0.3 else pick.randrange(33, 127)
                    data = data[:at] + bytes([byte]) + data[at + 1 :]
                case 2:
                    data = data[:at] + pick.choice(ODDITIES) + data[at:]
                case 3:
                    data = data[:at] + data[end:]
                case 4:
                    data = data[:end] + data[at:end] + data[end:]
                case 5 | 6:
                    data = b"\r\n".join([*lines[: max(line, 1)], pick.choice(FIELDS), *lines[max(line, 1) :]])
                case 7:
                    data = b"\r\n".join([*lines[:line], *lines[line + 1 :]])
                case 8:
                    data = b"\r\n".join([*lines[: line + 1], *lines[line:]])
                case _:
                    other = pick.choice(self._good)
                    data = data[:at] + other[pick.randrange(len(other)) :]
        return data or b"\r\n"


@dataclass
class Line:
    """A connection to one gateway, and what has come over it."""

    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)
    is_closed: bool = False

    @classmethod
    def to(cls, port: int) -> "Line":
        line = cls(socket.create_connection(("127.0.0.1", port), timeout=LATEST))
        line.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            # Closed by the gateway: how it did so shows in what was received.
            self.is_closed = True

    def take(self) -> None:
        try:
            piece = self.socket.recv(2**18)
        except OSError:
            piece = b""
        self.received += piece
        self.is_closed = self.is_closed or not piece


class Pair:
    """The same talk with both gateways."""

    def __init__(self, ports: Sequence[int], patience: float) -> None:
        self.lines = [Line.to(port) for port in ports]
        self._patience = patience

    def tell(self, data: bytes) -> bool:
        """Sends to both, and waits for what they answer; whether they go on."""
        before = [len(line.received) for line in self.lines]
        for line in self.lines:
            line.send(data)
        self._receive(before)
        return not any(line.is_closed for line in self.lines)

    def end(self, last: bytes) -> None:
        """Ends what may not have ended, asks for something good, and waits until both have closed, or say nothing more."""
        if not all(line.is_closed for line in self.lines):
            self.tell(b"\r\n\r\n" + last)
        latest = time.monotonic() + LATEST
        while not all(closed := [line.is_closed for line in self.lines]) and time.monotonic() < latest:
            # What one has closed, the other will.
            if not self._hear(1.0 if any(closed) else self._patience) and not any(closed):
                break
        for line in self.lines:
            line.socket.close()

    def agree(self) -> bool:
        """Whether both gave the same."""
        one, two = self.lines
        return one.is_closed == two.is_closed and what_differs(one.received, two.received) is None

    def _receive(self, before: Sequence[int]) -> None:
        latest = time.monotonic() + LATEST
        while time.monotonic() < latest:
            answered = [len(line.received) > length for line, length in zip(self.lines, before, strict=True)]
            if all(
                line.is_closed or (has_answered and _is_whole(line.received))
                for line, has_answered in zip(self.lines, answered, strict=True)
            ):
                return
            # Whom one has answered, the other will.
            if not self._hear(LATEST if any(answered) else self._patience):
                return

    def _hear(self, patience: float) -> bool:
        """Takes in what has come, once something has; False if nothing has for so many seconds."""
        waiting = [line for line in self.lines if not line.is_closed]
        ready, _, _ = select.select([line.socket for line in waiting], [], [], patience)
        for line in waiting:
            if line.socket in ready:
                line.take()
        return bool(ready)


def what_differs(one: bytearray, two: bytearray) -> tuple[list[bytes], list[bytes]] | None:
    """The lines around the first that differs in what may not vary; None where none does."""
    lines, others = one.split(b"\r\n"), two.split(b"\r\n")
    for number, (line, other) in enumerate(itertools.zip_longest(lines, others)):
        # Nearly all are equal as they are.
        if line != other and (line is None or other is None or _VARIES.sub(b"_", line) != _VARIES.sub(b"_", other)):
            around = slice(max(0, number - 16), number + 4)
            return [bytes(part) for part in lines[around]], [bytes(part) for part in others[around]]
    return None


def _is_whole(received: bytearray) -> bool:
    """Whether the last answer has come to its end, if it says where that is."""
    start = received.rfind(b"HTTP/1.1 ")
    end = received.find(b"\r\n\r\n", start)
    length = re.search(rb"\r\nContent-Length: (\d+)", received[start:end])
    return end >= 0 and (length is None or len(received) - end - 4 in {0, int(length[1])})


class Fuzz:
    """One run."""

    def __init__(self, ports: Sequence[int], good: Sequence[bytes], seed: int) -> None:
        self._ports = ports
        self._mutator = Mutator(seed, good)
        self._last = good[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        self.inputs = 0
        self.repeats = 0
        self.statuses: Counter[str] = Counter()

    def run(self, count: int) -> None:
        """Sends so many inputs.

        Raises:
            SystemExit: an answer differed, or was a 500.
        """
        began = said = time.monotonic()
        for talk in self._mutator.talks(count):
            rest = talk
            while rest.inputs:
                rest = rest.without(self._talk(rest))
            if time.monotonic() - said > 10:
                said = time.monotonic()
                click.echo(f"{self.inputs} inputs, {self.inputs / (said - began):.0f}/s")

    def _talk(self, talk: Talk) -> int:
        """Tells inputs until the connections are closed; how many that were."""
        pair, told = self._told(talk, PATIENCE)
        for _ in range(REPEATS):
            if pair.agree():
                break
            # What was late, or stored meanwhile, is no difference the next time.
            self.repeats += 1
            pair, told = self._told(talk, LONG_PATIENCE)
        statuses = [match.decode() for match in _STATUS.findall(pair.lines[0].received)]
        if not pair.agree():
            _report("the answers differ", talk, pair)
        if "500" in statuses:
            _report("an answer is a 500", talk, pair)
        self.statuses.update(statuses)
        if talk.is_pipelined:
            # But for the first and the last; what came behind the end of a connection was not looked at.
            told = max(1, min(told, len(statuses) - 1))
        self.inputs += told
        return told

    def _told(self, talk: Talk, patience: float) -> tuple[Pair, int]:
        pair = Pair(self._ports, patience)
        # Its head is known from the first time on that it was seen on any connection.
        pair.tell(talk.good)
        told = 0
        for data in [b"".join(talk.inputs)] if talk.is_pipelined else talk.inputs:
            told += 1
            if not pair.tell(data):
                break
        pair.end(self._last)
        return pair, len(talk.inputs) if talk.is_pipelined else told


def _report(what: str, talk: Talk, pair: Pair) -> NoReturn:
    click.echo(f"{what}\nfirst: {talk.good!r}")
    click.echo(f"then{', all at once' if talk.is_pipelined else ''}:")
    for data in talk.inputs:
        click.echo(f"    {data!r}")
    around = what_differs(pair.lines[0].received, pair.lines[1].received) or ([], [])
    for name, line, shown in zip(("hot", "cold"), pair.lines, around, strict=True):
        click.echo(
            f"{name} path: {'closed' if line.is_closed else 'open'}, {len(line.received)} bytes; at the difference:"
        )
        for part in shown:
            click.echo(f"    {part[:300]!r}")
    sys.exit(1)


async def fuzz(count: int, seed: int) -> Fuzz:
    """A run on two gateways of its own, before one simulated platform."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateways: list[GatewayProcess] = []
        # Nothing writes, so both see the same.
        sandbox = await stack.enter_async_context(Sandbox(SandboxConfig(campaigns=20, calls=10**6)))
        still = [campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY]
        for hot_path in (True, False):
            settings = settings_for(
                sandbox,
                folder,
                hot_path=hot_path,
                clients=clients(),
                budgets={"default": {"calls": 10**6, "window": "1s"}},
                freshness={"min": "1d", "max": "1d", "missing": "1d", "status": {}, "stale_if_error": "2d"},
                sweep={"share": 0},
            )
            gateways.append(await stack.enter_async_context(gateway_process(settings, folder)))
        ports = [int(gateway.url.rpartition(":")[2]) for gateway in gateways]
        run = Fuzz(ports, requests_about(still[:3]), seed)
        await asyncio.to_thread(run.run, count)
        for gateway in gateways:
            ready = await gateway.get_json("/readyz")
            loud = [line for line in gateway.records() if line["level"] == "error"]
            if ready["status"] != "ready" or loud:
                sys.exit(f"a gateway is {ready} after it, and said {loud[:3]}")
        return run


@click.command(help=__doc__)
@click.option("--inputs", default=20_000, show_default=True, help="How many.")
@click.option("--seed", default=None, type=int, help="By default another one each time.")
def main(inputs: int, seed: int | None) -> None:
    """Runs it."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    click.echo(f"seed {seed}")
    began = time.monotonic()
    run = asyncio.run(fuzz(inputs, seed))
    click.echo(f"{run.inputs} inputs in {time.monotonic() - began:.0f} s, no difference; {run.repeats} talks repeated")
    click.echo(f"answers by status: {dict(run.statuses.most_common())}")


if __name__ == "__main__":
    main()
