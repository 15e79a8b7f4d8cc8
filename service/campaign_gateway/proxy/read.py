"""One read, from start to end: look, decide, and then answer from what is stored, or have it filled."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from campaign_gateway.policy.decide import Choice, Decision
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Stored
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.assess import Assessor
from campaign_gateway.proxy.cuts import Cuts
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.fill import Fills
from campaign_gateway.proxy.flights import FillResult, Flights, Timeouts
from campaign_gateway.proxy.hits import Hits
from campaign_gateway.proxy.ports import NO_TRACES, CampaignIndex, Copy, Found, Meter, Store, Traces
from campaign_gateway.proxy.reply import Hit, Outcome, Reply, reply_from
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.rows import Rows
from campaign_gateway.proxy.writers import Writers


class Exchange:
    """Answers reads out of the store and the platform."""

    def __init__(
        self,
        *,
        store: Store,
        index: CampaignIndex,
        fetcher: Fetcher,
        flights: Flights,
        rules: Freshness,
        meter: Meter,
        timeouts: Timeouts,
        writers: Writers,
        traces: Traces = NO_TRACES,
        on_stored: Callable[[Request, Stored], None] = lambda _request, _stored: None,
        is_polled: bool = False,
    ) -> None:
        """An exchange.

        Args:
            store: where answers are stored.
            index: what polls of lists have shown.
            fetcher: asks the platform.
            flights: the fills under way.
            rules: those of freshness.
            meter: where it is counted.
            timeouts: how long callers are kept.
            writers: who wrote when.
            traces: where spans go.
            on_stored: called with what reads have brought.
            is_polled: whether somebody reads the lists.
        """
        self._store = store
        self._writers = writers
        self._assessor = Assessor(index, rules, store.now)
        self._hits = Hits(store, index, self._assessor, writers)
        self._rows = Rows(store, index, is_polled=is_polled)
        self._cuts = Cuts()
        self.cut = self._cuts.apply
        """What of a reply to this request is wanted: see `Cuts.apply`."""
        self._fills = Fills(
            store=store,
            assessor=self._assessor,
            fetcher=fetcher,
            flights=flights,
            meter=meter,
            timeouts=timeouts,
            on_stored=on_stored,
            traces=traces,
        )
        self.current_age = self._hits.current_age
        """The age in seconds at which a client may have a hit now; None where it has to be looked up anew.

        For a hit that was had without directives, by whichever client. Answers as `hit` would, at a fraction of the
        price: within an epoch of the store only the clock moves.
        """
        self.validity = self._hits.validity
        """While it holds, a hit is as old as it was validated long ago, and nothing has to be asked."""

    def adopt(self, rules: Freshness, *, is_polled: bool) -> None:
        """From the next decision on, goes by these; see the constructor. Hits that were made before are not ended."""
        self._assessor.rules, self._rows.is_polled = rules, is_polled

    async def read(self, request: Request) -> Reply:
        """The best answer there is for `request`, within the caller's patience."""
        request = self._held(request)
        copy = self._store.peek(request.key)
        if (reply := self._at_once(request, copy)) is not None:
            return await self.cut(request, reply)
        if request.fields is not None:
            if (reply := await self._rows.reply(request)) is not None:
                return reply
            # That may have taken seconds.
            copy = self._store.peek(request.key)
        # Another replica may have stored something newer than what is here.
        found = await self._store.get(request.key, copy)
        return await self.cut(request, await self._answer(request, found, self._decide(request, found)))

    async def read_all(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """`read` of each, all of them at once. What a fresh local answer is there for takes no task."""
        local = [self._at_once(request, self._store.peek(request.key)) for request in map(self._held, requests)]
        pairs = list(zip(requests, local, strict=True))
        others = iter(await asyncio.gather(*(self.read(request) for request, reply in pairs if reply is None)))
        return [next(others) if reply is None else await self.cut(request, reply) for request, reply in pairs]

    def _at_once(self, request: Request, copy: Copy) -> Reply | None:
        """The local answer, if it is fresh."""
        if not copy.may_answer or copy.stored is None:
            return None
        decision = self._assessor.decide(request, copy.stored, copy.evidence)
        if decision.choice is not Choice.FRESH:
            return None
        self._store.local_hits.value += 1
        return self._serve(request, decision)

    def hit(self, request: Request) -> Hit | None:
        """The local answer, if a fresh one is there: the part of a read that waits for nobody."""
        return self._hits.local(self._held(request))

    def holds(self, request: Request) -> bool | None:
        """Whether anything may be stored to answer with; None where that cannot be known without asking the store."""
        return self._store.holds(request.key)

    def refused(self, request: Request) -> Reply | None:
        """What `read` says where nothing is stored and no call may be made, which is known without waiting for anybody.

        None for whatever else; then nothing was done. With a reply the caller counts as refused.

        Args:
            request: without directives and fields, for what is not stored.
        """
        return self._fills.refused(self._held(request))

    def prospect(self, request: Request, decision: Decision) -> Failure | None:
        """Why the platform would not be asked now where the decision is to ask it; None where it would be."""
        return self._fills.prospect(request, decision)

    async def find(self, request: Request, last: Hit | None) -> tuple[Hit, float] | Reply | None:
        """The answer and its age in seconds, if a fresh one is stored anywhere; in one trip to the store.

        Where nothing is stored, the refusal, if there is one; see `refused`. None for whatever else.

        Args:
            request: without directives and fields.
            last: a hit of the same campaign, which is given again where it still stands.
        """
        request = self._held(request)
        found = await self._store.get(request.key, raw=None if last is None else last.raw)
        if found.stored is None:
            return self._fills.refused(request)
        return self._hits.again(request, found, last) or self._hits.found(request, found, self._decide(request, found))

    async def answer(self, request: Request, last: Hit | None) -> tuple[Hit, float] | Reply:
        """As `find`, or what else `read` says in its place."""
        request = self._held(request)
        found = await self._store.get(request.key, raw=None if last is None else last.raw)
        if (hit := self._hits.again(request, found, last)) is not None:
            return hit
        decision = self._decide(request, found)
        return self._hits.found(request, found, decision) or await self._answer(request, found, decision)

    async def refresh(self, request: Request) -> FillResult | None:
        """What a new read of what is stored brings, in the background's lane; None where nothing is, or it is read."""
        found = await self._store.get(request.key)
        return None if found.stored is None else await self._fills.refreshed(request, found)

    async def read_again(self, request: Request, lane: Lane, reason: str) -> FillResult:
        """What a new read brings, for nobody who waits: stored, and joined by those who ask meanwhile."""
        return await self._fills.read_again(request, lane, reason)

    def _held(self, request: Request) -> Request:
        """The request, held to the writes that its client made or names; nobody can be held to the future."""
        floor = self._writers.floor(request.stream, request.client, request.operation.resource)
        given = request.directives.newer_than
        if floor is None and given is None:
            return request
        newer_than = min(max(floor or 0.0, given or 0.0), self._store.now())
        return replace(request, directives=replace(request.directives, newer_than=newer_than))

    def _decide(self, request: Request, found: Found) -> Decision:
        return self._assessor.decide(request, found.stored, found.evidence)

    async def _answer(self, request: Request, found: Found, decision: Decision) -> Reply:
        match decision.choice:
            case Choice.FRESH:
                return self._serve(request, decision)
            case Choice.STALE:
                self._fills.refresh(request, found)
                return self._serve(request, decision)
            case Choice.FORWARD:
                return await self._fills.reply(request, found, decision)
            case Choice.NOT_CACHED:
                return Reply(
                    Outcome(), failure=Failure(Problem.NOT_CACHED, "only-if-cached, and no usable answer is stored")
                )

    def _serve(self, request: Request, decision: Decision) -> Reply:
        self._assessor.note_use(request, decision.stored)
        return reply_from(decision)
