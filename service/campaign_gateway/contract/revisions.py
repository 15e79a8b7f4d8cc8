"""The version sign of a campaign: its `updatedAt`, a text that is compared for equality only."""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from campaign_gateway.contract.document import plain


def revision_of(campaign: Mapping[str, Any]) -> str | None:
    """The revision of a campaign or list row; None when it carries none.

    A revision says "changed or not" and nothing about order: the platform moves it backwards after a create.
    """
    match campaign.get("updatedAt"):
        case str() as text if text:
            return plain(text)
        case bool() | None:
            return None
        case int() | float() as number:
            return str(number)
        case _:
            return None


END_OF_TIME = 253_402_300_800.0
"""The first second of the year 10000, which no date of HTTP can name."""


@lru_cache(20_000)
def instant(revision: str | None) -> float | None:
    """The time a revision names, in seconds since the epoch; None when it is no ISO 8601 instant of 1970 to 9999."""
    if revision is None:
        return None
    try:
        moment = datetime.fromisoformat(revision)
        seconds = moment.timestamp() if moment.tzinfo else -1.0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < END_OF_TIME else None
