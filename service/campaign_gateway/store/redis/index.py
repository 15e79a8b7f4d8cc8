"""What polls of the streams' lists have shown, in Redis for all replicas.

A stream's index is a head, a row per campaign, and an order of the rows by the number of the change that wrote
them; the three change together, by one script that also checks that nobody else has changed them since. So a leader
that was deposed without noticing changes nothing, and a replica that has seen change n pulls what came after it.

Head and rows are sealed. What stands there and is no index, or holds a row that is none, is nothing to anybody, and the
next publication takes its place.
"""

import asyncio
import contextlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import msgspec
from typing_extensions import override

from campaign_gateway.contract.ids import is_id
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, IndexState, apply, believed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import USED_SECONDS, CampaignIndex
from campaign_gateway.proxy.request import EVERY
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.local.index import NOTHING
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.beat import LEASE_SECONDS, Beat, Note
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.changes import RedisChanges
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink, StoreDownError
from campaign_gateway.store.seal import NO_SECRET, Refusal, Seal, Seals
from campaign_gateway.store.usage import Usage
from campaign_gateway.store.waits import Changes, Wakes

_log = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
"""How often a replica publishes what its callers read, renews its leases, and learns of changes that the bus lost."""
MAX_NOTES = 5_000
"""Campaigns in one beat, so that none takes long; the others go with the next."""
TOGETHER = 4
"""Indexes, or uses of streams, that are fetched at a time: a new replica needs all, and its callers need Redis too."""
KEEP_MILLISECONDS = 3_600_000
_EPOCH_BYTES = 16

_encode = msgspec.msgpack.Encoder().encode
_heads = msgspec.msgpack.Decoder(IndexState)
_rows = msgspec.msgpack.Decoder(IndexedCampaign)


class RedisIndex(CampaignIndex):
    """What lists have shown, for all replicas on one Redis. Only `publish` costs a trip of its own."""

    def __init__(
        self,
        link: RedisLink,
        bus: Bus,
        beat: Beat,
        keys: Keys,
        epoch: Epoch,
        seals: Seals = NO_SECRET,
        log: RedisChanges | None = None,
    ) -> None:
        """An index that ends the epoch whenever `snapshot` says something else, and adds to the log what changes."""
        self._log = log or RedisChanges(link, keys, seals)
        self._epoch = epoch
        self._link = link
        self._bus = bus
        self._beat = beat
        self._keys = keys
        self._changes, self._wakes = Changes(), Wakes()
        self._publish = link.script("publish_index.lua")
        self._pull = link.script("pull_index.lua")
        self._snapshots: dict[str, IndexSnapshot] = {}
        self._epochs: dict[str, bytes] = {}
        self._foreign: dict[str, bytes] = {}
        """Where no index is found but something else, how that begins."""
        self._seal = Seal("index", seals)
        self._usage = Usage(self._wakes.notify)
        self._unsent: dict[str, dict[str, int]] = {}
        """Reads by stream and campaign that no beat has published yet."""
        self._published: set[str] = set()
        """Streams whose indexes this replica has changed, and no beat has published that yet."""
        self._streams: frozenset[str] = frozenset()
        self._behind: set[str] = set()
        """Streams whose indexes are to be looked at."""
        self._is_behind = asyncio.Event()
        self._together = asyncio.Semaphore(TOGETHER)
        self._may_hold_leases: Callable[[], bool] = lambda: True
        self._leases: frozenset[str] = frozenset()
        self._leases_until = 0.0
        """Monotonic time at which the leases may end, counted from before the beat that acquired them was sent."""
        self._leases_on = 0
        """The link's generation then: another server knows of no lease."""

    def start(
        self, tasks: Tasks, streams: Iterable[str], *, may_hold_leases: Callable[[], bool] = lambda: True
    ) -> None:
        """Keeps up with the indexes of these streams, and takes its part in looking after them.

        Args:
            tasks: where that runs.
            streams: the indexes.
            may_hold_leases: says whether anybody here looks after the streams whose leases this replica holds.
        """
        self._streams = frozenset(streams)
        self._may_hold_leases = may_hold_leases
        self._bus.on_published = self._fall_behind
        tasks.supervise(self._keep_beating, name="beat")
        tasks.supervise(self._keep_up, name="pull indexes")

    @override
    def snapshot(self, stream: str) -> IndexSnapshot:
        return self._snapshots.get(stream) or NOTHING

    @override
    def record_use(self, stream: str, id_: str, now: float) -> None:
        """Published with the next beat."""
        if self._usage.note(stream, id_, now):
            unsent = self._unsent.setdefault(stream, {})
            unsent[id_] = unsent.get(id_, 0) + 1

    @override
    def record_listening(self, stream: str, now: float) -> None:
        """Published with the next beat."""
        self._usage.listen(stream, now)
        self._unsent.setdefault(stream, {})[EVERY] = 1

    @override
    def is_listened(self, stream: str) -> bool:
        return self._usage.is_listened(stream, self._link.clock.now())

    @override
    def used(self, stream: str) -> Mapping[str, float]:
        return self._usage.used(stream, self._link.clock.now())

    @override
    def interest(self, stream: str) -> Mapping[str, float]:
        return self._usage.interest(stream, self._link.clock.now())

    @override
    def is_leading(self, stream: str) -> bool:
        """Nobody is while Redis is lost, since all would be."""
        return stream in self._leases and self._has_leases()

    def _has_leases(self) -> bool:
        is_same_server = self._link.is_up and self._link.generation == self._leases_on
        return is_same_server and time.monotonic() < self._leases_until

    @override
    async def wait_for_change(self, stream: str, seconds: float) -> None:
        await self._changes.wait(stream, seconds)

    @override
    async def wait(self, stream: str, seconds: float) -> None:
        await self._wakes.wait(stream, seconds)

    @override
    async def publish(self, stream: str, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> bool:
        """One trip, and one before it if there may be something for the log."""
        epoch = self._epochs.get(stream, b"")
        # Not the number of the snapshot as it stands: another leader's change may have been pulled meanwhile.
        is_first = not epoch and state.number == 1
        read = self._foreign.get(stream, b"") if is_first else b"%s%016d" % (epoch, state.number - 1)
        epoch_now = epoch or uuid.uuid4().hex[:_EPOCH_BYTES].encode()
        head, rows, *_ = names = self._names(stream)
        updated = ((id_, self._seal.close(_encode(row), f"{rows}:{id_}")) for id_, row in updates.items())
        arguments = (
            read,
            epoch_now,
            state.number,
            self._seal.close(_encode(state), head),
            KEEP_MILLISECONDS,
            self._keys.channel,
            self._bus.replica_id,
            stream,
        )
        flat = list(itertools.chain.from_iterable(updated))

        async def publish(added: Sequence[bytes | str | int]) -> int:
            command = partial(self._publish, keys=[*names, *self._log.names(stream)], args=[*arguments, *added, *flat])
            return await self._link.execute("publish_index", command, replies.addition)

        now = self._link.clock.now()
        try:
            is_published = await self._log.add_all(stream, self.snapshot(stream), state, updates, now, publish)
        except StoreDownError:
            return False
        self._link.meter.store_operation("redis", "publish_index", "stored" if is_published else "contended")
        if not is_published:
            self._fall_behind(stream)
            return False
        self._epochs[stream] = epoch_now
        self._foreign.pop(stream, None)
        self._published.add(stream)
        self._show(stream, apply(self.snapshot(stream), state, updates))
        return True

    async def depart(self) -> None:
        """Releases the leases of this replica, and takes it out of those that are there. One trip."""
        leases, self._leases = self._leases, frozenset()
        try:
            await self._beat.depart(sorted(leases))
        except StoreDownError:
            return

    async def _keep_beating(self) -> None:
        while True:
            with contextlib.suppress(StoreDownError):
                await self.beat()
            await asyncio.sleep(BEAT_SECONDS)

    async def beat(self) -> None:
        """Publishes what is new here, and takes over what others published: one trip, and one for each new lease.

        Raises:
            StoreDownError: Redis is lost. This replica holds no lease then, and publishes the same once more.
        """
        sent, generation = time.monotonic(), self._link.generation
        notes, published = self._take_notes(), self._published
        self._published = set()
        try:
            reply = await self._beat.send(notes, published, may_hold_leases=self._may_hold_leases())
        except BaseException:
            self._published |= published
            self._give_back(notes)
            self._hold(frozenset())
            raise
        for stream, reads in reply.leases.items():
            self._note_use(stream, reads)
        # With what could not be looked at before.
        self._fall_behind(*self._behind, *reply.published, *(self._snapshots if reply.is_forgotten else ()))
        self._leases_until, self._leases_on = sent + LEASE_SECONDS, generation
        leases = frozenset(reply.leases)
        self._hold(self._leases & leases)
        await self._take_over(leases - self._leases)
        self._hold(leases)

    def _take_notes(self) -> dict[str, list[Note]]:
        """What the next beat publishes of each stream in use."""
        room = MAX_NOTES
        notes: dict[str, list[Note]] = {stream: [] for stream in self._usage.streams(self._link.clock.now())}
        for stream in list(self._unsent):
            unsent = self._unsent.pop(stream)
            sent = dict(itertools.islice(unsent.items(), room))
            room -= len(sent)
            if len(sent) < len(unsent):
                self._unsent[stream] = dict(itertools.islice(unsent.items(), len(sent), None))
            used = ((id_, reads, self._usage.used_at(stream, id_)) for id_, reads in sent.items())
            if stream in notes:
                # Redis may have been lost for so long that some are no longer of interest.
                notes[stream] = [Note(id_, reads, at) for id_, reads, at in used if at is not None]
        return notes

    def _give_back(self, notes: Mapping[str, Sequence[Note]]) -> None:
        for stream, reads in notes.items():
            unsent = self._unsent.setdefault(stream, {}) if reads else {}
            for note in reads:
                unsent[note.id] = unsent.get(note.id, 0) + int(note.reads)

    def _note_use(self, stream: str, notes: Iterable[Note]) -> None:
        now = self._link.clock.now()
        for note in notes:
            # From the future are those of a clock that was wrong; they would be in use for ever.
            if note.id == EVERY:
                self._usage.listen(stream, min(note.at, now))
            else:
                self._usage.note(stream, note.id, min(note.at, now), note.reads)

    async def _take_over(self, streams: Iterable[str]) -> None:
        """Finds out what callers of all replicas read before this one had the lease."""
        await asyncio.gather(*map(self._take_over_one, streams))

    async def _take_over_one(self, stream: str) -> None:
        name, since = self._keys.used(stream), self._link.clock.now() - USED_SECONDS
        try:
            async with self._together:
                used = partial(self._link.client.zrangebyscore, name, since, "+inf", withscores=True)
                rows = await self._link.execute("used", used, replies.scored)
        except StoreDownError:
            # What its own callers read, it knows; if Redis is lost, it does not hold the lease either.
            return
        ids = ((id_.decode("utf-8", "replace"), at) for id_, at in rows)
        # Whatever else stands there, only what can be an id may get into the path of a call.
        self._note_use(stream, (Note(id_, 0, at) for id_, at in ids if id_ == EVERY or is_id(id_)))

    def _hold(self, streams: frozenset[str]) -> None:
        """From now on these leases are held; whoever looks after a stream whose lease came or went is woken."""
        updates = self._leases ^ streams
        self._leases = streams
        for stream in updates:
            self._wakes.notify(stream)

    def _fall_behind(self, *streams: str) -> None:
        """The indexes of these streams are to be looked at."""
        if behind := self._streams.intersection(streams):
            self._behind |= behind
            self._is_behind.set()

    async def _keep_up(self) -> None:
        while True:
            await self._is_behind.wait()
            self._is_behind.clear()
            behind, self._behind = self._behind, set()
            await asyncio.gather(*map(self._keep_up_with, behind))

    async def _keep_up_with(self, stream: str) -> None:
        try:
            async with self._together:
                await self.pull(stream)
        except StoreDownError:
            # The next beat that is answered tries again.
            self._behind.add(stream)
        except Exception:  # noqa: BLE001 - logged with its traceback
            # Or no index would be pulled any longer.
            _log.exception("campaign index cannot be pulled: the next heartbeat tries again")
            self._behind.add(stream)

    async def pull(self, stream: str) -> None:
        """Takes over what has been published since it was last looked at, in one trip.

        Raises:
            StoreDownError: Redis is lost.
        """
        epoch, snapshot = self._epochs.get(stream, b""), self.snapshot(stream)
        names, arguments = self._names(stream)[:3], (epoch, snapshot.state.number)
        pull = partial(self._pull, keys=names, args=arguments)
        found = await self._link.execute("pull_index", pull, replies.index)
        if self.snapshot(stream) is not snapshot:
            # This replica has published meanwhile.
            return
        self._foreign.pop(stream, None)
        if found is None:
            # Nothing new.
            return
        stamp, *_ = found
        epoch_now = stamp[:_EPOCH_BYTES]
        opened = self._opened(names, found)
        if opened is None:
            self._epochs.pop(stream, None)
            self._foreign[stream] = stamp
            if snapshot is not NOTHING:
                self._show(stream, NOTHING)
            return
        state_now, updates = opened
        is_next = epoch_now == epoch and state_now.number > snapshot.state.number
        new = believed(IndexSnapshot(state_now, updates), self._link.clock.now())
        self._show(stream, apply(snapshot if is_next else NOTHING, new.state, new.campaigns))
        self._epochs[stream] = epoch_now

    def _opened(
        self, names: list[str], found: tuple[bytes, bytes, list[bytes]]
    ) -> tuple[IndexState, dict[str, IndexedCampaign]] | None:
        """What pull_index.lua found; None where others than replicas of this version and key have written it."""
        head, rows, _ = names
        try:
            stamp, sealed, changed = found
            if not stamp:
                return IndexState(), {}
            payload = self._seal.open(sealed, head)
            if payload is None:
                return None
            state = _heads.decode(payload)
            updates = {}
            for id_, row in zip(changed[::2], changed[1::2], strict=True):
                payload = self._seal.open(row, f"{rows}:{id_.decode()}")
                if payload is None:
                    return None
                updates[id_.decode()] = _rows.decode(payload)
        except (ValueError, RecursionError):
            self._seal.refuse(Refusal.FORM)
            return None
        return (state, updates) if stamp[_EPOCH_BYTES:] == b"%016d" % state.number else None

    def step(self) -> None:
        """Goes on after a step of the shared clock."""
        for stream, snapshot in list(self._snapshots.items()):
            self._show(stream, believed(snapshot, self._link.clock.now()))

    def _show(self, stream: str, snapshot: IndexSnapshot) -> None:
        self._snapshots[stream] = snapshot
        self._epoch.end()
        self._changes.notify(stream)
        self._wakes.notify(stream)

    def _names(self, stream: str) -> list[str]:
        return [
            self._keys.index(stream, "head"),
            self._keys.index(stream, "rows"),
            self._keys.index(stream, "order"),
            self._keys.sequence(stream),
        ]
