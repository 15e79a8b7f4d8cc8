"""A stored answer as bytes and back.

The form is a sealed MessagePack array (`store.seal`). Decoding is total: bytes of another version, another program,
another key, or with a bit turned over are "no entry", never an error and never a wrong entry.
"""

from sys import intern
from typing import Any

import msgspec

from campaign_gateway.contract.revisions import END_OF_TIME
from campaign_gateway.policy.stored import Absence, Stored, json_type
from campaign_gateway.store.seal import Refusal, Seal


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


def encode(stored: Stored, key: str, seal: Seal) -> bytes:
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
    return seal.close(payload, key)


def decode(data: bytes, key: str, seal: Seal) -> Stored | None:
    """The answer that these bytes are the form of, stored under `key`; None for anything else."""
    payload = seal.open(data, key)
    if payload is None:
        return None
    try:
        found = _decoder.decode(payload)
    except (ValueError, RecursionError):
        found = None
    if found is None or not _is_sane(found):
        seal.refuse(Refusal.FORM)
        return None
    fields: dict[str, Any] = msgspec.structs.asdict(found)
    # Thousands of entries share a few of these.
    fields["content_type"] = intern(found.content_type)
    fields["campaign_status"] = found.campaign_status and intern(found.campaign_status)
    fields["absence"] = found.absence and Absence(*found.absence)
    return Stored(**fields)


def _is_sane(found: _Encoded) -> bool:
    # What is not a number fails each comparison. A type with a line end would write fields of an answer's head.
    is_in_time = 0 <= found.validated_at < END_OF_TIME and abs(found.clock_offset) < END_OF_TIME
    return is_in_time and (found.absence is not None or json_type(found.content_type) == found.content_type)
