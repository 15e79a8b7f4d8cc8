import asyncio
import contextlib
import datetime as dt
import gzip
import ipaddress
import socket
import ssl
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import GET, Call, build_call
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import UpstreamError
from campaign_gateway.upstream import client as client_module
from campaign_gateway.upstream.client import DIRECT, Limits, PlatformClient, Route
from campaign_gateway.upstream.signer import Claims, Secret, Signer
from tests.support.doubles import SUPPORT, begun
from tests.support.tls import Authority, tunnel
from tests.support.wire import free_port, raw_server

KEY = b"0123456789abcdef0123456789abcdef"
LATER = float("inf")
"""A permit that never expires."""
CALL = build_call(GET, SUPPORT.tenant, {"id": "c-1"})
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
UNAVAILABLE, INVALID, TIMEOUT = Problem.UPSTREAM_UNAVAILABLE, Problem.UPSTREAM_INVALID, Problem.UPSTREAM_TIMEOUT


@contextlib.asynccontextmanager
async def client(
    origin: str, *, timeout: float = 5.0, connect: float = 5.0, route: Route = DIRECT, **bounds: int
) -> AsyncIterator[PlatformClient]:
    signer = Signer(Claims("cs-1", "campaign-gateway", 600.0, is_single_use=False), "HS256", Secret(KEY))
    async with PlatformClient(
        origin, Limits(timeout, connect, **{"max_body": 2**20} | bounds), {"main": signer}, route
    ) as platform:
        yield platform


def always(*pieces: bytes, close: bool = False):
    """A server that gives each request this answer."""

    async def answer(exchange) -> None:
        await exchange.send(*pieces)
        if close:
            exchange.close()

    return answer


async def answer_to(*pieces: bytes, close: bool = False, **limits) -> Response:
    async with raw_server(always(*pieces, close=close)) as server, client(server.url, **limits) as platform:
        return await platform.send(SUPPORT, CALL, LATER)


async def error_of(sending) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await sending
    return raised.value


async def error_to(*pieces: bytes, close: bool = False, **limits) -> UpstreamError:
    return await error_of(answer_to(*pieces, close=close, **limits))


def head(*fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *fields, "", ""]).encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


# What is sent.


async def test_a_call_carries_exactly_these_headers_and_this_target():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        await platform.send(SUPPORT, CALL, LATER)
        token = platform._signers["main"].token()
    (exchange,) = server.exchanges
    assert exchange.head.startswith(b"GET /campaign/api/v2/public/st-1/campaign/c-1?accountId=acc-1 HTTP/1.1\r\n")
    assert dict(exchange.fields) == {
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": "campaign-gateway",
        "Accept": "application/json",
        "Accept-Encoding": "gzip",
        "Content-Type": "application/json",
        "iid": "app-1",
        "accountId": "acc-1",
        "auth": token,
    }
    assert len(exchange.fields) == 8, "none of them twice"


async def test_the_token_stands_in_auth_without_a_scheme():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        await platform.send(SUPPORT, CALL, LATER)
    fields = {name.lower(): value for name, value in server.exchanges[0].fields}
    assert fields["auth"].count(".") == 2
    assert " " not in fields["auth"]
    assert "authorization" not in fields


async def test_an_encoded_target_goes_out_as_it_is():
    targets = [
        "/campaign/a%2F..%2Fb%3Fc%25d?e=%2f",
        "/%7e%63d-1?a=%20+b",
        "/a/./b/../c",
        build_call(GET, SUPPORT.tenant, {"id": "a/../b?c%d"}).target,
    ]
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        for target in targets:
            await platform.send(SUPPORT, Call("GET", target, {}), LATER)
    assert [line.split()[1].decode() for line in server.heads] == targets


@pytest.mark.parametrize("target", ["/a#b", "@other.example/a", ".other.example/a", ":1/a", "a", ""])
async def test_a_target_that_would_make_another_url_is_never_sent(target):
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        with pytest.raises(ValueError):
            await platform.send(SUPPORT, Call("GET", target, {}), LATER)
    assert server.connections == 0


async def test_a_target_that_looks_like_a_host_stays_a_path():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        await platform.send(SUPPORT, Call("GET", "//other.example/a", {}), LATER)
    assert server.heads[0].startswith(b"GET //other.example/a HTTP/1.1\r\n")


async def test_connections_are_kept():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        for _ in range(3):
            await platform.send(SUPPORT, CALL, LATER)
    assert (server.connections, len(server.exchanges)) == (1, 3)


async def test_cookies_are_not_kept():
    """By name, because aiohttp's own jar takes none from a bare address anyway."""
    async with (
        raw_server(always(head("Set-Cookie: session=1; Path=/", "Content-Length: 2") + b"{}")) as server,
        client(f"http://localhost:{server.port}") as platform,
    ):
        await platform.send(SUPPORT, CALL, LATER)
        await platform.send(SUPPORT, CALL, LATER)
    assert len(server.exchanges) == 2
    assert all("Cookie" not in dict(exchange.fields) for exchange in server.exchanges)


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_proxy_in_the_environment_is_ignored(monkeypatch, name):
    async with raw_server(always(OK)) as proxy, raw_server(always(OK)) as server:
        monkeypatch.setenv(name, proxy.url)
        async with client(server.url) as platform:
            await platform.send(SUPPORT, CALL, LATER)
    assert (len(server.exchanges), len(proxy.exchanges)) == (1, 0)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_the_credential_goes_nowhere_else(status):
    async with raw_server(always(OK)) as stranger:
        answer = head(f"Location: {stranger.url}/x", "Content-Length: 0", status=f"{status} Moved")
        async with raw_server(always(answer)) as server, client(server.url) as platform:
            assert (await platform.send(SUPPORT, CALL, LATER)).status == status
    assert (len(server.exchanges), len(stranger.exchanges)) == (1, 0)


# Whole answers.


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        pytest.param([head("Content-Length: 7"), b'{"a":1}'], b'{"a":1}', id="content-length"),
        pytest.param([head("Transfer-Encoding: chunked"), chunked(b'{"a"', b":1}")], b'{"a":1}', id="chunked"),
        pytest.param([head("Content-Length: 0")], b"", id="empty"),
        pytest.param([head("Content-Encoding: identity", "Content-Length: 2"), b"{}"], b"{}", id="identity"),
        pytest.param(
            [head("Content-Encoding: gzip", "Transfer-Encoding: chunked"), chunked(gzip.compress(b"{}"))],
            b"{}",
            id="gzip",
        ),
        pytest.param(
            [head("Content-Encoding: X-GZIP ", "Transfer-Encoding: chunked"), chunked(gzip.compress(b"{}"))],
            b"{}",
            id="x-gzip",
        ),
        pytest.param(
            [
                head("Content-Encoding: gzip", "Transfer-Encoding: chunked"),
                chunked(*(bytes([byte]) for byte in gzip.compress(b"{}"))),
            ],
            b"{}",
            id="gzip-byte-by-byte",
        ),
        pytest.param(
            [head("Transfer-Encoding: chunked"), *(bytes([byte]) for byte in chunked(b"{}"))],
            b"{}",
            id="chunked-byte-by-byte",
        ),
    ],
)
async def test_a_whole_answer_comes_out_decoded(pieces, body):
    assert (await answer_to(*pieces)).body == body


async def test_an_answer_framed_by_closing_is_whole_as_far_as_anyone_can_tell():
    assert (await answer_to(head(), b'{"a":', b"1}", close=True)).body == b'{"a":1}'


async def test_status_type_retry_after_and_date_come_as_they_are():
    reply = await answer_to(
        b"HTTP/1.1 503 Busy\r\nContent-Type: text/html; x=y\r\nRetry-After: 17\r\nDate: soon\r\nContent-Length: 1\r\n\r\n<"
    )
    assert reply == Response(503, "text/html; x=y", b"<", "17", "soon")


async def test_what_the_platform_does_not_say_is_empty():
    reply = await answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    assert (reply.content_type, reply.retry_after) == ("", None)


async def test_a_body_of_just_the_bound_is_taken_and_one_byte_more_is_not():
    for extra in (0, 1):
        body = b"x" * (1000 + extra)
        for pieces in (
            [head(f"Content-Length: {len(body)}"), body],
            [head("Content-Encoding: gzip", "Transfer-Encoding: chunked"), chunked(gzip.compress(body))],
        ):
            if extra:
                assert (await error_to(*pieces, max_body=1000)).failure.problem is INVALID
            else:
                assert (await answer_to(*pieces, max_body=1000)).body == body


async def test_what_unfolds_to_much_is_unfolded_a_step_at_a_time(monkeypatch):
    turn = 0
    unfolded = Counter[int]()

    async def count_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    def watched(wbits: int) -> object:
        unfold = zlib.decompressobj(wbits=wbits)

        class Watched:
            def decompress(self, data: bytes, most: int) -> bytes:
                decoded = unfold.decompress(data, most)
                unfolded[turn] += len(decoded)
                return decoded

            def __getattr__(self, name: str) -> object:
                return getattr(unfold, name)

        return Watched()

    monkeypatch.setattr(client_module, "zlib", SimpleNamespace(decompressobj=watched, error=zlib.error))
    bomb = gzip.compress(bytes(4 * 2**20))
    assert len(bomb) < client_module._PIECE_BYTES, "it comes in one piece"
    async with asyncio.TaskGroup() as group:
        turns = group.create_task(count_turns())
        answer = await answer_to(
            head("Content-Encoding: gzip", f"Content-Length: {len(bomb)}"), bomb, max_body=4 * 2**20
        )
        turns.cancel()
    assert len(answer.body) == unfolded.total() == 4 * 2**20
    assert max(unfolded.values()) <= 2**18


# Broken answers.


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"garbage without end\r\n\r\n"], id="status-line-garbage"),
        pytest.param([b"HTTP/1.1 two hundred OK\r\n\r\n"], id="status-not-a-number"),
        pytest.param([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 4 + b"\r\n\r\n"], id="tls-record"),
        pytest.param(
            [head("X-Long: " + "a" * 70_000, "Content-Length: 2"), b"{}"], id="header-longer-than-the-clients-limit"
        ),
        pytest.param([head(*["X-A: a"] * 1_001, "Content-Length: 2"), b"{}"], id="more-fields-than-the-clients-limit"),
        pytest.param([head("Bad Header Line", "Content-Length: 2"), b"{}"], id="header-without-colon"),
        pytest.param([head("Content-Length: 2", "Content-Length: 3"), b"{}"], id="two-lengths"),
        pytest.param([head("Content-Length: -2"), b"{}"], id="length-below-zero"),
        pytest.param([head("Content-Length: 20"), b"{}"], id="content-length-cut"),
        pytest.param([head("Transfer-Encoding: chunked"), b"2\r\n{}\r\n"], id="chunked-cut"),
        pytest.param([head("Transfer-Encoding: chunked"), b"zz\r\n{}\r\n0\r\n\r\n"], id="chunk-size-garbage"),
        pytest.param([head("Content-Encoding: gzip"), gzip.compress(b"{}" * 500)[:-3]], id="gzip-cut-in-its-trailer"),
        pytest.param([head("Content-Encoding: gzip"), gzip.compress(b"{}" * 500)[:12]], id="gzip-cut-in-its-body"),
        pytest.param([head("Content-Encoding: gzip"), b""], id="gzip-of-nothing"),
        pytest.param([head("Content-Encoding: gzip"), b"{}"], id="gzip-that-is-none"),
        pytest.param(
            [head("Content-Encoding: gzip"), gzip.compress(b"{}")[:-8] + b"\0" * 8], id="gzip-with-a-wrong-checksum"
        ),
        pytest.param([head("Content-Encoding: gzip"), gzip.compress(b"{}") + b"junk"], id="gzip-and-then-junk"),
        pytest.param([head("Content-Encoding: br"), b"{}"], id="encoding-not-asked-for"),
        pytest.param([head("Content-Encoding: gzip, gzip"), gzip.compress(gzip.compress(b"{}"))], id="gzip-twice"),
        pytest.param([head("Content-Encoding: deflate"), zlib.compress(b"{}")[:-2]], id="deflate-cut"),
    ],
)
async def test_a_broken_answer_is_invalid_and_was_a_call(pieces):
    error = await error_to(*pieces, close=True)
    assert error.failure.problem is INVALID
    assert error.failure.upstream_status is None, "not the status that aiohttp invents"
    assert (error.was_sent, error.may_repeat) == (True, False)


@pytest.mark.drill(
    "good answers behind front doors",
    planted="fields of 60,000 bytes, 900 fields, gzip in members, deflate",
    seen="they are good",
)
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([head("X-Long: " + "a" * 60_000, "Content-Length: 4"), b"{  }"], id="a-long-field"),
        pytest.param([head(*["X-A: a"] * 900, "Content-Length: 4"), b"{  }"], id="many-fields"),
        pytest.param([head("Content-Encoding: deflate"), zlib.compress(b"{  }")], id="deflate"),
        pytest.param([head("Content-Encoding: gzip"), gzip.compress(b"{ ") + gzip.compress(b" }")], id="two-members"),
        pytest.param(
            [head("Content-Encoding: gzip"), gzip.compress(b"{ "), gzip.compress(b""), gzip.compress(b" }")],
            id="members-in-pieces",
        ),
    ],
)
async def test_what_front_doors_do_to_a_good_answer_leaves_it_good(pieces):
    assert (await answer_to(*pieces, close=True)).body == b"{  }"


PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


async def test_interim_answers_are_passed_over():
    pieces = [b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", *[PROCESSING] * 20, head("Content-Length: 4"), b"{  }"]
    assert (await answer_to(*pieces)).body == b"{  }"


@pytest.mark.drill("no end of interim answers, of a head, of chunks, of answers unasked for")
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([PROCESSING * 100_000, OK], id="interim-answers"),
        pytest.param([head(*["X-A: " + "a" * 1_000] * 300), b"{  }"], id="fields-within-their-limits"),
        pytest.param([b"HTTP/1.1 200 OK\r\n", *[b"X-A: " + b"a" * 60_000 + b"\r\n"] * 1_000], id="no-end"),
    ],
)
async def test_an_answer_that_does_not_begin_ends_the_call_at_once(pieces):
    error = await error_to(*pieces)
    assert error.failure.problem is INVALID


async def test_a_body_that_is_there_already_is_read_turn_by_turn():
    async def iter_chunked(size: int):
        for _ in range(3):
            yield b"a" * size

    response = SimpleNamespace(headers={}, content=SimpleNamespace(iter_chunked=iter_chunked))
    async with client("http://127.0.0.1") as platform:
        reading = begun(platform._read(response))  # type: ignore[arg-type]
        turns = 0
        while not reading.done():
            await asyncio.sleep(0)
            turns += 1
    assert len(await reading) == 3 * 2**14
    assert turns >= 3


async def test_limits_of_a_head_are_those_that_are_set():
    for pieces in ([head("X-Long: " + "a" * 3_000), b"{  }"], [head(*["X-A: a"] * 20), b"{  }"]):
        assert (await answer_to(*pieces, close=True)).body == b"{  }"
        error = await error_to(*pieces, close=True, max_header=2_000, max_headers=10)
        assert error.failure.problem is INVALID


@pytest.mark.drill("no end of interim answers, of a head, of chunks, of answers unasked for")
async def test_what_is_sent_on_a_kept_connection_unasked_ends_it():
    async def answer(exchange) -> None:
        await exchange.send(OK)
        if exchange.number == 1:
            await exchange.send(OK * 1_000)

    async with raw_server(answer) as server, client(server.url) as platform:
        for _ in range(2):
            assert (await platform.send(SUPPORT, CALL, LATER)).status == 200
            await asyncio.wait_for(server.lost.wait(), 5)
        assert server.connections == 2


@pytest.mark.drill(
    "a 401 or 429 with a body that cannot be read",
    planted="brotli, cut, empty gzip, too large",
    seen="the status counts: a pause, the breaker",
)
@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests"])
@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([head("Content-Encoding: br", "Content-Length: 2", status="{}"), b"{}"], id="brotli"),
        pytest.param([head("Content-Encoding: gzip", "Content-Length: 0", status="{}")], id="empty-gzip"),
        pytest.param([head("Content-Encoding: gzip", status="{}"), gzip.compress(b"{}")[:-3]], id="cut-gzip"),
        pytest.param([head("Content-Length: 20", status="{}"), b"{}"], id="cut"),
        pytest.param([head("Transfer-Encoding: chunked", status="{}"), b"9\r\n{}"], id="cut-in-a-chunk"),
        pytest.param([head("Content-Length: 3000000", status="{}"), b"a" * 3_000_000], id="too-large"),
    ],
)
async def test_a_status_that_says_enough_counts_without_its_body(pieces, status):
    response = await answer_to(pieces[0].replace(b"{}", status.encode(), 1), *pieces[1:], close=True)
    assert (response.status, response.body) == (int(status[:3]), b"")


@pytest.mark.drill(
    "dead kept connections",
    planted="closed under the gateway",
    seen="the repeat has a connection of its own",
)
async def test_what_is_sent_anew_takes_no_connection_that_was_kept():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        for is_anew in (False, False, True, True, False):
            await platform.send(SUPPORT, CALL, LATER, is_anew=is_anew)
        assert server.connections == 3, "one that is kept, and two of their own"


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(size // 2**20)) + packer.flush()


async def test_a_gzip_bomb_is_refused_in_little_memory():
    packed = bomb(200 * 2**20)
    assert len(packed) < 210_000
    async with (
        raw_server(always(head("Content-Encoding: gzip", f"Content-Length: {len(packed)}"), packed)) as server,
        client(server.url) as platform,
    ):
        tracemalloc.start()
        try:
            error = await error_of(platform.send(SUPPORT, CALL, LATER))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert error.failure.problem is INVALID
    assert peak < 8 * 2**20


async def test_an_endless_plain_body_is_refused_at_the_bound():
    async def endless(exchange) -> None:
        await exchange.send(head())
        while not exchange.writer.is_closing():
            await exchange.send(bytes(2**16))

    async with raw_server(endless) as server, client(server.url) as platform:
        assert (await error_of(platform.send(SUPPORT, CALL, LATER))).failure.problem is INVALID
        await server.lost.wait()


async def test_an_endless_tail_behind_a_whole_gzip_is_refused_and_not_collected():
    async def endless(exchange) -> None:
        await exchange.send(head("Content-Encoding: gzip"), gzip.compress(b"{}"))
        while not exchange.writer.is_closing():
            await exchange.send(bytes(2**10))
            await asyncio.sleep(0.001)

    async with raw_server(endless) as server, client(server.url, timeout=0.25) as platform:
        assert (await error_of(platform.send(SUPPORT, CALL, LATER))).failure.problem is INVALID


# Sent exactly once.


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_call_on_a_kept_connection_that_the_platform_closes_is_sent_once_and_may_be_repeated(how):
    async def answer(exchange) -> None:
        if exchange.on_connection == 1:
            await exchange.send(OK)
        elif how == "close":
            exchange.close()
        else:
            exchange.reset()

    async with raw_server(answer) as server, client(server.url) as platform:
        await platform.send(SUPPORT, CALL, LATER)
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
        assert error.failure.problem is UNAVAILABLE
        assert (error.was_sent, error.may_repeat) == (True, True)
        assert len(server.exchanges) == 2, "the second call, once"
        assert (await platform.send(SUPPORT, CALL, LATER)).status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_call_on_a_new_connection_is_sent_once_and_may_not_be_repeated(how):
    async def answer(exchange) -> None:
        exchange.close() if how == "close" else exchange.reset()

    async with raw_server(answer) as server, client(server.url) as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert (error.was_sent, error.may_repeat) == (True, False)
    assert len(server.exchanges) == 1


async def test_a_body_that_broke_off_on_a_kept_connection_may_not_be_repeated():
    async def answer(exchange) -> None:
        if exchange.on_connection == 1:
            await exchange.send(OK)
        else:
            await exchange.send(OK[:-1])
            exchange.reset()

    async with raw_server(answer) as server, client(server.url) as platform:
        await platform.send(SUPPORT, CALL, LATER)
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert (error.was_sent, error.may_repeat) == (True, False)


async def test_a_refused_connection_was_not_sent():
    async with client(f"http://127.0.0.1:{free_port()}") as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert (error.was_sent, error.may_repeat) == (False, False)


async def test_an_unknown_host_was_not_sent():
    async with client("http://no-such-host.invalid") as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert not error.was_sent


# Time.


async def test_a_connection_that_does_not_come_about_in_time_was_not_sent():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        try:
            async with client(f"http://127.0.0.1:{port}", connect=0.1) as platform:
                error = await error_of(platform.send(SUPPORT, CALL, LATER))
        finally:
            for filler in fillers:
                filler.close()
    assert error.failure.problem is TIMEOUT
    assert (error.was_sent, error.may_repeat) == (False, False)


async def test_a_platform_that_says_nothing_is_a_time_out_that_was_sent():
    async def silent(exchange) -> None:
        await exchange.reader.read()

    async with raw_server(silent) as server, client(server.url, timeout=0.1) as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is TIMEOUT
    assert (error.was_sent, error.may_repeat) == (True, False)
    assert len(server.exchanges) == 1


async def test_silence_on_a_kept_connection_is_not_repeated():
    async def answer(exchange) -> None:
        if exchange.on_connection == 1:
            await exchange.send(OK)
        else:
            await exchange.reader.read()

    async with raw_server(answer) as server, client(server.url, timeout=0.1) as platform:
        await platform.send(SUPPORT, CALL, LATER)
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is TIMEOUT
    assert not error.may_repeat


@pytest.mark.parametrize("start", [b"", head("Content-Length: 100000")], ids=["in-the-head", "in-the-body"])
async def test_a_platform_that_drips_is_a_time_out_of_the_whole_call(start):
    async def drip(exchange) -> None:
        await exchange.send(start or b"HTTP/1.1 200 OK\r\nX: ")
        while not exchange.writer.is_closing():
            await exchange.send(b"x")
            await asyncio.sleep(0.02)

    async with raw_server(drip) as server, client(server.url, timeout=0.15) as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is TIMEOUT
    assert error.was_sent


async def test_a_request_whose_permit_has_expired_does_not_leave():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        error = await error_of(platform.send(SUPPORT, CALL, time.monotonic() - 0.001))
        assert (await platform.send(SUPPORT, CALL, time.monotonic() + 60)).status == 200
    assert error.failure.problem is TIMEOUT
    assert (error.was_sent, error.may_repeat) == (False, False)
    assert len(server.exchanges) == 1


async def test_a_permit_that_expired_keeps_a_request_from_a_kept_connection_too():
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        await platform.send(SUPPORT, CALL, LATER)
        error = await error_of(platform.send(SUPPORT, CALL, time.monotonic() - 0.001))
        assert (error.was_sent, error.may_repeat) == (False, False)
        assert (await platform.send(SUPPORT, CALL, LATER)).status == 200
    assert len(server.exchanges) == 2


async def test_a_permit_that_expires_while_the_connection_is_made_is_not_used(monkeypatch):
    """Only what is looked at right before the first byte holds when connecting takes its time."""
    async with raw_server(always(OK)) as server, client(server.url) as platform:
        connector = platform._session.connector
        assert connector is not None
        connect = connector.connect

        async def connect_slowly(*arguments, **options):
            await asyncio.sleep(0.1)
            return await connect(*arguments, **options)

        monkeypatch.setattr(connector, "connect", connect_slowly)
        error = await error_of(platform.send(SUPPORT, CALL, time.monotonic() + 0.05))
    assert server.connections == 1
    assert error.failure.problem is TIMEOUT
    assert not error.was_sent
    assert server.exchanges == []


async def test_an_answer_may_come_after_the_permit_has_expired():
    async def slow(exchange) -> None:
        await asyncio.sleep(0.1)
        await exchange.send(OK)

    async with raw_server(slow) as server, client(server.url) as platform:
        assert (await platform.send(SUPPORT, CALL, time.monotonic() + 0.05)).status == 200


async def test_a_cancelled_call_closes_its_connection():
    began = asyncio.Event()

    async def silent(exchange) -> None:
        began.set()
        if not await exchange.reader.read():
            raise ConnectionError

    async with raw_server(silent) as server, client(server.url) as platform:
        call = begun(platform.send(SUPPORT, CALL, LATER))
        await began.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await server.lost.wait()


# TLS.


async def test_a_platform_that_speaks_no_tls_was_not_sent():
    async def say_no(_reader, writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(say_no, "127.0.0.1", 0)
    async with listener, client(f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}") as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert not error.was_sent


async def test_a_certificate_of_nobody_is_refused_before_anything_is_sent(tmp_path, rsa_key, private_pem):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = dt.timedelta(days=1)
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, rsa_key.public_key(), 1, now - day, now + day)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
    )
    pem = builder.sign(rsa_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "both.pem").write_bytes(private_pem + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    async with raw_server(always(OK), tls=context) as server, client(f"https://127.0.0.1:{server.port}") as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert not error.was_sent
    assert server.exchanges == []


# The way there.


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path, "authority")


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
async def test_a_platform_that_the_authority_in_the_settings_vouches_for_is_believed(authority):
    context = authority.issue("platform", "127.0.0.1").server_context()
    async with raw_server(always(OK), tls=context) as server:
        async with client(f"https://127.0.0.1:{server.port}", route=Route(ca_file=authority.file)) as platform:
            assert (await platform.send(SUPPORT, CALL, LATER)).status == 200
        async with client(f"https://127.0.0.1:{server.port}") as platform:
            error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert str(error) == "the platform's certificate is not valid: unable to get local issuer certificate"
    assert len(server.exchanges) == 1


async def test_why_there_is_no_connection_is_told_apart(authority):
    async def says(url: str) -> str:
        async with client(url, route=Route(ca_file=authority.file)) as platform:
            return str(await error_of(platform.send(SUPPORT, CALL, LATER)))

    assert await says(f"http://127.0.0.1:{free_port()}") == "no connection: it is refused"
    assert await says("http://platform.invalid") == "no connection: the platform's name is not resolved"
    context = authority.issue("platform", "platform.example").server_context()
    async with raw_server(always(OK), tls=context) as server:
        said = await says(f"https://127.0.0.1:{server.port}")
    assert said.startswith("the platform's certificate is not valid: IP address mismatch")


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
async def test_a_platform_that_speaks_an_older_tls_than_is_wanted_gets_nothing(authority):
    context = authority.issue("platform", "127.0.0.1").server_context(ssl.TLSVersion.TLSv1_2)
    async with raw_server(always(OK), tls=context) as server:
        async with client(f"https://127.0.0.1:{server.port}", route=Route(ca_file=authority.file)) as platform:
            assert (await platform.send(SUPPORT, CALL, LATER)).status == 200
        strict = Route(ca_file=authority.file, min_tls="1.3")
        async with client(f"https://127.0.0.1:{server.port}", route=strict) as platform:
            error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert not error.was_sent
    assert len(server.exchanges) == 1


@pytest.mark.drill(
    "no way out but a proxy, an authority of one's own",
    planted="a proxy that tunnels, refuses, is silent, is not there; TLS 1.2 where 1.3 is wanted",
    seen="the proxy sees the platform's name only; what was not sent costs no call",
)
async def test_a_proxy_connects_and_sees_the_platforms_name_only(authority):
    context = authority.issue("platform", "localhost").server_context()
    async with raw_server(always(OK), tls=context) as server, raw_server(tunnel) as proxy:
        route = Route(proxy.url, authority.file)
        async with client(f"https://localhost:{server.port}", route=route) as platform:
            for is_anew in (False, False, True):
                assert (await platform.send(SUPPORT, CALL, LATER, is_anew=is_anew)).status == 200
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [b"CONNECT localhost:%d HTTP/1.1" % server.port] * 2
    assert not [head for head in proxy.heads if b"auth" in head.lower()]
    assert [dict(exchange.fields).get("auth") is not None for exchange in server.exchanges] == [True] * 3


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
@pytest.mark.parametrize("status", [b"407 Authenticate", b"502 Bad Gateway", b"200 but then garbage"])
async def test_what_a_proxy_does_not_connect_was_not_sent(authority, status):
    async with raw_server(always(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status, close=True)) as proxy:
        route = Route(proxy.url, authority.file)
        async with client("https://platform.invalid", route=route) as platform:
            error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is UNAVAILABLE
    assert (error.was_sent, error.may_repeat) == (False, False)
    assert len(proxy.exchanges) == 1


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
async def test_a_proxy_that_is_not_there_is_named(authority):
    route = Route(f"http://127.0.0.1:{free_port()}", authority.file)
    async with client("https://platform.invalid", route=route) as platform:
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert str(error) == "no connection to the proxy"
    assert not error.was_sent


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
async def test_a_proxy_that_says_nothing_is_no_connection_in_time(authority):
    async def silent(exchange) -> None:
        await exchange.reader.read()

    async with (
        raw_server(silent) as proxy,
        client("https://platform.invalid", timeout=0.2, route=Route(proxy.url, authority.file)) as platform,
    ):
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
    assert error.failure.problem is TIMEOUT
    assert not error.was_sent


# Credentials.


async def test_the_version_is_that_of_the_streams_own_credential(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(KEY)
    claims = Claims("cs-1", "s", 600.0, is_single_use=False)
    signers = {"main": Signer(claims, "HS256", Secret(path)), "other": Signer(claims, "HS256", Secret(KEY))}
    platform = PlatformClient("http://127.0.0.1", Limits(1, 1, 1), signers)
    assert platform.credential_version(SUPPORT) == 1
    assert not await platform.renew_credential(SUPPORT, 1)
    path.write_bytes(KEY[::-1])
    assert await platform.renew_credential(SUPPORT, 1)
    assert platform.credential_version(SUPPORT) == 2


async def test_no_error_repeats_the_token_or_the_answer():
    async with (
        raw_server(always(b"garbage with a hint of secret\r\n\r\n", close=True)) as server,
        client(server.url) as platform,
    ):
        error = await error_of(platform.send(SUPPORT, CALL, LATER))
        token = platform._signers["main"].token()
    for text in (str(error), repr(error.failure)):
        assert token not in text
        assert "secret" not in text
