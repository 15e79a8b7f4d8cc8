"""Tokens: who is calling, decided in the platform's order and refused in the platform's words.

Signatures are checked here with the primitives alone, so that a mistake in the library that signs cannot hide in the
one that verifies.
"""

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from campaign_gateway.sandbox import answers
from campaign_gateway.sandbox.answers import RefusedError, bad_credentials

ALGORITHMS = ("HS256", "HS512", "RS256", "RS512")
SCOPE = "campaign_management"

# The claim that names the app: the first of these that the token has.
_CLIENT_ID_CLAIMS = ("appId", "kore_iss", "iss")

# The platform's bound for single-use tokens.
_JTI_LIFETIME_SECONDS = 3600.0

# Used ones are forgotten once expired; looked through only when there are this many.
_JTI_SWEEP_SIZE = 10_000

_SIGNED_PARTS = 3
_ENCRYPTED_PARTS = 5
_TOKEN = re.compile(r"[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*){2,4}")
_JWE_ALGORITHMS = ("RSA-OAEP", "A128CBC-HS256", "A128GCM", "A256GCM")

_HMACS = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}
_RSA_HASHES: dict[str, type[HashAlgorithm]] = {"RS256": SHA256, "RS512": SHA512}


@dataclass(slots=True)
class App:
    """A JWT app of the platform, as its owner configured it. Replacing `secret` at run time is a rotation.

    Attributes:
        client_id: `cs-...`, what tokens name.
        secret: The key of HS256 and HS512.
        algorithm: The one algorithm that the app accepts.
        public_key: PEM, the key of RS256 and RS512.
        scopes: What the app may call; without `campaign_management` nothing here.
        account_level: Made for the whole account: an unknown application is then a 400 instead of a 401.
        enforce_jti: Tokens without `jti` are refused. With one, they are single-use in any case.
        enforce_jwe: Tokens that are merely signed are refused.
        decryption_key: PEM, the platform's private RSA key; without it encrypted tokens are refused.
    """

    client_id: str
    secret: str
    algorithm: str = "HS256"
    public_key: str = ""
    scopes: frozenset[str] = frozenset({SCOPE})
    account_level: bool = False
    enforce_jti: bool = False
    enforce_jwe: bool = False
    decryption_key: str = ""


class Authenticator:
    """Verifies tokens for one app and remembers the single-use ones."""

    def __init__(self, app: App, *, now: Callable[[], float]) -> None:
        self.app = app
        self._now = now
        # Each used `jti` with the moment its token expires: after that, expiry refuses it anyway.
        self._used: dict[str, float] = {}

    def verify(self, token: str | None) -> dict[str, Any]:
        """The claims of a valid token; its `jti`, if any, is used up by this.

        Args:
            token: The header `auth`, None if it was not sent.

        Raises:
            RefusedError: In one of the platform's forms.
        """
        if not token:
            raise bad_credentials("no auth header")
        header, claims, signed, signature = self._open(token)
        client_id = next((claims[name] for name in _CLIENT_ID_CLAIMS if name in claims), None)
        if client_id != self.app.client_id:
            raise bad_credentials("appId, kore_iss or iss names no app")
        if header.get("alg") != self.app.algorithm:
            raise bad_credentials(f"the app accepts {self.app.algorithm} only")
        if not self._signature_fits(signed, signature):
            raise bad_credentials("wrong signature")
        self._check_times(claims)
        if SCOPE not in self.app.scopes:
            raise RefusedError(HTTPStatus.UNAUTHORIZED, answers.WRONG_SCOPE, answers.PLATFORM_REFUSAL_CODE)
        return claims

    def _open(self, token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
        if not _TOKEN.fullmatch(token):
            raise _not_a_token("not a JWT; a Bearer prefix is none of it")
        if token.count(".") == _ENCRYPTED_PARTS - 1:
            token = self._decrypt(token)
        elif self.app.enforce_jwe:
            raise bad_credentials("the app accepts encrypted tokens only")
        parts = token.split(".")
        if len(parts) != _SIGNED_PARTS:
            raise _not_a_token("a signed token has three parts")
        try:
            header, claims = (json.loads(_decoded(part)) for part in parts[:2])
            signature = _decoded(parts[2])
        except (ValueError, RecursionError) as error:
            raise _not_a_token("header or payload cannot be read") from error
        if not isinstance(header, dict) or not isinstance(claims, dict):
            raise _not_a_token("header and payload must be objects")
        return header, claims, f"{parts[0]}.{parts[1]}".encode(), signature

    def _decrypt(self, token: str) -> str:
        if not self.app.decryption_key:
            raise _not_a_token("encrypted tokens are not configured")
        # Imported late: few apps encrypt, and the library is not needed otherwise.
        from joserfc import jwe  # noqa: PLC0415
        from joserfc.errors import JoseError  # noqa: PLC0415
        from joserfc.jwk import RSAKey  # noqa: PLC0415

        try:
            key = RSAKey.import_key(self.app.decryption_key)
            opened = jwe.decrypt_compact(token, key, algorithms=_JWE_ALGORITHMS)
            return (opened.plaintext or b"").decode("ascii")
        except (JoseError, ValueError, KeyError) as error:
            raise bad_credentials("the encrypted token cannot be opened") from error

    def _signature_fits(self, signed: bytes, signature: bytes) -> bool:
        if self.app.algorithm in _HMACS:
            expected = hmac.digest(self.app.secret.encode(), signed, _HMACS[self.app.algorithm])
            return hmac.compare_digest(expected, signature)
        key = rsa_public_key(self.app.public_key)
        try:
            key.verify(signature, signed, PKCS1v15(), _RSA_HASHES[self.app.algorithm]())
        except InvalidSignature:
            return False
        return True

    def _check_times(self, claims: dict[str, Any]) -> None:
        now = self._now()
        expires = claims.get("exp")
        if expires is not None:
            if isinstance(expires, bool) or not isinstance(expires, int | float):
                raise bad_credentials("exp is not a number")
            if expires <= now:
                raise _verification_failed(answers.EXPIRED)
        jti = claims.get("jti", claims.get("kore_jti"))
        if jti is None:
            if self.app.enforce_jti:
                raise bad_credentials("the app accepts tokens with jti only")
            return
        if expires is None or expires > now + _JTI_LIFETIME_SECONDS:
            raise _verification_failed(answers.TOO_LONG_LIVED)
        self._use_up(str(jti), expires, now)

    def _use_up(self, jti: str, expires: float, now: float) -> None:
        if self._used.get(jti, 0.0) > now:
            raise _verification_failed(answers.REPLAYED)
        if len(self._used) >= _JTI_SWEEP_SIZE:
            self._used = {used: until for used, until in self._used.items() if until > now}
        self._used[jti] = expires


def rsa_public_key(pem: str) -> RSAPublicKey:
    """The key in a PEM text.

    Raises:
        ValueError: It is not an RSA public key in PEM.
    """
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey):
        raise ValueError("not an RSA key")  # noqa: TRY004 - the text is at fault, not its type
    return key


def rsa_private_key(pem: str) -> RSAPrivateKey:
    """The key in a PEM text, which must not be encrypted.

    Raises:
        ValueError: It is not an RSA private key in PEM.
    """
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except TypeError as error:
        raise ValueError("the key is encrypted") from error
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("not an RSA key")  # noqa: TRY004 - the text is at fault, not its type
    return key


def _decoded(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error


def _not_a_token(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.UNAUTHORIZED, answers.NOT_A_TOKEN, answers.PLATFORM_REFUSAL_CODE, reason=reason)


def _verification_failed(message: str) -> RefusedError:
    # These carry the HTTP status as their code, unlike every other refusal of a token.
    return RefusedError(HTTPStatus.UNAUTHORIZED, message)
