"""What the best gateway could do with as many calls: a model of calls, lists and edits, without any of the product.

A call holds its place from its beginning until a window after its end. One poll shows all changes of its channel up to
its arrival; each changed campaign in use then costs one read by id, which shows the campaign as it is on its arrival.
Reads go out as soon as there is a place; where there are too few, the campaign that most answers are wrong for first.
Polls take what the next window leaves: none goes out that would keep a read waiting, if changes come at their mean rate
and a few standard deviations more, as many as turn out best in hindsight. Nothing is reserved, nothing rotates, and no
list is longer than a page.
"""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from tests.bench.freshness.scenarios import CALLS, LATENCY, WINDOW, Scenario

VOICE_PART = 0.6
"""The part of campaigns in the first of the two channels."""
POLL_SECONDS = 1.0
"""Shortest distance between two polls of a channel."""
LONGEST_POLL_SECONDS = 30.0
LOOK_SECONDS = 0.25
"""How often polls are planned anew."""
SETTLED_SECONDS = 300.0
CAUTIONS = (0.0, 0.5, 1.0, 1.5)
"""Standard deviations of the changes to come that polls leave room for."""


@dataclass(slots=True)
class Best:
    """What the model saw; as `Phase` has it."""

    delays: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    outdated: float = 0.0


@dataclass(slots=True)
class _Campaign:
    channel: int
    weight: float
    """Its part of callers' reads."""
    unseen: list[float] = field(default_factory=list)
    """When its edits were made that no read has shown yet."""


class _Model:
    def __init__(self, scenario: Scenario, caution: float) -> None:
        self._scenario = scenario
        self._caution = caution
        self._random = Random(f"model {scenario.seed}")
        weights = [(rank + 1) ** -scenario.zipf for rank in range(scenario.used)]
        whole = sum(weights)
        self._campaigns = [_Campaign(int(self._random.random() > VOICE_PART), weight / whole) for weight in weights]
        self._rate = scenario.edits * scenario.used / scenario.campaigns
        self._best = Best()
        self._now = 0.0
        self._held: list[float] = []
        """When each held place falls free; a heap."""
        self._moved: list[set[int]] = [set(), set()]
        """Per channel the campaigns that a poll would show."""
        self._indexed: set[int] = set()
        """The campaigns that polls have shown and no read has."""
        self._reading: set[int] = set()
        self._polled = [0.0, 0.0]
        self._wrong = 0.0
        self._end = SETTLED_SECONDS + scenario.measured
        self._events: list[tuple[float, int, Iterator[float]]] = []
        self._number = 0

    def run(self) -> Best:
        self._go(0.0, self._edits())
        if self._scenario.others:
            self._go(0.0, self._others())
        self._go(0.0, self._polls())
        while self._events[0][0] < self._end + WINDOW:
            now, number, steps = heapq.heappop(self._events)
            self._now = now
            wait = next(steps, None)
            if wait is not None:
                heapq.heappush(self._events, (now + wait, number, steps))
            self._send_reads()
        for campaign in self._campaigns:
            self._note(campaign, campaign.unseen, self._best.unseen)
        self._best.outdated = self._wrong / self._scenario.measured
        return self._best

    def _go(self, at: float, steps: Iterator[float]) -> None:
        """Runs the steps from a moment on; each yields the seconds until the next."""
        self._number += 1
        heapq.heappush(self._events, (at, self._number, steps))

    def _free(self) -> int:
        while self._held and self._held[0] <= self._now:
            heapq.heappop(self._held)
        return CALLS - len(self._held)

    def _call(self) -> float:
        """Takes a place from now on; half of the call's seconds, which are those to its arrival and from it."""
        seconds = self._random.uniform(*LATENCY)
        heapq.heappush(self._held, self._now + seconds + WINDOW)
        return seconds / 2

    def _edits(self) -> Iterator[float]:
        while True:
            yield self._random.expovariate(self._rate)
            number = self._random.randrange(len(self._campaigns))
            campaign = self._campaigns[number]
            campaign.unseen.append(self._now)
            self._moved[campaign.channel].add(number)

    def _others(self) -> Iterator[float]:
        while True:
            yield self._random.expovariate(self._scenario.others / 60)
            if self._free() > 0:
                self._call()

    def _send_reads(self) -> None:
        while (waiting := self._indexed - self._reading) and self._free() > 0:
            number = min(waiting, key=self._urgency)
            self._indexed.discard(number)
            self._reading.add(number)
            half = self._call()
            self._go(self._now + half, self._read(number, half))

    def _urgency(self, number: int) -> tuple[float, float]:
        campaign = self._campaigns[number]
        return -campaign.weight, min(campaign.unseen, default=self._now)

    def _read(self, number: int, half: float) -> Iterator[float]:
        campaign = self._campaigns[number]
        shown, campaign.unseen = campaign.unseen, []
        yield half
        self._reading.discard(number)
        self._note(campaign, shown, self._best.delays)

    def _note(self, campaign: _Campaign, edits: list[float], kept: list[float]) -> None:
        """Notes edits that were shown just now, or never."""
        kept += [self._now - at for at in edits if SETTLED_SECONDS <= at < self._end]
        if edits:
            wrong = min(self._now, self._end) - max(edits[0], SETTLED_SECONDS)
            self._wrong += campaign.weight * max(0.0, wrong)

    def _polls(self) -> Iterator[float]:
        while True:
            channel = min((0, 1), key=self._polled.__getitem__)
            distance = self._poll_distance()
            # Two channels take turns, half a distance apart.
            is_due = self._now >= max(self._polled) + distance / 2 and self._now >= self._polled[channel] + distance
            if is_due and self._free() > 0 and not self._indexed:
                self._polled[channel] = self._now
                half = self._call()
                self._go(self._now + half, self._poll(channel, half))
            yield LOOK_SECONDS

    def _poll_distance(self) -> float:
        """Seconds between two polls of a channel, so that no read will have to wait for a place."""
        asked = self._rate + self._scenario.others / 60
        free, rate = self._free(), math.inf
        for number, falls in enumerate([*sorted(self._held), self._now + WINDOW]):
            ahead = falls - self._now
            if ahead > POLL_SECONDS:
                wanted = asked * ahead
                rate = min(rate, (free + number - wanted - self._caution * math.sqrt(wanted)) / ahead)
        return min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, 2 / rate)) if rate > 0 else LONGEST_POLL_SECONDS

    def _poll(self, channel: int, half: float) -> Iterator[float]:
        shown, self._moved[channel] = self._moved[channel], set()
        yield half
        # What was read since it changed needs no second read.
        self._indexed |= {number for number in shown if self._campaigns[number].unseen}


def best(scenario: Scenario) -> Best:
    """What the best gateway would show of the scenario's edits in the steady state."""
    runs = [_Model(scenario, caution).run() for caution in CAUTIONS]
    return min(runs, key=lambda run: run.outdated if scenario.zipf else _slow(run))


def _slow(run: Best) -> float:
    """Seconds within which nearly all edits were seen."""
    delays = sorted(run.delays + run.unseen)
    return delays[int(0.99 * (len(delays) - 1))] if delays else 0.0
