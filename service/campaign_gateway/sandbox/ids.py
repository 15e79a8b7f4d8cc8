"""Identifiers in the platform's forms, drawn from an injected generator so that a seed fixes them.

They look like UUIDs and are not: the ids of voice things begin with **seven** hex digits and say version 4, the
ids of SMS things begin with eight and say version 5. Clients that validate UUIDs fail on the first form, which
is why the simulated platform keeps to it.
"""

import random

_VARIANTS = "89ab"


def voice_id(rng: random.Random, prefix: str) -> str:
    """An id in the seven-digit form, such as `cd-4f1a9c2-7b3e-4d58-9a61-c20e7f5b8d13`."""
    return _grouped(rng, prefix, first=7, version=4)


def sms_id(rng: random.Random, prefix: str) -> str:
    """An id in the eight-digit form, such as `cd-b83d01f6-2c47-5e9a-8f10-6a4d9c7e2b55`."""
    return _grouped(rng, prefix, first=8, version=5)


def object_id(rng: random.Random) -> str:
    """24 hex digits, the form of sessions and files."""
    return f"{rng.getrandbits(96):024x}"


def _grouped(rng: random.Random, prefix: str, *, first: int, version: int) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    head, rest = digits[:first], digits[8:]
    return f"{prefix}-{head}-{rest[:4]}-{version}{rest[5:8]}-{rng.choice(_VARIANTS)}{rest[9:12]}-{rest[12:24]}"
