"""The second decision: what to make of the platform's answer, or of its absence."""

from dataclasses import dataclass, replace
from http import HTTPStatus

from campaign_gateway.contract.answers import Answer, Flaw, Verdict
from campaign_gateway.contract.operations import Kind, Operation, RequestBody, Subject
from campaign_gateway.policy.clock_offset import AGREED, ClockOffset
from campaign_gateway.policy.evidence import GOOD, Evidence
from campaign_gateway.policy.stored import Stored, stored_from
from campaign_gateway.problems import Problem


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer: the problem that a caller without a fallback gets."""

    problem: Problem
    detail: str
    retry_after: float | None = None
    """Seconds until a new try can succeed; None where nobody knows."""
    upstream_status: int | None = None
    upstream_code: str | None = None
    upstream_message: str | None = None
    was_sent: bool = True
    """False only if the request certainly never left, where one was to leave at all."""

    @property
    def was_forwarded(self) -> bool:
        """Whether the platform was asked, rather than the gateway refusing to ask."""
        if self.problem in {Problem.UPSTREAM_PAUSED, Problem.UPSTREAM_UNAUTHORIZED}:
            return self.upstream_status is not None
        return self.problem not in {Problem.BUDGET_EXHAUSTED, Problem.OVERLOADED, Problem.NOT_CACHED, Problem.INTERNAL}


@dataclass(frozen=True, slots=True)
class Fill:
    """A new answer."""

    stored: Stored
    is_unchanged: bool
    """The content is what was stored before: bytes and tag were kept."""
    upstream_status: int
    evidence: Evidence = GOOD
    """What is known of it already."""
    is_collapsed: bool = False
    """Another replica made it."""


def settle(
    operation: Operation,
    previous: Stored | None,
    answer: Answer,
    started: float,
    clock: ClockOffset = AGREED,
    written_at: float = 0.0,
) -> Fill | Failure:
    """What a read's answer is worth.

    Only what was asked for, or the platform's own word that there is no such thing, is stored; nothing else ever takes
    the place of a stored answer.

    Args:
        operation: what was asked.
        previous: what was stored when the read began.
        answer: the classified answer.
        started: when the read began, in seconds of the store's clock.
        clock: of the platform's clock to that one.
        written_at: when a write last may have changed it; 0 for never.
    """
    if answer.verdict is Verdict.MISSING and not answer.is_certain and previous is not None and not previous.absence:
        # Not for this what is known to be there is given up.
        return _failure(operation, replace(answer, verdict=Verdict.BROKEN, flaw=Flaw.STATUS))
    if answer.verdict in {Verdict.OK, Verdict.MISSING}:
        stored, is_unchanged = stored_from(previous, answer, started, clock)
        return Fill(stored, is_unchanged, answer.response.status, GOOD.settling(stored, written_at))
    return _failure(operation, answer)


def judge(operation: Operation, answer: Answer) -> Failure | None:
    """Why something that is never stored, a write perhaps, did not succeed; None when it did."""
    if answer.verdict is Verdict.OK:
        return None
    failure = _failure(operation, answer)
    if answer.verdict is Verdict.BROKEN and operation.kind is Kind.WRITE:
        return replace(failure, detail=f"{failure.detail}; {OUTCOME_UNKNOWN}")
    return failure


def _failure(operation: Operation, answer: Answer) -> Failure:
    match answer.verdict:
        case Verdict.MISSING:
            problem, detail = NOT_FOUND[operation.subject], f"the platform knows no such {operation.subject}"
        case Verdict.REJECTED if operation.kind is Kind.WRITE or operation.body is RequestBody.JSON:
            problem, detail = Problem.UPSTREAM_REJECTED, "the platform refused the request"
        case _:
            problem, detail = _REFUSALS.get(answer.verdict) or _broken(answer)
    return Failure(
        problem,
        detail,
        retry_after=answer.retry_after,
        upstream_status=answer.response.status,
        upstream_code=answer.code,
        upstream_message=answer.message,
    )


OUTCOME_UNKNOWN = "whether the write took effect is not known"
NOT_FOUND = {
    Subject.CAMPAIGN: Problem.CAMPAIGN_NOT_FOUND,
    Subject.CONTACT_LIST: Problem.CONTACT_LIST_NOT_FOUND,
}

_REFUSALS = {
    Verdict.LIMITED: (Problem.UPSTREAM_PAUSED, "the platform says the account's call rate is exceeded"),
    Verdict.UNAUTHORIZED: (Problem.UPSTREAM_UNAUTHORIZED, "the platform refused the credential of this stream"),
    Verdict.REJECTED: (Problem.UPSTREAM_INVALID, "the platform refused the read"),
}

_FLAWS = {
    Flaw.HTML: "the answer is an HTML page",
    Flaw.NOT_JSON: "the answer is not one JSON document, or one with too many values",
    Flaw.FAILING_BODY: "the answer's body reports a failure",
    Flaw.NO_DATA: "the answer does not contain what was requested",
    Flaw.WRONG_ID: "the answer is about another id",
    Flaw.STATUS: "the answer's status is unexpected",
}


def _broken(answer: Answer) -> tuple[Problem, str]:
    status = answer.response.status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem.UPSTREAM_UNAVAILABLE, f"the platform answered {status}"
    return Problem.UPSTREAM_INVALID, _FLAWS[answer.flaw or Flaw.STATUS]
