"""Draws the dashboard's panels as one SVG, with what a Prometheus has for them.

For documentation, and for a look where there is no Grafana: it reads the same JSON, asks the same expressions, and
says at the bottom that it is no screenshot. Run it with the development environment: .venv/bin/python -m deploy.picture
"""

import itertools
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec

from tools.svg import PALE, RULE, Drawing

HERE = Path(__file__).parent / "grafana"
COLUMN, ROW, GAP = 60, 30, 8
"""Pixels of a cell of Grafana's grid, and between panels."""
POINTS = 120
COLOURS = ("#2f7ed8", "#3f9b4f", "#e0912b", "#c4483e", "#8b5fbf", "#1aa5a5", "#a0764a", "#d4679f", "#7c8794", "#9aa722")
THRESHOLD = {"green": "#2d8a3e", "#EAB839": "#c98a00", "red": "#cc3333"}


@dataclass
class Series:
    """One line: values by the number of their step, None where there is none."""

    name: str
    values: list[float | None]


@dataclass
class Span:
    """What happened from one moment to another, in minutes from the start."""

    begin: float
    end: float
    text: str


class Source:
    """A Prometheus, asked about one stretch of time."""

    def __init__(self, url: str, begin: float, end: float, variables: Mapping[str, str]) -> None:
        self.url, self.begin, self.end = url.rstrip("/"), begin, end
        self.step = (end - begin) / POINTS
        self.minutes = (end - begin) / 60
        self._variables = variables

    def series(self, target: Mapping[str, Any]) -> Iterator[Series]:
        """The lines of one of a panel's targets, named by its legend."""
        expression = self._filled(target["expr"])
        asked = {"query": expression, "start": self.begin, "end": self.end, "step": self.step}
        for row in self.ask("query_range", asked)["result"]:
            values: list[float | None] = [None] * (POINTS + 1)
            for moment, value in row["values"]:
                number = float(value)
                values[round((moment - self.begin) / self.step)] = number if math.isfinite(number) else None
            name = target["legendFormat"]
            for label, text in row["metric"].items():
                name = name.replace(f"{{{{{label}}}}}", text)
            yield Series(name, values)

    def ask(self, path: str, asked: Mapping[str, Any]) -> Any:
        """The `data` of an API answer."""
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310, the operator names it
            return msgspec.json.decode(answer.read())["data"]

    def _filled(self, expression: str) -> str:
        for name in sorted(self._variables, key=len, reverse=True):
            expression = expression.replace("$" + name, self._variables[name])
        return expression


def shown(value: float, unit: str, top: float | None = None) -> str:
    """A value with its unit, short; on an axis, with the unit that suits the axis' top."""
    scale = abs(value) if top is None else top
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        steps = ((1e-3, 1e6, "us"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min"), (math.inf, 1 / 3600, "h"))
        factor, name = next((factor, name) for below, factor, name in steps if scale < below)
        return f"{value * factor:.3g} {name}"
    if unit == "bytes":
        power = min(int(math.log(scale, 1024)), 4) if scale >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return text + {"reqps": " /s", "ops": " /s", "suffix:x": " x"}.get(unit, "")


def ceiling(value: float, unit: str) -> float:
    """The next number above, in the unit it is shown in, that divides well by four."""
    base = 1.0
    if unit == "s" and value >= 120:
        base = 60.0 if value < 7200 else 3600.0
    elif unit == "bytes" and value >= 1:
        base = 1024.0 ** int(math.log(value, 1024))
    power = base * 10.0 ** math.floor(math.log10(value / base))
    return next(power * step for step in (1, 1.2, 2, 4, 6, 8, 10) if power * step >= value * 0.999)


def stacked(series: Sequence[Series]) -> list[Series]:
    """Each line on top of those before it."""
    base = [0.0] * (POINTS + 1)
    piled = []
    for one in series:
        base = [low + (value or 0.0) for low, value in zip(base, one.values, strict=True)]
        piled.append(Series(one.name, list(base)))
    return piled


def line(values: Sequence[float | None], x: float, y: float, width: float, height: float, top: float) -> list[str]:
    """Path steps through the values; a gap where there is none."""
    heights = [
        None if value is None else f"{y + height - min(max(value, 0.0), top) / top * height:.1f}" for value in values
    ]
    around = zip([None, *heights[:-1]], heights, [*heights[1:], None], strict=True)
    steps, command = [], "M"
    for number, (before, at, after) in enumerate(around):
        if at is None:
            command = "M"
        elif not before == at == after:
            # Points in the middle of a level stretch say nothing.
            steps.append(f"{command}{x + width * number / POINTS:.1f} {at}")
            command = "L"
    return steps


def draw_number(out: Drawing, panel: Mapping[str, Any], series: Sequence[Series], box: Sequence[float]) -> None:
    """A number with its course behind it."""
    x, y, width, height = box
    values = series[0].values if series else []
    known = [value for value in values if value is not None]
    if not known:
        out.text(x + width / 2, y + height / 2 + 10, "no data", 14, fill=PALE, text_anchor="middle")
        return
    defaults = panel["fieldConfig"]["defaults"]
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or known[-1] >= step["value"]]
    colour = THRESHOLD[reached[-1]["color"]]
    left, below, wide, high = x + 8, y + 62, width - 16, height - 70
    course = line(values, left, below, wide, high, max(known) or 1)
    out.path(course, fill="none", stroke=colour, stroke_width="1", opacity="0.6")
    out.text(x + width / 2, y + 54, shown(known[-1], defaults["unit"]), 26, fill=colour, text_anchor="middle")


def draw_graph(
    out: Drawing, panel: Mapping[str, Any], series: Sequence[Series], box: Sequence[float], minutes: float
) -> None:
    """Lines over time, with axes, thresholds and a legend."""
    x, y, width, height = box
    defaults = panel["fieldConfig"]["defaults"]
    unit, custom = defaults["unit"], defaults["custom"]
    is_stacked = custom["stacking"]["mode"] == "normal"
    lines = stacked(series) if is_stacked else list(series)
    highest = max((value for one in lines for value in one.values if value is not None), default=0.0)
    limits = [step for step in defaults["thresholds"]["steps"][1:] if custom["thresholdsStyle"]["mode"] == "line"]
    # A threshold is part of the picture unless that would flatten the lines.
    highest = max([highest, *(step["value"] for step in limits if not highest or step["value"] <= highest * 4)])
    top = defaults.get("max") or (ceiling(highest, unit) if highest > 0 else 1.0)

    rows = legend_rows(series, width - 24)
    left, below = x + 62, y + 34
    wide, high = width - 76, height - 34 - 22 - 15 * len(rows)
    for tick in range(5):
        at = below + high - high * tick / 4
        out.line(left, at, left + wide, at)
        out.text(left - 6, at + 3.5, shown(top * tick / 4, unit, top), 10, fill=PALE, text_anchor="end")
    apart = next(step for step in (1, 2, 5, 10, 15, 30, 60, 120, 360, 720, 1440, math.inf) if minutes / step <= 8)
    for minute in itertools.takewhile(lambda minute: minute <= minutes, itertools.count(0, int(min(apart, 1e6)))):
        out.text(left + wide * minute / minutes, below + high + 14, f"{minute}", 10, fill=PALE, text_anchor="middle")
    for step in limits:
        if step["value"] <= top:
            at = below + high - high * step["value"] / top
            out.line(left, at, left + wide, at, THRESHOLD[step["color"]], stroke_dasharray="5 3")
    drawn = list(zip(itertools.cycle(COLOURS), lines))
    for number, (colour, one) in reversed(list(enumerate(drawn))):
        course = line(one.values, left, below, wide, high, top)
        if is_stacked and course:
            under = lines[number - 1].values if number else [0.0] * (POINTS + 1)
            back = line(under, left, below, wide, high, top)
            area = [*course, *("L" + step[1:] for step in reversed(back)), "Z"]
            out.path(area, fill=colour, fill_opacity="0.25")
        out.path(course, fill="none", stroke=colour, stroke_width="1.5", stroke_linejoin="round")
    if not series:
        out.text(left + wide / 2, below + high / 2, "no data", 13, fill=PALE, text_anchor="middle")
    for number, row in enumerate(rows):
        at = y + height - 15 * (len(rows) - number) + 6
        for colour, name, offset in row:
            out.box(x + 12 + offset, at - 7, 10, 3, fill=colour)
            out.text(x + 26 + offset, at - 2, name, 10.5)


def legend_rows(series: Sequence[Series], width: float) -> list[list[tuple[str, str, float]]]:
    """Colour, name and place of each line's entry, in rows no wider than this."""
    rows: list[list[tuple[str, str, float]]] = []
    offset = math.inf
    for colour, one in zip(itertools.cycle(COLOURS), series):
        needed = 28 + 5.9 * len(one.name)
        if offset + needed > width:
            rows.append([])
            offset = 0.0
        rows[-1].append((colour, one.name, offset))
        offset += needed
    return rows


def draw_spans(out: Drawing, spans: Sequence[Span], source: Source, box: Sequence[float]) -> None:
    """What happened, shaded."""
    x, y, width, height = box
    for span in spans:
        begin, end = (span.begin / source.minutes, span.end / source.minutes)
        out.box(x + width * begin, y, width * (end - begin), height, fill="#d0d7de", fill_opacity="0.45")


def chosen(panels: Sequence[dict[str, Any]], rows: int) -> list[dict[str, Any]]:
    """The panels of the first rows, their headings among them."""
    heading = itertools.accumulate(panel["type"] == "row" for panel in panels)
    return [panel for panel, number in zip(panels, heading, strict=True) if number <= rows]


def picture(dashboard: Mapping[str, Any], source: Source, rows: int, spans: Sequence[Span], subtitle: str) -> str:
    """The SVG."""
    out = Drawing()
    head = 62 + 18 * bool(spans)
    out.text(GAP, 30, dashboard["title"], 22, font_weight="600")
    out.text(GAP, 52, subtitle, 13, fill=PALE)
    if spans:
        told = (f"{span.begin:.3g} to {span.end:.3g} min, {span.text}" for span in spans)
        out.box(GAP, 60, 12, 12, fill="#d0d7de")
        out.text(GAP + 18, 70, "Shaded: " + "; ".join(told) + ".", 13, fill=PALE)
    panels = chosen(dashboard["panels"], rows)
    for panel in panels:
        place = panel["gridPos"]
        x, y = place["x"] * COLUMN + GAP / 2, head + place["y"] * ROW + GAP / 2
        width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
        if panel["type"] == "row":
            out.text(x + 2, y + 17, panel["title"], 15, font_weight="600")
            continue
        out.box(x, y, width, height, fill="#ffffff", stroke=RULE, rx="3")
        out.text(x + 10, y + 19, panel["title"], 12.5, font_weight="600")
        series = [one for target in panel["targets"] for one in source.series(target)]
        if panel["type"] == "stat":
            draw_number(out, panel, series, (x, y, width, height))
            continue
        high = height - 34 - 22 - 15 * len(legend_rows(series, width - 24))
        draw_spans(out, spans, source, (x + 62, y + 34, width - 76, high))
        draw_graph(out, panel, series, (x, y, width, height), source.minutes)
    high = head + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + 30
    moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(source.end))
    label = (
        f"Drawn from Prometheus by deploy/picture, not a Grafana screenshot. Minutes from the start; until {moment}."
    )
    out.text(GAP, high - 10, label, 12, fill=PALE)
    return out.svg(24 * COLUMN, high, dashboard["title"], ground="#f6f8fa")


@click.command(help=__doc__)
@click.option("--prometheus", "url", default="http://127.0.0.1:9090", show_default=True, help="Where it is.")
@click.option("--minutes", type=float, default=60, show_default=True, help="How far to look back.")
@click.option("--until", type=float, help="The end, in seconds since the epoch; default: now.")
@click.option("--rate", "rate_interval", default="1m", show_default=True, help="Grafana's $__rate_interval.")
@click.option("--job", help="The gateway; default: the only one there is.")
@click.option("--rows", default=4, show_default=True, help="How many of the dashboard's rows.")
@click.option(
    "--span", "spans", nargs=3, type=(float, float, str), multiple=True, help="BEGIN END TEXT: shaded, in minutes."
)
@click.option("--subtitle", default="Are callers served, how fresh, and at what cost?", help="The second line.")
@click.option("--output", type=click.Path(path_type=Path), default=HERE / "dashboard.svg", show_default=True)
def main(
    url: str,
    minutes: float,
    until: float | None,
    rate_interval: str,
    job: str | None,
    rows: int,
    spans: Sequence[tuple[float, float, str]],
    subtitle: str,
    output: Path,
) -> None:
    """See the module."""
    dashboard = msgspec.json.decode((HERE / "dashboards" / "campaign-gateway.json").read_bytes())
    end = until or time.time()
    variables = {"namespace": ".*", "instance": ".*", "__rate_interval": rate_interval}
    source = Source(url, end - minutes * 60, end, variables)
    if job is None:
        times = {"match[]": "campaign_gateway_build_info", "start": source.begin, "end": end}
        jobs = source.ask("label/job/values", times)
        if len(jobs) != 1:
            raise click.ClickException(f"name one of these with --job: {', '.join(jobs) or 'there is none'}")
        job = str(jobs[0])
    variables["job"] = job
    output.write_text(picture(dashboard, source, rows, [Span(*span) for span in spans], subtitle), "utf-8")
    click.echo(f"{output}: {output.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
