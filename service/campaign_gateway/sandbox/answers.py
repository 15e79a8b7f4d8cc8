"""What the platform answers: a status, headers and bytes; and the documented forms of its refusals."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

JSON_TYPE = "application/json; charset=utf-8"
HTML_TYPE = "text/html"

# Several causes share one text and one code, as on the platform: a client cannot tell them apart by the body.
PLATFORM_REFUSAL_CODE = 4002
BAD_CREDENTIALS = "Invalid SDK credentials"
NOT_A_TOKEN = "Invalid JWT token"  # noqa: S105 - the platform's sentence, no secret
WRONG_SCOPE = "Permission denied. Scope is incorrect!"
UNKNOWN_STREAM = "Invalid StreamId"
REPLAYED = "error verifying the jwt: possibly a replay"
TOO_LONG_LIVED = 'error verifying the jwt: if "jti" claim "exp" must be <= 1 hour(s)'
EXPIRED = "error verifying the jwt: jwt expired"
NOT_FOUND = "Campaign not found"
LIST_NOT_FOUND = "Contact list not found"
INVALID = "Validation errors/ Invalid arguments"
WRONG_METHOD = "Method Not Allowed"
OVER_LIMIT = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."

BAD_GATEWAY_PAGE = (
    "<html>\n<head><title>502 Bad Gateway</title></head>\n<body>\n"
    "<center><h1>502 Bad Gateway</h1></center>\n<hr>\n</body>\n</html>\n"
)
NO_ROUTE_PAGE = (
    '<!DOCTYPE html>\n<html lang="en">\n<head><title>Error</title></head>\n'
    "<body><pre>Cannot serve this path</pre></body>\n</html>\n"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whole: status, body, content type (empty: the header is left out), further headers."""

    status: int
    body: bytes
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """The platform refuses a request in one of its documented forms.

    Attributes:
        status: The HTTP status.
        message: The platform's sentence, the same for several causes.
        code: The platform's own code, which is not the HTTP status.
        reason: What exactly was wrong, for people: shown in the header `x-sandbox-reason` and in the request
            log, since the platform's own sentence rarely says it.
    """

    def __init__(self, status: int, message: str, code: int | None = None, *, reason: str = "") -> None:
        super().__init__(reason or message)
        self.status = status
        self.message = message
        self.code = status if code is None else code
        self.reason = reason or message


def bad_credentials(reason: str) -> RefusedError:
    """401 with the text that no token, a wrong signature and a wrong application share."""
    return RefusedError(HTTPStatus.UNAUTHORIZED, BAD_CREDENTIALS, PLATFORM_REFUSAL_CODE, reason=reason)


def invalid(reason: str) -> RefusedError:
    """412, the platform's answer to arguments that fail validation."""
    return RefusedError(HTTPStatus.PRECONDITION_FAILED, INVALID, reason=reason)


def missing(message: str, reason: str) -> RefusedError:
    """400, the platform's answer where a named thing does not exist or does not allow what is asked."""
    return RefusedError(HTTPStatus.BAD_REQUEST, message, reason=reason)


def ok(document: Mapping[str, Any]) -> Answer:
    """200 with a JSON document."""
    return json_answer(HTTPStatus.OK, document)


def json_answer(status: int, document: Any) -> Answer:
    """A JSON document under any status."""
    return Answer(status, json.dumps(document, ensure_ascii=False).encode())


def error_answer(status: int, message: str, code: int, *, key: str = "msg") -> Answer:
    """The platform's error envelope; some parts of it write `message` instead of `msg`."""
    return json_answer(status, {"errors": [{key: message, "code": code}]})


def refusal_answer(refusal: RefusedError) -> Answer:
    """A refusal as the caller receives it."""
    answer = error_answer(refusal.status, refusal.message, refusal.code)
    # Header values are latin-1 and single-line; a reason may quote what a caller sent.
    reason = refusal.reason.encode("ascii", "backslashreplace").decode()
    printable = "".join(char if char.isprintable() else "?" for char in reason)
    return Answer(answer.status, answer.body, headers={"x-sandbox-reason": printable})


def no_route() -> Answer:
    """The front door's page for a path that no service owns."""
    return Answer(HTTPStatus.NOT_FOUND, NO_ROUTE_PAGE.encode(), HTML_TYPE)
