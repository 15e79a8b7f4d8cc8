from collections.abc import Callable
from types import SimpleNamespace

import pytest
from redis.exceptions import NoScriptError, ReadOnlyError

from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from tests.support.meters import CountingMeter


def failing(*errors: Exception) -> tuple[RedisLink, Callable[[], object], list[Exception]]:
    """A link that is up, and a command that fails with each of the errors, and then answers."""
    left = list(errors)

    async def command() -> str:
        if left:
            raise left.pop(0)
        return "done"

    link = RedisLink(SimpleNamespace(), StoreClock(), CountingMeter())
    link.is_up = True
    return link, command, left


async def test_a_script_forgotten_between_its_loading_and_its_call_is_called_again():
    link, command, _ = failing(NoScriptError())
    assert await link.execute("put", command) == "done"  # type: ignore[arg-type]
    assert link.is_up


@pytest.mark.parametrize(
    ("errors", "kind"), [((NoScriptError(), NoScriptError()), "noscript"), ((ReadOnlyError(),), "readonly")]
)
async def test_whatever_else_fails_is_called_once(errors: tuple[Exception, ...], kind: str):
    link, command, left = failing(*errors)
    with pytest.raises(StoreDownError, match=kind):
        await link.execute("put", command)  # type: ignore[arg-type]
    assert not left
