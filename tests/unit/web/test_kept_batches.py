"""Batches of hits that are kept: they answer as if each part had been looked at anew."""

import json
import re
from dataclasses import replace

import pytest

from campaign_gateway.policy.evidence import Cause
from campaign_gateway.proxy.writers import writer_of
from tests.support.doubles import SUPPORT, make_request
from tests.support.fast import CAMPAIGNS, FarStore, Gateway, calling, far, running

IS_FRESH = re.compile(r"campaign-gateway; hit; ttl=[1-9]\d*").fullmatch


async def batch(gateway: Gateway, ids: str = "c-1,c-2", more: str = "") -> tuple[str, list[tuple[int, object]]]:
    """Its `Cache-Status`, and the age and the campaign of each row."""
    lines = [f"GET /v1/campaigns?ids={ids}{more} HTTP/1.1", "Host: gateway", "Authorization: Bearer cgk_reporting"]
    async with calling(gateway) as caller:
        await caller.send("\r\n".join([*lines, "", ""]).encode())
        (answer,) = caller.answers
    rows = json.loads(answer.body)["results"]
    return dict(answer.fields)["Cache-Status"], [(row["age"], row["campaign"]) for row in rows]


async def test_what_is_kept_is_as_old_as_it_is_until_something_newer_is_there():
    async with running(Gateway()) as gateway:
        _, first = await batch(gateway)
        gateway.clock.advance(3.0)
        cache, again = await batch(gateway)
        assert IS_FRESH(cache)
        assert again == [(age + 3, campaign) for age, campaign in first]
        changed = replace(CAMPAIGNS["c-1"], body=b'{"data":{"name":"newer"}}', validated_at=gateway.clock.now())
        await gateway.put("c-1", changed)
        assert (await batch(gateway))[1] == [(0, {"name": "newer"}), again[1]]


@pytest.mark.parametrize("ending", ["invalidated", "written", "old", "unverified"])
async def test_what_is_kept_is_not_fresh_any_longer_when_nothing_stored_is(ending):
    async with running(Gateway()) as gateway:
        for _ in range(2):
            assert IS_FRESH((await batch(gateway))[0])
        gateway.clock.advance(1.0)
        match ending:
            case "invalidated":
                await gateway.memory.invalidate(make_request("c-2").key, Cause.WRITE)
            case "written":
                gateway.writers.note(writer_of(SUPPORT, "reporting", "get"))
            case "old":
                gateway.clock.advance(700.0)
            case _:
                gateway.memory.lose_track()
        assert not IS_FRESH((await batch(gateway))[0])


async def test_each_part_is_counted_once_and_cut_to_the_fields_asked_for():
    async with running(Gateway()) as gateway:
        whole = await batch(gateway)
        for _ in range(3):
            before = gateway.meter.events["store", "memory", "get", "hit"]
            _, named = await batch(gateway, more="&fields=_id")
            assert named == [
                (age, {"_id": campaign["_id"]}) for age, campaign in whole[1] if isinstance(campaign, dict)
            ]
            assert await batch(gateway) == whole
            assert gateway.meter.events["store", "memory", "get", "hit"] - before == 4


async def test_what_is_not_local_is_looked_up_each_time():
    async with running(Gateway(layer=far)) as gateway:
        store = gateway.store
        assert isinstance(store, FarStore)
        for number in (1, 2):
            await batch(gateway)
            assert store.trips == 2 * number
