"""Faults: named misbehaviour that can be switched on and off while the platform runs.

A fault applies to the requests it matches (an operation, a campaign, the next n), and several may apply to one request:
delays first, then one answer in place of the real one (the oldest fault that has one wins), then changes to its body,
then the way it is sent.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, TypeVar

from campaign_gateway.sandbox.answers import HTML_TYPE, JSON_TYPE
from campaign_gateway.sandbox.operations import OperationName

_MIB = 1024 * 1024

_Name = TypeVar("_Name", bound=StrEnum)


class FaultName(StrEnum):
    """The closed set of faults; `guide.FAULTS` has a sentence for each."""

    # Time.
    LATENCY = "latency"
    HANG = "hang"
    # Connection.
    RESET = "reset"
    CLOSE_IDLE = "close-idle"
    # An answer in place of the real one.
    STATUS = "status"
    SERVER_ERROR = "server-error"
    BAD_GATEWAY = "bad-gateway"
    UNAVAILABLE = "unavailable"
    NOT_FOUND_HTML = "not-found-html"
    NOT_FOUND_JSON = "not-found-json"
    GONE = "gone"
    NOT_JSON = "not-json"
    HTML_200 = "html-200"
    ERROR_200 = "error-200"
    ERROR_200_CAPITAL = "error-200-capital"
    REDIRECT = "redirect"
    LIMIT_429 = "limit-429"
    LIMIT_429_SECONDS = "limit-429-seconds"
    LIMIT_429_DATE = "limit-429-date"
    LIMIT_200 = "limit-200"
    LIMIT_400 = "limit-400"
    LIMIT_403 = "limit-403"
    UNAUTHORIZED = "unauthorized"
    UNAUTHORIZED_NOT_A_TOKEN = "unauthorized-not-a-token"  # noqa: S105 - a name, no secret
    UNAUTHORIZED_EXPIRED = "unauthorized-expired"
    UNAUTHORIZED_REPLAY = "unauthorized-replay"
    UNAUTHORIZED_LIFETIME = "unauthorized-lifetime"
    UNAUTHORIZED_SCOPE = "unauthorized-scope"
    UNAUTHORIZED_SCOPE_MESSAGE = "unauthorized-scope-message"
    FORBIDDEN_SCOPE = "forbidden-scope"
    # Changes to the body of the answer.
    WRONG_ID = "wrong-id"
    CUT_JSON = "cut-json"
    OVERSIZE = "oversize"
    GZIP_BOMB = "gzip-bomb"
    BAD_CONTENT_TYPE = "bad-content-type"
    # The way it is sent.
    CUT_BODY = "cut-body"
    CUT_UNFRAMED = "cut-unframed"
    SLOW_BODY = "slow-body"
    # The state of the platform.
    LIST_UNSORTED = "list-unsorted"
    LIST_LAG = "list-lag"
    MARKS_FROZEN = "marks-frozen"
    # What nobody outside knows of the real platform.
    TOTAL_OF_PAGE = "total-of-page"
    TOTAL_HIDDEN = "total-hidden"
    ROWS_DIFFER = "rows-differ"
    VALIDATORS = "validators"
    LIMIT_HEADERS = "limit-headers"


@dataclass(frozen=True, slots=True)
class Parameters:
    """What can be said about a fault; which of these a fault has is in `DEFAULTS`.

    Attributes:
        seconds: A delay, a pause or a lag.
        status: An HTTP status.
        body: A body as text.
        content_type: A content type; empty leaves the header out.
        size_bytes: A size, of a body decoded or of a piece.
        location: Where a redirect points; empty: the same path on another host.
        retry_after_seconds: What Retry-After says.
        performed: The operation is carried out before the fault applies: a write behind a failure has happened,
            a read behind a delay is old when it arrives.
    """

    seconds: float = 0.0
    status: int = 0
    body: str = ""
    content_type: str = ""
    size_bytes: int = 0
    location: str = ""
    retry_after_seconds: int = 0
    performed: bool = False


_HIDES: dict[str, Any] = {"performed": False}
_TIMED: dict[str, Any] = {"performed": False, "retry_after_seconds": 37}

# The faults that are not here hide the real answer and take no parameter beside that.
_OWN: dict[FaultName, dict[str, Any]] = {
    FaultName.LATENCY: {"seconds": 1.0, **_HIDES},
    FaultName.HANG: {**_HIDES},
    FaultName.CLOSE_IDLE: {"seconds": 0.0},
    FaultName.STATUS: {"status": 500, "body": "", "content_type": JSON_TYPE, **_HIDES},
    FaultName.LIMIT_429_SECONDS: _TIMED,
    FaultName.LIMIT_429_DATE: _TIMED,
    FaultName.REDIRECT: {"status": 302, "location": "", **_HIDES},
    FaultName.WRONG_ID: {},
    FaultName.CUT_JSON: {},
    FaultName.OVERSIZE: {"size_bytes": 8 * _MIB},
    FaultName.GZIP_BOMB: {"size_bytes": 64 * _MIB},
    FaultName.BAD_CONTENT_TYPE: {"content_type": HTML_TYPE},
    FaultName.CUT_BODY: {},
    FaultName.CUT_UNFRAMED: {},
    FaultName.SLOW_BODY: {"seconds": 0.05, "size_bytes": 16},
    FaultName.LIST_UNSORTED: {},
    FaultName.LIST_LAG: {"seconds": 5.0},
    FaultName.MARKS_FROZEN: {},
    FaultName.TOTAL_OF_PAGE: {},
    FaultName.TOTAL_HIDDEN: {},
    FaultName.ROWS_DIFFER: {},
    FaultName.VALIDATORS: {},
    FaultName.LIMIT_HEADERS: {},
}

# The parameters that each fault takes, with their defaults.
DEFAULTS: Mapping[FaultName, Mapping[str, Any]] = {name: _OWN.get(name, _HIDES) for name in FaultName}

# Final ones only: an interim status would leave the client waiting.
_STATUSES = range(200, 600)

_TYPES: Mapping[str, Any] = {parameter.name: parameter.type for parameter in fields(Parameters)}


@dataclass(slots=True, eq=False)
class Fault:
    """One fault that is switched on.

    Attributes:
        id: Its number, for its removal.
        name: Which fault.
        parameters: Its parameters.
        operation: Only requests for this operation; None: any.
        campaign: Only requests for this id; None: any.
        times: How many more requests it will meet; None: no end.
        met: How many requests it has met.
    """

    id: int
    name: FaultName
    parameters: Parameters
    operation: OperationName | None = None
    campaign: str | None = None
    times: int | None = None
    met: int = 0
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, operation: OperationName, campaign_id: str) -> bool:
        """It would meet a request for this operation and this id."""
        return self.times != 0 and self.operation in {None, operation} and self.campaign in {None, campaign_id}

    def document(self) -> dict[str, Any]:
        """The fault as the control API shows it."""
        values = asdict(self.parameters)
        return {
            "id": self.id,
            "name": self.name,
            "operation": self.operation,
            "campaign": self.campaign,
            "times": self.times,
            "met": self.met,
            **{key: values[key] for key in DEFAULTS[self.name]},
        }

    async def pause(self, seconds: float | None = None) -> None:
        """Waits so many seconds, or without a bound; removing the fault ends the wait at once."""
        try:
            async with asyncio.timeout(seconds):
                await self._released.wait()
        except TimeoutError:
            return

    def release(self) -> None:
        """Ends every wait that this fault causes."""
        self._released.set()


class Faults:
    """The faults that are switched on, in the order they were added."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}
        self._next_id = 1

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._faults.values()))

    def add(
        self,
        name: FaultName | str,
        /,
        *,
        operation: OperationName | str | None = None,
        campaign: str | None = None,
        times: int | None = None,
        **parameters: Any,
    ) -> Fault:
        """A fault, switched on.

        Args:
            name: One of `FaultName`.
            operation: Only for this operation.
            campaign: Only for requests with this id in their path.
            times: Only for the next so many matching requests.
            **parameters: Those that the fault has by `DEFAULTS`; the others keep their defaults.

        Raises:
            ValueError: No such fault or operation, or a parameter that it does not have or that makes no sense.
        """
        fault_name = _one_of(FaultName, name, "fault")
        known = DEFAULTS[fault_name]
        for key, value in parameters.items():
            if key not in known:
                takes = ", ".join(known) or "no parameters"
                raise ValueError(f"fault {fault_name} has no {key}; it takes {takes}")
            _check(key, value)
        if times is not None:
            _check("times", times)
        fault = Fault(
            id=self._next_id,
            name=fault_name,
            parameters=Parameters(**{**known, **parameters}),
            operation=None if operation is None else _one_of(OperationName, operation, "operation"),
            campaign=campaign,
            times=times,
        )
        self._next_id += 1
        self._faults[fault.id] = fault
        return fault

    def remove(self, fault_id: int) -> bool:
        """Switches one fault off and ends its waits; False if there is none with this id."""
        fault = self._faults.pop(fault_id, None)
        if fault is not None:
            fault.release()
        return fault is not None

    def clear(self) -> None:
        """Switches every fault off and ends every wait."""
        for fault in self:
            self.remove(fault.id)

    def meet(self, operation: OperationName, campaign_id: str) -> "Met":
        """The faults that one request meets; each of them is one request further now."""
        met = [fault for fault in self if fault.matches(operation, campaign_id)]
        for fault in met:
            fault.met += 1
            if fault.times is not None:
                # A used-up fault stays listed, so that a hang can still be released by its id.
                fault.times -= 1
        return Met(tuple(met))


@dataclass(frozen=True, slots=True)
class Met:
    """The faults that one request met, oldest first."""

    faults: tuple[Fault, ...] = ()

    def __add__(self, later: "Met") -> "Met":
        return Met(self.faults + later.faults)

    def first(self, *names: FaultName) -> Fault | None:
        """The oldest of these, None if the request met none of them."""
        return next((fault for fault in self.faults if fault.name in names), None)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(fault.name.value for fault in self.faults)


def _one_of(kind: type[_Name], value: str, what: str) -> _Name:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"no such {what}: {value!r}; known: {', '.join(kind)}") from None


def _check(key: str, value: Any) -> None:
    wanted = _TYPES.get(key, int)
    # A whole number is a fine number of seconds; a boolean is neither.
    if type(value) not in ({int, float} if wanted is float else {wanted}):
        raise ValueError(f"{key} must be of type {wanted.__name__}")
    if wanted in {int, float} and value < 0:
        raise ValueError(f"{key} must not be negative")
    if key == "status" and value not in _STATUSES:
        raise ValueError("status must be from 200 to 599")
    if key in {"content_type", "location"} and not value.isprintable():
        raise ValueError(f"{key} must fit into a header")
    if key == "times" and not value:
        raise ValueError("times must be at least 1")
