"""What replicas publish to each other, on a real server: which copies go, and who fills a key."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest

from campaign_gateway.policy.evidence import GOOD, Cause, CopyState
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import Handlers, Put
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis import bus as bus_module
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis import store as redis_module
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.connect import RedisTarget, open_link
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.redis.store import RedisStore
from tests.support.builders import copy_of
from tests.support.doubles import begun
from tests.support.meters import CountingMeter
from tests.support.redis_server import RedisServer, redis_server
from tests.support.waiting import until

KEY, OTHER, ALL = "1f2e:get:cd-1", "1f2e:get:cd-2", "1f2e:get:*"
KEYS = Keys("cg")
LEASE = KEYS.lease(KEY)
UNWATCHED = 0.2


def entry(validated_at: float, body: bytes = b'{"data":1}') -> Stored:
    return Stored(body, "application/json", b"digest", None, "Ready", validated_at)


@dataclass
class Replica:
    """A store with everything it is made of."""

    link: RedisLink
    bus: Bus
    copies: MemoryStore
    shared: RedisStore
    store: LayeredStore
    tasks: Tasks
    invalidated: list[str | None] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    hinted: list[tuple[str, list[str]]] = field(default_factory=list)

    def receive_hint(self, stream: str, campaigns: Sequence[str]) -> None:
        self.hinted.append((stream, list(campaigns)))

    async def fill(self, key: str = KEY, body: bytes = b'{"data":1}', ahead: float = 0.0) -> Put:
        found = await self.store.get(key)
        return await self.store.put(key, entry(self.store.now() + ahead, body), found.fence, 60)

    def has_copy(self, key: str = KEY) -> bool:
        """Whether there is one that is not known to be out of date."""
        copy = self.copies.peek(key)
        return copy.stored is not None and copy.may_answer and copy.evidence.state is not CopyState.INVALIDATED

    async def finds(self, key: str = KEY) -> Cause | None:
        """Why what is stored has to be validated; None where it has not."""
        found = await self.store.get(key)
        assert found.stored is not None, "it stays, to fall back on"
        last = found.evidence.invalidation
        return last.by if last is not None and last.is_open else None

    async def copy(self, key: str = KEY) -> None:
        """Returns once it holds a copy; one looked up while a message about it comes in is not kept."""
        async with asyncio.timeout(20):
            while not self.has_copy(key):
                assert (await self.store.get(key)).stored is not None
                await asyncio.sleep(0.002)

    async def silence(self) -> None:
        """Returns once all that was published before now has been received."""
        key = f"silence-{time.monotonic()}"
        await self.store.put(key, entry(self.store.now()), (await self.store.get(key)).fence, 60)
        last = int(await self.link.client.get(KEYS.sequence(key)))
        await until(lambda: self.bus._last.get(0, 0) >= last)


@dataclass
class Fleet:
    server: RedisServer
    raw: Any
    one: Replica
    two: Replica

    async def fill_and_copy(self) -> None:
        """What one has filled, two has a copy of."""
        await self.one.fill()
        await self.two.copy()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as process:
        yield process


@pytest.fixture
async def fleet(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    monkeypatch.setattr(bus_module, "RETRY_SECONDS", 2 * UNWATCHED)
    async with AsyncExitStack() as stack:
        raw = server.client()
        stack.push_async_callback(raw.aclose)
        replicas = []
        for _ in range(2):
            tasks, clock, meter = Tasks(), StoreClock(), CountingMeter()
            link = open_link(RedisTarget(server.url, 1.0), clock, meter)
            stack.push_async_callback(link.close)
            stack.push_async_callback(tasks.close)
            await link.start(tasks)
            bus, copies = Bus(link, KEYS), MemoryStore(2**20, clock, meter)
            shared = RedisStore(link, bus, KEYS)
            store = LayeredStore(shared, copies, bus, UNWATCHED)
            replicas.append(Replica(link, bus, copies, shared, store, tasks))
            replica = replicas[-1]
            store.start(tasks, Handlers(replica.invalidated.append, replica.written.append, replica.receive_hint))
        await until(lambda: all(replica.bus.silent_for() == 0.0 for replica in replicas))
        yield Fleet(server, raw, *replicas)


# Copies.


async def test_a_copy_answers_by_itself(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    assert copy_of(fleet.two.store, KEY) == (await fleet.one.store.get(KEY)).stored


async def test_an_invalidation_invalidates_the_copies_of_others(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    await until(lambda: not fleet.two.has_copy(), 1.0)


async def test_a_fill_drops_the_copies_of_others_and_not_its_own(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    # By more than the clocks' error, which on a busy machine is longer than this test.
    assert await fleet.one.fill(body=b"newer", ahead=1.0) is Put.STORED
    await until(lambda: not fleet.two.has_copy(), 1.0)
    await fleet.one.silence()
    assert fleet.one.has_copy()
    found = await fleet.two.store.get(KEY)
    assert found.stored is not None
    assert found.stored.body == b"newer"


async def test_copies_of_other_keys_stay(fleet: Fleet) -> None:
    await fleet.one.fill(OTHER)
    await fleet.two.copy(OTHER)
    await fleet.one.fill()
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    await fleet.two.silence()
    assert fleet.two.has_copy(OTHER)


async def test_a_copy_that_is_fetched_while_an_invalidation_arrives_is_not_kept(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. the look-up has its answer; 2. the invalidation is received; 3. the answer is put among the copies."""
    await fleet.one.fill()
    await fleet.two.silence()
    look_up = fleet.two.shared.get

    async def slow(key: str, last: object) -> Any:
        found = await look_up(key, last)
        await fleet.one.store.invalidate(key, Cause.WRITE)
        await until(lambda: number() > fence)
        return found

    def number() -> int:
        fence = fleet.two.copies._fences.get(KEY)
        return 0 if fence is None else fence.number

    fence = number()
    monkeypatch.setattr(fleet.two.shared, "get", slow)
    found = await fleet.two.store.get(KEY)
    assert found.stored is not None, "it is what stood there when it was asked for"
    assert not fleet.two.has_copy()
    monkeypatch.undo()
    assert await fleet.two.store.put(KEY, entry(fleet.two.store.now()), found.fence, 60) is Put.FENCED


@pytest.mark.parametrize(
    ("number", "is_kept"),
    [
        pytest.param(1, True, id="the-next-number"),
        pytest.param(2, False, id="one-was-missed"),
        pytest.param(0, False, id="a-number-again"),
        pytest.param(-1, False, id="a-number-from-before"),
    ],
)
async def test_a_gap_in_the_numbers_clears_all_copies(fleet: Fleet, number: int, is_kept: bool) -> None:
    await fleet.fill_and_copy()
    await fleet.two.silence()
    last = int(await fleet.raw.get(KEYS.sequence(OTHER)))
    await fleet.raw.publish(KEYS.channel, f"changed somebody {last + number} {OTHER}")
    await until(lambda: OTHER in fleet.two.copies._fences)
    assert fleet.two.has_copy() is is_kept


@pytest.mark.drill(
    "a message on the bus that is none",
    planted="odd numbers, bytes, lengths",
    seen="nobody is deaf: the next invalidation arrives",
)
@pytest.mark.parametrize(
    "said",
    [
        *(b"", b"noise", b"changed x y z", b"\xff\xfe \xff 1", b"changed x"),
        *(
            b"write x \xc2\xb2 k",
            b"write x \xd9\xa3 k",
            b"write x 1_0 k",
            b"write x -1 k",
            b"write x %b k" % (b"9" * 5_000),
        ),
        *(b"write  1 k", b"write x 1 ", b"WRITE x 1 k", b"unheard-of x 1 k"),
    ],
    ids=repr,
)
async def test_what_is_no_message_is_not_received_and_deafens_nobody(fleet: Fleet, said: bytes) -> None:
    await fleet.fill_and_copy()
    await fleet.raw.publish(KEYS.channel, said)
    await fleet.two.silence()
    assert fleet.two.has_copy()
    await fleet.one.store.invalidate(KEY, Cause.PURGE)
    await until(lambda: fleet.two.invalidated[-1:] == [KEY])


async def test_a_message_that_is_too_long_is_a_gap(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "LONGEST_MESSAGE", 1_000)
    await fleet.fill_and_copy()
    fleet.two.invalidated.clear()
    await fleet.raw.publish(KEYS.channel, b"hint x 1 1f2e:" + b"c" * 1_000)
    await until(lambda: not fleet.two.has_copy())
    assert (fleet.two.invalidated, fleet.two.hinted) == ([None], [])


@pytest.mark.drill(
    "a handler of messages fails",
    planted="an error in one",
    seen="the subscription is made anew, copies answer only while it stands",
)
async def test_a_handler_that_fails_ends_neither_the_subscription_nor_the_caution(fleet: Fleet) -> None:
    await fleet.one.fill()
    await fleet.two.copy()
    handlers = fleet.two.store._handlers

    def fail(_key: object) -> None:
        raise LookupError("planted")

    fleet.two.store._handlers = replace(handlers, on_invalidated=fail)
    await fleet.one.store.invalidate(KEY, Cause.PURGE)
    await until(lambda: fleet.two.bus.silent_for() > 0)
    fleet.two.store._handlers = handlers
    await until(lambda: fleet.two.bus.silent_for() == 0.0)
    await fleet.one.store.invalidate(KEY, Cause.PURGE)
    await until(lambda: fleet.two.invalidated[-1:] == [KEY])


async def test_messages_are_numbered_one_after_the_other_whoever_speaks(fleet: Fleet) -> None:
    """Many fills and invalidations at once, and no replica takes their order for a gap."""
    gaps = 0

    def count() -> None:
        nonlocal gaps
        gaps += 1

    async with fleet.raw.pubsub() as subscription:
        await subscription.subscribe(KEYS.channel)
        watcher = Bus(fleet.one.link, KEYS)
        keys = [f"key-{number}" for number in range(30)]
        await asyncio.gather(*(replica.fill(key) for key in keys for replica in (fleet.one, fleet.two)))
        await asyncio.gather(
            *(replica.store.invalidate(key, Cause.WRITE) for key in keys for replica in (fleet.one, fleet.two))
        )
        while (message := await subscription.get_message(timeout=0.1)) is not None:
            if message["type"] == "message":
                await watcher._receive(message["data"], lambda _key, _how: None, count)
    assert watcher._last[0] >= 90
    assert gaps == 0


async def test_a_lost_subscription_makes_copies_unusable_and_a_new_one_clears_them(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    killed = time.monotonic()
    await fleet.raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    epoch = fleet.two.store.epoch.number
    await until(lambda: fleet.two.bus.silent_for() > 0)
    assert fleet.two.store.epoch.number > epoch, "what was found out is remembered no longer, at once"
    assert not fleet.two.store.is_subscribed
    await until(lambda: copy_of(fleet.two.store, KEY) is None)
    assert time.monotonic() - killed >= UNWATCHED * 0.5, "for a short time it may still be used"
    assert fleet.two.has_copy(), "it is there, and may not be used"
    await until(lambda: fleet.two.bus.silent_for() == 0.0)
    assert not fleet.two.has_copy(), "nothing is known of what was said meanwhile"
    await fleet.two.copy()
    assert copy_of(fleet.two.store, KEY) is not None


async def test_a_server_that_is_lost_leaves_copies_usable_only_for_the_configured_time(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    fleet.server.kill()
    await until(lambda: copy_of(fleet.two.store, KEY) is None)
    found = await fleet.two.store.get(KEY)
    assert found.stored is not None, "the copy is what there is to go on with"


async def test_after_a_restart_an_invalidation_is_received_again(fleet: Fleet) -> None:
    fleet.server.kill()
    await until(lambda: fleet.two.bus.silent_for() > 0)
    await fleet.server.start()
    await until(lambda: all(each.link.is_up and not each.bus.silent_for() for each in (fleet.one, fleet.two)))
    await fleet.fill_and_copy()
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    await until(lambda: not fleet.two.has_copy(), 1.0)


async def test_connections_that_a_restart_closed_while_they_were_idle_are_not_used(fleet: Fleet) -> None:
    link = fleet.one.link
    burst = [partial(link.execute, "get", partial(link.client.get, KEY), replies.value) for _ in range(8)]
    await asyncio.gather(*(ask() for ask in burst))
    fleet.server.kill()
    await fleet.server.start()
    await until(lambda: link.generation > 1 and link.is_up)
    await asyncio.gather(*(ask() for ask in burst))
    assert link.is_up


async def test_fills_from_before_a_restart_are_refused(fleet: Fleet) -> None:
    """The server that knew of an invalidation is gone, and its successor knows of none."""
    before = await fleet.one.store.get(KEY)
    await fleet.two.store.invalidate(KEY, Cause.WRITE)
    fleet.server.kill()
    await until(lambda: not fleet.one.link.is_up)
    await fleet.server.start()
    await until(lambda: fleet.one.link.is_up)
    assert await fleet.one.store.put(KEY, entry(fleet.one.store.now()), before.fence, 60) is Put.FENCED
    assert (await fleet.two.store.get(KEY)).stored is None
    assert await fleet.one.fill() is Put.STORED


async def test_fills_from_before_a_restart_that_nobody_noticed_are_not_stored(fleet: Fleet) -> None:
    """The first command on a new connection finds out."""
    before = await fleet.one.store.get(KEY)
    await fleet.two.store.invalidate(KEY, Cause.WRITE)
    fleet.server.kill()
    await fleet.server.start()
    outcome = await fleet.one.store.put(KEY, entry(fleet.one.store.now()), before.fence, 60)
    assert outcome in {Put.FENCED, Put.FAILED}
    assert await fleet.raw.get(KEYS.entry(KEY)) is None


async def test_an_invalidation_is_told_from_a_fill_and_a_gap_may_hold_any(fleet: Fleet) -> None:
    """Or readers would go on joining a flight from before it."""
    fleet.two.invalidated.clear()
    await fleet.one.fill()
    await fleet.one.store.invalidate(OTHER, Cause.WRITE)
    await fleet.two.silence()
    assert fleet.two.invalidated == [OTHER]
    last = int(await fleet.raw.get(KEYS.sequence(KEY)))
    await fleet.raw.publish(KEYS.channel, f"changed somebody {last + 2} {KEY}")
    await until(lambda: fleet.two.invalidated == [OTHER, None])
    assert OTHER not in fleet.one.invalidated, "its own message is ignored"


# Invalidations that did not reach Redis.


@pytest.mark.parametrize("reach", [KEY, ALL], ids=["one", "all"])
@pytest.mark.parametrize("by", list(Cause))
async def test_what_was_invalidated_while_redis_hung_is_so_for_all_when_it_is_back(
    fleet: Fleet, reach: str, by: Cause
) -> None:
    await fleet.fill_and_copy()
    before = await fleet.one.store.get(KEY)
    fleet.server.pause()
    await until(lambda: not fleet.one.link.is_up)
    await fleet.one.store.invalidate(reach, by)
    fleet.server.resume()
    await until(lambda: fleet.one.link.is_up)
    assert await fleet.one.store.put(KEY, entry(fleet.one.store.now()), before.fence, 60) is Put.FENCED
    assert await fleet.one.finds() is by, "published before it was asked"
    await until(lambda: not fleet.two.has_copy())
    assert await fleet.two.finds() is by


@pytest.mark.drill(
    "a purge of a thousand campaigns",
    planted="on one replica, of which the other has copies",
    seen="one message, and one trip; both know at once",
)
async def test_an_invalidation_of_many_keys_is_one_message(fleet: Fleet) -> None:
    keys = [f"1f2e:get:cd-{number}" for number in range(1000)]
    for key in keys[:3]:
        await fleet.one.fill(key)
        await fleet.two.copy(key)
    await fleet.two.silence()
    fleet.two.invalidated.clear()
    before = int(await fleet.raw.get(KEYS.sequence(KEY)))
    assert await fleet.one.store.invalidate_many(keys, Cause.PURGE)
    assert int(await fleet.raw.get(KEYS.sequence(KEY))) == before + 1
    await until(lambda: fleet.two.invalidated == keys)
    assert not any(fleet.two.has_copy(key) for key in keys)
    assert [await fleet.one.finds(key) for key in keys[:3]] == [Cause.PURGE] * 3


async def test_messages_that_come_without_a_pause_leave_the_loop_to_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them have arrived before the first is received: reading one does not wait for anything."""
    count, turns, received = 200, 0, 0
    message = {"type": "message", "data": b"wrote somebody 1 k"}

    class Flooded:
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            return

        async def subscribe(self, _channel: str) -> None:
            return

        async def get_message(self, timeout: float) -> object:
            nonlocal received
            received += 1
            if received > count:
                await asyncio.sleep(timeout)
            return message if received <= count else None

        async def ping(self) -> None:
            return

    monkeypatch.setattr(fleet.one.link.client, "pubsub", Flooded)
    bus = Bus(fleet.one.link, KEYS)
    listening = begun(bus.listen(lambda _kind, _key: None, lambda: None, lambda: None))
    while received <= count:
        turns += 1
        await asyncio.sleep(0)
    listening.cancel()
    assert turns >= count


async def test_what_others_could_not_be_told_is_said(fleet: Fleet) -> None:
    assert await fleet.one.store.invalidate(KEY, Cause.PURGE)
    assert await fleet.one.store.publish_write("1f2e:desk")
    fleet.one.link._lose("readonly")
    assert not await fleet.one.store.invalidate(KEY, Cause.PURGE)
    assert not await fleet.one.store.publish_write("1f2e:desk")


async def test_redis_is_told_what_it_missed_though_nobody_asks(fleet: Fleet) -> None:
    await fleet.one.fill()
    fleet.server.pause()
    await until(lambda: not fleet.one.link.is_up)
    await asyncio.gather(*(fleet.one.store.invalidate(key, Cause.PURGE) for key in (KEY, OTHER, ALL)))
    fleet.server.resume()
    await until(lambda: not fleet.one.store._outbox)
    assert await fleet.two.finds() is Cause.PURGE


async def test_what_is_invalidated_twice_counts_as_a_write(fleet: Fleet) -> None:
    await fleet.one.fill()
    fleet.one.link._lose("timeout")
    for by in (Cause.WRITE, Cause.PURGE):
        await fleet.one.store.invalidate(KEY, by)
    await fleet.one.link.look()
    assert await fleet.one.finds() is Cause.WRITE


async def test_a_look_up_beside_the_one_that_pays_does_not_come_before_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. one look-up begins to send Redis what it missed; 2. another one asks Redis; 3. Redis has it."""
    await fleet.one.fill()
    fleet.one.link._lose("timeout")
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    fleet.one.copies.clear()
    flushing, may_flush = asyncio.Event(), asyncio.Event()
    tell = fleet.one.shared.invalidate

    async def slow(keys: Collection[str], by: Cause) -> None:
        if not flushing.is_set():
            flushing.set()
            await may_flush.wait()
        await tell(keys, by)

    monkeypatch.setattr(fleet.one.shared, "invalidate", slow)
    first = begun(fleet.one.finds())
    await flushing.wait()
    await fleet.one.link.look()
    assert await fleet.one.finds() is Cause.WRITE
    may_flush.set()
    assert await first is Cause.WRITE


async def test_what_is_invalidated_anew_while_it_is_flushed_stays(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.one.link._lose("timeout")
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    tell = fleet.one.shared.invalidate

    async def and_fail_once_more(keys: Collection[str], by: Cause) -> None:
        monkeypatch.undo()
        await tell(keys, by)
        fleet.one.link._lose("timeout")
        await fleet.one.store.invalidate_many(keys, by)

    await fleet.one.link.look()
    monkeypatch.setattr(fleet.one.shared, "invalidate", and_fail_once_more)
    await fleet.one.store.get(KEY)
    assert len(fleet.one.store._outbox) == 1


async def test_a_copy_fetched_while_an_invalidation_fails_is_known_to_be_invalidated(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1. Redis is sent what it missed; 2. a look-up that it still answers brings the old entry; 3. Redis is lost."""
    await fleet.one.fill()
    await fleet.two.silence()

    async def fail(keys: Collection[str], _by: Cause) -> None:
        for key in keys:
            await fleet.two.copy(key)
        raise StoreDownError("timeout")

    fleet.two.copies.clear()
    monkeypatch.setattr(fleet.two.shared, "invalidate", fail)
    await fleet.two.store.invalidate(KEY, Cause.WRITE)
    copy = fleet.two.store.peek(KEY)
    assert copy.stored is not None
    assert copy.evidence.is_overwritten


async def ignore(*_: object) -> None:
    """In the place of what receives a message."""


async def test_a_copy_that_redis_says_is_overwritten_is_invalidated_before_the_message_is_received(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fleet.fill_and_copy()
    await fleet.two.silence()
    monkeypatch.setattr(fleet.two.bus, "_receive", ignore)
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    assert await fleet.two.finds() is Cause.WRITE
    assert not fleet.two.has_copy()


@pytest.mark.parametrize("reach", ["one", "all"])
async def test_what_redis_has_no_more_but_knows_to_be_invalidated_is_overwritten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, reach: str
) -> None:
    """The copy's own fill never reached Redis, and the word of the invalidation did not reach the copy."""
    await fleet.fill_and_copy()
    await fleet.two.silence()
    monkeypatch.setattr(fleet.two.bus, "_receive", ignore)
    await fleet.raw.delete(KEYS.entry(KEY))
    await fleet.one.store.invalidate(KEY if reach == "one" else ALL, Cause.WRITE)
    assert await fleet.two.finds() is Cause.WRITE


async def test_while_nothing_is_received_anything_may_have_been_invalidated(fleet: Fleet) -> None:
    before = fleet.two.store.now()
    await fleet.raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await until(lambda: fleet.two.bus.silent_for() > UNWATCHED)
    moment = fleet.two.store.now()
    assert fleet.two.store.invalidated_at(KEY) >= moment
    await until(lambda: fleet.two.bus.silent_for() == 0.0)
    assert before < fleet.two.store.invalidated_at(KEY) <= fleet.two.store.now()


async def test_after_a_stop_no_copy_stands_in_for_redis_as_if_it_were_verified(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    await fleet.two.silence()
    await fleet.two.copy()
    fleet.two.bus._ping_at -= 60.0
    await until(lambda: fleet.two.copies.peek(KEY).evidence.state is CopyState.UNVERIFIED, 5.0)
    await fleet.two.copy()


# Leases.


async def test_of_two_replicas_one_holds_the_lease(fleet: Fleet) -> None:
    leases = await asyncio.gather(*(replica.store.acquire_lease(KEY) for replica in (fleet.one, fleet.two)))
    assert sorted(lease.is_mine for lease in leases) == [False, True]


async def test_a_leader_may_acquire_the_lease_again(fleet: Fleet) -> None:
    assert [(await fleet.one.store.acquire_lease(KEY)).is_mine for _ in range(2)] == [True, True]


async def test_leases_of_other_keys_are_free(fleet: Fleet) -> None:
    assert (await fleet.one.store.acquire_lease(KEY)).is_mine
    assert (await fleet.two.store.acquire_lease(OTHER)).is_mine


async def test_a_waiter_wakes_when_the_lease_is_released_and_finds_the_fill(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "POLL_SECONDS", 30.0)
    taken = await fleet.one.store.acquire_lease(KEY)
    assert taken.is_mine
    assert not (await fleet.two.store.acquire_lease(KEY)).is_mine

    async def fill_and_release() -> None:
        await until(lambda: KEY in fleet.two.bus._waiters)
        await fleet.one.store.release_lease(KEY, taken.found.fence)

    async with asyncio.timeout(20):
        await fleet.one.fill()
        await fleet.two.silence()
        await asyncio.gather(fleet.two.store.wait_for_lease(KEY, 30), fill_and_release())
    lease = await fleet.two.store.acquire_lease(KEY)
    assert lease.is_mine
    assert lease.found.stored is not None


async def test_all_waiters_wake(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "POLL_SECONDS", 30.0)
    lease = await fleet.one.store.acquire_lease(KEY)
    followers = [fleet.two.store.wait_for_lease(KEY, 30) for _ in range(5)]

    async def leave() -> None:
        await until(lambda: KEY in fleet.two.bus._waiters)
        await fleet.one.store.release_lease(KEY, lease.found.fence)

    async with asyncio.timeout(20):
        await asyncio.gather(*followers, leave())


@pytest.mark.parametrize("ending", ["time-out", "cancellation"])
async def test_a_waiter_that_gives_up_takes_no_other_along(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(bus_module, "POLL_SECONDS", 30.0)
    hurried = begun(fleet.two.store.wait_for_lease(KEY, 0.05 if ending == "time-out" else 30))
    patient = begun(fleet.two.store.wait_for_lease(KEY, 30))
    await asyncio.wait([hurried], timeout=0.1)
    hurried.cancel()
    await asyncio.wait([hurried])
    await fleet.one.fill()
    async with asyncio.timeout(20):
        await patient
    assert not fleet.two.bus._waiters


@pytest.mark.parametrize(("seconds", "poll"), [(0.05, 30.0), (30.0, 0.05)], ids=["as-long-as-told", "to-look-anyway"])
async def test_a_waiter_does_not_wait_for_ever(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, seconds: float, poll: float
) -> None:
    monkeypatch.setattr(bus_module, "POLL_SECONDS", poll)
    async with asyncio.timeout(20):
        await fleet.two.store.wait_for_lease(KEY, seconds)


async def test_one_that_does_not_hold_it_cannot_release_the_lease(fleet: Fleet) -> None:
    lease = await fleet.one.store.acquire_lease(KEY)
    await fleet.two.store.release_lease(KEY, lease.found.fence)
    assert not (await fleet.two.store.acquire_lease(KEY)).is_mine


async def test_a_dead_leaders_lease_ends(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LEASE_MILLISECONDS", 150)
    assert (await fleet.one.store.acquire_lease(KEY)).is_mine
    await fleet.one.tasks.close()
    assert not (await fleet.two.store.acquire_lease(KEY)).is_mine
    async with asyncio.timeout(20):
        while not (await fleet.two.store.acquire_lease(KEY)).is_mine:
            await fleet.two.store.wait_for_lease(KEY, 0.05)


async def test_a_lease_that_is_renewed_does_not_end(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lease is far too short for what the leader does, and is watched for three times its length."""
    monkeypatch.setattr(redis_module, "RENEW_SECONDS", 0.03)
    monkeypatch.setattr(redis_module, "LEASE_MILLISECONDS", 1_000)
    await fleet.one.store.acquire_lease(KEY)
    renewed = 0
    last = await fleet.raw.pttl(LEASE)
    async with asyncio.timeout(20):
        while renewed < 5:
            await asyncio.sleep(0.02)
            left = await fleet.raw.pttl(LEASE)
            assert left > 0
            assert not (await fleet.two.store.acquire_lease(KEY)).is_mine
            renewed += left > last
            last = left


async def test_a_lease_that_was_left_is_not_renewed(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "RENEW_SECONDS", 0.02)
    lease = await fleet.one.store.acquire_lease(KEY)
    await fleet.one.store.release_lease(KEY, lease.found.fence)
    assert (await fleet.two.store.acquire_lease(KEY)).is_mine
    await asyncio.sleep(0.1)
    assert (await fleet.raw.get(LEASE)).startswith(fleet.two.bus.replica_id.encode() + b":")


# Copies unverified.


async def test_after_a_gap_copies_stay_to_fall_back_on(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    fleet.two.store._miss()
    assert copy_of(fleet.two.store, KEY) is None
    assert fleet.two.invalidated[-1] is None
    fleet.two.link._lose("timeout")
    found = await fleet.two.store.get(KEY)
    assert found.stored is not None
    assert found.evidence.state is CopyState.UNVERIFIED
    await fleet.two.link.look()
    again = await fleet.two.store.get(KEY)
    assert (again.stored, again.evidence) == (found.stored, GOOD), "Redis knows, and it is verified"
    await until(fleet.two.has_copy)


async def test_a_copy_outlives_a_redis_that_came_back_empty(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    kept = (await fleet.two.store.get(KEY)).stored
    assert kept is not None
    await fleet.raw.flushall()
    await fleet.one.store.acquire_lease(OTHER)
    found = await fleet.two.store.get(KEY)
    assert found.stored == kept, "though fences are being made anew"
    assert found.evidence.state is CopyState.UNVERIFIED, "and is not fresh"
    newer = entry(fleet.two.store.now(), b"newer")
    assert await fleet.two.store.put(KEY, newer, found.fence, 60) is Put.STORED
    assert (await fleet.one.store.get(KEY)).stored == newer


async def test_a_copy_of_what_redis_knows_to_be_overwritten_is_so_too(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    fleet.two.store._miss()
    await fleet.one.store.invalidate(KEY, Cause.WRITE)
    assert await fleet.two.finds() is Cause.WRITE
    fleet.two.link._lose("timeout")
    assert await fleet.two.finds() is Cause.WRITE


async def test_an_invalidation_that_redis_could_not_take_invalidates_the_copy(fleet: Fleet) -> None:
    await fleet.fill_and_copy()
    fleet.two.store._miss()
    fleet.two.link._lose("timeout")
    await fleet.two.store.invalidate(KEY, Cause.WRITE)
    assert await fleet.two.finds() is Cause.WRITE


async def test_a_writer_is_received_and_is_no_invalidation(fleet: Fleet) -> None:
    fleet.two.invalidated.clear()
    await fleet.one.store.publish_write("1f2e:a client of many words")
    await fleet.two.silence()
    assert (fleet.two.written, fleet.two.invalidated) == (["1f2e:a client of many words"], [])
    fleet.two.link._lose("timeout")
    await fleet.two.store.publish_write("1f2e:while Redis is lost there is nobody to tell")


async def test_a_hint_of_many_campaigns_is_one_message_and_no_invalidation(fleet: Fleet) -> None:
    ids = [f"cd-{number}" for number in range(1000)]
    before = int(await fleet.raw.get(KEYS.sequence(KEY)) or 0)
    fleet.two.invalidated.clear()
    assert await fleet.one.store.publish_hint("1f2e", ids)
    assert int(await fleet.raw.get(KEYS.sequence(KEY))) == before + 1
    await until(lambda: fleet.two.hinted == [("1f2e", ids)])
    await fleet.one.silence()
    assert (fleet.one.hinted, fleet.two.invalidated) == ([], []), "its own message is ignored"
    fleet.two.link._lose("timeout")
    assert not await fleet.two.store.publish_hint("1f2e", ["while Redis is lost there is nobody to tell"])


# What somebody else has written where fences, leases and numbers are.

FAR = b"%016d"
"""Sixteen digits."""
SOON = 7_000_000_000_000_000
"""Microseconds of the year 2191, which a Lua number holds exactly."""


def head(fence: int = 0, begun: int = 0, group: int = 0, moment: int = 0, cause: bytes = b"-") -> bytes:
    return b"".join(FAR % number for number in (fence, begun, group, moment)) + cause


PLANTED: dict[str, dict[str, Any]] = {
    "a-begin-in-the-future": {KEYS.group_fence(KEY): FAR % 5 * 4, KEYS.entry(KEY): head(begun=SOON, group=5) + b"x"},
    "a-begin-as-late-as-can-be": {
        KEYS.group_fence(KEY): FAR % 5 * 4,
        KEYS.entry(KEY): head(begun=2**53 - 1, group=5) + b"x",
    },
    "a-fence-as-high-as-can-be": {KEYS.entry(KEY): head(fence=10**16 - 1) + b"x"},
    "a-fence-at-the-end-of-the-exact-numbers": {KEYS.entry(KEY): head(fence=2**53 - 1) + b"x"},
    "a-fence-that-only-lua-can-read": {KEYS.entry(KEY): b"0x" + b"f" * 14 + head()[16:] + b"x"},
    "a-fence-that-is-infinite": {KEYS.entry(KEY): b"inf".rjust(16) + head()[16:] + b"x"},
    "a-moment-that-is-none": {KEYS.entry(KEY): head()[:48] + b"x" * 16 + b"w" + b"x"},
    "half-a-head": {KEYS.entry(KEY): head()[:40]},
    "an-entry-of-another-type": {KEYS.entry(KEY): []},
    "a-group-as-high-as-can-be": {KEYS.group_fence(KEY): b"9" * 64},
    "a-group-in-the-future": {KEYS.group_fence(KEY): FAR % SOON * 4},
    "a-group-that-is-noise": {KEYS.group_fence(KEY): b"\xff" * 64},
    "a-group-that-is-half-noise": {KEYS.group_fence(KEY): FAR % 5 + b"\xff" * 48},
    "a-group-that-is-cut": {KEYS.group_fence(KEY): FAR % 5},
    "a-group-of-another-type": {KEYS.group_fence(KEY): []},
    "a-lease-for-ever": {KEYS.group_fence(KEY): FAR % 5 * 4, KEYS.lease(KEY): b"somebody:0:5"},
    "a-lease-of-another-type": {KEYS.lease(KEY): []},
    "a-number-that-is-none": {KEYS.sequence(KEY): b"none"},
    "a-number-at-its-end": {KEYS.sequence(KEY): b"%d" % (2**63 - 1)},
    "a-number-that-lua-writes-otherwise": {KEYS.sequence(KEY): b"%d" % 10**15},
    "a-number-of-another-type": {KEYS.sequence(KEY): []},
}


@pytest.mark.drill(
    "fences, leases and numbers that somebody else wrote into Redis",
    planted="in the future, without an end, of another type, noise",
    seen="fills are stored, writes invalidate, replicas hear of both",
)
@pytest.mark.parametrize("planted", PLANTED)
async def test_what_somebody_else_has_written_keeps_nothing_from_being_stored_and_invalidated(
    fleet: Fleet, planted: str
) -> None:
    for name, value in PLANTED[planted].items():
        await fleet.raw.delete(name)
        await (fleet.raw.set(name, value) if value else fleet.raw.rpush(name, "x"))
    lease = await fleet.one.store.acquire_lease(KEY)
    assert lease.is_mine
    assert await fleet.one.store.put(KEY, entry(fleet.one.store.now()), lease.found.fence, 60.0) is Put.STORED
    await fleet.one.store.release_lease(KEY, lease.found.fence)
    found = await fleet.two.store.get(KEY)
    assert found.stored is not None
    assert found.evidence.state is CopyState.GOOD
    assert not found.evidence.is_overwritten
    await until(lambda: fleet.one.bus.silent_for() == fleet.two.bus.silent_for() == 0.0)
    for key in (KEY, ALL):
        fleet.two.invalidated.clear()
        await fleet.one.store.invalidate(key, Cause.WRITE)
        await until(lambda: fleet.two.invalidated != [])
        assert (await fleet.two.store.get(KEY)).evidence.is_overwritten
    lease = await fleet.two.store.acquire_lease(KEY)
    assert lease.is_mine
    assert await fleet.two.store.put(KEY, entry(fleet.two.store.now()), lease.found.fence, 60.0) is Put.STORED


@pytest.mark.drill("fences, leases and numbers that somebody else wrote into Redis")
async def test_an_invalidation_reads_nothing_but_fences_of_ours(fleet: Fleet) -> None:
    for planted, values in PLANTED.items():
        if all(values.values()):
            await fleet.one.fill()
            await fleet.raw.mset(values)
            for key in (KEY, ALL):
                await fleet.one.shared.invalidate([key], Cause.WRITE)
            assert len(await fleet.raw.get(KEYS.group_fence(KEY))) == 64, planted
