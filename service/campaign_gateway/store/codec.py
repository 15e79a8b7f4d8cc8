"""An entry as bytes and back.

The form is a version byte, a checksum, and a MessagePack array. Decoding is total: bytes of another version, another
program, or with a bit turned over are "no entry", never an error and never a wrong entry.
"""

import zlib
from sys import intern
from typing import Any

import msgspec

from campaign_gateway.policy.entry import Absence, Entry

VERSION = b"\x03"
"""Raised when the array below changes; replicas of both versions may then share one Redis during a roll-out."""

_CHECKSUM_BYTES = 4


class _Stored(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body: bytes
    content_type: str
    content: bytes
    revision: str | None
    campaign_status: str | None
    validated_at: float
    absence: tuple[int, str | None, str | None] | None
    clock_offset: float


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Stored)


def encode(entry: Entry) -> bytes:
    """The stored form of an entry."""
    said = entry.absence
    payload = _encoder.encode(
        _Stored(
            entry.body,
            entry.content_type,
            entry.content,
            entry.revision,
            entry.campaign_status,
            entry.validated_at,
            None if said is None else (said.status, said.code, said.message),
            entry.clock_offset,
        )
    )
    return VERSION + zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES) + payload


def decode(stored: bytes) -> Entry | None:
    """The entry that these bytes are the stored form of; None for anything else."""
    start = len(VERSION) + _CHECKSUM_BYTES
    checksum, payload = stored[len(VERSION) : start], stored[start:]
    if not stored.startswith(VERSION) or zlib.crc32(payload).to_bytes(_CHECKSUM_BYTES) != checksum:
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
    return Entry(**fields)
