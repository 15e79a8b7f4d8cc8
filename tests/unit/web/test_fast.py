"""What ends a pattern or a rendered hit does so for the very next request of an open connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import GET, LITERALS
from campaign_gateway.policy.evidence import Cause
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.proxy.request import group_of
from campaign_gateway.proxy.writers import writer_of
from campaign_gateway.store.layered import LayeredStore
from campaign_gateway.store.memory import ENTRY_OVERHEAD_BYTES
from campaign_gateway.store.redis.link import StoreDownError
from campaign_gateway.web import patterns, rendered
from campaign_gateway.web.fast import FastConnection
from tests.support.doubles import START, SUPPORT, make_request
from tests.support.fast import (
    CAMPAIGNS,
    FRESHNESS,
    Caller,
    FarStore,
    Gateway,
    calling,
    comparable,
    far,
    local,
    running,
    stored,
)

LINES = b"Host: gateway\r\nAuthorization: Bearer cgk_reporting\r\nX-Request-ID: r-1\r\n"
GOOD = b"GET /v1/campaigns/c-1 HTTP/1.1\r\n" + LINES + b"\r\n"
INDEXED = IndexedCampaign(Channel.VOICE, "m-1", None, START + 1, has_changed=True)
CHANGED = IndexState({Channel.VOICE: Poll(START + 1)}, number=1)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


class SilentBus:
    """In the place of `Bus`."""

    silent = 0.0

    def silent_for(self) -> float:
        return self.silent

    def lose(self, store: LayeredStore) -> None:
        """What a bus does that is lost."""
        self.silent = 0.5
        store.epoch.end()


class LostRedis:
    """In the place of `RedisStore`."""

    def note_slow(self) -> None:
        pass

    async def get(self, _key: str, _last: object = None) -> Any:
        raise StoreDownError

    acquire_lease = release_lease = get


def layered(bus: SilentBus, made: list[LayeredStore]) -> Any:
    def layer(memory: Any) -> LayeredStore:
        made.append(LayeredStore(cast("Any", LostRedis()), memory, cast("Any", bus), 1.0))
        return made[0]

    return layer


async def last_answer(caller: Caller, sent: bytes = GOOD) -> Any:
    await caller.send(sent, turns=40)
    return caller.answers[-1]


async def warm(caller: Caller, gateway: Gateway) -> None:
    """Sees to it that the next request would take the fast path, which one has taken."""
    await caller.send(GOOD, GOOD, GOOD)
    assert gateway.fast.taken == 1


def hold(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Keeps what is looked up in the store back, until the event that is returned is set."""
    gate, answer = asyncio.Event(), gateway.exchange.answer

    async def answer_later(*arguments: Any) -> Any:
        await gate.wait()
        return await answer(*arguments)

    monkeypatch.setattr(gateway.exchange, "answer", answer_later)
    return gate


def revoke(gateway: Gateway) -> None:
    gateway.clients.replace({})


def drain(gateway: Gateway) -> None:
    gateway.api.drain()


async def overwrite(gateway: Gateway) -> None:
    await gateway.memory.invalidate(make_request("c-1").key, Cause.WRITE)


async def purge(gateway: Gateway) -> None:
    await gateway.memory.invalidate(make_request("c-1").key, Cause.PURGE)


async def purge_all(gateway: Gateway) -> None:
    await gateway.memory.invalidate(group_of(make_request("c-1").key), Cause.PURGE)


def supersede(gateway: Gateway) -> None:
    gateway.memory.supersede(make_request("c-1").key)


def write(gateway: Gateway) -> None:
    gateway.writers.note(writer_of(SUPPORT, "reporting", GET.resource))


def write_as_another(gateway: Gateway) -> None:
    gateway.writers.note(writer_of(SUPPORT, "operations", GET.resource))


def lose_track(gateway: Gateway) -> None:
    gateway.memory.lose_track()


def clear(gateway: Gateway) -> None:
    gateway.memory.clear()


def expire(gateway: Gateway) -> None:
    gateway.clock.advance(FRESHNESS.max)


def grow_old(gateway: Gateway) -> None:
    gateway.clock.advance(86_401)


async def refill(gateway: Gateway) -> None:
    await gateway.put("c-1", stored("another", validated_at=START + 1))


async def move(gateway: Gateway) -> None:
    assert await gateway.index.publish(SUPPORT.identity, CHANGED, {"c-1": INDEXED})


CHANGES = [
    pytest.param(revoke, 401, "", id="a-key-is-revoked"),
    pytest.param(drain, 200, "hit; ttl=590", id="the-gateway-drains"),
    pytest.param(overwrite, 200, "fwd=stale; ttl=0; detail=before-write", id="a-write-that-changes-it"),
    pytest.param(purge, 200, "hit; ttl=0; detail=stale-while-revalidate", id="a-purge"),
    pytest.param(purge_all, 200, "hit; ttl=0; detail=stale-while-revalidate", id="a-purge-of-all"),
    pytest.param(write, 200, "fwd=request; ttl=590; detail=before-write", id="a-write-of-the-same-client"),
    pytest.param(write_as_another, 200, "hit; ttl=590", id="a-write-of-another-client"),
    pytest.param(supersede, 502, "fwd=uri-miss", id="another-replicas-fill"),
    pytest.param(lose_track, 200, "hit; ttl=0; detail=stale-while-revalidate", id="a-gap-on-the-bus"),
    pytest.param(clear, 502, "fwd=uri-miss", id="the-clock-has-stepped"),
    pytest.param(expire, 200, "hit; ttl=-10; detail=stale-while-revalidate", id="expiry"),
    pytest.param(grow_old, 502, "fwd=uri-miss", id="the-hard-bound"),
    pytest.param(refill, 200, "hit; ttl=591", id="a-newer-fill"),
    pytest.param(move, 200, "hit; ttl=-9; detail=stale-while-revalidate", id="a-row-has-changed"),
]


@pytest.mark.parametrize("layer", [local, far])
@pytest.mark.parametrize(("change", "status", "said"), CHANGES)
async def test_a_change_shows_in_the_next_answer(change, status, said, layer):
    gateway = Gateway(layer=layer)
    async with running(gateway), calling(gateway) as caller:
        gateway.clock.advance(10)
        await warm(caller, gateway)
        changing = change(gateway)
        if changing is not None:
            await changing
        answer = await last_answer(caller)
        assert answer.status == status
        assert (answer["Cache-Status"] or "campaign-gateway; ") == f"campaign-gateway; {said}"
        assert caller.is_closed == (change is drain)
        assert gateway.fast.taken == 1 + (change in {refill, write_as_another})


async def test_a_newer_fill_is_what_the_fast_road_answers_with(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        gateway.clock.advance(10)
        await warm(caller, gateway)
        await refill(gateway)
        answer = await last_answer(caller)
        assert (answer.body, answer["Age"]) == (stored("another").body, "9")
        assert gateway.fast.taken == 2


async def test_another_campaigns_change_keeps_the_rest_fast(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        await gateway.memory.invalidate(make_request("c-2").key, Cause.WRITE)
        await gateway.put("c-3", stored("c-3"))
        assert (await last_answer(caller)).status == 200
        assert gateway.fast.taken == 2


async def test_a_lost_bus_ends_the_fast_road_when_it_ends_local_answers():
    bus, made = SilentBus(), list[LayeredStore]()
    gateway = Gateway(layer=layered(bus, made))
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        bus.lose(made[0])
        await caller.send(GOOD)
        bus.silent = 1.0
        await caller.send(GOOD)
        assert gateway.fast.taken == 3
        bus.silent = 1.01
        await caller.send(GOOD)
        assert gateway.fast.taken == 3
        bus.silent = 0.0
        await caller.send(GOOD)
        assert gateway.fast.taken == 4
        assert [answer.status for answer in caller.answers] == [200] * 7


async def test_what_another_replica_invalidated_is_not_answered():
    bus, made = SilentBus(), list[LayeredStore]()
    gateway = Gateway(layer=layered(bus, made))
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        made[0]._receive("write", make_request("c-1").key)
        assert "before-write" in str((await last_answer(caller))["Cache-Status"])
        assert gateway.fast.taken == 1


async def test_a_key_revoked_while_its_request_was_in_flight_makes_no_pattern(gateway: Gateway, monkeypatch):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        gate = hold(gateway, monkeypatch)
        await purge(gateway)
        await caller.send(GOOD)
        revoke(gateway)
        gate.set()
        await caller.send(GOOD)
        assert [answer.status for answer in caller.answers] == [200, 200, 200, 200, 401]
        assert gateway.fast.taken == 1


@pytest.mark.parametrize("plain", [GOOD, GOOD.replace(b"X-Request-ID: r-1\r\n", b"")])
async def test_a_pattern_serves_the_first_head_of_another_connection(gateway: Gateway, plain: bytes):
    async with running(gateway), calling(gateway) as caller:
        await caller.send(plain, plain, plain)
        assert gateway.fast.taken == 1
        async with calling(gateway) as other:
            await other.send(plain.replace(b"c-1", b"c-2"), plain.replace(b"cgk_reporting", b"cgk_wrong"), plain)
            assert [answer.status for answer in other.answers] == [200, 401, 200]
            assert gateway.fast.taken == 2 + (not other.is_closed)


async def test_a_connection_on_which_several_callers_requests_are_passed_on_is_answered_for_each(gateway: Gateway):
    other = GOOD.replace(b"cgk_reporting", b"cgk_operations")
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        await caller.send(other, other)
        for _ in range(3):
            await caller.send(GOOD, other)
        assert gateway.fast.taken == 1 + 6
        gateway.clients.replace({})
        await caller.send(GOOD)
        assert caller.answers[-1].status == 401


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([GOOD[:20], GOOD[20:]], id="in-two-pieces"),
        pytest.param([GOOD + GOOD], id="two-at-once"),
        pytest.param([GOOD.replace(b"\r\n\r\n", b"\r\nCache-Control: no-cache\r\n\r\n")], id="another-field"),
        pytest.param([GOOD.replace(b"GET", b"HEAD")], id="another-method"),
        pytest.param([GOOD.replace(b"HTTP/1.1", b"HTTP/1.0")], id="an-old-version"),
        pytest.param([GOOD.replace(b"r-1", b"")], id="an-empty-id"),
        pytest.param([GOOD.replace(b"r-1", b"r\x001")], id="an-id-with-a-nul"),
        pytest.param([GOOD.replace(b"c-1", b"nowhere")], id="another-campaign"),
    ],
)
async def test_what_is_no_known_head_is_parsed_on_a_new_connection(gateway: Gateway, pieces: list[bytes]):
    async with running(gateway), calling(gateway) as caller, calling(gateway) as other:
        await warm(caller, gateway)
        await other.send(*pieces)
        assert gateway.fast.taken == 1


async def test_a_pattern_of_a_revoked_key_serves_no_other_connection(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller, calling(gateway) as other:
        await warm(caller, gateway)
        revoke(gateway)
        await other.send(GOOD)
        assert [answer.status for answer in other.answers] == [401]


async def test_a_connection_with_no_request_that_was_parsed_is_closed_in_time_too(gateway: Gateway, monkeypatch):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        async with calling(gateway) as other:
            await other.send(GOOD)
            (fresh,) = (made for made in gateway.runner.server.connections if not made._request_count)  # type: ignore[union-attr]
            assert fresh._keepalive_handle is not None
            fresh._next_keepalive_close_time = 0.0
            fresh._process_keepalive()
            await other.send(b"")
            assert other.is_closed


@pytest.mark.parametrize("validated_at", [START, START - 0.3])
async def test_age_and_ttl_move_as_on_the_slow_path(validated_at):
    quick_gateway, slow = Gateway(), Gateway(is_fast=False)
    async with running(quick_gateway), running(slow), calling(quick_gateway) as quick, calling(slow) as plain:
        for gateway in (quick_gateway, slow):
            await gateway.put("c-9", stored("c-9", validated_at=validated_at))
        for step in (0.0, 0.25, 0.5, 0.125, 0.125, 0.9, 0.2, 1.0, 30.0, 0.7, 500.0, 60.0):
            quick_gateway.clock.advance(step)
            slow.clock.advance(step)
            for caller in (quick, plain):
                await caller.send(GOOD.replace(b"c-1", b"c-9"))
        assert comparable(quick.received) == comparable(plain.received)
        assert quick_gateway.meter.ages == slow.meter.ages
        assert quick_gateway.fast.taken == 10


async def test_use_is_noted_so_that_polls_go_on(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        for _ in range(20):
            await caller.send(GOOD)
            gateway.clock.advance(29)
        assert gateway.fast.taken > 10
        used = gateway.index.used(SUPPORT.identity)
        assert used["c-1"] >= gateway.clock.now() - 60


async def test_many_heads_are_learned_only_so_often(monkeypatch):
    monkeypatch.setattr(patterns, "MAX_PATTERNS", 2)
    gateway = Gateway()
    async with running(gateway), calling(gateway) as caller:
        for name in (b"a", b"b", b"c", b"d", b"e", b"f"):
            await caller.send(*[GOOD.replace(b"gateway", name)] * 3)
        assert gateway.fast.taken == 4, "two, then two anew, and no more for a while"
        monkeypatch.setattr(patterns, "RENEWAL_SECONDS", 0.0)
        await caller.send(*[GOOD.replace(b"gateway", b"g")] * 3)
        assert gateway.fast.taken == 5
        assert [answer.status for answer in caller.answers] == [200] * 21


# Connections.


async def test_a_slow_reader_is_waited_for_on_the_slow_path_and_gets_all_in_order(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await gateway.put("c-1", stored("x" * 30_000, validated_at=START + 1))
        gateway.clock.advance(1)
        await warm(caller, gateway)
        sent = 3
        while not gateway.connection._paused:
            assert sent < 2_000
            await caller.send(GOOD.replace(b"r-1", b"r-%d" % sent), turns=2, listens=False)
            sent += 1
        taken = gateway.fast.taken
        await caller.send(GOOD.replace(b"r-1", b"r-%d" % sent), turns=5, listens=False)
        assert gateway.fast.taken == taken
        while len(caller.answers) < sent + 1:
            caller.read()
            await asyncio.sleep(0)
        ids = [answer["X-Request-ID"] for answer in caller.answers]
        assert ids == ["r-1", "r-1", "r-1", *(f"r-{number}" for number in range(3, sent + 1))]


async def test_the_keepalive_timer_runs_from_the_last_request(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD, GOOD)
        connection, loop, timers = gateway.connection, asyncio.get_running_loop(), list[float]()
        began = connection._next_keepalive_close_time - connection.keepalive_timeout
        now = began + 60
        connection._loop = cast(
            "Any",
            SimpleNamespace(
                time=lambda: now,
                call_at=lambda at, _: timers.append(at),
                create_future=loop.create_future,
                create_task=loop.create_task,
            ),
        )
        await caller.send(GOOD)
        assert gateway.fast.taken == 1
        now = began + 75
        connection._process_keepalive()
        assert not connection._force_close
        assert timers == [began + 60 + 75]
        now = began + 60 + 75
        connection._process_keepalive()
        await caller.send(b"", turns=5)
        assert caller.is_closed


async def test_a_connection_that_only_the_fast_road_used_is_idle_when_the_gateway_stops(gateway: Gateway):
    async with contextlib.AsyncExitStack() as stack:
        async with running(gateway):
            caller = await stack.enter_async_context(calling(gateway))
            await warm(caller, gateway)
        await caller.send(b"", turns=5)
        assert caller.is_closed


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_connection_that_is_to_close_finishes_what_is_in_flight_and_takes_nothing_more(is_fast, monkeypatch):
    gateway = Gateway(is_fast=is_fast)
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD)
        gate = hold(gateway, monkeypatch)
        await caller.send(GOOD.replace(b"\r\nX-R", b"\r\nCache-Control: no-cache\r\nX-R"))
        gateway.connection.close()
        await caller.send(GOOD)
        assert len(caller.answers) == 1
        gate.set()
        await caller.send(GOOD)
        assert len(caller.answers) == 2
        assert caller.is_closed
        assert gateway.fast.taken == 0


async def test_nothing_is_answered_once_the_connection_is_to_close(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        connection = gateway.connection
        connection.close()
        connection.data_received(GOOD)
        await caller.send(b"")
        assert gateway.fast.taken == 1
        assert len(caller.answers) == 3


async def test_nothing_is_answered_between_the_last_answer_and_the_end(gateway: Gateway, monkeypatch):
    finish = FastConnection.finish_response

    async def finish_and_hear_more(connection: FastConnection, *arguments: Any) -> Any:
        done = await finish(connection, *arguments)
        if not done[0].keep_alive:
            connection.data_received(GOOD)
        return done

    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        monkeypatch.setattr(FastConnection, "finish_response", finish_and_hear_more)
        await caller.send(GOOD.replace(b"\r\nX-R", b"\r\nConnection: close\r\nX-R"))
        assert gateway.fast.taken == 1
        assert [answer["Connection"] for answer in caller.answers] == [None, None, None, "close"]


# Hits that are looked up elsewhere.


@contextlib.asynccontextmanager
async def seeking(sent: bytes = GOOD) -> AsyncIterator[tuple[Gateway, Caller, FarStore]]:
    """In the midst of a look-up that the fast path waits for, on a connection that has had three answers."""
    gateway = Gateway(layer=far)
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        store = cast("FarStore", gateway.store)
        store.gate.clear()
        await caller.send(sent)
        assert (store.trips, len(caller.answers)) == (4, 3)
        yield gateway, caller, store
        store.gate.set()


async def test_each_hit_from_elsewhere_is_one_trip_and_one_rendering():
    gateway = Gateway(layer=far)
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        rendered = gateway.rendered.of(SUPPORT.identity, GET.resource)[b"c-1"]
        await caller.send(GOOD, GOOD)
        assert gateway.fast.taken == 3
        assert cast("FarStore", gateway.store).trips == 5
        assert gateway.rendered.of(SUPPORT.identity, GET.resource) == {b"c-1": rendered}


async def test_what_comes_behind_a_look_up_waits_and_keeps_its_order():
    async with seeking() as (gateway, caller, store):
        for number in range(3):
            await caller.send(GOOD.replace(b"r-1", b"r-%d" % number))
        assert (store.trips, len(caller.answers)) == (4, 3)
        store.gate.set()
        await caller.send(GOOD.replace(b"r-1", b"last"), turns=60)
        ids = [answer["X-Request-ID"] for answer in caller.answers]
        assert ids == [*["r-1"] * 4, "r-0", "r-1", "r-2", "last"]
        assert gateway.connection.transport is not None


async def test_a_reader_is_held_back_while_it_is_looked_up():
    async with seeking() as (gateway, caller, store):
        connection = gateway.connection
        await caller.send(GOOD)
        assert not cast("Any", connection.transport).is_reading()
        store.gate.set()
        await caller.send(b"", turns=40)
        assert cast("Any", connection.transport).is_reading()


async def test_a_key_revoked_during_a_look_up_is_refused():
    async with seeking() as (gateway, caller, store):
        revoke(gateway)
        store.gate.set()
        await caller.send(b"", turns=40)
        assert [answer.status for answer in caller.answers] == [200, 200, 200, 401]
        assert gateway.fast.taken == 1


async def test_a_gateway_that_begins_to_stop_during_a_look_up_closes_the_connection_with_the_answer():
    async with seeking() as (gateway, caller, store):
        gateway.api.drain()
        store.gate.set()
        await caller.send(b"", turns=40)
        answer = caller.answers[-1]
        assert (len(caller.answers), answer.status, answer["Connection"]) == (4, 200, "close")
        assert caller.is_closed


@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_grant_that_begins_to_stop_during_a_look_up_closes_the_connection_too(is_fast):
    gateway = Gateway(layer=far, is_fast=is_fast)
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD)
        store = cast("FarStore", gateway.store)
        store.gate.clear()
        await caller.send(GOOD)
        gateway.api.drain()
        store.gate.set()
        await caller.send(b"", turns=40)
        assert [answer["Connection"] for answer in caller.answers] == [None, "close"]


@pytest.mark.parametrize("is_hit", [True, False])
async def test_a_connection_that_is_to_close_waits_for_its_look_up_and_takes_nothing_more(is_hit):
    async with seeking() as (gateway, caller, store):
        if not is_hit:
            await purge(gateway)
        gateway.connection.close()
        await caller.send(GOOD)
        store.gate.set()
        await caller.send(b"", turns=40)
        assert len(caller.answers) == 4
        assert gateway.fast.taken == 1 + is_hit


@pytest.mark.parametrize("is_hit", [True, False])
async def test_a_gateway_that_stops_waits_for_its_look_ups(is_hit):
    async with seeking() as (gateway, caller, store):
        if not is_hit:
            await purge(gateway)
        assert gateway.runner is not None
        stopping = asyncio.Event()
        gateway.tasks.spawn(gateway.runner.cleanup(), "stop", on_end=stopping.set)
        await caller.send(b"")
        assert not stopping.is_set()
        store.gate.set()
        await stopping.wait()
        await caller.send(b"")
        assert (len(caller.answers), caller.is_closed) == (4, True)


@pytest.mark.parametrize("is_hit", [True, False])
async def test_a_caller_who_leaves_during_a_look_up_leaves_nothing_behind(is_hit, caplog):
    async with seeking() as (gateway, caller, store):
        if not is_hit:
            supersede(gateway)
        connection = gateway.connection
        caller.peer.close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert connection.transport is None
        store.gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert gateway.fast.taken == 1 + is_hit
        assert not gateway.fast.tasks._running
        assert "failed" not in caplog.text


async def test_a_look_up_that_fails_is_left_to_the_slow_path(monkeypatch, caplog):
    async with seeking() as (gateway, caller, store):
        monkeypatch.setattr(gateway.memory, "get", lambda _: 1 / 0)
        store.gate.set()
        await caller.send(b"", turns=40)
        assert [answer.status for answer in caller.answers] == [200, 200, 200, 500]
        assert "answer from the store failed" in caplog.text


async def test_where_a_look_up_found_no_hit_the_next_does_not_wait_for_another():
    gateway = Gateway(layer=far)
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        store = cast("FarStore", gateway.store)
        await purge(gateway)
        # As when many others were published since: the request takes the whole way.
        gateway.grants._by_head.clear()
        before = store.trips
        await caller.send(GOOD)
        assert store.trips == before + 2
        await caller.send(GOOD)
        assert store.trips == before + 3


async def test_a_word_of_the_platforms_own_is_looked_up_nowhere():
    gateway = Gateway(layer=far)
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        await caller.send(GOOD.replace(b"c-1 ", min(LITERALS).encode() + b" "))
        assert caller.answers[-1].status == 400
        assert cast("FarStore", gateway.store).trips == 3


# Memory.


async def test_a_flood_of_ids_leaves_nothing_behind(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        for number in range(50):
            await caller.send(GOOD.replace(b"c-1", b"n-%d" % number), turns=10)
        assert list(gateway.rendered.of(SUPPORT.identity, GET.resource)) == [b"c-1"]


async def ask_for_twenty(gateway: Gateway, kept: list[list[bytes]]) -> None:
    """Requests of new campaigns, one after the other; in `kept` go the ids of rendered hits after each."""
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        for number in range(20):
            await gateway.put(f"n-{number}", stored(f"n-{number}"))
            await caller.send(GOOD.replace(b"c-1", b"n-%d" % number))
            kept.append(list(gateway.rendered.of(SUPPORT.identity, GET.resource)))


async def test_hits_of_what_is_stored_elsewhere_are_bounded_and_the_oldest_goes_first(monkeypatch):
    monkeypatch.setattr(rendered, "MAX_BYTES", 3 * (rendered.RENDERED_BYTES + 80))
    kept: list[list[bytes]] = []
    await ask_for_twenty(Gateway(layer=far), kept)
    assert kept[-1] == [b"n-17", b"n-18", b"n-19"]
    assert kept[10] == [b"n-8", b"n-9", b"n-10"]


async def test_hits_stay_for_as_long_as_their_entries_are_in_the_store():
    gateway, kept = Gateway(max_bytes=2 * 2**20), []  # type: tuple[Gateway, list[list[bytes]]]
    await ask_for_twenty(gateway, kept)
    assert len(kept[-1]) == 21, "none of them goes while there is room"
    await gateway.put("last", replace(CAMPAIGNS["c-1"], body=b"1" * (2 * 2**20 - 3 * ENTRY_OVERHEAD_BYTES)))
    left = gateway.rendered.of(SUPPORT.identity, GET.resource)
    assert list(left) == [key.rpartition(":")[2].encode() for key in list(gateway.memory._copies)[:-1]]
    assert 0 < len(left) < 3
    gateway.memory.clear()
    assert not left


async def test_what_is_gone_from_the_store_is_not_kept_alive_by_a_further_request(gateway: Gateway):
    async with running(gateway), calling(gateway) as caller:
        await warm(caller, gateway)
        supersede(gateway)
        await caller.send(GOOD)
        assert not gateway.rendered.of(SUPPORT.identity, GET.resource)


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "parsed"])
async def test_an_old_connection_is_closed_by_its_next_answer(is_fast):
    gateway = Gateway(is_fast=is_fast)
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD, GOOD, GOOD)
        assert (gateway.fast.taken > 0) == is_fast
        gateway.connection.grow_old()
        await caller.send(b"", turns=5)
        assert not caller.is_closed
        await caller.send(GOOD)
        assert [answer["Connection"] for answer in caller.answers] == [None, None, None, "close"]
        assert caller.is_closed


@pytest.mark.parametrize("is_fast", [True, False], ids=["fast", "parsed"])
async def test_what_was_sent_already_is_answered_before_an_old_connection_is_closed(is_fast):
    gateway = Gateway(is_fast=is_fast)
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD, GOOD, GOOD)
        gateway.connection.grow_old()
        await caller.send(GOOD * 3)
        assert [answer["Connection"] for answer in caller.answers] == [None] * 5 + ["close"]
        assert caller.is_closed


async def test_a_connection_that_grows_old_in_a_look_up_is_closed_by_the_answer_after_it():
    async with seeking() as (gateway, caller, store):
        gateway.connection.grow_old()
        store.gate.set()
        await caller.send(GOOD, turns=60)
        assert [answer["Connection"] for answer in caller.answers] == [None] * 4 + ["close"]
        assert caller.is_closed
