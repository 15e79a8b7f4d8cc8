"""Answers cut down to a few members of their `data`, or of its rows, after the cache, so that one entry serves all."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from campaign_gateway.contract.document import parse
from campaign_gateway.contract.listing import ROW_FIELDS
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState

KEPT_CUTS = 1_000


def cut(entry: Entry, fields: frozenset[str]) -> Entry:
    """The entry with only these members, as an entry of its own."""
    if entry.absence is not None:
        return entry
    body = _cut(entry.body, fields)
    return replace(entry, body=body)


@lru_cache(maxsize=KEPT_CUTS)
def _cut(body: bytes, fields: frozenset[str]) -> bytes:
    document = parse(body)
    match document.get("data"):
        case {"results": [*rows]} as data:
            document["data"] = {**data, "results": [_pick(row, fields) for row in rows]}
        case [*rows]:
            document["data"] = [_pick(row, fields) for row in rows]
        case data:
            document["data"] = _pick(data, fields)
    return _encode(document)


def _pick(shown: object, fields: frozenset[str]) -> object:
    return {name: value for name, value in shown.items() if name in fields} if isinstance(shown, dict) else shown


def is_in_rows(fields: frozenset[str]) -> bool:
    """Whether a row of a list carries all that is asked for."""
    return fields.issubset(ROW_FIELDS)


def row_entry(
    indexed: IndexedCampaign | None, state: IndexState, fields: frozenset[str], now: float
) -> tuple[Entry, float] | None:
    """An entry made of a campaign's row, and the seconds for which it is fresh; None when no poll vouches for one."""
    if indexed is None or not indexed.is_listed or indexed.channel in state.flaws or indexed.channel not in state.polls:
        return None
    last = state.polls[indexed.channel]
    began, left = last.began, last.began + last.lasts - now
    if left <= 0:
        return None
    body = _encode(
        {"status": "success", "data": {name: value for name, value in indexed.fields.items() if name in fields}}
    )
    entry = Entry(body, "application/json", b"", indexed.updated_at, indexed.status, began)
    return entry, left


def _encode(document: Mapping[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
