"""The freshness bench itself: what it measures has to be the same again."""

from dataclasses import replace

import pytest

from campaign_gateway.proxy.sweep import Sweeper
from tests.bench.freshness.__main__ import run
from tests.bench.freshness.scenarios import Scenario
from tests.bench.freshness.simulated import simulate

pytestmark = pytest.mark.simulation

SMALL = Scenario(60, 30, edits=0.5, measured=120.0, patience=30.0, others=5.0)


def test_two_processes_see_the_same_of_one_seed_and_something_else_of_another(monkeypatch):
    # As a machine would have it by itself: another order of sets in each process.
    monkeypatch.setenv("PYTHONHASHSEED", "random")
    first, again, other = (replace(result, elapsed=0.0) for _, result, _ in run([SMALL, SMALL, replace(SMALL, seed=2)]))
    assert first.steady.delays
    assert first == again
    assert other.steady.delays != first.steady.delays


def test_an_error_inside_is_no_result(monkeypatch):
    async def fails(*_: object) -> None:
        raise ValueError("a sweeper that fell over")

    monkeypatch.setattr(Sweeper, "run", fails)
    with pytest.raises(RuntimeError, match="fell over"):
        simulate(SMALL)
