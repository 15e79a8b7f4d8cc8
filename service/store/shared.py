"""All that replicas share through one Redis, put together."""

from dataclasses import dataclass

from service.proxy.ports import Meter
from service.store.beat import Beat
from service.store.boards import RedisBoard
from service.store.bus import Bus
from service.store.clock import StoreClock
from service.store.connect import Target, Tls, open_link, parts_of
from service.store.keys import Keys
from service.store.layers import LayeredStore
from service.store.ledgers import RedisLedgers
from service.store.link import RedisLink
from service.store.memory import MemoryStore
from service.store.redis import RedisStore

__all__ = ["Shared", "Target", "Tls", "open_shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """The link to Redis, and what is kept there."""

    link: RedisLink
    store: LayeredStore
    beat: Beat
    board: RedisBoard
    ledgers: RedisLedgers


def open_shared(
    target: Target, prefix: str, unwatched: float, local: MemoryStore, clock: StoreClock, meter: Meter
) -> Shared:
    """Nothing of it has been started, and Redis not been asked.

    Args:
        target: which Redis.
        prefix: of all names there.
        unwatched: seconds for which a local copy may answer while nothing can be heard.
        local: the copies.
        clock: set by Redis' own.
        meter: where operations are counted.
    """
    link = open_link(target, clock, meter)
    keys = Keys(prefix, parts_of(target.url))
    bus = Bus(link, keys)
    store = RedisStore(link, bus, keys)
    layers = LayeredStore(store, local, bus, unwatched)
    beat = Beat(link, keys, bus.sender)
    board = RedisBoard(link, bus, beat, keys, local.epoch)
    return Shared(link, layers, beat, board, RedisLedgers(link, keys))
