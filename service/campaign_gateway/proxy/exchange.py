"""One read, from start to end: look up, plan, and then reuse, or fetch, settle and reply."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.entry import Entry, settling
from campaign_gateway.policy.freshness import Freshness, age
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.pacing import WORTHWHILE
from campaign_gateway.policy.plan import Forward, Fwd, NotCached, Reuse, plan
from campaign_gateway.policy.projection import cut, is_in_rows, row_entry
from campaign_gateway.policy.settle import Failure, Fill, settle
from campaign_gateway.policy.sweeping import validate_by_list
from campaign_gateway.policy.visibility import Visibility, listed_visibility, visibility
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.collapse import Flight, Flights, Landed
from campaign_gateway.proxy.fetch import Fetched, Fetcher
from campaign_gateway.proxy.ports import CampaignIndex, Found, Meter, Put, Store
from campaign_gateway.proxy.reply import Detail, Hit, Outcome, Reply
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.rest import Rests
from campaign_gateway.proxy.versions import Versions

MAX_FLIGHTS = 2_000
"""Fills under way at once. Each holds a few kilobytes; beyond this, more waiting helps nobody within its deadline."""

COMPANY_SECONDS = 0.05
"""How long such a caller waits for others like it."""
ROUND_WAIT_SECONDS = 3.0
"""How long a caller who asks for a few fields waits for the first poll of the list, before a read by id is made."""

NOTE_SECONDS = 30.0
"""How long a kept hit is good at most, so that the campaign counts as in use."""

LONGEST_WAY_SECONDS = 3_600.0
"""A change that was longer on its way was not looked for: nobody asked for the campaign, or its revision is no time."""

NO_EPOCH = -1
"""In the place of an epoch's number while changes may go unheard: then everything is looked up anew."""

_DETAIL_OF_REFUSAL = {
    Problem.BUDGET_EXHAUSTED: Detail.BUDGET,
    Problem.OVERLOADED: Detail.BUDGET,
    Problem.UPSTREAM_PAUSED: Detail.PAUSED,
}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller without a stored answer is kept, in seconds."""

    for_call: float
    """The time-out of one call."""

    @property
    def for_permit(self) -> float:
        """What may be spent waiting for a permit."""
        return self.for_call / 2

    @property
    def total(self) -> float:
        """From asking for a fill to giving up on it: the last permit that is waited for leaves a whole call's time."""
        return self.for_permit + self.for_call


class Exchange:
    """Answers reads out of the store and the platform."""

    def __init__(
        self,
        store: Store,
        index: CampaignIndex,
        fetcher: Fetcher,
        flights: Flights,
        freshness: Freshness,
        meter: Meter,
        patience: Patience,
        versions: Versions,
        *,
        has_rounds: bool = False,
    ) -> None:
        """An exchange.

        Args:
            store: where entries are.
            index: what polls of lists have shown.
            fetcher: asks the platform.
            flights: the fills under way.
            freshness: the rules.
            meter: where it is counted.
            patience: how long callers are kept.
            versions: who wrote when.
            has_rounds: whether somebody reads the lists.
        """
        self._versions = versions
        self._has_rounds = has_rounds
        self._together: dict[str, Counter[str]] = {}
        """Campaigns of which a few fields are asked for, by stream, while its list is not known yet."""
        self._store = store
        self._now = store.now
        self._epoch = store.epoch
        self._index = index
        self._fetcher = fetcher
        self._flights = flights
        self._freshness = freshness
        self._meter = meter
        self._patience = patience
        self._rests = Rests()

    async def read(self, request: Request) -> Reply:
        """The best answer there is for `request`, within the caller's patience."""
        request = self._held(request)
        if request.fields is None:
            return await self._read(request)
        if (
            request.operation.name == GET.name
            and is_in_rows(request.fields)
            and (reply := await self._read_row(request, request.fields)) is not None
        ):
            return reply
        reply = await self._read(request)
        return reply if reply.entry is None else replace(reply, entry=cut(reply.entry, request.fields))

    def _held(self, request: Request) -> Request:
        """The request, held to what its client may have changed, or was told of; nobody can be held to the future."""
        floor, told = (
            self._versions.floor(request.stream, request.client, request.operation.resource),
            request.directives.newer_than,
        )
        if floor is None and told is None:
            return request
        newer_than = min(max(floor or 0.0, told or 0.0), self._now())
        return replace(request, directives=replace(request.directives, newer_than=newer_than))

    async def _read_row(self, request: Request, fields: frozenset[str]) -> Reply | None:
        """An answer out of the list, where no stored one is fresh; None where no poll vouches for one."""
        stream, directives = request.stream.identity, request.directives
        near = self._validate_by_list(request, self._store.peek(request.key))
        if directives != NO_DIRECTIVES or (near is not None and self._freshness.ttl(near, self._now()) > 0):
            return None
        if self._has_rounds and not self._index.snapshot(stream).state.polls:
            await self._wait_for_a_round(stream, request.id)
        snapshot, now = self._index.snapshot(stream), self._now()
        found = row_entry(snapshot.campaigns.get(request.id), snapshot.state, fields, now)
        if found is None:
            return None
        entry, left = found
        if entry.validated_at - snapshot.state.lag < self._store.invalidated_at(request.key):
            # The list may still show what was before.
            return None
        self._index.record_use(stream, request.id, now)
        now_age = age(entry, now)
        seen = listed_visibility(snapshot.campaigns.get(request.id), snapshot.state, now)
        outcome = Outcome(ttl=left, detail=Detail.ROW)
        return Reply(outcome, entry, None, now_age, now_age + left, visibility=seen)

    async def _wait_for_a_round(self, stream: str, id_: str) -> None:
        """Brings about the first poll of the list, where enough ask for a few fields at once to be worth one."""
        together = self._together.setdefault(stream, Counter())
        together[id_] += 1
        try:
            await asyncio.sleep(COMPANY_SECONDS)
            if len(together) >= WORTHWHILE:
                self._index.record_use(stream, id_, self._now())
                await self._index.wait_for_change(stream, ROUND_WAIT_SECONDS)
        finally:
            together[id_] -= 1
            if not together[id_]:
                del together[id_]

    def hit(self, request: Request) -> Hit | None:
        """The local answer, if a fresh one is there: the part of a read that waits for nobody."""
        return self._hit(self._held(request))

    def _hit(self, request: Request) -> Hit | None:
        return self._hit_in(request, Found(self._store.peek(request.key), None), is_local=True)

    def _hit_in(self, request: Request, found: Found, *, is_local: bool) -> Hit | None:
        """What was found, if it is a fresh answer."""
        stored = found.entry
        if stored is None:
            return None
        snapshot, now = self._index.snapshot(request.stream.identity), self._now()
        entry = (
            validate_by_list(stored, snapshot.campaigns.get(request.id), snapshot.state)
            if request.is_about_a_campaign
            else stored
        )
        decision = plan(entry, request.directives, now, self._freshness)
        if not isinstance(decision, Reuse) or decision.is_stale:
            return None
        self._note_use(request, entry, now)
        now_age, ttl = age(entry, now), self._freshness.ttl(entry, now)
        seen, detail = self._visibility(request, entry, now, ttl), _detail_of(entry)
        until = now + min(ttl, NOTE_SECONDS)
        if seen is not None:
            until = min(until, seen.until)
        epoch, began = self._current_epoch() if is_local else NO_EPOCH, now - now_age
        return Hit(
            request, request.key, entry, began, now_age + ttl, until, detail, stored, snapshot, epoch, found.raw, seen
        )

    def current_age(self, hit: Hit, client: str) -> float | None:
        """The age in seconds at which the client may have `hit` now; None where it has to be looked up anew.

        For a hit that was had without directives, by whichever client. Answers as `hit` would, at a fraction of the
        price: within an epoch of the store only the clock moves.
        """
        now = self._now()
        is_over = now >= hit.until
        if (is_over or hit.epoch != self._epoch.number) and not self._is_still(hit):
            return None
        if is_over and not self._goes_on(hit, now):
            return None
        age_now = now - hit.validated_at
        if now < self._versions.held_until:
            floor = self._versions.floor(hit.request.stream, client, hit.request.operation.resource)
            return age_now if floor is None or hit.validated_at >= floor else None
        return age_now

    def _goes_on(self, hit: Hit, now: float) -> bool:
        """Whether the hit stands beyond the time for which it was given, which is noted as use."""
        ttl = hit.validated_at + hit.lifetime - now
        if ttl <= 0 or (hit.visibility is not None and now >= hit.visibility.until):
            return False
        self._note_use(hit.request, hit.entry, now)
        hit.until = now + min(ttl, NOTE_SECONDS)
        if hit.visibility is not None:
            hit.until = min(hit.until, hit.visibility.until)
        return True

    def _is_still(self, hit: Hit) -> bool:
        """Whether what the hit was made from is what is there, which is then known for the rest of the epoch."""
        is_still = (
            self._store.peek(hit.key) is hit.stored
            and self._index.snapshot(hit.request.stream.identity) is hit.snapshot
        )
        if is_still:
            hit.epoch = self._current_epoch()
        return is_still

    def _current_epoch(self) -> int:
        return self._epoch.number if self._store.is_told else NO_EPOCH

    def holds(self, request: Request) -> bool | None:
        """Whether anything may be stored to answer with; None where that cannot be known without asking the store."""
        return self._store.holds(request.key)

    def refused(self, request: Request) -> Reply | None:
        """What `read` says where nothing is stored and no call may be made, which is known without waiting for anybody.

        None for whatever else; then nothing was done. With a reply the caller counts as refused.

        Args:
            request: without directives and fields, for what is not stored.
        """
        request = self._held(request)
        if self._flights.current(request.key, since=request.directives.newer_than) is not None:
            return None
        failure = self._refusal(request, Lane.INTERACTIVE, self._patience.for_permit)
        return None if failure is None else Reply(_outcome_of(failure), failure=failure)

    async def find(self, request: Request, last: Hit | None) -> tuple[Hit, float] | Reply | None:
        """The answer and its age in seconds, if a fresh one is stored anywhere; in one trip to the store.

        Where nothing is stored, the refusal, if there is one; see `refused`. None for whatever else.

        Args:
            request: without directives and fields.
            last: a hit of the same campaign, which is given again where it still stands.
        """
        held = self._held(request)
        found = await self._look_up(held, last)
        return self.refused(request) if found.entry is None else self._hit_again(held, found, last)

    async def answer(self, request: Request, last: Hit | None) -> tuple[Hit, float] | Reply:
        """As `find`, or what else `read` says in its place."""
        request = self._held(request)
        found = await self._look_up(request, last)
        return self._hit_again(request, found, last) or await self._decide(request, found)

    async def _look_up(self, request: Request, last: Hit | None) -> Found:
        return await self._store.get(request.key, None if last is None else last.raw)

    def _hit_again(self, request: Request, found: Found, last: Hit | None) -> tuple[Hit, float] | None:
        now, floor = self._now(), request.directives.newer_than
        if (
            last is not None
            and found.entry is last.stored
            and (now < last.until or self._goes_on(last, now))
            and self._index.snapshot(request.stream.identity) is last.snapshot
            and (floor is None or last.validated_at >= floor)
        ):
            return last, now - last.validated_at
        hit = self._hit_in(request, found, is_local=False)
        return None if hit is None else (hit, max(0.0, now - hit.validated_at))

    async def _read(self, request: Request) -> Reply:
        hit = self._hit(request)
        if hit is not None:
            return hit.reply(max(0.0, self._now() - hit.validated_at))
        # Another replica may have stored something newer than what is here.
        return await self._decide(request, await self._store.get(request.key))

    async def _decide(self, request: Request, found: Found) -> Reply:
        match plan(self._validate_by_list(request, found.entry), request.directives, self._now(), self._freshness):
            case Reuse(entry, is_stale, wants_refresh):
                if wants_refresh:
                    self._refresh(request, found)
                return self._reply(request, entry, Outcome(detail=Detail.STALE_WHILE_REVALIDATE if is_stale else None))
            case Forward(reason, fallback):
                return await self._forward(request, found, reason, fallback)
            case NotCached():
                return Reply(Outcome(), failure=Failure(Problem.NOT_CACHED, "only-if-cached, and nothing fits"))

    async def _forward(self, request: Request, found: Found, reason: Fwd, fallback: Entry | None) -> Reply:
        if fallback is not None and (resting := self._resting(request, fallback)) is not None:
            return self._fall_back(request, fallback, resting, Outcome())
        # With a stored answer nobody waits for a permit. Polls of the list, which prove many answers, go before a read
        # that proves one, unless the caller wished for it.
        with_fallback = Lane.PROOF if reason is Fwd.REQUEST else Lane.BACKGROUND
        # What was written a moment ago is worth as much as what nobody has: the stored answer is known to be wrong.
        is_waited_for = fallback is None or fallback.is_overwritten or request.directives.newer_than is not None
        lane = Lane.INTERACTIVE if is_waited_for else with_fallback
        since = request.directives.newer_than
        joined = self._flights.current(request.key, landed=reason is not Fwd.REQUEST, since=since)
        if joined is not None:
            self._meter.collapsed("process")
        landed = await self._wait(joined or self._start(request, found, lane, reason, is_patient=fallback is None))
        while joined is not None and (
            (is_waited_for and not joined.is_patient and _is_refused(landed)) or _is_before(landed, since)
        ):
            # The joined flight did not wait for a permit, and may have had no right to the reserve; this caller has. Or
            # it took what another replica had read before the write that this caller knows of.
            joined = self._flights.current(request.key, landed=False, since=since)
            landed = await self._wait(joined or self._start(request, found, lane, reason, is_patient=fallback is None))
        collapsed = joined is not None
        if isinstance(landed, Fill):
            collapsed = collapsed or landed.is_followed
            detail = Detail.UNCHANGED if landed.is_unchanged else None
            outcome = Outcome(reason, landed.upstream_status, stored=True, collapsed=collapsed, detail=detail)
            return self._reply(request, landed.entry, outcome)
        outcome = replace(
            _outcome_of(landed),
            fwd=reason if landed.was_forwarded else None,
            fwd_status=landed.upstream_status,
            collapsed=collapsed,
        )
        if fallback is not None:
            return self._fall_back(request, fallback, landed, outcome)
        return Reply(outcome, failure=landed)

    def _resting(self, request: Request, fallback: Entry) -> Failure | None:
        """The failure for which the key is left alone; one from before a write that got through is out of date."""
        invalidation = fallback.invalidation
        written_at = invalidation.at if invalidation is not None and fallback.is_overwritten else 0.0
        return self._rests.current(request.key, self._now(), max(written_at, request.directives.newer_than or 0.0))

    async def _wait(self, flight: Flight | Failure) -> Landed:
        if isinstance(flight, Failure):
            return flight
        try:
            return await flight.wait(self._patience.total)
        except TimeoutError:
            return Failure(Problem.UPSTREAM_TIMEOUT, f"no answer within {self._patience.total:g} s")
        except Exception:  # noqa: BLE001 - logged by the task that it ended; whoever has a stored answer gets that
            return Failure(Problem.INTERNAL, "an error in the gateway")

    async def refresh(self, request: Request) -> None:
        """Reads again what is stored, beside everything else; nothing is done where nothing is."""
        found = await self._store.get(request.key)
        if found.entry is not None:
            self._refresh(request, found)

    async def read_again(self, request: Request, lane: Lane, reason: str) -> Landed:
        """What a new read brings, for nobody who waits: stored, and joined by those who ask meanwhile."""
        found = await self._store.get(request.key)
        flight = self._flights.current(request.key, landed=False, since=request.directives.newer_than)
        return await self._wait(flight or self._start(request, found, lane, reason, is_patient=True))

    def _refresh(self, request: Request, found: Found) -> None:
        if self._flights.current(request.key) is None and self._rests.current(request.key, self._now()) is None:
            self._start(request, found, Lane.BACKGROUND, "refresh", is_patient=False)

    def _start(self, request: Request, found: Found, lane: Lane, reason: str, *, is_patient: bool) -> Flight | Failure:
        # With something to serve already, nobody is kept waiting for the budget.
        wait = self._patience.for_permit if is_patient else 0.0
        if (refused := self._refusal(request, lane, wait)) is not None:
            return refused

        async def fill(land: Callable[[Landed], None]) -> None:
            await self._fill(request, found, land, partial(self._fetcher.fetch, request, lane, reason, wait))

        return self._flights.start(request.key, fill, self._now(), is_patient=is_patient and lane.is_waited_for)

    def _refusal(self, request: Request, lane: Lane, wait: float) -> Failure | None:
        """Why no flight may be started; None where one may."""
        if len(self._flights) >= MAX_FLIGHTS:
            return Failure(Problem.OVERLOADED, "too many reads are waiting for the platform", retry_after=1.0)
        return self._fetcher.refusal(request, lane, wait)

    async def _fill(
        self,
        request: Request,
        found: Found,
        land: Callable[[Landed], None],
        fetch: Callable[[], Awaitable[Fetched | Failure]],
    ) -> None:
        """Gets a newer proof than `found`: from the platform, or from the replica that is getting one already."""
        began, give_up_at = self._now(), time.monotonic() + self._patience.total
        lead = await self._store.lead(request.key)
        while not lead.is_mine and not self._is_proof(request, lead.found.entry, found.entry, began):
            left = give_up_at - time.monotonic()
            if left <= 0:
                land(Failure(Problem.UPSTREAM_TIMEOUT, "another replica's read took too long"))
                return
            await self._store.follow(request.key, left)
            lead = await self._store.lead(request.key)
        try:
            newer = lead.found.entry
            if newer is not None and self._is_proof(request, newer, found.entry, began):
                self._rests.end(request.key)
                status = newer.absence.status if newer.absence is not None else HTTPStatus.OK
                self._meter.collapsed("fleet")
                land(Fill(newer, is_unchanged=False, upstream_status=status, is_followed=True))
                return
            landed = self._settle(request, lead.found, await fetch())
            land(landed)
            if isinstance(landed, Fill):
                bound = self._freshness.bound(landed.entry)
                outcome = await self._store.put(request.key, landed.entry, lead.found.fence, bound)
                if outcome is Put.STORED:
                    self._note_change(request, lead.found.entry, landed.entry)
        finally:
            if lead.is_mine:
                await self._store.leave(request.key, lead.found.fence)

    def _note_change(self, request: Request, before: Entry | None, after: Entry) -> None:
        """Counts how long it took until a change was stored, where the campaign's revisions tell."""
        if (
            request.operation.name != GET.name
            or before is None
            or before.revision == after.revision
            or after.updated_at is None
        ):
            return
        seconds = self._now() - after.updated_at
        if before.absence is None and 0 <= seconds <= LONGEST_WAY_SECONDS:
            self._meter.change_visible(request.stream.alias, seconds)

    def _settle(self, request: Request, found: Found, fetched: Fetched | Failure) -> Landed:
        landed = (
            fetched
            if isinstance(fetched, Failure)
            else settle(request.operation, found.entry, fetched.answer, fetched.started, fetched.clock)
        )
        if isinstance(landed, Fill):
            landed = replace(landed, entry=settling(landed.entry, found.written_at))
            self._rests.end(request.key)
            self._meter.proof("read", "unchanged" if landed.is_unchanged else "changed")
        elif landed.was_forwarded:
            self._rests.begin(request.key, landed, self._now())
            self._meter.proof("read", "failed")
        return landed

    def _is_proof(self, request: Request, entry: Entry | None, than: Entry | None, began: float) -> bool:
        """Whether what another replica stored serves this caller as well as a call of ours would."""
        if entry is None or entry.is_invalid or (than is not None and entry.validated_at <= than.validated_at):
            return False
        decision = plan(self._validate_by_list(request, entry), request.directives, self._now(), self._freshness)
        return entry.validated_at >= began or (isinstance(decision, Reuse) and not decision.is_stale)

    def _validate_by_list(self, request: Request, entry: Entry | None) -> Entry | None:
        if entry is None or not request.is_about_a_campaign:
            return entry
        snapshot = self._index.snapshot(request.stream.identity)
        return validate_by_list(entry, snapshot.campaigns.get(request.id), snapshot.state)

    def _reply(self, request: Request, entry: Entry, outcome: Outcome) -> Reply:
        now = self._now()
        now_age, ttl = age(entry, now), self._freshness.ttl(entry, now)
        self._note_use(request, entry, now)
        detail = outcome.detail
        newer_than = request.directives.newer_than
        if entry.is_overwritten or (newer_than is not None and entry.attested_at < newer_than):
            detail = Detail.BEFORE_WRITE
        elif entry.absence is not None or (detail is None and outcome.fwd is None):
            detail = _detail_of(entry)
        seen = self._visibility(request, entry, now, ttl)
        return Reply(replace(outcome, ttl=ttl, detail=detail), entry, None, now_age, now_age + ttl, visibility=seen)

    def _visibility(self, request: Request, entry: Entry, now: float, ttl: float) -> Visibility | None:
        if not request.is_about_a_campaign:
            return None
        snapshot = self._index.snapshot(request.stream.identity)
        return visibility(entry, snapshot.campaigns.get(request.id), snapshot.state, now, self._freshness, ttl)

    def _note_use(self, request: Request, entry: Entry, now: float) -> None:
        if entry.absence is None and request.operation.name == GET.name:
            self._index.record_use(request.stream.identity, request.id, now)

    def _fall_back(self, request: Request, entry: Entry, failure: Failure, outcome: Outcome) -> Reply:
        if not self._freshness.is_usable(entry, self._now()):
            # It was usable when the read began, and grew too old while the caller waited.
            return Reply(outcome, failure=failure)
        detail = _DETAIL_OF_REFUSAL.get(failure.problem, Detail.STALE_IF_ERROR)
        return self._reply(request, entry, replace(outcome, detail=detail))


def _outcome_of(refusal: Failure) -> Outcome:
    """How an exchange went that ended in front of the platform."""
    return Outcome(detail=_DETAIL_OF_REFUSAL.get(refusal.problem))


def _detail_of(entry: Entry) -> Detail | None:
    """What a plain hit says beside `hit`."""
    if entry.absence is not None:
        return Detail.MISSING
    return Detail.SWEEP if entry.attested_at > entry.validated_at else None


def _is_before(landed: Landed, since: float | None) -> bool:
    """Whether what was read is older than that."""
    return since is not None and isinstance(landed, Fill) and landed.entry.attested_at < since


def _is_refused(landed: Landed) -> bool:
    """Whether no permit was to be had, as it was asked for."""
    return isinstance(landed, Failure) and not landed.was_forwarded and landed.problem in _DETAIL_OF_REFUSAL
