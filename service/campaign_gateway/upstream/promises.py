"""When callers who got no call may come back, as one replica has promised for one account.

A promise is kept by `policy.schedule`, which needs to know only how many of a client's callers were told to come at
which moment. Who they are is remembered here: a caller who is back is known by what it wants.
"""

from collections import Counter, OrderedDict

from campaign_gateway.policy.ledger import Allowance, Promise

MOST_PROMISES = 10_000
"""Callers remembered. One who was forgotten is a newcomer when it is back."""
MOST_ROWS = 200
"""Moments and clients told apart in a ledger that is written for each call."""
MOST_WINDOWS = 5
"""Windows in which slots are promised. Beyond them a wait is true only as long as nobody comes before."""


class Promises:
    """The promises of one replica for one account. Times are seconds of the clock that the ledger's users share."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        # Of a plain dictionary the first one is found only behind all that were deleted before it.
        self._promised: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._rows: Counter[tuple[str, float]] = Counter()
        self.is_changed = False
        """Whether the last of them is not in the ledger yet."""
        self.refused: dict[str, float] = {}
        """When a caller of each client was last refused."""

    def promised_at(self, client: str, key: str) -> float | None:
        """The moment for which the caller was told to come back, if it was."""
        return self._promised.get((client, key))

    def take(self, client: str, key: str, now: float) -> bool:
        """Whether the caller was told to come about now; with that the promise is kept."""
        at = self._promised.get((client, key))
        if at is None:
            return False
        del self._promised[client, key]
        self.is_changed = True
        row = (client, self._moment(at))
        if self._rows[row] > 1:
            self._rows[row] -= 1
        else:
            del self._rows[row]
        return now < at + self.allowance.window

    def give(self, client: str, key: str, at: float, now: float) -> bool:
        """Remembers that the caller was told to come back at that moment; whether a slot is to be left to it.

        Without a key it cannot be known when it is back.
        """
        self.refused[client] = now
        self.is_changed = True
        if not key:
            return False
        if (client, key) in self._promised:
            self.take(client, key, now)
        self._promised[client, key] = at
        while len(self._promised) > MOST_PROMISES:
            self._promised.popitem(last=False)
        row, latest = (client, self._moment(at)), now + MOST_WINDOWS * self.allowance.window
        is_kept = at <= latest and (row in self._rows or len(self._rows) < MOST_ROWS)
        if is_kept:
            self._rows[row] += 1
        return is_kept

    def rows(self, replica: str, now: float) -> tuple[Promise, ...]:
        """What the ledger has to know; what nobody came back for in time is forgotten."""
        hold, window = self.allowance.hold, self.allowance.window
        for row in [row for row in self._rows if row[1] + hold <= now]:
            del self._rows[row]
        while self._promised and self._promised[first := next(iter(self._promised))] + window <= now:
            del self._promised[first]
        self.refused = {client: at for client, at in self.refused.items() if at > now - window}
        return tuple(Promise(replica, client, at, count) for (client, at), count in self._rows.items())

    def _moment(self, at: float) -> float:
        """The moment, a little early, in steps: so that many promises are few rows."""
        return at - at % (self.allowance.hold / 2)
