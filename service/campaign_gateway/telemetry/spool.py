"""Standard error, written by a thread of its own: whoever logs never waits for whoever reads."""

import logging
import os
import select
import threading
from collections import deque

from typing_extensions import override

_log = logging.getLogger(__name__)

MOST_BYTES = 4 * 2**20
"""Of lines that wait to be written: a second of many hits. What comes when there are so many is dropped."""
_PIECE_BYTES = 2**16
"""What a pipe holds."""
LAST_SECONDS = 1.0
"""How long the end of the process waits for lines to be written."""


class SpoolHandler(logging.StreamHandler["Spool"]):
    """Writes into a spool, whose last lines are waited for when logging is shut down."""

    @override
    def close(self) -> None:
        self.stream.close()
        super().close()


class Spool:
    """A stream for `logging.StreamHandler` whose `write` returns at once.

    The thread writes to the file descriptor itself: a lock of a file object that a blocked thread holds would keep the
    interpreter from its end. It is made with the first line, so that a process that forks before that has none.
    """

    def __init__(self, descriptor: int, most_bytes: int = MOST_BYTES) -> None:
        """A spool.

        Args:
            descriptor: where lines go.
            most_bytes: how much waits at most.
        """
        self.dropped = 0
        """Lines that were not written, since nobody read the ones before them."""
        self.is_shared = False
        """Whether other processes write many lines to the same pipe, so that the kernel could mix longer pieces."""
        self._descriptor = descriptor
        self._most_bytes = most_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._untold = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Takes whole lines."""
        lines = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="write log lines", daemon=True)
                self._thread.start()
            if self._bytes + len(lines) > self._most_bytes:
                count = lines.count(b"\n")
                self.dropped += count
                self._untold += count
                return
            self._waiting.append(lines)
            self._bytes += len(lines)
            self._changed.notify_all()

    def flush(self) -> None:
        """Does nothing: lines are on their way already."""

    def close(self, seconds: float = LAST_SECONDS) -> None:
        """Returns once all is written, or after so long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                lines = b"".join(self._waiting)
                self._waiting.clear()
            self._write_all(lines)
            with self._changed:
                self._bytes -= len(lines)
                untold, self._untold = self._untold, 0
                self._changed.notify_all()
            if untold:
                _log.warning("%d log lines were dropped: nobody read standard error", untold)

    def _write_all(self, lines: bytes) -> None:
        """What fails is lost."""
        # Each piece hands the interpreter's lock back and forth with the loop's thread: few of them, if that may be.
        first, most = 0, select.PIPE_BUF if self.is_shared else _PIECE_BYTES
        while first < len(lines):
            last = lines.rfind(b"\n", first, first + most) + 1 or len(lines)
            try:
                first += os.write(self._descriptor, lines[first:last])
            except BlockingIOError:
                # Whoever shares the descriptor has made it so.
                select.select([], [self._descriptor], [])
            except OSError:
                return
