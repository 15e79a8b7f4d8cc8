"""All that replicas share through one Redis, put together."""

from dataclasses import dataclass

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.changes import LISTEN_SECONDS, RedisChanges
from campaign_gateway.store.redis.connect import Access, RedisTarget, Tls, open_link
from campaign_gateway.store.redis.index import RedisIndex
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import RedisLink
from campaign_gateway.store.redis.store import RedisStore
from campaign_gateway.store.redis.webhooks import RedisSendingRecords
from campaign_gateway.store.seal import Seals

__all__ = ["Access", "RedisStores", "RedisTarget", "Tls", "open_redis"]


@dataclass(frozen=True, slots=True)
class RedisStores:
    """The link to Redis, and what is kept there."""

    link: RedisLink
    store: LayeredStore
    beat: Beat
    index: RedisIndex
    ledgers: RedisLedgers
    log: RedisChanges
    listener: RedisLink
    """The connections on which the log waits for entries."""
    webhooks: RedisSendingRecords


def open_redis(
    target: RedisTarget,
    *,
    prefix: str,
    unwatched: float,
    local: MemoryStore,
    clock: StoreClock,
    meter: Meter,
    seals: Seals,
    most: int,
    keep: float,
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
        most: changes of a stream that are kept ...
        keep: ... and for how many seconds.
    """
    link = open_link(target, clock, meter, prefix)
    keys = link.keys
    bus = Bus(link, keys)
    store = RedisStore(link, bus, keys, seals)
    layers = LayeredStore(store, local, bus, unwatched)
    beat = Beat(link, keys, bus.replica_id)
    listener = open_link(target, clock, meter, prefix, waits=LISTEN_SECONDS)
    log = RedisChanges(link, keys, seals, most, keep, listener)
    index = RedisIndex(link, bus, beat, keys, local.epoch, seals, log)
    ledgers, webhooks = RedisLedgers(link, keys, seals), RedisSendingRecords(link, keys, seals)
    return RedisStores(link, layers, beat, index, ledgers, log, listener, webhooks)
