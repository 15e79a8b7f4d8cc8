"""Who sends changes to a webhook, and when again."""

from dataclasses import replace
from typing import get_args

import pytest

from campaign_gateway.policy.changes import ChangeType
from campaign_gateway.policy.webhooks import (
    GIVE_UP_SECONDS,
    LEASE_SECONDS,
    Outcome,
    Sending,
    failed,
    is_free,
    moved,
    outcome_of,
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
def test_a_status_is_all_that_counts(status: int, outcome: Outcome) -> None:
    assert outcome_of(status) is outcome


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
    failing = failed(HELD, Outcome.TIMEOUT, NOW)
    mine = taken(failing, "me", NOW - 10, NOW + 60)
    assert (mine.holder, mine.ends, mine.retry_at) == ("me", NOW + 60 + LEASE_SECONDS, 0.0)
    assert (mine.failing_since, mine.wait, mine.position) == (NOW, 1.0, (1, 0))


def test_what_failed_before_a_process_started_is_nothing_to_it() -> None:
    failing = failed(HELD, Outcome.TIMEOUT, NOW)
    stopped = failed(HELD, Outcome.GONE, NOW)
    anew = replace(HELD, holder="me", ends=NOW + 60 + LEASE_SECONDS)
    assert taken(failing, "me", NOW + 1, NOW + 60) == taken(stopped, "me", NOW + 1, NOW + 60) == anew
    assert taken(stopped, "me", NOW - 1, NOW + 60) == stopped, "it has stopped itself"


def test_waits_grow_up_to_an_hour_and_end_after_a_day() -> None:
    sending, now, waits = HELD, NOW, []
    while not sending.stopped_at:
        sending = failed(sending, Outcome.REFUSED, now)
        waits.append(sending.retry_at - now)
        now = sending.retry_at
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[12:20] == [3600.0] * 8
    assert sending.stopped_at == NOW + GIVE_UP_SECONDS
    assert (sending.holder, sending.position, sending.failure) == ("", (1, 0), "refused")
    again = failed(resumed(sending), Outcome.REFUSED, now + 9)
    assert (again.stopped_at, again.failing_since, again.wait) == (0.0, now + 9, 1.0)


def test_a_target_that_is_gone_stops_sending_at_once() -> None:
    sending = failed(HELD, Outcome.GONE, NOW)
    assert (sending.stopped_at, sending.holder, sending.position) == (NOW, "", (1, 0))


def test_what_was_received_ends_the_failures() -> None:
    sending = moved(failed(replace(HELD, oldest=NOW), Outcome.REFUSED, NOW), "log", (2, 0))
    assert sending == replace(HELD, position=(2, 0))


def test_the_settings_know_each_type() -> None:
    assert set(get_args(ChangeTypeName)) == {type_.value for type_ in ChangeType}
