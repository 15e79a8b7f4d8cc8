"""The bench of many accounts measures what it says."""

from tests.bench.accounts import READS, REDIS, measure, table

ACCOUNTS = 2


async def test_it_measures_an_idle_and_a_loaded_gateway():
    idle, loaded = await measure(ACCOUNTS, REDIS, seconds=1.0, lead_in=0.0)
    assert (idle.reads, idle.accounts, idle.cache) == (0, ACCOUNTS, REDIS)
    assert loaded.kept_up
    assert loaded.reads > READS / 2
    assert 0.0 < loaded.p50 <= loaded.p99 <= loaded.longest
    for row in (idle, loaded):
        assert row.resident > 10.0
        assert row.scrape_bytes > 1_000
    # Each first answer was stored; what asks Redis for its counts is not counted.
    assert loaded.commands > 0.0
    assert "info" not in loaded.by_command
    assert len(table([idle, loaded]).splitlines()) == 3
