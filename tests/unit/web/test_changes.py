"""The feed of changes on the wire: events, long polls, cursors, and who may listen."""

import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import Finding, SeenBy
from campaign_gateway.policy.sweeping import IndexSnapshot, IndexState, ListFlaw
from campaign_gateway.web import event_stream
from campaign_gateway.web.clients import Client
from campaign_gateway.web.event_stream import EventStream
from tests.support.builders import stamp
from tests.support.doubles import SALES, SUPPORT, turns
from tests.support.waiting import until
from tests.unit.web.conftest import KEYS, MAX_CHANGES, Front

CURSOR = "Campaign-Gateway-Cursor"


class Edits:
    """Changes that reads show."""

    def __init__(self, front: Front) -> None:
        self._front, self._count = front, 0
        self.name = "A name"

    async def __call__(self, campaign: str = "c-1", status: str = "Ready", stream: str = SUPPORT.identity) -> None:
        self._count += 1
        now = self._front.feed.now() + self._count / 100
        for moment in (now - 5_000, now) if campaign not in self._front.log._told.get(stream, {}) else (now,):
            finding = Finding(SeenBy.READ, moment, Channel.VOICE, self.name, status, stamp(moment))
            await self._front.log.note(stream, campaign, finding)


@pytest.fixture
def edit(front: Front) -> Edits:
    return Edits(front)


@dataclass
class Listener:
    """An event stream as its reader sees it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: str = ""
    text: str = ""
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    """Type, id (empty where there is none), data."""
    has_ended: bool = False

    async def read(self) -> None:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        if "Transfer-Encoding: chunked" not in self.head:
            self.has_ended = True
            return
        while size := int((await self.reader.readline()) or b"0", 16):
            self.text += (await self.reader.readexactly(size + 2))[:-2].decode()
            *blocks, _ = self.text.split("\n\n")
            parsed = [dict(re.findall(r"^(\w+): (.*)$", block, re.MULTILINE)) for block in blocks]
            self.events = [
                (one["event"], one.get("id", ""), json.loads(one["data"])) for one in parsed if "event" in one
            ]
        self.has_ended = True

    async def until_events(self, count: int) -> list[tuple[str, str, Any]]:
        await until(lambda: len(self.events) >= count)
        assert len(self.events) == count
        return self.events


@contextlib.asynccontextmanager
async def listening(
    front: Front, target: str = "/v1/changes", *fields: str, key: str = KEYS["reporting"]
) -> AsyncIterator[Listener]:
    async with front.connection() as (reader, writer):
        head = [f"GET {target} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}", "Accept: text/event-stream"]
        writer.write("\r\n".join([*head, *fields, "", ""]).encode())
        listener = Listener(reader, writer)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(listener.read())
            await until(lambda: bool(listener.text) or listener.has_ended)
            yield listener
            task.cancel()


async def poll(front: Front, query: str = "", **options: Any) -> dict[str, Any]:
    answer = await front.ask(f"/v1/changes{query}", **options)
    assert answer.status == 200, answer.body
    document: dict[str, Any] = json.loads(answer.body)
    return document


def said(document: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(change["type"], change.get("subject")) for change in document["changes"]]


# Events.


async def test_a_listener_gets_each_change_as_a_cloud_event(front: Front, edit: Edits) -> None:
    async with listening(front) as listener:
        await edit("c-1", "Active")
        ((type_, id_, event),) = await listener.until_events(1)
    assert "content-type: text/event-stream" in listener.head.lower()
    assert "cache-control: no-store" in listener.head.lower()
    assert listener.text.startswith("retry: ")
    data = event.pop("data")
    assert data == {
        "name": "A name",
        "status": "Active",
        "previousStatus": "Active",
        "channel": "voice",
        "updatedAt": data["updatedAt"],
        "seenBy": "read",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event.pop("time"))
    assert (type_, event) == (
        "campaign.updated",
        {
            "specversion": "1.0",
            "id": id_,
            "source": "/v1/streams/support",
            "type": "campaign.updated",
            "subject": "c-1",
            "datacontenttype": "application/json",
        },
    )


async def test_a_listener_goes_on_where_its_last_event_was(front: Front, edit: Edits) -> None:
    async with listening(front) as listener:
        start = re.findall("^id: (.*)$", listener.text, re.MULTILINE)[0]
        await edit("c-1")
        await listener.until_events(1)
    await edit("c-2")
    await edit("c-3")
    async with listening(front, f"/v1/changes?after={start}", f"Last-Event-ID: {listener.events[0][1]}") as again:
        assert [event["subject"] for _, _, event in await again.until_events(2)] == ["c-2", "c-3"]
    async with listening(front, f"/v1/changes?after={start}") as anew:
        assert [event["subject"] for _, _, event in await anew.until_events(3)] == ["c-1", "c-2", "c-3"]


async def test_a_listener_whose_cursor_is_not_kept_is_told_to_begin_anew(front: Front, edit: Edits) -> None:
    async with listening(front) as listener:
        start = re.findall("^id: (.*)$", listener.text, re.MULTILINE)[0]
        for number in range(MAX_CHANGES + 1):
            await edit(f"c-{number}")
    async with listening(front, "/v1/changes", f"Last-Event-ID: {start}") as late:
        await late.until_events(1)
        await edit("c-1")
        (_, id_, data), (_, _, event) = await late.until_events(2)
    assert late.events[0][0] == "reset"
    assert data["next"] == id_
    assert event["subject"] == "c-1"


async def test_a_listener_of_a_log_that_begins_anew_is_told_so(front: Front, edit: Edits) -> None:
    async with listening(front) as listener:
        await edit("c-1")
        await listener.until_events(1)
        window = await front.log.follow(SUPPORT.identity)
        window.load("f" * 8, (0, 0), (), (0, 0))
        await listener.until_events(2)
    assert listener.events[1][0] == "reset"


async def trust(front: Front, *flaws: Channel) -> None:
    """A poll after which lists of these channels are not trusted."""
    window = await front.log.follow(SUPPORT.identity)
    state = IndexState(flaws=dict.fromkeys(flaws, ListFlaw.UNSORTED))
    front.log.add_all(SUPPORT.identity, IndexSnapshot(), state, {})
    window.extend((), window.last)


@pytest.mark.parametrize("is_kept", [True, False])
async def test_who_begins_while_a_list_is_not_trusted_is_told_so(front: Front, edit: Edits, is_kept: bool) -> None:
    await trust(front, Channel.VOICE)
    degraded = (await poll(front, "?after=0"))["changes"][0]
    assert (degraded["type"], degraded["data"]["reason"]) == ("stream.degraded", "unsorted")
    for number in range(1 if is_kept else MAX_CHANGES + 1):
        await edit(f"c-{number}")
    newest = (await front.ask("/v1/changes", method="HEAD"))[CURSOR]
    for fields in ((), (f"Last-Event-ID: {newest}",)):
        async with listening(front, "/v1/changes", *fields) as listener:
            await edit("c-1")
            first, (type_, _, _) = await listener.until_events(2)
        assert first == ("stream.degraded", "", degraded), "without a cursor that would lead back"
        assert type_ == "campaign.updated"
    async with listening(front, "/v1/changes?type=stream.recovered") as other:
        await trust(front)
        ((type_, _, _),) = await other.until_events(1)
    assert type_ == "stream.recovered"


async def test_a_listener_who_is_to_begin_anew_is_told_what_is_not_trusted(front: Front, edit: Edits) -> None:
    old = (await poll(front))["next"]
    await trust(front, Channel.VOICE)
    for number in range(MAX_CHANGES + 1):
        await edit(f"c-{number}")
    async with listening(front, f"/v1/changes?after={old}") as late:
        assert [type_ for type_, _, _ in await late.until_events(2)] == ["reset", "stream.degraded"]


async def test_a_page_says_what_is_not_trusted_to_those_who_begin(front: Front, edit: Edits) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(poll(front, "?wait=30s"))
        await until(lambda: front.feed.listeners(SUPPORT.identity) == 1)
        await trust(front, Channel.VOICE, Channel.SMS)
    said_of_lists = waiting.result()["changes"]
    assert [change["data"]["channel"] for change in said_of_lists] == ["sms", "voice"]
    first = await poll(front, "?wait=30s&limit=1")
    assert first["changes"] == said_of_lists
    assert said(await poll(front, f"?after={first['next']}")) == [], "who goes on has been told"
    assert said(await poll(front, "?type=campaign.updated")) == []
    for number in range(MAX_CHANGES + 1):
        await edit(f"c-{number}")
    everything = await poll(front, "?after=0&limit=1")
    assert everything["changes"][:2] == said_of_lists, "though it is not kept"
    assert said(everything)[2:] == [("campaign.updated", "c-1")]
    assert said(await poll(front, f"?after={everything['next']}&limit=1")) == [("campaign.updated", "c-2")]


async def test_a_quiet_stream_says_that_it_lives(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "COMMENT_SECONDS", 0.01)
    async with listening(front) as listener:
        await until(lambda: listener.text.count("\n:\n") > 2)
    assert listener.events == []


async def test_a_drain_ends_all_streams_and_says_when_to_come_back(front: Front) -> None:
    async with listening(front) as listener:
        front.api.drain()
        await until(lambda: listener.has_ended)
    assert re.search(r"\n\nretry: [1-5]\d\d\d\n\n$", listener.text)


async def test_a_revoked_key_ends_its_streams_and_no_other(front: Front) -> None:
    async with listening(front) as reporting, listening(front, key=KEYS["operations"]) as operations:
        digest = hashlib.sha256(KEYS["operations"].encode()).hexdigest()
        front.clients.replace({digest: Client("operations", frozenset({"support"}), frozenset({"read"}))})
        await until(lambda: reporting.has_ended)
        assert not operations.has_ended
        front.clients.replace({digest: Client("operations", frozenset({"sales"}), frozenset({"read"}))})
        await until(lambda: operations.has_ended)


async def test_who_may_still_listen_is_looked_at_once(
    front: Front, edit: Edits, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with listening(front) as listener:
        front.clients.epoch.end()
        looked = Mock(wraps=front.clients.identify)
        monkeypatch.setattr(front.clients, "identify", looked)
        for number in range(3):
            await edit("c-1")
            await listener.until_events(number + 1)
        assert looked.call_count <= 1, "not for each change"


@pytest.mark.parametrize("query", ["", "?wait=60s"])
async def test_who_leaves_is_counted_no_longer_though_nothing_changes(front: Front, query: str) -> None:
    async with front.connection() as (_, writer):
        accept = "text/html" if query else "text/event-stream"
        head = ["Host: gateway", f"Accept: {accept}", f"Authorization: Bearer {KEYS['reporting']}", "", ""]
        writer.write("\r\n".join([f"GET /v1/changes{query} HTTP/1.1", *head]).encode())
        await until(lambda: front.feed.listeners(SUPPORT.identity) == 1)
    await until(lambda: front.feed.listeners(SUPPORT.identity) == 0)


# Long polls.


async def test_a_poll_gets_what_came_after_its_cursor(front: Front, edit: Edits) -> None:
    first = await poll(front)
    assert first["changes"] == []
    for number in range(3):
        await edit(f"c-{number}")
    second = await poll(front, f"?after={first['next']}&limit=2")
    assert [subject for _, subject in said(second)] == ["c-0", "c-1"]
    third = await poll(front, f"?after={second['next']}&limit=2")
    assert [subject for _, subject in said(third)] == ["c-2"]
    assert (await poll(front, f"?after={third['next']}"))["changes"] == []
    assert [subject for _, subject in said(await poll(front, "?after=0"))] == ["c-0", "c-1", "c-2"]
    head = await front.ask("/v1/changes", method="HEAD")
    assert (head.status, head[CURSOR]) == (200, third["next"])


async def test_a_poll_waits_for_the_first_change(front: Front, edit: Edits) -> None:
    async with asyncio.TaskGroup() as group:
        polling = group.create_task(poll(front, "?wait=30s"))
        await until(lambda: front.feed.listeners(SUPPORT.identity) == 1)
        await edit("c-1")
    assert said(polling.result()) == [("campaign.updated", "c-1")]
    assert said(await poll(front, f"?wait=10ms&after={polling.result()['next']}")) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("type=campaign.status-changed", ["c-2"]),
        ("type=campaign.updated,campaign.status-changed", ["c-1", "c-2", "c-2"]),
        ("ids=c-2,c-9", ["c-2", "c-2"]),
        ("status=Active", ["c-2"]),
        ("status=Active&ids=c-1", []),
        ("type=stream.degraded", []),
    ],
)
async def test_only_what_is_wanted_comes(front: Front, edit: Edits, query: str, expected: list[str]) -> None:
    await edit("c-1")
    await edit("c-2")
    await edit("c-2", "Active")
    everything = await poll(front, "?after=0")
    document = await poll(front, f"?after=0&{query}")
    assert [subject for _, subject in said(document)] == expected
    assert document["next"] == everything["next"], "what is not wanted is not looked at again"


async def test_each_listener_gets_what_it_wants_from_where_it_is(front: Front, edit: Edits) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await edit("c-0")
        targets = ["", "?ids=c-1", "?status=Active"]
        all_, first, active = [
            await stack.enter_async_context(listening(front, f"/v1/changes{query}")) for query in targets
        ]
        behind = await stack.enter_async_context(listening(front, "/v1/changes?after=0", key=KEYS["operations"]))
        for campaign, status in (("c-1", "Ready"), ("c-2", "Active"), ("c-1", "Active")):
            await edit(campaign, status)
        for listener, expected in (
            (all_, ["c-1", "c-2", "c-1"]),
            (first, ["c-1", "c-1"]),
            (active, ["c-2", "c-1"]),
            (behind, ["c-0", "c-1", "c-2", "c-1"]),
        ):
            events = await listener.until_events(len(expected))
            assert [event["subject"] for _, _, event in events] == expected


# Cursors.


async def other_stream(front: Front, _newest: str) -> str:
    answer = await front.ask("/v1/streams/sales/changes", method="HEAD", key=KEYS["operations"])
    return str(answer[CURSOR])


async def later(_front: Front, newest: str) -> str:
    return re.sub(r"-\d+-\d+$", "-9999999999999-0", newest)


async def other_log(_front: Front, newest: str) -> str:
    return re.sub(r"-[0-9a-f]{8}-(\d+)", r"-00000000-\1", newest)


@pytest.mark.parametrize(
    ("make", "status", "name"),
    [(other_stream, 400, "invalid-request"), (later, 410, "cursor-expired"), (other_log, 410, "cursor-expired")],
)
async def test_a_cursor_of_somewhere_else_is_refused(
    front: Front, edit: Edits, make: Any, status: int, name: str
) -> None:
    await edit()
    cursor = await make(front, (await poll(front))["next"])
    answer = await front.ask(f"/v1/changes?after={cursor}")
    assert (answer.status, json.loads(answer.body)["type"]) == (status, f"/problems/{name}")
    async with listening(front, "/v1/changes", f"Last-Event-ID: {cursor}") as listener:
        assert f" {200 if status == 410 else status} " in listener.head
        if status == 410:
            assert (await listener.until_events(1))[0][0] == "reset"


@pytest.mark.parametrize(
    "query",
    [
        *("after=", "after=x", "after=1", "after=" + "1" * 10_000, "after=%00", "after=a-b-c-d", "after=\u0660"),
        *("wait=61s", "wait=x", "wait=-1s", "wait=1e9", "wait=", "limit=0", "limit=1001", "limit=x"),
        *("type=voice", "type=", "ids=", "ids=" + ",".join(["c"] * 101), "status=%3C", "since=1"),
        *("type=" + "campaign.updated," * 600, "ids=" + "c" * 10_000, "status=" + "<" * 10_000),
    ],
)
async def test_garbage_is_refused(front: Front, query: str) -> None:
    answer = await front.ask(f"/v1/changes?{query}".encode())
    assert (answer.status, json.loads(answer.body)["type"]) == (400, "/problems/invalid-request")


@pytest.mark.parametrize(
    "cursor", ["x", "-", "0-0-0-0", "\u00e9", "1" * 5_000, "\u00b2" * 8 + "-00000000-1-1", "'; drop table"]
)
async def test_a_last_event_id_that_is_none_is_refused(front: Front, cursor: str) -> None:
    fields = ("Accept: text/event-stream", f"Last-Event-ID: {cursor}".encode("latin-1"))
    answer = await front.ask("/v1/changes", *fields)
    assert (answer.status, json.loads(answer.body)["type"]) == (400, "/problems/invalid-request")
    assert front.feed.all_listeners == 0


async def test_a_cursor_ahead_of_a_store_that_is_lost_is_not_expired(
    front: Front, edit: Edits, monkeypatch: pytest.MonkeyPatch
) -> None:
    await edit()
    cursor = await later(front, (await poll(front))["next"])
    monkeypatch.setattr(front.log, "end", AsyncMock(return_value=None))
    for fields in ((), ("Accept: text/event-stream",)):
        answer = await front.ask(f"/v1/changes?after={cursor}", *fields)
        assert (answer.status, answer["Retry-After"]) == (503, "5"), answer.body
    assert front.feed.all_listeners == 0


async def test_an_old_client_is_sent_events_until_the_connection_ends(front: Front, edit: Edits) -> None:
    async with front.connection() as (reader, writer):
        key = KEYS["reporting"]
        writer.write(
            f"GET /v1/changes HTTP/1.0\r\nHost: gateway\r\nAccept: text/event-stream\r\n"
            f"Authorization: Bearer {key}\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head.lower()
        await edit("c-1")
        await reader.readuntil(b"\nevent: campaign.updated\n")
        front.api.drain()
        assert re.search(rb"\n\nretry: \d+\n\n$", await reader.read())


async def test_head_gives_the_newest_cursor_whatever_is_wanted(front: Front, edit: Edits) -> None:
    await edit("c-1")
    newest = (await poll(front))["next"]
    for query in ("?type=campaign.deleted", "?ids=c-9&status=Active&wait=60s", "?after=0&limit=1"):
        answer = await front.ask(f"/v1/changes{query}", method="HEAD")
        assert (answer.status, answer[CURSOR], answer.body) == (200, newest, b"")
    assert (await front.ask("/v1/changes?ids=", method="HEAD")).status == 400


@pytest.mark.drill(
    "a filter of ten kilobytes",
    planted="as many of the longest ids as there may be, and garbage of that length",
    seen="what is wanted and nothing else; 400 for the garbage",
)
async def test_a_long_filter_chooses_as_a_short_one(front: Front, edit: Edits) -> None:
    ids = [f"{number:0128}" for number in range(80)]
    await edit("c-1")
    await edit(ids[7])
    query = f"?after=0&ids={','.join(ids)}&status={'Ready,' * 100}Active"
    assert len(query) > 10_000
    assert [subject for _, subject in said(await poll(front, query))] == [ids[7]]
    assert (await front.ask(f"/v1/changes?ids={'c' * 10_000}")).status == 400


# Who may.


async def test_nobody_hears_of_another_stream(front: Front, edit: Edits) -> None:
    await edit("c-1", stream=SALES.identity)
    assert (await poll(front, "?after=0"))["changes"] == []
    assert (await front.ask("/v1/streams/sales/changes")).status == 403
    assert (await front.ask("/v1/changes", key=None)).status == 401
    answer = await front.ask("/v1/streams/sales/changes?after=0", key=KEYS["operations"])
    assert [change["source"] for change in json.loads(answer.body)["changes"]] == ["/v1/streams/sales"]


@pytest.mark.drill(
    "listeners without end", planted="more streams than a client, and than the process may have", seen="429 and 503"
)
async def test_more_listeners_than_there_may_be_are_refused(front: Front) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(listening(front))
        refused = await front.ask("/v1/changes", "Accept: text/event-stream")
        assert (refused.status, refused["Retry-After"]) == (429, "5")
        await stack.enter_async_context(listening(front, key=KEYS["operations"]))
        refused = await front.ask("/v1/changes", "Accept: text/event-stream", key=KEYS["operations"])
        assert (refused.status, refused["Retry-After"]) == (503, "5")
        assert (await front.ask("/v1/changes", method="HEAD")).status == 200


# Who reads slowly.


@pytest.mark.drill(
    "listeners that never read",
    planted="beside one that does, while megabytes of changes come",
    seen="bounded memory for each of them",
)
@pytest.mark.parametrize("count", [1, 2])
async def test_what_waits_for_those_who_do_not_read_is_bounded(front: Front, edit: Edits, count: int) -> None:
    head = "GET /v1/changes HTTP/1.1\r\nHost: gateway\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\n\r\n"
    async with listening(front, "/v1/changes?type=campaign.deleted") as quiet, contextlib.AsyncExitStack() as stack:
        edit.name = "A" * 100_000
        for _ in range(count):
            reader, writer = await stack.enter_async_context(front.connection())
            writer.write(head.format(KEYS["reporting"]).encode())
            await reader.readuntil(b"\r\n\r\n")
        most = 0
        for _ in range(200):
            await edit()
            await turns(10)
            most = max(most, *(transport.get_write_buffer_size() for transport in front.server.transports()))
        assert 4_096 < most < 400_000, "a few events, of the twenty megabytes that came"
        await front.log.note(SUPPORT.identity, "c-1", Finding(SeenBy.READ, front.feed.now() + 99, is_gone=True))
        await quiet.until_events(1)


async def test_who_has_much_to_get_leaves_others_their_turns(
    front: Front, edit: Edits, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit.name = "A" * 20_000
    for number in range(MAX_CHANGES):
        await edit(f"c-{number}")
    made, seen, make = 0, [0], EventStream._next

    def counted(events: EventStream) -> bytes:
        nonlocal made
        made += 1
        return make(events)

    monkeypatch.setattr(event_stream, "FRAMES_AT_A_TIME", 2)
    monkeypatch.setattr(EventStream, "_next", counted)
    async with front.connection() as (_, writer):
        head = ["Host: gateway", "Accept: text/event-stream", f"Authorization: Bearer {KEYS['reporting']}", "", ""]
        writer.write("\r\n".join(["GET /v1/changes?after=0 HTTP/1.1", *head]).encode())
        while made < MAX_CHANGES:
            await turns(1)
            seen.append(made)
    assert max(later - before for before, later in pairwise(seen)) <= 2


async def test_entries_that_are_nobodys_hold_nobody_up(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    window, looks = await front.log.follow(SUPPORT.identity), 0
    window.load(window.name, (0, 0), (), (5, 0))
    after = window.after

    def counted(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        if looks > 100:
            raise ConnectionError
        return after(*arguments)

    async with listening(front) as listener:
        monkeypatch.setattr(window, "after", counted)
        window.extend((), (6, 0))
        await turns(50)
        assert 0 < looks < 5
        assert not listener.has_ended
