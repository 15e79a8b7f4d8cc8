"""One suite that every store passes: memory, and Redis with its layers on fakeredis, a real server, a real cluster."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from campaign_gateway.policy.evidence import GOOD, Cause
from campaign_gateway.policy.stored import Absence, Stored
from campaign_gateway.proxy.ports import Handlers, Put, Store
from campaign_gateway.proxy.request import group_of
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.memory import MemoryStore
from campaign_gateway.store.redis import bus as bus_module
from campaign_gateway.store.redis import store as redis_module
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.store import RedisStore
from tests.support.backends import Backend
from tests.support.builders import copy_of
from tests.support.doubles import begun
from tests.support.meters import CountingMeter
from tests.support.waiting import until

KEY, ALL = "1f2e:get:cd-1", "1f2e:get:*"
OTHERS = ("1f2e:status:cd-1", "2f3e:get:cd-1", "1f2e:get-v1:cd-1")
BIG = 2**20


def entry(validated_at: float, body: bytes = b'{"data":1}') -> Stored:
    return Stored(body, "application/json", b"digest", "2026-02-03T14:06:48.902Z", "Ready", validated_at)


@dataclass
class Subject:
    """A store, and a second one over the same shared entries (the same one, for memory)."""

    one: Store
    two: Store
    raw: Any = None
    keys: Keys = field(default_factory=lambda: Keys("cg"))
    written: list[list[str]] = field(default_factory=lambda: [[], []])
    """Writers that were published to each."""


@asynccontextmanager
async def stores_on(backend: Backend | None) -> AsyncIterator[Subject]:
    if backend is None:
        store = MemoryStore(BIG, StoreClock(), CountingMeter())
        yield Subject(store, store)
        return
    async with AsyncExitStack() as stack:
        tasks, keys = Tasks(), backend.keys
        layers, buses, written = [], [], [[], []]  # type: list[LayeredStore], list[Bus], list[list[str]]
        for writers in written:
            clock, meter = StoreClock(), CountingMeter()
            link = backend.open_link(clock, meter)
            stack.push_async_callback(link.close)
            await link.start(tasks)
            buses.append(Bus(link, keys))
            shared = RedisStore(link, buses[-1], keys)
            layers.append(LayeredStore(shared, MemoryStore(BIG, clock, meter), buses[-1], 5.0))
            layers[-1].start(tasks, Handlers(lambda _: None, writers.append, lambda *_: None))
        stack.push_async_callback(tasks.close)
        await until(lambda: not any(bus.silent_for() for bus in buses))
        yield Subject(layers[0], layers[1], backend.raw, keys, written)


@pytest.fixture
async def subject(any_backend: Backend | None) -> AsyncIterator[Subject]:
    async with stores_on(any_backend) as found:
        yield found


@pytest.fixture
async def shared(redis_backend: Backend) -> AsyncIterator[Subject]:
    async with stores_on(redis_backend) as found:
        yield found


async def test_what_was_put_is_found(subject: Subject) -> None:
    kept = entry(subject.one.now())
    found = await subject.one.get(KEY)
    assert found.stored is None
    assert await subject.one.put(KEY, kept, found.fence, 60) is Put.STORED
    assert (await subject.two.get(KEY)).stored == kept


async def test_what_is_stored_is_never_taken_for_nothing(subject: Subject) -> None:
    assert not subject.one.holds(KEY)
    found = await subject.one.get(KEY)
    await subject.one.put(KEY, entry(subject.one.now()), found.fence, 60.0)
    assert subject.one.holds(KEY) is True
    assert subject.two.holds(KEY) is not False, "another replica's may be unknown here"


async def test_what_has_not_changed_is_the_very_same_entry(shared: Subject) -> None:
    await fill(shared.one, KEY)
    found = await shared.one.get(KEY)
    again = await shared.one.get(KEY, raw=found.raw)
    assert (again.stored is found.stored, again.evidence is found.evidence) == (True, True)
    assert again == found


async def put_newer(subject: Subject) -> None:
    await fill(subject.two, body=b"newer", age=-1.0)


async def turn_a_byte(subject: Subject) -> None:
    name = subject.keys.entry(KEY)
    value = await subject.raw.get(name)
    await subject.raw.set(name, value[:-1] + bytes([value[-1] ^ 1]))


async def lose_it(subject: Subject) -> None:
    await subject.raw.delete(subject.keys.entry(KEY))


async def lose_its_groups_fence(subject: Subject) -> None:
    await subject.raw.delete(subject.keys.group_fence(KEY))


async def write_it(subject: Subject) -> None:
    await subject.two.invalidate(KEY, Cause.WRITE)


async def purge_all(subject: Subject) -> None:
    await subject.two.invalidate(group_of(KEY), Cause.PURGE)


@pytest.mark.parametrize("change", [put_newer, turn_a_byte, lose_it, lose_its_groups_fence, write_it, purge_all])
async def test_what_has_changed_is_read_anew(shared: Subject, change: Callable[[Subject], Awaitable[None]]) -> None:
    await purge_all(shared)
    await fill(shared.one, KEY)
    found = await shared.one.get(KEY)
    await change(shared)
    again, anew = await shared.one.get(KEY, raw=found.raw), await shared.one.get(KEY)
    assert not (again.stored is found.stored and again.evidence is found.evidence)
    assert again.raw == anew.raw != found.raw


async def test_an_absence_survives_the_trip(subject: Subject) -> None:
    absent = Stored(b"", "", b"", None, None, subject.one.now(), Absence(400, "400", "Campaign not found"))
    found = await subject.one.get(KEY)
    await subject.one.put(KEY, absent, found.fence, 60)
    assert (await subject.two.get(KEY)).stored == absent


async def test_a_read_that_started_earlier_does_not_replace_a_later_one(subject: Subject) -> None:
    now = subject.one.now()
    found = await subject.one.get(KEY)
    later, earlier = entry(now, b"later"), entry(now - 1, b"earlier")
    assert await subject.one.put(KEY, later, found.fence, 60) is Put.STORED
    assert await subject.one.put(KEY, earlier, found.fence, 60) is Put.OLDER
    found = await subject.two.get(KEY)
    assert found.stored == later
    assert await subject.two.put(KEY, entry(now + 1, b"newest"), found.fence, 60) is Put.STORED
    assert (await subject.one.get(KEY)).stored == entry(now + 1, b"newest")


async def test_a_fill_from_before_an_invalidation_is_refused(subject: Subject) -> None:
    before = await subject.one.get(KEY)
    await subject.two.invalidate(KEY, Cause.WRITE)
    late = entry(subject.one.now() + 1)
    assert await subject.one.put(KEY, late, before.fence, 60) is Put.FENCED
    after = await subject.one.get(KEY)
    assert await subject.one.put(KEY, late, after.fence, 60) is Put.STORED


async def test_a_fence_outlives_an_entry_that_is_kept_for_less_time(subject: Subject) -> None:
    before = await subject.one.get(KEY)
    await subject.two.invalidate(KEY, Cause.WRITE)
    between = await subject.two.get(KEY)
    assert await subject.two.put(KEY, entry(subject.two.now()), between.fence, 0.05) is Put.STORED
    await asyncio.sleep(0.15)
    assert await subject.one.put(KEY, entry(subject.one.now()), before.fence, 60) is Put.FENCED


async def fill(store: Store, key: str = KEY, body: bytes = b'{"data":1}', age: float = 0.0) -> Stored:
    """A fill as the story does it."""
    lease = await store.acquire_lease(key)
    brought = entry(store.now() - age, body)
    assert await store.put(key, brought, lease.found.fence, 60) is Put.STORED
    await store.release_lease(key, lease.found.fence)
    return brought


async def invalidation_of(store: Store, key: str = KEY) -> tuple[Cause, bool] | None:
    """What is said of the entry's invalidation: why, and whether it is open."""
    found = await store.get(key)
    assert found.stored is not None, "it stays, to fall back on"
    last = found.evidence.invalidation
    return None if last is None else (last.by, last.is_open)


REACHES = pytest.mark.parametrize("reach", [KEY, ALL], ids=["one", "all"])
LONG = 30.0
"""Seconds before an invalidation, so that nobody takes a read for one that is settling."""


@REACHES
@pytest.mark.parametrize("by", list(Cause))
async def test_an_invalidated_entry_stays_to_fall_back_on_until_a_new_validation(
    subject: Subject, reach: str, by: Cause
) -> None:
    old = await fill(subject.one, age=LONG)
    before = subject.two.now() - 1
    await subject.two.invalidate(reach, by)
    for store in (subject.two, subject.one):
        found = await store.get(KEY)
        assert found.evidence.invalidation is not None
        at = found.evidence.invalidation.at
        assert (found.stored, found.evidence) == (old, GOOD.invalidated(by, at))
        assert before <= at <= subject.two.now() + 1
        lease = await store.acquire_lease(KEY)
        assert lease.found.stored is not None
        await store.release_lease(KEY, lease.found.fence)
    await fill(subject.one, body=b"new")
    assert await invalidation_of(subject.two) == ((Cause.WRITE, False) if by is Cause.WRITE else None)


@REACHES
async def test_a_purge_after_a_write_stays_a_write(subject: Subject, reach: str) -> None:
    await fill(subject.one, age=LONG)
    await subject.two.invalidate(reach, Cause.WRITE)
    for other in (KEY, ALL):
        await subject.two.invalidate(other, Cause.PURGE)
        assert await invalidation_of(subject.one) == (Cause.WRITE, True)


@REACHES
async def test_a_write_after_a_purge_is_a_write(subject: Subject, reach: str) -> None:
    await fill(subject.one, age=LONG)
    for other in (KEY, ALL):
        await subject.two.invalidate(other, Cause.PURGE)
    await subject.two.invalidate(reach, Cause.WRITE)
    assert await invalidation_of(subject.one) == (Cause.WRITE, True)


@REACHES
async def test_what_is_read_soon_after_a_write_counts_as_settling(subject: Subject, reach: str) -> None:
    assert (await subject.one.acquire_lease(KEY)).found.written_at == 0.0
    await subject.one.invalidate(reach, Cause.WRITE)
    for found in ((await subject.one.acquire_lease(KEY)).found, await subject.one.get(KEY)):
        assert found.written_at == pytest.approx(subject.one.now(), abs=5.0)
    await fill(subject.one)
    for store in (subject.one, subject.two):
        assert await invalidation_of(store) == (Cause.WRITE, False)
    await fill(subject.two, age=-LONG)
    for store in (subject.one, subject.two):
        assert await invalidation_of(store) is None, "read long after it"


@REACHES
async def test_what_is_read_soon_after_a_purge_is_as_good_as_any(subject: Subject, reach: str) -> None:
    await fill(subject.one, age=LONG)
    await subject.one.invalidate(reach, Cause.PURGE)
    await fill(subject.one)
    for store in (subject.one, subject.two):
        assert await invalidation_of(store) is None


@REACHES
async def test_an_invalidated_entry_gives_way_to_any_fill_that_looked_up_since(subject: Subject, reach: str) -> None:
    """Its read began after the invalidation, and clocks are only known to within an error."""
    await fill(subject.one, age=LONG)
    await subject.one.invalidate(reach, Cause.PURGE)
    await fill(subject.one, body=b"new", age=LONG + 1)
    assert await invalidation_of(subject.two) is None


async def test_all_answers_to_an_operation_are_invalidated_wherever_they_lie(subject: Subject) -> None:
    keys = [f"1f2e:get:cd-{number}" for number in range(20)]
    assert len({subject.keys.partition(key) for key in keys}) > 1 or subject.keys.partitions == 1
    for key in (*keys, *OTHERS):
        await fill(subject.one, key, age=LONG)
    flying = {key: await subject.one.acquire_lease(key) for key in (*keys, *OTHERS)}
    await subject.two.invalidate(ALL, Cause.WRITE)
    assert {await invalidation_of(store, key) for key in keys for store in (subject.one, subject.two)} == {
        (Cause.WRITE, True)
    }
    assert {await invalidation_of(subject.two, key) for key in OTHERS} == {None}
    for key, lease in flying.items():
        outcome = await subject.one.put(key, entry(subject.one.now()), lease.found.fence, 60)
        assert outcome is (Put.STORED if key in OTHERS else Put.FENCED), key


async def test_what_is_stored_after_the_group_s_fence_is_not_below_it(subject: Subject) -> None:
    await fill(subject.one, age=LONG)
    await subject.two.invalidate(ALL, Cause.WRITE)
    await fill(subject.one, "1f2e:get:cd-2", age=-LONG)
    assert await invalidation_of(subject.two) == (Cause.WRITE, True)
    assert await invalidation_of(subject.two, "1f2e:get:cd-2") is None


@REACHES
@pytest.mark.parametrize("by", list(Cause))
async def test_every_replica_knows_soon_when_a_key_was_last_invalidated(
    subject: Subject, reach: str, by: Cause
) -> None:
    stores = (subject.one, subject.two)
    before = [store.invalidated_at(KEY) for store in stores]
    await asyncio.sleep(0.002)
    await subject.one.invalidate(reach, by)
    await until(lambda: not (any(store.invalidated_at(KEY) <= at for store, at in zip(stores, before, strict=True))), 5)
    assert [store.invalidated_at(OTHERS[0]) for store in stores] == before


@REACHES
@pytest.mark.parametrize("by", list(Cause))
async def test_copies_near_are_invalidated_where_another_replica_invalidates_them(
    shared: Subject, reach: str, by: Cause
) -> None:
    await fill(shared.one, age=LONG)
    async with asyncio.timeout(20):
        while copy_of(shared.two, KEY) is None:
            await shared.two.get(KEY)
            await asyncio.sleep(0.005)
    await shared.one.invalidate(reach, by)
    near = shared.one.peek(KEY)
    assert near.evidence.invalidation is not None
    assert (near.evidence.invalidation.by, near.evidence.invalidation.is_open) == (by, True), (
        "at once where it was done"
    )
    async with asyncio.timeout(20):
        while (last := shared.two.peek(KEY).evidence.invalidation) is None:
            await asyncio.sleep(0.005)
    assert (last.by, last.is_open) == (by, True)


async def test_a_write_reaches_the_others_and_its_own_word_is_no_change(shared: Subject) -> None:
    await shared.one.publish_write("1f2e:a client")
    await until(lambda: shared.written[1] == ["1f2e:a client"], 5)
    assert shared.written[0] == []


async def test_entries_whose_group_s_fence_was_lost_are_not_fresh(shared: Subject) -> None:
    """An operator deleted it, or a server that evicts: what it knew of invalidations is gone."""
    await fill(shared.one, age=LONG)
    await shared.one.invalidate(ALL, Cause.WRITE)
    await shared.raw.delete(shared.keys.group_fence(KEY))
    assert await invalidation_of(shared.two) == (Cause.PURGE, True)
    await fill(shared.one, "1f2e:get:cd-2")
    assert await invalidation_of(shared.two) == (Cause.PURGE, True), "also when there is a new one"
    await fill(shared.two)
    assert await invalidation_of(shared.one) is None


async def test_a_fill_under_way_when_the_group_s_fence_was_lost_is_refused(shared: Subject) -> None:
    lease = await shared.one.acquire_lease(KEY)
    await shared.two.invalidate(ALL, Cause.WRITE)
    await shared.raw.delete(shared.keys.group_fence(KEY))
    assert await shared.one.put(KEY, entry(shared.one.now()), lease.found.fence, 60) is Put.FENCED


@pytest.mark.parametrize("value", [b"", b"x", b"0" * 64, b"\xff" * 40], ids=["empty", "short", "head-cut", "noise"])
async def test_an_invalidation_of_a_foreign_value_refuses_fills_like_any(shared: Subject, value: bytes) -> None:
    await shared.raw.set(shared.keys.entry(KEY), value)
    before = await shared.one.acquire_lease(KEY)
    await shared.two.invalidate(KEY, Cause.WRITE)
    assert (await shared.two.get(KEY)).stored is None
    assert await shared.one.put(KEY, entry(shared.one.now()), before.found.fence, 60) is Put.FENCED
    await fill(shared.one)
    assert await invalidation_of(shared.one) == (Cause.WRITE, False)


async def test_fences_of_other_keys_do_not_matter(subject: Subject) -> None:
    found = await subject.one.get(KEY)
    await subject.two.invalidate("1f2e:get:cd-2", Cause.WRITE)
    assert await subject.one.put(KEY, entry(subject.one.now()), found.fence, 60) is Put.STORED


@pytest.mark.drill(
    "evidence from the future",
    planted="entries, polls, rows and writes that are dated by a clock that was ahead",
    seen="they prove nothing, and what is read since takes their place",
)
@pytest.mark.parametrize("ahead", [5.0, 3600.0])
async def test_an_answer_from_the_future_stands_in_nobody_s_way(subject: Subject, ahead: float) -> None:
    found = await subject.one.get(KEY)
    assert await subject.one.put(KEY, entry(subject.one.now() + ahead), found.fence, 60) is Put.STORED
    later = entry(subject.two.now(), b"later")
    for store in (subject.two, subject.one):
        assert await store.put(KEY, later, (await store.get(KEY)).fence, 60) in {Put.STORED, Put.OLDER}
        assert (await store.get(KEY)).stored == later
        assert store.peek(KEY).stored == later


async def test_of_many_fills_at_once_the_one_that_started_last_stays(subject: Subject) -> None:
    now = subject.one.now()
    found = [await store.get(KEY) for store in (subject.one, subject.two)]
    fills = [entry(now - 40 + number, str(number).encode()) for number in range(40)]
    await asyncio.gather(
        *(
            (subject.one, subject.two)[number % 2].put(KEY, fill, found[number % 2].fence, 60)
            for number, fill in enumerate(fills)
        )
    )
    assert (await subject.one.get(KEY)).stored == fills[-1]


CHANGES = [
    pytest.param(None, False, id="nothing"),
    pytest.param(purge_all, False, id="its-group-s-fence"),
    pytest.param(lose_its_groups_fence, False, id="its-group-s-fence-lost"),
    pytest.param(lose_it, False, id="lost"),
    pytest.param(put_newer, True, id="a-newer-one"),
    pytest.param(write_it, True, id="its-fence"),
]


@pytest.mark.parametrize(("change", "is_brought"), CHANGES)
async def test_a_lease_finds_what_a_look_up_would_and_brings_no_body_that_was_brought_before(
    shared: Subject, change: Callable[[Subject], Awaitable[None]] | None, is_brought: bool
) -> None:
    await fill(shared.one, KEY, age=LONG)
    found = await shared.one.get(KEY)
    assert isinstance(shared.one, LayeredStore)
    redis, answers = shared.one._redis, list[list[Any]]()
    acquire = redis._acquire

    async def watched(**arguments: Any) -> Any:
        answers.append(await acquire(**arguments))
        return answers[-1]

    redis._acquire = watched
    if change is not None:
        await change(shared)
    lease, again = await shared.one.acquire_lease(KEY, found), await shared.one.acquire_lease(KEY)
    assert (lease.found.stored, lease.found.evidence) == (again.found.stored, again.found.evidence)
    assert [any(isinstance(part, bytes) and b"digest" in part for part in answer) for answer in answers] == [
        is_brought,
        change is not lose_it,
    ]


async def test_who_holds_the_lease_learns_what_is_stored_and_stores_under_the_fence_of_that_moment(
    subject: Subject,
) -> None:
    before = await subject.one.get(KEY)
    await subject.two.invalidate(KEY, Cause.WRITE)
    lease = await subject.one.acquire_lease(KEY)
    assert (lease.is_mine, lease.found.stored) == (True, None)
    kept = entry(subject.one.now())
    assert await subject.one.put(KEY, kept, before.fence, 60) is Put.FENCED
    assert await subject.one.put(KEY, kept, lease.found.fence, 60) is Put.STORED
    assert (await subject.two.acquire_lease(KEY)).found.stored == kept


async def test_a_lease_may_be_taken_again_by_who_has_it(subject: Subject) -> None:
    assert [(await subject.one.acquire_lease(KEY)).is_mine for _ in range(2)] == [True, True]


async def test_one_replica_holds_the_lease_until_it_leaves(shared: Subject) -> None:
    lease = await shared.one.acquire_lease(KEY)
    assert lease.is_mine
    assert not (await shared.two.acquire_lease(KEY)).is_mine
    assert (await shared.two.acquire_lease("1f2e:get:cd-2")).is_mine, "another key has another lease"
    await shared.one.release_lease(KEY, lease.found.fence)
    assert (await shared.two.acquire_lease(KEY)).is_mine
    assert not (await shared.one.acquire_lease(KEY)).is_mine


async def test_a_lease_can_only_be_given_up_by_who_has_it(shared: Subject) -> None:
    lease = await shared.one.acquire_lease(KEY)
    await shared.two.release_lease(KEY, lease.found.fence)
    assert not (await shared.two.acquire_lease(KEY)).is_mine


@REACHES
async def test_a_lease_from_before_an_invalidation_keeps_nobody_waiting(shared: Subject, reach: str) -> None:
    old = await shared.one.acquire_lease(KEY)
    assert old.is_mine
    await shared.two.invalidate(reach, Cause.WRITE)
    new = await shared.two.acquire_lease(KEY)
    assert new.is_mine, "what the old leader brings will not be stored"
    await shared.one.release_lease(KEY, old.found.fence)
    assert not (await shared.one.acquire_lease(KEY)).is_mine, "it released its own lease, not the new one"


async def test_of_many_at_once_one_holds_the_lease(shared: Subject) -> None:
    one, two = (asyncio.gather(*(store.acquire_lease(KEY) for _ in range(20))) for store in (shared.one, shared.two))
    ours, theirs = ({lease.is_mine for lease in leases} for leases in await asyncio.gather(one, two))
    assert (ours, theirs) in [({True}, {False}), ({False}, {True})]


async def test_a_lease_is_kept_while_its_holder_lives(shared: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_module, "LEASE_MILLISECONDS", 1000)
    await shared.one.acquire_lease(KEY)
    await asyncio.sleep(1.5)
    assert not (await shared.two.acquire_lease(KEY)).is_mine
    assert (await shared.one.acquire_lease(KEY)).is_mine


async def test_a_lease_that_nobody_renews_falls_free(shared: Subject) -> None:
    lease = await shared.one.acquire_lease(KEY)
    _, colon, fences = (await shared.raw.get(shared.keys.lease(KEY))).partition(b":")
    await shared.one.release_lease(KEY, lease.found.fence)
    await shared.raw.set(shared.keys.lease(KEY), b"a replica that died" + colon + fences, px=100)
    assert not (await shared.one.acquire_lease(KEY)).is_mine
    await asyncio.sleep(0.15)
    assert (await shared.one.acquire_lease(KEY)).is_mine


@pytest.mark.parametrize("what", ["left", "stored", "invalidated"])
async def test_who_waits_is_woken_by_what_happens_to_the_key(
    shared: Subject, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(bus_module, "POLL_SECONDS", 30.0)
    lease = await shared.one.acquire_lease(KEY)
    following = begun(shared.two.wait_for_lease(KEY, 30))
    await asyncio.sleep(0.05)
    assert not following.done()
    match what:
        case "left":
            await shared.one.release_lease(KEY, lease.found.fence)
        case "stored":
            await shared.one.put(KEY, entry(shared.one.now()), lease.found.fence, 60)
        case _:
            await shared.one.invalidate(KEY, Cause.WRITE)
    async with asyncio.timeout(20):
        await following


async def test_who_waits_waits_no_longer_than_told(subject: Subject) -> None:
    async with asyncio.timeout(20):
        await subject.one.wait_for_lease(KEY, 0.01)


async def test_a_copy_is_near_where_it_was_stored_and_goes_when_another_replica_changes_it(shared: Subject) -> None:
    assert copy_of(shared.one, KEY) is None
    kept = entry(shared.one.now())
    await shared.one.put(KEY, kept, (await shared.one.get(KEY)).fence, 60)
    assert copy_of(shared.one, KEY) == kept
    assert copy_of(shared.two, KEY) is None
    async with asyncio.timeout(20):
        # The message about the put may come after the look-up, and take the copy away once.
        while copy_of(shared.two, KEY) is None:
            assert (await shared.two.get(KEY)).stored == kept
            await asyncio.sleep(0.005)
    assert copy_of(shared.two, KEY) == kept
    newer = await fill(shared.one, body=b"newer")
    assert copy_of(shared.one, KEY) == newer
    await until(lambda: copy_of(shared.two, KEY) is None, 5)
    assert (await shared.two.get(KEY)).stored == newer


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x",
        b"0" * 32,
        b"0" * 31,
        b"\xff" * 100,
        b"0" * 16 + b"zz" * 8 + b"\x01rest",
        b"0" * 32 + b"\x02abcdpayload",
    ],
    ids=["empty", "short", "head-only", "half-head", "noise", "damaged-head", "later-version"],
)
async def test_foreign_and_damaged_values_are_no_entry_and_can_be_replaced(shared: Subject, value: bytes) -> None:
    await shared.raw.set(shared.keys.entry(KEY), value)
    found = await shared.one.get(KEY)
    assert found.stored is None
    kept = entry(shared.one.now())
    assert await shared.one.put(KEY, kept, found.fence, 60) is Put.STORED
    assert (await shared.two.get(KEY)).stored == kept


async def test_a_value_with_one_byte_turned_is_no_entry(shared: Subject) -> None:
    found = await shared.one.get(KEY)
    kept = replace(entry(shared.one.now()), revision="2026-02-03T14:06:48.902Z")
    await shared.one.put(KEY, kept, found.fence, 60)
    whole: bytes = await shared.raw.get(shared.keys.entry(KEY))
    for index in range(65, len(whole)):
        damaged = whole[:index] + bytes([whole[index] ^ 0x20]) + whole[index + 1 :]
        await shared.raw.set(shared.keys.entry(KEY), damaged)
        assert (await shared.two.get(KEY)).stored is None


async def test_a_value_of_another_type_is_no_entry(shared: Subject) -> None:
    await shared.raw.rpush(shared.keys.entry(KEY), "list")
    assert (await shared.one.get(KEY)).stored is None
