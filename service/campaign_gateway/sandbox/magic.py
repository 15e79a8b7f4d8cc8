"""Campaign ids that always meet the same fault, so that callers' tests can have each answer there is.

An id is one of these if it is a name of the table, or begins with one and a hyphen (`problem-upstream-timeout-7`): each
such id is a campaign of its own, so tests do not meet what others have left in a cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.answers import JSON_TYPE
from campaign_gateway.sandbox.campaigns import Kind, Status
from campaign_gateway.sandbox.faults import DEFAULTS, Fault, FaultName, Met, Parameters
from campaign_gateway.sandbox.tenant import Tenant

_N = FaultName
_REFUSAL = '{"errors": [{"msg": "ValidationError: refused, as its id asks for", "code": 412}]}'


@dataclass(frozen=True, slots=True)
class MagicId:
    """One row of the table.

    Attributes:
        gives: What a gateway in front answers: a problem type, or what is special about the campaign.
        fault: What requests for it meet; None: there is no such campaign, which is all.
        parameters: Those of the fault that are not its defaults.
        exists: It is a campaign from the first request for it on, and listed.
        is_good_once: The first request for it meets no fault.
    """

    gives: str
    fault: FaultName | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    exists: bool = False
    is_good_once: bool = False


MAGIC_IDS: Mapping[str, MagicId] = {
    "problem-campaign-not-found": MagicId("404 campaign-not-found"),
    "problem-upstream-rejected": MagicId(
        "422 upstream-rejected, to writes and to reads of outcomes; a read by id has 502 upstream-invalid",
        _N.STATUS,
        {"status": 412, "body": _REFUSAL, "content_type": JSON_TYPE},
    ),
    "problem-upstream-invalid": MagicId("502 upstream-invalid: a 200 whose body reports a failure", _N.ERROR_200),
    "problem-upstream-unavailable": MagicId(
        "502 upstream-unavailable: the connection ends without an answer", _N.RESET
    ),
    "problem-upstream-timeout": MagicId("504 upstream-timeout", _N.LATENCY, {"seconds": 30.0}),
    "problem-upstream-unauthorized": MagicId(
        "502 upstream-unauthorized; after two in a row the gateway lets the credential rest for seconds",
        _N.UNAUTHORIZED,
    ),
    "problem-upstream-paused": MagicId(
        "503 upstream-paused, also for everything else of the account that is not stored, for two seconds",
        _N.LIMIT_429_SECONDS,
        {"retry_after_seconds": 2},
    ),
    "answer-slow": MagicId("200, a second after each call", _N.LATENCY, {"seconds": 1.0}, exists=True),
    "answer-stale": MagicId(
        "200 once, and stale from then on: the platform answers its first read only",
        _N.ERROR_200,
        exists=True,
        is_good_once=True,
    ),
}


class MagicIds:
    """The table at work in one sandbox."""

    def __init__(self) -> None:
        self._faults = _faults()
        self._asked: set[tuple[str, str]] = set()

    def meet(self, campaign_id: str, tenant: Tenant | None) -> Met:
        """The fault that a request for this id meets, if any; a campaign that is to exist does so from now on.

        Args:
            campaign_id: As it is in the path.
            tenant: The application asked; None for an unknown one.
        """
        name = next((name for name in MAGIC_IDS if f"{campaign_id}-".startswith(f"{name}-")), None)
        if name is None or tenant is None:
            return Met()
        row, asked = MAGIC_IDS[name], (tenant.stream_id, campaign_id)
        is_first = asked not in self._asked
        self._asked.add(asked)
        if row.exists and is_first:
            fields = seeds.campaign_fields(tenant.rng, "simple", campaign_id, dnc_list_id="")
            tenant.campaigns.create(Kind.SMS, fields, campaign_id)
            if row.is_good_once:
                # A status in which campaigns change soon, so that it is not fresh for long.
                tenant.campaigns.edit(campaign_id, {"status": Status.PREPARING}, quiet=True)
        fault = self._faults.get(name)
        return Met() if fault is None or (is_first and row.is_good_once) else Met((fault,))

    def release(self) -> None:
        """Ends every wait."""
        for fault in self._faults.values():
            fault.release()
        self._faults = _faults()


def _faults() -> dict[str, Fault]:
    return {
        name: Fault(0, row.fault, Parameters(**{**DEFAULTS[row.fault], **row.parameters}))
        for name, row in MAGIC_IDS.items()
        if row.fault is not None
    }
