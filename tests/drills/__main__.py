"""`make drills`: runs every drill, and writes the table of them in `tests/README.md` with this run's figures.

`SOAK=SECONDS` makes the soak shorter; a row that did not run keeps no figure.
"""

import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parents[1]
TABLE = TESTS / "README.md"
_HEAD = (
    "| fault | how it is planted | what is to be seen | figure of the last run | test |",
    "|---|---|---|---|---|",
)
_BETWEEN = re.compile(r"(?<=<!-- drills: written by `make drills` -->\n).*?(?=<!-- end of drills -->)", re.DOTALL)


@dataclass
class Row:
    """One fault, with all tests that plant it."""

    planted: str = ""
    seen: str = ""
    tests: dict[str, bool] = field(default_factory=dict)
    """Whether each test held, by its name."""
    figures: list[str] = field(default_factory=list)

    @property
    def figure(self) -> str:
        """How many tests held, and what they measured."""
        return "; ".join([f"{sum(self.tests.values())} of {len(self.tests)} held", *dict.fromkeys(self.figures)])


class Table:
    """A pytest plugin that collects the rows."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes in what a drill says of itself, and whether it held."""
        told: dict[str, Any] = dict(report.user_properties)
        if "drill" not in told or (report.when != "call" and report.passed):
            return
        fault, planted, seen = told["drill"]
        row = self.rows.setdefault(fault, Row())
        row.planted, row.seen = row.planted or planted, row.seen or seen
        row.tests[report.nodeid] = report.passed
        row.figures += [str(value) for name, value in report.user_properties if name == "figure"]

    def text(self) -> str:
        """The rows in the order of their tests."""
        lines = [
            f"| {fault} | {row.planted} | {row.seen} | {row.figure} | {', '.join(_files(row))} |"
            for fault, row in sorted(self.rows.items(), key=lambda item: (min(item[1].tests), item[0]))
        ]
        return "\n".join((*_HEAD, *lines)) + "\n"


def _files(row: Row) -> list[str]:
    return sorted({f"`{test.partition('::')[0].removeprefix('tests/')}`" for test in row.tests})


def main() -> int:
    """Runs them. Returns pytest's exit code."""
    table = Table()
    os.environ.setdefault("SILENT", "5000")
    code = pytest.main([str(TESTS), "-m", "drill", "-q", "-n", "2", "--dist", "worksteal", *sys.argv[1:]], [table])
    page = TABLE.read_text("utf-8")
    TABLE.write_text(_BETWEEN.sub(lambda _: table.text(), page), "utf-8")
    sys.stdout.write(table.text())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
