import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import Call
from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import Capacity
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import SETTLE_SECONDS, IndexSnapshot, ListFlaw
from campaign_gateway.policy.trust import STAND_DOWN_SECONDS
from campaign_gateway.policy.visibility import LATE_STEP
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.bounds import stated_bounds
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import SweepConfig, Sweeper
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.sweep.full_scan import FullScanner
from campaign_gateway.proxy.sweep.leader import SHORTEST_SLEEP_SECONDS
from campaign_gateway.proxy.sweep.lists import Lists
from campaign_gateway.proxy.sweep.poll import STARVED_SECONDS
from campaign_gateway.store.usage import LISTENED_SECONDS
from tests.support.builders import stamp
from tests.support.doubles import (
    SUPPORT,
    begun,
    campaign_response,
    error_response,
    finished,
    json_response,
    make_request,
    turns,
)
from tests.support.story import FRESHNESS, HARD_BOUND, Story
from tests.support.virtual_time import timers

LAG = 10.0
ID = SUPPORT.identity


class World:
    """A platform with campaigns, callers who use them, and a sweeper that is driven look by look."""

    def __init__(self, campaigns: int = 4, share: float = 0.5, *, is_polled: bool = False) -> None:
        self.story = Story(self.answer, is_polled=is_polled)
        self.clock = self.story.clock
        self.campaigns = {
            f"c-{n}": {"updatedAt": stamp(self.clock.now() - 5000 - n), "status": "Ready"} for n in range(campaigns)
        }
        self.list_fails: Response | None = None
        self.is_ascending = False
        self.hidden: str | None = None
        """A campaign that lists count, and do not show."""
        self.asked: list[str] = []
        self.capacity = Capacity(60, 60.0, 5, 0.5)
        self.capacity_source: Callable[[], Capacity] = lambda: self.capacity
        story = self.story
        self.fetcher = story.fetcher
        self.sweeper = Sweeper(
            stream=SUPPORT,
            index=story.index,
            store=story.store,
            fetcher=self.fetcher,
            refresh=story.exchange.read_again,
            config=SweepConfig(share, LAG, self._capacity),
            tasks=story.tasks,
            meter=story.meter,
        )
        self.sweeper.take_over()

    def _capacity(self) -> Capacity:
        return self.capacity_source()

    def answer(self, _stream: Stream, call: Call) -> Response:
        if call.body is None:
            id_ = call.target.partition("?")[0].rpartition("/")[2]
            self.asked.append(id_)
            return campaign_response(id_, **self.campaigns[id_])
        wanted = json.loads(call.body)
        self.asked.append(f"list {wanted['type']}")
        if self.list_fails is not None:
            return self.list_fails
        rows = [{"_id": id_, **members} for id_, members in self.campaigns.items()] if wanted["type"] == "voice" else []
        rows.sort(key=lambda each: str(each["updatedAt"]), reverse=not self.is_ascending)
        shown = [row for row in rows[wanted["skip"] :][: wanted["limit"]] if row["_id"] != self.hidden]
        return json_response(
            {"status": "success", "data": {"results": shown, "totalResults": len(rows), "hasMore": False}}
        )

    @property
    def snapshot(self) -> IndexSnapshot:
        return self.story.index.snapshot(ID)

    def change(self, id_: str, **members: Any) -> None:
        self.campaigns[id_] = {**self.campaigns[id_], "updatedAt": stamp(self.clock.now()), **members}

    async def use(self) -> None:
        """Callers ask for all campaigns."""
        for id_ in self.campaigns:
            await self.story.read(id_)

    async def look(self, seconds: float = 0.0) -> list[str]:
        """What the platform is asked in one look of the leader, so much later."""
        self.clock.advance(seconds)
        before = len(self.asked)
        self.sweeper.look_once()
        await finished(self.story.tasks)
        # What the poll has shown is read at once.
        self.sweeper.look_once()
        await finished(self.story.tasks)
        return self.asked[before:]

    async def looks(self, seconds: float, step: float = 1.0) -> list[str]:
        asked = []
        for _ in range(round(seconds / step)):
            asked += await self.look(step)
        return asked

    def lists(self, asked: list[str]) -> int:
        return asked.count("list voice")


@pytest.fixture
async def world():
    made = World()
    await made.use()
    made.asked.clear()
    yield made
    await made.story.close()


async def test_nothing_in_use_costs_nothing():
    world = World()
    assert await world.looks(60) == []
    await world.story.close()


async def test_a_stream_that_nobody_uses_wakes_nobody_until_its_first_use():
    world = World()
    before = timers()
    world.story.tasks.spawn(world.sweeper.run(), name="sweep")
    await turns()
    assert timers() == before
    for id_ in world.campaigns:
        world.story.index.record_use(ID, id_, world.clock.now())
    async with asyncio.timeout(5):
        await world.story.index.wait_for_change(ID, math.inf)
    assert "list voice" in world.asked
    await world.story.close()


async def test_the_first_look_asks_for_each_list_once(world: World):
    asked = await world.look()
    assert asked[:1] == ["list voice"]
    assert world.lists(asked) == 1
    assert set(world.snapshot.campaigns) == set(world.campaigns)
    assert world.story.meter.of("proof", "sweep", "unchanged") >= 1


async def test_lists_are_paid_from_the_validation_lane_under_a_name_of_their_own(world: World):
    world.story.budget.asked.clear()
    await world.look()
    assert ("acc-1", Lane.VALIDATION, "sweep") in {permit[:3] for permit in world.story.budget.asked}
    assert world.story.meter.of("upstream", "support", "list", "sweep", "ok") >= 1


async def test_callers_are_answered_by_validation_of_the_list(world: World):
    await world.looks(40)
    world.asked.clear()
    fresh = [await world.story.read(id_) for id_ in world.campaigns]
    assert world.asked == []
    assert all(reply.outcome.cache == "hit" for reply in fresh)
    assert Detail.SWEEP in {reply.outcome.detail for reply in fresh}


async def test_what_changed_is_read_again_and_callers_get_the_new_state(world: World):
    await world.looks(40)
    world.change("c-2", name="new")
    asked = await world.looks(world.snapshot.state.polls[Channel.VOICE].lasts)
    assert "c-2" in asked
    reply = await world.story.read("c-2", RequestDirectives(only_if_cached=True))
    assert reply.entry is not None
    assert b'"new"' in reply.entry.body
    assert reply.outcome.cache == "hit"


async def test_what_changed_and_nobody_asks_for_is_not_read(world: World):
    await world.looks(40)
    world.campaigns["unused"] = {"updatedAt": stamp(world.clock.now()), "status": "Ready"}
    await world.looks(20)
    world.change("unused")
    assert "unused" not in await world.looks(20)
    assert world.snapshot.campaigns["unused"].has_changed


async def test_a_read_that_may_still_show_the_old_state_is_made_once_more(world: World):
    await world.looks(40)
    old = world.campaigns["c-1"]
    world.change("c-1")
    new, world.campaigns["c-1"] = world.campaigns["c-1"], old
    answer = world.answer

    def lagging(stream: Stream, call: Call) -> Response:
        if call.body is None:
            return answer(stream, call)
        world.campaigns["c-1"] = new
        try:
            return answer(stream, call)
        finally:
            world.campaigns["c-1"] = old

    world.story.upstream.script = [lagging]
    while not world.snapshot.campaigns["c-1"].has_changed:
        await world.look(1.0)
    world.story.upstream.script = [answer]
    world.campaigns["c-1"] = new
    await world.looks(SETTLE_SECONDS + 2)
    entry = await world.story.stored("c-1")
    assert entry is not None
    assert entry.revision == new["updatedAt"]


async def test_a_list_that_is_not_sorted_validates_nothing_and_is_left_alone_for_a_while(world: World):
    await world.looks(40)
    assert stated_bounds(world.story.index, world.story.store, 60.0, ID).is_validating
    world.is_ascending = True
    while not world.snapshot.state.flaws:
        await world.look(1.0)
    assert ListFlaw.UNSORTED in world.snapshot.state.flaws.values()
    bounds = stated_bounds(world.story.index, world.story.store, 60.0, ID)
    assert (bounds.is_validating, bounds.signal, bounds.blind) == (False, 60.0, 60.0)
    reply = await world.story.read("c-0")
    assert reply.outcome.detail is not Detail.SWEEP
    assert world.lists(await world.looks(STAND_DOWN_SECONDS - 2)) == 0
    world.is_ascending = False
    await world.looks(5)
    assert not world.snapshot.state.flaws


async def test_a_list_that_fails_validates_nothing_and_is_no_reason_for_distrust(world: World):
    await world.looks(40)
    began = {channel: done.began for channel, done in world.snapshot.state.polls.items()}
    world.list_fails = error_response(500, "broken")
    await world.looks(5)
    assert not world.snapshot.state.flaws
    assert {channel: done.began for channel, done in world.snapshot.state.polls.items()} == began
    assert world.story.meter.of("proof", "sweep", "failed") >= 1
    world.list_fails = None
    await world.looks(60)
    assert world.snapshot.state.polls[Channel.VOICE].began > began[Channel.VOICE]


async def test_a_lagging_list_is_not_believed(world: World):
    await world.looks(40)
    world.change("c-3", updatedAt=stamp(world.clock.now() - LAG - 40))
    await world.looks(20)
    assert ListFlaw.TOO_LATE in world.snapshot.state.flaws.values()


async def test_stated_bounds_hold_as_long_as_polls_go_on(world: World):
    await world.looks(3)
    last = world.snapshot.state.polls[Channel.VOICE]
    bounds = stated_bounds(world.story.index, world.story.store, 600.0, ID)
    assert bounds.is_validating
    assert bounds.signal == last.lasts + LAG
    assert bounds.blind == max(world.snapshot.state.blind, 600.0)


@pytest.mark.parametrize(("late", "signal"), [(0.5, 1.0), (1.5, 1.5), (2.9, 2.9), (3.1, None)])
async def test_a_late_poll_widens_the_bound_and_no_more_than_that(world: World, late: float, signal: float | None):
    """It does not jump to the longest lifetime, and is true all the same: what a poll will show came after the last."""
    await world.looks(3)
    last = world.snapshot.state.polls[Channel.VOICE]
    world.clock.advance(last.began + late * last.lasts - world.clock.now())
    bounds = stated_bounds(world.story.index, world.story.store, 600.0, ID)
    assert bounds.is_validating is (signal is not None)
    widened = 0.0 if late <= 1 else LATE_STEP
    assert bounds.signal == pytest.approx(600.0 if signal is None else signal * last.lasts + widened + LAG)


async def test_the_stated_bound_is_that_of_the_slowest_channel(world: World):
    await world.looks(3)
    state = world.snapshot.state
    sms = replace(state.polls[Channel.VOICE], lasts=100.0)
    state = replace(state, polls={**state.polls, Channel.SMS: sms}, paced=tuple(Channel), number=state.number + 1)
    await world.story.index.publish(ID, state, {})
    assert stated_bounds(world.story.index, world.story.store, 600.0, ID).signal == 100.0 + LAG


async def test_nothing_is_stated_of_all_campaigns_before_a_full_scan_has_come_to_its_end(world: World):
    await world.looks(3)
    state = world.snapshot.state
    polls = {Channel.VOICE: replace(state.polls[Channel.VOICE], full_scan_at=0.0)}
    await world.story.index.publish(ID, replace(state, polls=polls, number=state.number + 1), {})
    assert not stated_bounds(world.story.index, world.story.store, 600.0, ID).is_validating


async def test_polls_keep_no_answer_past_the_hard_bound(world: World):
    # Reads by id fail, lists go on.
    await world.looks(40)
    answer = world.answer
    world.story.upstream.script = [
        lambda stream, call: error_response(500, "broken") if call.body is None else answer(stream, call)
    ]
    await world.looks(HARD_BOUND + 60, step=20.0)
    reply = await world.story.read("c-0")
    assert reply.entry is None
    assert FRESHNESS.stale_if_error == HARD_BOUND


async def test_changes_that_the_list_never_shows_end_the_trust_in_it(world: World):
    # Answers by id carry new revisions; the list's rows stand still.
    await world.looks(200)
    answer, stood = world.answer, {id_: dict(row) for id_, row in world.campaigns.items()}

    def still(stream: Stream, call: Call) -> Response:
        if call.body is None:
            return answer(stream, call)
        now, world.campaigns = world.campaigns, stood
        try:
            return answer(stream, call)
        finally:
            world.campaigns = now

    world.story.upstream.script = [still]
    for id_ in world.campaigns:
        world.change(id_, name="new")
    for _ in range(400):
        await world.look(1.0)
        if world.snapshot.state.flaws:
            break
    assert ListFlaw.DISAGREES in world.snapshot.state.flaws.values()


async def test_one_change_that_the_list_does_not_show_is_no_reason_yet(world: World):
    await world.looks(200)
    world.campaigns["c-0"] = {**world.campaigns["c-0"], "name": "silent"}
    await world.looks(300)
    assert not world.snapshot.state.flaws
    entry = await world.story.stored("c-0")
    assert entry is not None
    assert b"silent" in entry.body, "the rotation has found it"


async def test_a_list_that_fails_is_asked_again_at_the_next_poll(world: World):
    world.capacity = Capacity(60, 60.0, 5, 0.1)
    await world.looks(40)
    pace = world.sweeper.pace.poll_intervals
    seconds = next(iter(pace.values()))
    world.list_fails = error_response(500, "broken")
    assert world.lists(await world.looks(4 * seconds, step=0.25)) <= 5


async def test_a_poll_of_several_pages_that_gets_no_call_goes_on_where_it_was():
    """Else a list that changes faster than there are calls is begun again and again, and never validated."""
    world = World(campaigns=250)
    await world.use()
    await world.looks(40)
    for number in range(150):
        world.change(f"c-{number}", name="new")
    refused = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=1.0)
    # The first page, and then no call for the second one, three times.
    world.story.budget.refusals = [None, *[refused] * 3]
    skips: list[int] = []
    answer = world.answer

    def noting(stream: Stream, call: Call) -> Response:
        if call.body is not None and json.loads(call.body)["type"] == "voice":
            skips.append(json.loads(call.body)["skip"])
        return answer(stream, call)

    world.story.upstream.script = [noting]
    before = world.snapshot.state.polls[Channel.VOICE].began
    for _ in range(60):
        await world.look(1.0)
        if world.snapshot.state.polls[Channel.VOICE].began > before:
            break
    assert skips[:3] == [0, 97, 0], "the first page, the second one when there was a call, and the front once more"
    assert sum(indexed.has_changed for indexed in world.snapshot.campaigns.values()) == 150
    await world.story.close()


@pytest.mark.parametrize(("channel", "is_made_up_for"), [(Channel.SMS, False), (Channel.VOICE, True)])
async def test_only_a_poll_of_the_same_channel_makes_up_for_a_row_that_a_full_scan_missed(
    world: World, channel: Channel, is_made_up_for: bool
):
    """Counted together, rows that were passed by unseen would be taken for gone."""
    await world.looks(40)
    scanned_at = world.snapshot.state.polls[Channel.VOICE].full_scan_at
    config = SweepConfig(0.5, LAG, lambda: world.capacity)
    story = world.story
    lists = Lists(SUPPORT, story.index, story.store, world.fetcher, config, story.meter)
    scanner, pace = FullScanner(lists, Disagreement()), world.sweeper.pace
    assert scanner.next_page(pace, world.snapshot, world.clock.now() + pace.full_scan_after) < math.inf
    world.hidden = "c-1"
    scanner.meet(channel, ["c-1"])
    for _ in range(6):
        await scanner.page(pace, is_crowded=False)
    assert (world.snapshot.state.polls[Channel.VOICE].full_scan_at > scanned_at) is is_made_up_for
    assert world.snapshot.campaigns["c-1"].is_listed


async def test_polls_that_get_no_call_for_long_are_said_to_validate_nothing(world: World, caplog):
    caplog.set_level("INFO")
    await world.looks(40)
    world.story.budget.refuse_all = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=1.0)
    await world.looks(STARVED_SECONDS + 30)
    assert world.snapshot.state.flaws == {Channel.VOICE: ListFlaw.STARVED}
    world.story.budget.refuse_all = None
    await world.looks(20)
    assert not world.snapshot.state.flaws
    assert [message for message in caplog.messages if message.startswith("the voice list")] == [
        "the voice list of stream support is trusted: polls validate answers",
        "the voice list of stream support is not trusted (starved): lifetimes count",
        "the voice list of stream support is trusted again: polls validate answers",
    ]


# Answers from rows.


async def test_fifty_status_reads_cost_one_poll():
    world = World(campaigns=50, is_polled=True)
    reads = [
        begun(world.story.exchange.read(replace(make_request(id_), fields=frozenset({"status"}))))
        for id_ in world.campaigns
    ]
    for _ in range(100):
        await asyncio.sleep(0.01)
        world.sweeper.look_once()
        if all(read.done() for read in reads):
            break
    replies = [await read for read in reads]
    assert {reply.outcome.detail for reply in replies} == {Detail.ROW}
    assert len(world.asked) <= 3, world.asked
    await world.story.close()


async def test_a_lone_status_read_does_not_wait_for_a_poll():
    world = World(is_polled=True)
    async with asyncio.timeout(1):
        reply = await world.story.exchange.read(replace(make_request("c-0"), fields=frozenset({"status"})))
    assert reply.entry is not None
    assert reply.entry.body == b'{"status":"success","data":{"status":"Ready"}}'
    assert world.asked == ["c-0"]
    await finished(world.story.tasks)
    await world.story.close()


async def test_an_unexpected_error_ends_one_look_and_not_the_looking(world: World, monkeypatch):
    """A leader whose work has ended would keep the lease, and nobody else would do it."""
    monkeypatch.setattr("campaign_gateway.proxy.tasks.RESTART_WAITS", Backoff(0.001, 0.001))

    def break_down() -> Capacity:
        raise LookupError("unexpected")

    capacity, world.capacity_source = world.capacity_source, break_down
    world.story.tasks.supervise(world.sweeper.run, name="sweep")
    async with asyncio.timeout(5):
        while not world.story.tasks.failing:
            await asyncio.sleep(0.001)
        world.capacity_source = capacity
        while not world.snapshot.state.polls:
            await asyncio.sleep(0.001)
    await world.story.tasks.close()


async def test_a_slot_that_falls_free_sooner_than_the_clock_can_show_is_not_looked_for_without_end(world: World):
    await world.look()
    world.capacity = Capacity(60, 60.0, 5, 0.5, free=0, falls=(1e-9,))
    world.sweeper.hint(["c-1"])
    for _ in range(3):
        assert world.sweeper.look_once() >= SHORTEST_SLEEP_SECONDS
        await finished(world.story.tasks)


async def test_while_somebody_listens_lists_are_polled_and_nothing_is_read_by_id():
    world = World()
    assert await world.looks(30) == []
    world.story.index.record_listening(ID, world.clock.now())
    asked = await world.looks(30)
    assert world.lists(asked) > 2
    world.change("c-1", name="Other")
    asked += await world.looks(20)
    assert set(asked) == {"list voice", "list sms"}, "a change costs no call by itself"
    assert world.snapshot.campaigns["c-1"].has_changed
    await world.looks(LISTENED_SECONDS)
    assert await world.looks(30) == [], "nobody listens any longer"


async def test_what_was_read_while_somebody_else_led_is_not_published(world: World):
    await world.looks(20)
    answer, index = world.answer, world.story.index

    def overtaken(stream: Stream, call: Call) -> Response:
        before, page = index.snapshot(ID), answer(stream, call)
        if call.body is not None:
            # Another replica's poll, which is newer than this answer.
            newer = replace(before.campaigns["c-1"], revision="newer", has_changed=True)
            index._snapshots[ID] = IndexSnapshot(
                replace(before.state, number=before.state.number + 1), {**before.campaigns, "c-1": newer}
            )
        return page

    world.story.upstream.script = [overtaken]
    assert world.lists(await world.looks(20)) > 0
    assert world.snapshot.campaigns["c-1"].revision == "newer"
    world.story.upstream.script = [answer]
    await world.looks(20)
    assert world.snapshot.campaigns["c-1"].revision != "newer"
