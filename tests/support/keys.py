"""Keys that can sign and encrypt, for settings that name files of them."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.tls import Authority


@cache
def _pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


@cache
def _certified() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        authority = Authority(Path(folder), "authority")
        identity = authority.issue("client")
        files = {"ca.crt": authority.file, "tls.crt": identity.cert_file, "tls.key": identity.key_file}
        return {name: path.read_bytes() for name, path in files.items()}


def invented_for(path: Path) -> bytes:
    """What a file of this name may hold.

    A certificate, its key and its authority by the names that Kubernetes has for them, a key of a pair if it ends in
    `.pem`, else a secret of some length.
    """
    private, public = _pair()
    if path.name in _certified():
        return _certified()[path.name]
    if path.suffix != ".pem":
        return b"an invented secret of some length"
    return public if "public" in path.stem else private
