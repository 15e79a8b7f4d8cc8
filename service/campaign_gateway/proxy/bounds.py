"""The two bounds on staleness that are published for a stream."""

from dataclasses import dataclass

from campaign_gateway.policy.visibility import channel_visibility
from campaign_gateway.proxy.ports import CampaignIndex, Store


@dataclass(frozen=True, slots=True)
class StatedBounds:
    """How soon changes are seen, in seconds: what is published, and what answers hold to."""

    signal: float
    """A change that moves a revision."""
    blind: float
    """Any change, of a campaign in use."""
    is_validating: bool
    """Whether polls give these bounds; else the lifetimes do."""


def stated_bounds(index: CampaignIndex, store: Store, longest: float, stream: str) -> StatedBounds:
    """The bounds of all campaigns of a stream at this moment: those of the slowest of its channels that are polled.

    Args:
        index: where its list is known.
        store: whose clock counts.
        longest: the longest lifetime, which counts while no poll validates anything.
        stream: its identity.
    """
    state, now = index.snapshot(stream).state, store.now()
    each = [channel_visibility(state, channel, now) for channel in state.paced]
    # Until a full scan has come to its end, some campaigns are not known yet, and nothing is said of them.
    are_known = all(channel in state.polls and state.polls[channel].full_scan_at for channel in state.paced)
    signals = [seen.bound for seen in each if seen is not None]
    if not signals or not are_known or len(signals) < len(each):
        return StatedBounds(longest, longest, is_validating=False)
    return StatedBounds(max(signals), max(state.blind, longest), is_validating=True)
