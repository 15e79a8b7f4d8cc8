"""Who sends a stream's changes to a webhook, from where on, and when again after a failure.

For each pair of them there is one record, which all replicas share and which changes by compare-and-swap. It holds the
sender's lease and the position up to which the target has everything, so no two can disagree. Its laws:

1. Only the holder of the lease sends, one change at a time, and writes down what was received before it sends the next.
2. A change that was not received is sent again, after waits that grow, until it is; nothing overtakes it.
3. Who takes the lease over tries at once, unless the target has asked for a wait, and goes on with the waits where
   they were.
4. A day after the first failure, or at `410 Gone`, sending stops. A process that starts after that, or is told to go
   on, goes on from there; failures from before that are nothing to it.

All functions are pure; times are seconds of the clock that all replicas share.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus

from campaign_gateway.contract.answers import retry_wait
from campaign_gateway.policy.backoff import Backoff

LEASE_SECONDS = 20.0
"""How long a sender that died keeps others from sending."""
SPARE_SECONDS = 14.0
"""What has to be left of a lease before a change is sent: longer than a delivery, and the write after it, may take."""
WAITS = Backoff(first=1.0, most=3_600.0)
"""Seconds before a change is sent again."""
GIVE_UP_SECONDS = 86_400.0
"""For how long a target may fail before sending stops."""


class Outcome(StrEnum):
    """How a delivery ended: a closed set."""

    RECEIVED = "received"
    REFUSED = "refused"
    """Another status than 2xx."""
    REDIRECTED = "redirected"
    """Redirects are not followed."""
    GONE = "gone"
    """Nobody is to send there any longer."""
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    """No connection, or no HTTP."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of sending a change once."""

    outcome: Outcome
    wait: float = 0.0
    """For how many seconds the target wants nothing more."""


def delivery_of(status: int, retry_after: str | None, now: float) -> Delivery:
    """What an answer says.

    Args:
        status: its status.
        retry_after: its `Retry-After`; it means nothing to a sender where it comes with a redirect.
        now: when it was written, by the target's clock, in seconds since 1970.
    """
    if status == HTTPStatus.GONE:
        return Delivery(Outcome.GONE)
    outcome = {2: Outcome.RECEIVED, 3: Outcome.REDIRECTED}.get(status // 100, Outcome.REFUSED)
    return Delivery(outcome, (retry_wait(retry_after, now) or 0.0) if outcome is Outcome.REFUSED else 0.0)


@dataclass(frozen=True, slots=True)
class Sending:
    """The record of a webhook and a stream."""

    holder: str = ""
    """The process that sends; empty for none."""
    ends: float = 0.0
    """When its lease does."""
    log: str = ""
    """The name of the stream's log; empty before the first look at it."""
    position: tuple[int, int] = (0, 0)
    """The target has everything up to it."""
    oldest: float = 0.0
    """When the change was seen that waits for being received; 0 where none does."""
    failing_since: float = 0.0
    """When the first of the failures in a row was; 0 for none."""
    failure: str = ""
    """How the last delivery failed."""
    wait: float = 0.0
    """The last of the waits that grow."""
    retry_at: float = 0.0
    not_before: float = 0.0
    """Until when the target wants nothing, whoever sends."""
    stopped_at: float = 0.0
    """When sending stopped; 0 while it goes on."""


def is_free(sending: Sending | None, me: str, began: float, now: float) -> bool:
    """Whether this process, which began then, may take the lease, or has it."""
    if sending is None:
        return True
    if sending.stopped_at:
        return sending.stopped_at < began
    # A lease that lasts for longer than any of ours is nobody's.
    return sending.holder in {"", me} or not now < sending.ends <= now + LEASE_SECONDS


def taken(sending: Sending, me: str, began: float, now: float) -> Sending:
    """With the lease of this process, which began then: laws 3 and 4. One that it has stopped itself stays stopped."""
    if 0 < (sending.stopped_at or sending.failing_since) < began:
        sending = resumed(sending)
    if sending.stopped_at:
        return released(sending)
    return replace(sending, holder=me, ends=now + LEASE_SECONDS, retry_at=sending.not_before)


def released(sending: Sending) -> Sending:
    """With nobody's lease."""
    return replace(sending, holder="", ends=0.0)


def resumed(sending: Sending) -> Sending:
    """As it goes on after it was stopped: law 4."""
    return replace(sending, stopped_at=0.0, failing_since=0.0, failure="", wait=0.0, retry_at=0.0, not_before=0.0)


def moved(sending: Sending, log: str, position: tuple[int, int]) -> Sending:
    """Where the target has, or wants, nothing more up to there."""
    return replace(resumed(sending), log=log, position=position, oldest=0.0)


def failed(sending: Sending, delivery: Delivery, now: float) -> Sending:
    """After a delivery that was not received: laws 2 and 4. Nobody can ask for a wait beyond the day."""
    since, wait = sending.failing_since or now, replace(WAITS, current=sending.wait).grown().current
    last = since + GIVE_UP_SECONDS
    after = replace(
        sending,
        failing_since=since,
        failure=delivery.outcome.value,
        wait=wait,
        retry_at=min(now + max(wait, delivery.wait), last),
        not_before=min(now + delivery.wait, last),
    )
    if delivery.outcome is Outcome.GONE or now >= last:
        return replace(released(after), stopped_at=now)
    return after
