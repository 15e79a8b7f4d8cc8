"""JSON as the platform sends it: one way in, one exception, one digest of its content."""

import hashlib
import json
from typing import Any

DEEPEST = 100
"""Levels of nesting that are taken; a campaign has five. Whatever can be read can then be walked without fear."""


class DocumentError(ValueError):
    """The bytes are not one JSON document."""


def _refuse_constant(name: str) -> Any:
    raise DocumentError(f"{name} is not JSON")


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # A key written twice means one thing to us and perhaps another to the caller who reads the same bytes.
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DocumentError("a key is repeated")
    return members


def _finite(number: str) -> float:
    value = float(number)
    if value in {float("inf"), float("-inf")}:
        raise DocumentError("a number is out of range")
    return value


def parse(body: bytes) -> Any:
    """The document in `body`.

    Stricter than the standard library's default: UTF-8 only (RFC 8259 section 8.1; a byte order revision is skipped),
    no `NaN` or `Infinity`, no repeated keys.

    Raises:
        DocumentError: for anything else, including nesting or numbers beyond what the interpreter takes.
    """
    try:
        document = json.loads(
            body.decode("utf-8-sig"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_refuse_repeated,
        )
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(error)) from error
    _refuse_deep(document, DEEPEST)
    return document


def _refuse_deep(value: Any, levels: int) -> None:
    members = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if members and levels == 0:
        raise DocumentError("nested too deep")
    for member in members:
        _refuse_deep(member, levels - 1)


def content_digest(document: Any) -> bytes:
    """15 bytes that are equal for documents with equal content: with its header, an object of 48.

    The platform varies key order, white space and number spelling between calls (`5`, `5.0`), so equal bytes are too
    much to ask for. Text differs from numbers, `true` from `1`.
    """
    canonical = json.dumps(_canonical(document), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=15).digest()


def _canonical(value: Any) -> Any:
    match value:
        case dict():
            return {key: _canonical(member) for key, member in value.items()}
        case list():
            return [_canonical(member) for member in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def plain(text: str) -> str:
    """The text with halves of surrogate pairs, which JSON can spell and UTF-8 cannot, replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")
