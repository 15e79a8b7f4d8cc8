"""Mistakes in the settings, each one line in plain words: the key, its place, what is wrong, what to write."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from typing_extensions import override  # typing.override comes with Python 3.12

from campaign_gateway.settings.scalars import (
    ALIAS_PATTERN,
    HASH_PATTERN,
    HOST_PATTERN,
    ID_PATTERN,
    NOTE_PATTERN,
    PREFIX_PATTERN,
)
from campaign_gateway.settings.tree import Section, Settings

WHOLE = "settings"
"""The key of a mistake that belongs to no single one."""
MISSING, UNKNOWN = "missing", "unknown key"
LONGEST_KEY = 200
MOST_LISTED = 9
"""Keys of a section that a line names."""


class Mistake(NamedTuple):
    """One mistake. No part of it holds a value that was written, which may be a secret."""

    key: str
    """With dots between its parts; `settings` for the file as a whole."""
    problem: str
    advice: str
    source: str = ""
    """The file, or the environment variable; empty where the settings came from neither."""
    line: int | None = None
    """In the file, from 1."""

    @override
    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line is not None else self.source
        # A key is the writer's text too, and might have line ends in it.
        key = "".join(char if char.isprintable() else "?" for char in self.key[:LONGEST_KEY])
        return ": ".join(part for part in (key, place, self.problem, self.advice) if part)


class SettingsError(Exception):
    """The settings cannot be run, for the reasons in `mistakes`."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__("; ".join(map(str, mistakes)))
        self.mistakes = mistakes


def explain(error: ValidationError) -> list[Mistake]:
    """What a validator found, in the words of this file; one mistake for each key."""
    found: dict[str, Mistake] = {}
    for row in error.errors(include_url=False):
        key = ".".join(map(str, _place_of(row)))
        # The forms that one value might have had are refused one by one.
        found.setdefault(key, Mistake(key, *_words(row)))
    return list(found.values())


def unknown_keys(error: ValidationError) -> list[tuple[int | str, ...]] | None:
    """Where the unknown keys are, if the validator found nothing else; None if it did."""
    rows = error.errors(include_url=False)
    return [row["loc"] for row in rows] if all(row["type"] == "extra_forbidden" for row in rows) else None


def _place_of(row: ErrorDetails) -> Iterator[int | str]:
    """The location without the validator's names for the forms of a value."""
    return (part for part in row["loc"] if isinstance(part, int) or not re.search(r"\[.*\]$", part))


def _words(row: ErrorDetails) -> tuple[str, str]:
    """What is wrong, and what to write."""
    kind, value, context = row["type"], row["input"], row.get("ctx", {})
    name = str(row["loc"][-1])
    match kind:
        case "extra_forbidden" | "invalid_key":
            return _unknown(row["loc"])
        case "missing":
            example = _EXAMPLES.get(f"{row['loc'][0]}.{name}") or _EXAMPLES.get(name, f"{name}: ...")
            return MISSING, f"write {example}"
        case "string_type" if name == "[key]":
            return "is not text, as names are", "put the name in quotes"
        case _ if value is None:
            return "is empty", "write what belongs there, or remove the key"
        case "value_error":
            problem, *advice = context["error"].args
            return problem, " ".join(advice)
        case "literal_error":
            return _none_of(str(value), re.findall(r"'([^']*)'", context["expected"]))
        case "string_pattern_mismatch":
            pattern = context["pattern"]
            return KEY_ITSELF if pattern == HASH_PATTERN and str(value).startswith("cgk_") else _PATTERNS[pattern]
        case _:
            problem, what = _KINDS.get(kind, ("is not of the right form", "see this key in the README"))
            return problem, what.format(**context)


def without_echoes(mistakes: list[Mistake]) -> list[Mistake]:
    """The mistakes without those that are there only because a key is misspelt: it is missing in its right form."""
    meant = {
        (mistake.key.rpartition(".")[0], hint[1])
        for mistake in mistakes
        if mistake.problem == UNKNOWN and (hint := re.match(r"(?:write|did you mean) ([a-z0-9_]+)", mistake.advice))
    }
    return [
        mistake
        for mistake in mistakes
        if not any(
            (mistake.problem == MISSING and mistake.key == f"{section}.{name}".lstrip("."))
            or (mistake.key == section and name in mistake.problem)
            for section, name in meant
        )
    ]


def _none_of(value: str, known: list[str]) -> tuple[str, str]:
    # Numbers are close to each other, and nothing is misspelt.
    meant = get_close_matches(value.lower(), [name.lower() for name in known if name[:1].isalpha()], n=1)
    name = next((name for name in known if meant and name.lower() == meant[0]), None)
    choice = " or ".join(filter(None, [", ".join(known[:-1]), known[-1]]))
    return "is none of the values that there are", f"write {choice}" if name is None else f"did you mean {name}?"


def _unknown(location: tuple[int | str, ...]) -> tuple[str, str]:
    *sections, name = map(str, location)
    known = _keys_at(sections)
    if advice := _MEANT.get((sections[0] if sections else "", name)):
        return UNKNOWN, advice
    elsewhere = [f"{section}.{name}" for section in Settings.model_fields if name in _keys_at([section])]
    if meant := elsewhere or get_close_matches(name.lower(), known, n=1, cutoff=0.65):
        return UNKNOWN, f"did you mean {' or '.join(meant)}?"
    names = ", ".join(known) if len(known) <= MOST_LISTED else "those in the README"
    return UNKNOWN, f"remove it, or write one of {names}"


def _keys_at(sections: list[str]) -> list[str]:
    """The keys of the section at that place; none where there is no section."""
    kind: Any = Settings
    for part in sections:
        kind = kind.model_fields[part].annotation if _is_section(kind) else _inner(kind)
        while get_origin(kind) in {Annotated, Union, UnionType}:
            kind = get_args(kind)[0]
    return list(kind.model_fields) if _is_section(kind) else []


def _inner(kind: object) -> object:
    """What a list or a mapping is made of."""
    return get_args(kind)[0 if get_origin(kind) is tuple else -1]


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


_MEANT: Mapping[tuple[str, str], str] = {
    (
        "credentials",
        "client_secret",
    ): "write client_secret_file: the path of a file that holds it",
    ("credentials", "private_key"): "write private_key_file: the path of a file that holds it",
    ("cache", "password"): "write password_file: the path of a file that holds it",
    ("webhooks", "secret"): "write secret_file: the path of a file that holds it",
    ("clients", "key"): "write key_sha256: the hash that `campaign-gateway key new` prints, never the key",
    ("clients", "scope"): "did you mean scopes?",
    ("", "redis"): "did you mean cache?",
    ("", "port"): "write listen: 127.0.0.1:8080",
    ("", "host"): "write listen: 127.0.0.1:8080",
    ("", "admin"): "did you mean admin_listen?",
}
"""What is meant by keys that are none, by the first section that they stand in; of any for the empty one."""

_EXAMPLES = {
    "credentials": "credentials: {main: {client_id: ..., client_secret_file: ...}}",
    "streams": "streams: {support: {stream_id: ..., account_id: ..., credential: main}}",
    "clients.streams": "streams: [support], the names of streams",
    "client_id": "client_id: cs-..., as the platform names the JWT app",
    "stream_id": "stream_id: st-..., as the platform names the application",
    "account_id": "account_id: the platform's id of the account",
    "credential": "credential: the name of one under credentials",
    "sha256": "sha256: the hash that `campaign-gateway key new` prints",
    "key_id": "key_id: the platform's name of its public key",
    "public_key_file": "public_key_file: the path of the platform's public key",
    "key_file": "key_file: the path of a file with the key in it",
    "secret_file": "secret_file: the path of a file with the secret in it",
    "webhooks.url": "url: https://..., where changes are sent to",
}
"""Of keys that have to be written."""

_SECTION = ("is not a section", "write its keys below it, each as `name: value`")
_LIST = ("is not a list", "write it in brackets: [a, b]")
_NUMBER = ("is not a number", "write one such as 0.5, without quotes")
_COUNT = ("is not a whole number", "write one such as 60, without quotes")
_FLAG = ("is neither true nor false", "write true or false")
_KINDS = {
    "string_type": ("is not text", "put the value in quotes"),
    "path_type": ("is not the path of a file", "write one in quotes"),
    "int_type": _COUNT,
    "int_parsing": _COUNT,
    "int_parsing_size": _COUNT,
    "int_from_float": _COUNT,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": _FLAG,
    "bool_parsing": _FLAG,
    "model_type": _SECTION,
    "dict_type": _SECTION,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "frozen_set_type": _LIST,
    "too_short": ("is empty", "write at least one"),
    "too_long": ("is too long", "write {max_length} at most"),
    "string_too_long": ("is too long", "write {max_length} characters at most"),
    "greater_than": ("is too small", "write more than {gt:.15g}"),
    "greater_than_equal": ("is too small", "write {ge:.15g} or more"),
    "less_than_equal": ("is too large", "write {le:.15g} or less"),
    "recursion_loop": ("holds itself", "write it out, without `*`"),
}
"""By the validator's name for what it found."""

KEY_ITSELF = ("is the key itself", "write its SHA-256, and make a new key: campaign-gateway key new")
_PATTERNS = {
    HASH_PATTERN: (
        "is not a SHA-256 in 64 hexadecimal digits",
        "write the hash that `campaign-gateway key new` prints",
    ),
    ID_PATTERN: ("is no id of the platform", "write it as the platform shows it: 1 to 128 of A-Z a-z 0-9 _ -"),
    ALIAS_PATTERN: ("is no name", "write 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit"),
    HOST_PATTERN: ("is no name of a host", "write it without scheme, port or star, such as gateway.example.com"),
    NOTE_PATTERN: ("is no note", "write 1 to 64 of A-Z a-z 0-9 . _ - and spaces, beginning with a letter or digit"),
    PREFIX_PATTERN: ("is no prefix", "write 1 to 32 of A-Z a-z 0-9 . _ -"),
}
