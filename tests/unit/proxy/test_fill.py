import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from campaign_gateway.policy.evidence import GOOD
from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.settle import Failure, Fill
from campaign_gateway.policy.stored import Stored
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.flights import Claim, FillResult, Flight, Flights
from campaign_gateway.proxy.ports import Found
from campaign_gateway.proxy.request import Request
from campaign_gateway.proxy.tasks import Tasks
from tests.support.doubles import begun, finished, turns

PATIENT = Claim(Lane.INTERACTIVE, wait=2.5)
ANY = Claim(Lane.BACKGROUND, wait=0.0)
NEWEST = Claim(Lane.VALIDATION, wait=0.0, accepts_finished=False)
FILL = Fill(Stored(b"{}", "application/json", b"digest", None, None, 0.0), is_unchanged=False, upstream_status=200)
Fly = Callable[[Flight], Coroutine[None, None, None]]
FAILED = Failure(Problem.UPSTREAM_UNAVAILABLE, "no connection")


class Field:
    """Flights whose fills and puts end when a test lets them."""

    def __init__(self) -> None:
        self.tasks = Tasks()
        self.flights = Flights(self.tasks)
        self.result: FillResult | BaseException = FILL
        self.began = 0
        self.now = 100.0
        self.kept: list[Fill] = []
        self.may_end = asyncio.Event()
        self.may_keep = asyncio.Event()

    async def fly(self, flight: Flight) -> None:
        self.began += 1
        with flight.always_settles():
            await self.may_end.wait()
            if isinstance(self.result, BaseException):
                raise self.result
            flight.result.set_result(self.result)
            if isinstance(self.result, Fill):
                await self.may_keep.wait()
                self.kept.append(self.result)

    def start(self, key: str = "key", claim: Claim = PATIENT, fly: Fly | None = None) -> Flight:
        request = cast("Request", SimpleNamespace(key=key))
        flight = Flight(request, Found(None, GOOD, None), claim, "tests", self.now)
        self.flights.start(flight, fly or self.fly)
        return flight

    def joined(self, key: str = "key", claim: Claim = ANY) -> Flight | None:
        return self.flights.to_join(key, claim)


@pytest.fixture
async def field():
    field = Field()
    yield field
    await field.tasks.close()


@pytest.fixture
async def flight(field):
    return field.start()


async def test_a_flight_is_joinable_from_its_start_by_its_own_key_only(flight, field):
    assert field.joined() is flight
    assert field.joined("other") is None
    assert len(field.flights) == 1


async def test_every_waiter_gets_the_one_result(flight, field):
    waiters = [begun(flight.wait(5)) for _ in range(100)]
    await turns()
    field.may_end.set()
    assert await asyncio.gather(*waiters) == [FILL] * 100
    assert field.began == 1


@pytest.mark.parametrize("cancelled", [0, 1, 2], ids=["the-first", "one-between", "the-last"])
async def test_a_cancelled_waiter_takes_nobody_with_it(flight, field, cancelled):
    waiters = [begun(flight.wait(5)) for _ in range(3)]
    await turns()
    waiters[cancelled].cancel()
    await turns()
    field.may_end.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert results == [FILL, FILL]


async def test_a_flight_that_all_have_left_still_ends_and_is_kept(field):
    waiter = begun(field.start().wait(5))
    await turns()
    waiter.cancel()
    field.may_end.set()
    field.may_keep.set()
    await finished(field.tasks)
    assert field.kept == [FILL]


async def test_a_waiter_leaves_alone_at_its_own_deadline(flight, field):
    patient = begun(flight.wait(5))
    late = await flight.wait(0.01)
    assert isinstance(late, Failure)
    assert late.problem is Problem.UPSTREAM_TIMEOUT
    assert not patient.done()
    field.may_end.set()
    assert await patient is FILL


async def test_a_failed_result_is_everybodys_and_is_not_kept(field):
    field.result = FAILED
    flight = field.start()
    field.may_end.set()
    assert [await flight.wait(5), await flight.wait(5)] == [FAILED, FAILED]
    await finished(field.tasks)
    assert field.kept == []
    assert field.joined() is None


async def test_an_exception_is_everybodys_frees_the_key_and_is_logged_once(field, caplog):
    field.result = LookupError("unexpected")
    flight = field.start()
    field.may_end.set()
    results = await asyncio.gather(flight.wait(5), flight.wait(5))
    assert [result.problem for result in results] == [Problem.INTERNAL] * 2
    assert isinstance(flight.result.exception(), LookupError)
    await finished(field.tasks)
    await turns()
    assert field.joined() is None
    assert [record.getMessage() for record in caplog.records] == ["task fill failed"]


async def test_an_exception_that_nobody_waits_for_is_no_unretrieved_one(field, caplog):
    field.result = LookupError("unexpected")
    field.start()
    field.may_end.set()
    await finished(field.tasks)
    await turns()
    assert [record.name for record in caplog.records] == ["campaign_gateway.proxy.tasks"]


async def test_the_reply_does_not_wait_for_the_put(flight, field):
    field.may_end.set()
    assert await flight.wait(5) is FILL
    assert field.kept == []


async def test_between_reply_and_put_the_ended_flight_is_still_joined(flight, field):
    field.may_end.set()
    await flight.wait(5)
    assert field.joined() is flight
    assert await flight.wait(5) is FILL
    assert field.joined(claim=NEWEST) is None, "whoever wants a newer answer than that does not join"
    field.may_keep.set()
    await finished(field.tasks)
    assert field.joined() is None


async def test_a_put_that_fails_frees_the_key_and_takes_no_answer_back(field, caplog):
    async def fill(flight: Flight) -> None:
        with flight.always_settles():
            flight.result.set_result(FILL)
            raise LookupError("the store broke its word")

    flight = field.start(fly=fill)
    assert await flight.wait(5) is FILL
    await finished(field.tasks)
    await turns()
    assert await flight.wait(5) is FILL
    assert field.joined() is None
    assert len(caplog.records) == 1


async def test_a_forgotten_flight_ends_for_those_aboard_and_is_joined_by_nobody_else(flight, field):
    aboard = begun(flight.wait(5))
    await turns()
    field.flights.forget("key")
    assert field.joined() is None
    field.may_end.set()
    assert await aboard is FILL


@pytest.mark.parametrize(
    ("forgotten", "left"),
    [("x:get:a", ["x:get:b", "x:get-v1:a", "y:get:a"]), ("x:get:*", ["x:get-v1:a", "y:get:a"]), (None, [])],
    ids=["one", "all-of-an-operation", "any"],
)
async def test_flights_are_forgotten_one_by_one_by_operation_or_all(field, forgotten, left):
    keys = ["x:get:a", "x:get:b", "x:get-v1:a", "y:get:a"]
    for key in keys:
        field.start(key)
    field.flights.forget(forgotten)
    assert [key for key in keys if field.joined(key) is not None] == left


@pytest.mark.parametrize(("since", "is_joined"), [(None, True), (99.0, True), (100.0, True), (100.001, False)])
async def test_a_flight_that_began_before_a_moment_is_not_joined_by_those_who_know_of_it(
    flight, field, since, is_joined
):
    assert field.joined(claim=replace(ANY, newer_than=since)) is (flight if is_joined else None)


async def test_the_end_of_a_forgotten_flight_leaves_its_successor_alone(field):
    field.start()
    field.flights.forget("key")
    later_may_end = asyncio.Event()

    async def later_fill(flight: Flight) -> None:
        await later_may_end.wait()
        flight.result.set_result(FAILED)

    successor = field.start(fly=later_fill)
    field.may_end.set()
    field.may_keep.set()
    await turns()
    assert field.kept == [FILL], "the first has ended"
    assert field.joined() is successor
    later_may_end.set()
    assert await successor.wait(5) is FAILED


async def test_forgetting_what_does_not_fly_is_no_matter(field):
    field.flights.forget("key")
    assert len(field.flights) == 0


async def test_stopping_tells_waiters_so_instead_of_cancelling_them(field):
    waiter = begun(field.start().wait(5))
    await turns()
    await field.tasks.close()
    assert (await waiter).problem is Problem.INTERNAL


@pytest.mark.parametrize("phase", ["before-its-first-step", "in-the-fill", "in-the-put"])
async def test_a_flight_ended_at_any_phase_frees_its_key(flight, field, phase):
    if phase == "in-the-fill":
        await turns()
    if phase == "in-the-put":
        field.may_end.set()
        await flight.wait(5)
    await field.tasks.close()
    assert field.joined() is None, "or its next readers would join a flight that never lands"
    assert flight.result.done()


async def test_flights_of_different_keys_do_not_wait_for_each_other(field):
    slow = field.start("slow")

    async def at_once(flight: Flight) -> None:
        flight.result.set_result(FAILED)

    assert await field.start("quick", fly=at_once).wait(5) is FAILED
    assert not slow.result.done()


DENIED = Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=7.0)
READ_AT = Fill(replace(FILL.stored, validated_at=100.0), is_unchanged=False, upstream_status=200)


@pytest.mark.parametrize(
    ("own", "result", "claim", "serves"),
    [
        pytest.param(ANY, None, PATIENT, True, id="nobody-knows-yet"),
        pytest.param(ANY, None, replace(PATIENT, newer_than=100.5), False, id="began-before-the-write"),
        pytest.param(ANY, FILL, PATIENT, True, id="an-answer"),
        pytest.param(ANY, READ_AT, replace(PATIENT, newer_than=100.0), True, id="an-answer-from-after-the-write"),
        pytest.param(ANY, FILL, replace(PATIENT, newer_than=100.0), False, id="another-replica-s-from-before-it"),
        pytest.param(ANY, FAILED, PATIENT, True, id="a-failure-of-the-platform"),
        pytest.param(ANY, DENIED, PATIENT, False, id="denied-a-permit-that-it-did-not-wait-for"),
        pytest.param(replace(PATIENT, wait=0.0), DENIED, PATIENT, False, id="denied-though-of-the-lane-of-who-waits"),
        pytest.param(PATIENT, DENIED, PATIENT, True, id="denied-with-the-same-right"),
        pytest.param(ANY, DENIED, ANY, True, id="denied-and-nobody-has-more-right"),
        pytest.param(ANY, LookupError("unexpected"), PATIENT, True, id="an-error"),
    ],
)
async def test_whom_a_flight_serves(field, own, result, claim, serves):
    flight = field.start(claim=own)
    if result is not None:
        field.result = result
        field.may_end.set()
        await asyncio.wait([flight.result])
    assert flight.serves(claim) is serves
    assert (field.joined(claim=claim) is flight) is (serves and not isinstance(result, Failure | LookupError))
