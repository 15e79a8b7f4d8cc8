"""For all tests. Importing `tests.support.examples` chooses how many generated cases are made."""

import itertools

import pytest

import tests.support.examples  # noqa: F401

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_state_of_earlier_gateways(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway without Redis writes down for the next one is for the same test, and never in a real home.

    The folder is named, not made: most tests need none, and making thousands takes seconds.
    """
    home = tmp_path_factory.getbasetemp() / "state-homes" / str(next(_numbers))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
