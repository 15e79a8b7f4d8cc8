"""The two bounds on staleness that are published for a stream, and for each of its channels."""

from dataclasses import dataclass

from service.contract.listing import Channel
from service.policy.sweeping import Head
from service.proxy.ports import Board, Store

LATE_FACTOR = 3.0
"""A poll that is later than so many times what its proof is good for is not expected any more."""


@dataclass(frozen=True, slots=True)
class StatedBounds:
    """How soon changes are seen, in seconds: what is published, and what answers hold to."""

    signal: float
    """A change that moves a mark."""
    blind: float
    """Any change, of a campaign in use."""
    is_proving: bool
    """Whether polls give these bounds; else the lifetimes do."""


def stated_bounds(board: Board, store: Store, longest: float, stream: str) -> StatedBounds:
    """The bounds of all campaigns of a stream at this moment: those of the slowest of its channels that are polled.

    Args:
        board: where its list is known.
        store: whose clock counts.
        longest: the longest lifetime, which counts while no poll proves anything.
        stream: its identity.
    """
    head, now = board.view(stream).head, store.now()
    each = [_of_channel(head, channel, now, longest) for channel in head.paced]
    # Until a full scan has come to its end, some campaigns are not known yet, and nothing is said of them.
    are_known = all(channel in head.rounds and head.rounds[channel].walked for channel in head.paced)
    if not each or not are_known or not all(bounds.is_proving for bounds in each):
        return StatedBounds(longest, longest, is_proving=False)
    return StatedBounds(max(bounds.signal for bounds in each), max(bounds.blind for bounds in each), is_proving=True)


def bounds_of(board: Board, store: Store, longest: float, stream: str, campaign: str) -> StatedBounds:
    """The same for one campaign: those of its channel, if the list has shown it."""
    view = board.view(stream)
    known = view.known.get(campaign)
    if known is None or not known.is_listed:
        return StatedBounds(longest, longest, is_proving=False)
    return _of_channel(view.head, known.channel, store.now(), longest)


def _of_channel(head: Head, channel: Channel, now: float, longest: float) -> StatedBounds:
    last = head.rounds.get(channel)
    if last is None or channel in head.flaws or now > last.began + LATE_FACTOR * last.lasts:
        return StatedBounds(longest, longest, is_proving=False)
    # A poll that is late makes the bound wider, second by second, and no more than that: what it will show had changed
    # since the last one began.
    signal = max(last.lasts, now - last.began) + head.lag
    return StatedBounds(min(signal, max(longest, last.lasts)), max(head.blind, longest), is_proving=True)
