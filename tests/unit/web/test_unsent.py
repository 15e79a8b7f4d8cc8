"""Callers who do not read their answers, one by one and all together."""

from itertools import pairwise
from typing import Any

import pytest

from campaign_gateway.web.unsent import ENDS_AT_A_TIME, UnsentWatch
from tests.support.doubles import turns

TIMEOUT = 30.0


class Transport:
    """In the place of a connection's: a caller reads `rate` bytes a second of what waits."""

    def __init__(self, size: int, rate: int = 0) -> None:
        self.size, self.rate = size, rate
        self.is_aborted = False

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.is_aborted = True


class Desk:
    def __init__(self, *transports: Transport, most: int = 10**9) -> None:
        self.transports = list(transports)
        self.ended = 0
        self.now = 0.0
        self.watch = UnsentWatch(self._connections, TIMEOUT, most, self._count)

    def _connections(self) -> Any:
        return [each for each in self.transports if not each.is_aborted]

    def _count(self) -> None:
        self.ended += 1

    def run(self, seconds: int) -> list[bool]:
        """Which are ended after so long."""
        for _ in range(seconds):
            self.watch.look(self.now)
            self.now += 1
            for each in self.transports:
                each.size = max(0, each.size - each.rate)
        return [each.is_aborted for each in self.transports]


@pytest.mark.drill(
    "answers that nobody reads",
    planted="transports that stand still, that are slow, too many; a process with callers who never read 4 MiB",
    seen="ended after `send_timeout`, or the oldest first beyond `max_unsent`; slow readers are not",
)
def test_who_takes_nothing_is_ended_and_who_is_slow_is_not() -> None:
    stuck, slow, idle = Transport(4_000), Transport(10**6, rate=1), Transport(0)
    desk = Desk(stuck, slow, idle)
    assert desk.run(int(TIMEOUT)) == [False] * 3
    assert desk.run(2) == [True, False, False]
    assert desk.run(300) == [True, False, False]
    assert desk.ended == 1


def test_what_is_sent_behind_an_answer_that_is_stuck_gives_it_no_more_time() -> None:
    stuck = Transport(4_000, rate=-100)
    assert Desk(stuck).run(int(TIMEOUT) + 2) == [True]


def test_one_that_reads_on_begins_anew() -> None:
    halting = Transport(1_000)
    desk = Desk(halting)
    desk.run(25)
    halting.size = 900
    assert desk.run(29) == [False]
    assert desk.run(3) == [True]


def test_beyond_the_bound_over_all_those_go_that_have_waited_longest() -> None:
    oldest, older, new = Transport(400), Transport(400), Transport(400)
    desk = Desk(oldest, most=1_000)
    desk.run(3)
    desk.transports.append(older)
    assert desk.run(3) == [False, False]
    desk.transports.append(new)
    assert desk.run(1) == [True, False, False]
    assert desk.run(3) == [True, False, False]


def test_many_ends_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(*(Transport(10) for _ in range(50)))
    assert all(desk.run(40))
    assert (desk.ended, len(caplog.records)) == (50, 1)


async def test_many_are_ended_in_parts_and_others_have_their_turns() -> None:
    desk = Desk(*(Transport(1_000) for _ in range(3 * ENDS_AT_A_TIME + 1)), most=1_000)
    desk.watch.look(0.0)
    ended = [desk.ended]
    while ended[-1] < 3 * ENDS_AT_A_TIME:
        await turns(1)
        ended.append(desk.ended)
    assert max(later - before for before, later in pairwise([0, *ended])) == ENDS_AT_A_TIME
    desk.watch.look(1.0)
    assert desk.ended == 3 * ENDS_AT_A_TIME, "the last one fits"
