"""The peer of reads that are not by id: aiohttp's router, and bytes that were made beforehand for each path and query."""

import json
import sys
from pathlib import Path

import uvloop
from aiohttp import web


def main(port: int, file: Path) -> None:
    """Serves the answers in the file, from a dictionary."""
    bodies = {target: text.encode() for target, text in json.loads(file.read_text("utf-8")).items()}

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.path_qs], content_type="application/json")

    application = web.Application()
    application.add_routes([web.get("/{path:.*}", answer)])
    uvloop.install()
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None, keepalive_timeout=3600)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
