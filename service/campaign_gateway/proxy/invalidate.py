"""Makes sure that stored answers are read again before, or soon after, they are served once more."""

import logging
from collections.abc import Collection

from campaign_gateway.contract.effects import RESOURCES
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.proxy.flights import Flights
from campaign_gateway.proxy.ports import Meter, Store
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.request import Stream, all_of
from campaign_gateway.proxy.rereads import Rereads
from campaign_gateway.proxy.tasks import Tasks

_log = logging.getLogger(__name__)


class Invalidator:
    """Invalidates on all replicas, in both layers, for writes and for operators."""

    def __init__(self, store: Store, flights: Flights, exchange: Exchange, meter: Meter, tasks: Tasks) -> None:
        self._store = store
        self._flights = flights
        self._rereads = Rereads(exchange.refresh, tasks, "read purged campaigns")
        self._meter = meter

    async def invalidate(self, keys: Collection[str], by: Cause, counted_as: str | None = None) -> bool:
        """Raises the fences of these keys; flights from before are not joined any longer.

        Args:
            keys: of entries, or of all answers to an operation.
            by: what it means for them.
            counted_as: the metric label `cause`, where it is not that.

        Returns:
            Whether it holds for all replicas already; see `Store.invalidate_many`.
        """
        if not keys:
            return True
        self._forget(keys)
        is_shared = await self._store.invalidate_many(keys, by)
        self._forget(keys)
        self._meter.invalidation(counted_as or by.value)
        return is_shared

    async def purge(self, stream: Stream, campaigns: Collection[str] | None, client: str) -> bool:
        """Makes what is stored of these campaigns stale until it is validated; None means all of the stream.

        Named campaigns that are stored are read again beside everything else, out of the background's part of the
        budget and for as long as it lasts; the others when somebody asks for them.

        Returns:
            As `invalidate`.
        """
        what = "all answers" if campaigns is None else f"{len(campaigns)} campaigns"
        _log.info("%s of stream %s purged by client %s", what, stream.alias, client)
        if campaigns is None:
            groups = [all_of(stream, name) for names in RESOURCES.values() for name in names]
            return await self.invalidate(groups, Cause.PURGE)
        is_shared = await self.invalidate(keys_of(stream, campaigns), Cause.PURGE)
        self._rereads.add(stream, list(campaigns), client)
        return is_shared

    def _forget(self, keys: Collection[str]) -> None:
        for key in keys:
            self._flights.forget(key)


def keys_of(stream: Stream, campaigns: Collection[str]) -> list[str]:
    """The keys of all that is stored about single campaigns."""
    names = [name for read in ("get", "status") for name in RESOURCES[read]]
    return [f"{stream.identity}:{name}:{id_}" for id_ in campaigns for name in names]
