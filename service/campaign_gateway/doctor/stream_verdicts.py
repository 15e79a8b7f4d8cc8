"""What the platform's answer to a stream's first call comes to. Pure: facts in, findings out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from campaign_gateway.contract.answers import Answer, Verdict
from campaign_gateway.doctor.findings import Check, Finding, error, ok, skipped, warning
from campaign_gateway.policy.clock_offset import FAR_OFF_SECONDS
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem

_EXPIRY = re.compile(r"expired|\bexp\b|not active|\bnbf\b|\biat\b", re.IGNORECASE)
_SCOPE = re.compile(r"scope|permission", re.IGNORECASE)
_SINGLE_USE = re.compile(r"replay|\bjti\b", re.IGNORECASE)
_UNREADABLE = re.compile(r"invalid jwt|jwt malformed", re.IGNORECASE)
_NAMES_A_CAUSE = re.compile("|".join(cause.pattern for cause in (_EXPIRY, _SINGLE_USE, _UNREADABLE)), re.IGNORECASE)
_IDS = re.compile(r"stream ?id|application|account", re.IGNORECASE)
_FORBIDDEN = 403
_DATE_SECONDS = 1.0
"""What a `Date` can tell."""
_NO_PERMIT = frozenset({Problem.BUDGET_EXHAUSTED, Problem.UPSTREAM_PAUSED, Problem.OVERLOADED})


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What is known of one stream after its first call."""

    alias: str
    credential: str
    lifetime: float
    """Of tokens, in seconds."""
    first: Answer | Failure
    seconds_ahead: float | None
    """By which the platform's clock is ahead of this machine's; None while unknown."""
    known: int
    """Calls of the window that the ledger knew of ..."""
    allowed: int
    """... out of so many."""
    is_shared: bool
    """Whether that ledger is the one of all gateways."""
    expired: Answer | None = None
    """The answer to a token that has expired and is as good otherwise; None where nobody asked."""
    single_use: Answer | None = None
    """The answer to a token with a `jti`; None where nobody asked."""
    is_credential_good: bool = False
    """Whether the credential worked for another stream."""

    @property
    def message(self) -> str:
        """The platform's words; empty without any."""
        return (self.first.message or "") if isinstance(self.first, Answer) else ""


def is_ambiguous(facts: StreamFacts) -> bool:
    """Whether the token was refused in words that stand for a wrong credential and for a wrong application."""
    first = facts.first
    if not isinstance(first, Answer) or first.verdict is not Verdict.UNAUTHORIZED:
        return False
    return not (_is_for_scope(first) or _is_for_the_clock(facts) or _NAMES_A_CAUSE.search(facts.message))


def judge(facts: StreamFacts) -> list[Finding]:
    """What the first call has shown, in the order of the checks."""
    first, alias = facts.first, facts.alias
    if isinstance(first, Failure):
        return _without_answer(facts, first)
    found = [
        ok(Check.STREAM_CALL, alias, f"asked for the list of campaigns, answered with status {first.response.status}")
    ]
    if first.verdict is Verdict.LIMITED:
        return [*found, _clock(facts), _limited(facts), *_untried(facts, "the call was refused for the limit")]
    is_refused = first.verdict is Verdict.UNAUTHORIZED
    clock = _clock(facts, is_refused=is_refused and _is_for_the_clock(facts))
    limit = ok(
        Check.STREAM_LIMIT, alias, f"{facts.known} of {facts.allowed} calls of the window were known, none refused"
    )
    if is_refused:
        return [*found, clock, limit, *_refused(facts, clock)]
    if first.verdict is Verdict.OK:
        return [*found, clock, limit, *_accepted(facts)]
    return [*found, clock, limit, *_odd(facts, first)]


def _without_answer(facts: StreamFacts, failure: Failure) -> list[Finding]:
    check = Check.STREAM_CALL
    if failure.problem not in _NO_PERMIT:
        return [error(check, facts.alias, failure.detail, "see the checks of the platform above"), *_untried(facts)]
    if not facts.is_shared:
        who = "the doctor's own calls are spent"
    else:
        who = f"{failure.detail}: {facts.known} of {facts.allowed} calls of the window are in use"
    after = f"ask again in {failure.retry_after:.0f} s" if failure.retry_after else "ask again in a minute"
    return [warning(check, facts.alias, who, after), *_untried(facts)]


def _untried(facts: StreamFacts, why: str = "there was no answer") -> list[Finding]:
    return [
        skipped(check, facts.alias, f"not known: {why}")
        for check in (Check.STREAM_CREDENTIAL, Check.STREAM_SCOPE, Check.STREAM_IDS)
    ]


def _is_for_scope(first: Answer) -> bool:
    return bool(_SCOPE.search(first.message or "")) or first.response.status == _FORBIDDEN


def _is_for_the_clock(facts: StreamFacts) -> bool:
    ahead = facts.seconds_ahead
    is_far = ahead is not None and abs(ahead) > FAR_OFF_SECONDS
    says_so = bool(_EXPIRY.search(facts.message)) and not _SINGLE_USE.search(facts.message)
    return is_far and (says_so or abs(ahead or 0.0) >= facts.lifetime)


def _clock(facts: StreamFacts, *, is_refused: bool = False) -> Finding:
    check, ahead = Check.STREAM_CLOCK, facts.seconds_ahead
    if ahead is None:
        return skipped(check, facts.alias, "the answer has no Date")
    found = f"the platform's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    cure = "set this machine's clock (NTP): tokens are dated by it"
    if is_refused:
        return error(check, facts.alias, f'{found}, and it refuses the token: "{facts.message}"', cure)
    if abs(ahead) > FAR_OFF_SECONDS:
        return warning(check, facts.alias, found, cure)
    is_close = abs(ahead) <= _DATE_SECONDS
    return ok(check, facts.alias, "the platform's clock agrees with this machine's" if is_close else found)


def _limited(facts: StreamFacts) -> Finding:
    knows = f"the ledger knows of {facts.known} of {facts.allowed} calls in the window"
    if not facts.is_shared:
        knows = f"{facts.known} calls were made here; gateways without Redis count for themselves"
    found = f'refused for the limit ("{facts.message or "429"}"), and {knows}'
    advice = "find out who else uses the account, or write its real limit into budgets"
    return error(Check.STREAM_LIMIT, facts.alias, found, advice)


def _refused(facts: StreamFacts, clock: Finding) -> list[Finding]:
    first, alias, name = facts.first, facts.alias, facts.credential
    said = f'status {first.response.status}, "{facts.message}"' if isinstance(first, Answer) else ""
    unknown = [
        skipped(check, alias, "not known: the token is refused") for check in (Check.STREAM_SCOPE, Check.STREAM_IDS)
    ]
    if clock.status == "error":
        return [skipped(Check.STREAM_CREDENTIAL, alias, "not known: the token is refused for its time"), *unknown]
    if isinstance(first, Answer) and _is_for_scope(first):
        return [
            ok(Check.STREAM_CREDENTIAL, alias, f"{name}: the token was accepted"),
            error(Check.STREAM_SCOPE, alias, said, "grant the app the scope Campaign Management, and publish it"),
            skipped(Check.STREAM_IDS, alias, "not known: the scope comes first"),
        ]
    if facts.single_use is not None and facts.single_use.verdict is Verdict.OK:
        cure = f"write credentials.{name}.jti: true"
        return [error(Check.STREAM_CREDENTIAL, alias, f"{name}: {said}, but not with a jti", cure), *unknown]
    if facts.is_credential_good or (facts.expired is not None and _tells_apart(facts.expired, facts.message)):
        how = "for another stream" if facts.is_credential_good else "as an expired one was refused for its time only"
        return [
            ok(Check.STREAM_CREDENTIAL, alias, f"{name}: the token is accepted {how}"),
            skipped(Check.STREAM_SCOPE, alias, "not known: the application comes first"),
            error(Check.STREAM_IDS, alias, said, f"check stream_id, account_id and app_id of streams.{alias}"),
        ]
    return [error(Check.STREAM_CREDENTIAL, alias, f"{name}: {said}", _credential_cure(facts)), *unknown]


def _tells_apart(expired: Answer, message: str) -> bool:
    """Whether the expired token was refused for another reason than the good one: then its signature was accepted."""
    return (
        expired.verdict is Verdict.UNAUTHORIZED
        and expired.message != message
        and bool(_EXPIRY.search(expired.message or ""))
    )


def _credential_cure(facts: StreamFacts) -> str:
    key = f"credentials.{facts.credential}"
    if _SINGLE_USE.search(facts.message):
        return f"set {key}.jti, or token_lifetime to 1h at most"
    if _EXPIRY.search(facts.message):
        return f"check {key}.token_lifetime, and this machine's clock"
    if _UNREADABLE.search(facts.message):
        return f"see whether the app enforces JWE, and set {key}.jwe"
    return f"check client_id, secret and algorithm of {key}, and whether the app enforces JWE; then the stream's ids"


def _accepted(facts: StreamFacts) -> Sequence[Finding]:
    return [
        ok(Check.STREAM_CREDENTIAL, facts.alias, f"{facts.credential}: accepted"),
        ok(Check.STREAM_SCOPE, facts.alias, "campaigns may be read"),
        ok(Check.STREAM_IDS, facts.alias, "accepted"),
    ]


def _odd(facts: StreamFacts, first: Answer) -> list[Finding]:
    status = first.response.status
    said = f'status {status}, "{facts.message}"' if facts.message else f"status {status}, {first.flaw or first.verdict}"
    if first.verdict in {Verdict.REJECTED, Verdict.MISSING} and _IDS.search(facts.message):
        return [
            ok(Check.STREAM_CREDENTIAL, facts.alias, f"{facts.credential}: accepted"),
            error(Check.STREAM_IDS, facts.alias, said, f"check stream_id and account_id of streams.{facts.alias}"),
        ]
    advice = "see what answers there: the platform, or something in front of it"
    return [error(Check.STREAM_ANSWER, facts.alias, said, advice)]
