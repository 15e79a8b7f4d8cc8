"""What things are called in Redis.

A script may touch several keys only where they lie on one node: in a cluster, where their names hold the same text in
braces. So the keys of entries are parted, and each part has a counter of its messages on the bus beside them.
"""

import zlib
from dataclasses import dataclass

from campaign_gateway.proxy.request import group_of

CLUSTER_PARTS = 64
"""Parts in a cluster: enough to spread over any number of nodes that one gateway needs."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under one prefix, which all replicas share."""

    prefix: str
    parts: int = 1
    """One where a single server holds everything: then each message on the bus follows the one before it."""

    @property
    def channel(self) -> str:
        """The bus."""
        return f"{self.prefix}:bus"

    def part(self, key: str) -> int:
        """The part that an entry's key belongs to."""
        return zlib.crc32(key.encode()) % self.parts if self.parts > 1 else 0

    def entry(self, key: str) -> str:
        """The entry and its fence."""
        return f"{self.prefix}:e2:{{{self.part(key)}}}:{key}"

    def group(self, key: str) -> str:
        """The fence of all answers that the entry belongs to, beside it: each part has its own."""
        return self.group_in(self.part(key), group_of(key))

    def group_in(self, part: int, group: str) -> str:
        """The same, by part."""
        return f"{self.prefix}:g1:{{{part}}}:{group}"

    def number_in(self, part: int) -> str:
        """The number of the last message about a part."""
        return f"{self.prefix}:n1:{{{part}}}"

    def lease(self, key: str) -> str:
        """Which replica leads in filling it."""
        return f"{self.prefix}:l1:{{{self.part(key)}}}:{key}"

    def number(self, key: str) -> str:
        """The number of the last message about its part."""
        return self.number_in(self.part(key))

    def index(self, stream: str, what: str) -> str:
        """A part of what is known of the stream's list."""
        return f"{self.prefix}:w2:{{{self.part(stream)}}}:{stream}:{what}"

    def beat(self, what: str) -> str:
        """A part of what replicas tell with each beat; all of it lies together."""
        return f"{self.prefix}:h1:{{beat}}:{what}"

    def used(self, stream: str) -> str:
        """The stream's campaigns that callers asked for, and when; beside what beats tell."""
        return self.beat(f"used:{stream}")

    def ledger(self, account: str) -> str:
        """The account's ledger of calls."""
        return f"{self.prefix}:b1:{account}"

    @property
    def noticed(self) -> str:
        """The accounts whose ledgers all replicas are to look at."""
        return f"{self.prefix}:b1-noticed"
