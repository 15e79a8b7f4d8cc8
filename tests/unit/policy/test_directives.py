import time
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaign_gateway.policy.directives import NO_DIRECTIVES, RequestDirectives, read_directives

LONG = 2**31


@pytest.mark.drill(
    "a `Cache-Control` that cannot be read",
    planted="words, signs, fractions, quotes, digits of another script in each argument, twice",
    seen="it asks for nothing, so it costs no call",
)
@pytest.mark.parametrize(
    ("field", "directives"),
    [
        pytest.param(None, {}, id="absent"),
        pytest.param("", {}, id="empty"),
        pytest.param("max-age=60", {"max_age": 60}, id="rfc9111-5.2.1.1-max-age"),
        pytest.param("max-age=0", {"max_age": 0}, id="rfc9111-5.2.1.1-max-age-0"),
        pytest.param("max-stale=60", {"max_stale": 60}, id="rfc9111-5.2.1.2-max-stale"),
        pytest.param("max-stale", {"max_stale": inf}, id="rfc9111-5.2.1.2-max-stale-without-a-value"),
        pytest.param("min-fresh=60", {"min_fresh": 60}, id="rfc9111-5.2.1.3-min-fresh"),
        pytest.param("no-cache", {"no_cache": True}, id="rfc9111-5.2.1.4-no-cache"),
        pytest.param("only-if-cached", {"only_if_cached": True}, id="rfc9111-5.2.1.7-only-if-cached"),
        pytest.param("no-store", {}, id="rfc9111-5.2.1.5-no-store-is-no-wanted"),
        pytest.param("no-transform, community=UCI", {}, id="rfc9111-5.2.3-unknown-ignored"),
        pytest.param('x="no-cache, max-age=0"', {}, id="rfc9110-5.6.4-inside-a-quoted-value"),
        pytest.param("x-no-cache, no-cache-please", {}, id="part-of-another-name"),
        pytest.param("NO-Cache, Max-AGE=9", {"no_cache": True, "max_age": 9}, id="rfc9111-5.2-letter-case"),
        pytest.param('max-age="60"', {"max_age": 60}, id="rfc9111-5.2-quoted-argument"),
        pytest.param(" max-age=60 ,\tmin-fresh=5 ", {"max_age": 60, "min_fresh": 5}, id="rfc9110-5.6.1-white-space"),
        pytest.param(",, max-age=60,,", {"max_age": 60}, id="rfc9110-5.6.1-empty-elements"),
        pytest.param(
            "max-age=60,min-fresh=5,only-if-cached",
            {"max_age": 60, "min_fresh": 5, "only_if_cached": True},
            id="several",
        ),
        pytest.param("no-cache=x", {"no_cache": True}, id="an-argument-too-many"),
        pytest.param("max-age=99999999999999999999", {"max_age": LONG}, id="rfc9111-1.2.2-too-large"),
        pytest.param(f"max-age={LONG + 1}", {"max_age": LONG}, id="rfc9111-1.2.2-just-too-large"),
        pytest.param("max-age=000000000060", {"max_age": 60}, id="rfc9111-1.2.2-leading-zeros"),
        pytest.param("max-age", {}, id="unreadable-max-age-none"),
        pytest.param("max-age=", {}, id="unreadable-max-age-empty"),
        pytest.param("max-age=-5", {}, id="unreadable-max-age-negative"),
        pytest.param("max-age=1.5", {}, id="unreadable-max-age-fraction"),
        pytest.param("max-age=\u0663", {}, id="unreadable-max-age-digits-of-another-script"),
        pytest.param('max-age="60', {}, id="unreadable-max-age-quote-not-closed"),
        pytest.param("max-age=10000000000", {"max_age": LONG}, id="rfc9111-1.2.2-eleven-digits"),
        pytest.param("min-fresh=x", {}, id="unreadable-min-fresh"),
        pytest.param("min-fresh", {}, id="unreadable-min-fresh-none"),
        pytest.param("max-stale=x", {}, id="unreadable-max-stale"),
        pytest.param("max-stale=", {}, id="unreadable-max-stale-empty"),
        pytest.param('max-stale=""', {}, id="unreadable-max-stale-quoted-empty"),
        pytest.param("max-age=zz", {}, id="unreadable-max-age"),
        pytest.param('max-age="zz"', {}, id="unreadable-max-age-quoted"),
        pytest.param("max-age=0x10", {}, id="unreadable-max-age-hexadecimal"),
        pytest.param("max-age=5 5", {}, id="unreadable-max-age-two-words"),
        pytest.param("max-age=zz, max-age=60", {"max_age": 60}, id="twice-the-first-that-can-be-read-counts"),
        pytest.param("max-age=10, max-age=zz", {"max_age": 10}, id="twice-the-second-unreadable"),
        pytest.param("max-age=10, max-age=60", {"max_age": 10}, id="rfc9111-4.2.1-twice-the-first-counts"),
    ],
)
def test_cache_control(field: str | None, directives: dict[str, Any]):
    assert read_directives(field) == RequestDirectives(**directives)


@pytest.mark.parametrize(
    ("cache_control", "pragma", "no_cache"),
    [
        pytest.param(None, "no-cache", True, id="rfc9111-5.4-pragma"),
        pytest.param(None, "No-Cache", True, id="rfc9111-5.4-letter-case"),
        pytest.param(None, "x=y, no-cache", True, id="rfc9111-5.4-among-others"),
        pytest.param(None, "akamai-x-get-cache-key", False, id="another-pragma"),
        pytest.param(None, "x-no-cache-please", False, id="part-of-another-name"),
        pytest.param("max-stale=60", "no-cache", False, id="rfc9111-5.4-cache-control-wins"),
        pytest.param("", "no-cache", False, id="rfc9111-5.4-an-empty-cache-control-wins"),
    ],
)
def test_pragma(cache_control: str | None, pragma: str, no_cache: bool):
    assert read_directives(cache_control, pragma).no_cache is no_cache


def test_nothing_asked_is_no_directive():
    assert read_directives(None) == NO_DIRECTIVES == RequestDirectives()


@given(st.text(max_size=60) | st.text(alphabet='max-agestlenofrhcid=0123456789", ', max_size=60))
def test_any_field_is_read(field: str):
    directives = read_directives(field)
    for seconds in (directives.max_age, directives.min_fresh):
        assert seconds is None or 0 <= seconds <= LONG
    assert directives.max_stale is None or directives.max_stale >= 0


@pytest.mark.parametrize(
    "field",
    [
        pytest.param("a" * 4000 + ";", id="one-long-name"),
        pytest.param("a=" + "b" * 4000 + '"', id="one-long-value"),
        pytest.param("a" + " " * 4000 + ";", id="much-white-space"),
        pytest.param("a, " * 1300, id="many-directives"),
        pytest.param('"' * 4000, id="many-quotes"),
    ],
)
def test_a_long_field_does_not_stop_the_house(field: str):
    # design-6.10: one caller's header must not hold up everybody's answers. Linear reading takes about a millisecond.
    began = time.process_time()
    read_directives(field)
    assert time.process_time() - began < 0.1
