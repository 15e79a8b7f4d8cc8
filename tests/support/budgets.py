"""Ledgers, reports and requests for tests of the budget's arithmetic."""

from collections.abc import Sequence
from typing import Any

from campaign_gateway.policy.ledger import Allowance, Lane, Ledger, Slot, SlotRequest
from campaign_gateway.policy.reports import Report
from campaign_gateway.policy.schedule import grant

# Times in these tests are parts of a second on which float arithmetic is exact.
WINDOW, LEAVE, TIMEOUT = 16.0, 1.0, 3.0
MOST = LEAVE + TIMEOUT + WINDOW
NOW = 1000.0

WRITES, INTERACTIVE, VALIDATION, BACKGROUND = Lane


def allow(calls: int = 3, **fields: Any) -> Allowance:
    return Allowance(calls, WINDOW, LEAVE, TIMEOUT, **fields)


def held(*offsets: float, lane: Lane = INTERACTIVE, client: str = "c", start: int = 1) -> tuple[Slot, ...]:
    """Slots that fall free so many seconds from now."""
    return tuple(Slot(f"{lane}-{client}-{start + i}", lane, client, NOW + at) for i, at in enumerate(offsets))


def requests(*rows: Lane | tuple[Lane, str]) -> list[SlotRequest]:
    pairs = [(row, "c") if isinstance(row, Lane) else row for row in rows]
    return [SlotRequest(f"new-{number}", lane, client) for number, (lane, client) in enumerate(pairs)]


def told(ledger: Ledger, allowance: Allowance, asked: Sequence[SlotRequest], now: float = NOW) -> list[Any]:
    """For each request: True for a slot, or the seconds and the reason of its wait."""
    _, answers = grant(ledger, allowance, asked, now)
    return [True if isinstance(answer, Slot) else (answer.seconds, answer.reason.value) for answer in answers]


def report(
    replica: str = "a",
    *slots: Slot,
    known: int = 1,
    voided: frozenset[str] = frozenset(),
    succeeded: frozenset[str] = frozenset(),
) -> Report:
    return Report(replica, known, {slot.id: slot for slot in slots}, voided, succeeded)
