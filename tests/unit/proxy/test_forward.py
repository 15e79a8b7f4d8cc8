import asyncio
from collections.abc import Callable, Collection
from typing import Any

import pytest
from typing_extensions import override

from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import operation
from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import OUTCOME_UNKNOWN, Failure
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ports import Put, UpstreamError
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request, all_of
from campaign_gateway.proxy.writers import writer_of
from tests.support.doubles import (
    LIMITED,
    NOT_FOUND,
    START,
    SUPPORT,
    UNAUTHORIZED,
    GatedStore,
    begun,
    campaign_response,
    error_response,
    finished,
    json_response,
    make_request,
    turns,
)
from tests.support.story import HARD_BOUND, LIFETIME, Story

NewStory = Callable[..., Story]

DONE = json_response({"status": "success", "data": {"_id": "c-1"}})
NAMELESS = json_response({"status": "success", "data": {"message": "enabled"}})
REJECTED = error_response(422, "the name is taken")
TIMEOUT = UpstreamError(Problem.UPSTREAM_TIMEOUT, "no answer in time")
RESET = UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "the connection was closed", may_repeat=True)
NEVER_LEFT = UpstreamError(Problem.UPSTREAM_UNAVAILABLE, "no connection", was_sent=False)
SPENT = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)


def update(campaign: str = "c-1", client: str = "tests") -> Request:
    return Request(SUPPORT, operation("update"), campaign, client, body=b"{}", values={"type": "voice"})


def schedule(name: str) -> Request:
    return Request(SUPPORT, operation("schedule-on"), "", "tests", body=b"{}", values={"name": name})


def create() -> Request:
    return Request(SUPPORT, operation("create"), "", "tests", body=b"{}", values={"type": "voice"})


async def invalidated_by(story: Story, *campaigns: str) -> list[Cause | None]:
    """Why the stored answers have to be validated; None where they have not."""
    last = [(await story.found(campaign)).evidence.invalidation for campaign in campaigns]
    return [one.by if one is not None and one.is_open else None for one in last]


async def read_all(story: Story, *campaigns: str) -> None:
    script, story.upstream.script = (
        story.upstream.script,
        [lambda _stream, call: campaign_response(call.target.rpartition("/")[2].partition("?")[0])],
    )
    for campaign in campaigns:
        await story.read(campaign)
    story.upstream.script = [*[DONE] * story.calls, *script]
    story.clock.advance(20)


async def known_by_name(story: Story, **names: str) -> None:
    """What a poll of the list has shown."""
    rows = {
        id_.replace("_", "-"): IndexedCampaign(
            Channel.VOICE, "revision", None, START, has_changed=False, fields={"name": name}
        )
        for id_, name in names.items()
    }
    assert await story.index.publish(SUPPORT.identity, IndexState(number=1), rows)


# Sent once.


async def test_a_write_is_sent_with_its_body_and_answered_with_the_platform_s_own_words(new_story: NewStory) -> None:
    story = new_story(DONE)
    reply = await story.forwarder.send(update())
    assert reply == Reply(Outcome(Fwd.METHOD, 200), passed=DONE, written_at=START)
    [(_, call)] = story.upstream.calls
    assert (call.method, call.body) == ("PUT", b"{}")
    assert story.budget.asked == [("acc-1", Lane.WRITES, "tests", 2.5)]


@pytest.mark.parametrize("step", [TIMEOUT, RESET, UNAUTHORIZED, LIMITED, REJECTED, error_response(500, "x")])
async def test_a_write_is_never_sent_again(new_story: NewStory, step: Any) -> None:
    """Not on a kept connection that was closed, and not with a newer secret after a refused credential."""
    story = new_story(step, DONE)
    story.upstream.newer_secrets = 1
    assert (await story.forwarder.send(update())).failure is not None
    assert (story.calls, len(story.budget.asked)) == (1, 1)


@pytest.mark.parametrize(
    ("step", "problem", "is_unknown"),
    [
        pytest.param(TIMEOUT, Problem.UPSTREAM_TIMEOUT, True, id="time-out"),
        pytest.param(RESET, Problem.UPSTREAM_UNAVAILABLE, True, id="reset"),
        pytest.param(error_response(502, "Bad gateway"), Problem.UPSTREAM_UNAVAILABLE, True, id="502"),
        pytest.param(NEVER_LEFT, Problem.UPSTREAM_UNAVAILABLE, False, id="never-left"),
        pytest.param(REJECTED, Problem.UPSTREAM_REJECTED, False, id="rejected"),
        pytest.param(NOT_FOUND, Problem.CAMPAIGN_NOT_FOUND, False, id="not-found"),
        pytest.param(LIMITED, Problem.UPSTREAM_PAUSED, False, id="limited"),
    ],
)
async def test_a_failed_write_says_whether_it_may_have_taken_effect(
    new_story: NewStory, step: Any, problem: Problem, is_unknown: bool
) -> None:
    failure = (await new_story(step).forwarder.send(update())).failure
    assert failure is not None
    assert failure.problem is problem
    assert (OUTCOME_UNKNOWN in failure.detail) is is_unknown


# Fences.


async def test_fences_are_raised_before_the_write_leaves_and_after_it_ended(new_story: NewStory) -> None:
    story = new_story(campaign_response(name="before"), DONE, campaign_response(name="between"))
    await story.read()
    writing = await story.held(story.forwarder.send(update()), 2)
    assert await invalidated_by(story, "c-1") == [Cause.WRITE], "before it is answered"
    reading = begun(story.exchange.read(make_request()))
    await story.upstream.arrived(3)
    story.clock.advance(1)
    before_answer = story.memory.invalidated_at(make_request().key)
    story.upstream.release()
    await writing
    await reading
    await finished(story.tasks)
    assert story.memory.invalidated_at(make_request().key) > before_answer
    assert (await invalidated_by(story, "c-1")) == [Cause.WRITE], "what was read meanwhile is not kept as good"


async def test_a_fill_from_before_a_write_is_not_stored(new_story: NewStory) -> None:
    story = new_story(campaign_response(name="before"), DONE)
    reading = await story.held(story.exchange.read(make_request()))
    writing = begun(story.forwarder.send(update()))
    await story.upstream.arrived(2)
    story.upstream.release()
    await asyncio.gather(reading, writing)
    await finished(story.tasks)
    assert story.memory.puts == [Put.FENCED]
    assert await story.stored() is None


async def test_nothing_is_invalidated_where_no_call_may_be_made(new_story: NewStory) -> None:
    story = new_story(DONE)
    await read_all(story, "c-1")
    story.budget.refuse_all = SPENT
    story.meter.events.clear()
    reply = await story.forwarder.send(update())
    assert (reply.outcome.fwd, reply.written_at) == (None, None)
    assert reply.failure is not None
    assert OUTCOME_UNKNOWN not in reply.failure.detail
    assert await invalidated_by(story, "c-1") == [None]
    assert story.meter.of("invalidation") == 0
    assert story.writers.floor(SUPPORT, "tests", "get") is None


async def test_a_write_that_never_left_is_no_version(new_story: NewStory) -> None:
    story = new_story(NEVER_LEFT)
    reply = await story.forwarder.send(update())
    assert (reply.outcome, reply.written_at) == (Outcome(), None)
    assert story.meter.of("invalidation", "write") == 1, "only before"


@pytest.mark.parametrize("step", [TIMEOUT, RESET, LIMITED, REJECTED, error_response(500, "x")])
async def test_whatever_the_answer_fences_are_raised_after_it(new_story: NewStory, step: Any) -> None:
    story = new_story(step)
    await read_all(story, "c-1")
    reply = await story.forwarder.send(update())
    assert reply.written_at == story.clock.now()
    assert story.meter.of("invalidation", "write") == 2
    assert await invalidated_by(story, "c-1") == [Cause.WRITE]


async def test_a_caller_who_leaves_takes_neither_write_nor_fences_along(new_story: NewStory) -> None:
    story = new_story(DONE)
    await read_all(story, "c-1")
    writing = await story.held(story.forwarder.send(update()), 2)
    writing.cancel()
    await turns()
    assert writing.cancelled()
    story.upstream.release()
    await finished(story.tasks)
    assert story.meter.of("invalidation", "write") == 2


# Of what.


async def test_a_write_by_id_invalidates_that_campaign_and_no_other(new_story: NewStory) -> None:
    story = new_story(DONE)
    await read_all(story, "c-1", "c-2")
    await story.forwarder.send(update())
    assert await invalidated_by(story, "c-1", "c-2") == [Cause.WRITE, None]
    for resource in ("status", "status-v1", "get-v1"):
        assert story.memory.invalidated_at(f"{SUPPORT.identity}:{resource}:c-1") == story.clock.now(), resource
    for resource in ("list", "list-v1", "contact-list-get", "contact-list-list"):
        assert story.memory.invalidated_at(all_of(SUPPORT, resource)) == story.clock.now(), resource


async def test_what_was_made_is_known_by_the_id_in_the_answer(new_story: NewStory) -> None:
    """Somebody has asked for it before: that there is no such campaign is stored."""
    story = new_story(
        NOT_FOUND, json_response({"status": "success", "data": {"campId": "c-9"}}), campaign_response("c-9")
    )
    await story.read("c-9")
    assert story.calls == 1
    await story.forwarder.send(create())
    assert await invalidated_by(story, "c-9") == [Cause.WRITE]
    found = (await story.read("c-9")).entry
    assert found is not None
    assert found.absence is None


async def test_what_could_not_be_made_for_all_that_is_known_touches_no_campaign(new_story: NewStory) -> None:
    story = new_story(TIMEOUT)
    await read_all(story, "c-1", "c-2")
    await story.forwarder.send(create())
    assert await invalidated_by(story, "c-1", "c-2") == [None, None]
    assert story.memory.invalidated_at(all_of(SUPPORT, "list")) == story.clock.now()


@pytest.mark.parametrize(
    ("answer", "touched"),
    [
        pytest.param(NAMELESS, ["c-1"], id="known-by-the-list"),
        pytest.param(TIMEOUT, ["c-1"], id="known-by-the-list-and-no-answer"),
        pytest.param(json_response({"status": "success", "data": {"_id": "c-2"}}), ["c-1", "c-2"], id="and-the-answer"),
    ],
)
async def test_a_write_by_name_invalidates_whom_list_and_answer_name(
    new_story: NewStory, answer: Any, touched: list[str]
) -> None:
    story = new_story(answer)
    await read_all(story, "c-1", "c-2", "c-3")
    await known_by_name(story, c_1="Tide", c_3="Ebb")
    await story.forwarder.send(schedule("Tide"))
    assert [id_ for id_ in ("c-1", "c-2", "c-3") if await invalidated_by(story, id_) == [Cause.WRITE]] == touched


@pytest.mark.parametrize(
    ("answer", "touched"),
    [
        pytest.param(NAMELESS, ["c-1", "c-2"], id="done"),
        pytest.param(TIMEOUT, ["c-1", "c-2"], id="not-known"),
        pytest.param(error_response(500, "x"), ["c-1", "c-2"], id="failed"),
        pytest.param(json_response({"status": "success", "data": {"_id": "c-2"}}), ["c-2"], id="the-answer-names-it"),
        pytest.param(REJECTED, [], id="refused-nothing-was-done"),
        pytest.param(NOT_FOUND, [], id="no-such-name"),
    ],
)
async def test_where_nobody_knows_which_campaign_all_are_invalidated(
    new_story: NewStory, answer: Any, touched: list[str]
) -> None:
    story = new_story(answer)
    await read_all(story, "c-1", "c-2")
    await story.forwarder.send(schedule("Tide"))
    assert [id_ for id_ in ("c-1", "c-2") if await invalidated_by(story, id_) == [Cause.WRITE]] == touched


async def test_what_a_write_may_have_changed_binds_its_client_on_all_replicas_and_nobody_else(
    new_story: NewStory,
) -> None:
    published: list[str] = []

    class Publishing(GatedStore):
        @override
        async def publish_write(self, writer: str) -> bool:
            published.append(writer)
            return True

    story = new_story(DONE, store_kind=Publishing)
    await read_all(story, "c-1")
    call_back = Request(SUPPORT, operation("call-back"), "i-1", "me", body=b"{}")
    reply = await story.forwarder.send(call_back)
    bound = {
        (client, resource)
        for client in ("me", "you")
        for resource in ("get", "get-v1", "status", "list", "contact-list-get")
        if story.writers.floor(SUPPORT, client, resource) == reply.written_at == story.clock.now()
    }
    assert bound == {("me", "get"), ("me", "get-v1"), ("me", "status"), ("me", "list")}
    assert {writer_of(SUPPORT, *each) for each in bound} < set(published)
    assert await invalidated_by(story, "c-1") == [None]


async def test_what_a_write_changes_for_certain_binds_everybody_and_its_client_no_more(new_story: NewStory) -> None:
    story = new_story(DONE)
    await story.forwarder.send(update())
    assert story.writers.floor(SUPPORT, "tests", "get") is None


@pytest.mark.drill(
    "a write or purge while Redis is lost",
    planted="invalidations, and a client's write, that nobody could be told of",
    seen="`detail=unshared`, a purge is `202`",
)
@pytest.mark.parametrize("missed", ["invalidate_many", "publish_write"])
async def test_a_write_that_other_replicas_do_not_know_of_says_so(new_story: NewStory, missed: str) -> None:
    class Alone(GatedStore):
        @override
        async def invalidate_many(self, keys: Collection[str], by: Cause) -> bool:
            return await super().invalidate_many(keys, by) and missed != "invalidate_many"

        @override
        async def publish_write(self, writer: str) -> bool:
            return missed != "publish_write"

    story = new_story(DONE, store_kind=Alone)
    call_back = Request(SUPPORT, operation("call-back"), "i-1", "me", body=b"{}")
    details = [(await story.forwarder.send(request)).outcome.detail for request in (update(), call_back)]
    assert details == ([Detail.UNSHARED, None] if missed == "invalidate_many" else [None, Detail.UNSHARED])


# Reads that are never stored.


async def test_what_carries_personal_data_is_passed_on_and_never_stored(new_story: NewStory) -> None:
    story = new_story(json_response({"status": "success", "data": {"contacts": []}}))
    contacts = Request(SUPPORT, operation("contacts"), "l-1", "tests")
    for _ in range(2):
        reply = await story.forwarder.send(contacts)
        assert reply.passed is not None
        assert (reply.outcome, reply.entry, reply.written_at) == (Outcome(Fwd.BYPASS, 200), None, None)
    await finished(story.tasks)
    assert story.calls == 2
    assert (len(story.memory), story.memory.puts, story.meter.of("invalidation")) == (0, [], 0)
    assert {lane for _, lane, _, _ in story.budget.asked} == {Lane.INTERACTIVE}
    assert story.writers.floor(SUPPORT, "tests", "get") is None


async def test_such_a_read_may_be_repeated_and_says_nothing_of_effects(new_story: NewStory) -> None:
    contacts = Request(SUPPORT, operation("contacts"), "l-1", "tests")
    story = new_story(RESET, json_response({"status": "success", "data": {"contacts": []}}))
    assert (await story.forwarder.send(contacts)).failure is None
    failure = (await new_story(TIMEOUT).forwarder.send(contacts)).failure
    assert failure is not None
    assert OUTCOME_UNKNOWN not in failure.detail


# Voice or SMS.


async def test_the_channel_is_what_the_list_says(new_story: NewStory) -> None:
    story = new_story(DONE)
    await known_by_name(story, c_1="Tide")
    assert await story.forwarder.channel(SUPPORT, "c-1", "tests") == "voice"
    assert story.calls == 0


@pytest.mark.parametrize("age", [0.0, LIFETIME * 10, HARD_BOUND - 1])
async def test_the_channel_is_what_a_stored_answer_shows_however_stale(new_story: NewStory, age: float) -> None:
    story = new_story(campaign_response(format="standard"))
    await story.read()
    await story.invalidate()
    story.clock.advance(age)
    assert await story.forwarder.channel(SUPPORT, "c-1", "tests") == "sms"
    assert story.calls == 1


async def test_the_channel_is_read_where_nothing_shows_it(new_story: NewStory) -> None:
    story = new_story(campaign_response(dialingMode="preview"))
    assert await story.forwarder.channel(SUPPORT, "c-1", "tests") == "voice"
    assert story.calls == 1


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        pytest.param(campaign_response(), Problem.INVALID_REQUEST, id="neither"),
        pytest.param(TIMEOUT, Problem.UPSTREAM_TIMEOUT, id="no-answer"),
    ],
)
async def test_a_channel_that_cannot_be_known_is_said_to_be_so(
    new_story: NewStory, step: Any, problem: Problem
) -> None:
    reply = await new_story(step).forwarder.channel(SUPPORT, "c-1", "tests")
    assert isinstance(reply, Reply)
    assert reply.failure is not None
    assert reply.failure.problem is problem


async def test_a_campaign_that_is_not_there_has_no_channel(new_story: NewStory) -> None:
    reply = await new_story(NOT_FOUND).forwarder.channel(SUPPORT, "c-1", "tests")
    assert isinstance(reply, Reply)
    assert reply.entry is not None
    assert reply.entry.absence is not None
