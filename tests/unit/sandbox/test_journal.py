import asyncio
import random

import jwt
import pytest

from campaign_gateway.sandbox.journal import Journal, most_in_window, unverified_claims

TOKEN = jwt.encode({"appId": "cs-1", "exp": 5}, "a key of thirty-two bytes, at least", "HS256")


@pytest.fixture
def journal(clock):
    return Journal(now=clock, monotonic=clock, kept=3)


def note(journal, *, token=None, **seen):
    return journal.record(**({"token": token, "method": "GET", "target": "/", "operation": "get"} | seen))


def test_the_oldest_arrivals_are_forgotten_and_numbers_go_on(journal):
    for _ in range(5):
        note(journal)
    assert [arrival.index for arrival in journal.since()] == [2, 3, 4]
    assert [arrival.index for arrival in journal.since(4)] == [4]
    journal.clear()
    assert note(journal).index == 5
    assert journal.count == 6
    assert len(journal) == 1


def test_arrivals_of_one_operation(journal):
    note(journal, operation="list")
    note(journal)
    assert [arrival.operation for arrival in journal.of("list")] == ["list"]


def test_a_token_leaves_its_digest_and_claims_and_nothing_else(journal):
    arrival = note(journal, token=TOKEN)
    assert arrival.has_token
    assert len(arrival.token_digest) == 12
    assert arrival.claims == {"appId": "cs-1", "exp": 5}
    assert not any(part in repr(arrival) for part in TOKEN.split("."))


def test_no_token(journal):
    arrival = note(journal)
    assert (arrival.has_token, arrival.token_digest, arrival.claims) == (False, "", None)


@pytest.mark.parametrize("token", ["", "a", "a.b.c", "a.b.c.d.e", "e30.W10.x", "e30.é.x"])
def test_unreadable_claims_are_none(token):
    assert unverified_claims(token) is None


def test_a_long_body_is_kept_in_part(journal):
    arrival = note(journal)
    arrival.keep_body(b"\xff" + b"x" * 10_000)
    assert len(arrival.body) == 4096


async def test_a_gate_opens_when_so_many_have_arrived(journal):
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        gate = group.create_task(journal.wait_for(2))
        await asyncio.sleep(0)
        note(journal)
        await asyncio.sleep(0)
        assert not gate.done()
        note(journal)


@pytest.mark.parametrize(
    ("arrivals", "most"),
    [([], 0), ([5], 1), ([0, 60], 1), ([0, 59.999], 2), ([60, 0, 30], 2), ([1, 1, 1], 3), ([0, 50, 100, 109], 3)],
)
def test_most_in_window(arrivals, most):
    assert most_in_window(arrivals, 60) == most


def test_most_in_window_agrees_with_counting_from_every_arrival():
    rng = random.Random(5)
    for _ in range(50):
        arrivals = [rng.uniform(0, 100) for _ in range(40)]
        counted = max(sum(at <= other < at + 10 for other in arrivals) for at in arrivals)
        assert most_in_window(arrivals, 10) == counted
