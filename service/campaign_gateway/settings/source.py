"""Settings as they are written: a YAML file, with the environment's variables on top, and where each key stands."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from campaign_gateway.settings.mistakes import WHOLE, Mistake, SettingsError

ENVIRONMENT_PREFIX = "GATEWAY__"


@dataclass(slots=True)
class Source:
    """A plain tree of settings, and what it was read from."""

    tree: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    text: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    """The environment variables that keys come from."""

    def place(self, mistake: Mistake) -> Mistake:
        """The mistake with the place where its key, or else the section around it, is written."""
        key = mistake.key
        for above, name in self.variables.items():
            if key == above or key.startswith(f"{above}."):
                return mistake._replace(source=name)
        if self.path is None:
            return mistake
        return mistake._replace(source=str(self.path), line=_line_of(_compose(self.text), key))


def read_source(path: Path | None, environ: Mapping[str, str]) -> Source:
    """The file's settings, with those of the `GATEWAY__SECTION__KEY` variables on top.

    Raises:
        SettingsError: the file or a variable cannot be read.
    """
    source = Source() if path is None else _read_file(path)
    variables = [(name, text) for name, text in sorted(environ.items()) if name.startswith(ENVIRONMENT_PREFIX)]
    mistakes = [mistake for name, text in variables if (mistake := _lay_over(source, name, text)) is not None]
    if mistakes:
        raise SettingsError(mistakes)
    if not source.tree:
        raise SettingsError([_nothing(path)])
    return source


def _nothing(path: Path | None) -> Mistake:
    if path is None:
        return Mistake(WHOLE, "there are none", "name a file: --config gateway.yaml, or GATEWAY_CONFIG")
    return Mistake(WHOLE, "the file holds none", "write at least credentials and streams", str(path), 1)


def _read_file(path: Path) -> Source:
    raw = b""
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or "it cannot be opened").lower()
        raise SettingsError(
            [Mistake(WHOLE, f"cannot be read: {reason}", "name another file with --config", str(path))]
        ) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SettingsError([Mistake(WHOLE, "is not UTF-8", "save the file as UTF-8", str(path), line)]) from None
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        mistakes = _repeated_keys(path, text) or [_syntax(path, text, error)]
        raise SettingsError(mistakes) from None
    if tree is not None and not isinstance(tree, dict):
        raise SettingsError([Mistake(WHOLE, "is no mapping", "write it as `key: value` lines", str(path), 1)])
    return Source(tree or {}, path, text)


def _lay_over(source: Source, name: str, text: str) -> Mistake | None:
    """Puts a variable's value into the tree; returns the mistake if it cannot be put there."""
    *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).split("__")
    tree, path = source.tree, ""
    for part in sections:
        section = _key_meant(tree, part)
        path += f"{section}."
        if tree.get(section) is None:
            tree[section] = {}
        tree = tree[section]
        if not isinstance(tree, dict):
            return Mistake(path[:-1], "is no section", "remove the variable, or what the file has there", name)
    key = _key_meant(tree, key)
    try:
        tree[key] = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):
        return Mistake(
            path + key, "is not a YAML value", "put the value in quotes of YAML, inside those of the shell", name
        )
    source.variables[path + key] = name
    return None


def _key_meant(tree: Mapping[str, Any], part: str) -> str:
    """The key that a part of a variable's name stands for: one that is there, in whatever case, or a new one."""
    there = next((key for key in tree if str(key).lower() == part.lower()), None)
    if there is not None:
        return there
    return part.lower() if part.isupper() else part


def _compose(text: str) -> Node | None:
    """The document's nodes, which know their lines."""
    reader = YAML(typ="safe", pure=True)
    reader.allow_duplicate_keys = True
    node: Node | None = reader.compose(text)
    return node


def _line_of(node: Node | None, key: str) -> int:
    """The line of the key, or of the innermost section around it that is written."""
    line = 1
    while key and node is not None:
        rows = [row for row in _rows(node) if key == row[0] or key.startswith(f"{row[0]}.")]
        if not rows:
            break
        # Names of streams and clients may have dots in them.
        name, line, node = max(rows, key=lambda row: len(row[0]))
        key = key[len(name) + 1 :]
    return line


def _rows(node: Node) -> Iterator[tuple[str, int, Node]]:
    """Each key, or number in a list, with its line and what it holds."""
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield str(key.value), key.start_mark.line + 1, value
    elif isinstance(node, SequenceNode):
        for number, value in enumerate(node.value):
            yield str(number), value.start_mark.line + 1, value


def _repeated_keys(path: Path, text: str) -> list[Mistake]:
    """A mistake for each key that stands twice in its section; none where the text is no YAML at all."""
    try:
        node = _compose(text)
        return [] if node is None else list(_repeated(path, node, ""))
    except (YAMLError, RecursionError):
        return []


def _repeated(path: Path, node: Node, section: str) -> Iterator[Mistake]:
    lines: dict[str, int] = {}
    for name, line, inner in _rows(node):
        if name in lines:
            problem = f"is written twice, in line {lines[name]} too"
            yield Mistake(section + name, problem, "keep one of the two", str(path), line)
        lines[name] = line
        yield from _repeated(path, inner, f"{section}{name}.")


def _syntax(path: Path, text: str, error: Exception) -> Mistake:
    """What keeps the text from being YAML. The parser's own words quote the text, and that may be a secret."""
    if not isinstance(error, MarkedYAMLError):
        # Characters that YAML has not are told of by a position; dates that there are not, by nothing.
        position = getattr(error, "position", None)
        if position is not None:
            line = text.count("\n", 0, position) + 1
            return Mistake(WHOLE, "holds a character that no text has", "remove it", str(path), line)
        if isinstance(error, RecursionError):
            return Mistake(WHOLE, "has sections within sections without end", "close the brackets", str(path))
        return Mistake(WHOLE, "has a date that there is not", _QUOTES, str(path), _line_of_no_date(text))
    said = f"{error.context} {error.problem}"
    problem, advice, is_at_start = next((rest for words, rest in _SYNTAX if words in said), _ANY_SYNTAX)
    mark = (error.context_mark if is_at_start else None) or error.problem_mark
    if mark is None:
        return Mistake(WHOLE, problem, advice, str(path))
    if text[mark.index : mark.index + 1] == "\t":
        problem, advice = "has a tab before its text", "indent with spaces"
    return Mistake(WHOLE, problem, advice, str(path), mark.line + 1)


def _line_of_no_date(text: str) -> int | None:
    for row in re.finditer(r"(\d{4})-(\d\d?)-(\d\d?)", text):
        try:
            date(*map(int, row.groups()))
        except ValueError:
            return text.count("\n", 0, row.start()) + 1
    return None


_QUOTES = "put the value in quotes"
_ANY_SYNTAX = ("is not YAML", "look for a colon, a quote or an indent that is missing", False)
_SYNTAX = (
    ("scanning a quoted scalar", ("opens a quote that is not closed", "close it", True)),
    ("parsing a flow", ("opens a bracket that is not closed", "close it, and put commas between what is in it", True)),
    (
        "mapping values are not allowed",
        ("has a colon that it cannot have", "put the value in quotes, or mend the indent", False),
    ),
    ("undefined alias", ("has a value that begins with `*`", _QUOTES, False)),
    ("cannot start any token", ("has a value that begins with a sign of YAML's own", _QUOTES, False)),
    ("constructor for the tag", ("has a value that begins with `!`", _QUOTES, False)),
    ("unknown escape", ("has a backslash that means nothing in double quotes", "use single quotes", False)),
    ("a block scalar", ("has a value that begins with `>` or `|`", _QUOTES, False)),
    ("another document", ("begins a second document", "remove the `---` or `...`", False)),
    ("could not find expected ':'", ("has a key without a colon", "write `key: value`", True)),
    ("expected <block end>", ("does not go on with what stands above it", "mend the indent, or the quotes", False)),
    ("unhashable key", ("has a bracket where a key belongs", "write `key: value`", False)),
)
"""Words of the parser, what they mean, what to write, and whether to look where the construct begins."""
