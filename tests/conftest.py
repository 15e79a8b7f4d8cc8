"""For all tests. Importing `tests.support.examples` chooses how many generated cases are made."""

import itertools
from collections.abc import Callable

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lets the report of a drill carry its row, which also comes through from another process."""
    for item in items:
        if mark := item.get_closest_marker("drill"):
            told = [mark.args[0], mark.kwargs.get("planted", ""), mark.kwargs.get("seen", "")]
            item.user_properties.append(("drill", told))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes what a drill has measured, for the table."""
    return lambda text: record_property("figure", text)
