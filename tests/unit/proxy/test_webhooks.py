"""What a webhook is sent: in order, each change until it was received, by one process at a time. Time is virtual."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from typing_extensions import override

from campaign_gateway.policy.changes import Addition, Change, ChangeType, SeenBy
from campaign_gateway.policy.webhooks import LEASE_SECONDS, Delivery, Outcome, Sending
from campaign_gateway.proxy.change_window import START, Window
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.proxy.explain import Informed
from campaign_gateway.proxy.ports import Target
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.webhooks import Sender, Webhook, behind
from campaign_gateway.store.local.changes import LocalChanges
from campaign_gateway.store.local.index import LocalIndex
from campaign_gateway.store.local.webhooks import LocalSendingRecords
from tests.support.doubles import SUPPORT
from tests.support.meters import CountingMeter
from tests.support.virtual_time import EPOCH, virtual_time

ID = SUPPORT.identity
DAY = 86_400.0
RECEIVED, REFUSED, GONE, TIMEOUT = Outcome.RECEIVED, Outcome.REFUSED, Outcome.GONE, Outcome.TIMEOUT


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


class Inbox(Target):
    """Answers by a script, its last entry again and again."""

    def __init__(self, *script: Outcome | Delivery) -> None:
        self.script: list[Outcome | Delivery] = list(script) or [RECEIVED]
        self.posts: list[tuple[float, str, Outcome]] = []
        self.received: list[dict[str, Any]] = []
        self.seconds = 0.0

    @override
    async def post(self, id_: str, body: bytes) -> Delivery:
        began, event = now(), json.loads(body)
        assert event["id"] == id_
        await asyncio.sleep(self.seconds)
        said = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        delivery = said if isinstance(said, Delivery) else Delivery(said)
        outcome = delivery.outcome
        self.posts.append((began, id_, outcome))
        self.received += [event] if outcome is RECEIVED else []
        return delivery

    def subjects(self) -> list[str]:
        return [event.get("subject", event["type"]) for event in self.received]


class Records(LocalSendingRecords):
    """Those of a store that may be lost, and come back empty."""

    is_lost: bool = False

    @override
    async def read(self, name: str) -> Sending | None:
        return None if self.is_lost else await super().read(name)

    @override
    async def change(self, name: str, step: Callable[[Sending | None, float], Sending | None]) -> Sending | None:
        return None if self.is_lost else await super().change(name, step)


class World:
    def __init__(self, keep: float = 30 * DAY) -> None:
        self.meter, self.records, self.log = CountingMeter(), Records(now), LocalChanges(now, keep=keep)
        index = LocalIndex(Epoch(), now, self.log)
        self.feed = Feed(self.log, index, now, Tasks(), self.meter, {ID: SUPPORT.alias})
        self.tasks: list[asyncio.Task[None]] = []

    def start(self, inbox: Inbox, me: str = "me", types: Iterable[str] | None = None) -> Sender:
        webhook = Webhook("crm", inbox, None if types is None else frozenset(types))
        sender = Sender(webhook, SUPPORT, self.records, self.feed, self.meter, me)
        self.tasks.append(asyncio.create_task(sender.run()))  # noqa: TID251 - ended below
        return sender

    def add(self, *campaigns: str, type_: ChangeType = ChangeType.UPDATED) -> None:
        self.log._state(ID)
        changes = tuple(Change(type_, now(), SeenBy.LIST, campaign) for campaign in campaigns)
        self.log._add(ID, Addition(changes))

    async def end(self, number: int = -1) -> None:
        task = self.tasks.pop(number)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def fault_of(sender: Sender) -> str | None:
    return sender.fault


def run(story: Callable[[World], Awaitable[None]], **options: Any) -> World:
    async def tell() -> World:
        world = World(**options)
        await story(world)
        while world.tasks:
            await world.end()
        return world

    with virtual_time() as loop:
        return loop.run_until_complete(tell())


def test_changes_come_in_order_and_each_until_it_was_received() -> None:
    inbox = Inbox(REFUSED, TIMEOUT, Outcome.UNREACHABLE, RECEIVED, RECEIVED, Outcome.REDIRECTED, RECEIVED)

    async def story(world: World) -> None:
        world.add("before")
        sender = world.start(inbox)
        await asyncio.sleep(1)
        assert world.feed.listeners(ID) == 1, "polls go on"
        began = now()
        world.add("c1", "c2", "c1")
        await asyncio.sleep(2.5)
        assert 2 < sender.behind < 3
        await asyncio.sleep(60)
        assert inbox.subjects() == ["c1", "c2", "c1"], "from now on, nothing lost, doubled, or overtaken"
        assert [round(at - began) for at, _, _ in inbox.posts] == [0, 1, 3, 7, 7, 7, 8]
        assert len({id_ for _, id_, _ in inbox.posts}) == 3, "under the same id each time"
        assert behind([sender])() == 0.0

    world = run(story)
    assert world.meter.of("webhook", "crm") == 7
    assert world.meter.of("webhook", "crm", "received") == 3


def test_types_choose_what_comes() -> None:
    inbox = Inbox()

    async def story(world: World) -> None:
        world.start(inbox, types=["campaign.deleted"])
        await asyncio.sleep(1)
        world.add("c1")
        world.add("c2", type_=ChangeType.DELETED)
        world.add("c3")
        await asyncio.sleep(30)
        world.start(inbox, "other")
        await world.end(0)
        world.add("c4", type_=ChangeType.DELETED)
        await asyncio.sleep(30)

    run(story)
    assert inbox.subjects() == ["c2", "c4"]


@pytest.mark.parametrize("is_restarted", [True, False], ids=["restarted", "told"])
@pytest.mark.parametrize(
    ("script", "seconds", "failure"), [([GONE], 60.0, "gone"), ([REFUSED], DAY + 60, "refused")], ids=["gone", "a day"]
)
def test_sending_stops_and_goes_on_from_there_when_it_is_told_to(
    script: list[Outcome], seconds: float, failure: str, is_restarted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    inbox = Inbox(RECEIVED, *script)

    async def story(world: World) -> None:
        sender, idle = world.start(inbox), world.start(Inbox(), "other")
        await asyncio.sleep(1)
        world.add("c1", "c2", "c3")
        await asyncio.sleep(seconds)
        count, cursor = len(inbox.posts), inbox.received[0]["id"]
        await asyncio.sleep(DAY)
        assert len(inbox.posts) == count, "nothing is sent any longer"
        for one in (sender, idle):
            assert one.fault == (
                f"crm (support) has stopped after cursor {cursor} ({failure}): "
                "mend the target, then send SIGHUP to a gateway, which goes on from there"
            )
            assert one.behind > DAY
            assert one.informed == Informed("crm", cursor, one.behind, one.fault)
        assert world.feed.listeners(ID) == 0
        inbox.script = [RECEIVED]
        again = world.start(inbox, "restarted") if is_restarted else sender
        again.resume()
        await asyncio.sleep(60)
        assert inbox.subjects() == ["c1", "c2", "c3"]
        assert (again.fault, sender.fault, idle.fault, again.behind) == (None, None, None, 0.0)

    run(story)
    said = [record.getMessage() for record in caplog.records if "webhook" in record.getMessage()]
    assert [line for line in said if "has stopped" in line] == [next(line for line in said if "has stopped" in line)]
    assert len([line for line in said if "goes on after cursor" in line]) == 1
    assert len(said) <= 4


def test_a_minute_of_failures_shows_and_one_line_each_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    inbox = Inbox(REFUSED)

    async def story(world: World) -> None:
        sender = world.start(inbox)
        await asyncio.sleep(1)
        world.add("c1")
        await asyncio.sleep(30)
        assert fault_of(sender) is None, "a target that is restarted is nobody's trouble"
        await asyncio.sleep(90)
        assert fault_of(sender) == (
            "crm (support) does not take changes (refused): they are sent again and again, for a day at most"
        )
        inbox.script = [RECEIVED]
        await asyncio.sleep(120)
        assert fault_of(sender) is None

    run(story)
    assert [record.getMessage() for record in caplog.records if "webhook" in record.getMessage()] == [
        "webhook crm does not take a change of support (refused): it is sent again, for a day at most",
        "webhook crm takes changes of support again",
    ]


def test_who_waits_for_long_after_a_failure_goes_on_when_it_is_told_to() -> None:
    inbox = Inbox(REFUSED)

    async def story(world: World) -> None:
        sender = world.start(inbox)
        await asyncio.sleep(1)
        world.add("c1")
        await asyncio.sleep(6 * 3600)
        assert world.records._by_name[f"crm:{ID}"].wait == 3600
        inbox.script = [REFUSED, RECEIVED]
        sender.resume()
        await asyncio.sleep(10)
        assert inbox.subjects() == ["c1"], "the waits begin anew"

    run(story)


def test_a_target_that_asks_for_a_wait_has_it_from_whoever_sends() -> None:
    first, second = Inbox(Delivery(REFUSED, 3600.0)), Inbox()

    async def story(world: World) -> None:
        world.start(first, "first")
        await asyncio.sleep(1)
        world.start(second, "second")
        began = now()
        world.add("c1")
        await asyncio.sleep(600)
        await world.end(0)
        await asyncio.sleep(3600)
        (at, _, _) = second.posts[0]
        assert (len(first.posts), 3600 <= at - began < 3605) == (1, True)

    run(story)


def test_one_process_sends_and_another_one_goes_on() -> None:
    first, second = Inbox(), Inbox()

    async def story(world: World) -> None:
        world.start(first, "first")
        await asyncio.sleep(1)
        world.start(second, "second")
        world.add("c1")
        await asyncio.sleep(60)
        world.add("c2")
        await asyncio.sleep(1)
        await world.end(0)
        world.add("c3")
        await asyncio.sleep(5)

    run(story)
    assert (first.subjects(), second.subjects()) == (["c1", "c2"], ["c3"])


def test_a_process_that_dies_while_it_sends_is_followed_by_another_one() -> None:
    first, second = Inbox(), Inbox()
    first.seconds = 9.0

    async def story(world: World) -> None:
        world.start(first, "first")
        await asyncio.sleep(1)
        world.start(second, "second")
        world.add("c1", "c2")
        await asyncio.sleep(13)
        assert first.subjects() == ["c1"]
        died = now()
        world.records.is_lost = True  # It says nothing any longer.
        await world.end(0)
        world.records.is_lost = False
        await asyncio.sleep(LEASE_SECONDS + 5)
        assert second.subjects() == ["c2"]
        assert second.posts[0][0] - died <= LEASE_SECONDS + 2

    run(story)


def test_a_process_that_was_suspended_while_it_sent_leaves_the_rest_to_the_one_that_took_over() -> None:
    first, second = Inbox(), Inbox()

    async def story(world: World) -> None:
        world.start(first, "first")
        await asyncio.sleep(1)
        world.start(second, "second")
        first.seconds = LEASE_SECONDS + 30
        world.add("c1", "c2")
        await asyncio.sleep(LEASE_SECONDS + 25)
        assert second.subjects() == ["c1", "c2"]
        first.seconds = 0.0
        await asyncio.sleep(30)
        world.add("c3")
        await asyncio.sleep(30)

    run(story)
    assert (first.subjects(), second.subjects()) == (["c1"], ["c1", "c2", "c3"])


def test_a_store_that_is_lost_after_a_delivery_does_not_double_it() -> None:
    inbox = Inbox()

    async def story(world: World) -> None:
        world.start(inbox)
        await asyncio.sleep(1)
        inbox.seconds = 1.0
        world.add("c1", "c2")
        await asyncio.sleep(0.5)
        world.records.is_lost = True
        await asyncio.sleep(30)
        assert inbox.subjects() == ["c1"], "nothing more is sent before it is written down how far that is"
        world.records.is_lost = False
        await asyncio.sleep(30)

    run(story)
    assert inbox.subjects() == ["c1", "c2"]


def test_a_target_is_told_when_changes_are_missing() -> None:
    inbox = Inbox(REFUSED)

    async def story(world: World) -> None:
        world.start(inbox, types=["campaign.deleted"])
        await asyncio.sleep(1)
        world.add("c1", type_=ChangeType.DELETED)
        await asyncio.sleep(3 * 3600)
        inbox.script = [RECEIVED]
        await asyncio.sleep(3700)
        world.add("c2", type_=ChangeType.DELETED)
        await asyncio.sleep(60)

    run(story, keep=7200.0)
    assert inbox.subjects() == ["reset", "c2"]
    (reset, _) = inbox.received
    assert reset["id"].endswith("-reset")
    assert reset["data"] == {"detail": "read again what you hold: what has changed since your last event is not kept"}


def test_who_takes_over_and_has_not_read_so_far_resets_nothing() -> None:
    inbox = Inbox()

    async def story(world: World) -> None:
        world.start(inbox)
        await asyncio.sleep(1)
        world.add("c1")
        window, behind = await world.log.follow(ID), Window(100, DAY)
        behind.load(window.name, START, window.after(None, now()) or (), window.last)
        world.add("c2")
        await asyncio.sleep(1)
        await world.end()

        async def follow(_stream: str) -> Window:
            return behind

        world.log.follow = follow  # type: ignore[assignment, method-assign]
        world.start(inbox, "other")
        await asyncio.sleep(2 * LEASE_SECONDS)
        assert inbox.subjects() == ["c1", "c2"]
        world.add("c3")
        behind.extend((window.after(behind.last, now()) or ()), window.last)
        await asyncio.sleep(10)

    run(story)
    assert inbox.subjects() == ["c1", "c2", "c3"]
