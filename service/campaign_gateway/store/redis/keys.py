"""What things are called in Redis.

A script may touch several keys only where they lie on one node: in a cluster, where their names hold the same text in
braces. So the keys of entries are partitioned, and each partition has a counter of its messages on the bus beside them.
"""

import zlib
from dataclasses import dataclass

from campaign_gateway.proxy.request import group_of

CLUSTER_PARTITIONS = 64
"""Enough to spread over any number of nodes that one gateway needs."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The names under one prefix, which all replicas share."""

    prefix: str
    partitions: int = 1
    """One where a single server holds everything: then each message on the bus follows the one before it."""

    @property
    def channel(self) -> str:
        """The bus."""
        return f"{self.prefix}:bus"

    @property
    def clock(self) -> str:
        """By how many seconds the clock that all share is ahead of the server's."""
        return f"{self.prefix}:clock"

    def partition(self, key: str) -> int:
        """The partition that an entry's key belongs to."""
        return zlib.crc32(key.encode()) % self.partitions if self.partitions > 1 else 0

    def entry(self, key: str) -> str:
        """The entry and its fence."""
        return f"{self.prefix}:entry:{{{self.partition(key)}}}:{key}"

    def group_fence(self, key: str) -> str:
        """The fence of all answers that the entry belongs to, beside it: each partition has its own."""
        return self.group_fence_in(self.partition(key), group_of(key))

    def group_fence_in(self, partition: int, group: str) -> str:
        """The same, by partition."""
        return f"{self.prefix}:fence:{{{partition}}}:{group}"

    def sequence(self, key: str) -> str:
        """The number of the last message about its partition."""
        return self.sequence_in(self.partition(key))

    def sequence_in(self, partition: int) -> str:
        """The same, by partition."""
        return f"{self.prefix}:sequence:{{{partition}}}"

    def probe_in(self, partition: int) -> str:
        """What is never there: whether it could be written says whether the partition can."""
        return f"{self.prefix}:probe:{{{partition}}}"

    def lease(self, key: str) -> str:
        """Which replica fills it."""
        return f"{self.prefix}:lease:{{{self.partition(key)}}}:{key}"

    def index(self, stream: str, what: str) -> str:
        """A part of what is known of the stream's list."""
        return f"{self.prefix}:index:{{{self.partition(stream)}}}:{stream}:{what}"

    def beat(self, what: str) -> str:
        """A part of what replicas publish with each beat; all of it lies together."""
        return f"{self.prefix}:{{beat}}:{what}"

    def used(self, stream: str) -> str:
        """The stream's campaigns that callers asked for, and when; beside what comes with beats."""
        return self.beat(f"used:{stream}")

    def webhook(self, name: str) -> str:
        """How far a webhook is, and who sends to it."""
        return f"{self.prefix}:webhook:{name}"

    def ledger(self, account: str) -> str:
        """The account's ledger of calls."""
        return f"{self.prefix}:ledger:{account}"

    @property
    def noticed(self) -> str:
        """The accounts whose ledgers all replicas are to look at."""
        return f"{self.prefix}:noticed-ledgers"
