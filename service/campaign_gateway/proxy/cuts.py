"""Answers cut down to a few fields: what was cut is kept, for as long as what it was cut from stays the same."""

from dataclasses import dataclass, replace

from campaign_gateway.policy.fields import cut
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.reply import Reply
from campaign_gateway.proxy.request import Request

MAX_BYTES = 4 * 2**20
"""Of all that is kept, beside what the store keeps: some ten thousand answers of a few fields. The oldest go first."""
OVERHEAD_BYTES = 600
"""What one takes beside its body: key, objects, table slots."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What an answer was cut down to."""

    source: str
    """The entity tag of the whole one."""
    made: Stored


class Cuts:
    """Cuts answers, and remembers how."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, frozenset[str]], Cut] = {}
        self._bytes = 0

    async def apply(self, request: Request, reply: Reply) -> Reply:
        """The reply with only the fields that are asked for."""
        if request.fields is None or reply.entry is None or reply.entry.absence is not None:
            return reply
        key, whole = (request.key, request.fields), reply.entry
        kept = self._kept.get(key)
        if kept is None or kept.source != whole.etag:
            made = await beside(len(whole.body), cut, whole, request.fields, request.operation)
            kept = self._keep(key, Cut(whole.etag, made))
        elif kept.made.validated_at != whole.validated_at or kept.made.clock_offset != whole.clock_offset:
            # Validated again: the same bytes.
            made = replace(whole, body=kept.made.body, content_type=kept.made.content_type)
            kept = self._keep(key, Cut(kept.source, made))
        return replace(reply, entry=kept.made)

    def _keep(self, key: tuple[str, frozenset[str]], kept: Cut) -> Cut:
        self._drop(key)
        self._kept[key] = kept
        self._bytes += _size(kept)
        while self._bytes > MAX_BYTES:
            self._drop(next(iter(self._kept)))
        return kept

    def _drop(self, key: tuple[str, frozenset[str]]) -> None:
        dropped = self._kept.pop(key, None)
        if dropped is not None:
            self._bytes -= _size(dropped)


def _size(kept: Cut) -> int:
    return len(kept.made.body) + OVERHEAD_BYTES
