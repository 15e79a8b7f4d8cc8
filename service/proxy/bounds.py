"""The two bounds on staleness that are published for a stream."""

from dataclasses import dataclass

from service.proxy.ports import Board, Store


@dataclass(frozen=True, slots=True)
class StatedBounds:
    """How soon changes are seen, in seconds: what is published, and what answers hold to."""

    signal: float
    """A change that moves a mark."""
    blind: float
    """Any change, of a campaign in use."""
    is_proving: bool
    """Whether rounds give these bounds; else the lifetimes do."""


def stated_bounds(board: Board, store: Store, lag: float, longest: float, stream: str) -> StatedBounds:
    """The bounds of a stream at this moment.

    Args:
        board: where its list is known.
        store: whose clock counts.
        lag: seconds that the list may lag behind answers by id.
        longest: the longest lifetime, which counts while no round proves anything.
        stream: its identity.
    """
    head, now = board.view(stream).head, store.now()
    ends = [head.rounds[channel].began + head.lasts if channel in head.rounds else 0.0 for channel in head.paced]
    is_proving = not head.flaws and bool(ends) and now <= min(ends)
    if not is_proving:
        return StatedBounds(longest, longest, is_proving=False)
    return StatedBounds(head.lasts + lag, max(head.blind, longest), is_proving=True)
