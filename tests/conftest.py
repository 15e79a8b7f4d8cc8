from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_state_of_earlier_gateways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a gateway without Redis writes down for the next one is for the same test, and never in a real home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
