"""What a caller says of the trace that its request belongs to (W3C Trace Context)."""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]([0-9a-f])(-.*)?"
)
"""Section 3.2. Later versions may have more behind the flags."""


class TraceContext(NamedTuple):
    """A trace, and the caller's place in it."""

    trace_id: str
    """32 hexadecimal digits."""
    parent_id: str
    """16 of them: the caller's span."""
    is_sampled: bool
    """Whether the caller records the trace."""
    state: str = ""
    """The value of `tracestate`, as it came."""


def read_trace_context(traceparent: str, tracestate: str = "") -> TraceContext | None:
    """What the two fields say; None where the first one is not as the standard has it."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return TraceContext(found[2], found[3], found[4] in "13579bdf", tracestate)
