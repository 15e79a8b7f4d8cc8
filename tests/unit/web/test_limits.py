"""A client's own limits: as numbers, and on real connections, with the fast road and without."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from campaign_gateway.problems import Problem
from campaign_gateway.web.clients import Client
from campaign_gateway.web.limits import ClientLimits
from campaign_gateway.web.rejected import RejectedError
from tests.support.fast import Caller, Gateway, calling, far, running


class Named:
    """A connection that can be told from others."""

    def __init__(self) -> None:
        self.transport: object | None = object()


def answered(limits: ClientLimits, moments: list[float]) -> int:
    """How many requests at these moments are answered."""
    count = 0
    for moment in moments:
        if not limits.is_spent(moment):
            limits.take(moment)
            count += 1
    return count


@pytest.mark.parametrize(
    ("rate", "moments", "count"),
    [
        pytest.param((3, 1.0), [10.0] * 9, 3, id="a-period-s-worth-at-once"),
        pytest.param((200, 1.0), [10.0] * 999, 200, id="rounding-loses-none"),
        pytest.param((7, 60.0), [10.0] * 99, 7, id="by-the-minute"),
        pytest.param((1, 1.0), [10.0, 10.5, 11.0, 11.9, 12.0], 3, id="one-a-second"),
        pytest.param((2, 1.0), [10.0, 10.0, 10.0, 10.5, 10.5], 3, id="one-comes-back-after-its-part-of-the-period"),
        pytest.param((2, 1.0), [10.0, 10.0, 99.0, 99.0, 99.0], 4, id="time-without-requests-saves-up-one-period"),
        pytest.param(None, [10.0] * 999, 999, id="none"),
    ],
)
def test_the_rate(rate: tuple[int, float] | None, moments: list[float], count: int):
    assert answered(ClientLimits(rate), moments) == count


def test_the_refused_are_told_when_to_come_back():
    limits = ClientLimits((1, 60.0))
    limits.take(100.0)
    with pytest.raises(RejectedError) as refused, limits.admit(connection_of(), 110.0):
        pass
    assert refused.value.failure.problem is Problem.RATE_LIMITED
    assert refused.value.failure.retry_after == pytest.approx(50.0, abs=0.001)
    assert not limits.is_spent(160.0)


def connection_of() -> Any:
    return Named()


def test_so_many_are_under_way_at_once_and_each_that_ends_makes_room():
    limits = ClientLimits(concurrent=2)
    first, second, third = (limits.admit(connection_of(), 0.0) for _ in range(3))
    with first:
        with pytest.raises(ZeroDivisionError), second:
            with pytest.raises(RejectedError), third:
                pass
            raise ZeroDivisionError
        with limits.admit(connection_of(), 0.0):
            pass


def test_so_many_connections_are_the_clients_and_a_closed_one_makes_room():
    limits = ClientLimits(connections=2)
    one, other, late = Named(), Named(), Named()
    seen: list[Any] = [one, other, one, late]
    assert [limits.knows(each) for each in seen] == [True, True, True, False]
    with pytest.raises(RejectedError) as refused, limits.admit(seen[-1], 0.0):
        pass
    assert refused.value.has_to_close
    other.transport = None
    assert limits.knows(seen[-1])
    assert not limits.knows(seen[1])


ROADS = [
    pytest.param(Gateway, id="fast"),
    pytest.param(lambda: Gateway(layer=far), id="fast-by-wire"),
    pytest.param(lambda: Gateway(is_fast=False), id="grants"),
    pytest.param(lambda: Gateway(is_fast=False, has_grants=False), id="whole-road"),
]
GET = b"GET /v1/campaigns/c-1 HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer cgk_reporting\r\n\r\n"
UNFIT = GET.replace(b"c-1", b"..")


def limit(gateway: Gateway, limits: ClientLimits) -> None:
    client = Client("reporting", frozenset({"support"}), frozenset({"read"}), limits)
    gateway.clients.replace({hashlib.sha256(b"cgk_reporting").hexdigest(): client})


async def statuses(caller: Caller, *sent: bytes) -> list[int]:
    await caller.send(*sent, turns=60)
    return [answer.status for answer in caller.answers]


@pytest.mark.drill(
    "one client asks without end",
    planted="hits, misfits and more connections than it may have, by each way that a request can go",
    seen="429 with `Retry-After`, for it alone; no call",
)
@pytest.mark.parametrize("make", ROADS)
async def test_each_request_counts_whichever_way_it_goes(make: Callable[[], Gateway]):
    async with running(make()) as gateway, calling(gateway) as caller:
        limit(gateway, ClientLimits((6, 3600.0)))
        assert await statuses(caller, *[GET] * 5, UNFIT, *[GET] * 3) == [*[200] * 5, 400, *[429] * 3]
        refused = caller.answers[-1]
        assert refused["Retry-After"] == "600"
        assert json.loads(refused.body)["type"] == "/problems/rate-limited"
        other = GET.replace(b"reporting", b"operations")
        assert (await statuses(caller, other))[-1] == 401, "its key is gone, but not for its rate"
        assert gateway.meter.events["request", "get", "reporting", "429", "none"] == 3


@pytest.mark.parametrize("make", ROADS)
async def test_a_connection_too_many_is_closed_and_the_others_go_on(make: Callable[[], Gateway]):
    async with running(make()) as gateway, calling(gateway) as caller:
        limit(gateway, ClientLimits(connections=1))
        assert await statuses(caller, *[GET] * 4) == [200] * 4
        async with calling(gateway) as late:
            assert await statuses(late, GET) == [429]
            assert late.is_closed
        assert await statuses(caller, GET) == [200] * 5
