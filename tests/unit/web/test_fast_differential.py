"""The same bytes to a gateway with the fast path, to one with grants alone, and to one where each request takes the
whole way: nobody can drive them apart.

Each talk primes its connection with requests that become patterns, says something odd, and goes on with good requests,
which show what state the odd one has left the connection in.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import make_etag
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.problems import Problem
from campaign_gateway.web.patterns import MAX_HEAD_BYTES
from campaign_gateway.web.server import MAX_FIELD_BYTES
from tests.support.doubles import LONG_AGO, START, SUPPORT
from tests.support.examples import scaled
from tests.support.fast import CAMPAIGNS, Gateway, Layer, Received, calling, comparable, far, local, logged, running

KEY = b"Authorization: Bearer cgk_reporting"
OTHER_KEY = b"Authorization: Bearer cgk_operations"
TAG = make_etag(CAMPAIGNS["c-1"].body).encode()
OTHER_TAG = make_etag(CAMPAIGNS["c-2"].body).encode()


def head(
    target: bytes = b"/v1/campaigns/c-1",
    *fields: bytes,
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    host: bytes = b"Host: gateway",
    key: bytes = KEY,
    id_: bytes | None = b"r-1",
) -> bytes:
    """A request's head. The order of its fields is that of the patterns here."""
    given_id = [] if id_ is None else [b"X-Request-ID: " + id_]
    lines = [b"%s %s %s" % (method, target, version), *[line for line in (host, key) if line], *given_id, *fields]
    return b"\r\n".join([*lines, b"", b""])


GOOD = head()
HEAD = IndexState({Channel.VOICE: Poll(START, 12.5)}, blind=600.0, number=1)
LISTED = IndexedCampaign(Channel.VOICE, "m", LONG_AGO, START - 50, has_changed=False, status="Ready")
NEXT = [head(b"/v1/campaigns/c-2", id_=b"next-1"), head(b"/v1/campaigns/c-2", id_=b"next-2")]


@dataclass
class Result:
    """What one gateway made of a talk."""

    parsed: Received
    received: bytes
    events: Counter[tuple[str, ...]]
    ages: list[float]
    lines: list[dict[str, Any]] = field(default_factory=list)
    taken: int = 0


async def drive(
    pieces: list[bytes],
    *,
    is_fast: bool = False,
    has_grants: bool = False,
    to_head: bool = False,
    turns: int = 25,
    layer: Layer = local,
    index: Mapping[str, IndexedCampaign] | None = None,
    refused: Failure | None = None,
) -> Result:
    gateway = Gateway(is_fast=is_fast, has_grants=has_grants, layer=layer)
    gateway.platform.refused = refused
    async with running(gateway):
        if index is not None:
            assert await gateway.index.publish(SUPPORT.identity, HEAD, index)
        gateway.clock.advance(6.25)
        with logged() as lines:
            async with calling(gateway) as caller:
                await caller.send(*pieces, turns=turns)
            gateway.lines.flush()
    meter = gateway.meter
    events = Counter({event: count for event, count in meter.events.items() if event[0] in {"request", "served"}})
    return Result(caller.parsed(to_head=to_head), caller.received, events, meter.ages, lines, gateway.fast.taken)


async def compare(pieces: list[bytes], **options: Any) -> Result:
    """What all made of it, after seeing that it is the same."""
    whole = await drive(pieces, **options)
    slow = await drive(pieces, has_grants=True, **options)
    fast = await drive(pieces, is_fast=True, has_grants=True, **options)
    assert slow.taken == 0
    for other in (slow, fast):
        assert comparable(other.received) == comparable(whole.received)
        assert other.parsed.is_closed == whole.parsed.is_closed
        assert other.events == whole.events
        assert sorted(other.ages) == sorted(whole.ages)
        assert in_any_order(other.lines) == in_any_order(whole.lines)
    assert fast.parsed.answers
    return fast


def in_any_order(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of hits come a moment later than others."""
    return sorted(lines, key=str)


# Each with how many of it, and of the two good requests after it, take the fast path.
TALKS = [
    # What it is for.
    pytest.param([GOOD], 1 + 2, id="the-same-again"),
    pytest.param([head(b"/v1/campaigns/c-2")], 1 + 2, id="another-campaign"),
    pytest.param([head(b"/v1/campaigns/" + b"a" * 128)], 1 + 2, id="a-long-campaign-id"),
    pytest.param([head(id_=b"7c1b2d6e-4c4c-4a5b-9d6f-0123456789ab")], 1 + 2, id="another-request-id"),
    pytest.param([head(id_=b"A" * 128)], 1 + 2, id="a-request-id-as-long-as-may-be"),
    pytest.param([head(id_=b"._:-")], 1 + 2, id="a-request-id-of-marks"),
    pytest.param([head(id_=b"15551234567")], 1 + 2, id="a-request-id-like-a-phone-number"),
    pytest.param([head(id_=b"15551234567.2:1")], 1 + 2, id="a-request-id-that-begins-like-one"),
    pytest.param([head(b"/v1/campaigns/15551234567")], 1 + 2, id="a-campaign-id-like-a-phone-number"),
    pytest.param([GOOD] * 5, 5 + 2, id="one-after-the-other"),
    # How bytes arrive.
    pytest.param([GOOD + head(b"/v1/campaigns/c-2")], 0 + 1, id="pipelined-two"),
    pytest.param([b"".join(head(id_=b"r-%d" % number) for number in range(40))], 0 + 1, id="pipelined-forty"),
    pytest.param([GOOD[:1], GOOD[1:]], 0 + 2, id="split-after-the-first-byte"),
    pytest.param([GOOD[:20], GOOD[20:]], 0 + 2, id="split-in-the-target"),
    pytest.param([GOOD[:-30], GOOD[-30:]], 0 + 2, id="split-in-a-field"),
    pytest.param([GOOD[:-4], GOOD[-4:]], 0 + 2, id="split-before-the-end"),
    pytest.param([GOOD[:-3], GOOD[-3:]], 0 + 1, id="split-in-the-end"),
    pytest.param([GOOD[:-2], GOOD[-2:]], 0 + 1, id="split-between-the-last-lines"),
    pytest.param([GOOD[:-1], GOOD[-1:]], 0 + 1, id="split-before-the-last-byte"),
    pytest.param([GOOD[place : place + 1] for place in range(len(GOOD))], 0 + 1, id="byte-by-byte"),
    pytest.param([GOOD + GOOD[:25], GOOD[25:]], 0 + 2, id="one-and-a-piece-of-another"),
    pytest.param([GOOD[:25], GOOD[25:] + GOOD], 0 + 1, id="the-rest-and-another"),
    pytest.param([GOOD[:40], GOOD], 0, id="a-whole-head-inside-a-field"),
    pytest.param([b"GET /v1/campaigns/c-2 HTTP/1.1\r\nX-A: ", GOOD], 0 + 2, id="a-whole-head-as-a-field"),
    pytest.param([b"\r\n", GOOD], 0 + 2, id="an-empty-line-first"),
    pytest.param([b"\r\n" + GOOD], 0 + 2, id="an-empty-line-in-front"),
    pytest.param([GOOD + b"\r\n"], 0 + 1, id="an-empty-line-behind"),
    pytest.param([GOOD + b"\r\n\r\n"], 0 + 1, id="empty-lines-behind"),
    pytest.param([b"\r\n\r\n", GOOD], 0 + 2, id="only-empty-lines"),
    # Bodies, and requests in them.
    pytest.param([head(b"/v1/campaigns/c-1", b"Content-Length: 5") + b"hello"], 0 + 1, id="a-body"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Content-Length: 5"), b"hello"], 0 + 1, id="a-body-in-the-next-read"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Content-Length: 0")], 0 + 2, id="an-empty-body"),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Content-Length: %d" % len(GOOD)), GOOD], 0 + 1, id="a-request-as-a-body"
    ),
    pytest.param([head(b"/v1/campaigns/c-1", b"Content-Length: %d" % len(GOOD)) + GOOD], 0 + 1, id="and-in-one-read"),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Content-Length: %d" % (len(GOOD) * 2)), GOOD, GOOD], 0 + 1, id="two-as-a-body"
    ),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Content-Length: %d" % (len(GOOD) + 3)), GOOD, b"abc"], 0 + 1, id="and-a-bit-more"
    ),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Content-Length: 3"), b"abc" + GOOD], 0 + 1, id="the-end-of-a-body-and-a-request"
    ),
    pytest.param([head(b"/v1/campaigns/c-1", b"Transfer-Encoding: chunked") + b"0\r\n\r\n"], 0 + 1, id="no-chunks"),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Transfer-Encoding: chunked"), b"%x\r\n" % len(GOOD), GOOD, b"\r\n0\r\n\r\n"],
        0 + 1,
        id="a-request-as-a-chunk",
    ),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Transfer-Encoding: chunked"), b"0\r\n", b"X-A: b\r\n\r\n"], 0 + 1, id="trailers"
    ),
    pytest.param([head(b"/v1/campaigns/c-1", b"Transfer-Encoding: chunked"), GOOD], 0, id="a-request-as-a-size"),
    pytest.param(
        [head(b"/v1/campaigns/c-1", b"Content-Length: 5", b"Transfer-Encoding: chunked"), GOOD], 0, id="two-framings"
    ),
    pytest.param([GOOD + b"hello"], 0, id="a-body-that-was-not-announced"),
    pytest.param([head(b"/v1/campaigns/c-1", method=b"POST")], 0 + 2, id="POST"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Content-Length: 2", method=b"POST"), b"{}"], 0 + 1, id="POST-a-body"),
    # Whole connections.
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: close")], 0, id="close"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: close") + GOOD], 0, id="close-and-another"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: close"), GOOD], 0, id="close-and-another-read"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: keep-alive")], 0 + 2, id="keep-alive-said"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: keep-alive, X-A")], 0 + 2, id="another-option"),
    pytest.param([head(version=b"HTTP/1.0")], 0, id="HTTP-1.0"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Connection: keep-alive", version=b"HTTP/1.0")], 0 + 2, id="1.0-kept"),
    pytest.param([head(version=b"HTTP/1.2")], 0, id="HTTP-1.2"),
    pytest.param([head(version=b"HTTP/1-1")], 0, id="another-byte-for-the-dot-of-the-version"),
    pytest.param([head(version=b"http/1.1")], 0, id="http-in-lower-case"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Upgrade: h2c", b"Connection: Upgrade")], 0 + 2, id="upgrade"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Upgrade: h2c", b"Connection: Upgrade") + GOOD], 0 + 1, id="and-more"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Upgrade: websocket", b"Connection: Upgrade"), GOOD], 0 + 2, id="ws"),
    pytest.param([head(b"gateway:80", method=b"CONNECT")], 0, id="CONNECT"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Expect: 100-continue")], 0 + 2, id="expect"),
    pytest.param([b"nonsense\r\n\r\n"], 0, id="garbage"),
    pytest.param([b"\x00" * len(GOOD)], 0, id="zeros"),
    pytest.param([GOOD + b"nonsense\r\n\r\n"], 0, id="garbage-behind"),
    # Who, and where to.
    pytest.param([head(key=OTHER_KEY)], 0 + 2, id="another-client"),
    pytest.param([head(key=b"Authorization: Bearer cgk_wrong")], 0 + 2, id="a-wrong-key"),
    pytest.param([head(key=b"")], 0 + 2, id="no-key"),
    pytest.param([head(b"/v1/campaigns/c-1", OTHER_KEY)], 0 + 2, id="two-keys"),
    pytest.param([head(b"/v1/campaigns/c-1", KEY)], 0 + 2, id="the-key-twice"),
    pytest.param(
        [b"GET /v1/campaigns/c-1 HTTP/1.1\r\n" + KEY + b"\r\nX-A: ", head(key=b""), head(key=b"")],
        0 + 2,
        id="a-key-before-a-head-that-has-none",
    ),
    pytest.param([head(key=KEY + b" ")], 0 + 2, id="a-space-behind-the-key"),
    pytest.param([head(key=KEY.lower())], 0 + 2, id="the-key-in-lower-case"),
    pytest.param([head(key=KEY.replace(b"Authorization", b"authorization"))], 0 + 2, id="its-name-in-lower-case"),
    pytest.param([head(key=KEY.replace(b": ", b":"))], 0 + 2, id="no-space-before-it"),
    pytest.param([head(host=b"Host: other")], 0 + 2, id="another-host"),
    pytest.param([head(host=b"")], 0, id="no-host"),
    pytest.param([head(host=b"Host: gateway\r\nHost: other")], 0, id="two-hosts"),
    pytest.param([head(host=b"Host: gateway\r\nHost: gateway")], 0, id="the-host-twice"),
    # What for.
    pytest.param([head(b"/v1/campaigns/nowhere")], 0 + 2, id="a-campaign-that-is-not-stored"),
    pytest.param([head(b"/v1/campaigns/gone")], 0 + 2, id="a-campaign-known-to-be-missing"),
    pytest.param([head(b"/v1/campaigns/old")], 0 + 2, id="a-campaign-too-old"),
    pytest.param([head(b"/v1/campaigns/big")], 1 + 2, id="a-big-campaign"),
    pytest.param([head(b"/v1/campaigns/")], 0 + 2, id="no-campaign"),
    pytest.param([head(b"/v1/campaigns/" + b"a" * 129)], 0 + 2, id="a-campaign-id-too-long"),
    pytest.param([head(b"/v1/campaigns/c.1")], 0 + 2, id="a-dot-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c-1/")], 0 + 2, id="a-slash-behind"),
    pytest.param([head(b"/v1/campaigns/c-1/status")], 0 + 2, id="something-below"),
    pytest.param([head(b"/v1/campaigns/c 1")], 0, id="a-space-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c-1 ")], 0 + 2, id="a-space-behind-the-id"),
    pytest.param([head(b"/v1/campaigns/c\t1")], 0, id="a-tab-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c\x001")], 0, id="NUL-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c\r\n1")], 0, id="CRLF-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c\xc3\xa9")], 0, id="high-bytes-in-the-id"),
    pytest.param([head(b"/v1/campaigns/c\xff")], 0, id="bytes-that-are-no-text-in-the-id"),
    pytest.param([head(b"/v1/campaigns/%63-1")], 0 + 2, id="percent-encoding"),
    pytest.param([head(b"/v1/campaigns/c-1%20")], 0 + 2, id="percent-encoded-space"),
    pytest.param([head(b"/v1/campaigns/c-1?fields=data")], 0 + 2, id="a-query"),
    pytest.param([head(b"/v1/campaigns/c-1?")], 0 + 2, id="an-empty-query"),
    pytest.param([head(b"/v1/campaigns/c-1?x=c-1")], 0 + 2, id="a-query-that-is-refused"),
    pytest.param([head(b"/v1/campaigns/c-1#c-1")], 0 + 2, id="a-fragment"),
    pytest.param([head(b"http://gateway/v1/campaigns/c-1")], 0, id="absolute-form"),
    pytest.param([head(b"/v1/campaigns/../campaigns/c-1")], 0 + 2, id="dot-segments"),
    pytest.param([head(b"//v1/campaigns/c-1")], 0 + 2, id="two-slashes"),
    pytest.param([head(b"/v1/streams/support/campaigns/c-1")], 0 + 2, id="a-stream-by-name"),
    pytest.param([head(b"/v1/streams/sales/campaigns/c-1")], 0 + 2, id="a-stream-of-others"),
    pytest.param([head(method=b"HEAD", id_=b"r-1")[:-2] + b"Connection: close\r\n\r\n"], 0, id="HEAD-and-close"),
    pytest.param([head(method=b"get")], 0, id="the-method-in-lower-case"),
    pytest.param([head(method=b"OPTIONS")], 0 + 2, id="OPTIONS"),
    # Conditions and directives.
    pytest.param([head(b"/v1/campaigns/c-1", b"If-None-Match: " + TAG)], 0 + 2, id="a-good-copy"),
    pytest.param([head(b"/v1/campaigns/c-1", b'If-None-Match: "other"')], 0 + 2, id="another-copy"),
    pytest.param([head(b"/v1/campaigns/c-1", b"If-Modified-Since: Fri, 01 Jan 2027 00:00:00 GMT")], 2, id="since"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Cache-Control: no-cache")], 0 + 2, id="no-cache"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Cache-Control: max-age=60")], 0 + 2, id="max-age"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Cache-Control: only-if-cached")], 0 + 2, id="only-if-cached"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Pragma: no-cache")], 0 + 2, id="pragma"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Campaign-Gateway-Version: 1")], 0 + 2, id="a-version"),
    pytest.param([head(b"/v1/campaigns/c-1", b"Range: bytes=0-1")], 0 + 2, id="a-range"),
    # Fields that break.
    pytest.param([head(id_=b"r-1\r\n folded")], 0, id="RFC-9112-5.2-obs-fold"),
    pytest.param([head(id_=b"r-1\nX-A: b")], 0, id="bare-LF-in-the-request-id"),
    pytest.param([head(id_=b"r-1\rX-A: b")], 0, id="bare-CR-in-the-request-id"),
    pytest.param([head(id_=b"r\x00")], 0, id="NUL-in-the-request-id"),
    pytest.param([head(id_=b"r-1\r\nX-A: b")], 0 + 2, id="another-field-in-the-request-id"),
    pytest.param([head(id_=b"r-1\r\nCache-Control: no-cache")], 0 + 2, id="a-wanted-in-the-request-id"),
    pytest.param([head(id_=b"r-1\r\nContent-Length: 3")], 0, id="a-length-in-the-request-id"),
    pytest.param([head(id_=b"r-1\r\n\r\n" + head(id_=b"r-2"))], 0 + 1, id="a-request-in-the-request-id"),
    pytest.param([head(id_=b"r-1\r\n\r\n" + GOOD[:-4])], 0 + 1, id="and-nothing-else"),
    pytest.param([head(id_=b"A" * 129)], 0 + 2, id="a-request-id-too-long"),
    pytest.param([head(id_=b"")], 0 + 2, id="an-empty-request-id"),
    pytest.param([head(id_=b"r 1")], 0 + 2, id="a-space-in-the-request-id"),
    pytest.param([head(id_=b"r-1 ")], 1 + 2, id="a-space-behind-the-request-id"),
    pytest.param([head(id_=b'r"1')], 0 + 2, id="a-quote-in-the-request-id"),
    pytest.param([head(id_=b"r\\1")], 0 + 2, id="a-backslash-in-the-request-id"),
    pytest.param([head(id_=b"r\xc3\xa91")], 0 + 2, id="high-bytes-in-the-request-id"),
    pytest.param([head(id_=None)], 0 + 2, id="no-request-id"),
    pytest.param([head(b"/v1/campaigns/c-1", b"X-Request-ID: r-2")], 0 + 2, id="two-request-ids"),
    pytest.param([GOOD.replace(b"\r\n", b"\n")], 0, id="bare-LF"),
    pytest.param([head(b"/v1/campaigns/c-1", b"X-A : a")], 0, id="a-space-before-the-colon"),
    pytest.param([head(b"/v1/campaigns/c-1", b"X-A: " + b"a" * (MAX_FIELD_BYTES + 1))], 0, id="a-field-too-long"),
    pytest.param([head(b"/v1/campaigns/c-1", *[b"X-%d: a" % number for number in range(200)])], 0, id="many-fields"),
]


@pytest.mark.parametrize(("pieces", "taken"), TALKS)
async def test_nobody_can_tell_the_paths_apart(pieces, taken):
    result = await compare([GOOD, GOOD, *pieces, *NEXT], turns=6 if len(pieces) > 20 else 25 + len(pieces[0]) // 20)
    assert result.taken == taken


@pytest.mark.parametrize("layer", [local, far])
async def test_all_say_how_soon_changes_are_seen(layer):
    result = await compare([GOOD, *NEXT, GOOD, *NEXT], layer=layer, index={"c-1": LISTED})
    bounds = [answer["Campaign-Gateway-Bound"] for answer in result.parsed.answers]
    assert bounds == ["13", "660", "660"] * 2, "one by its list, the other by its lifetime"
    assert result.taken >= 3


@pytest.mark.parametrize("pieces", [pytest.param(talk.values[0], id=talk.id) for talk in TALKS])
async def test_nobody_can_tell_whether_hits_are_looked_up_elsewhere(pieces):
    turns = 8 if len(pieces) > 20 else 40 + len(pieces[0]) // 20
    result = await compare([GOOD, GOOD, *pieces, *NEXT], turns=turns, layer=far)
    near = await drive([GOOD, GOOD, *pieces, *NEXT], turns=turns)
    assert comparable(result.received) == comparable(near.received)


@pytest.mark.parametrize(
    ("first", "again"),
    [
        pytest.param(head(id_=None), head(b"/v1/campaigns/c-2", id_=None), id="without-a-request-id"),
        pytest.param(
            head(b"/v1/streams/support/campaigns/c-1"), head(b"/v1/streams/support/campaigns/c-2"), id="a-stream"
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"Connection: Keep-Alive"),
            head(b"/v1/campaigns/c-2", b"Connection: Keep-Alive"),
            id="kept-alive",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"If-None-Match: " + TAG),
            head(b"/v1/campaigns/c-1", b"If-None-Match: " + TAG, id_=b"r-2"),
            id="a-good-copy",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"If-None-Match: " + TAG),
            head(b"/v1/campaigns/c-2", b"If-None-Match: " + TAG),
            id="a-copy-of-another-campaign",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b'If-None-Match: "x", W/' + TAG),
            head(b"/v1/campaigns/c-2", b'If-None-Match: "y", W/' + TAG + b", " + OTHER_TAG),
            id="RFC-9110-13.1.2-several-copies-compared-weakly",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"If-None-Match: " + TAG),
            head(b"/v1/campaigns/c-2", b"If-None-Match: " + OTHER_TAG),
            id="each-campaigns-own-copy",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"Traceparent: 00-0af7-b7ad-01", b"tracestate: a=1,b=2"),
            head(b"/v1/campaigns/c-2", b"Traceparent: 00-1bf8-c8be-00", b"tracestate:  c=3 , d=4 "),
            id="traces",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"If-None-Match: *"), head(b"/v1/campaigns/c-2", b"If-None-Match: *"), id="any"
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"Accept: */*", b"User-Agent: a: b", b"traceparent: 00-0af7-b7ad-01"),
            head(b"/v1/campaigns/c-2", b"Accept: */*", b"User-Agent: a: b", b"traceparent: 00-0af7-b7ad-01"),
            id="fields-of-no-concern",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"x-amzn-trace-id: Root=1-67891233", b"baggage: a=b", b"Cookie: c=1; d=2"),
            head(b"/v1/campaigns/c-2", b"x-amzn-trace-id: Root=1-a;Self=2", b"baggage: ", b"Cookie:   e"),
            id="other-values-in-them",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"X-Echo: a", b"Accept: text/html, */*;q=0.1"),
            head(b"/v1/campaigns/c-2", b"X-Echo: GET /v1 HTTP/1.1", b"Accept: Cache-Control: no-cache"),
            id="values-that-look-like-something-else",
        ),
        pytest.param(
            head().replace(b"X-Request-ID: r-1", b"x-request-id:  r-1\t "),
            head().replace(b"X-Request-ID: r-1", b"x-request-id:  r-2\t "),
            id="white-space-around-the-request-id",
        ),
        pytest.param(
            b"GET /v1/campaigns/c-1 HTTP/1.1\r\nX-Request-ID: r-1\r\n" + KEY + b"\r\nHost: a\r\n\r\n",
            b"GET /v1/campaigns/c-2 HTTP/1.1\r\nX-Request-ID: r-2\r\n" + KEY + b"\r\nHost: a\r\n\r\n",
            id="the-request-id-first",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"X-Echo: /c-1 HTTP/1.1"),
            head(b"/v1/campaigns/c-2", b"X-Echo: /c-1 HTTP/1.1"),
            id="a-field-that-looks-like-the-first-line",
        ),
        pytest.param(
            head(b"/v1/campaigns/c-1", b"X-Echo: X-Request-ID: r-9"),
            head(b"/v1/campaigns/c-2", b"X-Echo: X-Request-ID: r-9", id_=b"r-2"),
            id="a-field-that-looks-like-the-request-id",
        ),
        pytest.param(GOOD.replace(b"ID: ", b"ID:"), GOOD.replace(b"ID: ", b"ID:"), id="an-id-without-a-space"),
        pytest.param(GOOD.replace(b"ID: ", b"ID:\t"), GOOD.replace(b"ID: ", b"ID:\t"), id="an-id-behind-a-tab"),
        pytest.param(GOOD.replace(b"r-1", b"r-1 \t"), GOOD.replace(b"r-1", b"r-2 "), id="an-id-before-white-space"),
        pytest.param(
            GOOD.replace(b"X-Request-ID", b"x-request-id"),
            GOOD.replace(b"X-Request-ID: r-1", b"x-request-id: r-2"),
            id="an-id-in-lower-case",
        ),
    ],
)
async def test_what_was_answered_with_a_hit_is_answered_so_again_on_the_fast_road(first, again):
    assert (await compare([first, again, again, first])).taken == 2


SPENT = Failure(Problem.BUDGET_EXHAUSTED, "the account's calls are spent for now", retry_after=12.3)
NOWHERE = head(b"/v1/campaigns/nowhere")
NOWHERE_ELSE = head(b"/v1/campaigns/nowhere-else", id_=b"r-22")


@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(SPENT, id="spent"),
        pytest.param(replace(SPENT, retry_after=0.2), id="soon"),
        pytest.param(Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=30.0), id="paused"),
        pytest.param(Failure(Problem.OVERLOADED, "too many", retry_after=1.0), id="overloaded"),
        pytest.param(Failure(Problem.OVERLOADED, "too many"), id="nobody-knows-how-long"),
    ],
)
@pytest.mark.parametrize("layer", [local, far])
async def test_nobody_can_tell_a_refusal_that_was_made_in_short(refused, layer):
    pieces = [GOOD, NOWHERE, NOWHERE_ELSE, GOOD, NOWHERE, head(b"/v1/campaigns/15551234567890"), NOWHERE_ELSE, *NEXT]
    result = await compare(pieces, refused=refused, layer=layer)
    assert [answer.status for answer in result.parsed.answers] == [200, 503, 503, 200, 503, 503, 503, 200, 200]
    assert result.taken == 7


@pytest.mark.parametrize("layer", [local, far])
async def test_refusals_alone_are_made_in_short(layer):
    result = await compare([NOWHERE, NOWHERE_ELSE, NOWHERE], refused=SPENT, layer=layer)
    assert [answer.status for answer in result.parsed.answers] == [503, 503, 503]
    assert result.taken == 1


@pytest.mark.parametrize("layer", [local, far])
@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(head(b"/v1/campaigns/nowhere", b"Cache-Control: only-if-cached"), id="only-if-cached"),
        pytest.param(head(b"/v1/campaigns/nowhere", b"Connection: close"), id="close"),
        pytest.param(head(b"/v1/campaigns/nowhere?fields=name"), id="fields"),
        pytest.param(head(b"/v1/campaigns/nowhere", b'If-None-Match: "x"'), id="a-copy"),
        pytest.param(head(b"/v1/campaigns/nowhere", key=OTHER_KEY), id="another-client"),
        pytest.param(head(b"/v1/campaigns/old"), id="a-stale-one"),
        pytest.param(head(b"/v1/campaigns/gone"), id="a-missing-one"),
        pytest.param(head(b"/v1/campaigns/search"), id="no-campaign"),
        pytest.param(NOWHERE + NOWHERE_ELSE, id="pipelined"),
        pytest.param(head(b"/v1/campaigns/nowhere", id_=b'r"1'), id="a-quote-in-the-request-id"),
    ],
)
async def test_what_is_refused_or_not_beside_short_ones_looks_the_same(odd, layer):
    await compare([GOOD, NOWHERE, NOWHERE_ELSE, odd, NOWHERE, *NEXT], refused=SPENT, layer=layer)


@pytest.mark.parametrize("layer", [local, far])
async def test_a_refusal_of_a_head_has_no_body(layer):
    pieces = [head(target, method=b"HEAD") for target in (b"/v1/campaigns/nowhere", b"/v1/campaigns/nowhere-else")]
    result = await compare([*pieces, *pieces], to_head=True, refused=SPENT, layer=layer)
    assert [answer.status for answer in result.parsed.answers] == [503] * 4
    assert result.taken


@pytest.mark.parametrize("layer", [local, far])
@pytest.mark.parametrize(
    ("field", "trace"),
    [
        pytest.param(b"traceparent: 00-%b-b7ad6b7169203331-01", True, id="good"),
        pytest.param(b"Traceparent:   00-%b-b7ad6b7169203331-00  ", True, id="in-spaces"),
        pytest.param(b"traceparent: 01-%b-b7ad6b7169203331-01-more", True, id="a-later-version"),
        pytest.param(b"traceparent: 00-%b-b7ad6b7169203331-01\r\ntracestate: a=1", True, id="with-a-state"),
        pytest.param(b"traceparent: 00-%b-b7ad6b7169203331-01-more", False, id="too-long"),
        pytest.param(b"traceparent: ff-%b-b7ad6b7169203331-01", False, id="no-version"),
        pytest.param(b"traceparent: 00-%b-0000000000000000-01", False, id="no-parent"),
        pytest.param(b"traceparent: 00-%b-B7AD6B7169203331-01", False, id="in-upper-case"),
        pytest.param(b"traceparent: %b", False, id="something-else"),
        pytest.param(b"X-Trace: 00-%b-b7ad6b7169203331-01", False, id="another-field"),
    ],
)
async def test_the_line_of_a_hit_has_its_own_trace(field, trace, layer):
    ids = [b"%032x" % number for number in (1, 2, 2, 3, 15551234567)]
    result = await compare([head(b"/v1/campaigns/c-1", field % id_) for id_ in ids], layer=layer)
    assert result.taken >= 2
    shown = sorted(line.get("trace_id", "none") for line in result.lines)
    assert shown == [id_.decode() if trace else "none" for id_ in ids]


async def test_the_line_of_a_refusal_has_its_own_trace():
    fields = [b"traceparent: 00-%032x-b7ad6b7169203331-01" % number for number in range(1, 6)]
    result = await compare([head(b"/v1/campaigns/nowhere", field) for field in fields], refused=SPENT)
    assert result.taken
    assert sorted(line["trace_id"] for line in result.lines) == [f"{number:032x}" for number in range(1, 6)]


TRACED = head(b"/v1/campaigns/c-1", b"traceparent: 00-0af7-b7ad-01")


@pytest.mark.parametrize(
    ("again", "taken"),
    [
        pytest.param(b"00-1bf8-c8be-00", 1, id="another"),
        pytest.param(b"!", 1, id="one-character"),
        pytest.param(b"a b", 1, id="a-space-in-it"),
        pytest.param(b"a" * 1_023, 1, id="long"),
        pytest.param(b"a" * 1_024, 0, id="longer"),
        pytest.param(b"", 1, id="nothing"),
        pytest.param(b"a\tb", 0, id="a-tab-in-it"),
        pytest.param(b"\xff", 0, id="high-bytes"),
        pytest.param(b"a\x00", 0, id="NUL"),
        pytest.param(b"a\nb", 0, id="bare-LF"),
        pytest.param(b"a\rb", 0, id="bare-CR"),
        pytest.param(b"a\r\n b", 0, id="obs-fold"),
        pytest.param(b"a\r\nCache-Control: no-cache", 0, id="a-wanted"),
        pytest.param(b"a\r\nContent-Length: 3", 0, id="a-length"),
        pytest.param(b"a\r\n\r\n" + TRACED[:-4], 0, id="a-request"),
    ],
)
async def test_a_trace_may_differ_as_far_as_it_means_nothing_to_a_parser(again, taken):
    changed = TRACED.replace(b"00-0af7-b7ad-01", again, 1)
    assert (await compare([TRACED, TRACED, changed])).taken == taken


async def test_a_head_is_repeated_without_its_body():
    one, two = head(method=b"HEAD"), head(b"/v1/campaigns/c-2", method=b"HEAD", id_=b"r-2")
    result = await compare([one, two, one, two], to_head=True)
    assert result.taken == 2
    assert [answer.status for answer in result.parsed.answers] == [200, 200, 200, 200]
    assert all(answer["Content-Length"] == str(len(CAMPAIGNS["c-1"].body)) for answer in result.parsed.answers)


NAMED = head(b"/v1/campaigns/c-1", b"X-Nobody-Reads: a")


@pytest.mark.parametrize(
    ("again", "taken"),
    [
        pytest.param(b"X-Nobody-Reads: b", 1, id="another-value"),
        pytest.param(b"x-nobody-reads: a", 0, id="its-name-in-lower-case"),
        pytest.param(b"X-Nobody-Reads : a", 0, id="a-space-before-the-colon"),
        pytest.param(b"X-Nobody-Reads: a\r\nX-Nobody-Reads: b", 0, id="twice"),
        pytest.param(b"X-Nobody-Read: a", 0, id="another-name"),
        pytest.param(b"Cache-Control: no-cache", 0, id="a-directive-in-its-place"),
        pytest.param(b"Content-Length: 3", 0, id="a-length-in-its-place"),
        pytest.param(b"Range: bytes=0-1", 0, id="a-range-in-its-place"),
        pytest.param(b"", 0, id="none"),
    ],
)
@pytest.mark.parametrize("layer", [local, far])
async def test_a_field_that_nobody_reads_may_differ_in_its_value_alone(again, taken, layer):
    changed = NAMED.replace(b"X-Nobody-Reads: a", again, 1).replace(b"\r\n\r\n\r\n", b"\r\n\r\n")
    assert (await compare([NAMED, NAMED, changed], layer=layer)).taken == taken


@pytest.mark.parametrize(
    "asked",
    [
        head(b"/v1/campaigns/c-1", b"Cache-Control: no-cache"),
        head(b"/v1/campaigns/c-1", b"Cache-Control: max-age=3600"),
        head(b"/v1/campaigns/c-1", b"Pragma: x"),
        head(b"/v1/campaigns/c-1", b"If-Modified-Since: Fri, 01 Jan 2027 00:00:00 GMT"),
        head(b"/v1/campaigns/c-1", b"Range: bytes=0-1"),
        head(b"/v1/campaigns/c-1", b"Expect: 100-continue"),
        head(b"/v1/campaigns/c-1", b"Content-Length: 0"),
        head(b"/v1/campaigns/c-1?fields=_id"),
        head(b"/v1/campaigns/%63-1"),
        head(b"/v1/campaigns/gone"),
        head(b"/v1/campaigns/old"),
        head(b"/v1/campaigns/c-1", b"Connection: keep-alive", version=b"HTTP/1.0"),
        head(id_=b"r 1"),
        head(b"/v1/campaigns/c-1", b"X-Request-ID: r-2"),
        head(b"/v1/campaigns/c-1", b'If-None-Match: "x"', b"If-None-Match: W/" + TAG),
        head(b"/v1/campaigns/c-1", b"traceparent: 00-0af7", b"traceparent: 00-0af7"),
        head(b"/v1/campaigns/c-1", b"X-A: " + b"a" * MAX_HEAD_BYTES),
    ],
    ids=lambda sent: re.sub(rb"[^a-zA-Z0-9-]+", b"-", sent[:60].split(b"\r\n")[0] + sent[-50:]).decode()[:60],
)
async def test_what_wants_more_than_a_plain_hit_is_never_repeated(asked):
    assert (await compare([asked, asked, asked])).taken == 0


PIECES = st.sampled_from(
    [piece for talk in TALKS for piece in cast("list[bytes]", talk.values[0]) if len(piece) < 2_000]
)


VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.encode), st.binary(max_size=6)
)
NAMES = st.sampled_from([b"X-Nobody-Reads", b"traceparent", b"Accept", b"Cookie", b"Range", b"TE", b"If-Match"])


@settings(max_examples=scaled(100), suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.lists(st.tuples(NAMES, VALUES), max_size=4), others=st.lists(VALUES, min_size=4, max_size=4))
def test_nobody_can_tell_the_paths_apart_whatever_stands_in_further_fields(fields, others):
    one = head(b"/v1/campaigns/c-1", *(b"%b: %b" % field for field in fields))
    names = [name for name, _ in fields]
    two = head(b"/v1/campaigns/c-2", *(b"%b: %b" % field for field in zip(names, others, strict=False)))
    asyncio.run(compare([one, one, two, one, two], turns=12))


@settings(max_examples=scaled(120), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    parts=st.lists(st.one_of(st.just(GOOD), st.just(NEXT[0]), PIECES), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 1_000), max_size=4),
    is_joined=st.booleans(),
)
def test_nobody_can_tell_the_paths_apart_whatever_is_said_in_whatever_pieces(parts, cuts, is_joined):
    if is_joined:
        whole = b"".join(parts)
        places = sorted({0, len(whole), *(place % (len(whole) + 1) for place in cuts)})
        parts = [whole[start:end] for start, end in pairwise(places)]
    asyncio.run(compare([GOOD, GOOD, *parts, *NEXT], turns=12))
