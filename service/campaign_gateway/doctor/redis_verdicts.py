"""What Redis and its sentinels come to. Pure: facts in, findings out."""

from collections.abc import Sequence

from campaign_gateway.doctor.findings import Check, Finding, error, ok, skipped, warning
from campaign_gateway.doctor.redis_facts import Denied, SentinelAnswer, ServerInfo
from campaign_gateway.policy.clock_offset import FAR_OFF_SECONDS
from campaign_gateway.store.redis.failures import FULL, MEANINGS, REFUSES

LEAST_VERSION = (5, 0)
"""Before it, a script that has asked for the time could write nothing."""
TESTED_VERSION = (6, 2)

_CURES = {
    "auth": "check cache.username and cache.password_file, and that the user is on",
    "noperm": "let the user ask PING, TIME and GET",
    "readonly": "name the primary, or sentinels",
    "masterdown": "name the primary, or sentinels",
    "loading": "wait until it is done",
    "busy": "end the script: SCRIPT KILL",
    "misconf": "see its log: it cannot save to its disk",
    "noreplicas": "see its min-replicas-to-write, and where its replicas are",
    "timeout": "raise cache.timeout, or find out what is slow",
    "connection": "check the port, and the scheme: redis:// is for clear text, rediss:// for TLS",
    "protocol": "check the port, and the scheme: redis:// is for clear text, rediss:// for TLS",
    FULL: "raise its maxmemory: the ledger needs little, entries need more",
}
_CHECKS = {
    "auth": Check.REDIS_AUTH,
    "noperm": Check.REDIS_RIGHTS,
    "readonly": Check.REDIS_ROLE,
    "masterdown": Check.REDIS_ROLE,
    "cluster": Check.REDIS_CLUSTER,
}


def failure(subject: str, kind: str, *, is_cluster: bool) -> Finding:
    """What it means that the server cannot be used, by the kind of failure (`store.redis.failures`)."""
    if kind == "moved":
        advice = "write its servers as redis+cluster://host:port,host:port"
        return error(Check.REDIS_CLUSTER, subject, "it is part of a cluster", advice)
    if is_cluster and kind in {"cluster", "connection", "timeout"}:
        advice = "see CLUSTER INFO and CLUSTER NODES: all primaries must be up, at addresses that this machine reaches"
        return error(Check.REDIS_CLUSTER, subject, _meaning(kind), advice)
    advice = _CURES.get(kind, "see its log")
    if kind == FULL:
        return warning(Check.REDIS_ANSWER, subject, _meaning(kind), advice)
    return error(_CHECKS.get(kind, Check.REDIS_ANSWER), subject, _meaning(kind), advice)


def _meaning(kind: str) -> str:
    return MEANINGS.get(kind, REFUSES)


def sentinel(subject: str, answer: SentinelAnswer, master: str) -> Finding:
    """Whether one sentinel answers, and knows the master."""
    if answer.kind in {"auth", "noperm"}:
        advice = "check cache.sentinel.username and cache.sentinel.password_file"
        return error(Check.SENTINEL_AUTH, subject, _meaning(answer.kind), advice)
    if answer.kind:
        return error(Check.SENTINEL_MASTER, subject, _meaning(answer.kind), "check that a sentinel listens there")
    if answer.master is None:
        found = f"it knows no master {master}"
        return error(
            Check.SENTINEL_MASTER, subject, found, "write the name that `SENTINEL MASTERS` shows into cache.url"
        )
    return ok(Check.SENTINEL_MASTER, subject, f"{master} is {at(answer.master)}")


def at(server: tuple[str, int]) -> str:
    """Host and port, as people write them; a Unix socket's path alone."""
    host, port = server
    return host if not port else f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def softened(findings: Sequence[Finding], *, others_work: bool) -> list[Finding]:
    """Errors of one of several servers, which are warnings where the others do."""
    return [
        warning(row.check, row.subject, row.found, row.advice) if others_work and row.status == "error" else row
        for row in findings
    ]


def servers(address: str, infos: Sequence[ServerInfo] | None, *, is_cluster: bool) -> list[Finding]:
    """What the servers say of themselves: versions, and what they do when their memory is full."""
    if infos is None:
        why = "the user may not ask INFO"
        return [skipped(Check.REDIS_VERSION, address, why), skipped(Check.REDIS_EVICTION, address, why)]
    found = [_version(info.node or address, info) for info in infos]
    if not is_cluster and any(info.is_clustered for info in infos):
        found.append(failure(address, "moved", is_cluster=False))
    return found + [_eviction(info.node or address, info) for info in infos]


def _version(subject: str, info: ServerInfo) -> Finding:
    check = Check.REDIS_VERSION
    if not info.version:
        return skipped(check, subject, "it does not say")
    name = f"{info.product} {info.own_version}"
    if info.version < LEAST_VERSION:
        return error(
            check, subject, f"{name} is too old for the gateway's scripts", "use Redis 7 or Valkey 8, or newer"
        )
    if info.version < TESTED_VERSION:
        return warning(check, subject, f"{name} is older than what is tested", "use Redis 7 or Valkey 8, or newer")
    return ok(check, subject, name)


def _eviction(subject: str, info: ServerInfo) -> Finding:
    check = Check.REDIS_EVICTION
    if not info.eviction:
        return skipped(check, subject, "it does not say")
    if info.eviction != "noeviction":
        found = f"maxmemory-policy is {info.eviction}: when memory is full, the ledger of calls can be evicted"
        return warning(check, subject, found, "set maxmemory-policy noeviction")
    return ok(check, subject, "maxmemory-policy is noeviction")


def rights(address: str, denied: Denied, prefix: str) -> Finding:
    """Whether the user may do what the gateway does."""
    lacks = []
    if denied.commands:
        lacks.append(f"the commands {', '.join(denied.commands)}")
    if denied.keys:
        lacks.append(f"the keys {prefix}:*")
    if denied.channel:
        lacks.append(f"the channel {prefix}:bus")
    if not lacks:
        return ok(Check.REDIS_RIGHTS, address, f"commands, keys {prefix}:*, channel {prefix}:bus")
    wanted = f"ACL SETUSER ... ~{prefix}:* &{prefix}:* +@all -@admin -@dangerous +info +config|get"
    return error(Check.REDIS_RIGHTS, address, f"the user lacks {' and '.join(lacks)}", wanted)


def clock(address: str, ahead: float | None) -> Finding:
    """Whether the server's clock, which is that of all replicas, agrees with this machine's, which dates tokens."""
    if ahead is None:
        return skipped(Check.REDIS_CLOCK, address, "it did not give the time")
    found = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > FAR_OFF_SECONDS:
        return warning(Check.REDIS_CLOCK, address, found, "set both clocks by one source (NTP)")
    return ok(Check.REDIS_CLOCK, address, found)


def ledgers(address: str, foreign: Sequence[str]) -> Finding:
    """Whether the ledgers of calls there can be read; `foreign` are the accounts whose ledgers cannot."""
    if foreign:
        found = f"the ledger of account {', '.join(foreign)} was written with another key, or by another release"
        return error(Check.REDIS_LEDGER, address, found, "use the cache.seal and the release of the running gateways")
    return ok(Check.REDIS_LEDGER, address, "calls are counted there")
