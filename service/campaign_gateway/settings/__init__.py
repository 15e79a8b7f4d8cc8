"""The gateway's settings: one frozen tree, validated whole at start, from a YAML file and the environment.

Nothing else reads the environment, and nothing here keeps a secret: settings name the file or variable that holds one.
`load` either returns settings that can be run or raises every mistake it found, each of which is one line.
"""

import copy
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from campaign_gateway.settings.checks import (
    cross_checks,
    expired_keys,
    folder_fault,
    seal_gap,
    state_folder,
    traces_fault,
    unused_proxy,
    wants_traces,
)
from campaign_gateway.settings.files import (
    certificate_checks,
    certificates_of,
    file_checks,
    pasted_secrets,
    secret_from_environment,
    validity_of,
)
from campaign_gateway.settings.mistakes import Mistake, SettingsError, explain, unknown_keys, without_echoes
from campaign_gateway.settings.reload import differing
from campaign_gateway.settings.scalars import ALIAS_PATTERN, Address, hide_password
from campaign_gateway.settings.source import Source, read_source
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
    "Mistake",
    "Settings",
    "SettingsError",
    "SettingsFile",
    "Source",
    "certificate_checks",
    "certificates_of",
    "differing",
    "expired_keys",
    "file_checks",
    "folder_fault",
    "hide_password",
    "load",
    "read_source",
    "read_tree",
    "seal_gap",
    "secret_from_environment",
    "source_of",
    "state_folder",
    "traces_fault",
    "unused_proxy",
    "validity_of",
    "wants_traces",
]


def read_tree(tree: Mapping[str, Any], *, with_files: bool = True) -> Settings:
    """Settings out of a plain tree.

    Args:
        tree: as YAML has it.
        with_files: whether secrets, keys and certificates are looked at too.

    Raises:
        SettingsError: all mistakes of form, or else all between keys and in files. Unknown keys hide none.
    """
    unknown: list[Mistake] = []
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        mistakes, places = explain(error), unknown_keys(error)
        if places is None:
            raise SettingsError(without_echoes(mistakes)) from None
        unknown, settings = mistakes, Settings.model_validate(_without(tree, places))
    mistakes = [*unknown, *cross_checks(settings), *pasted_secrets(settings)]
    if with_files:
        mistakes += file_checks(settings)
    if mistakes:
        raise SettingsError(without_echoes(mistakes))
    return settings


def _without(tree: Mapping[str, Any], places: list[tuple[int | str, ...]]) -> Mapping[str, Any]:
    tree = copy.deepcopy(tree)
    for *sections, key in places:
        section: Any = tree
        for part in sections:
            section = section[part]
        del section[key]
    return tree


def load(path: Path | None, environ: Mapping[str, str] = os.environ, *, with_files: bool = True) -> Settings:
    """The settings in the file, with the environment's on top.

    Args:
        path: a YAML file; None takes `GATEWAY_CONFIG`, and without that the environment alone.
        environ: `GATEWAY__SECTION__KEY` variables are read as YAML scalars or flow collections.
        with_files: whether secrets, keys and certificates are looked at too.

    Raises:
        SettingsError: the file is unreadable, or the settings hold mistakes; each with the place where it is written.
    """
    source = source_of(path, environ)
    try:
        return read_tree(source.tree, with_files=with_files)
    except SettingsError as error:
        raise SettingsError([source.place(mistake) for mistake in error.mistakes]) from None


def source_of(path: Path | None, environ: Mapping[str, str] = os.environ) -> Source:
    """What `load` reads.

    Raises:
        SettingsError: the file or a variable cannot be read.
    """
    return read_source(_path_of(path, environ), environ)


def _path_of(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    return Path(environ["GATEWAY_CONFIG"]) if path is None and environ.get("GATEWAY_CONFIG") else path


class SettingsFile:
    """The settings as they are written, which may be read again: `load` with the arguments of the constructor."""

    def __init__(self, path: Path | None, environ: Mapping[str, str] = os.environ) -> None:
        self._path, self._environ = _path_of(path, environ), environ
        self.read_first = self.digest()
        """The digest of what the first `load` reads, or of what was there just before that."""

    def digest(self) -> bytes | None:
        """One of the file's content; None where there is no file, or it cannot be read."""
        try:
            return None if self._path is None else hashlib.sha256(self._path.read_bytes()).digest()
        except OSError:
            return None

    def load(self) -> Settings:
        """See `load`."""
        return load(self._path, self._environ)
