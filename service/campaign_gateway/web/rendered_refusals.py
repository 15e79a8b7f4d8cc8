"""Refusals as bytes: what `web.responses` makes of a read for which no call may be made, with little work for each.

Whoever asks beyond the budget asks often, and must not take the time of those whose answers are stored. The fields,
their order and the document are those of the whole road, since its functions make them; what is the same for a while is
kept.
"""

import time
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from campaign_gateway.policy.outlook import Quota
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Stream
from campaign_gateway.web.responses import Bounds, Fail, advice, http_date_text, quota_fields, render

MAX_RENDERED = 1_000
"""Refusals that differ in more than the request's id and are kept, for a second at most."""

QUOTA_SECONDS = 0.1
"""How long the fields on a client's share are good for: it moves with calls and whole seconds."""

QuotaOf = Callable[[str, str], Quota]
"""Tells a client's share of an account's calls."""

_ID = "id-of-the-request"
"""In the place of the request's id in what is kept. It stands nowhere else in a refusal."""
_NO_CONDITIONS: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


class RenderedRefusal:
    """A refusal, in pieces between which the request's id and the length of the document are put in."""

    __slots__ = ("_after_id", "_body", "_body_bytes", "_end", "_up_to_id", "status")

    def __init__(self, response: web.Response) -> None:
        fields = "".join(f"\r\n{name}: {value}" for name, value in response.headers.items())
        up_to_id, after_id = fields.split(_ID)
        status = self.status = HTTPStatus(response.status)
        body = response.body
        if not isinstance(body, bytes):
            raise TypeError("the document of a failure is bytes")
        self._up_to_id = f"HTTP/1.1 {status} {status.phrase}{up_to_id}".encode()
        self._after_id = f"{after_id}\r\nContent-Length: ".encode()
        self._end = f"\r\nDate: {http_date_text(int(time.time()))}\r\n\r\n".encode()
        self._body = body.split(_ID.encode())
        self._body_bytes = sum(map(len, self._body))

    def answer(self, request_id: bytes, *, is_head: bool) -> bytes:
        """The whole answer to the request with this id."""
        length = b"%d" % (self._body_bytes + (len(self._body) - 1) * len(request_id))
        head = (self._up_to_id, request_id, self._after_id, length, self._end)
        return b"".join(head if is_head else (*head, request_id.join(self._body)))


class RenderedRefusals:
    """The refusals of one client on one stream."""

    def __init__(self, bounds: Bounds, quota: QuotaOf, stream: Stream, client: str, fail: Fail) -> None:
        self._bounds = bounds
        self._quota = quota
        self._account = stream.tenant.account
        self._client = client
        self._fail = fail
        self._rendered: dict[tuple[object, ...], RenderedRefusal] = {}
        self._second = 0
        self._share: dict[str, str] = {}
        self._share_until = 0.0

    def of(self, reply: Reply) -> RenderedRefusal | None:
        """The reply's; None where it is no refusal."""
        failure = reply.failure
        if failure is None or not reply.is_refusal:
            return None
        now = time.time()
        second = int(now)
        if not 0 < self._share_until - now <= QUOTA_SECONDS:
            self._share = quota_fields(self._quota(self._account, self._client))
            self._share_until = now + QUOTA_SECONDS
        if second != self._second or len(self._rendered) >= MAX_RENDERED:
            self._second = second
            self._rendered.clear()
        share = self._share
        key = (failure.problem, failure.detail, reply.outcome.detail, *advice(failure).values(), *share.values())
        refusal = self._rendered.get(key)
        if refusal is None:
            response = render(reply, _NO_CONDITIONS, self._bounds, _ID, fail=self._fail)
            response.headers.update(share)
            refusal = self._rendered[key] = RenderedRefusal(response)
        return refusal
