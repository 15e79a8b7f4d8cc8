"""One finding, and what all of them come to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

EXIT_WORKS, EXIT_FAILS, EXIT_BAD_SETTINGS, EXIT_WARNS = 0, 1, 2, 3


class Check(StrEnum):
    """What is looked at, in this order; the first part is the party that it is about."""

    SETTINGS = "settings"
    FILES = "files"
    SIGNING = "signing"
    CERTIFICATES = "certificates"
    GATEWAY_RUNNING = "gateway.running"
    PLATFORM_NAME = "platform.name"
    PROXY_NAME = "proxy.name"
    PROXY_TCP = "proxy.tcp"
    PROXY_CONNECT = "proxy.connect"
    PLATFORM_TCP = "platform.tcp"
    PLATFORM_TLS = "platform.tls"
    SENTINEL_NAME = "sentinel.name"
    SENTINEL_TCP = "sentinel.tcp"
    SENTINEL_TLS = "sentinel.tls"
    SENTINEL_AUTH = "sentinel.auth"
    SENTINEL_MASTER = "sentinel.master"
    REDIS_NAME = "redis.name"
    REDIS_TCP = "redis.tcp"
    REDIS_TLS = "redis.tls"
    REDIS_ANSWER = "redis.answer"
    REDIS_AUTH = "redis.auth"
    REDIS_CLUSTER = "redis.cluster"
    REDIS_VERSION = "redis.version"
    REDIS_ROLE = "redis.role"
    REDIS_RIGHTS = "redis.rights"
    REDIS_EVICTION = "redis.eviction"
    REDIS_CLOCK = "redis.clock"
    REDIS_LEDGER = "redis.ledger"
    WEBHOOK_NAME = "webhook.name"
    WEBHOOK_TCP = "webhook.tcp"
    WEBHOOK_TLS = "webhook.tls"
    STREAM_CALL = "stream.call"
    STREAM_CLOCK = "stream.clock"
    STREAM_LIMIT = "stream.limit"
    STREAM_CREDENTIAL = "stream.credential"
    STREAM_SCOPE = "stream.scope"
    STREAM_IDS = "stream.ids"
    STREAM_ANSWER = "stream.answer"
    PROBE_SORT = "probe.sort"
    PROBE_PAGE = "probe.page"
    PROBE_TOTAL = "probe.total"
    PROBE_BY_ID = "probe.by-id"
    PROBE_VALIDATORS = "probe.validators"
    PROBE_LIMITS = "probe.limits"
    PROBE_LAG = "probe.lag"
    PROBE_BOUNDS = "probe.bounds"


class Status(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """It works, and not as well as it could."""
    ERROR = "error"
    """It will not work."""
    SKIPPED = "skipped"
    """It was not tried, or cannot be known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried. No part of it holds a secret."""

    check: Check
    subject: str
    """What was tried: a host and port, a stream, a setting."""
    status: Status
    found: str
    advice: str = ""
    """What to do; empty where nothing has to be done."""


def ok(check: Check, subject: str, found: str) -> Finding:
    """It is as it should be."""
    return Finding(check, subject, Status.OK, found)


def warning(check: Check, subject: str, found: str, advice: str) -> Finding:
    """It works, and not as well as it could."""
    return Finding(check, subject, Status.WARNING, found, advice)


def error(check: Check, subject: str, found: str, advice: str) -> Finding:
    """It will not work."""
    return Finding(check, subject, Status.ERROR, found, advice)


def skipped(check: Check, subject: str, why: str) -> Finding:
    """It was not tried."""
    return Finding(check, subject, Status.SKIPPED, why)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Whether one of them is an error."""
    return any(finding.status is Status.ERROR for finding in findings)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    findings: Sequence[Finding]
    probe: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What was measured of each stream, by its alias; empty without a probe."""

    @property
    def exit_code(self) -> int:
        """0 it works, 1 something will not work, 2 the settings are bad, 3 it works, with warnings."""
        worst = {(finding.status, finding.check) for finding in self.findings}
        if (Status.ERROR, Check.SETTINGS) in worst:
            return EXIT_BAD_SETTINGS
        statuses = {status for status, _ in worst}
        if Status.ERROR in statuses:
            return EXIT_FAILS
        return EXIT_WARNS if Status.WARNING in statuses else EXIT_WORKS

    def as_document(self) -> dict[str, Any]:
        """The diagnosis for programs."""
        rows = [
            {
                "check": finding.check.value,
                "subject": finding.subject,
                "status": finding.status.value,
                "found": finding.found,
                "advice": finding.advice or None,
            }
            for finding in self.findings
        ]
        is_ok = self.exit_code in {EXIT_WORKS, EXIT_WARNS}
        return {"ok": is_ok, "exit": self.exit_code, "findings": rows, "probe": dict(self.probe)}
