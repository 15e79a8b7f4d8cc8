"""The kinds of Redis that a suite runs on: fakeredis, a real server, a real cluster."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.connect import RedisTarget, open_link, partitions_of
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink
from tests.support.redis_server import RedisCluster, redis_server


@dataclass
class Backend:
    """One of them."""

    raw: Any
    """A plain client, for what only a test does."""
    open_link: Callable[[StoreClock, Meter], RedisLink]
    keys: Keys


PATIENCE = 20.0
"""Seconds for one command: a busy machine takes its time, and no test here is about time-outs."""


@asynccontextmanager
async def on_fakeredis(_folder: Path) -> AsyncIterator[Backend]:
    client = partial(fakeredis.FakeAsyncRedis, server=fakeredis.FakeServer())
    raw = client()
    yield Backend(raw, lambda clock, meter: RedisLink(client(), clock, meter), Keys("cg"))
    await raw.aclose()


@asynccontextmanager
async def on_valkey(folder: Path) -> AsyncIterator[Backend]:
    async with redis_server(folder) as process, process.client() as raw:
        yield Backend(raw, partial(open_link, RedisTarget(process.url, PATIENCE)), Keys("cg"))


@asynccontextmanager
async def on_cluster(cluster: RedisCluster) -> AsyncIterator[Backend]:
    async with cluster.client() as raw:
        await raw.flushall(target_nodes="primaries")
        yield Backend(
            raw, partial(open_link, RedisTarget(cluster.url, PATIENCE)), Keys("cg", partitions_of(cluster.url))
        )
