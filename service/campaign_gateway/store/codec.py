"""A stored answer as bytes and back.

The form is a version byte, a checksum, and a MessagePack array. Decoding is total: bytes of another version, another
program, or with a bit turned over are "no entry", never an error and never a wrong entry.
"""

import zlib
from sys import intern
from typing import Any

import msgspec

from campaign_gateway.policy.stored import Absence, Stored

VERSION = b"\x03"
"""Raised when the array below changes; replicas of both versions may then share one Redis during a roll-out."""

_CHECKSUM_BYTES = 4


class _Encoded(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    content_type: str
    content: bytes
    revision: str | None
    campaign_status: str | None
    validated_at: float
    absence: tuple[int, str | None, str | None] | None
    clock_offset: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Encoded)


def encode(stored: Stored) -> bytes:
    """The bytes of a stored answer."""
    said = stored.absence
    payload = _encoder.encode(
        _Encoded(
            stored.body,
            stored.content_type,
            stored.content,
            stored.revision,
            stored.campaign_status,
            stored.validated_at,
            None if said is None else (said.status, said.code, said.message),
            stored.clock_offset,
        )
    )
    return VERSION + zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES) + payload


def decode(data: bytes) -> Stored | None:
    """The stored answer that these bytes are the form of; None for anything else."""
    start = len(VERSION) + _CHECKSUM_BYTES
    checksum, payload = data[len(VERSION) : start], data[start:]
    if not data.startswith(VERSION) or zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES) != checksum:
        return None
    try:
        found = _decoder.decode(payload)
    except (ValueError, RecursionError):
        return None
    fields: dict[str, Any] = msgspec.structs.asdict(found)
    # Thousands of entries share a few of these.
    fields["content_type"] = intern(found.content_type)
    fields["campaign_status"] = found.campaign_status and intern(found.campaign_status)
    fields["absence"] = found.absence and Absence(*found.absence)
    return Stored(**fields)
