"""Reads by id that nobody waits for: a few at a time, one stream's after the other, for as long as there are calls."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Collection, Sequence

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.settle import Failure
from campaign_gateway.proxy.flights import FillResult
from campaign_gateway.proxy.request import Request, Stream
from campaign_gateway.proxy.tasks import Tasks

MAX_READS = 8
"""Reads by id under way at once, for one stream."""
MAX_WAITING = 10_000
"""Campaigns of a stream that wait to be read here; those beyond are read when somebody asks for them."""


class Rereads:
    """The campaigns that wait to be read, by stream."""

    def __init__(self, read: Callable[[Request], Awaitable[FillResult | None]], tasks: Tasks, name: str) -> None:
        """None yet.

        Args:
            read: reads one, and returns what came of it, or None where there was nothing to be done.
            tasks: where it runs.
            name: of the task.
        """
        self._read = read
        self._tasks = tasks
        self._name = name
        self._waiting: dict[str, dict[str, str]] = {}
        """Of streams that are being read: the campaigns still to be read, in order, and on whose account."""

    def waiting(self, stream: str) -> Collection[str]:
        """The campaigns of a stream that are still to be read."""
        return self._waiting.get(stream, {})

    def add(self, stream: Stream, campaigns: Sequence[str], client: str) -> None:
        """Has these read, on the account of the client."""
        waiting = self._waiting.get(stream.identity)
        is_under_way = waiting is not None
        if waiting is None:
            waiting = self._waiting[stream.identity] = {}
        for id_ in campaigns[: MAX_WAITING - len(waiting)]:
            waiting[id_] = client
        if not is_under_way:
            self._tasks.spawn(self._read_all(stream, waiting), name=self._name)

    async def _read_all(self, stream: Stream, waiting: dict[str, str]) -> None:
        try:
            while waiting:
                rows = [(id_, waiting.pop(id_)) for id_ in list(itertools.islice(waiting, MAX_READS))]
                requests = [Request(stream, GET, id_, client) for id_, client in rows]
                results = await asyncio.gather(*map(self._read, requests))
                if any(isinstance(one, Failure) and not one.was_forwarded for one in results):
                    # There are no calls: whoever asks for one of the others has it read.
                    return
        finally:
            del self._waiting[stream.identity]
