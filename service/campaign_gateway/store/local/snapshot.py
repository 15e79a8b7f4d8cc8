"""The entries of a gateway without Redis in a file, for the process that follows it.

The laws of this module:

1. The file holds entries as they were at one moment, and then each invalidation since: that is added before the write
   that it is for leaves. So what comes back is invalidated by all that the earlier process had invalidated.
2. What the lists have shown since, and what was read, does not come back. So no entry is fresh by what it was: it is
   unverified since the file was written, until a poll of the list or a read by id validates it.
3. An entry keeps its age, whatever became of the wall clock; one from the future is none. So is all of a file in which
   anything is not as it was written.
4. One process writes a file, the first that is there. Another one on the same folder begins with what it finds, and
   takes the writing over when the first has ended.

The loop writes invalidations only; entries are written beside the file by a thread, which lets go of the interpreter
after each of them.
"""

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec

from campaign_gateway.policy.evidence import GOOD, Cause
from campaign_gateway.policy.sweeping import SETTLE_SECONDS
from campaign_gateway.store.clock import Stamp, shift_between, stamp
from campaign_gateway.store.codec import decode, encode
from campaign_gateway.store.local import records
from campaign_gateway.store.memory import Invalidated, LocalEntry, MemoryStore
from campaign_gateway.store.seal import NO_SECRET, Seal, Seals

_log = logging.getLogger(__name__)

KIND = b"campaign-gateway entries 1\n"
SAVE_SECONDS = 30.0
"""How often the file is made anew, if anything has changed."""
OTHER_BYTES = 2**24
"""What a file may hold beside the entries' bytes: keys, invalidations, checksums."""


class _HeadRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=0):
    """The first record: when the file was made."""

    at: Stamp


class _EntryRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    key: str
    seconds: float
    data: bytes


class _InvalidationRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    key: str
    by: Cause
    at: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_HeadRecord | _EntryRecord | _InvalidationRecord).decode


class Snapshot:
    """Brings the entries of a store back, and keeps them in a file from then on."""

    def __init__(
        self, folder: Path, store: MemoryStore, streams: frozenset[str], most_bytes: int, seals: Seals = NO_SECRET
    ) -> None:
        """A snapshot of a store.

        Args:
            folder: where it is; made when it is needed.
            store: what it is of. Nothing may be in it yet.
            streams: the identities of the streams; entries of others do not come back.
            most_bytes: what the store has room for.
            seals: how entries are sealed in the file.
        """
        self._seal = Seal("entry in a file", seals)
        self._folder = folder
        self._path = folder / "entries"
        self._store = store
        self._streams = streams
        self._most_bytes = most_bytes
        # One thread, so that a file that is being written when the service stops is done before the last one.
        self._thread = ThreadPoolExecutor(1, "snapshot")
        self._lock: int | None = None
        self._file: int | None = None
        """The file in its place, to append to."""
        self._meanwhile: list[bytes] | None = None
        """Invalidations while a file is being written."""
        self._saved = store.changes
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """Why entries are not written down at present; None where they are."""
        return self._fault

    async def load(self) -> None:
        """Brings back what the file holds, and begins to add invalidations to it."""
        is_owner = self._own()
        loop = asyncio.get_running_loop()
        try:
            found, size = await loop.run_in_executor(self._thread, self._read)
        except FileNotFoundError:
            found, size = [], 0
        except OSError as error:
            self._say(error)
            found, size = [], 0
        except records.DamagedError as error:
            _log.warning("%s is damaged (%s): its entries are not restored", self._path, error)
            found, size = [], 0
        if found:
            self._bring_back(found)
            _log.info("%d entries restored: they are stale until validated", len(self._store))
        if is_owner and size:
            try:
                self._file = records.open_to_append(self._path)
                os.ftruncate(self._file, size)
            except OSError as error:
                self._say(error)
        self._saved = self._store.changes
        self._store.on_invalidated = self._note

    async def run(self) -> None:
        """Writes the file again and again."""
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            await self.save()

    async def save(self) -> None:
        """Writes the file, if it is this process' and anything has changed. Never raises."""
        if self._store.changes == self._saved or not self._own():
            return
        changes, self._meanwhile = self._store.changes, []
        copy = self._store.invalidations(), self._store.entries(), stamp(self._store.now())
        descriptor = None
        try:
            loop = asyncio.get_running_loop()
            descriptor = await loop.run_in_executor(self._thread, self._write, *copy)
            for record in self._meanwhile:
                records.append(descriptor, record)
            records.put_in_place(self._path)
        except OSError as error:
            self._say(error)
            self._close(descriptor)
        else:
            self._say(None)
            self._close(self._file)
            self._file, self._saved = descriptor, changes
        finally:
            self._meanwhile = None

    async def close(self) -> None:
        """Writes the file for the last time."""
        await self.save()
        self._store.on_invalidated = None
        self._thread.shutdown()
        self._close(self._file)
        self._close(self._lock)

    def _note(self, invalidation: Invalidated) -> None:
        """Adds an invalidation, before anybody acts on it."""
        record = _encode(_InvalidationRecord(*invalidation))
        if self._meanwhile is not None:
            self._meanwhile.append(record)
        if self._file is None:
            return
        try:
            records.append(self._file, record)
        except OSError as error:
            # It is empty now, and of no use to anybody.
            self._say(error)
            self._close(self._file)
            self._file = None

    def _own(self) -> bool:
        """Whether the file is this process' to write."""
        if self._lock is not None:
            return True
        lock = None
        try:
            records.make_folder(self._folder)
            lock = os.open(self._folder / "entries.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, records.MODE)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close(lock)
            return False
        except OSError as error:
            self._say(error)
            self._close(lock)
            return False
        self._lock = lock
        return True

    def _write(self, invalidations: Sequence[Invalidated], entries: Iterable[LocalEntry], written: Stamp) -> int:
        return records.write_beside(self._path, KIND, _contents(invalidations, entries, written, self._seal))

    def _read(self) -> tuple[list[_HeadRecord | Invalidated | LocalEntry], int]:
        """The content in its order, the first being the file's own, and the bytes of it that are whole."""
        if self._path.stat().st_size > self._most_bytes + OTHER_BYTES:
            raise records.DamagedError("it is larger than entries may be")
        whole, size = records.unframe(self._path.read_bytes(), KIND)
        return list(_understood(whole, self._seal)), size

    def _bring_back(self, found: Iterable[_HeadRecord | Invalidated | LocalEntry]) -> None:
        now = self._store.now()
        shift, unverified_since = 0.0, now
        for item in found:
            match item:
                case _HeadRecord(at):
                    shift = shift_between(at, stamp(now))
                    # Nothing was missed that would have to settle first: the first poll may validate an entry.
                    unverified_since = at.now + shift - SETTLE_SECONDS
                case Invalidated(key, by, at):
                    if self._is_ours(key):
                        self._store.invalidate_here(key, by, min(at + shift, now))
                case LocalEntry(key, stored, _, seconds):
                    validated_at = stored.validated_at + shift
                    if self._is_ours(key) and now - seconds < validated_at <= now:
                        self._store.restore(key, replace(stored, validated_at=validated_at), seconds, unverified_since)

    def _is_ours(self, key: str) -> bool:
        return key.partition(":")[0] in self._streams

    def _say(self, error: OSError | None) -> None:
        """Notes whether entries can be written down, and logs a change of that."""
        was, self._fault = self._fault, None if error is None else error.strerror or str(error)
        if self._fault is not None and was is None:
            _log.warning("entries cannot be written to %s (%s): a restart starts cold", self._folder, self._fault)
        elif self._fault is None and was is not None:
            _log.info("entries are written to %s again", self._folder)

    @staticmethod
    def _close(descriptor: int | None) -> None:
        if descriptor is not None:
            os.close(descriptor)


def _contents(
    invalidations: Sequence[Invalidated], entries: Iterable[LocalEntry], written: Stamp, seal: Seal
) -> Iterator[bytes]:
    """The records of a file. An invalidation matters for what stands before it."""
    yield _encode(_HeadRecord(written))
    for invalidation in invalidations:
        yield _encode(_InvalidationRecord(*invalidation))
    for key, stored, evidence, seconds in entries:
        if stored.absence is not None:
            # It is over by the next start.
            continue
        yield _encode(_EntryRecord(key, seconds, encode(stored, key, seal)))
        if evidence.invalidation is not None and evidence.invalidation.is_open:
            yield _encode(_InvalidationRecord(key, evidence.invalidation.by, evidence.invalidation.at))
        # The loop wants the interpreter, and would get it only after five milliseconds.
        time.sleep(0)


def _understood(whole: Iterable[bytes], seal: Seal) -> Iterator[_HeadRecord | Invalidated | LocalEntry]:
    for number, record in enumerate(whole):
        try:
            item: _HeadRecord | _EntryRecord | _InvalidationRecord = _decode(record)
        except (ValueError, RecursionError) as error:
            raise records.DamagedError("a record is no such thing") from error
        if isinstance(item, _HeadRecord) != (number == 0):
            raise records.DamagedError("its first record is not the first")
        match item:
            case _HeadRecord():
                yield item
            case _InvalidationRecord(key, by, at):
                yield Invalidated(key, by, at)
            case _EntryRecord(key, seconds, data):
                stored = decode(data, key, seal)
                if stored is None:
                    raise records.DamagedError("an entry is of another version, or sealed with another key")
                yield LocalEntry(key, stored, GOOD, seconds)
