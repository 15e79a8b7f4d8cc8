"""The elements of the project's pictures, as SVG text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

INK, PALE, RULE = "#24292f", "#6a737d", "#e1e4e8"


class Drawing:
    """A picture, element by element: what comes later lies on top.

    Attributes of elements are SVG's own, with `_` for `-`.
    """

    def __init__(self) -> None:
        self._elements: list[str] = []

    def text(self, x: float, y: float, text: str, size: float = 13, **attributes: str) -> None:
        """A line of text; `y` is its base line."""
        given = _written({"fill": INK, **attributes})
        self._elements.append(
            f'<text x="{_short(x)}" y="{_short(y)}" font-size="{size:g}"{given}>{escape(text)}</text>'
        )

    def box(self, x: float, y: float, width: float, height: float, **attributes: str) -> None:
        """A rectangle."""
        size = f'width="{_short(width)}" height="{_short(height)}"'
        self._elements.append(f'<rect x="{_short(x)}" y="{_short(y)}" {size}{_written(attributes)}/>')

    def line(self, x: float, y: float, to_x: float, to_y: float, stroke: str = RULE, **attributes: str) -> None:
        """A straight line."""
        self.path([f"M{_short(x)} {_short(y)}L{_short(to_x)} {_short(to_y)}"], stroke=stroke, **attributes)

    def path(self, steps: Sequence[str], **attributes: str) -> None:
        """A path; nothing if it has no steps."""
        if steps:
            self._elements.append(f'<path d="{"".join(steps)}"{_written(attributes)}/>')

    def svg(self, width: float, height: float, title: str, ground: str = "#ffffff") -> str:
        """The whole document, on a ground of one colour."""
        size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
        family = 'font-family="Inter, Helvetica, Arial, DejaVu Sans, sans-serif"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {family}>\n<title>{escape(title)}</title>'
        below = f'<rect width="100%" height="100%" fill="{ground}"/>'
        return "\n".join([head, below, *self._elements, "</svg>", ""])


@dataclass(frozen=True, slots=True)
class LogScale:
    """Where values lie on a logarithmic axis.

    Attributes:
        low: the smallest value; what is below lies where it does.
        high: the greatest.
        start: pixels at which `low` lies.
        end: pixels at which `high` lies.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels."""
        part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return self.start + part * (self.end - self.start)


def _written(attributes: dict[str, str]) -> str:
    return "".join(f" {name.replace('_', '-')}={quoteattr(value)}" for name, value in attributes.items())


def _short(pixels: float) -> str:
    return f"{round(pixels, 1):g}"
