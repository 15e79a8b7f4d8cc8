"""The gateway's settings: one frozen tree, validated whole at start, from a YAML file and the environment.

Nothing else reads the environment, and nothing here keeps a secret: settings name the file or variable that holds one.
`load` either returns settings that can be run or raises every mistake it found, one line each, naming the key.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from campaign_gateway.settings.checks import (
    cross_checks,
    folder_fault,
    proxy_fault,
    seal_gap,
    secret_from_environment,
    state_folder,
)
from campaign_gateway.settings.scalars import ALIAS_PATTERN, Address, hide_password
from campaign_gateway.settings.tree import (
    Cache,
    CacheSeal,
    ClientSettings,
    Credential,
    FreshnessSettings,
    Log,
    Settings,
)

__all__ = [
    "ALIAS_PATTERN",
    "Address",
    "Cache",
    "CacheSeal",
    "ClientSettings",
    "Credential",
    "FreshnessSettings",
    "Log",
    "Settings",
    "SettingsError",
    "folder_fault",
    "hide_password",
    "load",
    "proxy_fault",
    "read_tree",
    "seal_gap",
    "secret_from_environment",
    "state_folder",
]

ENVIRONMENT_PREFIX = "GATEWAY__"


class SettingsError(Exception):
    """The settings cannot be run. `mistakes` holds one line each: the key, a colon, what is wrong."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


def read_tree(tree: Mapping[str, Any]) -> Settings:
    """Settings out of a plain tree.

    Raises:
        SettingsError: with all mistakes of form, or else all mistakes between keys.
    """
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError([_line(row["loc"], row["type"], row["msg"]) for row in error.errors()]) from None
    mistakes = [f"{key}: {text}" for key, text in cross_checks(settings)]
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings in the file, with the environment's on top.

    Args:
        path: a YAML file; None takes `GATEWAY_CONFIG`, and without that the environment alone.
        environ: `GATEWAY__SECTION__KEY` variables are read as YAML scalars or flow collections.

    Raises:
        SettingsError: the file is unreadable, or the settings hold mistakes.
    """
    if path is None and "GATEWAY_CONFIG" in environ:
        path = Path(environ["GATEWAY_CONFIG"])
    tree = _read_file(path) if path is not None else {}
    for name, text in sorted(environ.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            _lay_over(tree, name, text)
    return read_tree(tree)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{path}: {error.strerror}"]) from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: not YAML: {_first_line(error)}"]) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError([f"{path}: needs to be a mapping of settings"])
    return tree


def _first_line(error: Exception) -> str:
    # The parser's own words quote the file, and what they quote may be a secret.
    problem = "a key is written twice" if isinstance(error, DuplicateKeyError) else "it cannot be parsed"
    revision = getattr(error, "problem_mark", None)
    where = f" (line {revision.line + 1})" if revision is not None else ""
    return f"{problem}{where}"


def _lay_over(tree: dict[str, Any], name: str, text: str) -> None:
    *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).split("__")
    for part in sections:
        section = _key_meant(tree, part)
        if tree.get(section) is None:
            tree[section] = {}
        inner = tree[section]
        if not isinstance(inner, dict):
            raise SettingsError([f"{name}: {section} is no section"])
        tree = inner
    try:
        tree[_key_meant(tree, key)] = YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        raise SettingsError([f"{name}: not a YAML value"]) from None


def _key_meant(tree: Mapping[str, Any], part: str) -> str:
    """The key that a part of a variable's name stands for: one that is there, in whatever case, or a new one."""
    there = next((key for key in tree if str(key).lower() == part.lower()), None)
    if there is not None:
        return there
    return part.lower() if part.isupper() else part


def _line(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(str(part) for part in location if part != "[key]") or "settings"
    match kind:
        case "extra_forbidden":
            return f"{key}: unknown key"
        case "missing":
            return f"{key}: missing"
        case _:
            return f"{key}: {message.removeprefix('Value error, ')}"
