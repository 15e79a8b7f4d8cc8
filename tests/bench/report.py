"""What a run came to: the table, the results that are kept, and whether something has become far dearer."""

import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

from tests.bench import picture
from tests.bench.gateways import COPIES, GATEWAY, REDIS_HITS, SLOW, STEPS, TLS, TWO_WORKERS
from tests.bench.load import CONNECTIONS, Paced, Peak
from tests.bench.memory import Memory
from tests.bench.peers import NGINX_TLS, PYTHON
from tests.bench.servers import LOAD, MEASURED
from tests.bench.start import Start
from tests.bench.surroundings import BODY_BYTES, CAMPAIGNS

RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "hits.json"
PICTURE = RESULTS / "hits.svg"
NGINX, HAPROXY, VARNISH = "nginx", "HAProxy", "Varnish"
PLAIN = "plain aiohttp"
REDIS_PY = "plain redis-py"
FASTAPI, FASTAPI_REDIS = "FastAPI + fastapi-cache2", "FastAPI + fastapi-cache2, Redis"
GROSS_LOSS = 0.6
"""The part of the recorded ratio to plain aiohttp below which a run fails: less than what a noisy machine does."""
TARGETS = (
    (GATEWAY, NGINX, 1.2),
    (GATEWAY, HAPROXY, 1.0),
    (GATEWAY, VARNISH, 2.3),
    (GATEWAY, FASTAPI, 40.0),
    (SLOW, PLAIN, 1.5),
    (REDIS_HITS, FASTAPI_REDIS, 6.0),
    (TWO_WORKERS, COPIES, 0.9),
    (REDIS_HITS, REDIS_PY, 2.0),
    (TLS, NGINX_TLS, 0.5),
)
"""Row, peer, and how many times as many answers the row is to give for the same CPU time."""
ALONE = (REDIS_HITS, REDIS_PY)
"""Rows that are measured at one connection too: there, the first is never to be slower than the second."""
PACED = (GATEWAY, NGINX, HAPROXY, PLAIN)
"""Rows whose callers' waits are measured at a rate ..."""
RATES = (2_000.0, 8_000.0)
"""... of these, and of half of what nginx gives."""
WAIT_TARGET = 1.5
"""What callers of the gateway may wait, to those of nginx."""
VARYING_TARGET = 1.3
"""The dearest one to the cost without, as much as its own bytes may take."""
MEMORY_TARGET = 1.35
START_TARGET = 1.5


@dataclass(frozen=True, slots=True)
class Result:
    """All that one run found."""

    rounds: int
    seconds: int
    peaks: Mapping[str, Sequence[Peak]]
    paced: Mapping[float, Mapping[str, Sequence[Paced]]]
    """By requests a second."""
    alone: Mapping[str, Sequence[Peak]]
    """At one connection."""
    varying: Mapping[str, Sequence[Peak]]
    """The gateway's, by the field that differs in each request."""
    absent: Mapping[str, str]
    failed: Mapping[str, str]
    memory: Memory
    start: Start

    def cpu(self, row: str) -> float | None:
        """Microseconds for each answer; None for a row that there is none of."""
        return median(self.peaks[row], "cpu") if row in self.peaks and row not in self.failed else None

    def times(self, row: str, peer: str) -> float | None:
        """How many times as many answers the row gives for the same CPU time; None without either."""
        own, other = self.cpu(row), self.cpu(peer)
        return other / own if own and other else None


def median(runs: Sequence[Any], name: str) -> float:
    """The median of one figure."""
    return float(statistics.median(getattr(run, name) for run in runs))


def table(result: Result) -> str:
    """All of it, to be read."""
    rows = sorted((row for row in result.peaks if row not in STEPS), key=lambda row: result.cpu(row) or float("inf"))
    lines = [
        "; ".join(f"{name} {text}" for name, text in machine().items()),
        f"hits: {CAMPAIGNS} random ids, {BODY_BYTES} bytes, {CONNECTIONS} connections",
        f"server on core {MEASURED}, load on core {LOAD}; medians of {result.rounds} interleaved rounds of {result.seconds} s",
        "",
        f"{'server':32}{'requests/s':>11}{'us/request':>12}{'to nginx':>10}{'p50 ms':>9}{'p99 ms':>9}",
    ]
    lines += [_line(result, row) for row in rows if row not in result.failed]
    lines += [f"{row:32} FAILED: {why}" for row, why in result.failed.items()]
    lines += [f"{row:32} missing: {why}" for row, why in result.absent.items()]
    lines += ["", "what callers wait, ms", *_waits(result)]
    lines += ["", "what the gateway's work costs, us/request", *_ladder(result)]
    lines += ["", "a field that differs in each request: us/request, to the same request without it", *_varying(result)]
    lines += ["", "targets", *_targets(result)]
    return "\n".join(lines)


def _line(result: Result, row: str) -> str:
    runs, times = result.peaks[row], result.times(row, NGINX)
    cells = [
        f"{median(runs, 'rate'):11.0f}",
        f"{median(runs, 'cpu'):12.1f}",
        f"{times:9.2f}x" if times else f"{'-':>10}",
    ]
    cells += [f"{median(runs, part) / 1000:9.2f}" for part in ("p50", "p99")]
    return f"{row:32}{''.join(cells)}"


def _waits(result: Result) -> list[str]:
    lines = [f"  {'server':32}{'at':>10}{'p50':>9}{'p99':>9}{'of the load':>13}{'p99.9':>9}{'of the load':>13}"]
    for rate, rows in result.paced.items():
        for row, runs in rows.items():
            if 2 * len(runs) > result.rounds:
                p50, p99, late, p999, late_more = (
                    median(runs, part) / 1000 for part in ("p50", "p99", "late_p99", "p999", "late_p999")
                )
                lines.append(
                    f"  {row:32}{f'{rate:.0f}/s':>10}{p50:9.3f}{p99:9.3f}{late:13.3f}{p999:9.3f}{late_more:13.3f}"
                )
    return lines


def ladder(result: Result) -> list[tuple[str, float]]:
    """Each step's name and microseconds, as far as there are such rows."""
    whole = {"+ client keys": SLOW, "+ hot path": GATEWAY} if result.cpu(SLOW) else {"+ client keys": GATEWAY}
    steps = {name: name for name in STEPS} | whole
    return [(name, cpu) for name, row in steps.items() if (cpu := result.cpu(row)) is not None]


def _ladder(result: Result) -> list[str]:
    lines, last = [], 0.0
    for name, cpu in ladder(result):
        lines.append(f"  {name:30}{cpu:11.1f}{cpu - last:+12.1f}")
        last = cpu
    return lines


def _varying(result: Result) -> list[str]:
    plain = result.cpu(GATEWAY)
    lines = []
    for name, runs in result.varying.items():
        cpu = median(runs, "cpu")
        lines.append(f"  {name:30}{cpu:11.1f}" + (f"{cpu / plain:11.2f}x" if plain else ""))
    return lines


def _targets(result: Result) -> list[str]:
    lines = []
    for row, peer, wanted in TARGETS:
        times = result.times(row, peer)
        said = "not measured" if times is None else f"{times:.2f}x ({'met' if times >= wanted else 'MISSED'})"
        lines.append(f"  {f'{row} to {peer}: {wanted:g}x':60} {said}")
    if all(result.alone.get(row) for row in ALONE):
        own, other = (median(result.alone[row], "p50") for row in ALONE)
        said = f"{own:.0f} us to {other:.0f} us ({'met' if own <= other else 'MISSED'})"
        lines.append(f"  {f'{REDIS_HITS} to {REDIS_PY}, one connection: p50 no longer':60} {said}")
    for rate, rows in result.paced.items():
        if rows.get(GATEWAY) and rows.get(NGINX):
            for part in ("p50", "p99"):
                times = median(rows[GATEWAY], part) / median(rows[NGINX], part)
                said = f"{times:.2f}x ({'met' if times <= WAIT_TARGET else 'MISSED'})"
                lines.append(f"  {f'{part} at {rate:.0f}/s to nginx: {WAIT_TARGET:g}x':60} {said}")
    if (plain := result.cpu(GATEWAY)) is not None and result.varying:
        dearest = max(median(runs, "cpu") for runs in result.varying.values()) / plain
        what = f"with any field that differs in each request to without: {VARYING_TARGET:g}x"
        lines.append(f"  {what:60} {dearest:.2f}x ({'met' if dearest <= VARYING_TARGET else 'MISSED'})")
    memory, start = result.memory, result.start
    lines.append(
        f"  {f'resident bytes of a cached campaign to its body: {MEMORY_TARGET}x':60} {memory.ratio:.2f}x"
        f" ({'met' if memory.ratio <= MEMORY_TARGET else 'MISSED'}; traced {memory.traced / memory.body:.2f}x)"
    )
    lines.append(
        f"  {'growth of a full local layer under a flood of ids: none':60}"
        f" {memory.full / 2**20:.0f} to {memory.flooded / 2**20:.0f} MiB"
    )
    lines.append(
        f"  {f'ready to serve, nothing compiled: {START_TARGET} s':60} {start.bare:.2f} s"
        f" ({'met' if start.bare <= START_TARGET else 'MISSED'}; with Python's own library compiled {start.cold:.2f} s,"
        f" as installed {start.installed:.2f} s)"
    )
    return lines


def judge(result: Result, *, keep: bool) -> int:
    """The exit code, having kept the results if asked to and if there is nothing wrong with them."""
    if result.failed:
        print("\nFAILED: not all answers were right; nothing is kept")
        return 1
    times, recorded = result.times(GATEWAY, PLAIN), _recorded()
    if times is not None and recorded is not None and times < GROSS_LOSS * recorded:
        print(f"\nFAILED: {times:.2f}x of plain aiohttp, and {recorded:.2f}x is on record; nothing is kept")
        return 1
    if keep:
        RESULTS.mkdir(exist_ok=True)
        FILE.write_text(json.dumps(_as_json(result, times), indent=1) + "\n")
        PICTURE.write_text(_picture(result))
    return 0


def _recorded() -> float | None:
    try:
        found = json.loads(FILE.read_text())["to plain aiohttp"]
    except (OSError, KeyError):
        return None
    return float(found)


def _as_json(result: Result, times: float | None) -> dict[str, Any]:
    return {
        "machine": machine(),
        "to plain aiohttp": times,
        "peak": {row: [asdict(run) for run in runs] for row, runs in result.peaks.items()},
        "at one connection": {row: [asdict(run) for run in runs] for row, runs in result.alone.items()},
        "with a field that differs": {row: [asdict(run) for run in runs] for row, runs in result.varying.items()},
        "at a rate": {
            f"{rate:.0f}": {row: [asdict(run) for run in runs] for row, runs in rows.items()}
            for rate, rows in result.paced.items()
        },
        "missing": dict(result.absent),
        "memory": asdict(result.memory),
        "start": asdict(result.start),
    }


def _picture(result: Result) -> str:
    bars = [
        picture.Bar(row, cpu, f"{median(result.peaks[row], 'rate'):,.0f}/s", is_ours=row.startswith(GATEWAY))
        for row in result.peaks
        if row not in STEPS and (cpu := result.cpu(row)) is not None
    ]
    note = f"{CAMPAIGNS:,} random ids, {BODY_BYTES / 1000} kB, one core, {CONNECTIONS} connections; logarithmic, less is better"
    return picture.draw("What one answer from the cache costs", note, sorted(bars, key=lambda bar: bar.value))


def machine() -> dict[str, str]:
    """What the figures are of: processor and versions."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    rows = {
        "cores": str(os.cpu_count()),
        "processor": model[1] if model else platform.machine(),
        "Python": platform.python_version(),
        "aiohttp": aiohttp.__version__,
        "uvloop": version("uvloop"),
    }
    for name, command in _VERSIONS.items():
        try:
            said = subprocess.run(command, check=False, capture_output=True, text=True)
        except OSError:
            continue
        if found := re.search(r"\d+\.\d[\d.]*", said.stdout + said.stderr):
            rows[name] = found[0]
    return rows


_SBIN = "PATH=$PATH:/usr/sbin; "
_VERSIONS: Mapping[str, Sequence[str]] = {
    "nginx": ("sh", "-c", _SBIN + "nginx -v"),
    "HAProxy": ("sh", "-c", _SBIN + "haproxy -v"),
    "Varnish": ("sh", "-c", _SBIN + "varnishd -V"),
    "wrk": ("wrk", "-v"),
    "FastAPI": (str(PYTHON), "-c", "import fastapi; print(fastapi.__version__)"),
    "fastapi-cache2": (str(PYTHON), "-c", "from importlib.metadata import version; print(version('fastapi-cache2'))"),
    "uvicorn": (str(PYTHON), "-c", "import uvicorn; print(uvicorn.__version__)"),
}
