"""Who wrote when, so that writers read what they wrote.

What a write has changed for certain is invalidated for everybody. What it may have changed, its client alone is held to
for a while. A write token, which holds the moment at which the write ended, carries further: to another client, past
that time, or to a replica that did not receive the write. Moments are seconds of the clock that all replicas share.
"""

from collections import OrderedDict
from collections.abc import Callable

from campaign_gateway.proxy.request import Stream

MAX_WRITERS = 10_000
_LONGEST_TOKEN = 20


class Writers:
    """The last write of each client that may have changed a resource, as this replica did it or received it."""

    def __init__(self, now: Callable[[], float], seconds: float) -> None:
        """Writers.

        Args:
            now: the store's clock.
            seconds: for how long a client's own reads are held to its writes; 0 for not at all.
        """
        self._now = now
        self.seconds = seconds
        """See above; of writes that are noted from now on."""
        self._written_at: OrderedDict[str, float] = OrderedDict()
        self.held_until = 0.0
        """The moment from which nobody is held to anything."""

    def note(self, writer: str) -> None:
        """A write by `writer` has just ended."""
        now = self._now()
        self._written_at.pop(writer, None)
        self._written_at[writer] = now
        self.held_until = now + self.seconds
        horizon = now - self.seconds
        while self._written_at and (
            len(self._written_at) > MAX_WRITERS or next(iter(self._written_at.values())) < horizon
        ):
            self._written_at.popitem(last=False)

    def floor(self, stream: Stream, client: str, resource: str) -> float | None:
        """The moment after which the client's reads of the resource have to be validated; None for none."""
        now = self._now()
        if now >= self.held_until:
            return None
        written_at = self._written_at.get(writer_of(stream, client, resource))
        # Not to a write that was noted before the clock went back.
        return written_at if written_at is not None and -self.seconds < now - written_at < self.seconds else None


def writer_of(stream: Stream, client: str, resource: str) -> str:
    """How replicas call a client that may have changed a resource of a stream."""
    return f"{stream.identity}:{client}:{resource}"


def format_write_token(written_at: float) -> str:
    """The token of a write that ended then: hexadecimal microseconds."""
    return f"{round(written_at * 1e6):x}"


def parse_write_token(token: str) -> float | None:
    """When the token's write ended; None where it is none of ours."""
    if not 0 < len(token) <= _LONGEST_TOKEN or set(token) - set("0123456789abcdef"):
        return None
    return int(token, 16) / 1e6
