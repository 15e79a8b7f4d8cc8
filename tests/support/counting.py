"""Counting what Python does: no machine's speed changes that."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def python_calls() -> Iterator[list[str]]:
    """The names of the functions that the block calls, in order; what other tests left to the collector is not in it."""
    calls: list[str] = []
    gc.disable()
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        gc.enable()
