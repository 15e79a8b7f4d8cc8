"""The request log: every arrival, written down before anything is decided about it.

It is the judge of budgets and retries, because it counts what reached the platform and not what a client meant to
send. Tokens are never kept: a short digest tells equal ones from different ones.
"""

import asyncio
import base64
import binascii
import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

_DIGEST_LENGTH = 12
_BODY_KEPT_BYTES = 4096


@dataclass(slots=True)
class Arrival:
    """One request as the platform saw it.

    Attributes:
        index: Its number since the start, from 0; a cleared log goes on counting.
        at: Seconds since the epoch, by the platform's clock.
        monotonic: Seconds on a clock that never jumps; use it for windows.
        method: The method.
        target: The request target as it came, path and query.
        operation: The operation's name, `unknown` if there is none.
        version: 1 or 2, by path family.
        stream_id: The application id in the path, empty without one.
        campaign_id: The id in the path (a contact list's for its operations), empty without one.
        iid: The header `iid`, None without it.
        account_id: The header `accountId`, None without it.
        content_type: The header `Content-Type`, None without it.
        has_token: A header `auth` was there.
        token_digest: The first 12 hex digits of the token's SHA-256; empty without one.
        claims: What the token claims, unverified; None if it cannot be read.
        body: The beginning of the body as text, up to 4096 bytes.
        status: The status answered; None until then, and for ever if the connection was reset instead.
        reason: Why it was refused, in the sandbox's own words; empty if it was not.
        faults: The names of the faults it met.
    """

    index: int
    at: float
    monotonic: float
    method: str
    target: str
    operation: str
    version: int = 2
    stream_id: str = ""
    campaign_id: str = ""
    iid: str | None = None
    account_id: str | None = None
    content_type: str | None = None
    has_token: bool = False
    token_digest: str = ""
    claims: dict[str, Any] | None = None
    body: str = ""
    status: int | None = None
    reason: str = ""
    faults: tuple[str, ...] = ()

    def keep_body(self, body: bytes) -> None:
        """Keeps the beginning of the body."""
        self.body = body[:_BODY_KEPT_BYTES].decode(errors="replace")


class Journal:
    """The arrivals, oldest first; the oldest ones are forgotten past a bound."""

    def __init__(self, *, now: Callable[[], float], monotonic: Callable[[], float], kept: int = 100_000) -> None:
        self._now = now
        self._monotonic = monotonic
        self._arrivals: deque[Arrival] = deque(maxlen=kept)
        self._count = 0
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def count(self) -> int:
        """Arrivals since the start, cleared ones included: the index of the next one."""
        return self._count

    def record(self, *, token: str | None, **seen: Any) -> Arrival:
        """A new entry for a request that has just arrived; `seen` are fields of `Arrival`."""
        arrival = Arrival(
            index=self._count,
            at=self._now(),
            monotonic=self._monotonic(),
            has_token=token is not None,
            token_digest=hashlib.sha256(token.encode()).hexdigest()[:_DIGEST_LENGTH] if token else "",
            claims=unverified_claims(token) if token else None,
            **seen,
        )
        self._count += 1
        self._arrivals.append(arrival)
        self._news.set()
        self._news = asyncio.Event()
        return arrival

    def since(self, index: int = 0) -> list[Arrival]:
        """The kept arrivals from an index on."""
        return [arrival for arrival in self._arrivals if arrival.index >= index]

    def of(self, operation: str, *, since: int = 0) -> list[Arrival]:
        """The kept arrivals of one operation from an index on."""
        return [arrival for arrival in self.since(since) if arrival.operation == operation]

    def clear(self) -> None:
        """Forgets the arrivals; their numbers are not given again."""
        self._arrivals.clear()

    async def wait_for(self, count: int) -> None:
        """Returns once `count` requests have arrived since the start; a gate for tests of concurrency."""
        while self._count < count:
            await self._news.wait()


def most_in_window(arrivals: Iterable[float], window_seconds: float) -> int:
    """The most arrivals in any half-open span of so many seconds, 0 without arrivals.

    Args:
        arrivals: Moments in seconds, in any order.
        window_seconds: Length of the span; two arrivals exactly this far apart are in no span together.
    """
    moments = sorted(arrivals)
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= window_seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def unverified_claims(token: str) -> dict[str, Any] | None:
    """What a signed token claims, without a look at its signature; None for anything else."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None
