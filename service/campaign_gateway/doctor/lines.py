"""Findings as lines for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from campaign_gateway.doctor.findings import Check, Finding, Status


class _Colour(IntEnum):
    """SGR parameters (ECMA-48 section 8.3.117)."""

    RED = 31
    GREEN = 32
    YELLOW = 33
    DIM = 2


_SIGNS = {
    Status.OK: ("✓", "ok  ", _Colour.GREEN),
    Status.WARNING: ("⚠", "WARN", _Colour.YELLOW),
    Status.ERROR: ("✗", "FAIL", _Colour.RED),
    Status.SKIPPED: ("·", "skip", _Colour.DIM),
}
_WIDTH = max(len(check) for check in Check)


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show."""

    is_unicode: bool = True
    has_colours: bool = False


def lines_of(finding: Finding, style: Style) -> Iterator[str]:
    """The finding in one line, and what to do about it in one more."""
    sign, word, colour = _SIGNS[finding.status]
    mark = sign if style.is_unicode else word
    if style.has_colours:
        mark = f"\x1b[{colour}m{mark}\x1b[0m"
    line = f"{mark} {finding.check:{_WIDTH}}  {finding.subject}: {finding.found}"
    yield _written(line, style)
    if finding.advice:
        arrow = "→" if style.is_unicode else "->"
        yield _written(f"{'  ' if style.is_unicode else '     '}{arrow} {finding.advice}", style)


def _written(text: str, style: Style) -> str:
    return text if style.is_unicode else text.encode("ascii", "replace").decode()
