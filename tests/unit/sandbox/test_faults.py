import asyncio

import pytest

from campaign_gateway.sandbox.canned import CANNED, LIMIT_FORMS, canned
from campaign_gateway.sandbox.distortions import DISTORTIONS
from campaign_gateway.sandbox.faults import DEFAULTS, FaultName, Faults, Parameters
from campaign_gateway.sandbox.operations import OperationName

GET, LIST = OperationName.GET, OperationName.LIST


@pytest.fixture
def faults():
    return Faults()


def test_every_fault_can_be_added_with_its_defaults(faults):
    for name in FaultName:
        document = faults.add(name).document()
        assert {key: document[key] for key in DEFAULTS[name]} == DEFAULTS[name]


@pytest.mark.parametrize(
    ("limits", "met"),
    [
        ({}, [True, True, True]),
        ({"operation": "get"}, [True, True, False]),
        ({"campaign": "cd-1"}, [True, False, False]),
        ({"operation": "list", "campaign": "cd-1"}, [False, False, False]),
        ({"times": 2}, [True, True, False]),
        ({"operation": "list", "times": 1}, [False, False, True]),
    ],
)
def test_what_a_fault_meets(faults, limits, met):
    fault = faults.add("reset", **limits)
    requests = [(GET, "cd-1"), (GET, "cd-2"), (LIST, "")]
    assert [bool(faults.meet(*request).faults) for request in requests] == met
    assert fault.met == sum(met)


def test_the_oldest_fault_stands_first(faults):
    faults.add("latency")
    old = faults.add("bad-gateway")
    faults.add("unavailable")
    met = faults.meet(GET, "cd-1")
    assert met.first(*CANNED) is old
    assert met.first(FaultName.RESET) is None
    assert met.names == ("latency", "bad-gateway", "unavailable")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"name": "earthquake"}, "no such fault"),
        ({"name": "reset", "operation": "dance"}, "no such operation"),
        ({"name": "reset", "seconds": 1}, "has no seconds"),
        ({"name": "cut-json", "performed": True}, "takes no parameters"),
        ({"name": "latency", "seconds": -1}, "must not be negative"),
        ({"name": "latency", "seconds": "1"}, "type float"),
        ({"name": "latency", "seconds": True}, "type float"),
        ({"name": "status", "status": 500.0}, "type int"),
        ({"name": "status", "status": 199}, "from 200 to 599"),
        ({"name": "status", "body": {}}, "type str"),
        ({"name": "redirect", "location": "/\r\nx: y"}, "fit into a header"),
        ({"name": "reset", "performed": 1}, "type bool"),
        ({"name": "reset", "times": 0}, "at least 1"),
        ({"name": "reset", "times": "1"}, "type int"),
    ],
)
def test_nonsense_is_refused(faults, given, complaint):
    with pytest.raises(ValueError, match=complaint):
        faults.add(given.pop("name"), **given)
    assert list(faults) == []


async def test_a_wait_ends_with_its_fault(faults):
    kept, removed = faults.add("hang"), faults.add("hang", times=1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        waits = [group.create_task(fault.pause()) for fault in (kept, removed)]
        await asyncio.sleep(0)
        assert faults.remove(removed.id)
        await waits[1]
        assert not waits[0].done()
        faults.clear()
    assert not faults.remove(kept.id)


async def test_a_pause_ends_by_itself(faults):
    await faults.add("latency").pause(0)


def test_every_fault_acts_somewhere():
    elsewhere = {
        FaultName.LATENCY,
        FaultName.HANG,
        FaultName.RESET,
        FaultName.CLOSE_IDLE,
        FaultName.CUT_BODY,
        FaultName.CUT_UNFRAMED,
        FaultName.SLOW_BODY,
        FaultName.LIST_UNSORTED,
        FaultName.LIST_LAG,
        FaultName.MARKS_FROZEN,
    }
    assert CANNED | DISTORTIONS.keys() | elsewhere == set(FaultName)


def test_limit_forms_differ():
    given = Parameters(retry_after_seconds=9)
    made = [canned(name, given, target="/x", now=0.0) for name in LIMIT_FORMS]
    assert len({(answer.status, tuple(answer.headers.items())) for answer in made}) == len(LIMIT_FORMS) == 6
    assert all(b"exceeded the per-minute rate limit" in answer.body for answer in made)
