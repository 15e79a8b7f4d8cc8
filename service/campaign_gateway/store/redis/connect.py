"""Ways to reach a Redis: one server (TCP, TLS, Unix socket), the master that sentinels name, or a cluster."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis.asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.maint_notifications import MaintNotificationsConfig
from typing_extensions import override

from campaign_gateway.proxy.ports import Meter
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.keys import CLUSTER_PARTITIONS, Keys
from campaign_gateway.store.redis.link import RedisLink

POOL_SIZE = 64
NODE_POOL_SIZE = 1_000
"""A cluster's client has no queue for connections: one too many would be a failure."""
SENTINEL_SCHEME = "redis+sentinel"
CLUSTER_SCHEME = "redis+cluster"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for a TLS connection; None takes the system's authorities, or shows no certificate."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """How to be let in; as it stands, anybody is."""

    username: str | None = None
    password: Callable[[], str] | None = None
    """Asked on each new connection, so that a replaced password is taken without a restart."""
    tls: Tls | None = None

    def options(self) -> dict[str, Any]:
        """As redis-py takes it."""
        options: dict[str, Any] = {}
        if self.password is not None:
            options["credential_provider"] = _FreshPassword(self.username, self.password)
        if self.tls is not None:
            files = {
                "ssl_ca_certs": self.tls.ca_file,
                "ssl_certfile": self.tls.cert_file,
                "ssl_keyfile": self.tls.key_file,
            }
            options |= {name: str(path) for name, path in files.items() if path is not None}
        return options


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Which Redis, and how to be let in."""

    url: str
    """`redis://`, `rediss://`, `unix://`, `redis+sentinel://host:port,host:port/master/db`, or
    `redis+cluster://host:port,host:port`."""
    timeout: float
    """Seconds for one command."""
    access: Access = Access()
    """To Redis itself."""
    sentinel: Access = Access()
    """To the sentinels."""


class _FreshPassword(CredentialProvider):
    def __init__(self, username: str | None, password: Callable[[], str]) -> None:
        self._username = username
        self._password = password

    @override
    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        return (self._password(),) if self._username is None else (self._username, self._password())

    @override
    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def partitions_of(url: str) -> int:
    """Into how many partitions the keys fall at this URL; see `store.redis.keys`."""
    return CLUSTER_PARTITIONS if url.startswith(f"{CLUSTER_SCHEME}://") else 1


def open_link(
    target: RedisTarget, clock: StoreClock, meter: Meter, prefix: str = "cg", waits: float = 0.0
) -> RedisLink:
    """A link whose commands end within about the time-out, with redis-py's own ten retries off.

    Args:
        target: which Redis.
        clock: set by the server's.
        meter: where operations are counted.
        prefix: of all names there.
        waits: seconds more, for commands that wait at the server.
    """
    scheme, _, rest = target.url.partition("://")
    servers, _, path = rest.partition("/")
    # A Unix socket has a path only, and the name of a user may stand before a host's.
    address = servers.rpartition("@")[2] or f"/{path}"
    link = RedisLink(None, clock, meter, Keys(prefix, partitions_of(target.url)), address)
    options = {**_common(target.timeout, waits), **target.access.options()}
    if scheme in {SENTINEL_SCHEME, CLUSTER_SCHEME}:
        options["ssl"] = target.access.tls is not None
    if scheme == CLUSTER_SCHEME:
        link.client = _cluster(addresses_in(servers), link.greet, options)
        return link
    options["redis_connect_func"] = link.greet
    if scheme == SENTINEL_SCHEME:
        master, *db = path.split("/")
        sentinel = open_sentinels(target)
        link.sentinels = sentinel.sentinels
        link.client = sentinel.master_for(master, db=int(db[0]) if db else 0, max_connections=POOL_SIZE, **options)
        return link
    # One that never waits: `AT_ONCE` leaves nothing to wait for, and the other kind's look costs a tenth of a trip.
    pool = redis.asyncio.ConnectionPool.from_url(target.url, max_connections=POOL_SIZE, **options)
    link.client = redis.asyncio.Redis.from_pool(pool)
    return link


def open_sentinels(target: RedisTarget) -> Sentinel:
    """The sentinels that the target's URL names; nobody has been asked yet."""
    servers = target.url.partition("://")[2].partition("/")[0]
    asking = {**_common(target.timeout), **target.sentinel.options(), "ssl": target.sentinel.tls is not None}
    return Sentinel(addresses_in(servers), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]


def _common(timeout: float, waits: float = 0.0) -> dict[str, Any]:
    return {
        "socket_timeout": timeout + waits,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        # With them on, as is the default, the pool no longer looks whether a connection was closed while it was idle.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }


def addresses_in(hosts: str) -> list[tuple[str, int]]:
    """Hosts and ports out of `host:port,host:port`."""
    pairs = (address.rpartition(":") for address in hosts.split(","))
    return [(host.removeprefix("[").removesuffix("]"), int(port)) for host, _, port in pairs]


def _cluster(
    addresses: list[tuple[str, int]], greet: Callable[[Any], Awaitable[None]], options: dict[str, Any]
) -> RedisCluster:
    nodes = [ClusterNode(host, port) for host, port in addresses]
    # Redirected at once to a slot's new node, and laid out anew after each such redirection.
    client = RedisCluster(startup_nodes=nodes, max_connections=NODE_POOL_SIZE, reinitialize_steps=1, **options)
    # The constructor has no argument for it, but hands all connections what these hold.
    for kept in (client.connection_kwargs, *(node.connection_kwargs for node in client.startup_nodes)):
        kept["redis_connect_func"] = greet
    return client
