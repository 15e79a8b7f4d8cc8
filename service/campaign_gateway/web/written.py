"""Answers that are bytes already."""

from aiohttp import HttpVersion10, web
from aiohttp.abc import AbstractStreamWriter
from typing_extensions import override

from campaign_gateway.web.grants import Grant


class Written(web.StreamResponse):
    """An answer that is bytes already, head and body, and is written down."""

    def __init__(self, http: web.BaseRequest, answer: bytes, grant: Grant | None) -> None:
        """An answer.

        Args:
            http: the request.
            answer: as on a connection of HTTP/1.1 that stays open.
            grant: the request's, if another one with an equal head may have it too.
        """
        # Not the base's own: of all that it sets up, nobody asks for more than this.
        self._keep_alive = http.keep_alive
        self._answer = answer
        self._to: AbstractStreamWriter | None = None
        self.grant = grant

    @override
    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        if request.version == HttpVersion10:
            self._answer = self._answer.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
            self._end_head(b"Connection: keep-alive\r\n" if self._keep_alive else b"")
        elif not self._keep_alive:
            self._end_head(b"Connection: close\r\n")
        self._to = request.writer
        return self._to

    def _end_head(self, field: bytes) -> None:
        self._answer = self._answer.replace(b"\r\n\r\n", b"\r\n%b\r\n" % field, 1)

    @override
    async def write_eof(self, data: bytes = b"") -> None:
        if self._to is not None:
            await self._to.write_eof(self._answer)
