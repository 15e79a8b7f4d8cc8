"""What a Redis, and the sentinels in front of it, say of themselves, and what they let the gateway do."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio.cluster import RedisCluster

from campaign_gateway.store.redis.connect import (
    CLUSTER_SCHEME,
    SENTINEL_SCHEME,
    RedisTarget,
    addresses_in,
    open_sentinels,
)
from campaign_gateway.store.redis.failures import FAILURES, kind_of, read_reply
from campaign_gateway.store.redis.link import CLOCK_NAME, RedisLink
from campaign_gateway.store.redis.replies import convert

DEFAULT_PORT = 6379
KEEP_SECONDS = 60
"""For what is written to find out whether it can be."""


@dataclass(frozen=True, slots=True)
class SentinelAnswer:
    """What one sentinel says of the master."""

    master: tuple[str, int] | None = None
    """None where it does not know it, or did not answer."""
    kind: str = ""
    """Of the failure, one of a closed set (`store.redis.failures`); empty where it answered."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What one server says of itself."""

    node: str
    """Its name in a cluster; empty where there is one server."""
    product: str = "Redis"
    version: tuple[int, ...] = ()
    """The version of Redis that it is compatible with; empty where it does not say."""
    own_version: str = ""
    eviction: str = ""
    is_clustered: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """What the user may not do."""

    commands: tuple[str, ...] = ()
    keys: bool = False
    channel: bool = False


def servers_in(url: str) -> list[tuple[str, int]]:
    """Hosts and ports of the URL; a Unix socket's path stands for its host."""
    scheme, _, rest = url.partition("://")
    if scheme in {SENTINEL_SCHEME, CLUSTER_SCHEME}:
        return addresses_in(rest.partition("/")[0].rpartition("@")[2])
    parts = urlsplit(url)
    return [(parts.path, 0)] if scheme == "unix" else [(parts.hostname or "", parts.port or DEFAULT_PORT)]


async def ask_sentinels(target: RedisTarget) -> list[SentinelAnswer]:
    """What each sentinel says, in the order of the URL."""
    master = urlsplit(target.url).path.split("/")[1]
    return [await _ask_sentinel(client, master) for client in open_sentinels(target).sentinels]


async def _ask_sentinel(client: Any, master: str) -> SentinelAnswer:
    try:
        found = await read_reply(
            partial(client.execute_command, "SENTINEL GET-MASTER-ADDR-BY-NAME", master),
            lambda reply: None if reply is None else convert(reply, tuple[bytes, int]),
        )
    except FAILURES as failure:
        return SentinelAnswer(kind=kind_of(failure))
    finally:
        await client.aclose()
    if found is None:
        return SentinelAnswer()
    host, port = found
    return SentinelAnswer((host.decode("utf-8", "replace"), port))


async def read_infos(link: RedisLink) -> list[ServerInfo] | None:
    """What each server says of itself; None where the user may not ask."""
    if not isinstance(link.client, RedisCluster):
        found = await _read_info(partial(link.client.execute_command, "INFO"), "")
        return None if found is None else [found]
    infos = []
    for node in link.client.get_primaries():
        found = await _read_info(partial(link.client.execute_command, "INFO", target_nodes=node), str(node.name))
        if found is None:
            return None
        infos.append(found)
    return infos


async def _read_info(ask: Callable[[], Awaitable[object]], node: str) -> ServerInfo | None:
    try:
        reply = await read_reply(ask, lambda reply: convert(reply, dict[str, Any]))
    except FAILURES:
        return None
    named = reply.get(node) if node else reply
    said = named if isinstance(named, dict) else reply
    product = "Valkey" if "valkey_version" in said else "Redis"
    version = str(said.get("redis_version", ""))
    return ServerInfo(
        node,
        product,
        tuple(int(part) for part in version.split(".") if part.isascii() and part.isdigit()),
        str(said.get("valkey_version", version)),
        str(said.get("maxmemory_policy", "")),
        str(said.get("cluster_enabled", 0)) == "1",
    )


async def seconds_ahead(link: RedisLink) -> float | None:
    """How far the server's clock is ahead of this machine's; None where it did not say."""
    options: dict[str, Any] = {}
    if isinstance(link.client, RedisCluster):
        options["target_nodes"] = link.client.get_node_from_key(CLOCK_NAME)
    before = time.time()
    try:
        seconds, microseconds = await read_reply(
            lambda: link.client.time(**options), lambda reply: convert(reply, tuple[int, int])
        )
    except FAILURES:
        return None
    return seconds + microseconds / 1e6 - (before + time.time()) / 2


async def try_rights(link: RedisLink) -> Denied:
    """What the user may not do of all that the gateway does, tried on keys of the prefix that end by themselves.

    Raises:
        RedisError, RedisClusterException, OSError: the server fails otherwise.
    """
    client, denied = link.client, Denied()
    script = client.register_script("return 1")
    trials: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        ("script load", partial(script, keys=[_name(link, "text")])),
        *((command, partial(client.execute_command, command, *rest)) for command, *rest in _commands(link)),
        ("subscribe", partial(_subscribe, link)),
    ]
    for name, attempt in trials:
        try:
            await attempt()
        except FAILURES as failure:
            if kind_of(failure) != "noperm":
                raise
            denied = _noted(denied, name.lower(), str(failure))
    return denied


def _noted(denied: Denied, command: str, words: str) -> Denied:
    """The server says of what the user has no right to: the command, a key, or a channel."""
    if "command" in words:
        return replace(denied, commands=(*denied.commands, command))
    return replace(denied, channel=True) if "channel" in words else replace(denied, keys=True)


async def _subscribe(link: RedisLink) -> None:
    async with link.client.pubsub() as subscription:
        await subscription.subscribe(link.keys.channel)
        await subscription.get_message(timeout=KEEP_SECONDS)


def _name(link: RedisLink, what: str) -> str:
    # In a cluster all of them lie together, as the keys of one script do.
    return f"{link.keys.prefix}:{{doctor}}:{what}"


def _commands(link: RedisLink) -> Sequence[tuple[str, *tuple[str | float, ...]]]:
    """Each command that the scripts and the store use, in an order in which each can be done."""
    text, table, scores, log = (_name(link, what) for what in ("text", "table", "scores", "log"))
    keep = KEEP_SECONDS * 1_000
    return [
        ("SET", text, "1", "PX", keep),
        ("GET", text),
        ("MGET", text),
        ("GETRANGE", text, 0, 64),
        ("SETRANGE", text, 0, "2"),
        ("INCR", text),
        ("PERSIST", text),
        ("PEXPIRE", text, keep),
        ("EXPIRE", text, KEEP_SECONDS),
        ("PTTL", text),
        ("HSET", table, "field", "value"),
        ("PEXPIRE", table, keep),
        ("HGET", table, "field"),
        ("HDEL", table, "field"),
        ("ZADD", scores, 1, "member"),
        ("PEXPIRE", scores, keep),
        ("ZRANGE", scores, 0, -1),
        ("ZREVRANGE", scores, 0, 0),
        ("ZRANGEBYSCORE", scores, "-inf", "+inf"),
        ("ZREMRANGEBYSCORE", scores, "-inf", "(0"),
        ("ZREM", scores, "member"),
        ("XADD", log, "1-0", "field", "value"),
        ("PEXPIRE", log, keep),
        ("XRANGE", log, "-", "+", "COUNT", 1),
        ("XREVRANGE", log, "+", "-", "COUNT", 1),
        ("XREAD", "COUNT", 1, "STREAMS", log, "0"),
        ("XTRIM", log, "MAXLEN", 1),
        ("TYPE", log),
        ("DEL", text, table, scores, log),
        ("PUBLISH", link.keys.channel, "doctor"),
        ("TIME",),
    ]
