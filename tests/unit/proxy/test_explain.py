"""What an operator is shown of one campaign, value by value."""

from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import SETTLE_SECONDS, IndexedCampaign, IndexState, Poll
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.bounds import StatedBounds
from campaign_gateway.proxy.explain import Explainer, Explanation, Listing
from tests.support.doubles import NOT_FOUND, SUPPORT, UNAUTHORIZED, campaign_response, finished, make_request
from tests.support.story import FRESHNESS, HARD_BOUND, LIFETIME, MISSING, Story

AGE = 10.0


async def told(script: Any = None) -> Story:
    """A story whose campaign was read a while ago, if there is an answer to read."""
    story = Story(script or campaign_response())
    if script is not None:
        await story.age(AGE)
    return story


async def explained(story: Story) -> Explanation:
    explainer = Explainer(
        store=story.store,
        index=story.index,
        rules=lambda: FRESHNESS,
        bounds=lambda stream: StatedBounds(7.0 if stream == SUPPORT.identity else 0.0, 300.0, is_validating=True),
        remaining=lambda account: 42 if account == SUPPORT.tenant.account else 0,
        prospect=story.exchange.prospect,
    )
    explanation = await explainer.explain(SUPPORT, "c-1")
    stored = await story.stored()
    edited = None if stored is None or stored.updated_at is None else story.clock.now() - stored.updated_at
    assert explanation.edited_ago == edited
    assert story.calls == len(story.upstream.calls), "the platform is not asked"
    await story.close()
    return replace(explanation, edited_ago=None)


async def listed(story: Story, began: float = 0.0, since: float = -500.0, **members: Any) -> None:
    """The list has shown the campaign, times relative to now."""
    stored, now = await story.stored(), story.clock.now()
    row = IndexedCampaign(
        Channel.VOICE, "m", None if stored is None else stored.revision, now + since, has_changed=False, status="Ready"
    )
    state = IndexState({Channel.VOICE: Poll(now + began, lasts=30.0)}, blind=600.0, number=1)
    assert await story.index.publish(SUPPORT.identity, state, {"c-1": replace(row, **members)})


NOTHING = Explanation(
    stream="support",
    campaign="c-1",
    is_stored=False,
    is_absent=False,
    age=None,
    proof=None,
    edited_ago=None,
    read_ago=None,
    lifetime=None,
    why=None,
    ttl=None,
    stale_at_most=HARD_BOUND,
    next="call the platform (uri-miss)",
    refusal=None,
    retry_after=None,
    budget_remaining=42,
    signal_bound=7.0,
    blind_bound=300.0,
    listed=None,
)
READ = replace(
    NOTHING,
    is_stored=True,
    age=AGE,
    proof="read",
    read_ago=AGE,
    lifetime=LIFETIME,
    why="max",
    ttl=LIFETIME - AGE,
    next="answer from it",
)
AGAIN = "answer from it, and refresh it in the background"


async def test_nothing_is_stored():
    assert await explained(await told()) == NOTHING


async def test_a_fresh_answer_by_its_read():
    assert await explained(await told(campaign_response())) == READ


async def test_the_absence_of_a_campaign():
    story = await told(NOT_FOUND)
    story.clock.advance(-AGE + 4)
    expected = replace(READ, is_absent=True, age=4.0, read_ago=4.0, lifetime=MISSING, why="missing", ttl=MISSING - 4.0)
    assert await explained(story) == expected


async def test_an_answer_that_a_poll_has_validated():
    story = await told(campaign_response())
    await listed(story, began=-2.0)
    expected = replace(READ, age=2.0, proof="sweep", lifetime=30.0, why="sweep", ttl=28.0)
    assert await explained(story) == replace(
        expected, listed=Listing("voice", is_listed=True, has_changed=False, seen_ago=500.0)
    )


async def test_an_answer_that_the_list_shows_to_have_changed():
    story = await told(campaign_response())
    await listed(story, since=-3.0, has_changed=True, updated_at="another")
    expected = replace(READ, proof="changed", lifetime=AGE - 3.0, why="changed", ttl=-3.0, next=AGAIN)
    assert await explained(story) == replace(
        expected, listed=Listing("voice", is_listed=True, has_changed=True, seen_ago=3.0)
    )


async def test_a_gap_in_the_bus_is_no_change_of_the_campaign():
    story = await told(campaign_response())
    story.memory.lose_track()
    story.clock.advance(3)
    expected = replace(
        READ, age=AGE + 3, proof="unverified", read_ago=AGE + 3, lifetime=AGE, why="unverified", ttl=-3.0, next=AGAIN
    )
    assert await explained(story) == expected


async def test_an_unverified_answer_that_a_poll_has_validated_since():
    story = await told(campaign_response())
    story.memory.lose_track()
    story.clock.advance(SETTLE_SECONDS + 3)
    await listed(story, began=-1.0)
    explanation = await explained(story)
    assert (explanation.proof, explanation.why, explanation.next) == ("sweep", "sweep", "answer from it")


@pytest.mark.parametrize(
    ("by", "following"), [(Cause.WRITE, "call the platform (stale), and fall back on it"), (Cause.PURGE, AGAIN)]
)
async def test_an_invalidated_answer(by: Cause, following: str):
    story = await told(campaign_response())
    await story.store.invalidate(make_request().key, by)
    story.clock.advance(3)
    expected = replace(READ, age=AGE + 3, read_ago=AGE + 3, lifetime=AGE, why=by.value, ttl=-3.0, next=following)
    assert await explained(story) == expected


async def test_what_is_read_soon_after_a_write():
    story = Story(campaign_response())
    await story.invalidate()
    story.clock.advance(1)
    await story.exchange.read_again(make_request(), Lane.VALIDATION, "test")
    await finished(story.tasks)
    expected = replace(READ, age=0.0, read_ago=0.0, lifetime=FRESHNESS.min, why="write", ttl=FRESHNESS.min)
    assert await explained(story) == expected


async def test_an_answer_past_the_window():
    story = await told(campaign_response())
    story.clock.advance(1000)
    explanation = await explained(story)
    assert (explanation.ttl, explanation.next) == (-950.0, "call the platform (stale), and fall back on it")


async def test_an_answer_past_the_hard_bound():
    story = await told(campaign_response())
    story.clock.advance(HARD_BOUND - AGE + 0.5)
    assert (await explained(story)).next in {"call the platform (stale)", "call the platform (uri-miss)"}


PAUSED = Failure(Problem.UPSTREAM_PAUSED, "the platform asked for a pause", retry_after=30.0)


@pytest.mark.parametrize(
    ("age", "following"),
    [
        pytest.param(AGE, "answer from it", id="fresh"),
        pytest.param(
            LIFETIME + 1,
            "answer from it; no refresh now (upstream-paused: the platform asked for a pause)",
            id="stale",
        ),
        pytest.param(
            HARD_BOUND + 1, "refuse (upstream-paused: the platform asked for a pause)", id="past-the-hard-bound"
        ),
    ],
)
async def test_in_a_pause_it_says_what_a_read_would_get(age: float, following: str):
    story = await told(campaign_response())
    story.clock.advance(age - AGE)
    story.budget.known_refusal = PAUSED
    explanation = await explained(story)
    assert explanation.next == following
    wanted = (None, None) if age == AGE else ("upstream-paused", 30.0)
    assert (explanation.refusal, explanation.retry_after) == wanted


async def test_a_credential_that_rests_since_it_was_refused_is_named():
    story = Story(UNAUTHORIZED, UNAUTHORIZED)
    await story.read("c-2")
    await story.read("c-3")
    explanation = await explained(story)
    assert explanation.refusal == "upstream-unauthorized"
    assert explanation.next.startswith("refuse (upstream-unauthorized: the platform refuses the credential")
