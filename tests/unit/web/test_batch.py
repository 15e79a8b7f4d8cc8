import json
from dataclasses import replace
from typing import Any

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.stored import Absence
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Outcome, Reply
from campaign_gateway.web.batch import MOST_BYTES, render_batch
from tests.unit.web.conftest import BODY, ENTRY, HIT

ABSENT = replace(ENTRY, body=b"", absence=Absence(400, "400", "Campaign not found"))
SPENT = Reply(Outcome(detail=Detail.BUDGET), failure=Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=3.0))
MISS = Reply(Outcome(Fwd.URI_MISS, 200, stored=True, ttl=30.0), ENTRY, None, 0.2, 30.0)


PLAIN: CIMultiDictProxy[str] = CIMultiDictProxy(CIMultiDict())


def rows(response) -> list[dict[str, Any]]:
    document = json.loads(response.body)
    assert document.keys() == {"results"}
    return list(document["results"])


def test_each_id_has_its_row_in_the_order_asked():
    other = replace(ENTRY, body=b'{"status": "success", "data": {"_id": "b", "n": 1.50}}')
    response = render_batch(
        ["b", "a", "b"], [replace(HIT, entry=other, age=7.9), HIT, replace(HIT, entry=other)], "r", PLAIN
    )
    found = rows(response)
    assert [row["id"] for row in found] == ["b", "a", "b"]
    assert found[0] == {"id": "b", "status": 200, "etag": other.etag, "age": 7, "campaign": {"_id": "b", "n": 1.5}}
    assert '{"_id": "b", "n": 1.50}' in str(response.text), "as stored"
    assert found[1]["campaign"] == json.loads(BODY)["data"]


def test_a_part_without_an_answer_has_its_problem_and_the_others_theirs():
    response = render_batch(["a", "b", "c"], [SPENT, replace(HIT, entry=ABSENT), HIT], "r-1", PLAIN)
    found = rows(response)
    assert response.status == 200
    assert found[0].keys() == found[1].keys() == {"id", "status", "problem"}
    assert (found[0]["status"], found[0]["problem"]["type"]) == (503, "/problems/budget-exhausted")
    assert (found[1]["status"], found[1]["problem"]["type"]) == (404, "/problems/campaign-not-found")
    assert found[1]["problem"]["upstream_message"] == "Campaign not found"
    assert {row["problem"]["request_id"] for row in found[:2]} == {"r-1"}
    assert found[2]["status"] == 200


@pytest.mark.drill("structure that takes long to read")
def test_campaigns_beyond_what_one_answer_holds_are_to_be_asked_for_by_themselves():
    large = replace(HIT, entry=replace(ENTRY, body=b'{"data":{"a":"' + b"x" * (MOST_BYTES // 2) + b'"}}'))
    found = rows(render_batch(["a", "b", "c"], [large, large, HIT], "r", PLAIN))
    assert [row["status"] for row in found] == [200, 413, 413]
    assert found[1]["problem"]["type"] == "/problems/too-large"


@pytest.mark.drill("odd text and numbers")
@pytest.mark.parametrize(
    ("body", "campaign"),
    [
        (b'\xef\xbb\xbf{"data":{"a":1}}', b'{"a":1}'),
        (b'{"\\ud800":1,"data":{"\\udfff":"\\ud800"}}', b'{"\\udfff":"\\ud800"}'),
        (b'{"data":{"a": 12345678901234567890.123456789}}', b'{"a": 12345678901234567890.123456789}'),
    ],
)
def test_an_odd_campaign_costs_the_others_nothing_and_is_spelled_as_it_was(body: bytes, campaign: bytes):
    replies = [HIT, replace(HIT, entry=replace(ENTRY, body=body))]
    response = render_batch(["c-1", "odd"], replies, "r-1", PLAIN)
    assert isinstance(response.body, bytes)
    assert response.status == 200
    assert b'"campaign":' + campaign in response.body


def test_the_whole_is_not_to_be_kept():
    response = render_batch(["a"], [HIT], "r-1", PLAIN)
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-ID"] == "r-1"
    for field in ("ETag", "Age", "Last-Modified"):
        assert field not in response.headers


def test_it_is_a_hit_if_every_part_was_one():
    near = replace(HIT, outcome=Outcome(ttl=5.0))
    assert render_batch(["a", "b"], [HIT, near], "r", PLAIN).headers["Cache-Status"] == "campaign-gateway; hit; ttl=5"
    assert render_batch(["a", "b"], [HIT, MISS], "r", PLAIN).headers["Cache-Status"] == (
        "campaign-gateway; fwd=uri-miss; fwd-status=200"
    )
    assert (
        render_batch(["a", "b"], [HIT, SPENT], "r", PLAIN).headers["Cache-Status"] == "campaign-gateway; detail=budget"
    )


async def test_all_parts_are_asked_for_at_once_with_their_fields(front):
    answer = await front.ask("/v1/campaigns?ids=b,a,b&fields=name,status")
    assert answer.status == 200
    assert [(asked.id, asked.operation.name, asked.fields) for asked in front.exchange.requests] == [
        ("b", "get", {"name", "status"}),
        ("a", "get", {"name", "status"}),
        ("b", "get", {"name", "status"}),
    ]
    assert front.meter.events == {("request", "batch", "reporting", "200", "none"): 1, ("served", "batch"): 3}


async def test_head_of_a_batch_is_the_same_without_its_body(front):
    whole, head = await front.ask("/v1/campaigns?ids=a"), await front.ask("/v1/campaigns?ids=a", method="HEAD")
    assert (head.status, head.body, head["Content-Length"]) == (200, b"", whole["Content-Length"])
