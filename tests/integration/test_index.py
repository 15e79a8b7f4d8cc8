"""One suite that every index passes: memory, and Redis on fakeredis, a real server, a real cluster."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState, ListFlaw, Poll
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import USED_SECONDS, CampaignIndex
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.redis import beat as beat_module
from campaign_gateway.store.redis import index as index_module
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.seal import Seal, Seals
from campaign_gateway.store.usage import HALF_LIFE_SECONDS
from tests.support.backends import Backend, on_valkey
from tests.support.doubles import begun, turns
from tests.support.meters import CountingMeter
from tests.support.waiting import until

STREAM = "identity-1"
VOICE, SMS = Channel
NOW = 1_770_000_000.0
BARE = IndexSnapshot()
CLOCK = StoreClock()


def indexed(revision: str = "a", **fields: Any) -> IndexedCampaign:
    return IndexedCampaign(VOICE, revision, revision, NOW, has_changed=False, **fields)


def state(number: int, began: float = NOW, **fields: Any) -> IndexState:
    return IndexState({VOICE: Poll(began, 12.5, "a", 3)}, 90.0, number=number, **fields)


@dataclass
class Replica:
    """An index that pulls nothing by itself."""

    index: RedisIndex
    link: RedisLink
    bus: Bus
    beat: Beat

    async def take_the_lease(self) -> None:
        await self.index.beat()
        assert self.index.is_leading(STREAM)

    async def pull(self) -> IndexSnapshot:
        await self.index.pull(STREAM)
        return self.index.snapshot(STREAM)

    @property
    def now(self) -> float:
        return self.link.clock.now()


@dataclass
class Fleet:
    """Three replicas on one Redis: `three` has started nothing and seen nothing."""

    replicas: list[Replica]
    raw: Any
    keys: Keys
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def one(self) -> Replica:
        return self.replicas[0]

    @property
    def two(self) -> Replica:
        return self.replicas[1]

    @property
    def three(self) -> Replica:
        return self.replicas[2]

    def names(self) -> list[str]:
        return [self.keys.index(STREAM, what) for what in ("head", "rows", "order")]

    async def empty(self) -> None:
        """As a Redis that came back empty."""
        await self.raw.delete(*self.names())

    async def leading(self) -> list[bool]:
        """Which of the replicas hold the lease, after a beat of each."""
        for replica in self.replicas:
            await replica.index.beat()
        return [replica.index.is_leading(STREAM) for replica in self.replicas]


@asynccontextmanager
async def fleet_on(backend: Backend) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        replicas, tasks, keys = [], Tasks(), backend.keys
        for _ in range(3):
            link = backend.open_link(StoreClock(), CountingMeter())
            stack.push_async_callback(link.close)
            await link.look()
            bus = Bus(link, keys)
            beat = Beat(link, keys, bus.replica_id)
            replicas.append(Replica(RedisIndex(link, bus, beat, keys, Epoch()), link, bus, beat))
        stack.push_async_callback(tasks.close)
        yield Fleet(replicas, backend.raw, keys, tasks)


@pytest.fixture
async def fleet(redis_backend: Backend) -> AsyncIterator[Fleet]:
    async with fleet_on(redis_backend) as opened:
        yield opened


@pytest.fixture
async def real_fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with on_valkey(tmp_path) as backend, fleet_on(backend) as opened:
        yield opened


@pytest.fixture
async def index(any_backend: Backend | None) -> AsyncIterator[CampaignIndex]:
    if any_backend is None:
        yield LocalIndex(Epoch(), CLOCK.now)
    else:
        async with fleet_on(any_backend) as opened:
            yield opened.one.index


def epoch_of(index: CampaignIndex) -> int:
    assert isinstance(index, RedisIndex | LocalIndex)
    return index._epoch.number


# What all indexes do.


async def test_nothing_is_known_at_first(index: CampaignIndex) -> None:
    assert index.snapshot(STREAM) == BARE
    assert index.used(STREAM) == index.interest(STREAM) == {}


async def test_what_was_posted_is_known(index: CampaignIndex) -> None:
    epoch = epoch_of(index)
    assert await index.publish(STREAM, state(1), {"c1": indexed(), "c2": indexed("b")})
    assert epoch_of(index) > epoch, "what was made from the snapshot is made anew"
    assert index.snapshot(STREAM) == IndexSnapshot(state(1), {"c1": indexed(), "c2": indexed("b")})
    assert index.snapshot("another stream") == BARE


async def test_a_publication_changes_what_it_names_and_keeps_the_rest(index: CampaignIndex) -> None:
    await index.publish(STREAM, state(1), {"c1": indexed(), "c2": indexed("b")})
    assert await index.publish(STREAM, state(2, NOW + 5), {"c2": indexed("c")})
    assert index.snapshot(STREAM) == IndexSnapshot(state(2, NOW + 5), {"c1": indexed(), "c2": indexed("c")})


@pytest.mark.parametrize("number", [0, 1, 2, 4, 5])
async def test_a_publication_that_does_not_follow_what_is_known_changes_nothing(
    index: CampaignIndex, number: int
) -> None:
    for before in (1, 2):
        await index.publish(STREAM, state(before), {"c1": indexed()})
    epoch = epoch_of(index)
    assert not await index.publish(STREAM, state(number, NOW + 9), {"c1": indexed("other")})
    assert epoch_of(index) == epoch
    assert index.snapshot(STREAM) == IndexSnapshot(state(2), {"c1": indexed()})
    assert await index.publish(STREAM, state(3), {})


async def test_who_listens_on_one_replica_is_known_to_the_one_that_leads(redis_backend: Backend) -> None:
    async with fleet_on(redis_backend) as fleet:
        one, two = fleet.one, fleet.two
        one.index.record_use(STREAM, "c1", one.now)
        await one.take_the_lease()
        two.index.record_listening(STREAM, two.now)
        await two.index.beat()
        assert not one.index.is_listened(STREAM)
        await one.index.beat()
        assert one.index.is_listened(STREAM)
        assert one.index.used(STREAM).keys() == one.index.interest(STREAM).keys() == {"c1"}
        await one.index.depart()
        fleet.three.index.record_use(STREAM, "c2", two.now)
        await fleet.three.index.beat()
        assert fleet.three.index.is_leading(STREAM)
        assert fleet.three.index.is_listened(STREAM), "and to the next one"


async def test_a_snapshot_does_not_change_under_who_holds_it(index: CampaignIndex) -> None:
    await index.publish(STREAM, state(1), {"c1": indexed()})
    snapshot = index.snapshot(STREAM)
    await index.publish(STREAM, state(2), {"c1": indexed("b"), "c2": indexed()})
    assert snapshot == IndexSnapshot(state(1), {"c1": indexed()})


async def test_what_callers_asked_for(index: CampaignIndex) -> None:
    now = CLOCK.now()
    index.record_use(STREAM, "old", now - USED_SECONDS - 1)
    index.record_use(STREAM, "c2", now - USED_SECONDS + 60)
    index.record_use(STREAM, "c1", now - 1)
    index.record_use(STREAM, "c1", now)
    index.record_use("another stream", "c3", now)
    assert index.used(STREAM) == {"c1": now, "c2": now - USED_SECONDS + 60}
    assert index.used("another stream") == {"c3": now}


async def test_who_is_asked_for_most(index: CampaignIndex) -> None:
    now = CLOCK.now()
    for seconds in (HALF_LIFE_SECONDS, 0.0):
        index.record_use(STREAM, "once a minute", now - seconds)
    for _ in range(3):
        index.record_use(STREAM, "three times a while ago", now - 2 * HALF_LIFE_SECONDS)
    assert index.interest(STREAM) == {
        "once a minute": pytest.approx(1.5, rel=0.05),
        "three times a while ago": pytest.approx(0.75, rel=0.05),
    }


async def test_the_first_use_wakes_who_waits_and_later_ones_do_not(index: CampaignIndex) -> None:
    waiting = begun(index.wait(STREAM, math.inf))
    index.record_use("another stream", "c1", CLOCK.now())
    await turns()
    assert not waiting.done()
    index.record_use(STREAM, "c1", CLOCK.now())
    await waiting
    waiting = begun(index.wait(STREAM, math.inf))
    index.record_use(STREAM, "c2", CLOCK.now())
    await turns()
    assert not waiting.done()
    waiting.cancel()


async def test_what_comes_while_nobody_waits_ends_the_next_wait(index: CampaignIndex) -> None:
    await index.publish(STREAM, state(1), {})
    async with asyncio.timeout(20):
        await index.wait(STREAM, math.inf)
    waiting = begun(index.wait(STREAM, math.inf))
    await turns()
    assert not waiting.done(), "once"
    waiting.cancel()


async def test_a_wait_ends_with_its_time(index: CampaignIndex) -> None:
    await index.wait(STREAM, 0.001)
    await index.wait_for_change(STREAM, 0.001)


async def test_use_is_no_change_of_the_list_and_a_publication_is(index: CampaignIndex) -> None:
    waiting = begun(index.wait_for_change(STREAM, math.inf))
    index.record_use(STREAM, "c1", CLOCK.now())
    await turns()
    assert not waiting.done()
    await index.publish(STREAM, state(1), {})
    await waiting


# What replicas know of each other's publications.


async def test_another_replica_catches_up(fleet: Fleet) -> None:
    rows = {
        "c1": indexed(status="Ready", fields={"name": "X", "priority": "5"}, edges=(NOW, NOW + 1.5)),
        "c2": indexed("b"),
    }
    published = state(1, flaws={Channel.VOICE: ListFlaw.TOO_LATE})
    epoch = epoch_of(fleet.two.index)
    await fleet.one.index.publish(STREAM, published, rows)
    assert await fleet.two.pull() == fleet.one.index.snapshot(STREAM) == IndexSnapshot(published, rows)
    assert epoch_of(fleet.two.index) > epoch, "what was made from the snapshot is made anew"


@pytest.mark.drill("evidence from the future")
async def test_what_is_published_by_a_clock_that_is_ahead_is_not_believed_and_can_be_published_anew(
    fleet: Fleet,
) -> None:
    ahead = CLOCK.now() + 3600
    rows = {"c1": replace(indexed(), since=ahead), "c2": indexed()}
    await fleet.one.index.publish(STREAM, state(1, began=ahead), rows)
    assert await fleet.two.pull() == IndexSnapshot(replace(state(1), polls={}), {"c2": indexed()})
    assert await fleet.two.index.publish(STREAM, state(2), {"c1": indexed()})
    assert await fleet.three.pull() == IndexSnapshot(state(2), {"c1": indexed(), "c2": indexed()})
    fleet.one.index.step()
    assert fleet.one.index.snapshot(STREAM) == IndexSnapshot(replace(state(1), polls={}), {"c2": indexed()})


async def test_who_missed_several_publications_pulls_them_at_once(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {f"c{n}": indexed() for n in range(5)})
    await fleet.two.pull()
    await fleet.one.index.publish(STREAM, state(2), {"c1": indexed("b")})
    await fleet.one.index.publish(STREAM, state(3), {"c2": indexed("b"), "new": indexed()})
    await fleet.one.index.publish(STREAM, state(4), {"c1": indexed("c")})
    assert await fleet.two.pull() == fleet.one.index.snapshot(STREAM)
    assert await fleet.three.pull() == fleet.one.index.snapshot(STREAM)


async def test_only_what_is_new_is_fetched(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed(), "c2": indexed()})
    before = await fleet.two.pull()
    assert await fleet.two.pull() is before
    # Behind the index's back: it is not looked at again.
    await fleet.raw.hset(fleet.keys.index(STREAM, "rows"), "c2", b"\x00")
    await fleet.one.index.publish(STREAM, state(2), {"c1": indexed("b")})
    assert await fleet.two.pull() == IndexSnapshot(state(2), {"c1": indexed("b"), "c2": indexed()})


async def test_leaders_may_alternate(fleet: Fleet) -> None:
    for number in range(1, 7):
        replica = fleet.replicas[number % 3]
        await replica.pull()
        assert await replica.index.publish(STREAM, state(number), {f"c{number}": indexed()})
    snapshots = [await replica.pull() for replica in fleet.replicas]
    assert snapshots == [IndexSnapshot(state(6), {f"c{number}": indexed() for number in range(1, 7)})] * 3


async def test_a_deposed_leader_changes_nothing(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.two.pull()
    await fleet.two.index.publish(STREAM, state(2), {"c1": indexed("b")})
    assert not await fleet.one.index.publish(STREAM, state(2, NOW + 5), {"c1": indexed("old"), "c2": indexed()})
    assert fleet.one.index.snapshot(STREAM) == IndexSnapshot(state(1), {"c1": indexed()}), "nor what it knows itself"
    assert await fleet.three.pull() == IndexSnapshot(state(2), {"c1": indexed("b")})


async def test_a_deposed_leader_changes_nothing_though_it_has_pulled_meanwhile(fleet: Fleet) -> None:
    # 1. One begins a poll.  2. Two takes over, and publishes.  3. One learns of it.  4. One's poll ends.
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.two.pull()
    for number in (2, 3):
        await fleet.two.index.publish(STREAM, state(number), {"c1": indexed(str(number))})
    await fleet.one.pull()
    assert not await fleet.one.index.publish(STREAM, state(2, NOW + 5), {"c2": indexed()})
    assert await fleet.three.pull() == fleet.one.index.snapshot(STREAM) == IndexSnapshot(state(3), {"c1": indexed("3")})


async def test_of_two_first_publications_one_counts(fleet: Fleet) -> None:
    assert await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    assert not await fleet.two.index.publish(STREAM, state(1), {"c2": indexed()})
    assert await fleet.two.pull() == IndexSnapshot(state(1), {"c1": indexed()})


async def test_of_many_publications_at_once_one_counts(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {})
    for replica in fleet.replicas:
        await replica.pull()
    attempts = [
        replica.index.publish(STREAM, state(2), {f"c{n}": indexed()}) for n, replica in enumerate(fleet.replicas)
    ]
    assert sorted(await asyncio.gather(*attempts)) == [False, False, True]
    assert len((await fleet.three.pull()).campaigns) == 1


async def test_streams_share_nothing(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.one.index.publish("another stream", state(1), {"c2": indexed()})
    await fleet.two.index.pull("another stream")
    assert fleet.two.index.snapshot("another stream").campaigns == {"c2": indexed()}
    assert fleet.two.index.snapshot(STREAM) == BARE


# A Redis that forgets, is lost, or holds something else.


async def test_after_redis_came_back_empty_nothing_is_known(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.two.pull()
    await fleet.empty()
    assert await fleet.two.pull() == BARE
    assert await fleet.one.pull() == BARE
    assert await fleet.two.index.publish(STREAM, state(1), {"c2": indexed()})
    assert await fleet.one.pull() == IndexSnapshot(state(1), {"c2": indexed()})


async def test_one_that_missed_it_takes_nothing_over_from_before(fleet: Fleet) -> None:
    # The number may well be the one it has seen: it is another index's.
    for number in (1, 2):
        await fleet.one.index.publish(STREAM, state(number), {"c1": indexed(), "gone": indexed()})
    await fleet.two.pull()
    await fleet.empty()
    for number in (1, 2):
        await fleet.three.index.publish(STREAM, state(number), {"c1": indexed("b")})
    assert not await fleet.one.index.publish(STREAM, state(3), {"c1": indexed("old")})
    assert await fleet.two.pull() == IndexSnapshot(state(2), {"c1": indexed("b")})


async def test_a_poll_from_before_redis_came_back_empty_is_not_posted(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.empty()
    assert not await fleet.one.index.publish(STREAM, state(2), {"c2": indexed()})
    await fleet.one.pull()
    assert not await fleet.one.index.publish(STREAM, state(2), {"c2": indexed()})
    assert await fleet.three.pull() == BARE


async def test_rows_that_outlived_their_head_are_no_part_of_the_next(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"gone": indexed()})
    await fleet.raw.delete(fleet.names()[0])
    await fleet.two.index.publish(STREAM, state(1), {"c1": indexed()})
    assert await fleet.three.pull() == IndexSnapshot(state(1), {"c1": indexed()})


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"0" * 32,
        b"\xff" * 100,
        b"e" * 16 + b"%016d" % 7 + b"\xc1",
        b"e" * 16 + b"%016d" % 7 + b"\x93\x01\x02\x03",
    ],
    ids=["empty", "short", "digits", "noise", "no-msgpack", "later-version"],
)
async def test_a_foreign_head_is_no_knowledge(fleet: Fleet, value: bytes) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.two.pull()
    await fleet.raw.set(fleet.names()[0], value)
    assert (await fleet.two.pull()).state == IndexState(), "nothing is validated"
    assert (await fleet.three.pull()).state == IndexState()
    assert await fleet.two.index.publish(STREAM, state(1), {"c2": indexed()}), "the next one takes its place"
    assert await fleet.three.pull() == IndexSnapshot(state(1), {"c2": indexed()})
    assert await fleet.one.pull() == IndexSnapshot(state(1), {"c2": indexed()})


def made_up(name: str, value: object, *secrets: bytes) -> bytes:
    """By somebody who knows everything but the key."""
    return Seal("index", Seals(lambda: secrets)).close(index_module._encode(value), name)


@pytest.mark.drill(
    "an index of lists that somebody else wrote into Redis",
    planted="noise; rows and heads made up without the key, moved, of another key",
    seen="nothing is validated by it, and the next poll takes its place",
)
@pytest.mark.parametrize("secrets", [(), (b"another key of 32 characters ...",)])
@pytest.mark.parametrize("what", ["noise", "row", "moved", "head", "number"])
async def test_a_foreign_row_or_head_is_no_knowledge(fleet: Fleet, what: str, secrets: tuple[bytes, ...]) -> None:
    for replica in fleet.replicas:
        replica.index._seal = Seal("index", Seals(lambda: (b"the key of 32 characters .......",)))
    head, rows, _ = fleet.names()
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed(), "c2": indexed()})
    stood = await fleet.raw.get(head)
    match what:
        case "noise":
            await fleet.raw.hset(rows, "c1", b"\xc1")
        case "row":
            await fleet.raw.hset(rows, "c1", made_up(f"{rows}:c1", indexed("b"), *secrets))
        case "moved":
            await fleet.raw.hset(rows, "c1", await fleet.raw.hget(rows, "c2"))
        case "head":
            await fleet.raw.set(head, stood[:32] + made_up(head, state(1, NOW + 5), *secrets))
        case _:
            await fleet.raw.set(head, stood[:16] + b"%016d" % 9 + stood[32:])
    assert await fleet.two.pull() == BARE
    assert await fleet.two.index.publish(STREAM, state(1), {"c3": indexed()}), "the next one takes its place"
    assert await fleet.three.pull() == IndexSnapshot(state(1), {"c3": indexed()}), "and no row of it stays"
    assert await fleet.one.pull() == IndexSnapshot(state(1), {"c3": indexed()})
    assert await fleet.three.index.publish(STREAM, state(2), {"c4": indexed()})


async def test_what_is_no_index_and_goes_by_itself_keeps_nobody_from_publishing(fleet: Fleet) -> None:
    await fleet.raw.set(fleet.names()[0], b"x" * 40)
    assert await fleet.two.pull() == BARE
    await fleet.empty()
    await fleet.two.pull()
    assert await fleet.two.index.publish(STREAM, state(1), {"c1": indexed()})


async def test_keys_of_another_type_stop_nothing_but_the_index(fleet: Fleet) -> None:
    await fleet.raw.rpush(fleet.names()[0], "x")
    await fleet.raw.rpush(fleet.keys.used(STREAM), "x")
    assert await fleet.two.pull() == BARE
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.take_the_lease()
    assert set(fleet.one.index.used(STREAM)) == {"c1"}
    assert fleet.one.index.snapshot(STREAM) == BARE
    assert await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    assert await fleet.two.pull() == IndexSnapshot(state(1), {"c1": indexed()})
    assert fleet.one.link.is_up


async def test_while_redis_is_lost_nobody_holds_a_lease_and_what_was_asked_for_is_kept(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.take_the_lease()
    fleet.one.link._lose("timeout")
    assert not fleet.one.index.is_leading(STREAM), "from the first moment"
    fleet.one.index.record_use(STREAM, "c2", fleet.one.now)
    assert not await fleet.one.index.publish(STREAM, state(2), {})
    for _ in range(2):
        with pytest.raises(StoreDownError):
            await fleet.one.index.beat()
    fleet.one.index.record_use(STREAM, "c2", fleet.one.now)
    assert fleet.one.index.snapshot(STREAM) == IndexSnapshot(state(1), {"c1": indexed()})
    await fleet.one.link.look()
    assert not fleet.one.index.is_leading(STREAM), "until a beat was answered"
    await fleet.two.index.beat()
    fleet.two.index.record_use(STREAM, "c1", fleet.two.now)
    await fleet.two.index.beat()
    assert not fleet.two.index.is_leading(STREAM), "the lease of before has not lapsed"
    await fleet.one.take_the_lease()
    assert set(fleet.one.index.used(STREAM)) == {"c1", "c2"}
    assert dict(await used_in_redis(fleet)).keys() == {"c1", "c2"}
    assert fleet.one.index.interest(STREAM)["c2"] == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        b"OK",
        7,
        [],
        [0, 0, [], [], []],
        [0, 0, [b"r1"], [], [b""]],
        [0, 0, [b"r1", b"soon"], [], [b""]],
        [0, 0, [], [], [7]],
        [b"x", 0, [], [], [b""]],
    ],
)
async def test_a_reply_that_is_none_counts_as_lost(fleet: Fleet, reply: object) -> None:
    async def odd(**_: object) -> object:
        return reply

    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    fleet.one.beat._beat = odd
    with pytest.raises(StoreDownError, match="protocol"):
        await fleet.one.index.beat()
    assert not fleet.one.index.is_leading(STREAM)
    assert fleet.one.beat.replicas() == {}
    assert fleet.one.link.state == "protocol"
    await fleet.one.link.look()
    del fleet.one.beat._beat
    fleet.one.beat._beat = fleet.one.link.script("beat.lua")
    await fleet.one.take_the_lease()
    assert [name for name, _ in await used_in_redis(fleet)] == ["c1"], "published with the next"


@pytest.mark.drill(
    "names in Redis that are no text",
    planted="among campaigns in use, replicas and changed indexes",
    seen="beats and leases go on, nothing of it is asked of the platform",
)
async def test_names_that_are_no_text_stop_no_beat_and_are_no_campaigns(fleet: Fleet) -> None:
    now, odd = fleet.one.now, (b"\xff\xfe", b"\xed\xa0\x80", b"../../x?y#", b"x" * 5_000, b"c2")
    for name in (fleet.keys.beat("replicas"), fleet.keys.beat("indexes"), fleet.keys.used(STREAM)):
        await fleet.raw.zadd(name, dict.fromkeys(odd, now))
    fleet.one.index.record_use(STREAM, "c1", now)
    await fleet.one.take_the_lease()
    await fleet.one.index.beat()
    assert fleet.one.index.is_leading(STREAM)
    assert set(fleet.one.index.used(STREAM)) == {"c1", "c2"}


async def test_beats_go_on_whatever_happens_to_one(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BEAT_SECONDS", 0.001)
    failures: list[Exception] = [LookupError("unexpected"), StoreDownError("timeout")]
    beat = fleet.one.index.beat

    async def failing() -> None:
        if failures:
            raise failures.pop()
        await beat()

    monkeypatch.setattr(fleet.one.index, "beat", failing)
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    fleet.one.index.start(fleet.tasks, [STREAM])
    async with asyncio.timeout(20):
        while not fleet.one.index.is_leading(STREAM):
            await fleet.one.index.wait(STREAM, 1.0)


# What is in use.


async def used_in_redis(fleet: Fleet) -> list[tuple[str, float]]:
    rows = await fleet.raw.zrange(fleet.keys.used(STREAM), 0, -1, withscores=True)
    return [(name.decode(), score) for name, score in rows]


async def test_who_holds_the_lease_learns_what_callers_of_all_replicas_asked_for(fleet: Fleet) -> None:
    now = fleet.one.now
    fleet.one.index.record_use(STREAM, "c1", now)
    await fleet.one.index.beat()
    fleet.two.index.record_use(STREAM, "c1", now - 5)
    for _ in range(4):
        fleet.two.index.record_use(STREAM, "c2", now - 50)
    fleet.three.index.record_use(STREAM, "c3", now - 60)
    assert await fleet.leading() == [True, False, False]
    assert set(fleet.two.index.used(STREAM)) == {"c1", "c2"}, "its own"
    await fleet.one.index.beat()
    assert fleet.one.index.used(STREAM) == pytest.approx({"c1": now, "c2": now - 50, "c3": now - 60})
    interest = fleet.one.index.interest(STREAM)
    assert sorted(interest, key=interest.__getitem__) == ["c3", "c1", "c2"]
    assert interest["c2"] == pytest.approx(4 * 2 ** (-50 / HALF_LIFE_SECONDS), rel=0.1)
    await fleet.leading()
    again = fleet.one.index.interest(STREAM)
    assert again == pytest.approx(interest, rel=0.1), "each read counts once"


async def test_a_new_leader_finds_what_is_in_use(fleet: Fleet) -> None:
    now = fleet.one.now
    fleet.one.index.record_use(STREAM, "c1", now)
    fleet.one.index.record_use(STREAM, "c2", now - 70)
    await fleet.one.index.beat()
    await fleet.one.index.depart()
    fleet.two.index.record_use(STREAM, "c3", now)
    assert set(fleet.two.index.used(STREAM)) == {"c3"}
    await fleet.two.take_the_lease()
    assert fleet.two.index.used(STREAM) == pytest.approx({"c1": now, "c2": now - 70, "c3": now})


async def test_only_what_can_be_an_id_is_taken_over(fleet: Fleet) -> None:
    odd = [b"\xff\xfe", b"../../evil?x=1#", b"%2e%2e", b"", b"x" * 5000]
    await fleet.raw.zadd(fleet.keys.used(STREAM), {**dict.fromkeys(odd, fleet.one.now), b"c2": fleet.one.now})
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.index.beat()
    assert set(fleet.one.index.used(STREAM)) == {"c1", "c2"}


async def test_what_nobody_asked_for_in_a_long_time_is_forgotten(fleet: Fleet) -> None:
    now = fleet.one.now
    fleet.one.index.record_use(STREAM, "new", now)
    for id_, seconds in (("old", USED_SECONDS + 10), ("not-so-old", USED_SECONDS - 10)):
        await fleet.raw.zadd(fleet.keys.used(STREAM), {id_: now - seconds})
    await fleet.one.index.beat()
    assert {name for name, _ in await used_in_redis(fleet)} == {"new", "not-so-old"}
    assert set(fleet.one.index.used(STREAM)) == {"new", "not-so-old"}
    assert 0 < await fleet.raw.ttl(fleet.keys.used(STREAM)) <= USED_SECONDS


async def test_more_than_one_beat_can_tell_goes_with_the_next(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_NOTES", 3)
    for n in range(5):
        fleet.one.index.record_use(STREAM, f"c{n}", fleet.one.now)
        fleet.one.index.record_use("another stream", f"c{n}", fleet.one.now)
    told = []
    for _ in range(4):
        await fleet.one.index.beat()
        told.append(sum([await fleet.raw.zcard(fleet.keys.used(name)) for name in (STREAM, "another stream")]))
    assert told == [3, 6, 9, 10]
    assert not fleet.one.index._unsent


async def test_five_thousand_campaigns_in_one_beat(fleet: Fleet) -> None:
    for n in range(index_module.MAX_NOTES):
        fleet.one.index.record_use(STREAM, f"cd-{n:0120d}", fleet.one.now)
        fleet.two.index.record_use(STREAM, f"ab-{n:0120d}", fleet.one.now)
    for replica in (fleet.one, fleet.two, fleet.one):
        await replica.index.beat()
    assert await fleet.raw.zcard(fleet.keys.used(STREAM)) == 2 * index_module.MAX_NOTES
    assert len(fleet.one.index.used(STREAM)) == 2 * index_module.MAX_NOTES


@pytest.mark.parametrize(
    "line",
    ["\x00", "c3 1", "c3 1 NOW 1", "c3 one NOW", "c1 1 nan", "c3 inf NOW", "c/3 1 NOW", " 1 NOW", "ü 1 NOW", "\n"],
)
async def test_notes_of_another_program_are_none(fleet: Fleet, line: str) -> None:
    now = f"{fleet.one.now:.6f}"
    lines = f"{line}\nc2 1 NOW\n".replace("NOW", now).encode("latin-1")
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.index.beat()
    await fleet.raw.hset(fleet.keys.beat("notes"), STREAM, lines)
    await fleet.one.index.beat()
    assert set(fleet.one.index.used(STREAM)) == {"c1", "c2"}


async def test_notes_from_the_future_are_from_now(fleet: Fleet) -> None:
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.raw.hset(fleet.keys.beat("notes"), STREAM, b"c2 1 %f\n" % (fleet.one.now + 1e6))
    await fleet.one.index.beat()
    assert fleet.one.index.used(STREAM)["c2"] <= fleet.one.now


async def test_notes_that_no_leader_fetches_have_a_bound(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat_module, "LONGEST_NOTES", 100)
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.index.beat()
    for n in range(20):
        fleet.two.index.record_use(STREAM, f"c{n}", fleet.two.now)
        await fleet.two.index.beat()
    assert 0 < len(await fleet.raw.hget(fleet.keys.beat("notes"), STREAM)) <= 100


# Who looks after it.


async def use(*replicas: Replica, stream: str = STREAM) -> None:
    for replica in replicas:
        replica.index.record_use(stream, "c1", replica.now)


async def test_who_holds_the_lease_keeps_the_lease(fleet: Fleet) -> None:
    await use(*fleet.replicas)
    for _ in range(3):
        assert await fleet.leading() == [True, False, False]


async def test_a_stream_that_nobody_uses_is_nobodys_and_costs_nothing(fleet: Fleet) -> None:
    assert await fleet.leading() == [False, False, False]
    assert await fleet.raw.exists(fleet.keys.beat("leases")) == 0
    await use(fleet.two)
    assert await fleet.leading() == [False, True, False]


async def test_a_stream_that_only_others_use_keeps_its_leader(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked first may ask no more: the leader counts what is published to it as use."""
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now - USED_SECONDS + 0.2)
    await use(fleet.two)
    assert await fleet.leading() == [True, False, False]
    await fleet.one.index.beat()
    await until(
        lambda: not ("c1" in fleet.one.index._usage._streams[STREAM] and len(fleet.one.index.used(STREAM)) > 1), 5
    )
    assert await fleet.leading() == [True, False, False]


async def test_a_lease_is_lost_when_nothing_is_in_use_any_more(fleet: Fleet) -> None:
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now - USED_SECONDS + 0.2)
    await fleet.one.take_the_lease()
    await fleet.one.index.wait(STREAM, 0.0)
    async with asyncio.timeout(20):
        while fleet.one.index.is_leading(STREAM):
            await fleet.one.index.beat()
            await asyncio.sleep(0.02)
        await fleet.one.index.wait(STREAM, math.inf)


async def test_a_new_lease_wakes_who_waits_for_it(fleet: Fleet) -> None:
    await use(fleet.one)
    await fleet.one.index.wait(STREAM, 0.0)
    waiting = begun(fleet.one.index.wait(STREAM, math.inf))
    await fleet.one.index.beat()
    await waiting
    assert fleet.one.index.is_leading(STREAM)
    waiting = begun(fleet.one.index.wait(STREAM, math.inf))
    await fleet.one.index.beat()
    await turns()
    assert not waiting.done(), "a lease that goes on is nothing new"
    waiting.cancel()


async def test_one_replica_holds_the_lease_until_it_leaves(fleet: Fleet) -> None:
    await use(*fleet.replicas)
    await use(fleet.two, stream="another stream")
    assert await fleet.leading() == [True, False, False]
    assert fleet.two.index.is_leading("another stream")
    await fleet.two.index.depart()
    assert not fleet.two.index.is_leading("another stream")
    assert await fleet.leading() == [True, False, False], "only who holds the lease can release it"
    await fleet.one.index.depart()
    assert not fleet.one.index.is_leading(STREAM)
    await fleet.two.index.beat()
    assert await fleet.leading() == [False, True, False]


@pytest.mark.drill("fences, leases and numbers that somebody else wrote into Redis")
async def test_a_lease_that_ends_later_than_any_of_ours_is_nobodys(fleet: Fleet) -> None:
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.raw.hset(fleet.keys.beat("leases"), STREAM, b"somebody 99999999999999")
    await fleet.one.index.beat()
    assert fleet.one.index.is_leading(STREAM)


async def test_whoever_leaves_late_takes_no_lease_from_another(fleet: Fleet) -> None:
    await use(*fleet.replicas)
    await fleet.one.index.beat()
    # Its lease lapsed, and it has not noticed yet.
    await fleet.raw.hdel(fleet.keys.beat("leases"), STREAM)
    await fleet.two.index.beat()
    await fleet.one.index.depart()
    await fleet.three.index.beat()
    assert [replica.index.is_leading(STREAM) for replica in fleet.replicas] == [False, True, False]


async def test_of_all_at_once_one_holds_the_lease(fleet: Fleet) -> None:
    await use(*fleet.replicas)
    for _ in range(5):
        await asyncio.gather(*(replica.index.beat() for replica in fleet.replicas))
        assert sorted(replica.index.is_leading(STREAM) for replica in fleet.replicas) == [False, False, True]


async def test_a_dead_leader_is_replaced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await use(fleet.one, fleet.two)
    monkeypatch.setattr(beat_module, "LEASE_SECONDS", 0.3)
    monkeypatch.setattr(index_module, "LEASE_SECONDS", 0.3)
    await fleet.one.take_the_lease()
    async with asyncio.timeout(20):
        while not fleet.two.index.is_leading(STREAM):
            # Never both, whatever the first may think.
            await fleet.two.index.beat()
            assert not (fleet.two.index.is_leading(STREAM) and fleet.one.index.is_leading(STREAM))
            await asyncio.sleep(0.02)


async def test_a_replica_without_anybody_to_look_after_lists_holds_no_lease(fleet: Fleet) -> None:
    fleet.one.index._may_hold_leases = lambda: False
    await use(fleet.one, fleet.two)
    assert await fleet.leading() == [False, True, False]
    await fleet.one.index.beat()
    assert not fleet.one.index.is_leading(STREAM)


async def test_a_lease_of_another_server_is_none(fleet: Fleet) -> None:
    await use(fleet.one)
    await fleet.one.index.beat()
    fleet.one.link.generation += 1
    assert not fleet.one.index.is_leading(STREAM)
    await fleet.one.take_the_lease()


# Who is there.


async def test_replicas_know_of_each_other(fleet: Fleet) -> None:
    one, two, three = fleet.replicas
    assert one.beat.replicas() == {}
    for replica in (one, two, one):
        await replica.index.beat()
    assert one.beat.replicas() == {name: pytest.approx(CLOCK.now(), abs=5) for name in (one.beat.name, two.beat.name)}
    seen = dict(one.beat.replicas())
    await one.index.beat()
    assert one.beat.replicas()[one.beat.name] > seen[one.beat.name]
    assert one.beat.replicas()[two.beat.name] == seen[two.beat.name], "as it was last seen"
    await two.index.depart()
    await three.index.beat()
    assert set(three.beat.replicas()) == {one.beat.name, three.beat.name}


async def test_a_replica_that_is_not_seen_any_more_is_forgotten(fleet: Fleet) -> None:
    await fleet.raw.zadd(
        fleet.keys.beat("replicas"), {"dead": CLOCK.now() - beat_module.FORGET_SECONDS - 5, "late": 5e9}
    )
    await fleet.one.index.beat()
    assert set(fleet.one.beat.replicas()) == {fleet.one.beat.name, "late"}


# Which indexes have changed.


async def pulled(replica: Replica) -> set[str]:
    """The indexes that a beat shows to have changed."""
    replica.index._streams = frozenset({STREAM, "another stream"})
    replica.index._behind.clear()
    await replica.index.beat()
    return set(replica.index._behind)


async def test_a_beat_tells_of_indexes_that_others_have_changed(fleet: Fleet) -> None:
    for replica in fleet.replicas:
        await replica.index.beat()
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    assert await pulled(fleet.two) == set(), "not published yet"
    assert await pulled(fleet.one) == set(), "its own"
    assert await pulled(fleet.two) == {STREAM}
    assert await pulled(fleet.two) == set(), "once"
    await fleet.two.pull()
    await fleet.two.index.publish(STREAM, state(2), {})
    await fleet.two.index.publish("another stream", state(1), {})
    await fleet.two.index.beat()
    assert await pulled(fleet.one) == await pulled(fleet.three) == {STREAM, "another stream"}


async def test_a_new_replica_looks_at_all_indexes(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.one.index.beat()
    assert await pulled(fleet.three) == {STREAM}


async def test_a_publication_that_could_not_be_told_is_told_later(fleet: Fleet) -> None:
    for replica in fleet.replicas:
        await replica.index.beat()
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    fleet.one.link._lose("timeout")
    with pytest.raises(StoreDownError):
        await fleet.one.index.beat()
    await fleet.one.link.look()
    await fleet.one.index.beat()
    assert await pulled(fleet.two) == {STREAM}


async def test_after_redis_came_back_empty_all_indexes_are_looked_at(fleet: Fleet) -> None:
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.one.index.beat()
    await fleet.two.pull()
    await fleet.two.index.beat()
    await fleet.raw.delete(*fleet.names(), *(fleet.keys.beat(what) for what in ("replicas", "indexes")))
    assert await pulled(fleet.two) == {STREAM}
    assert await fleet.two.pull() == BARE


async def test_announcements_that_begin_again_are_not_missed(fleet: Fleet) -> None:
    for number in (1, 2, 3):
        await fleet.one.index.publish(STREAM, state(number), {})
        await fleet.one.index.beat()
    await fleet.two.pull()
    await fleet.two.index.beat()
    await fleet.raw.delete(fleet.keys.beat("indexes"))
    await fleet.one.index.publish("another stream", state(1), {})
    await fleet.one.index.beat()
    assert await pulled(fleet.two) == {STREAM, "another stream"}


async def test_a_deposed_leader_looks_at_the_index_at_once(fleet: Fleet) -> None:
    fleet.one.index._streams = frozenset({STREAM})
    await fleet.two.index.publish(STREAM, state(1), {})
    assert not await fleet.one.index.publish(STREAM, state(1), {})
    assert fleet.one.index._behind == {STREAM}


async def test_an_index_from_before_its_latest_changes_is_read_whole(fleet: Fleet) -> None:
    """A copy became the master, and had not received all: what was lost there is no knowledge here either."""
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed(), "c2": indexed()})
    held = [await fleet.raw.dump(name) for name in fleet.names()]
    await fleet.one.index.publish(STREAM, state(2), {"c1": indexed("b"), "c3": indexed()})
    assert await fleet.two.pull() == fleet.one.index.snapshot(STREAM)
    for name, value in zip(fleet.names(), held, strict=True):
        await fleet.raw.restore(name, 0, value, replace=True)
    for replica in (fleet.one, fleet.two):
        assert await replica.pull() == IndexSnapshot(state(1), {"c1": indexed(), "c2": indexed()})


# What it costs.


async def test_an_idle_replica_sends_one_command_a_beat_for_five_hundred_streams(
    real_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "BEAT_SECONDS", 0.01)
    one = real_fleet.one
    one.index.start(real_fleet.tasks, [f"identity-{n}" for n in range(500)])
    async with asyncio.timeout(20):
        while one.beat.name not in one.beat.replicas():
            await asyncio.sleep(0.001)
        before, sent, last = await commands_of(real_fleet), 0, one.beat.replicas()
        while sent < 10:
            await asyncio.sleep(0)
            sent += one.beat.replicas() is not last
            last = one.beat.replicas()
    after = await commands_of(real_fleet)
    # Of those that came from outside; beside them only what one script does.
    assert after["evalsha"] - before["evalsha"] in {sent, sent + 1}
    assert set(after) - {"info"} == set(before) - {"info"}
    inside = sum(after.values()) - sum(before.values()) - sent
    assert inside < 10 * sent
    assert len(one.index._wakes._events) == 0, "nobody was woken"


async def commands_of(fleet: Fleet) -> dict[str, int]:
    """How often each command was done, by the server's own count."""
    stats = await fleet.raw.info("commandstats")
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in stats.items()}


async def test_streams_in_use_are_published_in_one_command_as_well(real_fleet: Fleet) -> None:
    for replica in (real_fleet.one, real_fleet.two):
        for n in range(500):
            await use(replica, stream=f"identity-{n}")
        await replica.index.beat()
    before = await commands_of(real_fleet)
    for replica in (real_fleet.one, real_fleet.two):
        await use(replica, stream="identity-7")
        await replica.index.beat()
    after = await commands_of(real_fleet)
    assert after["evalsha"] - before["evalsha"] == 2
    assert after.get("zrangebyscore", 0) - before.get("zrangebyscore", 0) == 2, "no use is fetched once more"
    assert len(real_fleet.one.index._leases) == 500


# Size.


async def test_five_thousand_rows_in_one_publication(fleet: Fleet) -> None:
    rows = {f"cd-{n:08d}": indexed(f"2026-02-03T14:06:48.{n:03d}Z", fields={"name": "x" * 40}) for n in range(5000)}
    assert await fleet.one.index.publish(STREAM, state(1), rows)
    assert await fleet.two.pull() == IndexSnapshot(state(1), rows)
    changed = {id_: replace(row, revision="b") for id_, row in rows.items()}
    assert await fleet.one.index.publish(STREAM, state(2), changed)
    assert await fleet.two.pull() == IndexSnapshot(state(2), changed)


# Following by itself.


async def test_a_waiter_receives_a_publication(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.two.index.start(fleet.tasks, [STREAM])
    fleet.one.index.start(fleet.tasks, [STREAM])
    fleet.one.index.record_use(STREAM, "c1", fleet.one.now)
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    async with asyncio.timeout(20):
        while fleet.two.index.snapshot(STREAM) == BARE:
            await fleet.two.index.wait_for_change(STREAM, 1.0)
        while not fleet.one.index.is_leading(STREAM):
            await fleet.one.index.wait(STREAM, 1.0)
    assert fleet.two.index.snapshot(STREAM) == IndexSnapshot(state(1), {"c1": indexed()})


async def test_a_waiter_that_receives_it_waits_for_no_beat(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BEAT_SECONDS", 30.0)
    bus, index = fleet.two.bus, fleet.two.index
    fleet.tasks.spawn(bus.listen(lambda *_: None, lambda: None, lambda: None), name="listen")
    index.start(fleet.tasks, [STREAM])
    async with asyncio.timeout(20):
        while bus.silent_for() or not fleet.two.beat.replicas():
            await asyncio.sleep(0.005)
        await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
        while index.snapshot(STREAM) == BARE:
            await index.wait_for_change(STREAM, 1.0)
    assert index.snapshot(STREAM) == IndexSnapshot(state(1), {"c1": indexed()})


async def test_an_index_that_cannot_be_read_now_is_read_later(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "BEAT_SECONDS", 0.01)
    failures: list[Exception] = [StoreDownError("timeout"), LookupError("unexpected")]
    pull = fleet.two.index.pull

    async def failing(stream: str) -> None:
        if failures:
            raise failures.pop()
        await pull(stream)

    monkeypatch.setattr(fleet.two.index, "pull", failing)
    await fleet.one.index.publish(STREAM, state(1), {"c1": indexed()})
    await fleet.one.index.beat()
    fleet.two.index.start(fleet.tasks, [STREAM])
    async with asyncio.timeout(20):
        while fleet.two.index.snapshot(STREAM) == BARE:
            await fleet.two.index.wait_for_change(STREAM, 1.0)


async def test_a_publication_wakes_who_waits_for_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campaign_gateway.store.redis.bus.POLL_SECONDS", 30.0)
    messages: list[str] = []
    fleet.tasks.spawn(
        fleet.two.bus.listen(lambda key, _: messages.append(key), lambda: None, lambda: None), name="listen"
    )
    async with asyncio.timeout(20):
        while fleet.two.bus.silent_for():
            await asyncio.sleep(0.005)
        waiting = begun(fleet.two.bus.wait(STREAM, 30.0))
        await asyncio.sleep(0.02)
        await fleet.one.index.publish(STREAM, state(1), {})
        await waiting
    assert messages == ["swept"], "no word that concerns an entry"
