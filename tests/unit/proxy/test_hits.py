"""The part of a read that waits for nobody, and how it is repeated at a fraction of the price."""

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.policy.visibility import LATE_STEP, Visibility
from campaign_gateway.proxy.hits import NOTE_SECONDS
from campaign_gateway.proxy.reply import Hit
from tests.support.doubles import NOT_FOUND, SUPPORT, campaign_response, finished, make_request
from tests.support.story import LIFETIME, MISSING, WINDOW, Story


async def fill(story: Story, campaign: str) -> None:
    """Stores a campaign beside the one that was read."""
    found, entry = await story.memory.get(make_request(campaign).key), await story.stored()
    assert entry is not None
    await story.memory.put(make_request(campaign).key, entry, found.fence, LIFETIME)


@pytest.fixture
async def story():
    story = Story(campaign_response())
    await story.age(10)
    yield story
    await story.tasks.close()


async def test_a_fresh_copy_is_a_hit_with_its_age_and_lifetime(story):
    hit = hit_of(story)
    assert (hit.lifetime, hit.detail) == (LIFETIME, None)
    assert story.exchange.current_age(hit, "tests") == 10.0
    story.clock.advance(4.5)
    assert story.exchange.current_age(hit, "tests") == 14.5


async def test_nothing_stored_and_nothing_fresh_is_no_hit(story):
    assert story.exchange.hit(make_request("c-2")) is None
    story.clock.advance(LIFETIME - 10)
    assert story.exchange.hit(make_request()) is None


@pytest.mark.parametrize(
    ("directives", "is_hit"),
    [
        (RequestDirectives(no_cache=True), False),
        (RequestDirectives(max_age=9), False),
        (RequestDirectives(max_age=11), True),
        (RequestDirectives(only_if_cached=True), True),
    ],
)
async def test_a_directive_is_heeded(story, directives, is_hit):
    assert (story.exchange.hit(make_request(directives=directives)) is not None) is is_hit


async def test_a_hit_ends_with_its_freshness(story):
    story.clock.advance(LIFETIME - 11)
    hit = story.exchange.hit(make_request())
    story.clock.advance(0.99)
    assert story.exchange.current_age(hit, "tests") == pytest.approx(LIFETIME - 0.01)
    story.clock.advance(0.01)
    assert story.exchange.current_age(hit, "tests") is None


async def test_use_of_a_hit_is_noted_now_and_then_and_it_stays_the_same_one(story):
    hit = story.exchange.hit(make_request())
    noted = story.clock.now()
    story.clock.advance(NOTE_SECONDS - 1)
    assert story.exchange.current_age(hit, "tests") is not None
    assert story.index.used(SUPPORT.identity) == {"c-1": noted}
    story.clock.advance(1)
    assert story.exchange.current_age(hit, "tests") == story.clock.now() - hit.validated_at
    assert story.index.used(SUPPORT.identity) == {"c-1": story.clock.now()}
    assert hit.until == hit.validated_at + LIFETIME, "and no longer than it is fresh"


async def test_what_only_hits_have_used_is_not_the_first_to_go_for_want_of_room(story):
    hit = story.exchange.hit(make_request())
    await fill(story, "c-2")
    assert story.exchange.current_age(hit, "tests") is not None
    assert story.exchange.hit(make_request("c-2")) is not None
    assert next(iter(story.memory._copies)) == make_request().key
    story.clock.advance(NOTE_SECONDS)
    assert story.exchange.current_age(hit, "tests") is not None
    assert next(iter(story.memory._copies)) == make_request("c-2").key


async def test_a_hit_ends_with_the_stored_entry_but_not_with_another_ones(story):
    hit = story.exchange.hit(make_request())
    await story.memory.invalidate(make_request("c-2").key, Cause.WRITE)
    await fill(story, "c-3")
    assert story.exchange.current_age(hit, "tests") == 10.0
    await story.memory.invalidate(make_request().key, Cause.WRITE)
    assert story.exchange.current_age(hit, "tests") is None


async def test_looking_whether_a_hit_still_holds_costs_no_look_up_while_the_store_stands_still(story, monkeypatch):
    hit = story.exchange.hit(make_request())
    looked, shows = list[str](), story.memory.shows

    def watched(key: str, *of: object) -> bool:
        looked.append(key)
        found: bool = shows(key, *of)
        return found

    monkeypatch.setattr(story.memory, "shows", watched)
    for _ in range(5):
        assert story.exchange.current_age(hit, "tests") == 10.0
    assert looked == []
    await fill(story, "c-3")
    looked.clear()
    for _ in range(5):
        assert story.exchange.current_age(hit, "tests") == 10.0
    assert looked == [hit.key]


async def test_each_read_counts_as_one_look_into_memory(story):
    def counted() -> list[int]:
        return [story.meter.events["store", "memory", "get", outcome] for outcome in ("hit", "miss")]

    assert counted() == [0, 1], "the first read, which looked once before it asked, and took what it was brought"
    await story.read()
    assert counted() == [1, 1]
    hit = story.exchange.hit(make_request())
    assert counted() == [1, 1], "nobody is answered yet"
    for _ in range(5):
        assert story.exchange.current_age(hit, "tests") == 10.0
    assert counted() == [6, 1]
    story.clock.advance(LIFETIME)
    assert story.exchange.current_age(hit, "tests") is None
    await story.read()
    assert counted() == [7, 1], "found, if too old"
    await story.read("c-2")
    assert counted() == [7, 2]
    assert (await story.exchange.answer(make_request(), None))[1] == 0.0
    assert counted() == [8, 2]


async def test_a_hit_ends_when_a_poll_shows_something_else(story):
    hit = story.exchange.hit(make_request())
    now = story.clock.now()
    indexed = IndexedCampaign(Channel.VOICE, "m", None, now, has_changed=True)
    await story.index.publish(SUPPORT.identity, IndexState({Channel.VOICE: Poll(now)}, number=1), {"c-1": indexed})
    assert story.exchange.current_age(hit, "tests") is None
    assert story.exchange.hit(make_request()) is None


async def test_a_poll_that_validates_it_makes_a_younger_hit():
    story = Story(campaign_response())
    await story.read()
    entry = await story.stored()
    assert entry is not None
    now = story.clock.now()
    indexed = IndexedCampaign(Channel.VOICE, "m", entry.revision, now - 50, has_changed=False, status="Ready")
    story.clock.advance(20)
    await story.index.publish(
        SUPPORT.identity,
        IndexState({Channel.VOICE: Poll(now + 15, lasts=30.0)}, blind=600.0, number=1),
        {"c-1": indexed},
    )
    hit = hit_of(story)
    assert (hit.detail, story.exchange.current_age(hit, "tests"), hit.lifetime) == (Detail.SWEEP, 5.0, 30.0)
    await story.tasks.close()


async def test_a_missing_campaign_is_a_hit_too():
    story = Story(NOT_FOUND)
    await story.read()
    hit = hit_of(story)
    assert (hit.detail, hit.lifetime) == (Detail.MISSING, MISSING)
    assert story.index.used(SUPPORT.identity) == {}
    await story.tasks.close()


# What it says of changes.


def hit_of(story: Story) -> Hit:
    hit = story.exchange.hit(make_request())
    assert hit is not None
    return hit


async def listed(lasts: float = 30.0) -> Story:
    """A story whose campaign was read, and then seen in a list that had not changed."""
    story = Story(campaign_response())
    await story.read()
    entry = await story.stored()
    assert entry is not None
    now = story.clock.now()
    indexed = IndexedCampaign(Channel.VOICE, "m", entry.revision, now - 50, has_changed=False, status="Ready")
    story.clock.advance(1)
    state = IndexState({Channel.VOICE: Poll(now + 1, lasts)}, blind=600.0, number=1)
    await story.index.publish(SUPPORT.identity, state, {"c-1": indexed})
    return story


async def test_a_hit_says_how_soon_changes_are_seen(story):
    assert hit_of(story).visibility == Visibility(LIFETIME + WINDOW)
    listed_story = await listed()
    assert hit_of(listed_story).visibility == Visibility(30.0, listed_story.clock.now() + 30.0)
    await listed_story.tasks.close()


async def test_a_hit_is_made_anew_when_the_poll_is_late_since_what_it_says_is_not_true_any_more():
    story = await listed(lasts=20.0)
    # Read again since: validated for longer than the list's word holds.
    story.clock.advance(1)
    await story.exchange.read_again(make_request(), Lane.VALIDATION, "test")
    await finished(story.tasks)
    hit = hit_of(story)
    assert (hit.lifetime, hit.visibility) == (20.0, Visibility(20.0, story.clock.now() + 19.0))
    story.clock.advance(18.9)
    assert story.exchange.current_age(hit, "tests") == pytest.approx(18.9)
    story.clock.advance(0.1)
    assert story.exchange.current_age(hit, "tests") is None
    assert hit_of(story).visibility == Visibility(20.0 + LATE_STEP, story.clock.now() + LATE_STEP)
    await story.tasks.close()


async def test_use_that_goes_on_does_not_keep_a_hit_beyond_what_it_says():
    story = await listed(lasts=NOTE_SECONDS + 10)
    await story.exchange.read_again(make_request(), Lane.VALIDATION, "test")
    await finished(story.tasks)
    hit = hit_of(story)
    story.clock.advance(NOTE_SECONDS)
    assert story.exchange.current_age(hit, "tests") == NOTE_SECONDS
    story.clock.advance(10)
    assert story.exchange.current_age(hit, "tests") is None
    await story.tasks.close()
