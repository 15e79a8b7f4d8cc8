"""Answers that are packed for callers who can unpack them (RFC 9110 section 8.4): lists, and several campaigns in one.

Answers by id are not: they are small, and a hit of one takes less than packing it would.
"""

import gzip

from aiohttp import hdrs, web
from multidict import CIMultiDictProxy

from campaign_gateway.policy.codings import GZIP, accepts_gzip
from campaign_gateway.proxy.beside import beside

LEAST_BYTES = 1_024
"""Less fits into one packet anyway."""
MAX_KEPT_BYTES = 8 * 2**20
_LEVEL = 1
"""As nginx has it: higher ones take several times as long for a tenth less."""


def is_packed_for(request_headers: CIMultiDictProxy[str], size: int) -> bool:
    """Whether an answer of so many bytes is packed for this caller."""
    return size >= LEAST_BYTES and accepts_gzip(",".join(request_headers.getall(hdrs.ACCEPT_ENCODING, ())))


def pack(body: bytes) -> bytes:
    """The body in gzip. Without a time of its own, all replicas have the same bytes."""
    return gzip.compress(body, _LEVEL, mtime=0)


class Packer:
    """Packs what is asked for again and again, and keeps the last of it."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}
        """By tag, the oldest first."""
        self._bytes = 0

    async def pack(self, response: web.Response) -> web.Response:
        """The response, with its body packed if its fields say that it is; what is large, beside the loop."""
        body = response.body
        if response.headers.get(hdrs.CONTENT_ENCODING) != GZIP or not isinstance(body, bytes):
            return response
        tag = response.headers[hdrs.ETAG]
        packed = self._kept.get(tag)
        if packed is None:
            packed = await beside(len(body), pack, body)
            self._keep(tag, packed)
        response.body = packed
        return response

    def _keep(self, tag: str, packed: bytes) -> None:
        if tag in self._kept or len(packed) > MAX_KEPT_BYTES:
            return
        self._kept[tag] = packed
        self._bytes += len(packed)
        while self._bytes > MAX_KEPT_BYTES:
            self._bytes -= len(self._kept.pop(next(iter(self._kept))))
