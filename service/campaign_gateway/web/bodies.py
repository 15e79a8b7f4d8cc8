"""Request bodies: whole, in time, not too large, and one JSON document."""

import asyncio
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web

from campaign_gateway.contract.document import DenseError, DocumentError, parse
from campaign_gateway.contract.operations import RequestBody
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.beside import beside
from campaign_gateway.web.rejected import RejectedError, invalid

BODY_SECONDS = 10.0
"""How long a body may take to come: aiohttp itself would wait for ever."""
JSON = "application/json"
ONLY_JSON = frozenset({JSON})
JSON_OR_FORM = ONLY_JSON | {"application/x-www-form-urlencoded"}
"""What curl declares, unless it is told something else."""
_PIECE_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body as it was sent, and what it says; None for none."""

    raw: bytes | None = None
    document: Any = None


async def read_body(
    http: web.BaseRequest, expected: RequestBody, most: int, types: AbstractSet[str] = ONLY_JSON
) -> Body:
    """The body, once it was found to be JSON.

    Args:
        http: the request.
        expected: what its operation takes.
        most: the largest that is taken, in bytes.
        types: what it may be declared as, in lower case; JSON it has to be in any case.

    Raises:
        RejectedError: it is declared as something else, too large, too slow, encoded, absent where one is needed, or no
            JSON document.
    """
    if http.can_read_body and http.headers.get(hdrs.CONTENT_TYPE, JSON).partition(";")[0].strip().lower() not in types:
        # Any page may have a browser send a form or plain text elsewhere without being asked, but not this type.
        raise _unread(http, "the body has to be application/json", Problem.UNSUPPORTED_MEDIA_TYPE)
    if expected is RequestBody.NOTHING:
        return Body()
    raw = await _read(http, most)
    if not raw.strip():
        if expected is RequestBody.JSON:
            raise invalid("a JSON body is needed")
        return Body()
    try:
        return Body(raw, await beside(len(raw), parse, raw))
    except DenseError as error:
        raise invalid(f"the body holds {error}") from error
    except DocumentError as error:
        raise invalid("the body is not one JSON document") from error


async def _read(http: web.BaseRequest, most: int) -> bytes:
    too_large = f"the body is larger than {most} bytes"
    if http.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise _unread(http, "the body must not be encoded")
    if (http.content_length or 0) > most:
        raise _unread(http, too_large, Problem.TOO_LARGE)
    if http.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Or the answer would count as begun.
        http.writer.output_size = 0
    pieces, size = [], 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in http.content.iter_chunked(_PIECE_BYTES):
                size += len(piece)
                if size > most:
                    raise _unread(http, too_large, Problem.TOO_LARGE)
                pieces.append(piece)
    except TimeoutError as error:
        raise _unread(http, f"the body did not arrive within {BODY_SECONDS:g} s") from error
    except (ConnectionError, web.RequestPayloadError) as error:
        raise _unread(http, "the body was cut off") from error
    return b"".join(pieces)


def _unread(http: web.BaseRequest, detail: str, problem: Problem = Problem.INVALID_REQUEST) -> RejectedError:
    # What is left of it is not waited for.
    return RejectedError(problem, detail, has_to_close=not http.content.is_eof())
