"""Keys that can sign and encrypt, for settings that name files of them."""

from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def _pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def invented_for(path: Path) -> bytes:
    """What a file of this name may hold: a key of a pair if it ends in `.pem`, else a secret of some length."""
    private, public = _pair()
    if path.suffix != ".pem":
        return b"an invented secret of some length"
    return public if "public" in path.stem else private
