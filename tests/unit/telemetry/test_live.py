import io
import logging
import re
from typing import Any

import pytest
from typing_extensions import override

from campaign_gateway.telemetry import live
from campaign_gateway.telemetry.history import PACKAGE
from campaign_gateway.telemetry.live import REQUESTS, LiveFormatter
from campaign_gateway.telemetry.logs import LINES, JsonFormatter

PATHS = {"get": "/v1/campaigns/{id}", "list": "/v1/campaigns"}
READ = {"method": "GET", "operation": "get", "campaign": "cd-1", "status": 200, "milliseconds": 0.04}
FAILED = {"method": "GET", "operation": "get", "milliseconds": 2.0}


def shown(fields: dict[str, Any], *, has_colours: bool = False, is_whole_line: bool = False) -> str:
    record = logging.LogRecord(REQUESTS, logging.INFO, "", 0, "request", (), None)
    record.fields = fields
    if is_whole_line:
        record.msg = JsonFormatter().format(record)
        setattr(record, LINES, True)
    return LiveFormatter(PATHS, lambda: "7 of 60 calls left", has_colours=has_colours).format(record)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (READ | {"cache": "hit", "age": 3}, "GET /v1/campaigns/cd-1 200 hit, age 3 s 0.04 ms"),
        (READ | {"cache": "hit", "age": 0}, "GET /v1/campaigns/cd-1 200 hit 0.04 ms"),
        (READ | {"cache": "hit", "stands_for": 16}, "GET /v1/campaigns/cd-1 200 hit x 16 0.04 ms"),
        (READ | {"cache": "stale", "detail": "budget", "age": 80}, "GET /v1/campaigns/cd-1 200 stale (budget), age 80 s 0.04 ms"),
        ({"method": "GET", "operation": "list", "status": 200, "cache": "miss", "milliseconds": 151.239}, "GET /v1/campaigns 200 miss 151.24 ms"),
        (FAILED | {"status": 404, "campaign": "x", "problem": "campaign-not-found"}, "GET /v1/campaigns/x 404 campaign-not-found 2.00 ms"),
        (FAILED | {"status": 400, "problem": "invalid-request"}, "GET /v1/campaigns/{id} 400 invalid-request 2.00 ms"),
        (FAILED | {"operation": "none", "status": 404, "problem": "not-found"}, "GET (none) 404 not-found 2.00 ms"),
        (READ | {"method": "PUT", "cache": "none", "fwd": "method"}, "PUT /v1/campaigns/cd-1 200 passed on 0.04 ms"),
        ({"method": "GET", "operation": "docs", "status": 200, "cache": "none", "milliseconds": 3.0}, "GET (docs) 200 done 3.00 ms"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_whole_line", [False, True])
def test_a_request_is_a_line_in_words(fields, said, is_whole_line):
    text = " ".join(shown(fields, is_whole_line=is_whole_line).split())
    assert re.fullmatch(r"\d\d:\d\d:\d\d " + re.escape(said) + " 7 of 60 calls left", text)


def test_what_is_no_request_is_text_as_everywhere():
    record = logging.LogRecord("campaign_gateway.proxy", logging.WARNING, "", 0, "the platform fails", (), None)
    assert LiveFormatter(PATHS, str, has_colours=True).format(record).endswith(" warning the platform fails")


@pytest.mark.parametrize(
    ("fields", "colour"),
    [({"cache": "hit"}, 32), ({"cache": "stale"}, 33), ({"cache": "miss"}, 36), ({"status": 502, "cache": "none"}, 31)],
)
def test_how_it_was_answered_shows_in_the_colour(fields, colour):
    line = shown(READ | fields, has_colours=True)
    assert f"\x1b[{colour}m{fields.get('status', 200)} " in line
    assert line.count("\x1b[0m") == 1


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert live.takes_colours(Terminal())
    assert not live.takes_colours(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not live.takes_colours(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not live.takes_colours(Terminal())


def test_changes_of_state_are_for_the_console_and_only_what_is_bad_is_written(monkeypatch):
    names = ("", PACKAGE, REQUESTS, "asyncio")
    before = {name: logging.getLogger(name).level for name in names}
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger("aiohttp.server"), "filters", [])
    try:
        live.set_up(PATHS, lambda: "")
        state, [handler] = logging.getLogger(f"{PACKAGE}.upstream.pauses"), logging.getLogger().handlers
        assert state.isEnabledFor(logging.INFO)
        rows = [(state.name, logging.INFO), (state.name, logging.WARNING), (REQUESTS, logging.INFO)]
        written = [bool(handler.filter(logging.LogRecord(*row, "", 0, "", (), None))) for row in rows]
        assert written == [False, True, True]
        assert not logging.getLogger("another_package").isEnabledFor(logging.INFO)
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
