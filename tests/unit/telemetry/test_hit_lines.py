import asyncio
import io
import json
import logging
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.logs import HitLines, JsonFormatter, mask

NUMBERED = r"\A((tel|SMS|phone)[-_.:])?[0-9]{6,16}([-._:a-z]|\Z)[A-Za-z0-9._:-]{0,9}\Z"


class LoggedHits:
    """A logger with one handler, as `set_up` makes it."""

    def __init__(self, name: str) -> None:
        self.log, self.sink = logging.getLogger(name), io.StringIO()
        self.handler = logging.StreamHandler(self.sink)
        self.handler.setFormatter(JsonFormatter())
        self.log.addHandler(self.handler)
        self.log.setLevel(logging.INFO)
        self.lines = HitLines(name)

    def note(self, id_: bytes = b"r-1", seconds: float = 0.000_012, ended: float | None = None) -> None:
        caller = self.lines.caller({"method": "GET", "client": "reporting"})
        answer = self.lines.answer({"status": 200, "detail": "sweep"})
        self.lines.hit(id_, caller, self.lines.campaign("c-1"), answer, b"7", ended or time.perf_counter(), seconds)

    def refuse(self) -> None:
        """A line of a refusal, for `r-2`."""
        caller, answer = self.lines.caller({"method": "GET"}), self.lines.ageless({"status": 503})
        self.lines.hit(b"r-2", caller, self.lines.campaign("c-1"), answer, b"", time.perf_counter(), 0.1, refused=503)

    def written(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.sink.getvalue().splitlines()]


@pytest.fixture
async def logged(request):
    made = LoggedHits(request.node.name)
    yield made
    made.lines.flush()
    made.log.handlers.clear()


async def test_the_line_of_a_hit_is_that_of_any_request(logged, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1_770_000_000.2504)
    logged.note()
    fields = {"request_id": "r-1", "method": "GET", "client": "reporting", "campaign": "c-1", "status": 200}
    fields |= {"detail": "sweep", "age": 7}
    record = logging.LogRecord(logged.log.name, logging.INFO, "", 1, "request", (), None)
    record.created, record.fields = 1_770_000_000.2504, {**fields, "milliseconds": 0.01}
    logged.lines.flush()
    assert logged.sink.getvalue().rstrip("\n") == JsonFormatter().format(record)


async def test_lines_come_together_and_soon(logged):
    records: list[logging.LogRecord] = []

    def see(record: logging.LogRecord) -> bool:
        records.append(record)
        return True

    logged.log.addFilter(see)
    for number in range(5):
        logged.note(b"r-%d" % number)
    assert logged.written() == []
    while not logged.written():
        await asyncio.sleep(0.001)
    assert [line["request_id"] for line in logged.written()] == [f"r-{number}" for number in range(5)]
    assert len(records) == 1


@pytest.mark.parametrize("seconds", [0.0, 0.000_004, 0.000_12, 0.009_994, 0.01, 0.5, 12.0])
async def test_the_time_it_took_is_in_milliseconds(logged, seconds):
    logged.note(seconds=seconds)
    logged.lines.flush()
    assert logged.written()[0]["milliseconds"] == pytest.approx(seconds * 1000, abs=0.011)


async def test_each_line_has_its_own_moment_also_when_the_clock_is_set_back(logged, monkeypatch):
    for moment, ended in ((100.0, 7.0), (100.0006, 7.0006), (100.0011, 7.0011), (3.0, 7.002), (160.0, 7.003)):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        logged.note(ended=ended)
    logged.lines.flush()
    assert [str(line["time"])[14:23] for line in logged.written()] == [
        "01:40.000",
        "01:40.000",
        "01:40.001",
        "00:03.000",
        "02:40.000",
    ]


async def test_a_logger_that_wants_no_such_lines_gets_none(logged):
    logged.log.setLevel(logging.WARNING)
    logged.note()
    logged.lines.flush()
    logged.log.setLevel(logging.INFO)
    logged.handler.setLevel(logging.WARNING)
    logged.note()
    logged.lines.flush()
    assert logged.written() == []


async def test_any_other_handler_gets_them_too(logged):
    sink = io.StringIO()
    logged.log.addHandler(logging.StreamHandler(sink))
    logged.note()
    logged.note()
    logged.lines.flush()
    assert [json.loads(line)["request_id"] for line in sink.getvalue().splitlines()] == ["r-1", "r-1"]


@given(st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=24) | st.from_regex(NUMBERED))
@example("12025550163")
@example("Tel:12025550163")
@example("7.12025550163")
async def test_an_id_is_masked_as_any_text_is(request_id):
    made = LoggedHits("ids")
    try:
        made.note(request_id.encode())
        made.lines.flush()
        assert made.written()[0]["request_id"] == mask(request_id)
    finally:
        made.log.handlers.clear()


async def test_many_lines_that_are_handed_over_together_are_whole(logged):
    for number in range(450):
        logged.note(f"r-{number}".encode())
    logged.lines.flush()
    assert [line["request_id"] for line in logged.written()] == [f"r-{number}" for number in range(450)]


async def test_beyond_the_limit_a_line_says_how_many_hits_it_stands_for(logged):
    logged.lines = HitLines(logged.log.name, AccessLines("sampled", hits_per_second=1))
    for _ in range(17):
        logged.note(ended=100.0)
    logged.refuse()
    logged.lines.flush()
    assert [line.get("stands_for") for line in logged.written()] == [None, 16, None]


async def test_where_only_warnings_are_wanted_refusals_have_their_lines(logged):
    logged.log.setLevel(logging.WARNING)
    logged.note()
    logged.refuse()
    logged.handler.setLevel(logging.NOTSET)
    logged.lines.flush()
    assert [(line["level"], line["request_id"]) for line in logged.written()] == [("warning", "r-2")]
