"""What the freshness bench makes of its runs, and the model that stands beside them."""

from dataclasses import replace

import pytest

from tests.bench.freshness.__main__ import rows
from tests.bench.freshness.model import best
from tests.bench.freshness.report import COLD, STEADY, Delay, Row, percentile, table
from tests.bench.freshness.scenarios import BY_ID, CALLS, Phase, Result, Scenario

SMALL = Scenario(60, 30)


def test_seeds_are_taken_together_and_their_spread_is_kept():
    results = [Result(steady=Phase(delays=delays)) for delays in ([1.0, 2.0, 3.0], [5.0, 6.0, 90.0])]
    row = Row(SMALL, STEADY, results, [])
    assert (row.delay(0.5), row.delay(1.0)) == (Delay(3.0), Delay(90.0))
    assert row.spread(0.5) == (2.0, 6.0)


def test_edits_that_nobody_saw_make_a_lower_bound():
    seen = [Phase(delays=[1.0, 4.0], unseen=[3.0])]
    assert percentile(seen, 0.3) == Delay(1.0)
    assert percentile(seen, 0.5) == Delay(3.0, is_open=True)
    assert percentile(seen, 1.0) == Delay(4.0, is_open=True)


def test_only_what_misses_its_aim_bears_a_star():
    good = Phase(delays=[1.0], bound=14.9, proving=1.0, in_vain=0.9, outdated=0.05)
    bad = Phase(delays=[11.0], bound=15.0, in_vain=1.0, outdated=0.06)
    lines = table([Row(SMALL, STEADY, [Result(most=CALLS, steady=good)], [])]).splitlines()
    assert "*" not in lines[-1]
    lines = table([Row(SMALL, STEADY, [Result(most=CALLS + 1, steady=bad)], [])]).splitlines()
    assert lines[-1].count("*") == 6


def test_rows_stand_in_the_order_wanted_with_a_cold_and_a_steady_one_for_the_sweep():
    wanted = [SMALL, replace(SMALL, policy=BY_ID)]
    ran = [(replace(scenario, seed=seed), Result(), best(scenario)) for seed in (2, 1) for scenario in reversed(wanted)]
    found = rows(ran, wanted)
    assert [(row.scenario.policy.name, row.phase, len(row.results)) for row in found] == [
        ("sweep", COLD, 2),
        ("sweep", STEADY, 2),
        ("lifetimes", STEADY, 2),
    ]


def test_the_model_sees_every_edit_soon_where_there_are_calls_and_not_where_there_are_none():
    calm = best(Scenario(2_000, 1_000))
    assert len(calm.delays) == pytest.approx(300, rel=0.2)
    assert not calm.unseen
    assert percentile([calm], 0.99).seconds < 12.0
    assert percentile([best(Scenario(2_000, 2_000, edits=2.0))], 0.99).seconds > 30.0
    assert percentile([best(Scenario(2_000, 1_000, others=20.0))], 0.5).seconds > percentile([calm], 0.5).seconds


def test_the_model_answers_less_that_is_out_of_date_where_interest_is_uneven():
    even, uneven = best(Scenario(2_000, 2_000, edits=2.0)), best(Scenario(2_000, 2_000, edits=2.0, zipf=1.0))
    assert 0.0 < uneven.outdated < even.outdated < 1.0
