"""A stored answer as bytes and back.

The form is a version byte, a checksum over the key and what follows, and a MessagePack array. Decoding is total: bytes
of another version, another program, another key, or with a bit turned over are "no entry", never an error and never a
wrong entry. The checksum is no secret: it finds what was moved or damaged, not what somebody made up with care.
"""

import zlib
from sys import intern
from typing import Any

import msgspec

from campaign_gateway.contract.revisions import END_OF_TIME
from campaign_gateway.policy.stored import Absence, Stored, json_type

VERSION = b"\x04"
"""Raised when the form changes; replicas of both versions may then share one Redis during a roll-out."""

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


def encode(stored: Stored, key: str) -> bytes:
    """The bytes of an answer that is stored under `key`."""
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
    return VERSION + _checksum(payload, key) + payload


def decode(data: bytes, key: str) -> Stored | None:
    """The answer that these bytes are the form of, stored under `key`; None for anything else."""
    start = len(VERSION) + _CHECKSUM_BYTES
    checksum, payload = data[len(VERSION) : start], data[start:]
    if not data.startswith(VERSION) or _checksum(payload, key) != checksum:
        return None
    try:
        found = _decoder.decode(payload)
    except (ValueError, RecursionError):
        return None
    if not _is_sane(found):
        return None
    fields: dict[str, Any] = msgspec.structs.asdict(found)
    # Thousands of entries share a few of these.
    fields["content_type"] = intern(found.content_type)
    fields["campaign_status"] = found.campaign_status and intern(found.campaign_status)
    fields["absence"] = found.absence and Absence(*found.absence)
    return Stored(**fields)


def _checksum(payload: bytes, key: str) -> bytes:
    # One CRC over both: no copy of a large body.
    return zlib.crc32(payload, zlib.crc32(key.encode())).to_bytes(_CHECKSUM_BYTES)


def _is_sane(found: _Encoded) -> bool:
    # What is not a number fails each comparison. A type with a line end would write fields of an answer's head.
    is_in_time = 0 <= found.validated_at < END_OF_TIME and abs(found.clock_offset) < END_OF_TIME
    return is_in_time and (found.absence is not None or json_type(found.content_type) == found.content_type)
