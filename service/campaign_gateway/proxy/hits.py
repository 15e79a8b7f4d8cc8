"""Fresh answers that stand while nothing changes, and what it costs to find out that they do: next to nothing."""

from collections.abc import Callable
from typing import NamedTuple

from campaign_gateway.policy.decide import Choice, Decision
from campaign_gateway.policy.evidence import Evidence
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.assess import Assessor
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.ports import CampaignIndex, Found, Store, Tally
from campaign_gateway.proxy.reply import Hit
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.writers import Writers

NOTE_SECONDS = 30.0
"""How long a kept hit is good at most, so that the campaign counts as in use."""

NO_EPOCH = -1
"""In the place of an epoch's number while changes may go unheard: then everything is looked up anew."""


class HitValidity(NamedTuple):
    """What a hit stands by as it is: nobody is held to a write, and its own time and its epoch's are not over."""

    now: Callable[[], float]
    epoch: Epoch
    writers: Writers
    answered: Tally
    """Whoever goes by these counts its answers here."""


class Hits:
    """Makes hits, and says for how long they stand."""

    def __init__(self, store: Store, index: CampaignIndex, assessor: Assessor, writers: Writers) -> None:
        self._store = store
        self._index = index
        self._assessor = assessor
        self._writers = writers
        self._now: Callable[[], float] = store.now
        self._epoch = store.epoch
        self._answered = store.local_hits
        self.validity = HitValidity(self._now, self._epoch, writers, self._answered)

    def local(self, request: Request) -> Hit | None:
        """The local answer, if a fresh one is there."""
        copy = self._store.peek(request.key)
        if copy.stored is None or not copy.may_answer:
            return None
        decision = self._assessor.decide(request, copy.stored, copy.evidence)
        if decision.choice is not Choice.FRESH:
            return None
        return self._made(request, copy.stored, copy.evidence, decision, self._current_epoch())

    def again(self, request: Request, found: Found, last: Hit | None) -> tuple[Hit, float] | None:
        """The last hit and its age in seconds, if it is what was found and still stands."""
        now, newer_than = self._now(), request.directives.newer_than
        if (
            last is not None
            and found.stored is last.entry
            and found.evidence is last.evidence
            and self._is_listed_still(last)
            and (now < last.until or self._goes_on(last, now))
            and (newer_than is None or last.validated_at >= newer_than)
        ):
            return last, now - last.validated_at
        return None

    def found(self, request: Request, found: Found, decision: Decision) -> tuple[Hit, float] | None:
        """A hit of what was looked up and its age in seconds, if it is fresh."""
        if found.stored is None or decision.choice is not Choice.FRESH:
            return None
        return self._made(request, found.stored, found.evidence, decision, NO_EPOCH, found.raw), decision.age

    def current_age(self, hit: Hit, client: str) -> float | None:
        """See `Exchange.current_age`."""
        now = self._now()
        if now >= hit.until:
            if not self._is_still(hit) or not self._goes_on(hit, now):
                return None
        elif (hit.epoch != self._epoch.number or now >= self._epoch.until) and not self._is_still(hit):
            return None
        if now < self._writers.held_until:
            floor = self._writers.floor(hit.request.stream, client, hit.request.operation.resource)
            if floor is not None and hit.validated_at < floor:
                return None
        self._answered.value += 1
        return now - hit.validated_at

    def _made(
        self, request: Request, stored: Stored, evidence: Evidence, decision: Decision, epoch: int, raw: object = None
    ) -> Hit:
        self._assessor.note_use(request, stored)
        now = self._now()
        return Hit(
            request=request,
            entry=stored,
            validated_at=now - decision.age,
            lifetime=decision.age + decision.ttl.seconds,
            holds_until=decision.until,
            until=min(decision.until, now + NOTE_SECONDS),
            detail=decision.detail,
            evidence=evidence,
            snapshot=self._index.snapshot(request.stream.identity),
            epoch=epoch,
            raw=raw,
            visibility=decision.visibility,
        )

    def _is_still(self, hit: Hit) -> bool:
        """Whether what the hit was made from is what is there, which is then known for the rest of the epoch."""
        if not self._store.shows(hit.key, hit.entry, hit.evidence) or not self._is_listed_still(hit):
            return False
        hit.epoch = self._current_epoch()
        return True

    def _is_listed_still(self, hit: Hit) -> bool:
        return self._index.snapshot(hit.request.stream.identity) is hit.snapshot

    def _goes_on(self, hit: Hit, now: float) -> bool:
        """Whether the hit stands beyond the time for which it was given, which is noted as use."""
        if now >= hit.holds_until:
            return False
        self._assessor.note_use(hit.request, hit.entry)
        hit.until = min(hit.holds_until, now + NOTE_SECONDS)
        return True

    def _current_epoch(self) -> int:
        return self._epoch.number if self._store.is_subscribed else NO_EPOCH
