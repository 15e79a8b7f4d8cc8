"""Mistakes that show only when two keys are held side by side, or a file is looked at."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from campaign_gateway.settings.tree import Cache, CacheSentinel, Credential, FreshnessSettings, Settings


def secret_from_environment(name: str) -> str:
    """The value of a variable that `client_secret_env` names; empty when it is not set."""
    return os.environ.get(name, "").strip()


def state_home() -> Path | None:
    """Where this user's programs keep what outlives them (XDG Base Directory Specification); None if nowhere."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    if named.is_absolute():
        return named
    try:
        return Path.home() / ".local" / "state"
    except RuntimeError:
        return None


def state_folder(cache: Cache) -> Path | None:
    """Where a gateway without Redis writes down what is to outlive it; None if nowhere."""
    if cache.state_dir is not None:
        return cache.state_dir
    home = state_home()
    return None if home is None else home / "campaign-gateway"


def folder_fault(folder: Path) -> str | None:
    """Why the folder cannot be written, or made; None if it can."""
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{above} is not a directory"
    return None if os.access(above, os.W_OK | os.X_OK) else f"{above} is not writable"


def cross_checks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each mistake as its key and what is wrong."""
    yield from _check_addresses(settings)
    for name, credential in settings.credentials.items():
        yield from _check_credential(f"credentials.{name}", credential)
    yield from _check_streams(settings)
    accounts = {stream.account_id for stream in settings.streams.values()}
    for account, budget in settings.budgets.items():
        if account != "default" and account not in accounts:
            yield f"budgets.{account}", "no stream has this account_id"
        if budget.reserved >= budget.calls:
            yield f"budgets.{account}.reserve", "must be below calls"
        if sum(budget.lanes.model_dump().values()) > 1:
            yield f"budgets.{account}.lanes", "the shares add up to more than 1"
    for name, client in settings.clients.items():
        for alias in sorted(client.streams - settings.streams.keys()):
            yield f"clients.{name}.streams", f"no stream is named {alias}"
    hashes = [client.key_sha256 for client in settings.clients.values()]
    for name, client in settings.clients.items():
        if hashes.count(client.key_sha256) > 1:
            yield f"clients.{name}.key_sha256", "another client has the same key"
    if settings.platform.connect_timeout > settings.platform.timeout:
        yield "platform.connect_timeout", "must not be above platform.timeout"
    if settings.workers > 1 and settings.cache.url == "memory://":
        yield (
            "workers",
            "more than 1 needs a Redis in cache.url, which shares budget, fills and invalidations",
        )
    yield from _check_cache(settings.cache)
    yield from _check_freshness(settings.freshness)


def _check_addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.listen == settings.admin_listen and settings.listen.port:
        yield "admin_listen", "must differ from listen"
    if not settings.clients and not settings.allow_anonymous and not settings.listen.is_loopback:
        yield "clients", "none are set: name some, or listen on loopback, or write allow_anonymous: true"


def _check_credential(key: str, credential: Credential) -> Iterator[tuple[str, str]]:
    secrets = {
        "client_secret_file": credential.client_secret_file,
        "client_secret_env": credential.client_secret_env,
        "private_key_file": credential.private_key_file,
    }
    required = {"client_secret_file", "client_secret_env"} if credential.is_symmetric else {"private_key_file"}
    given = {name for name, value in secrets.items() if value is not None}
    if len(given & required) != 1:
        yield key, f"{credential.algorithm} needs {' or '.join(sorted(required))}, and one only"
    for name in sorted(given - required):
        yield f"{key}.{name}", f"is not for {credential.algorithm}"
    if credential.client_secret_env is not None and not secret_from_environment(credential.client_secret_env):
        yield f"{key}.client_secret_env", f"{credential.client_secret_env} is not set"
    files = {name: value for name, value in secrets.items() if isinstance(value, Path)}
    if credential.jwe is not None:
        files["jwe.public_key_file"] = credential.jwe.public_key_file
    for name, path in files.items():
        fault_of = _secret_fault if name == "client_secret_file" else _key_fault
        if fault := _file_fault(path) or fault_of(path.read_bytes()):
            yield f"{key}.{name}", fault
    secret = credential.client_secret_env and secret_from_environment(credential.client_secret_env)
    if secret and (fault := _secret_fault(secret.encode())):
        yield f"{key}.client_secret_env", fault
    private = credential.private_key_file
    if private is not None and not _file_fault(private) and b"PUBLIC KEY" in private.read_bytes():
        yield f"{key}.private_key_file", "is a public key: it signs nothing"


def _secret_fault(secret: bytes) -> str | None:
    """Why this can be no shared secret; None when it can."""
    if b"-----BEGIN" in secret:
        return "is a PEM key: it cannot be a shared secret"
    short = len(secret.strip()) < LEAST_SECRET_BYTES
    return f"has fewer than {LEAST_SECRET_BYTES} bytes: whoever sees one token finds it" if short else None


def _key_fault(key: bytes) -> str | None:
    """Why this key of a pair can sign or encrypt nothing, or nothing that is worth it; None when it can."""
    # Only for those who have a key pair: it takes a tenth of a cold start.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey  # noqa: PLC0415

    try:
        is_public = b"PUBLIC KEY" in key
        found = serialization.load_pem_public_key(key) if is_public else serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        return f"is no PEM key that can be read: {error}"
    if not isinstance(found, RSAPrivateKey | RSAPublicKey):
        return "is no RSA key"
    return f"has {found.key_size} bits, and needs {LEAST_RSA_BITS}" if found.key_size < LEAST_RSA_BITS else None


LEAST_SECRET_BYTES = 8
"""Less than RFC 7518 section 3.2 wants, since the platform chooses the length; a search finds what is shorter."""
LEAST_RSA_BITS = 2_048
"""RFC 7518 section 3.3."""


def _check_cache(cache: Cache) -> Iterator[tuple[str, str]]:
    files = {"password_file": cache.password_file}
    if cache.tls is not None:
        files |= {f"tls.{name}": path for name, path in cache.tls}
        if not cache.url.startswith(("rediss://", "redis+sentinel://", "redis+cluster://")):
            yield "cache.tls", "is for rediss://, redis+sentinel:// and redis+cluster:// only"
    if cache.state_dir is not None:
        if cache.url != "memory://":
            yield "cache.state_dir", "is for memory:// only, because Redis stores the calls and the entries"
        elif not cache.state_dir.is_absolute():
            yield "cache.state_dir", "must be an absolute path, because the next start must find it from any directory"
    if cache.username is not None and cache.password_file is None:
        yield "cache.username", "needs cache.password_file"
    if cache.sentinel is not None:
        if not cache.url.startswith("redis+sentinel://"):
            yield "cache.sentinel", "is for redis+sentinel:// only"
        yield from _check_sentinel(cache.sentinel)
    yield from _check_files("cache", files)


def _check_sentinel(sentinel: CacheSentinel) -> Iterator[tuple[str, str]]:
    if sentinel.username is not None and sentinel.password_file is None:
        yield "cache.sentinel.username", "needs cache.sentinel.password_file"
    files = {"password_file": sentinel.password_file}
    if sentinel.tls is not None:
        files |= {f"tls.{name}": path for name, path in sentinel.tls}
    yield from _check_files("cache.sentinel", files)


def _check_files(section: str, files: Mapping[str, Path | None]) -> Iterator[tuple[str, str]]:
    for name, path in files.items():
        if path is not None and (fault := _file_fault(path)):
            yield f"{section}.{name}", fault


def _file_fault(path: Path) -> str | None:
    try:
        return None if path.read_bytes().strip() else f"{path} is empty"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def _check_streams(settings: Settings) -> Iterator[tuple[str, str]]:
    defaults = [alias for alias, stream in settings.streams.items() if stream.default]
    for alias in defaults[1:]:
        yield f"streams.{alias}.default", f"{defaults[0]} is the default already"
    for alias, stream in settings.streams.items():
        if stream.credential not in settings.credentials:
            yield f"streams.{alias}.credential", f"no credential is named {stream.credential}"


def _check_freshness(freshness: FreshnessSettings) -> Iterator[tuple[str, str]]:
    if freshness.min > freshness.max:
        yield "freshness.min", "must not be above freshness.max"
    for status, rule in freshness.status.items():
        if rule.min is not None and rule.max is not None and rule.min > rule.max:
            yield f"freshness.status.{status}.min", "must not be above its max"
