"""The one exception for a request that is refused before anything is asked."""

from campaign_gateway.policy.settle import Failure
from campaign_gateway.problems import Problem


class RejectedError(Exception):
    """The request goes no further; whoever answers it renders the failure."""

    def __init__(
        self,
        problem: Problem,
        detail: str,
        *,
        operation: str | None = None,
        allow: str | None = None,
        has_to_close: bool = False,
        reason: str | None = None,
    ) -> None:
        """A rejection.

        Args:
            problem: what is wrong.
            detail: the same for a person; it repeats nothing of the request.
            operation: the metric label, where the operation is known; else None.
            allow: the methods that the path takes, for an `Allow` field; else None.
            has_to_close: whether the connection cannot be trusted with another request.
            reason: what the log says in place of `detail`; None for the same.
        """
        super().__init__(detail)
        self.failure = Failure(problem, detail)
        self.operation = operation
        self.allow = allow
        self.has_to_close = has_to_close
        self.reason = reason


def wrong_method(allow: str) -> RejectedError:
    """The path takes other methods."""
    return RejectedError(Problem.METHOD_NOT_ALLOWED, f"this route takes {allow}", allow=allow)


def nothing_here(*, but_without_slash: bool = False) -> RejectedError:
    """There is nothing at this path.

    Nor is a slash at its end forgiven: a path whose last name is empty by mistake would be taken for its parent.
    """
    hint = ", but there is without the slash at its end" if but_without_slash else ""
    return RejectedError(Problem.NOT_FOUND, f"there is nothing at this path{hint}")


def invalid(detail: str, operation: str | None = None) -> RejectedError:
    """The request is not one that can be meant."""
    return RejectedError(Problem.INVALID_REQUEST, detail, operation=operation)
