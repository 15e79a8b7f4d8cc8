"""All that replicas share through one Redis, put together."""

from dataclasses import dataclass

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.connect import RedisTarget, Tls, open_link
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import RedisLink
from campaign_gateway.store.redis.store import RedisStore
from campaign_gateway.store.seal import Seals

__all__ = ["RedisStores", "RedisTarget", "Tls", "open_redis"]


@dataclass(frozen=True, slots=True)
class RedisStores:
    """The link to Redis, and what is kept there."""

    link: RedisLink
    store: LayeredStore
    beat: Beat
    index: RedisIndex
    ledgers: RedisLedgers


def open_redis(
    target: RedisTarget,
    prefix: str,
    unwatched: float,
    local: MemoryStore,
    clock: StoreClock,
    meter: Meter,
    seals: Seals,
) -> RedisStores:
    """Nothing of it has been started, and Redis not been asked.

    Args:
        target: which Redis.
        prefix: of all names there.
        unwatched: seconds for which a local copy may answer while this replica is not subscribed.
        local: the copies.
        clock: set by Redis' own.
        meter: where operations are counted.
        seals: how what is kept there is sealed.
    """
    link = open_link(target, clock, meter, prefix)
    keys = link.keys
    bus = Bus(link, keys)
    store = RedisStore(link, bus, keys, seals)
    layers = LayeredStore(store, local, bus, unwatched)
    beat = Beat(link, keys, bus.replica_id)
    index = RedisIndex(link, bus, beat, keys, local.epoch, seals)
    return RedisStores(link, layers, beat, index, RedisLedgers(link, keys, seals))
