"""Who reads what is hinted at, and what becomes of stored answers meanwhile."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import Detail
from campaign_gateway.policy.directives import RequestDirectives
from campaign_gateway.policy.evidence import GOOD
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, ListFlaw, Poll
from campaign_gateway.policy.visibility import LATE_FACTOR
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.hints import Hints, Readers
from campaign_gateway.proxy.invalidate import keys_of
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.rereads import MAX_READS, MAX_WAITING
from tests.support.doubles import SALES, SUPPORT, LostStore, begun, campaign_response, finished, make_request, turns
from tests.support.story import Story

SPENT = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)


@dataclass
class Sweeper:
    """In the place of who looks after a list."""

    is_leading: bool = True
    hinted: list[list[str]] = field(default_factory=list)

    def read_first(self, campaigns: Sequence[str]) -> None:
        self.hinted.append(list(campaigns))


class Place:
    """A story that takes hints, and what it publishes to other replicas."""

    def __init__(self) -> None:
        self.story = Story(lambda _stream, call: campaign_response(call.target.rpartition("/")[2].partition("?")[0]))
        self.readers, self.sweeper = Readers(), Sweeper()
        self.published: list[tuple[str, list[str]]] = []
        self.is_subscribed = True
        self.hints = Hints(
            self.readers,
            self.story.invalidator,
            self.story.exchange,
            self.story.index,
            self.story.store,
            self.story.tasks,
        )
        self.story.memory.publish_hint = self.publish  # type: ignore[method-assign]

    async def publish(self, stream: str, campaigns: Sequence[str]) -> bool:
        self.published.append((stream, list(campaigns)))
        return self.is_subscribed

    def sweeps(self, *, is_leading: bool) -> None:
        self.sweeper.is_leading = is_leading
        self.readers.register(SUPPORT.identity, self.sweeper.read_first, lambda: self.sweeper.is_leading)

    async def lists(self, *campaigns: str, flaw: ListFlaw | None = None) -> None:
        """A list that can be relied on, unless it has a flaw, has shown these."""
        now = self.story.clock.now()
        state = IndexState(
            {Channel.VOICE: Poll(now, 30.0)}, number=1, flaws={} if flaw is None else {Channel.VOICE: flaw}
        )
        indexed = {id_: IndexedCampaign(Channel.VOICE, "m", None, now, has_changed=False) for id_ in campaigns}
        assert await self.story.index.publish(SUPPORT.identity, state, indexed)

    async def hint(self, *campaigns: str) -> None:
        await self.hints.give(SUPPORT, campaigns, "a system")

    async def read_here(self) -> list[str]:
        """The campaigns that were read, once all is read."""
        await finished(self.story.tasks)
        return [call.target.rpartition("/")[2].partition("?")[0] for _, call in self.story.upstream.calls]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    yield made
    made.story.upstream.release()
    await made.story.close()


# Who reads.


async def test_where_nobody_looks_after_lists_it_is_read_here(place: Place) -> None:
    await place.lists("c-1")
    await place.hint("c-1", "c-2")
    assert await place.read_here() == ["c-1", "c-2"]
    assert place.published == []
    assert place.story.budget.asked == [("acc-1", Lane.VALIDATION, "a system", 2.5)] * 2
    assert place.story.meter.of("upstream", "support", "get", "hint") == 2
    assert place.story.meter.events["invalidation", "hint"] == 1


async def test_who_looks_after_the_list_here_reads_what_it_shows(place: Place) -> None:
    place.sweeps(is_leading=True)
    await place.lists("c-1", "c-3")
    await place.hint("c-3", "c-2", "c-1")
    assert place.sweeper.hinted == [["c-3", "c-1"]]
    assert place.published == []
    assert await place.read_here() == ["c-2"], "which no list shows"


async def test_who_looks_after_it_elsewhere_is_told_in_one_message(place: Place) -> None:
    place.sweeps(is_leading=False)
    await place.lists("c-1", "c-3")
    await place.hint("c-3", "c-2", "c-1")
    assert place.published == [(SUPPORT.identity, ["c-3", "c-1"])]
    assert place.sweeper.hinted == []
    assert await place.read_here() == ["c-2"]


async def test_where_nobody_can_be_told_it_is_read_here(place: Place) -> None:
    place.sweeps(is_leading=False)
    place.is_subscribed = False
    await place.lists("c-1")
    await place.hint("c-1")
    assert await place.read_here() == ["c-1"]


@pytest.mark.parametrize("why", ["late", "flawed", "unread"])
async def test_a_list_that_cannot_be_relied_on_is_nobodys_to_read(place: Place, why: str) -> None:
    place.sweeps(is_leading=False)
    if why != "unread":
        await place.lists("c-1", flaw=ListFlaw.UNSORTED if why == "flawed" else None)
    place.story.clock.advance(30.0 * LATE_FACTOR if why == "late" else 0.0)
    await place.hint("c-1")
    assert (place.published, await place.read_here()) == ([], ["c-1"])


async def test_a_hint_from_another_replica_reaches_whoever_holds_the_lease(place: Place) -> None:
    place.sweeps(is_leading=True)
    assert place.readers.hand(SUPPORT.identity, ["c-1"])
    assert not place.readers.hand(SALES.identity, ["c-2"])
    place.sweeper.is_leading = False
    assert not place.readers.hand(SUPPORT.identity, ["c-3"])
    assert place.sweeper.hinted == [["c-1"]]


async def test_a_hint_is_a_use(place: Place) -> None:
    await place.hint("c-1", "c-2")
    assert place.story.index.used(SUPPORT.identity) == dict.fromkeys(("c-1", "c-2"), place.story.clock.now())


# Reads here.


async def test_reads_are_few_at_a_time_and_hints_meanwhile_join_them(place: Place) -> None:
    place.story.upstream.hold()
    ids = [f"c-{number}" for number in range(MAX_READS + 3)]
    await place.hint(*ids)
    await place.story.upstream.arrived(MAX_READS)
    await turns()
    assert place.story.calls == MAX_READS
    await place.hint(ids[-1], "another")
    await turns()
    assert place.story.calls == MAX_READS
    place.story.upstream.release()
    assert await place.read_here() == [*ids, "another"], "each once"


async def test_without_calls_the_rest_is_left_to_who_asks(place: Place) -> None:
    place.story.budget.refusals = [None, SPENT]
    await place.hint(*(f"c-{number}" for number in range(MAX_READS + 3)))
    assert len(await place.read_here()) == MAX_READS - 1
    await place.hint("later")
    assert (await place.read_here())[-1] == "later", "and a later hint is tried again"


async def test_no_more_wait_than_there_is_room_for(place: Place) -> None:
    place.story.upstream.hold()
    ids = [f"c-{number}" for number in range(MAX_WAITING + MAX_READS)]
    for start in range(0, len(ids), 1000):
        await place.hint(*ids[start : start + 1000])
        await turns()
    await place.hint("one-too-many")
    assert len(place.hints.waiting(SUPPORT.identity)) <= MAX_WAITING
    assert "one-too-many" not in place.hints.waiting(SUPPORT.identity)


# Stored answers.


async def read(place: Place, directives: RequestDirectives | None = None) -> Reply:
    return await place.story.exchange.read(
        make_request() if directives is None else make_request(directives=directives)
    )


async def test_a_stored_answer_is_served_as_stale_until_it_was_read(place: Place) -> None:
    await place.story.read()
    place.story.clock.advance(20)
    place.story.upstream.hold()
    await place.hint("c-1")
    await place.story.upstream.arrived(2)
    place.story.clock.advance(1)
    served = await read(place)
    assert (served.outcome.detail, served.age) == (Detail.STALE_WHILE_REVALIDATE, 21.0)
    place.story.upstream.release()
    await finished(place.story.tasks)
    fresh = await read(place)
    assert (fresh.outcome.detail, fresh.age, place.story.calls) == (None, 1.0, 2)


async def test_no_list_makes_it_fresh_again(place: Place) -> None:
    await place.story.read()
    place.sweeps(is_leading=True)
    await place.lists("c-1")
    place.story.clock.advance(5)
    await place.hint("c-1")
    snapshot = place.story.index.snapshot(SUPPORT.identity)
    place.story.clock.advance(5)
    later = IndexState({Channel.VOICE: Poll(place.story.clock.now(), 30.0)}, blind=600.0, number=2)
    assert await place.story.index.publish(SUPPORT.identity, later, snapshot.campaigns)
    place.story.upstream.hold()
    assert (await read(place)).outcome.detail is Detail.STALE_WHILE_REVALIDATE


async def test_a_read_from_before_the_hint_is_not_stored_and_not_joined(place: Place) -> None:
    place.story.upstream.hold()
    before = begun(read(place))
    await place.story.upstream.arrived()
    place.story.clock.advance(1)
    await place.hint("c-1")
    await place.story.upstream.arrived(2)
    hinted_at = place.story.clock.now()
    place.story.upstream.release()
    await before
    await finished(place.story.tasks)
    found = await place.story.found()
    assert found.stored is not None
    assert (found.stored.validated_at, found.evidence) == (hinted_at, GOOD)


async def test_all_that_is_stored_about_the_campaign_is_invalidated(place: Place) -> None:
    await place.hint("c-1")
    for key in keys_of(SUPPORT, ["c-1"]):
        assert place.story.memory.invalidated_at(key) == place.story.clock.now(), key


async def test_a_lost_store_publishes_nothing_and_reads_here() -> None:
    story = Story(campaign_response())
    story.store = LostStore(story.clock)
    readers = Readers()
    readers.register(SUPPORT.identity, lambda _: pytest.fail("it holds no lease"), lambda: False)
    hints = Hints(readers, story.invalidator, story.exchange, story.index, story.store, story.tasks)
    await hints.give(SUPPORT, ["c-1"], "a system")
    await finished(story.tasks)
    assert story.calls == 1
