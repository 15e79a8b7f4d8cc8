"""Where traces go: a span for each request, and one for each call to the platform."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from typing_extensions import override

from campaign_gateway.policy.ledger import Lane
from campaign_gateway.policy.trace_context import TraceContext
from campaign_gateway.proxy.reply import Outcome, Seconds
from campaign_gateway.proxy.request import Request


@dataclass(frozen=True, slots=True)
class PlatformCall:
    """A call to the platform that has ended. All of it but the request is from closed sets."""

    request: Request
    lane: Lane
    reason: str
    """The metric label `reason`, and `outcome` below."""
    outcome: str
    status: int | None
    """None where no answer came."""
    waited: float
    """Seconds for its permit."""
    seconds: float
    """From there to its end."""
    span: object = None
    """What `Traces.call` has made of it."""


def seconds_of(calls: Collection[PlatformCall]) -> Seconds | None:
    """What these took; None where there are none."""
    if not calls:
        return None
    return Seconds(sum(call.waited for call in calls), sum(call.seconds for call in calls))


@dataclass(frozen=True, slots=True)
class Answered:
    """What is said of a request that was answered: nothing that it names, but closed sets only."""

    method: str
    route: str | None
    """With placeholders; None where no route was found."""
    operation: str
    client: str
    stream: str | None
    status: int
    outcome: Outcome
    problem: str | None = None


class Traces(Protocol):
    """Where spans go."""

    is_on: bool
    """Whether anybody wants them."""

    @property
    def exported(self) -> int:
        """Spans that the collector took."""
        ...

    @property
    def lost(self) -> int:
        """Those that it did not."""
        ...

    def begin(self, trace: TraceContext | None, began: float) -> None:
        """Opens the span of the request that the current task answers, for calls to be in it.

        What is answered at once needs none.

        Args:
            trace: the caller's.
            began: when the request came, on the performance counter.
        """
        ...

    def answered(
        self, answered: Answered, trace: TraceContext | None, ended: float, seconds: float
    ) -> TraceContext | None:
        """Ends the span of the current task's request, or makes that of one that had none. The trace that it is in.

        Args:
            answered: what is said of it.
            trace: the caller's.
            ended: when it was answered, on the performance counter.
            seconds: how long it took.
        """
        ...

    def call(self, call: PlatformCall) -> object:
        """Makes the span of a call, for `join`."""
        ...

    def join(self, calls: Iterable[PlatformCall]) -> None:
        """Links the span of the current task's request to these calls, which others had made for the same answer."""
        ...


class NoTraces(Traces):
    """Nobody wants any."""

    is_on = False
    exported = lost = 0

    @override
    def begin(self, trace: TraceContext | None, began: float) -> None:
        pass

    @override
    def answered(
        self, answered: Answered, trace: TraceContext | None, ended: float, seconds: float
    ) -> TraceContext | None:
        return trace

    @override
    def call(self, call: PlatformCall) -> object:
        return None

    @override
    def join(self, calls: Iterable[PlatformCall]) -> None:
        pass


NO_TRACES = NoTraces()
