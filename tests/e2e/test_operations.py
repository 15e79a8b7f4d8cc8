"""Every operation from outside, by the gateway's own routes and by the platform's paths; the platform's log judges."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.estate import CALLER, Estate, estate
from tests.support.requested import CASES, Asked, each, filled
from tests.support.section_8 import Line

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(1, tmp_path_factory.mktemp("operations")) as made:
        yield made


def judge(one: Estate, line: Line, asked: Asked, channel: str, since: int) -> None:
    """One call has arrived, and it is the documented one."""
    sandbox = one.sandbox
    (arrival,) = sandbox.log.since(since)
    assert (arrival.method, arrival.target) == (line.method, filled(line.target, sandbox, asked, channel))
    assert arrival.status == 200, arrival.reason
    assert arrival.iid == sandbox.config.app_id != sandbox.config.stream_id
    assert arrival.account_id == sandbox.config.account_id
    assert arrival.content_type == "application/json"
    assert arrival.claims is not None
    assert arrival.claims["appId"] == sandbox.config.client_id
    assert CALLER["auth"] not in repr(arrival)
    if asked.arrives is not None:
        assert json.loads(arrival.body) == asked.arrives
    else:
        assert arrival.body == (asked.sent or b"").decode()


@pytest.mark.parametrize(("line", "channel"), each(families="ADE"))
async def test_each_operation_by_its_route_arrives_as_documented(one: Estate, line: Line, channel: str) -> None:
    asked = CASES[line.key].prepare(one.sandbox, channel)
    method, path = filled(CASES[line.key].route, one.sandbox, asked, channel).split(" ")
    if line.name in {"delete", "start", "stop"}:
        # Else the gateway would look at the campaign first.
        path += f"?type={channel}"
    since = one.sandbox.log.count
    answer = await one.ask(
        f"{method} /v1{path}", body=asked.sent if method != "GET" else None, headers={"Cache-Control": "no-cache"}
    )
    assert answer.status == 200, answer.body
    if line.name == "outcomes":
        asked = Asked(asked.campaign, asked.contact_list, asked.values, None, {"page": 1, "limit": 100})
    judge(one, line, asked, channel, since)


@pytest.mark.parametrize(("line", "channel"), each())
async def test_each_operation_by_the_platforms_path_arrives_as_documented(
    one: Estate, line: Line, channel: str
) -> None:
    asked = CASES[line.key].prepare(one.sandbox, channel)
    since = one.sandbox.log.count
    target = filled(line.target, one.sandbox, asked, channel).replace(
        one.sandbox.config.account_id, "5f0000000000000000000000"
    )
    answer = await one.ask(f"{line.method} {target}", body=asked.sent, headers={**CALLER, "Cache-Control": "no-cache"})
    assert answer.status == 200, answer.body
    judge(one, line, asked, channel, since)


@pytest.mark.parametrize(("line", "channel"), each(kinds="R RP", families="A"))
@pytest.mark.parametrize("route_first", [True, False], ids=["route-first", "path-first"])
async def test_both_doors_lead_to_one_cache_entry(one: Estate, line: Line, channel: str, route_first: bool) -> None:
    asked = CASES[line.key].prepare(one.sandbox, channel)
    method, path = filled(CASES[line.key].route, one.sandbox, asked, channel).split(" ")
    doors = [
        (f"{method} /v1{path}", None),
        (f"{line.method} {filled(line.target, one.sandbox, asked, channel)}", asked.sent),
    ]
    (first, first_body), (second, second_body) = doors if route_first else doors[::-1]
    fresh = await one.ask(first, body=first_body, headers={"Cache-Control": "no-cache"})
    since = one.sandbox.log.count
    kept = await one.ask(second, body=second_body)
    async with asyncio.timeout(20):
        # The reply may be here before the store has it, and what another case has left is fresh until then.
        while kept.body != fresh.body:
            kept = await one.ask(second, body=second_body)
    assert (fresh.status, kept.status) == (200, 200)
    # On its way into the store, the answer is joined.
    assert kept.cache.startswith("campaign-gateway; hit;") or "; collapsed; " in kept.cache
    assert kept.headers["ETag"] == fresh.headers["ETag"]
    assert one.sandbox.log.count == since


@pytest.mark.parametrize(("line", "channel"), each(kinds="RX"))
async def test_personal_data_is_asked_for_each_time_and_not_to_be_kept(one: Estate, line: Line, channel: str) -> None:
    asked = CASES[line.key].prepare(one.sandbox, channel)
    target = filled(line.target, one.sandbox, asked, channel)
    since = one.sandbox.log.count
    for _ in range(2):
        answer = await one.ask(f"{line.method} {target}", body=asked.sent)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers
        assert answer.cache == "campaign-gateway; fwd=bypass; fwd-status=200"
    assert one.sandbox.log.count == since + 2
