"""Plain hits of callers who are known. That they look like any others is seen in `test_fast_differential`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.web import grants
from tests.support.fast import Gateway, calling, running


def head(campaign: str = "c-1", *fields: str, key: str = "cgk_reporting", version: str = "1.1") -> bytes:
    lines = [f"GET /v1/campaigns/{campaign} HTTP/{version}", "Host: gateway", f"Authorization: Bearer {key}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


class Watched(Gateway):
    """Without the hot path; remembers what took the whole way."""

    def __init__(self, **options: Any) -> None:
        super().__init__(is_fast=False, **options)
        self.whole: list[Request] = []
        self.meanwhile = lambda: None
        read = self.exchange.read

        async def watched(ask: Request) -> Reply:
            self.whole.append(ask)
            self.meanwhile()
            return await read(ask)

        self.exchange.read = watched  # type: ignore[method-assign]

    async def say(self, *pieces: bytes) -> list[Any]:
        """The answers, each piece sent on its own, on one connection."""
        async with calling(self) as caller:
            await caller.send(*pieces)
            return caller.heard().answers


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    gateway = Watched()
    async with running(gateway):
        yield gateway


async def test_only_the_first_of_a_standing_takes_the_whole_way_on_any_connection():
    async with watched() as gateway:
        await gateway.say(head(), head("c-2", "X-Request-ID: r-2"))
        (answer,) = await gateway.say(head("c-2", 'If-None-Match: "other"'))
        assert (answer.status, len(gateway.whole)) == (200, 1)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(head(key="cgk_operations"), id="another-key"),
        pytest.param(head("c-1", "Cache-Control: max-age=600"), id="a-wish"),
        pytest.param(head("c-1?fields=_id"), id="a-query"),
        pytest.param(head("c-1", "Connection: close"), id="a-connection-that-ends"),
        pytest.param(head(version="1.0"), id="an-old-version"),
        pytest.param(head("c%2D1"), id="an-id-in-other-words"),
        pytest.param(head("c-1", "X-Padding: " + "a" * grants.MAX_FIELDS_BYTES), id="a-long-head"),
    ],
)
async def test_what_is_not_of_the_standing_takes_the_whole_way(other):
    async with watched() as gateway:
        await gateway.say(head())
        await gateway.say(other)
        assert len(gateway.whole) == 2


@pytest.mark.parametrize(
    "field", ["Cache-Control: max-age=600", "Connection: close", "X-Padding: " + "a" * grants.MAX_FIELDS_BYTES]
)
async def test_what_is_not_plain_makes_no_standing(field):
    async with watched() as gateway:
        await gateway.say(head("c-1", field))
        assert len(gateway.grants) == 0


async def test_a_key_that_is_withdrawn_is_refused_at_once():
    async with watched() as gateway:
        async with calling(gateway) as caller:
            await caller.send(head(), head())
            gateway.clients.replace({})
            await caller.send(head())
            assert [answer.status for answer in caller.heard().answers] == [200, 200, 401]
        assert len(gateway.whole) == 1


async def test_what_was_authorised_before_the_epoch_ended_makes_no_standing():
    async with watched() as gateway:
        gateway.meanwhile = gateway.epoch.end
        await gateway.say(head())
        assert len(gateway.grants) == 0


async def test_a_gateway_that_stops_closes_every_connection_with_its_answer():
    async with watched() as gateway:
        await gateway.say(head())
        gateway.api.drain()
        for _ in range(3):
            (answer,) = await gateway.say(head())
            assert answer["Connection"] == "close"


async def test_standings_are_bounded(monkeypatch):
    monkeypatch.setattr(grants, "MAX_HEADS", 3)
    async with watched() as gateway:
        for number in range(10):
            await gateway.say(head("c-1", f"User-Agent: {number}"))
            assert 1 <= len(gateway.grants) <= 3


async def test_answers_keep_their_order_when_requests_come_at_once():
    async with watched() as gateway:
        await gateway.say(head())
        whole = head("c-2", "Cache-Control: max-age=600")
        answers = await gateway.say(head("c-1") + whole + head("c-1") + head("c-2"))
        assert [json.loads(answer.body)["data"]["_id"] for answer in answers] == ["c-1", "c-2", "c-1", "c-2"]
        assert len(gateway.whole) == 2


async def test_a_caller_who_left_costs_nothing_but_the_answer():
    async with watched() as gateway:
        await gateway.say(head())
        async with calling(gateway) as caller:
            caller.peer.sendall(head() * 20)
        for _ in range(25):
            await asyncio.sleep(0)
        (answer,) = await gateway.say(head())
        assert answer.status == 200
