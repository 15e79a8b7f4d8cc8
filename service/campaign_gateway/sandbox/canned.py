"""Answers that stand in place of the real one: those of faults, and that of the rate limit."""

from collections.abc import Mapping
from email.utils import formatdate

from campaign_gateway.sandbox import answers
from campaign_gateway.sandbox.answers import (
    HTML_TYPE,
    JSON_TYPE,
    PLATFORM_REFUSAL_CODE,
    Answer,
    error_answer,
    json_answer,
)
from campaign_gateway.sandbox.faults import FaultName, Parameters

_LOGIN_PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><form></form></body></html>\n"
_ELSEWHERE = "https://elsewhere.invalid"

_N = FaultName
_OVER_LIMIT_429 = error_answer(429, answers.OVER_LIMIT, 429)
_GONE = {"status": "error", "message": answers.NOT_FOUND}

_FIXED: Mapping[FaultName, Answer] = {
    _N.SERVER_ERROR: error_answer(500, "Internal Server Error", 500),
    _N.BAD_GATEWAY: Answer(502, answers.BAD_GATEWAY_PAGE.encode(), HTML_TYPE),
    _N.UNAVAILABLE: Answer(503, b"", ""),
    _N.NOT_FOUND_HTML: answers.no_route(),
    _N.NOT_FOUND_JSON: json_answer(404, _GONE),
    _N.GONE: json_answer(410, _GONE),
    _N.NOT_JSON: Answer(200, b"upstream connect error or disconnect before headers", JSON_TYPE),
    _N.HTML_200: Answer(200, _LOGIN_PAGE.encode(), HTML_TYPE),
    _N.ERROR_200: json_answer(200, {"status": "error", "message": "Unable to fetch campaign details"}),
    _N.ERROR_200_CAPITAL: json_answer(200, {"status": "Error", "message": "Unable to complete the request."}),
    _N.LIMIT_429: _OVER_LIMIT_429,
    _N.LIMIT_200: error_answer(200, answers.OVER_LIMIT, 429),
    _N.LIMIT_400: error_answer(400, answers.OVER_LIMIT, 400),
    _N.LIMIT_403: error_answer(403, answers.OVER_LIMIT, 403),
    _N.UNAUTHORIZED: error_answer(401, answers.BAD_CREDENTIALS, PLATFORM_REFUSAL_CODE),
    _N.UNAUTHORIZED_NOT_A_TOKEN: error_answer(401, answers.NOT_A_TOKEN, PLATFORM_REFUSAL_CODE),
    _N.UNAUTHORIZED_EXPIRED: error_answer(401, answers.EXPIRED, 401),
    _N.UNAUTHORIZED_REPLAY: error_answer(401, answers.REPLAYED, 401),
    _N.UNAUTHORIZED_LIFETIME: error_answer(401, answers.TOO_LONG_LIVED, 401),
    _N.UNAUTHORIZED_SCOPE: error_answer(401, answers.WRONG_SCOPE, PLATFORM_REFUSAL_CODE),
    _N.UNAUTHORIZED_SCOPE_MESSAGE: error_answer(401, answers.WRONG_SCOPE, PLATFORM_REFUSAL_CODE, key="message"),
    _N.FORBIDDEN_SCOPE: error_answer(403, answers.WRONG_SCOPE, 403),
}

# Every fault that has an answer of its own; the first four are made for the request at hand.
CANNED = frozenset({_N.STATUS, _N.REDIRECT, _N.LIMIT_429_SECONDS, _N.LIMIT_429_DATE, *_FIXED})
LIMIT_FORMS = frozenset(name for name in CANNED if name.startswith("limit-"))


def canned(name: FaultName, given: Parameters, *, target: str, now: float) -> Answer:
    """The answer of a fault that has one.

    Args:
        name: One of `CANNED`.
        given: The fault's parameters.
        target: The request target, for a redirect that keeps it.
        now: Seconds since the epoch, for a date.
    """
    match name:
        case FaultName.STATUS:
            return Answer(given.status, given.body.encode(), given.content_type)
        case FaultName.REDIRECT:
            return Answer(given.status, b"", "", {"Location": given.location or f"{_ELSEWHERE}{target}"})
        case FaultName.LIMIT_429_SECONDS:
            return _with_retry_after(str(given.retry_after_seconds))
        case FaultName.LIMIT_429_DATE:
            return _with_retry_after(formatdate(now + given.retry_after_seconds, usegmt=True))
        case _:
            return _FIXED[name]


def _with_retry_after(value: str) -> Answer:
    return Answer(429, _OVER_LIMIT_429.body, headers={"Retry-After": value})
