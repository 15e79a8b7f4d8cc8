"""One heartbeat a second for everything that a replica has to publish to all the others.

A beat is one command, whatever the number of streams: it shows the replica, publishes what its callers read, renews its
leases on streams in use, and returns what others have published. Streams that nobody uses are not mentioned. All its
keys lie together, so it is one command in a cluster as well.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from campaign_gateway.contract.ids import is_id
from campaign_gateway.proxy.ports import USED_SECONDS
from campaign_gateway.proxy.request import EVERY
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink

LEASE_SECONDS = 3.0
"""How long a lease lasts after the beat that acquired or renewed it: two beats may come late."""
FORGET_SECONDS = 600
"""How long a replica that is no longer seen is remembered: longer than its calls count in any budget."""
KEEP_MILLISECONDS = 3_600_000
"""How long it is remembered which indexes were changed: as long as the indexes themselves."""
LONGEST_NOTES = 2_097_152
"""Bytes of notes on one stream that wait for its leader, which fetches them each second: room for what several replicas
publish in one beat each."""


class Note(NamedTuple):
    """A campaign that callers of one replica have read."""

    id: str
    """`EVERY` for the stream, whose changes somebody listens to."""
    reads: float
    """How often since the last beat."""
    at: float
    """When they last did, by the store's clock."""


class BeatReply(NamedTuple):
    """What a beat returns."""

    is_forgotten: bool
    """Whether Redis knew nothing of this replica's earlier beats, or has lost what it published since."""
    published: frozenset[str]
    """Streams whose indexes other replicas have changed since the last beat."""
    leases: Mapping[str, Sequence[Note]]
    """Streams whose lease this replica holds, and what others' callers have read of them."""


_Reply = tuple[int, int, list[bytes], list[bytes], list[bytes | None]]
"""See beat.lua."""


class Beat:
    """This replica's beats, and what the last one returned of the others."""

    def __init__(self, link: RedisLink, keys: Keys, name: str) -> None:
        """Nothing is sent yet.

        Args:
            link: to Redis.
            keys: the names there.
            name: this replica's.
        """
        self.name = name
        self._link = link
        self._keys = keys
        self._beat = link.script("beat.lua")
        self._depart = link.script("depart.lua")
        self._announcement = 0
        """The last one that was received."""
        self._replicas: dict[str, float] = {}

    def replicas(self) -> Mapping[str, float]:
        """The replicas and when each was last seen, by the store's clock, as the last beat that was answered returned.

        This one is among them. One that left is not; one that died is for a while (`FORGET_SECONDS`).
        """
        return self._replicas

    async def send(
        self, notes: Mapping[str, Sequence[Note]], published: Collection[str], *, may_hold_leases: bool = True
    ) -> BeatReply:
        """Sends a beat, and returns what others have published, in one trip.

        Args:
            notes: of each stream in use, what is new of it.
            published: streams whose indexes this replica has changed since its last beat.
            may_hold_leases: whether it acquires leases at all.

        Raises:
            StoreDownError: Redis is lost, or the answer is none. It may have taken the notes all the same.
        """
        names = [self._keys.beat(what) for what in ("replicas", "indexes", "leases", "notes")]
        names += [self._keys.used(stream) for stream, reads in notes.items() if reads]
        lease = int(LEASE_SECONDS * 1000) if may_hold_leases else 0
        limits = (FORGET_SECONDS, self._announcement, KEEP_MILLISECONDS, lease, int(USED_SECONDS), LONGEST_NOTES)
        arguments = (self.name, *limits, len(published), *published, *_flat(notes))
        beat, read = partial(self._beat, keys=names, args=arguments), partial(self._read_reply, list(notes))
        return await self._link.execute("beat", beat, read)

    async def depart(self, leases: Iterable[str]) -> None:
        """Takes this replica out and releases its leases on these streams, in one trip.

        Raises:
            StoreDownError: Redis is lost; the leases lapse by themselves.
        """
        names = [self._keys.beat("replicas"), self._keys.beat("leases")]
        arguments = (self.name, *leases)
        await self._link.execute("depart", lambda: self._depart(keys=names, args=arguments), replies.nothing)

    def _read_reply(self, streams: list[str], answer: object) -> BeatReply:
        is_forgotten, announcement, replicas, published, notes = msgspec.convert(answer, _Reply)
        leases = {stream: _read(text) for stream, text in zip(streams, notes, strict=True) if text is not None}
        seen = {
            name.decode("utf-8", "replace"): float(at) for name, at in zip(replicas[::2], replicas[1::2], strict=True)
        }
        reply = BeatReply(
            bool(is_forgotten), frozenset(stream.decode("utf-8", "replace") for stream in published), leases
        )
        self._announcement, self._replicas = announcement, seen
        return reply


def _text(name: bytes) -> str:
    """A name that may be somebody else's: it stops no beat."""
    return name.decode("utf-8", "replace")


def _flat(notes: Mapping[str, Sequence[Note]]) -> Iterator[str | int | float]:
    for stream, reads in notes.items():
        yield from (stream, len(reads))
        for note in reads:
            yield from note


def _read(text: bytes) -> list[Note]:
    """The notes in the lines that beat.lua made of them; lines of another program are none."""
    notes = []
    for line in text.decode("utf-8", "replace").splitlines():
        try:
            id_, reads, at = line.split(" ")
            note = Note(id_, float(reads), float(at))
        except ValueError:
            continue
        if (id_ == EVERY or is_id(id_)) and math.isfinite(note.reads) and math.isfinite(note.at):
            notes.append(note)
    return notes
