import contextlib
import hashlib
import re
import sys

import pytest

from campaign_gateway.problems import Problem
from campaign_gateway.web.clients import Client, Clients, allow, new_key
from campaign_gateway.web.rejected import RejectedError

KEY = "cgk_the-key-of-reporting"
REPORTING = Client("reporting", frozenset({"support"}), frozenset({"read"}))
OPERATIONS = Client("operations", frozenset({"support", "sales"}), frozenset({"read", "write", "purge"}))
EVERYBODY = Client("anonymous", frozenset({"support"}), frozenset({"read"}))


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def clients() -> Clients:
    return Clients({digest(KEY): REPORTING, digest("cgk_other"): OPERATIONS}, None)


def denial(action, *arguments) -> RejectedError:
    with pytest.raises(RejectedError) as denied:
        action(*arguments)
    return denied.value


@pytest.mark.parametrize(
    "value",
    [
        f"Bearer {KEY}",
        pytest.param(f"bearer {KEY}", id="RFC-9110-11.1-scheme-in-any-case"),
        f"BEARER {KEY}",
        pytest.param(f"Bearer   {KEY}", id="RFC-9110-11.4-more-spaces"),
        pytest.param(f"Bearer {KEY} ", id="space-behind"),
    ],
)
def test_a_key_names_its_client(clients, value):
    assert clients.identify([value]) is REPORTING


def test_each_key_names_its_own_client(clients):
    assert clients.identify(["Bearer cgk_other"]) is OPERATIONS


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([], id="none"),
        pytest.param([""], id="empty"),
        pytest.param(["Bearer"], id="scheme-alone"),
        pytest.param(["Bearer "], id="empty-key"),
        pytest.param([KEY], id="key-without-a-scheme"),
        pytest.param([f"Basic {KEY}"], id="other-scheme"),
        pytest.param([f"Bearer{KEY}"], id="no-space"),
        pytest.param([f"Bearer {KEY}x"], id="one-more-letter"),
        pytest.param([f"Bearer {KEY[:-1]}"], id="one-less-letter"),
        pytest.param([f"Bearer {KEY.upper()}"], id="other-case"),
        pytest.param([f"Bearer {digest(KEY)}"], id="the-hash-is-no-key"),
        pytest.param([f"Bearer {KEY}, Bearer {KEY}"], id="two-in-one-field"),
        pytest.param([f"Bearer {KEY}", f"Bearer {KEY}"], id="two-fields-the-same"),
        pytest.param([f"Bearer {KEY}", "Bearer cgk_other"], id="two-fields-of-two-clients"),
        pytest.param(["Bearer cgk_\udcff\udc80"], id="bytes-that-are-no-text"),
        pytest.param(["Bearer " + "k" * 16_000], id="very-long"),
    ],
)
def test_anything_else_is_unauthenticated_and_not_repeated(clients, values):
    error = denial(clients.identify, values)
    assert error.failure.problem is Problem.UNAUTHENTICATED
    assert error.failure.detail == str(error) == "send Authorization: Bearer <client key>"


@pytest.mark.parametrize("key", ["cgk_4999", "cgk_none-of-them"])
def test_among_thousands_of_keys_one_is_found_without_looking_at_the_others(key):
    many = Clients({digest(f"cgk_{number}"): REPORTING for number in range(5000)}, None)
    calls = []
    sys.setprofile(lambda _frame, event, _argument: calls.append(event))
    try:
        with contextlib.suppress(RejectedError):
            many.identify([f"Bearer {key}"])
    finally:
        sys.setprofile(None)
    assert len(calls) < 100


@pytest.mark.parametrize("values", [[], ["Bearer nonsense"], ["a", "b"]])
def test_without_keys_in_the_settings_everybody_is_the_same(values):
    assert Clients({}, EVERYBODY).identify(values) is EVERYBODY


def test_without_keys_and_without_leave_nobody_gets_in():
    assert denial(Clients({}, None).identify, [f"Bearer {KEY}"]).failure.problem is Problem.UNAUTHENTICATED


def test_a_known_client_goes_on_with_its_own_stream_and_scope():
    allow(REPORTING, "support", "read")
    allow(OPERATIONS, "sales", "purge")


@pytest.mark.parametrize(
    ("stream", "scope", "detail"),
    [
        ("sales", "read", "this client has no right to that stream"),
        ("support", "write", "this client lacks the scope write"),
        ("sales", "write", "this client has no right to that stream"),
        ("Support", "read", "this client has no right to that stream"),
    ],
)
def test_another_stream_or_scope_is_forbidden_and_no_name_is_told(stream, scope, detail):
    error = denial(allow, REPORTING, stream, scope)
    assert (error.failure.problem, error.failure.detail) == (Problem.FORBIDDEN, detail)


def test_a_new_key_is_long_unguessable_and_fits_its_hash():
    made = {new_key() for _ in range(50)}
    assert len(made) == 50
    for key, hashed in made:
        assert re.fullmatch(r"cgk_[A-Za-z0-9_-]{43}", key)
        assert hashed == digest(key)


def test_a_new_key_lets_its_client_in():
    key, hashed = new_key()
    assert Clients({hashed: REPORTING}, None).identify([f"Bearer {key}"]) is REPORTING


def test_no_key_is_kept(clients):
    assert KEY.encode() not in b"".join(clients._by_hash)
    assert KEY not in repr(vars(clients))
