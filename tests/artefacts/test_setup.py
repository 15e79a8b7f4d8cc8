"""The set-up of the virtual environments: whatever ends one half-way, the next makes a whole one."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def set_up(folder: Path, lock: str = "") -> "subprocess.Popen[bytes]":
    """Starts the set-up of `folder`; an empty lock needs no index."""
    path = folder.with_suffix(".lock")
    path.write_text(lock)
    return subprocess.Popen(
        [ROOT / "tools" / "setup-venv", folder, path],
        env={**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def is_whole(folder: Path) -> bool:
    done = subprocess.run([folder / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=False)
    return done.returncode == 0 and (folder / ".ready").exists()


@pytest.mark.drill("Ctrl-C in the set-up", planted="SIGINT before pip is there", seen="the next set-up is whole")
def test_ctrl_c_while_an_environment_is_made_leaves_nothing_that_stays(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    running = set_up(folder)
    while not (folder / "bin" / "python").exists():
        assert running.poll() is None
        time.sleep(0.001)
    os.killpg(running.pid, signal.SIGINT)
    assert running.wait(60) != 0
    assert not is_whole(folder)
    assert set_up(folder).wait(60) == 0
    assert is_whole(folder)


def test_the_demo_installs_what_the_gateway_needs_and_no_more(tmp_path: Path) -> None:
    words = ["make", "-n", "demo", f"VENV={tmp_path}/venv"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"setup-venv {tmp_path}/venv-demo requirements.lock" in done.stdout
    assert "dev" not in done.stdout
    assert f"PYTHONPATH=service {tmp_path}/venv-demo/bin/python -m campaign_gateway demo" in done.stdout


def test_an_update_keeps_the_environment_and_one_that_failed_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    for _ in range(2):
        assert set_up(folder).wait(60) == 0
        (folder / "mine").touch()
    assert set_up(folder, "no-such-package==1 --hash=sha256:" + "0" * 64).wait(60) != 0
    assert (folder / "mine").exists()
    assert not is_whole(folder)
    assert set_up(folder).wait(60) == 0
    assert is_whole(folder)
    assert not (folder / "mine").exists()
