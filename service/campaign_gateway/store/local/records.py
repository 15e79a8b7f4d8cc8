"""Files of records, each under a checksum: what a process leaves to the next one on its machine.

The laws of this module:

1. A file comes into being whole: it is written beside its place and renamed.
2. A record is appended by one write. A process that is killed in the middle leaves a beginning of it at the end of the
   file, and that counts as never written.
3. Any other difference from what was written shows, and then nothing in the file is believed.

Nothing waits for the disk. What was written survives the end of the process, whatever ends it, for the system has it;
it need not survive the end of the machine.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path
from struct import Struct

MODE = 0o600
FOLDER_MODE = 0o700
_HEAD = Struct(">II")
"""Length and checksum of the record that follows."""
LARGEST_RECORD_BYTES = 2**28
_OPEN = os.O_CLOEXEC | os.O_NOFOLLOW


class DamagedError(Exception):
    """The file does not hold what was written."""


def frame(record: bytes) -> bytes:
    """A record as it stands in the file."""
    return _HEAD.pack(len(record), zlib.crc32(record)) + record


def unframe(content: bytes, kind: bytes) -> tuple[list[bytes], int]:
    """The whole records of a file.

    Args:
        content: all of it.
        kind: how a file of this kind begins.

    Returns:
        The records, one at least, and the bytes up to the end of the last: what follows was cut off.

    Raises:
        DamagedError: it is something else.
    """
    if not content.startswith(kind):
        raise DamagedError("it is of another kind or version")
    records, end = [], len(kind)
    while len(content) - end >= _HEAD.size:
        length, checksum = _HEAD.unpack_from(content, end)
        start = end + _HEAD.size
        if length > LARGEST_RECORD_BYTES:
            raise DamagedError("a length cannot be true")
        if start + length > len(content):
            break
        record = content[start : start + length]
        if zlib.crc32(record) != checksum:
            raise DamagedError("a checksum is wrong")
        records.append(record)
        end = start + length
    if not records:
        raise DamagedError("it ends before its first record")
    return records, end


def open_to_append(path: Path) -> int:
    """A descriptor of a file that is there.

    Raises:
        OSError: it is not, or may not be written.
    """
    return os.open(path, os.O_RDWR | os.O_APPEND | _OPEN)


def append(descriptor: int, record: bytes) -> None:
    """Adds a record. A file that it cannot be added to is emptied, so that nobody takes it for complete.

    Raises:
        OSError: it could not be added.
    """
    framed = frame(record)
    try:
        written = os.write(descriptor, framed)
    except OSError:
        os.ftruncate(descriptor, 0)
        raise
    if written != len(framed):
        os.ftruncate(descriptor, 0)
        raise OSError("no space for a whole record")


def write_beside(path: Path, kind: bytes, records: Iterable[bytes]) -> int:
    """A descriptor, to append to, of a new file that holds the records; `put_in_place` gives it its name.

    Raises:
        OSError: it could not be written.
    """
    descriptor = os.open(_beside(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | _OPEN, MODE)
    try:
        os.fchmod(descriptor, MODE)
        with os.fdopen(descriptor, "ab", closefd=False) as file:
            file.write(kind)
            for record in records:
                file.write(frame(record))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def put_in_place(path: Path) -> None:
    """Lets what was written beside take the place of what is there.

    Raises:
        OSError: it could not.
    """
    _beside(path).replace(path)


def make_folder(folder: Path) -> None:
    """The folder, for nobody else to read, if it is not there.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.new")
