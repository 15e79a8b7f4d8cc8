"""The peer of the bench: a plain aiohttp application that answers the same body from a dictionary."""

import sys

from aiohttp import web


def main(port: int, body: bytes) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=bodies[request.match_info["id"]], content_type="application/json")

    bodies = dict.fromkeys(sys.argv[2:], body)
    application = web.Application()
    application.add_routes([web.get("/v1/campaigns/{id}", answer)])
    web.run_app(application, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.stdin.buffer.read())
