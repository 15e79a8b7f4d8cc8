"""`make bench-freshness`: how soon a change is seen, for how many calls, against lifetimes and a fixed minute.

A table on standard output, the raw numbers in `results/freshness.json`, and a picture in `results/freshness.svg`. The
virtual runs take some minutes of two cores, the real one about four.
"""

import asyncio
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tests.bench.freshness import live
from tests.bench.freshness.picture import Group, Span, draw, spell
from tests.bench.freshness.simulated import BY_ID, CALLS, FIXED, READ_SECONDS, SWEEP, Result, Scenario, simulate

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (50, 500, 2_000, 5_000)
EDITS = 1.0
OVERLOADED = 2_000
"""The size at which all campaigns are in use, too, so that more of them change than there are calls."""
POLICIES = {SWEEP.name: "sweep", BY_ID.name: "lifetimes, same budget", FIXED.name: "fixed 60 s, no budget"}
MEASURED = 600.0
PATIENCE = 300.0
Row = tuple[Scenario, Result]


def scenarios(sizes: Sequence[int]) -> list[Scenario]:
    """The costliest first, so that two cores end together."""
    halves = [
        Scenario(size, size // 2, EDITS, policy, MEASURED, PATIENCE)
        for size in sorted(sizes, reverse=True)
        for policy in (SWEEP, BY_ID, FIXED)
    ]
    overload = [Scenario(size, size, EDITS, SWEEP, MEASURED, PATIENCE) for size in sizes if size == OVERLOADED]
    return [*overload, *halves]


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
        cells.append(f"{'>' if is_open else ''}{spell(seconds)}".rjust(11))
    calls = sum(result.calls.values())
    over = "-" if scenario.policy.is_limited else f"{max(0.0, calls - CALLS):.0f}"
    return (
        f"{scenario.campaigns:9,} {scenario.used:6,}  {POLICIES[scenario.policy.name]:22}{''.join(cells)}"
        f"{calls:11.1f}{result.most:11}{over:>11}{spell(result.warm_up):>11}"
    )


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, default=SIZES, help="Campaigns, for the simulated runs.")
@click.option("--live/--no-live", "is_live", default=True, help="Whether real processes are run too.")
def main(sizes: tuple[int, ...], *, is_live: bool) -> None:
    """Measures how soon changes are seen."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    began = time.perf_counter()
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        wanted = scenarios(sizes)
        rows = sorted(zip(wanted, pool.map(simulate, wanted), strict=True), key=lambda row: _order(row[0]))
    kept: dict[str, Any] = {"machine": machine, "simulated": [_as_kept(*row) for row in rows]}
    print(table(rows))
    print(f"\n{machine}; simulated in {spell(time.perf_counter() - began)}", flush=True)
    most = [result.most for scenario, result in rows if scenario.policy.is_limited]
    if is_live:
        seen = asyncio.run(live.measure())
        kept["live"] = asdict(seen)
        most.append(seen.most)
        print("\n" + live_line(seen))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "freshness.json").write_text(json.dumps(kept, indent=1) + "\n")
    (RESULTS / "freshness.svg").write_text(picture(rows, sizes))
    if max(most) > CALLS:
        raise SystemExit(f"over budget: {max(most)} calls within a window")


def table(rows: Sequence[Row]) -> str:
    """What was simulated, for people."""
    head = (
        f"{EDITS:g} edit a second over all campaigns, each campaign in use read every {READ_SECONDS:g} s, a budget of "
        f"{CALLS} calls in 60 s.\nFrom an edit of a campaign in use to the moment from which reads are answered with "
        f"it; edits of {spell(MEASURED)}, after a cold start.\n\n"
    )
    names = ("p50", "p99", "max", "calls/min", "most/60s", "over/min", "cold start")
    head += f"{'campaigns':>9} {'in use':>6}  {'':22}" + "".join(f"{name:>11}" for name in names)
    return "\n".join([head, *(line(*row) for row in rows)])


def live_line(seen: live.Live) -> str:
    """What was seen of real processes, for people."""
    delays = Result(delays=seen.delays)
    p50, p99, slowest = (spell(percentile(delays, part)[0]) for part in (0.5, 0.99, 1.0))
    calls = ", ".join(f"{name} {count:.1f}" for name, count in seen.calls.items())
    return (
        f"Two processes, a Redis, in real time: {live.CAMPAIGNS} campaigns, {live.USED} in use, {live.EDITS:g} edits a "
        f"second; {len(seen.delays)} sightings: p50 {p50}, p99 {p99}, max {slowest}, never seen {seen.unseen}; "
        f"most calls within 60 s: {seen.most}; calls a minute: {calls}"
    )


def picture(rows: Sequence[Row], sizes: Sequence[int]) -> str:
    """The SVG."""
    groups = [
        Group(
            f"{size:,} campaigns",
            f"{size // 2:,} in use",
            [span(result) for scenario, result in rows if (scenario.campaigns, scenario.used) == (size, size // 2)],
        )
        for size in sizes
    ]
    unlimited = max(sum(result.calls.values()) for scenario, result in rows if not scenario.policy.is_limited)
    note = (
        f"{EDITS:g} edit a second, {CALLS} calls a minute (without a budget up to {unlimited:,.0f}). "
        "Box: p50 to p99; whisker: the slowest."
    )
    return draw("From an edit to its first sight", note, [*POLICIES.values()], groups)


def _order(scenario: Scenario) -> tuple[int, int, int]:
    return scenario.campaigns, scenario.used, [*POLICIES].index(scenario.policy.name)


def _as_kept(scenario: Scenario, result: Result) -> dict[str, Any]:
    return {**asdict(scenario), "policy": scenario.policy.name, "result": asdict(result)}


if __name__ == "__main__":
    main()
