"""What the console is told, out of what the rooms know already."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from typing_extensions import override

from campaign_gateway import __version__
from campaign_gateway.admin.console import Console, Purged
from campaign_gateway.app.build import Plan, current_capacity
from campaign_gateway.app.readiness import Readiness
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.strip import strip
from campaign_gateway.contract.document import members, text_of, value_of
from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.forecast import Forecast, forecast
from campaign_gateway.policy.pacing import Capacity, Workload
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexSnapshot, IndexState
from campaign_gateway.policy.visibility import list_condition
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.explain import Explainer
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.ports import CampaignIndex
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.telemetry.history import STEP_SECONDS, History, StreamPoint
from campaign_gateway.telemetry.logs import mask
from campaign_gateway.telemetry.metrics import ClientTotals, Metrics
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.web.clients import Clients, allow
from campaign_gateway.web.rejected import RejectedError

READS_A_MINUTE = 0.693
"""Of a steady rate of reads each of which counts half after a minute, this part is what one minute brings."""
MOST_ACCOUNTS = 100
MOST_NAMED_BYTES = 65_536
"""Of a body in which a name is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorsConsole(Console):
    """The console of one process."""

    plan: Plan
    readiness: Readiness
    budget: CallBudget
    index: CampaignIndex
    memory: MemoryStore
    fetcher: Fetcher
    sweepers: Mapping[str, Sweeper]
    """By the stream's alias."""
    explainer: Explainer
    history: History
    metrics: Metrics
    clients: Clients
    invalidator: Invalidator
    credential_version: Callable[[Stream], int]
    """Of the secret that signs for it."""
    reloader: Reloader
    worker: int | None
    """This process's number, when it is one of several."""

    def _stream(self, alias: str | None) -> Stream | None:
        return self.plan.streams.get(alias or self.plan.settings.default_stream or next(iter(self.plan.streams)))

    @override
    async def state(self, stream: str | None) -> Mapping[str, object] | None:
        shown = self._stream(stream)
        if shown is None:
            return None
        account = shown.tenant.account
        await self.budget.refresh(account)
        accounts = await self._accounts()
        bounds, window = self.explainer.bounds(shown.identity), self.budget.window(account)
        age_bounds, age_counts = self.history.ages()
        return {
            "version": __version__,
            "now": time.time(),
            "generation": self.reloader.generation,
            "worker": self.worker,
            "workers": self.plan.settings.workers,
            "purge_needs_key": bool(self.plan.settings.clients),
            "stream": shown.alias,
            "streams": list(self.plan.streams),
            "strip": strip(
                self.plan,
                self.readiness,
                shown,
                platform=self.fetcher.state,
                index=self.index,
                replicas=self.budget.replicas(account),
                now=self.explainer.store.now(),
                version_of=self.credential_version,
            ),
            "figures": {
                **_members(self.history.figures()),
                "signal_bound": bounds.signal,
                "blind_bound": bounds.blind,
                "is_validating": bounds.is_validating,
                "hard_bound": self.plan.freshness.stale_if_error,
                "longest_lifetime": self.plan.freshness.max,
            },
            "history": self._history(shown.alias),
            "account": {
                "name": account,
                "replicas": self.budget.replicas(account),
                "cut_off": self.budget.is_cut_off(account),
                "waiting": self.budget.waiting(account),
                **_members(window),
            },
            "accounts": accounts,
            "ages": {"bounds": age_bounds, "counts": age_counts},
            "lists": list(self._lists(shown)),
            "clients": list(self._clients()),
            "events": list(self.history.events)[::-1],
            "calls": list(self.history.calls)[::-1],
        }

    def _history(self, alias: str) -> Mapping[str, object]:
        points = list(self.history.points)
        seen = [point.streams.get(alias) for point in points]
        channels = {channel for row in seen if row is not None for channel in row.lists}
        return {
            "step": STEP_SECONDS,
            "times": [point.time for point in points],
            "reads": [point.figures.reads for point in points],
            "at_once": [point.figures.at_once for point in points],
            "oldest": [point.figures.oldest for point in points],
            "slowest": [point.figures.slowest for point in points],
            "signal_bound": [None if row is None else row.signal for row in seen],
            "lists": {
                channel: ["off" if row is None else row.lists.get(channel, "off") for row in seen]
                for channel in sorted(channels)
            },
        }

    async def _accounts(self) -> list[Mapping[str, object]]:
        rows: list[Mapping[str, object]] = []
        streams: dict[str, list[str]] = {}
        for alias, stream in self.plan.streams.items():
            streams.setdefault(stream.tenant.account, []).append(alias)
        for name in self.plan.accounts[:MOST_ACCOUNTS]:
            # Some 0.3 ms each, where nothing has been asked for a second.
            await asyncio.sleep(0)
            row = {
                "name": name,
                "calls": self.plan.allowance(name).calls,
                "held": sum(self.budget.window_calls(name).values()),
                "remaining": self.budget.remaining(name),
                "is_paused": self.budget.is_paused(name),
                "streams": streams[name],
            }
            rows.append(row)
        return rows

    def _lists(self, stream: Stream) -> Iterator[Mapping[str, object]]:
        state, now = self.index.snapshot(stream.identity).state, self.explainer.store.now()
        sweeper = self.sweepers[stream.alias]
        for channel in Channel:
            last = state.polls.get(channel)
            yield {
                "channel": channel,
                "is_polled": channel in state.paced,
                "condition": list_condition(state, channel, now, now),
                "flaw": state.flaws.get(channel),
                "interval": sweeper.pace.poll_intervals.get(channel),
                "polled_ago": None if last is None else now - last.began,
                "good_for": None if last is None else last.lasts,
                "total": None if last is None else last.total,
                "scanned_ago": None if last is None or not last.full_scan_at else now - last.full_scan_at,
                "lag": state.lag,
                "is_leading": sweeper.is_leading,
            }

    def _clients(self) -> Iterator[Mapping[str, object]]:
        totals, now = self.metrics.by_client(), time.time()
        keys: dict[str, list[Mapping[str, object]]] = {name: [] for name in totals}
        for client in self.clients.by_key():
            used, expires = client.key.last_used(), client.key.expires
            row = {"name": client.key.name, "last_used_ago": now - used if used else None, "expires_in": expires - now}
            keys.setdefault(client.name, []).append(row)
        for name in sorted(keys):
            yield {
                "name": name,
                **_members(totals.get(name, ClientTotals())),
                "calls": self.history.calls_by_client[name],
                "keys": keys[name],
            }

    @override
    async def campaigns(self, stream: str | None, question: str, first: int, count: int) -> object | None:
        shown = self._stream(stream)
        if shown is None:
            return None
        snapshot, interest = self.index.snapshot(shown.identity), self.index.interest(shown.identity)
        kept = self.memory.keys()
        # Thousands of names take longer than the loop may be held up.
        size = 16 * (len(snapshot.campaigns) + len(kept))
        ids = await beside(size, _find, snapshot, interest, kept, Request(shown, GET, "", "").key, question)
        return {
            "stream": shown.alias,
            "total": len(ids),
            "first": first,
            "rows": [self._row(shown, snapshot, interest, id_) for id_ in ids[first : first + count]],
        }

    def _row(self, stream: Stream, snapshot: IndexSnapshot, interest: Mapping[str, float], id_: str) -> object:
        known, stored = self.explainer.glance(stream, id_)
        indexed = snapshot.campaigns.get(id_)
        listed = None if indexed is None else indexed.fields.get("name")
        name = listed if isinstance(listed, str) else _name_in(stored)
        return {
            "id": id_,
            "name": None if name is None else mask(name),
            "status": indexed.status if indexed is not None else stored and stored.campaign_status,
            "reads": interest.get(id_, 0.0) * READS_A_MINUTE,
            "known": known,
        }

    @override
    def forecast(self, stream: str | None, changed: Mapping[str, float]) -> object | None:
        shown = self._stream(stream)
        if shown is None:
            return None
        now = current_capacity(self.plan, self.budget, shown.tenant.account)
        capacity = Capacity(now.calls, now.window, now.reserve, now.share, now.others, now.streams)
        workload, state = self.sweepers[shown.alias].workload(), self.index.snapshot(shown.identity).state
        # Of lists that are not known yet, the workload counts what is in use in each.
        used = len(self.index.used(shown.identity))
        return {
            "stream": shown.alias,
            "now": self._foreseen(capacity, workload, state, used),
            "what_if": self._foreseen(*_changed(capacity, workload, changed), state, int(changed.get("used", used))),
        }

    def _foreseen(self, capacity: Capacity, workload: Workload, state: IndexState, used: int) -> object:
        seen: Forecast = forecast(capacity, workload, state.lag, self.plan.freshness.max)
        return {
            "calls": capacity.calls,
            "window": capacity.window,
            "reserve": capacity.reserve,
            "share": capacity.share,
            "others": capacity.others * 60 / capacity.window,
            "used": used,
            "listed": sum(workload.listed.values()),
            "changes": seen.changes,
            "signal_bound": seen.signal,
            "blind_bound": seen.blind,
            "poll_intervals": seen.pace.poll_intervals,
            "calls_a_minute": seen.calls,
            "capacity": seen.capacity,
            "readable": seen.readable,
        }

    @override
    def settings(self) -> object:
        tree = self.plan.settings.model_dump(mode="json", exclude_none=True)
        own = {key for key, _ in _flat(self.plan.settings.model_dump(mode="json", exclude_defaults=True))}
        return {"rows": [{"key": key, "value": value, "is_changed": key in own} for key, value in _flat(tree)]}

    @override
    async def purge(self, authorization: Sequence[str], stream: str, campaign: str) -> Purged:
        try:
            client = self.clients.identify(list(authorization))
            allow(client, stream, "purge")
        except RejectedError as error:
            problem = error.failure.problem
            return Purged(problem.status, {"problem": problem.value.name, "detail": error.failure.detail})
        is_shared = await self.invalidator.purge(self.plan.streams[stream], [campaign], client.name)
        return Purged(200 if is_shared else 202, {"purged": [campaign]})


def look_at_streams(plan: Plan, index: CampaignIndex, explainer: Explainer, since: float) -> dict[str, StreamPoint]:
    """The streams in use, by alias, as a tick of the history takes them; `since` is in seconds since the last one."""
    now, found = explainer.store.now(), {}
    for alias, stream in plan.streams.items():
        state = index.snapshot(stream.identity).state
        if state.paced:
            bounds = explainer.bounds(stream.identity)
            lists = {channel.value: list_condition(state, channel, now, now - since).value for channel in Channel}
            found[alias] = StreamPoint(bounds.signal if bounds.is_validating else None, lists)
    return found


def _find(
    snapshot: IndexSnapshot, interest: Mapping[str, float], kept: Sequence[str], prefix: str, question: str
) -> list[str]:
    """Ids of campaigns that are listed, in use or kept here, those that are read most first, and then by name.

    One that callers alone have named, and that may be a phone number, is left out.
    """
    names = {id_: str(row.fields.get("name", "")) for id_, row in snapshot.campaigns.items()}
    kept_ids = (key.removeprefix(prefix) for key in kept if key.startswith(prefix))
    known = {**{id_: "" for id_ in (*kept_ids, *interest) if mask(id_) == id_}, **names}
    wanted = question.casefold()
    ids = [id_ for id_, name in known.items() if wanted in name.casefold() or wanted in id_.casefold()]
    return sorted(ids, key=lambda id_: (-interest.get(id_, 0.0), known[id_], id_))


def _name_in(stored: Stored | None) -> str | None:
    if stored is None or stored.absence is not None or len(stored.body) > MOST_NAMED_BYTES:
        return None
    _, spelled = members(text_of(stored.data)).get("name", ("", ""))
    name = value_of(spelled) if spelled else None
    return name if isinstance(name, str) else None


def _changed(capacity: Capacity, workload: Workload, changed: Mapping[str, float]) -> tuple[Capacity, Workload]:
    """Both with these values (see `WHAT_IF`); `others` and `changes` are a minute's.

    Raises:
        ValueError: they go together in no way.
    """
    calls = int(changed.get("calls", capacity.calls))
    reserve = int(changed.get("reserve", min(capacity.reserve, max(0, calls - 1))))
    share, others = changed.get("share", capacity.share), changed.get("others")
    if not reserve < calls <= 10**6 or share > 1:
        raise ValueError("calls are from 1 to 1,000,000, more than the reserve, and share is from 0 to 1")
    capacity = replace(capacity, calls=calls, reserve=reserve, share=share)
    if others is not None:
        capacity = replace(capacity, others=others * capacity.window / 60)
    used, moves = sum(workload.used.values()), sum(workload.moves.values())
    if "used" in changed:
        part = _parts(workload.used)
        workload = replace(workload, used={channel: round(part[channel] * changed["used"]) for channel in part})
    if "changes" in changed:
        part = _parts(workload.moves if moves else workload.used if used else {})
        workload = replace(workload, moves={channel: part[channel] * changed["changes"] / 60 for channel in part})
    return capacity, workload


def _parts(counts: Mapping[Channel, float]) -> Mapping[Channel, float]:
    """The part of the whole that each channel has; the same for all where there is none."""
    whole = sum(counts.values())
    return {channel: counts.get(channel, 0) / whole if whole else 1 / len(Channel) for channel in Channel}


def _members(value: Any) -> Mapping[str, object]:
    """Those of a dataclass as they are: `asdict` copies each value in them, ten times as slowly."""
    return {row.name: getattr(value, row.name) for row in fields(value)}


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """The values of a tree, with the names on the way to each; a list is a value."""
    if isinstance(tree, dict) and (tree or not path):
        for name, value in tree.items():
            yield from _flat(value, f"{path}.{name}" if path else str(name))
    else:
        yield path, tree
