"""What an answer of the platform means, read from its status, headers **and** body.

The status alone misleads: a missing campaign may be a 400, the rate limit may be any 4xx or a 200 with a sentence, a
200 may carry a failure, and a front door may put HTML under any of them. So the rules run in this order:

1. the limit, wherever its text stands;
2. a refused credential (a 403 page in HTML is a front door's, not the platform's);
3. a page, which only ever comes from something in front of the platform (a JSON document under `text/html` is none);
4. success, if the body proves it;
5. a missing campaign or contact list;
6. another refusal (4xx), or a 200 that reports a failed write;
7. all else is broken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from campaign_gateway.contract.dates import http_date
from campaign_gateway.contract.document import DocumentError, content_digest, parse, plain
from campaign_gateway.contract.operations import Kind, Operation, Subject
from campaign_gateway.contract.revisions import revision_of


class Verdict(StrEnum):
    """The outcome classes; also the values of the metric label `outcome`."""

    OK = "ok"
    MISSING = "missing"
    REJECTED = "rejected"
    UNAUTHORIZED = "unauthorized"
    LIMITED = "limited"
    BROKEN = "broken"


class Flaw(StrEnum):
    """Why an answer is broken."""

    HTML = "html"
    NOT_JSON = "not-json"
    FAILING_BODY = "failing-body"
    NO_DATA = "no-data"
    WRONG_ID = "wrong-id"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer as it came in: decoded body, no meaning attached."""

    status: int
    content_type: str
    body: bytes
    retry_after: str | None = None
    date: str | None = None
    """When it was written, by the clock of whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A `Response` and what it means."""

    verdict: Verdict
    response: Response
    flaw: Flaw | None = None
    code: str | None = None
    """The platform's own error code, which is not the HTTP status."""
    message: str | None = None
    retry_after: float | None = None
    """Seconds to wait, for `LIMITED` answers that say so."""
    content: bytes | None = None
    """`content_digest` of the body, for `OK` answers."""
    revision: str | None = None
    campaign_status: str | None = None


LONGEST_CODE = 64
LONGEST_TEXT = 1_000
"""Characters of an error text that are kept and passed on."""

_FAILING_STATUS = frozenset({"error", "failure", "failed", "fail"})
_LIMIT_TEXT = re.compile(r"rate[ -]limit|too many requests", re.IGNORECASE)
_MISSING_TEXT = re.compile(
    r"not (be )?found|(does not|doesn't|do not) exist|no such|(could not|unable to|cannot) find|invalid campaign",
    re.IGNORECASE,
)
_NOT_ABOUT_THE_SUBJECT = {
    Subject.CAMPAIGN: re.compile(r"stream ?id|application|account|\broute\b|contact ?list", re.IGNORECASE),
    Subject.CONTACT_LIST: re.compile(r"stream ?id|application|account|\broute\b|campaign", re.IGNORECASE),
}
_GONE_STATUS = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def classify(operation: Operation, asked_id: str | None, response: Response, now: float) -> Answer:
    """What `response` says about `operation` on `asked_id`.

    Args:
        operation: what was asked.
        asked_id: the id in the request; None where the operation has none.
        response: the platform's answer.
        now: the platform's time in seconds since the epoch, where the answer itself does not tell it: a `Retry-After`
            that is a date is read against that.
    """
    try:
        document = parse(response.body)
    except DocumentError:
        document = None
    code, message = _complaint(document)
    status = response.status
    is_bare = document is None or isinstance(document, str)
    said = response.body[:LONGEST_TEXT].decode("utf-8", "replace") if is_bare else message or ""

    def answer(verdict: Verdict, flaw: Flaw | None = None, retry_after: float | None = None) -> Answer:
        return Answer(verdict, response, flaw, code, message, retry_after)

    if status == HTTPStatus.TOO_MANY_REQUESTS or _LIMIT_TEXT.search(said):
        written_at = None if response.date is None else http_date(response.date)
        return answer(Verdict.LIMITED, retry_after=wait_told(response.retry_after, written_at or now))
    is_page = document is None and _is_html(response)
    if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not is_page):
        return answer(Verdict.UNAUTHORIZED)
    if is_page:
        return answer(Verdict.BROKEN, Flaw.HTML)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        flaw = _flaw(operation, asked_id, document)
        if operation.kind is Kind.WRITE and (not response.body.strip() or flaw is Flaw.FAILING_BODY):
            return answer(Verdict.REJECTED if document is not None else Verdict.OK)
        return answer(Verdict.BROKEN, flaw) if flaw else _success(operation, response, document)
    if (document is not None or not response.body.strip()) and asked_id and _says_missing(operation, status, said):
        return answer(Verdict.MISSING)
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return answer(Verdict.REJECTED)
    return answer(Verdict.BROKEN, Flaw.STATUS)


def wait_told(retry_after: str | None, now: float) -> float | None:
    """The seconds a `Retry-After` field asks for (RFC 9110 section 10.2.3); None when absent or unreadable."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        # Nine digits are thirty years: more is noise, not a wait.
        return float(text.lstrip("0")[:9] or 0)
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - now)


def _says_missing(operation: Operation, status: int, said: str) -> bool:
    """Whether it is what was asked for that is missing, and not something that the request names beside it."""
    named = operation.subject.value.replace("-", " ")
    if _NOT_ABOUT_THE_SUBJECT[operation.subject].search(said) and named not in said.lower():
        return False
    return status in _GONE_STATUS or (status == HTTPStatus.BAD_REQUEST and bool(_MISSING_TEXT.search(said)))


def _success(operation: Operation, response: Response, document: Mapping[str, Any]) -> Answer:
    data = document.get("data")
    shown = data if isinstance(data, dict) else {}
    status = shown.get("status") if operation.subject is Subject.CAMPAIGN else None
    return Answer(
        Verdict.OK,
        response,
        content=content_digest(document),
        revision=revision_of(shown) if operation.answer.has_revision else None,
        campaign_status=plain(status) if isinstance(status, str) else None,
    )


def _flaw(operation: Operation, asked_id: str | None, document: Any) -> Flaw | None:
    """Why a 2xx answer is no success; None when it is one."""
    if document is None:
        return Flaw.NOT_JSON
    if not isinstance(document, dict):
        return Flaw.NO_DATA
    shape = operation.answer
    # A campaign's own status comes with its revision, whatever word it is.
    is_flag = shape.status_is_flag or "updatedAt" not in document
    if document.get("errors") or (is_flag and _fails(document.get("status"))):
        return Flaw.FAILING_BODY
    data = document.get("data")
    if not isinstance(data, shape.data) or (shape.data is dict and not data):
        return Flaw.NO_DATA
    if shape.ids and isinstance(data, dict):
        named = [data[name] for name in shape.ids if name in data]
        if asked_id not in named:
            return Flaw.WRONG_ID
    return None


def _fails(status: Any) -> bool:
    return isinstance(status, str) and status.strip().lower() in _FAILING_STATUS


def _succeeds(status: Any) -> bool:
    return isinstance(status, str) and status.strip().lower() == "success"


def _complaint(document: Any) -> tuple[str | None, str | None]:
    """The first error code and all error texts, out of any of the platform's error shapes.

    Nones when the body complains of nothing: a campaign's *name* stands in the message of a success.
    """
    if not isinstance(document, dict):
        return None, None
    errors = document.get("errors")
    if not errors:
        status = document.get("status")
        if not _fails(status) and (document.get("data") or _succeeds(status)):
            return None, None
        errors = document
    rows = [*errors, document] if isinstance(errors, list) else [errors]
    codes = [row.get("code") for row in rows if isinstance(row, dict)]
    texts = [row if isinstance(row, str) else _text(row) for row in rows]
    code = next((plain(str(code))[:LONGEST_CODE] for code in codes if isinstance(code, str | int)), None)
    return code, plain("; ".join(filter(None, texts)))[:LONGEST_TEXT] or None


def _text(error: Any) -> str | None:
    texts = (error.get(key) for key in ("msg", "message")) if isinstance(error, dict) else ()
    return next((text for text in texts if isinstance(text, str)), None)


def _is_html(response: Response) -> bool:
    return "html" in response.content_type.lower() or response.body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
