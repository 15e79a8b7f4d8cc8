import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.decide import decide
from campaign_gateway.policy.directives import NO_DIRECTIVES
from campaign_gateway.policy.evidence import GOOD, WRITE_SETTLE_SECONDS, Cause, Evidence, Invalidation
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import Put
from campaign_gateway.proxy.request import group_of
from campaign_gateway.store import memory as memory_module
from campaign_gateway.store.fences import FENCE_SECONDS
from campaign_gateway.store.memory import ENTRY_OVERHEAD_BYTES, MemoryStore
from tests.support.builders import NOW, absence, copy_of
from tests.support.builders import entry as built
from tests.support.doubles import ManualClock
from tests.support.meters import CountingMeter

KEEP = 600.0


@dataclass
class Room:
    """A memory store with its clock and meter."""

    entries: int = 3
    """How many entries of one byte it takes."""
    clock: ManualClock = field(default_factory=ManualClock)
    meter: CountingMeter = field(default_factory=CountingMeter)

    def __post_init__(self) -> None:
        self.limit = self.entries * (ENTRY_OVERHEAD_BYTES + 1)
        self.store = MemoryStore(self.limit, self.clock, self.meter)

    async def put(self, key: str, entry: Stored | None = None, keep: float = KEEP) -> Put:
        found = await self.store.get(key)
        return await self.store.put(key, entry or sized(1), found.fence, keep)

    async def fill(self, keys: str) -> None:
        for key in keys:
            await self.put(key)

    async def stands(self, key: str) -> Cause | None:
        """Why what is kept needs a new validation; None if it does not."""
        found = await self.store.get(key)
        assert found.stored is not None, "it stays, to fall back on"
        last = found.evidence.invalidation
        return last.by if last is not None and last.is_open else None

    async def has(self, *keys: str) -> str:
        """Those of the keys that are kept. Looking counts as a use."""
        return "".join([key for key in keys if (await self.store.get(key)).stored is not None])


@pytest.fixture
def room() -> Room:
    return Room()


def sized(size: int, age: float = 0.0) -> Stored:
    return built(age, body=b"x" * size)


async def test_it_keeps_what_fits_and_counts_it(room: Room) -> None:
    for key in "abc":
        assert await room.put(key) is Put.STORED
    assert (len(room.store), room.store.bytes_used) == (3, room.limit)
    assert await room.has(*"abc") == "abc"


async def test_the_least_recently_put_goes_first(room: Room) -> None:
    await room.fill("abcde")
    assert await room.has(*"abcde") == "cde"
    assert room.meter.of("store", "memory", "evict") == 2
    assert room.store.bytes_used == room.limit


async def test_what_is_replaced_is_no_eviction(room: Room) -> None:
    await room.fill("aaa")
    assert room.meter.of("store", "memory", "evict") == 0


async def test_a_look_up_is_a_use(room: Room) -> None:
    await room.fill("abc")
    await room.has("a")
    await room.put("d")
    assert await room.has(*"abcd") == "acd"


async def test_a_newer_answer_is_a_use_and_costs_no_second_slot(room: Room) -> None:
    for key in "abc":
        await room.put(key, sized(1, age=5))
    unfenced = (await room.store.get("never invalidated")).fence
    assert await room.store.put("a", sized(1), unfenced, KEEP) is Put.STORED
    assert (len(room.store), room.store.bytes_used) == (3, room.limit)
    assert await room.store.put("d", sized(1), unfenced, KEEP) is Put.STORED
    assert await room.has(*"abcd") == "acd"


async def test_one_big_entry_takes_the_places_of_several(room: Room) -> None:
    await room.fill("abc")
    await room.put("d", sized(ENTRY_OVERHEAD_BYTES + 2))
    assert await room.has(*"abcd") == "cd"


async def test_an_entry_larger_than_the_room_is_not_kept(room: Room) -> None:
    assert await room.put("a", sized(room.limit)) is Put.STORED
    assert (await room.has("a"), len(room.store), room.store.bytes_used) == ("", 0, 0)


async def test_an_entry_larger_than_the_room_turns_nobody_out(room: Room) -> None:
    await room.put("a")
    await room.put("b", sized(room.limit))
    assert await room.has("a", "b") == "a"


async def test_the_words_of_an_absence_take_room_too(room: Room) -> None:
    for key in "abc":
        await room.put(key, absence(message="x" * room.limit))
    assert len(room.store) == 0


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"),
            st.sampled_from(["put", "get", "write", "purge", "all", "supersede"]),
            st.integers(0, 3000),
        ),
        max_size=40,
    )
)
async def test_the_bound_holds_and_the_count_is_true(steps: list[tuple[str, str, int]]) -> None:
    room = Room()
    for key, step, size in steps:
        room.clock.time += 1
        match step:
            case "put":
                age = NOW - room.clock.time
                await room.put(key, sized(size, age))
            case "get":
                await room.store.get(key)
            case "write" | "purge":
                await room.store.invalidate(key, Cause(step))
            case "all":
                await room.store.invalidate(group_of(key), Cause.WRITE)
            case _:
                room.store.supersede(key)
        held = [found.stored for found in [await room.store.get(each) for each in "abcdef"] if found.stored is not None]
        assert len(held) == len(room.store)
        assert sum(len(stored.body) + ENTRY_OVERHEAD_BYTES for stored in held) == room.store.bytes_used <= room.limit


async def test_an_entry_goes_once_it_is_older_than_it_was_to_be_kept(room: Room) -> None:
    await room.put("a", sized(1, age=10), keep=30)
    room.clock.time = NOW + 20
    assert await room.has("a") == "a"
    room.clock.time = NOW + 20.5
    assert await room.has("a") == ""
    assert (len(room.store), room.store.bytes_used) == (0, 0)


@pytest.mark.parametrize(
    ("age", "outcome", "kept"),
    [
        pytest.param(6.0, Put.OLDER, 5.0, id="an-earlier-read"),
        pytest.param(5.0, Put.OLDER, 5.0, id="the-same-read"),
        pytest.param(4.0, Put.STORED, 4.0, id="a-later-read"),
    ],
)
async def test_only_a_read_that_started_later_replaces(room: Room, age: float, outcome: Put, kept: float) -> None:
    await room.put("a", sized(1, age=5.0))
    assert await room.put("a", sized(1, age=age)) is outcome
    found = (await room.store.get("a")).stored
    assert found is not None
    assert NOW - found.validated_at == kept


async def test_a_fill_from_before_an_invalidation_is_refused_and_a_later_one_is_not(room: Room) -> None:
    await room.put("a", sized(1, age=5))
    before = await room.store.get("a")
    await room.store.invalidate("a", Cause.WRITE)
    assert await room.store.put("a", sized(1), before.fence, KEEP) is Put.FENCED
    assert await room.stands("a") is Cause.WRITE
    assert await room.put("a") is Put.STORED
    assert await room.stands("a") is None


async def test_every_invalidation_is_a_fence_of_its_own(room: Room) -> None:
    await room.store.invalidate("a", Cause.WRITE)
    between = await room.store.get("a")
    await room.store.invalidate("a", Cause.WRITE)
    assert await room.store.put("a", sized(1), between.fence, KEEP) is Put.FENCED


async def test_fences_outlive_outdating_and_clearing(room: Room) -> None:
    before = await room.store.get("a")
    await room.store.invalidate("a", Cause.WRITE)
    room.store.supersede("a")
    room.store.clear()
    assert await room.store.put("a", sized(1), before.fence, KEEP) is Put.FENCED


async def test_clearing_forgets_entries_and_their_bytes(room: Room) -> None:
    await room.fill("abc")
    room.store.clear()
    assert (await room.has(*"abc"), len(room.store), room.store.bytes_used) == ("", 0, 0)


async def test_a_fill_from_before_a_clearing_is_refused_and_a_later_one_is_not(room: Room) -> None:
    before = await room.store.get("a")
    room.store.clear()
    assert await room.store.put("a", sized(1), before.fence, KEEP) is Put.FENCED
    assert await room.put("a") is Put.STORED


async def test_what_another_replica_has_replaced_goes_and_no_fill_from_before_is_kept(room: Room) -> None:
    await room.put("a", sized(1, age=5))
    before = await room.store.get("a")
    room.store.supersede("a")
    assert (await room.has("a"), room.store.bytes_used) == ("", 0)
    assert await room.store.put("a", sized(1), before.fence, KEEP) is Put.FENCED
    assert await room.put("a") is Put.STORED
    assert room.store.invalidated_at("a") == 0.0, "it is no invalidation"
    assert room.meter.events["store", "memory", "invalidate", "stored"] == 0


async def test_a_peek_is_a_use_that_finds_what_a_look_up_finds(room: Room) -> None:
    await room.fill("abc")
    assert copy_of(room.store, "a") == (await room.store.get("a")).stored
    assert copy_of(room.store, "none") is None
    await room.has("b", "c")
    copy_of(room.store, "a")
    await room.put("d")
    assert await room.has(*"abcd") == "acd"


async def test_what_a_peek_has_found_is_shown_until_it_changes(room: Room) -> None:
    for key in (A, B):
        await room.put(key, sized(1, age=50))
    before = room.store.peek(A)
    assert before.stored is not None
    assert room.store.shows(A, before.stored, before.evidence)
    assert not room.store.shows(B, before.stored, before.evidence)
    assert not room.store.shows("x:get:none", before.stored, before.evidence)
    await room.store.invalidate(B, Cause.WRITE)
    assert room.store.shows(A, before.stored, before.evidence)
    room.store.lose_track()
    assert not room.store.shows(A, before.stored, before.evidence)


@pytest.mark.parametrize("reach", ["x:get:a", "x:get:*"], ids=["one", "all"])
async def test_what_is_invalidated_or_too_old_is_no_longer_shown(reach: str) -> None:
    for change in ("invalidate", "wait", "replace"):
        room = Room()
        await room.put(A, sized(1, age=50))
        before = room.store.peek(A)
        assert before.stored is not None
        match change:
            case "invalidate":
                await room.store.invalidate(reach, Cause.PURGE)
            case "wait":
                room.clock.time += KEEP
            case _:
                await room.put(A, sized(1))
        assert not room.store.shows(A, before.stored, before.evidence)


async def test_a_peek_finds_nothing_that_is_older_than_it_was_to_be_kept(room: Room) -> None:
    await room.put("a", keep=30)
    room.clock.time = NOW + 30.5
    assert copy_of(room.store, "a") is None
    assert room.store.bytes_used == 0


async def test_alone_everybody_holds_a_lease_and_learns_what_is_stored(room: Room) -> None:
    await room.put("a")
    found = await room.store.get("a")
    for _ in range(2):
        lease = await room.store.acquire_lease("a")
        assert (lease.is_mine, lease.found) == (True, found)
    await room.store.wait_for_lease("a", 3600)
    await room.store.release_lease("a", found.fence)
    assert await room.has("a") == "a"


async def test_fences_are_forgotten_after_their_time_and_not_before(room: Room) -> None:
    for key in "ab":
        await room.store.invalidate(key, Cause.WRITE)
        room.clock.time += 100
    room.clock.time = NOW + FENCE_SECONDS - 0.25
    await room.store.invalidate("c", Cause.WRITE)
    assert set(room.store._fences) == {"a", "b", "c"}
    room.clock.time = NOW + FENCE_SECONDS
    await room.store.invalidate("d", Cause.WRITE)
    assert set(room.store._fences) == {"b", "c", "d"}
    room.clock.time += 10 * FENCE_SECONDS
    await room.store.invalidate("e", Cause.WRITE)
    assert set(room.store._fences) == {"e"}


async def test_a_fence_moved_again_is_remembered_from_then_on(room: Room) -> None:
    await room.store.invalidate("a", Cause.WRITE)
    room.clock.time += FENCE_SECONDS - 1
    between = await room.store.get("a")
    await room.store.invalidate("a", Cause.WRITE)
    room.clock.time += 2
    await room.store.invalidate("b", Cause.WRITE)
    assert await room.store.put("a", sized(1), between.fence, KEEP) is Put.FENCED


async def test_a_fence_that_was_forgotten_is_never_given_again(room: Room) -> None:
    await room.store.invalidate("a", Cause.WRITE)
    held = await room.store.get("a")
    room.clock.time += 2 * FENCE_SECONDS
    await room.store.invalidate("b", Cause.WRITE)
    await room.store.invalidate("a", Cause.WRITE)
    assert await room.store.put("a", sized(1, age=-2 * FENCE_SECONDS), held.fence, KEEP) is Put.FENCED


async def test_what_it_is_asked_is_counted(room: Room) -> None:
    await room.put("a")
    await room.put("a", sized(1, age=9))
    before = (await room.store.get("a")).fence
    await room.store.invalidate("a", Cause.WRITE)
    await room.store.put("a", sized(1), before, KEEP)
    assert room.meter.events == {
        ("store", "memory", "get", "miss"): 1,
        ("store", "memory", "put", "stored"): 1,
        ("store", "memory", "get", "hit"): 2,
        ("store", "memory", "put", "older"): 1,
        ("store", "memory", "put", "fenced"): 1,
        ("store", "memory", "invalidate", "stored"): 1,
    }


def test_it_tells_its_clock_s_time(room: Room) -> None:
    room.clock.time = NOW + 3
    assert room.store.now() == NOW + 3


# Copies unverified.


async def test_an_unverified_copy_stays_to_fall_back_on_and_is_never_fresh(room: Room) -> None:
    await room.put("a", sized(1, age=10))
    room.clock.time = NOW + 5
    room.store.lose_track()
    room.clock.time = NOW + 7
    assert copy_of(room.store, "a") is None, "it does not answer by itself"
    found = await room.store.get("a")
    assert (found.stored, found.evidence) == (sized(1, age=10), GOOD.unverified(NOW + 5))
    assert (await room.store.acquire_lease("a")).found == found
    decision = decide(found.stored, found.evidence, NO_DIRECTIVES, Freshness(), NOW + 7)
    assert decision.age == 17.0
    assert decision.ttl.seconds == pytest.approx(-2.0)
    assert (len(room.store), room.store.bytes_used) == (1, ENTRY_OVERHEAD_BYTES + 1)


async def test_what_is_stored_after_the_gap_is_no_part_of_it(room: Room) -> None:
    await room.put("a", sized(1, age=10))
    room.store.lose_track()
    await room.put("b")
    assert copy_of(room.store, "b") == sized(1)
    assert await room.put("a", sized(1)) is Put.STORED
    assert copy_of(room.store, "a") == sized(1)


async def test_a_fill_that_looked_up_before_the_gap_is_refused(room: Room) -> None:
    before = (await room.store.get("a")).fence
    room.store.lose_track()
    assert await room.store.put("a", sized(1), before, KEEP) is Put.FENCED


async def test_an_unverified_copy_can_be_replaced_by_any_read(room: Room) -> None:
    # Nobody knows which of the two is the newer campaign: the one unverified may be from before a write.
    await room.put("a", sized(1))
    room.store.lose_track()
    assert await room.put("a", sized(2, age=5)) is Put.STORED
    assert copy_of(room.store, "a") == sized(2, age=5)


@pytest.mark.parametrize("how", ["supersede", "clear"])
async def test_an_unverified_copy_that_is_replaced_or_cleared_is_gone(room: Room, how: str) -> None:
    await room.put("a")
    room.store.lose_track()
    if how == "supersede":
        room.store.supersede("a")
    else:
        room.store.clear()
    assert (await room.store.get("a")).stored is None
    assert (len(room.store), room.store.bytes_used) == (0, 0)


@pytest.mark.parametrize("first", ["unverified", "write"])
async def test_a_copy_overwritten_and_unverified_is_both(room: Room, first: str) -> None:
    await room.put("a")
    steps: list[Callable[[], None]] = [room.store.lose_track, partial(room.store.invalidate_here, "a", Cause.WRITE)]
    for step in steps if first == "unverified" else reversed(steps):
        step()
    evidence = (await room.store.get("a")).evidence
    assert evidence.is_overwritten
    assert evidence.unverified_since is not None
    assert copy_of(room.store, "a") is None


async def test_unverified_copies_make_room_for_others(room: Room) -> None:
    await room.fill("abc")
    room.store.lose_track()
    await room.put("d")
    assert await room.has(*"abcd") == "bcd"


# Invalidated ones.

ALL = group_of("x:get:a")
A, B, OTHER = "x:get:a", "x:get:b", "x:status:a"


@pytest.mark.parametrize("reach", [A, ALL], ids=["one", "all"])
@pytest.mark.parametrize("by", list(Cause))
async def test_an_invalidated_entry_stays_and_says_since_when_and_why(room: Room, reach: str, by: Cause) -> None:
    await room.put(A, sized(1, age=50))
    room.clock.time += 2
    await room.store.invalidate(reach, by)
    invalidated = GOOD.invalidated(by, NOW + 2)
    for found in (room.store.peek(A), await room.store.get(A), (await room.store.acquire_lease(A)).found):
        assert (found.stored, found.evidence) == (sized(1, age=50), invalidated)
    assert room.store.peek(A).may_answer


@pytest.mark.parametrize("reaches", [(A, A), (A, ALL), (ALL, A), (ALL, ALL)], ids="-".join)
@pytest.mark.parametrize("causes", [(Cause.WRITE, Cause.PURGE), (Cause.PURGE, Cause.WRITE)], ids="-".join)
async def test_a_write_and_a_purge_in_any_order_are_a_write(
    room: Room, causes: tuple[Cause, Cause], reaches: tuple[str, str]
) -> None:
    await room.put(A, sized(1, age=50))
    for reach, by in zip(reaches, causes, strict=True):
        await room.store.invalidate(reach, by)
        room.clock.time += 1
    assert await room.stands(A) is Cause.WRITE


async def test_all_of_an_operation_are_invalidated_at_once_and_nothing_else(room: Room) -> None:
    for key in (A, B, OTHER):
        await room.put(key, sized(1, age=50))
    await room.store.invalidate(ALL, Cause.WRITE)
    assert [await room.stands(key) for key in (A, B, OTHER)] == [Cause.WRITE, Cause.WRITE, None]
    assert await room.put(A, sized(1)) is Put.STORED
    assert [await room.stands(key) for key in (A, B)] == [None, Cause.WRITE], "what was stored after it is not"


async def test_a_fill_from_before_all_were_invalidated_is_refused_for_each_of_them(room: Room) -> None:
    before = [await room.store.get(key) for key in (A, B, OTHER)]
    await room.store.invalidate(ALL, Cause.PURGE)
    outcomes = [
        await room.store.put(key, sized(1), found.fence, KEEP) for key, found in zip((A, B, OTHER), before, strict=True)
    ]
    assert outcomes == [Put.FENCED, Put.FENCED, Put.STORED]


async def test_a_purge_between_two_writes_to_all_hides_neither() -> None:
    """Stored before the first, between the two, and after the purge."""
    room = Room(entries=4)
    await room.put(A, sized(1, age=50))
    await room.store.invalidate(ALL, Cause.WRITE)
    await room.put(B, sized(1, age=50))
    await room.store.invalidate(ALL, Cause.PURGE)
    await room.put("x:get:c", sized(1, age=50))
    assert [await room.stands(key) for key in (A, B, "x:get:c")] == [Cause.WRITE, Cause.PURGE, None]


@pytest.mark.parametrize("reach", [A, ALL], ids=["one", "all"])
@pytest.mark.parametrize(
    ("after", "is_settling"), [(0.0, True), (WRITE_SETTLE_SECONDS, True), (WRITE_SETTLE_SECONDS + 1, False)]
)
async def test_what_is_read_soon_after_a_write_may_be_from_before_it(
    room: Room, reach: str, after: float, is_settling: bool
) -> None:
    await room.store.invalidate(reach, Cause.WRITE)
    room.clock.time += after
    await room.put(A, sized(1, age=-after))
    last = (await room.store.get(A)).evidence.invalidation
    assert last == (Invalidation(NOW, Cause.WRITE, is_open=False) if is_settling else None)


async def test_a_purge_leaves_nothing_to_settle_but_does_not_end_what_a_write_began(room: Room) -> None:
    await room.store.invalidate(A, Cause.PURGE)
    await room.put(A)
    assert copy_of(room.store, A) == sized(1)
    await room.store.invalidate(A, Cause.WRITE)
    await room.store.invalidate(A, Cause.PURGE)
    room.clock.time += 1
    await room.put(A, sized(1, age=-1))
    assert room.store.peek(A).evidence == Evidence(Invalidation(NOW, Cause.WRITE, is_open=False))


async def test_an_invalidated_entry_gives_way_to_any_fill_that_looked_up_since() -> None:
    # Its read began after the invalidation, whatever clocks say that were set in between.
    for reach in (A, ALL):
        room = Room()
        await room.put(A, sized(1, age=5))
        await room.store.invalidate(reach, Cause.WRITE)
        assert await room.put(A, sized(2, age=6)) is Put.STORED
        assert await room.stands(A) is None


async def test_the_same_read_comes_again_when_it_is_known_to_be_invalidated(room: Room) -> None:
    # Redis knows of an invalidation that was not received here.
    await room.put(A)
    fence = room.store.peek(A).fence
    assert room.store.keep(A, sized(1), GOOD.invalidated(Cause.WRITE, NOW), fence, KEEP) is Put.STORED
    assert await room.stands(A) is Cause.WRITE


@pytest.mark.parametrize("by", list(Cause))
async def test_when_a_key_was_last_invalidated(room: Room, by: Cause) -> None:
    assert room.store.invalidated_at(A) == 0.0
    await room.store.invalidate(A, by)
    room.clock.time += 1
    assert (room.store.invalidated_at(A), room.store.invalidated_at(B)) == (NOW, 0.0)
    await room.store.invalidate(ALL, by)
    assert (room.store.invalidated_at(A), room.store.invalidated_at(B)) == (NOW + 1, NOW + 1)
    assert room.store.invalidated_at(OTHER) == 0.0


@pytest.mark.parametrize("how", ["lose_track", "clear"])
async def test_after_a_gap_anything_may_have_been_invalidated(room: Room, how: str) -> None:
    await room.store.invalidate(A, Cause.WRITE)
    room.clock.time += 5
    getattr(room.store, how)()
    assert (room.store.invalidated_at(A), room.store.invalidated_at(OTHER)) == (NOW + 5, NOW + 5)


async def test_a_clock_that_stepped_back_does_not_leave_invalidations_in_the_future(room: Room) -> None:
    await room.store.invalidate(A, Cause.WRITE)
    await room.store.invalidate(ALL, Cause.WRITE)
    room.clock.time -= 3600
    room.store.clear()
    await room.put(A, sized(1, age=3600))
    assert copy_of(room.store, A) == sized(1, age=3600), "or it would settle for an hour"
    assert room.store.invalidated_at(A) == NOW - 3600


CHANGES: list[tuple[str, Callable[[Room], Any], bool]] = [
    ("a look-up", lambda room: room.store.get("a"), False),
    ("a peek", lambda room: copy_of(room.store, "a"), False),
    ("a peek at nothing", lambda room: copy_of(room.store, "b"), False),
    ("a fill", lambda room: room.put("b"), True),
    ("a newer fill", lambda room: room.put("a", sized(2, age=-1)), True),
    ("a refused fill", lambda room: room.put("a", sized(2, age=5)), False),
    ("a write", lambda room: room.store.invalidate("a", Cause.WRITE), True),
    ("a purge", lambda room: room.store.invalidate("a", Cause.PURGE), True),
    ("a purge of all", lambda room: room.store.invalidate(group_of("a"), Cause.PURGE), True),
    ("a newer fill elsewhere", lambda room: room.store.supersede("a"), True),
    ("unverified", lambda room: room.store.lose_track(), True),
    ("clearing", lambda room: room.store.clear(), True),
]


@pytest.mark.parametrize(("change", "is_ended"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
async def test_its_epoch_ends_with_each_change_of_what_a_peek_finds(
    room: Room, change: Callable[[Room], Any], is_ended: bool
) -> None:
    await room.put("a")
    before = room.store.epoch.number
    changing = change(room)
    if inspect.isawaitable(changing):
        await changing
    assert (room.store.epoch.number != before) is is_ended


@pytest.mark.drill(
    "purges of ever more unknown campaigns",
    planted="more keys than fences are kept for",
    seen="bounded: a gap, after which no copy counts as fresh and no fill from before is stored",
)
async def test_more_fences_than_there_is_room_for_are_a_gap(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_module, "MAX_FENCES", 10)
    await room.put("a")
    held, epoch = await room.store.get("a"), room.store.epoch.number
    await room.store.invalidate_many([f"unknown-{number}" for number in range(10)], Cause.PURGE)
    assert room.store.peek("a").may_answer
    assert len(room.store._fences) == 10
    await room.store.invalidate("one-more", Cause.WRITE)
    assert len(room.store._fences) == 1
    assert not room.store.peek("a").may_answer
    assert room.store.epoch.number > epoch
    assert await room.store.put("a", sized(1), held.fence, KEEP) is Put.FENCED
    assert room.store.invalidated_at("unknown-1") == room.clock.time, "as far as is known"
    assert await room.put("a", sized(1, age=-1)) is Put.STORED
