"""One suite that every board passes: memory, and Redis on fakeredis, a real server, a real cluster."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from service.contract.listing import Channel
from service.policy.sweeping import Flaw, Head, Known, Round, View
from service.proxy.epoch import Epoch
from service.proxy.ports import Board, Meter
from service.proxy.tasks import Tasks
from service.store import boards as boards_module
from service.store import redis as redis_module
from service.store.alone import MemoryBoard
from service.store.boards import RedisBoard
from service.store.bus import Bus
from service.store.clock import StoreClock
from service.store.connect import Target, open_link, parts_of
from service.store.keys import Keys
from service.store.link import RedisLink, StoreDownError
from service.store.redis import RedisStore
from tests.support.meters import CountingMeter
from tests.support.redis_server import RedisCluster, redis_server

STREAM = "identity-1"
VOICE, SMS = Channel
NOW = 1_770_000_000.0
BARE = View()


def known(mark: str = "a", **fields: Any) -> Known:
    return Known(VOICE, mark, mark, NOW, has_moved=False, **fields)


def head(number: int, began: float = NOW, **fields: Any) -> Head:
    return Head({VOICE: Round(began, "a", 3)}, 12.5, 90.0, number=number, **fields)


@dataclass
class Replica:
    """A board that follows nothing by itself."""

    board: RedisBoard
    link: RedisLink
    bus: Bus
    leads: RedisStore

    async def follow(self) -> View:
        await self.board.catch_up(STREAM)
        return self.board.view(STREAM)

    async def tell(self) -> None:
        await self.board._tell(STREAM)


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
        return [self.keys.board(STREAM, what) for what in ("head", "rows", "order")]

    async def empty(self) -> None:
        """What a Redis has to tell that came back empty."""
        await self.raw.delete(*self.names())


@asynccontextmanager
async def on_redis(
    raw: Any,
    open_one: Callable[[StoreClock, Meter], RedisLink],
    keys: Keys = Keys("cg"),  # noqa: B008 - frozen
) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        stack.push_async_callback(raw.aclose)
        replicas = []
        tasks = Tasks()
        for _ in range(3):
            link = open_one(StoreClock(), CountingMeter())
            stack.push_async_callback(link.close)
            await link.look()
            bus = Bus(link, keys)
            leads = RedisStore(link, bus, keys)
            replicas.append(Replica(RedisBoard(link, bus, leads, keys, Epoch()), link, bus, leads))
        stack.push_async_callback(tasks.close)
        yield Fleet(replicas, raw, keys, tasks)


@asynccontextmanager
async def on_fakeredis(_folder: Path) -> AsyncIterator[Fleet]:
    server = fakeredis.FakeServer()
    client = partial(fakeredis.FakeAsyncRedis, server=server)
    async with on_redis(client(), lambda clock, meter: RedisLink(client(), clock, meter)) as fleet:
        yield fleet


@asynccontextmanager
async def on_valkey(folder: Path) -> AsyncIterator[Fleet]:
    async with (
        redis_server(folder) as process,
        on_redis(process.client(), partial(open_link, Target(process.url, 1.0))) as fleet,
    ):
        yield fleet


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    nodes = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(nodes.start())
        yield nodes
    finally:
        nodes.kill()


@asynccontextmanager
async def on_cluster(cluster: RedisCluster) -> AsyncIterator[Fleet]:
    raw = cluster.client()
    await raw.flushall(target_nodes="primaries")
    async with on_redis(raw, partial(open_link, Target(cluster.url, 1.0)), Keys("cg", parts_of(cluster.url))) as fleet:
        yield fleet


Opening = Callable[[], AbstractAsyncContextManager[Any]]


@asynccontextmanager
async def on_memory(_folder: Path) -> AsyncIterator[None]:
    yield None


def opening(request: pytest.FixtureRequest, folder: Path) -> Opening:
    return partial(request.param, request.getfixturevalue("cluster") if request.param is on_cluster else folder)


@pytest.fixture(params=[on_fakeredis, on_valkey, on_cluster])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    return opening(request, tmp_path)


@pytest.fixture(params=[on_memory, on_fakeredis, on_valkey, on_cluster])
def any_place(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    return opening(request, tmp_path)


@pytest.fixture
async def fleet(shared_place: Opening) -> AsyncIterator[Fleet]:
    async with shared_place() as opened:
        yield opened


@pytest.fixture
async def board(any_place: Opening) -> AsyncIterator[Board]:
    async with any_place() as opened:
        yield opened.one.board if opened else MemoryBoard(Epoch())


def epoch_of(board: Board) -> int:
    assert isinstance(board, RedisBoard | MemoryBoard)
    return board._epoch.number


# What all boards do.


async def test_nothing_is_known_at_first(board: Board) -> None:
    assert board.view(STREAM) == BARE
    assert await board.used(STREAM, 0.0) == {}


async def test_what_was_posted_is_known(board: Board) -> None:
    epoch = epoch_of(board)
    assert await board.post(STREAM, head(1), {"c1": known(), "c2": known("b")})
    assert epoch_of(board) > epoch, "what was made from the view is made anew"
    assert board.view(STREAM) == View(head(1), {"c1": known(), "c2": known("b")})
    assert board.view("another stream") == BARE


async def test_a_post_changes_what_it_names_and_keeps_the_rest(board: Board) -> None:
    await board.post(STREAM, head(1), {"c1": known(), "c2": known("b")})
    assert await board.post(STREAM, head(2, NOW + 5), {"c2": known("c")})
    assert board.view(STREAM) == View(head(2, NOW + 5), {"c1": known(), "c2": known("c")})


@pytest.mark.parametrize("number", [0, 1, 2, 4, 5])
async def test_a_post_that_does_not_follow_what_is_known_changes_nothing(board: Board, number: int) -> None:
    for before in (1, 2):
        await board.post(STREAM, head(before), {"c1": known()})
    epoch = epoch_of(board)
    assert not await board.post(STREAM, head(number, NOW + 9), {"c1": known("other")})
    assert epoch_of(board) == epoch
    assert board.view(STREAM) == View(head(2), {"c1": known()})
    assert await board.post(STREAM, head(3), {})


async def test_a_view_does_not_change_under_who_holds_it(board: Board) -> None:
    await board.post(STREAM, head(1), {"c1": known()})
    view = board.view(STREAM)
    await board.post(STREAM, head(2), {"c1": known("b"), "c2": known()})
    assert view == View(head(1), {"c1": known()})


async def test_what_callers_asked_for(board: Board) -> None:
    board.ask(STREAM, "c1", NOW)
    board.ask(STREAM, "c2", NOW - 50)
    board.ask(STREAM, "c1", NOW + 1)
    board.ask("another stream", "c3", NOW)
    assert await board.used(STREAM, NOW - 100) == {"c1": NOW + 1, "c2": NOW - 50}
    assert await board.used(STREAM, NOW - 10) == {"c1": NOW + 1}
    assert await board.used("another stream", 0.0) == {"c3": NOW}


async def test_who_leads_leads_on(board: Board) -> None:
    assert [await board.lead(STREAM) for _ in range(2)] == [True, True]


# What replicas know of each other's posts.


async def test_another_replica_catches_up(fleet: Fleet) -> None:
    rows = {
        "c1": known(status="Ready", fields={"name": "X", "priority": "5"}, edges=(NOW, NOW + 1.5)),
        "c2": known("b"),
    }
    posted = head(1, flaws={Channel.VOICE: Flaw.TOO_LATE})
    epoch = epoch_of(fleet.two.board)
    await fleet.one.board.post(STREAM, posted, rows)
    assert await fleet.two.follow() == fleet.one.board.view(STREAM) == View(posted, rows)
    assert epoch_of(fleet.two.board) > epoch, "what was made from the view is made anew"


async def test_who_missed_several_posts_catches_up_at_once(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {f"c{n}": known() for n in range(5)})
    await fleet.two.follow()
    await fleet.one.board.post(STREAM, head(2), {"c1": known("b")})
    await fleet.one.board.post(STREAM, head(3), {"c2": known("b"), "new": known()})
    await fleet.one.board.post(STREAM, head(4), {"c1": known("c")})
    assert await fleet.two.follow() == fleet.one.board.view(STREAM)
    assert await fleet.three.follow() == fleet.one.board.view(STREAM)


async def test_only_what_is_new_is_fetched(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known(), "c2": known()})
    before = await fleet.two.follow()
    assert await fleet.two.follow() is before
    # Behind the board's back: it is not looked at again.
    await fleet.raw.hset(fleet.keys.board(STREAM, "rows"), "c2", b"\x00")
    await fleet.one.board.post(STREAM, head(2), {"c1": known("b")})
    assert await fleet.two.follow() == View(head(2), {"c1": known("b"), "c2": known()})


async def test_leaders_may_take_turns(fleet: Fleet) -> None:
    for number in range(1, 7):
        replica = fleet.replicas[number % 3]
        await replica.follow()
        assert await replica.board.post(STREAM, head(number), {f"c{number}": known()})
    views = [await replica.follow() for replica in fleet.replicas]
    assert views == [View(head(6), {f"c{number}": known() for number in range(1, 7)})] * 3


async def test_a_deposed_leader_changes_nothing(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.two.follow()
    await fleet.two.board.post(STREAM, head(2), {"c1": known("b")})
    assert not await fleet.one.board.post(STREAM, head(2, NOW + 5), {"c1": known("old"), "c2": known()})
    assert fleet.one.board.view(STREAM) == View(head(1), {"c1": known()}), "nor what it knows itself"
    assert await fleet.three.follow() == View(head(2), {"c1": known("b")})


async def test_a_deposed_leader_changes_nothing_though_it_has_caught_up_meanwhile(fleet: Fleet) -> None:
    # 1. One begins a round.  2. Two takes over, and posts.  3. One hears of it.  4. One's round ends.
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.two.follow()
    for number in (2, 3):
        await fleet.two.board.post(STREAM, head(number), {"c1": known(str(number))})
    await fleet.one.follow()
    assert not await fleet.one.board.post(STREAM, head(2, NOW + 5), {"c2": known()})
    assert await fleet.three.follow() == fleet.one.board.view(STREAM) == View(head(3), {"c1": known("3")})


async def test_of_two_first_posts_one_counts(fleet: Fleet) -> None:
    assert await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    assert not await fleet.two.board.post(STREAM, head(1), {"c2": known()})
    assert await fleet.two.follow() == View(head(1), {"c1": known()})


async def test_of_many_posts_at_once_one_counts(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {})
    for replica in fleet.replicas:
        await replica.follow()
    posts = [replica.board.post(STREAM, head(2), {f"c{n}": known()}) for n, replica in enumerate(fleet.replicas)]
    assert sorted(await asyncio.gather(*posts)) == [False, False, True]
    assert len((await fleet.three.follow()).known) == 1


async def test_streams_share_nothing(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.one.board.post("another stream", head(1), {"c2": known()})
    await fleet.two.board.catch_up("another stream")
    assert fleet.two.board.view("another stream").known == {"c2": known()}
    assert fleet.two.board.view(STREAM) == BARE


# A Redis that forgets, is lost, or holds something else.


async def test_after_redis_came_back_empty_nothing_is_known(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.two.follow()
    await fleet.empty()
    assert await fleet.two.follow() == BARE
    assert await fleet.one.follow() == BARE
    assert await fleet.two.board.post(STREAM, head(1), {"c2": known()})
    assert await fleet.one.follow() == View(head(1), {"c2": known()})


async def test_one_that_missed_it_takes_nothing_over_from_before(fleet: Fleet) -> None:
    # The number may well be the one it has seen: it is another board's.
    for number in (1, 2):
        await fleet.one.board.post(STREAM, head(number), {"c1": known(), "gone": known()})
    await fleet.two.follow()
    await fleet.empty()
    for number in (1, 2):
        await fleet.three.board.post(STREAM, head(number), {"c1": known("b")})
    assert not await fleet.one.board.post(STREAM, head(3), {"c1": known("old")})
    assert await fleet.two.follow() == View(head(2), {"c1": known("b")})


async def test_a_round_from_before_redis_came_back_empty_is_not_posted(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.empty()
    assert not await fleet.one.board.post(STREAM, head(2), {"c2": known()})
    await fleet.one.follow()
    assert not await fleet.one.board.post(STREAM, head(2), {"c2": known()})
    assert await fleet.three.follow() == BARE


async def test_rows_that_outlived_their_head_are_no_part_of_the_next(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"gone": known()})
    await fleet.raw.delete(fleet.names()[0])
    await fleet.two.board.post(STREAM, head(1), {"c1": known()})
    assert await fleet.three.follow() == View(head(1), {"c1": known()})


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
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    await fleet.two.follow()
    await fleet.raw.set(fleet.names()[0], value)
    assert (await fleet.two.follow()).head == Head(), "nothing is proven"
    assert (await fleet.three.follow()).head == Head()


async def test_a_foreign_row_is_no_knowledge(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known(), "c2": known()})
    await fleet.raw.hset(fleet.names()[1], "c1", b"\xc1")
    assert await fleet.two.follow() == BARE


async def test_keys_of_another_type_stop_nothing_but_the_board(fleet: Fleet) -> None:
    await fleet.raw.rpush(fleet.names()[0], "x")
    await fleet.raw.rpush(fleet.keys.used(STREAM), "x")
    assert not await fleet.one.board.post(STREAM, head(1), {})
    fleet.one.board.ask(STREAM, "c1", NOW)
    assert await fleet.one.board.used(STREAM, 0.0) == {"c1": NOW}
    assert fleet.one.board.view(STREAM) == BARE
    assert fleet.one.link.is_up


async def test_while_redis_is_lost_nobody_leads_and_what_was_asked_for_is_kept(fleet: Fleet) -> None:
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    assert await fleet.one.board.lead(STREAM)
    fleet.one.link._lose("timeout")
    fleet.one.board.ask(STREAM, "c1", NOW)
    assert not await fleet.one.board.lead(STREAM)
    assert not await fleet.one.board.post(STREAM, head(2), {})
    with pytest.raises(StoreDownError):
        await fleet.one.tell()
    fleet.one.board.ask(STREAM, "c2", NOW + 1)
    assert await fleet.one.board.used(STREAM, 0.0) == {"c1": NOW, "c2": NOW + 1}
    assert fleet.one.board.view(STREAM) == View(head(1), {"c1": known()})
    await fleet.one.link.look()
    await fleet.one.tell()
    assert await fleet.two.board.used(STREAM, 0.0) == {"c1": NOW, "c2": NOW + 1}


# What is in use.


async def test_what_callers_of_all_replicas_asked_for(fleet: Fleet) -> None:
    fleet.one.board.ask(STREAM, "c1", NOW)
    fleet.two.board.ask(STREAM, "c1", NOW - 5)
    fleet.two.board.ask(STREAM, "c2", NOW - 50)
    await fleet.one.tell()
    assert await fleet.two.board.used(STREAM, NOW - 100) == {"c1": NOW, "c2": NOW - 50}, "the newest, told or not"
    await fleet.two.tell()
    assert set(await fleet.three.board.used(STREAM, NOW - 100)) == {"c1", "c2"}
    assert set(await fleet.three.board.used(STREAM, NOW - 10)) == {"c1"}


async def test_what_nobody_asked_for_in_a_long_time_is_forgotten(fleet: Fleet) -> None:
    fleet.one.board.ask(STREAM, "old", NOW)
    await fleet.one.tell()
    fleet.one.board.ask(STREAM, "new", NOW + boards_module.USED_MILLISECONDS / 1000 + 1)
    await fleet.one.tell()
    assert set(await fleet.two.board.used(STREAM, 0.0)) == {"new"}


# Who looks after it.


async def test_one_replica_leads_until_it_leaves(fleet: Fleet) -> None:
    assert [await replica.board.lead(STREAM) for replica in fleet.replicas] == [True, False, False]
    assert await fleet.two.board.lead("another stream")
    await fleet.two.board.leave([STREAM])
    assert not await fleet.two.board.lead(STREAM), "only who leads can leave"
    await fleet.one.board.leave([STREAM])
    assert await fleet.two.board.lead(STREAM)
    assert not await fleet.one.board.lead(STREAM)


async def test_of_all_at_once_one_leads(fleet: Fleet) -> None:
    asked = [replica.board.lead(STREAM) for _ in range(5) for replica in fleet.replicas]
    answers = await asyncio.gather(*asked)
    assert sorted(any(answers[n::3]) for n in range(3)) == [False, False, True]


async def test_a_dead_leader_is_replaced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LEASE_MILLISECONDS", 300)
    assert await fleet.one.board.lead(STREAM)
    assert not await fleet.two.board.lead(STREAM)
    async with asyncio.timeout(5):
        while not await fleet.two.board.lead(STREAM):
            await asyncio.sleep(0.02)
    assert not await fleet.one.board.lead(STREAM)


# Size.


async def test_five_thousand_rows_in_one_post(fleet: Fleet) -> None:
    rows = {f"cd-{n:08d}": known(f"2026-02-03T14:06:48.{n:03d}Z", fields={"name": "x" * 40}) for n in range(5000)}
    assert await fleet.one.board.post(STREAM, head(1), rows)
    assert await fleet.two.follow() == View(head(1), rows)
    moved = {id_: replace(row, mark="moved") for id_, row in rows.items()}
    assert await fleet.one.board.post(STREAM, head(2), moved)
    assert await fleet.two.follow() == View(head(2), moved)


# Following by itself.


async def test_a_follower_hears_of_a_post(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.two.board.start(fleet.tasks, [STREAM])
    fleet.one.board.start(fleet.tasks, [STREAM])
    fleet.one.board.ask(STREAM, "c1", NOW)
    await fleet.one.board.post(STREAM, head(1), {"c1": known()})
    async with asyncio.timeout(10):
        while fleet.two.board.view(STREAM) == BARE:
            await asyncio.sleep(0.01)
        while not await fleet.two.board.used(STREAM, 0.0):
            await asyncio.sleep(0.01)
    assert fleet.two.board.view(STREAM) == View(head(1), {"c1": known()})


async def test_a_post_wakes_who_waits_for_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.bus.POLL_SECONDS", 30.0)
    heard: list[str] = []
    fleet.tasks.spawn(fleet.two.bus.listen(lambda key, _: heard.append(key), lambda: None, lambda: None), name="listen")
    async with asyncio.timeout(10):
        while fleet.two.bus.silent_for():
            await asyncio.sleep(0.005)
        waiting = asyncio.create_task(fleet.two.bus.wait(STREAM, 30.0))  # noqa: TID251
        await asyncio.sleep(0.02)
        await fleet.one.board.post(STREAM, head(1), {})
        await waiting
    assert heard == ["swept"], "no word that concerns an entry"
