"""One account as one replica knows it: its own calls, the ledger as last seen, and what it may do without the ledger.

How a replica goes on when the shared ledger is lost (never by failing open):

1. It always keeps its own calls itself. If it is the only replica known, they are the whole truth: no pause.
2. If it is one of several, it begins what was allotted to it ahead, and no more, while calls that it cannot know of may
   be in the window: until the others have missed it, and one window after their last call. Then it keeps to its share.
   `policy.allotments` says why that is safe.
3. A change whose answer was lost may have been made or not: of two allotments it believes the smaller one. So while the
   ledger is lost it tries nothing but to report.
4. When the ledger is there again, it first puts its own calls back (`policy.ledger.absorb`), and goes on exactly.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from campaign_gateway.policy import schedule
from campaign_gateway.policy.allotments import allot, share_of
from campaign_gateway.policy.capacity import learned
from campaign_gateway.policy.ledger import (
    SILENCE_SECONDS,
    WITHHELD_WINDOWS,
    Allowance,
    Lane,
    Ledger,
    Report,
    Slot,
    SlotRequest,
    Wait,
    absorb,
    is_whole,
)
from campaign_gateway.policy.schedule import Schedule, own_part
from campaign_gateway.proxy.ports import LedgerLostError, Ledgers
from campaign_gateway.upstream.promises import Promises

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
Step = Callable[[Ledger, Allowance, float], tuple[Ledger, _T]]

REPORT_SECONDS = 1.0
"""How often a replica that has something to say shows itself in a shared ledger ..."""
QUIET_SECONDS = 30.0
"""... and one that has nothing to say."""
BRIEF_LOSS_SECONDS = 1.5
"""A loss of the ledger that may be over at the next look: callers who can wait are kept this long, not refused."""
SCHEDULE_SECONDS = 0.25
"""How long refusals are answered out of the same look at the ledger."""
SHIFTS = 1024
"""Parts of a second in which the distance between the shared clock and the monotonic one is told, rounded up."""
NEVER = float("-inf")


@dataclass(slots=True)
class _Own:
    """One of this replica's own calls; the time is monotonic, so it is true whatever the shared clock does."""

    slot: Slot
    """As the ledger is told."""
    free_at: float
    is_unreported: bool
    """Whether it was begun without the ledger, which has not heard of it yet."""
    shift: float = math.nan
    """The distance between the clocks that `slot` was made for."""


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
        self.known = known
        """How many replicas there were when the shared ledger was last seen."""
        self.ledger: Ledger | None = None
        """As last seen, or this replica's own while the shared one is lost."""
        self.lost_at: float | None = None
        self._ledgers = ledgers
        self._replica = replica
        self._clock = clock
        self._own: dict[str, _Own] = {}
        self._voided: set[str] = set()
        self._succeeded: set[str] = set()
        self._share = allowance.calls // known
        """Calls of a window that it may count on by itself, by the ledger as last seen."""
        self._allotment = 0
        self._seen_at = NEVER
        self._quiet_until = NEVER
        """Until when the others take it for quiet, whatever became of the last change."""
        self._unreported_pause = 0.0
        """Until when the platform asked for a pause while the shared ledger was lost."""
        self._unsure = (0, 0)
        """The allotment before a change of which nobody knows whether it was made, and after it ..."""
        self._unconfirmed: list[Slot | Wait] = []
        """... and what it granted."""
        self._has_spare = False
        """Whether there is a slot for anybody who is waited for, and for polls, without looking closer."""
        self._may_grow = True
        """Whether its allotment may be more when slots have fallen free."""
        self._lock = asyncio.Lock()
        """One change at a time, so that it is known which allotment is the latest."""
        self._view: Ledger | None = None
        """The ledger with what this replica has known since; None when it has to be worked out anew ..."""
        self._viewed_at = 0.0
        """... as it has to be some time after this moment."""
        self._lacks_promises = False
        """Whether promises were made since: each of many refusals is not worth working it out anew."""
        self._claims: Schedule | None = None

    # What is known without asking anybody.

    def seen(self) -> tuple[Ledger, Allowance, float]:
        """What this replica knows, what it may do, and the time."""
        now, allowance = self._ledgers.now(), self.alone()
        if self._view is None or not 0 <= now - self._viewed_at < REPORT_SECONDS:
            self._view, self._viewed_at, self._lacks_promises = self.absorbed(now), now, False
        return self._view, allowance, now

    def claims(self) -> Schedule | None:
        """The table of claims as this replica knows it; None where it does not know enough to refuse anybody."""
        now = self._ledgers.now()
        if self.ledger is None or self.is_brief_loss or not (self.is_cut_off or is_whole(self.ledger, now)):
            return None
        if self._claims is None or not 0 <= now - self._claims.now < SCHEDULE_SECONDS:
            if self._lacks_promises:
                self._view = None
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
            self._view = None

    def take_promise(self, client: str, key: str) -> bool:
        """Whether the caller was told to come now: by this replica, or perhaps by another."""
        now = self._ledgers.now()
        if self.promises.take(client, key, now):
            self.forget_view()
            return True
        others = self.ledger.promises if self.ledger is not None else ()
        return any(row.client == client and row.replica != self._replica and row.at <= now for row in others)

    @property
    def is_cut_off(self) -> bool:
        """Whether the shared ledger is lost and this replica goes on by itself."""
        return self.lost_at is not None

    @property
    def is_brief_loss(self) -> bool:
        """Whether the loss may be over at the next look."""
        return self.lost_at is not None and self._clock() - self.lost_at < BRIEF_LOSS_SECONDS

    def alone(self) -> Allowance:
        """What this replica may do now: everything, or what it may by itself while the ledger is lost."""
        if self.lost_at is None or self.known == 1:
            return self.allowance
        if self.sit_out_left <= 0:
            return own_part(self.allowance, self._share)
        # The others leave it alone no longer than this; see `WITHHELD_WINDOWS`.
        kept = min(self.allowance.most, WITHHELD_WINDOWS * self.allowance.window)
        is_kept = self._clock() < max(self._seen_at, self._quiet_until) + SILENCE_SECONDS + kept
        return own_part(self.allowance, self._allotment if is_kept else 0)

    @property
    def sit_out_left(self) -> float:
        """Seconds until this replica may count on its share; none, or less, when it may."""
        # The others may go on with the whole budget until they miss this replica, and their last calls may take all of
        # their time to arrive.
        missed_at = max(self.lost_at or NEVER, self._quiet_until) + SILENCE_SECONDS
        return missed_at + self.allowance.most - self._clock()

    def in_time(self, wait: Wait) -> Wait:
        """The wait, but no longer than this replica sits out what it does not know."""
        if self.lost_at is None or self.known == 1 or (left := self.sit_out_left) <= 0:
            return wait
        if not self.alone().calls:
            return replace(wait, seconds=left, soonest=left)
        return replace(wait, seconds=min(wait.seconds, left), soonest=min(wait.soonest, left))

    # Its own calls.

    def _begin(self, slot: Slot, asked: float) -> None:
        self._own[slot.id] = _Own(slot, asked + self.allowance.most, self.is_cut_off)
        self.forget_view()

    def end(self, id_: str, *, is_void: bool) -> None:
        """One of its calls has ended, or never left."""
        if is_void:
            self._own.pop(id_, None)
            self._voided.add(id_)
        else:
            if id_ in self._own:
                self._own[id_].free_at = self._clock() + self.allowance.window
                self._own[id_].shift = math.nan
            self._succeeded.add(id_)
        self.forget_view()

    def keep_pause(self, ledger: Ledger) -> None:
        """Goes on by itself with a pause that the shared ledger has to be told of."""
        self.ledger, self._unreported_pause = ledger, ledger.paused_until
        self.forget_view()

    def forget_view(self) -> None:
        """What was worked out is out of date."""
        self._view = self._claims = None

    # The ledger.

    def has_to_report(self) -> bool:
        """Whether the shared ledger lacks something that this replica knows, or its time to be seen has come."""
        ledger, now = self.ledger, self._ledgers.now()
        if ledger is None or self.is_cut_off or self._own or self._voided or self._succeeded or self.promises.is_news:
            return True
        if self._clock() >= self._quiet_until - REPORT_SECONDS or not is_whole(ledger, now):
            return True
        server = self._ledgers.server(self.name)
        if server and server != ledger.server:
            return True
        return self._may_grow and allot(ledger, self.allowance, self._replica, now) != ledger

    async def grant(self, requests: Sequence[SlotRequest]) -> list[Slot | Wait]:
        """Slots for those requests that can have one, of the shared ledger or of what may be done without it.

        They are held from now on, until `end`.
        """
        asked = self._clock()
        if self.is_cut_off:
            with suppress(LedgerLostError):
                await self.report(has_waiters=True)
        answers: dict[str, Slot | Wait] = {}
        if not self.is_cut_off:
            try:
                for request, answer in zip(requests, await self._grant(requests), strict=True):
                    answers[request.id] = answer
                    if isinstance(answer, Slot):
                        self._begin(answer, asked)
            except LedgerLostError:
                answers = self._take_unconfirmed(requests, asked)
        left = [request for request in requests if request.id not in answers]
        if left:
            now, renamed = self._ledgers.now(), [replace(request, id=f"{request.id}.alone") for request in left]
            self.ledger, alone = schedule.grant(self.absorbed(now), self.alone(), renamed, now)
            for request, answer in zip(left, alone, strict=True):
                answers[request.id] = answer if isinstance(answer, Slot) else self.in_time(answer)
                if isinstance(answer, Slot):
                    self._begin(answer, asked)
        return [answers[request.id] for request in requests]

    async def _grant(self, requests: Sequence[SlotRequest]) -> list[Slot | Wait]:
        def step(ledger: Ledger, allowance: Allowance, now: float) -> tuple[Ledger, list[Slot | Wait]]:
            ledger, self._unconfirmed = schedule.grant(ledger, allowance, requests, now, self._replica)
            return ledger, self._unconfirmed

        self._unconfirmed = []
        return await self.change(step, has_waiters=True)

    def _take_unconfirmed(self, requests: Sequence[SlotRequest], asked: float) -> dict[str, Slot | Wait]:
        """Those slots of a change whose answer was lost that may be taken whether it was made or not.

        If it was, they are held in the ledger. If it was not, they are begun of the allotment, as long as that lasts.
        """
        before, after = self._unsure
        granted = [answer for answer in self._unconfirmed if isinstance(answer, Slot)][: self._left_of(before)]
        self._allotment = min(before, after + len(granted))
        for slot in granted:
            self._begin(slot, asked)
        answers: dict[str, Slot | Wait] = {slot.id: slot for slot in granted}
        # Slots nobody knows of are given back when it can be said.
        self._voided.update(request.id for request in requests if request.id not in answers)
        return answers

    async def report(self, *, has_waiters: bool = False) -> None:
        """Puts what this replica knows into the ledger.

        Raises:
            LedgerLostError: as far as is known it is not there.
        """
        await self.change(_leave, has_waiters=has_waiters)

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
        voided, succeeded = frozenset(self._voided), frozenset(self._succeeded)
        told = {id_ for id_, own in self._own.items() if own.is_unreported}
        was_cut_off, asked, left = self.is_cut_off, self._clock(), self._left()
        quiet = QUIET_SECONDS if self._ledgers.is_shared and not self._own and not has_waiters else 0.0
        quiet_until, least = NEVER, left
        self.promises.is_news = False

        def whole(ledger: Ledger | None, now: float) -> tuple[Ledger, tuple[Ledger, _T]]:
            nonlocal least, quiet_until
            # Early for what has to fall free, late for what has to be held: the shared clock is known only so well.
            early = now - self._ledgers.uncertainty
            report = self._report(now, early + quiet if quiet else 0.0, voided, succeeded)
            ledger = absorb(ledger, report, self.allowance, early)
            if self._unreported_pause > max(early, ledger.paused_until):
                ledger = replace(ledger, paused_until=self._unreported_pause)
            ledger, result = step(ledger, self.allowance, early)
            if self._ledgers.is_shared and not was_cut_off and self._replica in ledger.replicas:
                ledger = allot(ledger, self.allowance, self._replica, early)
            least = ledger.allotments.get(self._replica, 0)
            if quiet:
                quiet_until = self._clock() + quiet
                self._quiet_until = max(self._quiet_until, quiet_until)
            return ledger, (ledger, result)

        try:
            ledger, result = await self._ledgers.change(self.name, whole)
        except BaseException as error:
            # Made or not: what it took from the allotment may be gone.
            self._unsure = self._allotment, self._allotment - left + least
            self._allotment = min(self._unsure)
            self.promises.is_news, self._has_spare = True, False
            if isinstance(error, LedgerLostError) and self.lost_at is None:
                self.lost_at = self._clock()
                _log.warning("the ledger of calls is lost (%s): %d replicas were known", error, self.known)
            self.forget_view()
            raise
        if was_cut_off:
            _log.info("the ledger of calls is there again")
        self._quiet_until = quiet_until
        self._learn(ledger, asked)
        self._voided -= voided
        self._succeeded -= succeeded
        for id_ in told & self._own.keys():
            self._own[id_].is_unreported = False
        self._forget_ended(lambda _own: True)
        return result

    def _forget_ended(self, is_told: Callable[[_Own], bool]) -> None:
        """Forgets calls that have left the window, as far as the ledger needs not be told of their end."""
        now = self._clock()
        for id_ in [id_ for id_, own in self._own.items() if own.free_at <= now and is_told(own)]:
            del self._own[id_]

    def _learn(self, ledger: Ledger, asked: float) -> None:
        now = self._ledgers.now()
        self.ledger, self.lost_at, self._unreported_pause, self._seen_at = ledger, None, 0.0, asked
        self._allotment = ledger.allotments.get(self._replica, 0)
        self.known = max(len(ledger.replicas), ledger.expected if now < ledger.whole_at else 1)
        if is_whole(ledger, now):
            part = learned(ledger, self.allowance, now) / max(1, self.allowance.calls)
            self._share = int(share_of(ledger, self.allowance, self._replica) * part)
        self._may_grow = self.known > 1 and self._allotment < self._share
        is_plain = not (ledger.promises or ledger.refused or ledger.paused_until or ledger.halvings)
        kept = max(self.allowance.reserve, sum(self.allowance.lanes.values())) + sum(ledger.allotments.values())
        self._has_spare = (
            is_plain
            and ledger.learned is None
            and len(ledger.replicas) == 1
            and len(ledger.slots) + kept < self.allowance.calls
        )
        self.forget_view()

    def _left(self) -> int:
        """What is left of the allotment."""
        return self._left_of(self._allotment)

    def _left_of(self, allotment: int) -> int:
        now = self._clock()
        return max(0, allotment - sum(1 for own in self._own.values() if own.is_unreported and own.free_at > now))

    def absorbed(self, now: float) -> Ledger:
        """The ledger as this replica alone knows it."""
        ledger = self.ledger
        if ledger is None or self.lost_at is None:
            # Not all of what it knows: a report takes back nothing of what others have written.
            report = self._report(now, 0.0, frozenset(self._voided), frozenset(self._succeeded))
            allotments = ledger.allotments if ledger is not None else {}
            absorbed = absorb(ledger, replace(report, known=1), self.allowance, now)
            return replace(absorbed, allotments=allotments)
        # Of its own calls it knows better than the ledger.
        mine = f"{self._replica}."
        others = () if self.known > 1 else tuple(slot for slot in ledger.slots if not slot.id.startswith(mine))
        ledger = replace(ledger, replicas={}, quiet={}, allotments={}, expected=0, whole_at=0.0, slots=others)
        report = self._report(now, 0.0, frozenset(self._voided), frozenset(self._succeeded))
        if self.known > 1 and self.sit_out_left > 0:
            # The others know of what was begun before, and leave room for the allotment beside it.
            own = {id_: slot for id_, slot in report.slots.items() if self._own[id_].is_unreported}
            report = replace(report, slots=own)
        return replace(absorb(ledger, replace(report, known=1), self.alone(), now), allotments={})

    def _report(self, now: float, quiet_until: float, voided: frozenset[str], succeeded: frozenset[str]) -> Report:
        self._forget_ended(lambda own: own.is_unreported)
        shift = math.ceil((now + self._ledgers.uncertainty - self._clock()) * SHIFTS) / SHIFTS
        for own in self._own.values():
            if own.shift != shift:
                own.slot, own.shift = replace(own.slot, free_at=own.free_at + shift), shift
        return Report(
            self._replica,
            self.known,
            {id_: own.slot for id_, own in self._own.items()},
            voided,
            succeeded,
            self._ledgers.server(self.name),
            self.promises.rows(self._replica, now),
            self.promises.refused,
            self._left(),
            quiet_until,
        )


def _leave(ledger: Ledger, _allowance: Allowance, _now: float) -> tuple[Ledger, None]:
    return ledger, None
