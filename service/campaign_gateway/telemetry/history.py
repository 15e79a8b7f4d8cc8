"""What people want to look back on: figures of the last minutes, the last events, the last calls.

Nothing is counted for it: figures are differences of the counters that the metrics publish, taken at a tick and when
somebody looks; events are the log lines of changes of state. All of it is bounded, and of this process.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from typing_extensions import override

from campaign_gateway.proxy.ports import PlatformCall
from campaign_gateway.telemetry.counters import quantile
from campaign_gateway.telemetry.logs import mask
from campaign_gateway.telemetry.metrics import Metrics, Totals

STEP_SECONDS = 5.0
STEPS = 180
"""Fifteen minutes."""
LAST = 200
"""Events, and calls, that are kept."""
FIGURE_SECONDS = 60.0
"""What the figures of this moment are of."""
AGE_SECONDS = 300.0
"""What the ages are of."""
HIGH = 0.99
AT_ONCE = frozenset({"hit", "stale"})
PACKAGE = "campaign_gateway"
"""The logger whose lines are events ..."""
_REQUESTS = f"{PACKAGE}.requests"
"""... but for those of requests."""


@dataclass(frozen=True, slots=True)
class Event:
    """A log line of a change of state."""

    time: float
    """Seconds since the epoch."""
    level: str
    source: str
    """The module that wrote it."""
    text: str


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A call to the platform, and when it ended."""

    time: float
    stream: str
    operation: str
    campaign: str
    """Its id, without phone numbers: callers choose ids. Empty where the call is about none."""
    lane: str
    client: str
    reason: str
    outcome: str
    status: int | None
    """Of the answer; None where there was none."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was answered in a span of time. None where nothing was."""

    reads: float
    """A second."""
    at_once: float | None
    """The part of them that waited for no call."""
    oldest: float | None
    """Seconds that ninety-nine answers in a hundred are not older than."""
    slowest: float | None
    """Seconds that ninety-nine in a hundred have not taken longer than."""
    answers: Mapping[str, int]
    """By what the cache did."""


@dataclass(frozen=True, slots=True)
class StreamPoint:
    """A stream in use, at one tick."""

    signal: float | None
    """The bound that its polls give; None while they give none."""
    lists: Mapping[str, str]
    """What each channel's list was good for."""


@dataclass(frozen=True, slots=True)
class Point:
    """One tick."""

    time: float
    figures: Figures
    streams: Mapping[str, StreamPoint]


Look = Callable[[float], Mapping[str, StreamPoint]]
"""The streams in use, by alias; the argument is the number of seconds since the last tick."""


class History(logging.Handler):
    """The recorder. As a handler of the package's logger it takes the events."""

    def __init__(self, metrics: Metrics, look: Look, clock: Callable[[], float] = time.time) -> None:
        """Nothing yet.

        Args:
            metrics: where the counters are.
            look: tells of the streams at each tick.
            clock: seconds since the epoch.
        """
        super().__init__(logging.INFO)
        self._metrics = metrics
        self._look = look
        self._clock = clock
        first = clock(), metrics.totals()
        self._totals: deque[tuple[float, Totals]] = deque([first], maxlen=int(AGE_SECONDS / STEP_SECONDS) + 1)
        """At each tick."""
        self.points: deque[Point] = deque(maxlen=STEPS)
        self.events: deque[Event] = deque(maxlen=LAST)
        self.calls: deque[LoggedCall] = deque(maxlen=LAST)
        self.calls_by_client: Counter[str] = Counter()
        """Since the start."""

    async def run(self) -> None:
        """Ticks for as long as it runs."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            self.tick()

    def tick(self) -> None:
        """Notes what has come about since the last one."""
        last, before = self._totals[-1]
        moment, now = self._clock(), self._metrics.totals()
        self._totals.append((moment, now))
        self.points.append(Point(moment, _figures(before, now, moment - last), self._look(moment - last)))

    def figures(self) -> Figures:
        """Those of the last minute, up to this moment."""
        moment, before = self._totals[-min(int(FIGURE_SECONDS / STEP_SECONDS), len(self._totals))]
        return _figures(before, self._metrics.totals(), self._clock() - moment)

    def ages(self) -> tuple[tuple[float, ...], list[int]]:
        """Upper bounds of ages in seconds, and the answers of the last five minutes in each range, and beyond."""
        now = self._metrics.totals()
        return now.age_bounds, _grown(self._totals[0][1].ages, now.ages)

    def note_call(self, call: PlatformCall) -> None:
        """Remembers the call."""
        request = call.request
        self.calls_by_client[request.client] += 1
        self.calls.append(
            LoggedCall(
                time=self._clock(),
                stream=request.stream.alias,
                operation=request.operation.name,
                campaign=mask(request.id),
                lane=call.lane.value,
                client=request.client,
                reason=call.reason,
                outcome=call.outcome,
                status=call.status,
                seconds=call.seconds,
            )
        )

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _REQUESTS:
            return
        try:
            text = mask(record.getMessage())
        except (TypeError, ValueError):
            # A line whose values do not fit its text: who writes the log says so.
            return
        source = record.name.removeprefix(f"{PACKAGE}.")
        self.events.append(Event(record.created, record.levelname.lower(), source, text))


def _figures(before: Totals, now: Totals, seconds: float) -> Figures:
    answers = {name: count - before.answers.get(name, 0) for name, count in now.answers.items()}
    reads = sum(count for name, count in answers.items() if name != "none")
    at_once = sum(answers.get(name, 0) for name in AT_ONCE)
    return Figures(
        reads=reads / max(seconds, STEP_SECONDS),
        at_once=at_once / reads if reads else None,
        oldest=quantile(now.age_bounds, _grown(before.ages, now.ages), HIGH),
        slowest=quantile(now.second_bounds, _grown(before.seconds, now.seconds), HIGH),
        answers={name: count for name, count in answers.items() if count},
    )


def _grown(before: tuple[int, ...], now: tuple[int, ...]) -> list[int]:
    return [new - old for old, new in zip(before, now, strict=True)]
