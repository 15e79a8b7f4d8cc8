"""Bodies of requests, as they come over a real socket."""

import gzip
import json

import pytest

from campaign_gateway.web import bodies, server
from tests.unit.web.conftest import MAX_REQUEST

HEAD = b"POST /v1/campaigns?type=voice HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer cgk_operations\r\n"
GET = b"GET /v1/campaigns/c-1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer cgk_operations\r\n\r\n"


def chunked(*pieces: bytes) -> bytes:
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + framed


def whole(body: bytes, *fields: bytes) -> bytes:
    return b"".join(field + b"\r\n" for field in fields) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


def detail(answer) -> str:
    return str(json.loads(answer.body)["detail"])


LARGEST = b'{"a":"' + b"x" * (MAX_REQUEST - 8) + b'"}'
WHOLE = whole(LARGEST + b" ")


@pytest.fixture(autouse=True)
def short_farewells(monkeypatch):
    monkeypatch.setattr(server, "LINGER_SECONDS", 0.05)


@pytest.mark.parametrize(
    ("rest", "body"),
    [
        pytest.param(whole(b'{"a": 1}'), b'{"a": 1}', id="one-document"),
        pytest.param(whole(b'{"a": 1}\n'), b'{"a": 1}\n', id="2-followed-by-a-line-break"),
        pytest.param(whole(b'\xef\xbb\xbf{"a": 1}'), b'\xef\xbb\xbf{"a": 1}', id="a-byte-order-mark"),
        pytest.param(whole(b"[1]"), b"[1]", id="an-array"),
        pytest.param(whole(LARGEST), LARGEST, id="the-largest"),
        pytest.param(chunked(b'{"a"', b": 1}", b""), b'{"a": 1}', id="chunked"),
        pytest.param(whole(b"{}", b"Content-Encoding: identity"), b"{}", id="identity"),
        pytest.param(whole(b"{}", b"Content-Type: application/json"), b"{}", id="declared"),
        pytest.param(whole(b"{}", b"Content-Type: Application/JSON ;charset=utf-8"), b"{}", id="declared-in-any-case"),
    ],
)
async def test_a_body_goes_on_as_it_came(front, rest, body):
    (answer,) = await front.talk(HEAD + rest)
    assert answer.status == 200
    assert [asked.body for asked in front.forwarder.requests] == [body]


@pytest.mark.parametrize(
    ("rest", "told"),
    [
        pytest.param(b"Content-Length: 0\r\n\r\n", "a JSON body is needed", id="empty"),
        pytest.param(b"\r\n", "a JSON body is needed", id="none"),
        pytest.param(whole(b" \n"), "a JSON body is needed", id="blank"),
        pytest.param(chunked(b""), "a JSON body is needed", id="empty-chunked"),
        *(
            pytest.param(whole(body), "the body is not one JSON document", id=name)
            for name, body in {
                "form": b"a=b",
                "cut": b'{"a": ',
                "two": b"{}{}",
                "NaN": b'{"a": NaN}',
                "repeated": b'{"a": 1, "a": 2}',
                "utf-16": "{}".encode("utf-16"),
                "not-utf-8": b'{"a": "\xff"}',
                "deep": b"[" * 2000 + b"]" * 2000,
                "digits": b'{"a": ' + b"9" * 4000 + b"e99999}",
            }.items()
        ),
        pytest.param(whole(gzip.compress(b"{}"), b"Content-Encoding: gzip"), "the body must not be encoded", id="gzip"),
    ],
)
async def test_what_is_no_document_is_refused_and_not_repeated(front, rest, told):
    (answer,) = await front.talk(HEAD + rest)
    assert (answer.status, detail(answer)) == (400, told)
    assert front.forwarder.requests == []


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST + 1), id="announced"),
        pytest.param(WHOLE, id="one-byte"),
        pytest.param(chunked(LARGEST, b"x"), id="chunked"),
        pytest.param(b"Content-Length: 1000000000000\r\n\r\n{", id="a-terabyte"),
        pytest.param(b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (MAX_REQUEST + 1), id="before-it-is-sent"),
    ],
)
async def test_too_large_is_told_before_the_rest_has_come(front, rest):
    (answer,) = await front.talk(HEAD + rest)
    assert (answer.status, detail(answer)) == (413, f"the body is larger than {MAX_REQUEST} bytes")
    assert answer["Connection"] == ("close" if rest != WHOLE else None), "what is left of the body is not waited for"
    assert front.forwarder.requests == []


async def test_who_waits_to_be_told_to_go_on_is_told(front):
    async with front.connection() as (reader, writer):
        writer.write(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert [asked.body for asked in front.forwarder.requests] == [b"{}"]


async def test_a_body_that_does_not_come_is_given_up(front, monkeypatch):
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    (answer,) = await front.talk(HEAD + b"Content-Length: 20\r\n\r\n{")
    assert (answer.status, detail(answer)) == (400, "the body did not arrive within 0.05 s")
    assert front.forwarder.requests == []


async def test_a_body_cut_off_by_its_caller_is_nobodys_defect(front, caplog):
    caplog.set_level("INFO")
    async with front.connection() as (_, writer):
        writer.write(HEAD + b"Content-Length: 20\r\n\r\n{")
        await writer.drain()
        # A request behind it, answered, shows that the first has been taken up.
        assert (await front.talk(GET))[0].status == 200
    await front.talk(GET)
    while not any(
        record.fields["status"] == 400 for record in caplog.records if record.name == "campaign_gateway.requests"
    ):
        await front.talk(GET)
    assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
    assert front.forwarder.requests == []


@pytest.mark.parametrize(
    ("rest", "status"), [(whole(b'{"a": 1}'), 200), (whole(b"a=b"), 400), (chunked(b"{", b""), 400), (WHOLE, 413)]
)
async def test_the_connection_is_kept_after_a_body_that_came_whole(front, rest, status):
    answers = await front.talk(HEAD + rest + GET, count=2)
    assert [answer.status for answer in answers] == [status, 200]
    assert len(front.exchange.requests) == 1


async def test_a_body_where_none_is_taken_is_left_alone(front):
    sent = b"DELETE /v1/campaigns/c-1?type=sms HTTP/1.1\r\n" + HEAD.partition(b"\r\n")[2] + whole(b"not json")
    (answer,) = await front.talk(sent)
    assert answer.status == 200
    assert [asked.body for asked in front.forwarder.requests] == [None]


@pytest.mark.drill(
    "a body that any page may have a browser send",
    planted="forms and plain text with JSON in them, no type where none is needed",
    seen="415, and nothing is sent on",
)
@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"campaigns?type=voice", b"campaigns/c-1/start")])
@pytest.mark.parametrize(
    "fields",
    [
        [b"Content-Type: text/plain;charset=UTF-8"],
        [b"Content-Type: application/x-www-form-urlencoded"],
        [b"Content-Type: multipart/form-data; boundary=x"],
        [b"Content-Type: text/plain, application/json"],
        [b"Content-Type: text/plain; a=application/json"],
        [b"Content-Type: "],
    ],
)
async def test_a_body_that_is_declared_as_something_else_is_not_taken(front, head, fields):
    for rest in (whole(b"{}", *fields), b"\r\n".join(fields) + b"\r\n" + chunked(b"{}", b"")):
        (answer,) = await front.talk(head + rest)
        assert (answer.status, json.loads(answer.body)["type"]) == (415, "/problems/unsupported-media-type")
    assert front.forwarder.requests == []


async def test_what_is_no_body_needs_no_type(front):
    rest = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n"
    (answer,) = await front.talk(HEAD.replace(b"campaigns?type=voice", b"campaigns/c-1/start") + rest)
    assert answer.status == 200
