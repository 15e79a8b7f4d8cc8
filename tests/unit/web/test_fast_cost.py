"""What a hit costs. See `tests.bench.instructions`."""

import pytest

from tests.bench.instructions import MOST, bytecodes, recorded


async def test_a_hit_takes_few_steps_of_python():
    known = recorded().get("bytecodes")
    if known is None:
        pytest.skip("nothing is recorded for this version of Python")
    found = await bytecodes()
    assert found <= MOST * known, "dearer on purpose: python -m tests.bench.instructions --record"
    assert found > known / MOST, "cheaper: record that, so that it stays"
