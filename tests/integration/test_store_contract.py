"""One suite that every store passes: memory, and Redis with its layers on fakeredis and on a real server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from service.policy.entry import Absence, Entry, make_etag
from service.proxy.ports import Meter, Put, Store
from service.proxy.tasks import Tasks
from service.store.bus import Bus
from service.store.clock import StoreClock
from service.store.layers import LayeredStore
from service.store.link import RedisLink, open_link
from service.store.memory import MemoryStore
from service.store.redis import RedisStore
from tests.support.meters import CountingMeter
from tests.support.redis_server import redis_server

KEY = "1f2e:get:cd-1"
NAME = f"cg:e1:{{{KEY}}}"
BIG = 2**20


def entry(proven_at: float, body: bytes = b'{"data":1}') -> Entry:
    return Entry(body, "application/json", b"digest", "2026-02-03T14:06:48.902Z", "Ready", proven_at, make_etag(body))


@dataclass
class Subject:
    """A store, and a second one over the same shared entries (the same one, for memory)."""

    one: Store
    two: Store
    raw: Any = None
    buses: Sequence[Bus] = ()

    async def told(self) -> None:
        """Returns once both have heard all that was said."""
        async with asyncio.timeout(10):
            while any(bus.silent_for() for bus in self.buses) or not all(map(self._has_heard_all, self.buses)):
                await asyncio.sleep(0.005)

    def _has_heard_all(self, ear: Bus) -> bool:
        return all(ear._heard_of.get(voice.sender, 0) == voice._said for voice in self.buses)


@asynccontextmanager
async def on_memory(_folder: Path) -> AsyncIterator[Subject]:
    store = MemoryStore(BIG, StoreClock(), CountingMeter())
    yield Subject(store, store)


@asynccontextmanager
async def on_redis(raw: Any, open_one: Callable[[StoreClock, Meter], RedisLink]) -> AsyncIterator[Subject]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(raw.aclose)
        tasks = Tasks()
        layers, buses = [], []
        for _ in range(2):
            clock, meter = StoreClock(), CountingMeter()
            link = open_one(clock, meter)
            stack.push_async_callback(link.close)
            await link.start(tasks)
            buses.append(Bus(link, "cg"))
            shared = RedisStore(link, buses[-1], "cg")
            layers.append(LayeredStore(shared, MemoryStore(BIG, clock, meter), buses[-1], 5.0))
            layers[-1].start(tasks)
        stack.push_async_callback(tasks.close)
        subject = Subject(layers[0], layers[1], raw, buses)
        await subject.told()
        yield subject


@asynccontextmanager
async def on_fakeredis(_folder: Path) -> AsyncIterator[Subject]:
    server = fakeredis.FakeServer()
    client = partial(fakeredis.FakeAsyncRedis, server=server)
    async with on_redis(client(), lambda clock, meter: RedisLink(client(), clock, meter)) as subject:
        yield subject


@asynccontextmanager
async def on_valkey(folder: Path) -> AsyncIterator[Subject]:
    async with (
        redis_server(folder) as process,
        on_redis(process.client(), partial(open_link, process.url, 1.0)) as subject,
    ):
        yield subject


@pytest.fixture(params=[on_memory, on_fakeredis, on_valkey])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    async with request.param(tmp_path) as found:
        yield found


@pytest.fixture(params=[on_fakeredis, on_valkey])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    async with request.param(tmp_path) as found:
        yield found


async def test_what_was_put_is_found(subject: Subject) -> None:
    kept = entry(subject.one.now())
    found = await subject.one.get(KEY)
    assert found.entry is None
    assert await subject.one.put(KEY, kept, found.fence, 60) is Put.STORED
    assert (await subject.two.get(KEY)).entry == kept


async def test_an_absence_survives_the_trip(subject: Subject) -> None:
    absent = Entry(b"", "", b"", None, None, subject.one.now(), "", Absence(400, "400", "Campaign not found"))
    found = await subject.one.get(KEY)
    await subject.one.put(KEY, absent, found.fence, 60)
    assert (await subject.two.get(KEY)).entry == absent


async def test_a_read_that_started_earlier_does_not_replace_a_later_one(subject: Subject) -> None:
    now = subject.one.now()
    found = await subject.one.get(KEY)
    later, earlier = entry(now, b"later"), entry(now - 1, b"earlier")
    assert await subject.one.put(KEY, later, found.fence, 60) is Put.STORED
    assert await subject.one.put(KEY, earlier, found.fence, 60) is Put.OLDER
    found = await subject.two.get(KEY)
    assert found.entry == later
    assert await subject.two.put(KEY, entry(now + 1, b"newest"), found.fence, 60) is Put.STORED
    assert (await subject.one.get(KEY)).entry == entry(now + 1, b"newest")


async def test_a_fill_from_before_an_invalidation_is_refused(subject: Subject) -> None:
    before = await subject.one.get(KEY)
    await subject.two.invalidate(KEY)
    late = entry(subject.one.now() + 1)
    assert await subject.one.put(KEY, late, before.fence, 60) is Put.FENCED
    assert (await subject.one.get(KEY)).entry is None
    after = await subject.one.get(KEY)
    assert await subject.one.put(KEY, late, after.fence, 60) is Put.STORED


async def test_an_invalidation_forgets_the_entry(subject: Subject) -> None:
    found = await subject.one.get(KEY)
    await subject.one.put(KEY, entry(subject.one.now()), found.fence, 60)
    await subject.two.invalidate(KEY)
    assert (await subject.one.get(KEY)).entry is None


async def test_fences_of_other_keys_do_not_matter(subject: Subject) -> None:
    found = await subject.one.get(KEY)
    await subject.two.invalidate("1f2e:get:cd-2")
    assert await subject.one.put(KEY, entry(subject.one.now()), found.fence, 60) is Put.STORED


async def test_of_many_fills_at_once_the_one_that_started_last_stays(subject: Subject) -> None:
    now = subject.one.now()
    found = [await store.get(KEY) for store in (subject.one, subject.two)]
    fills = [entry(now + number, str(number).encode()) for number in range(40)]
    await asyncio.gather(
        *(
            (subject.one, subject.two)[number % 2].put(KEY, fill, found[number % 2].fence, 60)
            for number, fill in enumerate(fills)
        )
    )
    assert (await subject.one.get(KEY)).entry == fills[-1]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"0" * 32,
        b"0" * 31,
        b"\xff" * 100,
        b"0" * 16 + b"zz" * 8 + b"\x01rest",
        b"0" * 32 + b"\x02abcdpayload",
    ],
    ids=["empty", "short", "head-only", "half-head", "noise", "damaged-head", "later-version"],
)
async def test_foreign_and_damaged_values_are_no_entry_and_can_be_replaced(shared: Subject, value: bytes) -> None:
    await shared.raw.set(NAME, value)
    found = await shared.one.get(KEY)
    assert found.entry is None
    kept = entry(shared.one.now())
    assert await shared.one.put(KEY, kept, found.fence, 60) is Put.STORED
    assert (await shared.two.get(KEY)).entry == kept


async def test_a_value_with_one_byte_turned_is_no_entry(shared: Subject) -> None:
    found = await shared.one.get(KEY)
    kept = replace(entry(shared.one.now()), mark="2026-02-03T14:06:48.902Z")
    await shared.one.put(KEY, kept, found.fence, 60)
    whole: bytes = await shared.raw.get(NAME)
    for index in range(32, len(whole)):
        damaged = whole[:index] + bytes([whole[index] ^ 0x20]) + whole[index + 1 :]
        await shared.raw.set(NAME, damaged)
        assert (await shared.one.get(KEY)).entry is None


async def test_a_value_of_another_type_is_no_entry(shared: Subject) -> None:
    await shared.raw.rpush(NAME, "list")
    assert (await shared.one.get(KEY)).entry is None
