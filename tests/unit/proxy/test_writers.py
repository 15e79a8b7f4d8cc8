import pytest

from campaign_gateway.proxy import writers as writers_module
from campaign_gateway.proxy.writers import Writers, format_write_token, parse_write_token, writer_of
from tests.support.builders import NOW
from tests.support.doubles import SALES, SUPPORT, ManualClock

SECONDS = 5.0
ME, YOU = writer_of(SUPPORT, "me", "get"), writer_of(SUPPORT, "you", "get")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def writers(clock: ManualClock) -> Writers:
    return Writers(clock.now, SECONDS)


def test_who_never_wrote_is_held_to_nothing(writers: Writers):
    writers.note(YOU)
    assert writers.floor(SUPPORT, "me", "get") is None


def test_a_writer_is_held_to_the_last_write_for_a_while(writers: Writers, clock: ManualClock):
    writers.note(ME)
    clock.advance(SECONDS - 1)
    assert writers.floor(SUPPORT, "me", "get") == NOW
    writers.note(ME)
    clock.advance(SECONDS - 0.5)
    assert writers.floor(SUPPORT, "me", "get") == NOW + SECONDS - 1
    clock.advance(0.5)
    assert writers.floor(SUPPORT, "me", "get") is None


@pytest.mark.drill("evidence from the future")
def test_nobody_is_held_to_a_write_from_before_the_clock_went_back(writers: Writers, clock: ManualClock):
    writers.note(ME)
    clock.step(-SECONDS)
    assert writers.floor(SUPPORT, "me", "get") is None


def test_a_write_to_another_stream_or_resource_or_by_another_client_is_another_s(writers: Writers):
    writers.note(ME)
    assert writers.floor(SUPPORT, "me", "get") == NOW
    assert writers.floor(SALES, "me", "get") is None
    assert writers.floor(SUPPORT, "you", "get") is None
    assert writers.floor(SUPPORT, "me", "list") is None


def test_no_seconds_hold_nobody(clock: ManualClock):
    writers = Writers(clock.now, 0.0)
    writers.note(ME)
    assert writers.floor(SUPPORT, "me", "get") is None


def test_writers_of_long_ago_are_forgotten(writers: Writers, clock: ManualClock):
    writers.note(ME)
    clock.advance(1.0)
    writers.note(YOU)
    clock.advance(SECONDS - 0.5)
    writers.note(writer_of(SALES, "me", "get"))
    assert set(writers._written_at) == {YOU, writer_of(SALES, "me", "get")}


def test_of_too_many_writers_those_are_forgotten_who_wrote_longest_ago(
    writers: Writers, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(writers_module, "MAX_WRITERS", 3)
    for name in ("a", "b", "c", "a", "d"):
        writers.note(writer_of(SUPPORT, name, "get"))
        clock.advance(0.1)
    assert [name for name in "abcd" if writers.floor(SUPPORT, name, "get") is not None] == ["a", "c", "d"]


@pytest.mark.parametrize("written_at", [0.0, 1.0, NOW, NOW + 0.123456, 4_102_444_800.654321])
def test_a_token_carries_the_end_of_its_write(written_at: float):
    assert parse_write_token(format_write_token(written_at)) == pytest.approx(written_at, abs=1e-6)


@pytest.mark.parametrize(
    "token",
    ["", " ", "-1", "+1", "0x1", "1.5", "FF", "ff ", "\u0661", "1_0", "none", "1,2", "f" * 21, "0" * 1000],
    ids=repr,
)
def test_what_is_none_of_our_tokens_carries_nothing(token: str):
    assert parse_write_token(token) is None


def test_the_longest_token_is_still_a_number():
    assert parse_write_token("f" * 20) == pytest.approx(2**80 / 1e6)
