"""Whether a caller's own copy is still good (RFC 9110 section 13)."""

import re
from email.utils import parsedate_to_datetime

_TAG = re.compile(r'\s*(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")\s*(?:,|$)')


def is_not_modified(
    if_none_match: str | None, if_modified_since: str | None, etag: str, last_modified: int | None
) -> bool:
    """Whether the answer is a 304.

    Args:
        if_none_match: the field's value, several lines joined with commas; wins over the date (section 13.2.2).
        if_modified_since: the field's value; ignored unless it is an HTTP date and `last_modified` is known.
        etag: the stored strong validator; compared weakly (section 13.1.2).
        last_modified: seconds since the epoch, as sent in `Last-Modified`.
    """
    if if_none_match is not None:
        return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
    if if_modified_since is None or last_modified is None:
        return False
    try:
        return last_modified <= parsedate_to_datetime(if_modified_since).timestamp()
    except (ValueError, OverflowError):
        return False
