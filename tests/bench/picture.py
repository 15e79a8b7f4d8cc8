"""The results as an SVG: a bar for each server, its CPU time for one answer, on a logarithmic scale."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.svg import PALE, Drawing, LogScale

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
    place = LogScale(low, high, LEFT, WIDTH - RIGHT)
    out = Drawing()
    out.text(20, 28, title, 17, font_weight="bold")
    out.text(20, 48, note, fill=PALE)
    for tick in _TICKS:
        if low <= tick <= high:
            out.line(place(tick), TOP, place(tick), bottom)
            out.text(place(tick), bottom + 20, f"{tick} us", fill=PALE, text_anchor="middle")
    for row, bar in enumerate(bars):
        y, end, weight = TOP + STEP * row, place(bar.value), "bold" if bar.is_ours else "normal"
        out.box(LEFT, y + 5, max(1.0, end - LEFT), STEP - 10, fill=_OURS if bar.is_ours else _OTHERS)
        out.text(LEFT - 10, y + 20, bar.label, text_anchor="end", font_weight=weight)
        value = f"{bar.value:,.{0 if bar.value >= 100 else 1}f} us, {bar.note}"
        out.text(end + 8, y + 20, value, font_weight=weight)
    return out.svg(WIDTH, bottom + 34, title)
