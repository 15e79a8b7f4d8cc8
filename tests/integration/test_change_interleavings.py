"""Random interleavings of a log of changes and its index: polls by several leaders, reads, crashes, a Redis that fails.

Three replicas on virtual time, with the real scripts on a network that loses them. Leaders come and go as they like, for
nothing here may hang on leases. The judges are what stands in Redis, and consumers who only know what they were told.

1. Index and log never disagree: what the log's entries add up to is what it remembers, and what the index shows of each
   campaign was told, or something was that is newer.
2. Nothing is said twice, in the wrong order, or of what was there before the log began.
3. Nothing is missing: once all is calm and polled, the entries lead each consumer to the truth, whichever replica it
   listens to, whatever died meanwhile.

Each check has been seen to fail: without `told_stands` in either script, with the entries appended by a script of their
own after the publication, without the order of findings, and with leaders who publish what they read under another one.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel, Row
from campaign_gateway.policy.changes import Change, ChangeType, Finding, SeenBy
from campaign_gateway.policy.list_findings import conclude, learn
from campaign_gateway.policy.list_scan import begin
from campaign_gateway.policy.sweeping import is_gone
from campaign_gateway.proxy.change_window import Position, Window
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis import changes as changes_module
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.changes import RedisChanges
from campaign_gateway.store.redis.connect import RedisTarget, open_link
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import StoreDownError
from tests.support.builders import stamp
from tests.support.examples import scaled
from tests.support.meters import CountingMeter
from tests.support.redis_net import RedisNet
from tests.support.virtual_time import EPOCH, virtual_time

pytestmark = pytest.mark.simulation

FLEET = 3
EXAMPLES = max(8, scaled(16))
STREAM = "identity-1"
VOICE = Channel.VOICE
CAMPAIGNS = ("c0", "c1", "c2")
State = tuple[str | None, str | None]
"""`updatedAt` and status; of what is gone, None and None."""
GONE: State = (None, None)
Event = tuple[Any, ...]


class Replica:
    """An index, its log, and a consumer who listens here."""

    def __init__(self, world: "World", name: str) -> None:
        self.name, self._world = name, world
        self.tasks, self.clock = Tasks(), StoreClock()
        self.link = open_link(RedisTarget("redis://store.example:6379", 0.25), self.clock, CountingMeter())
        world.net.dress(self.link.client, name)
        keys = Keys("cg")
        bus = Bus(self.link, keys)
        self.log = RedisChanges(self.link, keys)
        beat = Beat(self.link, keys, bus.replica_id)
        self.index = RedisIndex(self.link, bus, beat, keys, Epoch(), log=self.log)

    async def start(self) -> None:
        await self.link.start(self.tasks)
        self.log.start(self.tasks)

    async def poll(self, *, is_whole: bool, seconds: float) -> None:
        """As a leader does, from the snapshot that it has, which may be old by then."""
        rows, number = self._world.rows(), self.index.snapshot(STREAM).state.number
        began = self.clock.now()
        await asyncio.sleep(seconds)
        snapshot = self.index.snapshot(STREAM)
        if snapshot.state.number != number:
            # Somebody else leads by now, and this one knows. What lists it has read is older than the index.
            return
        if is_whole:
            scan = replace(begin(VOICE, began), rows={row.id: row for row in rows}, is_whole=True)
            result = conclude(scan, snapshot, self.clock.now())
        else:
            result = learn(snapshot, VOICE, rows, self.clock.now())
        await self.index.publish(STREAM, result.state, result.updates)

    async def pull(self) -> None:
        try:
            await self.index.pull(STREAM)
        except StoreDownError:
            return

    async def read(self, campaign: str, seconds: float) -> None:
        began, (updated_at, status) = self.clock.now(), self._world.truth[campaign]
        await asyncio.sleep(seconds)
        finding = Finding(SeenBy.READ, began, VOICE, None, status, updated_at, is_gone=updated_at is None)
        await self.log.note(STREAM, campaign, finding)

    async def stop(self) -> None:
        await self.tasks.close()
        await self.link.close()


@dataclass
class Consumer:
    """Knows what was so when it began, or had to begin anew, and what it was told since."""

    known: dict[str, State]
    window: Window | None = None
    cursor: tuple[str, Position] | None = None
    resets: int = 0
    told: int = 0

    def take(self, window: Window, now: float, truth: dict[str, State]) -> None:
        """What the stream of events does: everything after the cursor, or from anew."""
        if self.cursor is None:
            self.cursor = (window.name, window.last)
            self.known = dict(truth)
            return
        name, position = self.cursor
        entries = window.after(position, now) if name == window.name else None
        if entries is None:
            self.resets += 1
            self.cursor, self.known = (window.name, window.last), dict(truth)
            return
        for entry in entries:
            change = entry.change
            if change.campaign is not None:
                self.known[change.campaign] = state_of(change)
                self.told += 1
        self.cursor = (name, window.last)


def state_of(change: Change) -> State:
    return GONE if change.type is ChangeType.DELETED else (change.updated_at, change.status)


@dataclass
class World:
    """The fleet, the truth, and what happened."""

    seed: int
    net: RedisNet = field(init=False)
    truth: dict[str, State] = field(default_factory=dict)
    live: list[Replica] = field(default_factory=list)
    work: Tasks = field(default_factory=Tasks)
    consumer: Consumer = field(default_factory=lambda: Consumer({}))
    changes: int = 0
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.net, self.random = RedisNet(self.seed), Random(self.seed)
        self.truth = dict.fromkeys(CAMPAIGNS, (stamp(EPOCH - 5_000), "Ready"))

    def rows(self) -> list[Row]:
        return [
            Row(id_, f"{updated_at}||{status}", updated_at, status, {})
            for id_, (updated_at, status) in self.truth.items()
            if updated_at is not None
        ]

    def pick(self, which: int) -> Replica:
        return self.live[which % len(self.live)]

    async def add(self) -> None:
        replica = Replica(self, f"r{self.random.random()}")
        self.live.append(replica)
        await replica.start()

    async def play(self, events: Sequence[tuple[float, Event]]) -> None:
        for _ in range(FLEET):
            await self.add()
        await self.live[0].poll(is_whole=True, seconds=0.0)
        try:
            for wait, (name, *arguments) in events:
                await getattr(self, name)(*arguments)
                await asyncio.sleep(wait)
            await self.settle()
            await self.judge()
        finally:
            await self.work.close()
            for replica in self.live:
                await replica.stop()
            # The server's own waits end.
            await asyncio.sleep(1.0)

    # What happens.

    async def change(self, number: int, status: str | None) -> None:
        self.changes += 1
        # No two of them alike.
        now = asyncio.get_running_loop().time() + EPOCH + self.changes / 1000
        self.truth[f"c{number}"] = GONE if status is None else (stamp(now), status)

    async def poll(self, which: int, is_whole: bool, seconds: float) -> None:
        replica = self.pick(which)
        if is_whole:
            await replica.pull()
        self.work.spawn(replica.poll(is_whole=is_whole, seconds=seconds), name="poll")

    async def read(self, which: int, number: int, seconds: float) -> None:
        campaign = f"c{number}"
        if campaign in self.truth:
            self.work.spawn(self.pick(which).read(campaign, seconds), name="read")

    async def race(self, number: int, seconds: float) -> None:
        """A change that two leaders and a reader see at the same time."""
        await self.change(number, self.random.choice(("Ready", "Active", "Stopped")))
        for which in range(FLEET):
            await self.pick(which).pull()
        await self.poll(0, is_whole=False, seconds=seconds)
        await self.read(1, number, self.random.choice((0.0, seconds)))
        await self.poll(2, is_whole=False, seconds=self.random.choice((0.0, seconds)))

    async def overtake(self, number: int) -> None:
        """A poll that shows a state from before the one that is read meanwhile."""
        await self.change(number, "Ready")
        await self.pick(0).pull()
        await self.poll(0, is_whole=False, seconds=0.2)
        await asyncio.sleep(0.01)
        await self.change(number, "Active")
        await self.pick(1).read(f"c{number}", 0.0)
        await asyncio.sleep(0.3)

    async def listen(self, which: int) -> None:
        """The consumer connects to a replica and takes what there is, as after each lost connection."""
        replica = self.pick(which)
        window = await replica.log.follow(STREAM)
        if window is not None:
            self.consumer.take(window, replica.clock.now(), self.truth)

    async def kill(self, which: int, seconds: float) -> None:
        """While it publishes: what it has sent may still arrive."""
        replica = self.pick(which)
        self.work.spawn(replica.poll(is_whole=True, seconds=0.0), name="poll")
        await asyncio.sleep(seconds)
        if len(self.live) > 1:
            self.live.remove(replica)
            self.net.kill(replica.name)
            await replica.stop()
            await self.add()
            self.seen["kills"] += 1

    async def lose(self, seconds: float) -> None:
        self.net.lose()
        await asyncio.sleep(seconds)
        self.net.come_back(empty=False)

    async def empty(self) -> None:
        self.net.restart_empty()
        self.seen["emptied"] += 1

    async def settle(self) -> None:
        """Everything comes to rest, and is polled."""
        await asyncio.sleep(25.0)
        for replica in (self.live[0], self.live[-1]):
            for _ in range(2):
                await replica.pull()
                await replica.poll(is_whole=True, seconds=0.0)
        await asyncio.sleep(8.0)
        await self.listen(0)

    # What is judged.

    async def judge(self) -> None:
        replica = self.live[0]
        await replica.pull()
        log = replica.log
        said = await log._said(STREAM, self.truth)
        entries = await self._entries(log)
        state, once = dict[str, State](), set[tuple[str, State]]()
        for change in (change for change in entries if change.campaign is not None):
            id_, new, known = change.campaign or "", state_of(change), state.get(change.campaign or "")
            assert new != known, f"said twice: {change}"
            if known is not None:
                assert (change.type is ChangeType.CREATED) is (known == GONE), f"out of order: {change}"
                assert change.previous_status == known[1], f"not what was told before: {change}"
            assert (id_, new) not in once, f"said again: {change}"
            once |= {(id_, new)} - {(id_, GONE)}
            state[id_] = new
        for id_, one in said.told.items():
            remembered = GONE if one.is_gone else (one.updated_at, one.status)
            assert state.get(id_, remembered) == remembered, f"{id_} is remembered otherwise than it was told"
            assert remembered == self.truth[id_], f"what became of {id_} was never told"
        for id_, row in replica.index.snapshot(STREAM).campaigns.items():
            assert id_ in said.told, f"the index shows {id_}, and the log does not know of it"
            assert (GONE if is_gone(row) else (row.updated_at, row.status)) == self.truth[id_]
        believed = {id_: one for id_, one in self.consumer.known.items() if one != GONE}
        assert believed == {id_: one for id_, one in self.truth.items() if one != GONE}, "the consumer missed something"
        self.seen["entries"] += len(entries)
        self.seen["told"] += self.consumer.told
        self.seen["resets"] += self.consumer.resets
        self.seen["by read"] += sum(change.seen_by is SeenBy.READ for change in entries)

    async def _entries(self, log: RedisChanges) -> list[Change]:
        window = Window(100_000, 1e9)
        assert await log._load(STREAM, window)
        entries = window.after(None, 0.0)
        assert entries is not None
        return [entry.change for entry in entries]


SOON = (0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05)
WAITS = (0.0, 0.0, 0.005, 0.01, 0.02, 0.1, 1.0, 5.0)
CALM = ("change",) * 8 + ("poll",) * 6 + ("read",) * 4 + ("race",) * 4 + ("overtake",) * 3 + ("listen",) * 4
PROFILES = {"calm": CALM, "kills": (*CALM, *("kill",) * 6), "redis": (*CALM, *("kill",) * 3, *("lose",) * 2, "empty")}


def drawn(random: Random, profile: Sequence[str]) -> list[tuple[float, Event]]:
    """What happens in one run, and how long it is until the next."""
    which, number = partial(random.randrange, FLEET), partial(random.randrange, len(CAMPAIGNS) + 2)
    arguments: dict[str, Callable[[], tuple[Any, ...]]] = {
        "change": lambda: (number(), random.choice(("Ready", "Active", "Stopped", None))),
        "poll": lambda: (which(), random.random() < 0.8, random.choice(SOON)),
        "read": lambda: (which(), number(), random.choice(SOON)),
        "race": lambda: (number(), random.choice(SOON)),
        "overtake": lambda: (number(),),
        "listen": lambda: (which(),),
        "kill": lambda: (which(), random.choice(SOON)),
        "lose": lambda: (random.choice((0.3, 2.0)),),
        "empty": lambda: (),
    }
    names = random.choices(profile, k=random.randint(10, 60))
    return [(random.choice(WAITS), (name, *arguments[name]())) for name in names]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("profile", PROFILES)
def test_index_and_log_never_disagree(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "LISTEN_SECONDS", 0.1)
    seen: Counter[str] = Counter()

    async def playing(seed: int) -> World:
        world = World(seed)
        await world.play(drawn(world.random, PROFILES[profile]))
        return world

    for seed in range(EXAMPLES):
        with virtual_time() as loop:
            try:
                seen.update(loop.run_until_complete(playing(seed)).seen)
            except AssertionError as error:
                error.add_note(f"with the seed {seed}")
                raise
    # A run in which nothing was put to the test would pass as well.
    assert seen["entries"] > EXAMPLES, seen
    assert seen["told"] > EXAMPLES, seen
    assert seen["by read"] > 0, seen
    assert seen["kills"] > 0 or profile == "calm", seen
    assert seen["resets"] > 0 or profile != "redis", seen
