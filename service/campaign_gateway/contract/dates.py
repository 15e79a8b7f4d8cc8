"""HTTP dates, which come in three forms and always mean UTC (RFC 9110 section 5.6.7)."""

from datetime import UTC
from email.utils import parsedate_to_datetime


def http_date(text: str) -> float | None:
    """The moment in seconds since the epoch; None when the text is no HTTP date."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
