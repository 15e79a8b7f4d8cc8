"""The examination from the settings to the streams, in order; what depends on something that failed is not tried."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from campaign_gateway.app.build import Plan, plan_gateway
from campaign_gateway.app.stores import redis_target
from campaign_gateway.contract.answers import Verdict
from campaign_gateway.contract.listing import Channel, list_body
from campaign_gateway.contract.operations import LIST
from campaign_gateway.doctor import own, stream_verdicts
from campaign_gateway.doctor.calls import Asked, Calls, Token, open_calls
from campaign_gateway.doctor.findings import Check, Diagnosis, Finding, has_failed, skipped
from campaign_gateway.doctor.http_room import look_at_platform, look_at_webhook
from campaign_gateway.doctor.probe import probe_stream
from campaign_gateway.doctor.redis_room import look_at_redis
from campaign_gateway.doctor.running import look_at_gateway
from campaign_gateway.doctor.stream_verdicts import StreamFacts
from campaign_gateway.policy.list_scan import PAGE_ROWS
from campaign_gateway.proxy.fetch import Fetched
from campaign_gateway.proxy.request import Stream
from campaign_gateway.settings import Settings
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis.connect import open_link
from campaign_gateway.store.redis.link import RedisLink
from campaign_gateway.telemetry.metrics import Metrics


class _Notes:
    """The findings so far, each told as it is made."""

    def __init__(self, tell: Callable[[Finding], None]) -> None:
        self.findings: list[Finding] = []
        self._tell = tell

    def add(self, *findings: Finding) -> None:
        for finding in findings:
            self.findings.append(finding)
            self._tell(finding)


async def examine(config: Path | None, tell: Callable[[Finding], None], *, has_probe: bool = False) -> Diagnosis:
    """Tries all that a gateway with these settings needs.

    Args:
        config: the settings' file; None as `settings.load` has it.
        tell: called with each finding as it is made.
        has_probe: whether what the platform's lists do is measured too.
    """
    notes = _Notes(tell)
    settings, source, found = own.read_settings(config)
    notes.add(*found)
    if settings is None:
        return Diagnosis(notes.findings)
    found, broken = own.look_at_files(settings, source)
    notes.add(*found)
    notes.add(*await look_at_gateway(settings.admin_listen))
    is_ca_broken = own.is_broken(broken, "platform.ca_file")
    found = await look_at_platform(settings.platform, is_ca_broken=is_ca_broken)
    notes.add(*found)
    clock = StoreClock()
    link, is_counted = await _look_at_redis(settings, broken, clock, notes)
    for name, webhook in settings.webhooks.items():
        is_own_broken = own.is_broken(broken, f"webhooks.{name}.ca_file")
        notes.add(*await look_at_webhook(name, webhook, is_ca_broken=is_own_broken))
    try:
        if has_failed(found) or is_ca_broken:
            return _without_calls(settings, notes, "the platform is not reached")
        if not is_counted:
            return _without_calls(settings, notes, "no call is made that the ledger in Redis does not count")
        probes = await _look_at_streams(settings, broken, link, clock, notes, has_probe=has_probe)
        return Diagnosis(notes.findings, probes)
    finally:
        if link is not None:
            await link.close()


async def _look_at_redis(
    settings: Settings, broken: frozenset[str], clock: StoreClock, notes: _Notes
) -> tuple[RedisLink | None, bool]:
    """The link, if there is a Redis, and whether calls can be counted."""
    cache = settings.cache
    if cache.url == "memory://":
        why = "no Redis (memory://): running gateways do not count these calls, which keep within the reserve"
        notes.add(skipped(Check.REDIS_NAME, "cache.url", why))
        return None, True
    if own.is_broken(broken, "cache"):
        notes.add(skipped(Check.REDIS_NAME, "cache.url", "not tried: a file of its settings cannot be used"))
        return None, False
    link = open_link(redis_target(cache), clock, Metrics(CollectorRegistry()), cache.prefix)
    accounts = sorted({row.account_id for row in settings.streams.values()})
    return link, await look_at_redis(cache, accounts, link, notes.add)


def _without_calls(settings: Settings, notes: _Notes, why: str) -> Diagnosis:
    notes.add(*(skipped(Check.STREAM_CALL, alias, f"not tried: {why}") for alias in settings.streams))
    return Diagnosis(notes.findings)


async def _look_at_streams(
    settings: Settings,
    broken: frozenset[str],
    link: RedisLink | None,
    clock: StoreClock,
    notes: _Notes,
    *,
    has_probe: bool,
) -> Mapping[str, Mapping[str, Any]]:
    """What was measured of each stream, by its alias."""
    usable = {
        name: credential
        for name, credential in settings.credentials.items()
        if not own.is_broken(broken, f"credentials.{name}")
    }
    plan, probes = plan_gateway(settings), {}
    async with open_calls(plan, usable, link, clock) as calls:
        asked: dict[str, StreamFacts] = {}
        firsts: dict[str, Asked] = {}
        for alias, stream in plan.streams.items():
            if stream.credential not in usable:
                notes.add(skipped(Check.STREAM_CALL, alias, f"not tried: credential {stream.credential} cannot sign"))
                continue
            firsts[alias], asked[alias] = await _ask_first(plan, calls, stream)
        works = Counter(facts.credential for facts in asked.values() if _verdict(facts) is Verdict.OK)
        for alias, facts in asked.items():
            notes.add(*stream_verdicts.judge(await _ask_again(calls, plan.streams[alias], facts, works)))
            if has_probe and _verdict(facts) is Verdict.OK:
                found, probes[alias] = await probe_stream(plan, calls, plan.streams[alias], firsts[alias])
                notes.add(*found)
    return probes


async def _ask_first(plan: Plan, calls: Calls, stream: Stream) -> tuple[Asked, StreamFacts]:
    account = stream.tenant.account
    # Before the call, which shows in both.
    known, allowed = sum(calls.budget.window_calls(account).values()), calls.budget.capacity(account)
    body = list_body(Channel.VOICE, 0, PAGE_ROWS)
    asked = await calls.ask(stream, LIST, plan.settings.platform.timeout, body=body)
    fetched = asked.fetched
    return asked, StreamFacts(
        alias=stream.alias,
        credential=stream.credential,
        lifetime=plan.settings.credentials[stream.credential].token_lifetime,
        first=fetched.answer if isinstance(fetched, Fetched) else fetched,
        seconds_ahead=asked.seconds_ahead,
        known=known,
        allowed=allowed,
        is_shared=calls.is_shared,
    )


async def _ask_again(calls: Calls, stream: Stream, facts: StreamFacts, works: Counter[str]) -> StreamFacts:
    """The facts, and for a refused token what tells a wrong credential from a wrong application.

    The platform has one text for both. It verifies a signature before it looks at the times, and says so.
    """
    if not stream_verdicts.is_ambiguous(facts):
        return facts
    if works[facts.credential]:
        return replace(facts, is_credential_good=True)
    body = list_body(Channel.VOICE, 0, 1)
    answers = {
        token: fetched.answer
        for token in (Token.EXPIRED, Token.SINGLE_USE)
        if isinstance(fetched := (await calls.ask(stream, LIST, 1.0, body=body, token=token)).fetched, Fetched)
    }
    return replace(facts, expired=answers.get(Token.EXPIRED), single_use=answers.get(Token.SINGLE_USE))


def _verdict(facts: StreamFacts) -> Verdict | None:
    return getattr(facts.first, "verdict", None)
