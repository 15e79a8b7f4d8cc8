import json
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.contract.answers import Answer, Flaw, Response, Verdict, classify, retry_wait
from campaign_gateway.contract.operations import GET, OPERATIONS, Kind, Operation, Shape, operation
from tests.support.builders import CAMPAIGN as ID
from tests.support.builders import JSON_TYPE, NOW, OTHER_CAMPAIGN, SAMPLES, envelope, errors, response, samples
from tests.support.builders import LIMIT_TEXT as LIMIT

OK, MISSING, REJECTED, UNAUTHORIZED, LIMITED, BROKEN = Verdict

OLDER_LIMIT = "Rate limit for this API has been reached. Please try again after some time."
PAGE = b"<html>\n<head><title>502 Bad Gateway</title></head>\n</html>"


def read(answer: Response, requested_id: str | None = ID, operation: Operation = GET) -> Answer:
    """What an answer means, to a by-id read unless a test says otherwise."""
    return classify(operation, requested_id, answer, NOW)


def success(**members: Any) -> dict[str, Any]:
    return envelope({"_id": ID, **members})


LIST, STATUS, OUTCOMES = operation("list"), operation("status"), operation("outcomes")
CREATED, UPDATED, DELETED = operation("create"), operation("update"), operation("delete")
STARTED, STOPPED = operation("start"), operation("stop")
SCHEDULED, UNSCHEDULED, CALLED_BACK = operation("schedule-on"), operation("schedule-off"), operation("call-back")
CONTACT_LIST, CONTACT_LISTS = operation("contact-list-get"), operation("contact-list-list")
CONTACT_LIST_CHANGED, CONTACTS_OF_IT = operation("contact-list-update"), operation("contacts")
CONTACTS_ADDED = operation("contacts-add")

PROGRESSIVE = OTHER_CAMPAIGN
PREVIEW = "cd-a63c0f9-de21-4b7c-8f05-e17b4d2a9c60"
SMS = "cd-b83d01f6-2c47-5e9a-8f10-6a4d9c7e2b55"
TEMPLATE = "cd-0e97c4a2-5d18-5b3f-9c71-f2a6083bd4e9"
ADVANCED = "cd-d15f6e80-a9b3-5274-86ce-49d70b1fc3a8"
CONTACTS = "cl-e05a9c3-1f7d-4b68-8a42-6d3b9e7f1c20"


class Expected(NamedTuple):
    verdict: Verdict
    requested_id: str | None = ID
    operation: Operation = GET
    flaw: Flaw | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    revision: str | None = None
    campaign_status: str | None = None


def refused(message: str, code: str | None = "4002") -> Expected:
    return Expected(UNAUTHORIZED, code=code, message=message)


SAMPLE_MEANS = {
    "campaign-voice-agentless.json": Expected(OK, revision="2026-02-03T14:06:48.902Z", campaign_status="Ready"),
    "campaign-voice-progressive.json": Expected(OK, PROGRESSIVE, revision="2026-02-04T15:00:02.511Z", campaign_status="Active"),
    "campaign-voice-preview.json": Expected(OK, PREVIEW, revision="2026-01-30T16:31:17.345Z", campaign_status="Stopped"),
    "campaign-sms-simple.json": Expected(OK, SMS, revision="2026-02-05T11:12:30.391Z", campaign_status="Ready"),
    "campaign-sms-template.json": Expected(OK, TEMPLATE, revision="2026-01-14T18:00:41.733Z", campaign_status="Completed"),
    "campaign-sms-advanced.json": Expected(OK, ADVANCED, revision="2026-02-01T12:45:09.006Z", campaign_status="Ready"),
    "campaign-v1-sms-advanced.json": Expected(OK, ADVANCED, revision="2026-02-01T12:45:09.006Z", campaign_status="Ready"),
    "campaign-voice-list.json": Expected(OK, None, LIST),
    "campaign-sms-list.json": Expected(OK, None, LIST),
    "campaign-sms-list-page-2.json": Expected(OK, None, LIST),
    "campaign-list-empty.json": Expected(OK, None, LIST),
    "campaign-status.json": Expected(OK, PROGRESSIVE, STATUS, campaign_status="Active"),
    "campaign-contact-outcomes.json": Expected(OK, None, OUTCOMES),
    "create-voice-agentless-result.json": Expected(OK, ID, CREATED, campaign_status="Preparing"),
    "create-sms-simple-result.json": Expected(OK, SMS, CREATED, campaign_status="Ready"),
    "create-voice-preview-v1-result.json": Expected(OK, PREVIEW, CREATED),
    "update-voice-result.json": Expected(OK, ID, UPDATED, campaign_status="Ready"),
    "update-sms-result.json": Expected(OK, ADVANCED, UPDATED, campaign_status="Ready"),
    "delete-sms-result.json": Expected(OK, TEMPLATE, DELETED, campaign_status="Completed"),
    "trigger-voice-start.json": Expected(OK, None, STARTED),
    "trigger-voice-stop.json": Expected(OK, None, STOPPED),
    "trigger-sms-start.json": Expected(OK, None, STARTED),
    "trigger-sms-stop.json": Expected(OK, None, STOPPED),
    "schedule-enabled.json": Expected(OK, None, SCHEDULED),
    "schedule-disabled.json": Expected(OK, None, UNSCHEDULED),
    "callback-partial-failure.json": Expected(OK, None, CALLED_BACK),
    "contact-list.json": Expected(OK, CONTACTS, CONTACT_LIST),
    "contact-lists.json": Expected(OK, None, CONTACT_LISTS),
    "contact-list-contacts.json": Expected(OK, CONTACTS, CONTACTS_OF_IT),
    "contact-list-update-result.json": Expected(OK, CONTACTS, CONTACT_LIST_CHANGED),
    "add-contacts-accepted.json": Expected(OK, None, CONTACTS_ADDED),
    "error-400-unknown-stream.json": Expected(REJECTED, code="400", message="Invalid StreamId"),
    "error-400-not-found.json": Expected(MISSING, code="400", message="Campaign not found"),
    "error-401-missing-token.json": refused("Invalid SDK credentials"),
    "error-401-bad-signature.json": refused("Invalid SDK credentials"),
    "error-401-not-a-jwt.json": refused("Invalid JWT token"),
    "error-401-expired-token.json": refused("error verifying the jwt: jwt expired", "401"),
    "error-401-jti-replay.json": refused("error verifying the jwt: possibly a replay", "401"),
    "error-401-jti-lifetime.json": refused('error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)', "401"),
    "error-401-scope.json": refused("Permission denied. Scope is incorrect!"),
    "error-401-scope-message-key.json": refused("Permission denied. Scope is incorrect!"),
    "error-403-scope.json": refused("Permission denied. Scope is incorrect!", "403"),
    "error-404.json": Expected(MISSING, message="Campaign not found"),
    "error-405.json": Expected(REJECTED, code="405", message="Method Not Allowed"),
    "error-412-validation.json": Expected(REJECTED, code="412", message="Validation errors/ Invalid arguments"),
    "error-429.json": Expected(LIMITED, code="429", message=LIMIT),
    "error-429-retry-after.json": Expected(LIMITED, code="429", message=LIMIT, retry_after=37.0),
    "error-500.json": Expected(BROKEN, flaw=Flaw.STATUS, code="500", message="Internal Server Error"),
    "error-200-status-error.json": Expected(BROKEN, flaw=Flaw.FAILING_BODY, message="Unable to fetch campaign details"),
    "error-200-status-capital.json": Expected(REJECTED, operation=UPDATED, message="Unable to complete the request."),
    "error-502.html": Expected(BROKEN, flaw=Flaw.HTML),
}  # fmt: skip


def test_every_sample_is_listed_and_has_an_expectation() -> None:
    files = {path.name for path in SAMPLES.iterdir()} - {"manifest.json"}
    assert set(samples()) == files
    assert set(SAMPLE_MEANS) == files


@pytest.mark.parametrize("file", sorted(samples()))
def test_sample(file: str) -> None:
    expected, sample = SAMPLE_MEANS[file], samples()[file]
    found = read(sample.response, expected.requested_id, expected.operation)
    assert found.response is sample.response
    assert (found.verdict, found.flaw, found.code, found.message, found.retry_after) == (
        expected.verdict,
        expected.flaw,
        expected.code,
        expected.message,
        expected.retry_after,
    )
    assert (found.content is not None) == (expected.verdict is OK)
    assert found.campaign_status == expected.campaign_status
    if expected.operation is GET:
        assert found.revision == expected.revision


OF_ANOTHER_OPERATION = {
    "campaign-voice-list.json": Flaw.WRONG_ID,
    "campaign-status.json": Flaw.WRONG_ID,
    "contact-list.json": Flaw.WRONG_ID,
    "contact-lists.json": Flaw.NO_DATA,
    "callback-partial-failure.json": Flaw.NO_DATA,
    "trigger-voice-start.json": Flaw.NO_DATA,
    "schedule-enabled.json": Flaw.NO_DATA,
    "add-contacts-accepted.json": Flaw.NO_DATA,
}


@pytest.mark.parametrize(("file", "flaw"), OF_ANOTHER_OPERATION.items())
def test_an_answer_to_another_question_is_no_campaign(file: str, flaw: Flaw) -> None:
    found = read(samples()[file].response)
    assert (found.verdict, found.flaw) == (BROKEN, flaw)


def test_the_get_row_takes_any_of_the_ids() -> None:
    assert GET.answer == Shape(dict, ("_id", "id", "campId"), status_is_flag=True, has_revision=True)


LIMITS = [
    pytest.param(response(errors(text, code=code), status), id=f"section-12.3-{name}-under-{status}")
    for name, text in {"text": LIMIT, "older-text": OLDER_LIMIT}.items()
    for status, code in ((200, 200), (400, 400), (403, "403"), (429, 429), (503, 503))
] + [
    pytest.param(response({"message": LIMIT}, 200), id="section-12.3-message-alone-under-200"),
    pytest.param(response({"status": "error", "message": LIMIT}, 200), id="section-12.2-failing-status-under-200"),
    pytest.param(response({"status": "error", "message": LIMIT, "data": {"_id": ID}}, 200), id="failing-status-with-data"),
    pytest.param(response({"message": "API RATE LIMIT exceeded"}, 400), id="any-letter-case"),
    pytest.param(response({"errors": [{"message": LIMIT}]}, 400), id="section-12.4-message-for-msg"),
    pytest.param(response({"errors": {"msg": LIMIT}}, 400), id="section-12.4-one-error-without-a-list"),
    pytest.param(response({"errors": [LIMIT]}, 400), id="section-12.4-a-bare-text"),
    pytest.param(response(errors("Something else", LIMIT), 400), id="section-12.4-the-second-of-two"),
    pytest.param(response({"message": LIMIT, "data": None}, 400), id="null-data-beside-the-text"),
    pytest.param(response(b"", 429), id="429-empty"),
    pytest.param(response(PAGE, 429, "text/html"), id="429-page"),
    pytest.param(response(b'{"errors"', 429), id="429-cut"),
]  # fmt: skip


@pytest.mark.parametrize("answer", LIMITS)
def test_the_limit_wherever_its_text_stands(answer: Response) -> None:
    assert read(answer).verdict is LIMITED


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(success(name="Rate limit drill", description=LIMIT), id="rate-limit-in-the-campaign"),
        pytest.param(success(name="Campaign not found"), id="not-found-in-the-campaign"),
        pytest.param({**success(), "message": f"Campaign {LIMIT} retrieved successfully"}, id="rate-limit-in-message"),
        pytest.param({**success(), "message": "Campaign Does not exist retrieved successfully"}, id="not-found-in-message"),
        pytest.param({**success(), "errors": []}, id="empty-errors"),
        pytest.param({**success(), "errors": None}, id="null-errors"),
        pytest.param({"data": {"_id": ID}}, id="section-12.1-status-absent"),
        pytest.param({**success(), "status": "SUCCESS"}, id="section-12.1-any-letter-case"),
        pytest.param({**success(), "status": "Active"}, id="section-12.1-a-campaign-status"),
        pytest.param({**success(), "status": 200}, id="section-12.1-a-number"),
        pytest.param({**success(), "trace": [1]}, id="section-12.4-unknown-keys"),
        pytest.param({"data": {"id": ID}}, id="section-12.8-id"),
        pytest.param({"data": {"campId": ID}}, id="section-12.8-campId"),
        pytest.param({"data": {"_id": ID, "id": "0", "campId": None}}, id="section-12.8-several"),
        pytest.param({"data": {"_id": "internal", "id": ID}}, id="section-12.8-several-with-the-asked-one-second"),
        pytest.param(success(priority=5, enableMachineDetect="no", dncLists=None), id="section-12.10-other-scalars"),
        pytest.param(success(status="Run as Emergency"), id="section-12.11-unknown-status"),
        pytest.param(success(name="\ud800"), id="lone-surrogate"),
    ],
)  # fmt: skip
def test_success(body: dict[str, Any]) -> None:
    for status in (200, 201, 202):
        found = read(response(body, status))
        assert (found.verdict, found.flaw, found.code, found.message) == (OK, None, None, None), status


@pytest.mark.parametrize("name", ["Rate limit drill", "Campaign not found"])
def test_a_name_in_the_message_of_a_success_without_data(name: str) -> None:
    body = {"status": "success", "message": f"Campaign {name} scheduled successfully", "id": ID}
    assert read(response(body), None, SCHEDULED).verdict is OK


@pytest.mark.parametrize("content_type", ["text/html", "", "text/plain", "application/octet-stream"])
def test_json_under_another_label_is_read(content_type: str) -> None:
    """CONTRACT section 12.20."""
    assert read(response(success(), content_type=content_type)).verdict is OK
    assert read(response(errors("Campaign not found"), 400, content_type)).verdict is MISSING
    assert read(response(errors("No scope"), 403, content_type)).verdict is UNAUTHORIZED


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 410, 412, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(PAGE, "text/html; charset=utf-8", id="labelled"),
        pytest.param(b"", "text/html", id="empty"),
        pytest.param(b"Not here", "application/xhtml+html", id="text-labelled-as-a-page"),
        pytest.param(PAGE, "", id="unlabelled"),
        pytest.param(b" \r\n\t<!DOCTYPE html><p>", "application/json", id="mislabelled"),
    ],
)
def test_a_page_is_never_the_platforms_word(status: int, body: bytes, content_type: str) -> None:
    """CONTRACT section 12.2."""
    found = read(response(body, status, content_type))
    assert (found.verdict, found.flaw) == (BROKEN, Flaw.HTML)


@pytest.mark.parametrize("before", [b"\n" * 100, b"\xef\xbb\xbf"], ids=["blank-lines", "byte-order-mark"])
def test_a_page_without_a_label_is_known_by_its_first_sign(before: bytes) -> None:
    assert read(response(before + PAGE, 404, "")).flaw is Flaw.HTML


def test_a_refused_credential_needs_no_readable_body() -> None:
    for body in (b"", PAGE, b"{", b"[]"):
        assert read(response(body, 401, "text/html")).verdict is UNAUTHORIZED
    for body in (b"", b"{", b"[]"):
        assert read(response(body, 403)).verdict is UNAUTHORIZED


TEXTS_OF_MISSING = [
    "Campaign not found",
    "Campaign NOT FOUND",
    "The campaign could not be found",
    "Campaign does not exist",
    "This campaign doesn't exist",
    "No such campaign",
    "Could not find the campaign",
    "Unable to find campaign",
    "Cannot find campaign cd-1",
    "Invalid campaign id",
]


@pytest.mark.parametrize("text", TEXTS_OF_MISSING)
def test_missing_by_text(text: str) -> None:
    """CONTRACT section 12.3."""
    for status in (400, 404, 410):
        assert read(response(errors(text), status)).verdict is MISSING, status
        assert read(response({"status": "failure", "message": text}, status)).verdict is MISSING, status


@pytest.mark.parametrize("data", [None, {}], ids=["null", "empty"])
def test_missing_by_text_beside_data_that_is_none(data: Any) -> None:
    assert read(response({"message": "Campaign not found", "data": data}, 400)).verdict is MISSING


@pytest.mark.parametrize("status", [200, 412, 422, 500])
def test_missing_by_text_needs_a_status_that_agrees(status: int) -> None:
    text = TEXTS_OF_MISSING[0]
    assert read(response(errors(text), status)).verdict is (REJECTED if 400 <= status < 500 else BROKEN)


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param({}, id="empty-object"),
        pytest.param(errors("Gone fishing"), id="any-text"),
    ],
)
def test_missing_by_status(body: Any, status: int) -> None:
    assert read(response(body, status, "application/json")).verdict is MISSING


@pytest.mark.parametrize(
    ("status", "body"),
    [
        pytest.param(400, errors("Invalid StreamId"), id="section-4-unknown-application"),
        pytest.param(400, errors("Stream Id not found"), id="section-4-another-spelling"),
        pytest.param(404, errors("Application not found"), id="application"),
        pytest.param(400, errors("Account does not exist"), id="account"),
        pytest.param(404, {"message": "no Route matched with those values"}, id="front-door-without-a-route"),
        pytest.param(400, errors("Malformed"), id="400-another-text"),
        pytest.param(400, b"", id="400-empty"),
        pytest.param(400, b'{"errors":[{"msg":"Campaign not fou', id="400-cut"),
        pytest.param(405, errors("Method Not Allowed"), id="405"),
        pytest.param(412, errors("Validation errors/ Invalid arguments"), id="412"),
        pytest.param(422, errors("Validation errors"), id="422"),
        pytest.param(418, b"teapot", id="418"),
        pytest.param(499, b"", id="499"),
    ],
)
def test_rejected(status: int, body: Any) -> None:
    assert read(response(body, status)).verdict is REJECTED


DEEP = 100_000

BROKEN_SUCCESSES = [
    pytest.param(b"", Flaw.NOT_JSON, id="empty"),
    pytest.param(b"OK", Flaw.NOT_JSON, id="text"),
    pytest.param(b'{"data":{"_id":"%s","x":NaN}}' % ID.encode(), Flaw.NOT_JSON, id="rfc8259-6-nan"),
    pytest.param(b'{"data":{"_id":"%s","x":-Infinity}}' % ID.encode(), Flaw.NOT_JSON, id="rfc8259-6-infinity"),
    pytest.param(b'{"data":{"_id":"cd-2","_id":"%s"}}' % ID.encode(), Flaw.NOT_JSON, id="rfc8259-4-repeated-key"),
    pytest.param(json.dumps(success()).encode("utf-16"), Flaw.NOT_JSON, id="rfc8259-8.1-utf-16"),
    pytest.param(b'{"data":{"_id":"%s","x":"\xff"}}' % ID.encode(), Flaw.NOT_JSON, id="rfc8259-8.1-not-utf-8"),
    pytest.param(b'{"data":{"_id":"%s","x":%s}}' % (ID.encode(), b"9" * 5000), Flaw.NOT_JSON, id="5000-digits"),
    pytest.param(b'{"data":' + b"[" * DEEP + b"]" * DEEP + b"}", Flaw.NOT_JSON, id="nested-too-deep"),
    pytest.param(json.dumps(success()).encode() * 2, Flaw.NOT_JSON, id="two-documents"),
    pytest.param([success()], Flaw.NO_DATA, id="array"),
    pytest.param("success", Flaw.NO_DATA, id="string"),
    pytest.param({"status": "success"}, Flaw.NO_DATA, id="no-data"),
    pytest.param({"status": "success", "data": None}, Flaw.NO_DATA, id="null-data"),
    pytest.param({"status": "success", "data": {}}, Flaw.NO_DATA, id="empty-data"),
    pytest.param({"status": "success", "data": []}, Flaw.NO_DATA, id="array-data"),
    pytest.param({"status": "success", "data": [{"_id": ID}]}, Flaw.NO_DATA, id="campaign-in-an-array"),
    pytest.param({"data": {"_id": "cd-2"}}, Flaw.WRONG_ID, id="wrong-id"),
    pytest.param({"data": {"_id": ID.upper()}}, Flaw.WRONG_ID, id="section-12.7-another-letter-case"),
    pytest.param({"data": {"_id": f" {ID}"}}, Flaw.WRONG_ID, id="section-12.7-not-normalised"),
    pytest.param({"data": {"name": "X"}}, Flaw.WRONG_ID, id="no-id"),
    pytest.param({"data": {"_id": [ID]}}, Flaw.WRONG_ID, id="id-in-an-array"),
    pytest.param({"id": ID, "data": {"name": "X"}}, Flaw.WRONG_ID, id="id-beside-the-data"),
    pytest.param({**success(), "errors": [{"msg": "partial"}]}, Flaw.FAILING_BODY, id="errors-beside-data"),
] + [
    pytest.param({**success(), "status": status}, Flaw.FAILING_BODY, id=f"section-4-status-{status.strip()}")
    for status in ("error", "Error", "failure", "FAILED", "fail", " error ")
]  # fmt: skip


@pytest.mark.parametrize(("body", "flaw"), BROKEN_SUCCESSES)
def test_a_success_must_be_validated_by_its_body(body: Any, flaw: Flaw) -> None:
    found = read(response(body))
    assert (found.verdict, found.flaw, found.content, found.revision) == (BROKEN, flaw, None, None)


def test_a_body_cut_at_any_byte_is_broken() -> None:
    whole = samples()["campaign-voice-agentless.json"].response
    end = len(whole.body.rstrip())
    for length in range(end):
        assert read(replace(whole, body=whole.body[:length])).flaw is Flaw.NOT_JSON, length
    assert read(replace(whole, body=whole.body[:end])).verdict is OK


@pytest.mark.parametrize("depth", [100, 400, 600, 900, 1500])
def test_nesting_of_any_depth_has_a_verdict(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    try:
        found = read(response(b'{"data":{"_id":"%s","x":%s}}' % (ID.encode(), deep)))
    except RecursionError as error:
        pytest.fail(f"RecursionError: {error}", pytrace=False)
    assert found.verdict in {OK, BROKEN}


@pytest.mark.parametrize("status", [100, 204, 301, 304, 500, 502, 503, 504, 599, 600])
def test_an_unexpected_status_is_broken(status: int) -> None:
    flaw = Flaw.NOT_JSON if status == 204 else Flaw.STATUS
    found = read(response(b"", status, "application/json"))
    assert (found.verdict, found.flaw) == (BROKEN, flaw)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        pytest.param({"errors": [{"msg": "a", "code": 4002}]}, "4002", "a", id="section-12.4-code-as-number"),
        pytest.param({"errors": [{"msg": "a", "code": "4002"}]}, "4002", "a", id="section-12.4-code-as-text"),
        pytest.param({"errors": [{"message": "a"}]}, None, "a", id="section-12.4-message"),
        pytest.param({"errors": [{"msg": "a", "message": "b"}]}, None, "a", id="section-12.4-msg-first"),
        pytest.param({"errors": [{"msg": None, "message": "b"}]}, None, "b", id="section-12.4-msg-null"),
        pytest.param({"errors": [{"msg": "a"}, {"message": "b", "code": 7}]}, "7", "a; b", id="section-12.4-several"),
        pytest.param({"errors": ["a", {"msg": "b"}, 3, None]}, None, "a; b", id="section-12.4-mixed"),
        pytest.param({"errors": "a"}, None, "a", id="errors-a-text"),
        pytest.param({"errors": {"msg": "a", "code": 1}}, "1", "a", id="errors-an-object"),
        pytest.param({"errors": [{"msg": ["a"], "code": [1]}]}, None, None, id="unreadable"),
        pytest.param({"message": "a", "code": 9}, "9", "a", id="no-errors"),
        pytest.param({"errors": [], "message": "a"}, None, "a", id="errors-empty"),
        pytest.param({"status": "Error", "message": "a", "data": {}}, None, "a", id="section-4-capital-error"),
        pytest.param({}, None, None, id="nothing"),
        pytest.param(["a"], None, None, id="array"),
        pytest.param("a", None, None, id="string"),
    ],
)  # fmt: skip
def test_what_a_failure_says(body: Any, code: str | None, message: str | None) -> None:
    found = read(response(body, 412))
    assert (found.verdict, found.code, found.message) == (REJECTED, code, message)


HTTP_DATE = "Mon, 02 Feb 2026 02:40:37 GMT"
"""37 seconds after `NOW`."""

RETRY_AFTER = [
    pytest.param(None, None, id="absent"),
    pytest.param("0", 0.0, id="zero"),
    pytest.param("37", 37.0, id="rfc9110-10.2.3-seconds"),
    pytest.param(" 37 ", 37.0, id="white-space"),
    pytest.param("0000000000037", 37.0, id="rfc9110-10.2.3-leading-zeros"),
    pytest.param(HTTP_DATE, 37.0, id="rfc9110-10.2.3-date"),
    pytest.param("Monday, 02-Feb-26 02:40:37 GMT", 37.0, id="rfc9110-5.6.7-rfc850-date"),
    pytest.param("Mon Feb  2 02:40:37 2026", 37.0, id="rfc9110-5.6.7-asctime-date"),
    pytest.param("Mon, 02 Feb 2026 02:39:00 GMT", 0.0, id="past-date"),
    pytest.param("Thu, 01 Jan 1970 00:00:00 GMT", 0.0, id="the-epoch"),
    pytest.param("", None, id="empty"),
    pytest.param("soon", None, id="a-word"),
    pytest.param("-5", None, id="negative"),
    pytest.param("1.5", None, id="fraction"),
    pytest.param("inf", None, id="infinity"),
    pytest.param("\u0663\u0667", None, id="digits-of-another-script"),
    pytest.param("Mon, 31 Feb 2026 02:40:37 GMT", None, id="a-day-that-is-not"),
    pytest.param("Mon, 02 Feb 99999999 02:40:37 GMT", None, id="a-year-too-far"),
    pytest.param("Mon, 02 Feb 2026 02:40:37 +9999999999", None, id="a-zone-too-far"),
]


@pytest.mark.parametrize(("text", "seconds"), RETRY_AFTER)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert retry_wait(text, NOW) == seconds
    limited = classify(GET, ID, response(b"", 429, retry_after=text), NOW)
    assert (limited.verdict, limited.retry_after) == (LIMITED, seconds)


def test_a_retry_after_date_is_read_against_the_answers_own() -> None:
    for date, seconds in (
        ("Mon, 02 Feb 2026 02:40:30 GMT", 7.0),
        ("Mon, 02 Feb 2026 02:50:00 GMT", 0.0),
        ("today", 37.0),
        (None, 37.0),
    ):
        limited = Response(429, JSON_TYPE, b"", "Mon, 02 Feb 2026 02:40:37 GMT", date)
        assert classify(GET, ID, limited, NOW).retry_after == seconds, date


def test_retry_after_beyond_reason_is_a_finite_number() -> None:
    wait = retry_wait("9" * 5000, NOW)
    assert wait is not None
    assert 1e6 < wait < 1e12


def test_retry_after_counts_for_the_limit_only() -> None:
    assert read(response(b"", 503, "application/json", retry_after="37")).retry_after is None


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2},? \d{1,3} [A-Z][a-z]{2} \d{2,5} \d\d:\d\d:\d\d .{0,8}"))
def test_retry_after_is_read_or_ignored(text: str) -> None:
    wait = retry_wait(text, NOW)
    assert wait is None or 0 <= wait < float("inf")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["errors", "data", "status", "message", "msg", "code", "_id", "updatedAt"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=40) | ANY_JSON, st.integers(100, 599), st.sampled_from(["application/json", "text/html", ""]))
def test_any_answer_has_a_verdict_that_fits_its_status(body: Any, status: int, content_type: str) -> None:
    found: Answer = read(response(body, status, content_type))
    assert (found.flaw is not None) == (found.verdict is BROKEN)
    assert (found.content is not None) == (found.verdict is OK)
    if found.verdict is OK:
        assert 200 <= status < 300
    if found.verdict is MISSING:
        assert status in {400, 404, 410}
    if status == 429:
        assert found.verdict is LIMITED


@pytest.mark.parametrize(
    ("body", "status", "verdict"),
    [
        pytest.param(success(updatedAt="\ud800"), 200, Verdict.OK, id="revision"),
        pytest.param(success(status="\ud800"), 200, Verdict.OK, id="campaign-status"),
        pytest.param(errors("Campaign not found \ud800"), 400, Verdict.MISSING, id="message"),
        pytest.param(errors("Campaign not found", code="\ud800"), 400, Verdict.MISSING, id="code"),
    ],
)
def test_every_text_of_an_answer_has_a_utf_8_form(body: dict[str, Any], status: int, verdict: Verdict):
    # rfc8259-8.1: they go into the store and into problem bodies. JSON can spell half a surrogate pair, UTF-8 cannot.
    answer = read(response(body, status))
    assert answer.verdict is verdict
    for text in (answer.revision, answer.campaign_status, answer.code, answer.message):
        (text or "").encode()


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        pytest.param(403, b"Rate limit for this API has been reached.", LIMITED, id="contract-12.3-plain-text-403"),
        pytest.param(200, b"You've exceeded the per-minute rate limit.", LIMITED, id="contract-12.3-plain-text-200"),
        pytest.param(403, b'"Rate limit for this API has been reached."', LIMITED, id="contract-12.3-bare-sentence"),
        pytest.param(403, b'{"errors":[{"code":429}],"message":"rate limit"}', LIMITED, id="contract-12.3-beside"),
        pytest.param(404, b"default backend - 404", REJECTED, id="promise-5-a-404-that-is-no-document"),
        pytest.param(410, b'{"status":"err', REJECTED, id="promise-5-a-410-cut-short"),
        pytest.param(404, b"", MISSING, id="contract-12.3-an-empty-404"),
    ],
)
def test_text_that_is_no_document_is_read_for_the_limit_and_never_for_absence(
    status: int, body: bytes, verdict: Verdict
) -> None:
    assert read(response(body, status)).verdict is verdict


WRITES = [
    pytest.param(row, id=f"{row.name}-v{row.version}-{row.family.name}") for row in OPERATIONS if row.kind is Kind.WRITE
]


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("body", [b"", b" \n"], ids=["empty", "blank"])
@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_a_write_that_succeeds_without_a_word_has_succeeded(write: Operation, body: bytes, status: int) -> None:
    # contract-12.1: any 2xx; nothing says that a write is answered with a body.
    assert read(response(body, status), operation=write).verdict is OK


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"status": "Error", "message": "a reason"}, id="section-4-capital"),
        pytest.param({"status": "failure", "message": "a reason"}, id="section-4-failure"),
        pytest.param(errors("a reason"), id="section-12.2-errors"),
    ],
)
def test_a_write_whose_200_reports_a_failure_is_rejected(write: Operation, body: Any) -> None:
    found = read(response(body), operation=write)
    assert (found.verdict, found.message) == (REJECTED, "a reason")


@pytest.mark.parametrize("trigger", [STARTED, STOPPED], ids=["start", "stop"])
def test_a_campaigns_own_status_is_no_failure_of_the_trigger(trigger: Operation) -> None:
    # contract-8.5: start and stop put a campaign status, and its revision, at the top; contract-12.11: any word.
    body = {"status": "Failed", "message": "Campaign Started", "updatedAt": "2026-02-02T02:40:00.000Z"}
    assert read(response(body), operation=trigger).verdict is OK


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        pytest.param(b'{"status": "succ', Flaw.NOT_JSON, id="cut"),
        pytest.param([{"status": "success"}], Flaw.NO_DATA, id="an-array"),
        pytest.param(PAGE, Flaw.HTML, id="a-page"),
    ],
)
def test_a_write_answered_with_something_unreadable_may_have_happened(write: Operation, body: Any, flaw: Flaw) -> None:
    found = read(response(body), operation=write)
    assert (found.verdict, found.flaw) == (BROKEN, flaw)


def test_a_read_answered_with_nothing_is_broken() -> None:
    for row in OPERATIONS:
        if row.kind is not Kind.WRITE:
            assert read(response(b""), operation=row).verdict is BROKEN, row.name


@pytest.mark.parametrize("write", [CREATED, UPDATED])
def test_a_list_that_the_body_names_and_nobody_has_is_not_the_campaign_missing(write: Operation) -> None:
    assert read(response(errors("Contact list not found"), 400), operation=write).verdict is REJECTED


def test_a_contact_list_that_is_missing_is() -> None:
    for asked in (CONTACT_LIST, CONTACT_LIST_CHANGED, CONTACTS_OF_IT):
        assert read(response(errors("Contact list not found"), 400), CONTACTS, asked).verdict is MISSING
        assert read(response(errors("Campaign not found"), 400), CONTACTS, asked).verdict is REJECTED


def test_what_names_no_id_cannot_be_missing() -> None:
    for asked in (CREATED, SCHEDULED, CONTACTS_ADDED, LIST, CONTACT_LISTS):
        assert read(response(errors("Campaign not found"), 400), "", asked).verdict is REJECTED
