"""How soon a change of a campaign is seen, as its answers say themselves."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.evidence import CopyState, Evidence
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, is_listed_reliably, is_superseded

LATE_FACTOR = 3.0
"""A poll that is later than so many times what its word is good for is no longer expected."""
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
    """The moment until which that is known to hold if nothing else is received, in seconds of the store's clock."""
    newer: str | None = None
    """The `updatedAt` that the list has shown since, where it says that the answer is out of date."""


def visibility(
    stored: Stored,
    evidence: Evidence,
    indexed: IndexedCampaign | None,
    state: IndexState,
    now: float,
    rules: Freshness,
    lifetime: float,
    ttl: float,
) -> Visibility:
    """How soon changes are seen by those who get this answer.

    Args:
        stored: the answer.
        evidence: what is known of it, by the store and the list.
        indexed: the campaign's row.
        state: what is known of the list as a whole.
        now: the time.
        rules: those of freshness.
        lifetime: seconds for which it is fresh by its read alone.
        ttl: seconds for which it goes on being fresh.
    """
    has_newer = indexed is not None and is_superseded(stored, indexed)
    newer = _plain(indexed.updated_at) if indexed is not None and has_newer else None
    by_list = listed_visibility(indexed, state, now)
    if by_list is not None and indexed is not None and (has_newer or _is_watched(stored, evidence, indexed)):
        return Visibility(by_list.bound, by_list.until, newer)
    hard = rules.bound(stored)
    if evidence.is_overwritten or ttl < -rules.stale_while_revalidate:
        # Nobody gets it but for want of a better one, and how long that lasts is not known.
        return Visibility(hard, newer=newer)
    if stored.absence is not None:
        return Visibility(lifetime)
    return Visibility(min(lifetime + rules.stale_while_revalidate, hard), newer=newer)


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


class ListCondition(StrEnum):
    """What a channel's list was good for, at a look at it."""

    POLLED = "polled"
    """A good poll has begun since the look before."""
    VALID = "valid"
    """The last one still says what its answers are worth."""
    LATE = "late"
    """There is none, or it is too long ago."""
    DISTRUSTED = "distrusted"
    OFF = "off"
    """No campaign of the list is in use."""


def list_condition(state: IndexState, channel: Channel, now: float, before: float) -> ListCondition:
    """What the channel's list is good for; `before` is when it was looked at last."""
    if channel in state.flaws:
        return ListCondition.DISTRUSTED
    if channel not in state.paced:
        return ListCondition.OFF
    if channel_visibility(state, channel, now) is None:
        return ListCondition.LATE
    return ListCondition.POLLED if state.polls[channel].began > before else ListCondition.VALID


def _is_watched(stored: Stored, evidence: Evidence, indexed: IndexedCampaign) -> bool:
    """Whether the list goes on to validate the answer, or to show that it has changed."""
    is_sound = evidence.state is CopyState.GOOD and evidence.superseded_since is None
    return is_sound and is_listed_reliably(stored, indexed)


def _plain(revision: str | None) -> str | None:
    """The revision, if it can stand in a header field as it is: it comes from the platform, and may be anything."""
    if (
        revision is None
        or len(revision) > LONGEST_REVISION
        or not all("!" <= character <= "~" for character in revision)
    ):
        return None
    return revision
