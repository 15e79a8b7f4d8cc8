"""Bodies of the list request in one canonical form, so that equal questions are one question to the cache.

`DocumentError` says what cannot be asked.
"""

import json
from typing import Any

from campaign_gateway.contract.document import DocumentError
from campaign_gateway.contract.listing import Channel

_KNOWN = ("type", "limit", "skip", "page", "startDate", "endDate", "sortBy", "filters")
"""In the order of the platform's page."""
DEFAULT_LIMIT = 50


def list_request(request: Any) -> bytes:
    """The canonical body that asks for what `request` asks for, members named as the platform names them.

    What says nothing (an empty text, list or object) is left out, the page size and its beginning are written out,
    filters are sets. Members that are not known are kept: they may mean something to the platform.

    Raises:
        DocumentError: it is no object, or `type` is neither `voice` nor `sms`.
    """
    if not isinstance(request, dict):
        raise DocumentError("the body must be an object")
    named = {name: _meant(value) for name, value in request.items()}
    named = {name: value for name, value in named.items() if value not in ("", None, [], {})}
    if named.get("type") not in list(Channel):
        raise DocumentError("type must be voice or sms")
    named.setdefault("limit", DEFAULT_LIMIT)
    if "page" not in named:
        named.setdefault("skip", 0)
    filters = named.get("filters")
    if isinstance(filters, dict):
        named["filters"] = {
            name: _as_set(filters[name]) for name in sorted(filters) if filters[name] not in ("", None, [])
        }
        if not named["filters"]:
            del named["filters"]
    names = [*(name for name in _KNOWN if name in named), *sorted(named.keys() - set(_KNOWN))]
    # ASCII with escapes: text that JSON can spell may be none that UTF-8 can.
    return json.dumps({name: named[name] for name in names}, separators=(",", ":")).encode()


def _meant(value: Any) -> Any:
    # Numbers are written as numbers or as text, and a whole one perhaps with a point.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:  # noqa: PLR2004 - a count
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _as_set(value: Any) -> Any:
    return (
        sorted({json.dumps(one): one for one in value}.values(), key=json.dumps) if isinstance(value, list) else value
    )


def channel_of(document: Any) -> Channel | None:
    """Voice or SMS, by what a campaign's content, or the body of a create or update, says; None where it says neither.

    The two share one URL, and one vendor page contradicts itself in `campaignType`: the mode and the format tell them
    apart.
    """
    if not isinstance(document, dict):
        return None
    given = document.get("campaignType")
    if isinstance(given, str) and given in list(Channel):
        return Channel(given)
    if "dialingMode" in document:
        return Channel.VOICE
    return Channel.SMS if "format" in document else None
