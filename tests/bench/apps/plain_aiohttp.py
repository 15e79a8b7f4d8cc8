"""The peer that shows what aiohttp costs: its router, and an ordinary answer with the gateway's header fields."""

import asyncio
import hashlib
import json
import sys
import time
from email.utils import formatdate
from pathlib import Path

import uvloop
from aiohttp import web


def main(port: int, file: Path) -> None:
    """Serves the answers in the file, from a dictionary."""
    bodies = {id_: text.encode() for id_, text in json.loads(file.read_text("utf-8")).items()}
    tags = {id_: f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"' for id_, body in bodies.items()}
    began, modified = time.time(), formatdate(usegmt=True)

    async def answer(request: web.Request) -> web.Response:
        id_, age = request.match_info["id"], int(time.time() - began)
        headers = {
            "Cache-Status": f"campaign-gateway; hit; ttl={3600 - age}",
            "Age": str(age),
            "Cache-Control": "private, max-age=3600, stale-while-revalidate=60, stale-if-error=82800",
            "ETag": tags[id_],
            "Last-Modified": modified,
            "X-Content-Type-Options": "nosniff",
            "Content-Type": "application/json",
            "X-Request-ID": request.headers["X-Request-ID"],
            "Server": "campaign-gateway",
        }
        return web.Response(body=bodies[id_], headers=headers)

    application = web.Application()
    application.add_routes([web.get("/v1/campaigns/{id}", answer)])
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, keepalive_timeout=3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
