"""How soon a change of a campaign is seen, as its answers say themselves."""

from dataclasses import dataclass
from math import inf

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, is_listed_reliably, is_superseded

LATE_FACTOR = 3.0
"""A poll that is later than so many times what its proof is good for is not expected any longer."""
LATE_STEP = 1.0
"""Seconds for which the bound of a late poll is said at a time."""
LONGEST_REVISION = 64
"""Characters of a revision that is passed on."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What holds for one answer."""

    bound: float
    """Seconds within which a change is seen: one that moves the campaign's revision, where its list gives the bound."""
    until: float = inf
    """The moment until which that is known to hold if nothing more is heard, in seconds of the store's clock."""
    newer: str | None = None
    """The `updatedAt` that the list has shown since, where it says that the answer is out of date."""


def visibility(
    entry: Entry, indexed: IndexedCampaign | None, state: IndexState, now: float, freshness: Freshness, ttl: float
) -> Visibility:
    """How soon changes are seen by those who get this entry.

    Args:
        entry: with what the list says of it.
        indexed: the campaign's row.
        state: what is known of the list as a whole.
        now: the time.
        freshness: the rules.
        ttl: seconds for which they call the entry fresh, as whoever asks has found out already.
    """
    has_newer = indexed is not None and is_superseded(entry, indexed)
    newer = _plain(indexed.updated_at) if indexed is not None and has_newer else None
    by_list = listed_visibility(indexed, state, now)
    if by_list is not None and indexed is not None and (has_newer or _is_watched(entry, indexed)):
        return Visibility(by_list.bound, by_list.until, newer)
    hard = freshness.bound(entry)
    if entry.is_overwritten or ttl < -freshness.stale_while_revalidate:
        # Nobody gets it but for want of a better one, and how long that lasts is not known.
        return Visibility(hard, newer=newer)
    if entry.absence is not None:
        return Visibility(freshness.lifetime(entry))
    return Visibility(min(freshness.lifetime(entry) + freshness.stale_while_revalidate, hard), newer=newer)


def listed_visibility(indexed: IndexedCampaign | None, state: IndexState, now: float) -> Visibility | None:
    """How soon the campaign's list shows that it has changed; None while it cannot be relied on for that."""
    return channel_visibility(state, indexed.channel, now) if indexed is not None and indexed.is_listed else None


def channel_visibility(state: IndexState, channel: Channel, now: float) -> Visibility | None:
    """How soon a channel's list shows a change; None while it cannot be relied on for that.

    A poll that is late makes the bound wider, second by second, and no more than that: what it will show had changed
    since the last one began.
    """
    if channel in state.flaws or channel not in state.polls:
        return None
    last = state.polls[channel]
    since = now - last.began
    if since < last.lasts:
        return Visibility(last.lasts + state.lag, last.began + last.lasts)
    return Visibility(since + LATE_STEP + state.lag, now + LATE_STEP) if since < LATE_FACTOR * last.lasts else None


def _is_watched(entry: Entry, indexed: IndexedCampaign) -> bool:
    """Whether the list goes on to prove the entry, or to show that it has changed."""
    is_in_doubt = entry.is_invalid or (entry.swept is not None and entry.swept.is_changed)
    return not is_in_doubt and is_listed_reliably(entry, indexed)


def _plain(revision: str | None) -> str | None:
    """The revision, if it can stand in a header field as it is: it comes from the platform, and may be anything."""
    if (
        revision is None
        or len(revision) > LONGEST_REVISION
        or not all("!" <= character <= "~" for character in revision)
    ):
        return None
    return revision
