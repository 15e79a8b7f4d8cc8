from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.story import Story


@pytest.fixture
async def new_story() -> AsyncIterator[Callable[..., Story]]:
    """Makes stories, and ends them after the test."""
    made: list[Story] = []

    def make(*script: Any, kind: type[Story] = Story, **options: Any) -> Story:
        made.append(kind(*script, **options))
        return made[-1]

    yield make
    for story in made:
        story.upstream.release()
        story.memory.release()
        await story.close()
