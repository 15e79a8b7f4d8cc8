import json
from dataclasses import replace
from pathlib import Path

import pytest

from service.contract.operations import GET, OPERATIONS, Family, Kind, Shape, Tenant, build_call
from tests.support.builders import CAMPAIGN, row

SAMPLES = Path(__file__).parents[2] / "samples"
TENANT = Tenant(stream="st-1d0c7a94", account="65f0a1b2c3d4e5f60718293a", app="app-77")


def test_get_is_the_documented_call():
    # contract-8.1: the request of the first by-id sample, to the byte.
    manifest = json.loads((SAMPLES / "manifest.json").read_text())
    tenant, sample = manifest["tenant"], manifest["samples"][0]
    call = build_call(GET, Tenant(tenant["streamId"], tenant["accountId"], "app-77"), {"id": CAMPAIGN})
    assert (call.method, call.target) == (sample["method"], sample["path"])
    assert call.body is None


def test_headers_carry_the_tenant_and_no_token():
    # contract-2: `iid` is the application, which may differ from the stream in the path; the token is put on later.
    call = build_call(GET, TENANT, {"id": CAMPAIGN})
    assert call.headers == {"iid": "app-77", "accountId": TENANT.account, "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("family", "target"),
    [
        pytest.param(Family.A, "/campaign/api/v2/public/st-1d0c7a94/x", id="contract-1-family-A"),
        pytest.param(Family.B, "/agentassist/api/v1/public/st-1d0c7a94/x", id="contract-1-family-B"),
        pytest.param(Family.C, "/campaign/api/v1/public/st-1d0c7a94/x", id="contract-1-family-C"),
        pytest.param(Family.D, "/api/v2/public/st-1d0c7a94/x", id="contract-1-family-D"),
        pytest.param(Family.E, "/api/1.1/public/st-1d0c7a94/x", id="contract-1-family-E"),
    ],
)
def test_a_family_is_a_path_prefix(family: Family, target: str):
    assert build_call(replace(row("x", Shape()), family=family), TENANT, {}).target == target


@pytest.mark.parametrize(
    ("value", "in_path"),
    [
        pytest.param("Tide Festival", "Tide%20Festival", id="contract-2-space"),
        pytest.param("a|b", "a%7Cb", id="contract-2-bar"),
        pytest.param("a/b", "a%2Fb", id="contract-2-slash"),
        pytest.param("a?b#c", "a%3Fb%23c", id="query-and-fragment"),
        pytest.param("a&b=c", "a%26b%3Dc", id="another-parameter"),
        pytest.param("100%25", "100%2525", id="percent"),
        pytest.param("a\r\nb", "a%0D%0Ab", id="line-break"),
        pytest.param("caf\u00e9", "caf%C3%A9", id="utf-8"),
        pytest.param("{stream}", "%7Bstream%7D", id="a-placeholder-is-text"),
        pytest.param("CD-4F", "CD-4F", id="contract-12.7-case-kept"),
    ],
)
def test_values_are_encoded_in_path_and_query(value: str, in_path: str):
    operation = replace(row("x", Shape()), path="/{id}/y", query=(("campaignName", "{id}"), ("trigger", "play")))
    call = build_call(operation, TENANT, {"id": value})
    assert call.target == f"{Family.A.format(stream=TENANT.stream)}/{in_path}/y?campaignName={in_path}&trigger=play"


def test_the_tenant_is_encoded_too():
    call = build_call(GET, Tenant("st/../x", "a&b", "app"), {"id": "c"})
    assert call.target == "/campaign/api/v2/public/st%2F..%2Fx/campaign/c?accountId=a%26b"


def test_no_query_no_question_mark():
    assert "?" not in build_call(row("x", Shape()), TENANT, {}).target


def test_a_body_is_passed_on():
    assert build_call(row("x", Shape()), TENANT, {}, b'{"type": "sms"}').body == b'{"type": "sms"}'


def test_a_placeholder_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="id"):
        build_call(GET, TENANT, {})


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_every_row_can_be_built(operation):
    values = dict.fromkeys(("id", "name", "list", "instance", "type", "trigger", "enabled"), "x")
    call = build_call(operation, TENANT, values)
    assert call.target.startswith(operation.family.format(stream=TENANT.stream) + "/")
    assert not set("{} ") & set(call.target)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_a_row_is_found_by_its_name_and_only_reads_are_reads(operation):
    assert OPERATIONS[operation.name] is operation
    # contract-2: a GET never changes anything, so a write row cannot be one.
    assert operation.method != "GET" or operation.kind in {Kind.READ, Kind.READ_PERSONAL}


def test_get_is_a_plain_read_that_names_its_campaign():
    # contract-6: `_id`, `id` or `campId`, whichever is there.
    assert GET.kind is Kind.READ
    assert set(GET.answer.ids) == {"_id", "id", "campId"}
