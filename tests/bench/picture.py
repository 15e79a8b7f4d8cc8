"""The results as an SVG: a bar for each server, its CPU time for one answer, on a logarithmic scale."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tests.bench.freshness.picture import text

WIDTH, LEFT, RIGHT, TOP, STEP = 900, 250, 190, 70, 30
_OURS, _OTHERS = "#1668b3", "#9a9a9a"
_TICKS = (1, 3, 10, 30, 100, 300, 1000, 3000)


@dataclass(frozen=True, slots=True)
class Bar:
    """One server."""

    label: str
    value: float
    """Microseconds."""
    note: str
    is_ours: bool


def draw(title: str, note: str, bars: Sequence[Bar]) -> str:
    """The picture, its bars in the order given."""
    low = max(tick for tick in _TICKS if tick <= max(1.0, min(bar.value for bar in bars)))
    high = max(bar.value for bar in bars) * 1.1
    bottom = TOP + STEP * len(bars)

    def place(value: float) -> float:
        return LEFT + math.log(max(value, low) / low) / math.log(high / low) * (WIDTH - LEFT - RIGHT)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 34}" role="img">',
        '<g font-family="Helvetica, Arial, sans-serif" font-size="13">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{bottom + 34}" fill="#ffffff"/>',
        text(20, 28, title, size=17, weight="bold"),
        text(20, 48, note, colour="#555555"),
    ]
    for tick in _TICKS:
        if low <= tick <= high:
            x = place(tick)
            parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}" stroke="#e2e2e2"/>')
            parts.append(text(x, bottom + 20, f"{tick} us", anchor="middle", colour="#555555"))
    for turn, bar in enumerate(bars):
        y, colour = TOP + STEP * turn, _OURS if bar.is_ours else _OTHERS
        end, weight = place(bar.value), "bold" if bar.is_ours else "normal"
        parts.append(
            f'<rect x="{LEFT}" y="{y + 5}" width="{max(1.0, end - LEFT):.1f}" height="{STEP - 10}" fill="{colour}"/>'
        )
        parts.append(text(LEFT - 10, y + 20, bar.label, anchor="end", weight=weight))
        parts.append(
            text(end + 8, y + 20, f"{bar.value:,.{0 if bar.value >= 100 else 1}f} us, {bar.note}", weight=weight)
        )
    return "\n".join([*parts, "</g>", "</svg>", ""])
