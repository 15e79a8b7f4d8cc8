"""One sign of life a second for everything that a replica has to tell all the others.

A beat is one command, whatever the number of streams: it shows the replica, hands on what its callers asked for, keeps
the leads of streams in use, and brings what others told. Streams that nobody uses are not mentioned. All its keys lie
together, so it is one command in a cluster as well.
"""

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from campaign_gateway.contract.ids import is_id
from campaign_gateway.proxy.ports import USED_SECONDS
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError

LEASE_SECONDS = 3.0
"""How long a lead lasts after the beat that took or kept it: two beats may come late."""
FORGET_SECONDS = 600
"""How long a replica that is not seen any longer is remembered: longer than its calls count in any budget."""
KEEP_MILLISECONDS = 3_600_000
"""How long it is remembered which indexes were changed: as long as the indexes themselves."""
LONGEST_NOTES = 2_097_152
"""Bytes of notes on one stream that wait for its leader, which fetches them each second: room for what several replicas
tell in one beat each."""


class Note(NamedTuple):
    """What callers of one replica asked for."""

    id: str
    reads: float
    """How often since the last beat."""
    at: float
    """When they last did, by the store's clock."""


class Heard(NamedTuple):
    """What a beat brought."""

    is_forgotten: bool
    """Whether Redis knew nothing of this replica's earlier beats, or has lost what it told since."""
    published: frozenset[str]
    """Streams whose indexes other replicas have changed since the last beat."""
    led: Mapping[str, Sequence[Note]]
    """Streams that this replica leads, and what others' callers asked for of them."""


_Reply = tuple[int, int, list[bytes], list[bytes], list[bytes | None]]
"""See beat.lua."""


class Beat:
    """This replica's beats, and what the last one told of the others."""

    def __init__(self, link: RedisLink, keys: Keys, name: str) -> None:
        """Nothing is told yet.

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
        """The last one that was heard."""
        self._replicas: dict[str, float] = {}

    def replicas(self) -> Mapping[str, float]:
        """The replicas and when each was last seen, by the store's clock, as the last beat that was answered told.

        This one is among them. One that left is not; one that died is for a while (`FORGET_SECONDS`).
        """
        return self._replicas

    async def send(
        self, notes: Mapping[str, Sequence[Note]], published: Collection[str], *, may_lead: bool = True
    ) -> Heard:
        """What others told, in one trip.

        Args:
            notes: of each stream in use, what is new of it.
            published: streams whose indexes this replica has changed since its last beat.
            may_lead: whether it takes leads at all.

        Raises:
            StoreDownError: Redis is lost, or the answer is none. It may have taken the notes all the same.
        """
        names = [self._keys.beat(what) for what in ("replicas", "boards", "leads", "notes")]
        names += [self._keys.used(stream) for stream, told in notes.items() if told]
        lease = int(LEASE_SECONDS * 1000) if may_lead else 0
        limits = (FORGET_SECONDS, self._announcement, KEEP_MILLISECONDS, lease, int(USED_SECONDS), LONGEST_NOTES)
        arguments = (self.name, *limits, len(published), *published, *_flat(notes))
        answer = await self._link.execute("beat", lambda: self._beat(keys=names, args=arguments))
        try:
            return self._hear(list(notes), answer)
        except ValueError as error:
            raise StoreDownError("other") from error

    async def depart(self, led: Iterable[str]) -> None:
        """Takes this replica out and gives up the streams that it leads, in one trip.

        Raises:
            StoreDownError: Redis is lost; the leads lapse by themselves.
        """
        names = [self._keys.beat("replicas"), self._keys.beat("leads")]
        arguments = (self.name, *led)
        await self._link.execute("depart", lambda: self._depart(keys=names, args=arguments))

    def _hear(self, asked: list[str], answer: object) -> Heard:
        is_forgotten, announcement, replicas, published, notes = msgspec.convert(answer, _Reply)
        led = {stream: _read(text) for stream, text in zip(asked, notes, strict=True) if text is not None}
        seen = {name.decode(): float(at) for name, at in zip(replicas[::2], replicas[1::2], strict=True)}
        heard = Heard(bool(is_forgotten), frozenset(stream.decode() for stream in published), led)
        self._announcement, self._replicas = announcement, seen
        return heard


def _flat(notes: Mapping[str, Sequence[Note]]) -> Iterator[str | int | float]:
    for stream, told in notes.items():
        yield from (stream, len(told))
        for note in told:
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
        if is_id(id_) and math.isfinite(note.reads) and math.isfinite(note.at):
            notes.append(note)
    return notes
