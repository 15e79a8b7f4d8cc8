"""What people look back on: figures out of counters, events out of log lines, calls."""

import logging

import pytest
from prometheus_client import CollectorRegistry

from campaign_gateway.policy.ledger import Lane
from campaign_gateway.proxy.ports import PlatformCall
from campaign_gateway.telemetry.counters import quantile
from campaign_gateway.telemetry.history import LAST, STEPS, Event, History, StreamPoint
from campaign_gateway.telemetry.metrics import Metrics
from tests.support.doubles import make_request


def call(id_: str = "c-1") -> PlatformCall:
    return PlatformCall(make_request(id_), Lane.INTERACTIVE, "uri-miss", "ok", 200, 0.0, 0.1)


class Desk:
    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = Metrics(CollectorRegistry())
        self.history = History(self.metrics, self._look, lambda: self.now)
        self.since: list[float] = []

    def _look(self, since: float) -> dict[str, StreamPoint]:
        self.since.append(since)
        return {"support": StreamPoint(7.0, {"voice": "polled"})}

    def read(self, cache: str, seconds: float = 0.003, age: float = 20.0, client: str = "reader") -> None:
        self.metrics.request("get", client, 200, cache, seconds)
        self.metrics.served("get", age)

    def tick(self, seconds: float = 5.0) -> None:
        self.now += seconds
        self.history.tick()


@pytest.fixture
def desk():
    return Desk()


@pytest.mark.parametrize(
    ("counts", "part", "expected"),
    [
        ([0, 0, 0], 0.99, None),
        ([10, 0, 0], 0.5, 0.5),
        ([1, 1, 0], 1.0, 3.0),
        ([0, 4, 0], 0.5, 2.0),
        ([98, 1, 1], 0.99, 3.0),
        ([0, 0, 5], 0.5, 3.0),
    ],
)
def test_a_quantile_lies_within_its_range(counts, part, expected):
    assert quantile((1.0, 3.0), counts, part) == (None if expected is None else pytest.approx(expected))


def test_figures_are_of_the_last_minute_and_know_what_was_answered_just_now(desk):
    desk.read("miss")
    for _ in range(12):
        desk.tick()
    desk.read("hit")
    desk.read("stale")
    desk.read("miss")
    desk.read("none")
    figures = desk.history.figures()
    assert figures.answers == {"hit": 1, "stale": 1, "miss": 1, "none": 1}
    assert (figures.reads, figures.at_once) == (pytest.approx(3 / 55), pytest.approx(2 / 3))
    assert 15 < figures.oldest <= 30
    assert 0.0025 < figures.slowest <= 0.005


def test_nothing_is_said_of_answers_where_there_were_none(desk):
    desk.tick()
    [point] = desk.history.points
    assert (point.figures.at_once, point.figures.oldest, point.figures.slowest) == (None, None, None)
    assert point.figures.reads == 0


def test_a_tick_notes_what_came_about_since_the_last_one(desk):
    desk.read("hit")
    desk.tick()
    desk.read("miss", age=100.0)
    desk.read("miss", age=100.0)
    desk.tick(10.0)
    first, second = desk.history.points
    assert (first.time, first.figures.reads, first.figures.at_once) == (1005.0, 0.2, 1.0)
    assert (second.time, second.figures.reads, second.figures.at_once) == (1015.0, 0.2, 0.0)
    assert second.streams["support"].lists == {"voice": "polled"}
    assert desk.since == [5.0, 10.0]


def test_ages_are_of_the_last_five_minutes(desk):
    desk.read("hit", age=0.5)
    for _ in range(61):
        desk.tick()
    desk.read("hit", age=20.0)
    bounds, counts = desk.history.ages()
    assert [bounds[at] for at, count in enumerate(counts) if count] == [30]


def test_all_of_it_is_bounded(desk):
    for _ in range(STEPS + 5):
        desk.tick()
        desk.history.note_call(call())
        desk.history.note_call(call())
        desk.history.emit(logging.makeLogRecord({"name": "campaign_gateway.web", "msg": "a"}))
        desk.history.emit(logging.makeLogRecord({"name": "campaign_gateway.web", "msg": "b"}))
    history = desk.history
    assert (len(history.points), len(history.events), len(history.calls)) == (STEPS, LAST, LAST)
    assert history.calls_by_client == {"tests": 2 * (STEPS + 5)}


def test_events_are_lines_of_changes_of_state_and_not_of_requests(desk, caplog):
    log = logging.getLogger("campaign_gateway")
    log.addHandler(desk.history)
    caplog.set_level(logging.INFO, "campaign_gateway")
    try:
        logging.getLogger("campaign_gateway.requests").info("request")
        logging.getLogger("campaign_gateway.store.redis.link").warning(
            "redis lost (%s), call %s", "timeout", "+4930123456"
        )
        logging.getLogger("campaign_gateway.store.redis.link").debug("nothing")
    finally:
        log.removeHandler(desk.history)
    [event] = desk.history.events
    assert event == Event(event.time, "warning", "store.redis.link", "redis lost (timeout), call (number)")


def test_a_line_whose_values_do_not_fit_stops_nobody(desk):
    desk.history.emit(logging.makeLogRecord({"name": "campaign_gateway.web", "msg": "%d", "args": ("a",)}))
    assert not desk.history.events


def test_a_call_shows_no_phone_number_that_was_asked_for_as_an_id(desk):
    desk.history.note_call(call("4930123456"))
    assert desk.history.calls[0].campaign == "(number)"
