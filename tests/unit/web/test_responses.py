import json
import re
from dataclasses import replace

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from campaign_gateway.contract.answers import Response, classify
from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.decide import Detail, Fwd
from campaign_gateway.policy.settle import Failure, settle
from campaign_gateway.policy.stored import Absence, Stored, make_etag
from campaign_gateway.policy.visibility import Visibility
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.reply import Outcome, Reply, Seconds
from campaign_gateway.web.responses import Bounds, cache_status, render, render_failure
from tests.support.doubles import START

BODY = b'{"data": {"_id": "c-1"}}'
ENTRY = Stored(BODY, "application/json; charset=utf-8", b"digest", "2026-01-01T00:00:00.500Z", "Ready", START)
ABSENT = Stored(b"", "", b"", None, None, START, Absence(400, "4001", "Campaign not found"))
BOUNDS = Bounds(stale_while_revalidate=60.0, stale_if_error=86_400.0)
HIT = Outcome(ttl=12.9)


def answer(reply: Reply | Stored, *fields: tuple[str, str], bounds: Bounds = BOUNDS):
    if isinstance(reply, Stored):
        reply = Reply(HIT, reply, None, 3.7, 30.0)
    return render(reply, CIMultiDictProxy(CIMultiDict(fields)), bounds, "request-1")


def document_of(response) -> dict[str, object]:
    document: dict[str, object] = json.loads(response.body)
    return document


# 200.


def test_a_campaign_is_answered_byte_for_byte_with_these_fields_and_no_others():
    response = answer(ENTRY)
    assert (response.status, response.body) == (200, BODY)
    assert dict(response.headers) == {
        "Cache-Status": "campaign-gateway; hit; ttl=12",
        "Age": "3",
        "Cache-Control": "private, max-age=30, stale-while-revalidate=60, stale-if-error=86370",
        "ETag": make_etag(BODY),
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "X-Content-Type-Options": "nosniff",
        "Content-Type": "application/json; charset=utf-8",
        "X-Request-ID": "request-1",
        "Server": "campaign-gateway",
    }


@pytest.mark.parametrize(
    "revision",
    [
        pytest.param(None, id="none"),
        pytest.param("yesterday", id="unreadable"),
        pytest.param("2026-01-01T00:00:00", id="without-a-zone"),
        pytest.param("2027-01-01T00:00:00Z", id="RFC-9110-8.8.2.1-in-the-future"),
        pytest.param("1767225600000", id="a-number"),
    ],
)
def test_a_revision_that_tells_no_past_moment_gives_no_last_modified(revision):
    assert "Last-Modified" not in answer(replace(ENTRY, revision=revision)).headers


@pytest.mark.parametrize("revision", ["1969-12-31T23:59:58Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_revision_of_another_age_is_no_date(revision: str):
    assert "Last-Modified" not in answer(replace(ENTRY, revision=revision)).headers


# How soon changes are seen.


def seen(entry: Stored, visibility: Visibility | None, *fields: tuple[str, str]):
    return answer(Reply(HIT, entry, None, 3.7, 30.0, visibility=visibility), *fields)


@pytest.mark.parametrize(
    ("bound", "field"), [(12.0, "12"), (12.001, "13"), (12.0000001, "12"), (0.0, "0"), (0.2, "1"), (86_400.0, "86400")]
)
def test_the_bound_is_never_less_than_true(bound, field):
    for of in (ENTRY, ABSENT):
        assert seen(of, Visibility(bound)).headers["Campaign-Gateway-Bound"] == field


def test_a_304_says_it_too():
    fields = seen(ENTRY, Visibility(12.0, newer="m-2"), ("If-None-Match", "*"))
    assert fields.status == 304
    assert (fields.headers["Campaign-Gateway-Bound"], fields.headers["Campaign-Gateway-Newer"]) == ("12", "m-2")


def test_only_what_is_out_of_date_names_something_newer():
    assert "Campaign-Gateway-Newer" not in seen(ENTRY, Visibility(12.0)).headers


def test_what_is_not_about_one_campaign_says_nothing_of_it():
    headers = seen(ENTRY, None).headers
    assert "Campaign-Gateway-Bound" not in headers
    assert "Campaign-Gateway-Newer" not in headers


# Cache-Control.


@pytest.mark.parametrize(
    ("lifetime", "bounds", "field"),
    [
        pytest.param(
            30.9,
            (60, 86_400),
            "private, max-age=30, stale-while-revalidate=60, stale-if-error=86369",
            id="rounded-down",
        ),
        pytest.param(
            0.0, (60, 86_400), "private, max-age=0, stale-while-revalidate=60, stale-if-error=86400", id="never-fresh"
        ),
        pytest.param(
            30.0,
            (60, 50),
            "private, max-age=30, stale-while-revalidate=20, stale-if-error=20",
            id="promise-4-never-past-the-hard-bound",
        ),
        pytest.param(
            50.0,
            (60, 50),
            "private, max-age=50, stale-while-revalidate=0, stale-if-error=0",
            id="fresh-to-the-hard-bound",
        ),
        pytest.param(
            60.0, (60, 50), "private, max-age=60, stale-while-revalidate=0, stale-if-error=0", id="never-below-zero"
        ),
        pytest.param(
            30.0, (0, 86_400), "private, max-age=30, stale-while-revalidate=0, stale-if-error=86370", id="no-window"
        ),
    ],
)
def test_cache_control_says_private_and_how_stale_an_answer_may_get(lifetime, bounds, field):
    assert Bounds(*bounds).cache_control(lifetime) == field


# Cache-Status (RFC 9211).


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        pytest.param(Outcome(ttl=12.0), "campaign-gateway; hit; ttl=12", id="hit"),
        pytest.param(
            Outcome(ttl=-1.0, detail=Detail.STALE_WHILE_REVALIDATE),
            "campaign-gateway; hit; ttl=-1; detail=stale-while-revalidate",
            id="stale-hit",
        ),
        pytest.param(Outcome(ttl=-0.2), "campaign-gateway; hit; ttl=-1", id="2.4-a-little-stale-is-negative"),
        pytest.param(
            Outcome(Fwd.URI_MISS, 200, stored=True, ttl=30.0),
            "campaign-gateway; fwd=uri-miss; fwd-status=200; stored; ttl=30",
            id="miss",
        ),
        pytest.param(
            Outcome(Fwd.URI_MISS, 200, stored=True, collapsed=True, ttl=30.0),
            "campaign-gateway; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=30",
            id="collapsed",
        ),
        pytest.param(
            Outcome(Fwd.REQUEST, 200, stored=True, ttl=30.0, detail=Detail.UNCHANGED),
            "campaign-gateway; fwd=request; fwd-status=200; stored; ttl=30; detail=unchanged",
            id="unchanged",
        ),
        pytest.param(
            Outcome(Fwd.STALE, 503, ttl=-90.0, detail=Detail.STALE_IF_ERROR),
            "campaign-gateway; fwd=stale; fwd-status=503; ttl=-90; detail=stale-if-error",
            id="stale-if-error",
        ),
        pytest.param(Outcome(Fwd.STALE), "campaign-gateway; fwd=stale", id="failed-without-an-answer"),
        pytest.param(
            Outcome(detail=Detail.BUDGET), "campaign-gateway; detail=budget", id="nothing-stored-and-not-forwarded"
        ),
        pytest.param(Outcome(), "campaign-gateway", id="only-if-cached"),
    ],
)
def test_cache_status_is_the_outcome_in_words(outcome, field):
    assert cache_status(outcome) == field


# 304.


TAG = make_etag(BODY)
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("If-None-Match", TAG)], id="the-tag"),
        pytest.param([("If-None-Match", f"W/{TAG}")], id="13.1.2-weakly"),
        pytest.param([("If-None-Match", f'"x", {TAG}')], id="a-list"),
        pytest.param([("If-None-Match", '"x"'), ("If-None-Match", TAG)], id="two-lines"),
        pytest.param([("if-none-match", "*")], id="star"),
        pytest.param([("If-Modified-Since", MODIFIED)], id="the-date"),
        pytest.param(
            [("If-None-Match", TAG), ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], id="13.2.2-the-tag-wins"
        ),
    ],
)
def test_a_copy_that_is_still_good_gets_a_304_without_body_or_type(fields):
    response = answer(ENTRY, *fields)
    assert (response.status, response.body) == (304, None)
    assert "Content-Type" not in response.headers
    full = answer(ENTRY).headers
    for name in ("ETag", "Last-Modified", "Cache-Control", "Age", "Cache-Status", "X-Request-ID"):
        assert response.headers[name] == full[name], "RFC 9110 section 15.4.5"


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("If-None-Match", '"x"')], id="another-tag"),
        pytest.param([("If-None-Match", '"x"'), ("If-Modified-Since", MODIFIED)], id="13.2.2-the-date-is-not-asked"),
        pytest.param([("If-Modified-Since", "Wed, 31 Dec 2025 23:59:59 GMT")], id="an-older-date"),
        pytest.param([("If-Modified-Since", "nonsense")], id="no-date"),
        pytest.param([("If-Match", TAG)], id="another-precondition"),
    ],
)
def test_anything_else_gets_the_whole_answer(fields):
    assert answer(ENTRY, *fields).status == 200


# Absences.


def test_a_missing_campaign_is_a_404_with_the_platforms_words_and_may_be_kept_by_the_caller_too():
    response = answer(Reply(Outcome(ttl=7.0, detail=Detail.MISSING), ABSENT, None, 3.0, 10.0))
    assert document_of(response) == {
        "type": "/problems/campaign-not-found",
        "title": "No such campaign",
        "status": 404,
        "detail": "the platform knows no campaign with this id",
        "request_id": "request-1",
        "upstream_status": 400,
        "upstream_code": "4001",
        "upstream_message": "Campaign not found",
    }
    assert response.headers["Cache-Control"].startswith("private, max-age=10")
    assert response.headers["Age"] == "3"
    assert "ETag" not in response.headers


def test_an_absence_is_never_a_304():
    assert answer(ABSENT, ("If-None-Match", "*")).status == 404


# Problems.


@pytest.mark.parametrize("problem", list(Problem), ids=lambda problem: problem.value.name)
def test_a_problem_document_says_what_the_list_says(problem):
    response = render_failure(Failure(problem, "what happened"), "request-1")
    assert response.status == problem.status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert document_of(response) == {
        "type": f"/problems/{problem.value.name}",
        "title": problem.title,
        "status": problem.status,
        "detail": "what happened",
        "request_id": "request-1",
    }


def test_the_platforms_own_words_come_along():
    failure = Failure(
        Problem.UPSTREAM_INVALID, "x", upstream_status=500, upstream_code="7", upstream_message='said "no"\n'
    )
    document = document_of(render_failure(failure, "request-1"))
    assert (document["upstream_status"], document["upstream_code"]) == (500, "7")
    assert document["upstream_message"] == 'said "no"\n'


@pytest.mark.parametrize(("seconds", "field"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.9, "60")])
def test_retry_after_is_whole_seconds_rounded_up_and_never_now(seconds, field):
    response = render_failure(Failure(Problem.BUDGET_EXHAUSTED, "spent", retry_after=seconds), "request-1")
    assert response.headers["Retry-After"] == field


def test_without_a_known_moment_there_is_no_retry_after():
    assert "Retry-After" not in render_failure(Failure(Problem.UPSTREAM_TIMEOUT, "slow"), "request-1").headers


def test_a_401_names_the_scheme_and_no_other_problem_does():
    naming = [
        problem for problem in Problem if "WWW-Authenticate" in render_failure(Failure(problem, "x"), "r").headers
    ]
    assert naming == [Problem.UNAUTHENTICATED]


def test_a_failed_read_is_its_problem_with_the_outcome_beside_it():
    response = answer(
        Reply(Outcome(Fwd.URI_MISS, 502), failure=Failure(Problem.UPSTREAM_UNAVAILABLE, "x", upstream_status=502))
    )
    assert response.status == 502
    assert response.headers["Cache-Status"] == "campaign-gateway; fwd=uri-miss; fwd-status=502"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("status", [400, 404, 412, 500])
def test_a_text_of_the_platforms_that_utf_8_cannot_say_does_not_break_the_answer(status):
    """Its JSON may hold lone surrogates; the whole way from its bytes to our answer."""
    body = b'{"errors": [{"msg": "Campaign not found \\ud800", "code": "\\udfff"}]}'
    landed = settle(GET, None, classify(GET, "c-1", Response(status, "application/json", body), START), START)
    reply = (
        Reply(Outcome(), failure=landed) if isinstance(landed, Failure) else Reply(HIT, landed.stored, None, 0.0, 10.0)
    )
    response = answer(reply)
    assert response.status in {404, 502}
    assert "Campaign not found" in str(document_of(response)["upstream_message"])


# Server-Timing.


@pytest.mark.parametrize(
    ("outcome", "field"),
    [
        (HIT, None),
        (Outcome(detail=Detail.BUDGET), None),
        (
            Outcome(Fwd.URI_MISS, 200, stored=True, ttl=30.0, seconds=Seconds(0.000_04, 0.123_45)),
            "cache;desc=miss, permit;dur=0.0, upstream;dur=123.5",
        ),
        (
            Outcome(Fwd.STALE, 200, stored=True, ttl=30.0, seconds=Seconds(2.0, 0.05)),
            "cache;desc=revalidated, permit;dur=2000.0, upstream;dur=50.0",
        ),
        (Outcome(Fwd.BYPASS, 200, seconds=Seconds(0, 1)), "cache;desc=none, permit;dur=0, upstream;dur=1000"),
    ],
)
def test_answers_for_which_a_call_was_made_say_how_long_it_took(outcome, field):
    failed = Reply(outcome, failure=Failure(Problem.UPSTREAM_TIMEOUT, "no answer in time"))
    passed = Reply(outcome, passed=Response(200, "application/json", b"{}"))
    for reply in (Reply(outcome, ENTRY, None, 0.1, 30.0), failed, passed):
        response = answer(reply)
        assert response.headers.get("Server-Timing") == field
    if field is not None:
        metric = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+;(desc|dur)=[!#$%&'*+.^_`|~0-9A-Za-z-]+"
        assert re.fullmatch(rf"{metric}(, {metric})*", field), "the grammar of W3C Server Timing"
