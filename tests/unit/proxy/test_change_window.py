"""What a process holds of a log of changes."""

import asyncio
import itertools
from contextlib import ExitStack
from functools import partial

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import Change, ChangeType, SeenBy
from campaign_gateway.proxy.change_window import LOOKS_AT_A_TIME, START, Entry, Position, Window
from tests.support.doubles import turns
from tests.support.virtual_time import virtual_time

MOST, KEEP = 3, 100.0


def entry(second: float, number: int = 0) -> Entry:
    return Entry((int(second * 1000), number), Change(ChangeType.UPDATED, second, SeenBy.LIST, "c1"))


def window(*entries: Entry, floor: Position = START) -> Window:
    made = Window(MOST, KEEP)
    made.load("log", floor, entries, entries[-1].position if entries else floor)
    return made


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, [1, 2]),
        ((0, 5), None),
        ((500, 0), [1, 2]),
        ((1_000, 0), [2]),
        ((1_500, 0), [2]),
        ((2_000, 0), []),
        ((2_000, 1), None),
    ],
)
def test_what_comes_after_a_position(position: Position | None, expected: list[int] | None) -> None:
    found = window(entry(1), entry(2), floor=(500, 0)).after(position, 10.0)
    assert (None if found is None else [one.change.at for one in found]) == expected


def test_what_is_too_much_or_too_old_goes_and_so_do_positions_before_it() -> None:
    held = window(entry(1), entry(2))
    held.extend([entry(3), entry(4)], (4_000, 0))
    assert held.after(START, 10.0) is None
    assert held.floor == (1_000, 0)
    assert [one.change.at for one in held.after((1_000, 0), 10.0) or ()] == [2, 3, 4]
    assert held.after((2_000, 0), 2.0 + KEEP + 1.5) is None
    assert [one.change.at for one in held.after(None, 2.0 + KEEP + 1.5) or ()] == [4]


def trust(second: float, type_: ChangeType = ChangeType.DEGRADED, channel: Channel = Channel.SMS) -> Entry:
    return Entry((int(second * 1000), 0), Change(type_, second, SeenBy.LIST, channel=channel))


def test_what_is_said_of_lists_is_known_until_it_is_over() -> None:
    held, voice = window(), trust(2, channel=Channel.VOICE)
    held.extend([trust(1), voice], (2_000, 0))
    assert held.degraded(START) == [], "it comes"
    assert held.degraded((1_000, 0)) == [trust(1)]
    held.extend([entry(3), entry(4), entry(5)], (5_000, 0))
    assert held.floor == voice.position
    assert held.degraded(held.last) == held.degraded(held.floor) == [trust(1), voice], "it is not kept"
    held.extend([trust(6, ChangeType.RECOVERED)], (6_000, 0))
    assert held.degraded(held.last) == [voice]
    held.load("another", START, (), START, [trust(7)])
    assert held.degraded(START) == [trust(7)], "of a log that has nothing left"


def test_another_log_is_another_generation_and_the_first_one_is_not() -> None:
    held = window()
    assert held.generation == 0
    held.load("another", START, (), START)
    assert held.generation == 1


def test_many_who_wait_are_woken_in_parts_and_others_have_their_turns() -> None:
    count = 5 * LOOKS_AT_A_TIME
    woken: list[int] = []

    async def listen(held: Window, number: int) -> None:
        await held.wait(60.0)
        woken.append(number)

    async def run() -> list[int]:
        held = window()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(listen(held, number))
            await turns()
            held.notify()
            seen = []
            while len(woken) < count:
                await asyncio.sleep(0)
                seen.append(len(woken))
        assert not held._watchers
        return seen

    with virtual_time() as loop:
        seen = loop.run_until_complete(run())
    steps = [later - before for before, later in itertools.pairwise(seen)]
    assert max(steps) <= LOOKS_AT_A_TIME
    assert woken == list(range(count))


def test_who_waits_in_vain_goes_on() -> None:
    async def run() -> float:
        held = window()
        await held.wait(5.0)
        assert not held._watchers
        return asyncio.get_running_loop().time()

    with virtual_time() as loop:
        assert loop.run_until_complete(run()) == 5.0


def test_one_who_fails_holds_nobody_up() -> None:
    told: list[str] = []
    seen: list[int] = []

    def fail() -> None:
        raise ValueError("a look that fails")

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        held = window()
        with ExitStack() as stack:
            for number in range(2 * LOOKS_AT_A_TIME):
                stack.enter_context(held.watching(fail if number == 3 else partial(seen.append, number)))
            held.extend([entry(1)], (1_000, 0))
            await turns()

    with virtual_time() as loop:
        loop.run_until_complete(run())
    assert told == ["a look that fails"]
    assert seen == [number for number in range(2 * LOOKS_AT_A_TIME) if number != 3]


def test_who_waits_for_a_turn_keeps_it_however_often_something_comes() -> None:
    seen: list[int] = []

    async def run() -> None:
        held = window()
        with ExitStack() as stack:
            for number in range(3 * LOOKS_AT_A_TIME):
                stack.enter_context(held.watching(partial(seen.append, number)))
            for number in range(3):
                held.extend([entry(number)], (1_000 * number, 0))
                await turns(1)

    with virtual_time() as loop:
        loop.run_until_complete(run())
    assert set(seen) == set(range(3 * LOOKS_AT_A_TIME))
