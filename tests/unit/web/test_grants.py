"""Grants of callers. That what they are given looks like any others is seen in `test_fast_differential`."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.operations import GET
from campaign_gateway.web import grants
from campaign_gateway.web.clients import Client
from campaign_gateway.web.grants import Caller
from campaign_gateway.web.responses import render_failure
from tests.support.doubles import SUPPORT
from tests.support.fast import FarStore, Gateway, calling, far, local, running
from tests.support.wire import Answered

LONG_AGO = "Sat, 01 Jan 2000 00:00:00 GMT"


def head(campaign: str = "c-1", *fields: str, key: str = "cgk_reporting", version: str = "1.1") -> bytes:
    lines = [f"GET /v1/campaigns/{campaign} HTTP/{version}", "Host: gateway", f"Authorization: Bearer {key}", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


class Watched(Gateway):
    """Without the fast road; counts the requests that were authorised, and not recalled."""

    def __init__(self, **options: Any) -> None:
        super().__init__(is_fast=False, **options)
        self.authorised = 0
        identify = self.clients.identify

        def watched(authorization: list[str]) -> Client:
            self.authorised += 1
            return identify(authorization)

        self.clients.identify = watched  # type: ignore[method-assign]

    async def say(self, *pieces: bytes) -> list[Answered]:
        """The answers, each piece sent on its own, on one connection."""
        async with calling(self) as caller:
            await caller.send(*pieces)
            return caller.answers


@contextlib.asynccontextmanager
async def watched(**options: Any) -> AsyncIterator[Watched]:
    gateway = Watched(**options)
    async with running(gateway):
        yield gateway


async def test_a_head_is_recalled_from_its_third_sight_on_any_connection():
    async with watched() as gateway:
        await gateway.say(head(), head("c-2", "X-Request-ID: r-2"))
        assert gateway.authorised == 2, "what comes once is not worth remembering"
        (answer,) = await gateway.say(head("c-2", 'If-None-Match: "other"'))
        assert (answer.status, gateway.authorised) == (200, 2)


@pytest.mark.parametrize("layer", [local, far])
@pytest.mark.parametrize(
    "field",
    [
        *("X-Amzn-Trace-Id: Root=1-%d", "X-Datadog-Trace-Id: %d", "baggage: user=%d", "traceparent: 00-%d"),
        *("User-Agent: curl/%d", "Cookie: seen=%d", "X-Never-Received-Of: %d", "Accept: text/plain;q=%d"),
    ],
)
async def test_a_field_that_means_nothing_to_an_answer_may_differ(field, layer):
    async with watched(layer=layer) as gateway:
        for number in range(5):
            (answer,) = await gateway.say(head("c-1", field % number))
            assert answer.status == 200
        assert gateway.authorised == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(head(key="cgk_operations"), id="another-key"),
        pytest.param(head("c-1", "Cache-Control: max-age=600"), id="a-directive"),
        pytest.param(head("c-1", f"If-Modified-Since: {LONG_AGO}"), id="another-condition"),
        pytest.param(head("c-1", "Campaign-Gateway-Version: x"), id="a-version"),
        pytest.param(head("c-1", "Content-Length: 0"), id="a-body"),
        pytest.param(head("c-1?fields=_id"), id="a-query"),
        pytest.param(head("c-1", "Connection: close"), id="a-connection-that-ends"),
        pytest.param(head(version="1.0"), id="an-old-version"),
        pytest.param(head("c%2D1"), id="an-id-in-other-words"),
        pytest.param(head().replace(b"/campaigns", b"/streams/support/campaigns"), id="a-named-stream"),
        pytest.param(head().replace(b"GET", b"POST"), id="another-method"),
    ],
)
async def test_what_a_grant_does_not_cover_is_authorised_for_itself(other):
    async with watched() as gateway:
        await gateway.say(head(), head(), head())
        assert gateway.authorised == 2
        await gateway.say(other)
        assert gateway.authorised == 3


@pytest.mark.parametrize("field", ["X-HTTP-Method-Override: DELETE", "Host: gateway", "Transfer-Encoding: identity"])
async def test_what_is_at_fault_is_never_recalled(field):
    async with watched() as gateway:
        for _ in range(4):
            await gateway.say(head())
            (answer,) = await gateway.say(head("c-1", field))
            assert answer.status == 400
        assert len(gateway.grants) == 1


@pytest.mark.parametrize(
    "field", ["Cache-Control: max-age=600", "Connection: close", "If-Modified-Since: x", "Accept: " + "a" * 16_000]
)
async def test_what_is_not_plain_makes_no_grant_and_what_matters_not_may_be_long(field):
    async with watched() as gateway:
        for _ in range(3):
            await gateway.say(head("c-1", field))
        assert len(gateway.grants) == (1 if field.startswith("Accept") else 0)


async def test_a_head_that_is_long_where_it_matters_is_not_remembered():
    async with watched() as gateway:
        for _ in range(3):
            (answer,) = await gateway.say(head("c-1", "TE: " + "a" * grants.MAX_FIELDS_BYTES))
            assert answer.status == 200
        assert len(gateway.grants) == 0


async def test_a_key_that_is_withdrawn_is_refused_at_once():
    async with watched() as gateway, calling(gateway) as caller:
        await caller.send(head(), head(), head())
        assert gateway.authorised == 2
        gateway.clients.replace({})
        await caller.send(head())
        assert [answer.status for answer in caller.answers] == [200, 200, 200, 401]


async def test_what_was_authorised_before_the_epoch_ended_is_recalled_no_longer():
    async with watched(layer=far) as gateway:
        assert isinstance(gateway.store, FarStore)
        await gateway.say(head())
        gateway.store.gate.clear()
        async with calling(gateway) as caller:
            await caller.send(head())
            gateway.epoch.end()
            gateway.store.gate.set()
            await caller.send()
        await gateway.say(head())
        assert gateway.authorised == 3


async def test_two_aliases_of_one_stream_and_two_versions_of_one_campaign_have_grants_of_their_own():
    async with watched() as gateway:
        rights = gateway.clients.identify(["Bearer cgk_operations"])
        callers = [
            Caller(method, stream, row, rights.name, "/v1/campaigns/{id}")
            for method in ("GET", "HEAD")
            for stream in (SUPPORT, replace(SUPPORT, alias="other"))
            for row in (GET, replace(GET, version=1))
        ]
        given = [gateway.grants.give(caller, render_failure) for caller in callers]
        assert len(set(map(id, given))) == len(callers)
        assert [gateway.grants.give(caller, render_failure) for caller in callers] == given


async def test_a_gateway_that_stops_closes_every_connection_with_its_answer():
    async with watched() as gateway:
        await gateway.say(head())
        gateway.api.drain()
        for _ in range(3):
            (answer,) = await gateway.say(head())
            assert answer["Connection"] == "close"


async def test_heads_are_bounded(monkeypatch):
    monkeypatch.setattr(grants, "MAX_HEADS", 3)
    async with watched() as gateway:
        for number in range(10):
            other = head().replace(b"Host: gateway", b"Host: gateway%d" % number)
            await gateway.say(other, other)
            assert 1 <= len(gateway.grants) <= 3


async def test_answers_keep_their_order_when_requests_come_at_once():
    async with watched() as gateway:
        await gateway.say(head())
        whole = head("c-2", "Cache-Control: max-age=600")
        answers = await gateway.say(head("c-1") + whole + head("c-1") + head("c-2"))
        assert [json.loads(answer.body)["data"]["_id"] for answer in answers] == ["c-1", "c-2", "c-1", "c-2"]


async def test_a_caller_who_left_costs_nothing_but_the_answer():
    async with watched() as gateway:
        await gateway.say(head())
        async with calling(gateway) as caller:
            caller.peer.sendall(head() * 20)
        for _ in range(25):
            await asyncio.sleep(0)
        (answer,) = await gateway.say(head())
        assert answer.status == 200
