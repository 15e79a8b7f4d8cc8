"""What operators see: how each part of the gateway is, and the values that are read at each scrape."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from campaign_gateway.admin.probes import Part
from campaign_gateway.app.build import Plan
from campaign_gateway.app.reload import Reloader
from campaign_gateway.contract.listing import STATUSES, Channel
from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.sweeping import IndexedCampaign, ListFlaw
from campaign_gateway.proxy.bounds import StatedBounds
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.circuit_breaker import CircuitBreaker
from campaign_gateway.proxy.platform_clock import PlatformClock, describe
from campaign_gateway.proxy.platform_state import PlatformState
from campaign_gateway.proxy.ports import CampaignIndex, Traces
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.telemetry.metrics import Gauges, Metrics
from campaign_gateway.telemetry.turns import LoopWatch
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.web.api import Api
from campaign_gateway.web.clients import Clients
from campaign_gateway.web.server import Server
from campaign_gateway.web.tls import TlsFiles

OK = Part("ok")
NOT_WRITTEN_DOWN = Part("ok", "calls are not written down (no directory)")


OTHER_STATUS = "other"


def listener_part(api: Api, server: Server, tls_fault: str | None) -> Part:
    """Down while stopping; degraded while no file descriptors are left for callers, or a new certificate is refused."""
    if api.is_draining:
        return Part("down", "stopping")
    if tls_fault is not None:
        return Part("degraded", f"{tls_fault}: the previous certificate stays in use")
    return Part("degraded", "no file descriptors for more callers: they are refused") if server.is_full else OK


def redis_part(fault: str | None) -> Part:
    """Degraded while Redis is lost, and local copies and this replica's own calls remain; or takes no new answers."""
    return OK if fault is None else Part("degraded", f"redis: {fault}")


def files_part(faults: Mapping[str, Callable[[], str | None]]) -> Part:
    """Always ok: what is not written down now is missed at the next start only."""
    lost = [f"{kind} are not written down ({reason})" for kind, fault in faults.items() if (reason := fault())]
    return Part("ok", "; ".join(lost) or None)


def budget_part(budget: CallBudget, accounts: Sequence[str]) -> Part:
    """Degraded while an account's calls cannot be shared out, or the platform has asked for a pause."""
    if any(map(budget.is_cut_off, accounts)):
        return Part("degraded", "the shared ledger of calls is lost: keeping to this replica's share")
    ends = [
        f"{account} until {_clock_in(left)}"
        if left
        else f"{account} until it answers the next call, which may be tried"
        for account, left in (
            (account, budget.pause_left(account)) for account in accounts if budget.is_paused(account)
        )
    ]
    return Part("degraded", f"the platform asked for a pause: {', '.join(ends)}") if ends else OK


def platform_part(state: PlatformState, url: str) -> Part:
    """Degraded while the platform, which is at this URL, fails."""
    trouble = state.trouble
    if trouble is None:
        return OK
    return Part("degraded", f"{url}: {trouble.reason}, since {_clock_of(trouble.since)}")


def credential_part(state: PlatformState, breaker: CircuitBreaker) -> Part:
    """Degraded while the platform refuses a credential."""
    now = time.monotonic()
    said = [
        f"{trouble.reason}, since {_clock_of(trouble.since)}, tried again from {_clock_in(breaker.rests(name, now))} on"
        for name, trouble in state.refused.items()
    ]
    return Part("degraded", "; ".join(said)) if said else OK


def sweep_part(index: CampaignIndex, identities: Mapping[str, str], stated: Callable[[str], StatedBounds]) -> Part:
    """Degraded while a list is not trusted, or not read to its end yet. `identities` are by the streams' aliases."""
    said = []
    for alias, identity in identities.items():
        state = index.snapshot(identity).state
        said += [
            f"the {channel} list of {alias} is not trusted ({flaw}): lifetimes count"
            for channel, flaw in state.flaws.items()
        ]
        if state.paced and not state.flaws and not stated(identity).is_validating:
            said.append(f"the lists of {alias} do not validate anything yet: lifetimes count")
    return Part("degraded", "; ".join(said)) if said else OK


def _clock_of(moment: float) -> str:
    """A moment on the monotonic clock as the time of day."""
    return _clock_in(moment - time.monotonic())


def _clock_in(seconds: float) -> str:
    return time.strftime("%H:%M:%SZ", time.gmtime(time.time() + seconds))


def tasks_part(failing: Sequence[Mapping[str, str]]) -> Part:
    """Degraded while background work fails; it is begun again and again."""
    failed = [f"{name} ({error})" for tasks in failing for name, error in tasks.items()]
    return Part("degraded", f"failing in the background: {', '.join(failed)}") if failed else OK


def settings_part(reloader: Reloader) -> Part:
    """Degraded while the last settings that were read are refused; those before are in use."""
    if reloader.fault is not None:
        return Part("degraded", f"refused, generation {reloader.generation} stays in use: {reloader.fault}")
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(reloader.read_at))
    return Part("ok", f"generation {reloader.generation}, read at {moment}")


def clock_part(clock: PlatformClock) -> Part:
    """Degraded while the platform's clock and the store's are far apart."""
    if not clock.is_far_off:
        return OK
    return Part(
        "degraded",
        f"the platform's clock is {describe(clock.true_offset())}: the times that it names are corrected by that; "
        "see which of the two is wrong",
    )


# Gauges: each is read when somebody scrapes.


def show_memory(gauges: Gauges, memory: MemoryStore) -> None:
    """Publishes how much is kept in this process."""
    gauges.add("entries", "Entries kept in this process.", lambda: len(memory), store="memory")
    text = "Bytes of the entries in this process, as counted against local_max_bytes."
    gauges.add("entries_bytes", text, lambda: memory.bytes_used, store="memory")


def show_redis(gauges: Gauges, is_up: Callable[[], bool]) -> None:
    """Publishes whether Redis answers."""
    gauges.add("store_up", "Whether the store answers (1) or not (0).", is_up, store="redis")


def show_files(gauges: Gauges, faults: Mapping[str, Callable[[], str | None]]) -> None:
    """Publishes what the next start will find."""
    text = "Whether state for the next start is written to disk (1) or not (0), by kind."
    for kind, fault in faults.items():
        gauges.add("written_down", text, partial(_is_none, fault), kind=kind)


def _is_none(read: Callable[[], str | None]) -> bool:
    return read() is None


def show_budget(gauges: Gauges, budget: CallBudget, plan: Plan) -> None:
    """Publishes what each account may do, has left, and waits for."""
    for account in plan.accounts:
        add = partial(gauges.add, account=account)
        add("budget_calls", "Calls that the account may make in a window.", partial(_calls, plan, account))
        add("budget_remaining", "Calls that the account could make now.", partial(budget.remaining, account))
        text = "Whether a pause that the platform requested is in effect (1)."
        add("budget_paused", text, partial(budget.is_paused, account))
        add("budget_replicas", "Replicas that share the budget, as last seen.", partial(budget.replicas, account))
        add("budget_cut_off", "Whether the shared ledger of calls is lost (1).", partial(budget.is_cut_off, account))
        text = "Calls in a window that the platform has been seen to allow."
        add("budget_capacity", text, partial(budget.capacity, account))
        text = "Seconds until the pause that the platform requested may end; 0 without a pause."
        add("budget_pause_ends_seconds", text, partial(budget.pause_left, account))
        text = "Calls in the current window, by lane."
        for lane in Lane:
            add("budget_window_calls", text, partial(_held, budget, account, lane), lane=lane.value)


def _calls(plan: Plan, account: str) -> float:
    return plan.settings.budget_of(account).calls


def _held(budget: CallBudget, account: str, lane: Lane) -> int:
    return budget.window_calls(account).get(lane, 0)


def show_sweep(
    gauges: Gauges, stream: Stream, sweeper: Sweeper, index: CampaignIndex, stated: Callable[[str], StatedBounds]
) -> None:
    """Publishes a stream's bounds, and whether polls of its list give them."""
    add, identity = partial(gauges.add, stream=stream.alias), stream.identity
    text = "Seconds within which a change of updatedAt is seen."
    add("signal_bound_seconds", text, lambda: stated(identity).signal)
    text = "Seconds within which any change of a campaign in use is seen."
    add("blind_bound_seconds", text, lambda: stated(identity).blind)
    text = "Whether polls of the stream's list validate stored answers (1) or lifetimes count (0)."
    add("sweep_up", text, lambda: stated(identity).is_validating)
    add("sweep_leading", "Whether this replica polls the stream's list (1) or not (0).", lambda: sweeper.is_leading)
    text = "Campaigns that the stream's lists have shown."
    add("sweep_campaigns", text, lambda: len(index.snapshot(identity).campaigns))
    text = "Whether the stream's list is not trusted (1), by flaw."
    for flaw in ListFlaw:
        add("sweep_distrusted", text, partial(_is_distrusted, index, identity, flaw), flaw=flaw.value)


def show_changes(metrics: Metrics, stream: Stream, index: CampaignIndex, feed: Feed) -> None:
    """Publishes what a stream's lists hold, and who listens to its changes."""
    identity, add = stream.identity, partial(metrics.gauges.add, stream=stream.alias)
    add("subscribers", "Callers who listen to the stream's changes.", partial(feed.listeners, identity))
    metrics.changes_of(stream.alias, (type_.value for type_ in ChangeType))
    census = Census(index, identity)
    text = "Campaigns that the stream's lists show, by channel and status; other for a status that is not documented."
    for channel in Channel:
        for name in (*STATUSES, OTHER_STATUS):
            add("campaigns", text, partial(census.count, channel, name), channel=channel.value, status=name)


class Census:
    """How many campaigns a stream's lists show in each status; counted once for each state of the index."""

    def __init__(self, index: CampaignIndex, stream: str) -> None:
        self._index = index
        self._stream = stream
        self._counted: Mapping[str, IndexedCampaign] | None = None
        self._counts: Counter[tuple[Channel, str]] = Counter()

    def count(self, channel: Channel, status: str) -> int:
        """The campaigns of this channel in this status."""
        campaigns = self._index.snapshot(self._stream).campaigns
        if campaigns is not self._counted:
            self._counted = campaigns
            listed = (row for row in campaigns.values() if row.is_listed)
            self._counts = Counter(
                (row.channel, row.status if row.status in STATUSES else OTHER_STATUS) for row in listed
            )
        return self._counts[channel, status]


def _is_distrusted(index: CampaignIndex, identity: str, flaw: ListFlaw) -> bool:
    return flaw in index.snapshot(identity).state.flaws.values()


def show_logs(gauges: Gauges, dropped: Callable[[], int]) -> None:
    """Publishes how many log lines nobody read."""
    gauges.add("log_lines_dropped_total", "Log lines that were dropped since nobody read standard error.", dropped)


def show_traces(gauges: Gauges, traces: Traces) -> None:
    """Publishes what became of spans that were to be sent."""
    text = "Spans that were made, by outcome: exported, or lost since the collector or the queue took no more."
    gauges.add("spans_total", text, lambda: traces.exported, outcome="exported")
    gauges.add("spans_total", text, lambda: traces.lost, outcome="lost")


def show_turns(gauges: Gauges, turns: LoopWatch) -> None:
    """Publishes the longest turn of the event loop."""
    text = "Seconds that the longest turn of the event loop held it up within the last minute."
    gauges.add("loop_blocked_longest_seconds", text, turns.longest)


def show_reloads(gauges: Gauges, reloader: Reloader) -> None:
    """Publishes which settings are in use, by Prometheus' own names for that."""
    text = "Whether the last settings that were read are in use (1) or were refused (0)."
    gauges.add("config_last_reload_successful", text, lambda: reloader.fault is None)
    text = "When settings were last read and not refused, in seconds since 1970."
    gauges.add("config_last_reload_success_timestamp_seconds", text, lambda: reloader.read_at)
    text = "The number of the settings in use: 1 since the start, one more for each reload with a difference."
    gauges.add("settings_generation", text, lambda: reloader.generation)


def show_keys(gauges: Gauges, clients: Clients) -> None:
    """Publishes when each client's key was last used, and until when it is good, in the place of those before."""
    used, expiry = "client_key_last_used_timestamp_seconds", "client_key_expiry_timestamp_seconds"
    gauges.drop(used, expiry)
    for client in clients.by_key():
        key, labels = client.key, {"client": client.name, "key": client.key.name}
        text = "When a client's key was last used here, in seconds since 1970; 0 for not since the start."
        gauges.add(used, text, key.last_used, **labels)
        if key.expires != math.inf:
            text = "When a client's key expires, in seconds since 1970; no row for one that does not."
            gauges.add(expiry, text, partial(float, key.expires), **labels)


def show_server(gauges: Gauges, server: Server) -> None:
    """Publishes how many callers are connected."""
    gauges.add("connections", "Connections of callers that are open.", lambda: server.open_count)


def show_tls(gauges: Gauges, tls: TlsFiles) -> None:
    """Publishes whether a new certificate is of no use."""
    text = "Whether the files of tls have changed and cannot be used (1); those before are in use."
    gauges.add("tls_files_refused", text, lambda: tls.fault is not None)


def show_platform(gauges: Gauges, breaker: CircuitBreaker, clock: PlatformClock) -> None:
    """Publishes what answers show of the platform: whose credentials it refuses, how far its clock is off."""
    text = "Credentials that the platform keeps refusing; they are retried only now and then."
    gauges.add("credentials_refused", text, lambda: breaker.open_count(time.monotonic()))
    text = "Seconds by which the platform's clock is ahead of the store's, measured by the Date of its answers."
    gauges.add("platform_clock_offset_seconds", text, lambda: clock.offset().seconds)
    text = "Uncertainty of the offset in seconds, in both directions; infinite until it is measured."
    gauges.add(
        "platform_clock_uncertainty_seconds",
        text,
        lambda: clock.offset().uncertainty if clock.is_known else float("inf"),
    )
