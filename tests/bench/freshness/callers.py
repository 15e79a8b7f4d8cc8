"""The callers: each campaign in use is read again and again, as the gateway's own front would ask for it."""

import asyncio
import heapq
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from campaign_gateway.contract.operations import GET
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Hit, Reply
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.tasks import Tasks
from tests.bench.freshness.world import Truth

CLIENT = "callers"
TICK_SECONDS = 0.05
"""Reads that are due within it are made together, for one timer costs as much as one read."""


@dataclass(slots=True)
class _Reader:
    """The callers of one campaign."""

    ask: Request
    distance: float
    """Seconds between two reads."""
    edited: list[float]
    seen: list[float]
    hit: Hit | None = None
    number: int = 0
    """Which edit `hit` shows."""


class Callers:
    """Reads, and looks at each answer. One task for all who are due; one for each read that is no hit."""

    def __init__(
        self,
        exchange: Exchange,
        stream: Stream,
        truth: Truth,
        distances: Mapping[str, float],
        random: Random,
        tasks: Tasks,
    ) -> None:
        """Callers who have not begun.

        Args:
            exchange: answers them.
            stream: whose campaigns they read.
            truth: what they could know.
            distances: the campaigns in use, and the seconds between two reads of each.
            random: decides when each is read first.
            tasks: where reads run.
        """
        self._exchange = exchange
        self._tasks = tasks
        self._readers = [
            _Reader(
                Request(stream, GET, campaign, CLIENT),
                distance,
                truth.edited.setdefault(campaign, []),
                truth.seen.setdefault(campaign, []),
            )
            for campaign, distance in distances.items()
        ]
        self._due = [(random.uniform(0.0, reader.distance), turn) for turn, reader in enumerate(self._readers)]
        heapq.heapify(self._due)
        self._unanswered = set(distances)
        self.are_warm = asyncio.Event()
        """Set once each campaign in use has been answered."""
        self.reads: Counter[str] = Counter()
        """Their reads so far, by what the cache did."""
        self.answers = 0
        """How many of them were answered so far ..."""
        self.outdated = 0
        """... and how many of those showed an older version than the platform had then."""

    async def run(self) -> None:
        """Reads for as long as it runs."""
        while True:
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                _, turn = heapq.heappop(self._due)
                self._read(turn, now)
            next_due = self._due[0][0] if self._due else now
            await asyncio.sleep(max(TICK_SECONDS, next_due - now))

    def _read(self, turn: int, now: float) -> None:
        reader = self._readers[turn]
        # As `web.rendered` has it: a hit is given again for as long as it is good.
        if reader.hit is None or self._exchange.current_age(reader.hit, CLIENT) is None:
            reader.hit = self._exchange.hit(reader.ask)
            if reader.hit is None:
                self._tasks.spawn(self._ask(turn), name="caller")
                return
            reader.number = self._look(reader, reader.hit.entry.body)
        self.reads["hit"] += 1
        self._count(reader, reader.number)
        heapq.heappush(self._due, (now + reader.distance, turn))

    async def _ask(self, turn: int) -> None:
        reader = self._readers[turn]
        seen = len(reader.seen)
        reply: Reply = await self._exchange.read(reader.ask)
        self.reads[reply.outcome.cache] += 1
        wait = reader.distance
        if reply.entry is not None:
            number = self._look(reader, reply.entry.body)
            assert number >= seen, "a read was answered with less than was stored"
            self._count(reader, number)
        elif reply.failure is not None and reply.failure.retry_after is not None:
            wait = max(wait, reply.failure.retry_after)
        heapq.heappush(self._due, (time.monotonic() + wait, turn))

    def _count(self, reader: _Reader, number: int) -> None:
        self.answers += 1
        self.outdated += number < len(reader.edited)

    def _look(self, reader: _Reader, body: bytes) -> int:
        self._unanswered.discard(reader.ask.id)
        if not self._unanswered:
            self.are_warm.set()
        return Truth.number_in(body)
