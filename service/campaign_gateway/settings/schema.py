"""The settings as JSON Schema, for editors and the Helm chart: each with its sentence from `settings.tree`.

The sentences are read out of the source, so that no start pays for them.
"""

import ast
import inspect
import tokenize
from collections.abc import Iterator
from io import StringIO
from itertools import zip_longest
from typing import Any

import msgspec

from campaign_gateway.settings import tree

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema as a file has it."""
    return msgspec.json.format(msgspec.json.encode(settings_schema()), indent=2).decode() + "\n"


def settings_schema(reference: str = "#/$defs/{model}") -> dict[str, Any]:
    """The schema of the settings as they are written, with its definitions under `$defs`.

    Args:
        reference: how a definition is referred to.
    """
    schema = tree.Settings.model_json_schema(ref_template=reference)
    definitions = schema["$defs"] | {"Settings": schema}
    for (section, key), sentence in sentences().items():
        definitions[section]["properties"][key]["description"] = sentence
    return {
        "$schema": DIALECT,
        "title": "Settings of campaign-gateway",
        **_tidied(schema),
        "description": "The gateway's settings.",
    }


def sentences(source: str | None = None) -> dict[tuple[str, str], str]:
    """What is said of each setting, by its section's class and its key: the text below it, or else behind it.

    Args:
        source: of another module than `settings.tree`.
    """
    source = inspect.getsource(tree) if source is None else source
    behind = dict(_comments(source))
    found = {}
    for section in ast.parse(source).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for statement, after in zip_longest(section.body, section.body[1:]):
            if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = str(after.value.value)
            else:
                text = behind.get(statement.end_lineno or 0, "")
            if text:
                found[section.name, statement.target.id] = " ".join(text.split())
    return found


def _comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.removeprefix("# ")


def _tidied(node: Any) -> Any:
    """A schema without titles and defaults (those are of the read form), closed where patterns alone name the keys."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    named = node.get("properties", {})
    kept = {key: _tidied(value) for key, value in node.items() if key not in {"title", "default", "properties"}}
    if named:
        kept["properties"] = {key: _tidied(value) for key, value in named.items()}
    if "patternProperties" in node:
        kept["additionalProperties"] = False
    return kept
