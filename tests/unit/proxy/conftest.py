from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.support.story import Story


@pytest.fixture
async def tell() -> AsyncIterator[Callable[..., Story]]:
    """Makes stories, and ends them after the test."""
    told: list[Story] = []

    def make(*script: Any, kind: type[Story] = Story, **options: Any) -> Story:
        told.append(kind(*script, **options))
        return told[-1]

    yield make
    for story in told:
        story.upstream.release()
        story.memory.release()
        await story.close()
