"""Where numbers and log lines go."""

from collections.abc import Mapping
from typing import Protocol

from campaign_gateway.policy.trace_context import TraceContext


class Tally(Protocol):
    """A number of events."""

    value: int


class Meter(Protocol):
    """Where the story's numbers go. All arguments are from closed sets."""

    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        """One call ended."""
        ...

    def budget_wait(self, lane: str, seconds: float) -> None:
        """A permit was given or refused after this wait."""
        ...

    def collapsed(self, scope: str) -> None:
        """A request joined another one's fill."""
        ...

    def store_operation(self, store: str, operation: str, outcome: str) -> None:
        """A store was asked."""
        ...

    def store_operations(self, store: str, operation: str, outcome: str) -> Tally:
        """Where operations of one kind are counted, for whoever makes too many to call for each."""
        ...

    def validation(self, kind: str, outcome: str) -> None:
        """A read renewed or replaced an entry, or failed to."""
        ...

    def invalidation(self, cause: str) -> None:
        """A write, a purge or a hint invalidated stored answers."""
        ...

    def change_visible(self, stream: str, seconds: float) -> None:
        """A change of a campaign was stored, so many seconds after it was made."""
        ...

    def change(self, stream: str, type_: str, seconds: float | None) -> None:
        """A change was added to the log, so many seconds after it was made; None where that is not known."""
        ...

    def webhook_delivery(self, webhook: str, outcome: str) -> None:
        """A delivery to a webhook ended."""
        ...


class HitMeter(Protocol):
    """Where hits of one kind go."""

    __slots__ = ()

    def hit(self, seconds: float, age: float) -> None:
        """One request was answered, after so long, from an entry so old."""
        ...


class RequestMeter(Protocol):
    """Where the API's numbers go. All arguments are from closed sets but the numbers."""

    def request(
        self,
        operation: str,
        client: str,
        status: int,
        cache: str,
        seconds: float,
        trace: TraceContext | None = None,
    ) -> None:
        """One request was answered, in this trace."""
        ...

    def served(self, operation: str, age: float) -> None:
        """An answer was made from an entry of this age in seconds."""
        ...

    def hits(self, operation: str, client: str, status: int) -> HitMeter:
        """Where hits of one kind are counted: each is a `request` and a `served`."""
        ...


class HitLog(Protocol):
    """Where the log lines of hits go, which are too many to be made one by one."""

    def caller(self, fields: Mapping[str, object]) -> bytes:
        """The first members of a line, after the request's id, which all hits of a caller have in common."""
        ...

    def campaign(self, campaign: str) -> bytes:
        """The next one, the campaign's id, as lines show it."""
        ...

    def answer(self, fields: Mapping[str, object]) -> bytes:
        """Those after it, up to the age, which all hits of one kind have in common."""
        ...

    def ageless(self, fields: Mapping[str, object]) -> bytes:
        """As `answer`, for answers that have no age."""
        ...

    def stands_for(self, status: int, seconds: float, *, is_hit: bool) -> int:
        """The number of requests that a line of this one, made elsewhere, stands for; 0 if none is to be written."""
        ...

    def hit(
        self,
        request_id: bytes,
        caller: bytes,
        campaign: bytes,
        answer: bytes,
        age: bytes,
        ended: float,
        seconds: float,
        trace: TraceContext | None = None,
        *,
        refused: int | None = None,
    ) -> None:
        """One line, soon, if such lines are wanted.

        Args:
            request_id: plain: nothing that JSON would have to escape.
            caller: made by `caller`.
            campaign: made by `campaign`.
            answer: made by `answer`, or by `ageless`.
            age: whole seconds; empty for an answer that has none.
            ended: when it was answered, on the performance counter.
            seconds: how long it took.
            trace: that the request belongs to.
            refused: the status of a refusal, which is a warning: no call could be made for it. None for a hit.
        """
        ...
