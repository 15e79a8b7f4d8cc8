import asyncio
import logging
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.decide import Choice, Decision, Fwd, Listed, decide
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.evidence import Cause, Evidence, Invalidation
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local import records
from campaign_gateway.store.local.snapshot import KIND, Snapshot
from campaign_gateway.store.memory import MemoryStore
from tests.support.builders import absence, copy_of
from tests.support.builders import entry as built
from tests.support.doubles import Machine
from tests.support.meters import CountingMeter

STREAM, FOREIGN = "a1b2", "ffff"
KEEP = 86_400.0
FRESHNESS = Freshness()


def key(name: str, stream: str = STREAM) -> str:
    return f"{stream}:campaign:{name}"


GROUP = key("*")


class Process:
    """A store and its snapshot."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.store = MemoryStore(most_bytes, StoreClock(), CountingMeter())
        self.snapshot = Snapshot(folder, self.store, frozenset({STREAM}), most_bytes)

    async def put(self, name: str, entry: Stored | None = None, age: float = 100.0) -> Stored:
        if entry is None:
            entry = replace(built(0.0, body=name.encode()), validated_at=self.store.now() - age)
        found = await self.store.get(name)
        await self.store.put(name, entry, found.fence, KEEP)
        return entry

    async def entry(self, name: str) -> Stored | None:
        return (await self.store.get(name)).stored

    async def evidence(self, name: str) -> Evidence:
        found = await self.store.get(name)
        assert found.stored is not None
        return found.evidence

    async def decision(self, name: str, listed: Listed | None = None, after: float = 0.0) -> Decision:
        """What is done with a plain read of it, so many seconds from now."""
        found = await self.store.get(name)
        return decide(found.stored, found.evidence, NO_DIRECTIVES, FRESHNESS, self.store.now() + after, listed)

    def kill(self) -> None:
        """What the system does for a process that is gone."""
        self.snapshot._thread.shutdown()
        for descriptor in (self.snapshot._file, self.snapshot._lock):
            self.snapshot._close(descriptor)


Start = Callable[..., "asyncio.Future[Process]"]


@pytest.fixture
def start(machine: Machine, tmp_path: Path):
    processes: list[Process] = []

    async def start(folder: Path = tmp_path / "state", most_bytes: int = 2**20) -> Process:
        process = Process(folder, most_bytes)
        processes.append(process)
        await process.snapshot.load()
        return process

    yield start
    for process in processes:
        process.snapshot._thread.shutdown()


@pytest.fixture
async def first(start: Start) -> Process:
    """A process that found nothing."""
    return await start()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "entries"


async def stop(process: Process) -> None:
    await process.snapshot.close()


async def test_a_first_start_is_quiet_and_cold(start, caplog):
    process = await start()
    assert len(process.store) == 0
    assert caplog.records == []


async def test_what_was_stored_is_there_again_with_its_age(first: Process, start, machine: Machine):
    before = await first.put(key("one"))
    await stop(first)
    machine.advance(20)
    second = await start()
    after = await second.entry(key("one"))
    assert after is not None
    assert after == before
    assert second.store.now() - after.validated_at == 120


@pytest.mark.parametrize("step", [-3600.0, -50.0, 50.0])
async def test_a_step_of_the_wall_clock_changes_no_age(first: Process, start, machine: Machine, step: float):
    await first.put(key("one"))
    await stop(first)
    machine.advance(20)
    machine.wall += step
    second = await start()
    after = await second.entry(key("one"))
    assert after is not None
    assert second.store.now() - after.validated_at == pytest.approx(120)


async def test_an_entry_is_not_fresh_until_something_validates_it(first: Process, start, machine: Machine):
    """It may have changed, and the list may have shown that, since the file was written."""
    before = await first.put(key("one"), age=10.0)
    assert (await first.decision(key("one"))).choice is Choice.FRESH
    await stop(first)
    machine.advance(5)
    second = await start()
    decision = await second.decision(key("one"))
    assert (decision.choice, decision.ttl.why) == (Choice.STALE, "unverified")
    machine.advance(120)
    decision = await second.decision(key("one"))
    assert (decision.choice, decision.fwd, decision.fallback) == (Choice.FORWARD, Fwd.STALE, before)


async def test_the_first_poll_validates_what_the_list_still_shows(first: Process, start, machine: Machine):
    before = await first.put(key("one"), age=1.0)
    await stop(first)
    machine.advance(1)
    second = await start()
    now = second.store.now()
    head = IndexState({Channel.VOICE: Poll(began=now, lasts=10.0)}, blind=600.0)
    row = IndexedCampaign(
        Channel.VOICE, "a revision", before.revision, since=now + 0.5, has_changed=False, status=before.campaign_status
    )
    assert (await second.decision(key("one"), (row, head), after=0.5)).choice is Choice.FRESH
    for other in (replace(row, updated_at="another"), replace(row, status="Active"), replace(row, has_changed=True)):
        assert (await second.decision(key("one"), (other, head), after=0.5)).choice is not Choice.FRESH


async def test_a_read_by_id_takes_a_slot(first: Process, start, machine: Machine):
    await first.put(key("one"))
    await stop(first)
    second = await start()
    newer = await second.put(key("one"), age=0.0)
    assert copy_of(second.store, key("one")) == newer


async def test_nothing_past_its_bound_comes_back(first: Process, start, machine: Machine):
    await first.put(key("old"), age=KEEP - 10)
    await first.put(key("young"), age=KEEP - 30)
    await stop(first)
    machine.advance(20)
    second = await start()
    assert await second.entry(key("old")) is None
    assert await second.entry(key("young")) is not None


async def test_an_entry_from_the_future_is_none(first: Process, start, machine: Machine):
    await first.put(key("one"), age=-5.0)
    await stop(first)
    assert len((await start()).store) == 0


async def test_what_the_platform_did_not_have_is_asked_again(first: Process, start):
    await first.put(key("one"), replace(absence(0.0), validated_at=first.store.now()))
    await stop(first)
    assert len((await start()).store) == 0


async def test_entries_of_other_streams_do_not_come_back(first: Process, start):
    await first.put(key("one", FOREIGN))
    await first.put(key("one"))
    await stop(first)
    assert [entry.key for entry in (await start()).store.entries()] == [key("one")]


async def test_with_less_room_the_most_recently_used_come_back(first: Process, start):
    for name in "abc":
        await first.put(key(name))
    first.store.peek(key("a"))
    await stop(first)
    second = await start(most_bytes=first.store.bytes_used - 1)
    assert {entry.key for entry in second.store.entries()} == {key("c"), key("a")}


# Invalidations.


@pytest.mark.parametrize("by", Cause)
@pytest.mark.parametrize("what", [key("one"), GROUP], ids=["its-own", "its-group"])
@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
async def test_an_invalidated_entry_comes_back_as_one(
    first: Process, start, machine: Machine, by: Cause, what: str, when: str
):
    """Whether it was invalidated before the file was made, while that was written, or just before the crash."""
    await first.put(key("one"))
    if when == "before":
        await first.store.invalidate(what, by)
    saving = asyncio.gather(first.snapshot.save())
    if when == "meanwhile":
        await asyncio.sleep(0)
        await first.store.invalidate(what, by)
    await saving
    if when == "after":
        await first.store.invalidate(what, by)
    at = first.store.now()
    first.kill()
    machine.advance(3)
    second = await start()
    assert (await second.evidence(key("one"))).invalidation == Invalidation(at, by, is_open=True)
    assert second.store.invalidated_at(key("one")) == at


async def test_invalidations_are_added_to_the_file_that_was_found(first: Process, start, machine: Machine):
    """A process that crashes before it has written a file of its own leaves those too."""
    await first.put(key("one"))
    await stop(first)
    second = await start()
    await second.store.invalidate(key("one"), Cause.WRITE)
    second.kill()
    assert (await (await start()).evidence(key("one"))).is_overwritten


async def test_what_was_read_after_an_invalidation_is_not_invalidated_by_it(first: Process, start, machine: Machine):
    await first.put(key("one"))
    await first.store.invalidate(key("one"), Cause.WRITE)
    await first.store.invalidate(GROUP, Cause.PURGE)
    machine.advance(60)
    await first.put(key("one"), age=0.0)
    await stop(first)
    assert (await (await start()).evidence(key("one"))).invalidation is None


async def test_what_was_read_soon_after_a_write_may_still_show_what_was_before(first: Process, start, machine: Machine):
    await first.store.invalidate(key("one"), Cause.WRITE)
    machine.advance(2)
    await first.put(key("one"), age=0.0)
    await stop(first)
    evidence = await (await start()).evidence(key("one"))
    assert evidence.invalidation is not None
    assert not evidence.invalidation.is_open


async def test_where_an_invalidation_cannot_be_added_nothing_comes_back(first: Process, start, monkeypatch, caplog):
    await first.put(key("one"))
    await first.snapshot.save()
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda _descriptor, data: len(data) // 2)
        await first.store.invalidate(key("one"), Cause.WRITE)
    assert first.snapshot.fault is not None
    first.kill()
    assert len((await start()).store) == 0
    assert "a restart starts cold" in caplog.records[0].getMessage()


# The file.


async def test_the_file_is_for_nobody_else(first: Process, file: Path):
    await first.put(key("one"))
    await stop(first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_a_file_is_made_anew_only_when_something_has_changed(first: Process, file: Path):
    await first.snapshot.save()
    assert not file.exists()
    await first.put(key("one"))
    await first.snapshot.save()
    made = file.stat().st_ino
    await first.snapshot.save()
    assert file.stat().st_ino == made
    await first.put(key("one"), age=0.0)
    await first.snapshot.save()
    assert file.stat().st_ino != made


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"something else", id="foreign"),
        pytest.param(lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:], id="a-bit"),
        pytest.param(lambda content: KIND + records.frame(b"\x93\x01\xa1a\x00"), id="without-its-beginning"),
        pytest.param(lambda content: content + records.frame(b"\x00"), id="with-a-record-that-is-none"),
        pytest.param(lambda content: content + b"\x00" * 2**25, id="too-large"),
    ],
)
async def test_nothing_is_taken_from_a_damaged_file(first: Process, start, file: Path, damage, caplog):
    for name in "abc":
        await first.put(key(name))
    await stop(first)
    file.write_bytes(damage(file.read_bytes()))
    second = await start()
    assert len(second.store) == 0
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    await second.put(key("d"))
    await stop(second)
    assert [entry.key for entry in (await start()).store.entries()] == [key("d")]


async def test_an_invalidation_that_was_cut_off_is_not_followed_by_others(first: Process, start, file: Path):
    await first.put(key("one"))
    await stop(first)
    whole = file.read_bytes()
    file.write_bytes(whole + records.frame(b"a part of one")[:-3])
    second = await start()
    await second.store.invalidate(key("one"), Cause.WRITE)
    second.kill()
    assert (await (await start()).evidence(key("one"))).is_overwritten


async def test_one_process_writes_and_the_next_one_takes_over(first: Process, start, file: Path):
    await first.put(key("one"))
    await first.snapshot.save()
    second = await start()
    await second.put(key("two"))
    await second.snapshot.save()
    assert b"two" not in file.read_bytes()
    await stop(first)
    await second.snapshot.save()
    await stop(second)
    assert {entry.key for entry in (await start()).store.entries()} == {key("one"), key("two")}


async def test_where_nothing_can_be_written_it_goes_on_and_says_so_once(start, tmp_path: Path, caplog):
    (tmp_path / "state").write_text("no folder")
    first = await start()
    await first.put(key("one"))
    for _ in range(3):
        await first.snapshot.save()
    assert first.snapshot.fault == "File exists"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    (tmp_path / "state").unlink()
    await stop(first)
    assert len((await start()).store) == 1


async def test_a_file_that_is_being_written_at_the_end_does_not_spoil_the_last_one(
    first: Process, start, file: Path, monkeypatch
):
    """The thread goes on when the task that waits for it is cancelled."""
    await first.put(key("one"))
    gate, write = threading.Event(), first.snapshot._write

    def slow(*copy):
        gate.wait(5)
        return write(*copy)

    monkeypatch.setattr(first.snapshot, "_write", slow)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await first.snapshot.save()
    await first.put(key("two"))
    last = asyncio.gather(stop(first))
    await asyncio.sleep(0)
    gate.set()
    await last
    assert {entry.key for entry in (await start()).store.entries()} == {key("one"), key("two")}
