import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path

import pytest

from tests.support.backends import Backend, on_cluster, on_fakeredis, on_valkey
from tests.support.redis_server import RedisCluster

Opening = Callable[[], AbstractAsyncContextManager[Backend | None]]


def on_memory(_folder: Path) -> AbstractAsyncContextManager[None]:
    return nullcontext()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """One for all tests of a file: a cluster takes seconds to come to terms."""
    nodes = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        asyncio.run(nodes.start())
        yield nodes
    finally:
        nodes.kill()


def opening_of(request: pytest.FixtureRequest, tmp_path: Path) -> Opening:
    return partial(request.param, request.getfixturevalue("cluster") if request.param is on_cluster else tmp_path)


any_opening = pytest.fixture(params=[on_memory, on_fakeredis, on_valkey, on_cluster])(opening_of)
redis_opening = pytest.fixture(params=[on_fakeredis, on_valkey, on_cluster])(opening_of)


@pytest.fixture
async def any_backend(any_opening: Opening) -> AsyncIterator[Backend | None]:
    """Each kind of Redis, and None: memory."""
    async with any_opening() as opened:
        yield opened


@pytest.fixture
async def redis_backend(redis_opening: Opening) -> AsyncIterator[Backend]:
    async with redis_opening() as opened:
        assert opened is not None
        yield opened
