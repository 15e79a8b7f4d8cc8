"""What can be looked at without a connection: the settings, the files that they name, and what is in these."""

import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from campaign_gateway.app.build import build_signers
from campaign_gateway.check import of_this_machine
from campaign_gateway.doctor.findings import Check, Finding, error, ok, skipped, warning
from campaign_gateway.settings import (
    Mistake,
    Settings,
    SettingsError,
    Source,
    certificate_checks,
    certificates_of,
    expired_keys,
    file_checks,
    hide_password,
    read_tree,
    source_of,
)


def read_settings(config: Path | None) -> tuple[Settings | None, Source, list[Finding]]:
    """The settings, without a look at the files that they name; None where they hold mistakes."""
    source = Source()
    try:
        source = source_of(config)
        settings = read_tree(source.tree, with_files=False)
    except SettingsError as failure:
        return None, source, [_error(Check.SETTINGS, source.place(mistake)) for mistake in failure.mistakes]
    found = [ok(Check.SETTINGS, _name_of(source), _summary(settings))]
    found += [_warning(Check.SETTINGS, source.place(mistake)) for mistake in of_this_machine(settings)]
    found += [_warning(Check.SETTINGS, source.place(mistake)) for mistake in expired_keys(settings, datetime.now(UTC))]
    return settings, source, found


def look_at_files(settings: Settings, source: Source) -> tuple[list[Finding], frozenset[str]]:
    """What is in the files that the settings name, and the keys whose files or certificates are of no use."""
    mistakes = list(file_checks(settings))
    broken = {mistake.key for mistake in mistakes}
    found = [_error(Check.FILES, source.place(mistake)) for mistake in mistakes]
    if not mistakes:
        found.append(ok(Check.FILES, "secrets, keys, certificates", "can be used"))
    signing, unsigned = _sign(settings, source, frozenset(broken))
    expired = list(certificate_checks(settings, time.time()))
    found += [*signing, *(_error(Check.CERTIFICATES, source.place(mistake)) for mistake in expired)]
    if not expired and (count := len(certificates_of(settings))):
        found.append(ok(Check.CERTIFICATES, f"{count} of these settings", "valid now"))
    return found, frozenset(broken | unsigned | {mistake.key for mistake in expired})


def _sign(settings: Settings, source: Source, broken: frozenset[str]) -> tuple[list[Finding], set[str]]:
    """Signs once with each credential whose files are of use."""
    found, failed = [], set()
    for name, credential in settings.credentials.items():
        key = f"credentials.{name}"
        if is_broken(broken, key):
            found.append(skipped(Check.SIGNING, key, "its key cannot be used"))
            continue
        with warnings.catch_warnings(record=True, action="always") as warned:
            try:
                build_signers({name: credential})
            except SettingsError as failure:
                failed.add(key)
                found += [_error(Check.SIGNING, source.place(mistake)) for mistake in failure.mistakes]
                continue
        said = [Mistake(key, str(one.message), "use a longer secret") for one in warned]
        found += [_warning(Check.SIGNING, source.place(mistake)) for mistake in said]
        if not said:
            found.append(ok(Check.SIGNING, key, f"signs with {credential.algorithm}"))
    return found, failed


def is_broken(keys: frozenset[str], section: str) -> bool:
    """Whether one of these keys is in the section."""
    return any(key == section or key.startswith(f"{section}.") for key in keys)


def _error(check: Check, mistake: Mistake) -> Finding:
    return error(check, _place(mistake), mistake.problem, mistake.advice)


def _warning(check: Check, mistake: Mistake) -> Finding:
    return warning(check, _place(mistake), mistake.problem, mistake.advice)


def _place(mistake: Mistake) -> str:
    return str(mistake._replace(problem="", advice=""))


def _name_of(source: Source) -> str:
    return "environment" if source.path is None else str(source.path)


def _summary(settings: Settings) -> str:
    streams, credentials = len(settings.streams), len(settings.credentials)
    parts = [f"{streams} stream{'s'[: streams > 1]}", f"{credentials} credential{'s'[: credentials > 1]}"]
    return ", ".join([*parts, f"platform {settings.platform.url}", f"cache {hide_password(settings.cache.url)}"])
