"""The results as an SVG: for each size and policy the span from the median to the slowest, on a logarithmic scale."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

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
    ticks = [*_TICKS, *(tick for tick in _MORE_TICKS if tick[0] <= slowest * 1.2)]
    fastest = min(span.p50 for group in groups for span in group.spans)
    low, high = math.log10(min(1.0, fastest) * 0.9), math.log10(slowest * 1.4)

    def height(seconds: float) -> float:
        part = (math.log10(max(seconds, 10**low)) - low) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        '<g font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 28, title, size=17, weight="bold"),
        text(LEFT, 48, note, colour="#555555"),
    ]
    parts += _legend(policies)
    for seconds, label in ticks:
        y = height(seconds)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e2e2e2"/>')
        parts.append(text(LEFT - 8, y + 4, label, anchor="end", colour="#555555"))
    step = (WIDTH - LEFT - RIGHT) / len(groups)
    for place, group in enumerate(groups):
        middle = LEFT + step * (place + 0.5)
        parts.append(text(middle, HEIGHT - BOTTOM + 24, group.label, anchor="middle", weight="bold"))
        parts.append(text(middle, HEIGHT - BOTTOM + 43, group.note, anchor="middle", colour="#555555"))
        apart = step / (len(group.spans) + 0.6)
        for turn, span in enumerate(group.spans):
            x = middle + apart * (turn - (len(group.spans) - 1) / 2)
            parts += _bar(x, span, height, _COLOURS[turn])
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _bar(x: float, span: Span, height: Callable[[float], float], colour: str) -> list[str]:
    p50, p99, longest = (height(seconds) for seconds in (span.p50, span.p99, span.longest))
    tall, paint = max(1.0, p50 - p99), f'fill="{colour}" fill-opacity="0.28"'
    parts = [
        f'<rect x="{x - _HALF:.1f}" y="{p99:.1f}" width="{2 * _HALF}" height="{tall:.1f}" {paint}/>',
        f'<line x1="{x:.1f}" y1="{p99:.1f}" x2="{x:.1f}" y2="{longest:.1f}" stroke="{colour}" stroke-width="1.5"/>',
    ]
    for y, width in ((p50, 3), (p99, 3), (longest, 1.5)):
        half = _HALF if width > 2 else _HALF / 2
        parts.append(
            f'<line x1="{x - half:.1f}" y1="{y:.1f}" x2="{x + half:.1f}" y2="{y:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>'
        )
    sign = ">" if span.is_open else ""
    parts.append(text(x, p50 + 15, spell(span.p50), anchor="middle", colour=colour))
    parts.append(text(x, longest - 6, sign + spell(span.longest), anchor="middle", colour=colour))
    if tall > 2 * _LINE:
        # Elsewhere the two others say enough.
        parts.append(text(x, p99 + _LINE, spell(span.p99), anchor="middle", colour=colour, weight="bold"))
    return parts


def _legend(policies: Sequence[str]) -> list[str]:
    parts, x = [], float(LEFT)
    for policy, colour in zip(policies, _COLOURS, strict=False):
        parts.append(f'<rect x="{x:.1f}" y="62" width="14" height="12" fill="{colour}" fill-opacity="0.6"/>')
        parts.append(text(x + 20, 73, policy))
        x += 44 + 6.6 * len(policy)
    return parts


def text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
    colour: str = "#111",
) -> str:
    """One line of text."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{colour}">{escape(text)}</text>'
    )


def spell(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
