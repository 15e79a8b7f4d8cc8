"""JSON as the platform sends it: one way in, one exception, one digest of its content."""

import hashlib
import json
from typing import Any


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


def parse(body: bytes) -> Any:
    """The document in `body`.

    Stricter than the standard library's default: UTF-8 only (RFC 8259 section 8.1; a byte order mark is skipped),
    no `NaN` or `Infinity`, no repeated keys.

    Raises:
        DocumentError: for anything else, including nesting or numbers beyond what the interpreter takes.
    """
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated)
    except (ValueError, RecursionError) as error:
        raise DocumentError(str(error)) from error


def content_digest(document: Any) -> bytes:
    """16 bytes that are equal for documents with equal content.

    The platform varies key order, white space and number spelling between calls (`5`, `5.0`), so equal bytes are too
    much to ask for. Text differs from numbers, `true` from `1`.
    """
    canonical = json.dumps(_canonical(document), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()


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
