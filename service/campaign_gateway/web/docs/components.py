"""What the rows of the description share: parameters and header fields, each under a name to refer to."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.contract.listing import Channel
from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.problems import Problem
from campaign_gateway.web import queries
from campaign_gateway.web.changes import CURSOR
from campaign_gateway.web.responses import BOUND, NEWER

Json = Mapping[str, Any]
"""A piece of the document."""

TEXT: Json = {"type": "string"}
EXAMPLE_ID = "cd-07e4cf0-5c94-4b41-9036-eb709e4ce7a8"
"""A campaign of the demo's platform: what stands in the page's form works there at once."""


def parameter(where: str, description: str, schema: Json = TEXT) -> Json:
    """A parameter, but for its name."""
    return {"in": where, "description": description, "schema": schema}


def header(description: str, **schema: object) -> Json:
    """An answer's header field: text, unless the schema says otherwise."""
    return {"description": description, "schema": {"type": "string", **schema}}


def words(description: str, item: Json, **more: object) -> Json:
    """A parameter of the query that is a list with commas."""
    return {
        "in": "query",
        "description": description,
        "schema": {"type": "array", "items": item, "minItems": 1, **more},
        "style": "form",
        "explode": False,
    }


ID: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,128}$"}
_WORD: Json = {"type": "string", "pattern": "^[A-Za-z][A-Za-z ]{0,39}$"}
_COUNT: Json = {"type": "integer", "minimum": 0, "maximum": queries.MAX_COUNT}

PARAMETERS: Mapping[str, Json] = {
    "campaign-id": {**parameter("path", "The campaign's id: opaque and case-sensitive.", ID), "example": EXAMPLE_ID},
    "id": parameter("path", "The id: opaque and case-sensitive.", ID),
    "stream": parameter(
        "path",
        "The alias of a stream in the gateway's settings.",
        {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
    ),
    "problem": parameter(
        "path",
        "The name of a type of problems.",
        {"type": "string", "enum": [problem.value.name for problem in Problem]},
    ),
    "fields": words(
        "Members to select from `data`, or from each row of a list. One stored answer serves all selections.",
        {"type": "string", "pattern": "^[A-Za-z0-9_]{1,64}$"},
        maxItems=queries.MAX_FIELDS,
    ),
    "type": {
        **parameter(
            "query", "The kind of campaign.", {"type": "string", "enum": [channel.value for channel in Channel]}
        ),
        "example": Channel.VOICE.value,
    },
    "page": parameter("query", "The page, from 1.", {**_COUNT, "minimum": 1}),
    "limit": parameter("query", "Rows on a page.", {"type": "integer", "minimum": 1, "maximum": queries.MAX_PAGE_ROWS}),
    "skip": parameter("query", "Rows to skip at the start.", _COUNT),
    "status": words("Campaigns in one of these states.", _WORD),
    "priority": words("Campaigns of one of these priorities.", {"type": "integer", "minimum": 0, "maximum": 99}),
    "dialingMode": words("Campaigns with one of these modes; voice.", _WORD),
    "sort": words(
        "Members to sort by; `-` in front sorts in descending order.",
        {"type": "string", "enum": [sign + name for name in sorted(queries.SORTABLE) for sign in ("", "-")]},
        uniqueItems=True,
    ),
    "startDate": parameter("query", "Campaigns from this date or instant on.", {"type": "string", "format": "date"}),
    "endDate": parameter("query", "Campaigns up to this date or instant.", {"type": "string", "format": "date"}),
    "ids": words("The requested campaigns, in this order.", ID, maxItems=queries.MAX_IDS),
    "change-after": parameter(
        "query",
        "The cursor after which changes are wanted: `next` of the last answer, or an event's `id`. `0` for all that is "
        "kept; without it, from now on.",
    ),
    "change-wait": parameter(
        "query", f"How long to wait for the first change, at most {queries.MAX_WAIT_SECONDS} seconds, such as `30s`."
    ),
    "change-limit": parameter(
        "query",
        "Changes after the cursor in one answer.",
        {"type": "integer", "minimum": 1, "maximum": queries.MAX_CHANGES},
    ),
    "change-type": words("Changes of these types.", {"type": "string", "enum": [*ChangeType]}),
    "change-ids": words("Changes of these campaigns.", ID, maxItems=queries.MAX_IDS),
    "change-status": words("Changes into one of these states.", _WORD),
    "campaignName": parameter(
        "query", "The campaign's name.", {"type": "string", "minLength": 1, "maxLength": queries.MAX_NAME}
    ),
    "If-None-Match": parameter("header", "Entity tags of the caller's copies: a match gives 304. `*` matches any."),
    "Last-Event-ID": parameter("header", "The `id` of the last event that was received; used by event streams."),
    "If-Modified-Since": parameter(
        "header", "An HTTP date: 304 unless there was a later change. Ignored with `If-None-Match`."
    ),
    "Cache-Control": parameter(
        "header",
        "`no-cache`, `max-age` and `min-fresh` request a newer validation, if the budget allows it; `max-stale` "
        "accepts older answers; `only-if-cached` never costs a call.",
    ),
    "Campaign-Gateway-Version": parameter(
        "header",
        "The value from the answer to a write: only a validation newer than that write counts.",
        {"type": "string", "pattern": "^[0-9a-f]{1,20}$"},
    ),
}
"""By the name in the query or the header. Those of the path have names of their own."""

HEADERS: Mapping[str, Json] = {
    "X-Request-ID": header("The caller's value if it is valid, otherwise a new one; it is in the gateway's log."),
    CURSOR: header("The cursor to go on from."),
    "ETag": header(
        "A strong tag: equal on every replica, different if the bytes differ, as they do in another coding."
    ),
    "Last-Modified": header("The campaign's `updatedAt`, if it is a valid time."),
    "Age": header("Seconds since the last validation began.", type="integer", minimum=0),
    "Cache-Control": header("How long the answer is fresh, and how long it may be used when stale."),
    "Cache-Status": header("How the answer was made (RFC 9211)."),
    "Server-Timing": header(
        "For answers that took a call: what the cache did, and milliseconds of the wait for a permit and of the call.",
        examples=["cache;desc=miss, permit;dur=0.2, upstream;dur=123.4"],
    ),
    "RateLimit": header("What is left of the caller's share of the calls, if a call was made or refused."),
    "RateLimit-Policy": header("The caller's share of the calls, and the window in seconds."),
    "Retry-After": header("Seconds until a retry is useful.", type="integer", minimum=1, examples=[7]),
    "Vary": header("The request's fields that choose the answer and its coding.", examples=["Accept-Encoding"]),
    "WWW-Authenticate": header("The scheme to use.", const="Bearer"),
    BOUND: header(
        "Seconds within which a change of the campaign is seen; if polls give the bound, a change of `updatedAt`.",
        type="integer",
        minimum=0,
        examples=[12],
    ),
    NEWER: header(
        "The campaign's newer `updatedAt`, on an answer that is known to be out of date and is being read again.",
        examples=["2026-02-02T02:39:56.204Z"],
    ),
    "Campaign-Gateway-Version": header(
        "The moment of a write. A read that sends it back is answered from a validation newer than the write."
    ),
}
