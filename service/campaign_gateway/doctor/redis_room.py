"""Redis, from its name to what its user may do; what depends on something that failed is not tried."""

import ssl
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from campaign_gateway.app.build import build_seals
from campaign_gateway.app.stores import redis_target
from campaign_gateway.doctor import reach, redis_facts, redis_verdicts, verdicts
from campaign_gateway.doctor.findings import Check, Finding, has_failed, ok, skipped
from campaign_gateway.doctor.redis_verdicts import at
from campaign_gateway.proxy.ports import LedgerLostError
from campaign_gateway.settings import Cache
from campaign_gateway.store.redis.connect import CLUSTER_SCHEME, SENTINEL_SCHEME, RedisTarget, Tls
from campaign_gateway.store.redis.failures import FAILURES, kind_of
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import RedisLink

Tell = Callable[[Finding], None]

_REDIS = (Check.REDIS_NAME, Check.REDIS_TCP, Check.REDIS_TLS)
_SENTINEL = (Check.SENTINEL_NAME, Check.SENTINEL_TCP, Check.SENTINEL_TLS)


async def look_at_redis(cache: Cache, accounts: Sequence[str], link: RedisLink, tell: Tell) -> bool:
    """Tells what is found; returns whether the calls of these accounts can be counted there."""
    target = redis_target(cache)
    scheme = urlsplit(cache.url).scheme
    servers = redis_facts.servers_in(cache.url)
    if scheme == SENTINEL_SCHEME:
        master = await _find_master(target, servers, tell)
        if master is None:
            return _skip(link.address, "no sentinel names a master", tell)
        servers = [master]
    has_tls = scheme == "rediss" or target.access.tls is not None
    context = open_context(target.access.tls) if has_tls else None
    if not await _reach_any(_REDIS, servers, target.timeout, context, tell):
        return _skip(link.address, "no connection", tell)
    is_cluster = scheme == CLUSTER_SCHEME
    await link.look()
    if not link.is_up and link.state != "noperm":
        tell(redis_verdicts.failure(link.address, link.state, is_cluster=is_cluster))
        return _skip(link.address, "it cannot be used", tell)
    tell(ok(Check.REDIS_AUTH, link.address, f"lets {cache.username or 'us'} in"))
    if is_cluster:
        count = len(link.client.get_primaries())
        tell(ok(Check.REDIS_CLUSTER, link.address, f"{count} primaries answer"))
    if not await _look_inside(cache, link, tell, is_cluster=is_cluster):
        return False
    # Whoever takes one that it cannot read for lost stops all gateways until each has put its calls back.
    ledgers = RedisLedgers(link, link.keys, build_seals(cache.seal, lambda _: None))
    try:
        found = redis_verdicts.ledgers(link.address, [name for name in accounts if await ledgers.is_foreign(name)])
    except LedgerLostError as failure:
        found = redis_verdicts.failure(link.address, str(failure), is_cluster=is_cluster)
    tell(found)
    return not has_failed([found])


async def _look_inside(cache: Cache, link: RedisLink, tell: Tell, *, is_cluster: bool) -> bool:
    found = redis_verdicts.servers(link.address, await redis_facts.read_infos(link), is_cluster=is_cluster)
    try:
        denied = await redis_facts.try_rights(link)
    except FAILURES as failure:
        found.append(redis_verdicts.failure(link.address, kind_of(failure), is_cluster=is_cluster))
    else:
        found.append(redis_verdicts.rights(link.address, denied, cache.prefix))
    found.append(redis_verdicts.clock(link.address, await redis_facts.seconds_ahead(link)))
    for finding in sorted(found, key=lambda finding: list(Check).index(finding.check)):
        tell(finding)
    return link.is_up and not has_failed(found)


async def _find_master(target: RedisTarget, servers: Sequence[tuple[str, int]], tell: Tell) -> tuple[str, int] | None:
    context = open_context(target.sentinel.tls) if target.sentinel.tls is not None else None
    name = urlsplit(target.url).path.split("/")[1]
    rows: list[list[Finding]] = []
    masters: list[tuple[str, int]] = []
    answers = await redis_facts.ask_sentinels(target)
    for server, answer in zip(servers, answers, strict=True):
        found = await _reach(_SENTINEL, server, target.timeout, context)
        if not has_failed(found):
            found.append(redis_verdicts.sentinel(at(server), answer, name))
        if not has_failed(found) and answer.master is not None:
            masters.append(answer.master)
        rows.append(found)
    for found in rows:
        for finding in redis_verdicts.softened(found, others_work=bool(masters)):
            tell(finding)
    return masters[0] if masters else None


async def _reach_any(
    checks: tuple[Check, Check, Check],
    servers: Sequence[tuple[str, int]],
    patience: float,
    context: ssl.SSLContext | None,
    tell: Tell,
) -> bool:
    rows = [await _reach(checks, server, patience, context) for server in servers]
    is_reached = any(not has_failed(found) for found in rows)
    for found in rows:
        for finding in redis_verdicts.softened(found, others_work=is_reached):
            tell(finding)
    return is_reached


async def _reach(
    checks: tuple[Check, Check, Check], server: tuple[str, int], patience: float, context: ssl.SSLContext | None
) -> list[Finding]:
    name, tcp, tls = checks
    host, port = server
    found = []
    if port:
        found.append(verdicts.name(name, host, await reach.resolve(host, port)))
    if not has_failed(found):
        seen = await reach.connect(host, port)
        found.append(verdicts.tcp(tcp, at(server), seen, patience, "cache.timeout"))
    if context is not None and not has_failed(found):
        shown = await reach.greet(host, port, context)
        setting = "cache.sentinel.tls.ca_file" if tls is Check.SENTINEL_TLS else "cache.tls.ca_file"
        found.append(verdicts.tls(tls, at(server), shown, setting, time.time()))
    return found


def open_context(files: Tls | None) -> ssl.SSLContext:
    """What TLS goes by; as redis-py makes it out of the same files.

    Raises:
        OSError: one of them cannot be used.
    """
    context = ssl.create_default_context(cafile=None if files is None else files.ca_file)
    if files is not None and files.cert_file is not None:
        context.load_cert_chain(files.cert_file, files.key_file)
    return context


def _skip(address: str, why: str, tell: Tell) -> bool:
    tell(skipped(Check.REDIS_RIGHTS, address, f"not tried: {why}"))
    return False
