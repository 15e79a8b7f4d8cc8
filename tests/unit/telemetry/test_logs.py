import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from typing_extensions import override

from campaign_gateway.telemetry import logs
from campaign_gateway.telemetry.logs import JsonFormatter, TextFormatter


@pytest.fixture
def sink():
    """What `set_up` sends lines to; logging is put back afterwards."""
    root, server, loop = logging.getLogger(), logging.getLogger("aiohttp.server"), logging.getLogger("asyncio")
    before = root.handlers[:], root.level, server.filters[:], loop.level
    sink = io.StringIO()
    logs.set_up(sink)
    yield sink
    root.handlers[:], server.filters[:] = before[0], before[2]
    root.setLevel(before[1])
    loop.setLevel(before[3])


def lines(sink: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in sink.getvalue().splitlines()]


def record(message: str = "hello %s", *arguments: object, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("campaign_gateway.x", logging.WARNING, "x.py", 1, message, arguments or ("you",), None)
    made.created = 1_770_000_000.25
    if fields:
        made.fields = fields
    return made


def test_a_worker_puts_its_number_into_each_line(sink):
    logs.set_up(sink, worker=2)
    logging.getLogger("campaign_gateway.x").warning("a", extra={"fields": {"status": 200}})
    logging.getLogger("campaign_gateway.x").warning("b")
    assert [line["worker"] for line in lines(sink)] == [2, 2]


def test_a_record_is_one_line_of_json():
    line = JsonFormatter().format(record())
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2026-02-02T02:40:00.250+00:00",
        "level": "warning",
        "logger": "campaign_gateway.x",
        "message": "hello you",
    }


def test_fields_become_members():
    line = json.loads(JsonFormatter().format(record(status=200, cache="hit", age=None)))
    assert (line["status"], line["cache"], line["age"]) == (200, "hit", None)


@pytest.mark.parametrize("text", ["two\nlines", 'a "quote"', "\x00\x1b[31m", "\u2028", "ü"])
def test_no_text_breaks_the_line_or_its_json(text):
    line = JsonFormatter().format(record("%s", text, campaign=text))
    assert len(line.splitlines()) == 1 or text == "\u2028"
    assert line.count("\n") == 0
    assert json.loads(line)["message"] == json.loads(line)["campaign"] == text


def test_a_value_that_json_does_not_know_is_told_as_text():
    line = json.loads(JsonFormatter().format(record(path=Path("/a/b"), error=LookupError("x"))))
    assert (line["path"], line["error"]) == ("/a/b", "x")


def test_an_exception_comes_with_its_traceback_in_one_line(sink):
    try:
        int("what happened")
    except ValueError:
        logging.getLogger("campaign_gateway.x").exception("failed")
    (line,) = lines(sink)
    assert line["message"] == "failed"
    assert "ValueError: invalid literal for int() with base 10: 'what happened'" in str(line["exception"])
    assert "Traceback" in str(line["exception"])


def test_a_text_that_utf_8_cannot_say_costs_no_line():
    """File names and the platform's JSON may hold such; formatted only, because pytest's own capture cannot tell it."""
    line = JsonFormatter().format(record("cannot read %s", "/run/secrets/\udcff", campaign="\ud800"))
    told = json.loads(line.encode("utf-8"))
    assert told["message"].startswith("cannot read /run/secrets/")
    assert set(told) == {"time", "level", "logger", "message", "campaign"}


def test_a_librarys_warning_is_a_line_like_any_other():
    """In a process of its own: warnings belong to pytest in this one."""
    program = (
        "from campaign_gateway.telemetry import logs; logs.set_up(); import warnings; warnings.warn('a short key')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    (line,) = (json.loads(text) for text in done.stderr.splitlines())
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")
    assert "a short key" in line["message"]


def test_all_loggers_go_the_same_way_from_info_on(sink):
    logging.getLogger("campaign_gateway.requests").info("request", extra={"fields": {"status": 200}})
    logging.getLogger("some.dependency").debug("noise")
    logging.getLogger("some.dependency").warning("news")
    assert [(line["logger"], line["level"]) for line in lines(sink)] == [
        ("campaign_gateway.requests", "info"),
        ("some.dependency", "warning"),
    ]


def test_setting_up_twice_does_not_double_the_lines(sink):
    logs.set_up(sink)
    logging.getLogger("campaign_gateway.x").info("once")
    assert len(lines(sink)) == 1


def test_aiohttps_lines_about_requests_are_dropped_because_they_may_hold_a_key(sink):
    server = logging.getLogger("aiohttp.server")
    server.error("Error handling request from %s", "127.0.0.1", exc_info=ValueError("Authorization: Bearer cgk_secret"))
    server.warning("something else")
    assert [line["message"] for line in lines(sink)] == ["something else"]
    assert "cgk_secret" not in sink.getvalue()


def test_the_loops_own_chatter_is_quiet(sink):
    logging.getLogger("asyncio").info("Using selector")
    logging.getLogger("asyncio").warning("Executing took 2 seconds")
    assert [line["level"] for line in lines(sink)] == ["warning"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("12025550163", "(number)"),
        ("+12025550163", "(number)"),
        ("tel:+12025550163", "(number)"),
        ("SMS-12025550163", "(number)"),
        ("call 12025550163, or 4455501", "call (number), or (number)"),
        ("req-12345678", "req-12345678"),
        ("cd-1234567-7b3e-4d58-9a61-c20e7f5b8d13", "cd-1234567-7b3e-4d58-9a61-c20e7f5b8d13"),
        ("0f9e1234567890123456789012345678", "0f9e1234567890123456789012345678"),
        ("127.0.0.1:34567", "127.0.0.1:34567"),
        ("1234567.25 s", "(number).25 s"),
    ],
)
def test_what_looks_like_a_phone_number_is_masked_and_an_id_is_not(text: str, shown: str) -> None:
    assert logs.mask(text) == shown


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "format_", "is_json"),
    [
        (io.StringIO, None, True),
        (io.StringIO, "text", False),
        (Terminal, None, False),
        (Terminal, "json", True),
    ],
)
def test_a_terminal_gets_text_unless_a_form_is_asked_for(sink, stream, format_, is_json):
    written = stream()
    logs.set_up(written, format=format_)
    logging.getLogger("campaign_gateway.x").warning("news")
    assert written.getvalue().startswith("{") == is_json


def test_text_has_time_level_message_and_fields():
    line = TextFormatter(worker=1).format(record(status=200, reason="a = b", empty=""))
    assert line == ('2026-02-02T02:40:00.250+00:00 warning hello you worker=1 status=200 reason="a = b" empty=""')


def test_the_ready_lines_of_hits_are_text_too():
    made = record("%s", '{"time":"T","level":"info","logger":"l","message":"request","age":7}\n' * 2)
    setattr(made, logs.LINES, True)
    assert TextFormatter().format(made).splitlines() == ["T info    request age=7"] * 2


@pytest.mark.parametrize("text", ["two\nlines", "\x00\x1b[31m", "\u2028", "a\rb"])
def test_no_text_ends_the_line_or_steers_the_terminal(text):
    line = TextFormatter().format(record("%s", text, campaign=text))
    assert line.isprintable()
    assert line.count(json.dumps(text)) == 2


def test_a_traceback_is_below_its_line():
    made = record()
    try:
        int("\x1b")
    except ValueError:
        made.exc_info = sys.exc_info()
    first, *below = TextFormatter().format(made).split("\n")
    assert first.endswith("hello you")
    assert all(row.startswith("    ") and row.isprintable() for row in below)
    assert "ValueError" in below[-1]


@pytest.mark.parametrize(("level", "shown"), [("debug", 3), ("info", 2), ("warning", 1), ("error", 0)])
def test_nothing_below_the_level_is_written(sink, level, shown):
    written = io.StringIO()
    logs.set_up(written, level=level)
    log = logging.getLogger("campaign_gateway.x")
    log.debug("a")
    log.info("b")
    log.warning("c")
    assert len(written.getvalue().splitlines()) == shown
