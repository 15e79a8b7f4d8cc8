"""Hints: the callers' own systems say which campaigns have just changed, so that these are read first.

A hint evicts nothing and validates nothing. What is stored of the campaign is stale until it is read by id, as after a
purge: served while it is read again, superseded by that read, and never called fresh again by a read or a
list from before. Who reads it:

1. Where the campaign's list can be relied on, whoever looks after that list, perhaps another replica: it reads what has
   changed anyway, one after the other, within its budget. A hint that gets lost on its way there costs no more than the
   wait for the list to show the change.
2. Else this replica, at once and beside everything else, for as long as there are calls. What is left then is read
   when somebody asks for it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.visibility import listed_visibility
from campaign_gateway.proxy.invalidate import Invalidator, keys_of
from campaign_gateway.proxy.ports import CampaignIndex, Store
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.rereads import Rereads
from campaign_gateway.proxy.tasks import Tasks

REASON = "hint"
"""The metric label `reason` of the calls, and the label `cause` of the invalidations."""


@dataclass(frozen=True, slots=True)
class _Reader:
    read_first: Callable[[Sequence[str]], None]
    is_leading: Callable[[], bool]


class Readers:
    """Who looks after the streams' lists in this process, and reads hinted campaigns first while it holds the lease."""

    def __init__(self) -> None:
        self._by_stream: dict[str, _Reader] = {}

    def register(
        self, stream: str, read_first: Callable[[Sequence[str]], None], is_leading: Callable[[], bool]
    ) -> None:
        """Has a stream's hints handed to somebody.

        Args:
            stream: its identity.
            read_first: takes ids of campaigns, and returns at once.
            is_leading: whether it looks after the list for all replicas at present.
        """
        self._by_stream[stream] = _Reader(read_first, is_leading)

    def has_one_for(self, stream: str) -> bool:
        """Whether lists of this stream are looked after, by this replica or by another."""
        return stream in self._by_stream

    def hand(self, stream: str, campaigns: Sequence[str]) -> bool:
        """Whether they were taken: this replica looks after the list."""
        reader = self._by_stream.get(stream)
        if reader is None or not reader.is_leading():
            return False
        reader.read_first(campaigns)
        return True


class Hints:
    """Takes hints."""

    def __init__(
        self,
        readers: Readers,
        invalidator: Invalidator,
        exchange: Exchange,
        index: CampaignIndex,
        store: Store,
        tasks: Tasks,
    ) -> None:
        """A taker of hints.

        Args:
            readers: who looks after lists here.
            invalidator: makes what is stored stale.
            exchange: reads what no list shows.
            index: what lists have shown, and where use is noted.
            store: publishes to other replicas.
            tasks: where reads run.
        """
        self._readers = readers
        self._invalidator = invalidator
        self._index = index
        self._store = store
        read = partial(exchange.read_again, lane=Lane.VALIDATION, reason=REASON)
        self._rereads = Rereads(read, tasks, "read hinted campaigns")

    def waiting(self, stream: str) -> Collection[str]:
        """The campaigns of a stream that wait to be read by this replica."""
        return self._rereads.waiting(stream)

    async def give(self, stream: Stream, campaigns: Sequence[str], client: str) -> None:
        """Has these campaigns read first. When it returns, no answer from before counts as fresh any longer.

        Args:
            stream: whose they are.
            campaigns: their ids, each once.
            client: who says so; reads that are made here are on its account.
        """
        await self._invalidator.invalidate(keys_of(stream, campaigns), Cause.PURGE, REASON)
        now, snapshot = self._store.now(), self._index.snapshot(stream.identity)
        for id_ in campaigns:
            # Somebody cares for it: it is looked after from now on, like what was asked for.
            self._index.record_use(stream.identity, id_, now)
        listed = [
            id_ for id_ in campaigns if listed_visibility(snapshot.campaigns.get(id_), snapshot.state, now) is not None
        ]
        if listed and await self._hand(stream.identity, listed):
            taken = set(listed)
            campaigns = [id_ for id_ in campaigns if id_ not in taken]
        if campaigns:
            self._rereads.add(stream, campaigns, client)

    async def _hand(self, stream: str, campaigns: Sequence[str]) -> bool:
        if not self._readers.has_one_for(stream):
            return False
        # A list that can be relied on has somebody who looks after it. Where it is not this replica, it receives it.
        return self._readers.hand(stream, campaigns) or await self._store.publish_hint(stream, campaigns)
