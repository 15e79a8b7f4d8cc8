"""`make bench-freshness`: how soon a change is seen, for how many calls, against lifetimes and a fixed minute.

A table on standard output, the figures in `results/freshness.json`, and a picture in `results/freshness.svg`. `--quick`
is for whoever changes the sweep: one seed, two sizes, no file is written.
"""

import asyncio
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from tests.bench.freshness import live, model
from tests.bench.freshness.picture import Group, Span, draw, spell
from tests.bench.freshness.report import COLD, EXPLAINED, POLICIES, STEADY, Row, percentile, table
from tests.bench.freshness.scenarios import BY_ID, CALLS, FIXED, SWEEP, Phase, Result, Scenario
from tests.bench.freshness.simulated import simulate

RESULTS = Path(__file__).parents[1] / "results"
SIZES = (50, 500, 2_000, 5_000)
QUICK_SIZES = (500, 2_000)
PAGES = (50, 100)
SEEDS = 5
HASH_SEED = "0"


def scenarios(sizes: Sequence[int], pages: Sequence[int]) -> list[Scenario]:
    """What is aimed at: half of the campaigns in use, an edit a second over all."""
    return [Scenario(size, size // 2, page_rows=rows) for size in sizes for rows in pages]


def limits() -> list[Scenario]:
    """Where figures stop being true: a long list, everything in use, many edits, callers who spend a third."""
    return [
        Scenario(10_000, 1_000),
        Scenario(2_000, 2_000, zipf=1.0),
        Scenario(2_000, 1_000, edits=5.0),
        Scenario(2_000, 1_000, others=20.0),
    ]


def others(sizes: Sequence[int]) -> list[Scenario]:
    """The same without polls of the list."""
    return [Scenario(size, size // 2, policy=policy) for size in sizes for policy in (BY_ID, FIXED)]


def run(wanted: Sequence[Scenario]) -> list[tuple[Scenario, Result, model.Best]]:
    """Simulates all of them, the costliest first, so that all cores end together."""
    # The order of sets depends on it, and what is seen on that order; so only a new process can have another.
    os.environ["PYTHONHASHSEED"] = HASH_SEED
    queue = sorted(wanted, key=lambda scenario: -scenario.used)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        results = pool.map(simulate, queue)
        bests = pool.map(model.best, queue)
        return list(zip(queue, results, bests, strict=True))


def rows(ran: Sequence[tuple[Scenario, Result, model.Best]], wanted: Sequence[Scenario]) -> list[Row]:
    """The seeds of each scenario together, in the order in which they are wanted."""
    order = list(wanted)

    def place(item: tuple[Scenario, Result, model.Best]) -> int:
        return order.index(replace(item[0], seed=1))

    found: list[Row] = []
    for _, group in groupby(sorted(ran, key=place), key=place):
        runs, results, bests = zip(*group, strict=True)
        scenario = runs[0]
        if scenario.policy is SWEEP:
            found += [Row(scenario, phase, results, bests) for phase in (COLD, STEADY)]
        else:
            found.append(Row(scenario, STEADY, results, ()))
    return found


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, help="Campaigns; repeat it for more.  [default: 50 to 5,000]")
@click.option("--page-rows", "pages", type=int, multiple=True, help="Rows granted for a call.  [default: 50 and 100]")
@click.option("--seeds", type=click.IntRange(min=1), default=SEEDS, show_default=True, help="Runs of each row.")
@click.option("--limits/--no-limits", "has_limits", default=True, help="Whether the rows where figures end are run.")
@click.option("--others/--no-others", "has_others", default=True, help="Whether it is compared with other policies.")
@click.option("--live/--no-live", "is_live", default=True, help="Whether real processes are run too.")
@click.option("--quick", is_flag=True, help="One seed, 500 and 2,000 campaigns, 50 rows a call, nothing else.")
def main(
    sizes: tuple[int, ...],
    pages: tuple[int, ...],
    seeds: int,
    *,
    has_limits: bool,
    has_others: bool,
    is_live: bool,
    quick: bool,
) -> None:
    """Measures how soon changes are seen."""
    began = time.perf_counter()
    if quick:
        sizes, pages, seeds = sizes or QUICK_SIZES, pages or PAGES[:1], 1
        has_limits = has_others = is_live = False
    sizes, pages = sizes or SIZES, pages or PAGES
    wanted = scenarios(sizes, pages) + (limits() if has_limits else [])
    beside = others(sizes) if has_others else []
    seeded = [replace(scenario, seed=seed) for scenario in wanted for seed in range(1, seeds + 1)]
    found = rows(run([*seeded, *beside]), [*wanted, *beside])
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    print(EXPLAINED.format(seeds=seeds, measured=spell(wanted[0].measured)) + "\n")
    print(table(found))
    print(f"\n{machine}; simulated in {spell(time.perf_counter() - began)}", flush=True)
    kept: dict[str, Any] = {"machine": machine, "seeds": seeds, "simulated": [row.as_kept() for row in found]}
    most = [row.most for row in found if row.scenario.policy.is_limited]
    if is_live:
        seen = asyncio.run(live.measure())
        kept["live"] = asdict(seen)
        most.append(seen.most)
        print("\n" + live_line(seen))
    if not quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "freshness.json").write_text(json.dumps(kept, indent=1) + "\n")
    if has_others:
        (RESULTS / "freshness.svg").write_text(picture(found, sizes, pages[0]))
    if max(most) > CALLS:
        raise SystemExit(f"over budget: {max(most)} calls within a window")


def live_line(seen: live.Live) -> str:
    """What was seen of real processes, for people."""
    delays = [Phase(delays=seen.delays)]
    p50, p99, slowest = (percentile(delays, part) for part in (0.5, 0.99, 1.0))
    calls = ", ".join(f"{name} {count:.1f}" for name, count in seen.calls.items())
    return (
        f"Two processes, a Redis, in real time: {live.CAMPAIGNS} campaigns, {live.USED} in use, {live.EDITS:g} edits a "
        f"second; {len(seen.delays)} sightings: p50 {p50}, p99 {p99}, max {slowest}, never seen {seen.unseen}; "
        f"most calls within 60 s: {seen.most}; calls a minute: {calls}"
    )


def picture(found: Sequence[Row], sizes: Sequence[int], page_rows: int) -> str:
    """The SVG: the steady state of each policy."""
    groups = [
        Group(
            f"{size:,} campaigns",
            f"{size // 2:,} in use",
            [span(row) for row in found if row.phase == STEADY and _is_in_picture(row.scenario, size, page_rows)],
        )
        for size in sizes
    ]
    unlimited = max(sum(row.calls.values()) for row in found if not row.scenario.policy.is_limited)
    note = (
        f"An edit a second, {CALLS} calls a minute (without a budget up to {unlimited:,.0f}). "
        "Box: p50 to p99; whisker: the slowest."
    )
    return draw("From an edit to its first sight", note, [*POLICIES.values()], groups)


def _is_in_picture(scenario: Scenario, size: int, page_rows: int) -> bool:
    alike = Scenario(size, size // 2, page_rows=page_rows if scenario.policy is SWEEP else scenario.page_rows)
    return replace(scenario, policy=SWEEP, seed=1) == alike


def span(row: Row) -> Span:
    """What the picture shows of one row."""
    slowest = row.delay(1.0)
    return Span(row.delay(0.5).seconds, row.delay(0.99).seconds, slowest.seconds, slowest.is_open)


if __name__ == "__main__":
    main()
