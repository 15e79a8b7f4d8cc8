"""Random interleavings of a whole fleet: reads, fills, writes, purges, crashes, and a Redis that fails in many ways.

Three replicas, wired as in production from the exchange down to redis-py and the Lua scripts, in one event loop on
virtual time; only the sockets are not there. The judge is the platform's own log, the history of the truth, and what
stands in Redis after each script. Judged are promises 1 to 4:

1. Budget: no window sees more arrivals at the platform than the account has calls.
2. One fill: two calls for one key are under way together only after a crash, an invalidation or a fault of Redis.
3. Order: a read that began after an invalidation by a write brings nothing that was read before it, unless the platform
   was asked in vain, and then says so; after a purge it may, but calls it stale. In Redis fences only rise, below one
   fence reads only get later, and nothing stands there as good that was read before its key was invalidated.
4. Age: the reply's age leads to a call that brought that content, which was true then, within the hard bound.

What is kept out, because it is beyond what is promised (`policy.ledger`, at the top): one replica cut off alone for
longer than its share is withheld; a loss of Redis before all have seen a new replica; an emptied ledger soon after or
before a crash. Gaps that are left out as well: a replica cut off before it was seen in an emptied ledger, an
invalidation that could not reach Redis, and readers who join a fill that another replica's invalidation has overtaken.

Each check has been seen to fail: without either fence or the order in `put.lua`, with a fence that goes with the entry
above it, a silent `invalidate.lua`, copies kept though fenced, copies used while nothing is received, gaps ignored, ages
that start at the answer or at the store, a lease that binds nobody or is not renewed, places that fall free at a call's
end or too early after a crash, a lost or emptied ledger that fails open, a share not withheld, a restart
taken for the same server, fills that nobody joins, and no hard bound.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import SILENCE_SECONDS, WITHHELD_WINDOWS
from campaign_gateway.proxy.request import group_of
from campaign_gateway.store.redis.bus import MAX_QUIET_SECONDS, PING_SECONDS, RETRY_SECONDS
from campaign_gateway.store.redis.link import WATCH_SECONDS
from campaign_gateway.store.redis.store import LEASE_MILLISECONDS
from tests.support.doubles import make_request, name_in
from tests.support.examples import scaled
from tests.support.fleet import ALLOWANCE, FRESHNESS, TIMEOUT, UNWATCHED, Platform, PlatformCall, Read, Replica
from tests.support.redis_net import SLOWEST_SECONDS, RedisNet
from tests.support.virtual_time import virtual_time

pytestmark = pytest.mark.simulation

FLEET = 3
EXAMPLES = max(10, scaled(20))
"""Of each profile. The same ones in each run; more of them find more, a hundred take about half a minute."""
TOLERANCE = 0.15
"""How far two replicas' clocks may be apart: each knows the server's to within half a trip, connecting included."""
SETTLED = 2 * SLOWEST_SECONDS + 0.01
"""When what was published on a healthy bus has been received."""
RECOVERY = 4.0
"""After a fault: the watcher's next look, a new subscription, and a lease that ran out meanwhile."""
JOINING = 2.5
"""Until all replicas have seen a new one in the ledger (a limit of the budget, see `policy.ledger`)."""
LONGEST_PART = SILENCE_SECONDS + WITHHELD_WINDOWS * ALLOWANCE.window - 2.6
"""How long one replica may be cut off alone (a limit of the budget: its share is withheld for two windows, counted from when it was
last seen, and until it is seen again)."""
_GRACE = {"rob": 5 * SLOWEST_SECONDS, "cut_bus": UNWATCHED, "deafen": MAX_QUIET_SECONDS + 2 * PING_SECONDS + UNWATCHED}
"""How long a replica may go on with its copies, by what keeps it from hearing; for `rob` until the next message."""
CAMPAIGNS = ("c-1", "c-2")
ALL = group_of(make_request(CAMPAIGNS[0]).key)
DIRECTIVES = (
    NO_DIRECTIVES,
    NO_DIRECTIVES,
    RequestDirectives(no_cache=True),
    RequestDirectives(max_age=1.0),
    RequestDirectives(max_stale=float("inf")),
    RequestDirectives(only_if_cached=True),
)

Event = tuple[Any, ...]


@dataclass(frozen=True)
class Span:
    """A time, and whom it concerns; None is everybody."""

    began: float
    ended: float
    whom: str | None = None

    def touches(self, since: float, until: float, *whom: str) -> bool:
        return self.began <= until and self.ended >= since and (self.whom is None or self.whom in whom)


@dataclass(frozen=True)
class Invalidating(Span):
    """An invalidation as the one who asked for it saw it."""

    by: Cause = Cause.WRITE


FALLEN_BACK = frozenset({Detail.STALE_IF_ERROR, Detail.BUDGET, Detail.PAUSED, Detail.BEFORE_WRITE})
"""What a reply says whose reader asked for a newer answer and got none."""


@dataclass
class Blind:
    """A time in which a replica may miss what is said on the bus, and how long after that it may go on unknowing."""

    span: Span
    grace: float


class World:
    """The fleet and everything around it, and what happened."""

    def __init__(self, seed: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.net = RedisNet(seed)
        self.platform = Platform(seed)
        self.live: list[Replica] = []
        self.all: list[Replica] = []
        self.faults: list[Span] = []
        """When Redis could not be reached, or knew less than it should."""
        self.crashes: dict[str, float] = {}
        self.blind: list[Blind] = []
        self.invalidations: dict[str, list[Invalidating]] = defaultdict(list)
        """Those that Redis has made, by key; of all campaigns, by that of their group."""
        self.broken: list[str] = []
        """What the hook on Redis saw that may not be."""
        self._fences: dict[str, tuple[int, int, int]] = {}
        self._moments: dict[str, int] = {}
        """When each key was last invalidated, in microseconds of the server's clock."""
        self._raised: list[tuple[float, str, str]] = []
        self._open: dict[str, float] = {}
        self._robbed: dict[str, float] = {}
        self._deaf: dict[str, float] = {}
        self._joined_at = 0.0
        self._emptied_at = self._crashed_at = float("-inf")
        self.net.on_executed = self._executed
        self.net.on_message = self._received

    @property
    def now(self) -> float:
        return self.loop.time()

    async def start(self) -> None:
        for _ in range(FLEET):
            await self.add()
        await asyncio.sleep(JOINING)

    async def add(self) -> None:
        replica = Replica(f"r{len(self.all)}", self.platform, self.net, FLEET)
        self.all.append(replica)
        self.live.append(replica)
        await replica.start()
        self._joined_at = self.now

    def pick(self, number: int) -> Replica:
        return self.live[number % len(self.live)]

    async def play(self, events: Sequence[tuple[float, Event]]) -> None:
        try:
            await self.start()
            for wait, (name, *arguments) in events:
                await getattr(self, name)(*arguments)
                await asyncio.sleep(wait)
            await self.heal()
        finally:
            for replica in self.live:
                await replica.stop()
        # What dead replicas have sent has arrived by now, and so has every answer.
        await asyncio.sleep(TIMEOUT)

    async def heal(self) -> None:
        """Ends all faults, and lets everything come to rest."""
        await self.mend()
        await self.unhold()
        self.platform.is_prompt = True
        await asyncio.sleep(2 * ALLOWANCE.most + SILENCE_SECONDS + RECOVERY)
        for name, began in self._robbed.items():
            self.blind.append(Blind(Span(began, float("inf"), name), float("inf")))
        # After a pause, the first call finds out whether it is over.
        self.live[0].read(CAMPAIGNS[0], RequestDirectives(no_cache=True))
        await asyncio.sleep(1.0)
        for replica in self.live:
            replica.read(CAMPAIGNS[0], RequestDirectives(no_cache=True))
        await asyncio.sleep(1.0)
        for replica in self.live:
            last = replica.reads[-1]
            assert last.reply is not None
            assert last.reply.failure is None, f"{replica.name} does not recover: {last.reply.failure}"

    # What happens. Each is an event that hypothesis draws.

    async def read(self, which: int, campaign: str, directives: RequestDirectives) -> None:
        self.pick(which).read(campaign, directives)

    async def herd(self, campaign: str, directives: RequestDirectives) -> None:
        for replica in self.live:
            for _ in range(3):
                replica.read(campaign, directives)

    async def rush(self, which: int, count: int) -> None:
        """Many cold keys: more calls than the budget has."""
        for number in range(count):
            self.pick(which + number).read(f"rush-{len(self.platform.calls)}-{number}", NO_DIRECTIVES)

    async def hold(self) -> None:
        self.platform.holds = True

    async def unhold(self) -> None:
        self.platform.holds = False
        for call in self.platform.waiting():
            call.gate.set_result("good")

    async def release(self, which: int, outcome: str) -> None:
        if waiting := self.platform.waiting():
            waiting[which % len(waiting)].gate.set_result(outcome)

    async def change(self, campaign: str, value: str | None) -> None:
        self.platform.change(campaign, value)

    async def write(self, which: int, campaign: str, value: str | None, seconds: float) -> None:
        replica = self.pick(which)
        key = make_request(campaign).key
        change = partial(self.platform.change, campaign, value)
        replica.write(key, change, seconds, self._noter(replica, key, Cause.WRITE))

    async def write_all(self, which: int, value: str, seconds: float) -> None:
        """A write that may change what is shown of any campaign, as that of a contact list's name does."""
        replica = self.pick(which)

        def change() -> None:
            for campaign in CAMPAIGNS:
                self.platform.change(campaign, value)

        replica.write(ALL, change, seconds, self._noter(replica, ALL, Cause.WRITE))

    async def purge(self, which: int, campaign: str, by: Cause = Cause.PURGE) -> None:
        await self._invalidate(which, make_request(campaign).key, by)

    async def purge_all(self, which: int) -> None:
        await self._invalidate(which, ALL, Cause.PURGE)

    async def _invalidate(self, which: int, key: str, by: Cause) -> None:
        replica = self.pick(which)
        replica.invalidate_beside(key, by, self._noter(replica, key, by))

    async def crash(self, which: int) -> None:
        # A limit of the budget: calls that nobody is left to report, when the ledger was emptied, are not counted.
        if len(self.live) > 1 and self.now > self._emptied_at + JOINING:
            replica = self.pick(which)
            self.live.remove(replica)
            self.crashes[replica.name] = self._crashed_at = self.now
            await replica.crash()

    async def restart(self) -> None:
        if len(self.live) < FLEET and not self._open:
            await self.add()

    async def part(self, which: int) -> None:
        if not self._open:
            await self._settle()
            # A gap in the budget: whom nobody has seen since the ledger was emptied, nobody withholds a share for.
            await asyncio.sleep(max(0.0, self._emptied_at + JOINING - self.now))
            replica = self.pick(which)
            self._open[replica.name] = self.now
            self.net.part(replica.name)
            self.loop.call_later(LONGEST_PART, self.net.join, replica.name)

    async def lose(self) -> None:
        if not self._open:
            await self._settle()
            self._open["all"] = self.now
            self.net.lose()

    async def hang(self) -> None:
        if not self._open:
            await self._settle()
            self._open["all"] = self.now
            self.net.hang()

    async def mend(self, *, empty: bool = False) -> None:
        """Redis can be reached again by all; empty only where it was lost to all."""
        for whom, began in self._open.items():
            self.faults.append(Span(began, self.now + RECOVERY, None if whom == "all" else whom))
        if self._open.pop("all", None) is not None:
            if self.net.is_hung:
                self.net.resume()
            else:
                empty = empty and self._may_empty()
                self.net.come_back(empty=empty)
                if empty:
                    self._empty()
        for name in list(self._open):
            del self._open[name]
            self.net.join(name)
        await self.undeafen()

    async def restart_empty(self) -> None:
        if not self._open and self._may_empty():
            await self._settle()
            self.net.restart_empty()
            self._empty()

    async def flush(self) -> None:
        if not self._open and self._may_empty():
            await self._settle()
            self.net.flush()
            self._empty()

    async def cut_bus(self, which: int) -> None:
        name = self.pick(which).name
        self.net.cut_bus(name)
        # A replica that knows its subscription to be gone uses its copies for the configured time.
        self.blind.append(Blind(Span(self.now, self.now + RETRY_SECONDS + RECOVERY, name), _GRACE["cut_bus"]))

    async def deafen(self, which: int) -> None:
        name = self.pick(which).name
        if name not in self.net.deaf:
            self.net.deafen(name)
            self._deaf[name] = self.now

    async def undeafen(self) -> None:
        for name, began in self._deaf.items():
            self.net.undeafen(name)
            self.blind.append(Blind(Span(began, self.now, name), _GRACE["deafen"]))
        self._deaf.clear()

    async def rob(self, which: int) -> None:
        """One message gets lost. Only the next one can show that."""
        name = self.pick(which).name
        self.net.robbed.add(name)
        self._robbed.setdefault(name, self.now)

    # Sequences that chance alone brings too seldom.

    async def race(self, which: int, campaign: str, gap: float, by: Cause) -> None:
        """An invalidation among look-ups that are on their way, and then readers who must know of it."""
        self.pick(which).read(campaign, NO_DIRECTIVES)
        await asyncio.sleep(TIMEOUT)
        await self.herd(campaign, NO_DIRECTIVES)
        await asyncio.sleep(gap)
        await self.purge(which, campaign, by)
        await asyncio.sleep(4 * SLOWEST_SECONDS)
        await self.herd(campaign, RequestDirectives(max_stale=float("inf")))

    async def miss(self, which: int, how: str, by: Cause) -> None:
        """An invalidation that is not published to one replica, another message, and then a reader there who must know of both."""
        missed, other = CAMPAIGNS
        await self.herd(missed, NO_DIRECTIVES)
        await asyncio.sleep(TIMEOUT)
        await self.herd(missed, NO_DIRECTIVES)
        await asyncio.sleep(5 * SLOWEST_SECONDS)
        await getattr(self, how)(which)
        await self.purge(which + 1, missed, by)
        await asyncio.sleep(_GRACE[how] + 5 * SLOWEST_SECONDS)
        if how == "rob":
            await self.purge(which + 1, other, by)
            await asyncio.sleep(5 * SLOWEST_SECONDS)
        await self.read(which, missed, NO_DIRECTIVES)

    async def overtake(self, which: int, campaign: str) -> None:
        """A leader is cut off while its call is under way; its lease ends, and a later read is stored before its own."""
        if self._open or len(self.live) == 1:
            return
        await self._settle()
        await self.hold()
        await self.read(which, campaign, RequestDirectives(no_cache=True))
        await asyncio.sleep(0.3)
        await self.part(which)
        await asyncio.sleep(LEASE_MILLISECONDS / 1000 - 0.2)
        await self.read(which + 1, campaign, RequestDirectives(no_cache=True))
        await asyncio.sleep(0.1)
        await self.mend()
        for call in self.platform.waiting()[1:]:
            call.release("good")
        await asyncio.sleep(WATCH_SECONDS + 0.05)
        await self.unhold()

    async def late(self, which: int, campaign: str, by: Cause) -> None:
        """An invalidation of what a call is under way for, and readers who come when that call has been answered."""
        await self.hold()
        await self.read(which, campaign, RequestDirectives(no_cache=True))
        await asyncio.sleep(0.6)
        await self.purge(which + 1, campaign, by)
        await asyncio.sleep(0.2)
        await self.unhold()
        await asyncio.sleep(15 * SLOWEST_SECONDS)
        await self.herd(campaign, RequestDirectives(max_stale=float("inf")))

    async def amnesia(self, which: int, campaign: str, by: Cause) -> None:
        """An invalidation of what a call is under way for, and then a Redis that knows of none."""
        if self._open or not self._may_empty() or len(self.live) == 1:
            return
        await self._settle()
        await self.hold()
        await self.read(which, campaign, RequestDirectives(no_cache=True))
        await asyncio.sleep(0.6)
        await self.purge(which + 1, campaign, by)
        await asyncio.sleep(0.2)
        await self.restart_empty()
        await asyncio.sleep(2 * WATCH_SECONDS)
        await self.unhold()
        await asyncio.sleep(RECOVERY)
        await self.herd(campaign, RequestDirectives(max_stale=float("inf")))

    async def forget(self, which: int) -> None:
        """A ledger that is emptied when the budget is spent, and one replica that wants more at once."""
        await self.rush(which, 3 * FLEET)
        await asyncio.sleep(TIMEOUT)
        await self.flush()
        self._rush_one(self.pick(which), ALLOWANCE.calls)

    async def apart(self, which: int) -> None:
        """One replica is cut off for so long that it sends its share, while the others spend what they may."""
        if self._open or len(self.live) == 1:
            return
        await self.part(which)
        await asyncio.sleep(SILENCE_SECONDS + ALLOWANCE.most + 0.1)
        for replica in self.live:
            self._rush_one(replica, ALLOWANCE.calls)

    def _rush_one(self, replica: Replica, count: int) -> None:
        for number in range(count):
            replica.read(f"rush-{len(self.platform.calls)}-{replica.name}-{number}", NO_DIRECTIVES)

    # What is written down.

    def _noter(self, replica: Replica, key: str, by: Cause) -> Callable[[float, float], None]:
        def note(began: float, ended: float) -> None:
            if any(who == replica.name and raised == key and began <= at <= ended for at, who, raised in self._raised):
                self.invalidations[key].append(Invalidating(began, ended, replica.name, by))

        return note

    def _invalidating(self, campaign: str) -> list[Invalidating]:
        return self.invalidations[make_request(campaign).key] + self.invalidations[ALL]

    def _executed(self, replica: str, fields: list[bytes]) -> None:
        """Looks at what stands in Redis after a script."""
        if fields[0].upper() != b"EVALSHA":
            return
        names = fields[3 : 3 + int(fields[2])]
        for name in names:
            item, key = self.net.server.dbs[0].get(name), name.decode().partition("}:")[2]
            if name.startswith(b"cg:entry:") and item is not None:
                self._look_at(replica, key, item.value)
            elif name is names[0] and name.startswith(b"cg:fence:") and item is not None:
                self._raised.append((self.now, replica, key))

    def _look_at(self, replica: str, key: str, value: bytes) -> None:
        fence, begun, group, moment = (int(value[start : start + 16]) for start in range(0, 64, 16))
        order, old = (fence, group, begun), self._fences.get(key, (0, 0, 0))
        if order < old:
            self.broken.append(f"{self.now:.3f} {key} went from {old} back to {order}")
        if fence > old[0]:
            self._raised.append((self.now, replica, key))
            self._moments[key] = moment
        if value[64:65] == b"-" and begun < self._moments.get(key, 0):
            self.broken.append(
                f"{self.now:.3f} {key} is good from {begun}, and was invalidated at {self._moments[key]}"
            )
        self._fences[key] = order

    def _received(self, replica: str) -> None:
        if replica in self._robbed and replica not in self.net.robbed:
            self.blind.append(Blind(Span(self._robbed.pop(replica), self.now, replica), float("inf")))

    def _empty(self) -> None:
        self._emptied_at = self.now
        self._fences.clear()
        self.faults.append(Span(self.now, self.now + RECOVERY))

    def _may_empty(self) -> bool:
        return self.now > self._crashed_at + ALLOWANCE.most

    async def _settle(self) -> None:
        await asyncio.sleep(max(0.0, self._joined_at + JOINING - self.now))

    # What is judged.

    def judge(self, seen: Counter[str]) -> None:
        assert not self.broken, self.broken
        self._judge_budget(seen)
        self._judge_fills(seen)
        for replica in self.all:
            for read in replica.reads:
                if read.reply is not None and read.reply.entry is not None:
                    self._judge_read(read, seen)

    def _judge_budget(self, seen: Counter[str]) -> None:
        arrivals = sorted(call.arrived for call in self.platform.calls if call.arrived is not None)
        for first, beyond in zip(arrivals, arrivals[ALLOWANCE.calls :], strict=False):
            assert beyond - first >= ALLOWANCE.window, f"over budget from {first:.3f} to {beyond:.3f}: {arrivals}"
        for first, last in zip(arrivals, arrivals[ALLOWANCE.calls - 1 :], strict=False):
            seen["full windows"] += last - first < ALLOWANCE.window

    def _judge_fills(self, seen: Counter[str]) -> None:
        by_campaign = defaultdict(list)
        for call in self.platform.calls:
            by_campaign[call.campaign].append(call)
        for campaign, calls in by_campaign.items():
            together: list[PlatformCall] = []
            for call in sorted(calls, key=lambda call: call.started):
                together = [other for other in together if (other.ended or 0.0) > call.started]
                if together:
                    seen["fills together"] += 1
                    since = min(other.started for other in together)
                    assert self._explains_two(campaign, since, call.started), (campaign, together, call)
                together.append(call)
                seen["fills"] += 1

    def _explains_two(self, campaign: str, since: float, until: float) -> bool:
        return any(span.touches(since, until, *(one.name for one in self.all)) for span in self._all_faults()) or any(
            # A fill that is let go at an invalidation may still wait for another leader, and call after it.
            span.touches(since - 2 * TIMEOUT, until, span.whom or "")
            for span in self._invalidating(campaign)
        )

    def _all_faults(self) -> list[Span]:
        return [*self.faults, *(Span(at, at + RECOVERY, name) for name, at in self.crashes.items())]

    def _judge_read(self, read: Read, seen: Counter[str]) -> None:
        assert read.reply is not None
        assert read.reply.entry is not None
        entry, age = read.reply.entry, read.reply.age
        seen["replies with an entry"] += 1
        validated = read.ended - age
        value = None if entry.absence is not None else name_in(entry.body)
        validations = [
            call
            for call in self.platform.calls
            if call.campaign == read.campaign
            and call.answered
            and call.value == value
            and abs(call.started - validated) <= TOLERANCE
        ]
        assert validations, (
            f"no read validated {value} of {read.campaign} {age:.3f} s before {read.ended:.3f} on {read.replica}"
        )
        newest = max(call.started for call in validations)
        bound = FRESHNESS.bound(entry)
        assert read.ended - newest <= bound + TOLERANCE, f"{read.ended - newest:.3f} s old, bound {bound}"
        assert self.platform.was_true(read.campaign, value, newest, read.ended)
        seen["old replies"] += age > FRESHNESS.stale_while_revalidate + FRESHNESS.max
        ttl, detail = read.reply.outcome.ttl, read.reply.outcome.detail
        assert ttl is not None
        for told in self._invalidating(read.campaign):
            if self._must_know(told, read):
                seen[f"reads after a {told.by}"] += 1
                is_published = ttl <= 0 and (told.by is Cause.PURGE or detail in FALLEN_BACK)
                seen[f"older replies after a {told.by}"] += newest < told.began
                assert newest >= told.began or is_published, (
                    f"{read.replica} began at {read.began:.3f} and got {value}, read at {newest:.3f}, as {detail} with"
                    f" {ttl:.3f} s left: invalidated by a {told.by} at {told.began:.3f} by {told.whom}"
                )

    def _must_know(self, told: Span, read: Read) -> bool:
        """Whether nothing excuses the reader for not knowing of the invalidation."""
        if read.began < told.ended + (0.0 if read.replica == told.whom else SETTLED):
            return False
        missed = (told.began, told.ended + SETTLED, read.replica)
        if any(span.touches(*missed) and read.began <= span.ended for span in self.faults):
            return False
        return not any(
            blind.span.touches(*missed) and read.began <= min(blind.span.ended + SETTLED, told.ended + blind.grace)
            for blind in self.blind
        )


WHICH = st.integers(0, FLEET - 1)
CAMPAIGN = st.sampled_from(CAMPAIGNS)
DIRECTIVE = st.sampled_from(DIRECTIVES)
CAUSE = st.sampled_from(list(Cause))
VALUE = st.sampled_from(["v1", "v2", "v3", None])
OUTCOME = st.sampled_from(["good", "good", "good", "error", "html", "reset", "limited"])


def event(name: str, *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Event]:
    return st.tuples(st.just(name), *arguments)


CALM = (
    event("read", WHICH, CAMPAIGN, DIRECTIVE),
    event("read", WHICH, CAMPAIGN, DIRECTIVE),
    event("herd", CAMPAIGN, DIRECTIVE),
    event("rush", WHICH, st.integers(4, 12)),
    event("hold"),
    event("unhold"),
    event("release", st.integers(0, 9), OUTCOME),
    event("release", st.integers(0, 9), OUTCOME),
    event("change", CAMPAIGN, VALUE),
)
WRITES = (
    event("write", WHICH, CAMPAIGN, VALUE, st.sampled_from([0.0, 0.01, 0.3])),
    event("write_all", WHICH, st.sampled_from(["v1", "v2"]), st.sampled_from([0.0, 0.01, 0.3])),
    event("purge", WHICH, CAMPAIGN, CAUSE),
    event("purge_all", WHICH),
    event("late", WHICH, CAMPAIGN, CAUSE),
    event("race", WHICH, CAMPAIGN, st.sampled_from([0.0, 0.002, 0.005, 0.01, 0.02, 0.03]), CAUSE),
)
CRASHES = (event("crash", WHICH), event("restart"))
REDIS = (
    event("part", WHICH),
    event("lose"),
    event("hang"),
    event("mend"),
    event("mend"),
    event("flush"),
    event("restart_empty"),
    event("overtake", WHICH, CAMPAIGN),
    event("amnesia", WHICH, CAMPAIGN, CAUSE),
    event("forget", WHICH),
    event("apart", WHICH),
)
BUS = (
    event("cut_bus", WHICH),
    event("deafen", WHICH),
    event("undeafen"),
    event("rob", WHICH),
    event("miss", WHICH, st.sampled_from(sorted(_GRACE)), CAUSE),
)
PROFILES = {
    "calm": CALM,
    "writes": CALM + WRITES,
    "crashes": CALM + WRITES + CRASHES,
    "bus": CALM + WRITES + BUS,
    "redis": CALM + WRITES + REDIS,
    "all": CALM + WRITES + CRASHES + BUS + REDIS,
}
WAITS = st.sampled_from([0.0, 0.0, 0.003, 0.01, 0.1, 0.4, 1.0, 3.0, 9.0])


def _played(seed: int, events: Sequence[tuple[float, Event]]) -> Counter[str]:
    """How often each thing was put to the test in one run."""

    async def playing() -> World:
        world = World(seed)
        await world.play(events)
        return world

    seen: Counter[str] = Counter()
    with virtual_time() as loop:
        loop.run_until_complete(playing()).judge(seen)
    return seen


@pytest.mark.parametrize(
    "sequence",
    [
        *(("race", 0, "c-1", gap, by) for gap in (0.0, 0.005, 0.02) for by in Cause),
        *(("miss", 0, how, by) for how in sorted(_GRACE) for by in Cause),
        *(("late", 0, "c-1", by) for by in Cause),
        ("overtake", 0, "c-1"),
        *(("amnesia", 0, "c-1", by) for by in Cause),
        ("forget", 0),
        ("apart", 0),
    ],
    ids=lambda sequence: "-".join(map(str, sequence)),
)
@pytest.mark.parametrize("seed", range(1, 1 + scaled(3)))
def test_the_promises_hold_in_a_sequence_made_to_break_them(seed: int, sequence: Event) -> None:
    assert _played(seed, [(1.0, sequence)])["fills"] > 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("profile", PROFILES)
def test_the_promises_hold_whatever_comes_between(profile: str) -> None:
    seen: Counter[str] = Counter()

    @settings(
        derandomize=True,
        database=None,
        deadline=None,
        max_examples=EXAMPLES,
        # Shrinking would take minutes, and the whole sequence with its times says enough.
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 2**16), st.lists(st.tuples(WAITS, st.one_of(*PROFILES[profile])), min_size=8, max_size=40))
    def run(seed: int, events: list[tuple[float, Event]]) -> None:
        seen.update(_played(seed, events))

    run()
    # A run in which nothing was put to the test would pass as well.
    assert seen["fills"] > EXAMPLES
    assert seen["full windows"] > 0
    assert seen["replies with an entry"] > EXAMPLES
    if profile != "calm":
        for by in Cause:
            assert seen[f"reads after a {by}"] > 0
            assert seen[f"older replies after a {by}"] > 0 or profile != "writes"
