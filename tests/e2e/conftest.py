from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.redis_server import RedisServer, redis_server


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(SandboxConfig(campaigns=80)) as platform:
        yield platform


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as server:
        yield server
