"""Request bodies: whole, in time, not too large, and one JSON document."""

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from campaign_gateway.contract.document import DocumentError, parse
from campaign_gateway.contract.operations import Takes
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem

BODY_SECONDS = 10.0
"""How long a body may take to come: aiohttp itself would wait for ever."""
_PIECE_BYTES = 2**16


class BodyError(Exception):
    """The body is not acceptable."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as it was sent, and what it says; None for none."""

    raw: bytes | None = None
    document: Any = None


async def read_body(request: web.BaseRequest, takes: Takes, most: int) -> Body:
    """The body, once it was found to be JSON.

    Args:
        request: the request.
        takes: what its operation takes.
        most: the largest that is taken, in bytes.

    Raises:
        BodyError: it is too large, too slow, encoded, absent where one is needed, or no JSON document.
    """
    if takes is Takes.NOTHING:
        return Body()
    raw = await _read(request, most)
    if not raw.strip():
        if takes is Takes.JSON:
            raise unacceptable("a JSON body is needed")
        return Body()
    try:
        return Body(raw, parse(raw))
    except DocumentError as error:
        raise unacceptable("the body is not one JSON document") from error


def unacceptable(detail: str) -> BodyError:
    """The body is not what it should be."""
    return BodyError(Failure(Problem.INVALID_REQUEST, detail))


async def _read(request: web.BaseRequest, most: int) -> bytes:
    too_large = BodyError(Failure(Problem.TOO_LARGE, f"the body is larger than {most} bytes"))
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise unacceptable("the body must not be encoded")
    if (request.content_length or 0) > most:
        raise too_large
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Or the answer would count as begun.
        request.writer.output_size = 0
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.content.iter_chunked(_PIECE_BYTES):
                size += len(piece)
                if size > most:
                    raise too_large
                pieces.append(piece)
    except TimeoutError as error:
        raise unacceptable(f"the body did not come within {BODY_SECONDS:g} s") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise unacceptable("the body was cut off") from error
    return b"".join(pieces)
