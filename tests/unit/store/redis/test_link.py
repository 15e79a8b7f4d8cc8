import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio.connection import DefaultParser
from redis.exceptions import InvalidResponse, NoPermissionError, NoScriptError, ReadOnlyError, ResponseError

from campaign_gateway.policy.evidence import GOOD, Cause
from campaign_gateway.policy.ledger import Ledger
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import Put
from campaign_gateway.store.clock import StoreClock
from campaign_gateway.store.redis import replies
from campaign_gateway.store.redis.beat import Beat
from campaign_gateway.store.redis.bus import Bus
from campaign_gateway.store.redis.connect import Access, RedisTarget, open_link
from campaign_gateway.store.redis.failures import FULL, MEANINGS, REFUSES, kind_of
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.ledgers import RedisLedgers
from campaign_gateway.store.redis.link import LASTING_LOOKS, RedisLink, StoreDownError
from campaign_gateway.store.redis.store import RedisStore
from tests.support.meters import CountingMeter
from tests.support.redis_server import RedisServer, redis_server

KEYS = Keys("cg")


@dataclass
class OddServer:
    """A client of a server that tells its time, and whose other replies a test chooses."""

    reply: object = None
    times: object = (1_770_000_000, 5)
    left: list[str] = field(default_factory=list)
    """How its connections were left."""

    async def time(self) -> object:
        return self._say(self.times)

    async def get(self, _name: str) -> None:
        """What the shared clock is ahead of this server's: nothing."""

    def register_script(self, _text: str) -> Any:
        async def call(**_: object) -> object:
            return self._say(self.reply)

        return call

    async def config_get(self, _name: str) -> object:
        return {"maxmemory-policy": "noeviction"}

    @property
    def connection_pool(self) -> Any:
        async def leave(**how: bool) -> None:
            self.left.append("idle" if how else "in use")

        return SimpleNamespace(update_active_connections_for_reconnect=leave, disconnect=leave)

    @staticmethod
    def _say(reply: object) -> object:
        if isinstance(reply, Exception):
            raise reply
        return reply


def link_to(client: object) -> RedisLink:
    return RedisLink(client, StoreClock(), CountingMeter())


def failing(*errors: Exception) -> tuple[RedisLink, Callable[[], Any], list[Exception]]:
    """A link that is up, and a command that fails with each of the errors, and then answers."""
    left = list(errors)

    async def command() -> bytes:
        if left:
            raise left.pop(0)
        return b"done"

    link = link_to(OddServer())
    link.is_up = True
    return link, command, left


async def test_a_script_forgotten_between_its_loading_and_its_call_is_called_again():
    link, command, _ = failing(NoScriptError())
    assert await link.execute("put", command, replies.value) == b"done"
    assert link.is_up


@pytest.mark.parametrize(
    ("errors", "kind"), [((NoScriptError(), NoScriptError()), "noscript"), ((ReadOnlyError(),), "readonly")]
)
async def test_whatever_else_fails_is_called_once(errors: tuple[Exception, ...], kind: str):
    link, command, left = failing(*errors)
    with pytest.raises(StoreDownError, match=kind):
        await link.execute("put", command, replies.value)
    assert not left


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("MISCONF Redis is configured to save RDB snapshots", "misconf"),
        ("NOREPLICAS Not enough good replicas to write.", "noreplicas"),
        ("BUSY Redis is busy running a script.", "busy"),
        ("Error running script: @user_script:3: -READONLY You can't write against a read only replica.", "readonly"),
        ("Error running script: @user_script:3: -OOM command not allowed", "oom"),
        ("no", "other"),
    ],
)
def test_refusals_without_a_class_are_known_by_their_first_word(text: str, kind: str):
    assert kind_of(ResponseError(text)) == kind


# What a look finds.


@pytest.mark.drill(
    "a Redis that answers and cannot be written",
    planted="READONLY, MISCONF, NOREPLICAS, NOPERM",
    seen="lost, in its own word, and told once; its connections are left, if the address may lead to another",
)
@pytest.mark.parametrize(
    ("refusal", "kind", "is_left"),
    [
        (ReadOnlyError("You can't write against a read only replica."), "readonly", True),
        (ResponseError("MISCONF Errors writing to the AOF file"), "misconf", True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), "noreplicas", True),
        (NoPermissionError("this user has no permissions"), "noperm", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_server_that_refuses_writes_is_lost_though_it_tells_its_time(
    refusal: Exception, kind: str, is_left: bool, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    server = OddServer()
    link = link_to(server)
    await link.look()
    assert (link.is_up, link.state) == (True, "ok")
    server.reply = refusal
    for _ in range(3):
        await link.look()
    assert (link.is_up, link.state) == (False, kind)
    assert server.left == ["in use", "idle"] * (3 if is_left else 0), "each look may find another server"
    server.reply = None
    await link.look()
    lost = f"redis is unavailable ({kind}): {MEANINGS.get(kind, REFUSES)}; continuing without it"
    assert caplog.messages == ["redis is connected", lost, "redis is connected"]


@pytest.mark.drill(
    "what answers at the address is no Redis",
    planted="replies of another shape to each command, and to none",
    seen="`protocol`: lost, told once, connections left; no traceback",
)
@pytest.mark.parametrize("times", [b"OK", 1, [], None, [b"a", b"b"], {b"a": b"b"}, InvalidResponse("HTTP/1.1")])
async def test_a_time_that_is_none_loses_the_link(times: object, caplog: pytest.LogCaptureFixture):
    server = OddServer(times=times)
    link = link_to(server)
    for _ in range(3):
        await link.look()
    assert (link.is_up, link.state) == (False, "protocol")
    assert caplog.messages == [
        "redis is unavailable (protocol): what answers there does not speak as Redis does; continuing without it"
    ]


@pytest.mark.drill("what answers at the address is no Redis")
@pytest.mark.parametrize("reply", [b"OK", 1, [], [b"a"]])
async def test_a_script_that_returns_what_it_cannot_loses_the_link(reply: object):
    link = link_to(OddServer(reply))
    await link.look()
    assert (link.is_up, link.state) == (False, "protocol")


@pytest.mark.drill("what answers at the address is no Redis")
@pytest.mark.parametrize("reply", [b"OK", 1, {}, [], [7], [b"a", b"b", b"c"], "text"])
@pytest.mark.parametrize(
    "read", [replies.put, replies.lease, replies.nothing, replies.names, replies.scored, replies.value, replies.index]
)
async def test_a_reply_is_what_its_reader_knows_or_the_link_is_lost(read: Callable[[object], object], reply: object):
    server = OddServer()
    link = link_to(server)
    link.is_up = True

    async def command() -> object:
        return reply

    try:
        await link.execute("get", command, read)
    except StoreDownError as error:
        assert (str(error), link.is_up, link.state) == ("protocol", False, "protocol")  # noqa: PT017 - it may be none
        assert server.left == ["in use", "idle"]
    else:
        assert (read, reply) in [
            (replies.value, b"OK"),
            *((replies.names, reply) for reply in ([], [b"a", b"b", b"c"])),
            (replies.scored, []),
        ]


async def test_what_an_old_connection_says_does_not_lose_the_link_that_was_made_since():
    link = link_to(OddServer())
    await link.look()

    async def command() -> object:
        # Meanwhile another command has found out, and a look has found the new server.
        await link._leave("readonly")
        await link.look()
        raise ReadOnlyError

    with pytest.raises(StoreDownError, match="readonly"):
        await link.execute("put", command, replies.put)
    assert link.is_up


# A real server.


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with redis_server(tmp_path) as process:
        yield process


@pytest.fixture
async def link(server: RedisServer) -> AsyncIterator[RedisLink]:
    async with AsyncExitStack() as stack:
        link = open_link(RedisTarget(server.url, 2.0), StoreClock(), CountingMeter())
        stack.push_async_callback(link.close)
        await link.look()
        yield link


async def test_the_connections_to_a_primary_that_was_demoted_are_left(server: RedisServer, link: RedisLink):
    before = await link.client.client_id()
    async with server.client() as admin:
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        await link.look()
        assert (link.is_up, link.state) == (False, "readonly")
        assert await link.client.client_id() != before
        await admin.execute_command("REPLICAOF", "NO", "ONE")
    await link.look()
    assert link.is_up


async def test_a_password_that_was_changed_leaves_the_connections_of_before(server: RedisServer):
    access = Access("gateway", lambda: "of before")
    link = open_link(RedisTarget(server.url, 2.0, access), StoreClock(), CountingMeter())
    async with server.client() as admin, AsyncExitStack() as stack:
        stack.push_async_callback(link.close)
        await admin.execute_command("ACL", "SETUSER", "gateway", "on", ">of before", "~*", "&*", "+@all")
        await link.look()
        assert link.is_up
        await admin.execute_command("ACL", "SETUSER", "gateway", "resetpass", ">changed")
        # Two at once: the second wants a new connection, and the first one's goes back into the pool after it.
        waits = (partial(link.client.blpop, "cg:nothing", 0.2), link.client.ping)
        commands = (link.execute("test", command, lambda reply: reply) for command in waits)
        assert [str(reply) for reply in await asyncio.gather(*commands, return_exceptions=True)] == ["None", "auth"]
        await link.look()
        assert (link.is_up, link.state) == (False, "auth"), (
            "not found with an old one, to be lost with the next new one"
        )


@pytest.mark.drill(
    "a full Redis",
    planted="no memory left, nothing evicted",
    seen="calls, fences, leases and messages go on; new answers are not stored there; told once it lasts, and in `/readyz`",
)
async def test_a_full_server_counts_calls_and_raises_fences_and_stores_nothing(server: RedisServer, link: RedisLink):
    bus = Bus(link, KEYS)
    store, ledgers, beat = RedisStore(link, bus, KEYS), RedisLedgers(link, KEYS), Beat(link, KEYS, "r1")

    def count(ledger: Ledger | None, _now: float) -> tuple[Ledger, int]:
        expected = (ledger.expected if ledger is not None else 0) + 1
        return Ledger(expected=expected), expected

    key, entry = "1f2e:get:cd-1", Stored(b"{}", "application/json", b"digest", None, "Ready", link.clock.now())
    _, fence = await store.get(key)
    assert await store.put(key, entry, fence, 60) is Put.STORED
    async with server.client() as admin:
        await admin.config_set("maxmemory", "1")
        assert [await ledgers.change("acc-1", count) for _ in range(3)] == [1, 2, 3]
        await store.invalidate((key, "1f2e:get:never-stored", "1f2e:get:*"), Cause.WRITE)
        raw, fence = await store.get(key)
        assert raw.evidence is not GOOD
        assert (await store.acquire_lease(key))[0]
        await store.publish("wrote", "1f2e:desk")
        await beat.send({}, ())
        assert "r1" in beat.replicas()
        with pytest.raises(StoreDownError, match=FULL):
            await store.put(key, entry, fence, 60)
        assert raw.stored == entry, "it stays, to fall back on"
        assert link.is_up


async def test_a_server_that_stays_full_is_told_once_and_so_is_its_end(
    server: RedisServer, link: RedisLink, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    async with server.client() as admin:
        for memory, before, after in (("1", "ok", FULL), ("0", FULL, "ok")):
            await admin.config_set("maxmemory", memory)
            for _ in range(LASTING_LOOKS - 1):
                await link.look()
            assert (link.is_up, link.state) == (True, before), "it may pass"
            for _ in range(LASTING_LOOKS):
                await link.look()
            assert (link.is_up, link.state) == (True, after)
    assert len([message for message in caplog.messages if message.startswith("redis ")]) == 2


def test_replies_are_read_by_the_parser_in_c() -> None:
    assert DefaultParser.__name__ == "_AsyncHiredisParser"
