"""One account as one replica knows it: its own calls, the ledger as last seen, and what it may do without the ledger.

What it may do without the ledger is decided in `policy.budget_mode`. Two laws more:

1. A change whose answer was lost may have been made or not: of two allotments the replica believes the smaller one. So
   while the ledger is lost it only tries to report.
2. When the ledger is connected again, it first puts its own calls back (`policy.reports.absorb`), and goes on exactly.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from campaign_gateway.policy import schedule
from campaign_gateway.policy.allotments import allot, share_of
from campaign_gateway.policy.budget_mode import NEVER, Contact, Mode
from campaign_gateway.policy.capacity import learned
from campaign_gateway.policy.ledger import QUIET_SECONDS, Allowance, Lane, Ledger, Slot, SlotRequest, Wait, is_whole
from campaign_gateway.policy.reports import Report, absorb
from campaign_gateway.policy.schedule import Schedule
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers
from campaign_gateway.upstream.own_calls import Attempt, OwnCalls, Unreported
from campaign_gateway.upstream.pauses import say_pause
from campaign_gateway.upstream.promises import Promises

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Step = Callable[[Ledger, Allowance, float], tuple[Ledger, _T]]

REPORT_SECONDS = 1.0
"""How often a replica that has something to say shows itself in a shared ledger."""
SCHEDULE_SECONDS = 0.25
"""How long refusals are answered out of the same look at the ledger."""


class Account:
    """One account."""

    def __init__(
        self, name: str, allowance: Allowance, ledgers: Ledgers, replica: str, known: int, clock: Callable[[], float]
    ) -> None:
        """An account.

        Args:
            name: its name.
            allowance: what it may do.
            ledgers: where it is written down.
            replica: this one's name.
            known: how many replicas there are at least, for as long as a shared ledger has not said.
            clock: monotonic seconds.
        """
        self.name = name
        self.allowance = allowance
        self.promises = Promises(allowance)
        self.ledger: Ledger | None = None
        """As last seen, or this replica's own while the shared one is lost."""
        self.contact = Contact(known)
        """When this replica last knew of the shared ledger."""
        self._ledgers = ledgers
        self._replica = replica
        self._clock = clock
        self._own = OwnCalls(allowance, clock)
        self._share = allowance.calls // known
        """Calls of a window that it may count on by itself, by the ledger as last seen."""
        self._allotment = 0
        self._reported_at: float | None = None
        """When it last reported to a ledger of others'; None where that is not certain."""
        self._unreported_pause = 0.0
        """Until when the platform asked for a pause while the shared ledger was lost."""
        self._unsure = (0, 0)
        """The allotment before a change of which nobody knows whether it was made, and after it ..."""
        self._unconfirmed: list[Slot] = []
        """... and what it granted."""
        self._has_spare = False
        """Whether there is a slot for anybody who is waited for, and for polls, without looking closer."""
        self._may_grow = True
        """Whether its allotment may be more when slots have fallen free."""
        self._lock = asyncio.Lock()
        """One change at a time, so that it is known which allotment is the latest."""
        self._seen: Ledger | None = None
        """The ledger with what this replica has known since; None when it has to be worked out anew ..."""
        self._seen_at = 0.0
        """... as it has to be some time after this moment."""
        self._lacks_promises = False
        """Whether promises were made since: each of many refusals is not worth working it out anew."""
        self._claims: Schedule | None = None

    def amend(self, allowance: Allowance) -> None:
        """From now on, this is what the account may do; the ledger hears of it with the next change."""
        part = allowance.calls / max(1, self.allowance.calls)
        self.allowance = self.promises.allowance = self._own.allowance = allowance
        self._share, self._allotment = int(self._share * part), min(self._allotment, int(self._allotment * part))
        self._has_spare, self._may_grow = False, True
        self.forget_ledger()

    # What is known without asking anybody.

    def seen(self) -> tuple[Ledger, Allowance, float]:
        """What this replica knows, what it may do, and the time."""
        now, allowance = self._ledgers.now(), self.permitted()
        if self._seen is None or not 0 <= now - self._seen_at < REPORT_SECONDS:
            self._seen, self._seen_at, self._lacks_promises = self.absorbed(now), now, False
        return self._seen, allowance, now

    def claims(self) -> Schedule | None:
        """The table of claims as this replica knows it; None where it does not know enough to refuse anybody."""
        now = self._ledgers.now()
        if self.ledger is None:
            return None
        if self.mode is Mode.BRIEF_LOSS if self.is_cut_off else not is_whole(self.ledger, now):
            return None
        if self._claims is None or not 0 <= now - self._claims.now < SCHEDULE_SECONDS:
            if self._lacks_promises:
                self._seen = None
            self._claims = Schedule(*self.seen(), self._replica)
        return self._claims

    def has_spare(self, lane: Lane) -> bool:
        """Whether the lane is certain to have a slot now; False where that is not plain to see."""
        return self._has_spare and lane is not Lane.BACKGROUND

    def promise(self, client: str, key: str, at: float) -> None:
        """Remembers that a caller was told to come back at that moment."""
        now = self._ledgers.now()
        is_first = now - self.promises.refused.get(client, NEVER) >= SCHEDULE_SECONDS
        if self.promises.give(client, key, at, now) and self._claims is not None:
            self._claims.promise(client)
        self._lacks_promises = True
        if is_first:
            self._seen = None

    def take_promise(self, client: str, key: str) -> bool:
        """Whether the caller was told to come now: by this replica, or perhaps by another."""
        now = self._ledgers.now()
        if self.promises.take(client, key, now):
            self.forget_ledger()
            return True
        others = self.ledger.promises if self.ledger is not None else ()
        return any(row.client == client and row.replica != self._replica and row.at <= now for row in others)

    @property
    def known(self) -> int:
        """How many replicas there were when the shared ledger was last seen."""
        return self.contact.known

    @property
    def is_cut_off(self) -> bool:
        """Whether the shared ledger is lost and this replica goes on by itself."""
        return self.contact.lost_at is not None

    @property
    def mode(self) -> Mode:
        """What this replica goes by."""
        return self.contact.mode(self.allowance, self._clock())

    def permitted(self) -> Allowance:
        """What this replica may do now."""
        return self.contact.permitted(self.allowance, self._allotment, self._share, self._clock())

    def in_time(self, wait: Wait) -> Wait:
        """The wait, but no longer than this replica sits out what it does not know."""
        left = self.contact.sits_out(self.allowance, self._clock())
        if not left:
            return wait
        if not self.permitted().calls:
            return replace(wait, seconds=left, soonest=left)
        return replace(wait, seconds=min(wait.seconds, left), soonest=min(wait.soonest, left))

    # Its own calls.

    def _begin(self, slot: Slot, requested_at: float) -> None:
        self._own.begin(slot, requested_at, is_unreported=self.is_cut_off)
        self.forget_ledger()

    def end(self, id_: str, *, is_void: bool) -> None:
        """One of its calls has ended, or never left."""
        self._own.end(id_, is_void=is_void)
        self.forget_ledger()

    def keep_pause(self, ledger: Ledger) -> None:
        """Goes on by itself with a pause that the shared ledger does not know of yet."""
        self._see(ledger)
        self._unreported_pause = ledger.paused_until
        self.forget_ledger()

    def forget_ledger(self) -> None:
        """What was worked out is out of date."""
        self._seen = self._claims = None

    # The ledger.

    def has_to_report(self) -> bool:
        """Whether the shared ledger lacks something that this replica knows, or its time to be seen has come."""
        ledger, now = self.ledger, self._ledgers.now()
        if ledger is None or self.is_cut_off or self._own or self._own.has_ended or self.promises.is_changed:
            return True
        if self._clock() >= self.contact.quiet_until - REPORT_SECONDS or not is_whole(ledger, now):
            return True
        server = self._ledgers.server(self.name)
        if server and server != ledger.server:
            return True
        return self._may_grow and allot(ledger, self.allowance, self._replica, now) != ledger

    async def grant(self, requests: Sequence[SlotRequest]) -> list[Slot | Wait]:
        """Slots for those requests that can have one, of the shared ledger or of what may be done without it.

        They are held from now on, until `end`.
        """
        requested_at = self._clock()
        if self.is_cut_off:
            with suppress(LedgerLostError):
                await self.report(has_waiters=True)
        answers: dict[str, Slot | Wait] = {}
        if not self.is_cut_off:
            try:
                answers = await self._grant_by_ledger(requests, requested_at)
            except LedgerLostError:
                answers = self._take_unconfirmed(requests, requested_at)
        answers |= self._grant_local([request for request in requests if request.id not in answers], requested_at)
        return [answers[request.id] for request in requests]

    async def _grant_by_ledger(self, requests: Sequence[SlotRequest], requested_at: float) -> dict[str, Slot | Wait]:
        def step(ledger: Ledger, allowance: Allowance, now: float) -> tuple[Ledger, list[Slot | Wait]]:
            ledger, answers = schedule.grant(ledger, allowance, requests, now, self._replica)
            self._unconfirmed = [answer for answer in answers if isinstance(answer, Slot)]
            return ledger, answers

        self._unconfirmed = []
        answers = await self.change(step, has_waiters=True)
        for answer in answers:
            if isinstance(answer, Slot):
                self._begin(answer, requested_at)
        return {request.id: answer for request, answer in zip(requests, answers, strict=True)}

    def _take_unconfirmed(self, requests: Sequence[SlotRequest], requested_at: float) -> dict[str, Slot | Wait]:
        """Those slots of a change whose answer was lost that may be taken whether it was made or not.

        If it was, they are held in the ledger. If it was not, they are begun of the allotment, as long as that lasts.
        """
        before, after = self._unsure
        granted = self._unconfirmed[: self._own.left_of(before)]
        self._allotment = min(before, after + len(granted))
        for slot in granted:
            self._begin(slot, requested_at)
        answers: dict[str, Slot | Wait] = {slot.id: slot for slot in granted}
        # Slots nobody knows of.
        self._own.void(request.id for request in requests if request.id not in answers)
        return answers

    def _grant_local(self, requests: Sequence[SlotRequest], requested_at: float) -> dict[str, Slot | Wait]:
        """Slots of what may be done without the shared ledger."""
        if not requests:
            return {}
        now, renamed = self._ledgers.now(), [replace(request, id=f"{request.id}.local") for request in requests]
        ledger, answers = schedule.grant(self.absorbed(now), self.permitted(), renamed, now)
        self._see(ledger)
        for answer in answers:
            if isinstance(answer, Slot):
                self._begin(answer, requested_at)
        return {
            request.id: answer if isinstance(answer, Slot) else self.in_time(answer)
            for request, answer in zip(requests, answers, strict=True)
        }

    async def report(self, *, has_waiters: bool = False) -> None:
        """Puts what this replica knows into the ledger.

        Raises:
            LedgerLostError: as far as is known it is not there.
        """
        await self.change(_unchanged, has_waiters=has_waiters)

    async def change(self, step: Step[_T], *, has_waiters: bool = False) -> _T:
        """Puts this replica's calls into the ledger and does the step on it, as one change.

        Args:
            step: a pure function of the ledger, what the account may do, and the time.
            has_waiters: whether callers wait, so that the replica has to be seen again soon.

        Raises:
            LedgerLostError: it may have been made or not.
        """
        async with self._lock:
            return await self._change(step, has_waiters=has_waiters)

    async def _change(self, step: Step[_T], *, has_waiters: bool) -> _T:
        unreported, was_cut_off, left = self._own.unreported(), self.is_cut_off, self._own.left_of(self._allotment)
        attempt = Attempt(self._clock(), left, left)
        quiet = QUIET_SECONDS if not self._ledgers.is_local and not self._own and not has_waiters else 0.0
        self.promises.is_changed = False

        def whole(ledger: Ledger | None, now: float) -> tuple[Ledger, tuple[Ledger, _T]]:
            # Early for what has to fall free, late for what has to be held: the shared clock is known only so well.
            early = now - self._ledgers.uncertainty
            attempt.reported_at = self._clock()
            report = self._report(now, unreported, early + quiet if quiet else 0.0)
            ledger = absorb(ledger, report, self.allowance, early)
            if self._unreported_pause > max(early, ledger.paused_until):
                ledger = replace(ledger, paused_until=self._unreported_pause)
            ledger, result = step(ledger, self.allowance, early)
            if not self._ledgers.is_local and not was_cut_off and self._replica in ledger.replicas:
                ledger = allot(ledger, self.allowance, self._replica, early)
            attempt.allotment = ledger.allotments.get(self._replica, 0)
            if quiet:
                attempt.quiet_until = self._clock() + quiet
                latest = max(self.contact.quiet_until, attempt.quiet_until)
                self.contact = replace(self.contact, quiet_until=latest)
            return ledger, (ledger, result)

        try:
            ledger, result = await self._ledgers.change(self.name, whole)
        except BaseException as error:
            self._note_failed(attempt, error)
            raise
        if was_cut_off:
            _log.info("ledger of calls connected: the budget is shared again")
        self._learn(ledger, attempt)
        self._own.reported(unreported)
        return result

    def _note_failed(self, attempt: Attempt, error: BaseException) -> None:
        """Remembers that nobody knows whether the change was made: what it took from the allotment may be gone."""
        self._reported_at = None
        self._unsure = self._allotment, self._allotment - attempt.left + attempt.allotment
        self._allotment = min(self._unsure)
        self.promises.is_changed, self._has_spare = True, False
        if isinstance(error, LedgerLostError) and not self.is_cut_off:
            self.contact = replace(self.contact, lost_at=self._clock())
            _log.warning("ledger of calls lost (%s): continuing without it, %d replicas were known", error, self.known)
        self.forget_ledger()

    def _learn(self, ledger: Ledger, attempt: Attempt) -> None:
        now = self._ledgers.now()
        self._see(ledger)
        self._reported_at = None if self._ledgers.is_local else attempt.reported_at
        self._unreported_pause = 0.0
        known = max(len(ledger.replicas), ledger.expected if now < ledger.whole_at else 1)
        self.contact = Contact(known, seen_at=attempt.requested_at, quiet_until=attempt.quiet_until)
        self._allotment = ledger.allotments.get(self._replica, 0)
        if is_whole(ledger, now):
            part = learned(ledger, self.allowance, now) / max(1, self.allowance.calls)
            self._share = int(share_of(ledger, self.allowance, self._replica) * part)
        self._may_grow = known > 1 and self._allotment < self._share
        is_plain = not (ledger.promises or ledger.refused or ledger.paused_until or ledger.halvings)
        reserved = max(self.allowance.reserve, sum(self.allowance.lanes.values())) + sum(ledger.allotments.values())
        self._has_spare = (
            is_plain
            and ledger.learned is None
            and len(ledger.replicas) == 1
            and len(ledger.slots) + reserved < self.allowance.calls
        )
        self.forget_ledger()

    def _see(self, ledger: Ledger) -> None:
        """Goes by this ledger from now on."""
        say_pause(self.name, self.ledger, ledger, self.allowance, self._ledgers.now())
        self.ledger = ledger

    def absorbed(self, now: float) -> Ledger:
        """The ledger as this replica alone knows it."""
        report = replace(self._report(now, self._own.unreported(), 0.0), known=1)
        ledger = self.ledger
        if ledger is None or not self.is_cut_off:
            # Not all of what it knows: a report takes back nothing of what others have written.
            allotments = ledger.allotments if ledger is not None else {}
            return replace(absorb(ledger, report, self.allowance, now), allotments=allotments)
        # Of its own calls it knows better than the ledger.
        mine = f"{self._replica}."
        others = () if self.known > 1 else tuple(slot for slot in ledger.slots if not slot.id.startswith(mine))
        ledger = replace(ledger, replicas={}, quiet={}, allotments={}, expected=0, whole_at=0.0, slots=others)
        if self.contact.sits_out(self.allowance, self._clock()):
            # The others know of what was begun before, and leave room for the allotment beside it.
            begun = self._own.unreported().begun
            report = replace(report, slots={id_: slot for id_, slot in report.slots.items() if id_ in begun})
        return replace(absorb(ledger, report, self.permitted(), now), allotments={})

    def _report(self, now: float, unreported: Unreported, quiet_until: float) -> Report:
        last_at = self._reported_at and now - self._ledgers.uncertainty - (self._clock() - self._reported_at)
        return Report(
            replica=self._replica,
            known=self.known,
            slots=self._own.slots(now + self._ledgers.uncertainty),
            voided=unreported.voided,
            succeeded=unreported.succeeded,
            server=self._ledgers.server(self.name),
            promises=self.promises.rows(self._replica, now),
            refused=self.promises.refused,
            allotment=self._own.left_of(self._allotment),
            quiet_until=quiet_until,
            last_at=last_at,
        )


def _unchanged(ledger: Ledger, _allowance: Allowance, _now: float) -> tuple[Ledger, None]:
    return ledger, None
