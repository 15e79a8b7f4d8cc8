import json
from pathlib import Path

import pytest

from campaign_gateway.contract.operations import (
    LITERALS,
    OPERATIONS,
    Family,
    Kind,
    Operation,
    RequestBody,
    Tenant,
    build_call,
)
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.web.platform_paths import find, is_platform_path, platform_error, render_platform_failure
from campaign_gateway.web.rejected import RejectedError
from campaign_gateway.web.routes import Action, Target

SAMPLES = Path(__file__).parents[2] / "samples"
MANIFEST = json.loads((SAMPLES / "manifest.json").read_text())
TENANT = Tenant("st-1", "acc-1", "st-1")
VALUES = {"id": "cd-1", "name": "Harbor Lights | 5/7", "type": "voice"}
A, B, C, D, E = (family.value.format(stream="st-1") for family in Family)
ALL = [pytest.param(row, id=f"{row.name}-{row.family.name}-{row.path[-8:]}") for row in OPERATIONS]


def target_of(row: Operation) -> str:
    return build_call(row, TENANT, VALUES).target


def refusal(method: str, target: str) -> RejectedError:
    with pytest.raises(RejectedError) as refused:
        find(method, target)
    return refused.value


def problem(method: str, target: str) -> Problem:
    return refusal(method, target).failure.problem


# What is documented.


@pytest.mark.parametrize("row", ALL)
def test_each_rows_own_request_finds_that_row(row: Operation):
    target = find(row.method, target_of(row))
    assert target.operation == row
    assert target.stream_id == "st-1"
    assert target.stream is None
    assert target.id == ("cd-1" if "{id}" in row.path else "")
    assert target.name == row.name
    assert target.scope == ("write" if row.kind is Kind.WRITE else "read")
    assert target.action is (Action.READ if row.kind in {Kind.READ, Kind.READ_BY_POST} else Action.SEND)
    assert target.body is None
    assert target.fields is None


SAMPLED = {(row["file"], row["method"], row["path"]) for row in MANIFEST["samples"] if row["method"] != "PATCH"}


@pytest.mark.parametrize(("file", "method", "path"), sorted(SAMPLED))
def test_each_sample_finds_the_row_that_makes_its_request(file, method, path):
    found = find(method, path)
    assert found.operation is not None
    assert found.stream_id == MANIFEST["tenant"]["streamId"]
    values = {"id": found.id, "name": found.parameters.get("campaignName", ""), "type": ""}
    values["type"] = found.parameters.get("type", "")
    tenant = Tenant(MANIFEST["tenant"]["streamId"], MANIFEST["tenant"]["accountId"], "")
    call = build_call(found.operation, tenant, values)
    assert (call.method, call.target) == (method, path)


def test_a_type_and_a_name_come_along():
    assert find("POST", f"{A}/campaign?campaignType=sms").parameters == {"type": "sms"}
    assert find("POST", f"{A}/campaign").parameters == {}
    target = find("POST", f"{A}/campaign/schedule?enableSchedule=true&campaignName=Harbor%20Lights+%7C%205%2F7")
    assert target.parameters == {"campaignName": "Harbor Lights | 5/7"}


# The quirks of contract section 2.


def read_of(target: Target) -> tuple[str, str, str]:
    assert target.operation is not None
    return target.name, target.operation.family.name, target.id


@pytest.mark.parametrize(
    ("method", "target", "found"),
    [
        pytest.param("GET", f"{A}//campaign//cd-1?accountId=x", ("get", "A", "cd-1"), id="double-slashes"),
        pytest.param("GET", f"/{A}/campaign/cd-1", ("get", "A", "cd-1"), id="a-double-slash-first"),
        pytest.param("GET", f"{A}/campaign/cd-1/?accountId=x", ("get", "A", "cd-1"), id="a-trailing-slash"),
        pytest.param("GET", f"{A}/%63ampaign/cd%2D1", ("get", "A", "cd-1"), id="encoded-letters"),
        pytest.param("GET", f"{A}/campaign/contact%4Cist/cl-1", ("contact-list-get", "A", "cl-1"), id="encoded-literal"),
        pytest.param("GET", f"{A}/campaign/cd-1", ("get", "A", "cd-1"), id="12.14-no-account"),
        pytest.param("GET", f"{A}/campaign/cd-1?accountId=another", ("get", "A", "cd-1"), id="another-account"),
        pytest.param("GET", f"{A}/campaign/cd-1?accountId=a&accountID=b", ("get", "A", "cd-1"), id="two-accounts"),
        pytest.param("GET", f"{A}/campaign/cd-1?x=1&y", ("get", "A", "cd-1"), id="12.14-more-parameters"),
        pytest.param("GET", f"{A}/campaign/CD-1", ("get", "A", "CD-1"), id="12.7-case-kept"),
        pytest.param("HEAD", f"{A}/campaign/cd-1", ("get", "A", "cd-1"), id="head"),
        pytest.param("POST", f"{A}/campaign/cd-1/status?VIEW=status", ("status", "A", "cd-1"), id="12.14-names-in-other-case"),
        pytest.param("GET", f"{A}/campaign/cd-1/status?view=status", ("status", "A", "cd-1"), id="12.16-get-for-post"),
        pytest.param("GET", f"{A}/campaign/cd-1/status?view=contacts", ("outcomes", "A", "cd-1"), id="12.16-personal"),
        pytest.param("GET", f"{A}/campaign/contactList/getAllListDetails?type=call", ("contact-list-list", "A", ""), id="get-of-lists"),
        pytest.param("GET", f"{B}/campaign/contactList/getAllListDetails", ("contact-list-list", "B", ""), id="without-its-only-type"),
        pytest.param(
            "POST", f"{A}/campaign?accountId=x\\&campaignType=voice\\", ("create", "A", ""), id="backslash-before-ampersand"
        ),
        pytest.param(
            "POST",
            f"{D}/campaign/trigger/cd-1?accountId=x\\&campaignType=voice\\&trigger=play",
            ("start", "D", "cd-1"),
            id="backslashes-in-a-trigger",
        ),
        pytest.param(
            "POST", f"{D}/campaign/trigger/cd-1?campaignType=voice%5C&trigger=stop", ("stop", "D", "cd-1"), id="encoded-backslash"
        ),
        pytest.param("POST", f"{A}/campaign/trigger/cd-1?campaignType=sms&trigger=stop", ("stop", "A", "cd-1"), id="one-slash-stop"),
        pytest.param("POST", f"{C}/campaign/cd-1?trigger=play", ("start", "C", "cd-1"), id="v1-start-without-a-type"),
        pytest.param("DELETE", f"{B}/campaign/cd-1", ("delete", "B", "cd-1"), id="delete-without-a-type"),
        pytest.param("POST", f"{A}/campaign/schedule?campaignName=a&enableSchedule=false", ("schedule-off", "A", ""), id="schedule"),
        pytest.param("POST", f"{D}/campaign?campaignType=sms&campaignType=sms", ("create", "D", ""), id="said-twice-the-same"),
    ],
)  # fmt: skip
def test_a_documented_quirk_is_understood(method, target, found):
    assert read_of(find(method, target)) == found


@pytest.mark.parametrize(
    ("method", "target"),
    [
        pytest.param("POST", f"{A}/campaign/cd-1", id="POST-on-a-read-without-a-trigger"),
        pytest.param("POST", f"{A}/campaign/cd-1?campaignType=sms", id="no-trigger"),
        pytest.param("POST", f"{A}/campaign/cd-1?trigger=play", id="no-type-where-the-path-serves-one"),
        pytest.param("POST", f"{A}/campaign/cd-1?campaignType=voice&trigger=play", id="voice-on-the-sms-path"),
        pytest.param("POST", f"{A}/campaign/cd-1?campaignType=sms&trigger=pause", id="6-pause"),
        pytest.param("POST", f"{A}/campaign/cd-1?campaignType=sms&trigger=stop", id="stop-where-start-is"),
        pytest.param("POST", f"{C}/campaign/cd-1?campaignType=sms&trigger=replay", id="6-replay"),
        pytest.param("POST", f"{C}/campaign/cd-1?campaignType=fax&trigger=play", id="another-type"),
        pytest.param("POST", f"{C}/campaign/cd-1?campaignType=sms&trigger=play&trigger=stop", id="two-triggers"),
        pytest.param("POST", f"{C}/campaign/cd-1?trigger=play&TRIGGER=stop", id="two-triggers-in-other-case"),
        pytest.param("POST", f"{D}/campaign/trigger/cd-1?campaignType=sms&trigger=play", id="sms-on-the-voice-path"),
        pytest.param("POST", f"{D}/campaign?campaignType=voice", id="voice-on-the-advanced-sms-path"),
        pytest.param("POST", f"{D}/campaign", id="no-type-on-the-advanced-sms-path"),
        pytest.param("POST", f"{A}/campaign?campaignType=email", id="no-such-type"),
        pytest.param("POST", f"{A}/campaign/cd-1/status", id="no-view"),
        pytest.param("GET", f"{A}/campaign/cd-1/status?view=all", id="no-such-view"),
        pytest.param("GET", f"{A}/campaign/cd-1/status?view=status&view=contacts", id="two-views"),
        pytest.param("POST", f"{A}/campaign/schedule?enableSchedule=true", id="schedule-of-nothing"),
        pytest.param("POST", f"{A}/campaign/schedule?campaignName=a", id="neither-on-nor-off"),
        pytest.param("POST", f"{A}/campaign/schedule?enableSchedule=yes&campaignName=a", id="schedule-yes"),
        pytest.param("POST", f"{A}/campaign/schedule?enableSchedule=true&campaignName=a%00", id="an-unprintable-name"),
        pytest.param("POST", f"{A}/campaign/contactList/getAllListDetails?type=mail", id="another-list-of-lists"),
        pytest.param("GET", f"{A}/campaign/a%2fb", id="an-encoded-slash-in-an-id"),
        pytest.param("GET", f"{A}/campaign/..", id="dots-as-an-id"),
        pytest.param("GET", f"{A}/campaign/%2e%2e", id="encoded-dots-as-an-id"),
        pytest.param("GET", f"{A}/campaign/a%00", id="NUL-in-an-id"),
        pytest.param("GET", f"{A}/campaign/a%0d%0ab", id="line-break-in-an-id"),
        pytest.param("GET", f"{A}/campaign/" + "a" * 129, id="an-id-too-long"),
        pytest.param("GET", f"{A}/campaign/{{campaignId}}", id="a-placeholder-left-in"),
    ],
)  # fmt: skip
def test_what_fits_no_documented_operation_is_refused(method, target):
    assert problem(method, target) is Problem.INVALID_REQUEST


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(f"{A}/campaign/cd-1/pause", id="unknown-operation"),
        pytest.param(f"{A}/campaign/cd-1/../cd-2", id="dot-segments"),
        pytest.param(f"{A}/x/../campaign/cd-1", id="dot-segments-before"),
        pytest.param(f"{A}/campaign/cd-1/status/x", id="too-deep"),
        pytest.param(f"{A}", id="a-stream-alone"),
        pytest.param(f"{A}/", id="a-stream-and-a-slash"),
        pytest.param(f"{A}/Campaign/cd-1", id="paths-are-case-sensitive"),
        pytest.param(f"{A}/campaign%2Fcd-1", id="an-encoded-slash"),
        pytest.param(f"{C}/campaign/cd-1/status?view=status", id="not-in-this-family"),
        pytest.param(f"{E}/campaign/cd-1", id="not-in-family-E"),
        pytest.param(f"{D}/campaign/cd-1", id="not-in-family-D"),
        pytest.param(f"{B}/campaign/schedule", id="no-v1-schedule"),
        pytest.param(f"{A}/campaign/trigger", id="a-trigger-of-nothing"),
        *(pytest.param(f"{A}/campaign/{word}/status", id=f"literal-{word}-as-an-id") for word in sorted(LITERALS)),
    ],
)
def test_a_path_without_an_operation_is_not_found(target):
    for method in ("GET", "POST", "PUT", "DELETE"):
        error = refusal(method, target)
        assert (error.failure.problem, error.operation) == (Problem.NOT_FOUND, None)


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", f"{A}/campaign", "POST"),
        ("PATCH", f"{A}/campaign/cd-1", "DELETE, GET, HEAD, POST, PUT"),
        ("GET", f"{D}/campaign/trigger/cd-1?campaignType=voice&trigger=play", "POST"),
        ("PUT", f"{A}/campaign/getAllCampaignDetails", "GET, POST"),
        ("DELETE", f"{A}/campaign/schedule?enableSchedule=true&campaignName=a", "POST"),
        ("GET", f"{C}/campaign/cd-1?campaignType=sms&trigger=play", "POST"),
        ("POST", f"{A}/campaign/contactList/cl-1", "DELETE, GET, HEAD, PUT"),
        ("HEAD", f"{A}/campaign/cd-1/status?view=contacts", "GET, POST"),
        ("post", f"{A}/campaign", "POST"),
    ],
)
def test_another_method_is_told_which_ones_there_are(method, target, allow):
    error = refusal(method, target)
    assert (error.failure.problem, error.allow, error.operation) == (Problem.METHOD_NOT_ALLOWED, allow, None)


@pytest.mark.parametrize("row", ALL)
def test_no_get_is_ever_taken_for_a_write_nor_a_write_for_a_read(row):
    """Whatever is said in its query or its path."""
    for method in ("GET", "HEAD"):
        if row.kind is Kind.WRITE:
            try:
                found = find(method, target_of(row))
            except RejectedError:
                continue
            assert found.scope == "read"
    assert find(row.method, target_of(row)).scope == ("write" if row.kind is Kind.WRITE else "read")


# What is the platform's, and what is not.


@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("rest", ["/campaign/cd-1", "/nothing/here", "", "?x"])
def test_the_five_prefixes_are_the_platforms(family, rest):
    assert is_platform_path(family.value.format(stream="st-1") + rest)
    assert is_platform_path("/" + family.value.format(stream="any") + rest)


@pytest.mark.parametrize(
    "target",
    [
        *("/", "", "*", "/v1/campaigns/a", "/campaign", "/campaign/api/v2/public", "/campaign/api/v2/public/"),
        *("/campaign/api/v3/public/st-1/campaign/a", "/api/v1/public/st-1/campaign/a", "/api/1.2/public/st-1/campaign"),
        *("/agentassist/api/v2/public/st-1/campaign/a", "/CAMPAIGN/api/v2/public/st-1/campaign/a"),
        *("/campaign%2Fapi/v2/public/st-1/campaign/a", "/v1/campaign/api/v2/public/st-1/campaign/a"),
        *(
            "http://host/campaign/api/v2/public/st-1/campaign/a",
            "/docs",
            "/openapi.json",
            "/?/campaign/api/v2/public/a",
        ),
    ],
)
def test_nothing_else_is(target):
    assert not is_platform_path(target)
    assert problem("GET", target) is Problem.NOT_FOUND


# Failures in the platform's shape.


@pytest.mark.parametrize(
    ("failure", "status", "msg", "code"),
    [
        pytest.param(Failure(Problem.UNAUTHENTICATED, "send a key"), 401, "Invalid SDK credentials: send a key", 4002, id="401"),
        pytest.param(Failure(Problem.FORBIDDEN, "no right"), 403, "Invalid SDK credentials: no right", 4002, id="403"),
        pytest.param(Failure(Problem.UNKNOWN_STREAM, "none"), 404, "Invalid SDK credentials: none", 4002, id="404-stream"),
        pytest.param(Failure(Problem.NOT_FOUND, "nothing here"), 404, "nothing here", 404, id="404-path"),
        pytest.param(Failure(Problem.METHOD_NOT_ALLOWED, "not this"), 405, "not this", 405, id="405"),
        pytest.param(Failure(Problem.INVALID_REQUEST, "no"), 400, "no", 400, id="400"),
        pytest.param(Failure(Problem.TOO_LARGE, "no"), 413, "no", 413, id="413"),
        pytest.param(Failure(Problem.INTERNAL, "no"), 500, "no", 500, id="500"),
        pytest.param(Failure(Problem.NOT_CACHED, "no"), 504, "no", 504, id="504-not-cached"),
        pytest.param(Failure(Problem.UPSTREAM_TIMEOUT, "late"), 504, "late", 504, id="504"),
        pytest.param(Failure(Problem.UPSTREAM_UNAVAILABLE, "gone"), 502, "gone", 502, id="502"),
        pytest.param(
            Failure(Problem.UPSTREAM_UNAVAILABLE, "x", upstream_status=500, upstream_message="oops", upstream_code="500"),
            502,
            "oops",
            500,
            id="502-with-the-platforms-words",
        ),
        pytest.param(
            Failure(Problem.CAMPAIGN_NOT_FOUND, "x", upstream_status=400, upstream_message="Campaign not found", upstream_code="400"),
            400,
            "Campaign not found",
            400,
            id="missing-as-it-was-told",
        ),
        pytest.param(
            Failure(Problem.UPSTREAM_REJECTED, "x", upstream_status=412, upstream_message="Validation", upstream_code="E12"),
            412,
            "Validation",
            "E12",
            id="rejected-as-it-was-told",
        ),
        pytest.param(
            Failure(Problem.UPSTREAM_REJECTED, "refused", upstream_status=422), 422, "refused", 422, id="rejected-without-a-word"
        ),
    ],
)  # fmt: skip
def test_a_failure_is_told_as_the_platform_would(failure, status, msg, code):
    told, body = platform_error(failure)
    assert told == status
    assert json.loads(body) == {"errors": [{"msg": msg, "code": code}]}


@pytest.mark.parametrize("spent", [Problem.BUDGET_EXHAUSTED, Problem.UPSTREAM_PAUSED, Problem.OVERLOADED])
def test_no_call_now_is_a_429_with_the_platforms_text(spent):
    failure = Failure(spent, "x", retry_after=3.2, upstream_code="7", upstream_message="y")
    response = render_platform_failure(failure, "r-1", {"Cache-Status": "z"})
    assert response.status == 429
    assert json.loads(str(response.text))["errors"] == [
        {"msg": "You've exceeded the per-minute rate limit. Please wait for sometime before retrying.", "code": 429}
    ]
    assert response.headers["Retry-After"] == "4"
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Cache-Status"] == "z"
    assert response.headers["X-Request-ID"] == "r-1"


@pytest.mark.parametrize("problem_", list(Problem))
def test_every_problem_has_a_shape_that_clients_of_the_platform_read(problem_):
    status, body = platform_error(Failure(problem_, "detail", upstream_code="9" * 5000))
    assert 400 <= status < 600
    (error,) = json.loads(body)["errors"]
    assert error.keys() == {"msg", "code"}
    assert isinstance(error["msg"], str)


def test_a_body_is_taken_where_the_row_takes_one():
    # contract-2: a POST with nothing in it, for what takes one or none.
    assert {row.name for row in OPERATIONS if row.body is RequestBody.NOTHING} == {
        *("get", "delete", "contact-list-get", "contact-list-delete", "contacts")
    }
