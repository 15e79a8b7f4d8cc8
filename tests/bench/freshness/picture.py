"""The results as an SVG: for each size and policy the span from the median to the slowest, on a logarithmic scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.svg import PALE, Drawing, LogScale

WIDTH, HEIGHT = 900, 470
LEFT, RIGHT, TOP, BOTTOM = 74, 24, 92, 66
_COLOURS = ("#1668b3", "#c2571a", "#7a7a7a")
_TICKS = ((1, "1 s"), (3, "3 s"), (10, "10 s"), (30, "30 s"), (60, "1 min"), (300, "5 min"), (1200, "20 min"))
_MORE_TICKS = ((3600, "1 h"), (14_400, "4 h"))
_HALF = 26
_LINE = 16


@dataclass(frozen=True, slots=True)
class Span:
    """One policy at one size: seconds."""

    p50: float
    p99: float
    longest: float
    is_open: bool
    """Whether some changes were never seen, so that the longest is longer still."""


@dataclass(frozen=True, slots=True)
class Group:
    """The spans of one size, one for each policy."""

    label: str
    note: str
    spans: Sequence[Span]


def draw(title: str, note: str, policies: Sequence[str], groups: Sequence[Group]) -> str:
    """The picture."""
    slowest = max(span.longest for group in groups for span in group.spans)
    fastest = min(span.p50 for group in groups for span in group.spans)
    height = LogScale(min(1.0, fastest) * 0.9, slowest * 1.4, HEIGHT - BOTTOM, TOP)
    out = Drawing()
    out.text(LEFT, 28, title, 17, font_weight="bold")
    out.text(LEFT, 48, note, fill=PALE)
    _legend(out, policies)
    for seconds, label in [*_TICKS, *(tick for tick in _MORE_TICKS if tick[0] <= slowest * 1.2)]:
        y = height(seconds)
        out.line(LEFT, y, WIDTH - RIGHT, y)
        out.text(LEFT - 8, y + 4, label, fill=PALE, text_anchor="end")
    step = (WIDTH - LEFT - RIGHT) / len(groups)
    for place, group in enumerate(groups):
        middle = LEFT + step * (place + 0.5)
        out.text(middle, HEIGHT - BOTTOM + 24, group.label, text_anchor="middle", font_weight="bold")
        out.text(middle, HEIGHT - BOTTOM + 43, group.note, fill=PALE, text_anchor="middle")
        apart = step / (len(group.spans) + 0.6)
        for number, span in enumerate(group.spans):
            x = middle + apart * (number - (len(group.spans) - 1) / 2)
            _bar(out, x, span, height, _COLOURS[number])
    return out.svg(WIDTH, HEIGHT, title)


def _bar(out: Drawing, x: float, span: Span, height: LogScale, colour: str) -> None:
    p50, p99, longest = (height(seconds) for seconds in (span.p50, span.p99, span.longest))
    tall = max(1.0, p50 - p99)
    out.box(x - _HALF, p99, 2 * _HALF, tall, fill=colour, fill_opacity="0.28")
    out.line(x, p99, x, longest, colour, stroke_width="1.5")
    for y, half, width in ((p50, _HALF, "3"), (p99, _HALF, "3"), (longest, _HALF / 2, "1.5")):
        out.line(x - half, y, x + half, y, colour, stroke_width=width)
    sign = ">" if span.is_open else ""
    out.text(x, p50 + 15, spell(span.p50), fill=colour, text_anchor="middle")
    out.text(x, longest - 6, sign + spell(span.longest), fill=colour, text_anchor="middle")
    if tall > 2 * _LINE:
        # Elsewhere the two others say enough.
        out.text(x, p99 + _LINE, spell(span.p99), fill=colour, text_anchor="middle", font_weight="bold")


def _legend(out: Drawing, policies: Sequence[str]) -> None:
    x = float(LEFT)
    for policy, colour in zip(policies, _COLOURS, strict=False):
        out.box(x, 62, 14, 12, fill=colour, fill_opacity="0.6")
        out.text(x + 20, 73, policy)
        x += 44 + 6.6 * len(policy)


def spell(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
