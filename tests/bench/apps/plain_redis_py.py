"""The peer that shows what Redis costs: aiohttp's router, and one `GET` of redis-py's for each request."""

import asyncio
import json
import sys
from pathlib import Path

import redis.asyncio
import uvloop
from aiohttp import web

PREFIX = "plain:"


def main(port: int, file: Path, url: str) -> None:
    """Serves the answers in the file, out of the Redis at `url`."""
    client = redis.asyncio.Redis.from_url(url)

    async def fill(_: web.Application) -> None:
        await client.mset({PREFIX + id_: text for id_, text in json.loads(file.read_text("utf-8")).items()})

    async def answer(request: web.Request) -> web.Response:
        body = await client.get(PREFIX + request.match_info["id"])
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    application.add_routes([web.get("/v1/campaigns/{id}", answer)])
    application.on_startup.append(fill)
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, keepalive_timeout=3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
