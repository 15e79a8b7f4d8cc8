"""Values of the pure rooms with everything filled in that a test does not talk about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from campaign_gateway.contract.answers import Answer, Response, classify
from campaign_gateway.contract.operations import GET, Operation, Shape
from campaign_gateway.policy.evidence import Cause, Evidence, Invalidation
from campaign_gateway.policy.stored import Absence, Stored
from campaign_gateway.proxy.ports import Store

SAMPLES = Path(__file__).parents[1] / "samples"

NOW = 1_770_000_000.0
"""The present, where a test does not say otherwise: 2026-02-02T02:40:00Z."""

CAMPAIGN = "cd-4f1a9c2-7b3e-4d58-9a61-c20e7f5b8d13"
OTHER_CAMPAIGN = "cd-7e8d2b0-13c9-4fa6-b7d4-5a90c3e1f682"
JSON_TYPE = "application/json; charset=utf-8"
LIMIT_TEXT = "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."
"""As documented (CONTRACT section 5)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BY_AGE = "by-age"


@dataclass(frozen=True, slots=True)
class Sample:
    """One file of the samples, with the request it answers."""

    file: str
    method: str
    path: str
    response: Response


@cache
def samples() -> Mapping[str, Sample]:
    """All samples that the manifest lists, by file name."""
    rows = json.loads((SAMPLES / "manifest.json").read_text("utf-8"))["samples"]
    return {
        row["file"]: Sample(
            row["file"],
            row["method"],
            row["path"],
            Response(
                row["httpStatus"],
                row["responseHeaders"]["Content-Type"],
                (SAMPLES / row["file"]).read_bytes(),
                row["responseHeaders"].get("Retry-After"),
            ),
        )
        for row in rows
    }


def row(name: str, shape: Shape) -> Operation:
    """A row of the operations' table in which only the name and the shape matter."""
    return replace(GET, name=name, path="/x", query="", answer=shape)


def stamp(seconds: float) -> str:
    """The moment as the platform writes it, to the millisecond."""
    moment = _EPOCH + timedelta(milliseconds=round(seconds * 1000))
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def campaign(**members: Any) -> dict[str, Any]:
    """A campaign, changed 1000 s before `NOW`."""
    return {"_id": CAMPAIGN, "name": "X", "status": "Ready", "updatedAt": stamp(NOW - 1000), **members}


def without(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The same members but for these."""
    return {name: member for name, member in document.items() if name not in names}


def envelope(data: Any) -> dict[str, Any]:
    """The body of a success."""
    return {"status": "success", "message": "Campaign X retrieved successfully", "data": data}


def errors(*texts: str, code: Any = 400) -> dict[str, Any]:
    """A body in the platform's usual form of a failure."""
    return {"errors": [{"msg": text, "code": code} for text in texts]}


def as_body(document: Any) -> bytes:
    """The document as JSON; bytes stay as they are."""
    return document if isinstance(document, bytes) else json.dumps(document).encode()


def response(body: Any, status: int = 200, content_type: str = JSON_TYPE, retry_after: str | None = None) -> Response:
    """An answer of the platform, with a body as `as_body` makes it."""
    return Response(status, content_type, as_body(body), retry_after)


def classified(
    body: Any, status: int = 200, content_type: str = JSON_TYPE, retry_after: str | None = None, *, now: float = NOW
) -> Answer:
    """What such an answer means to a by-id read of `CAMPAIGN`."""
    return classify(GET, CAMPAIGN, response(body, status, content_type, retry_after), now)


def entry(
    age: float = 0.0,
    *,
    revision: str | None = _BY_AGE,
    campaign_status: str | None = "Ready",
    body: bytes = b'{"data":{"_id":"cd-1"}}',
) -> Stored:
    """A stored campaign.

    Args:
        age: seconds from its validation to `NOW`.
        revision: by default, that of a change 1000 s before the validation.
        campaign_status: the campaign's.
        body: the stored bytes; those of no other builder.
    """
    validated_at = NOW - age
    revision = stamp(validated_at - 1000) if revision == _BY_AGE else revision
    return Stored(body, "application/json", b"digest of it", revision, campaign_status, validated_at)


def absence(age: float = 0.0, *, message: str | None = "Campaign not found") -> Stored:
    """The stored knowledge that there is no such campaign."""
    return Stored(b"", "", b"", None, None, NOW - age, Absence(400, "400", message))


def invalid(by: Cause, ago: float = 0.0, *, is_open: bool = True) -> Evidence:
    """That of an invalidation so many seconds before `NOW`."""
    return Evidence(Invalidation(NOW - ago, by, is_open))


def copy_of(store: Store, key: str) -> Stored | None:
    """The answer that the store may give without asking anybody."""
    copy = store.peek(key)
    return copy.stored if copy.may_answer else None


def json_documents() -> st.SearchStrategy[Any]:
    """JSON documents with whole and broken numbers, lone surrogates, and keys that sort in odd ways."""
    text = st.text(st.characters(), max_size=6) | st.sampled_from(["\ud800", "5", "true", ""])
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=10
    )


def shuffled(document: Any) -> Any:
    """The same content in another spelling: members in reverse, whole numbers as floats where those are exact."""
    match document:
        case dict():
            return {name: shuffled(document[name]) for name in reversed(document)}
        case list():
            return [shuffled(member) for member in document]
        case bool():
            return document
        case int() if abs(document) <= 2**53:
            return float(document)
        case _:
            return document
