"""Binds what is kept outside this process to its name there: without the key nobody can make it, alter it or move it.

A sealed value is a version byte, four bytes that name the key, and the payload behind a tag, which is HMAC-SHA256 over
the name and the payload, cut to 16 bytes; or else the payload in AES-256-GCM, with the name as associated data. Opening
is total: whatever is not a sealed value of that name is refused with a reason, never an error and never a wrong one.

Keys are derived from secrets (HKDF, RFC 5869), one for each purpose and form, so that what is sealed for one can never
stand for another. With no secret the keys are derived from nothing. They are public then, and a tag finds what was
moved or damaged, but not what somebody made up.

A seal does not say when: a value that was sealed earlier can be put back under its own name.
"""

import hmac
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from typing_extensions import override

VERSION = b"\x05"
"""Raised when the form changes; replicas of both versions may then share one Redis during a roll-out."""

_SALT = b"campaign-gateway"
_ID_BYTES = 4
_KEY_BYTES = 32
_TAG_BYTES = 16
_NONCE_BYTES = 12
_START = len(VERSION) + _ID_BYTES
_LENGTH = struct.Struct(">I")


class Refusal(StrEnum):
    """Why a value is none."""

    VERSION = "version"
    """Another release's form, or another program's bytes."""
    KEY = "key"
    """Sealed with a key that this process does not have."""
    ALTERED = "altered"
    """Moved to another name, damaged, or made up."""
    FORM = "form"
    """Rightly sealed, and not what it should be."""


@dataclass(frozen=True, slots=True)
class Seals:
    """What all seals of a process have in common."""

    secrets: Callable[[], tuple[bytes, ...]] = tuple
    """The secrets at this moment: the first one seals, all of them open. They may change at any time."""
    is_encrypted: bool = False
    on_refused: Callable[[Refusal], None] = lambda _: None
    """Called for each value that is refused."""


NO_SECRET = Seals()
"""Seals whose keys everybody can derive."""


class _Lock(Protocol):
    """One key, in one form."""

    def close(self, payload: bytes, name: bytes) -> bytes: ...

    def open(self, data: memoryview, name: bytes) -> memoryview | bytes | None: ...


class Seal:
    """Seals values of one purpose."""

    def __init__(self, purpose: str, seals: Seals) -> None:
        self._purpose = purpose
        self._seals = seals
        self._secrets: tuple[bytes, ...] | None = None
        self._locks: dict[bytes, _Lock] = {}
        """By the bytes that name the key; the first one seals."""

    def close(self, payload: bytes, name: str) -> bytes:
        """The payload, sealed for this name."""
        id_, lock = next(iter(self._current().items()))
        return VERSION + id_ + lock.close(payload, name.encode())

    def open(self, data: bytes, name: str) -> memoryview | bytes | None:
        """The payload that was sealed for this name; None for anything else, which is counted."""
        payload, reason = None, Refusal.VERSION
        if data.startswith(VERSION):
            lock, reason = self._current().get(data[len(VERSION) : _START]), Refusal.KEY
            if lock is not None:
                payload, reason = lock.open(memoryview(data)[_START:], name.encode()), Refusal.ALTERED
        if payload is None:
            self.refuse(reason)
        return payload

    def refuse(self, reason: Refusal) -> None:
        """Counts a value that is none."""
        self._seals.on_refused(reason)

    def _current(self) -> dict[bytes, _Lock]:
        secrets = self._seals.secrets()
        if secrets != self._secrets:
            self._locks = dict(self._made_of(secrets or (b"",)))
            self._secrets = secrets
        return self._locks

    def _made_of(self, secrets: tuple[bytes, ...]) -> Iterator[tuple[bytes, _Lock]]:
        # Where values are encrypted, those from before are read as well: they cannot be made without the key either.
        for form in (_Cipher, _Tag) if self._seals.is_encrypted else (_Tag,):
            for secret in secrets:
                derived = derive(secret, f"{self._purpose} {form.FORM}")
                yield derived[_KEY_BYTES : _KEY_BYTES + _ID_BYTES], form(derived[:_KEY_BYTES])


class _Tag(_Lock):
    FORM = "tag"

    def __init__(self, key: bytes) -> None:
        self._mac = hmac.new(key, digestmod="sha256")

    @override
    def close(self, payload: bytes, name: bytes) -> bytes:
        return self._sign(payload, name) + payload

    @override
    def open(self, data: memoryview, name: bytes) -> memoryview | None:
        tag, payload = data[:_TAG_BYTES], data[_TAG_BYTES:]
        return payload if hmac.compare_digest(tag, self._sign(payload, name)) else None

    def _sign(self, payload: bytes | memoryview, name: bytes) -> bytes:
        mac = self._mac.copy()
        # The length first: no name's end can pass for a payload's beginning.
        mac.update(_LENGTH.pack(len(name)) + name)
        mac.update(payload)
        return mac.digest()[:_TAG_BYTES]


class _Cipher(_Lock):
    FORM = "cipher"

    def __init__(self, key: bytes) -> None:
        # Only for those who encrypt: it takes a tenth of a cold start.
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        self._aead, self._failures = AESGCM(key), (InvalidTag, ValueError)

    @override
    def close(self, payload: bytes, name: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, payload, name)

    @override
    def open(self, data: memoryview, name: bytes) -> bytes | None:
        try:
            return self._aead.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], name)
        except self._failures:
            return None


def derive(secret: bytes, info: str) -> bytes:
    """64 bytes out of a secret, for one use: HKDF-SHA512, of which one block is enough."""
    extracted = hmac.digest(_SALT, secret, "sha512")
    return hmac.digest(extracted, info.encode() + b"\x01", "sha512")
