import asyncio
from collections.abc import Callable, Collection

import pytest

from campaign_gateway.contract.effects import RESOURCES
from campaign_gateway.policy.evidence import Cause, CopyState
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.request import all_of
from campaign_gateway.proxy.rereads import MAX_READS
from tests.support.doubles import SALES, SUPPORT, begun, campaign_response, finished, make_request, turns
from tests.support.story import Story

NewStory = Callable[..., Story]
SPENT = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)


async def purged(story: Story, campaign: str) -> bool:
    found = await story.found(campaign)
    assert found.stored is not None, "it stays"
    return found.evidence.state is CopyState.INVALIDATED and not found.evidence.is_overwritten


async def stored(new_story: NewStory, *campaigns: str) -> Story:
    """A story in which these were read a while ago."""
    story = new_story(lambda _stream, call: campaign_response(call.target.rpartition("/")[2].partition("?")[0]))
    for campaign in campaigns:
        await story.read(campaign)
    story.clock.advance(20)
    return story


async def test_named_campaigns_are_read_again_in_the_background(new_story: NewStory) -> None:
    story = await stored(new_story, "c-1", "c-2", "c-3")
    story.upstream.hold()
    await story.invalidator.purge(SUPPORT, ["c-1", "c-2"], "an operator")
    assert [await purged(story, campaign) for campaign in ("c-1", "c-2", "c-3")] == [True, True, False]
    await story.upstream.arrived(5)
    assert story.budget.asked[3:] == [("acc-1", Lane.BACKGROUND, "an operator", 0.0)] * 2
    served = await story.exchange.read(make_request())
    assert served.entry is not None, "and are served meanwhile"
    assert served.outcome.ttl is not None
    assert served.outcome.ttl <= 0, "as stale"
    story.upstream.release()
    await finished(story.tasks)
    assert [await purged(story, campaign) for campaign in ("c-1", "c-2")] == [False, False]
    assert story.calls == 5


async def test_a_purge_of_what_is_not_stored_costs_no_call(new_story: NewStory) -> None:
    story = await stored(new_story, "c-1")
    await story.invalidator.purge(SUPPORT, ["c-2"], "an operator")
    await finished(story.tasks)
    assert story.calls == 1


async def test_a_purge_that_the_budget_does_not_pay_for_is_stale_until_somebody_asks(new_story: NewStory) -> None:
    story = await stored(new_story, "c-1")
    story.budget.refusals = [SPENT]
    await story.invalidator.purge(SUPPORT, ["c-1"], "an operator")
    await finished(story.tasks)
    assert await purged(story, "c-1")
    await story.read()
    assert not await purged(story, "c-1")


async def test_of_many_purged_campaigns_a_few_are_read_at_a_time_until_there_are_no_calls(new_story: NewStory) -> None:
    ids = [f"c-{number}" for number in range(3 * MAX_READS)]
    story = await stored(new_story, *ids)
    story.upstream.hold()
    await story.invalidator.purge(SUPPORT, ids, "an operator")
    await story.upstream.arrived(len(ids) + MAX_READS)
    assert len(story.flights) == MAX_READS
    story.budget.refusals = [SPENT]
    story.upstream.release()
    await finished(story.tasks)
    assert story.calls <= len(ids) + 2 * MAX_READS
    assert await purged(story, ids[-1])


async def test_a_purge_of_all_waits_for_readers(new_story: NewStory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    story = await stored(new_story, "c-1", "c-2")
    await story.exchange.read(make_request("c-1", stream=SALES))
    await story.invalidator.purge(SUPPORT, None, "an operator")
    await story.invalidator.purge(SUPPORT, ["c-3", "c-4"], "a script")
    assert caplog.messages == [
        "all answers of stream support purged by client an operator",
        "2 campaigns of stream support purged by client a script",
    ]
    await finished(story.tasks)
    assert story.calls == 3
    assert [await purged(story, campaign) for campaign in ("c-1", "c-2")] == [True, True]
    for resource in (name for names in RESOURCES.values() for name in names):
        assert story.memory.invalidated_at(all_of(SUPPORT, resource)) == story.clock.now(), resource
    assert story.memory.invalidated_at(make_request("c-1", stream=SALES).key) == 0.0, "another stream's"
    await story.read("c-1")
    assert [await purged(story, campaign) for campaign in ("c-1", "c-2")] == [False, True]


async def test_both_versions_and_the_status_are_purged(new_story: NewStory) -> None:
    story = await stored(new_story, "c-1")
    await story.invalidator.purge(SUPPORT, ["c-1"], "an operator")
    for resource in ("get", "get-v1", "status", "status-v1"):
        assert story.memory.invalidated_at(f"{SUPPORT.identity}:{resource}:c-1") == story.clock.now(), resource
    assert story.memory.invalidated_at(all_of(SUPPORT, "list")) == 0.0


@pytest.mark.parametrize("reach", ["one", "all"])
async def test_a_flight_from_before_is_not_joined(new_story: NewStory, reach: str) -> None:
    story = new_story(campaign_response(name="old"), campaign_response(name="new"))
    first = await story.held(story.exchange.read(make_request()))
    await story.invalidator.invalidate([make_request().key if reach == "one" else all_of(SUPPORT, "get")], Cause.WRITE)
    second = begun(story.exchange.read(make_request()))
    await story.upstream.arrived(2)
    story.upstream.release()
    replies = await asyncio.gather(first, second)
    assert [reply.entry is not None and b'"new"' in reply.entry.body for reply in replies] == [False, True]


async def test_a_flight_that_began_while_the_fence_was_raised_is_not_joined_either(new_story: NewStory) -> None:
    """1. flights are forgotten; 2. a reader looks up and starts one; 3. the fence is raised."""
    story = new_story(campaign_response(name="old"), campaign_response(name="new"))
    story.upstream.hold()
    raise_fences = story.memory.invalidate_many
    readers = []

    async def slow(keys: Collection[str], by: Cause) -> bool:
        readers.append(begun(story.exchange.read(make_request())))
        await story.upstream.arrived()
        return await raise_fences(keys, by)

    story.memory.invalidate_many = slow  # type: ignore[method-assign]
    await story.invalidator.invalidate([make_request().key], Cause.WRITE)
    readers.append(begun(story.exchange.read(make_request())))
    await turns()
    assert story.calls == 2
    story.upstream.release()
    await asyncio.gather(*readers)


async def test_nothing_is_counted_where_nothing_is_to_be_invalidated(new_story: NewStory) -> None:
    story = await stored(new_story, "c-1")
    await story.invalidator.invalidate([], Cause.WRITE)
    assert story.meter.of("invalidation") == 0
    await story.invalidator.invalidate([make_request().key], Cause.WRITE)
    assert story.meter.events["invalidation", "write"] == 1
