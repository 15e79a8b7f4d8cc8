"""The gateway that runs by these settings, if one does: what it says of itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from campaign_gateway.doctor.findings import Check, Finding, ok, skipped, warning
from campaign_gateway.settings import Address

ANSWER_SECONDS = 5.0
LONG_TURN_SECONDS = 0.05
"""As long as those that the alert of `loop_blocked_seconds` counts."""
_TURN = "campaign_gateway_loop_blocked_longest_seconds"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound here


@dataclass(frozen=True, slots=True)
class Running:
    """What one says."""

    status: str
    """`ready`, `degraded` or `not ready`."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Of each part that is not well, why."""
    longest_turn: float | None = None
    """Seconds, of the last minute; None where it does not say."""


async def look_at_gateway(admin: Address) -> list[Finding]:
    """What is said at `admin_listen`; nothing where no port is named."""
    if not admin.port:
        return []
    address = Address(_ANY.get(admin.host, admin.host), admin.port)
    return [judge(str(admin), await ask(f"http://{address}"))]


async def ask(url: str) -> Running | None:
    """What the gateway behind this URL says; None where none answers."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            async with session.get(f"{url}/readyz") as answer:
                known = json.loads(await answer.text())
            async with session.get(f"{url}/metrics", headers={"Accept": "text/plain"}) as answer:
                metrics = await answer.text()
        return _read(known, metrics)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError):
        return None


def _read(known: Any, metrics: str) -> Running:
    reasons = {name: str(part["reason"]) for name, part in known["parts"].items() if part["status"] != "ok"}
    turns = [
        sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
        if sample.name == _TURN
    ]
    return Running(str(known["status"]), reasons, max(turns, default=None))


def judge(admin: str, running: Running | None) -> Finding:
    """How well it is; a gateway need not run for the doctor to come."""
    check = Check.GATEWAY_RUNNING
    if running is None:
        return skipped(check, admin, "no gateway answers there")
    turn = "" if running.longest_turn is None else f", longest turn of its loop {running.longest_turn * 1e3:.0f} ms"
    if running.reasons:
        why = "; ".join(f"{name}: {reason}" for name, reason in running.reasons.items())
        return warning(check, admin, f"{running.status}, {why}{turn}", "see /readyz, and the runbook for that part")
    if (running.longest_turn or 0.0) > LONG_TURN_SECONDS:
        return warning(
            check, admin, f"{running.status}{turn}", "all its callers waited for that: see CampaignGatewayLoopBlocked"
        )
    return ok(check, admin, f"{running.status}{turn}")
