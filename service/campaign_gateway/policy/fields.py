"""Answers cut down to a few members of their `data`, or of its rows, after the cache, so that one entry serves all.

What is kept is spelled as the platform spells it, digit by digit.
"""

from collections.abc import Mapping
from dataclasses import replace

from campaign_gateway.contract.document import elements, members, spelled, text_of, value_of, written
from campaign_gateway.contract.listing import ROW_FIELDS
from campaign_gateway.contract.operations import GET, Operation
from campaign_gateway.policy.decide import Choice, Decision, Detail
from campaign_gateway.policy.freshness import Lifetime
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexState
from campaign_gateway.policy.visibility import listed_visibility


def cut(stored: Stored, fields: frozenset[str], operation: Operation) -> Stored:
    """The answer with only these members, as one of its own.

    Of a campaign it is what the campaign's row would make it, where that carries all of them: body and tag do not show
    which of the two has answered.
    """
    if stored.absence is not None:
        return stored
    document = members(text_of(stored.body))
    name, data = document.get("data", ('"data"', "null"))
    if operation.name == GET.name and is_in_rows(fields):
        shown = {member: value_of(text) for member, (_, text) in members(data).items() if member in fields}
        return replace(stored, body=_few(shown), content_type=_FEW_TYPE)
    document["data"] = name, _cut(data, fields)
    return replace(stored, body=spelled(document.values()).encode())


def _cut(data: str, fields: frozenset[str]) -> str:
    shown = members(data)
    if "results" in shown and elements(shown["results"][1]) is not None:
        name, rows = shown["results"]
        return spelled((shown | {"results": (name, _cut(rows, fields))}).values())
    rows_of = elements(data)
    if rows_of is not None:
        return "[" + ",".join(_pick(row, fields) for row in rows_of) + "]"
    return _pick(data, fields)


def _pick(shown: str, fields: frozenset[str]) -> str:
    if not shown.startswith("{"):
        return shown
    return spelled(pair for name, pair in members(shown).items() if name in fields)


def is_in_rows(fields: frozenset[str]) -> bool:
    """Whether a row of a list carries all that is asked for."""
    return fields.issubset(ROW_FIELDS)


def decide_by_row(
    indexed: IndexedCampaign | None, state: IndexState, fields: frozenset[str], now: float
) -> Decision | None:
    """A fresh answer made of a campaign's row; None when no poll vouches for one, or the row lacks one of them."""
    if indexed is None or not indexed.is_listed or indexed.channel in state.flaws:
        return None
    if not fields <= indexed.fields.keys():
        # The answer by id may have it.
        return None
    last = state.polls.get(indexed.channel)
    if last is None or (left := last.began + last.lasts - now) <= 0:
        return None
    body = _few({name: value for name, value in indexed.fields.items() if name in fields})
    return Decision(
        Choice.FRESH,
        Stored(body, _FEW_TYPE, b"", indexed.updated_at, indexed.status, last.began),
        is_usable=True,
        age=max(0.0, now - last.began),
        ttl=Lifetime(left, "sweep"),
        detail=Detail.ROW,
        visibility=listed_visibility(indexed, state, now),
    )


_FEW_TYPE = "application/json"


def _few(shown: Mapping[str, object]) -> bytes:
    """A campaign's answer with only these values, whoever has said them. Its message, which names it, is left out."""
    data = spelled((f'"{name}"', written(shown[name])) for name in ROW_FIELDS if name in shown)
    return spelled([('"status"', '"success"'), ('"data"', data)]).encode()
