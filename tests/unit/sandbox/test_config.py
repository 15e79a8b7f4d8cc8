from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from campaign_gateway.sandbox.config import SandboxConfig, Stream
from campaign_gateway.sandbox.platform import Sandbox


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"host": ""}, "an address or a name"),
        ({"algorithm": "none"}, "one of HS256, HS512, RS256, RS512"),
        ({"algorithm": "RS256"}, "needs public_key"),
        ({"enforce_jwe": True}, "needs decryption_key"),
        ({"limit_form": "hang"}, "limit_form"),
        ({"calls": -1}, "calls"),
        ({"window_seconds": 0}, "window_seconds"),
        ({"page_rows": 0}, "page_rows"),
        ({"streams": (Stream("st-1", "1"), Stream("st-1", "2"))}, "ids of their own"),
        ({"stream_id": "st-1", "streams": (Stream("st-1", "1"),)}, "ids of their own"),
    ],
)
def test_nonsense_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        SandboxConfig(**settings)


def test_secrets_are_not_shown():
    assert "s3cret" not in repr(SandboxConfig(secret="s3cret"))


def pem_of(key, *, password=None):
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection).decode()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return private, public


def test_keys_are_checked_at_once():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = pem_of(key)
    encrypted, _ = pem_of(key, password=b"x")
    other_private, other_public = pem_of(ec.generate_private_key(ec.SECP256R1()))
    assert SandboxConfig(algorithm="RS256", public_key=public, decryption_key=private).public_key == public
    for name, bad in (
        ("public_key", (private, other_public, "rubbish")),
        ("decryption_key", (public, encrypted, other_private, "rubbish")),
    ):
        for pem in bad:
            given: dict[str, Any] = {name: pem}
            with pytest.raises(ValueError, match=f"^{name} must be an RSA key in PEM$"):
                SandboxConfig(**given)


def test_a_sandbox_that_does_not_serve_has_no_url():
    with pytest.raises(RuntimeError):
        _ = Sandbox().url


def test_a_seed_fixes_the_campaigns(clock):
    def ids(**settings):
        return [campaign.id for campaign in Sandbox(SandboxConfig(**settings), now=clock).campaigns.all()]

    assert ids() == ids()
    assert ids() == ids(streams=(Stream("st-2", "2"),))
    assert ids() != ids(seed=2)
    assert ids(campaigns=20)[:12] == ids()
    assert ids(campaigns=0) == []


async def test_a_sandbox_can_serve_twice(clock):
    sandbox = Sandbox(now=clock)
    for _ in range(2):
        async with sandbox:
            assert sandbox.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("localhost", "127.0.0.1")])
async def test_where_it_is_reached_from_the_same_machine(clock, host, shown):
    async with Sandbox(SandboxConfig(host=host), now=clock) as sandbox:
        assert sandbox.url.startswith(f"http://{shown}:")


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind(clock):
    async with Sandbox(now=clock) as first:
        second = Sandbox(SandboxConfig(port=int(first.url.rpartition(":")[2])), now=clock)
        with pytest.raises(OSError):
            await second.start()
        await second.stop()
