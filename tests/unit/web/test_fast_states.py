"""The states of a fast connection: the table itself, and what it is built on."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDictProxy

from campaign_gateway.web import fast
from campaign_gateway.web.fast import TRANSITIONS, Event, State
from campaign_gateway.web.heads import MATTERS
from tests.support.fast import Gateway, calling, far, running
from tests.unit.web.test_fast_differential import GOOD, NEXT, TALKS


def reached(start: State) -> set[State]:
    """Every state that can follow."""
    found, left = {start}, [start]
    while left:
        following = set(TRANSITIONS[left.pop()].values()) - found
        found |= following
        left.extend(following)
    return found


def test_every_state_has_a_row_and_can_be_reached():
    assert set(TRANSITIONS) == set(State) == reached(State.IDLE)


def test_law_2_a_look_up_begins_only_where_no_request_is_in_flight():
    assert [state for state in State if Event.LOOK_UP in TRANSITIONS[state]] == [State.IDLE]


def test_law_3_only_a_whole_head_or_its_answer_brings_the_parser_between_two_requests():
    inside = {event for event, state in TRANSITIONS[State.INSIDE].items() if state is not State.INSIDE}
    assert inside == {Event.HEAD, Event.CLOSE, Event.LOST}
    assert State.IDLE not in TRANSITIONS[State.INSIDE].values()


def test_law_6_nothing_follows_the_end():
    assert reached(State.CLOSED) == {State.CLOSED}


def test_law_7_while_one_is_looked_up_no_bytes_go_to_the_parser():
    for state in (State.LOOKING_UP, State.LAST_LOOK_UP):
        assert set(TRANSITIONS[state]) == {Event.LOOKED_UP, Event.CLOSE, Event.LOST}


@pytest.mark.parametrize("state", State)
def test_a_connection_may_end_in_every_state(state):
    assert TRANSITIONS[state][Event.LOST] is State.CLOSED
    assert TRANSITIONS[state][Event.CLOSE] in {State.CLOSED, State.LAST_LOOK_UP}


@pytest.mark.parametrize("member", fast.MEMBERS)
def test_an_aiohttp_without_a_member_is_said_once_and_served_on_the_whole_road(member, monkeypatch, caplog):
    assert fast.is_supported()
    slots = [name for name in fast.MEMBERS if name != member]

    class Other:
        __slots__ = slots

    monkeypatch.setattr(web, "RequestHandler", Other)
    with caplog.at_level(logging.WARNING):
        assert not fast.is_supported()
    assert [member in record.message for record in caplog.records] == [True]


async def test_a_road_that_ends_leaves_no_look_up_behind():
    gateway = Gateway(layer=far)
    before = asyncio.all_tasks()
    async with running(gateway), calling(gateway) as caller:
        await caller.send(GOOD, GOOD)
        gateway.store.gate.clear()  # type: ignore[attr-defined]
        await caller.send(GOOD)
        assert any(task.get_name() == "answer from the store" for task in asyncio.all_tasks() - before)
        await gateway.fast.close()
        assert not any(task.get_name() == "answer from the store" for task in asyncio.all_tasks())


class Watched:
    """A request's fields, that remember which of them were asked for."""

    def __init__(self, fields: CIMultiDictProxy[str], read: set[str]) -> None:
        self._fields = fields
        self._read = read

    def get(self, name: str, *rest: Any) -> Any:
        self._read.add(name.lower())
        return self._fields.get(name, *rest)

    def getall(self, name: str, *rest: Any) -> Any:
        self._read.add(name.lower())
        return self._fields.getall(name, *rest)

    def __contains__(self, name: str) -> bool:
        self._read.add(name.lower())
        return name in self._fields

    def __getitem__(self, name: str) -> str:
        self._read.add(name.lower())
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("whoever goes through all fields reads all of them")


async def test_every_field_that_is_read_matters(monkeypatch):
    read: set[str] = set()
    monkeypatch.setattr(web.BaseRequest, "headers", property(lambda http: Watched(http._headers, read)))
    gateway = Gateway(is_fast=False)
    async with running(gateway):
        for talk in TALKS:
            pieces: Any = talk.values[0]
            async with calling(gateway) as caller:
                await caller.send(GOOD, *pieces, *NEXT)
    assert read <= {name.decode() for name in MATTERS}
    assert {"authorization", "if-none-match", "cache-control", "host"} <= read
