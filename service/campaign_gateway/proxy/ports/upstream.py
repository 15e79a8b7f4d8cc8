"""The platform."""

from typing import Protocol

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import Call
from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.request import Stream


class UpstreamError(Exception):
    """A call that got no whole answer."""

    def __init__(self, problem: Problem, detail: str, *, was_sent: bool = True, may_repeat: bool = False) -> None:
        """An interrupted call.

        Args:
            problem: what a caller gets.
            detail: one sentence, nothing secret.
            was_sent: False only if the request certainly never left.
            may_repeat: a kept connection was closed instead of an answer, most likely before the request was read; a
                read may be repeated then, a write may not.
        """
        super().__init__(detail)
        self.failure = Failure(problem, detail, was_sent=was_sent)
        self.was_sent = was_sent
        self.may_repeat = may_repeat


class Upstream(Protocol):
    """The platform."""

    async def send(self, stream: Stream, call: Call, leave_by: float, *, is_anew: bool = False) -> Response:
        """The platform's answer to the call, signed for the stream and sent exactly once.

        Args:
            stream: who signs.
            call: the request.
            leave_by: the moment on the monotonic clock after which it may not leave any longer.
            is_anew: whether it goes out on a connection of its own, and not on one that was kept.

        Raises:
            UpstreamError: no whole answer came.
        """
        ...

    def credential_version(self, stream: Stream) -> int:
        """A number that changes with the secret the stream signs with."""
        ...

    async def renew_credential(self, stream: Stream, version: int) -> bool:
        """Whether there is another secret than `version`'s, which the platform refused; looks at its source again."""
        ...
