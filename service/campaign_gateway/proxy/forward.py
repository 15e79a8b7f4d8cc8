"""What is sent on and never stored: writes, and reads of contacts' personal data.

A write is sent once at most. What it can have changed (`contract.effects`) is invalidated before it leaves, so that no
fill from before it is stored, and again after it ended, so that none from meanwhile is; also when nobody knows whether
it took effect.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from campaign_gateway.contract.answers import Verdict
from campaign_gateway.contract.document import DocumentError, parse
from campaign_gateway.contract.effects import Scope, effects_of, ids_named
from campaign_gateway.contract.ids import is_id
from campaign_gateway.contract.operations import GET, Kind
from campaign_gateway.contract.requests import channel_of
from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import OUTCOME_UNKNOWN, Failure, judge
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.beside import beside
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.flights import Timeouts
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.ports import CampaignIndex, PlatformCall, Store, seconds_of
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.proxy.request import Request, Stream, all_of
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.writers import Writers, writer_of


class Forwarder:
    """Sends on, and sees to it that nobody is served what a write has changed."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        fetcher: Fetcher,
        invalidator: Invalidator,
        index: CampaignIndex,
        store: Store,
        writers: Writers,
        timeouts: Timeouts,
        tasks: Tasks,
        feed: Feed | None = None,
    ) -> None:
        """A forwarder.

        Args:
            exchange: reads what has to be known before something is sent.
            fetcher: asks the platform.
            invalidator: invalidates.
            index: knows campaigns by name.
            store: publishes writes to other replicas.
            writers: who wrote when.
            timeouts: how long callers are kept.
            tasks: where writes run to their end, also when the caller is gone.
            feed: told of writes; None where nobody listens.
        """
        self._exchange = exchange
        self._fetcher = fetcher
        self._invalidator = invalidator
        self._index = index
        self._store = store
        self._writers = writers
        self._timeouts = timeouts
        self._tasks = tasks
        self._feed = feed

    async def channel(self, stream: Stream, campaign: str, client: str) -> str | Reply:
        """Whether a campaign is voice or SMS: by the list that shows it, or by its content, however old.

        It is read for that if nothing is stored of it. The reply says why that cannot be known.
        """
        indexed = self._index.snapshot(stream.identity).campaigns.get(campaign)
        if indexed is not None:
            return indexed.channel.value
        request = Request(stream, GET, campaign, client)
        entry = (await self._store.get(request.key)).stored
        if entry is None or entry.absence is not None:
            reply = await self._exchange.read(request)
            if reply.entry is None or reply.entry.absence is not None:
                return reply
            entry = reply.entry
        channel = channel_of((await beside(len(entry.body), parse, entry.body)).get("data"))
        if channel is None:
            detail = "the campaign does not show whether it is voice or sms: set type in the query"
            return Reply(Outcome(), failure=Failure(Problem.INVALID_REQUEST, detail))
        return channel.value

    async def send(self, request: Request) -> Reply:
        """The platform's own answer, or why there is none."""
        if request.operation.kind is Kind.WRITE:
            return await self._tasks.see_through(self._write(request), name="write")
        calls: list[PlatformCall] = []
        wait = self._timeouts.for_permit
        fetched = await self._fetcher.fetch(request, Lane.INTERACTIVE, "bypass", wait, calls=calls)
        return self._reply(request, fetched, calls)

    async def _write(self, request: Request) -> Reply:
        ids = {request.id} if is_id(request.id) else set(self._named(request))

        async def raise_fences() -> None:
            await self._invalidator.invalidate(self._changed(request, ids), Cause.WRITE)

        calls: list[PlatformCall] = []
        fetched = await self._fetcher.fetch(
            request, Lane.WRITES, "write", self._timeouts.for_permit, first=raise_fences, calls=calls
        )
        if isinstance(fetched, Failure) and not (fetched.was_forwarded and fetched.was_sent):
            return self._reply(request, fetched, calls)
        named = {id_ for id_ in await _ids_in(fetched) if is_id(id_)}
        if self._feed is not None and not _is_refused(fetched):
            has_succeeded = isinstance(fetched, Fetched) and fetched.answer.verdict is Verdict.OK
            noting = self._feed.note_write(request, ids | named, has_succeeded=has_succeeded)
            self._tasks.spawn(noting, name="note change")
        is_known = bool(ids | named) or request.operation.name in _MAKES_AN_ID or _is_refused(fetched)
        keys = self._changed(request, ids | named, is_known=is_known)
        is_shared = await self._invalidator.invalidate(keys, Cause.WRITE)
        for effect in effects_of(request.operation.name):
            if effect.scope is Scope.MAYBE:
                writer = writer_of(request.stream, request.client, effect.resource)
                self._writers.note(writer)
                is_shared &= await self._store.publish_write(writer)
        reply = self._reply(request, fetched, calls, self._store.now())
        return reply if is_shared else replace(reply, outcome=replace(reply.outcome, detail=Detail.UNSHARED))

    def _named(self, request: Request) -> Iterable[str]:
        """The campaigns of the name that the write is about, as far as lists have shown them."""
        name = request.values.get("name")
        indexed = self._index.snapshot(request.stream.identity).campaigns if name is not None else {}
        return (id_ for id_, row in indexed.items() if row.fields.get("name") == name)

    def _changed(self, request: Request, ids: Iterable[str], *, is_known: bool = True) -> list[str]:
        """The keys of what the write can have changed; where nobody knows of which id, those of all."""
        keys = []
        for effect in effects_of(request.operation.name):
            if effect.scope is Scope.MAYBE:
                continue
            if effect.scope is Scope.ALL or not is_known:
                keys.append(all_of(request.stream, effect.resource))
            else:
                keys += [f"{request.stream.identity}:{effect.resource}:{id_}" for id_ in ids]
        return keys

    @staticmethod
    def _reply(
        request: Request, fetched: Fetched | Failure, calls: Collection[PlatformCall], written_at: float | None = None
    ) -> Reply:
        is_write = request.operation.kind is Kind.WRITE
        fwd = Fwd.METHOD if is_write else Fwd.BYPASS
        if isinstance(fetched, Failure):
            was_sent = fetched.was_forwarded and fetched.was_sent
            detail = f"{fetched.detail}; {OUTCOME_UNKNOWN}" if is_write and was_sent else fetched.detail
            outcome = Outcome(fwd if was_sent else None, seconds=seconds_of(calls))
            return Reply(outcome, failure=replace(fetched, detail=detail), written_at=written_at)
        response = fetched.answer.response
        failure = judge(request.operation, fetched.answer)
        outcome = Outcome(fwd, response.status, seconds=seconds_of(calls))
        return Reply(outcome, failure=failure, passed=None if failure else response, written_at=written_at)


_MAKES_AN_ID = frozenset({"create", "contact-list-create"})
"""Nothing can be stored yet of what they make, unless their answer names it."""


_REFUSALS = frozenset({Verdict.MISSING, Verdict.REJECTED, Verdict.UNAUTHORIZED, Verdict.LIMITED})


def _is_refused(fetched: Fetched | Failure) -> bool:
    """Whether the platform said that it did nothing: a wrong name costs nobody their stored answers."""
    return isinstance(fetched, Fetched) and fetched.answer.verdict in _REFUSALS


async def _ids_in(fetched: Fetched | Failure) -> Iterable[str]:
    if isinstance(fetched, Failure) or fetched.answer.verdict is not Verdict.OK:
        return ()
    try:
        body = fetched.answer.response.body
        return ids_named(await beside(len(body), parse, body))
    except DocumentError:
        return ()
