"""What one replica's report makes of an account's ledger.

A report meets a ledger in one of six states (`Continuity`), which say what of it still holds:

| the ledger                                          | goes on as                                                     |
|-----------------------------------------------------|----------------------------------------------------------------|
| `MISSING`: a first start, or it was lost            | a new one; not whole, if other replicas were known             |
| `UNSIGNED`: written by who may not ask for its name | the same, under the server's name                              |
| `RESTARTED`: another run of the server answers      | its slots; not whole, if other replicas were known             |
| `UNREADABLE`: others have written it, nobody knows  | a new one; not whole, whoever was known                        |
| `ABANDONED`: nobody has been seen, this one neither | the same; all are missing from now on, until they are seen     |
| `UNBROKEN`                                          | the same                                                       |

Whatever has become of it, a ledger from before a step of the shared clock is first moved to the clock as it is now: a
replica knows by its own, monotonic one when it last reported. And no instant in it is later than can be.

A ledger that is not whole is whole when as many replicas as were known have been seen, each with its own slots, or when
whatever they sent has left the window (law 4 of `policy.ledger`).

All functions are pure; times are seconds of the clock that all replicas share.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from math import inf

from campaign_gateway.policy.ledger import (
    SILENCE_SECONDS,
    UNREADABLE,
    WITHHELD_WINDOWS,
    Allowance,
    Ledger,
    Promise,
    Slot,
    free_at,
    last_well,
    missing,
)
from campaign_gateway.policy.restart import bounded, moved

MAX_STEP_SECONDS = 0.5
"""By which two replicas' readings of the shared clock may differ: each is off by half a trip at most."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica knows of its own calls."""

    replica: str
    known: int
    """How many replicas there were when it last saw the ledger, itself included."""
    slots: Mapping[str, Slot]
    voided: frozenset[str] = frozenset()
    """Calls that never left."""
    succeeded: frozenset[str] = frozenset()
    """Calls that ended without the platform refusing them for the limit."""
    server: str = ""
    """The run of the server that the ledger came from."""
    promises: tuple[Promise, ...] = ()
    """All of its own."""
    refused: Mapping[str, float] = field(default_factory=dict)
    """When it last refused a caller of each client."""
    allotment: int = 0
    """Calls that it may still begin without the ledger."""
    last_at: float | None = None
    """When it last reported, as far as its monotonic clock tells; None where that is not certain."""
    quiet_until: float = 0.0
    """Until when it will not be seen, unless it has something to say."""


class Continuity(Enum):
    """What has become of the ledger since the reporting replica, or anybody, was last seen in it."""

    MISSING = auto()
    UNSIGNED = auto()
    RESTARTED = auto()
    UNREADABLE = auto()
    ABANDONED = auto()
    UNBROKEN = auto()


def continuity(ledger: Ledger | None, report: Report, now: float) -> Continuity:
    """What has become of the ledger."""
    if ledger is None:
        return Continuity.MISSING
    if ledger is UNREADABLE:
        return Continuity.UNREADABLE
    if report.server and not ledger.server:
        return Continuity.UNSIGNED
    if report.server and ledger.server != report.server:
        return Continuity.RESTARTED
    if report.replica in ledger.replicas and len(missing(ledger, now)) == len(ledger.replicas):
        return Continuity.ABANDONED
    return Continuity.UNBROKEN


def absorb(ledger: Ledger | None, report: Report, allowance: Allowance, now: float) -> Ledger:
    """The ledger with a replica's report in it; a new one where there was none."""
    known = ledger
    if ledger is not None and ledger is not UNREADABLE:
        known = bounded(_in_step(ledger, report), allowance, now + MAX_STEP_SECONDS)
    resumed = _resumed(known, report, allowance, now)
    paused_until, probe = _pause(resumed, report)
    return replace(
        _with_replica(resumed, report, allowance, now),
        slots=_slots(resumed, report, now),
        promises=_promises(resumed, report, allowance, now),
        refused=_refused(resumed, report, allowance, now),
        paused_until=paused_until,
        probe=probe,
    )


def _in_step(ledger: Ledger, report: Report) -> Ledger:
    """The ledger on the shared clock as it is now."""
    at = ledger.reported.get(report.replica)
    step = 0.0 if at is None or report.last_at is None else report.last_at - at
    # What is no number is no step either.
    return moved(ledger, step) if MAX_STEP_SECONDS < abs(step) < inf else ledger


def _resumed(ledger: Ledger | None, report: Report, allowance: Allowance, now: float) -> Ledger:
    """What still holds of the ledger that the report meets."""
    found = continuity(ledger, report, now)
    if ledger is None or found is Continuity.MISSING:
        return _not_whole(Ledger(), report, report.known, allowance, now)
    match found:
        case Continuity.RESTARTED | Continuity.UNREADABLE:
            # From what was saved, or failed over to a copy: the latest slots may be missing.
            return _not_whole(ledger, report, max(report.known, len(ledger.replicas)), allowance, now)
        case Continuity.ABANDONED:
            # All were cut off, and have been sending their shares since.
            silent = dict.fromkeys(ledger.replicas, now - SILENCE_SECONDS - 1)
            return replace(ledger, replicas=silent, quiet={})
        case Continuity.UNSIGNED:
            return replace(ledger, server=report.server)
        case _:
            return ledger


def _not_whole(ledger: Ledger, report: Report, expected: int, allowance: Allowance, now: float) -> Ledger:
    """The ledger without its replicas, until so many have been seen; one that was alone knows all that was sent."""
    whole_at = now + allowance.most if expected > 1 else 0.0
    return replace(ledger, replicas={}, expected=expected, whole_at=whole_at, server=report.server)


def _with_replica(ledger: Ledger, report: Report, allowance: Allowance, now: float) -> Ledger:
    """The ledger after the replica was seen, and those who have been missing for too long were given up."""
    name, expected, whole_at = report.replica, ledger.expected, ledger.whole_at
    if now < whole_at:
        expected = max(expected, report.known)
    horizon = now - SILENCE_SECONDS - WITHHELD_WINDOWS * allowance.window
    seen = {other: at for other, at in ledger.replicas.items() if last_well(ledger, other) > horizon} | {name: now}
    quiet = {other: at for other, at in ledger.quiet.items() if other in seen} | {name: report.quiet_until}
    joined = {other: at for other, at in ledger.joined.items() if other in seen}
    if name not in ledger.replicas and ledger.replicas:
        joined[name] = now
    well = sum(1 for other, at in seen.items() if max(at, quiet.get(other, 0.0)) >= now - SILENCE_SECONDS)
    if well >= expected:
        expected, whole_at = 0, 0.0
    allotments = {other: count for other, count in ledger.allotments.items() if other in seen}
    allotments[name] = report.allotment
    return replace(
        ledger,
        replicas=seen,
        joined=joined,
        quiet=quiet,
        allotments=allotments,
        reported={other: at for other, at in ledger.reported.items() if other in seen} | {name: now},
        expected=expected,
        whole_at=whole_at,
    )


def _pause(ledger: Ledger, report: Report) -> tuple[float, str | None]:
    """Until when the account is paused, and the probe, after what became of that one; see `PauseState`."""
    if ledger.probe in report.succeeded:
        return 0.0, None
    return ledger.paused_until, None if ledger.probe in report.voided else ledger.probe


def _slots(ledger: Ledger, report: Report, now: float) -> tuple[Slot, ...]:
    own, voided = report.slots, report.voided
    others = [slot for slot in ledger.slots if slot.id not in own and slot.id not in voided]
    held = [slot for slot in (*others, *own.values()) if slot.free_at > now]
    held.sort(key=free_at)
    return tuple(held)


def _promises(ledger: Ledger, report: Report, allowance: Allowance, now: float) -> tuple[Promise, ...]:
    others = (promise for promise in ledger.promises if promise.replica != report.replica)
    return tuple(promise for promise in (*others, *report.promises) if now < promise.at + allowance.hold)


def _refused(ledger: Ledger, report: Report, allowance: Allowance, now: float) -> Mapping[str, float]:
    refused = {client: at for client, at in ledger.refused.items() if at > now - allowance.window}
    for client, at in report.refused.items():
        if at > now - allowance.window:
            refused[client] = max(at, refused.get(client, at))
    return refused


def depart(ledger: Ledger, replica: str) -> Ledger:
    """The ledger without a replica that has stopped in good order; its slots stay until they fall free."""
    stay = {name: at for name, at in ledger.replicas.items() if name != replica}
    return replace(
        ledger,
        replicas=stay,
        joined={name: at for name, at in ledger.joined.items() if name in stay},
        allotments={name: count for name, count in ledger.allotments.items() if name in stay},
        quiet={name: at for name, at in ledger.quiet.items() if name in stay},
        reported={name: at for name, at in ledger.reported.items() if name in stay},
    )
