"""Replicas that sweep, and a platform with lists: it remembers each version of each campaign, and each call."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import formatdate
from random import Random

from typing_extensions import override

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET, Call, Tenant
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.freshness import Freshness, StatusRule
from campaign_gateway.policy.ledger import Allowance
from campaign_gateway.policy.pacing import Capacity
from campaign_gateway.policy.stored import Stored
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.bounds import StatedBounds, stated_bounds
from campaign_gateway.proxy.ports import Handlers, UpstreamError
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep import SweepConfig, Sweeper
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.redis.keys import Keys
from tests.support.doubles import NOT_FOUND, SUPPORT, campaign_response, error_response, json_response, name_in
from tests.support.fleet import Replica
from tests.support.redis_net import RedisNet
from tests.support.virtual_time import EPOCH

LAG = 10.0
"""What the replicas allow a list to lag by: the default."""
SALES = Stream("sales", Tenant("st-2", SUPPORT.tenant.account, "app-2"), "main", "identity-2")
"""A second stream on the first one's account."""
FRESHNESS = Freshness(status={"Active": StatusRule(max=15.0), "Preparing": StatusRule(max=5.0)})
TIMEOUT = 5.0


def allowance(calls: int) -> Allowance:
    return Allowance(calls=calls, window=60.0, leave=2.0, timeout=TIMEOUT, reserve=min(5, calls // 4))


@dataclass(frozen=True)
class Version:
    """What was true of a campaign from a moment on."""

    began: float
    value: str | None
    """Told by its name; None: there is no such campaign."""
    revision: float
    status: str = "Ready"
    is_signalled: bool = True
    """Whether the first rows of a list in order show the change that made it."""
    hides: bool = False
    """Whether they do not show the changes before it any longer either."""


@dataclass
class Listed:
    """One campaign."""

    id: str
    channel: Channel
    created: float
    versions: list[Version]

    def at(self, moment: float) -> Version | None:
        return next((version for version in reversed(self.versions) if version.began <= moment), None)


@dataclass
class SeenCall:
    """A call as the platform's log shows it. Times are the loop's."""

    stream: str
    campaign: str
    """Empty for a list."""
    replica: str
    started: float
    channel: Channel | None = None
    skip: int = 0
    arrived: float | None = None
    value: str | None = None
    is_answered: bool = False


@dataclass
class ListedPlatform:
    """Answers by id and lists out of the truth, as wrong as a test says."""

    seed: int
    sort_key: str = "updatedAt"
    """What lists are sorted by, whatever was asked for."""
    unsorted: frozenset[Channel] = frozenset(Channel)
    """The channels for which that counts."""
    list_lag: float = 0.0
    read_lag: float = 0.0
    max_rows: int = 100
    total_lie: int | None = 0
    """Added to each total; None leaves totals out."""
    limited_until: float = 0.0
    """Until when calls are refused with a 429."""
    is_out: bool = False
    broken_channel: Channel | None = None
    """Whose lists fail."""
    latency: tuple[float, ...] = (0.02, 0.1, 0.3)
    list_delay: float = 0.0
    """How long lists take on their way back."""
    skew: float = 0.0
    """Seconds that its clock is ahead: in the revisions of what changes now, and in the dates of its answers."""
    row_lag: float = 0.0
    """Each version comes to be shown by lists after a time of its own, up to so long."""
    calls: list[SeenCall] = field(default_factory=list)
    campaigns: dict[str, dict[str, Listed]] = field(default_factory=dict)
    """By stream, as named in paths, and id."""

    def __post_init__(self) -> None:
        self.random = Random(f"platform {self.seed}")
        self._number = 0
        self._row_lags: dict[str, float] = {}
        self._loop = asyncio.get_running_loop()

    # The truth.

    def seed_stream(self, stream: str, counts: Mapping[Channel, int]) -> None:
        """Campaigns that were always there, changed at any time in a month; some in the same millisecond."""
        changed = 0.0
        for channel, count in counts.items():
            for number in range(count):
                if number % 10 != 1:
                    changed = -self.random.uniform(600.0, 30 * 86_400.0)
                revision = changed + self.skew
                self._add(
                    stream, f"{channel}-{number}", channel, changed - 60.0, began=float("-inf"), revision=revision
                )

    def create(self, stream: str) -> str:
        id_ = f"new-{self._number}"
        channel = self.random.choice(list(Channel))
        self._add(stream, id_, channel, self._now, began=self._now, revision=self._now + self.skew - 0.25)
        return id_

    def edit(self, stream: str, id_: str, kind: str = "moved") -> None:
        """Changes a campaign: `moved`, `silent` (no revision moves), `back` (to an older revision), `gone`, or a status."""
        campaign = self.campaigns[stream][id_]
        last = campaign.versions[-1]
        if last.value is None:
            return
        version = Version(self._now, self.name_in(), self._now + self.skew, last.status)
        match kind:
            case "silent":
                version = replace(version, revision=last.revision, is_signalled=False)
            case "back":
                version = replace(version, revision=last.revision - 3600.0, is_signalled=False, hides=True)
            case "gone":
                version = replace(version, value=None, revision=last.revision, is_signalled=False, hides=True)
            case "Active" | "Ready":
                version = replace(version, status=kind)
            case _:
                assert kind == "moved"
        campaign.versions.append(version)

    # Implements what replicas need of an upstream.

    async def send(
        self, replica: str, stream: Stream, call: Call, leave_by: float, is_alive: Callable[[], bool]
    ) -> Response:
        started = self._now
        await asyncio.sleep(self.random.choice(self.latency) / 2)
        if self._now > leave_by or not is_alive():
            raise UpstreamError(Problem.UPSTREAM_TIMEOUT, "never left", was_sent=False)
        seen = SeenCall(stream.tenant.stream, "", replica, started, arrived=self._now)
        self.calls.append(seen)
        if call.body is None:
            seen.campaign = call.target.partition("?")[0].rpartition("/")[2]
            answer = self._by_id(seen)
        else:
            answer = self._list(seen, json.loads(call.body))
        await asyncio.sleep(self.random.choice(self.latency) / 2 + (self.list_delay if seen.channel else 0.0))
        if self.is_out:
            raise UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "no connection")
        if self.limited_until > (seen.arrived or 0.0):
            left = self.limited_until - self._now
            return error_response(429, "You've exceeded the per-minute rate limit.", retry_after=str(int(left) + 1))
        if seen.channel is not None and seen.channel is self.broken_channel:
            return error_response(500, "Something went wrong")
        seen.is_answered = True
        return replace(answer, date=formatdate(EPOCH + self._now + self.skew, usegmt=True))

    @property
    def _now(self) -> float:
        return self._loop.time()

    def name_in(self) -> str:
        self._number += 1
        return f"v{self._number}"

    def _add(self, stream: str, id_: str, channel: Channel, created: float, *, began: float, revision: float) -> None:
        first = Version(began, self.name_in(), revision)
        self.campaigns.setdefault(stream, {})[id_] = Listed(id_, channel, created, [first])

    def _by_id(self, seen: SeenCall) -> Response:
        campaign = self.campaigns[seen.stream].get(seen.campaign)
        version = campaign.at(self._now - self.read_lag) if campaign is not None else None
        if version is None or version.value is None:
            return NOT_FOUND
        seen.value = version.value
        return campaign_response(
            seen.campaign, name=version.value, status=version.status, updatedAt=_stamp(version.revision)
        )

    def _listed(self, campaign: Listed) -> Version | None:
        """The version that lists show now."""
        if not self.row_lag:
            return campaign.at(self._now - self.list_lag)
        for version in reversed(campaign.versions):
            lag = self._row_lags.setdefault(f"{campaign.id} {version.value}", self.random.uniform(0.0, self.row_lag))
            if version.began + lag <= self._now:
                return version
        return None

    def _list(self, seen: SeenCall, asked: Mapping[str, int | str]) -> Response:
        seen.channel, seen.skip = Channel(str(asked["type"])), int(asked["skip"])
        listed = [
            (campaign, version)
            for campaign in self.campaigns[seen.stream].values()
            if campaign.channel is seen.channel
            and (version := self._listed(campaign)) is not None
            and version.value is not None
        ]
        match self.sort_key if seen.channel in self.unsorted else "updatedAt":
            case "updatedAt":
                # Those of the same millisecond in any order.
                self.random.shuffle(listed)
                listed.sort(key=lambda row: _stamp(row[1].revision), reverse=True)
            case "createdAt":
                listed.sort(key=lambda row: -row[0].created)
            case _:
                listed.sort(key=lambda row: row[0].id)
        limit = min(int(asked["limit"]), self.max_rows)
        page = listed[seen.skip : seen.skip + limit]
        data = {
            "results": [
                {
                    "_id": campaign.id,
                    "status": version.status,
                    "updatedAt": _stamp(version.revision),
                    "campaignInstanceUpdatedAt": _stamp(version.revision + 0.007),
                }
                for campaign, version in page
            ],
            "hasMore": seen.skip + len(page) < len(listed),
        }
        if self.total_lie is not None:
            data["totalResults"] = max(0, len(listed) + self.total_lie)
        return json_response({"status": "success", "data": data})


def _stamp(moment: float) -> str:
    text = datetime.fromtimestamp(EPOCH + moment, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


@dataclass(frozen=True)
class SweptAnswer:
    """What a caller got, and what its replica stated then."""

    replica: str
    stream: str
    campaign: str
    at: float
    """The loop's time."""
    entry: Stored | None
    value: str | None
    age: float
    ttl: float
    is_forwarded: bool
    detail: Detail | None
    lasts: float | None
    """Seconds for which a poll's word is good; None where no poll has one on the campaign."""
    bounds: StatedBounds
    is_distrusted: bool
    """Whether the list of the campaign's channel was known not to be believed."""
    problem: Problem | None


class SweptReplica(Replica):
    """A gateway with the index in Redis and a sweeper per stream."""

    def __init__(
        self,
        name: str,
        platform: ListedPlatform,
        net: RedisNet,
        replicas: int,
        streams: Sequence[Stream],
        calls: int,
        lag: float | None = LAG,
    ) -> None:
        super().__init__(name, platform, net, replicas, allowance=allowance(calls), freshness=FRESHNESS)
        self.streams = streams
        self.answers: list[SweptAnswer] = []
        self._listed = platform
        limits, account = allowance(calls), SUPPORT.tenant.account

        def capacity() -> Capacity:
            known = self.budget.outlook(account)
            return Capacity(
                known.capacity,
                limits.window,
                limits.reserve,
                0.5,
                known.callers,
                len(streams),
                known.free,
                known.falls,
                known.is_contended,
            )

        self.sweepers = [
            Sweeper(
                stream=stream,
                index=self.index,
                store=self.store,
                fetcher=self._fetcher,
                refresh=self._exchange.read_again,
                config=SweepConfig(0.5, lag, capacity, self._fetcher.clock.seconds_ahead),
                tasks=self._watchers,
                meter=self.meter,
            )
            for stream in streams
        ]

    @override
    def _make_index(self, keys: Keys) -> RedisIndex:
        beat = Beat(self.link, keys, self.bus.replica_id)
        self.redis_index = RedisIndex(self.link, self.bus, beat, keys, self.store.epoch)
        return self.redis_index

    @override
    async def start(self) -> None:
        await self.link.start(self._watchers)
        self.store.start(self._watchers, Handlers(self._flights.forget, self.writers.note, lambda *_: None))
        self.redis_index.start(self._watchers, [stream.identity for stream in self.streams])
        await self.budget.start([SUPPORT.tenant.account])
        for sweeper in self.sweepers:
            self._watchers.supervise(sweeper.run, name="sweep")

    def bounds(self, stream: Stream) -> StatedBounds:
        return stated_bounds(self.index, self.store, FRESHNESS.max, stream.identity)

    def look_up(self, stream: Stream, campaign: str) -> None:
        """Begins a read, whose result is in `answers` when it has ended."""

        async def reading() -> None:
            reply = await self._exchange.read(Request(stream, GET, campaign, "tests"))
            entry = reply.entry
            self.answers.append(
                SweptAnswer(
                    replica=self.name,
                    stream=stream.tenant.stream,
                    campaign=campaign,
                    at=self._loop.time(),
                    entry=entry,
                    value=None if entry is None or entry.absence is not None else name_in(entry.body),
                    age=reply.age,
                    ttl=reply.outcome.ttl or 0.0,
                    is_forwarded=reply.outcome.fwd is not None,
                    detail=reply.outcome.detail,
                    lasts=self._lasts(stream, campaign),
                    bounds=self.bounds(stream),
                    is_distrusted=self._is_distrusted(stream, campaign),
                    problem=reply.failure.problem if reply.failure is not None else None,
                )
            )

        self._callers.spawn(reading(), name="read")

    def _lasts(self, stream: Stream, campaign: str) -> float | None:
        snapshot = self.index.snapshot(stream.identity)
        if campaign not in snapshot.campaigns or self._is_distrusted(stream, campaign):
            return None
        poll = snapshot.state.polls.get(snapshot.campaigns[campaign].channel)
        return None if poll is None else poll.lasts

    def _is_distrusted(self, stream: Stream, campaign: str) -> bool:
        snapshot = self.index.snapshot(stream.identity)
        return campaign in snapshot.campaigns and snapshot.campaigns[campaign].channel in snapshot.state.flaws

    @override
    async def send(self, stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        return await self._listed.send(self.name, stream, call, leave_by, lambda: self.is_alive)
