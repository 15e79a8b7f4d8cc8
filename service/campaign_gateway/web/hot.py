"""The hot path: a hit, or a refusal, for a caller who just had one on this connection, without parsing the request.

Below aiohttp, where bytes come in. The laws of this module:

1. Nothing of HTTP is read here. A read is answered only if it is, byte for byte, a head that aiohttp has parsed, that
   was authorised, and that was answered with a plain hit on this very connection, or refused for want of calls: its
   *template*. Only the campaign's id and the values of the fields in `VARIABLE` may differ, and only in characters that
   mean nothing to a parser. Everything else goes to aiohttp untouched.
2. Only when no request is in flight, or answers would change their order. That is an exact count: of requests parsed,
   and of answers written.
3. Only when aiohttp's parser stands between two requests: the last read that it saw ended with the head of a request
   without a body. By its bytes alone, a request inside another one's body could not be told from a request.
4. Only while nothing has changed that the template's authorisation came from. Whatever could, ends the *epoch*.
5. What may be answered, and how old it may be, is the exchange's to say, each time.
6. Nobody is waited for: not when the caller reads slowly, not when the connection is closing.
7. Except for the store: a hit that was had from it is looked up there again, and so is what would be refused if nobody
   has stored it. Until that is back, the request is in flight: what comes behind it waits, a close waits, and what
   turns out to be neither goes to aiohttp as it came.

So the slow path decides all, and this one repeats it: a template is a *standing* with the bytes that it came in. A test
drives both with the same bytes.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from time import perf_counter
from typing import cast

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD
from typing_extensions import override

from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.web.server import Connection, Refuse
from campaign_gateway.web.sheets import Sheet
from campaign_gateway.web.standing import STANDING, VARIABLE, Standing

MAX_TEMPLATES = 256
RENEWAL_SECONDS = 10.0
"""How often so many may be made anew: one takes as long as fifty hits."""
MAX_HEAD_BYTES = 4_096

_LINE = b"\r\n"
_END = b"\r\n\r\n"
_VERSION = b" HTTP/1.1\r\n"
_CAMPAIGN = rb"(?P<campaign>[A-Za-z0-9_-]{1,128})"
_VALUES = {
    b"x-request-id": rb"(?P<request_id>[A-Za-z0-9._:-]{1,128})",
    b"if-none-match": rb"(?P<tags>[!-~](?:[ -~]{0,1022}[!-~])?)",
}
_ANY_VALUE = rb"[!-~](?:[ -~]{0,1022}[!-~])?"


Seeking = Coroutine[None, None, bytes | None]
"""An answer that is waited for."""


class HotPath:
    """What the connections of one server share."""

    def __init__(self, epoch: Epoch) -> None:
        self.epoch = epoch
        """Ends when templates do."""
        self.taken = 0
        """Requests that were answered here."""
        self.tasks = Tasks()
        self._templates: dict[bytes, Template] = {}
        self._renewed_at = float("-inf")

    def learn(self, head: bytes, epoch: int, request: web.BaseRequest, standing: Standing) -> "Template | None":
        """The template that this head makes; None where it has something about it that is not for here.

        Args:
            head: the whole read that the request came in.
            epoch: that of the moment when it came in.
            request: as aiohttp parsed it.
            standing: the request's.
        """
        pattern = _pattern(head, request) if len(head) <= MAX_HEAD_BYTES else None
        if pattern is None:
            return None
        template = self._templates.get(pattern)
        if template is not None and template.epoch == epoch:
            return template
        if template is None and len(self._templates) >= MAX_TEMPLATES:
            now = perf_counter()
            if now - self._renewed_at < RENEWAL_SECONDS:
                return None
            self._renewed_at = now
            self._templates.clear()
        template = self._templates[pattern] = Template(self, epoch, standing, pattern)
        return template


def _pattern(head: bytes, request: web.BaseRequest) -> bytes | None:
    """The expression that heads like this one match; None where the parser has read another one than is seen here."""
    line = f"{request.method} {request.raw_path}".encode("utf-8", "surrogateescape")
    if not head.startswith(line + _VERSION):
        return None
    parts = [re.escape(line[: line.rindex(b"/") + 1]) + _CAMPAIGN + _VERSION.removesuffix(_LINE)]
    names = set()
    fields = head[len(line) + len(_VERSION) : -len(_END)].split(_LINE)
    if len(fields) != len(request.raw_headers):
        return None
    for field, (name, value) in zip(fields, request.raw_headers, strict=True):
        written, _, text = field.partition(b":")
        if written != name or text.strip(b" \t") != value:
            return None
        lower = name.lower()
        if lower not in VARIABLE:
            parts.append(re.escape(field))
        elif lower in names:
            return None
        else:
            names.add(lower)
            parts.append(re.escape(name) + rb":[ \t]*" + _VALUES.get(lower, _ANY_VALUE) + rb"[ \t]*")
    return _LINE.join(parts) + _END


class Template:
    """A head that was answered here once, as an expression for all heads that differ in what may vary only."""

    __slots__ = ("_has_request_id", "_has_tags", "_match", "_path", "_standing", "epoch")

    def __init__(self, path: HotPath, epoch: int, standing: Standing, pattern: bytes) -> None:
        compiled = re.compile(pattern)
        self.epoch = epoch
        self._path = path
        self._standing = standing
        self._match = compiled.fullmatch
        self._has_request_id = "request_id" in compiled.groupindex
        self._has_tags = "tags" in compiled.groupindex

    def answer(self, data: bytes) -> bytes | Seeking | None:
        """The whole answer to `data`, if that is this head and there is a hit for it, or a refusal; it counts as given.

        To be waited for where the hit is not local; None, then too, where there is none.
        """
        began = perf_counter()
        found = self._match(data)
        if found is None:
            return None
        request_id = found["request_id"] if self._has_request_id else os.urandom(16).hex().encode()
        tags = found["tags"].decode("ascii") if self._has_tags else None
        answer = self._standing.answer(found["campaign"], request_id, tags, began)
        if answer is None and (wanted := self._standing.wanted(found["campaign"])) is not None:
            return self._seek(*wanted, request_id, tags, began)
        return answer

    async def _seek(
        self, ask: Request, last: Sheet | None, request_id: bytes, tags: str | None, began: float
    ) -> bytes | None:
        found = await self._standing.find(ask, last)
        if found is None or self.epoch != self._path.epoch.number:
            return None
        return self._standing.render_found(ask, found, request_id, tags, began)


class HotConnection(Connection):
    """A connection that repeats the last hit's head by itself."""

    __slots__ = (
        *("_answered", "_behind", "_candidate", "_candidate_epoch", "_is_between", "_is_seeking", "_is_to_close"),
        *("_path", "_sought", "_template"),
    )

    def __init__(self, path: HotPath, manager: web.Server, refuse: Refuse, **options: object) -> None:
        super().__init__(manager, refuse, **options)
        self._path = path
        self._template: Template | None = None
        self._answered = 0
        self._is_between = True
        self._candidate = b""
        """The read that the one request in flight came in, if it was a whole head and nothing else."""
        self._candidate_epoch = 0
        self._is_seeking = self._is_to_close = False
        """Whether a request is in flight here, and whether the connection ends after it."""
        self._behind = b""
        """What came meanwhile."""
        self._sought: asyncio.Future[None] | None = None
        """Done when nothing is in flight here any longer, for whoever waits for that."""

    @override
    def data_received(self, data: bytes) -> None:
        if self._is_seeking:
            self._behind += data
            cast("asyncio.Transport", self.transport).pause_reading()
            return
        template = self._template
        if (
            template is not None
            and template.epoch == self._path.epoch.number
            and self._is_between
            and self._answered == self._request_count
            and not (self._paused or self._close or self._force_close)
            and (answer := template.answer(data)) is not None
        ):
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if isinstance(answer, bytes):
                self._path.taken += 1
                cast("asyncio.Transport", self.transport).write(answer)
            else:
                self._is_seeking = True
                self._path.tasks.spawn(self._seek(data, answer), name="answer from the store")
            return
        self._hand_on(data)

    async def _seek(self, data: bytes, seeking: Seeking) -> None:
        """Answers what is not local, or hands it on; then what came behind it has its turn."""
        answer = None
        try:
            answer = await seeking
        finally:
            self._is_seeking = False
            if answer is None:
                self._hand_on(data)
            else:
                self._path.taken += 1
                if self.transport is not None:
                    self.transport.write(answer)
            if self._is_to_close:
                super().close()
            if self._sought is not None:
                self._sought.set_result(None)
            if self._behind:
                behind, self._behind = self._behind, b""
                self.data_received(behind)
                if not (self._reading_paused or self._buffer_paused):
                    self._resume_transport_reading()

    @override
    def close(self) -> None:
        # A request that aiohttp does not know of is in flight: its answer goes out first.
        if self._is_seeking:
            self._is_to_close = True
        else:
            super().close()

    @override
    async def shutdown(self, timeout: float | None = 15.0) -> None:
        if self._is_seeking:
            self._sought = self._loop.create_future()
            await asyncio.wait([self._sought], timeout=timeout)
        await super().shutdown(timeout)

    def _hand_on(self, data: bytes) -> None:
        """Gives it to aiohttp."""
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
