"""The strip above each screen of the console: what is well and what is not, and since when."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from campaign_gateway import __version__
from campaign_gateway.app.build import Plan
from campaign_gateway.app.readiness import Readiness
from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.sweeping import IndexState
from campaign_gateway.policy.visibility import ListCondition, list_condition
from campaign_gateway.proxy.platform_state import PlatformState
from campaign_gateway.proxy.ports import CampaignIndex
from campaign_gateway.proxy.request import Stream

MOST_CREDENTIALS = 5
"""Where there are more, the stream's own and those that are refused are shown."""
_ALWAYS = {"listener": "callers", "platform": "platform"}
"""Parts of readiness that are always shown, and those that are only while something is wrong with them."""
_AT_TIMES = {"budget": "budget", "platform_clock": "platform's clock", "tasks": "background", "settings": "settings"}


@dataclass(frozen=True, slots=True)
class Chip:
    """One thing."""

    name: str
    status: str
    """`ok`, `degraded` or `down`, as in `/readyz`."""
    text: str
    reason: str | None = None
    since: str | None = None
    """When it was first seen so, as RFC 3339 has it, where that is known."""


def strip(
    plan: Plan,
    readiness: Readiness,
    stream: Stream,
    *,
    platform: PlatformState,
    index: CampaignIndex,
    replicas: int,
    now: float,
    version_of: Callable[[Stream], int],
) -> list[Chip]:
    """The chips, for whoever looks at this stream; `now` is by the store's clock."""
    parts = readiness()
    shown = {**_ALWAYS, **{name: text for name, text in _AT_TIMES.items() if parts[name].status != "ok"}}
    chips = [
        Chip(name, parts[name].status, text, parts[name].reason, readiness.since(name)) for name, text in shown.items()
    ]
    versions = {each.credential: version_of(each) for each in (stream, *plan.streams.values())}
    chips += _credentials(versions, stream.credential, platform, parts["credential"].since)
    store = f"store {_place(plan.settings.cache.url)}"
    chips.append(Chip("store", parts["store"].status, store, parts["store"].reason, readiness.since("store")))
    chips += _lists(index.snapshot(stream.identity).state, now, parts["sweep"].since)
    replicas_text = "1 replica" if replicas == 1 else f"{replicas} replicas"
    return [*chips, Chip("replicas", "ok", f"{replicas_text} · {__version__}")]


def _credentials(versions: Mapping[str, int], own: str, platform: PlatformState, since: str | None) -> Iterator[Chip]:
    for name, version in versions.items():
        trouble = platform.refused.get(name)
        text = f"credential {name} v{version}"
        if trouble is not None:
            yield Chip("credential", "degraded", text, trouble.reason, since)
        elif name == own or len(versions) <= MOST_CREDENTIALS:
            yield Chip("credential", "ok", text)


def _lists(state: IndexState, now: float, since: str | None) -> Iterator[Chip]:
    for channel in Channel:
        text = f"list {channel}"
        match list_condition(state, channel, now, now):
            case ListCondition.DISTRUSTED:
                yield Chip("list", "degraded", text, f"not trusted ({state.flaws[channel]}): lifetimes count", since)
            case ListCondition.LATE:
                yield Chip("list", "degraded", text, "no poll of late: lifetimes count", since)
            case ListCondition.OFF:
                yield Chip("list", "ok", text, "not in use")
            case ListCondition.POLLED | ListCondition.VALID:
                yield Chip("list", "ok", text)


def _place(url: str) -> str:
    """Where the store is, without a password."""
    parts = urlsplit(url)
    return "memory" if parts.scheme == "memory" else parts.netloc.rpartition("@")[2] or parts.path
