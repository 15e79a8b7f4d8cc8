"""The hot path: a hit for a caller who just had one on this connection, without parsing the request again.

Below aiohttp, where bytes come in. The laws of this module:

1. Nothing of HTTP is read here. A read is answered only if it is, byte for byte, a head that aiohttp has parsed, that
   was authorised, and that was answered with a plain hit on this very connection: its *template*. Only the campaign's
   id and the value of `X-Request-ID` may differ, and only in characters that mean nothing to a parser. Everything else
   goes to aiohttp untouched.
2. Only when no request is in flight, or answers would change their order. That is an exact count: of requests parsed,
   and of answers written.
3. Only when aiohttp's parser stands between two requests: the last read that it saw ended with the head of a request
   without a body. By its bytes alone, a request inside another one's body could not be told from a request.
4. Only while nothing has changed that the template's authorisation came from. Whatever could, ends the *epoch*.
5. What may be answered, and how old it may be, is the exchange's to say, each time.
6. Nobody is waited for: not when the caller reads slowly, not when the connection is closing.

So the slow path decides all, and this one repeats it: a template is a *standing* with the bytes that it came in. A test
drives both with the same bytes.
"""

import asyncio
import os
import re
from time import perf_counter
from typing import cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD
from typing_extensions import override

from service.proxy.epoch import Epoch
from service.web.server import Connection, Refuse
from service.web.standing import STANDING, Standing, tags_of

_END = b"\r\n\r\n"
_VERSION = b" HTTP/1.1\r\n"
_REQUEST_ID = re.compile(rb"\r\nX-Request-ID:[ \t]*([A-Za-z0-9._:-]{1,128})[ \t]*\r\n", re.IGNORECASE)
_PLAIN = bytes(
    byte if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"._:-") else ord("A") for byte in range(256)
)
"""A table for `translate` that changes every byte that has no place in a request's id."""
_LONGEST_REQUEST_ID = 128


class HotPath:
    """What the connections of one server share."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        """Ends when templates do."""
        self.taken = 0
        """Requests that were answered here."""

    def learn(self, head: bytes, epoch: int, request: web.BaseRequest, standing: Standing) -> "Template | None":
        """The template that this head makes; None where it has something about it that is not for here.

        Args:
            head: the whole read that the request came in.
            epoch: that of the moment when it came in.
            request: as aiohttp parsed it.
            standing: the request's.
        """
        headers = request.headers
        line = f"{request.method} {request.raw_path}".encode("utf-8", "surrogateescape") + _VERSION
        if not head.startswith(line):
            return None
        start = line.rindex(b"/", 0, -len(_VERSION)) + 1
        rest = head[len(line) - len(_VERSION) :]
        match = _REQUEST_ID.search(rest)
        if headers.getall("X-Request-ID", []) != ([match[1].decode()] if match else []):
            return None
        between, after = (rest[: match.start(1)], rest[match.end(1) :]) if match else (rest, b"")
        return Template(self, epoch, standing, tags_of(headers), head[:start], between, after)


class Template:
    """A head that was answered with a hit, as what stands before, between and after its two variable parts."""

    __slots__ = (
        *("_after", "_before", "_between", "_gap", "_has_request_id", "_path", "_rest", "_standing", "_start", "_tags"),
        "epoch",
    )

    def __init__(
        self,
        path: HotPath,
        epoch: int,
        standing: Standing,
        tags: str | None,
        before: bytes,
        between: bytes,
        after: bytes,
    ) -> None:
        self.epoch = epoch
        self._path = path
        self._standing = standing
        self._tags = tags
        self._before, self._between, self._after = before, between, after
        self._start, self._gap, self._rest = len(before), len(between), len(after)
        self._has_request_id = bool(after)

    def answer(self, data: bytes) -> bytes | None:
        """The whole answer to `data`, if that is this head and there is a hit for it; it counts as given."""
        began = perf_counter()
        end = data.find(b" ", self._start)
        if not (data.startswith(self._before) and data.startswith(self._between, end) and data.endswith(self._after)):
            return None
        request_id = data[end + self._gap : len(data) - self._rest]
        if self._has_request_id:
            if not 0 < len(request_id) <= _LONGEST_REQUEST_ID or request_id.translate(_PLAIN) != request_id:
                return None
        elif request_id:
            return None
        else:
            request_id = os.urandom(16).hex().encode()
        answered = self._standing.answer(data[self._start : end], request_id, self._tags, began)
        if answered is None:
            return None
        self._path.taken += 1
        return answered[1]


class HotConnection(Connection):
    """A connection that repeats the last hit's head by itself."""

    __slots__ = ("_answered", "_candidate", "_candidate_epoch", "_is_between", "_path", "_template")

    def __init__(self, path: HotPath, manager: web.Server, refuse: Refuse, **options: object) -> None:
        super().__init__(manager, refuse, **options)
        self._path = path
        self._template: Template | None = None
        self._answered = 0
        self._is_between = True
        self._candidate = b""
        """The read that the one request in flight came in, if it was a whole head and nothing else."""
        self._candidate_epoch = 0

    @override
    def data_received(self, data: bytes) -> None:
        template = self._template
        if (
            template is not None
            and template.epoch == self._path.epoch.number
            and self._is_between
            and self._answered == self._request_count
            and not (self._paused or self._close or self._force_close)
            and (answer := template.answer(data)) is not None
        ):
            cast("asyncio.Transport", self.transport).write(answer)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            return
        was_idle = self._is_between and self._answered == self._request_count
        parsed = self._request_count
        self._candidate_epoch = self._path.epoch.number
        super().data_received(data)
        self._is_between = (
            self._request_count == parsed + 1
            and data.endswith(_END)
            and data.find(_END) == len(data) - len(_END)
            and self._messages[-1][1] is EMPTY_PAYLOAD
            and not self._upgraded
        )
        self._candidate = data if was_idle and self._is_between else b""

    @override
    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        sent, is_lost = await super().finish_response(request, resp, start_time)
        self._answered += 1
        if is_lost or not sent.keep_alive:
            self._template = None
        elif self._candidate and (standing := request.get(STANDING)) is not None:
            learned = self._path.learn(self._candidate, self._candidate_epoch, request, standing)
            self._template = learned or self._template
        self._candidate = b""
        return sent, is_lost
