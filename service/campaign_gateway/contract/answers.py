"""What an answer of the platform means, read from its status, headers **and** body.

The status alone misleads: a missing campaign may be a 400, the rate limit may be any 4xx or a 200 with a sentence, a
200 may carry a failure, and a front door may put HTML under any of them. So the rules run in this order (`_RULES`):

1. the limit, wherever its text stands;
2. a refused credential (a 403 page in HTML is a front door's, not the platform's);
3. a page, which only ever comes from something in front of the platform (a JSON document under `text/html` is none);
4. success, if the body shows it; of a write also without a body;
5. a failed write under a 2xx; any other 2xx is broken;
6. a missing campaign or contact list;
7. another refusal (4xx);
8. all else is broken.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType
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


_NO_FIELDS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer as it came in: decoded body, no meaning attached."""

    status: int
    content_type: str
    body: bytes
    retry_after: str | None = None
    date: str | None = None
    """When it was written, by the clock of whoever wrote it."""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_FIELDS, compare=False, repr=False)
    """All fields, whatever the case of their names; none of them passes on to callers."""


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
    is_certain: bool = True
    """Whether a `MISSING` one is the platform's own word, and not perhaps that of something in front of it."""


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


@dataclass(frozen=True, slots=True)
class _Reading:
    """An answer as the rules see it."""

    operation: Operation
    requested_id: str | None
    response: Response
    document: Any
    """The JSON document of the body; None where it holds none."""
    said: str
    """The body's error text; the beginning of the body where it has no members."""

    def names_limit(self) -> bool:
        return self.response.status == HTTPStatus.TOO_MANY_REQUESTS or bool(_LIMIT_TEXT.search(self.said))

    def refuses_credential(self) -> bool:
        status = self.response.status
        return status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and not self.is_page())

    def is_page(self) -> bool:
        return self.document is None and _is_html(self.response)

    def is_validated(self) -> bool:
        return self.is_success() and self.flaw() is None

    def is_bare_write(self) -> bool:
        return self.is_success() and self.operation.kind is Kind.WRITE and self.is_empty()

    def is_failed_write(self) -> bool:
        return self.is_success() and self.operation.kind is Kind.WRITE and self.flaw() is Flaw.FAILING_BODY

    def is_success(self) -> bool:
        return HTTPStatus.OK <= self.response.status < HTTPStatus.MULTIPLE_CHOICES

    def is_missing(self) -> bool:
        is_said = (self.document is not None or self.is_empty()) and bool(self.requested_id)
        return is_said and _says_missing(self.operation, self.response.status, self.said)

    def is_refusal(self) -> bool:
        return HTTPStatus.BAD_REQUEST <= self.response.status < HTTPStatus.INTERNAL_SERVER_ERROR

    def is_empty(self) -> bool:
        return not self.response.body.strip()

    def flaw(self) -> Flaw | None:
        """Why it is no success; None when its body shows that it is one."""
        if self.is_page():
            return Flaw.HTML
        return _flaw(self.operation, self.requested_id, self.document) if self.is_success() else Flaw.STATUS


_RULES: tuple[tuple[Callable[[_Reading], bool], Verdict], ...] = (
    (_Reading.names_limit, Verdict.LIMITED),
    (_Reading.refuses_credential, Verdict.UNAUTHORIZED),
    (_Reading.is_page, Verdict.BROKEN),
    (_Reading.is_validated, Verdict.OK),
    (_Reading.is_bare_write, Verdict.OK),
    (_Reading.is_failed_write, Verdict.REJECTED),
    (_Reading.is_success, Verdict.BROKEN),
    (_Reading.is_missing, Verdict.MISSING),
    (_Reading.is_refusal, Verdict.REJECTED),
)
"""The first that holds counts; where none does, the answer is broken."""


def classify(operation: Operation, requested_id: str | None, response: Response, now: float) -> Answer:
    """What `response` says about `operation` on `requested_id`.

    Args:
        operation: what was asked.
        requested_id: the id in the request; None where the operation has none.
        response: the platform's answer.
        now: the platform's time in seconds since the epoch, where the answer itself does not say it: a `Retry-After`
            that is a date is read against that.
    """
    try:
        document = parse(response.body)
    except DocumentError:
        document = None
    code, message = _complaint(document)
    is_bare = document is None or isinstance(document, str)
    said = response.body[:LONGEST_TEXT].decode("utf-8", "replace") if is_bare else message or ""
    reading = _Reading(operation, requested_id, response, document, said)
    verdict = next((verdict for holds, verdict in _RULES if holds(reading)), Verdict.BROKEN)
    answer = Answer(verdict, response, code=code, message=message)
    match verdict:
        case Verdict.OK:
            return _success(operation, response, document) if document is not None else answer
        case Verdict.LIMITED:
            written_at = None if response.date is None else http_date(response.date)
            return replace(answer, retry_after=retry_wait(response.retry_after, written_at or now))
        case Verdict.BROKEN:
            return replace(answer, flaw=reading.flaw())
        case Verdict.MISSING:
            return replace(answer, is_certain=_is_the_platforms(document))
        case _:
            return answer


def retry_wait(retry_after: str | None, now: float) -> float | None:
    """The seconds a `Retry-After` field asks for (RFC 9110 section 10.2.3); None when absent or unreadable."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        # Nine digits are thirty years: more is noise, not a wait.
        return float(text.lstrip("0")[:9] or 0)
    moment = http_date(text)
    return None if moment is None else max(0.0, moment - now)


def _is_the_platforms(document: Any) -> bool:
    """Whether it is an error in the platform's own shape; whoever stands in front of it answers 404 too."""
    match document:
        case {"errors": [{"code": _}, *_]}:
            return True
        case {"status": status, "message": str()}:
            return _fails(status)
        case _:
            return False


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


def _flaw(operation: Operation, requested_id: str | None, document: Any) -> Flaw | None:
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
        if requested_id not in named:
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
