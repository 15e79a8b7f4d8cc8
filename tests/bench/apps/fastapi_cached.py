"""The peer that most people would write: FastAPI with fastapi-cache2. It runs in a virtual environment of its own."""

# mypy: disable-error-code="untyped-decorator"

import json
import os
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi_cache import FastAPICache
from fastapi_cache.backends.inmemory import InMemoryBackend
from fastapi_cache.backends.redis import RedisBackend
from fastapi_cache.decorator import cache
from redis.asyncio import from_url


def application() -> FastAPI:
    """The application; `BENCH_BODIES` names the file of answers, and `BENCH_REDIS` a Redis, if one is to be used."""
    app = FastAPI()
    bodies = json.loads(Path(os.environ["BENCH_BODIES"]).read_text("utf-8"))
    url = os.environ.get("BENCH_REDIS")
    FastAPICache.init(RedisBackend(from_url(url)) if url else InMemoryBackend(), prefix="fastapi")

    @app.get("/v1/campaigns/{id_}")
    @cache(expire=3600)
    async def campaign(id_: str) -> Any:
        return json.loads(bodies[id_])

    return app
