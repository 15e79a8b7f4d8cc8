"""What `campaign-gateway check` finds: all that keeps a gateway from its start, or from its work."""

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from campaign_gateway.settings import (
    Mistake,
    Settings,
    SettingsError,
    certificate_checks,
    expired_keys,
    folder_fault,
    read_tree,
    seal_gap,
    source_of,
    state_folder,
    traces_fault,
    unused_proxy,
)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    settings: Settings | None
    """None where they cannot be read."""
    errors: list[Mistake]
    warnings: list[Mistake]
    """What works, and not as well as it could."""

    def printed_settings(self) -> Mapping[str, Any]:
        """The effective settings as they are written, secrets masked; empty where there are none."""
        return {} if self.settings is None else self.settings.model_dump(mode="json", exclude_none=True)

    def as_document(self) -> dict[str, Any]:
        """The report for programs."""
        rows = [("error", row) for row in self.errors] + [("warning", row) for row in self.warnings]
        return {
            "ok": not self.errors,
            "findings": [{"severity": severity, **row._asdict()} for severity, row in rows],
            "settings": self.printed_settings() or None,
        }


def examine(config: Path | None, *, is_offline: bool) -> Report:
    """What is wrong with the settings.

    Args:
        config: their file; None as `settings.load` has it.
        is_offline: whether only the settings themselves are looked at, and no secret, key, certificate or directory.
    """
    try:
        source = source_of(config)
    except SettingsError as error:
        return Report(None, error.mistakes, [])
    try:
        settings = read_tree(source.tree, with_files=not is_offline)
    except SettingsError as error:
        return Report(None, list(map(source.place, error.mistakes)), [])
    errors, warned = ([], []) if is_offline else _signing(settings)
    if not is_offline:
        errors += certificate_checks(settings, time.time())
        warned += of_this_machine(settings)
    warned += expired_keys(settings, datetime.now(UTC))
    if (gap := seal_gap(settings.cache)) is not None:
        warned.append(Mistake("cache.seal", gap, "write {key_file: ...}"))
    return Report(settings, list(map(source.place, errors)), list(map(source.place, warned)))


def _signing(settings: Settings) -> tuple[list[Mistake], list[Mistake]]:
    """Errors of keys that look good and cannot sign, and what the signing library warns of."""
    from campaign_gateway.app.build import build_signers  # noqa: PLC0415 - not where files are left out

    with warnings.catch_warnings(record=True, action="always") as warned:
        try:
            build_signers(settings.credentials)
        except SettingsError as error:
            return error.mistakes, []
    return [], [Mistake("credentials", str(warning.message), "use a longer secret") for warning in warned]


def of_this_machine(settings: Settings) -> Iterator[Mistake]:
    """What works, and not as well as it could, for what this machine has or lacks."""
    if (name := unused_proxy(settings)) is not None:
        yield Mistake("platform.proxy", f"{name} is set and not used for calls to the platform", "write platform.proxy")
    if (untraced := traces_fault()) is not None:
        yield Mistake(*untraced)
    if settings.cache.url == "memory://":
        folder = state_folder(settings.cache)
        fault = "there is no state directory" if folder is None else folder_fault(folder)
        if fault is not None:
            problem = f"{fault}, so a restart loses the calls of the window"
            yield Mistake("cache.state_dir", problem, "name a directory that this user may write")
