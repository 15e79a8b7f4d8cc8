"""The fuzzer itself, and a few of its inputs: `make fuzz` sends more."""

from itertools import islice
from typing import Any

import pytest

from tests.fuzz import Mutator, fuzz, what_differs

ANSWER = b'HTTP/1.1 200 OK\r\nDate: Fri, 27 Nov 2026 17:00:00 GMT\r\nAge: 7\r\nETag: "x"\r\n\r\n{}'


@pytest.mark.drill(
    "mutated requests, with the hot path and without",
    planted="bytes, lines and fields changed, added, taken away",
    seen="the same answers, no 500",
)
async def test_no_mutated_request_tells_the_hot_path_from_the_other(figure: Any) -> None:
    run = await fuzz(600, seed=1)
    assert run.inputs == 600
    assert {"200", "400", "401", "404"} <= run.statuses.keys()
    figure(f"{run.inputs} inputs")


@pytest.mark.parametrize(
    ("other", "differs"),
    [
        (ANSWER, False),
        (ANSWER.replace(b"17:00:00", b"17:00:01").replace(b"Age: 7", b"Age: 8"), False),
        (ANSWER.replace(b"x", b"y"), True),
        (ANSWER + ANSWER, True),
        (ANSWER.replace(b"{}", b""), True),
        (ANSWER.replace(b"200", b"400"), True),
        (b"", True),
    ],
)
def test_what_may_vary_is_no_difference_and_all_else_is(other: bytes, *, differs: bool) -> None:
    assert (what_differs(bytearray(ANSWER), bytearray(other)) is not None) == differs
    assert (what_differs(bytearray(other), bytearray(ANSWER)) is not None) == differs


def test_a_seed_makes_the_same_inputs() -> None:
    good = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: b\r\n\r\n"]
    one, two, other = (list(islice(Mutator(seed, good).talks(200), 5)) for seed in (1, 1, 2))
    assert one == two != other
    assert sum(len(talk.inputs) for talk in Mutator(1, good).talks(50)) == 50
