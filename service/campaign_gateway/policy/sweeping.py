"""What a list of campaigns says about stored answers, decided without asking anybody.

A *poll* reads the list of one channel, newest change first, down to what cannot have changed since the last poll, and
compares each row's revision with the last list revision of the same id (`policy.list_scan` reads it page by page). A
*full scan* reads the list to its end, page by page and at leisure. The laws of this module:

1. A row that has not changed since the last poll validates every answer that was read since its revision was first
   seen: the answer was true when the poll *began*. Their age restarts there, all at once, by one number.
2. A changed row validates nothing, and says that answers read before the poll's end are out of date; but not an
   answer with the row's own new `updatedAt` and status, read after the last poll that still showed the old one. So does
   a row that is first seen in another state than an answer from before.
3. An answer is *listed reliably* only if it was read after its row's revision had been seen, and carries that row's
   `updatedAt` or was read `SETTLE_SECONDS` later: a read right after a change may still show the old state, and would
   then be validated for ever. Before a row was first seen, an answer with its `updatedAt` and status is the same state.
4. A reliably listed answer that was read by id since the last poll began is as good as if a poll had begun then: the
   next poll shows what has changed since either.
5. Revisions are compared for equality; that a list is in order is judged by the instants they name. A revision that
   steps back is a change like any other, but it is not at the top of the list: only a full scan finds it.
6. A campaign that no list shows, or with a revision that names no instant, is not listed reliably. It lives by its own
   lifetime. So does one that no page has shown yet: a full scan lists rows as it meets them, and polls validate
   them from then on.
7. Only a scan that has seen as many rows as there are says that the others are gone.

All functions are pure; times are seconds of the clock that all replicas share.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from campaign_gateway.contract.listing import Channel, Row
from campaign_gateway.policy.evidence import CopyState, Evidence, Validation
from campaign_gateway.policy.stored import Stored, is_from_the_future

SETTLE_SECONDS = 20.0
"""How long answers by id may lag behind the list where their revisions cannot show it."""


class ListFlaw(StrEnum):
    """Why a channel's list validates nothing. Metric label and reason at the same time: a closed set."""

    UNSORTED = "unsorted"
    """Rows are not in the order asked for."""
    NO_PAGE = "no-page"
    """The answer holds no list."""
    SHORT_PAGE = "short-page"
    """The platform grants no rows although there are more."""
    TOO_LONG = "too-long"
    """The list has more pages than may be asked for."""
    SHIFTING = "shifting"
    """Rows moved between two pages so much that some may have been missed."""
    DISAGREES = "disagrees"
    """Answers by id keep saying something else than their rows."""
    TOO_LATE = "too-late"
    """The list lags behind further than can be allowed for."""
    STARVED = "starved"
    """Polls are due, and get no call or no end."""


@dataclass(frozen=True, slots=True)
class IndexedCampaign:
    """What the list has shown of one campaign."""

    channel: Channel
    revision: str
    updated_at: str | None
    since: float
    """The end of the poll that first saw this revision: answers read earlier are not validated by it."""
    has_changed: bool
    """Whether another revision was seen before it: answers read earlier are then out of date."""
    is_listed: bool = True
    """Whether the last full scan showed it."""
    status: str | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    edges: tuple[float, ...] = ()
    changed_after: float = math.inf
    """When the last poll began that would have shown this `updatedAt`, and did not; infinite where none would."""


@dataclass(frozen=True, slots=True)
class Poll:
    """The last good poll of one channel."""

    began: float
    lasts: float = 0.0
    """Seconds for which its validation is good: until the next one has to be there."""
    top: str | None = None
    """The newest `updatedAt` when it began: what changed since then bears none that is older."""
    total: int | None = None
    """How many campaigns the platform said there are ..."""
    unlisted: int = 0
    """... and how many more than it showed in a full scan."""
    full_scan_at: float = 0.0
    """When the last full scan began that came to its end; 0 for none."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """What is known of one stream's list as a whole."""

    polls: Mapping[Channel, Poll] = field(default_factory=dict)
    blind: float = 0.0
    """Seconds after a read by id for which polls may validate its answer: until the next such read has to be there."""
    paced: tuple[Channel, ...] = ()
    """Channels that are polled; the others have no campaign in use."""
    flaws: Mapping[Channel, ListFlaw] = field(default_factory=dict)
    """Why a channel's list validates nothing at present."""
    lag: float = 0.0
    """Seconds that the lists are taken to lag behind answers by id; part of the stated bound."""
    number: int = 0
    """Rises with each change."""


@dataclass(frozen=True, slots=True)
class IndexSnapshot:
    """All that is known of one stream's list."""

    state: IndexState = field(default_factory=IndexState)
    campaigns: Mapping[str, IndexedCampaign] = field(default_factory=dict)


def validate_by_list(
    stored: Stored, evidence: Evidence, indexed: IndexedCampaign | None, state: IndexState
) -> Evidence:
    """The store's evidence of an answer, and what the list says of it.

    An unverified one stays that until a read by id, or a poll that began well after the gap.
    """
    if indexed is None or evidence.state is CopyState.INVALIDATED:
        return evidence
    is_verified = evidence.unverified_since is None
    if is_superseded(stored, indexed):
        return replace(evidence, superseded_since=indexed.since) if is_verified else evidence
    if indexed.channel in state.flaws or indexed.channel not in state.polls:
        return evidence
    if not is_listed_reliably(stored, indexed):
        settled = indexed.since + SETTLE_SECONDS
        if indexed.is_listed and is_verified and indexed.since <= stored.validated_at < settled:
            # Read just after a change, with another revision than the row's: good until it can have settled.
            return replace(evidence, superseded_since=settled)
        return evidence
    last = state.polls[indexed.channel]
    if evidence.unverified_since is not None and last.began <= evidence.unverified_since + SETTLE_SECONDS:
        return evidence
    if is_verified and stored.validated_at > last.began + last.lasts:
        # Polls have ceased since.
        return evidence
    validation = Validation(max(last.began, stored.validated_at), last.lasts, state.blind)
    return replace(evidence, unverified_since=None, validation=validation)


def is_superseded(stored: Stored, indexed: IndexedCampaign) -> bool:
    """Whether the campaign was seen, since the answer was read, in another state than it shows."""
    is_same = not indexed.is_listed if stored.absence is not None else _is_same_revision(stored, indexed)
    return stored.validated_at < indexed.since and not is_same


def is_listed_reliably(stored: Stored, indexed: IndexedCampaign) -> bool:
    """Whether polls that do not see the campaign change validate the answer."""
    if not indexed.is_listed or stored.absence is not None:
        return False
    if stored.validated_at < indexed.since:
        # Read before the row was first seen, and both look the same: it has not changed in between.
        return _is_same_revision(stored, indexed)
    agrees = stored.revision is not None and stored.revision == indexed.updated_at
    return agrees or stored.validated_at >= indexed.since + SETTLE_SECONDS


def _is_same_revision(stored: Stored, indexed: IndexedCampaign) -> bool:
    """Whether an answer from before the row was first seen shows the same state."""
    if stored.revision is None or stored.revision != indexed.updated_at or stored.campaign_status != indexed.status:
        return False
    return not indexed.has_changed or stored.validated_at >= indexed.changed_after


def is_gone(indexed: IndexedCampaign) -> bool:
    """Whether a full scan that came to its end has not shown the campaign any longer."""
    return not indexed.revision and not indexed.is_listed


def has_changed(indexed: IndexedCampaign, row: Row) -> bool:
    """Whether the revision is another one, or the row shows something else under the same, which is as good a sign."""
    return indexed.revision != row.revision or indexed.fields != row.fields


def apply(snapshot: IndexSnapshot, state: IndexState, updates: Mapping[str, IndexedCampaign]) -> IndexSnapshot:
    """The view with a poll's result."""
    return IndexSnapshot(state, {**snapshot.campaigns, **updates})


def believed(snapshot: IndexSnapshot, now: float) -> IndexSnapshot:
    """The view without what is dated in the future: the next poll finds it again, and dates it anew."""
    polls = snapshot.state.polls
    return IndexSnapshot(
        replace(
            snapshot.state,
            polls={channel: last for channel, last in polls.items() if not is_from_the_future(last.began, now)},
        ),
        {id_: indexed for id_, indexed in snapshot.campaigns.items() if not is_from_the_future(indexed.since, now)},
    )
