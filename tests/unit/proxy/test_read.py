import asyncio
from dataclasses import replace
from email.utils import formatdate
from functools import partial

import pytest

from campaign_gateway.contract.answers import classify
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET, operation
from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives
from campaign_gateway.policy.evidence import WRITE_SETTLE_SECONDS, Cause
from campaign_gateway.policy.ledger import Allowance, Lane
from campaign_gateway.policy.settle import Failure, Fill, settle
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.policy.visibility import Visibility
from campaign_gateway.problems import Problem
from campaign_gateway.proxy import fill as fill_module
from campaign_gateway.proxy.flights import Claim
from campaign_gateway.proxy.ports import Put, UpstreamError
from campaign_gateway.proxy.reply import Outcome
from campaign_gateway.proxy.request import Request, group_of
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import writer_of
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.upstream.budget import CallBudget
from tests.support.builders import stamp
from tests.support.doubles import (
    LIMITED,
    NOT_FOUND,
    SALES,
    START,
    SUPPORT,
    UNAUTHORIZED,
    FleetStore,
    LostStore,
    ManualClock,
    begun,
    campaign_response,
    error_response,
    finished,
    json_response,
    make_request,
    turns,
)
from tests.support.meters import CountingMeter
from tests.support.story import FRESHNESS, HARD_BOUND, LIFETIME, MISSING, READ_YOUR_WRITES, WINDOW, Story

OLD = campaign_response(name="old")
NEW = campaign_response(name="new")
ANY = Claim(Lane.BACKGROUND, 0.0)
NO_CACHE = RequestDirectives(no_cache=True)
SPENT = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)
PAUSED = Failure(Problem.UPSTREAM_PAUSED, "paused", retry_after=30.0)
IN_WINDOW = LIFETIME + 1
PAST_WINDOW = LIFETIME + WINDOW + 1


@pytest.fixture
def story(new_story):
    """One whose platform answers `OLD`, and then `NEW`."""
    return new_story(OLD, NEW)


def body_of(reply) -> bytes:
    assert reply.entry is not None, reply.failure
    return bytes(reply.entry.body)


# Hits and misses.


async def test_a_cold_read_goes_forward_and_is_stored(new_story):
    story = new_story(OLD)
    reply = await story.read()
    assert body_of(reply) == OLD.body
    assert reply.outcome == Outcome(Fwd.URI_MISS, 200, stored=True, ttl=LIFETIME)
    assert (reply.age, reply.lifetime) == (0.0, LIFETIME)
    stored = await story.stored()
    assert stored is not None
    assert stored.body == OLD.body
    assert story.budget.asked == [("acc-1", Lane.INTERACTIVE, "tests", 2.5)], (
        "half the patience of one call is for the permit"
    )


async def test_a_fresh_read_costs_nothing_and_tells_its_age(story):
    await story.age(LIFETIME - 1)
    reply = await story.read()
    assert (body_of(reply), reply.age) == (OLD.body, LIFETIME - 1)
    assert reply.outcome == Outcome(ttl=1.0)
    assert story.calls == 1
    assert len(story.budget.asked) == 1


async def test_many_are_read_in_their_order_and_what_is_local_takes_no_task(new_story, monkeypatch):
    other = campaign_response("c-2")
    story = new_story(OLD, other)
    await story.read("c-1")
    read = []
    whole = story.exchange.read

    async def noted(request):
        read.append(request.id)
        return await whole(request)

    monkeypatch.setattr(story.exchange, "read", noted)
    requests = [make_request(id_) for id_ in ("c-1", "c-2", "c-1")]
    replies = await story.exchange.read_all([*requests, replace(requests[0], fields=frozenset({"name"}))])
    assert [body_of(reply) for reply in replies[:3]] == [OLD.body, other.body, OLD.body]
    assert len(body_of(replies[3])) < len(OLD.body)
    assert read == ["c-2"]


async def test_age_counts_from_before_the_request_left(new_story):
    story = new_story(OLD)
    reading = await story.held(story.read())
    story.clock.advance(4)
    story.upstream.release()
    reply = await reading
    assert (reply.age, reply.outcome.ttl) == (4.0, LIFETIME - 4)


async def test_the_same_id_in_another_stream_is_another_thing(story):
    await story.read()
    reply = await story.exchange.read(make_request(stream=SALES))
    assert body_of(reply) == NEW.body
    assert [call.headers["accountId"] for _, call in story.upstream.calls] == ["acc-1", "acc-2"]


async def test_a_missing_campaign_is_remembered_for_a_while_and_no_longer(new_story):
    story = new_story(NOT_FOUND, OLD)
    first = await story.read()
    assert first.entry.absence.message == "Campaign not found"
    assert (first.outcome.detail, first.outcome.stored) == (Detail.MISSING, True)
    story.clock.advance(MISSING - 1)
    assert (await story.read()).outcome == Outcome(ttl=1.0, detail=Detail.MISSING)
    story.clock.advance(2)
    assert body_of(await story.read()) == OLD.body
    assert story.calls == 2


async def test_only_if_cached_never_goes_forward(new_story):
    story = new_story(OLD)
    reply = await story.read(directives=RequestDirectives(only_if_cached=True))
    assert reply.failure.problem is Problem.NOT_CACHED
    assert reply.outcome == Outcome()
    assert story.calls == 0


async def test_without_a_store_each_read_is_a_call_and_a_good_one(new_story):
    story = new_story(OLD, store=LostStore(ManualClock()))
    assert body_of(await story.read()) == body_of(await story.read()) == OLD.body
    assert story.calls == 2


# One fill (promise 2).


async def test_a_thousand_concurrent_cold_reads_are_one_call(new_story):
    story = new_story(OLD)
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request())) for _ in range(1000)]
    await story.upstream.arrived()
    await turns()
    story.upstream.release()
    replies = await asyncio.gather(*readers)
    assert {body_of(reply) for reply in replies} == {OLD.body}
    assert (story.calls, len(story.budget.asked)) == (1, 1)
    assert [reply.outcome.collapsed for reply in replies].count(False) == 1
    assert story.meter.of("collapsed", "process") == 999


async def test_different_campaigns_do_not_collapse(new_story):
    story = new_story(lambda _stream, call: campaign_response(call.target.rpartition("/")[2].partition("?")[0]))
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request(f"c-{number}"))) for number in range(5)]
    await story.upstream.arrived(5)
    story.upstream.release()
    assert len({body_of(reply) for reply in await asyncio.gather(*readers)}) == 5


async def test_a_cancelled_first_caller_cancels_no_one(new_story):
    story = new_story(OLD)
    story.upstream.hold()
    first, second = begun(story.exchange.read(make_request())), begun(story.exchange.read(make_request()))
    await story.upstream.arrived()
    await turns()
    first.cancel()
    await turns()
    story.upstream.release()
    assert body_of(await second) == OLD.body
    assert story.calls == 1


async def test_a_fill_that_all_callers_left_is_stored_for_the_next(new_story):
    story = new_story(OLD)
    reader = await story.held(story.exchange.read(make_request()))
    reader.cancel()
    await turns()
    story.upstream.release()
    await finished(story.tasks)
    assert (await story.read()).outcome.fwd is None
    assert story.calls == 1


async def test_a_failed_flight_answers_all_its_waiters_and_the_next_reader_tries_again(new_story):
    story = new_story(error_response(500, "Internal"), OLD)
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request())) for _ in range(10)]
    await story.upstream.arrived()
    await turns()
    story.upstream.release()
    replies = await asyncio.gather(*readers)
    assert {reply.failure.problem for reply in replies} == {Problem.UPSTREAM_UNAVAILABLE}
    assert {reply.outcome.fwd_status for reply in replies} == {500}
    assert story.calls == 1
    await finished(story.tasks)
    assert body_of(await story.read()) == OLD.body


async def test_a_waiter_has_its_own_deadline_and_the_flight_flies_on(new_story):
    story = new_story(OLD, patience=0.02)
    story.upstream.hold()
    reply = await story.exchange.read(make_request())
    assert reply.failure.problem is Problem.UPSTREAM_TIMEOUT
    assert story.calls == 1
    story.upstream.release()
    await finished(story.tasks)
    assert body_of(await story.read()) == OLD.body
    assert story.calls == 1


async def test_a_waiter_whose_patience_ends_gets_what_is_stored_if_that_may_be_served(new_story):
    story = new_story(OLD, NEW, patience=0.02)
    await story.age(PAST_WINDOW)
    story.upstream.hold()
    reply = await story.exchange.read(make_request())
    assert (body_of(reply), reply.outcome.detail) == (OLD.body, Detail.STALE_IF_ERROR)


async def test_a_reply_does_not_wait_for_the_put(new_story):
    story = new_story(OLD)
    story.memory.hold()
    assert body_of(await story.exchange.read(make_request())) == OLD.body
    assert await story.stored() is None


async def test_a_read_between_reply_and_put_joins_the_ended_flight(story):
    story.memory.hold()
    await story.exchange.read(make_request())
    reply = await story.exchange.read(make_request())
    assert (body_of(reply), reply.outcome.collapsed) == (OLD.body, True)
    assert story.calls == 1


async def test_no_cache_between_reply_and_put_is_not_content_with_the_ended_one(story):
    """Cold, the directive changes nothing: any call that ended just now is new enough."""
    await story.age(PAST_WINDOW)
    story.memory.hold()
    assert body_of(await story.exchange.read(make_request())) == NEW.body
    story.upstream.script.append(OLD)
    reply = await story.exchange.read(make_request(directives=NO_CACHE))
    assert (body_of(reply), reply.outcome.collapsed) == (OLD.body, False)
    assert story.calls == 3


async def test_an_unexpected_error_is_everybodys_and_frees_the_key(new_story, caplog):
    story = new_story(LookupError("a defect"), OLD)
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request())) for _ in range(3)]
    await story.upstream.arrived()
    await turns()
    story.upstream.release()
    replies = await asyncio.gather(*readers)
    assert {reply.failure.problem for reply in replies} == {Problem.INTERNAL}
    assert not any("defect" in reply.failure.detail for reply in replies)
    assert story.calls == 1
    await finished(story.tasks)
    await turns()
    assert body_of(await story.read()) == OLD.body
    assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_an_unexpected_error_costs_nobody_the_stored_answer(new_story, caplog):
    """Promise 5 and DESIGN 5: a read error is answered from a stored entry not older than the hard bound."""
    story = new_story(OLD, LookupError("a defect"))
    await story.age(PAST_WINDOW)
    reply = await story.exchange.read(make_request())
    assert (body_of(reply), reply.outcome.detail) == (OLD.body, Detail.STALE_IF_ERROR)
    assert caplog.records


async def test_flights_are_bounded_and_the_next_caller_is_told_when_to_come_back(new_story, monkeypatch):
    monkeypatch.setattr(fill_module, "MAX_FLIGHTS", 2)
    story = new_story(OLD)
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request(f"c-{number}"))) for number in range(2)]
    await story.upstream.arrived(2)
    reply = await story.exchange.read(make_request("c-3"))
    assert (reply.failure.problem, reply.failure.retry_after) == (Problem.OVERLOADED, 1.0)
    assert reply.outcome.fwd is None
    joined = begun(story.exchange.read(make_request("c-1")))
    await turns()
    assert not joined.done(), "joining takes no further flight"
    story.upstream.release()
    await asyncio.gather(*readers, joined)


# One fill in the whole fleet.


class Replica(Story):
    """A story beside other replicas."""

    def __init__(self, *script, **options) -> None:
        super().__init__(*script, store_kind=FleetStore, **options)

    @property
    def fleet(self) -> FleetStore:
        assert isinstance(self.memory, FleetStore)
        return self.memory

    async def others_store(self, response, age: float = 0.0) -> Stored:
        entry = entry_of(response, self.clock.now() - age)
        await self.fleet.others_store(make_request().key, entry)
        return entry

    async def others_fill(self, response, age: float = 0.0) -> Stored:
        """Another replica's fill is stored, and its lease released."""
        entry = await self.others_store(response, age)
        self.fleet.others_release()
        return entry

    async def waiting(self, work):
        """The work, which waits for another replica's fill."""
        self.fleet.is_leased_elsewhere = True
        task = begun(work)
        await turns()
        return task

    async def copy(self) -> None:
        """Gets a copy, and forgets which trips that took."""
        await self.read()
        self.fleet.trips.clear()


def entry_of(response, started: float) -> Stored:
    settled = settle(GET, None, classify(GET, "c-1", response, started), started)
    assert isinstance(settled, Fill)
    return settled.stored


@pytest.fixture
def replica(new_story):
    """Makes replicas, and ends them after the test."""
    return partial(new_story, kind=Replica)


async def test_a_fresh_copy_answers_without_a_trip(replica):
    story = replica(OLD, NEW)
    await story.copy()
    story.clock.advance(LIFETIME - 1)
    reply = await story.read()
    assert (body_of(reply), reply.age, reply.outcome) == (OLD.body, LIFETIME - 1, Outcome(ttl=1.0))
    assert story.fleet.trips == []


async def test_a_fresh_copy_of_an_absence_answers_without_a_trip(replica):
    story = replica(NOT_FOUND)
    await story.copy()
    assert (await story.read()).outcome == Outcome(ttl=MISSING, detail=Detail.MISSING)
    assert story.fleet.trips == []


@pytest.mark.parametrize(
    ("age", "directives"),
    [
        pytest.param(IN_WINDOW, NO_DIRECTIVES, id="stale-in-the-window"),
        pytest.param(IN_WINDOW, RequestDirectives(max_stale=LIFETIME), id="stale-and-the-caller-takes-it"),
        pytest.param(PAST_WINDOW, NO_DIRECTIVES, id="past-the-window"),
        pytest.param(1, NO_CACHE, id="no-cache"),
        pytest.param(10, RequestDirectives(max_age=5), id="older-than-the-caller-takes"),
        pytest.param(50, RequestDirectives(min_fresh=20), id="not-fresh-for-long-enough"),
        pytest.param(PAST_WINDOW, RequestDirectives(only_if_cached=True), id="only-if-cached"),
    ],
)
async def test_a_copy_that_does_not_do_is_looked_up_where_others_may_have_stored_a_newer_one(replica, age, directives):
    story = replica(OLD, NEW)
    await story.copy()
    story.clock.advance(age)
    await story.read(directives=directives)
    assert story.fleet.trips[0] == "get"


async def test_a_newer_entry_behind_a_stale_copy_is_a_hit(replica):
    story = replica(OLD)
    await story.copy()
    story.clock.advance(PAST_WINDOW)
    await story.others_store(NEW)
    reply = await story.read()
    assert (body_of(reply), reply.outcome, story.calls) == (NEW.body, Outcome(ttl=LIFETIME), 1)


async def test_without_a_copy_the_store_is_asked_even_for_only_if_cached(replica):
    story = replica(OLD)
    await story.others_store(NEW)
    assert body_of(await story.read(directives=RequestDirectives(only_if_cached=True))) == NEW.body
    assert story.fleet.trips == ["get"]


async def test_the_lease_is_released_after_the_put(replica):
    story = replica(OLD)
    await story.read()
    assert story.fleet.trips == ["get", "acquire", "put", "release"]


async def test_the_lease_is_released_after_a_put_that_was_refused(replica):
    story = replica(OLD)
    reading = await story.held(story.read())
    await story.invalidate()
    story.upstream.release()
    await reading
    assert story.memory.puts == [Put.FENCED]
    assert story.fleet.trips[-1] == "release"


@pytest.mark.parametrize(
    ("step", "refusal"),
    [
        pytest.param(error_response(500, "Internal"), None, id="500"),
        pytest.param(LIMITED, None, id="429"),
        pytest.param(UpstreamError(Problem.UPSTREAM_TIMEOUT, "slow"), None, id="time-out"),
        pytest.param(LookupError("a defect"), None, id="exception"),
        pytest.param(OLD, SPENT, id="no-permit"),
    ],
)
async def test_the_lease_is_released_after_a_failure(replica, step, refusal, caplog):
    story = replica(step)
    story.budget.refuse_all = refusal
    assert (await story.read()).failure is not None
    assert story.fleet.trips == ["get", "acquire", "release"]
    assert bool(caplog.records) == isinstance(step, LookupError)


async def test_the_lease_is_released_after_an_exception_out_of_the_put(replica, caplog, monkeypatch):
    story = replica(OLD)

    async def put(*_arguments) -> Put:
        raise LookupError("the store broke its word")

    monkeypatch.setattr(story.fleet, "put", put)
    assert body_of(await story.read()) == OLD.body
    assert story.fleet.trips == ["get", "acquire", "release"]
    assert caplog.records


async def test_the_lease_is_released_when_the_gateway_stops(replica):
    story = replica(OLD)
    reading = await story.held(story.exchange.read(make_request()))
    await story.tasks.close()
    await asyncio.wait([reading])
    assert story.fleet.trips == ["get", "acquire", "release"]


async def test_a_waiter_takes_what_another_replica_stored_and_makes_no_call(replica):
    story = replica(NEW)
    reading = await story.waiting(story.exchange.read(make_request()))
    assert not reading.done()
    story.clock.advance(1)
    entry = await story.others_fill(OLD)
    reply = await reading
    assert reply.entry == entry
    assert reply.outcome == Outcome(Fwd.URI_MISS, 200, stored=True, collapsed=True, ttl=LIFETIME)
    await finished(story.tasks)
    assert (story.calls, story.budget.asked, story.memory.puts) == (0, [], [])
    assert story.meter.events["collapsed", "fleet"] == 1
    assert story.meter.of("proof") == 0, "the leader counts what it validated"


async def test_what_a_leader_stored_is_taken_before_it_has_left_and_its_lease_is_its_own_to_give_up(replica):
    story = replica(NEW)
    reading = await story.waiting(story.read())
    await story.others_store(OLD)
    story.fleet.wake()
    assert body_of(await reading) == OLD.body
    assert story.fleet.trips == ["get", "acquire", "wait", "acquire"]


async def test_what_was_stored_between_look_up_and_lease_is_taken_at_once(replica):
    story = replica(NEW)
    reading = begun(story.read())
    await asyncio.sleep(0)
    assert story.fleet.trips == ["get"]
    await story.others_store(OLD)
    reply = await reading
    assert (body_of(reply), reply.outcome.collapsed, story.calls) == (OLD.body, True, 0)
    assert story.fleet.trips == ["get", "acquire", "release"], "a lease that was not needed is released"


async def test_a_thousand_waiters_in_one_process_are_one_waiter(replica):
    story = replica(NEW)
    story.fleet.is_leased_elsewhere = True
    readers = [begun(story.exchange.read(make_request())) for _ in range(1000)]
    await turns()
    await story.others_fill(OLD)
    assert {body_of(reply) for reply in await asyncio.gather(*readers)} == {OLD.body}
    assert (story.fleet.trips.count("wait"), story.calls) == (1, 0)


async def test_a_waiter_takes_an_absence_too(replica):
    story = replica(OLD)
    reading = await story.waiting(story.read())
    await story.others_fill(NOT_FOUND)
    reply = await reading
    assert reply.outcome == Outcome(Fwd.URI_MISS, 400, stored=True, collapsed=True, ttl=MISSING, detail=Detail.MISSING)
    assert story.calls == 0


@pytest.mark.parametrize("directives", [NO_CACHE, NO_DIRECTIVES], ids=["no-cache", "stale"])
async def test_a_waiter_is_not_content_with_what_was_there_before(replica, directives):
    story = replica(OLD, NEW)
    await story.age(PAST_WINDOW)
    reading = await story.waiting(story.read(directives=directives))
    story.fleet.wake()
    await turns()
    assert not reading.done()
    await story.others_fill(NEW)
    reply = await reading
    assert (body_of(reply), reply.age, reply.outcome.collapsed) == (NEW.body, 0.0, True)
    assert story.calls == 1


async def test_an_old_entry_that_comes_with_the_lease_is_not_newer_and_the_call_is_made(replica):
    """The look-up may have been answered by another layer than the lease: what comes with it need not be new."""
    story = replica(NEW)
    reading = begun(story.read())
    await asyncio.sleep(0)
    assert story.fleet.trips == ["get"]
    await story.others_store(OLD, age=PAST_WINDOW)
    reply = await reading
    assert (body_of(reply), reply.age, reply.outcome.collapsed, story.calls) == (NEW.body, 0.0, False, 1)
    assert story.fleet.trips[-2:] == ["put", "release"]


async def test_a_waiter_does_not_take_an_old_entry_and_waits_on(replica):
    story = replica(NEW)
    reading = await story.waiting(story.read())
    await story.others_store(OLD, age=PAST_WINDOW)
    story.fleet.wake()
    await turns()
    assert not reading.done()
    await story.others_fill(NEW)
    assert (body_of(await reading), story.calls) == (NEW.body, 0)


async def test_another_replicas_success_ends_the_backoff(replica):
    story = replica(OLD, error_response(500, "Internal"), error_response(500, "Internal"), NEW)
    await story.age(PAST_WINDOW)
    await story.age(1)
    reading = await story.waiting(story.read())
    await story.others_fill(OLD)
    await reading
    story.clock.advance(PAST_WINDOW)
    assert (await story.read()).outcome.detail is Detail.STALE_IF_ERROR
    story.clock.advance(1)
    assert body_of(await story.read()) == NEW.body, "the doubling has begun anew"


async def test_a_waiter_whose_leader_vanished_acquires_the_lease_and_makes_the_call(replica):
    story = replica(NEW)
    reading = await story.waiting(story.read())
    assert story.calls == 0
    story.fleet.others_release()
    reply = await reading
    assert body_of(reply) == NEW.body
    assert reply.outcome == Outcome(Fwd.URI_MISS, 200, stored=True, ttl=LIFETIME), (
        "its own call, and collapsed with none"
    )
    assert story.fleet.trips == ["get", "acquire", "wait", "acquire", "put", "release"]
    assert (story.calls, story.meter.of("collapsed")) == (1, 0)


async def test_a_waiter_that_acquires_the_lease_stores_under_the_fence_of_that_moment(replica):
    """The fence of its first look-up is out of date, and the invalidation came before its read began."""
    story = replica(NEW)
    reading = await story.waiting(story.read())
    await story.store.invalidate(make_request().key, Cause.WRITE)
    story.fleet.others_release()
    await reading
    assert story.memory.puts == [Put.STORED]


async def test_a_waiter_gives_up_at_its_own_deadline(replica):
    story = replica(NEW, patience=0.04)
    reading = await story.waiting(story.exchange.read(make_request()))
    flight = story.flights.to_join(make_request().key, ANY)
    assert (await reading).failure.problem is Problem.UPSTREAM_TIMEOUT
    async with asyncio.timeout(5):
        await finished(story.tasks)
    result = flight.result.result()
    assert isinstance(result, Failure)
    assert result.problem is Problem.UPSTREAM_TIMEOUT
    assert all(seconds <= 0.06 for seconds in story.fleet.followed), "half the patience for a permit, and one call"
    assert (story.calls, len(story.flights)) == (0, 0)
    assert "release" not in story.fleet.trips, "it never held the lease"


async def test_messages_about_the_key_do_not_lengthen_a_waiters_patience(replica):
    story = replica(NEW, patience=0.04)
    story.fleet.is_leased_elsewhere = True
    reading = begun(story.exchange.read(make_request()))
    async with asyncio.timeout(5):
        while not reading.done() or story.tasks._running:
            story.fleet.wake()
            await asyncio.sleep(0.005)
    assert len(story.fleet.followed) > 1
    assert story.fleet.followed == sorted(story.fleet.followed, reverse=True)


async def test_a_waiter_at_its_deadline_serves_what_is_stored_if_that_may_be_served(replica):
    story = replica(OLD, NEW, patience=0.02)
    await story.age(PAST_WINDOW)
    story.fleet.is_leased_elsewhere = True
    reply = await story.read()
    assert (body_of(reply), reply.outcome.detail, story.calls) == (OLD.body, Detail.STALE_IF_ERROR, 1)


async def test_a_refresh_that_another_replica_fills_keeps_nobody_waiting(replica):
    story = replica(OLD, NEW)
    await story.age(IN_WINDOW)
    story.fleet.is_leased_elsewhere = True
    reply = await story.exchange.read(make_request())
    assert (body_of(reply), reply.outcome.detail) == (OLD.body, Detail.STALE_WHILE_REVALIDATE)
    await turns()
    await story.others_fill(NEW)
    await finished(story.tasks)
    reply = await story.read()
    assert (body_of(reply), reply.outcome, story.calls) == (NEW.body, Outcome(ttl=LIFETIME), 1)


# Order and fences (promise 3).


async def test_a_fill_fenced_by_an_invalidation_in_flight_is_not_stored(story):
    reading = await story.held(story.exchange.read(make_request()))
    await story.invalidate()
    story.upstream.release()
    assert body_of(await reading) == OLD.body, "who asked before the write may see what was before it"
    await finished(story.tasks)
    assert story.memory.puts == [Put.FENCED]
    assert await story.stored() is None
    assert body_of(await story.read()) == NEW.body


async def test_a_read_after_an_invalidation_does_not_join_the_flight_from_before_it(story):
    before = await story.held(story.exchange.read(make_request()))
    await story.invalidate()
    after = begun(story.exchange.read(make_request()))
    await story.upstream.arrived(2)
    story.upstream.release()
    assert (body_of(await before), body_of(await after)) == (OLD.body, NEW.body)
    await finished(story.tasks)
    assert body_of(await story.read()) == NEW.body


async def test_an_invalidation_between_reply_and_put_keeps_the_fill_out(new_story):
    story = new_story(OLD)
    story.memory.hold()
    await story.exchange.read(make_request())
    await story.invalidate()
    story.memory.release()
    await finished(story.tasks)
    assert story.memory.puts == [Put.FENCED]


async def test_a_read_that_started_earlier_never_replaces_a_later_one(story):
    slow = await story.held(story.exchange.read(make_request()))
    story.flights.forget(make_request().key)
    story.clock.advance(1)
    quick = begun(story.exchange.read(make_request()))
    await story.upstream.arrived(2)
    story.memory.hold()
    story.upstream.release()
    await asyncio.gather(slow, quick)
    story.memory.release()
    await finished(story.tasks)
    stored = await story.stored()
    assert stored is not None
    assert stored.body == NEW.body


# Newer answers, as far as the budget goes.


async def test_no_cache_brings_a_newer_answer_from_the_validation_lane_without_waiting_for_budget(story):
    await story.read()
    reply = await story.read(directives=NO_CACHE)
    assert body_of(reply) == NEW.body
    assert (reply.outcome.fwd, reply.outcome.fwd_status) == (Fwd.REQUEST, 200)
    assert story.budget.asked[-1] == ("acc-1", Lane.VALIDATION, "tests", 0.0)
    assert story.calls == 2


async def test_a_newer_answer_replaces_the_entry(story):
    await story.age(1)
    assert body_of(await story.read(directives=NO_CACHE)) == NEW.body
    assert body_of(await story.read()) == NEW.body
    assert story.calls == 2


@pytest.mark.parametrize(
    ("refusal", "detail"),
    [(SPENT, Detail.BUDGET), (PAUSED, Detail.PAUSED), (Failure(Problem.OVERLOADED, "full"), Detail.BUDGET)],
    ids=["spent", "paused", "overloaded"],
)
async def test_no_cache_without_budget_serves_the_stored_answer_and_says_why(story, refusal, detail):
    await story.age(3)
    story.budget.refuse_all = refusal
    reply = await story.read(directives=NO_CACHE)
    assert (body_of(reply), reply.age) == (OLD.body, 3.0)
    assert reply.outcome == Outcome(ttl=LIFETIME - 3, detail=detail), "nothing was forwarded"
    assert story.calls == 1


async def test_no_cache_against_a_really_spent_budget_spends_nothing(new_story):
    tasks = Tasks()
    allowance = Allowance(calls=1, window=60.0, leave=1.0, timeout=5.0)
    budget = CallBudget(lambda _: allowance, MemoryLedgers(StoreClock()), CountingMeter(), tasks)
    story = new_story(OLD, NEW, budget=budget)
    await story.read()
    replies = [await story.read(directives=NO_CACHE) for _ in range(50)]
    assert {reply.outcome.detail for reply in replies} == {Detail.BUDGET}
    assert story.calls == 1
    await tasks.close()


async def test_concurrent_requests_for_a_newer_answer_are_one_call(story):
    await story.age(1)
    story.upstream.hold()
    readers = [begun(story.exchange.read(make_request(directives=NO_CACHE))) for _ in range(50)]
    await story.upstream.arrived(2)
    await turns()
    story.upstream.release()
    assert {body_of(reply) for reply in await asyncio.gather(*readers)} == {NEW.body}
    assert story.calls == 2


async def test_unchanged_content_keeps_bytes_and_tag_and_renews_the_validation(new_story):
    respelled = json_response(
        {
            "data": {"updatedAt": "2026-01-01T00:00:00.000Z", "status": "Ready", "name": "old", "_id": "c-1"},
            "status": "success",
        }
    )
    story = new_story(OLD, respelled)
    first = await story.read()
    story.clock.advance(20)
    second = await story.read(directives=NO_CACHE)
    assert respelled.body != OLD.body
    assert (body_of(second), second.entry.etag, second.age) == (OLD.body, first.entry.etag, 0.0)
    assert (second.outcome.detail, second.outcome.stored) == (Detail.UNCHANGED, True)
    story.clock.advance(20)
    assert (await story.read()).age == 20.0, "the renewed validation was stored"


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [(SPENT, Problem.BUDGET_EXHAUSTED), (PAUSED, Problem.UPSTREAM_PAUSED)],
    ids=["spent", "paused"],
)
async def test_a_cold_read_without_budget_is_a_problem_that_says_when_to_come_back(new_story, refusal, problem):
    story = new_story(OLD)
    story.budget.refuse_all = refusal
    reply = await story.read()
    assert (reply.failure.problem, reply.failure.retry_after) == (problem, refusal.retry_after)
    assert reply.outcome.fwd is None, "it was not forwarded"
    assert story.calls == 0


async def test_a_refusal_that_is_known_starts_no_fill(new_story):
    """What an overload of callers costs is what each of them costs."""
    story = new_story(NEW)
    story.budget.known_refusal = SPENT
    reply = await story.read()
    assert reply.failure == SPENT
    assert reply.outcome.detail is Detail.BUDGET
    assert (story.budget.asked, len(story.flights)) == ([], 0)
    story.budget.known_refusal = None
    assert body_of(await story.read()) == NEW.body


async def test_a_refusal_that_is_known_keeps_nobody_from_joining_a_fill(new_story):
    story = new_story(NEW)
    first = begun(story.exchange.read(make_request()))
    await turns(1)
    story.budget.known_refusal = SPENT
    assert body_of(await story.exchange.read(make_request())) == NEW.body
    assert body_of(await first) == NEW.body


async def test_a_refused_permit_leaves_no_key_alone(story):
    await story.age(PAST_WINDOW)
    story.budget.refusals = [SPENT]
    assert (await story.read()).outcome.detail is Detail.BUDGET
    assert body_of(await story.read()) == NEW.body


@pytest.mark.parametrize("stored", ["nothing", "overwritten"])
async def test_a_reader_that_joined_a_refused_modest_flight_asks_with_its_own_right(story, stored):
    """A validation is refused the reserve; a caller with nothing to be given, or what a write has changed, is not."""
    await story.read()
    gate = asyncio.Event()
    original = story.budget.permit

    def slow_to_refuse(account, lane, client, wait, key):
        story.budget.refusals = [SPENT] if lane is Lane.VALIDATION else []
        permit = original(account, lane, client, wait, key)
        if lane is not Lane.VALIDATION:
            return permit
        return Delayed(permit, gate)

    story.budget.permit = slow_to_refuse
    modest = begun(story.exchange.read(make_request(directives=NO_CACHE)))
    await turns()
    if stored == "nothing":
        story.memory.supersede(make_request().key)
    else:
        story.memory.invalidate_here(make_request().key, Cause.WRITE)
    cold = begun(story.exchange.read(make_request()))
    await turns()
    gate.set()
    assert (await modest).outcome.detail is Detail.BUDGET
    assert body_of(await cold) == NEW.body
    assert [lane for _, lane, _, _ in story.budget.asked] == [Lane.INTERACTIVE, Lane.VALIDATION, Lane.INTERACTIVE]


async def test_a_cold_reader_that_joined_an_impatient_flight_waits_for_its_own_permit(story):
    """The flight paid from the lane of waiting callers, but whoever began it had an answer and did not wait."""
    await story.age(LIFETIME + WINDOW + 1)
    gate = asyncio.Event()
    original = story.budget.permit

    def slow_to_refuse(account, lane, client, wait, key):
        story.budget.refusals = [] if wait else [SPENT]
        return (
            original(account, lane, client, wait, key)
            if wait
            else Delayed(original(account, lane, client, wait, key), gate)
        )

    story.budget.permit = slow_to_refuse
    served = begun(story.exchange.read(make_request()))
    await turns()
    story.memory.supersede(make_request().key)
    cold = begun(story.exchange.read(make_request()))
    await turns()
    gate.set()
    assert (await served).outcome.detail is Detail.BUDGET
    assert body_of(await cold) == NEW.body


class Delayed:
    """A permit that is decided on after a gate opens."""

    def __init__(self, permit, gate) -> None:
        self.permit, self.gate = permit, gate

    async def __aenter__(self):
        await self.gate.wait()
        return await self.permit.__aenter__()

    async def __aexit__(self, *error):
        return await self.permit.__aexit__(*error)


# Stale answers.


async def test_in_the_window_the_stale_answer_comes_at_once_and_one_refresh_runs_beside_it(story):
    await story.age(IN_WINDOW)
    story.upstream.hold()
    replies = [await story.exchange.read(make_request()) for _ in range(100)]
    assert {body_of(reply) for reply in replies} == {OLD.body}
    assert replies[0].outcome == Outcome(ttl=-1.0, detail=Detail.STALE_WHILE_REVALIDATE)
    await story.upstream.arrived(2)
    story.upstream.release()
    await finished(story.tasks)
    assert story.calls == 2
    assert story.budget.asked[-1] == ("acc-1", Lane.BACKGROUND, "tests", 0.0)
    assert body_of(await story.read()) == NEW.body


async def test_a_refresh_that_fails_is_not_repeated_by_each_reader(new_story):
    story = new_story(OLD, error_response(500, "Internal"))
    await story.age(IN_WINDOW)
    for _ in range(20):
        assert (await story.read()).outcome.detail is Detail.STALE_WHILE_REVALIDATE
    assert story.calls == 2


async def test_a_refresh_without_budget_costs_nobody_anything(story):
    await story.age(IN_WINDOW)
    story.budget.refuse_all = SPENT
    assert body_of(await story.read()) == OLD.body
    assert story.calls == 1


async def test_past_the_window_the_caller_waits_for_the_new_answer(story):
    await story.age(PAST_WINDOW)
    reply = await story.read()
    assert body_of(reply) == NEW.body
    assert (reply.outcome.fwd, reply.outcome.detail) == (Fwd.STALE, None)
    assert story.budget.asked[-1] == ("acc-1", Lane.BACKGROUND, "tests", 0.0), (
        "nobody waits for budget who has something"
    )


FAILURES = [
    pytest.param(error_response(500, "Internal"), Detail.STALE_IF_ERROR, Problem.UPSTREAM_UNAVAILABLE, id="500"),
    pytest.param(
        error_response(412, "validation"), Detail.STALE_IF_ERROR, Problem.UPSTREAM_INVALID, id="412-rejected-read"
    ),
    pytest.param(UNAUTHORIZED, Detail.STALE_IF_ERROR, Problem.UPSTREAM_UNAUTHORIZED, id="401-our-credential"),
    pytest.param(LIMITED, Detail.PAUSED, Problem.UPSTREAM_PAUSED, id="429"),
    pytest.param(
        json_response({"errors": [{"msg": "rate limit exceeded"}]}),
        Detail.PAUSED,
        Problem.UPSTREAM_PAUSED,
        id="200-limit-text",
    ),
    pytest.param(
        json_response({"status": "error", "data": {"_id": "c-1"}}),
        Detail.STALE_IF_ERROR,
        Problem.UPSTREAM_INVALID,
        id="200-failing-body",
    ),
    pytest.param(
        json_response({"status": "success", "data": {}}),
        Detail.STALE_IF_ERROR,
        Problem.UPSTREAM_INVALID,
        id="200-no-campaign",
    ),
    pytest.param(campaign_response("c-2"), Detail.STALE_IF_ERROR, Problem.UPSTREAM_INVALID, id="200-other-campaign"),
    pytest.param(json_response(None, 302), Detail.STALE_IF_ERROR, Problem.UPSTREAM_INVALID, id="302-redirect"),
    pytest.param(
        UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "reset"),
        Detail.STALE_IF_ERROR,
        Problem.UPSTREAM_UNAVAILABLE,
        id="reset",
    ),
    pytest.param(
        UpstreamError(Problem.UPSTREAM_TIMEOUT, "slow"), Detail.STALE_IF_ERROR, Problem.UPSTREAM_TIMEOUT, id="time-out"
    ),
    pytest.param(
        UpstreamError(Problem.UPSTREAM_INVALID, "cut"), Detail.STALE_IF_ERROR, Problem.UPSTREAM_INVALID, id="cut"
    ),
]


@pytest.mark.parametrize(("step", "detail", "problem"), FAILURES)
async def test_stale_if_error_for_every_kind_of_failure_and_the_entry_survives(new_story, step, detail, problem):
    story = new_story(OLD, step)
    await story.read()
    before = await story.stored()
    story.clock.advance(HARD_BOUND)
    reply = await story.read()
    assert (body_of(reply), reply.age) == (OLD.body, HARD_BOUND)
    assert reply.outcome.detail is detail
    assert reply.outcome.fwd is Fwd.STALE
    assert (reply.outcome.ttl, reply.outcome.stored) == (LIFETIME - HARD_BOUND, False)
    assert await story.stored() is before


@pytest.mark.parametrize(("step", "detail", "problem"), FAILURES)
async def test_past_the_hard_bound_a_failure_is_a_problem(new_story, step, detail, problem):
    story = new_story(OLD, step)
    await story.age(HARD_BOUND + 0.001)
    reply = await story.read()
    assert reply.entry is None
    assert reply.failure.problem is problem
    assert story.calls == 2


async def test_an_entry_that_grows_too_old_while_the_caller_waits_is_not_served(new_story):
    story = new_story(OLD, error_response(500, "Internal"))
    await story.age(HARD_BOUND - 1)
    reading = await story.held(story.exchange.read(make_request()), 2)
    story.clock.advance(2)
    story.upstream.release()
    reply = await reading
    assert reply.entry is None
    assert reply.failure.problem is Problem.UPSTREAM_UNAVAILABLE


async def test_an_absence_is_no_fallback(new_story):
    story = new_story(NOT_FOUND, error_response(500, "Internal"))
    await story.age(MISSING + 1)
    assert (await story.read()).failure.problem is Problem.UPSTREAM_UNAVAILABLE


# Rest after failures.


async def test_a_failing_key_is_tried_at_growing_distances_while_its_entry_is_served(new_story):
    story = new_story(OLD, error_response(500, "Internal"))
    await story.age(PAST_WINDOW)
    tried, seen = [], story.calls
    for second in range(20):
        reply = await story.read()
        assert (body_of(reply), reply.outcome.detail) == (OLD.body, Detail.STALE_IF_ERROR)
        if story.calls != seen:
            tried.append(second)
            seen = story.calls
        story.clock.advance(1)
    assert tried == [0, 1, 3, 7, 15]


async def test_a_key_in_backoff_keeps_a_request_for_a_newer_answer_from_the_platform_too(new_story):
    story = new_story(OLD, error_response(500, "Internal"))
    await story.read()
    await story.read(directives=NO_CACHE)
    reply = await story.read(directives=NO_CACHE)
    assert reply.outcome == Outcome(ttl=LIFETIME, detail=Detail.STALE_IF_ERROR)
    assert story.calls == 2


async def test_a_caller_without_anything_stored_does_not_wait_for_the_rest_to_end(new_story):
    story = new_story(error_response(500, "Internal"), OLD)
    assert (await story.read()).failure is not None
    assert body_of(await story.read()) == OLD.body


async def test_another_key_is_not_left_alone_with_it(new_story):
    story = new_story(
        OLD, campaign_response("c-2"), error_response(500, "Internal"), campaign_response("c-2", name="new")
    )
    await story.read("c-1")
    await story.read("c-2")
    story.clock.advance(PAST_WINDOW)
    await story.read("c-1")
    assert (await story.read("c-2")).outcome.detail is None
    assert story.calls == 4


async def test_a_success_ends_the_backoff(new_story):
    failing = error_response(500, "Internal")
    story = new_story(OLD, failing, failing, NEW, failing, OLD)
    await story.age(PAST_WINDOW)
    await story.age(1)
    await story.age(2)
    assert body_of(await story.read()) == NEW.body
    story.clock.advance(PAST_WINDOW)
    assert (await story.read()).outcome.detail is Detail.STALE_IF_ERROR
    story.clock.advance(1)
    assert body_of(await story.read()) == OLD.body, "the doubling has begun anew"


async def test_a_key_is_left_alone_as_long_as_the_platform_asked_and_no_longer_than_the_account(new_story):
    """A `Retry-After` of years is a mistake that the budget does not follow; a key must not either."""
    story = new_story(OLD, error_response(429, "rate limit", retry_after="999999999"), NEW)
    await story.age(PAST_WINDOW)
    assert (await story.read()).outcome.detail is Detail.PAUSED
    story.clock.advance(story.budget.longest_pause - 1)
    assert (await story.read()).outcome.detail is Detail.PAUSED
    story.clock.advance(1)
    assert body_of(await story.read()) == NEW.body


# What is counted.


async def test_each_fill_is_counted_as_a_validation_by_what_it_validated(new_story):
    story = new_story(OLD, OLD, NEW, error_response(500, "Internal"))
    for _ in range(4):
        await story.read(directives=NO_CACHE)
        story.clock.advance(1)
    assert story.meter.events["proof", "read", "changed"] == 2
    assert story.meter.events["proof", "read", "unchanged"] == 1
    assert story.meter.events["proof", "read", "failed"] == 1


async def test_calls_are_counted_by_why_they_were_made(new_story):
    story = new_story(OLD)
    await story.read()
    await story.read(directives=NO_CACHE)
    story.clock.advance(IN_WINDOW)
    await story.age(PAST_WINDOW)
    await story.read()
    reasons = [event[3] for event in story.meter.events.elements() if event[0] == "upstream"]
    assert sorted(reasons) == ["refresh", "request", "stale", "uri-miss"]


# Readers who know of a write.

SINCE = RequestDirectives(newer_than=START + 10)


async def test_a_client_s_own_read_after_its_write_goes_forward(story):
    """Whatever it wrote, and though the entry is fresh: the write may have changed more than anybody knows of."""
    await story.age(10)
    story.writers.note(writer_of(SUPPORT, "tests", "get"))
    other = await story.exchange.read(replace(make_request(), client="another"))
    assert (body_of(other), other.outcome.fwd) == (OLD.body, None)
    reply = await story.read()
    assert (body_of(reply), reply.outcome.fwd, reply.outcome.detail) == (NEW.body, Fwd.REQUEST, None)
    assert story.budget.asked[-1][1] is Lane.INTERACTIVE
    assert (await story.read()).outcome.fwd is None, "once is enough"
    assert story.calls == 2


async def test_a_while_after_its_write_a_client_is_held_to_nothing(story):
    await story.read()
    story.writers.note(writer_of(SUPPORT, "tests", "get"))
    story.clock.advance(READ_YOUR_WRITES)
    assert (await story.read()).outcome.fwd is None


async def test_a_token_holds_whoever_sends_it(story):
    await story.age(20)
    assert body_of(await story.read(directives=SINCE)) == NEW.body
    assert (await story.read(directives=SINCE)).outcome.fwd is None


async def test_a_token_from_before_the_entry_costs_nothing(story):
    await story.read()
    assert (await story.read(directives=RequestDirectives(newer_than=START - 1))).outcome == Outcome(ttl=LIFETIME)
    assert story.calls == 1


async def test_of_token_and_own_write_the_later_counts(story):
    story.clock.advance(10)
    await story.age(1)
    story.writers.note(writer_of(SUPPORT, "tests", "get"))
    assert body_of(await story.read(directives=SINCE)) == NEW.body


@pytest.mark.parametrize("failure", [SPENT, PAUSED])
async def test_a_reply_says_that_a_newer_answer_was_not_to_be_had(story, failure):
    await story.age(20)
    story.budget.refuse_all = failure
    reply = await story.read(directives=SINCE)
    assert (body_of(reply), reply.outcome.detail, reply.outcome.fwd) == (OLD.body, Detail.BEFORE_WRITE, None)


async def test_an_absence_from_before_the_write_is_said_to_be_so(new_story):
    story = new_story(NOT_FOUND, NEW)
    await story.age(MISSING - 1)
    story.budget.refuse_all = SPENT
    reply = await story.read(directives=RequestDirectives(newer_than=START + 1))
    assert reply.entry.absence is not None
    assert reply.outcome.detail is Detail.BEFORE_WRITE


async def test_a_token_of_the_future_asks_for_a_validation_from_now(story):
    await story.age(1)
    far = RequestDirectives(newer_than=START + 10**6)
    reply = await story.read(directives=far)
    assert (body_of(reply), reply.outcome.detail) == (NEW.body, None), "it is met"
    assert (await story.read(directives=far)).outcome.fwd is None, "by what was read at this moment"


async def test_a_flight_from_before_the_write_is_not_joined_by_who_knows_of_it(story):
    before = await story.held(story.exchange.read(make_request()))
    story.clock.advance(20)
    knowing = [begun(story.exchange.read(make_request(directives=SINCE))) for _ in range(2)]
    unknowing = begun(story.exchange.read(make_request()))
    await story.upstream.arrived(2)
    await turns()
    story.upstream.release()
    assert body_of(await before) == OLD.body
    assert [body_of(reply) for reply in await asyncio.gather(*knowing)] == [NEW.body] * 2
    assert body_of(await unknowing) == NEW.body
    assert story.calls == 2


async def test_what_another_replica_read_before_the_write_is_no_answer_to_who_knows_of_it(replica):
    """A reader who knows nothing begins to follow after the write; one who knows joins; the fill is from before it."""
    story = replica(NEW)
    story.clock.advance(20)
    unknowing = await story.waiting(story.exchange.read(make_request()))
    knowing = begun(story.exchange.read(make_request(directives=SINCE)))
    await turns()
    await story.others_fill(OLD, age=15)
    assert body_of(await unknowing) == OLD.body
    reply = await knowing
    assert (body_of(reply), reply.outcome.detail) == (NEW.body, None)
    assert story.calls == 1


async def test_what_another_replica_stored_and_a_write_has_changed_since_is_not_newer(replica):
    story = replica(NEW)
    reading = await story.waiting(story.exchange.read(make_request()))
    await story.others_store(OLD)
    story.clock.advance(1)
    story.memory.invalidate_here(make_request().key, Cause.WRITE)
    story.fleet.others_release()
    assert body_of(await reading) == NEW.body


async def test_an_overwritten_answer_is_never_served_before_the_platform_was_asked(story):
    await story.read()
    await story.invalidate()
    story.clock.advance(1)
    reply = await story.read(directives=RequestDirectives(max_stale=float("inf")))
    assert (body_of(reply), reply.outcome.fwd) == (NEW.body, Fwd.STALE)
    assert story.budget.asked[-1][1] is Lane.INTERACTIVE


@pytest.mark.parametrize("only_if_cached", [True, False])
async def test_an_overwritten_answer_is_fallen_back_on_and_said_to_be_stale(new_story, only_if_cached):
    story = new_story(OLD, error_response(500, "Internal"))
    await story.read()
    await story.invalidate()
    story.clock.advance(3)
    reply = await story.read(directives=RequestDirectives(only_if_cached=only_if_cached))
    if only_if_cached:
        assert reply.failure.problem is Problem.NOT_CACHED
    else:
        assert (body_of(reply), reply.outcome.detail, reply.outcome.ttl) == (OLD.body, Detail.BEFORE_WRITE, -3.0)


@pytest.mark.parametrize("reach", ["one", "all"])
@pytest.mark.parametrize(("after", "lifetime"), [(1, FRESHNESS.min), (WRITE_SETTLE_SECONDS + 1, LIFETIME)])
async def test_a_caller_may_keep_what_was_read_soon_after_a_write_for_the_shortest_time_only(
    new_story, reach, after, lifetime
):
    story = new_story(OLD)
    await story.invalidator.invalidate(
        [make_request().key if reach == "one" else group_of(make_request().key)], Cause.WRITE
    )
    story.clock.advance(after)
    assert [(await story.read()).lifetime for _ in range(2)] == [lifetime, lifetime], "the fill's own reply as well"


async def test_a_purged_answer_is_served_as_stale_while_it_is_read_again(story):
    await story.read()
    await story.invalidator.invalidate([make_request().key], Cause.PURGE)
    story.clock.advance(1)
    reply = await story.read()
    assert (body_of(reply), reply.outcome.ttl, reply.outcome.detail) == (OLD.body, -1.0, Detail.STALE_WHILE_REVALIDATE)
    assert body_of(await story.read()) == NEW.body


@pytest.mark.parametrize("how", ["overwritten", "token"])
async def test_a_key_is_not_left_alone_for_a_failure_that_came_before_the_write(new_story, how):
    """A write that got through says that the platform is back."""
    story = new_story(OLD, error_response(500, "Internal"), NEW)
    await story.age(PAST_WINDOW)
    assert (await story.read()).outcome.detail is Detail.STALE_IF_ERROR
    story.clock.advance(0.25)
    assert body_of(await story.read()) == OLD.body, "it rests"
    if how == "overwritten":
        await story.invalidate()
    directives = NO_DIRECTIVES if how == "overwritten" else RequestDirectives(newer_than=story.clock.now())
    assert body_of(await story.read(directives=directives)) == NEW.body


# Rows of the list after an invalidation.


async def row_reply(story, directives=NO_DIRECTIVES):
    return await story.exchange.read(replace(make_request(directives=directives), fields=frozenset({"name"})))


async def round_began(story, number: int, name: str, lag: float = 0.0) -> None:
    now = story.clock.now()
    row = IndexedCampaign(Channel.VOICE, "revision", None, now, has_changed=False, fields={"name": name})
    state = IndexState(polls={Channel.VOICE: Poll(now, lasts=30.0)}, blind=300.0, lag=lag, number=number)
    assert await story.index.publish(SUPPORT.identity, state, {"c-1": row})


@pytest.mark.parametrize("how", ["write", "purge", "all", "gap"])
async def test_a_row_from_before_an_invalidation_answers_nobody(new_story, how):
    story = new_story(NEW)
    await round_began(story, 1, "old")
    story.clock.advance(1)
    assert (await row_reply(story)).outcome.detail is Detail.ROW
    match how:
        case "gap":
            story.memory.lose_track()
        case "all":
            story.memory.invalidate_here(group_of(make_request().key), Cause.WRITE)
        case _:
            story.memory.invalidate_here(make_request().key, Cause(how))
    reply = await row_reply(story)
    assert (reply.outcome.detail, b"new" in body_of(reply)) == (None, True)
    story.memory.supersede(make_request().key)
    story.clock.advance(1)
    await round_began(story, 2, "newer")
    assert b"newer" in body_of(await row_reply(story)), "a poll that began after it answers again"


async def test_a_row_answers_nobody_who_knows_of_a_write(new_story):
    story = new_story(NEW)
    await round_began(story, 1, "old")
    story.clock.advance(20)
    assert b"new" in body_of(await row_reply(story, SINCE))


async def test_a_list_that_may_lag_validates_nothing_right_after_an_invalidation(new_story):
    story = new_story(NEW)
    story.memory.invalidate_here(make_request().key, Cause.WRITE)
    story.clock.advance(4)
    await round_began(story, 1, "old", lag=5.0)
    assert b"new" in body_of(await row_reply(story))


# What answers say of changes, and what is counted of them.


async def list_seen(story, number: int, indexed: IndexedCampaign) -> None:
    state = IndexState(polls={Channel.VOICE: Poll(story.clock.now(), 8.0)}, blind=300.0, lag=5.0, number=number)
    assert await story.index.publish(SUPPORT.identity, state, {"c-1": indexed})


async def test_a_fill_and_a_stale_answer_say_how_soon_changes_are_seen(new_story):
    story = new_story(NEW)
    assert (await story.read()).visibility == Visibility(LIFETIME + WINDOW)
    story.clock.advance(LIFETIME + 1)
    stale = await story.exchange.read(make_request())
    assert (stale.outcome.detail, stale.visibility) == (Detail.STALE_WHILE_REVALIDATE, Visibility(LIFETIME + WINDOW))


async def test_what_is_served_for_want_of_a_better_one_promises_the_hard_bound_only(new_story):
    story = new_story(NEW, error_response(500, "no"))
    await story.age(PAST_WINDOW)
    reply = await story.read()
    assert (reply.outcome.detail, reply.visibility) == (Detail.STALE_IF_ERROR, Visibility(HARD_BOUND))


async def test_what_the_list_has_superseded_names_the_newer_revision_until_it_was_read(new_story):
    story = new_story(NEW)
    first = (await story.read()).entry
    story.clock.advance(10)
    indexed = IndexedCampaign(
        Channel.VOICE, "m", first.revision, story.clock.now() - 20, has_changed=False, status="Ready"
    )
    await list_seen(story, 1, indexed)
    until = story.clock.now() + 8.0
    assert (await story.exchange.read(make_request())).visibility == Visibility(13.0, until)
    moved = replace(indexed, updated_at=stamp(story.clock.now()), since=story.clock.now(), has_changed=True)
    await list_seen(story, 2, moved)
    reply = await story.exchange.read(make_request())
    assert reply.outcome.detail is Detail.STALE_WHILE_REVALIDATE
    assert reply.visibility == Visibility(13.0, until, moved.updated_at)
    await finished(story.tasks)
    story.clock.advance(1)
    assert (await story.read(directives=RequestDirectives(no_cache=True))).visibility.newer is None


async def test_a_row_promises_what_its_list_does(new_story):
    story = new_story(NEW)
    await list_seen(
        story, 1, IndexedCampaign(Channel.VOICE, "m", None, story.clock.now(), has_changed=False, fields={"name": "x"})
    )
    assert (await row_reply(story)).visibility == Visibility(13.0, story.clock.now() + 8.0)


async def test_what_is_not_about_one_campaign_promises_nothing(new_story):
    story = new_story(json_response({"status": "success", "data": {"results": []}}))
    reply = await story.exchange.read(Request(SUPPORT, operation("list"), "", "tests", body=b"{}"))
    assert reply.entry is not None
    assert reply.visibility is None


CHANGED = START + 55
"""When the campaign was changed in the cases below, by our clock."""


@pytest.mark.parametrize(
    ("first", "second", "seen"),
    [
        pytest.param({}, {"updatedAt": stamp(CHANGED), "name": "new"}, [5.0], id="a-change"),
        pytest.param({}, {}, [], id="none"),
        pytest.param({}, {"name": "new"}, [], id="one-that-moves-no-revision"),
        pytest.param({}, {"updatedAt": stamp(CHANGED + 10), "name": "new"}, [], id="one-from-the-future"),
        pytest.param({}, {"updatedAt": "soon", "name": "new"}, [], id="a-revision-that-names-no-instant"),
        pytest.param(
            {"updatedAt": "soon"}, {"updatedAt": stamp(CHANGED), "name": "new"}, [5.0], id="and-then-one-does"
        ),
        pytest.param({}, {"updatedAt": stamp(START - 3541), "name": "new"}, [], id="one-of-more-than-an-hour-ago"),
        pytest.param({}, {"updatedAt": stamp(START - 3540), "name": "new"}, [3600.0], id="one-of-an-hour-ago"),
    ],
)
async def test_a_change_is_counted_with_the_time_it_took(new_story, first, second, seen):
    story = new_story(campaign_response(**first), campaign_response(**second))
    await story.age(60)
    await story.read(directives=RequestDirectives(no_cache=True))
    assert story.calls == 2
    assert story.meter.visible == pytest.approx(seen)
    assert story.meter.events["change_visible", "support"] == len(seen)


async def test_that_time_is_by_our_clock(new_story):
    def by_a_clock_behind(name, at):
        changed = campaign_response(name=name, updatedAt=stamp(at - 25.0))
        return lambda *_: replace(changed, date=formatdate(ours.clock.now() - 25.0, usegmt=True))

    ours = new_story(by_a_clock_behind("old", START - 9000), by_a_clock_behind("new", CHANGED))
    await ours.age(60)
    await ours.read(directives=RequestDirectives(no_cache=True))
    assert ours.meter.visible == [pytest.approx(5.0, abs=1.1)]


async def test_a_first_read_and_one_after_an_absence_are_no_change_seen(new_story):
    story = new_story(NOT_FOUND, campaign_response(updatedAt=stamp(START)))
    await story.age(60)
    await story.read()
    assert (story.calls, story.meter.visible) == (2, [])


async def test_a_change_that_was_not_stored_was_not_seen(new_story):
    story = new_story(campaign_response(), campaign_response(updatedAt=stamp(CHANGED), name="new"))
    await story.age(60)
    story.memory.hold()
    reading = begun(story.exchange.read(make_request(directives=RequestDirectives(no_cache=True))))
    await story.upstream.arrived(2)
    await turns()
    await story.invalidate()
    story.memory.release()
    await reading
    await finished(story.tasks)
    assert story.meter.visible == []


async def test_who_took_a_call_is_told_how_long_it_was_and_whoever_joined_it_too(new_story):
    story = new_story(campaign_response())
    first = await story.held(story.read())
    second = begun(story.read())
    await turns()
    story.upstream.release()
    took = [(await read).outcome.seconds for read in (first, second)]
    assert None not in took
    assert took[0] == took[1]
    assert min(took[0]) >= 0
    assert (await story.read()).outcome.seconds is None


async def test_a_call_that_failed_is_told_of_and_one_that_was_refused_is_none(new_story):
    story = new_story(UpstreamError(Problem.UPSTREAM_TIMEOUT, "no answer in time"))
    assert (await story.read()).outcome.seconds is not None
    story.budget.refuse_all = Failure(Problem.BUDGET_EXHAUSTED, "spent")
    assert (await story.read("c-2")).outcome.seconds is None
