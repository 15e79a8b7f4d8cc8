"""What a drill puts into the processes that it looks at: another clock, and a watch over the longest turn of the loop."""

import mmap
import struct
from pathlib import Path

_TICK_SECONDS = 0.005

# Runs at the start of each Python that finds it on its path. A tick measures the processor time that the loop's thread has used
# since the one before: on a shared machine the time on a clock is mostly that of other processes.
_WATCH = f"""
import asyncio, mmap, os, struct, time

_set_up = asyncio.Runner._lazy_init

def _watched(runner):
    began = runner._loop is None
    _set_up(runner)
    if not began:
        return
    with open(os.path.join({{folder!r}}, f"turn-{{{{os.getpid()}}}}"), "w+b") as file:
        file.truncate(8)
        page = mmap.mmap(file.fileno(), 8)
    loop = runner._loop
    last = None

    def tick():
        nonlocal last
        now = time.thread_time()
        if last is not None and now - last > struct.unpack("d", page[:])[0]:
            page[:] = struct.pack("d", now - last)
        last = now
        loop.call_later({_TICK_SECONDS}, tick)

    # The first second is the start, when nothing is served.
    loop.call_later(1.0, tick)

asyncio.Runner._lazy_init = _watched
"""


class TurnWatch:
    """The longest turns of the event loops of all processes that were started with `environ`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(_WATCH.format(folder=str(folder)))
        self._folder = folder

    @property
    def environ(self) -> dict[str, str]:
        """For the processes to be watched."""
        return {"PYTHONPATH": str(self._folder)}

    def longest(self) -> float:
        """Seconds of processor time of the longest one so far, up to some milliseconds too much; 0.0 if there was none."""
        pages = (path.read_bytes() for path in self._folder.glob("turn-*"))
        return max(
            (float(struct.unpack("d", page)[0]) for page in pages if len(page) == mmap.PAGESIZE or page), default=0.0
        )


class FakedClock:
    """A wall clock that a drill can step, for processes that were started with `environ`. Monotonic clocks stay as they are."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step(0.0)

    @property
    def environ(self) -> dict[str, str]:
        """For the processes that shall live by this clock.

        Raises:
            FileNotFoundError: libfaketime is not there; `tools/setup-drills` installs it.
        """
        library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
        if library is None:
            raise FileNotFoundError("libfaketime is not installed: run tools/setup-drills")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def step(self, seconds: float) -> None:
        """From about a second on it is so far off the true one."""
        self._file.write_text(f"{seconds:+.3f}\n")
