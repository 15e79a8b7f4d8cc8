"""The seeds of a scenario taken together, as rows of a table beside what is aimed at and what the model could do."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from typing_extensions import override

from tests.bench.freshness.model import Best
from tests.bench.freshness.picture import spell
from tests.bench.freshness.scenarios import BY_ID, CALLS, FIXED, READ_SECONDS, SWEEP, Phase, Result, Scenario

COLD, STEADY = "cold", "steady"
POLICIES = {SWEEP.name: "sweep", BY_ID.name: "lifetimes, same budget", FIXED.name: "fixed 60 s, no budget"}
P50, P99, BOUND, IN_VAIN, OUTDATED = 4.0, 10.0, 15.0, 1.0, 0.06
"""What is aimed at, as maxima that are not reached: seconds, seconds, seconds, calls a minute, part of answers."""


class Seen(Protocol):
    """What became of edits: of the product, or of the model."""

    delays: list[float]
    unseen: list[float]


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds, and whether it is only a lower bound, for some edits were never seen."""

    seconds: float
    is_open: bool = False

    @override
    def __str__(self) -> str:
        return f"{'>' if self.is_open else ''}{spell(self.seconds)}"


def percentile(seen: Iterable[Seen], part: float) -> Delay:
    """Seconds within which so great a part of the edits was seen, of all runs together."""
    runs = list(seen)
    rows = sorted((delay, is_open) for run in runs for delay, is_open in _rows(run))
    if not rows:
        return Delay(math.nan)
    rank = max(0, math.ceil(part * len(rows)) - 1)
    return Delay(rows[rank][0], any(is_open for _, is_open in rows[: rank + 1]))


def _rows(seen: Seen) -> Iterable[tuple[float, bool]]:
    yield from ((delay, False) for delay in seen.delays)
    yield from ((wait, True) for wait in seen.unseen)


@dataclass(frozen=True, slots=True)
class Row:
    """All seeds of one scenario, in one phase."""

    scenario: Scenario
    phase: str
    results: Sequence[Result]
    bests: Sequence[Best]

    @property
    def phases(self) -> Sequence[Phase]:
        """The phase, of each seed."""
        return [result.cold if self.phase == COLD else result.steady for result in self.results]

    def delay(self, part: float) -> Delay:
        """Of all seeds together."""
        return percentile(self.phases, part)

    def spread(self, part: float) -> tuple[float, float]:
        """The least and the most of single seeds."""
        each = [percentile([phase], part).seconds for phase in self.phases]
        return min(each), max(each)

    def best(self, part: float) -> float:
        """What the model saw."""
        return percentile(self.bests, part).seconds

    @property
    def most(self) -> int:
        """Calls in the fullest window."""
        return max(result.most for result in self.results)

    @property
    def bound(self) -> float:
        """The widest that was published."""
        return max(phase.bound for phase in self.phases)

    @property
    def validated(self) -> float | None:
        """The longest that a seed took until everything was validated; None where one never was."""
        times = [result.validated for result in self.results if result.validated is not None]
        return max(times) if len(times) == len(self.results) else None

    def mean(self, field: str) -> float:
        """The mean of a field of phases over the seeds."""
        values: list[float] = [getattr(phase, field) for phase in self.phases]
        return sum(values) / len(values)

    @property
    def calls(self) -> Mapping[str, float]:
        """Calls a minute by reason."""
        whole: Counter[str] = Counter()
        for phase in self.phases:
            whole.update(phase.calls)
        return {reason: count / len(self.phases) for reason, count in sorted(whole.items())}

    def as_kept(self) -> dict[str, Any]:
        """For the file of raw results."""
        return {
            **asdict(replace(self.scenario, seed=0)),
            "policy": self.scenario.policy.name,
            "phase": self.phase,
            "edits_measured": sum(len(phase.delays) + len(phase.unseen) for phase in self.phases),
            "unseen": sum(len(phase.unseen) for phase in self.phases),
            "delays": {f"p{part * 100:g}": self.delay(part).seconds for part in (0.5, 0.9, 0.99, 1.0)},
            "spread": {f"p{part * 100:g}": self.spread(part) for part in (0.5, 0.99)},
            "best": {f"p{part * 100:g}": self.best(part) for part in (0.5, 0.99)},
            "best_outdated": sum(best.outdated for best in self.bests) / max(1, len(self.bests)),
            "bound": self.bound,
            "proven_after": self.validated,
            "warm_up": max(result.warm_up for result in self.results),
            "most": self.most,
            "most_pages": max(result.most_pages for result in self.results),
            **{field: self.mean(field) for field in ("proving", "in_vain", "outdated")},
            "calls": self.calls,
            "cpu_seconds": sum(result.elapsed for result in self.results),
        }


COLUMNS: Sequence[tuple[str, str, int]] = (
    ("campaigns", "", 9),
    ("in use", "", 7),
    ("rows", "", 5),
    ("what", "aim", -27),
    ("p50", f"<{P50:g} s", 9),
    ("p99", f"<{P99:g} s", 9),
    ("max", "", 9),
    ("p50 by seed", "", 14),
    ("p99 by seed", "", 14),
    ("bound", f"<{BOUND:g} s", 9),
    ("proving", "", 9),
    ("in vain", f"<{IN_VAIN:g}", 9),
    ("most", f"{CALLS}", 6),
    ("old", f"<{OUTDATED:.0%}", 8),
    ("validated", "", 9),
    ("pages", "", 7),
    ("best", "p50, p99", 15),
    ("ours/best", "p50, p99", 11),
    ("calls a minute", "", -14),
)
"""Name, aim, and width of each column; a width below zero aligns to the left."""


def table(rows: Sequence[Row]) -> str:
    """The rows for people. A figure that misses its aim bears a star."""
    lines = [[name for name, _, _ in COLUMNS], [aim for _, aim, _ in COLUMNS], *map(_cells, rows)]
    return "\n".join(
        "".join(
            cell.rjust(width) if width > 0 else f"  {cell.ljust(-width)}"
            for cell, (_, _, width) in zip(line, COLUMNS, strict=True)
        ).rstrip()
        for line in lines
    )


def _cells(row: Row) -> list[str]:
    scenario = row.scenario
    p50, p99 = row.delay(0.5), row.delay(0.99)
    in_vain, outdated = row.mean("in_vain"), row.mean("outdated")
    best50, best99 = row.best(0.5), row.best(0.99)
    return [
        f"{scenario.campaigns:,}",
        f"{scenario.used:,}",
        f"{scenario.page_rows}",
        describe(row),
        _starred(f"{p50}", misses=p50.is_open or p50.seconds >= P50),
        _starred(f"{p99}", misses=p99.is_open or p99.seconds >= P99),
        f"{row.delay(1.0)}",
        _range(row.spread(0.5)),
        _range(row.spread(0.99)),
        _starred(spell(row.bound), misses=row.bound >= BOUND),
        f"{row.mean('proving'):.1%}",
        _starred(f"{in_vain:.1f}", misses=in_vain >= IN_VAIN),
        _starred(f"{row.most}", misses=row.most > CALLS),
        _starred(f"{outdated:.1%}", misses=outdated >= OUTDATED),
        "never" if row.validated is None else spell(row.validated),
        f"{max(result.most_pages for result in row.results)}",
        f"{best50:.1f}, {best99:.1f} s" if row.bests else "",
        f"{p50.seconds / best50:.1f}, {p99.seconds / best99:.1f}" if row.bests else "",
        ", ".join(f"{reason} {count:.1f}" for reason, count in row.calls.items()),
    ]


def describe(row: Row) -> str:
    """What sets the row apart from the others of its size."""
    scenario = row.scenario
    words = [row.phase]
    if scenario.policy is not SWEEP:
        words.append(POLICIES[scenario.policy.name])
    if scenario.zipf:
        words.append(
            f"Zipf {scenario.zipf:g}, best old {sum(best.outdated for best in row.bests) / len(row.bests):.1%}"
        )
    if scenario.edits != 1.0:
        words.append(f"{scenario.edits:g} edits/s")
    if scenario.others:
        words.append(f"callers' own {scenario.others:g}/min")
    return ", ".join(words)


def _starred(text: str, *, misses: bool) -> str:
    return f"{text}*" if misses else text


def _range(spread: tuple[float, float]) -> str:
    low, high = spread
    return f"{low:.1f}-{high:.1f} s"


EXPLAINED = f"""\
Edits of {{measured}}; each campaign in use read every {READ_SECONDS:g} s (on the average, where interest is uneven); a budget of
{CALLS} calls in 60 s; seeds taken together: {{seeds}}. p50, p99, max: from an edit of a campaign in use to the moment from which
reads are answered with it. cold: from when each campaign in use has been answered once; steady: a quarter of an hour
later. bound: the widest published one. in vain: reads by id a minute that brought nothing new, rotation left out. most:
calls in the fullest 60 s, as they arrived. old: answers that showed an older version than the platform had. validated: from
an empty start until polls had shown every campaign. pages: pages after the first of lists, in the fullest minute of the
warm-up, when callers wait. best: what a model without the product makes of as many calls. *: misses its aim."""
