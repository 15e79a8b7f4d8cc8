"""One reader for each kind of reply that a command of ours can have.

Each raises a `ValueError` for anything else: what answers then is not Redis, or is out of step with what it was asked.
"""

from typing import TypeVar

import msgspec

from campaign_gateway.proxy.ports import Put

_T = TypeVar("_T")


def nothing(reply: object) -> None:
    """That of a script that returns nothing."""
    if reply is not None:
        raise ValueError("a reply where there is none")


def flag(reply: object) -> bool:
    """Whether the script did it."""
    if reply not in (0, 1):
        raise ValueError("neither 0 nor 1")
    return reply == 1


def addition(reply: object) -> int:
    """See publish_index.lua: 1 where it was done, 0 where the index and 2 where the log was another one."""
    if reply not in (0, 1, 2):
        raise ValueError("neither 0, 1 nor 2")
    return convert(reply, int)


def value(reply: object) -> bytes | None:
    """A value, or that there is none."""
    return convert([reply], list[bytes | None])[0]


def values(reply: object) -> list[bytes | None]:
    """Values, or that there are none."""
    return convert(reply, list[bytes | None])


def names(reply: object) -> list[bytes]:
    """Members of a set, or parts of something longer."""
    return convert(reply, list[bytes])


def scored(reply: object) -> list[tuple[bytes, float]]:
    """Members of a sorted set."""
    return convert(reply, list[tuple[bytes, float]])


def put(reply: object) -> Put:
    """See put.lua."""
    return Put(convert(reply, bytes).decode())


def lease(reply: object) -> tuple[bool, bytes, bytes | None]:
    """See acquire_lease.lua: whether it is held, the group's fence, and the value if that has changed."""
    match reply:
        case [int() as is_held, bytes() as group]:
            return is_held == 1, group, None
        case [int() as is_held, bytes() as group, bytes() as held]:
            return is_held == 1, group, held
        case _:
            raise ValueError("not what the script returns")


def index(reply: object) -> tuple[bytes, bytes, list[bytes]] | None:
    """See pull_index.lua: the stamp, the sealed head, and campaigns and sealed rows in turn."""
    match reply:
        case None:
            return None
        case [bytes() as stamp, bytes() as head, *rows] if len(rows) % 2 == 0:
            return stamp, head, convert(rows, list[bytes])
        case _:
            raise ValueError("not what the script returns")


def entries(reply: object) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Entries of a Redis stream."""
    return convert(reply, list[tuple[bytes, dict[bytes, bytes]]])


def logs(reply: object) -> list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Entries of several Redis streams, by their names; those without new ones are not among them."""
    return convert(reply, list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]])


def convert(reply: object, form: type[_T]) -> _T:
    """The reply, if it has the form."""
    # Bytes are bytes, and no text stands for any.
    return msgspec.convert(reply, form, builtin_types=(bytes,))
