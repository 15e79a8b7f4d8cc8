"""JSON as the platform sends it: one way in, one exception, one digest of its content."""

import hashlib
import json
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii
from math import isinf
from typing import Any

DEEPEST = 100
"""Levels of nesting that are taken; a campaign has five. Whatever can be read can then be walked without fear."""

MOST_VALUES = 200_000
"""Values that are taken, by the commas and brackets that there are; the largest list of campaigns has six thousand."""
LONGEST_NUMBER = 400
"""Digits in a row that are taken in a large document: time grows with their square. A double has 309 at most."""
LARGE_BYTES = 64 * 2**10
"""Below, nothing that can be written takes long."""

_SPACE = " \t\n\r"
_DIGITS = bytes(ord("0") if chr(code).isdigit() else ord(" ") for code in range(128)).ljust(256)
_TOO_LONG = b"0" * (LONGEST_NUMBER + 1)
_decoder = json.JSONDecoder()


class DocumentError(ValueError):
    """The bytes are not one JSON document."""


class DenseError(DocumentError):
    """They may be one that takes too long to read."""


def _refuse_constant(name: str) -> Any:
    raise DocumentError(f"{name} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # A key written twice means one thing to us and perhaps another to the caller who reads the same bytes.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DocumentError("a key is repeated")
    return members


class _Number(float):
    """A number with its digits, where a float would spell others: it keeps some seventeen."""

    __slots__ = ("digits",)
    digits: str


def _finite(digits: str) -> float:
    value = float(digits)
    if repr(value) == digits:
        # A float that spells itself as it came. It is also smaller, and nothing that the garbage collector looks at.
        return value
    if isinf(value):
        raise DocumentError("a number is out of range")
    number = _Number(value)
    number.digits = digits
    return number


def parse(body: bytes) -> Any:
    """The document in `body`.

    Stricter than the standard library's default: UTF-8 only (RFC 8259 section 8.1; a byte order mark is skipped),
    no `NaN` or `Infinity`, no repeated keys.

    Raises:
        DocumentError: for anything else, including nesting or numbers beyond what the interpreter takes.
        DenseError: for more values, or longer numbers, than anybody means; counted before anything is made of them.
    """
    if len(body) > LARGE_BYTES:
        _refuse_dense(body)
    try:
        document = json.loads(
            body.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_refuse_repeated,
        )
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(error)) from error
    _refuse_deep(document)
    return document


def _refuse_dense(body: bytes) -> None:
    # Text that is full of commas counts too: to tell it apart takes as long as to read it.
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise DenseError(f"more than {MOST_VALUES:,} values")
    if _TOO_LONG in body.translate(_DIGITS):
        raise DenseError(f"a number of more than {LONGEST_NUMBER} digits")


def _refuse_deep(document: Any) -> None:
    # Level by level: a call for each value would cost as much as to read it.
    level = [document]
    for _ in range(DEEPEST + 1):
        inner = [value.values() if isinstance(value, dict) else value for value in level if type(value) in _NESTED]
        level = [value for values in inner for value in values]
        if not level:
            return
    raise DocumentError("nested too deep")


def text_of(body: bytes) -> str:
    """The text of a document that `parse` has taken, without white space around it."""
    return body.decode("utf-8-sig").strip(_SPACE)


def members(text: str) -> dict[str, tuple[str, str]]:
    """The members of an object by name: each name and value as they are spelled, which no reader of ours alters.

    Empty for anything that is no object. For the text of a document that `parse` has taken.
    """
    if not text.startswith("{"):
        return {}
    found, at = {}, _skip(text, 1)
    while text[at] != "}":
        name, after = _decoder.raw_decode(text, at)
        value_at = _skip(text, _skip(text, after) + 1)
        end = _end(text, value_at)
        found[name] = text[at:after], text[value_at:end]
        at = _next(text, end)
    return found


def elements(text: str) -> list[str] | None:
    """The elements of an array as they are spelled; None for anything that is none."""
    if not text.startswith("["):
        return None
    found, at = [], _skip(text, 1)
    while text[at] != "]":
        end = _end(text, at)
        found.append(text[at:end])
        at = _next(text, end)
    return found


def spelled(pairs: Iterable[tuple[str, str]]) -> str:
    """An object of names and values as they are spelled."""
    return "{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}"


def value_of(text: str) -> Any:
    """The value that is spelled so, in a document that `parse` has taken."""
    return json.loads(text, parse_float=_finite)


def written(value: Any) -> str:
    """Our own spelling of a value out of `parse` or `value_of`: the same for each way in which the platform spells it.

    But for a decimal, which keeps its digits.
    """
    if isinstance(value, _Number):
        return value.digits
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, which UTF-8 cannot spell.
        return json.dumps(value, separators=(",", ":"))
    return text


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _end(text: str, at: int) -> int:
    return _decoder.raw_decode(text, at)[1]


def _next(text: str, at: int) -> int:
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def content_digest(document: Any) -> bytes:
    """15 bytes that are equal for documents with equal content: with its header, an object of 48.

    The platform varies key order, white space and number spelling between calls (`5`, `5.0`), so equal bytes are too
    much to ask for. Text differs from numbers, `true` from `1`, and a number from each one that is not equal to it.
    """
    pieces: list[str] = []
    _write_canonical(document, pieces.append)
    return hashlib.blake2b("".join(pieces).encode(), digest_size=15).digest()


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode
_NESTED = frozenset({dict, list})
_PLAIN = frozenset({str, int, bool, type(None)})


def _write_canonical(value: Any, write: Callable[[str], object]) -> None:
    """Writes JSON that is equal for equal content, in pieces: one call for all would hold up all other threads."""
    match value:
        case dict() if not _PLAIN.issuperset(map(type, value.values())):
            before = "{"
            for name in sorted(value):
                write(f"{before}{encode_basestring_ascii(name)}:")
                _write_canonical(value[name], write)
                before = ","
            write("}")
        case list() if not _PLAIN.issuperset(map(type, value)):
            before = "["
            for member in value:
                write(before)
                _write_canonical(member, write)
                before = ","
            write("]")
        case str():
            write(encode_basestring_ascii(value))
        case float():
            write(_exact(value.digits if isinstance(value, _Number) else repr(value)))
        case _:
            write(_encode(value))


def _exact(digits: str) -> str:
    """The number, equal for every spelling of it and for no other one."""
    mantissa, _, power = digits.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, part = mantissa.removeprefix("-").partition(".")
    figures = (whole + part).lstrip("0")
    written = figures.rstrip("0")
    if not written:
        return "0"
    exponent = int(power or 0) - len(part) + len(figures) - len(written)
    if exponent >= 0:
        return f"{sign}{written}{'0' * exponent}"
    # Stands for it; the platform sends no such object.
    return f'{{"":true,"number":"{sign}{written}e{exponent}"}}'


def plain(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON can spell and UTF-8 cannot, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
