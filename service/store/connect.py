"""Ways to reach a Redis: one server (TCP, TLS, Unix socket), or the master that sentinels name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from typing_extensions import override

from service.proxy.ports import Meter
from service.store.clock import StoreClock
from service.store.link import RedisLink

POOL_SIZE = 64
POOL_WAIT_SECONDS = 0.1
SENTINEL_SCHEME = "redis+sentinel"


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for a TLS connection; None takes the system's authorities, or shows no certificate."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Which Redis, and how to be let in."""

    url: str
    """`redis://`, `rediss://`, `unix://`, or `redis+sentinel://host:port,host:port/master/db`."""
    timeout: float
    """Seconds for one command."""
    username: str | None = None
    password: Callable[[], str] | None = None
    """Asked on each new connection, so that a replaced password is taken without a restart."""
    tls: Tls | None = None


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


def open_link(target: Target, clock: StoreClock, meter: Meter) -> RedisLink:
    """A link whose commands end within about the time-out, with redis-py's own ten retries off."""
    link = RedisLink(None, clock, meter)
    options: dict[str, Any] = {
        "socket_timeout": target.timeout,
        "socket_connect_timeout": target.timeout,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "redis_connect_func": link.greet,
    }
    if target.password is not None:
        options["credential_provider"] = _FreshPassword(target.username, target.password)
    parts = urlsplit(target.url)
    if target.tls is not None:
        files = {
            "ssl_ca_certs": target.tls.ca_file,
            "ssl_certfile": target.tls.cert_file,
            "ssl_keyfile": target.tls.key_file,
        }
        options.update({name: str(path) for name, path in files.items() if path is not None})
    if parts.scheme == SENTINEL_SCHEME:
        if target.tls is not None:
            options["ssl"] = True
        _, master, *db = parts.path.split("/")
        addresses = [
            (host, int(port)) for host, _, port in (place.rpartition(":") for place in parts.netloc.split(","))
        ]
        asking = {"socket_timeout": target.timeout, "socket_connect_timeout": target.timeout}
        sentinel = Sentinel(addresses, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        link.client = sentinel.master_for(master, db=int(db[0]) if db else 0, max_connections=POOL_SIZE, **options)
        return link
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        target.url, timeout=POOL_WAIT_SECONDS, max_connections=POOL_SIZE, **options
    )
    link.client = redis.asyncio.Redis.from_pool(pool)
    return link
