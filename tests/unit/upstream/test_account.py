"""Several replicas on simulated time, each with an account of its own: whatever happens, no window sees too many calls."""

from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.policy.allotments import allotted_to_others
from campaign_gateway.policy.capacity import capacity
from campaign_gateway.policy.ledger import (
    QUIET_SECONDS,
    SILENCE_SECONDS,
    WITHHELD_WINDOWS,
    Allowance,
    Lane,
    Ledger,
    Slot,
    SlotRequest,
    Wait,
    WaitReason,
    is_whole,
)
from campaign_gateway.policy.outlook import remaining
from campaign_gateway.proxy.ports import LedgerLostError
from campaign_gateway.upstream.account import Account
from tests.support.budgets import INTERACTIVE, LEAVE, MOST, NOW, TIMEOUT, WINDOW, WRITES, allow
from tests.support.examples import scaled

_T = TypeVar("_T")

QUIET_UNTIL_SPENT = SILENCE_SECONDS + WITHHELD_WINDOWS * WINDOW
"""For how long after its report was due a replica's calls are left to it."""
TICK = 0.25


def done(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of something that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stopped:
        result: _T = stopped.value
        return result
    raise AssertionError("it waits")


@dataclass
class Sent:
    """A call from its permit on."""

    id: str
    at: float
    part: int
    """It arrives after so many quarters of its time."""


class Simulated:
    """A replica; implements `Ledgers` for its own account."""

    is_local = False
    reports_ends = False
    uncertainty = 0.0

    def __init__(self, name: str, fleet: "Fleet") -> None:
        self.name = name
        self.fleet = fleet
        self.is_linked = True
        self.is_answer_lost = False
        self.last: Ledger | None = None
        self.run = 0
        self.flying: list[Sent] = []
        self.account = Account("acc", fleet.allowance, self, name, fleet.size, self.now)

    def now(self) -> float:
        return self.fleet.now

    def server(self, _account: str) -> str:
        return f"run-{self.run}" if self.run else ""

    async def notify(self, _accounts: Collection[str]) -> frozenset[str]:
        return frozenset()

    async def change(self, _account: str, step: Callable[[Ledger | None, float], tuple[Ledger, _T]]) -> _T:
        if self.fleet.down_since is not None or not self.is_linked:
            # What is sent is computed from what was seen last.
            step(self.last, self.now())
            raise LedgerLostError("simulated")
        self.run = self.fleet.run
        self.fleet.ledger, result = step(self.fleet.ledger, self.now())
        if self.is_answer_lost:
            raise LedgerLostError("simulated")
        self.last = self.fleet.ledger
        return result

    def report(self) -> None:
        try:
            done(self.account.report())
        except LedgerLostError:
            return

    def due(self) -> float | None:
        """Until when the ledger takes this replica for well, as far as it knows it."""
        ledger = self.fleet.ledger
        if ledger is None or self.name not in ledger.replicas:
            return None
        return max(ledger.replicas[self.name], ledger.quiet.get(self.name, 0.0))


@dataclass
class Fleet:
    """Replicas on one ledger; whatever they send is an arrival in the end."""

    allowance: Allowance
    size: int
    now: float = NOW
    ledger: Ledger | None = None
    run: int = 1
    saved: list[Ledger | None] = field(default_factory=list)
    """The ledger as it was, second by second."""
    down_since: float | None = None
    is_noticed: bool = False
    died_at: float = -1000.0
    replicas: list[Simulated] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        for _ in range(self.size):
            self.join()

    @property
    def is_calm(self) -> bool:
        """Whether the ledger is there for all."""
        return self.down_since is None and all(each.is_linked and not each.account.is_cut_off for each in self.replicas)

    @property
    def may_lose_the_ledger(self) -> bool:
        """Not unnoticed while one is cut off, whom the new ledger would not know, nor where nobody is left to know."""
        return self.is_calm and bool(self.replicas)

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def join(self) -> None:
        """A new one starts, and all notice it: nothing is promised to one that joins unnoticed.

        Nor where the ledger was emptied, one that it waits for has died, and the new one is counted in its stead.
        """
        is_gathering = self.ledger is None or not is_whole(self.ledger, self.now)
        has_died = self.now < self.died_at + MOST
        if len(self.replicas) < self.size and self.is_calm and not (is_gathering and has_died):
            self.replicas.append(Simulated(f"r{self.number()}", self))
            self.report_all()
            self.report_all()

    def report_all(self) -> None:
        for replica in self.replicas:
            replica.report()

    def pick(self, which: int) -> Simulated:
        return self.replicas[which % len(self.replicas)]

    def send(self, which: int, count: int, part: int, lane: Lane = INTERACTIVE, *, is_answer_lost: bool = False) -> int:
        """How many of so many calls were let out."""
        if not self.replicas:
            return 0
        replica = self.pick(which)
        asked = [SlotRequest(f"{replica.name}.{self.number()}", lane, "c") for _ in range(count)]
        replica.is_answer_lost = is_answer_lost
        answers: list[Slot | Wait] = done(replica.account.grant(asked))
        replica.is_answer_lost = False
        for answer in answers:
            if isinstance(answer, Slot):
                replica.flying.append(Sent(answer.id, self.now, part))
            elif answer.reason is WaitReason.ALLOTTED:
                self.is_noticed = True
        return sum(isinstance(answer, Slot) for answer in answers)

    def end(self, which: int, index: int, part: int | None, *, is_void: bool = False) -> None:
        replica = self.pick(which) if self.replicas else None
        if replica is None or not replica.flying:
            return
        call = replica.flying.pop(index % len(replica.flying))
        replica.account.end(call.id, is_void=is_void)
        if not is_void:
            self.arrivals.append(call.at + (self.now - call.at) * (call.part if part is None else part) / 4)

    def crash(self, which: int) -> None:
        """What it sent arrives at some time.

        Nothing is promised where all that knew of a call are gone at once: the ledger, emptied, and the replica that had
        not put the call back; or one that is the only one, or was cut off for so long that nothing is left to it.
        """
        if not self.replicas:
            return
        replica = self.pick(which)
        was_total = self.down_since is not None and self.now - self.down_since > SILENCE_SECONDS + QUIET_SECONDS + 1
        due, ledger = replica.due(), self.ledger
        is_known = ledger is not None and ledger.server == f"run-{self.run}" and due is not None
        is_left_to_it = due is not None and replica.account.known > 1 and self.now + MOST <= due + QUIET_UNTIL_SPENT
        if (is_known and (not replica.account.is_cut_off or is_left_to_it)) or (len(self.replicas) > 1 and was_total):
            self.replicas.remove(replica)
            self.died_at = self.now
            self.arrivals.extend(call.at + (LEAVE + TIMEOUT) * call.part / 4 for call in replica.flying)

    def cut(self, which: int) -> None:
        if self.replicas:
            self.pick(which).is_linked = False

    def link(self) -> None:
        for replica in self.replicas:
            replica.is_linked = True

    def stop(self, *, is_emptied: bool) -> None:
        if self.down_since is None:
            self.down_since = self.now
        if is_emptied and self.replicas:
            self.ledger = None

    def empty(self) -> None:
        """A restart that nobody notices."""
        if self.may_lose_the_ledger:
            self.ledger = None

    def restore(self, age: int) -> None:
        """A restart from what was saved so many seconds ago."""
        if self.may_lose_the_ledger and self.saved:
            self.ledger = self.saved[-min(age, len(self.saved))]
            self.run += 1

    def go_on(self) -> None:
        self.down_since = None

    def busy(self, ticks: int, part: int) -> None:
        """All send whatever they may, and end in time or not."""
        for number in range(ticks):
            self.tick(1)
            for which in range(len(self.replicas)):
                self.send(which + number, 8, part)
            if number % 3 == part % 3:
                self.end(number, number, None)

    def tick(self, ticks: int) -> None:
        for _ in range(ticks):
            self.now += TICK
            for number, replica in enumerate(self.replicas):
                while replica.flying and replica.flying[0].at + LEAVE + TIMEOUT <= self.now:
                    self.end(number, 0, None)
            for replica in self.replicas:
                if not replica.is_linked and self.is_due_back(replica):
                    replica.is_linked = True
            if self.now % 1 == 0:
                for replica in self.replicas:
                    if self.is_noticed or replica.account.has_to_report():
                        replica.report()
                self.is_noticed = False
                self.saved.append(self.ledger)
            self.check()

    def check(self) -> None:
        """Law 1 of `policy.allotments`, where nobody is missing."""
        ledger = self.ledger
        if ledger is not None and is_whole(ledger, self.now) and not ledger.learned:
            held = sum(slot.free_at > self.now for slot in ledger.slots)
            most = capacity(ledger, self.allowance, self.now)
            if most == self.allowance.calls:
                assert held + allotted_to_others(ledger, "", self.now) <= max(most, held)

    def is_due_back(self, replica: Simulated) -> bool:
        """Nothing is promised for one that is cut off, alone, for longer than its share is withheld."""
        if self.ledger is None or self.down_since is not None:
            return self.down_since is None
        due = replica.due()
        return self.now + 2 >= (self.ledger.whole_at if due is None else due + QUIET_UNTIL_SPENT)

    def finish(self) -> None:
        self.tick(int((LEAVE + TIMEOUT) / TICK))


which = st.integers(0, 2)
part = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("tick"), st.integers(1, 40)),
    st.tuples(st.just("tick"), st.sampled_from([20, 64, 68, 80, 104, 128, 164])),
    st.tuples(st.just("busy"), st.sampled_from([4, 24, 100, 130]), part),
    st.tuples(st.just("restore"), st.integers(1, 40)),
    st.tuples(st.just("send"), which, st.integers(1, 4), part),
    st.tuples(st.just("send"), which, st.just(12), part),
    st.tuples(st.just("send_undue"), which, st.integers(1, 4), part),
    st.tuples(st.just("end"), which, st.integers(0, 7), part),
    st.tuples(st.just("void"), which, st.integers(0, 7)),
    st.tuples(st.just("crash"), which),
    st.tuples(st.just("join")),
    st.tuples(st.just("cut"), which),
    st.tuples(st.just("link")),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.just("go_on")),
    st.tuples(st.just("empty")),
)


def run(calls: int, size: int, steps: Sequence[tuple[Any, ...]], **fields: Any) -> Fleet:
    fleet = Fleet(allow(calls, **fields), size)
    for step in steps:
        match step:
            case ("tick", ticks):
                fleet.tick(ticks)
            case ("send", replica, count, quarter):
                fleet.send(replica, count, quarter)
            case ("send_undue", replica, count, quarter):
                fleet.send(replica, count, quarter, is_answer_lost=True)
            case ("end", replica, index, quarter):
                fleet.end(replica, index, quarter)
            case ("void", replica, index):
                fleet.end(replica, index, None, is_void=True)
            case ("crash", replica):
                fleet.crash(replica)
            case ("busy", ticks, quarter):
                fleet.busy(ticks, quarter)
            case ("restore", age):
                fleet.restore(age)
            case ("cut", replica):
                fleet.cut(replica)
            case ("stop", is_emptied):
                fleet.stop(is_emptied=is_emptied)
            case (name,):
                getattr(fleet, name)()
            case _:
                raise AssertionError(step)
    fleet.finish()
    return fleet


def most_in_a_window(arrivals: list[float]) -> int:
    """The most arrivals in any half-open window."""
    return max((sum(start <= arrival < start + WINDOW for arrival in arrivals) for start in arrivals), default=0)


@given(st.integers(1, 7), st.integers(1, 3), st.lists(STEPS, max_size=40))
@settings(max_examples=scaled(200), derandomize=True)
def test_no_window_sees_more_arrivals_than_calls(calls: int, size: int, steps: list[tuple[Any, ...]]):
    assert most_in_a_window(run(calls, size, steps).arrivals) <= calls


@given(st.integers(12, 40), st.integers(2, 3), st.lists(STEPS, max_size=30))
@settings(derandomize=True)
def test_nor_of_more_calls_with_some_for_writes(calls: int, size: int, steps: list[tuple[Any, ...]]):
    assert most_in_a_window(run(calls, size, steps, lanes={WRITES: 3}, reserve=4).arrivals) <= calls


@given(st.integers(1, 7), st.integers(1, 3), st.lists(STEPS, max_size=30))
def test_slots_are_not_lost_for_good_whatever_happened(calls: int, size: int, steps: list[tuple[Any, ...]]):
    fleet = run(calls, size, steps)
    fleet.go_on()
    fleet.link()
    fleet.tick(int((QUIET_SECONDS + QUIET_UNTIL_SPENT + MOST) / TICK) + 8)
    fleet.join()
    fleet.tick(int(MOST / TICK) + 8)
    assert fleet.ledger is not None
    assert remaining(fleet.ledger, fleet.allowance, fleet.now) == calls


CALM = (("tick", 20),)
OUTAGE = (*CALM, ("stop", False))
LONG = (*OUTAGE, ("tick", 180))


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        pytest.param([("send", 0, 12, 4), ("tick", 80), ("send", 1, 12, 0)], 6, id="a-window-each"),
        pytest.param([*OUTAGE, ("send", 0, 12, 0), ("send", 1, 12, 0)], 6, id="allotments-as-it-is-lost"),
        pytest.param([*LONG, ("send", 0, 12, 0), ("send", 1, 12, 0)], 6, id="shares-in-a-long-outage"),
        pytest.param([*LONG, ("send", 0, 12, 0), ("go_on",), ("send", 1, 12, 0)], 6, id="and-after-it"),
        pytest.param([*CALM, ("empty",), ("send", 0, 12, 0)], 3, id="gathering"),
        pytest.param(
            [*CALM, ("empty",), ("tick", 4), ("send", 0, 12, 0), ("tick", 4), ("send", 0, 12, 0)], 6, id="gathered"
        ),
        pytest.param([*CALM, ("send", 0, 12, 0), ("tick", 4), ("send", 0, 12, 0)], 6, id="given-back"),
        pytest.param(
            [*CALM, ("send", 0, 12, 0), ("tick", 4), ("send", 0, 12, 0), ("stop", False), ("send", 1, 9, 0)],
            6,
            id="and-not-used-twice",
        ),
    ],
)
def test_the_simulated_replicas_do_send(steps: list[tuple[Any, ...]], count: int):
    assert len(run(6, 2, steps).arrivals) == count


def test_all_of_the_budget_is_used_where_there_is_demand():
    fleet = Fleet(allow(60, lanes={WRITES: 3}, reserve=5), 4)
    fleet.tick(40)
    fleet.busy(4 * int(WINDOW / TICK), 0)
    after = [at for at in fleet.arrivals if at >= NOW + 10 + WINDOW]
    assert len(after) >= 0.9 * (60 - 3) * 2
