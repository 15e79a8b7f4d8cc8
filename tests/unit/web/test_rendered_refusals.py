"""A refusal costs next to nothing. That it looks like any other is seen in `test_fast_differential`."""

import asyncio
from typing import cast

import pytest

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.web import rendered_refusals
from tests.support.fast import FarStore, Gateway, Layer, calling, far, local, running, stored

SPENT = Failure(Problem.BUDGET_EXHAUSTED, "the account's calls are spent for now", retry_after=12.3)


def head(campaign: str) -> bytes:
    return f"GET /v1/campaigns/{campaign} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer cgk_reporting\r\n\r\n".encode()


@pytest.mark.parametrize("layer", [local, far])
@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_refusal_starts_no_task_and_no_flight_and_writes_nothing(layer: Layer, is_fast, monkeypatch):
    gateway = Gateway(layer=layer, is_fast=is_fast)
    gateway.platform.refused = SPENT
    async with running(gateway), calling(gateway) as caller:
        await caller.send(head("unknown"), head("unknown"))
        begun: list[str] = []
        monkeypatch.setattr(gateway.tasks, "_start", lambda _work, name: begun.append(name))
        tasks, changes, kept = asyncio.all_tasks(), gateway.memory.changes, len(gateway.memory)
        await caller.send(*[head(f"unknown-{number}") for number in range(20)])
        assert [answer.status for answer in caller.answers] == [503] * 22
        assert asyncio.all_tasks() <= tasks, "nothing is left running"
        assert not begun, "no flight either"
        assert (gateway.memory.changes, len(gateway.memory)) == (changes, kept)


async def test_the_budget_is_asked_once_for_each():
    gateway = Gateway()
    gateway.platform.refused = SPENT
    async with running(gateway), calling(gateway) as caller:
        await caller.send(*[head(f"unknown-{number}") for number in range(5)])
    assert gateway.platform.asked == [f"unknown-{number}" for number in range(5)]


async def test_whoever_may_have_a_call_gets_it_behind_one_who_was_refused():
    gateway = Gateway()
    gateway.platform.refused = SPENT
    async with running(gateway), calling(gateway) as caller:
        await caller.send(head("unknown"), head("unknown"))
        gateway.platform.refused = None
        await caller.send(head("unknown"))
        gateway.platform.refused = SPENT
        await caller.send(head("unknown"))
        assert [answer.status for answer in caller.answers] == [503, 503, 502, 503]


async def test_what_is_stored_meanwhile_is_given_to_whoever_was_refused():
    gateway = Gateway()
    gateway.platform.refused = SPENT
    async with running(gateway), calling(gateway) as caller:
        await caller.send(head("unknown"), head("unknown"))
        await gateway.put("unknown", stored("unknown"))
        await caller.send(head("unknown"))
        assert [answer.status for answer in caller.answers] == [503, 503, 200]


async def test_a_gateway_that_stops_closes_every_connection_with_its_refusal():
    gateway = Gateway()
    gateway.platform.refused = SPENT
    async with running(gateway):
        async with calling(gateway) as caller:
            await caller.send(head("unknown"), head("unknown"))
        gateway.api.drain()
        async with calling(gateway) as caller:
            await caller.send(head("unknown"))
            (answer,) = caller.answers
            assert (answer.status, answer["Connection"]) == (503, "close")


async def test_so_does_one_that_stops_while_it_looks_up_what_it_refuses():
    gateway = Gateway(layer=far, is_fast=False)
    gateway.platform.refused = SPENT
    store = cast("FarStore", gateway.store)
    async with running(gateway), calling(gateway) as caller:
        await caller.send(head("unknown"), head("unknown"))
        store.gate.clear()
        await caller.send(head("unknown"))
        gateway.api.drain()
        store.gate.set()
        await caller.send(b"")
        answers = caller.answers
        assert [answer["Connection"] for answer in answers] == [None, None, "close"]


async def test_forms_are_bounded(monkeypatch):
    monkeypatch.setattr(rendered_refusals, "MAX_RENDERED", 3)
    gateway = Gateway()
    async with running(gateway), calling(gateway) as caller:
        for number in range(10):
            gateway.platform.refused = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=float(number))
            await caller.send(head("unknown"))
        waits = [answer["Retry-After"] for answer in caller.answers]
        assert waits == ["1", *map(str, range(1, 10))]
