"""A client's own limits, apart from the platform's budget: how often, how much at once, by how many connections.

Each process counts for itself. How often is one number, the moment at which all that was asked would have been paid for
at the rate (the generic cell rate algorithm of ATM): a bucket that is filled evenly, without a timer.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from aiohttp import web

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.web.rejected import RejectedError

_ROUNDING_SECONDS = 1e-6
_WHILE_BUSY_SECONDS = 1.0
"""When to come back where nobody knows how long others take."""


class ClientLimits:
    """What one client may ask of this process. Moments are seconds on the performance counter."""

    __slots__ = (
        *("_concurrent", "_connections", "_interval", "_most_connections", "_paid_at", "_slack", "_under_way"),
        "terms",
    )

    def __init__(
        self, rate: tuple[int, float] | None = None, concurrent: float = math.inf, connections: float = math.inf
    ) -> None:
        """ClientLimits.

        Args:
            rate: so many requests in so many seconds, all of them at once if they like; None for any number.
            concurrent: requests that are answered at the same time, but for hits.
            connections: open ones that have shown the client's key.
        """
        self.terms = rate, concurrent, connections
        calls, seconds = rate or (math.inf, math.inf)
        self._interval = 0.0 if rate is None else seconds / calls
        self._slack = seconds - self._interval + _ROUNDING_SECONDS
        self._paid_at = 0.0
        self._concurrent, self._under_way = concurrent, 0
        self._most_connections = connections
        self._connections: set[web.RequestHandler] = set()

    def is_spent(self, now: float) -> bool:
        """Whether the next request comes too early."""
        return self._paid_at - now > self._slack

    def allows(self, connection: web.RequestHandler, now: float) -> bool:
        """Whether a request that is answered at once may be."""
        return not self.is_spent(now) and self.knows(connection)

    def take(self, now: float) -> None:
        """One request is answered."""
        self._paid_at = max(self._paid_at, now) + self._interval

    def knows(self, connection: web.RequestHandler) -> bool:
        """Whether the connection is the client's, or becomes one of those it may have."""
        known = self._connections
        if connection in known or self._most_connections == math.inf:
            return True
        if len(known) >= self._most_connections:
            known = self._connections = {other for other in known if other.transport is not None}
        if len(known) >= self._most_connections:
            return False
        known.add(connection)
        return True

    def check(self, connection: web.RequestHandler, now: float) -> None:
        """Lets a request go on.

        Raises:
            RejectedError: it is one too many.
        """
        if not self.knows(connection):
            raise _limited("this client has as many connections as it may have", _WHILE_BUSY_SECONDS, has_to_close=True)
        if self.is_spent(now):
            raise _limited("this client asks more often than it may", self._paid_at - now - self._slack)
        if self._under_way >= self._concurrent:
            raise _limited("this client waits for as many answers as it may", _WHILE_BUSY_SECONDS)

    @contextmanager
    def admit(self, connection: web.RequestHandler, now: float) -> Iterator[None]:
        """Counts a request, which is answered in the block; raises as `check` does."""
        self.check(connection, now)
        self.take(now)
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1


def admitted(limits: ClientLimits | None, http: web.BaseRequest, now: float) -> AbstractContextManager[None]:
    """See `ClientLimits.admit`; for a client without limits there is nothing to count."""
    return nullcontext() if limits is None else limits.admit(http.protocol, now)


def _limited(detail: str, retry_after: float, *, has_to_close: bool = False) -> RejectedError:
    error = RejectedError(Problem.RATE_LIMITED, detail, has_to_close=has_to_close)
    error.failure = Failure(Problem.RATE_LIMITED, detail, retry_after=retry_after)
    return error
