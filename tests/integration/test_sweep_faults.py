"""A fleet that sweeps, on a platform whose lists go wrong in many ways, judged by the platform's own history.

Replicas are wired as in production from the exchange and the sweepers down to redis-py and the Lua scripts, in one event
loop on virtual time. For every answer of every replica:

1. Its age leads to a validation: a read by id that brought this content, or a list poll of its channel. The content was
   true when that validation began; what a poll validates may have changed before it by so much as lists may lag.
2. Called fresh, it is within what its replica stated at that moment: the signal bound after a change that moves the
   revision, the blind bound after any change; where polls validate nothing, its own lifetime.

And for every run: no window sees more calls than the account has; polls were made, and validated answers, where they
should; and where a list is not to be trusted, that was noticed.

Seen to fail: without the lag check, with answers validated that had not settled, with validations that last ten times as long,
with validations that outlive their list's flaw, and with an index that is changed without comparing.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.sweeping import ListFlaw
from campaign_gateway.policy.trust import STAND_DOWN_SECONDS
from campaign_gateway.proxy.ports import USED_SECONDS
from campaign_gateway.proxy.request import Stream
from campaign_gateway.store.redis.keys import Keys
from tests.support.doubles import SUPPORT
from tests.support.examples import SEEDS
from tests.support.redis_net import RedisNet
from tests.support.swept import FRESHNESS, LAG, SALES, ListedPlatform, SeenCall, SweptAnswer, SweptReplica
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.simulation

TOLERANCE = 0.3
"""How far two replicas' clocks may be apart, and an answer be older than the look that gave it."""
COUNTS = {Channel.VOICE: 130, Channel.SMS: 40}


@dataclass(frozen=True)
class Setup:
    """What a run begins with."""

    calls: int = 60
    replicas: int = 2
    streams: Sequence[Stream] = (SUPPORT,)
    used: int = 24
    """Campaigns that are read, of each stream."""
    read_every: float = 0.3
    """Seconds between two reads on one replica, on average."""
    edit_every: float = 6.0
    edits: Sequence[str] = ("moved", "moved", "moved", "Active", "Ready")
    allowed_lag: float = LAG
    """What the content that a poll validates may be older than the poll."""
    counts: Mapping[Channel, int] = field(default_factory=lambda: COUNTS)
    lag: float | None = LAG
    """What the replicas allow a list to lag by; None: they measure it."""
    skew: float = 0.0
    """Seconds that the platform's clock is ahead."""
    rows: int = 100
    """That the platform grants for one call."""


class World:
    """The fleet, its callers, those who change campaigns, and what happened."""

    def __init__(self, setup: Setup, seed: int) -> None:
        self.setup = setup
        self.seed = seed
        self.loop = asyncio.get_running_loop()
        self.random = Random(f"world {seed}")
        self.net = RedisNet(seed)
        self.platform = ListedPlatform(seed, max_rows=setup.rows, skew=setup.skew)
        self.all: list[SweptReplica] = []
        self.live: list[SweptReplica] = []
        self.flaws: Counter[ListFlaw] = Counter()
        """How many of the looks, four a second, found each."""
        self.validating: list[tuple[float, bool]] = []
        self.leaders: list[tuple[float, frozenset[str]]] = []
        self.heads: list[bytes] = []
        """What has stood at the head of the first stream's index in Redis: epoch, number, and the rest."""
        self.net.on_executed = self._executed
        self.edit_every = setup.edit_every
        self.edits = setup.edits
        self.is_read = True
        self.is_rushed = False
        for stream in setup.streams:
            self.platform.seed_stream(stream.tenant.stream, setup.counts)
        self.used = {
            stream.identity: self.random.sample(sorted(self.platform.campaigns[stream.tenant.stream]), setup.used)
            for stream in setup.streams
        }

    @property
    def now(self) -> float:
        return self.loop.time()

    async def add(self) -> SweptReplica:
        replica = SweptReplica(
            f"r{len(self.all)}",
            self.platform,
            self.net,
            self.setup.replicas,
            self.setup.streams,
            self.setup.calls,
            self.setup.lag,
        )
        self.all.append(replica)
        await replica.start()
        # Callers find it once it serves, and it serves once it has asked Redis.
        self.live.append(replica)
        return replica

    async def play(self, script: "Script") -> None:
        for _ in range(self.setup.replicas):
            await self.add()
        async with asyncio.TaskGroup() as group:
            around = [group.create_task(work()) for work in (self._read, self._edit, self._watch, self._rush)]
            await script(self)
            for task in around:
                task.cancel()
        for replica in self.live:
            await replica.stop()

    async def crash(self, replica: SweptReplica) -> None:
        self.live.remove(replica)
        await replica.crash()

    def leader(self) -> SweptReplica:
        return next(replica for replica in self.live if replica.sweepers[0].is_leading)

    def lists(self, since: float = 0.0, until: float = float("inf")) -> list[SeenCall]:
        return [call for call in self.platform.calls if call.channel is not None and since <= call.started < until]

    def reads(self, since: float = 0.0, until: float = float("inf")) -> list[SeenCall]:
        return [call for call in self.platform.calls if call.channel is None and since <= call.started < until]

    def answers(self, since: float = 0.0, until: float = float("inf")) -> list[SweptAnswer]:
        return [answer for replica in self.all for answer in replica.answers if since <= answer.at < until]

    def validated(self, since: float = 0.0, until: float = float("inf")) -> int:
        return sum(1 for answer in self.answers(since, until) if answer.detail is Detail.SWEEP)

    def part_validating(self, since: float, until: float) -> float:
        """The part of the looks in this time that found polls validating."""
        looks = [is_validating for at, is_validating in self.validating if since <= at < until]
        return sum(looks) / len(looks)

    async def _read(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1 / self.setup.read_every) / max(1, len(self.live)))
            if self.is_read and self.live:
                stream = self.random.choice(self.setup.streams)
                self.random.choice(self.live).look_up(stream, self.random.choice(self.used[stream.identity]))

    async def _edit(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(1 / self.edit_every))
            stream = self.random.choice(self.setup.streams)
            campaigns = sorted(self.platform.campaigns[stream.tenant.stream])
            which = self.random.choice(self.used[stream.identity] if self.random.random() < 0.7 else campaigns)
            self.platform.edit(stream.tenant.stream, which, self.random.choice(self.edits))

    async def _rush(self) -> None:
        """Callers who ask for something that nobody has asked for before, far beyond the budget."""
        number = 0
        while True:
            await asyncio.sleep(0.2)
            if self.is_rushed and self.live:
                number += 1
                self.random.choice(self.live).look_up(SUPPORT, f"unheard-of-{number}")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            for stream in self.setup.streams:
                for replica in self.live:
                    self.flaws.update(replica.index.snapshot(stream.identity).state.flaws.values())
                    self.validating.append((self.now, replica.bounds(stream).is_validating))
            leading = frozenset(replica.name for replica in self.live if replica.sweepers[0].is_leading)
            self.leaders.append((self.now, leading))

    def _executed(self, _replica: str, _fields: list[bytes]) -> None:
        item = self.net.server.dbs[0].get(Keys("cg").index(SUPPORT.identity, "head").encode())
        if item is not None and self.heads[-1:] != [item.value]:
            self.heads.append(item.value)

    # What is judged.

    def judge(self, *, is_bounded: Callable[[SweptAnswer], bool] = lambda _answer: True) -> Counter[str]:
        """Judges every answer and every call. `is_bounded` tells which answers have to keep to the stated bounds."""
        seen: Counter[str] = Counter()
        self._judge_budget(seen)
        for state, following in pairwise(self.heads):
            is_next = int(following[16:32]) == int(state[16:32]) + 1
            assert is_next or following[:16] != state[:16], "a poll was posted over another one's"
        calls: dict[tuple[str, str], list[SeenCall]] = defaultdict(list)
        for call in self.platform.calls:
            if call.is_answered and call.skip == 0:
                calls[call.stream, call.channel or call.campaign].append(call)
        for answer in self.answers():
            if answer.entry is not None and answer.value is not None:
                self._judge_age(answer, calls, seen)
                if is_bounded(answer):
                    self._judge_bounds(answer, seen)
        return seen

    def _judge_budget(self, seen: Counter[str]) -> None:
        times = sorted(call.arrived for call in self.platform.calls if call.arrived is not None)
        calls = self.setup.calls
        for first, beyond in zip(times, times[calls:], strict=False):
            assert beyond - first >= 60.0, f"over budget from {first:.1f} to {beyond:.1f}"
        for first, last in zip(times, times[calls - 1 :], strict=False):
            seen["full windows"] += last - first < 60.0

    def _changes(self, answer: SweptAnswer) -> tuple[float, float]:
        """When the content first ceased to be true, and when a change that lists show at their top first did that."""
        versions = self.platform.campaigns[answer.stream][answer.campaign].versions
        number = next(n for n, version in enumerate(versions) if version.value == answer.value)
        later = [version for version in versions[number + 1 :] if version.began <= answer.at]
        ceased = min((version.began for version in later), default=float("inf"))
        # A deletion, or a revision that steps back, hides the changes before it.
        hidden = max((n for n, version in enumerate(later) if version.hides), default=-1)
        signalled = (version.began for version in later[hidden + 1 :] if version.is_signalled)
        return ceased, min(signalled, default=float("inf"))

    def _judge_age(self, answer: SweptAnswer, calls: dict[tuple[str, str], list[SeenCall]], seen: Counter[str]) -> None:
        began = answer.at - answer.age
        by_id = [
            call
            for call in calls[answer.stream, answer.campaign]
            if call.value == answer.value and abs(call.started - began) <= TOLERANCE
        ]
        if by_id:
            seen["ages from a read"] += 1
            return
        channel = self.platform.campaigns[answer.stream][answer.campaign].channel
        polls = [call for call in calls[answer.stream, channel] if abs(call.started - began) <= TOLERANCE]
        assert polls, f"nothing validated {answer.value} at {began:.2f}: {answer}"
        seen["ages from a poll"] += 1
        _, signalled = self._changes(answer)
        assert signalled > began - self.setup.allowed_lag - TOLERANCE, (
            f"changed at {signalled:.2f}, and validated by the poll of {began:.2f}: {answer}"
        )

    def _judge_bounds(self, answer: SweptAnswer, seen: Counter[str]) -> None:
        assert not (answer.is_distrusted and answer.detail is Detail.SWEEP), answer
        if answer.ttl <= 0:
            return
        assert answer.entry is not None
        ceased, signalled = self._changes(answer)
        if answer.at <= ceased:
            seen["fresh and true"] += 1
            return
        if answer.bounds.is_validating:
            seen["fresh, and changed within the bound"] += 1
            assert answer.at - signalled <= answer.bounds.signal + self.platform.read_lag + TOLERANCE, (
                f"fresh {answer.at - signalled:.1f} s after a change that moved the revision: {answer}"
            )
            assert answer.at - ceased <= answer.bounds.blind + self.platform.read_lag + TOLERANCE, (
                f"fresh {answer.at - ceased:.1f} s after a change: {answer}"
            )
        else:
            seen["fresh, and changed within the lifetime"] += 1
            # Polls of its own channel may go on all the same.
            by_list = answer.lasts + LAG if answer.lasts is not None else 0.0
            longest = max(FRESHNESS.lifetime(answer.entry).seconds, by_list)
            assert answer.at - ceased <= longest + self.platform.read_lag + TOLERANCE, answer


Script = Callable[[World], Awaitable[None]]


def played(setup: Setup, seed: int, script: Script) -> World:
    async def playing() -> World:
        world = World(setup, seed)
        await world.play(script)
        return world

    with virtual_time() as loop:
        return loop.run_until_complete(playing())


EACH_SEED = pytest.mark.parametrize("seed", SEEDS)
ONE_SEED = pytest.mark.parametrize("seed", SEEDS[:1])
"""For what is played in several variants, each of which is a run of its own, or for a quarter of an hour."""


async def nothing(_world: World) -> None:
    """No fault."""


async def list_lags(world: World) -> None:
    world.platform.list_lag = 5.0


async def reads_lag(world: World) -> None:
    """Answers by id go on showing the old state for a while after the list shows the new one."""
    world.platform.read_lag = 15.0


async def small_pages(world: World) -> None:
    world.platform.max_rows = 20


async def no_totals(world: World) -> None:
    world.platform.total_lie = None


async def totals_too_small(world: World) -> None:
    world.platform.total_lie = -9


async def totals_too_large(world: World) -> None:
    world.platform.total_lie = 7


async def comings_and_goings(world: World) -> None:
    used = world.used[SUPPORT.identity]
    for _ in range(8):
        await asyncio.sleep(15)
        used.append(world.platform.create(SUPPORT.tenant.stream))
        world.platform.edit(SUPPORT.tenant.stream, used.pop(0), "gone")


@ONE_SEED
@pytest.mark.parametrize(
    ("setup", "fault"),
    [
        (Setup(), nothing),
        (Setup(calls=24), nothing),
        (Setup(streams=(SUPPORT, SALES)), nothing),
        (Setup(edits=("moved", "silent")), nothing),
        (Setup(edits=("moved", "back")), nothing),
        (Setup(), list_lags),
        (Setup(), reads_lag),
        (Setup(), small_pages),
        (Setup(), no_totals),
        (Setup(), totals_too_small),
        (Setup(), totals_too_large),
        (Setup(), comings_and_goings),
    ],
    ids=[
        "none",
        "less-budget",
        "two-streams",
        "revisions-that-stay",
        "revisions-that-step-back",
        "list-lags",
        "reads-lag",
        "small-pages",
        "no-totals",
        "totals-too-small",
        "totals-too-large",
        "comings-and-goings",
    ],
)
def test_answers_are_as_new_as_they_say(setup: Setup, fault: Script, seed: int) -> None:
    async def script(world: World) -> None:
        await fault(world)
        await asyncio.sleep(180 - world.now)

    world = played(setup, seed, script)
    seen = world.judge()
    assert seen["ages from a poll"] > 100
    assert seen["ages from a read"] > 0
    assert seen["fresh, and changed within the bound"] > 0
    assert world.part_validating(60, 180) > 0.5
    assert not world.flaws
    # What is stated is worth something.
    assert min(answer.bounds.signal for answer in world.answers(10)) < 4 * LAG


@EACH_SEED
def test_rows_that_shift_between_pages_hide_nothing(seed: int) -> None:
    async def script(world: World) -> None:
        world.platform.max_rows = 20
        await asyncio.sleep(120)

    world = played(Setup(edit_every=0.4, used=12), seed, script)
    seen = world.judge()
    # Pages beyond the first were asked for, and polls came through all the same.
    assert sum(1 for call in world.lists() if call.skip > 0) > 5
    assert seen["ages from a poll"] > 0
    assert set(world.flaws) <= {ListFlaw.SHIFTING}


@ONE_SEED
@pytest.mark.parametrize("sort_key", ["id", "createdAt"])
@pytest.mark.parametrize("channels", [frozenset(Channel), frozenset({Channel.SMS})], ids=["all", "sms"])
def test_a_list_out_of_order_is_not_believed_until_it_is_mended(
    seed: int, sort_key: str, channels: frozenset[Channel]
) -> None:
    async def script(world: World) -> None:
        world.platform.unsorted = channels
        await asyncio.sleep(60)
        world.platform.sort_key = sort_key
        await asyncio.sleep(120)
        world.platform.sort_key = "updatedAt"
        await asyncio.sleep(150)

    world = played(Setup(edit_every=3.0), seed, script)
    # Rows may happen to be in order for a while: the first change further down shows that they are not.
    world.judge(is_bounded=lambda answer: not 60 < answer.at < 120 or sort_key == "id")
    assert world.flaws[ListFlaw.UNSORTED] > 0
    assert set(world.flaws) == {ListFlaw.UNSORTED}
    assert world.part_validating(30, 60) > 0.6
    assert world.part_validating(130, 180) < 0.4
    assert world.part_validating(300, 330) > 0.6
    # It is tried again now and then, and no more often.
    tried = [call for call in world.lists(100, 180) if call.channel in channels and call.skip == 0]
    assert len(tried) <= 80 / STAND_DOWN_SECONDS * len(channels)


@EACH_SEED
def test_a_list_out_of_order_from_the_start_validates_nothing(seed: int) -> None:
    async def script(world: World) -> None:
        world.platform.sort_key = "id"
        await asyncio.sleep(150)

    world = played(Setup(), seed, script)
    seen = world.judge()
    assert world.flaws[ListFlaw.UNSORTED] > 0
    assert seen["ages from a poll"] == 0
    assert world.part_validating(5, 150) == 0
    assert len(world.lists()) < 150 / STAND_DOWN_SECONDS * 2


@EACH_SEED
def test_a_list_that_lags_beyond_what_is_allowed_is_not_believed(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(60)
        world.platform.list_lag = 30.0
        await asyncio.sleep(180)

    world = played(Setup(edit_every=3.0, allowed_lag=30.0), seed, script)
    # What the list shows late before that was noticed is as late as it is.
    world.judge(is_bounded=lambda answer: answer.at < 60)
    assert world.flaws[ListFlaw.TOO_LATE] > 0
    assert world.part_validating(100, 240) < 0.5


@EACH_SEED
def test_a_pause_that_the_platform_asks_for_is_kept(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(60)
        world.platform.limited_until = world.now + 40.0
        await asyncio.sleep(120)

    world = played(Setup(), seed, script)
    world.judge()
    # Calls that were under way, and one probe.
    assert len(world.lists(60, 99)) + len(world.reads(60, 99)) < 25
    assert world.part_validating(20, 60) > 0.6
    assert world.part_validating(140, 180) > 0.6
    assert not world.flaws


@ONE_SEED
@pytest.mark.parametrize("channel", [None, Channel.SMS], ids=["all", "sms-lists"])
def test_an_outage_of_the_platform_ends_with_its_end(seed: int, channel: Channel | None) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(60)
        world.platform.is_out, world.platform.broken_channel = channel is None, channel
        await asyncio.sleep(260)
        world.platform.is_out, world.platform.broken_channel = False, None
        await asyncio.sleep(200)

    world = played(Setup(edit_every=4.0), seed, script)
    world.judge()
    assert world.part_validating(305, 320) == 0
    # A list that failed is asked again in its turn, which may be two minutes later.
    assert world.part_validating(450, 520) > 0.3
    assert not world.flaws


@EACH_SEED
def test_callers_who_eat_the_budget_stretch_the_polls(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(60)
        world.is_rushed = True
        await asyncio.sleep(120)
        world.is_rushed = False
        await asyncio.sleep(150)

    world = played(Setup(), seed, script)
    seen = world.judge()
    assert seen["full windows"] > 0
    assert len(world.lists(120, 180)) < len(world.lists(20, 60))
    assert world.part_validating(270, 330) > 0.6


@EACH_SEED
def test_another_holds_the_lease_soon_after_the_leader_died(seed: int) -> None:
    deaths: list[float] = []

    async def script(world: World) -> None:
        for _ in range(2):
            await asyncio.sleep(60)
            await world.crash(world.leader())
            deaths.append(world.now)
            await world.add()
        await asyncio.sleep(60)

    world = played(Setup(replicas=3), seed, script)
    world.judge()
    assert all(len(names) <= 1 for _, names in world.leaders)
    for died in deaths:
        assert any(died < at < died + 6 and names for at, names in world.leaders)
        # No burst: a takeover costs a poll of each channel at most.
        assert len(world.lists(died, died + 10)) <= 6
        assert len(world.lists(died, died + 60)) > 0
    assert world.part_validating(10, 60) > 0.6


@EACH_SEED
def test_a_leader_that_was_cut_off_publishes_nothing(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(20)
        # Long enough to lose the lease during a poll, and to be back before its end.
        world.platform.list_delay = 4.0
        for _ in range(3):
            began = world.now
            while not world.lists(began) and world.now < began + 60:
                await asyncio.sleep(0.1)
            leader = world.leader()
            world.net.part(leader.name)
            await asyncio.sleep(3.2)
            world.net.join(leader.name)
            await asyncio.sleep(15)

    world = played(Setup(edit_every=1e9), seed, script)
    world.judge()
    assert len({name for _, names in world.leaders for name in names}) > 1
    assert len(world.heads) > 2


@EACH_SEED
def test_a_redis_that_is_lost_or_emptied_validates_nothing_wrong(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(60)
        world.net.lose()
        await asyncio.sleep(45)
        world.net.come_back(empty=False)
        await asyncio.sleep(75)
        world.net.restart_empty()
        await asyncio.sleep(60)
        world.net.lose()
        await asyncio.sleep(20)
        world.net.come_back(empty=True)
        await asyncio.sleep(100)

    world = played(Setup(), seed, script)
    world.judge()
    assert not world.lists(61, 104)
    assert world.part_validating(20, 60) > 0.6
    assert world.part_validating(340, 360) > 0.5
    assert world.lists(300, 360)


@EACH_SEED
def test_a_new_replica_goes_on_from_what_redis_knows(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(90)
        await world.crash(world.leader())
        await world.add()
        await asyncio.sleep(30)

    world = played(Setup(replicas=1, edit_every=1e9), seed, script)
    world.judge()
    # Each channel may be due at once; nothing is read by id that the dead replica has read.
    assert len(world.lists(90, 100)) <= 4
    assert len(world.reads(90, 100)) <= 3
    assert world.validated(100, 120) > 0


@ONE_SEED
def test_campaigns_that_nobody_reads_cost_nothing(seed: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(40)
        world.is_read = False
        await asyncio.sleep(USED_SECONDS + 300)

    world = played(Setup(), seed, script)
    world.judge()
    assert world.lists(40, 400)
    quiet = 40 + USED_SECONDS + 10
    assert not world.lists(quiet)
    assert not world.reads(quiet)


# Clocks that differ, lists that lag, and many changes at once: with what the product does by default.

BUSY = {Channel.VOICE: 700, Channel.SMS: 300}
AUTO = Setup(used=60, read_every=0.1, edit_every=3.0, lag=None, rows=50)


async def a_while(_world: World) -> None:
    await asyncio.sleep(240)


@ONE_SEED
@pytest.mark.parametrize("skew", [-30.0, -12.0, 30.0])
@pytest.mark.parametrize("lag", [0.0, 5.0])
def test_a_platform_whose_clock_is_off_is_believed_all_the_same(seed: int, skew: float, lag: float) -> None:
    async def script(world: World) -> None:
        world.platform.list_lag = lag
        await a_while(world)

    world = played(replace(AUTO, skew=skew), seed, script)
    seen = world.judge()
    assert seen["ages from a poll"] > 0
    assert not world.flaws
    assert world.part_validating(90, 240) > 0.9


@ONE_SEED
@pytest.mark.parametrize("to", [-30.0, 30.0])
def test_a_step_of_the_platform_s_clock_calls_nothing_fresher_than_it_is(seed: int, to: float) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(120)
        world.platform.skew = to
        await asyncio.sleep(90)
        world.platform.skew = 0.0
        await asyncio.sleep(90)

    # Which of two changes is newer, revisions do not tell while the clock steps back: the list is out of order then.
    world = played(AUTO, seed, script)
    world.judge(is_bounded=lambda answer: answer.at < 120)
    assert world.part_validating(90, 120) > 0.6


@ONE_SEED
@pytest.mark.parametrize("lag", [2.0, 5.0, 9.0])
def test_a_lag_is_measured(seed: int, lag: float) -> None:
    async def script(world: World) -> None:
        world.platform.list_lag = lag
        await a_while(world)

    world = played(replace(AUTO, edit_every=1.5), seed, script)
    world.judge()
    assert not world.flaws
    bounds = [answer.bounds.signal for answer in world.answers(180) if answer.bounds.is_validating]
    assert bounds
    if lag < 5:
        assert min(bounds) < min(answer.bounds.signal for answer in world.answers(40, 60)), (
            "less than is allowed at most"
        )


@EACH_SEED
def test_rows_that_lag_each_by_itself_validate_no_more_than_is_true(seed: int) -> None:
    async def script(world: World) -> None:
        world.platform.row_lag = 9.0
        await a_while(world)

    played(replace(AUTO, edit_every=2.0), seed, script).judge()


@EACH_SEED
def test_a_list_that_lags_by_more_than_can_be_allowed_for_is_not_believed(seed: int) -> None:
    async def script(world: World) -> None:
        world.platform.list_lag = 15.0
        await a_while(world)

    world = played(replace(AUTO, edit_every=1.0, allowed_lag=15.0), seed, script)
    assert world.flaws[ListFlaw.TOO_LATE] > 0
    world.judge(is_bounded=lambda answer: answer.at > 120)


@ONE_SEED
@pytest.mark.parametrize("rows", [50, 100])
def test_many_changes_at_once_with_one_revision_hide_nothing(seed: int, rows: int) -> None:
    """Five hundred rows with one revision, in another order with each question: some slip through between two pages."""

    async def script(world: World) -> None:
        random = Random(f"bulk {seed}")
        for _ in range(3):
            await asyncio.sleep(60)
            ids = sorted(world.platform.campaigns[SUPPORT.tenant.stream])
            for id_ in random.sample(ids, 500):
                world.platform.edit(SUPPORT.tenant.stream, id_)
        await asyncio.sleep(90)

    world = played(replace(AUTO, counts=BUSY, edit_every=6.0, rows=rows), seed, script)
    seen = world.judge()
    if rows == 100:  # in pages of 50, five hundred changes a minute take more calls than polls have
        assert seen["ages from a poll"] > 0


@ONE_SEED
@pytest.mark.parametrize("rows", [20, 100])
def test_a_flood_of_changes_calls_nothing_fresher_than_it_is(seed: int, rows: int) -> None:
    async def script(world: World) -> None:
        await asyncio.sleep(45)
        random, ids = Random(f"flood {seed}"), sorted(world.platform.campaigns[SUPPORT.tenant.stream])
        end = world.now + 120
        while world.now < end:
            await asyncio.sleep(random.expovariate(30))
            world.platform.edit(SUPPORT.tenant.stream, random.choice(ids))
        await asyncio.sleep(60)

    played(replace(AUTO, counts=BUSY, edit_every=1e9, rows=rows), seed, script).judge()
