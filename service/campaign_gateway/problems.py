"""The closed list of problem types an answer can carry (RFC 9457)."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One row of the list: `/problems/<name>`, its HTTP status and its fixed title."""

    name: str
    status: int
    title: str


class Problem(Enum):
    """Every error a caller can meet. The README's table and the tests read this list."""

    INVALID_REQUEST = ProblemType("invalid-request", 400, "The request is not acceptable")
    UNAUTHENTICATED = ProblemType("unauthenticated", 401, "A valid client key is needed")
    FORBIDDEN = ProblemType("forbidden", 403, "This client may not do that")
    UNKNOWN_STREAM = ProblemType("unknown-stream", 404, "No such stream")
    NOT_FOUND = ProblemType("not-found", 404, "No such route")
    CAMPAIGN_NOT_FOUND = ProblemType("campaign-not-found", 404, "No such campaign")
    CONTACT_LIST_NOT_FOUND = ProblemType("contact-list-not-found", 404, "No such contact list")
    METHOD_NOT_ALLOWED = ProblemType("method-not-allowed", 405, "This route does not take that method")
    CURSOR_EXPIRED = ProblemType("cursor-expired", 410, "The feed no longer keeps what came after that cursor")
    TOO_LARGE = ProblemType("too-large", 413, "The content is too large")
    UNSUPPORTED_MEDIA_TYPE = ProblemType("unsupported-media-type", 415, "The request body is not declared as JSON")
    HEADER_TOO_LARGE = ProblemType("header-too-large", 431, "A header field is too large")
    RATE_LIMITED = ProblemType("rate-limited", 429, "This client asks for too much")
    UPSTREAM_REJECTED = ProblemType("upstream-rejected", 422, "The platform refused the request")
    NOT_CACHED = ProblemType("not-cached", 504, "Nothing usable is stored")
    UPSTREAM_UNAUTHORIZED = ProblemType("upstream-unauthorized", 502, "The platform refused the gateway's credential")
    UPSTREAM_UNAVAILABLE = ProblemType("upstream-unavailable", 502, "The platform cannot be reached")
    UPSTREAM_INVALID = ProblemType("upstream-invalid", 502, "The platform's answer cannot be used")
    UPSTREAM_TIMEOUT = ProblemType("upstream-timeout", 504, "The platform did not answer in time")
    BUDGET_EXHAUSTED = ProblemType("budget-exhausted", 503, "The call budget is spent")
    UPSTREAM_PAUSED = ProblemType("upstream-paused", 503, "The platform asked for a pause")
    OVERLOADED = ProblemType("overloaded", 503, "Too many requests are waiting")
    INTERNAL = ProblemType("internal", 500, "The gateway failed")

    @property
    def type(self) -> str:
        """The relative URI that identifies the problem type."""
        return f"/problems/{self.value.name}"

    @property
    def status(self) -> int:
        """The HTTP status that goes with it."""
        return self.value.status

    @property
    def title(self) -> str:
        """One sentence, the same for every occurrence."""
        return self.value.title
