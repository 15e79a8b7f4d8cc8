import hashlib
import hmac
from collections import Counter

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.store.seal import NO_SECRET, VERSION, Refusal, Seal, Seals, derive

NAME, PAYLOAD = "cg:entry:{0}:a:one", b"a campaign"
OLD, NEW = b"the old key of 32 characters ...", b"the new key of 32 characters ..."


def seal_of(*secrets: bytes, is_encrypted: bool = False, purpose: str = "entry") -> tuple[Seal, Counter[Refusal]]:
    refused: Counter[Refusal] = Counter()
    return Seal(purpose, Seals(lambda: secrets, is_encrypted, lambda reason: refused.update([reason]))), refused


@given(st.binary(max_size=60), st.text(st.characters(codec="utf-8"), max_size=20))
@pytest.mark.parametrize("is_encrypted", [False, True])
@pytest.mark.parametrize("secrets", [(), (OLD,), (NEW, OLD)])
def test_what_is_sealed_is_opened(secrets: tuple[bytes, ...], is_encrypted: bool, payload: bytes, name: str):
    seal, refused = seal_of(*secrets, is_encrypted=is_encrypted)
    assert seal.open(seal.close(payload, name), name) == payload
    assert not refused


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_one_bit_turned_anywhere_is_refused(is_encrypted: bool):
    seal, _ = seal_of(OLD, is_encrypted=is_encrypted)
    whole = seal.close(PAYLOAD, NAME)
    for index in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[index // 8] ^= 1 << index % 8
        assert seal.open(bytes(damaged), NAME) is None, index
    assert [length for length in range(len(whole)) if seal.open(whole[:length], NAME) is not None] == []


@pytest.mark.drill(
    "answers that somebody else wrote into Redis",
    planted="made up with everything but the key; another stream's; sealed for something else",
    seen="a miss, counted by its reason",
)
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_nobody_without_the_key_makes_a_value(is_encrypted: bool):
    seal, refused = seal_of(NEW, is_encrypted=is_encrypted)
    for secrets in ((), (OLD,), (b"",)):
        assert seal.open(seal_of(*secrets, is_encrypted=is_encrypted)[0].close(PAYLOAD, NAME), NAME) is None
    named = seal.close(PAYLOAD, NAME)[:5]
    forged = hmac.new(b"", NAME.encode() + PAYLOAD, hashlib.sha256).digest()[:16] + PAYLOAD
    assert seal.open(named + forged, NAME) is None
    assert seal.open(b"\x04" + forged, NAME) is None
    assert seal.open(b"", NAME) is None
    assert refused == {Refusal.KEY: 3, Refusal.ALTERED: 1, Refusal.VERSION: 2}


@pytest.mark.drill("answers that somebody else wrote into Redis")
@pytest.mark.parametrize("is_encrypted", [False, True])
def test_a_value_holds_for_its_name_and_purpose_only(is_encrypted: bool):
    seal, refused = seal_of(OLD, is_encrypted=is_encrypted)
    sealed = seal.close(PAYLOAD, NAME)
    assert seal.open(sealed, "cg:entry:{0}:b:one") is None
    # What is left of a name cannot pass for the beginning of a payload.
    assert seal.open(seal.close(b"e" + PAYLOAD, "cg:on"), "cg:one") is None
    assert refused == {Refusal.ALTERED: 2}
    other, refused = seal_of(OLD, is_encrypted=is_encrypted, purpose="ledger")
    assert other.open(sealed, NAME) is None
    assert refused == {Refusal.KEY: 1}


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_while_a_key_is_replaced_both_open_and_the_first_seals(is_encrypted: bool):
    before, _ = seal_of(OLD, NEW, is_encrypted=is_encrypted)
    after, refused = seal_of(NEW, OLD, is_encrypted=is_encrypted)
    at_last, last_refused = seal_of(NEW, is_encrypted=is_encrypted)
    assert after.open(before.close(PAYLOAD, NAME), NAME) == PAYLOAD
    assert before.open(after.close(PAYLOAD, NAME), NAME) == PAYLOAD
    assert at_last.open(after.close(PAYLOAD, NAME), NAME) == PAYLOAD
    assert at_last.open(before.close(PAYLOAD, NAME), NAME) is None
    assert (refused, last_refused) == ({}, {Refusal.KEY: 1})


def test_a_replaced_key_is_taken_without_a_restart():
    secrets = [OLD]
    seal = Seal("entry", Seals(lambda: tuple(secrets)))
    old = seal.close(PAYLOAD, NAME)
    secrets[:] = [NEW, OLD]
    assert seal.open(old, NAME) == PAYLOAD
    new = seal.close(PAYLOAD, NAME)
    secrets[:] = [NEW]
    assert seal.open(new, NAME) == PAYLOAD
    assert seal.open(old, NAME) is None


def test_once_encryption_is_on_what_was_not_encrypted_still_opens_and_nothing_else_can_be_read():
    plain, encrypted = seal_of(OLD)[0], seal_of(OLD, is_encrypted=True)[0]
    assert encrypted.open(plain.close(PAYLOAD, NAME), NAME) == PAYLOAD
    assert PAYLOAD in plain.close(PAYLOAD, NAME)
    assert PAYLOAD not in encrypted.close(PAYLOAD, NAME)
    assert encrypted.close(PAYLOAD, NAME) != encrypted.close(PAYLOAD, NAME), "a nonce is used once"


def test_without_a_secret_damage_is_found():
    one, two = Seal("entry", NO_SECRET), Seal("entry", NO_SECRET)
    assert two.open(one.close(PAYLOAD, NAME), NAME) == PAYLOAD
    assert two.open(one.close(PAYLOAD, NAME)[:-1], NAME) is None
    assert one.close(PAYLOAD, NAME).startswith(VERSION)


@given(st.binary(max_size=100), st.text(st.characters(codec="ascii"), max_size=20))
def test_keys_are_derived_as_rfc_5869_says(secret: bytes, info: str):
    known = HKDF(algorithm=SHA512(), length=64, salt=b"campaign-gateway", info=info.encode()).derive(secret)
    assert derive(secret, info) == known
