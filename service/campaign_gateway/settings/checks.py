"""Mistakes that show only when two keys are held side by side, or a file is looked at."""

import os
import ssl
from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from campaign_gateway.settings.scalars import host_is_loopback
from campaign_gateway.settings.tree import (
    Cache,
    CacheSentinel,
    CacheTls,
    Credential,
    FreshnessSettings,
    ListenTls,
    Platform,
    Settings,
)


def secret_from_environment(name: str) -> str:
    """The value of a variable that `client_secret_env` names; empty when it is not set."""
    return os.environ.get(name, "").strip()


def proxy_fault(settings: Settings, environ: Mapping[str, str] = os.environ) -> str | None:
    """What is to be said of a proxy that only the environment names, for other programs; None if there is none."""
    names = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    is_direct = settings.platform.proxy is None and not host_is_loopback(settings.platform.url)
    name = next((name for name in names if is_direct and environ.get(name)), None)
    return None if name is None else f"{name} is set and not used for calls to the platform: set platform.proxy"


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


def seal_gap(cache: Cache) -> str | None:
    """What whoever can write to Redis can do for want of a key; None where there is one, or no Redis."""
    if cache.url == "memory://" or cache.seal is not None:
        return None
    return "no key_file: whoever can write to Redis can make up answers, and take calls out of the ledger"


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
    if settings.tls is not None:
        yield from _check_listen_tls(settings.tls, settings.clients.keys())
    yield from _check_platform(settings.platform)
    if settings.workers > 1 and settings.cache.url == "memory://":
        yield (
            "workers",
            "more than 1 needs a Redis in cache.url, which shares budget, fills and invalidations",
        )
    yield from _check_cache(settings.cache)
    yield from _check_freshness(settings.freshness)


def _check_addresses(settings: Settings) -> Iterator[tuple[str, str]]:
    if len(set(settings.listen)) < len(settings.listen):
        yield "listen", "names one address twice"
    if settings.admin_listen in settings.listen and settings.admin_listen.port:
        yield "admin_listen", "must differ from listen"
    is_private = all(address.is_loopback for address in settings.listen)
    if not settings.clients and not settings.allow_anonymous and not is_private:
        yield "clients", "none are set: name some, or listen on loopback, or write allow_anonymous: true"


def _check_listen_tls(tls: ListenTls, clients: Collection[str]) -> Iterator[tuple[str, str]]:
    files = {"cert_file": tls.cert_file, "key_file": tls.key_file, "client_ca_file": tls.client_ca_file}
    faults = {name: fault for name, path in files.items() if path is not None and (fault := _file_fault(path))}
    if not faults and (fault := _identity_fault(tls.cert_file, tls.key_file)):
        faults["cert_file"] = fault
    if tls.client_ca_file is not None and not faults and (fault := _authorities_fault(tls.client_ca_file)):
        faults["client_ca_file"] = fault
    for name, fault in faults.items():
        yield f"tls.{name}", fault
    if tls.client_names and tls.client_ca_file is None:
        yield "tls.client_names", "needs tls.client_ca_file"
    for name, client in tls.client_names.items():
        if client not in clients:
            yield f"tls.client_names.{name}", f"no client is named {client}"


def _check_platform(platform: Platform) -> Iterator[tuple[str, str]]:
    if platform.connect_timeout > platform.timeout:
        yield "platform.connect_timeout", "must not be above platform.timeout"
    is_clear = platform.url.startswith("http:")
    if is_clear and not platform.insecure and not host_is_loopback(platform.url):
        yield "platform.url", "would send tokens in clear text: use https://, or write platform.insecure: true"
    if platform.ca_file is not None and (fault := _authorities_fault(platform.ca_file)):
        yield "platform.ca_file", fault


def _authorities_fault(path: Path) -> str | None:
    if fault := _file_fault(path):
        return fault
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificate in PEM"
    return None


def _identity_fault(cert: Path, key: Path | None) -> str | None:
    """Why the certificate and its key cannot be shown; None when they can. The key may be in the certificate's file."""
    try:
        # A key with a password would ask for it at the terminal.
        ssl.create_default_context().load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        return f"and its key cannot be used ({error.reason or 'not PEM, or with a password'})"
    return None


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
        if find_spec("joserfc") is None:
            yield f"{key}.jwe", "needs a package that is not installed: pip install 'campaign-gateway[jwe]'"
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
    if secret.lstrip().startswith((b"ssh-", b"ecdsa-sha2-")):
        return "is a public key of SSH: it cannot be a shared secret"
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
LEAST_SEAL_KEY_BYTES = 16
LEAST_RSA_BITS = 2_048
"""RFC 7518 section 3.3."""


def _check_cache(cache: Cache) -> Iterator[tuple[str, str]]:
    files = {"password_file": cache.password_file}
    if cache.tls is not None:
        files |= {f"tls.{name}": path for name, path in cache.tls}
        if not cache.url.startswith(("rediss://", "redis+sentinel://", "redis+cluster://")):
            yield "cache.tls", "is for rediss://, redis+sentinel:// and redis+cluster:// only"
        if cache.tls.key_file is not None and cache.tls.cert_file is None:
            yield "cache.tls.key_file", "needs cache.tls.cert_file"
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
    yield from _check_files("cache", files, cache.tls)
    for path in cache.seal.files if cache.seal is not None else ():
        if fault := _file_fault(path) or _seal_key_fault(path.read_bytes()):
            yield "cache.seal.key_file", fault


def _check_sentinel(sentinel: CacheSentinel) -> Iterator[tuple[str, str]]:
    if sentinel.username is not None and sentinel.password_file is None:
        yield "cache.sentinel.username", "needs cache.sentinel.password_file"
    files = {"password_file": sentinel.password_file}
    if sentinel.tls is not None:
        files |= {f"tls.{name}": path for name, path in sentinel.tls}
    yield from _check_files("cache.sentinel", files, sentinel.tls)


def _check_files(section: str, files: Mapping[str, Path | None], tls: CacheTls | None) -> Iterator[tuple[str, str]]:
    faults = {name: fault for name, path in files.items() if path is not None and (fault := _file_fault(path))}
    if tls is not None and not faults:
        if tls.cert_file is not None and (fault := _identity_fault(tls.cert_file, tls.key_file)):
            faults["tls.cert_file"] = fault
        if tls.ca_file is not None and (fault := _authorities_fault(tls.ca_file)):
            faults["tls.ca_file"] = fault
    for name, fault in faults.items():
        yield f"{section}.{name}", fault


def _seal_key_fault(key: bytes) -> str | None:
    """Why nothing can be sealed with this; None when it can."""
    if b"-----BEGIN" in key:
        return "is a PEM key: a seal needs random characters, such as `openssl rand -base64 32` writes"
    short = len(key.strip()) < LEAST_SEAL_KEY_BYTES
    return f"has fewer than {LEAST_SEAL_KEY_BYTES} bytes: a search finds what is shorter" if short else None


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
