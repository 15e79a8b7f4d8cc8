"""Tokens for the platform, out of secrets that may change while we run.

The platform takes a raw JWT whose `appId` claim names the client. Signing costs 28 us (HS256) to 700 us (RS256), so a
token is reused to half its life, by the machine's clock and by one that nobody sets, unless the platform enforces
single use (`jti`). One that was refused is never sent again.
"""

import codecs
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jwt

_log = logging.getLogger(__name__)

ISSUED_BEFORE_SECONDS = 5
"""How far `iat` stands back: a strict verifier whose clock is behind takes no token from the future."""
LOOK_SECONDS = 1.0
"""How often a secret's file is looked at for a change, at most."""


class Secret:
    """Bytes in a file that may be replaced at any time, or fixed ones."""

    def __init__(self, source: Path | bytes) -> None:
        """Reads the secret.

        Raises:
            OSError: the file cannot be read.
        """
        self._path = source if isinstance(source, Path) else None
        self._value = source if isinstance(source, bytes) else read_secret(source)
        self._seen = self._stamp()
        self._looked = time.monotonic()
        self.version = 1
        """Rises with each new value."""

    def _stamp(self) -> tuple[int, ...]:
        if self._path is None:
            return ()
        found = self._path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def value(self) -> bytes:
        """The newest secret known."""
        if self._path is not None and time.monotonic() - self._looked >= LOOK_SECONDS:
            self.look()
        return self._value

    def look(self) -> None:
        """Reads the file again if it changed. An unreadable or empty one keeps the last good secret."""
        if self._path is None:
            return
        self._looked = time.monotonic()
        try:
            stamp = self._stamp()
            if stamp == self._seen:
                return
            value = read_secret(self._path)
        except OSError as error:
            _log.warning(
                "secret file %s cannot be read (%s): the previous secret stays in use", self._path, error.strerror
            )
            return
        self._seen = stamp
        if value and value != self._value:
            self._value = value
            self.version += 1
            _log.info("secret file %s changed: version %d is in use", self._path, self.version)


def read_secret(path: Path) -> bytes:
    """What the file holds without what editors and shells leave around it: white space, a mark, another encoding.

    Raises:
        OSError: the file cannot be read.
    """
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raw = raw.decode("utf-16", "replace").encode()
    return raw.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\0")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says."""

    app_id: str
    subject: str
    lifetime: float
    """Seconds from `iat` to `exp`."""
    is_single_use: bool
    """Whether each token carries a `jti` and is used for one call."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """For whom tokens are encrypted (JWE): the platform's public key."""

    public_key: Secret
    key_id: str
    alg: str
    enc: str


class Signer:
    """Mints tokens for one credential."""

    def __init__(
        self,
        claims: Claims,
        algorithm: str,
        secret: Secret,
        recipient: Recipient | None = None,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._algorithm = algorithm
        self._recipient = recipient
        self._keys = (secret,) if recipient is None else (secret, recipient.public_key)
        self._clock = clock
        self._steady = steady
        self._good_keys: tuple[bytes, ...] = ()
        self._token = ""
        self._token_of = 0
        self._minted_at = 0.0
        self._reuse_until = 0.0
        """On the steady clock."""

    @property
    def version(self) -> int:
        """The number of the keys that sign, and encrypt, now."""
        return sum(key.version for key in self._keys)

    def renew(self, version: int) -> bool:
        """Whether a key is, on looking again, another than in `version`, whose token was refused."""
        for key in self._keys:
            key.look()
        self._reuse_until = 0.0
        return self.version != version

    def token(self) -> str:
        """A token that is good for one call from now.

        Raises:
            ValueError: the key cannot sign.
        """
        keys, now = tuple(key.value for key in self._keys), self._clock()
        half = 0.0 if self._claims.is_single_use else self._claims.lifetime / 2
        # Set back, the machine's clock would have a token from the future used until it is one of the past.
        is_of_now = self._minted_at <= now < self._minted_at + half and self._steady() < self._reuse_until
        if self._token_of != self.version or not is_of_now:
            self._token = self._mint_with_best(keys, int(now) - ISSUED_BEFORE_SECONDS)
            self._token_of, self._minted_at, self._reuse_until = self.version, now, self._steady() + half
        return self._token

    def _mint_with_best(self, keys: tuple[bytes, ...], issued_at: int) -> str:
        try:
            token = self._mint(keys, issued_at)
        except (ValueError, TypeError):
            # A file caught while it was being written, perhaps: what signed before signs on.
            if not self._good_keys:
                raise
            _log.warning("secret version %d cannot sign: the previous version stays in use", self.version)
            return self._mint(self._good_keys, issued_at)
        self._good_keys = keys
        return token

    def _mint(self, keys: tuple[bytes, ...], issued_at: int) -> str:
        claims: dict[str, object] = {
            "appId": self._claims.app_id,
            "sub": self._claims.subject,
            "iat": issued_at,
            "exp": issued_at + int(self._claims.lifetime),
        }
        if self._claims.is_single_use:
            claims["jti"] = uuid.UUID(bytes=os.urandom(16), version=4).hex
        token = _sign(claims, keys[0], self._algorithm)
        return token if self._recipient is None else _encrypt(token, self._recipient, keys[1])


def _sign(claims: dict[str, object], key: bytes, algorithm: str) -> str:
    try:
        return jwt.encode(claims, key, algorithm=algorithm)
    except (jwt.PyJWTError, TypeError) as error:
        raise ValueError(str(error)) from error


def _encrypt(token: str, recipient: Recipient, public_key: bytes) -> str:
    # A heavy import that most installations never need.
    from joserfc import jwe  # noqa: PLC0415
    from joserfc.jwk import RSAKey  # noqa: PLC0415

    header = {"alg": recipient.alg, "enc": recipient.enc, "kid": recipient.key_id, "typ": "JWT", "cty": "JWT"}
    return jwe.encrypt_compact(header, token, RSAKey.import_key(public_key))
