"""The records of webhooks: memory, and Redis on fakeredis, a real server, a real cluster."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from campaign_gateway.policy.webhooks import Sending
from campaign_gateway.proxy.ports import SendingRecords
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.webhooks import LocalSendingRecords
from campaign_gateway.store.redis.webhooks import RedisSendingRecords
from tests.support.backends import Backend, on_fakeredis
from tests.support.meters import CountingMeter

NAME = "crm:identity-1"


async def opened(backend: Backend, stack: AsyncExitStack) -> RedisSendingRecords:
    tasks, link = Tasks(), backend.open_link(StoreClock(), CountingMeter())
    stack.push_async_callback(link.close)
    await link.start(tasks)
    stack.push_async_callback(tasks.close)
    return RedisSendingRecords(link, backend.keys)


@pytest.fixture
async def both(any_backend: Backend | None) -> AsyncIterator[tuple[SendingRecords, SendingRecords]]:
    async with AsyncExitStack() as stack:
        if any_backend is None:
            records = LocalSendingRecords(StoreClock().now)
            yield records, records
            return
        yield await opened(any_backend, stack), await opened(any_backend, stack)


def holder(name: str) -> Callable[[Sending | None, float], Sending]:
    return lambda held, _: replace(held or Sending(), holder=name, log="log", position=(2**50, 3), oldest=1.5)


async def test_what_one_writes_all_read(both: tuple[SendingRecords, SendingRecords]) -> None:
    one, two = both
    assert await one.read(NAME) is None
    written = await one.change(NAME, holder("one"))
    assert written == Sending("one", log="log", position=(2**50, 3), oldest=1.5)
    assert await two.read(NAME) == written
    assert await two.read("other:identity-1") is None
    assert await two.change(NAME, lambda *_: None) is None
    assert await one.read(NAME) == written


async def test_who_was_faster_is_seen_by_the_other_one(redis_backend: Backend) -> None:
    async with AsyncExitStack() as stack:
        one, two = await opened(redis_backend, stack), await opened(redis_backend, stack)
        seen = []

        def step(held: Sending | None, _now: float) -> Sending | None:
            seen.append(held and held.holder)
            return None if held is not None and held.holder == "two" else Sending("one")

        exchange, was_faster = one._exchange, False

        async def slow(key: str, version: bytes, value: bytes) -> bytes | None:
            nonlocal was_faster
            if value and not was_faster:
                was_faster = True
                await two.change(NAME, holder("two"))
            return await exchange(key, version, value)

        one._exchange = slow  # type: ignore[method-assign]
        assert await one.change(NAME, step) is None
        assert seen == [None, "two"]
        record = await two.read(NAME)
        assert record is not None
        assert record.holder == "two"


@pytest.mark.parametrize("noise", [b"", b"noise", b"x" * 64, "list"])
async def test_what_somebody_else_wrote_there_is_no_record(redis_backend: Backend, noise: bytes | str) -> None:
    async with AsyncExitStack() as stack:
        records, key = await opened(redis_backend, stack), redis_backend.keys.webhook(NAME)
        await (redis_backend.raw.rpush(key, "a") if noise == "list" else redis_backend.raw.set(key, noise))
        assert await records.read(NAME) is None
        written = await records.change(NAME, holder("one"))
        assert written is not None
        assert await records.read(NAME) == written


async def test_a_store_that_is_lost_has_no_record(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(on_fakeredis(tmp_path))
        records = await opened(backend, stack)
        await records.change(NAME, holder("one"))
        records._link.is_up = False
        assert await records.read(NAME) is None
        assert await records.change(NAME, holder("one")) is None
