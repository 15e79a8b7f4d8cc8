import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from campaign_gateway.contract.operations import (
    GET,
    LITERALS,
    OPERATIONS,
    Family,
    Kind,
    Operation,
    RequestBody,
    Shape,
    Subject,
    Tenant,
    build_call,
    operation,
)
from tests.support.builders import CAMPAIGN, row
from tests.support.requested import CASES
from tests.support.section_8 import PREFIXES, SECTION_8, Line

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
    asked = replace(row("x", Shape()), path="/{id}/y", query="campaignName={id}&trigger=play")
    call = build_call(asked, TENANT, {"id": value})
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


def test_no_body_is_an_empty_object_where_one_is_expected_and_none_where_it_is_not():
    # contract-8.4: status takes none or `{}`, schedule off `{}`; contract-2: some pages send nothing at all.
    for asked in OPERATIONS:
        assert build_call(asked, TENANT, VALUES).body == (b"{}" if asked.body is RequestBody.MAYBE_JSON else None)


VALUES = {"id": "x", "name": "n", "type": "voice"}


def line_of(asked: Operation) -> Line:
    """A row as a line of section 8."""
    return Line(asked.name, asked.kind, asked.method, asked.family.name, asked.path, asked.query, asked.body)


def test_the_rows_are_the_lines_of_the_contract_no_more_and_no_fewer():
    assert Counter(map(line_of, OPERATIONS)) == Counter(SECTION_8)


def test_families_are_the_contracts_and_tell_the_version():
    assert {family.name: family.value for family in Family} == PREFIXES
    for asked in OPERATIONS:
        assert asked.version == (1 if asked.family in {Family.B, Family.C} else 2)


def test_every_row_has_a_case_for_the_tests_from_outside_and_a_route_if_it_is_of_the_second_version():
    assert {f"{asked.name}-{asked.family.name}" for asked in OPERATIONS} == set(CASES)
    for asked in OPERATIONS:
        assert bool(CASES[f"{asked.name}-{asked.family.name}"].route) is (asked.version == 2)


def requests() -> list[tuple[str, str]]:
    """Method and target of each sample that answers an operation, each once."""
    rows = json.loads((SAMPLES / "manifest.json").read_text())["samples"]
    return sorted({(sample["method"], sample["path"]) for sample in rows if sample["method"] != "PATCH"})


def makers(method: str, target: str) -> list[Operation]:
    """The rows that make this request line, whatever their placeholders stand for."""
    tenant = json.loads((SAMPLES / "manifest.json").read_text())["tenant"]
    ids = [part for part in target.partition("?")[0].split("/") if part.startswith(("cd-", "cl-", "cid-"))]
    given = {"id": ids[0] if ids else "-", "name": "Harbor Lights Visit Survey"}
    who = Tenant(tenant["streamId"], tenant["accountId"], "")
    return [
        asked
        for asked in OPERATIONS
        for channel in (["voice", "sms"] if "{type}" in asked.query else [""])
        for call in [build_call(asked, who, {**given, "type": channel})]
        if (call.method, call.target) == (method, target)
    ]


@pytest.mark.parametrize(("method", "target"), requests())
def test_each_request_of_the_samples_is_made_by_exactly_one_row(method, target):
    assert len(makers(method, target)) == 1


def test_a_target_names_its_operation_once():
    # Else the platform could take one for another.
    lines = Counter(
        (asked.method, asked.family, asked.path, "&".join(part for part in asked.query.split("&") if "{" not in part))
        for asked in OPERATIONS
    )
    assert set(lines.values()) == {1}


def test_no_read_is_a_write_and_nothing_personal_has_a_cache_key():
    for asked in OPERATIONS:
        # contract-2: a GET never changes anything.
        assert asked.method != "GET" or asked.kind in {Kind.READ, Kind.READ_PERSONAL}
        assert (asked.name in {"outcomes", "contacts"}) is (asked.kind is Kind.READ_PERSONAL)


def test_the_versions_have_cache_keys_of_their_own():
    # contract-12.18: both show a campaign, in different ways.
    for asked in OPERATIONS:
        assert asked.resource == (asked.name if asked.version == 2 else f"{asked.name}-v1")


def test_the_subject_is_what_the_id_names():
    for asked in OPERATIONS:
        assert (asked.subject is Subject.CONTACT_LIST) is ("contactList" in asked.path)


def test_the_words_of_paths_are_no_ids():
    # contract-2: literals that sit where a campaign id sits.
    assert {"getAllCampaignDetails", "schedule", "trigger", "contactList"} <= LITERALS
    assert "{id}" not in LITERALS
    assert "" not in LITERALS


@pytest.mark.parametrize(
    ("name", "channel", "family", "path"),
    [
        ("create", "voice", None, "/campaign/api/v2/public/S/campaign"),
        ("create", "sms", None, "/campaign/api/v2/public/S/campaign"),
        ("create", "sms", Family.D, "/api/v2/public/S/campaign"),
        ("start", "voice", None, "/api/v2/public/S/campaign/trigger/x"),
        ("start", "sms", None, "/campaign/api/v2/public/S/campaign/x"),
        ("stop", "voice", None, "/api/v2/public/S/campaign/trigger/x"),
        ("stop", "sms", None, "/campaign/api/v2/public/S/campaign//trigger/x"),
    ],
)
def test_a_row_is_found_by_its_name_and_channel(name, channel, family, path):
    found = operation(name, channel=channel, family=family)
    assert build_call(found, Tenant("S", "A", "I"), VALUES).target.partition("?")[0] == path


def test_what_there_is_not_is_not_found():
    for wanted in ({"name": "pause"}, {"name": "call-back", "version": 1}, {"name": "get", "family": Family.D}):
        with pytest.raises(LookupError):
            operation(**wanted)


def test_get_is_a_plain_read_that_names_its_campaign():
    # contract-6: `_id`, `id` or `campId`, whichever is there.
    assert GET.kind is Kind.READ
    assert set(GET.answer.ids) == {"_id", "id", "campId"}
