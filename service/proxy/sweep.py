"""Looks after one stream's stored answers: rounds of its list, and reads by id of what has moved.

One replica leads; the others follow the board. The leader, again and again: counts what is in use, plans its pace
(`policy.pacing`), does the round that is due (`policy.sweeping`), posts what it found, and reads by id, in this order,
what has moved, what a schedule says has changed by now, and what was read longest ago. Nothing is done for campaigns
that nobody asks for.

A round that goes wrong in a way that shows a list not to be trusted is posted as a flaw: nothing is proven then, and
lifetimes count again until a later round goes through.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from service.contract.answers import Verdict
from service.contract.listing import Channel, list_body, read_page
from service.contract.operations import GET, LIST
from service.policy import sweeping
from service.policy.entry import Entry
from service.policy.ledger import Lane
from service.policy.pacing import SILENT_PART, Demand, Pace, Supply, plan_pace
from service.policy.settle import Failure, Fill
from service.policy.sweeping import PAGE_ROWS, Flaw, Known, View, Walk
from service.proxy.ask import Ask, Stream
from service.proxy.collapse import Landed
from service.proxy.fetch import Fetcher
from service.proxy.ports import Board, Meter, Store
from service.proxy.tasks import Tasks

_log = logging.getLogger(__name__)

CLIENT = "sweep"
"""Who spends these calls, in the ledger."""
USED_SECONDS = 600.0
"""A campaign that was asked for within this time is in use."""
LOOK_SECONDS = 0.25
"""How often the leader looks for something to do."""
FOLLOW_SECONDS = 1.0
"""How often a follower asks for the lead."""
STAND_DOWN_SECONDS = 30.0
"""How long a list that proved untrustworthy is left alone; doubles with each further time."""
LONGEST_STAND_DOWN_SECONDS = 600.0
AGAIN_SECONDS = 1.0
"""How soon a read by id that got no permit is tried again."""
MAX_READS = 8
"""Reads by id under way at once."""
EDGE_SECONDS = 2.0
"""After a moment named by a schedule: how long the platform is given to act on it."""
EARLY_WALK_PART = 0.2
"""The part of the distance between full rounds after which numbers that disagree may cost one."""
RATE_SECONDS = 120.0
"""Over which the rate of changes is averaged."""
STRIKES = 2
"""Changes that answers by id show and rows do not, before the list is not believed any more."""
UNCOVERED_URGENCY = 0.1
"""The same for campaigns that no round can prove before they have been read."""
URGENCY = {"Preparing": 0.25, "Active": 0.5}
"""Parts of the rotation after which campaigns of these statuses are read again."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be spent and believed."""

    share: float
    """The part of the budget for looking after stored answers; 0 switches it off."""
    lag: float
    """Seconds that the list may lag behind answers by id."""
    supply: Callable[[], Supply]
    """The account's calls, as they stand."""


@dataclass(slots=True)
class _Seen:
    """A change that a read by id showed, and that no row has shown yet."""

    read_at: float
    shows_mark: bool


class Sweeper:
    """Implements the story for one stream."""

    def __init__(
        self,
        stream: Stream,
        board: Board,
        store: Store,
        fetcher: Fetcher,
        refresh: Callable[[Ask, Lane, str], Awaitable[Landed]],
        terms: Terms,
        tasks: Tasks,
        meter: Meter,
    ) -> None:
        """A sweeper.

        Args:
            stream: whose list.
            board: where it is known.
            store: where entries and the clock are.
            fetcher: asks the platform.
            refresh: reads one campaign by id, into the store.
            terms: what may be spent and believed.
            tasks: where reads run.
            meter: where rounds are counted.
        """
        self._stream = stream
        self._board = board
        self._store = store
        self._fetcher = fetcher
        self._refresh = refresh
        self._terms = terms
        self._tasks = tasks
        self._meter = meter
        self.pace = Pace({})
        self.is_leading = False
        self._tried: dict[Channel, float] = {}
        """When each channel's last round was begun, good or not."""
        self._page_rows = PAGE_ROWS
        """What the platform grants for one call."""
        self._full: set[Channel] = set()
        self._due: dict[str, float] = {}
        """Campaigns to read by id out of turn, and from when on."""
        self._reading: set[str] = set()
        self._read: dict[str, float] = {}
        """When each campaign in use is known to have been read by id."""
        self._next_turn = 0.0
        self._next_read = 0.0
        self._rates: dict[Channel, float] = {}
        self._silent = 0.0
        self._changes = 0.0
        self._seen: dict[str, _Seen] = {}
        self._strikes = 0
        self._stand_down: dict[Channel, float] = {}
        """How long a channel's list is left alone the next time it proves untrustworthy."""
        self._quiet_until: dict[Channel, float] = {}
        self._distrusted_at: dict[Channel, float] = {}

    async def run(self) -> None:
        """Leads or follows, for as long as it runs."""
        if self._terms.share <= 0:
            return
        while True:
            if not await self._board.lead(self._stream.identity):
                self.is_leading = False
                await asyncio.sleep(FOLLOW_SECONDS)
                continue
            if not self.is_leading:
                self._take_over()
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - logged with its traceback
                # Or this replica would keep the lead and do nothing with it.
                _log.exception("a look after stream %s failed", self._stream.alias)
                await asyncio.sleep(FOLLOW_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)

    def _take_over(self) -> None:
        self.is_leading = True
        self._tried.clear()
        self._due.clear()
        self._read.clear()
        self._seen.clear()

    async def _look(self) -> None:
        now = self._store.now()
        view = self._board.view(self._stream.identity)
        used = await self._board.used(self._stream.identity, now - USED_SECONDS)
        self.pace = plan_pace(self._terms.supply(), self._demand(view, used))
        if not self.pace.rounds:
            return
        for channel, seconds in self.pace.rounds.items():
            if now < self._quiet_until.get(channel, 0.0):
                continue
            last = view.head.rounds.get(channel)
            began = max(last.began if last is not None else 0.0, self._tried.get(channel, 0.0))
            if now >= began + seconds:
                await self._round(channel, used)
        await self._read_by_id(used)

    def _demand(self, view: View, used: Mapping[str, float]) -> Demand:
        listed = dict.fromkeys(Channel, 0)
        for known in view.known.values():
            listed[known.channel] += 1
        counts = dict.fromkeys(Channel, 0)
        unlisted = 0
        for id_ in used:
            if id_ in view.known:
                counts[view.known[id_].channel] += 1
            else:
                unlisted += 1
        for channel in Channel:
            if channel not in view.head.rounds:
                # Nothing is known of this list yet: what is in use may be in it.
                counts[channel] += unlisted
        return Demand(counts, listed, self._rates, self._silent_part(), self._page_rows)

    def _silent_part(self) -> float:
        """The part of changes that move no mark: what was seen, and a belief that weighs as much as ten changes."""
        return (self._silent + 10 * SILENT_PART) / (self._changes + self._silent + 10)

    # Rounds.

    async def _round(self, channel: Channel, used: Mapping[str, float]) -> None:
        view = self._board.view(self._stream.identity)
        now = self._tried[channel] = self._store.now()
        walk_after = 0.0 if channel in self._full or channel in view.head.flaws else self.pace.walk_after
        walk = sweeping.begin(view, channel, now, walk_after=walk_after, lag=self._terms.lag)
        while walk.skip is not None:
            fetched = await self._fetcher.fetch(
                Ask(self._stream, LIST, "", CLIENT, body=list_body(channel, walk.skip, PAGE_ROWS)),
                Lane.PROOF,
                "sweep",
                self.pace.rounds.get(channel, 0.0),
            )
            if isinstance(fetched, Failure) or fetched.answer.verdict is not Verdict.OK:
                # The wire, the limit or the credential, not the list: again at the next round.
                self._meter.proof("sweep", "failed")
                return
            if walk.pages == 0:
                walk = replace(walk, began=fetched.started)
            page = read_page(fetched.answer.response.body)
            if page is not None and page.total is not None and 0 < len(page.rows) < page.total - (walk.skip or 0):
                self._page_rows = len(page.rows)
            walk = sweeping.step(walk, page, view)
        await self._conclude(walk, view, used)

    async def _conclude(self, walk: Walk, view: View, used: Mapping[str, float]) -> None:
        ended = self._store.now()
        lag = sweeping.lag_shown(walk, view) if walk.flaw is None else 0.0
        flaw = walk.flaw or (Flaw.TOO_LATE if lag > self._terms.lag else None) or self._disagreement(walk, view)
        if flaw is Flaw.SHIFTING:
            # So busy a list says nothing this time; it is no reason to distrust it.
            self._meter.proof("sweep", "failed")
            return
        if flaw is not None:
            await self._distrust(flaw, walk.channel, view)
            return
        result = sweeping.conclude(walk, view, ended)
        self._full.discard(walk.channel)
        if result.wants_full:
            self._full.add(walk.channel)
            if self._may_walk(walk, view):
                # Campaigns came or went unseen: a full round at once, and no proof before it.
                await self._round(walk.channel, used)
                return
        lasts = self.pace.lasts + (ended - walk.began)
        head = replace(
            result.head, lasts=lasts, blind=self.pace.blind, paced=tuple(self.pace.rounds), calls=self._calls()
        )
        if not await self._board.post(self._stream.identity, head, result.changed):
            self.is_leading = False
            return
        if walk.channel in view.head.flaws:
            _log.info("the %s list of stream %s is trusted again", walk.channel, self._stream.alias)
        if ended - self._distrusted_at.get(walk.channel, 0.0) > LONGEST_STAND_DOWN_SECONDS:
            self._stand_down.pop(walk.channel, None)
        self._meter.proof("sweep", "changed" if result.moved else "unchanged")
        moved = [id_ for id_ in result.moved if id_ in used]
        self._due.update(dict.fromkeys(moved, ended))
        self._note_rate(walk, view, len(moved))

    def _calls(self) -> int:
        return math.ceil(self.pace.calls_a_second * self._terms.supply().window)

    def _may_walk(self, walk: Walk, view: View) -> bool:
        """Whether numbers that disagree may cost a full round now: they come about by a deletion, or by mistake."""
        last = view.head.rounds.get(walk.channel)
        return not walk.is_full and (last is None or walk.began - last.walked > self.pace.walk_after * EARLY_WALK_PART)

    def _note_rate(self, walk: Walk, view: View, moved: int) -> None:
        last = view.head.rounds.get(walk.channel)
        seconds = walk.began - last.began if last is not None else 0.0
        if seconds <= 0:
            return
        part = min(1.0, seconds / RATE_SECONDS)
        before = self._rates.get(walk.channel, 0.0)
        self._rates[walk.channel] = before + part * (moved / seconds - before)
        self._changes += moved

    async def _distrust(self, flaw: Flaw, channel: Channel, view: View) -> None:
        if view.head.flaws.get(channel) is not flaw:
            text = "the %s list of stream %s proves nothing (%s): lifetimes count until it does"
            _log.warning(text, channel, self._stream.alias, flaw)
        self._meter.proof("sweep", "failed")
        self._seen.clear()
        self._strikes = 0
        pause = self._stand_down.get(channel, STAND_DOWN_SECONDS)
        self._distrusted_at[channel] = self._store.now()
        self._quiet_until[channel] = self._distrusted_at[channel] + pause
        self._stand_down[channel] = min(LONGEST_STAND_DOWN_SECONDS, pause * 2)
        head = replace(view.head, flaws={**view.head.flaws, channel: flaw}, number=view.head.number + 1)
        await self._board.post(self._stream.identity, head, {})

    def _disagreement(self, walk: Walk, view: View) -> Flaw | None:
        """Compares changes that reads by id have shown with what rows have shown since."""
        for id_, seen in list(self._seen.items()):
            known = view.known.get(id_)
            row = walk.rows.get(id_)
            if known is None or known.channel is not walk.channel or walk.began < seen.read_at + self._terms.lag:
                continue
            del self._seen[id_]
            if known.since > seen.read_at or (row is not None and sweeping.has_moved(known, row)):
                self._strikes = 0
                continue
            self._silent += 1
            self._strikes += seen.shows_mark
        return Flaw.DISAGREES if self._strikes >= STRIKES else None

    # Reads by id.

    async def _read_by_id(self, used: Mapping[str, float]) -> None:
        now = self._store.now()
        view = self._board.view(self._stream.identity)
        for id_ in self._due.keys() - used.keys():
            del self._due[id_]
        supply = self._terms.supply()
        for id_, due in sorted(self._due.items(), key=lambda item: item[1]):
            if due > now or now < self._next_read or len(self._reading) >= MAX_READS:
                break
            if id_ in self._reading:
                # It moved again while it is being read: once more after that.
                continue
            del self._due[id_]
            # Spread over the window: places come back in the pattern in which they were taken.
            self._next_read = max(now - LOOK_SECONDS, self._next_read) + supply.window / max(1, supply.calls)
            self._start(id_, Lane.PROOF, "moved")
        if now < self._next_turn or len(self._reading) >= MAX_READS or self.pace.rotation == float("inf"):
            return
        turn = await self._whose_turn(used, view, now)
        if turn is not None:
            self._next_turn = now + self.pace.rotation / max(1, len(used))
            self._start(turn, Lane.BACKGROUND, "rotation")

    async def _whose_turn(self, used: Mapping[str, float], view: View, now: float) -> str | None:
        """The campaign in use whose read by id is the most overdue, and was not made by somebody else meanwhile."""
        self._read = {id_: at for id_, at in self._read.items() if id_ in used}
        waiting = [id_ for id_ in used if id_ not in self._reading and id_ not in self._due]
        for id_ in sorted(waiting, key=lambda id_: self._turn(id_, view, now))[:MAX_READS]:
            if self._turn(id_, view, now) > now:
                return None
            found = await self._store.get(self._ask(id_).key)
            if found.entry is None or found.entry.proven_at <= self._read.get(id_, 0.0):
                return id_
            self._read[id_] = found.entry.proven_at
            if self._turn(id_, view, now) <= now:
                return id_
        return None

    def _turn(self, id_: str, view: View, now: float) -> float:
        """When the campaign is to be read by id again."""
        read_at = self._read.get(id_, 0.0)
        known = view.known.get(id_)
        if known is None:
            return read_at + self.pace.rotation
        urgency = UNCOVERED_URGENCY if read_at < known.since else URGENCY.get(known.status or "", 1.0)
        edges = (edge + EDGE_SECONDS for edge in known.edges if read_at < edge + EDGE_SECONDS <= now)
        return min((read_at + self.pace.rotation * urgency, *edges))

    def _start(self, id_: str, lane: Lane, reason: str) -> None:
        self._reading.add(id_)
        work = self._look_again(id_, lane, reason)
        self._tasks.spawn(work, name="read by id", on_end=lambda: self._reading.discard(id_))

    async def _look_again(self, id_: str, lane: Lane, reason: str) -> None:
        before = (await self._store.get(self._ask(id_).key)).entry
        known = self._board.view(self._stream.identity).known.get(id_)
        if reason == "moved" and before is not None and known is not None and sweeping.is_covered(before, known):
            # A caller's read was first.
            self._read[id_] = before.proven_at
            return
        landed = await self._refresh(self._ask(id_), lane, reason)
        now = self._store.now()
        if isinstance(landed, Failure):
            # No answer: not before the platform said. No permit: soon again, since this goes before others' refreshes.
            told = min(landed.retry_after or 0.0, self._terms.supply().window) if landed.was_forwarded else 0.0
            if reason == "moved":
                self._due[id_] = now + max(AGAIN_SECONDS, told)
            return
        entry = landed.entry
        self._read[id_] = entry.proven_at
        # What rounds have shown while it was read counts too.
        known = self._board.view(self._stream.identity).known.get(id_)
        if known is None or not self.is_leading:
            return
        if entry.absence is None and not sweeping.is_covered(entry, known):
            # Begun before the change was seen; or perhaps still the old state: once more, when it has settled.
            self._due[id_] = now if entry.proven_at < known.since else known.since + sweeping.SETTLE_SECONDS
        if before is not None and _is_silent_change(before, landed, known):
            self._seen[id_] = _Seen(entry.proven_at, shows_mark=entry.mark != before.mark)

    def _ask(self, id_: str) -> Ask:
        return Ask(self._stream, GET, id_, CLIENT)


def _is_silent_change(before: Entry, landed: Fill, known: Known) -> bool:
    """Whether an answer that the list had proven has changed since."""
    return sweeping.is_covered(before, known) and not landed.is_unchanged and landed.entry.absence is None
