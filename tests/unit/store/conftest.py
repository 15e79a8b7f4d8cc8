from types import SimpleNamespace

import pytest

from campaign_gateway.store import clock
from tests.support.doubles import Machine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What `StoreClock` and the stamps in files go by."""
    made = Machine()
    monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda: made.wall, monotonic=lambda: made.monotonic))
    monkeypatch.setattr(clock, "_boot", lambda: made.boot)
    return made
