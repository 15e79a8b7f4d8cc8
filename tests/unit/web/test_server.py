import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp.http_parser
import pytest
from aiohttp import web
from typing_extensions import override

from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.web import server as server_module
from campaign_gateway.web.fast import FastRoad
from campaign_gateway.web.server import MAX_FIELD_BYTES, MAX_TARGET_BYTES, Connection, Server, insist_on_compiled_parser
from tests.support.virtual_time import virtual_time

KEY = b"Authorization: Bearer cgk_reporting\r\n"
GET = b"GET /v1/campaigns/c-1 HTTP/1.1\r\n"
GOOD = GET + b"Host: gateway\r\n" + KEY + b"\r\n"
SECRET = b"cgk_do-not-repeat-me"


@pytest.fixture(autouse=True)
def every_log_line(caplog):
    caplog.set_level("DEBUG")


def request(*fields: bytes, line: bytes = GET, host: bytes = b"Host: gateway\r\n", body: bytes = b"") -> bytes:
    return line + host + KEY + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


REFUSED = [
    # What the parser refuses.
    pytest.param(b"nonsense\r\n\r\n", 400, id="garbage"),
    pytest.param(b"\x00" * 64, 400, id="zeros"),
    pytest.param(bytes(range(128, 256)) + b"\r\n\r\n", 400, id="high-bytes"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, id="tls-hello"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="http2-preface"),
    pytest.param(b"SSH-2.0-OpenSSH_9.2\r\n", 400, id="ssh"),
    pytest.param(b"GET /v1/campaigns/c-1\r\n" + KEY + b"\r\n", 400, id="no-version"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/0.9\r\n"), 400, id="HTTP-0.9"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/2.0\r\n"), 400, id="HTTP-2.0"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/1.2\r\n"), 400, id="HTTP-1.2"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/11.1\r\n"), 400, id="HTTP-11.1"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 http/1.1\r\n"), 400, id="version-in-lower-case"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/1.1 more\r\n"), 400, id="words-behind-the-version"),
    pytest.param(request(line=b"GET /v1/campaigns/c 1 HTTP/1.1\r\n"), 400, id="space-in-the-target"),
    pytest.param(request(line=b"G(T /v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="method-that-is-no-token"),
    pytest.param(request(line=b" GET /v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="space-first"),
    pytest.param(request(b"X-A: a\x00b"), 400, id="NUL-in-a-value"),
    pytest.param(request(b"X\x00A: a"), 400, id="NUL-in-a-name"),
    pytest.param(request(b"X-A: a\rb"), 400, id="bare-CR-in-a-value"),
    pytest.param(request(b"X-A : a"), 400, id="space-before-the-colon"),
    pytest.param(request(b"X A: a"), 400, id="space-in-a-name"),
    pytest.param(request(b"no colon here"), 400, id="no-colon"),
    pytest.param(request(b": a"), 400, id="empty-name"),
    pytest.param(request(b"X-A: a\r\n b"), 400, id="RFC-9112-5.2-obs-fold"),
    pytest.param(request(b" X-A: a"), 400, id="a-fold-of-the-line-before"),
    pytest.param(GOOD.replace(b"\r\n", b"\n"), 400, id="bare-LF"),
    # Framing.
    pytest.param(request(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400, id="two-lengths"),
    pytest.param(request(b"Content-Length: +5", body=b"hello"), 400, id="length-with-a-sign"),
    pytest.param(request(b"Content-Length: 5, 5", body=b"hello"), 400, id="length-as-a-list"),
    pytest.param(request(b"Content-Length: five", body=b"hello"), 400, id="length-in-words"),
    pytest.param(request(b"Content-Length: 99999999999999999999"), 400, id="length-beyond-64-bits"),
    pytest.param(
        request(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, id="length-and-chunked"
    ),
    pytest.param(request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 400, id="TE-gzip-chunked"),
    pytest.param(request(b"Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"), 400, id="TE-chunked-not-last"),
    pytest.param(request(b"Transfer-Encoding: gzip"), 400, id="TE-gzip"),
    pytest.param(request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 400, id="TE-unknown"),
    pytest.param(
        request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400, id="TE-twice"
    ),
    pytest.param(
        request(b"Transfer-Encoding: chunked", line=b"GET /v1/campaigns/c-1 HTTP/1.0\r\n", body=b"0\r\n\r\n"),
        400,
        id="TE-in-HTTP-1.0",
    ),
    # Where to.
    pytest.param(request(host=b""), 400, id="no-Host"),
    pytest.param(request(host=b"Host: a\r\nHost: b\r\n"), 400, id="two-Hosts"),
    pytest.param(request(host=b"Host: a\r\nHost: a\r\n"), 400, id="two-equal-Hosts"),
    pytest.param(request(host=b"Host: a@b\r\n"), 400, id="Host-with-a-user"),
    pytest.param(request(host=b"Host: a/b\r\n"), 400, id="Host-with-a-path"),
    pytest.param(request(host=b"Host: a, b\r\n"), 400, id="Host-as-a-list"),
    pytest.param(request(host=b"Host: \r\n"), 400, id="empty-Host"),
    pytest.param(request(line=b"GET http://gateway/v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="absolute-form"),
    pytest.param(
        request(line=b"GET http://other/v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="absolute-form-of-another-host"
    ),
    pytest.param(request(line=b"GET v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="target-without-a-slash"),
    pytest.param(request(line=b"OPTIONS * HTTP/1.1\r\n"), 400, id="asterisk-form"),
    pytest.param(request(line=b"CONNECT gateway:443 HTTP/1.1\r\n"), 400, id="authority-form"),
    pytest.param(request(line=b"BREW /v1/campaigns/c-1 HTTP/1.1\r\n"), 400, id="method-unknown-to-the-parser"),
    pytest.param(request(line=b"PROPFIND /v1/campaigns/c-1 HTTP/1.1\r\n"), 405, id="method-unknown-to-us"),
    # Size.
    pytest.param(request(b"X-A: " + b"a" * (MAX_FIELD_BYTES + 1)), 431, id="field-too-long"),
    pytest.param(request(b"Authorization: Bearer " + b"a" * 20_000), 431, id="key-too-long"),
    pytest.param(request(b"X" * (MAX_FIELD_BYTES + 1) + b": a"), 431, id="field-name-too-long"),
    pytest.param(
        request(line=b"GET /v1/campaigns/" + b"a" * (MAX_TARGET_BYTES + 1) + b" HTTP/1.1\r\n"),
        400,
        id="target-too-long",
    ),
    pytest.param(request(*[b"X-%d: a" % number for number in range(200)]), 400, id="too-many-fields"),
]


@pytest.mark.parametrize("split", [False, True], ids=["whole", "in-pieces"])
@pytest.mark.parametrize(("sent", "status"), REFUSED)
async def test_what_is_no_request_for_us_is_refused_with_a_problem_before_anything_is_asked(front, sent, status, split):
    size = max(1, len(sent) // 40)
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)] if split else [sent]
    answers = await front.talk(*pieces)
    assert answers, "an answer, not just a closed connection"
    assert answers[0].status == status
    for answer in answers:
        assert 400 <= answer.status < 500
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["Server"] == "campaign-gateway"
        document = json.loads(answer.body)
        assert document["status"] == answer.status
        assert document["request_id"] == answer["X-Request-ID"]
    assert front.exchange.requests == []
    assert sum(count for event, count in front.meter.events.items() if event[0] == "request") == len(answers)


BAD_LINES = [
    pytest.param(b"Authorization: Bearer " + SECRET + b"\x00", id="NUL-in-the-key"),
    pytest.param(b"Authorization: Bearer " + SECRET + b"\x01", id="control-in-the-key"),
    pytest.param(b"Authorization : Bearer " + SECRET, id="space-before-the-colon"),
    pytest.param(b"Authorization Bearer " + SECRET, id="no-colon"),
    pytest.param(b"Authorization: Bearer\r\n " + SECRET, id="folded"),
    pytest.param(b"Authorization: Bearer " + SECRET + b"a" * 20_000, id="too-long"),
    pytest.param(b"Content-Length: " + SECRET, id="as-a-length"),
    pytest.param(b"Transfer-Encoding: " + SECRET, id="as-an-encoding"),
    pytest.param(b"Host: " + SECRET, id="as-a-second-host"),
]


@pytest.mark.parametrize("field", BAD_LINES)
async def test_a_bad_line_is_neither_repeated_nor_logged(front, caplog, field):
    (answer,) = await front.talk(GET + b"Host: gateway\r\n" + field + b"\r\n\r\n")
    assert 400 <= answer.status < 500
    assert SECRET not in answer.head + answer.body
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert SECRET.decode() not in logged
    assert front.exchange.requests == []


async def test_a_bad_request_line_is_neither_repeated_nor_logged(front, caplog):
    (answer,) = await front.talk(b"GET /v1/campaigns/" + SECRET + b"\x01 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 400
    assert SECRET not in answer.head + answer.body
    assert SECRET.decode() not in caplog.text + "".join(repr(vars(record)) for record in caplog.records)


async def test_a_refusal_ends_the_connection_and_what_follows_on_it_is_not_read(front):
    """Or the rest of a smuggled request would be taken for one."""
    answers = await front.talk(request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n") + GOOD)
    assert [answer.status for answer in answers] == [400]
    assert answers[0]["Connection"] == "close"
    assert front.exchange.requests == []


async def test_garbage_behind_a_good_request_never_makes_it_two(front):
    """In one piece the parser gives up both; in two the first is answered."""
    for pieces in ([GOOD + b"nonsense\r\n\r\n"], [GOOD, b"nonsense\r\n\r\n"]):
        front.exchange.requests.clear()
        statuses = [answer.status for answer in await front.talk(*pieces, count=2)]
        assert statuses[-1] == 400
        assert statuses.count(200) == len(front.exchange.requests) == len(statuses) - 1


ACCEPTED = [
    pytest.param(GOOD, id="plain"),
    pytest.param(b"\r\n" + GOOD, id="RFC-9112-2.2-an-empty-line-first"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/1.0\r\n"), id="HTTP-1.0"),
    pytest.param(request(line=b"GET /v1/campaigns/c-1 HTTP/1.0\r\n", host=b""), id="HTTP-1.0-without-Host"),
    pytest.param(request(host=b"host: [::1]:8080\r\n"), id="IPv6-Host"),
    pytest.param(request(b"Content-Length: 0"), id="empty-body"),
    pytest.param(request(b"Content-Length: 5", body=b"hello"), id="body-on-GET"),
    pytest.param(request(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n"), id="chunked-body-on-GET"),
    pytest.param(request(b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"), id="RFC-9112-7-coding-names-in-any-case"),
    pytest.param(
        request(b"Content-Encoding: gzip", b"Content-Length: 4", body=b"junk"), id="body-that-is-not-unfolded"
    ),
    pytest.param(request(b"Expect: 100-continue"), id="Expect"),
    pytest.param(request(b"Expect: the-unexpected"), id="Expect-of-something-else"),
    pytest.param(
        request(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAA"), id="Upgrade"
    ),
    pytest.param(request(b"X-A: caf\xc3\xa9"), id="high-bytes-in-a-value"),
    pytest.param(request(b"X-A: " + b"a" * (MAX_FIELD_BYTES - 100)), id="long-field-within-the-limit"),
    pytest.param(request(*[b"X-%d: a" % number for number in range(90)]), id="many-fields-within-the-limit"),
    pytest.param(request(b"X-A:"), id="empty-value"),
    pytest.param(request(b"X-A:\t a \t"), id="white-space-around-a-value"),
]


@pytest.mark.parametrize("step", [None, 1, 7], ids=["whole", "byte-by-byte", "in-sevens"])
@pytest.mark.parametrize("sent", ACCEPTED)
async def test_a_good_request_is_taken_however_its_bytes_arrive(front, sent, step):
    if step is not None and len(sent) > 2000:
        step *= 500
    pieces = [sent] if step is None else [sent[start : start + step] for start in range(0, len(sent), step)]
    (answer,) = await front.talk(*pieces)
    assert answer.status == 200
    assert answer["Server"] == "campaign-gateway"
    assert len(front.exchange.requests) == 1


@pytest.mark.parametrize("sent", [GOOD, b"nonsense\r\n\r\n", request(host=b""), request(b"X-A: " + b"a" * 20_000)])
async def test_no_answer_names_a_version_of_anything(front, sent):
    (answer,) = await front.talk(sent)
    assert answer.fields.get_all("Server") == ["campaign-gateway"]
    for word in (b"aiohttp", b"Python"):
        assert word not in answer.head + answer.body


# Connections.


async def test_a_pipelined_pair_is_answered_in_order(front):
    answers = await front.talk(GOOD + GOOD.replace(b"c-1", b"c-2"), count=2)
    assert [answer.status for answer in answers] == [200, 200]
    assert [asked.id for asked in front.exchange.requests] == ["c-1", "c-2"]


async def test_a_connection_is_kept_after_an_answer_and_after_a_problem_of_the_api(front):
    async with front.connection() as (reader, writer):
        for target, status in ((b"c-1", 200), (b"..", 400), (b"c-1/x", 404), (b"c-2", 200)):
            writer.write(GOOD.replace(b"c-1", target))
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split()[1]) == status
            assert b"Connection: close" not in head
            length = next(
                int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length")
            )
            await reader.readexactly(length)


async def test_close_is_honoured(front):
    async with front.connection() as (reader, writer):
        writer.write(request(b"Connection: close"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200")


async def test_an_answer_does_not_wait_for_a_body_that_does_not_come(front):
    async with front.connection() as (reader, writer):
        writer.write(request(b"Content-Length: 1000", body=b"half"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_body_that_breaks_its_framing_after_the_head_never_costs_a_5xx(front):
    answers = await front.talk(request(b"Transfer-Encoding: chunked", body=b"zz\r\nhello\r\n"))
    assert answers
    assert all(answer.status < 500 for answer in answers)


async def test_half_a_request_is_no_request(front, caplog):
    async with front.connection() as (reader, writer):
        writer.write(GOOD[:-10])
        writer.write_eof()
        assert await reader.read() == b""
    assert front.exchange.requests == []
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_a_caller_that_leaves_before_the_answer_is_no_error(front, caplog):
    front.exchange.open.clear()
    async with front.connection() as (_, writer):
        writer.write(GOOD)
        while not front.exchange.requests:
            await asyncio.sleep(0)
    front.exchange.open.set()
    assert (await front.ask()).status == 200
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []


async def test_a_slow_head_beside_it_keeps_nobody_waiting(front):
    async with front.connection() as (_, writer):
        writer.write(GOOD[:20])
        assert (await front.ask()).status == 200


# The parser.


def test_the_compiled_parser_is_the_one_we_run_on():
    insist_on_compiled_parser()


def test_the_pure_python_parser_is_refused(monkeypatch):
    monkeypatch.setattr(server_module, "HttpRequestParser", aiohttp.http_parser.HttpRequestParserPy)
    with pytest.raises(RuntimeError, match="AIOHTTP_NO_EXTENSIONS"):
        insist_on_compiled_parser()


# The end.


class Peer(asyncio.Transport):
    """A connection's other end, which takes nothing before `reads_after` seconds, or never does."""

    def __init__(self, protocol: asyncio.BaseProtocol, reads_after: float | None) -> None:
        super().__init__()
        self.protocol, self.reads_after = protocol, reads_after
        self.is_closed = self.is_aborted = False

    @override
    def write(self, data: object) -> None:
        pass

    @override
    def is_closing(self) -> bool:
        return self.is_closed

    @override
    def close(self) -> None:
        if not self.is_closed and self.reads_after is not None:
            asyncio.get_running_loop().call_later(self.reads_after, self.protocol.connection_lost, None)
        self.is_closed = True

    @override
    def abort(self) -> None:
        self.is_closed = self.is_aborted = True
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


async def answer(_http: web.BaseRequest) -> web.Response:
    return web.Response()


async def answer_never(_http: web.BaseRequest) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.drill(
    "SIGTERM, and a caller who does not read",
    planted="a transport that takes nothing",
    seen="the end after the time that there is, all of it sent where somebody reads",
)
@pytest.mark.parametrize(
    ("handler", "reads_after", "ends_after", "is_aborted"),
    [
        pytest.param(answer_never, 0.0, 10.0, True, id="no-answer"),
        pytest.param(answer, None, 10.0, True, id="an-answer-that-nobody-reads"),
        pytest.param(answer, 3.0, 3.0, False, id="an-answer-that-is-read-slowly"),
        pytest.param(answer, 0.0, 0.0, False, id="an-answer-that-is-read"),
    ],
)
def test_a_stop_takes_the_time_it_has_and_no_longer(
    handler: Callable[[web.BaseRequest], Awaitable[web.Response]],
    reads_after: float | None,
    ends_after: float,
    *,
    is_aborted: bool,
):
    async def stop() -> tuple[float, bool, bool]:
        loop = asyncio.get_running_loop()
        server = Server(handler, lambda _failure: web.Response(status=400))
        connection = server()
        peer = Peer(connection, reads_after)
        connection.connection_made(peer)
        connection.data_received(GOOD)
        await asyncio.sleep(0)
        began, task = loop.time(), connection._task_handler
        assert task is not None
        # As aiohttp's runner does.
        server.pre_shutdown()
        await server.shutdown(10.0)
        seconds = loop.time() - began
        await asyncio.wait([task])
        return seconds, peer.is_aborted, peer.is_closed

    with virtual_time() as loop:
        assert loop.run_until_complete(stop()) == (ends_after, is_aborted, True)


@pytest.mark.drill(
    "used-up file descriptors",
    planted="more connections than there are descriptors",
    seen="those who are connected, operators and Redis do not notice; others are closed and counted; two log lines, `/readyz`",
)
@pytest.mark.parametrize("connect", [Connection, FastRoad(Epoch()).connect], ids=["parsed", "fast"])
async def test_a_connection_that_there_is_no_descriptor_for_is_closed_counted_and_told_once(connect, caplog):
    refused: list[None] = []
    count = partial(refused.append, None)
    server = Server(answer, lambda _failure: web.Response(status=400), connect, most=20, count_refused=count)
    peers = []
    for _ in range(23):
        connection = server()
        peers.append(Peer(connection, 0.0))
        connection.connection_made(peers[-1])
    await asyncio.sleep(0)
    assert [peer.is_aborted for peer in peers] == [False] * 20 + [True] * 3
    assert (len(refused), server.is_full) == (3, True)
    for peer, is_full in zip(peers[:2], (True, False), strict=True):
        peer.abort()
        await asyncio.sleep(0)
        assert server.is_full is is_full
    told = [record.levelname for record in caplog.records if record.name == "campaign_gateway.web.server"]
    assert told == ["WARNING", "INFO"]
    assert server.open_count == 18
    await server.shutdown(0)


@pytest.mark.parametrize("connect", [Connection, FastRoad(Epoch()).connect], ids=["parsed", "fast"])
def test_connections_grow_old_at_moments_of_their_own(connect, monkeypatch):
    async def ages() -> list[float]:
        loop, moments = asyncio.get_running_loop(), list[float]()
        monkeypatch.setattr(Connection, "grow_old", lambda _: moments.append(loop.time()))
        server = Server(answer, lambda _failure: web.Response(status=400), connect, keepalive=10_000.0, max_age=600.0)
        peers = []
        for _ in range(50):
            connection = server()
            peers.append(Peer(connection, 0.0))
            connection.connection_made(peers[-1])
        for peer in peers[40:]:
            peer.abort()
        await asyncio.sleep(700)
        await server.shutdown(0)
        return moments

    with virtual_time() as loop:
        moments = loop.run_until_complete(ages())
    assert len(moments) == 40
    assert all(540 <= moment <= 660 for moment in moments)
    assert max(moments) - min(moments) > 60
