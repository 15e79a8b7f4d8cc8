"""Changes to the body of an answer, one pure function for each fault that makes them."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from campaign_gateway.sandbox.answers import Answer
from campaign_gateway.sandbox.faults import FaultName, Parameters

# Well formed, and nobody's.
OTHER_ID = "cd-0000000-0000-4000-8000-000000000000"

OTHER_PRIORITY = "99"
HIDDEN_ROWS = 3

_PADDING = b',"padding":"'
_PADDING_END = b'"}'


def wrong_id(answer: Answer, _: Parameters) -> Answer:
    """The answer about another campaign; left alone if it names none."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        return answer
    if not isinstance(document, dict):
        return answer
    data = document.get("data")
    for part in (document, data):
        if isinstance(part, dict):
            part.update({key: OTHER_ID for key in ("_id", "id") if key in part})
    return replace(answer, body=json.dumps(document, ensure_ascii=False).encode())


def cut_json(answer: Answer, _: Parameters) -> Answer:
    """The first half of the body."""
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def oversize(answer: Answer, given: Parameters) -> Answer:
    """The body padded to `size_bytes`; a JSON object stays a valid one, with a key `padding` more."""
    return replace(answer, body=_padded(answer.body, given.size_bytes))


def gzip_bomb(answer: Answer, given: Parameters) -> Answer:
    """The body padded to `size_bytes`, then compressed to about a thousandth of them."""
    packed = gzip.compress(_padded(answer.body, given.size_bytes), compresslevel=1)
    return replace(answer, body=packed, headers={**answer.headers, "Content-Encoding": "gzip"})


def bad_content_type(answer: Answer, given: Parameters) -> Answer:
    """The answer under another content type, or under none."""
    return replace(answer, content_type=given.content_type)


def total_of_page(answer: Answer, _: Parameters) -> Answer:
    """A list whose total is that of the page."""
    return _with_data(answer, lambda data: data.update(totalResults=len(data["results"])))


def total_hidden(answer: Answer, _: Parameters) -> Answer:
    """A list whose total counts more rows than there are."""
    return _with_data(answer, lambda data: data.update(totalResults=data["totalResults"] + HIDDEN_ROWS))


def rows_differ(answer: Answer, _: Parameters) -> Answer:
    """A list whose rows show a priority that no campaign has."""
    return _with_data(answer, lambda data: [row.update(priority=OTHER_PRIORITY) for row in data["results"]])


def validators(answer: Answer, _: Parameters) -> Answer:
    """The answer with a validator of its body."""
    tag = hashlib.blake2b(answer.body, digest_size=8).hexdigest()
    return replace(answer, headers={**answer.headers, "ETag": f'"{tag}"'})


def limit_headers(answer: Answer, _: Parameters) -> Answer:
    """The answer with what many platforms say of their limits, whatever the limit here is."""
    return replace(answer, headers={**answer.headers, "X-RateLimit-Limit": "30", "X-RateLimit-Remaining": "17"})


def _with_data(answer: Answer, change: Callable[[dict[str, Any]], object]) -> Answer:
    """A list with its `data` changed; what is no list is left alone."""
    try:
        document = json.loads(answer.body)
    except ValueError:
        return answer
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("results"), list):
        return answer
    change(data)
    return replace(answer, body=json.dumps(document, ensure_ascii=False).encode())


def _padded(body: bytes, size: int) -> bytes:
    if body.endswith(b"}"):
        padding = size - len(body) - len(_PADDING) - len(_PADDING_END) + 1
        return body[:-1] + _PADDING + b"x" * max(0, padding) + _PADDING_END
    return body.ljust(size, b" ")


# In the order they apply when a request meets several.
DISTORTIONS: Mapping[FaultName, Callable[[Answer, Parameters], Answer]] = {
    FaultName.WRONG_ID: wrong_id,
    FaultName.CUT_JSON: cut_json,
    FaultName.OVERSIZE: oversize,
    FaultName.GZIP_BOMB: gzip_bomb,
    FaultName.BAD_CONTENT_TYPE: bad_content_type,
    FaultName.TOTAL_OF_PAGE: total_of_page,
    FaultName.TOTAL_HIDDEN: total_hidden,
    FaultName.ROWS_DIFFER: rows_differ,
    FaultName.VALIDATORS: validators,
    FaultName.LIMIT_HEADERS: limit_headers,
}
