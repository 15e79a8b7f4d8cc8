"""Whether the platform answers, and accepts our credentials: one log line per change, and `/readyz` meanwhile."""

import logging
from dataclasses import dataclass
from http import HTTPStatus

from campaign_gateway.contract.answers import Answer, Flaw, Verdict
from campaign_gateway.policy.settle import Failure

_log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 3
"""So many attempts without a usable answer make a platform that fails; fewer are single failures, which callers see."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not well."""

    reason: str
    since: float
    """Monotonic seconds."""


class PlatformState:
    """The platform as all attempts of this process have found it."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        """Why it counts as failing; None while it answers."""
        self.refused: dict[str, Trouble] = {}
        """The credentials that it refuses, by name."""
        self._failures = 0
        self._failing_since = 0.0

    def failed(self, failure: Failure, now: float) -> None:
        """An attempt brought no usable answer. `now` is monotonic, as everywhere here."""
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        if self._failures < FAILURES_IN_A_ROW:
            return
        if self.trouble is None or self.trouble.reason != failure.detail:
            text = "the platform fails (%s): callers get what is stored, as long as that is not too old"
            _log.warning(text, failure.detail, extra={"fields": _said(failure)})
        self.trouble = Trouble(failure.detail, self._failing_since)

    def answered(self, now: float) -> None:
        """An attempt brought an answer that says something, a refusal perhaps."""
        self._failures = 0
        if self.trouble is not None:
            _log.info("the platform answers again, after %.0f s", now - self.trouble.since)
            self.trouble = None

    def refused_credential(self, credential: str, stream: str, answer: Answer, now: float) -> None:
        """It refused a credential, sent for a stream of this alias."""
        if credential in self.refused:
            return
        code = answer.code or "none"
        text = (
            "the platform refuses credential %s (stream %s, status %d, code %s): see that its secret is the right one"
        )
        _log.warning(text, credential, stream, answer.response.status, code)
        self.refused[credential] = Trouble(
            f"{credential} is refused (status {answer.response.status}, code {code})", now
        )

    def accepted_credential(self, credential: str, now: float) -> None:
        """It accepted a credential."""
        trouble = self.refused.pop(credential, None)
        if trouble is not None:
            _log.info("the platform accepts credential %s again, after %.0f s", credential, now - trouble.since)


def shows_failure(answer: Answer) -> bool:
    """Whether an answer shows a platform that fails, or something in front of it: not that one campaign is odd."""
    return answer.verdict is Verdict.BROKEN and (
        answer.response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.flaw in {Flaw.HTML, Flaw.NOT_JSON}
    )


def _said(failure: Failure) -> dict[str, object]:
    fields = {"problem": failure.problem.value.name, "upstream_status": failure.upstream_status}
    return {name: value for name, value in fields.items() if value is not None}
