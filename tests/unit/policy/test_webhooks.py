"""Who sends changes to a webhook, and when again."""

from dataclasses import replace
from typing import get_args

import pytest

from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.policy.webhooks import (
    GIVE_UP_SECONDS,
    LEASE_SECONDS,
    Delivery,
    Outcome,
    Sending,
    delivery_of,
    failed,
    is_free,
    moved,
    released,
    resumed,
    taken,
)
from campaign_gateway.settings.scalars import ChangeTypeName

NOW = 1_000_000.0
HELD = Sending("other", NOW + 5, "log", (1, 0))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.RECEIVED),
        (204, Outcome.RECEIVED),
        (299, Outcome.RECEIVED),
        (301, Outcome.REDIRECTED),
        (307, Outcome.REDIRECTED),
        (400, Outcome.REFUSED),
        (401, Outcome.REFUSED),
        (410, Outcome.GONE),
        (429, Outcome.REFUSED),
        (500, Outcome.REFUSED),
        (999, Outcome.REFUSED),
    ],
)
def test_a_status_says_what_became_of_it(status: int, outcome: Outcome) -> None:
    assert delivery_of(status, None, NOW) == Delivery(outcome)


@pytest.mark.parametrize(
    ("status", "field", "seconds"),
    [
        (429, "120", 120.0),
        (503, "Mon, 12 Jan 1970 13:47:40 GMT", 60.0),
        (503, "Mon, 12 Jan 1970 13:45:00 GMT", 0.0),
        (500, "7", 7.0),
        (503, "soon", 0.0),
        (503, "-5", 0.0),
        (307, "120", 0.0),
        (200, "120", 0.0),
        (410, "120", 0.0),
    ],
)
def test_who_refuses_says_when_to_come_back(status: int, field: str, seconds: float) -> None:
    assert delivery_of(status, field, NOW).wait == seconds


def test_nothing_is_sent_before_that_and_waits_grow_meanwhile() -> None:
    asked = failed(HELD, Delivery(Outcome.REFUSED, 600.0), NOW)
    assert (asked.wait, asked.retry_at) == (1.0, NOW + 600)
    assert failed(asked, Delivery(Outcome.REFUSED, 1.0), NOW + 600).retry_at == NOW + 602, "the longer one of both"
    for when in (NOW + 30, NOW + 700):
        assert taken(asked, "me", NOW - 10, when).retry_at == NOW + 600, "whoever sends"
    assert taken(asked, "me", NOW + 1, NOW + 30).retry_at == 0.0, "but for those who mend it and start anew"
    for_ever = failed(asked, Delivery(Outcome.REFUSED, 1e9), NOW + 600)
    assert for_ever.retry_at == for_ever.not_before == NOW + GIVE_UP_SECONDS
    assert moved(asked, "log", (2, 0)).not_before == 0.0


@pytest.mark.parametrize(
    ("sending", "free"),
    [
        (None, True),
        (HELD, False),
        (replace(HELD, holder="me"), True),
        (replace(HELD, ends=NOW), True),
        (released(HELD), True),
        (replace(HELD, ends=NOW + LEASE_SECONDS + 1), True),
        (replace(released(HELD), stopped_at=NOW - 1), False),
        (replace(released(HELD), stopped_at=NOW - 11), True),
        (replace(HELD, holder="me", stopped_at=NOW), False),
    ],
)
def test_the_lease(sending: Sending | None, free: bool) -> None:
    assert is_free(sending, "me", NOW - 10, NOW) is free


def test_who_takes_over_tries_at_once_and_goes_on_with_the_waits() -> None:
    failing = failed(HELD, Delivery(Outcome.TIMEOUT), NOW)
    mine = taken(failing, "me", NOW - 10, NOW + 60)
    assert (mine.holder, mine.ends, mine.retry_at) == ("me", NOW + 60 + LEASE_SECONDS, NOW)
    assert (mine.failing_since, mine.wait, mine.position) == (NOW, 1.0, (1, 0))


def test_what_failed_before_a_process_started_is_nothing_to_it() -> None:
    failing = failed(HELD, Delivery(Outcome.TIMEOUT), NOW)
    stopped = failed(HELD, Delivery(Outcome.GONE), NOW)
    anew = replace(HELD, holder="me", ends=NOW + 60 + LEASE_SECONDS)
    assert taken(failing, "me", NOW + 1, NOW + 60) == taken(stopped, "me", NOW + 1, NOW + 60) == anew
    assert taken(stopped, "me", NOW - 1, NOW + 60) == stopped, "it has stopped itself"


def test_waits_grow_up_to_an_hour_and_end_after_a_day() -> None:
    sending, now, waits = HELD, NOW, []
    while not sending.stopped_at:
        sending = failed(sending, Delivery(Outcome.REFUSED), now)
        waits.append(sending.retry_at - now)
        now = sending.retry_at
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[12:20] == [3600.0] * 8
    assert sending.stopped_at == NOW + GIVE_UP_SECONDS
    assert (sending.holder, sending.position, sending.failure) == ("", (1, 0), "refused")
    again = failed(resumed(sending), Delivery(Outcome.REFUSED), now + 9)
    assert (again.stopped_at, again.failing_since, again.wait) == (0.0, now + 9, 1.0)


def test_a_target_that_is_gone_stops_sending_at_once() -> None:
    sending = failed(HELD, Delivery(Outcome.GONE), NOW)
    assert (sending.stopped_at, sending.holder, sending.position) == (NOW, "", (1, 0))


def test_what_was_received_ends_the_failures() -> None:
    sending = moved(failed(replace(HELD, oldest=NOW), Delivery(Outcome.REFUSED), NOW), "log", (2, 0))
    assert sending == replace(HELD, position=(2, 0))


def test_the_settings_know_each_type() -> None:
    assert set(get_args(ChangeTypeName)) == {type_.value for type_ in ChangeType}
