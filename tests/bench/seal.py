"""What it costs to store an answer and to read it again, by how it is sealed: `python -m tests.bench.seal`.

Microseconds of one core, the best of some rounds. An answer is encoded once for each fill, and decoded once for each look-up
in Redis that brings other bytes than the last one; hits of local copies do neither.
"""

import timeit
import zlib

from campaign_gateway.store.codec import decode, encode
from campaign_gateway.store.seal import NO_SECRET, Seal, Seals
from tests.support.builders import entry

SIZES = {"1.7 kB": 1_700, "200 kB": 200_000}
KEY = "cg:entry:{0}:0123456789abcdef:read:cd-07e4cf0-5c94-4b41-9036-eb709e4ce7a8"
SECRET = (b"a key of 32 characters .........",)
FORMS = {
    "no key": NO_SECRET,
    "a key": Seals(lambda: SECRET),
    "a key, encrypted": Seals(lambda: SECRET, is_encrypted=True),
}
ROUNDS, TIMES = 15, 200


def microseconds(work: str, **names: object) -> float:
    """What one run of it takes."""
    return min(timeit.repeat(work, globals=names, number=TIMES, repeat=ROUNDS)) / TIMES * 1e6


def main() -> None:
    """Prints the table."""
    print(f"{'body':8}{'sealed with':18}{'encode':>8}{'decode':>8}   us")
    for size, length in SIZES.items():
        stored = entry(body=b"x" * length)
        for form, seals in FORMS.items():
            seal = Seal("entry", seals)
            data = encode(stored, KEY, seal)
            names = {"stored": stored, "key": KEY, "seal": seal, "data": data, "encode": encode, "decode": decode}
            costs = (microseconds(f"{work}(key=key, seal=seal, {of}={of})", **names) for work, of in WORK)
            print(f"{size:8}{form:18}" + "".join(f"{cost:8.1f}" for cost in costs))
        checksum = microseconds("crc32(body)", crc32=zlib.crc32, body=stored.body)
        print(f"{size:8}{'(a CRC alone)':18}{checksum:8.1f}{checksum:8.1f}")


WORK = (("encode", "stored"), ("decode", "data"))

if __name__ == "__main__":
    main()
