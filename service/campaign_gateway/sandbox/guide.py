"""What can be done with a sandbox, to be read at `/_sandbox`: a sentence and a command to paste for each part."""

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from campaign_gateway.sandbox.faults import DEFAULTS, FaultName
from campaign_gateway.sandbox.magic import MAGIC_IDS

_N = FaultName

ROUTES: Mapping[str, tuple[str, Any]] = {
    "GET /_sandbox": ("This document.", None),
    "GET /_sandbox/log": ("All requests so far, and the most in one window; ?since=N leaves out the first N.", None),
    "DELETE /_sandbox/log": ("Forgets them.", None),
    "GET /_sandbox/faults": ("The faults that are switched on, and how many requests each has met.", None),
    "POST /_sandbox/faults": (
        "Switches one on: for an operation, a campaign, or so many times; then its parameters.",
        {"name": "unavailable", "operation": "get", "times": 3},
    ),
    "DELETE /_sandbox/faults": ("Switches all off.", None),
    "DELETE /_sandbox/faults/{id}": ("Switches one off.", None),
    "GET /_sandbox/campaigns": ("Every field of every campaign; ?stream=ID for another application's.", None),
    "POST /_sandbox/campaigns": (
        "Makes one, with any fields; form is Agentless, Progressive, Preview, simple, template or advanced.",
        {"form": "simple", "name": "Made by Hand", "status": "Active"},
    ),
    "GET /_sandbox/campaigns/{id}": ("Every field of one.", None),
    "PATCH /_sandbox/campaigns/{id}": (
        "Edits one as a user would (RFC 7396); ?quiet=true leaves its marks as they are.",
        {"name": "Edited"},
    ),
    "DELETE /_sandbox/campaigns/{id}": ("Deletes one.", None),
    "PUT /_sandbox/secret": (
        "Replaces the key that tokens are signed with.",
        {"secret": "another-secret-of-some-length"},
    ),
    "GET /_sandbox/limit": ("The rate limit, and what is used of it.", None),
    "PUT /_sandbox/limit": ("Sets it, for every account.", {"calls": 5, "window_seconds": 60}),
    "GET /_sandbox/lists": ("How lists are answered.", None),
    "PUT /_sandbox/lists": ("Sets the most rows of a list in one answer.", {"page_rows": 5}),
}
"""Each control route: what it does, and a body to try."""

FAULTS: Mapping[FaultName, str] = {
    _N.LATENCY: "Waits so many seconds before answering.",
    _N.HANG: "Waits until the fault is switched off, then answers.",
    _N.RESET: "A TCP reset instead of an answer.",
    _N.CLOSE_IDLE: "An unannounced close of the connection so many seconds after the answer.",
    _N.STATUS: "This status, body and content type.",
    _N.SERVER_ERROR: "500, JSON.",
    _N.BAD_GATEWAY: "502, HTML.",
    _N.UNAVAILABLE: "503, empty.",
    _N.NOT_FOUND_HTML: "404, HTML.",
    _N.NOT_FOUND_JSON: "404: Campaign not found.",
    _N.GONE: "410: Campaign not found.",
    _N.NOT_JSON: "200, text under a JSON content type.",
    _N.HTML_200: "200, a login page.",
    _N.ERROR_200: '200, {"status": "error"}.',
    _N.ERROR_200_CAPITAL: '200, {"status": "Error"}.',
    _N.REDIRECT: "A redirect with this status to this location; without one, to the same path on another host.",
    _N.LIMIT_429: "Over the rate limit: 429.",
    _N.LIMIT_429_SECONDS: "Over the rate limit: 429, with Retry-After as a number.",
    _N.LIMIT_429_DATE: "Over the rate limit: 429, with Retry-After as a date.",
    _N.LIMIT_200: "Over the rate limit: 200, with a sentence.",
    _N.LIMIT_400: "Over the rate limit: 400, with a sentence.",
    _N.LIMIT_403: "Over the rate limit: 403, with a sentence.",
    _N.UNAUTHORIZED: "401, the text of a wrong signature.",
    _N.UNAUTHORIZED_NOT_A_TOKEN: "401, what was sent is no token.",
    _N.UNAUTHORIZED_EXPIRED: "401, the token has expired.",
    _N.UNAUTHORIZED_REPLAY: "401, the token was used before.",
    _N.UNAUTHORIZED_LIFETIME: "401, the token lives too long.",
    _N.UNAUTHORIZED_SCOPE: "401, the app lacks the scope.",
    _N.UNAUTHORIZED_SCOPE_MESSAGE: "The same, with the key message instead of msg.",
    _N.FORBIDDEN_SCOPE: "403, the app lacks the scope.",
    _N.WRONG_ID: "The answer names another campaign's id.",
    _N.CUT_JSON: "Half the JSON under an honest Content-Length.",
    _N.OVERSIZE: "The answer padded to so many bytes, still valid JSON.",
    _N.GZIP_BOMB: "The same, sent as little gzip.",
    _N.BAD_CONTENT_TYPE: "This content type; empty for none.",
    _N.CUT_BODY: "The connection closes before Content-Length is reached.",
    _N.CUT_UNFRAMED: "No Content-Length, half the body, and a close: it looks whole.",
    _N.SLOW_BODY: "The body in pieces of so many bytes, so many seconds apart.",
    _N.LIST_UNSORTED: "Lists ignore sortBy.",
    _N.LIST_LAG: "Lists show the campaigns of so many seconds ago.",
    _N.MARKS_FROZEN: "Writes do not move marks.",
    _N.TOTAL_OF_PAGE: "`totalResults` counts the rows of the page.",
    _N.TOTAL_HIDDEN: "`totalResults` counts rows that no page shows.",
    _N.ROWS_DIFFER: "Rows of a list show another priority than the answer by id.",
    _N.VALIDATORS: "Answers carry an ETag, and `If-None-Match` is answered with 304.",
    _N.LIMIT_HEADERS: "Answers say how many calls the limit leaves.",
}


def guide(url: str, routes: Iterable[str]) -> dict[str, Any]:
    """Routes, faults and magic ids, each with what it does and a command.

    Args:
        url: where the sandbox is reached, without a path.
        routes: the control API's, as `GET /_sandbox/log`.
    """
    return {
        "routes": {route: {"does": ROUTES[route][0], "curl": _curl(url, route, ROUTES[route][1])} for route in routes},
        "faults": {
            name: {
                "does": FAULTS[name],
                "parameters": parameters,
                "curl": _curl(url, _SWITCH_ON, {"name": name, **parameters}),
            }
            for name, parameters in DEFAULTS.items()
        },
        "ids": {name: row.gives for name, row in MAGIC_IDS.items()},
    }


_SWITCH_ON = "POST /_sandbox/faults"


def _curl(url: str, route: str, body: Any) -> str:
    method, _, path = route.partition(" ")
    words = ["curl", "-s", *([] if method == "GET" else ["-X", method]), url + path]
    return shlex.join(words if body is None else [*words, "-d", json.dumps(body)])
