import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.policy.ledger import UNREADABLE, Lane, Ledger, Slot
from campaign_gateway.proxy.ports import LedgerLostError
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.local.ledgers import MemoryLedgers
from campaign_gateway.store.redis import ledgers as ledgers_module
from campaign_gateway.store.redis.connect import RedisTarget, open_link
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import RedisLink
from campaign_gateway.store.seal import NO_SECRET, Seal, Seals
from tests.support.backends import on_fakeredis, on_valkey
from tests.support.meters import CountingMeter
from tests.support.redis_server import redis_server

ACCOUNT = "acc-1"
NAME = f"cg:ledger:{ACCOUNT}"
CHANGERS, TIMES = 8, 50

FULL = Ledger(
    slots=(Slot("r1.1", Lane.WRITES, "desk", 1_770_000_000.25), Slot("r2.1", Lane.VALIDATION, "ümlaut", 1.5)),
    replicas={"r1": 1_770_000_000.5},
    expected=2,
    whole_at=3.25,
    paused_until=4.5,
    probe="r1.1",
    learned=7,
    learned_at=5.75,
)


@dataclass
class RedisStores:
    """A server, and replicas on it."""

    raw: Any
    links: list[RedisLink]
    replicas: list[RedisLedgers]
    meters: list[CountingMeter]


@pytest.fixture(params=[on_fakeredis, on_valkey])
async def shared(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RedisStores]:
    async with request.param(tmp_path) as backend, AsyncExitStack() as stack:
        shared = RedisStores(backend.raw, [], [], [])
        for _ in range(CHANGERS):
            shared.meters.append(CountingMeter())
            shared.links.append(backend.open_link(StoreClock(), shared.meters[-1]))
            stack.push_async_callback(shared.links[-1].close)
            await shared.links[-1].look()
            shared.replicas.append(RedisLedgers(shared.links[-1], backend.keys))
        yield shared


def count(ledger: Ledger | None, _now: float) -> tuple[Ledger, int]:
    """One more; says how many that makes."""
    number = 1 if ledger is None else ledger.expected + 1
    return Ledger(expected=number), number


def read(ledger: Ledger | None, _now: float) -> tuple[Ledger, Ledger | None]:
    return (Ledger() if ledger is None else ledger), ledger


def renew(ledger: Ledger | None, _now: float) -> tuple[Ledger, Ledger | None]:
    return Ledger(), ledger


def write(_ledger: Ledger | None, _now: float) -> tuple[Ledger, None]:
    return FULL, None


async def test_of_many_changes_at_once_none_is_lost(shared: RedisStores):
    async def change(replica: RedisLedgers) -> list[int]:
        return [await replica.change(ACCOUNT, count) for _ in range(TIMES)]

    told = await asyncio.gather(*map(change, shared.replicas))
    assert sorted(number for numbers in told for number in numbers) == list(range(1, CHANGERS * TIMES + 1))
    assert all(numbers == sorted(numbers) for numbers in told)


async def test_changes_of_one_replica_at_once_are_not_lost_either(shared: RedisStores):
    told = await asyncio.gather(*(shared.replicas[0].change(ACCOUNT, count) for _ in range(CHANGERS)))
    assert sorted(told) == list(range(1, CHANGERS + 1))


async def test_accounts_have_ledgers_of_their_own(shared: RedisStores):
    one, two = shared.replicas[:2]
    assert (await one.change("one", count), await two.change("two", count), await two.change("one", count)) == (1, 1, 2)


async def test_all_of_a_ledger_survives_the_trip(shared: RedisStores):
    one, two = shared.replicas[:2]
    await one.change(ACCOUNT, write)
    assert await two.change(ACCOUNT, read) == FULL


async def test_a_change_that_nobody_contends_takes_one_trip(shared: RedisStores):
    for _ in range(3):
        await shared.replicas[0].change(ACCOUNT, count)
    assert shared.meters[0].events == {("store", "redis", "swap", "stored"): 3}


async def test_a_change_is_made_again_on_what_another_replica_left(shared: RedisStores):
    one, two = shared.replicas[:2]
    await one.change(ACCOUNT, count)
    await two.change(ACCOUNT, count)
    assert await one.change(ACCOUNT, count) == 3
    assert shared.meters[0].events["store", "redis", "swap", "contended"] == 1


async def test_a_ledger_that_is_not_used_is_forgotten(shared: RedisStores):
    await shared.replicas[0].change(ACCOUNT, count)
    assert 0 < await shared.raw.pttl(NAME) <= ledgers_module.KEEP_MILLISECONDS


async def test_a_ledger_that_was_lost_is_none(shared: RedisStores):
    one = shared.replicas[0]
    await one.change(ACCOUNT, count)
    await shared.raw.flushall()
    assert await one.change(ACCOUNT, read) is None


async def test_a_step_that_fails_changes_nothing(shared: RedisStores):
    def fail(_ledger: Ledger | None, _now: float) -> tuple[Ledger, None]:
        raise ZeroDivisionError

    one, two = shared.replicas[:2]
    await one.change(ACCOUNT, write)
    with pytest.raises(ZeroDivisionError):
        await one.change(ACCOUNT, fail)
    assert await two.change(ACCOUNT, read) == FULL


async def test_contention_without_end_is_a_lost_ledger(shared: RedisStores, monkeypatch: pytest.MonkeyPatch):
    """Another replica is always first."""
    monkeypatch.setattr(ledgers_module, "ATTEMPTS", 5)
    one, other = shared.replicas[:2]
    execute, executed = shared.links[0].execute, 0

    async def execute_late(operation: str, command: Callable[[], Any], read: Callable[[object], Any]) -> Any:
        nonlocal executed
        executed += 1
        await other.change(ACCOUNT, count)
        return await execute(operation, command, read)

    monkeypatch.setattr(shared.links[0], "execute", execute_late)
    with pytest.raises(LedgerLostError):
        await one.change(ACCOUNT, write)
    assert executed == 5
    assert await other.change(ACCOUNT, count) == 6, "and nothing was written"


async def test_a_link_that_is_down_is_a_lost_ledger(shared: RedisStores):
    shared.links[0].is_up = False
    shared.links[0].state = "timeout"
    with pytest.raises(LedgerLostError, match="timeout"):
        await shared.replicas[0].change(ACCOUNT, count)


async def test_a_server_that_dies_is_a_lost_ledger_and_one_that_is_back_is_not(tmp_path: Path):
    async with redis_server(tmp_path) as process, AsyncExitStack() as stack:
        link = open_link(RedisTarget(process.url, 0.25), StoreClock(), CountingMeter())
        stack.push_async_callback(link.close)
        await link.look()
        ledgers = RedisLedgers(link, Keys("cg"))
        assert await ledgers.change(ACCOUNT, count) == 1
        first_run = ledgers.server(ACCOUNT)
        process.kill()
        with pytest.raises(LedgerLostError):
            await ledgers.change(ACCOUNT, count)
        await process.start()
        async with asyncio.timeout(5):
            while not link.is_up:
                await link.look()
        assert await ledgers.change(ACCOUNT, count) == 1, "the new server's, not what was read from the old one"
        assert ledgers.server(ACCOUNT) != first_run


async def test_a_server_that_hangs_is_a_lost_ledger(tmp_path: Path):
    async with redis_server(tmp_path) as process, AsyncExitStack() as stack:
        link = open_link(RedisTarget(process.url, 0.1), StoreClock(), CountingMeter())
        stack.push_async_callback(link.close)
        await link.look()
        process.pause()
        with pytest.raises(LedgerLostError):
            await RedisLedgers(link, Keys("cg")).change(ACCOUNT, count)
        process.resume()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"x", id="shorter-than-a-version"),
        pytest.param(b"v" * 16, id="a-version-only"),
        pytest.param(b"v" * 16 + b"\xc1", id="not-messagepack"),
        pytest.param(b"v" * 16 + b"\x93\x01\x02", id="cut-off"),
        pytest.param(b"v" * 16 + b"\x01", id="another-form"),
        pytest.param(b"v" * 16 + b"\x81\xa5slots\x01", id="a-field-of-another-form"),
        pytest.param(b"v" * 16 + b"\x81\xa5probe\xa2\xff\xfe", id="text-that-is-none"),
        pytest.param(b"v" * 16 + b"\x91" * 5000, id="nested-deeper-than-a-stack"),
        pytest.param(b"\xff" * 100, id="noise"),
    ],
)
@pytest.mark.drill(
    "a ledger that somebody else wrote into Redis",
    planted="damaged; made up without the key; stripped; put back from before",
    seen="lost: nobody makes a call until all replicas have put theirs back",
)
async def test_damaged_bytes_are_no_ledger_and_are_replaced(shared: RedisStores, value: bytes):
    one, two = shared.replicas[:2]
    await one.change(ACCOUNT, count)
    await shared.raw.set(NAME, value)
    assert await one.change(ACCOUNT, renew) is UNREADABLE
    assert await two.change(ACCOUNT, read) == Ledger()


async def test_one_process_keeps_its_ledgers_itself():
    ledgers = MemoryLedgers(StoreClock())
    assert (await ledgers.change("one", count), await ledgers.change("two", count)) == (1, 1)
    assert await ledgers.change("one", count) == 2
    assert (ledgers.is_local, ledgers.uncertainty) == (True, 0.0)


async def test_what_one_replica_asks_to_look_at_all_are_told_for_a_moment(shared: RedisStores, monkeypatch):
    one, two = shared.replicas[:2]
    assert await two.notify([]) == frozenset()
    assert await one.notify(["acc-1", "änd"]) == {"acc-1", "änd"}
    assert await two.notify(["acc-2"]) == {"acc-1", "änd", "acc-2"}
    monkeypatch.setattr(type(two), "now", lambda self: self._link.clock.now() + ledgers_module.NOTICE_SECONDS + 0.1)
    assert await two.notify([]) == frozenset()


async def test_somebody_elses_value_in_the_slot_of_what_is_to_be_looked_at_is_a_lost_ledger(shared: RedisStores):
    await shared.raw.set(Keys("cg").noticed, b"of somebody else")
    with pytest.raises(LedgerLostError):
        await shared.replicas[0].notify(["acc-1"])


async def test_where_there_is_nobody_else_nobody_is_told():
    assert await MemoryLedgers(StoreClock()).notify(["acc-1"]) == frozenset()


@pytest.mark.drill("a ledger that somebody else wrote into Redis")
@pytest.mark.parametrize("number", [1, 10**9])
async def test_a_stripped_ledger_is_not_read(shared: RedisStores, number: int):
    """With all slots taken out by somebody who knows everything but the key."""
    key = Seals(lambda: (b"the key of the gateway's replicas",))
    one, two = (RedisLedgers(link, Keys("cg"), key) for link in shared.links[:2])
    await one.change(ACCOUNT, write)
    value = await shared.raw.get(NAME)
    for seals in (NO_SECRET, Seals(lambda: (b"another key of the same length ..",))):
        stripped = Seal("ledger", seals).close(ledgers_module._encode((number, replace(FULL, slots=()))), NAME)
        await shared.raw.set(NAME, value[:16] + stripped)
        assert await two.change(ACCOUNT, renew) is UNREADABLE
    other = Seal("ledger", key).close(ledgers_module._encode((number, replace(FULL, slots=()))), "cg:ledger:acc-2")
    await shared.raw.set(NAME, value[:16] + other)
    assert await two.change(ACCOUNT, renew) is UNREADABLE


@pytest.mark.drill("a ledger that somebody else wrote into Redis")
async def test_a_ledger_that_is_put_back_is_none_to_whoever_has_seen_a_later_one(shared: RedisStores):
    one, two, three = shared.replicas[:3]
    await one.change(ACCOUNT, count)
    before = await shared.raw.get(NAME)
    await one.change(ACCOUNT, count)
    await two.change(ACCOUNT, count)
    await shared.raw.set(NAME, before)
    assert await one.change(ACCOUNT, read) is None
    assert await two.change(ACCOUNT, read) == Ledger(), "what the first has left, whose number is a later one"
    await shared.raw.set(NAME, before)
    assert await three.change(ACCOUNT, read) == Ledger(expected=1), "it has seen no other"


async def test_a_ledger_of_a_server_that_lost_its_last_changes_is_left_to_the_rules_of_a_restart(shared: RedisStores):
    def of_another_run(ledger: Ledger | None, _now: float) -> tuple[Ledger, None]:
        return replace(ledger or Ledger(), server="an earlier run"), None

    one = shared.replicas[0]
    if not one.server(ACCOUNT):
        pytest.skip("fakeredis does not name its run")
    await one.change(ACCOUNT, of_another_run)
    before = await shared.raw.get(NAME)
    await one.change(ACCOUNT, of_another_run)
    await shared.raw.set(NAME, before)
    assert await one.change(ACCOUNT, read) == Ledger(server="an earlier run")


async def test_numbers_go_on_after_a_loss(shared: RedisStores):
    one, two = shared.replicas[:2]
    for _ in range(3):
        await one.change(ACCOUNT, count)
    await shared.raw.flushall()
    assert await two.change(ACCOUNT, count) == 1
    await one.change(ACCOUNT, read)
    assert await two.change(ACCOUNT, count) >= 1
    assert await one.change(ACCOUNT, read) is not None
