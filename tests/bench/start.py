"""How long `campaign-gateway serve` takes to be ready. `python -m tests.bench.start --profile` shows what it spends it on.

Most of a first start is compiling: how long it takes depends on what has been compiled before.

- *installed*: everything. So it is after `pip install`, which compiles what it installs, and in the image.
- *cold*: Python's own library alone. So it is where packages were not compiled when they were installed (`uv`, a checkout):
  the first start of a version has the gateway and all libraries to compile.
- *bare*: nothing at all, as in official Python images, which ship without bytecode of Python's own library (this
  project's image adds it). What aiohttp needs of that library is most of the difference. The target is for this one.

Files are in the system's cache in each case.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from socket import create_connection

import click
from ruamel.yaml import YAML

from tests.support.gateway import ROOT
from tests.support.wire import free_port

STARTS = 3
PATIENCE = 30.0
SHOWN = 25
PACKAGES = (ROOT / "service", Path(sysconfig.get_path("purelib")).resolve())
"""The gateway and its libraries."""
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (.*)")


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the command to the first connection taken, medians."""

    bare: float
    cold: float
    installed: float


def measure() -> Start:
    """A few starts of each kind."""
    bare, cold, installed = [], [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as name:
            config, port, compiled = _config(Path(name))
            bare.append(_seconds(config, port, compiled))
            installed.append(_seconds(config, port, compiled))
            for packages in PACKAGES:
                # Where a folder's bytecode is kept, under such a prefix.
                shutil.rmtree(compiled / packages.relative_to("/"))
            cold.append(_seconds(config, port, compiled))
    return Start(*map(statistics.median, (bare, cold, installed)))


def _config(folder: Path) -> tuple[Path, int, Path]:
    secret, config, port = folder / "secret", folder / "gateway.yaml", free_port()
    secret.write_text("a-secret-that-is-good-for-nothing-but-this-start")
    settings = {
        "listen": f"127.0.0.1:{port}",
        "admin_listen": "127.0.0.1:0",
        "platform": {"url": "http://127.0.0.1:1"},
        "credentials": {"main": {"client_id": "cs-start", "client_secret_file": str(secret)}},
        "streams": {"support": {"stream_id": "st-start", "account_id": "start", "credential": "main"}},
        "sweep": {"share": 0},
    }
    with config.open("w") as file:
        YAML(typ="safe", pure=True).dump(settings, file)
    return config, port, folder / "compiled"


def _seconds(config: Path, port: int, compiled: Path, *options: str, log: Path | None = None) -> float:
    serve = [*options, "-X", f"pycache_prefix={compiled}", "-m", "campaign_gateway", "serve", "--config", str(config)]
    # A start finds what the one before has compiled.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environ["XDG_STATE_HOME"] = str(config.with_suffix(".state"))
    with (log or Path("/dev/null")).open("w") as stderr:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *serve], stderr=stderr, env=environ)
        try:
            while True:
                try:
                    # The API's listener is the last thing that is started.
                    create_connection(("127.0.0.1", port), timeout=1).close()
                except OSError:
                    if process.poll() is not None or time.perf_counter() - began > PATIENCE:
                        raise RuntimeError("the gateway did not start") from None
                    time.sleep(0.002)
                else:
                    return time.perf_counter() - began
        finally:
            process.terminate()
            process.wait()


def imports() -> list[tuple[float, float, str]]:
    """What is imported when all is compiled: milliseconds of its own, with all that it imports, and its name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, port, compiled = _config(folder)
        _seconds(config, port, compiled)
        _seconds(config, port, compiled, "-X", "importtime", log=folder / "log")
        rows = map(_IMPORT.fullmatch, (folder / "log").read_text().splitlines())
        return [(int(row[1]) / 1000, int(row[2]) / 1000, row[3].strip()) for row in rows if row]


@click.command()
@click.option("--profile", "is_profile", is_flag=True, help="Shows the imports that take longest.")
def main(*, is_profile: bool) -> None:
    """Measures the start of `serve`."""
    found = measure()
    print(
        f"ready after {found.installed:.2f} s installed, {found.cold:.2f} s cold, {found.bare:.2f} s bare"
        f" (medians of {STARTS})"
    )
    if is_profile:
        rows = imports()
        print(f"\n{len(rows)} imports, {sum(own for own, _, _ in rows):.0f} ms")
        print(f"\n{'own ms':>8}{'with its own':>14}  module")
        for own, whole, module in sorted(rows, key=lambda row: -row[1])[:SHOWN]:
            print(f"{own:8.1f}{whole:14.1f}  {module}")


if __name__ == "__main__":
    main()
