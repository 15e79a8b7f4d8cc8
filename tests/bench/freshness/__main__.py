"""`make bench-freshness`: how soon a change is seen, for how many calls, against lifetimes and a fixed minute.

A table on standard output, the raw numbers in `results/freshness.json`, and a picture in `results/freshness.svg`. The
virtual runs take some minutes of two cores, the real one about four.
"""

import asyncio
import json
import math
import os
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

from tests.bench.freshness import live
from tests.bench.freshness.picture import Group, Span, draw, spell
from tests.bench.freshness.simulated import BY_ID, CALLS, FIXED, READ_SECONDS, SWEEP, Result, Scenario, simulate

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (50, 500, 2_000, 5_000)
EDITS = 1.0
POLICIES = {SWEEP.name: "sweep", BY_ID.name: "lifetimes, same budget", FIXED.name: "fixed 60 s, no budget"}
MEASURED = 900.0
PATIENCE = 900.0


def scenarios() -> list[Scenario]:
    """The costliest first, so that two cores end together."""
    halves = [
        Scenario(size, size // 2, EDITS, policy, MEASURED, PATIENCE)
        for size in reversed(SIZES)
        for policy in (SWEEP, BY_ID, FIXED)
    ]
    return [Scenario(2_000, 2_000, EDITS, SWEEP, MEASURED, PATIENCE), *halves]


def percentile(result: Result, part: float) -> tuple[float, bool]:
    """Seconds within which so great a part of the changes was seen; and whether that is only a lower bound."""
    rows = sorted([(delay, False) for delay in result.delays] + [(wait, True) for wait in result.unseen])
    rank = max(0, math.ceil(part * len(rows)) - 1)
    return rows[rank][0], any(is_open for _, is_open in rows[: rank + 1])


def span(result: Result) -> Span:
    """What the picture shows of one run."""
    return Span(
        percentile(result, 0.5)[0], percentile(result, 0.99)[0], percentile(result, 1.0)[0], bool(result.unseen)
    )


def line(scenario: Scenario, result: Result) -> str:
    """A row of the table."""
    cells = []
    for part in (0.5, 0.99, 1.0):
        seconds, is_open = percentile(result, part)
        cells.append(f"{'>' if is_open else ''}{spell(seconds):>7}".rjust(10))
    calls = sum(result.calls.values())
    over = "-" if scenario.policy.is_limited else f"{max(0.0, calls - CALLS):.0f}"
    return (
        f"{scenario.campaigns:9} {scenario.used:6} {POLICIES[scenario.policy.name]:24} {''.join(cells)} "
        f"{calls:8.1f} {result.most:8} {over:>7} {spell(result.warm_up):>9}"
    )


def main() -> None:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    print(
        f"{machine}; {EDITS:g} edit a second over all campaigns, each campaign in use read every {READ_SECONDS:g} s, "
        f"a budget of {CALLS} calls in 60 s.\nSeconds from an edit of a campaign in use to the first moment at which "
        "reads are answered with it; edits of 15 minutes,\nafter a cold start.\n"
    )
    print(
        f"{'campaigns':>9} {'in use':>6} {'':24} {'p50':>10}{'p99':>10}{'max':>10} {'calls/min':>8} "
        f"{'most/60s':>8} {'over':>6} {'warm-up':>9}"
    )
    wanted = scenarios()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        results = list(pool.map(simulate, wanted))
    rows = sorted(
        zip(wanted, results, strict=True),
        key=lambda row: (row[0].campaigns, row[0].used, [*POLICIES].index(row[0].policy.name)),
    )
    for scenario, result in rows:
        print(line(scenario, result))
    for scenario, result in rows:
        if scenario.policy.is_limited and result.most > CALLS:
            raise SystemExit(f"over budget: {result.most} calls within a window ({scenario})")
    print("\nIn real time: two gateway processes, a Redis, the simulated platform on loopback ...", flush=True)
    seen = asyncio.run(live.measure())
    delays = Result(delays=seen.delays)
    p50, p99, most = (spell(percentile(delays, part)[0]) for part in (0.5, 0.99, 1.0))
    print(
        f"{live.CAMPAIGNS} campaigns, {live.USED} in use, {live.EDITS:g} edits a second, {len(seen.delays)} sightings: "
        f"p50 {p50}, p99 {p99}, max {most}, never seen {seen.unseen}; most calls within 60 s: {seen.most}"
    )
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "machine": machine,
        "simulated": [
            {**asdict(scenario), "policy": scenario.policy.name, "result": asdict(result)} for scenario, result in rows
        ],
        "live": asdict(seen),
    }
    (RESULTS / "freshness.json").write_text(json.dumps(kept, indent=1, default=str) + "\n")
    groups = [
        Group(
            f"{size:,} campaigns",
            f"{size // 2:,} in use",
            [span(result) for scenario, result in rows if (scenario.campaigns, scenario.used) == (size, size // 2)],
        )
        for size in SIZES
    ]
    note = (
        f"{EDITS:g} edit a second, {CALLS} calls a minute; box: p50 to p99, whisker: slowest; the fixed lifetime needs "
        f"{sum(rows[-1][1].calls.values()):,.0f} calls a minute at 5,000"
    )
    (RESULTS / "freshness.svg").write_text(draw("From an edit to its first sight", note, [*POLICIES.values()], groups))
    if seen.most > CALLS:
        raise SystemExit(f"over budget: {seen.most} calls within a window")


if __name__ == "__main__":
    main()
