"""What reads and writes add to the feed, and what of it is counted."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.listing import Channel
from campaign_gateway.contract.operations import operation
from campaign_gateway.policy.changes import Change, ChangeType, SeenBy
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState, Poll
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from tests.support.builders import NOW, absence, campaign, entry, envelope, stamp
from tests.support.builders import as_body as body_of
from tests.support.doubles import SUPPORT, finished, make_request
from tests.support.meters import CountingMeter

ID = SUPPORT.identity
UPDATED, STATUS, DELETED, CREATED = (
    ChangeType.UPDATED,
    ChangeType.STATUS_CHANGED,
    ChangeType.DELETED,
    ChangeType.CREATED,
)


class World:
    """A feed beside an index."""

    def __init__(self) -> None:
        self.tasks, self.meter, self.now = Tasks(), CountingMeter(), NOW
        self.log = LocalChanges(lambda: self.now)
        self.index = LocalIndex(Epoch(), lambda: self.now, self.log)
        self.feed = Feed(self.log, self.index, lambda: self.now, self.tasks, self.meter, {ID: SUPPORT.alias})
        self.log.on_added = self.feed.note_added

    async def show(self, **campaigns: str | None) -> None:
        """A poll that shows these, each changed at that moment; None for one that is gone."""
        rows = {
            id_: IndexedCampaign(
                Channel.SMS,
                changed or "",
                changed,
                self.now,
                has_changed=False,
                is_listed=bool(changed),
                status="Ready",
            )
            for id_, changed in campaigns.items()
        }
        number = self.index.snapshot(ID).state.number + 1
        polls = {channel: Poll(self.now, full_scan_at=1.0) for channel in Channel}
        assert await self.index.publish(ID, IndexState(polls, number=number), rows)

    async def read(self, id_: str, stored: Stored, **request: Any) -> None:
        self.feed.note_read(replace(make_request(id_), **request), stored)
        await finished(self.tasks)

    async def write(self, name: str, *ids: str, has_succeeded: bool = True) -> None:
        request = Request(SUPPORT, operation(name), "", "tests")
        await self.feed.note_write(request, ids, has_succeeded=has_succeeded)

    async def said(self) -> list[tuple[ChangeType, str | None, SeenBy]]:
        window = await self.log.follow(ID)
        entries = window.after(None, self.now) or ()
        return [(entry.change.type, entry.change.campaign, entry.change.seen_by) for entry in entries]


OLD = stamp(NOW - 1_000)


def stored(changed: float = NOW, status: str = "Ready", at: float = NOW + 1) -> Stored:
    body = body_of(envelope(campaign(updatedAt=stamp(changed), status=status)))
    read = entry(revision=stamp(changed), campaign_status=status, body=body)
    return replace(read, validated_at=at)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    await made.show(c1=OLD, c2=OLD)
    made.now += 1
    yield made
    await made.tasks.close()


async def test_a_read_that_shows_what_the_list_does_not_is_added_once(world: World) -> None:
    await world.read("c1", stored(NOW - 1_000))
    assert await world.said() == []
    await world.read("c1", stored(status="Active"))
    await world.read("c1", stored(status="Active", at=NOW + 2))
    assert await world.said() == [(STATUS, "c1", SeenBy.READ)]
    window = await world.log.follow(ID)
    ((change,),) = ([entry.change for entry in window.after(None, world.now) or ()],)
    assert (change.name, change.channel, change.previous_status) == ("X", Channel.SMS, "Ready")
    assert world.meter.events["change", "support", STATUS] == 1


async def test_a_read_that_finds_nothing_is_added(world: World) -> None:
    await world.read("c1", replace(absence(), validated_at=NOW + 1))
    await world.show(c1=None)
    assert await world.said() == [(DELETED, "c1", SeenBy.READ)]


async def test_what_the_list_has_not_shown_yet_is_left_to_it(world: World) -> None:
    await world.read("c9", stored())
    assert await world.said() == []
    await world.show(c9=stamp(NOW))
    assert await world.said() == [(CREATED, "c9", SeenBy.LIST)]


async def test_without_polls_reads_are_all_there_is() -> None:
    world = World()
    await world.read("c1", stored(NOW - 1_000))
    world.now += 100
    await world.read("c1", stored(NOW + 50, at=NOW + 100))
    assert await world.said() == [(UPDATED, "c1", SeenBy.READ)]


async def test_other_reads_and_bodies_that_are_none_add_nothing_of_their_own(world: World) -> None:
    await world.read("c1", stored(status="Active"), operation=operation("status"))
    assert await world.said() == []
    await world.read("c1", replace(stored(status="Active"), body=b"<html>"))
    assert await world.said() == [(STATUS, "c1", SeenBy.READ)]


@pytest.mark.parametrize(
    ("name", "has_succeeded", "expected"),
    [
        ("delete", True, [(DELETED, "c1", SeenBy.WRITE)]),
        ("delete", False, []),
        ("update", True, []),
        ("start", False, []),
        ("create", True, []),
        ("call-back", True, []),
        ("contact-list-delete", True, []),
    ],
)
async def test_a_write_adds_what_it_has_certainly_done(
    world: World, name: str, has_succeeded: bool, expected: list[Any]
) -> None:
    await world.write(name, "c1", has_succeeded=has_succeeded)
    assert await world.said() == expected


@pytest.mark.parametrize(
    ("name", "id_", "expected"),
    [
        ("update", "c1", (UPDATED, "c1", SeenBy.WRITE)),
        ("create", "c9", (CREATED, "c9", SeenBy.WRITE)),
        ("call-back", "c1", (UPDATED, "c1", SeenBy.LIST)),
    ],
)
async def test_what_is_seen_of_a_write_is_named_after_it(world: World, name: str, id_: str, expected: Any) -> None:
    await world.write(name, id_)
    world.now += 5
    await world.show(**{id_: stamp(NOW + 3)})
    assert await world.said() == [expected]


async def test_who_listens_keeps_the_stream_in_use(world: World) -> None:
    assert not world.index.is_listened(ID)
    await world.feed.window(ID)
    assert world.index.is_listened(ID)
    with world.feed.listening(ID), world.feed.listening(ID):
        assert (world.feed.listeners(ID), world.feed.all_listeners) == (2, 2)
    assert (world.feed.listeners(ID), world.feed.all_listeners) == (0, 0)


@pytest.mark.parametrize(
    ("changed", "type_", "delay"),
    [
        pytest.param(NOW - 2.5, UPDATED, 2.5, id="seen-later"),
        pytest.param(NOW + 2, UPDATED, 0.0, id="seen-at-once-by-a-clock-that-is-ahead"),
        pytest.param(NOW - 7_200, UPDATED, None, id="not-looked-for"),
        pytest.param(NOW + 7_200, UPDATED, None, id="no-time"),
        pytest.param(NOW - 2.5, DELETED, None, id="of-a-deletion-nobody-knows"),
    ],
)
async def test_how_long_a_change_took_is_counted_where_that_is_known(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: float, type_: ChangeType, delay: float | None
) -> None:
    counted: list[float | None] = []
    monkeypatch.setattr(world.meter, "change", lambda _stream, _type, seconds: counted.append(seconds))
    world.feed.note_added(ID, [Change(type_, NOW, SeenBy.LIST, "c1", updated_at=stamp(changed))])
    assert counted == [delay if delay is None else pytest.approx(delay, abs=1.0)]
