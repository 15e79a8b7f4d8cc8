import math
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaign_gateway.policy.clock_offset import (
    AGREED,
    KEEP_SECONDS,
    MAX_ANSWERS,
    ClockOffset,
    DatedAnswer,
    add,
    estimate,
    is_far_off,
)
from tests.support.builders import NOW
from tests.support.examples import scaled


def answered(platform: Callable[[float], float], sent: float, there: float, back: float) -> DatedAnswer:
    """What an answer shows that was written `there` seconds after its request left, and took `back` seconds more."""
    return DatedAnswer(sent, sent + there + back, math.floor(platform(sent + there)))


def received(answers: list[DatedAnswer]) -> tuple[DatedAnswer, ...]:
    kept: tuple[DatedAnswer, ...] = ()
    for answer in answers:
        kept = add(kept, answer)
    return kept


def ahead(seconds: float) -> Callable[[float], float]:
    return lambda now: NOW + now + seconds


def test_one_answer_leaves_half_a_second_and_half_its_trip() -> None:
    offset = estimate([DatedAnswer(sent=100.0, had=100.4, date=105.0)])
    assert offset.seconds == pytest.approx(5.3)
    assert offset.uncertainty == pytest.approx(0.7)


@settings(max_examples=scaled(200))
@given(
    st.floats(-100.0, 100.0),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.floats(0.0, 3.0), st.floats(0.0, 3.0)), min_size=1, max_size=40),
)
def test_the_true_offset_is_never_further_than_the_uncertainty(
    true: float, trips: list[tuple[float, float, float]]
) -> None:
    answers, sent = [], 0.0
    for pause, there, back in trips:
        sent += pause
        answers.append(answered(ahead(true), sent, there, back))
    offset = estimate(received(answers))
    assert abs(offset.seconds - NOW - true) <= offset.uncertainty + 1e-6


def test_answers_at_any_part_of_a_second_leave_a_tenth_of_one() -> None:
    random = Random(7)
    sents = [2.0 * number + random.random() for number in range(MAX_ANSWERS)]
    offset = estimate(received([answered(ahead(-21.0), sent, 0.02, 0.02) for sent in sents]))
    assert offset.uncertainty < 0.15
    assert abs(offset.seconds - NOW + 21.0) < 0.15


def test_a_slow_answer_says_little_and_spoils_nothing() -> None:
    quick = [answered(ahead(3.0), 1.37 * number, 0.05, 0.05) for number in range(8)]
    slow = answered(ahead(3.0), 20.0, 1.0, 8.0)
    assert estimate(received([*quick, slow])).uncertainty == pytest.approx(
        estimate(received(quick)).uncertainty, abs=1e-2
    )


def test_a_wrong_date_is_outvoted_wherever_it_comes() -> None:
    good = [answered(ahead(3.0), 1.37 * number, 0.05, 0.05) for number in range(8)]
    for where in range(1, 9):
        answers = [*good[:where], DatedAnswer(good[where - 1].sent, good[where - 1].had, 0.0), *good[where:]]
        assert abs(estimate(received(answers)).seconds - NOW - 3.0) < 0.5, where


def test_two_that_disagree_are_decided_by_the_newer() -> None:
    first, second = answered(ahead(0.0), 1.0, 0.1, 0.1), answered(ahead(30.0), 2.0, 0.1, 0.1)
    assert abs(estimate(received([first, second])).seconds - NOW - 30.0) < 1.0


def test_a_step_is_followed_after_half_of_the_answers() -> None:
    def stepping(now: float) -> float:
        return NOW + now + (0.0 if now < 100.0 else -12.0)

    answers = [answered(stepping, 1.37 * number, 0.05, 0.05) for number in range(100)]
    after = next(index for index, answer in enumerate(answers) if answer.sent >= 100.0)
    seen = [estimate(received(answers[: after + count])).seconds - NOW for count in range(MAX_ANSWERS)]
    assert max(map(abs, seen[: MAX_ANSWERS // 2])) < 0.5
    assert max(abs(seconds + 12.0) for seconds in seen[MAX_ANSWERS // 2 + 1 :]) < 0.5


def test_old_answers_count_for_less_and_then_for_nothing() -> None:
    old = answered(ahead(0.0), 0.0, 0.1, 0.1)
    late = answered(ahead(0.0), KEEP_SECONDS - 1.0, 0.1, 0.1)
    later = answered(ahead(0.0), KEEP_SECONDS + 1.0, 0.1, 0.1)
    assert old.interval(KEEP_SECONDS)[0] < old.interval(0.0)[0] - 0.05
    assert received([old, late]) == (old, late)
    assert received([old, later]) == (later,)


def test_no_more_are_kept_than_count() -> None:
    answers = [answered(ahead(0.0), float(number), 0.1, 0.1) for number in range(MAX_ANSWERS + 5)]
    assert received(answers) == tuple(answers[-MAX_ANSWERS:])


@pytest.mark.parametrize(
    ("moment", "taken"),
    [
        pytest.param(NOW - 100, 30.0, id="long-before"),
        pytest.param(NOW + 29.9, 30.0, id="just-before"),
        pytest.param(NOW + 30.4, 30.4, id="after-it-by-less-than-is-known"),
        pytest.param(NOW + 31.0, 30.5, id="after-it-by-more"),
    ],
)
def test_of_the_offsets_that_may_be_true_one_puts_a_moment_before_now(moment: float, taken: float) -> None:
    assert ClockOffset(30.0, 0.5).fitting(moment, NOW) == pytest.approx(taken)


def test_clocks_of_which_nothing_is_known_are_taken_to_agree() -> None:
    assert AGREED.fitting(NOW - 5, NOW) == AGREED.fitting(NOW + 5, NOW) == 0.0


@pytest.mark.parametrize(
    ("seconds", "was", "expected"),
    [(0.0, False, False), (5.0, False, False), (5.1, False, True), (-5.1, False, True), (4.5, True, True),
     (-4.5, True, True), (4.5, False, False), (4.0, True, False)],
)  # fmt: skip
def test_far_off_is_not_said_and_unsaid_with_each_answer(seconds: float, was: bool, expected: bool) -> None:
    assert is_far_off(ClockOffset(seconds, 0.1), was=was) is expected
