"""Whether a caller's own copy is still good (RFC 9110 section 13)."""

from campaign_gateway.contract.dates import http_date


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
        # Our tags hold no comma, so splitting at every one of them finds ours, whatever other tags hold.
        tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
        return if_none_match.strip() == "*" or etag in tags
    if if_modified_since is None or last_modified is None:
        return False
    since = http_date(if_modified_since)
    return since is not None and last_modified <= since
