"""Ids: opaque and case-sensitive, and safe in a path, a key and a log."""

import re

_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_id(text: str) -> bool:
    """Whether the text can be an id of the platform's."""
    return _ID.fullmatch(text) is not None
