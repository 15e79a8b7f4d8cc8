"""Answers cut down to a few members of their `data`, or of its rows, after the cache, so that one entry serves all.

A cut is made anew for each request: it takes less than the rest of the request does, and what is kept of cuts would be
whole bodies beside those that the store counts.
"""

import json
from collections.abc import Mapping
from dataclasses import replace

from campaign_gateway.contract.document import parse
from campaign_gateway.contract.listing import ROW_FIELDS
from campaign_gateway.policy.decide import Choice, Decision, Detail
from campaign_gateway.policy.freshness import Lifetime
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState
from campaign_gateway.policy.visibility import listed_visibility


def cut(stored: Stored, fields: frozenset[str]) -> Stored:
    """The answer with only these members, as one of its own."""
    if stored.absence is not None:
        return stored
    document = parse(stored.body)
    match document.get("data"):
        case {"results": [*rows]} as data:
            document["data"] = {**data, "results": [_pick(row, fields) for row in rows]}
        case [*rows]:
            document["data"] = [_pick(row, fields) for row in rows]
        case data:
            document["data"] = _pick(data, fields)
    return replace(stored, body=_encode(document))


def _pick(shown: object, fields: frozenset[str]) -> object:
    return {name: value for name, value in shown.items() if name in fields} if isinstance(shown, dict) else shown


def is_in_rows(fields: frozenset[str]) -> bool:
    """Whether a row of a list carries all that is asked for."""
    return fields.issubset(ROW_FIELDS)


def decide_by_row(
    indexed: IndexedCampaign | None, state: IndexState, fields: frozenset[str], now: float
) -> Decision | None:
    """A fresh answer made of a campaign's row; None when no poll vouches for one."""
    if indexed is None or not indexed.is_listed or indexed.channel in state.flaws:
        return None
    last = state.polls.get(indexed.channel)
    if last is None or (left := last.began + last.lasts - now) <= 0:
        return None
    data = {name: value for name, value in indexed.fields.items() if name in fields}
    body = _encode({"status": "success", "data": data})
    return Decision(
        Choice.FRESH,
        Stored(body, "application/json", b"", indexed.updated_at, indexed.status, last.began),
        is_usable=True,
        age=max(0.0, now - last.began),
        ttl=Lifetime(left, "sweep"),
        detail=Detail.ROW,
        visibility=listed_visibility(indexed, state, now),
    )


def _encode(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
