"""The operators' port, on a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from campaign_gateway.web import unsent
from campaign_gateway.web.operators import OperatorsRunner
from campaign_gateway.web.server import MAX_FIELD_BYTES
from campaign_gateway.web.unsent import UnsentWatch
from tests.support.wire import Answered, talk

GET = b"GET /livez HTTP/1.1\r\n"
SECRET = b"cgk_do-not-repeat-me"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="ok", headers={"Server": "campaign-gateway"})

    application = web.Application()
    application.add_routes([web.get("/livez", answer)])
    runner = OperatorsRunner(application, {"gateway.example.com"}, 0.1, send_timeout=30.0, max_unsent=2**20)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ask(port: int, *fields: bytes, host: bytes = b"127.0.0.1") -> Answered:
    (answer,) = await talk(port, GET + b"\r\n".join([b"Host: " + host, *fields, b"", b""]))
    return answer


async def test_it_answers_operators(port):
    for host in (b"127.0.0.1:9090", b"gateway.example.com", b"worker"):
        answer = await ask(port, host=host)
        assert (answer.status, answer.body) == (200, b"ok")


@pytest.mark.drill(
    "a bad line on the operators' port",
    planted="an `Authorization` that the parser refuses, a field without end",
    seen="a problem that neither repeats it nor names a version",
)
@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"Authorization: Bearer " + SECRET + b"\x00", 400),
        (b"Authorization : Bearer " + SECRET, 400),
        (b"Authorization: Bearer " + SECRET + b"a" * MAX_FIELD_BYTES, 431),
        (b"X-HTTP-Method-Override: " + SECRET, 400),
        (b"Host: " + SECRET, 400),
    ],
)
async def test_a_bad_line_is_neither_repeated_nor_logged_and_no_version_named(port, field, status, caplog):
    caplog.set_level("DEBUG")
    answer = await ask(port, field)
    assert answer.status == status
    assert json.loads(answer.body)["status"] == status
    assert answer["Server"] == "campaign-gateway"
    for text in (SECRET, b"aiohttp", b"Python"):
        assert text not in answer.head + answer.body
    assert SECRET.decode() not in caplog.text + "".join(repr(vars(record)) for record in caplog.records)


@pytest.mark.parametrize(
    ("host", "field"),
    [
        (b"evil.example:9090", b"Accept: */*"),
        (b"127.0.0.1", b"Origin: http://evil.example"),
        (b"127.0.0.1", b"Sec-Fetch-Site: cross-site"),
    ],
)
async def test_no_page_of_another_site_gets_in(port, host, field):
    answer = await ask(port, field, host=host)
    assert answer.status == 403
    assert json.loads(answer.body)["type"] == "/problems/forbidden"


async def test_an_answer_that_no_operator_reads_is_not_kept_for_ever(monkeypatch):
    looked = asyncio.Event()
    monkeypatch.setattr(UnsentWatch, "look", lambda _watch, _now: looked.set())
    monkeypatch.setattr(unsent, "LOOK_SECONDS", 0.0)
    runner = OperatorsRunner(web.Application(), (), 0.1, send_timeout=30.0, max_unsent=2**20)
    await runner.setup()
    await looked.wait()
    await runner.cleanup()
    looked.clear()
    await asyncio.sleep(0)
    assert not looked.is_set()
