#!/usr/bin/env python3
"""Writes what the Helm chart and the examples say that another file says first; run it after changing either.

- `values.schema.json`: the schema of `config`, out of the gateway's settings. The rest of the file is written by hand.
- `deploy/settings/schema.json`: the same schema, for editors that open the examples.
- `README.md`: the table of values, out of `values.yaml` and the comments there.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from campaign_gateway.settings.schema import schema_text, settings_schema

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm" / "campaign-gateway"
EDITORS = ROOT / "deploy" / "settings" / "schema.json"
SETTINGS = "settings."
"""Definitions whose names begin so are of the settings."""

_KEY = re.compile(r"( *)([A-Za-z0-9]+):.*")
_BEGIN, _END = "<!-- values: tools/chart.py -->\n", "<!-- /values -->\n"


def chart_settings() -> dict[str, Any]:
    """The schema of the settings, with names of its own for the definitions.

    No key is required at the top: the chart's templates say better what is missing than a schema can.
    """
    schema = settings_schema(f"#/$defs/{SETTINGS}{{model}}")
    for key in ("$schema", "title", "required"):
        del schema[key]
    return schema


def with_settings(text: str) -> str:
    """The chart's schema with the settings' part written anew."""
    schema = msgspec.json.decode(text)
    settings = chart_settings()
    own = {name: part for name, part in schema["$defs"].items() if not name.startswith(SETTINGS)}
    theirs = {f"{SETTINGS}{name}": part for name, part in sorted(settings.pop("$defs").items())}
    schema["properties"]["config"] = settings
    schema["$defs"] = own | {name: part for name, part in theirs.items() if name != f"{SETTINGS}Address"}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def described_values(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each key of `values.yaml` that has a comment right above it, and the comment.

    Raises:
        ValueError: a key has none, and no key that it is in has one either.
    """
    path: list[tuple[int, str]] = []
    covered: set[tuple[str, ...]] = set()
    comment: list[str] = []
    bare: list[tuple[str, ...]] = []
    for line in text.splitlines():
        if line.lstrip().startswith("# "):
            comment.append(line.strip().removeprefix("# "))
        elif match := _KEY.fullmatch(line):
            indent = len(match[1])
            path = [(column, name) for column, name in path if column < indent] + [(indent, match[2])]
            key = tuple(name for _, name in path)
            if comment:
                covered.add(key)
                yield key, " ".join(comment)
            elif not any(key[:depth] in covered for depth in range(1, len(key))):
                bare.append(key)
            comment = []
        else:
            comment = []
    sections = {key[:depth] for key in [*covered, *bare] for depth in range(1, len(key))}
    if missing := [".".join(key) for key in bare if key not in sections]:
        raise ValueError(f"values.yaml: without a comment: {', '.join(missing)}")


def values_table(text: str) -> str:
    """The table of values for the README."""
    values = YAML(typ="safe", pure=True).load(text)
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for key, comment in described_values(text):
        rows.append(f"| `{'.'.join(key)}` | `{_default(values, key)}` | {comment} |")
    return "\n".join(rows) + "\n"


def _default(values: Mapping[str, Any], key: tuple[str, ...]) -> str:
    value: Any = values
    for name in key:
        value = value[name]
    return msgspec.json.encode(value).decode().replace("|", "\\|")


def with_table(readme: str, values: str) -> str:
    """The README with the table written anew."""
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{values_table(values)}\n{_END}{after}"


def main() -> None:
    """Write the files."""
    values = (CHART / "values.yaml").read_text("utf-8")
    writers: dict[str, Callable[[str], str]] = {
        "values.schema.json": with_settings,
        "README.md": lambda text: with_table(text, values),
    }
    for name, write in writers.items():
        path = CHART / name
        path.write_text(write(path.read_text("utf-8")), "utf-8")
    EDITORS.write_text(schema_text(), "utf-8")


if __name__ == "__main__":
    main()
