"""One suite that every log of changes passes: memory, and Redis on fakeredis, a real server, a real cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import ChangeType, Finding, SeenBy
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, ListFlaw, Poll
from campaign_gateway.proxy.change_window import Window
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import CampaignIndex, ChangeLog
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.redis import changes as changes_module
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.changes import RedisChanges
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.seal import NO_SECRET
from tests.support.backends import Backend, on_fakeredis
from tests.support.builders import stamp
from tests.support.meters import CountingMeter
from tests.support.waiting import until

STREAM, OTHER = "identity-1", "identity-2"
VOICE, SMS = Channel
MOST = 5


def indexed(changed: float, status: str = "Ready", **fields: Any) -> IndexedCampaign:
    revision = stamp(changed)
    listed = IndexedCampaign(VOICE, f"{revision}||{status}", revision, changed, has_changed=False, status=status)
    return replace(listed, **{"fields": {"name": "A name"}, **fields})


@dataclass
class Replica:
    """An index with its log."""

    index: CampaignIndex
    log: ChangeLog
    clock: StoreClock

    async def publish(self, stream: str = STREAM, **updates: IndexedCampaign) -> bool:
        """As a leader does after a poll that went through."""
        if isinstance(self.index, RedisIndex):
            await self.index.pull(stream)
        number = self.index.snapshot(stream).state.number + 1
        state = IndexState({VOICE: Poll(self.clock.now(), full_scan_at=1.0)}, number=number)
        return await self.index.publish(stream, state, updates)

    async def window(self, stream: str = STREAM) -> Window:
        window = await self.log.follow(stream)
        assert window is not None
        return window

    def said(self, window: Window, position: tuple[int, int] | None = None) -> list[tuple[str, str | None, str | None]]:
        entries = window.after(position, self.clock.now())
        assert entries is not None
        return [(e.change.type.value.partition(".")[2], e.change.campaign, e.change.status) for e in entries]


@dataclass
class Fleet:
    """Two replicas; in memory both are one."""

    replicas: list[Replica]
    raw: Any = None
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def one(self) -> Replica:
        return self.replicas[0]

    @property
    def two(self) -> Replica:
        return self.replicas[-1]


@asynccontextmanager
async def fleet_on(backend: Backend | None) -> AsyncIterator[Fleet]:
    clock = StoreClock()
    if backend is None:
        local = LocalChanges(clock.now, MOST)
        yield Fleet([Replica(LocalIndex(Epoch(), clock.now, local), local, clock)])
        return
    async with AsyncExitStack() as stack:
        fleet = Fleet([], backend.raw)
        for _ in range(2):
            clock = StoreClock()
            link = backend.open_link(clock, CountingMeter())
            stack.push_async_callback(link.close)
            await link.start(fleet.tasks)
            bus = Bus(link, backend.keys)
            log = RedisChanges(link, backend.keys, NO_SECRET, MOST)
            index = RedisIndex(link, bus, Beat(link, backend.keys, bus.replica_id), backend.keys, Epoch(), log=log)
            log.start(fleet.tasks)
            fleet.replicas.append(Replica(index, log, clock))
        stack.push_async_callback(fleet.tasks.close)
        yield fleet


@pytest.fixture
async def fleet(any_backend: Backend | None) -> AsyncIterator[Fleet]:
    async with fleet_on(any_backend) as opened:
        yield opened


@pytest.fixture
async def redis_fleet(redis_backend: Backend) -> AsyncIterator[Fleet]:
    async with fleet_on(redis_backend) as opened:
        yield opened


async def test_what_an_index_publishes_is_heard_by_all_who_follow(fleet: Fleet) -> None:
    one, two = fleet.one, fleet.two
    early, other = await two.window(), await two.window(OTHER)
    now = one.clock.now()
    assert await one.publish(c1=indexed(now - 90), c2=indexed(now - 80))
    assert await one.publish(c1=indexed(now - 5, "Active"), c3=indexed(now - 4))
    assert await two.publish(c2=indexed(now, revision="", is_listed=False))
    expected = [("status-changed", "c1", "Active"), ("created", "c3", "Ready"), ("deleted", "c2", None)]
    await until(lambda: two.said(early) == expected)
    assert one.said(await one.window()) == expected, "who comes late finds what is kept"
    assert two.said(other) == [], "nothing of another stream"


async def test_a_cursor_brings_what_came_after_it_and_is_refused_once_that_is_gone(fleet: Fleet) -> None:
    window = await fleet.two.window()
    now = fleet.one.clock.now()
    await fleet.one.publish(c1=indexed(now - 90))
    positions = [window.last]
    for number in range(MOST + 2):
        await fleet.one.publish(c1=indexed(now - 50 + number))
        await until(lambda: window.last != positions[-1])
        positions.append(window.last)
    assert window.after(positions[0], now) is None
    assert window.after(positions[1], now) is None
    for number in range(2, MOST + 3):
        entries = window.after(positions[number], now)
        assert entries is not None
        assert [entry.position for entry in entries] == positions[number + 1 :]
    assert window.after((positions[-1][0] + 1, 0), now) is None, "nobody has been there yet"
    assert window.after(positions[2], now + 90_000) is None, "nor is it kept for longer than a day"


async def test_what_a_read_shows_is_said_once(fleet: Fleet) -> None:
    now = fleet.one.clock.now()
    await fleet.one.publish(c1=indexed(now - 90))
    finding = Finding(SeenBy.READ, now + 1, VOICE, "A name", "Active", stamp(now))
    await asyncio.gather(*(replica.log.note(STREAM, "c1", finding) for replica in fleet.replicas for _ in range(5)))
    await fleet.one.publish(c1=indexed(now, "Active"))
    window = await fleet.one.window()
    await until(lambda: len(fleet.one.said(window)) == 1)
    assert fleet.one.said(window) == [("status-changed", "c1", "Active")]


async def test_a_list_that_is_not_trusted_is_said(fleet: Fleet) -> None:
    await fleet.one.publish()
    window = await fleet.two.window()
    for number, flaws in enumerate(({VOICE: ListFlaw.UNSORTED}, {VOICE: ListFlaw.UNSORTED}, {}), 2):
        assert await fleet.one.index.publish(STREAM, IndexState(flaws=flaws, number=number), {})
    await until(lambda: len(fleet.two.said(window)) == 2)
    assert [said[0] for said in fleet.two.said(window)] == ["degraded", "recovered"]


async def test_a_list_that_is_not_trusted_is_known_to_be_when_its_log_no_longer_says_so(fleet: Fleet) -> None:
    now = fleet.one.clock.now()
    await fleet.one.publish(c1=indexed(now - 90))
    flaws = {VOICE: ListFlaw.UNSORTED}
    assert await fleet.one.index.publish(STREAM, IndexState(flaws=flaws, number=2), {})
    for number in range(MOST + 1):
        finding = Finding(SeenBy.READ, now + number, VOICE, "A name", "Active", stamp(now + number))
        await fleet.one.log.note(STREAM, "c1", finding)
    window = await fleet.two.window()
    await until(lambda: len(fleet.two.said(window)) == MOST)
    assert "degraded" not in {said[0] for said in fleet.two.said(window)}
    (entry,) = window.degraded(window.last)
    assert (entry.change.type, entry.change.channel, entry.change.reason) == (ChangeType.DEGRADED, VOICE, "unsorted")
    assert entry.position < window.floor
    assert abs(entry.change.at - now) < 60
    assert await fleet.one.index.publish(STREAM, IndexState(number=3), {})
    await until(lambda: not window.degraded(window.last))


async def test_a_write_is_named_where_its_change_is_seen(fleet: Fleet) -> None:
    now = fleet.one.clock.now()
    await fleet.one.publish(c1=indexed(now - 90))
    await fleet.one.log.note_written(STREAM, ["c1"], now, is_creation=False)
    await fleet.one.log.note_written(STREAM, ["c9"], now, is_creation=True)
    await fleet.two.publish(c1=indexed(now), c9=indexed(now))
    await fleet.two.publish(c1=indexed(now + 1))
    window = await fleet.one.window()
    await until(lambda: len(fleet.one.said(window)) == 3)
    entries = window.after(None, now) or ()
    assert {(e.change.campaign, e.change.type, e.change.seen_by) for e in entries} == {
        ("c1", ChangeType.UPDATED, SeenBy.WRITE),
        ("c9", ChangeType.CREATED, SeenBy.WRITE),
        ("c1", ChangeType.UPDATED, SeenBy.LIST),
    }


async def test_a_deposed_leader_adds_nothing(redis_fleet: Fleet) -> None:
    one, two = redis_fleet.one, redis_fleet.two
    now = one.clock.now()
    await one.publish(c1=indexed(now - 90))
    await two.publish(c1=indexed(now - 5))
    state = IndexState(number=one.index.snapshot(STREAM).state.number + 1)
    assert not await one.index.publish(STREAM, state, {"c1": indexed(now - 4)})
    assert len(one.said(await one.window())) == 1


async def test_a_redis_that_came_back_empty_has_listeners_begin_anew_and_makes_nothing_new(
    redis_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(changes_module, "LISTEN_SECONDS", 0.05)
    one, two = redis_fleet.one, redis_fleet.two
    now = one.clock.now()
    window = await two.window()
    await one.publish(c1=indexed(now - 90))
    await one.publish(c1=indexed(now - 5))
    await until(lambda: len(two.said(window)) == 1)
    log = two.log
    assert isinstance(log, RedisChanges)
    await until(lambda: log._states[STREAM].whole == (VOICE,))
    name, generation = window.name, window.generation
    await redis_fleet.raw.flushall()
    await until(lambda: window.name != name)
    assert window.generation > generation
    assert [entry.change.reason for entry in window.degraded(window.last)] == ["unread"], "nobody looks at present"
    await one.publish(c1=indexed(now - 5), c2=indexed(now - 4))
    await one.publish(c2=indexed(now))
    said = [("degraded", None, None), ("recovered", None, None), ("updated", "c2", "Ready")]
    await until(lambda: two.said(window) == said)
    assert window.degraded(window.last) == []


async def test_a_log_that_a_publication_begins_anew_says_what_was_lost_first(redis_fleet: Fleet) -> None:
    one, now = redis_fleet.one, redis_fleet.one.clock.now()
    await one.publish(c1=indexed(now - 90))
    await redis_fleet.raw.flushall()
    await one.publish(c1=indexed(now - 90))
    said = one.said(await one.window())
    assert [type_ for type_, *_ in said] == ["degraded", "recovered"], "and nothing of what is old"


@pytest.mark.drill(
    "a log of changes that somebody else wrote into Redis",
    planted="another type, noise, entries of another stream, values that are none",
    seen="polls go on, nothing of it is shown, the next change is",
)
@pytest.mark.parametrize("part", ["changes", "told"])
@pytest.mark.parametrize("what", ["text", "list", "noise"])
async def test_what_somebody_else_wrote_stops_nobody(redis_fleet: Fleet, part: str, what: str) -> None:
    one, two = redis_fleet.one, redis_fleet.two
    now, raw = one.clock.now(), redis_fleet.raw
    await one.publish(c1=indexed(now - 90))
    await one.publish(c1=indexed(now - 50))
    assert isinstance(one.log, RedisChanges)
    log, told = one.log.names(STREAM)
    name = {"changes": log, "told": told}[part]
    if what != "noise":
        await raw.delete(name)
    match what, part:
        case "text", _:
            await raw.set(name, "noise")
        case "list", _:
            await raw.rpush(name, "noise")
        case _, "changes":
            await raw.xadd(name, {"change": b"\x05noise", "before": b"0-0"})
        case _:
            for id_ in ("#", "c1"):
                await raw.hset(name, id_, b"\x05noise")
    assert await two.publish(c1=indexed(now - 5), c2=indexed(now - 4))
    assert await two.publish(c1=indexed(now))
    window = await two.window()
    await until(lambda: ("updated", "c1", "Ready") in two.said(window))
    assert all(said[1] in {"c1", "c2"} for said in two.said(window))


async def test_a_server_that_does_not_let_listen_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with on_fakeredis(tmp_path) as backend, fleet_on(backend) as fleet:
        assert isinstance(fleet.one.log, RedisChanges)

        async def refuse(*_: object, **__: object) -> None:
            raise NoPermissionError("NOPERM this user has no permissions to run the 'xread' command")

        monkeypatch.setattr(fleet.one.log._link.client, "xread", refuse)
        await fleet.one.window()
        await until(lambda: fleet.tasks.failing == {"follow changes": "NoPermissionError"})


async def test_a_server_that_the_link_has_left_is_left_by_who_listens_too(tmp_path: Path) -> None:
    async with on_fakeredis(tmp_path) as backend, fleet_on(backend) as fleet:
        log = fleet.one.log
        assert isinstance(log, RedisChanges)
        log._listener = backend.open_link(StoreClock(), CountingMeter())
        window = await fleet.one.window()
        await log._link.depart()
        await until(lambda: log._listener.departures == 1)
        await fleet.one.publish(c1=indexed(fleet.one.clock.now() - 90))
        await fleet.one.publish(c1=indexed(fleet.one.clock.now()))
        await until(lambda: fleet.one.said(window) == [("updated", "c1", "Ready")])
        assert log._listener.departures == 1
        await log._listener.close()


async def test_a_cursor_is_known_where_its_entry_has_not_arrived_yet(redis_fleet: Fleet) -> None:
    ahead, behind = await redis_fleet.one.window(), await redis_fleet.two.window()
    feeds = [
        Feed(replica.log, replica.index, replica.clock.now, redis_fleet.tasks, CountingMeter(), {})
        for replica in redis_fleet.replicas
    ]
    now = redis_fleet.one.clock.now()
    await redis_fleet.one.publish(c1=indexed(now - 90))
    of_two, is_let_through = redis_fleet.two.log, asyncio.Event()
    assert isinstance(of_two, RedisChanges)
    receive = of_two._receive

    async def hold(stream: str, log: str, found: Any) -> None:
        await is_let_through.wait()
        await receive(stream, log, found)

    of_two._receive = hold  # type: ignore[method-assign]
    await redis_fleet.one.publish(c1=indexed(now))
    await until(lambda: len(redis_fleet.one.said(ahead)) == 1)
    assert await feeds[0].catch_up(STREAM, ahead, ahead.last)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(feeds[1].catch_up(STREAM, behind, ahead.last))
        await until(lambda: bool(behind._watchers))
        assert behind.after(ahead.last, now) is None
        is_let_through.set()
    assert waiting.result()
    assert behind.after(ahead.last, now) == []
    assert await feeds[1].catch_up(STREAM, behind, (ahead.last[0] + 1, 0)), "nobody has been there"


async def test_entries_put_into_another_streams_log_are_nobodys(redis_fleet: Fleet) -> None:
    one, now = redis_fleet.one, redis_fleet.one.clock.now()
    for stream in (STREAM, OTHER):
        await one.publish(stream, c1=indexed(now - 90))
    window = await one.window(OTHER)
    await one.publish(c1=indexed(now))
    assert isinstance(one.log, RedisChanges)
    (ours, _), (theirs, _) = one.log.names(STREAM), one.log.names(OTHER)
    for _, fields in await redis_fleet.raw.xrange(ours):
        await redis_fleet.raw.xadd(theirs, fields)
    await one.publish(OTHER, c2=indexed(now))
    await until(lambda: one.said(window) == [("created", "c2", "Ready")])
    assert one.said(await redis_fleet.two.window(OTHER)) == [("created", "c2", "Ready")]
