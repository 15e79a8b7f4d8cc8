"""What can be wrong with Redis, in one closed set of words, and what each of them means for the link."""

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    InvalidResponse,
    MasterDownError,
    MovedError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

_T = TypeVar("_T")

FAILURES = (RedisError, RedisClusterException, OSError)
"""What redis-py raises when a command does not do what it was sent for."""
_MISREAD = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What it raises, or a reader of ours, over a reply of another shape than the command's."""

LOST = frozenset({"loading", "masterdown", "busy", "timeout", "connection", "cluster"})
"""Kinds after which the server is of no use at all ..."""
LEFT = frozenset({"readonly", "misconf", "noreplicas", "protocol", "auth"})
"""... and those after which every connection is left, too: the address may lead to a server that is whole by now.
One that refuses a new connection's password goes on with older ones: the link would be found and lost in turns."""
FULL = "oom"
"""It stores nothing new, and does everything else."""

MEANINGS = {
    "auth": "it refuses the user name or the password",
    "noperm": "the user lacks a right that is needed",
    "loading": "it is still loading its data",
    "masterdown": "it is a replica that has lost its primary",
    "busy": "a script keeps it busy",
    "timeout": "no answer within cache.timeout",
    "connection": "no connection, or it was closed",
    "cluster": "a part of the cluster is missing",
    "readonly": "it is a replica, which takes no writes",
    "misconf": "it cannot save to its disk, and takes no writes",
    "noreplicas": "it has too few replicas, and takes no writes",
    "protocol": "what answers there does not speak as Redis does",
    FULL: "it has no memory left for new answers, and counts calls as before",
}
"""What an operator is told of a kind ..."""
REFUSES = "it refuses what it is asked"
"""... and of one that is not among them."""

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    # Subclasses first: a refused password and a loading server are ConnectionErrors to redis-py.
    (AuthenticationError, "auth"),
    (NoPermissionError, "noperm"),
    (BusyLoadingError, "loading"),
    (RedisTimeoutError, "timeout"),
    (InvalidResponse, "protocol"),
    (RedisConnectionError, "connection"),
    (MasterDownError, "masterdown"),
    (ClusterDownError, "cluster"),
    (RedisClusterException, "cluster"),
    (ReadOnlyError, "readonly"),
    (OutOfMemoryError, FULL),
    (MovedError, "moved"),
    (NoScriptError, "noscript"),
    (OSError, "connection"),
)
_WORD = re.compile(r"(?:^|-)(BUSY|MISCONF|NOREPLICAS|READONLY|OOM|NOPERM) ")
"""For which redis-py has no class, or which a server of version 6 wraps into the error of a script."""


def kind_of(error: Exception) -> str:
    """One word for what redis-py raised; `other` if there is none for it."""
    kind = next((kind for type_, kind in _KINDS if isinstance(error, type_)), None)
    if kind is None and isinstance(error, ResponseError) and (word := _WORD.search(str(error))):
        return word[1].lower()
    return kind or "other"


async def read_reply(command: Callable[[], Awaitable[object]], read: Callable[[object], _T]) -> _T:
    """What the reader makes of the command's reply.

    Raises:
        InvalidResponse: there was a reply, and it is none to this command.
        RedisError, RedisClusterException, OSError: see `FAILURES`.
    """
    try:
        return read(await command())
    except _MISREAD as error:
        raise InvalidResponse("not a reply to this command") from error
