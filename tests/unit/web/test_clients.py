import contextlib
import hashlib
import logging
import re
import time
from dataclasses import replace

import pytest

from campaign_gateway.problems import Problem
from campaign_gateway.web.clients import Client, ClientKey, Clients, allow, new_key
from campaign_gateway.web.limits import ClientLimits
from campaign_gateway.web.rejected import RejectedError
from tests.support.counting import python_calls
from tests.support.fast import Gateway, calling, far, running

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
    with python_calls() as calls, contextlib.suppress(RejectedError):
        many.identify([f"Bearer {key}"])
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


# Several keys of one client.

ROADS = [
    pytest.param(Gateway, id="fast"),
    pytest.param(lambda: Gateway(layer=far), id="fast-by-wire"),
    pytest.param(lambda: Gateway(is_fast=False), id="grants"),
    pytest.param(lambda: Gateway(is_fast=False, has_grants=False), id="whole-road"),
]
GET = b"GET /v1/campaigns/c-1 HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer cgk_old\r\n\r\n"


def of(key: ClientKey, limits: ClientLimits | None = None) -> Client:
    return replace(REPORTING, key=key, limits=limits)


def test_each_of_a_clients_keys_lets_it_in_until_that_one_expires():
    now = [100.0]
    keys = {digest("cgk_old"): of(ClientKey("old", 200.0)), digest("cgk_new"): of(ClientKey("new"))}
    clients = Clients(keys, None, clock=lambda: now[0])
    assert [clients.identify([f"Bearer cgk_{key}"]).name for key in ("old", "new")] == ["reporting"] * 2
    now[0] = 200.0
    assert clients.identify(["Bearer cgk_new"]).key.name == "new"
    refused = denial(clients.identify, ["Bearer cgk_old"])
    assert refused.failure == denial(clients.identify, ["Bearer cgk_nobody"]).failure, "the caller learns no more"
    assert refused.reason == "the key old of client reporting has expired"


@pytest.mark.drill(
    "a client's key expires",
    planted="a clock that goes past its end, while a connection asks on by each way that a request can go",
    seen="401 for the next request, which does not say why; the log does",
)
@pytest.mark.parametrize("make", ROADS)
async def test_an_open_connection_notices_that_its_key_expires(make, caplog):
    now = [100.0]
    async with running(make()) as gateway, calling(gateway) as caller:
        gateway.clients._clock = lambda: now[0]
        gateway.clients.replace({digest("cgk_old"): of(ClientKey("2026-11", 200.0))})
        await caller.send(*[GET] * 4, turns=60)
        now[0] = 199.9
        assert gateway.clients.end_expired(100.0) == 199.9
        await caller.send(GET, turns=60)
        now[0] = 200.0
        gateway.clients.end_expired(199.9)
        with caplog.at_level(logging.INFO, "campaign_gateway.requests"):
            await caller.send(GET, turns=60)
        assert [answer.status for answer in caller.answers] == [200] * 5 + [401]
        (line,) = [record.fields for record in caplog.records if "fields" in vars(record)]
        assert line["reason"] == "the key 2026-11 of client reporting has expired"
        assert b"expired" not in caller.answers[-1].body


async def test_the_watch_ends_the_epoch_of_a_key_that_expires(monkeypatch, caplog):
    now, slept = [100.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        if len(slept) == 5:
            raise KeyboardInterrupt

    clients = Clients({digest("cgk_old"): of(ClientKey("old", 102.5))}, None, clock=lambda: now[0])
    monkeypatch.setattr("campaign_gateway.web.clients.asyncio.sleep", sleep)
    number = clients.epoch.number
    with pytest.raises(KeyboardInterrupt):
        await clients.watch()
    assert slept == [1.0, 1.0, 0.5, 1.0, 1.0]
    assert clients.epoch.number == number + 1
    assert [record.getMessage() for record in caplog.records] == [
        "the key old of client reporting has expired: it is refused"
    ]


@pytest.mark.parametrize("make", ROADS)
@pytest.mark.parametrize("id_", [b"c-1", b"nowhere"])
async def test_the_last_use_of_each_key_is_known_whichever_way_its_requests_go(make, id_):
    old, new = ClientKey("old"), ClientKey("new")
    async with running(make()) as gateway, calling(gateway) as caller:
        gateway.clients.replace({digest("cgk_old"): of(old), digest("cgk_new"): of(new)})
        for _ in range(5):
            old.used = -1.0
            await caller.send(GET.replace(b"c-1", id_), turns=60)
            assert old.used > 0
        assert abs(old.last_used() - time.time()) < 60
        assert new.last_used() == 0


def test_what_is_known_of_keys_and_limits_is_kept_where_they_stay():
    old, other = ClientKey("old"), ClientKey("new")
    clients = Clients({digest("cgk_old"): of(old, ClientLimits((6, 60.0)))}, None)
    limits = clients.identify(["Bearer cgk_old"]).limits
    old.used = 7.0
    clients.replace({digest(key): of(ClientKey(), ClientLimits((6, 60.0))) for key in ("cgk_old", "cgk_new")})
    assert [client.key.last_used() > 0 for client in clients.by_key()] == [True, False]
    assert {id(client.limits) for client in clients.by_key()} == {id(limits)}
    clients.replace({digest("cgk_old"): of(other, ClientLimits((7, 60.0)))})
    assert clients.identify(["Bearer cgk_old"]).limits is not limits
