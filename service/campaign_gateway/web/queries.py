"""Query strings: typed parameters, each once, and nothing that is not known."""

import re
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from urllib.parse import unquote_plus

from campaign_gateway.contract.ids import is_id
from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.web.rejected import invalid

MAX_FIELDS = 50
MAX_IDS = 100
MAX_PAGE_ROWS = 100
MAX_COUNT = 1_000_000
MAX_NAME = 256
MAX_WAIT_SECONDS = 60
MAX_CHANGES = 1_000
MAX_CURSOR = 64

_FIELD = re.compile(r"[A-Za-z0-9_]{1,64}")
_WORD = re.compile(r"[A-Za-z][A-Za-z ]{0,39}")
_SHOWN = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")
"""An unknown name that a caller may see again."""
_MOMENT = re.compile(r"[0-9WTZ:.+ -]+")
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)(ms|s|m|)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}
SORTABLE = frozenset({"name", "createdAt", "updatedAt"})

Reader = Callable[[str], Any]
"""Reads a parameter's decoded value; a `ValueError` says what it should be."""


def read_query(
    query: str, known: Mapping[str, Reader], required: AbstractSet[str] = frozenset(), operation: str | None = None
) -> dict[str, Any]:
    """The parameters in the query, read. A list may also be given name by name, as HTTP libraries write one.

    Raises:
        RejectedError: one is unknown, given twice, not what it should be, or not there. The text repeats no value.
    """
    texts: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = unquote_plus(name, errors="replace")
        if name not in known:
            raise invalid(_unknown(name, known), operation)
        if name in texts and known[name] not in _LISTS:
            raise invalid(f"{name} is given twice", operation)
        text = unquote_plus(value, errors="replace")
        texts[name] = f"{texts[name]},{text}" if name in texts else text
    read: dict[str, Any] = {}
    for name, text in texts.items():
        try:
            read[name] = known[name](text)
        except ValueError as error:
            raise invalid(f"{name} is {error}", operation) from error
    for name in sorted(required - read.keys()):
        raise invalid(f"{name} is needed", operation)
    return read


def _unknown(name: str, known: Mapping[str, Reader]) -> str:
    """What to say of a parameter that is not among the known ones: its name, the nearest one, and all of them."""
    shown = f"unknown parameter {name}" if _SHOWN.fullmatch(name) else "unknown parameter"
    if not known:
        return f"{shown}: there are no parameters here"
    by_lower = {one.lower(): one for one in known}
    # The pattern bounds what is compared.
    near = get_close_matches(name.lower(), by_lower, 1) if _SHOWN.fullmatch(name) else []
    guess = f": did you mean {by_lower[near[0]]}?" if near else ";"
    return f"{shown}{guess} the parameters here are {', '.join(sorted(known))}"


def field_names(value: str) -> frozenset[str]:
    """Members that answers are cut down to."""
    fields = value.split(",")
    if len(fields) > MAX_FIELDS or not all(map(_FIELD.fullmatch, fields)):
        raise ValueError(f"a list of 1 to {MAX_FIELDS} names, with commas between them")
    return frozenset(fields)


def id_list(value: str) -> tuple[str, ...]:
    """Ids, in the order given."""
    ids = tuple(value.split(","))
    if len(ids) > MAX_IDS or not all(map(is_id, ids)):
        raise ValueError(f"a list of 1 to {MAX_IDS} ids, with commas between them")
    return ids


def words(value: str) -> list[str]:
    """Words of an enumeration that the platform may extend."""
    found = value.split(",")
    if not all(map(_WORD.fullmatch, found)):
        raise ValueError("a list of words, with commas between them")
    return found


def numbers(value: str) -> list[int]:
    """Small whole numbers."""
    found = value.split(",")
    if not all(len(one) < 3 and one.isascii() and one.isdigit() for one in found):  # noqa: PLR2004 - priorities
        raise ValueError("a list of numbers, with commas between them")
    return [int(one) for one in found]


def whole(least: int, most: int) -> Reader:
    """A whole number in a range."""

    def read(value: str) -> int:
        if len(value) > len(str(most)) or not (value.isascii() and value.isdigit()) or not least <= int(value) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(value)

    return read


def seconds(most: int) -> Reader:
    """A duration as the settings write it, or a number of seconds."""

    def read(value: str) -> float:
        match = _DURATION.fullmatch(value)
        if match is None or (found := float(match[1]) * _UNITS[match[2]]) > most:
            raise ValueError(f"a duration of at most {most} seconds, such as 30s or 500ms")
        return found

    return read


def cursor(value: str) -> str:
    """A cursor of the feed of changes, which only the feed can read."""
    if not 0 < len(value) <= MAX_CURSOR or not value.isascii():
        raise ValueError("no cursor of this feed")
    return value


def change_types(value: str) -> list[str]:
    """Types of changes."""
    found = value.split(",")
    if not set(found) <= set(ChangeType):
        raise ValueError(f"a list of {', '.join(ChangeType)}, with commas between them")
    return found


def choice(*values: str) -> Reader:
    """One of a few words."""

    def read(value: str) -> str:
        if value not in values:
            raise ValueError(f"one of {', '.join(values)}")
        return value

    return read


def sorting(value: str) -> dict[str, str]:
    """Fields to sort by, `-` before those that go down; in the platform's words."""
    parts = value.split(",")
    names = [part.removeprefix("-") for part in parts]
    if not set(names) <= SORTABLE or len(set(names)) < len(names):
        raise ValueError("a list of name, createdAt, updatedAt, each optionally with - before it")
    return {name: "desc" if part.startswith("-") else "asc" for name, part in zip(names, parts, strict=True)}


_LISTS: frozenset[Reader] = frozenset({field_names, id_list, words, numbers, sorting, change_types})


def date(value: str) -> str:
    """A date or an instant, as it was written."""
    try:
        # Left to itself it takes any letter between date and time.
        datetime.fromisoformat(value if _MOMENT.fullmatch(value) else "")
    except ValueError:
        raise ValueError("a date in ISO 8601") from None
    return value


def name(value: str) -> str:
    """A campaign's name."""
    if not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise ValueError(f"a name of 1 to {MAX_NAME} printable characters")
    return value
