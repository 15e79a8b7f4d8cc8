from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.stored import Absence, Stored
from campaign_gateway.store import codec
from campaign_gateway.store.seal import NO_SECRET, VERSION, Seal
from tests.support.builders import absence, entry

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
ENTRIES = st.builds(
    Stored,
    body=st.binary(max_size=60),
    content_type=st.sampled_from(["application/json", "application/problem+json; charset=utf-8"]),
    content=st.binary(max_size=16),
    revision=st.none() | TEXT,
    campaign_status=st.none() | TEXT,
    validated_at=st.floats(0, 253402300799),
    absence=st.none() | st.builds(Absence, st.integers(100, 599), st.none() | TEXT, st.none() | TEXT),
    clock_offset=st.floats(-1e9, 1e9),
)

KEY = "cg:entry:a:one"


SEAL = Seal("entry", NO_SECRET)


def encode(stored: Stored, key: str) -> bytes:
    return codec.encode(stored, key, SEAL)


def decode(data: bytes, key: str) -> Stored | None:
    return codec.decode(data, key, SEAL)


def sealed(payload: bytes, version: bytes = VERSION) -> bytes:
    """A payload under a version and a seal that is right for it."""
    return version + SEAL.close(payload, KEY).removeprefix(VERSION)


PAYLOAD = encode(entry(), KEY)[21:]


@given(ENTRIES)
def test_what_is_encoded_is_decoded(kept: Stored) -> None:
    assert decode(encode(kept, KEY), KEY) == kept


@pytest.mark.parametrize(
    "kept", [entry(), entry(revision=None, campaign_status=None), absence(), absence(message=None)]
)
def test_the_usual_entries_survive(kept: Stored) -> None:
    assert decode(encode(kept, KEY), KEY) == kept


@given(st.binary(max_size=80) | st.binary(max_size=60).map(sealed))
def test_any_bytes_are_no_entry(stored: bytes) -> None:
    assert decode(stored, KEY) is None


@given(st.binary(max_size=60), st.integers(0, len(PAYLOAD)))
def test_a_right_seal_over_wrong_content_is_an_entry_of_its_own_or_none(inserted: bytes, where: int) -> None:
    found = decode(sealed(PAYLOAD[:where] + inserted + PAYLOAD[where:]), KEY)
    assert found is None or decode(encode(found, KEY), KEY) == found


def test_one_bit_turned_anywhere_is_no_entry() -> None:
    whole = encode(entry(), KEY)
    for index in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[index // 8] ^= 1 << index % 8
        assert decode(bytes(damaged), KEY) is None, index


def test_an_entry_cut_at_any_byte_is_no_entry() -> None:
    whole = encode(entry(), KEY)
    assert [length for length in range(len(whole)) if decode(whole[:length], KEY) is not None] == []


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(sealed(PAYLOAD, b"\x06"), id="a-later-version"),
        pytest.param(sealed(PAYLOAD, b"\x04"), id="an-earlier-version"),
        pytest.param(sealed(PAYLOAD, b""), id="no-version"),
        pytest.param(encode(entry(), KEY)[:5] + bytes(16) + PAYLOAD, id="another-tag"),
        pytest.param(sealed(PAYLOAD + b"\xc0"), id="something-after-it"),
        pytest.param(sealed(b""), id="nothing-in-it"),
        pytest.param(sealed(b"\xc0"), id="nil"),
        pytest.param(sealed(b"\x90"), id="an-empty-array"),
        pytest.param(sealed(b"\x99" + PAYLOAD[1:] + b"\xc0"), id="a-member-too-many"),
        pytest.param(sealed(b"\x91" * 100_000), id="nested-too-deep"),
        pytest.param(sealed(PAYLOAD.replace(b"Ready", b"Re\xffdy")), id="text-that-is-not-utf-8"),
        pytest.param(sealed(b"\xdd\xff\xff\xff\xff"), id="an-array-said-to-be-huge"),
    ],
)
def test_foreign_bytes_are_no_entry(stored: bytes) -> None:
    assert PAYLOAD[0] == 0x98, "an array of eight"
    assert decode(sealed(PAYLOAD), KEY) == entry()
    assert decode(stored, KEY) is None


@pytest.mark.drill(
    "a value in Redis under another key",
    planted="moved, with times and types that cannot be",
    seen="a miss",
)
@pytest.mark.parametrize("key", ["cg:entry:b:one", "cg:entry:a:two", ""])
def test_an_entry_moved_to_another_key_is_no_entry(key: str) -> None:
    assert decode(encode(entry(), KEY), key) is None


@pytest.mark.drill("a value in Redis under another key")
@pytest.mark.parametrize("at", [float("inf"), float("nan"), float("-inf"), -1.0, 1e300])
def test_a_time_that_cannot_be_is_no_entry(at: float) -> None:
    assert decode(encode(replace(entry(), validated_at=at), KEY), KEY) is None
    assert decode(encode(replace(absence(), validated_at=at), KEY), KEY) is None


@pytest.mark.parametrize("offset", [float("inf"), float("nan"), float("-inf"), 1e300])
def test_a_clock_offset_that_cannot_be_is_no_entry(offset: float) -> None:
    assert decode(encode(replace(entry(), clock_offset=offset), KEY), KEY) is None


@pytest.mark.drill("a value in Redis under another key")
@pytest.mark.parametrize("said", ["application/json\r\nSet-Cookie: x=1", "text/html", "application/json\x00", ""])
def test_a_type_that_the_gateway_never_stores_is_no_entry(said: str) -> None:
    assert decode(encode(replace(entry(), content_type=said), KEY), KEY) is None
