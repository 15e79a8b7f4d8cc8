"""The set-up of the virtual environments: whatever ends one half-way, the next makes a whole one."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def set_up(
    folder: Path, lock: str = "", stderr: int = subprocess.DEVNULL, find_links: Path | str = ""
) -> "subprocess.Popen[bytes]":
    """Starts the set-up of `folder`; an empty lock needs no index, any other the wheels in `find_links`."""
    path = folder.with_suffix(".lock")
    path.write_text(lock)
    return subprocess.Popen(
        [ROOT / "tools" / "setup-venv", folder, path],
        env={**os.environ, "PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(find_links)},
        stderr=stderr,
        start_new_session=True,
    )


def make_wheel(folder: Path, name: str) -> None:
    """The smallest wheel of that name, version 1."""
    about = f"{name}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def digest_of(folder: Path, name: str) -> str:
    return hashlib.sha256((folder / f"{name.replace('-', '_')}-1-py3-none-any.whl").read_bytes()).hexdigest()


def is_whole(folder: Path) -> bool:
    done = subprocess.run([folder / "bin" / "python", "-m", "pip", "--version"], capture_output=True, check=False)
    return done.returncode == 0 and (folder / ".ready").exists()


@pytest.mark.drill(
    "Ctrl-C in the set-up", planted="SIGINT before pip is there, and while pip runs", seen="the next set-up is whole"
)
def test_ctrl_c_while_an_environment_is_made_leaves_nothing_that_stays(tmp_path: Path) -> None:
    folder = tmp_path / "venv"
    # Both in one environment: what the first leaves must not confuse the second.
    for appears in ("bin/python", "bin/pip"):
        running = set_up(folder)
        while not (folder / appears).exists():
            assert running.poll() is None
            time.sleep(0.001)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) != 0
        assert not (folder / ".ready").exists()
    assert set_up(folder).wait(60) == 0
    assert is_whole(folder)


def test_a_set_up_says_first_what_it_does_and_then_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    names = [f"made-{number}" for number in range(10)]
    for name in names:
        make_wheel(tmp_path / "index", name.replace("-", "_"))
    lock = "".join(f"{name}==1 --hash=sha256:{digest_of(tmp_path / 'index', name)}\n" for name in names)
    running = set_up(tmp_path / "venv", lock, stderr=subprocess.PIPE, find_links=tmp_path / "index")
    with running, running.stderr or BytesIO() as said:
        first = said.readline().decode()
        # It has said so before it did anything.
        assert running.poll() is None
        rest = [line for line in said.read().decode().splitlines() if not line.startswith("WARNING")]
    assert re.fullmatch(r"setup: 10 packages into \S+/venv, once; some 8 seconds with a quick package index\n", first)
    assert running.wait(60) == 0
    assert rest == ["  10 of 10 packages", "  putting 10 packages in place", "setup: done"]


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
