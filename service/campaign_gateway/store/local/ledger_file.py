"""The ledgers of a gateway without Redis, written down for the process that follows it, and for others beside it.

The laws of this module:

1. A change is in the file before anybody acts on it. So a process that is killed leaves no call that its successor does
   not know of.
2. A file that is not there is a first start, and one that is not what was written is a window that counts as spent.
3. All processes of the machine that are given the same folder change a file one at a time, under a lock of the system's
   that ends with its holder. So they keep one budget together, also while one takes over from another.
4. Where the file cannot be written, the ledger is this process' own, as if there were no file: that is said once. What
   was written before does not stand for it: it is emptied, which is a spent window to whoever reads it.

Its limits: the folder has to be on a disk of this machine, for a write waits for nothing but the system's memory there;
and where a process is stopped in the few microseconds for which it holds the lock, the others lose the ledger until it
goes on (`LedgerLostError`).
"""

import asyncio
import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from typing_extensions import override

from campaign_gateway.policy.backoff import Backoff
from campaign_gateway.policy.ledger import Allowance, Ledger
from campaign_gateway.policy.restart import all_spent, left_behind, taken_over
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers
from campaign_gateway.store.clock import Stamp, StoreClock, shift_between, stamp
from campaign_gateway.store.local import records
from campaign_gateway.store.local.ledgers import Step

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

KIND = b"campaign-gateway ledger 2\n"
LARGEST_FILE_BYTES = 2**18
"""A file that has grown beyond this is made anew of its last record."""
LOCK_SECONDS = 0.25
"""How long another process may hold the lock; it needs a thousandth of that."""
FIRST_LOOK_SECONDS = 0.0005
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


class _LedgerRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The whole of a ledger: the last record of a file is the one in force."""

    written: Stamp
    ledger: Ledger


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_LedgerRecord).decode


@dataclass(frozen=True, slots=True)
class _Known:
    """A ledger as this process left it, and the file that it is in."""

    ledger: Ledger
    inode: int = 0
    """Zero where it could not be written."""
    size: int = 0


class FileLedgers(Ledgers):
    """The ledgers of the processes of one machine that share a folder.

    A change reads and writes a few kilobytes, which are in the system's memory. It waits only for the lock.
    """

    is_local = True
    reports_ends = True

    def __init__(self, folder: Path, platform: str, allowance: Callable[[str], Allowance], clock: StoreClock) -> None:
        """The ledgers of a platform's accounts.

        Args:
            folder: where the files are, one for each account; it is made when it is needed.
            platform: its URL; those of other platforms have other files.
            allowance: what an account may do.
            clock: the clock of all instants.
        """
        self._folder = folder
        self._lock_path = folder / "lock"
        self._paths: dict[str, Path] = {}
        self._platform = platform
        self._allowance = allowance
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._fault: str | None = None

    @property
    def fault(self) -> str | None:
        """Why calls are not written down at present; None where they are."""
        return self._fault

    @override
    def now(self) -> float:
        return self._clock.now()

    @property
    @override
    def uncertainty(self) -> float:
        return 0.0

    @override
    def server(self, account: str) -> str:
        return ""

    @override
    async def change(self, account: str, step: Step[_T]) -> _T:
        async with self._locked():
            known = self._read(account)
            ledger, result = step(None if known is None else known.ledger, self.now())
            self._known[account] = self._written(account, ledger, known)
            return result

    @override
    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        """Other processes read the file with their own next change."""
        return frozenset()

    async def open(self) -> None:
        """Finds out whether the folder can be written, so that a fault is said at the start."""
        async with self._locked():
            return

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """While nobody else changes a file. Where the folder cannot be written, there is nothing to lock."""
        try:
            lock = self._open_lock()
        except OSError as error:
            self._say(error)
            yield
            return
        try:
            await _take(lock)
            yield
        finally:
            # Ends the lock too.
            os.close(lock)

    def _open_lock(self) -> int:
        try:
            return os.open(self._lock_path, _OPEN_LOCK, records.MODE)
        except FileNotFoundError:
            records.make_folder(self._folder)
            return os.open(self._lock_path, _OPEN_LOCK, records.MODE)

    def _read(self, account: str) -> _Known | None:
        """The ledger in force, and where it is."""
        known, path = self._known.get(account), self._path(account)
        if known is not None and not known.inode:
            # What the file holds, if there is one, is older.
            return known
        try:
            found = path.stat()
            if known is not None and (known.inode, known.size) == (found.st_ino, found.st_size):
                return known
            content = path.read_bytes()
        except FileNotFoundError:
            # A first start; or somebody has tidied up, and what this process knows goes back.
            return None if known is None else _Known(known.ledger)
        except OSError as error:
            self._say(error)
            return known
        try:
            whole, size = records.unframe(content, KIND)
            record = _decode(whole[-1])
        except (records.DamagedError, ValueError, RecursionError) as error:
            _log.warning("%s is damaged (%s): the window counts as spent", path, error)
            return _Known(all_spent(self._allowance(account), self.now()))
        now = self.now()
        shift = shift_between(record.written, stamp(now))
        ledger = taken_over(record.ledger, self._allowance(account), shift, now)
        if size < len(content):
            # The end of one that was killed while it wrote: made anew, so that nothing follows it.
            return _Known(ledger)
        return _Known(ledger, found.st_ino, size)

    def _written(self, account: str, ledger: Ledger, before: _Known | None) -> _Known:
        """The ledger, and where it is now."""
        path, record = self._path(account), _encode(_LedgerRecord(stamp(self.now()), left_behind(ledger)))
        try:
            if before is not None and before.inode and before.size < LARGEST_FILE_BYTES:
                descriptor = records.open_to_append(path)
            else:
                descriptor = records.write_beside(path, KIND, [])
            try:
                records.append(descriptor, record)
                if before is None or not before.inode or before.size >= LARGEST_FILE_BYTES:
                    records.put_in_place(path)
                found = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._say(error)
            return _Known(ledger)
        self._say(None)
        return _Known(ledger, found.st_ino, found.st_size)

    def _path(self, account: str) -> Path:
        path = self._paths.get(account)
        if path is None:
            name = hashlib.blake2b(f"{self._platform}\n{account}".encode(), digest_size=12).hexdigest()
            path = self._paths[account] = self._folder / f"{name}.ledger"
        return path

    def _say(self, error: OSError | None) -> None:
        """Notes whether calls can be written down, and logs a change of that."""
        was, self._fault = self._fault, None if error is None else error.strerror or str(error)
        if self._fault is not None and was is None:
            _log.warning(
                "calls cannot be written to %s (%s): a restart loses them, and may spend the budget again",
                self._folder,
                self._fault,
            )
        elif self._fault is None and was is not None:
            _log.info("calls are written to %s again", self._folder)


async def _take(lock: int) -> None:
    """The lock, had within `LOCK_SECONDS`."""
    pause, waited = Backoff(FIRST_LOOK_SECONDS, LOCK_SECONDS).grown(), 0.0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                # A file system without locks: better to write without than not at all.
                return
        else:
            return
        if waited >= LOCK_SECONDS:
            raise LedgerLostError("another process holds its file")
        await asyncio.sleep(pause.current)
        waited += pause.current
        pause = pause.grown()
