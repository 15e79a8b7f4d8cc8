"""Operators' requests and answers."""

import asyncio

import msgspec
from aiohttp import hdrs, web

from campaign_gateway.policy.codings import accepts_gzip

MOST_BODY_BYTES = 4_096
BODY_SECONDS = 5.0
"""How long a body may take: aiohttp waits for ever."""


async def read_body(request: web.Request) -> bytes | None:
    """The request's body; None where it is too long, of no stated length, or does not come."""
    length = request.content_length or 0
    if not length or length > MOST_BODY_BYTES:
        return b"" if not request.can_read_body else None
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.content.readexactly(length)
    except (asyncio.IncompleteReadError, TimeoutError):
        return None


def answer_json(status: int, document: object) -> web.Response:
    """The document as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(document), content_type="application/json")


def packed(request: web.Request, answer: web.Response) -> web.Response:
    """The answer, which varies by `Accept-Encoding`, packed for whoever accepts that."""
    if accepts_gzip(",".join(request.headers.getall(hdrs.ACCEPT_ENCODING, []))):
        answer.enable_compression(web.ContentCoding.gzip)
    return answer
