import asyncio
import fcntl
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typing_extensions import override

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot
from campaign_gateway.proxy.ports import LedgerLostError
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local import ledger_file as module
from campaign_gateway.store.local import records
from campaign_gateway.store.local.ledger_file import KIND, FileLedgers
from tests.support.doubles import Machine

ACCOUNT = "acc-1"
PLATFORM = "https://platform.example"
ALLOWANCE = Allowance(calls=3, window=60.0, leave=2.0, timeout=10.0)


class ProcessClock(StoreClock):
    """As a process tells the time: by the wall clock at its start, and then by the monotonic one."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        super().__init__()

    @override
    def now(self) -> float:
        return self.machine.monotonic + self._offset


@pytest.fixture
def start(machine: Machine, tmp_path: Path) -> Callable[..., FileLedgers]:
    """Starts a process."""

    def start(folder: Path = tmp_path / "state" / "gateway", platform: str = PLATFORM) -> FileLedgers:
        return FileLedgers(folder, platform, lambda _: ALLOWANCE, ProcessClock(machine))

    return start


Start = Callable[..., FileLedgers]


async def take(ledgers: FileLedgers, id_: str, seconds: float = 60.0, account: str = ACCOUNT) -> None:
    """A slot that falls free after so many seconds."""

    def step(ledger: Ledger | None, now: float) -> tuple[Ledger, None]:
        slots = () if ledger is None else ledger.slots
        slot = Slot(id_, Lane.INTERACTIVE, "desk", now + seconds)
        return replace(ledger or Ledger(), slots=(*slots, slot), replicas={"r1": now}), None

    await ledgers.change(account, step)


def learn(calls: int, _ledger: Ledger | None, now: float) -> tuple[Ledger, None]:
    return Ledger(learned=calls, learned_at=now), None


async def seen(ledgers: FileLedgers, account: str = ACCOUNT) -> Ledger | None:
    return await ledgers.change(account, lambda ledger, _now: (ledger or Ledger(), ledger))


async def left(ledgers: FileLedgers, account: str = ACCOUNT) -> dict[str, float]:
    """The slots that are held, and for how many seconds more."""
    ledger = await seen(ledgers, account)
    assert ledger is not None
    return {slot.id: round(slot.free_at - ledgers.now(), 3) for slot in ledger.slots}


def is_faulty(ledgers: FileLedgers) -> bool:
    return ledgers.fault is not None


def the_file(folder: Path) -> Path:
    [path] = folder.rglob("*.ledger")
    return path


async def test_a_first_start_knows_of_no_calls(start: Start, caplog: pytest.LogCaptureFixture):
    assert await seen(start()) is None
    assert caplog.records == []


async def test_the_next_process_knows_of_the_calls_of_one_that_was_killed(start: Start, machine: Machine):
    await take(start(), "one")
    machine.advance(20)
    assert await left(start()) == {"one": 40.0}


async def test_a_change_is_written_before_it_is_answered(start: Start, tmp_path: Path):
    """Law 1: at no moment does somebody hold a slot that a successor would not find."""
    ledgers = start()
    for number in range(5):
        await take(ledgers, str(number))
        successor = module._decode(records.unframe(the_file(tmp_path).read_bytes(), KIND)[0][-1])
        assert [slot.id for slot in successor.ledger.slots] == [str(n) for n in range(number + 1)]


async def test_what_a_process_knows_beside_its_calls_ends_with_it(start: Start):
    ledgers = start()
    await take(ledgers, "one")
    own, next_ = await seen(ledgers), await seen(start())
    assert own is not None
    assert next_ is not None
    assert own.replicas
    assert next_.replicas == {}


@pytest.mark.parametrize("step", [-3600.0, -1.0, 1.0, 3600.0])
async def test_a_step_of_the_wall_clock_between_two_runs_changes_nothing(start: Start, machine: Machine, step: float):
    await take(start(), "one")
    machine.advance(20)
    machine.wall += step
    assert await left(start()) == {"one": 40.0}


@pytest.mark.parametrize(("passed", "then"), [(20.0, {"one": 40.0}), (61.0, {}), (-3600.0, {"one": 60.0})])
async def test_after_a_restart_of_the_machine_the_wall_clock_counts_but_never_back(
    start: Start, machine: Machine, passed: float, then: dict[str, float]
):
    await take(start(), "one")
    machine.boot, machine.monotonic = "run-2", 3.0
    machine.wall += passed
    assert await left(start()) == then


async def test_a_slot_from_the_future_is_held_as_long_as_a_new_one(start: Start):
    await take(start(), "one", seconds=1e6)
    assert await left(start()) == {"one": ALLOWANCE.most}


async def test_two_processes_keep_one_ledger(start: Start):
    one, two = start(), start()
    await take(one, "one")
    await take(two, "two")
    await take(one, "three")
    assert await left(one) == await left(two) == {"one": 60.0, "two": 60.0, "three": 60.0}


async def test_many_changes_by_several_lose_none(start: Start):
    processes = [start() for _ in range(4)]
    await asyncio.gather(*(take(ledgers, f"{id(ledgers)}.{n}") for ledgers in processes for n in range(50)))
    assert len(await left(processes[0])) == 200


async def test_accounts_and_platforms_have_ledgers_of_their_own(start: Start):
    await take(start(), "one")
    assert await seen(start(), "acc-2") is None
    assert await seen(start(platform="https://other.example")) is None


async def test_a_file_does_not_grow_without_end(start: Start, tmp_path: Path):
    ledgers, most = start(), 0
    for number in range(3000):
        await ledgers.change(ACCOUNT, partial(learn, number))
        most = max(most, the_file(tmp_path).stat().st_size)
    assert module.LARGEST_FILE_BYTES / 2 < most < module.LARGEST_FILE_BYTES + 1000
    found = await seen(start())
    assert found is not None
    assert found.learned == 2999


async def test_a_record_that_was_cut_off_by_a_kill_is_as_if_it_had_not_been_begun(start: Start, tmp_path: Path):
    await take(start(), "one")
    path = the_file(tmp_path)
    before = path.read_bytes()
    await take(start(), "two")
    after = path.read_bytes()
    for end in range(len(before), len(after)):
        path.write_bytes(after[:end])
        ledgers = start()
        assert (await left(ledgers)).keys() == {"one"}
        await take(ledgers, "three")
        assert (await left(start())).keys() == {"one", "three"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"something else", id="foreign"),
        pytest.param(KIND, id="without-a-record"),
        pytest.param(KIND + records.frame(b"\x92\x01"), id="no-ledger"),
        pytest.param(KIND + records.frame(b"\xff") + b"\x00" * 8, id="cut-by-a-dead-machine"),
    ],
)
async def test_a_damaged_file_is_a_window_that_is_spent_and_one_log_line(
    start: Start, tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture, machine: Machine
):
    await take(start(), "one")
    the_file(tmp_path).write_bytes(content)
    ledgers = start()
    assert list((await left(ledgers)).values()) == [ALLOWANCE.most] * ALLOWANCE.calls
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    # It is whole again, for the next one too.
    machine.advance(ALLOWANCE.most)
    assert await left(start()) == {}
    assert len(caplog.records) == 1


async def test_files_are_for_nobody_else(start: Start, tmp_path: Path):
    await take(start(), "one")
    assert stat.S_IMODE(the_file(tmp_path).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state" / "gateway").stat().st_mode) == 0o700


# Folders that cannot be written.


async def test_where_nothing_can_be_written_it_goes_on_and_says_so_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("no folder")
    ledgers = start(tmp_path / "file" / "gateway")
    await ledgers.open()
    assert ledgers.fault == "Not a directory"
    for number in range(3):
        await take(ledgers, str(number))
    assert (await left(ledgers)).keys() == {"0", "1", "2"}
    [record] = caplog.records
    assert "a restart loses them" in record.getMessage()


async def test_when_it_can_be_written_again_all_is_there_again(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    folder = tmp_path / "folder"
    folder.write_text("in the way")
    ledgers = start(folder / "gateway")
    await take(ledgers, "one")
    folder.unlink()
    await take(ledgers, "two")
    assert ledgers.fault is None
    assert (await left(start(folder / "gateway"))).keys() == {"one", "two"}
    assert [record.levelno for record in caplog.records] == [logging.WARNING, logging.INFO]


async def test_a_full_disk_leaves_nothing_that_could_be_taken_for_the_truth(
    start: Start, monkeypatch: pytest.MonkeyPatch
):
    ledgers = start()
    await take(ledgers, "one")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda _descriptor, data: len(data) // 2)
        await take(ledgers, "two")
        assert is_faulty(ledgers)
        full.undo()
        # A successor counts the window as spent, for it cannot know of the second call.
        assert len(await left(start())) == ALLOWANCE.calls
    await take(ledgers, "three")
    assert not is_faulty(ledgers)
    assert (await left(start())).keys() == {"one", "two", "three"}


async def test_a_file_that_somebody_removed_is_made_again(start: Start, tmp_path: Path):
    ledgers = start()
    await take(ledgers, "one")
    the_file(tmp_path).unlink()
    await take(ledgers, "two")
    assert (await left(start())).keys() == {"one", "two"}


# The lock.


async def test_a_lock_that_is_held_for_a_moment_is_waited_for(start: Start, tmp_path: Path):
    ledgers = start()
    await take(ledgers, "one")
    [path] = tmp_path.rglob("lock")
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(take(ledgers, "two"))
            await asyncio.sleep(0)
            assert not waiting.done()
            fcntl.flock(held, fcntl.LOCK_UN)
    assert (await left(ledgers)).keys() == {"one", "two"}


async def test_a_lock_that_is_held_for_good_is_a_lost_ledger(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.002)
    ledgers = start()
    await take(ledgers, "one")
    [path] = tmp_path.rglob("lock")
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LedgerLostError):
            await take(ledgers, "two")
    assert (await left(ledgers)).keys() == {"one"}


async def test_a_step_that_fails_leaves_no_lock(start: Start):
    ledgers = start()

    def fails(_ledger: Ledger | None, _now: float) -> tuple[Ledger, None]:
        raise LookupError

    with pytest.raises(LookupError):
        await ledgers.change(ACCOUNT, fails)
    await take(start(), "one")
