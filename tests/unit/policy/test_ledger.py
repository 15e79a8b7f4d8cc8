from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.policy.capacity import capacity
from service.policy.ledger import (
    SILENCE_SECONDS,
    WITHHELD_WINDOWS,
    Allowance,
    Ledger,
    Place,
    Report,
    Wait,
    Want,
    absorb,
    depart,
)
from service.policy.schedule import GATHER_SECONDS, grant, remaining, share
from tests.support.budgets import (
    INTERACTIVE,
    LEAVE,
    MOST,
    NOW,
    TIMEOUT,
    WINDOW,
    WRITES,
    allow,
    held,
    report,
    told,
    wants,
)

# Reports.


@pytest.mark.parametrize(
    ("stood", "said", "stands"),
    [
        pytest.param(held(5), report("a"), {"interactive-c-1": 5}, id="what-is-not-spoken-of-stays"),
        pytest.param((), report("a", *held(5)), {"interactive-c-1": 5}, id="an-own-place-is-put-back"),
        pytest.param(held(20), report("a", *held(5)), {"interactive-c-1": 5}, id="an-own-place-overrides"),
        pytest.param(held(5), report("a", *held(20)), {"interactive-c-1": 20}, id="in-either-direction"),
        pytest.param(
            held(5, 7), report("a", voided=frozenset({"interactive-c-1"})), {"interactive-c-2": 7}, id="voided"
        ),
        pytest.param((), report("a", voided=frozenset({"unknown"})), {}, id="voided-and-never-there"),
        pytest.param(held(0, 7), report("a"), {"interactive-c-2": 7}, id="what-is-free-goes"),
        pytest.param((), report("a", *held(0, 7)), {"interactive-c-2": 7}, id="own-too"),
    ],
)
def test_places_after_a_report(stood: tuple[Place, ...], said: Report, stands: dict[str, float]):
    ledger = absorb(Ledger(places=stood), said, allow(), NOW)
    assert {place.id: place.free_at - NOW for place in ledger.places} == stands


def gather(*rows: tuple[str, int, float]) -> Ledger:
    """An empty ledger after reports by replicas that knew so many, so many seconds from now."""
    ledger = None
    for replica, known, at in rows:
        ledger = absorb(ledger, report(replica, known=known), allow(), NOW + at)
    assert ledger is not None
    return ledger


@pytest.mark.parametrize(
    ("ledger", "at", "most"),
    [
        pytest.param(gather(("a", 1, 0)), 0.0, 3, id="the-only-one-needs-nobody"),
        pytest.param(gather(("a", 2, 0)), 0.0, 0, id="one-of-two-waits"),
        pytest.param(gather(("a", 2, 0), ("a", 2, 1)), 1.0, 0, id="and-is-not-counted-twice"),
        pytest.param(gather(("a", 2, 0), ("b", 2, 1)), 1.0, 3, id="both-are-there"),
        pytest.param(gather(("a", 3, 0), ("b", 3, 1)), 1.0, 0, id="two-of-three-wait"),
        pytest.param(gather(("a", 3, 0), ("b", 3, 1), ("c", 3, 2)), 2.0, 3, id="all-three-are-there"),
        pytest.param(gather(("a", 2, 0), ("a", 2, MOST - 1)), MOST - 0.25, 0, id="a-dead-one-is-waited-for"),
        pytest.param(gather(("a", 2, 0), ("a", 2, MOST - 1)), MOST, 3, id="until-all-it-sent-has-left-the-window"),
    ],
)
def test_an_empty_ledger_gathers_all_known_replicas_first(ledger: Ledger, at: float, most: int):
    assert capacity(ledger, allow(), NOW + at) == most
    answer = told(ledger, allow(), wants(INTERACTIVE), NOW + at)
    assert answer == [True if most else (GATHER_SECONDS, "spent")]


def test_a_ledger_that_was_whole_stays_whole():
    """All that were known have put their places back; who leaves after that takes nothing out of it."""
    ledger = gather(("a", 2, 0), ("b", 2, 0))
    assert capacity(depart(ledger, "b"), allow(12), NOW + 1) == 12, "departed in good order"
    later = absorb(ledger, report("a"), allow(), NOW + SILENCE_SECONDS + 1)
    assert capacity(later, allow(12), NOW + SILENCE_SECONDS + 1) == 6, "gone silent: its share is withheld, no more"


@pytest.mark.parametrize(
    ("known", "replicas", "most"),
    [
        pytest.param(1, {"a": NOW - 1}, 3, id="the-only-one"),
        pytest.param(2, {}, 0, id="one-of-two-by-its-own-account"),
        pytest.param(1, {"a": NOW - 1, "b": NOW - 1}, 0, id="one-of-two-by-the-ledgers"),
    ],
)
def test_a_ledger_from_another_run_of_the_server_gathers_as_well(known: int, replicas: Mapping[str, float], most: int):
    """What was saved last, or copied last, may lack the latest places."""
    kept = Ledger(replicas=replicas, server="run-1")
    back = replace(report("a", known=known), server="run-2")
    ledger = absorb(kept, back, allow(), NOW)
    assert capacity(ledger, allow(), NOW) == most
    ledger = absorb(ledger, replace(report("b", known=2), server="run-2"), allow(), NOW)
    assert capacity(ledger, allow(), NOW) == 3


def test_a_later_report_of_more_replicas_is_gathered_as_well():
    """1. `c` joins, which `a` has not seen yet; 2. the ledger is lost; 3. `a` and `b`, which has seen it, are back."""
    ledger = gather(("a", 2, 0), ("b", 3, 0.5))
    assert capacity(ledger, allow(), NOW + 0.5) == 0, "the places of `c` are not back"
    ledger = absorb(ledger, report("c", known=3), allow(), NOW + 1)
    assert capacity(ledger, allow(), NOW + 1) == 3


SEEN = NOW - 1
WITHHELD = SILENCE_SECONDS + WITHHELD_WINDOWS * WINDOW


@pytest.mark.parametrize(
    ("replicas", "most"),
    [
        pytest.param({"a": SEEN}, 12, id="nobody-else"),
        pytest.param({"a": SEEN, "b": NOW - SILENCE_SECONDS}, 12, id="both-seen"),
        pytest.param({"a": SEEN, "b": NOW - SILENCE_SECONDS - 0.25}, 6, id="one-of-two-is-silent"),
        pytest.param({"a": SEEN, "b": SEEN, "c": NOW - 6}, 8, id="one-of-three-is-silent"),
        pytest.param({"a": SEEN, "b": NOW - 7, "c": NOW - 6}, 4, id="two-of-three-are-silent"),
        pytest.param({"a": SEEN, **dict.fromkeys("bcdefgh", NOW - 6)}, 5, id="shares-are-rounded-down"),
        pytest.param({"a": SEEN, "b": NOW - WITHHELD + 0.25}, 6, id="still-withheld"),
        pytest.param({"a": SEEN, "b": NOW - WITHHELD}, 12, id="silent-for-so-long-that-it-is-gone"),
    ],
)
def test_a_silent_replicas_share_is_withheld(replicas: Mapping[str, float], most: int):
    ledger = absorb(Ledger(replicas=replicas), report("a"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) == most


def test_a_newcomer_does_not_shrink_the_share_that_is_withheld():
    """1. `b` of two is cut off and keeps to its half; 2. `c` is started in its stead; 3. the half is still `b`'s."""
    ledger = absorb(Ledger(replicas={"a": SEEN, "b": NOW - 6}), report("c"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) <= 6


def test_a_replica_that_is_seen_again_has_its_share_back_in_the_common_budget():
    ledger = absorb(Ledger(replicas={"a": SEEN, "b": NOW - 6}), report("b"), allow(), NOW)
    assert capacity(ledger, allow(12), NOW) == 12


@pytest.mark.parametrize("outage", [SILENCE_SECONDS + 1, WITHHELD + 1, 3600.0])
def test_after_a_total_outage_the_first_one_back_withholds_the_others_shares_until_they_are_seen(outage: float):
    lost = Ledger(replicas=dict.fromkeys("abc", NOW - outage))
    first = absorb(lost, report("a"), allow(), NOW)
    assert capacity(first, allow(12), NOW) == 4
    second = absorb(first, report("b"), allow(), NOW + 0.5)
    assert capacity(second, allow(12), NOW + 0.5) == 8
    third = absorb(second, report("c"), allow(), NOW + 1)
    assert capacity(third, allow(12), NOW + 1) == 12


def test_an_outage_shorter_than_the_silence_withholds_nothing():
    lost = Ledger(replicas=dict.fromkeys("ab", NOW - SILENCE_SECONDS + 0.25))
    assert capacity(absorb(lost, report("a"), allow(), NOW), allow(12), NOW) == 12


def test_what_was_learned_survives_a_report():
    ledger = absorb(Ledger(learned=2, learned_at=NOW, paused_until=NOW + 9), report("a"), allow(), NOW)
    assert (ledger.learned, ledger.learned_at, ledger.paused_until) == (2, NOW, NOW + 9)


# Departures and shares.


def test_one_that_departs_leaves_its_places_and_nobody_withholds_its_share():
    ledger = Ledger(places=held(5), replicas={"a": SEEN, "b": SEEN})
    left = depart(ledger, "b")
    assert (left.places, dict(left.replicas)) == (held(5), {"a": SEEN})
    assert capacity(left, allow(12), NOW + SILENCE_SECONDS - 1) == 12


def test_one_that_was_never_there_may_depart():
    ledger = Ledger(replicas={"a": SEEN})
    assert depart(ledger, "b") == ledger


@pytest.mark.parametrize(
    ("calls", "known", "each"),
    [
        pytest.param(12, 1, 12, id="alone"),
        pytest.param(12, 3, 4, id="even"),
        pytest.param(11, 3, 3, id="rounded-down"),
        pytest.param(2, 3, 0, id="fewer-calls-than-replicas"),
    ],
)
def test_a_share_is_a_part_of_the_calls_with_one_for_writes_and_no_reserve(calls: int, known: int, each: int):
    whole = allow(calls, reserve=2, lanes={WRITES: 1}, clients=2)
    assert share(whole, known) == replace(whole, calls=each, reserve=0, lanes={WRITES: 1} if each > 1 else {})


# Several replicas, on simulated time.

SIT_OUT = SILENCE_SECONDS + MOST
"""A cut-off replica sends nothing until all that the others may have sent before they missed it has left the window."""
TICK = 0.25


@dataclass
class Sent:
    """A call from its permit on."""

    id: str
    at: float
    part: int
    """It arrives after so many quarters of its time."""


@dataclass
class Simulated:
    """A replica that keeps the rules of `service.upstream.budget`."""

    name: str
    known: int
    is_linked: bool = True
    own: dict[str, Place] = field(default_factory=dict)
    flying: list[Sent] = field(default_factory=list)
    voided: set[str] = field(default_factory=set)
    last: Ledger | None = None
    lost_at: float | None = None
    has_gone_alone: bool = False

    def report(self, now: float, known: int, run: int) -> Report:
        self.own = {id_: place for id_, place in self.own.items() if place.free_at > now}
        return Report(self.name, known, self.own, frozenset(self.voided), server=f"run-{run}")


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
    replicas: list[Simulated] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        for _ in range(self.size):
            self.join()

    @property
    def is_calm(self) -> bool:
        """Whether the ledger is there for all."""
        return self.down_since is None and all(each.is_linked and each.lost_at is None for each in self.replicas)

    @property
    def may_lose_the_ledger(self) -> bool:
        """Not unnoticed while one is cut off, whom the new ledger would not know, nor where nobody is left to know."""
        return self.is_calm and bool(self.replicas)

    def number(self) -> int:
        self.numbers += 1
        return self.numbers

    def join(self) -> None:
        """A new one starts, and all notice it: nothing is promised to one that joins unnoticed."""
        if len(self.replicas) < self.size and self.is_calm:
            self.replicas.append(Simulated(f"r{self.number()}", self.size))
            self.report_all()
            self.report_all()

    def change(self, replica: Simulated, asked: list[Want]) -> list[Place | Wait] | None:
        """None when the ledger is lost to the replica."""
        if self.down_since is not None or not replica.is_linked:
            if replica.lost_at is None:
                replica.lost_at = self.now
            return None
        ledger = absorb(self.ledger, replica.report(self.now, replica.known, self.run), self.allowance, self.now)
        self.ledger, answers = grant(ledger, self.allowance, asked, self.now)
        replica.last, replica.lost_at, replica.has_gone_alone = self.ledger, None, False
        replica.voided.clear()
        expected = self.ledger.expected if self.now < self.ledger.whole_at else 1
        replica.known = max(len(self.ledger.replicas), expected)
        return answers

    def report_all(self) -> None:
        for replica in self.replicas:
            self.change(replica, [])

    def send(self, which: int, count: int, part: int, *, is_answer_lost: bool = False) -> None:
        if not self.replicas:
            return
        replica = self.replicas[which % len(self.replicas)]
        asked = [Want(f"{replica.name}.{self.number()}", INTERACTIVE, "c") for _ in range(count)]
        answers = self.change(replica, asked)
        if answers is not None and is_answer_lost:
            # The ledger was changed, and the replica does not know.
            replica.voided.update(want.id for want in asked)
            return
        if answers is None:
            answers = self.alone(replica, asked)
        for answer in answers:
            if isinstance(answer, Place):
                replica.own[answer.id] = answer
                replica.flying.append(Sent(answer.id, self.now, part))

    def alone(self, replica: Simulated, asked: list[Want]) -> list[Place | Wait]:
        assert replica.lost_at is not None
        allowance, others = self.allowance, replica.last.places if replica.last is not None else ()
        if replica.known > 1:
            if self.now < replica.lost_at + SIT_OUT:
                return []
            allowance, others = share(self.allowance, replica.known), ()
        replica.has_gone_alone = True
        mine = absorb(Ledger(places=others, server="run-0"), replica.report(self.now, 1, 0), allowance, self.now)
        _, answers = grant(mine, allowance, asked, self.now)
        return answers

    def end(self, which: int, index: int, part: int | None, *, is_void: bool = False) -> None:
        replica = self.replicas[which % len(self.replicas)] if self.replicas else None
        if replica is None or not replica.flying:
            return
        call = replica.flying.pop(index % len(replica.flying))
        if is_void:
            replica.own.pop(call.id, None)
            replica.voided.add(call.id)
            return
        self.arrivals.append(call.at + (self.now - call.at) * (call.part if part is None else part) / 4)
        replica.own[call.id] = Place(call.id, INTERACTIVE, "c", self.now + WINDOW)

    def crash(self, which: int) -> None:
        """What it sent arrives at some time.

        Nothing is promised where all that knew of a call are gone at once: the ledger, emptied, and the replica that had
        not put the call back; or one that went alone without the others having been cut off as well.
        """
        if not self.replicas:
            return
        replica = self.replicas[which % len(self.replicas)]
        was_total = self.down_since is not None and self.now - self.down_since > SILENCE_SECONDS + 1
        is_known = (
            self.ledger is not None
            and self.ledger.server == f"run-{self.run}"
            and replica.name in self.ledger.replicas
            and replica.lost_at is None
        )
        if is_known or (len(self.replicas) > 1 and was_total):
            self.replicas.remove(replica)
            self.arrivals.extend(call.at + (LEAVE + TIMEOUT) * call.part / 4 for call in replica.flying)

    def cut(self, which: int) -> None:
        if self.replicas:
            self.replicas[which % len(self.replicas)].is_linked = False

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
                self.report_all()
                self.saved.append(self.ledger)

    def is_due_back(self, replica: Simulated) -> bool:
        """Nothing is promised for one that is cut off, alone, for longer than its share is withheld."""
        if self.ledger is None or self.down_since is not None:
            return self.down_since is None
        seen = self.ledger.replicas.get(replica.name)
        until = self.ledger.whole_at if seen is None else seen + WITHHELD_WINDOWS * WINDOW
        return self.now + 2 >= until

    def finish(self) -> None:
        self.tick(int((LEAVE + TIMEOUT) / TICK))


which = st.integers(0, 2)
part = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("tick"), st.integers(1, 40)),
    st.tuples(st.just("tick"), st.sampled_from([20, 64, 68, 80, 104, 128])),
    st.tuples(st.just("busy"), st.sampled_from([4, 24, 100, 130]), part),
    st.tuples(st.just("restore"), st.integers(1, 40)),
    st.tuples(st.just("send"), which, st.integers(1, 4), part),
    st.tuples(st.just("send"), which, st.just(12), part),
    st.tuples(st.just("send_unheard"), which, st.integers(1, 4)),
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


def run(calls: int, size: int, steps: Sequence[tuple[Any, ...]]) -> Fleet:
    fleet = Fleet(allow(calls), size)
    for step in steps:
        match step:
            case ("tick", ticks):
                fleet.tick(ticks)
            case ("send", replica, count, quarter):
                fleet.send(replica, count, quarter)
            case ("send_unheard", replica, count):
                fleet.send(replica, count, 0, is_answer_lost=True)
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
@settings(max_examples=200, deadline=None, derandomize=True)
def test_no_window_sees_more_arrivals_than_calls(calls: int, size: int, steps: list[tuple[Any, ...]]):
    assert most_in_a_window(run(calls, size, steps).arrivals) <= calls


@given(st.integers(1, 7), st.integers(1, 3), st.lists(STEPS, max_size=30))
@settings(max_examples=60, deadline=None)
def test_places_are_not_lost_for_good_whatever_happened(calls: int, size: int, steps: list[tuple[Any, ...]]):
    fleet = run(calls, size, steps)
    fleet.go_on()
    fleet.link()
    fleet.tick(int((WITHHELD_WINDOWS * WINDOW + MOST) / TICK) + 8)
    fleet.join()
    fleet.tick(int(MOST / TICK) + 8)
    assert fleet.ledger is not None
    assert remaining(fleet.ledger, fleet.allowance, fleet.now) == calls


LONG_OUTAGE = (("stop", False), ("tick", 104))


@pytest.mark.parametrize(
    ("steps", "count"),
    [
        pytest.param([("send", 0, 12, 4), ("tick", 80), ("send", 1, 12, 0)], 12, id="a-window-each"),
        pytest.param([*LONG_OUTAGE, ("send", 0, 12, 0), ("send", 1, 12, 0)], 6, id="shares-in-an-outage"),
        pytest.param([*LONG_OUTAGE, ("send", 0, 12, 0), ("go_on",), ("send", 1, 12, 0)], 6, id="and-after-it"),
        pytest.param([("empty",), ("send", 0, 12, 0)], 0, id="gathering"),
        pytest.param([("empty",), ("tick", 4), ("send", 0, 12, 0)], 6, id="gathered"),
    ],
)
def test_the_simulated_replicas_do_send(steps: list[tuple[Any, ...]], count: int):
    assert len(run(6, 2, steps).arrivals) == count
