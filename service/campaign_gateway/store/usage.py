"""Which campaigns are in use, and how often each is asked for: what is known of it in this process."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from campaign_gateway.proxy.ports import USED_SECONDS
from campaign_gateway.proxy.request import EVERY

MAX_USED = 50_000
"""Campaigns of a stream whose use is noted; what is beyond lives by its own lifetime."""
PRUNE_SECONDS = 30.0
"""How often it is looked for campaigns that are no longer in use, so that they keep no room from others."""
LISTENED_SECONDS = 60.0
"""For how long a stream counts as listened to: who listens says so again and again, who asks now and then does too."""
HALF_LIFE_SECONDS = 60.0
"""After which a read counts half: long enough to tell a favourite from a chance, short enough to follow a change."""


@dataclass(slots=True)
class _Use:
    at: float
    """When it was last asked for."""
    reads: float
    """Reads until then, each of them halved for each half-life that has passed since."""


class Usage:
    """What is asked for, stream by stream. Times are those of the store's clock."""

    def __init__(self, on_first: Callable[[str], None]) -> None:
        """No use yet.

        Args:
            on_first: called with a stream of which a campaign is in use, when none was before.
        """
        self._on_first = on_first
        self._streams: dict[str, dict[str, _Use]] = {}
        self._pruned_at = 0.0
        self._last: dict[str, float] = {}
        """When each stream was last asked for anything."""
        self._listened: dict[str, float] = {}
        """When somebody last listened to its changes."""

    def listen(self, stream: str, at: float) -> None:
        """Somebody listens to the stream's changes, which makes none of its campaigns one in use."""
        last = self._listened.get(stream)
        self._listened[stream] = at if last is None else max(at, last)
        if last is None or at - last > LISTENED_SECONDS:
            self._on_first(stream)

    def is_listened(self, stream: str, now: float) -> bool:
        """Whether somebody listens to the stream's changes."""
        return self._listened.get(stream, 0.0) >= now - LISTENED_SECONDS

    def note(self, stream: str, id_: str, at: float, reads: float = 1.0) -> bool:
        """Whether the use could be noted: a stream has room for so many campaigns.

        Args:
            stream: whose campaign.
            id_: which.
            at: when it was last asked for.
            reads: how often it was asked for since it was noted before; 0 if that is not known.
        """
        uses = self._streams.setdefault(stream, {})
        use = uses.get(id_)
        if use is None:
            if len(uses) >= MAX_USED:
                return False
            uses[id_] = _Use(at, reads)
        else:
            # Others' notes arrive late: whichever is the older has faded more.
            newest = max(at, use.at)
            use.reads = use.reads * _faded(newest - use.at) + reads * _faded(newest - at)
            use.at = newest
        last = self._last.get(stream)
        if last is None or at > last:
            self._last[stream] = at
            if last is None or at - last > USED_SECONDS:
                self._on_first(stream)
        return True

    def used_at(self, stream: str, id_: str) -> float | None:
        """When the campaign was last asked for; None where that is too long ago. `EVERY`: when somebody listened."""
        if id_ == EVERY:
            return self._listened.get(stream)
        use = self._streams.get(stream, {}).get(id_)
        return use.at if use is not None else None

    def streams(self, now: float) -> list[str]:
        """Those of which a campaign is in use, or that are listened to. The others are forgotten."""
        for stream in [stream for stream, at in self._last.items() if at < now - USED_SECONDS]:
            self._forget(stream)
        if abs(now - self._pruned_at) > PRUNE_SECONDS:
            self._pruned_at = now
            for stream in list(self._streams):
                self.used(stream, now)
        for stream in [stream for stream in self._listened if not self.is_listened(stream, now)]:
            del self._listened[stream]
        return list(self._last | self._listened)

    def used(self, stream: str, now: float) -> Mapping[str, float]:
        """The campaigns in use, and when each was last asked for. Those no longer in use are forgotten."""
        uses = self._streams.get(stream, {})
        used = {id_: use.at for id_, use in uses.items() if use.at >= now - USED_SECONDS}
        if not used:
            # Whoever sleeps on that is woken by the next use, whatever the clock does meanwhile.
            self._forget(stream)
        elif len(used) < len(uses):
            self._streams[stream] = {id_: uses[id_] for id_ in used}
        return used

    def interest(self, stream: str, now: float) -> Mapping[str, float]:
        """Reads of each campaign in use, a read counting half after each half-life."""
        uses = self._streams.get(stream, {})
        return {id_: use.reads * _faded(now - use.at) for id_, use in uses.items() if use.at >= now - USED_SECONDS}

    def _forget(self, stream: str) -> None:
        self._streams.pop(stream, None)
        self._last.pop(stream, None)


def _faded(seconds: float) -> float:
    """What is left of one read. Clocks need not agree: one from the future counts as one."""
    return math.exp2(-max(0.0, seconds) / HALF_LIFE_SECONDS)
