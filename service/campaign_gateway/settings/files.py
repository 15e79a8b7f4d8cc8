"""What the settings' files and variables hold: secrets, keys and certificates that nothing can be done with.

Looked at before a start, and by `check`, but not where only the settings themselves are to hand (`check --offline`).
"""

import base64
import os
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from campaign_gateway.settings.mistakes import Mistake
from campaign_gateway.settings.tree import Section, Settings

LEAST_SECRET_BYTES = 8
"""Less than RFC 7518 section 3.2 wants, since the platform chooses the length; a search finds what is shorter."""
LEAST_SEAL_KEY_BYTES = 16
MOST_WEBHOOK_SECRETS = 2
LEAST_RSA_BITS = 2_048
"""RFC 7518 section 3.3."""

_Fault = tuple[str, str]
"""What is wrong, and what to do."""


def secret_from_environment(name: str) -> str:
    """The value of a variable that `client_secret_env` names; empty when it is not set."""
    return os.environ.get(name, "").strip()


def files_of(settings: Settings) -> list[tuple[str, Path]]:
    """Each key that names a file, and the file; a key that names several stands there several times."""
    return list(_files_in("", settings))


def _files_in(key: str, value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Section | dict):
        for name, inner in value.items() if isinstance(value, dict) else value:
            yield from _files_in(f"{key}.{name}" if key else name, inner)
    elif key.endswith("_file"):
        yield from ((key, path) for path in (value if isinstance(value, tuple) else [value]) if path is not None)


def file_checks(settings: Settings) -> Iterator[Mistake]:
    """Each file or variable that nothing can be done with."""
    files = [(key, path) for key, path in files_of(settings) if str(path).isprintable()]
    unreadable = set()
    for key, path in files:
        if fault := _file_fault(path) or _content_fault(key, path):
            unreadable.add(key)
            yield Mistake(key, *fault)
    named = dict(files)
    for key, path in named.items():
        section = key.removesuffix("cert_file")
        if section != key and unreadable.isdisjoint({key, f"{section}key_file"}):
            fault = _identity_fault(path, named.get(f"{section}key_file"))
            if fault is not None:
                yield Mistake(key, *fault)
    for name, credential in settings.credentials.items():
        if credential.client_secret_env is not None:
            secret = secret_from_environment(credential.client_secret_env)
            # What is no name may be the secret itself.
            is_name = re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", credential.client_secret_env)
            variable = credential.client_secret_env if is_name else "the variable that it names"
            unset = (f"{variable} is not set", "set it, or name another variable")
            if fault := unset if not secret else _secret_fault(secret.encode()):
                yield Mistake(f"credentials.{name}.client_secret_env", *fault)
        if credential.jwe is not None and find_spec("joserfc") is None:
            advice = "pip install 'campaign-gateway[jwe]'"
            yield Mistake(f"credentials.{name}.jwe", "needs a package that is not installed", advice)


def pasted_secrets(settings: Settings) -> Iterator[Mistake]:
    """Each key whose file's name can be none, but is what the file should hold: a key with its line ends."""
    for key, path in files_of(settings):
        if not str(path).isprintable():
            yield Mistake(key, "is not the path of a file", "write the path of a file that holds it")


def _file_fault(path: Path) -> _Fault | None:
    try:
        empty = not path.read_bytes().strip()
    except OSError as error:
        looks_like_path = path.is_absolute() or (len(path.parts) > 1 and path.parent.is_dir())
        # What is no path may be the secret itself.
        name = str(path) if looks_like_path else "the file that it names"
        return f"{name} cannot be read ({error.strerror})", "name a file that this user may read"
    return (f"{path} is empty", "write into it what the key is to hold") if empty else None


def _content_fault(key: str, path: Path) -> _Fault | None:
    fault_of = next((fault_of for end, fault_of in _FAULTS.items() if key.endswith(end)), None)
    return None if fault_of is None else fault_of(path)


def _secret_fault(secret: bytes) -> _Fault | None:
    """Why this can be no shared secret; None when it can."""
    advice = "use the client secret that the platform shows for the JWT app"
    if b"-----BEGIN" in secret:
        return "is a PEM key: it cannot be a shared secret", advice
    if secret.lstrip().startswith((b"ssh-", b"ecdsa-sha2-")):
        return "is a public key of SSH: it cannot be a shared secret", advice
    short = len(secret.strip()) < LEAST_SECRET_BYTES
    return (f"has fewer than {LEAST_SECRET_BYTES} bytes: whoever sees one token finds it", advice) if short else None


def _seal_key_fault(path: Path) -> _Fault | None:
    """Why nothing can be sealed with this; None when it can."""
    key, advice = path.read_bytes(), "write random characters, as `openssl rand -base64 32` makes them"
    if b"-----BEGIN" in key:
        return "is a PEM key, no key for a seal", advice
    short = len(key.strip()) < LEAST_SEAL_KEY_BYTES
    return (f"has fewer than {LEAST_SEAL_KEY_BYTES} bytes: a search finds what is shorter", advice) if short else None


def _webhook_secret_fault(path: Path) -> _Fault | None:
    """Why deliveries cannot be signed with this; None when they can."""
    lines = [line.strip() for line in path.read_bytes().splitlines() if line.strip()]
    advice = "write `whsec_` and what `openssl rand -base64 32` prints, in one line"
    if len(lines) > MOST_WEBHOOK_SECRETS:
        return "has more than two secrets, one a line", "write one, or two while it is replaced"
    for line in lines:
        key = line
        if line.startswith(b"whsec_"):
            try:
                key = base64.b64decode(line.removeprefix(b"whsec_"), validate=True)
            except ValueError:
                return "has a line that is no base64 after `whsec_`", advice
        if len(key) < LEAST_SEAL_KEY_BYTES:
            return f"has fewer than {LEAST_SEAL_KEY_BYTES} bytes: a search finds what is shorter", advice
    return None


def _private_key_fault(path: Path) -> _Fault | None:
    if b"PUBLIC KEY" in path.read_bytes():
        return "is a public key: it signs nothing", "name the private key's file"
    return _key_fault(path)


def _key_fault(path: Path) -> _Fault | None:
    """Why this key of a pair can sign or encrypt nothing, or nothing that is worth it; None when it can."""
    # Only for those who have a key pair: it takes a tenth of a cold start.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey  # noqa: PLC0415

    key, advice = path.read_bytes(), f"use an RSA key of {LEAST_RSA_BITS} bits in PEM, without a password"
    try:
        is_public = b"PUBLIC KEY" in key
        found = serialization.load_pem_public_key(key) if is_public else serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return "is no PEM key that can be read", advice
    if not isinstance(found, RSAPrivateKey | RSAPublicKey):
        return "is no RSA key", advice
    return (
        (f"has {found.key_size} bits, and needs {LEAST_RSA_BITS}", advice) if found.key_size < LEAST_RSA_BITS else None
    )


def _authorities_fault(path: Path) -> _Fault | None:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return f"{path} holds no certificate in PEM", "name the file with the authorities' certificates"
    return None


def _identity_fault(cert: Path, key: Path | None) -> _Fault | None:
    """Why the certificate and its key cannot be shown; None when they can. The key may be in the certificate's file."""
    try:
        # A key with a password would ask for it at the terminal.
        ssl.create_default_context().load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        problem = f"and its key cannot be used ({error.reason or 'not PEM, or with a password'})"
        return problem, "name a certificate and its own key, both in PEM, the key without a password"
    return None


_FAULTS: Mapping[str, Callable[[Path], _Fault | None]] = {
    "client_secret_file": lambda path: _secret_fault(path.read_bytes()),
    "private_key_file": _private_key_fault,
    "public_key_file": _key_fault,
    "seal.key_file": _seal_key_fault,
    ".secret_file": _webhook_secret_fault,
    "ca_file": _authorities_fault,
}
"""By the end of the key."""


class Validity(NamedTuple):
    """When a file of certificates is good, in seconds since 1970."""

    begins: float
    ends: float


def certificates_of(settings: Settings) -> dict[str, Path]:
    """The files that hold certificates, by their keys."""
    return {key: path for key, path in files_of(settings) if key.endswith(("cert_file", "ca_file"))}


def validity_of(key: str, certificates: bytes) -> Validity:
    """When the certificates of a file are good.

    A chain is good while each of its certificates is; authorities are there for as long as one of them is good, since
    bundles keep those that are being replaced.

    Args:
        key: the one that names the file.
        certificates: what the file holds.

    Raises:
        ValueError: there are none in PEM.
    """
    # Only for those who have certificates, as the keys' loader.
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415

    found = load_pem_x509_certificates(certificates)
    begins = [one.not_valid_before_utc.timestamp() for one in found]
    ends = [one.not_valid_after_utc.timestamp() for one in found]
    return Validity(min(begins), max(ends)) if key.endswith("ca_file") else Validity(max(begins), min(ends))


def certificate_checks(settings: Settings, now: float) -> Iterator[Mistake]:
    """Each certificate that is not good now. No start is refused for it: what does not need it still works."""
    for key, path in certificates_of(settings).items():
        try:
            begins, ends = validity_of(key, path.read_bytes())
        except (OSError, ValueError):
            continue
        if ends <= now:
            yield Mistake(key, f"{path} expired on {_date(ends)}", "put a new certificate there")
        elif begins > now:
            yield Mistake(
                key, f"{path} is not valid before {_date(begins)}", "check its dates, and this machine's clock"
            )


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
