"""What each problem means and what to do about it: the text of `/problems/<name>`, and of examples."""

from collections.abc import Mapping
from dataclasses import dataclass

from campaign_gateway.problems import Problem


@dataclass(frozen=True, slots=True)
class Guide:
    """What to know about one type of problem."""

    cause: str
    """When it comes."""
    cure: str
    """What a caller does about it."""
    contact: str
    """Whom to ask if that does not help."""
    example: str
    """The `detail` of one occurrence."""


_YOURSELF = "Nobody: the request has to change. `detail` says what in it."
_OPERATORS = "Those who run this gateway, with the `request_id`."
_PLATFORM = "Those who run this gateway first; they know the platform's support."

GUIDE: Mapping[Problem, Guide] = {
    Problem.INVALID_REQUEST: Guide(
        "An id, a parameter, the body or the HTTP of the request is not acceptable. Nothing was sent to the platform.",
        "Correct what `detail` names. Sending the same request again gives the same answer.",
        _YOURSELF,
        "unknown parameter limt: did you mean limit? the parameters here are limit, page",
    ),
    Problem.UNAUTHENTICATED: Guide(
        "The request has no client key, more than one, or one that the gateway does not know.",
        "Send `Authorization: Bearer <key>` with the key of your service. After a rotation, use the new one.",
        "Those who run this gateway give out keys.",
        "a client key is needed",
    ),
    Problem.FORBIDDEN: Guide(
        "The key is known, but its client may not use this stream, or lacks the scope that the operation needs "
        "(`read`, `write` or `purge`). Without client keys: a page of another site asked.",
        "Use a stream and an operation that your client may use.",
        "Those who run this gateway decide what a client may do.",
        "this client may not use that stream",
    ),
    Problem.UNKNOWN_STREAM: Guide(
        "The path names no stream, and none is the default.",
        "Name a stream in the path: `/v1/streams/{stream}/...`.",
        _OPERATORS,
        "no stream is the default: name one in the path",
    ),
    Problem.NOT_FOUND: Guide(
        "There is nothing at this path.",
        "Compare the path with `/openapi.json` or `/docs`. It begins with `/v1`, and has no slash at its end.",
        _YOURSELF,
        "there is nothing at this path",
    ),
    Problem.CAMPAIGN_NOT_FOUND: Guide(
        "The platform says that it has no campaign with this id in this stream. The gateway remembers that for a few "
        "seconds.",
        "Check the id and the stream. If the campaign was made a moment ago, ask again shortly, with the "
        "`Campaign-Gateway-Version` of the write's answer.",
        "Those who manage the campaigns.",
        "the platform knows no campaign with this id",
    ),
    Problem.CONTACT_LIST_NOT_FOUND: Guide(
        "The platform says that it has no contact list with this id in this stream.",
        "Check the id and the stream.",
        "Those who manage the campaigns.",
        "the platform knows no contact list with this id",
    ),
    Problem.METHOD_NOT_ALLOWED: Guide(
        "The path exists, and does not take this method.",
        "Use one of the methods in the header field `Allow`.",
        _YOURSELF,
        "this route takes DELETE, GET, HEAD, PUT",
    ),
    Problem.CURSOR_EXPIRED: Guide(
        "What came after the cursor is no longer kept: it is too old, or the store of the changes has begun anew.",
        "Read again what you hold, then go on without `after`, or with `after=0`.",
        _YOURSELF,
        "read again what you hold, then go on without after",
    ),
    Problem.TOO_LARGE: Guide(
        "The body of the request, or the answer to all ids of a batch, is larger than the gateway takes.",
        "Send or ask for less at once, for example contacts in several requests.",
        "Those who run this gateway set the limit.",
        "the body is larger than 1048576 bytes",
    ),
    Problem.UNSUPPORTED_MEDIA_TYPE: Guide(
        "The body is declared as something else than JSON. Browsers send forms and plain text for any page.",
        "Send `Content-Type: application/json`. With `curl`, use `--json` in place of `--data`.",
        _YOURSELF,
        "the body has to be application/json",
    ),
    Problem.HEADER_TOO_LARGE: Guide(
        "A header field of the request is larger than the gateway takes.",
        "Send shorter fields; long cookies and tracing fields are the usual cause.",
        _YOURSELF,
        "a header field is longer than 16384 bytes",
    ),
    Problem.RATE_LIMITED: Guide(
        "This client asks more often, for more at once, or by more connections than it may. Calls of the platform are"
        " counted apart from that.",
        "Come back after the seconds in `Retry-After`; keep connections, and reuse them.",
        "Those who run this gateway set the limits of each client.",
        "this client asks more often than it may",
    ),
    Problem.UPSTREAM_REJECTED: Guide(
        "The platform understood the request and refused it.",
        "Correct what `upstream_message` and `upstream_code` name. The same request again gives the same answer.",
        "Those who manage the campaigns; the platform's documentation explains its messages.",
        "the platform refused the request",
    ),
    Problem.NOT_CACHED: Guide(
        "The request said `only-if-cached`, and no usable answer is stored.",
        "Ask without `only-if-cached`, which may cost a call.",
        _YOURSELF,
        "nothing usable is stored, and only-if-cached rules out a call",
    ),
    Problem.UPSTREAM_UNAUTHORIZED: Guide(
        "The platform refused the gateway's own credential. Your key is not the reason.",
        "Ask again later. Stored answers are served meanwhile.",
        "Those who run this gateway: the credential, its scope at the platform, or the clock is wrong.",
        "the platform refused the gateway's credential",
    ),
    Problem.UPSTREAM_UNAVAILABLE: Guide(
        "The platform could not be reached, or ended the connection. If a write was sent, its effect is unknown.",
        "Ask again after `Retry-After`, or with growing pauses. Before you repeat a write, read what it has done.",
        _PLATFORM,
        "no connection to the platform",
    ),
    Problem.UPSTREAM_INVALID: Guide(
        "The platform answered with an error of its own, or with something that is no campaign.",
        "Ask again with growing pauses. Before you repeat a write, read what it has done.",
        _PLATFORM,
        "the platform's answer cannot be used",
    ),
    Problem.UPSTREAM_TIMEOUT: Guide(
        "The platform did not answer in time. If a write was sent, its effect is unknown.",
        "Ask again with growing pauses. Before you repeat a write, read what it has done.",
        _PLATFORM,
        "the platform did not answer in time",
    ),
    Problem.BUDGET_EXHAUSTED: Guide(
        "The platform allows a number of calls in a minute. They are spent, or your client's share is, and no usable "
        "answer is stored.",
        "Ask again after `Retry-After`: a call is kept for you then. Ask for several campaigns at once with `ids`, and "
        "without `no-cache`.",
        "Those who run this gateway divide the calls among its clients.",
        "no call is free now",
    ),
    Problem.UPSTREAM_PAUSED: Guide(
        "The platform said that its limit was reached, and the gateway makes no calls until it may. No usable answer "
        "is stored.",
        "Ask again after `Retry-After`.",
        "Those who run this gateway, if it lasts: somebody else uses the account's calls.",
        "the platform asked for a pause",
    ),
    Problem.OVERLOADED: Guide(
        "More requests wait for a call than can be served in time.",
        "Ask again after `Retry-After`, and with fewer requests at once.",
        _OPERATORS,
        "too many requests are waiting",
    ),
    Problem.INTERNAL: Guide(
        "An error in the gateway. Its log has the reason under the `request_id`.",
        "Ask again once. If it stays, report it.",
        _OPERATORS,
        "an error in the gateway; its log has the request id",
    ),
}
"""Every problem has one."""
