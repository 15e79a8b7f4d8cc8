from dataclasses import replace
from typing import Any

import pytest

from campaign_gateway.contract.answers import Answer, Flaw, Verdict
from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.evidence import Cause, Evidence
from campaign_gateway.policy.settle import Failure, Fill, settle
from campaign_gateway.policy.stored import Stored
from campaign_gateway.problems import Problem
from tests.support.builders import (
    CAMPAIGN,
    LIMIT_TEXT,
    NOW,
    OTHER_CAMPAIGN,
    absence,
    as_body,
    campaign,
    classified,
    entry,
    envelope,
    invalid,
)

GOOD = envelope(campaign())
HTML = b"<html></html>"


def filled(previous: Stored | None, answer: Answer) -> Fill:
    settlement = settle(GET, previous, answer, NOW)
    assert isinstance(settlement, Fill)
    return settlement


def failed(answer: Answer, previous: Stored | None = None) -> Failure:
    settlement = settle(GET, previous, answer, NOW)
    assert isinstance(settlement, Failure)
    return settlement


@pytest.mark.parametrize("previous", [None, entry(100), absence(5)], ids=["nothing", "another-content", "an-absence"])
@pytest.mark.parametrize("status", [200, 201])
def test_a_campaign_fills(previous: Stored | None, status: int):
    fill = filled(previous, classified(GOOD, status))
    assert (fill.is_unchanged, fill.upstream_status) == (False, status)
    assert (fill.stored.body, fill.stored.validated_at) == (as_body(GOOD), NOW)


def test_unchanged_content_keeps_body_and_tag_and_renews_the_validation():
    first = filled(None, classified(GOOD))
    previous = replace(first.stored, validated_at=NOW - 500)
    second = filled(previous, classified(as_body(GOOD).replace(b", ", b" ,\n")))
    assert second.is_unchanged
    assert (second.stored.body, second.stored.etag) == (previous.body, previous.etag)
    assert second.stored == replace(previous, validated_at=NOW)


@pytest.mark.parametrize("status", [400, 404, 410])
def test_the_platform_s_own_no_fills(status: int):
    fill = filled(entry(100), classified({"errors": [{"msg": "Campaign not found", "code": 17}]}, status))
    assert (fill.is_unchanged, fill.upstream_status) == (False, status)
    assert fill.stored.absence is not None
    assert (fill.stored.absence.status, fill.stored.absence.code) == (status, "17")


FAILURES = [
    pytest.param(classified({"message": LIMIT_TEXT}, 429), Problem.UPSTREAM_PAUSED, id="limit"),
    pytest.param(classified({"message": LIMIT_TEXT}), Problem.UPSTREAM_PAUSED, id="limit-under-200"),
    pytest.param(classified(b"", 401), Problem.UPSTREAM_UNAUTHORIZED, id="credential-401"),
    pytest.param(classified(b"", 403), Problem.UPSTREAM_UNAUTHORIZED, id="credential-403"),
    pytest.param(
        classified({"errors": [{"msg": "Invalid StreamId"}]}, 400), Problem.UPSTREAM_INVALID, id="unknown-stream"
    ),
    pytest.param(classified(b"", 412), Problem.UPSTREAM_INVALID, id="validation"),
    pytest.param(classified(HTML), Problem.UPSTREAM_INVALID, id="html-200"),
    pytest.param(classified(HTML, 403), Problem.UPSTREAM_INVALID, id="html-403"),
    pytest.param(classified(HTML, 404), Problem.UPSTREAM_INVALID, id="html-404"),
    pytest.param(classified(HTML, 502), Problem.UPSTREAM_UNAVAILABLE, id="html-502"),
    pytest.param(classified(b"", 500), Problem.UPSTREAM_UNAVAILABLE, id="500"),
    pytest.param(classified(b"", 503), Problem.UPSTREAM_UNAVAILABLE, id="503"),
    pytest.param(classified(b"", 302), Problem.UPSTREAM_INVALID, id="redirect"),
    pytest.param(classified(as_body(GOOD)[:-1]), Problem.UPSTREAM_INVALID, id="cut-json"),
    pytest.param(classified({"status": "Error", "message": "x"}), Problem.UPSTREAM_INVALID, id="failing-200"),
    pytest.param(classified(envelope({})), Problem.UPSTREAM_INVALID, id="no-data"),
    pytest.param(classified(envelope(campaign(_id=OTHER_CAMPAIGN))), Problem.UPSTREAM_INVALID, id="wrong-id"),
]


@pytest.mark.parametrize("previous", [None, entry(100), absence(5)], ids=["nothing", "a-campaign", "an-absence"])
@pytest.mark.parametrize(("answer", "problem"), FAILURES)
def test_a_failure_never_becomes_an_entry(answer: Answer, problem: Problem, previous: Stored | None):
    # design-6.5
    failure = failed(answer, previous)
    assert (failure.problem, failure.upstream_status) == (problem, answer.response.status)
    assert failure.detail


@pytest.mark.drill(
    "a 404 that is not the platform's",
    planted="empty, generic JSON",
    seen="what is stored stays",
)
@pytest.mark.parametrize(
    ("body", "is_the_platforms"),
    [
        ({"errors": [{"msg": "Campaign not found", "code": 404}]}, True),
        ({"status": "error", "message": "Campaign not found"}, True),
        (b"", False),
        ({}, False),
        ({"message": "nothing here"}, False),
        ({"error": "Not Found", "path": "/campaign/cd-1", "status": 404}, False),
    ],
)
def test_only_the_platforms_own_word_takes_the_place_of_a_campaign(body: Any, is_the_platforms: bool):
    # design-6.5: whoever stands in front of the platform answers 404 too.
    answer = classified(body, 404)
    assert filled(None, answer).stored.absence is not None
    assert filled(absence(5), answer).stored.absence is not None
    if is_the_platforms:
        assert filled(entry(100), answer).stored.absence is not None
    else:
        assert failed(answer, entry(100)).problem is Problem.UPSTREAM_INVALID


def test_a_failure_says_what_the_platform_said():
    failure = failed(classified({"errors": [{"msg": "no scope", "code": 4002}]}, 401))
    assert (failure.upstream_code, failure.upstream_message) == ("4002", "no scope")


def test_details_tell_flaws_apart_and_name_no_campaign():
    broken = [
        answer
        for answer in (parameter.values[0] for parameter in FAILURES)
        if isinstance(answer, Answer) and answer.response.status == 200 and answer.verdict is Verdict.BROKEN
    ]
    assert {answer.flaw for answer in broken} == set(Flaw) - {Flaw.STATUS}
    details = [failed(answer).detail for answer in broken]
    assert len(set(details)) == len(broken)
    assert not [detail for detail in details if CAMPAIGN in detail or OTHER_CAMPAIGN in detail]


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        pytest.param(classified({"message": LIMIT_TEXT}, 429, retry_after="37"), 37.0, id="told"),
        pytest.param(classified({"message": LIMIT_TEXT}, 429), None, id="contract-12.6-not-told"),
        pytest.param(classified(b"", 503, retry_after="37"), None, id="not-about-the-limit"),
    ],
)
def test_how_long_to_wait(answer: Answer, seconds: float | None):
    assert failed(answer).retry_after == seconds


@pytest.mark.parametrize(
    ("failure", "was_forwarded"),
    [
        pytest.param(failed(classified(b"", 429)), True, id="the-platform-said-pause"),
        pytest.param(failed(classified(b"", 401)), True, id="the-platform-refused"),
        pytest.param(failed(classified(b"", 502)), True, id="the-platform-broke"),
        pytest.param(Failure(Problem.UPSTREAM_TIMEOUT, "x"), True, id="no-answer"),
        pytest.param(Failure(Problem.UPSTREAM_UNAVAILABLE, "x"), True, id="no-connection"),
        pytest.param(Failure(Problem.UPSTREAM_PAUSED, "x", retry_after=9), False, id="still-in-a-pause"),
        pytest.param(Failure(Problem.BUDGET_EXHAUSTED, "x"), False, id="no-call-left"),
        pytest.param(Failure(Problem.OVERLOADED, "x"), False, id="too-many-waiting"),
        pytest.param(Failure(Problem.NOT_CACHED, "x"), False, id="only-if-cached"),
    ],
)
def test_was_forwarded(failure: Failure, was_forwarded: bool):
    assert failure.was_forwarded is was_forwarded


GONE = classified({"errors": [{"msg": "Campaign not found", "code": 404}]}, 404)


@pytest.mark.parametrize("answer", [classified(GOOD), GONE], ids=["a-campaign", "an-absence"])
def test_what_was_known_of_the_answer_before_ends_with_a_new_one(answer: Answer):
    previous = filled(None, classified(GOOD)).stored
    assert filled(previous, answer).evidence == Evidence()


def test_what_is_read_soon_after_a_write_may_be_from_before_it():
    fill = settle(GET, None, classified(GOOD), NOW, written_at=NOW - 1)
    assert isinstance(fill, Fill)
    assert fill.evidence == invalid(Cause.WRITE, 1, is_open=False)
