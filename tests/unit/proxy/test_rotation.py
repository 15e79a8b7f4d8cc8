"""The rotation of a stream with very many campaigns in use: who is read next, and that others have their turns."""

import asyncio
from collections.abc import Callable

from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import Capacity, Pace
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import IndexSnapshot
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.sweep.disagreement import Disagreement
from campaign_gateway.proxy.sweep.rotation import AT_A_TIME, MAX_READS, Rotation
from tests.support.doubles import SUPPORT, begun, finished
from tests.support.story import Story

CAPACITY = Capacity(60, 60.0, 5, 1.0)
UNSENT = Failure(Problem.UPSTREAM_TIMEOUT, "no answer")
CAMPAIGNS = [f"c-{number}" for number in range(5 * AT_A_TIME)]


class Rotated:
    """A rotation whose reads are noted, and fail."""

    def __init__(self, story: Story) -> None:
        self.story, self.read = story, list[str]()
        self.rotation = Rotation(
            SUPPORT, story.index, story.store, self._refresh, Disagreement(), story.tasks, lambda: None
        )

    async def _refresh(self, request: Request, _lane: Lane, _reason: str) -> Failure:
        self.read.append(request.id)
        return UNSENT

    def start(self, pace: Pace) -> None:
        now = self.story.clock.now()
        self.rotation.start(pace, CAPACITY, dict.fromkeys(CAMPAIGNS, now), IndexSnapshot(), now)


async def test_others_have_their_turns_while_the_most_overdue_one_is_looked_for(
    new_story: Callable[..., Story],
) -> None:
    rotated, turns = Rotated(new_story()), 0

    async def others() -> None:
        nonlocal turns
        while not rotated.read:
            turns += 1
            await asyncio.sleep(0)

    beside = begun(others())
    rotated.start(Pace({}, rotation=600.0))
    await beside
    await finished(rotated.story.tasks)
    assert rotated.read == CAMPAIGNS[:1]
    assert turns > len(CAMPAIGNS) / AT_A_TIME


async def test_of_thousands_that_have_changed_those_go_first_that_changed_first(
    new_story: Callable[..., Story],
) -> None:
    story = new_story()
    rotated, now = Rotated(story), story.clock.now()
    for number, id_ in enumerate(reversed(CAMPAIGNS)):
        rotated.rotation.enqueue([id_], now - number)
    rotated.start(Pace({}))
    await finished(story.tasks)
    assert rotated.read == CAMPAIGNS[: len(rotated.read)]
    assert 0 < len(rotated.read) <= MAX_READS
