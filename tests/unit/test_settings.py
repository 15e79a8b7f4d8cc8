import copy
import io
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from ruamel.yaml import YAML

from campaign_gateway.settings import (
    Address,
    Settings,
    SettingsError,
    expired_keys,
    folder_fault,
    hide_password,
    load,
    read_tree,
    state_folder,
    traces_fault,
    wants_traces,
)
from campaign_gateway.settings.tree import Cache
from tests.support.tls import Authority

SECRET = "hunter2-must-not-be-told"
HASH = "ab" * 32


NEEDS_A_CACHE_URL = (
    "is no URL of a Redis: write memory://, redis:// or rediss://host:port/db, unix:///path, redis+sentinel://host:port,host:port/master,"
    " or redis+cluster://host:port,host:port"
)


@pytest.fixture
def files(tmp_path, private_pem, public_pem):
    for name, text in (("client-secret", SECRET.encode()), ("private.pem", private_pem), ("platform.pem", public_pem)):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "empty").write_text(" \n")
    return tmp_path


@pytest.fixture
def tree(files) -> dict[str, Any]:
    """The least that can be run."""
    return {
        "credentials": {"main": {"client_id": "cs-1", "client_secret_file": str(files / "client-secret")}},
        "streams": {"support": {"stream_id": "st-1", "account_id": "acc-1", "credential": "main"}},
    }


def put(tree: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """The tree with one key set; dots lead into sections, `-` as the value removes."""
    tree = copy.deepcopy(tree)
    *sections, last = key.split(".")
    inner = tree
    for section in sections:
        inner = inner.setdefault(section, {})
    if value == "-":
        del inner[last]
    else:
        inner[last] = value
    return tree


def mistakes(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        read_tree(tree)
    lines = list(map(str, refused.value.mistakes))
    assert all("\n" not in line for line in lines)
    return lines


def problems(tree: dict[str, Any]) -> list[str]:
    """The mistakes without what is to be written; `test_wrong_settings.py` has the whole lines."""
    with pytest.raises(SettingsError) as refused:
        read_tree(tree)
    return [f"{mistake.key}: {mistake.problem}" for mistake in refused.value.mistakes]


def at(settings: Settings, key: str) -> object:
    value: Any = settings
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


def write(path: Path, tree: object) -> Path:
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(tree, file)
    return path


# Every key.


@pytest.mark.parametrize(
    ("key", "default"),
    [
        ("listen", (Address("127.0.0.1", 8080),)),
        ("keepalive", 75.0),
        ("send_timeout", 30.0),
        ("max_unsent", 64 * 2**20),
        ("admin_listen", Address("127.0.0.1", 9090)),
        ("workers", 1),
        ("webhooks", {}),
        ("allow_anonymous", False),
        ("hosts", ()),
        ("docs", True),
        ("platform.url", "https://platform.kore.ai"),
        ("platform.timeout", 10.0),
        ("platform.connect_timeout", 2.0),
        ("platform.max_body", 4 * 2**20),
        ("platform.max_header", 2**16),
        ("platform.max_headers", 1_000),
        ("credentials.main.algorithm", "HS256"),
        ("credentials.main.subject", "campaign-gateway"),
        ("credentials.main.token_lifetime", 600.0),
        ("credentials.main.jti", False),
        ("credentials.main.jwe", None),
        ("streams.support.app_id", None),
        ("streams.support.default", False),
        ("cache.url", "memory://"),
        ("cache.prefix", "cg"),
        ("cache.timeout", 0.25),
        ("cache.local_max_bytes", 64 * 2**20),
        ("cache.state_dir", None),
        ("listen_options.max_connection_age", 3_600.0),
        ("tls", None),
        ("log.level", "info"),
        ("log.access", "sampled"),
        ("log.hits_per_second", 1_000),
        ("log.slow", 1.0),
        ("log.format", None),
        ("freshness.factor", 0.1),
        ("freshness.min", 5.0),
        ("freshness.max", 600.0),
        ("freshness.default", 30.0),
        ("freshness.status.Active.max", 15.0),
        ("freshness.status.Preparing.max", 5.0),
        ("freshness.missing", 10.0),
        ("freshness.stale_while_revalidate", 60.0),
        ("freshness.stale_if_error", 86_400.0),
    ],
)
def test_a_key_that_is_left_out_has_the_value_of_design_4(tree, key, default):
    assert at(read_tree(tree), key) == default


@pytest.mark.parametrize(
    ("key", "written", "read"),
    [
        ("listen", "127.0.0.2:80", (Address("127.0.0.2", 80),)),
        ("listen", "[::1]:8080", (Address("::1", 8080),)),
        ("listen", ["[::1]:8080", "localhost:0"], (Address("::1", 8080), Address("localhost", 0))),
        ("admin_listen", "127.0.0.1:0", Address("127.0.0.1", 0)),
        ("allow_anonymous", True, True),
        ("hosts", ["Gateway.example.com"], ("Gateway.example.com",)),
        ("platform.url", "http://127.0.0.1:8081/", "http://127.0.0.1:8081"),
        ("platform.url", "HTTPS://Platform.Example", "https://Platform.Example"),
        ("platform.url", "http://[::1]:8081", "http://[::1]:8081"),
        ("platform.proxy", "http://egress:3128/", "http://egress:3128"),
        ("platform.min_tls", 1.3, "1.3"),
        ("platform.min_tls", "1.2", "1.2"),
        ("platform.timeout", "2500ms", 2.5),
        ("platform.connect_timeout", "1s", 1.0),
        ("platform.max_body", "1KiB", 1024),
        ("platform.max_header", "8KiB", 8192),
        ("platform.max_headers", 128, 128),
        ("credentials.main.client_id", "cs-other", "cs-other"),
        ("credentials.main.algorithm", "HS512", "HS512"),
        ("credentials.main.subject", "someone", "someone"),
        ("credentials.main.token_lifetime", "1h", 3600.0),
        ("credentials.main.token_lifetime", "10s", 10.0),
        ("credentials.main.jti", True, True),
        ("streams.support.stream_id", "st_2", "st_2"),
        ("streams.support.account_id", "64b7", "64b7"),
        ("streams.support.app_id", "st-3", "st-3"),
        ("streams.support.default", True, True),
        ("budgets.default.calls", 30, 30),
        ("budgets.acc-1.window", "1s", 1.0),
        ("budgets.acc-1.reserve", 0, 0),
        ("cache.url", "redis://redis:6379/0", "redis://redis:6379/0"),
        ("cache.prefix", "my.prefix-1_x", "my.prefix-1_x"),
        ("send_timeout", "2s", 2.0),
        ("max_unsent", "1MiB", 2**20),
        ("cache.timeout", "0.5s", 0.5),
        ("cache.local_max_bytes", "1GiB", 2**30),
        ("cache.state_dir", "/var/lib/gateway", Path("/var/lib/gateway")),
        ("freshness.factor", 0, 0.0),
        ("freshness.min", "0s", 0.0),
        ("freshness.max", "1d", 86_400.0),
        ("freshness.default", "1m", 60.0),
        ("freshness.status", {"Paused": {"min": "1s", "max": "2s"}}, None),
        ("freshness.missing", "0ms", 0.0),
        ("freshness.stale_while_revalidate", "0s", 0.0),
        ("freshness.stale_if_error", "1.5h", 5400.0),
        ("listen_options.max_connection_age", "10m", 600.0),
        ("log.level", "debug", "debug"),
        ("log.access", "off", "off"),
        ("log.hits_per_second", 5, 5),
        ("log.slow", "250ms", 0.25),
        ("log.format", "text", "text"),
        ("shutdown.drain", "0s", 0.0),
        ("shutdown.grace", "5s", 5.0),
    ],
)
def test_a_key_that_is_written_acts(tree, key, written, read):
    found = at(read_tree(put(tree, key, written)), key)
    if read is None:
        assert isinstance(found, dict)
        assert (found["Paused"].min, found["Paused"].max) == (1.0, 2.0)
    else:
        assert found == read


def test_a_client_has_its_streams_and_scopes_and_its_hash_in_lower_case(tree):
    row = {"key_sha256": HASH.upper(), "streams": ["support"], "scopes": ["read", "purge"]}
    client = read_tree(put(tree, "clients.reporting", row)).clients["reporting"]
    assert (client.key_sha256, client.streams, client.scopes) == (
        HASH,
        frozenset({"support"}),
        frozenset({"read", "purge"}),
    )
    plain = read_tree(put(tree, "clients.reporting", {"key_sha256": HASH, "streams": ["support"]}))
    assert plain.clients["reporting"].scopes == {"read"}


@pytest.mark.parametrize("enc", ["A128CBC-HS256", "A128GCM", "A256GCM"])
def test_tokens_may_be_encrypted_for_the_platform(tree, files, enc):
    jwe = {"public_key_file": str(files / "platform.pem"), "key_id": "k-1", "enc": enc}
    found = read_tree(put(tree, "credentials.main.jwe", jwe)).credentials["main"].jwe
    assert found is not None
    assert (found.public_key_file, found.key_id, found.alg, found.enc) == (
        files / "platform.pem",
        "k-1",
        "RSA-OAEP",
        enc,
    )


def test_encrypted_tokens_without_their_package_are_refused_with_its_name(tree, files, monkeypatch):
    monkeypatch.setitem(sys.modules, "joserfc", None)
    jwe = {"public_key_file": str(files / "platform.pem"), "key_id": "k-1"}
    with pytest.raises(SettingsError, match=r"jwe: .*pip install 'campaign-gateway\[jwe\]'"):
        read_tree(put(tree, "credentials.main.jwe", jwe))


@pytest.mark.parametrize("algorithm", ["RS256", "RS512"])
def test_rsa_takes_a_private_key(tree, files, algorithm):
    row = {"client_id": "cs-1", "algorithm": algorithm, "private_key_file": str(files / "private.pem")}
    assert not read_tree(put(tree, "credentials.main", row)).credentials["main"].is_symmetric


def test_a_secret_may_stand_in_a_variable(tree, monkeypatch):
    monkeypatch.setenv("SUPPORT_SECRET", SECRET)
    settings = read_tree(put(tree, "credentials.main", {"client_id": "cs-1", "client_secret_env": "SUPPORT_SECRET"}))
    assert SECRET not in repr(settings) + settings.model_dump_json()


def test_workers_may_share_any_redis(tree):
    for url in ("redis://redis:6379", "unix:///run/redis.sock"):
        assert read_tree(put(put(tree, "workers", 4), "cache.url", url)).workers == 4


def test_settings_are_frozen(tree):
    with pytest.raises(ValueError, match="frozen"):
        read_tree(tree).platform.timeout = 1.0  # type: ignore[misc]


# What follows from several keys.


def test_a_lone_stream_is_the_default_and_one_that_is_named_wins(tree):
    assert read_tree(tree).default_stream == "support"
    two = put(tree, "streams.sales", {**tree["streams"]["support"], "stream_id": "st-2"})
    assert read_tree(two).default_stream is None
    assert read_tree(put(two, "streams.sales.default", True)).default_stream == "sales"


@pytest.mark.parametrize(
    ("budgets", "expected"),
    [
        pytest.param({}, (60, 60.0, 5), id="design-4"),
        pytest.param({"default": {"calls": 30}}, (30, 60.0, 2), id="the-default"),
        pytest.param({"default": {"calls": 30}, "acc-1": {"calls": 24}}, (24, 60.0, 2), id="its-own"),
        pytest.param({"acc-1": {"reserve": 9}}, (60, 60.0, 9), id="a-written-reserve"),
        pytest.param({"acc-1": {"reserve": 0}}, (60, 60.0, 0), id="no-reserve"),
        pytest.param({"acc-1": {"calls": 1}}, (1, 60.0, 0), id="one-call-needs-no-reserve"),
    ],
)
def test_an_accounts_budget_is_its_own_or_the_default(tree, budgets, expected):
    budget = read_tree({**tree, "budgets": budgets}).budget_of("acc-1")
    assert (budget.calls, budget.window, budget.reserved) == expected


# Mistakes of form.


@pytest.mark.parametrize(
    "key",
    [
        "colour",
        "platform.colour",
        "credentials.main.colour",
        "credentials.main.client_secret",
        "credentials.main.jwe.colour",
        "streams.support.colour",
        "budgets.default.colour",
        "clients.reporting.key",
        "cache.colour",
        "freshness.colour",
        "freshness.status.Active.colour",
        "shutdown.colour",
    ],
)
def test_an_unknown_key_is_refused_at_every_level_and_its_value_is_not_told(tree, key):
    assert f"{key}: unknown key" in problems(put(tree, key, SECRET))
    assert SECRET not in "\n".join(mistakes(put(tree, key, SECRET)))


@pytest.mark.parametrize(
    ("key", "removed"),
    [
        ("credentials", True),
        ("streams", True),
        ("credentials.main.client_id", True),
        ("streams.support.stream_id", True),
        ("streams.support.account_id", True),
        ("streams.support.credential", True),
        ("clients.reporting.streams", False),
    ],
)
def test_a_missing_key_is_named(tree, key, removed):
    broken = put(tree, key, "-") if removed else put(tree, key.rpartition(".")[0], {})
    assert f"{key}: missing" in problems(broken)


DURATION = "is no time: write a number with a unit (ms, s, m, h, d), such as 250ms or 30s"
SIZE = "is no size: write a number with a unit (B, KiB, MiB, GiB), such as 4MiB"
ORIGIN = "is no URL of a host: write http:// or https:// and a host, without user or password"
NO_PATH = "has more than a host: write it without a path, a query or a fragment"
HOST_PORT = "is no address: write host:port, such as 127.0.0.1:8080 or [::1]:8080"


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        pytest.param("platform.timeout", 10, DURATION, id="duration-without-a-unit"),
        pytest.param("platform.timeout", "10", DURATION, id="duration-in-text-without-a-unit"),
        pytest.param("platform.timeout", "10 seconds", DURATION, id="duration-with-a-word"),
        pytest.param("platform.timeout", "-1s", DURATION, id="duration-below-zero"),
        pytest.param("platform.timeout", "1e3s", DURATION, id="duration-with-an-exponent"),
        pytest.param("platform.timeout", "10S", DURATION, id="duration-with-a-large-unit"),
        pytest.param(
            "platform.timeout", None, "is empty: write what belongs there, or remove the key", id="duration-empty"
        ),
        pytest.param("platform.timeout", True, DURATION, id="duration-true"),
        pytest.param("platform.timeout", "0s", "is too small: write more than 0", id="a-time-out-of-nothing"),
        pytest.param("platform.max_body", 4_000_000, SIZE, id="size-without-a-unit"),
        pytest.param("platform.max_body", "4MB", SIZE, id="size-with-a-decimal-unit"),
        pytest.param("platform.max_body", "0B", "is too small: write more than 0", id="no-room"),
        pytest.param("platform.url", "platform.kore.ai", ORIGIN, id="url-without-a-scheme"),
        pytest.param("platform.url", "ftp://platform", ORIGIN, id="url-of-another-scheme"),
        pytest.param("platform.url", f"https://user:{SECRET}@platform", ORIGIN, id="url-with-a-password"),
        pytest.param("platform.url", "https://platform/api", NO_PATH, id="url-with-a-path"),
        pytest.param("platform.url", "https://platform/?a", NO_PATH, id="url-with-a-query"),
        pytest.param("listen", "8080", HOST_PORT, id="port-alone"),
        pytest.param("listen", 8080, HOST_PORT, id="port-as-a-number"),
        pytest.param("listen", "127.0.0.1:65536", HOST_PORT, id="port-too-high"),
        pytest.param("listen", "::1:8080", HOST_PORT, id="IPv6-without-brackets"),
        pytest.param("listen", "http://127.0.0.1:8080", HOST_PORT, id="listen-with-a-scheme"),
        pytest.param("cache.url", f"http://:{SECRET}@host", NEEDS_A_CACHE_URL, id="cache-of-another-scheme"),
        pytest.param("cache.url", "redis://", NEEDS_A_CACHE_URL, id="redis-without-a-host"),
        pytest.param(
            "credentials.main.token_lifetime",
            "61m",
            "is too short or too long for the platform: write 10s to 1h",
            id="the-platform-takes-an-hour-at-most",
        ),
        pytest.param(
            "credentials.main.algorithm",
            "none",
            "is none of the values that there are: write HS256, HS512, RS256 or RS512",
            id="no-signature",
        ),
        pytest.param("freshness.factor", -0.1, "is too small: write 0 or more", id="factor-below-zero"),
        pytest.param("budgets.default.calls", 0, "is too small: write 1 or more", id="no-calls"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_line_with_its_key(tree, key, value, said):
    assert mistakes(put(tree, key, value)) == [f"{key}: {said}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param("streams.support.stream_id", "../x", id="stream-id-with-a-path"),
        pytest.param("streams.support.account_id", 64, id="account-id-as-a-number"),
        pytest.param("streams.support.account_id", "a" * 129, id="account-id-too-long"),
        pytest.param("streams.a/b", {}, id="alias-with-a-slash"),
        pytest.param("streams.-a", {}, id="alias-with-a-dash-first"),
        pytest.param("clients.re porting", {}, id="client-name-with-a-space"),
        pytest.param("clients.reporting.key_sha256", SECRET, id="hash-that-is-a-key"),
        pytest.param("clients.reporting.scopes", ["root"], id="unknown-scope"),
        pytest.param("clients.reporting.streams", [], id="no-streams"),
        pytest.param("cache.prefix", "a:b", id="prefix-with-a-colon"),
        pytest.param("credentials.main.jwe.enc", "A192GCM", id="unknown-encryption"),
        pytest.param("credentials.main.jwe.alg", "RSA1_5", id="unsafe-key-encryption"),
        pytest.param("allow_anonymous", "perhaps", id="neither-true-nor-false"),
        pytest.param("hosts", ["https://gateway.example.com"], id="host-with-a-scheme"),
        pytest.param("hosts", ["*.example.com"], id="host-with-a-star"),
        pytest.param("platform", "https://platform", id="text-where-a-section-goes"),
        pytest.param("streams", [], id="a-list-where-a-section-goes"),
        pytest.param("streams", {}, id="no-streams-at-all"),
        pytest.param("credentials.main", None, id="an-empty-section"),
        pytest.param("platform.proxy", "https://egress:3128", id="a-proxy-behind-TLS"),
        pytest.param("platform.proxy", f"http://user:{SECRET}@egress:3128", id="a-proxy-with-a-password"),
        pytest.param("platform.min_tls", "1.1", id="an-old-TLS"),
        pytest.param("platform.url", "http://host:99999", id="a-port-that-there-is-not"),
        pytest.param("platform.url", "http://host:http", id="a-port-in-words"),
        pytest.param("platform.url", "http://ho st", id="a-host-with-a-space"),
        pytest.param("cache.url", "redis://host:99999/0", id="a-redis-port-that-there-is-not"),
        pytest.param("cache.url", "redis://host/zero", id="a-redis-database-in-words"),
        pytest.param("freshness.factor", float("inf"), id="an-infinite-factor"),
        pytest.param("freshness.factor", float("nan"), id="a-factor-that-is-no-number"),
    ],
)
def test_a_value_of_the_wrong_form_is_refused_at_its_key(tree, key, value):
    found = mistakes(put(tree, key, value))
    section = key.split(".")[0]
    assert any(line.startswith(section) for line in found)
    assert SECRET not in "\n".join(found)


def test_all_mistakes_are_told_at_once(tree):
    broken = put(put(put(tree, "colour", 1), "platform.timeout", "soon"), "cache.prefix", "")
    assert [line.partition(":")[0] for line in mistakes(broken)] == ["platform.timeout", "cache.prefix", "colour"]


# Mistakes between keys.


CLEAR = "platform.url: would send tokens in clear text"


def client(streams: list[str], key: str = HASH) -> dict[str, object]:
    return {"key_sha256": key, "streams": streams}


def keys(*rows: dict[str, str]) -> dict[str, object]:
    return {"keys": list(rows), "streams": ["support"]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param(
            {"admin_listen": "127.0.0.1:8080"}, ["admin_listen: must differ from listen"], id="one-address-for-two"
        ),
        pytest.param(
            {"listen": ["127.0.0.1:1", "127.0.0.1:9090"]},
            ["admin_listen: must differ from listen"],
            id="one-address-for-two-in-a-list",
        ),
        pytest.param(
            {"listen": ["127.0.0.1:1", "127.0.0.1:1"]}, ["listen: names one address twice"], id="an-address-twice"
        ),
        pytest.param(
            {"listen": ["127.0.0.1:1", "10.0.0.1:1"]},
            ["clients: none are set"],
            id="one-of-two-beyond-loopback",
        ),
        pytest.param(
            {"platform.connect_timeout": "11s"},
            ["platform.connect_timeout: must not be above platform.timeout"],
            id="connect-above-whole",
        ),
        pytest.param({"platform.url": "http://platform.kore.ai"}, [CLEAR], id="clear-text"),
        pytest.param({"platform.url": "http://10.1.2.3:8080"}, [CLEAR], id="clear-text-inside"),
        pytest.param({"platform.url": "http://0.0.0.0:1"}, [CLEAR], id="clear-text-to-anybody"),
        pytest.param({"platform.url": "HTTP://platform.kore.ai"}, [CLEAR], id="clear-text-in-capitals"),
        pytest.param(
            {"streams.support.credential": "other"},
            ["streams.support.credential: no credential is named other"],
            id="unknown-credential",
        ),
        pytest.param({"budgets.acc-9": {}}, ["budgets.acc-9: no stream has this account_id"], id="budget-of-nobody"),
        pytest.param(
            {"budgets.default": {"calls": 5, "reserve": 5}},
            ["budgets.default.reserve: must be below calls"],
            id="all-in-reserve",
        ),
        pytest.param(
            {"clients.a": client(["support", "x"])},
            ["clients.a.streams: no stream is named x"],
            id="client-of-an-unknown-stream",
        ),
        pytest.param(
            {"clients.a": client(["support"]), "clients.b": client(["support"], HASH.upper())},
            [
                "clients.a.key_sha256: another client has the same key",
                "clients.b.key_sha256: another client has the same key",
            ],
            id="one-key-for-two",
        ),
        pytest.param(
            {"clients.a": {"streams": ["support"]}}, ["clients.a.key_sha256: missing"], id="client-without-a-key"
        ),
        pytest.param(
            {"clients.a": keys({"sha256": HASH}), "clients.b": client(["support"])},
            [
                "clients.a.keys.0.sha256: another client has the same key",
                "clients.b.key_sha256: another client has the same key",
            ],
            id="one-key-for-two-in-both-forms",
        ),
        pytest.param(
            {"clients.a": {**keys({"sha256": HASH.upper()}), "key_sha256": HASH}},
            ["clients.a.key_sha256: stands there twice", "clients.a.keys.0.sha256: stands there twice"],
            id="one-key-twice",
        ),
        pytest.param(
            {"clients.a": keys({"sha256": HASH, "note": "x"}, {"sha256": "0" * 64, "note": "x"})},
            [
                "clients.a.keys.0.note: another key of this client has the same",
                "clients.a.keys.1.note: another key of this client has the same",
            ],
            id="one-note-for-two-keys",
        ),
        pytest.param(
            {"clients.a": keys({"sha256": HASH, "note": "cgk_hunter2"})},
            ["clients.a.keys.0.note: is the key itself"],
            id="a-key-for-a-note",
        ),
        pytest.param({"freshness.min": "11m"}, ["freshness.min: must not be above freshness.max"], id="min-above-max"),
        pytest.param(
            {"freshness.status": {"Paused": {"min": "3s", "max": "2s"}}},
            ["freshness.status.Paused.min: must not be above its max"],
            id="min-above-max-of-a-status",
        ),
        pytest.param(
            {"credentials.main.client_secret_env": "SOME_NAME"},
            [
                "credentials.main: HS256 needs client_secret_env or client_secret_file, and one only",
                "credentials.main.client_secret_env: SOME_NAME is not set",
            ],
            id="two-secrets",
        ),
        pytest.param(
            {"credentials.main.client_secret_file": "-"},
            ["credentials.main: HS256 needs client_secret_env or client_secret_file"],
            id="no-secret",
        ),
        pytest.param(
            {"credentials.main.algorithm": "RS256"},
            [
                "credentials.main: RS256 needs private_key_file",
                "credentials.main.client_secret_file: is not for RS256",
            ],
            id="a-secret-for-RSA",
        ),
        pytest.param(
            {"cache": {"url": "redis://redis:6379/0", "state_dir": "/state"}},
            ["cache.state_dir: is for memory:// only, because Redis stores the calls and the entries"],
            id="a-state-directory-beside-a-Redis",
        ),
        pytest.param(
            {"cache.state_dir": "state"},
            ["cache.state_dir: must be an absolute path, because the next start must find it from any directory"],
            id="a-state-directory-that-moves",
        ),
        pytest.param(
            {"workers": 2},
            ["workers: more than 1 needs a Redis, which shares budget, fills and invalidations"],
            id="workers-that-share-nothing",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_one_line_each(tree, changes, said, monkeypatch):
    monkeypatch.delenv("SOME_NAME", raising=False)
    for key, value in changes.items():
        tree = put(tree, key, value)
    assert problems(tree) == said


@pytest.mark.parametrize(
    "platform",
    [
        {"url": "http://platform.example", "insecure": True},
        {"url": "http://[::1]:1"},
        {"url": "http://localhost:1"},
        {"url": "http://127.0.0.2:1"},
    ],
    ids=lambda platform: platform["url"],
)
def test_clear_text_stays_at_home_or_is_written_out(tree, platform):
    assert read_tree({**tree, "platform": platform}).platform.url == platform["url"]


def test_a_second_default_stream_is_one_too_many(tree):
    row = {**tree["streams"]["support"], "default": True}
    assert problems({**tree, "streams": {"a": row, "b": {**row, "stream_id": "st-2"}}}) == [
        "streams.b.default: a is the default already"
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "{path} is empty"),
        ("none", "{path} cannot be read (No such file or directory)"),
        (".", "{path} cannot be read (Is a directory)"),
    ],
)
@pytest.mark.parametrize("key", ["client_secret_file", "private_key_file", "jwe.public_key_file"])
def test_a_file_that_holds_no_secret_is_named(tree, files, key, name, said):
    path = files / name
    if key == "private_key_file":
        tree = put(tree, "credentials.main", {"client_id": "cs-1", "algorithm": "RS256"})
    if key == "jwe.public_key_file":
        tree = put(tree, "credentials.main.jwe.key_id", "k-1")
    assert problems(put(tree, f"credentials.main.{key}", str(path))) == [
        f"credentials.main.{key}: {said.format(path=path)}"
    ]


PUBLIC = (
    rsa.generate_private_key(65_537, 2_048)
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def pem(key: Any) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.mark.drill(
    "keys that cannot sign, or are soon found",
    planted="PEM as a secret, EC, 1,024 bits, 5 bytes",
    seen="refused by name before the start",
)
@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("client_secret_file", b"ssh-ed25519 AAAAC3Nza", "is a public key of SSH: it cannot be a shared secret"),
        ("client_secret_file", b"short\n", "has fewer than 8 bytes: whoever sees one token finds it"),
        (
            "client_secret_file",
            pem(ec.generate_private_key(ec.SECP256R1())),
            "is a PEM key: it cannot be a shared secret",
        ),
        ("private_key_file", b"-----BEGIN PRIVATE KEY-----\ngarbage", "is no PEM key that can be read"),
        ("private_key_file", SECRET.encode(), "is no PEM key that can be read"),
        ("private_key_file", pem(ec.generate_private_key(ec.SECP256R1())), "is no RSA key"),
        ("private_key_file", pem(rsa.generate_private_key(65_537, 1_024)), "has 1024 bits, and needs 2048"),
        ("private_key_file", PUBLIC, "is a public key: it signs nothing"),
        ("jwe.public_key_file", b"-----BEGIN PUBLIC KEY-----\ngarbage", "is no PEM key that can be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_key_that_cannot_sign_or_is_soon_found_is_refused_before_the_start(tree, files, key, content, said):
    (files / "odd").write_bytes(content)
    if key == "private_key_file":
        tree = put(tree, "credentials.main", {"client_id": "cs-1", "algorithm": "RS256"})
    if key == "jwe.public_key_file":
        tree = put(tree, "credentials.main.jwe.key_id", "k-1")
    (mistake,) = problems(put(tree, f"credentials.main.{key}", str(files / "odd")))
    assert mistake.startswith(f"credentials.main.{key}: {said}")
    assert SECRET not in mistake


@pytest.mark.drill(
    "a key that signs nothing, a certificate without its key",
    planted="a signer that fails; another's key, no PEM, a password",
    seen="refused by name before the start, by `check` too",
)
def test_each_certificate_is_loaded_before_the_start(tree, files):
    authority = Authority(files, "authority")
    one, other = authority.issue("one", "localhost"), authority.issue("other", "localhost")
    (files / "odd").write_text("no certificate")
    (files / "both").write_text(one.cert_file.read_text() + one.key_file.read_text())
    locked = serialization.BestAvailableEncryption(b"password")
    key = ec.generate_private_key(ec.SECP256R1())
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (files / "locked").write_bytes(key.private_bytes(*form, locked))

    def with_tls(**tls: Path) -> dict[str, Any]:
        return put(tree, "cache", {"url": "rediss://redis:1", "tls": {key: str(path) for key, path in tls.items()}})

    read_tree(with_tls(ca_file=authority.file, cert_file=one.cert_file, key_file=one.key_file))
    read_tree(with_tls(cert_file=files / "both"))
    read_tree(put(tree, "platform.ca_file", str(authority.file)))
    assert problems(with_tls(key_file=one.key_file)) == ["cache.tls.key_file: needs cache.tls.cert_file"]
    odd = files / "odd"
    for cert_file, key_file in [
        (one.cert_file, other.key_file),
        (odd, one.key_file),
        (one.cert_file, odd),
        (one.cert_file, files / "locked"),
    ]:
        (mistake,) = problems(with_tls(cert_file=cert_file, key_file=key_file))
        assert mistake.startswith("cache.tls.cert_file: and its key cannot be used")
    assert problems(with_tls(ca_file=odd)) == [f"cache.tls.ca_file: {odd} holds no certificate in PEM"]
    assert problems(put(tree, "platform.ca_file", str(odd))) == [f"platform.ca_file: {odd} holds no certificate in PEM"]
    none = files / "none"
    assert problems(put(tree, "platform.ca_file", str(none))) == [
        f"platform.ca_file: {none} cannot be read (No such file or directory)"
    ]


def test_the_certificate_that_callers_see_is_loaded_before_the_start(tree, files):
    authority = Authority(files, "authority")
    own, other, odd = authority.issue("one", "localhost"), authority.issue("other"), files / "odd"
    odd.write_text("no certificate")
    whole = {"cert_file": own.cert_file, "key_file": own.key_file, "client_ca_file": authority.file}

    def with_tls(**changes: object) -> dict[str, Any]:
        tls = {key: value for key, value in {**whole, **changes}.items() if value is not None}
        return put(tree, "tls", {key: str(row) if isinstance(row, Path) else row for key, row in tls.items()})

    assert read_tree(with_tls()).tls is not None
    for file in (odd, other.key_file):
        (mistake,) = problems(with_tls(key_file=file))
        assert mistake.startswith("tls.cert_file: and its key cannot be used")
    assert problems(with_tls(client_ca_file=odd)) == [f"tls.client_ca_file: {odd} holds no certificate in PEM"]
    none = files / "none"
    assert problems(with_tls(cert_file=none)) == [f"tls.cert_file: {none} cannot be read (No such file or directory)"]
    names = {"a.internal": "nobody"}
    assert problems(with_tls(client_names=names)) == ["tls.client_names.a.internal: no client is named nobody"]
    assert problems(with_tls(client_ca_file=None, client_names=names))[0] == (
        "tls.client_names: needs tls.client_ca_file"
    )


@pytest.mark.drill("keys that cannot sign, or are soon found")
def test_a_short_secret_in_a_variable_is_refused_too(tree, monkeypatch):
    monkeypatch.setenv("SHORT", "short")
    row = {"client_id": "cs-1", "client_secret_env": "SHORT"}
    assert problems(put(tree, "credentials.main", row)) == [
        "credentials.main.client_secret_env: has fewer than 8 bytes: whoever sees one token finds it"
    ]


@pytest.mark.parametrize(
    ("query", "setting"),
    [
        ("socket_timeout=60", "set cache.timeout"),
        ("ssl=true", "set cache.tls and rediss://"),
        ("ssl_cert_reqs=none", "set cache.tls and rediss://"),
        ("password=x", "set cache.password_file"),
        ("db=3", "set the number in the path"),
        ("max_connections=1", "the settings under cache say all that can be said"),
    ],
)
@pytest.mark.parametrize("url", ["redis://redis:6379/0", "rediss://redis:6379"])
def test_options_in_the_url_of_redis_are_refused_by_naming_the_setting(tree, url, query, setting):
    assert mistakes(put(tree, "cache.url", f"{url}?{query}")) == [f"cache.url: takes no options: {setting}"]


@pytest.mark.parametrize(
    "url",
    [
        "redis://[2001:db8::1]:6379/0",
        "redis+sentinel://[2001:db8::1]:26379,[::1]:26379,s3:26379/main/0",
        "redis+cluster://[2001:db8::1]:6379,n2:6379",
    ],
)
def test_servers_may_stand_at_ipv6_addresses(tree, url):
    assert read_tree(put(tree, "cache.url", url)).cache.url == url
    assert problems(put(tree, "cache.url", url.replace("[", "").replace("]", "")))


def test_what_sentinels_ask_for_is_checked(tree, files):
    tree = put(tree, "cache.url", "redis+sentinel://s1:26379/main")
    secret, authority = str(files / "client-secret"), str(Authority(files, "authority").file)
    whole = put(tree, "cache.sentinel", {"username": "gateway", "password_file": secret, "tls": {"ca_file": authority}})
    sentinel = read_tree(whole).cache.sentinel
    assert sentinel is not None
    assert sentinel.username == "gateway"
    assert problems(put(whole, "cache.url", "redis://redis:6379")) == ["cache.sentinel: is for redis+sentinel:// only"]
    assert problems(put(tree, "cache.sentinel", {"username": "gateway"})) == [
        "cache.sentinel.username: needs cache.sentinel.password_file"
    ]
    empty = str(files / "empty")
    assert problems(put(tree, "cache.sentinel", {"password_file": empty, "tls": {"key_file": empty}})) == [
        "cache.sentinel.tls.key_file: needs cache.sentinel.tls.cert_file",
        f"cache.sentinel.password_file: {empty} is empty",
        f"cache.sentinel.tls.key_file: {empty} is empty",
    ]


def test_a_unix_socket_names_its_database_in_the_query(tree):
    assert read_tree(put(tree, "cache.url", "unix:///run/redis.sock?db=3")).cache.url.endswith("?db=3")
    assert problems(put(tree, "cache.url", "unix:///run/redis.sock?socket_timeout=60"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * 15, "has fewer than 16 bytes: a search finds what is shorter"),
        (b"\n", "{} is empty"),
        (pem(rsa.generate_private_key(65_537, 2_048)), "is a PEM key, no key for a seal"),
    ],
)
def test_a_key_that_seals_nothing_is_refused(tree, files, content, said):
    (files / "odd").write_bytes(content)
    (files / "good").write_bytes(b"x" * 16)
    for named in (str(files / "odd"), [str(files / "good"), str(files / "odd")]):
        (mistake,) = problems(put(tree, "cache.seal.key_file", named))
        assert mistake.startswith(f"cache.seal.key_file: {said.format(files / 'odd')}")
    assert problems(put(tree, "cache.seal.key_file", str(files / "none")))


def test_a_seal_has_one_key_or_two(tree, files):
    (files / "good").write_bytes(b"x" * 16)
    name = str(files / "good")
    for named in (name, [name], [name, name]):
        settings = read_tree(put(tree, "cache.seal.key_file", named))
        assert settings.cache.seal is not None
        assert set(settings.cache.seal.files) == {files / "good"}
    for named in ([], [name] * 3):
        assert problems(put(tree, "cache.seal.key_file", named))


@pytest.mark.parametrize("value", [None, "", "  "], ids=["unset", "empty", "blank"])
def test_a_variable_that_holds_no_secret_is_named(tree, monkeypatch, value):
    monkeypatch.delenv("SOME_NAME", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_NAME", value)
    row = {"client_id": "cs-1", "client_secret_env": "SOME_NAME"}
    assert problems(put(tree, "credentials.main", row)) == ["credentials.main.client_secret_env: SOME_NAME is not set"]


# The anonymous rule.


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080", "localhost:8080"])
def test_without_clients_it_runs_on_loopback(tree, listen):
    assert read_tree(put(tree, "listen", listen)).listen[0].is_loopback


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080", "gateway:8080", "localhost.example:8080"]
)
def test_without_clients_it_runs_elsewhere_only_if_that_is_written_out(tree, listen):
    tree = put(tree, "listen", listen)
    assert problems(tree) == ["clients: none are set"]
    assert read_tree({**tree, "allow_anonymous": True}).allow_anonymous
    assert read_tree(put(tree, "clients.reporting", client(["support"]))).clients


# Files.


def test_a_file_is_read(tree, tmp_path):
    assert load(write(tmp_path / "gateway.yaml", tree), {}) == read_tree(tree)


def test_the_environment_may_name_the_file_and_the_caller_wins(tree, tmp_path):
    one = write(tmp_path / "one.yaml", put(tree, "cache.prefix", "one"))
    two = write(tmp_path / "two.yaml", put(tree, "cache.prefix", "two"))
    assert load(None, {"GATEWAY_CONFIG": str(one)}).cache.prefix == "one"
    assert load(two, {"GATEWAY_CONFIG": str(one)}).cache.prefix == "two"


def file_mistakes(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as refused:
        load(path, environ or {})
    return list(map(str, refused.value.mistakes))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    advice = "name another file with --config"
    assert file_mistakes(tmp_path / "none") == [
        f"settings: {tmp_path}/none: cannot be read: no such file or directory: {advice}"
    ]
    assert file_mistakes(tmp_path) == [f"settings: {tmp_path}: cannot be read: is a directory: {advice}"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(
            f"cache:\n  url: redis://:{SECRET}@a\n  url: redis://:{SECRET}@b\n", id="a-password-written-twice"
        ),
        pytest.param(
            f"credentials:\n  main:\n    client_secret: {SECRET}\n    client_secret: x\n", id="a-secret-written-twice"
        ),
        pytest.param(f"credentials:\n  main:\n    client_secret: *{SECRET}\n", id="a-secret-taken-for-an-alias"),
        pytest.param(f"credentials:\n  main:\n    client_secret: @{SECRET}\n", id="a-secret-that-is-no-plain-text"),
        pytest.param(f"credentials:\n  main:\n    client_secret: !{SECRET} x\n", id="a-secret-taken-for-a-tag"),
        pytest.param(f"a: 'open\n{SECRET}\n", id="an-open-quote"),
        pytest.param(f"credentials: {SECRET}\n", id="a-secret-instead-of-a-section"),
        pytest.param(f"{SECRET}\n", id="a-secret-instead-of-settings"),
    ],
)
def test_no_mistake_in_a_file_tells_a_value(tmp_path, text):
    path = tmp_path / "gateway.yaml"
    path.write_text(text)
    assert SECRET not in "\n".join(file_mistakes(path))


# The environment.


def overlaid(tree, tmp_path, **variables: str) -> Settings:
    return load(write(tmp_path / "gateway.yaml", tree), {f"GATEWAY__{name}": text for name, text in variables.items()})


def test_a_variable_lies_over_the_file(tree, tmp_path):
    settings = overlaid(
        put(tree, "cache.prefix", "file"),
        tmp_path,
        CACHE__PREFIX="env",
        LISTEN="127.0.0.1:1234",
        PLATFORM__TIMEOUT="3s",
        ALLOW_ANONYMOUS="true",
        FRESHNESS__FACTOR="0.5",
        BUDGETS="{default: {calls: 7}}",
        CREDENTIALS__MAIN__SUBJECT="someone",
    )
    assert settings.cache.prefix == "env"
    assert settings.listen == (Address("127.0.0.1", 1234),)
    assert settings.platform.timeout == 3.0
    assert settings.allow_anonymous is True
    assert settings.freshness.factor == 0.5
    assert settings.budgets["default"].calls == 7
    assert settings.credentials["main"].subject == "someone"
    assert settings.credentials["main"].client_id == "cs-1", "what stands beside it stays"


def test_the_environment_alone_is_enough(files):
    settings = load(
        None,
        {
            "GATEWAY__CREDENTIALS__MAIN__CLIENT_ID": "cs-1",
            "GATEWAY__CREDENTIALS__MAIN__CLIENT_SECRET_FILE": str(files / "client-secret"),
            "GATEWAY__STREAMS__SUPPORT": "{stream_id: st-1, account_id: acc-1, credential: main}",
            "GATEWAY_OTHER": "ignored",
            "PATH": "/bin",
        },
    )
    assert list(settings.streams) == ["support"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("COLOUR", SECRET, "colour: @: unknown key"),
        ("PLATFORM__COLOUR", SECRET, "platform.colour: @: unknown key"),
        ("PLATFORM__TIMEOUT", "10", f"platform.timeout: @: {DURATION}"),
        ("CACHE__URL", "[", "cache.url: @: is not a YAML value"),
        ("CACHE__URL", f"*{SECRET}", "cache.url: @: is not a YAML value"),
        ("LISTEN__HOST", SECRET, "listen: @: is no section"),
    ],
)
def test_a_mistake_in_a_variable_is_one_line_without_its_value(tree, tmp_path, name, value, said):
    path = write(tmp_path / "gateway.yaml", put(tree, "listen", "127.0.0.1:1"))
    (line,) = file_mistakes(path, {f"GATEWAY__{name}": value})
    assert line.startswith(said.replace("@", f"GATEWAY__{name}"))
    assert SECRET not in line


def test_a_section_left_empty_in_the_file_takes_variables(tree, tmp_path):
    """`cache:` with everything under it commented out reads as nothing at all."""
    path = write(tmp_path / "gateway.yaml", {**tree, "cache": None})
    assert load(path, {"GATEWAY__CACHE__PREFIX": "env"}).cache.prefix == "env"


def test_a_name_with_capital_letters_can_be_reached_from_the_environment(tree, tmp_path):
    """A campaign's statuses are written with capitals; a rule for `active` would never match one, and nobody would know."""
    settings = overlaid(tree, tmp_path, FRESHNESS__STATUS__Active__MAX="3s")
    assert settings.freshness.status["Active"].max == 3.0


# What `check` prints.


def dumped(settings: Settings) -> dict[str, Any]:
    """As printed, and read back."""
    sink = io.StringIO()
    YAML(typ="safe", pure=True).dump(settings.model_dump(mode="json", exclude_none=True), sink)
    tree: dict[str, Any] = YAML(typ="safe", pure=True).load(sink.getvalue())
    return tree


def test_the_printed_settings_are_settings(tree, files):
    full = {
        **tree,
        "listen": "[::1]:8080",
        "platform": {"url": "http://127.0.0.1:1", "timeout": "1.5s", "connect_timeout": "250ms", "max_body": "1500B"},
        "budgets": {"default": {"calls": 30, "window": "1m", "reserve": 3}},
        "clients": {"a": client(["support"])},
        "freshness": {"status": {"Active": {"max": "15s"}}, "stale_if_error": "36h", "min": "0s"},
    }
    full["credentials"]["main"]["jwe"] = {"public_key_file": str(files / "platform.pem"), "key_id": "k"}
    settings = read_tree(full)
    assert read_tree(dumped(settings)) == settings


@pytest.mark.parametrize(
    ("key", "written", "printed"),
    [
        ("platform.timeout", "10s", "10s"),
        ("platform.timeout", "600s", "10m"),
        ("platform.timeout", "90s", "90s"),
        ("cache.timeout", "250ms", "250ms"),
        ("cache.timeout", "1.5s", "1500ms"),
        ("freshness.stale_if_error", "24h", "1d"),
        ("freshness.min", "0s", "0ms"),
        ("platform.max_body", "4096KiB", "4MiB"),
        ("platform.max_body", "1500B", "1500B"),
    ],
)
def test_times_and_sizes_are_printed_with_the_largest_unit_that_fits(tree, key, written, printed):
    assert at_path(dumped(read_tree(put(tree, key, written))), key) == printed


def at_path(tree: dict[str, Any], key: str) -> object:
    value: Any = tree
    for part in key.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("platform.max_body", "5000000B"),
        ("platform.max_body", "1234567B"),
        ("cache.local_max_bytes", "100000001B"),
        ("freshness.stale_if_error", "1234567s"),
        ("freshness.stale_if_error", "604801s"),
        ("cache.timeout", "33.3ms"),
        ("cache.timeout", "0.1s"),
    ],
)
def test_what_is_printed_means_what_was_written(tree, key, written):
    settings = read_tree(put(tree, key, written))
    assert at(read_tree(dumped(settings)), key) == pytest.approx(at(settings, key))


def test_no_secret_is_printed(tree, monkeypatch):
    monkeypatch.setenv("SOME_NAME", SECRET)
    tree = put(tree, "credentials.env", {"client_id": "cs-2", "client_secret_env": "SOME_NAME"})
    tree = put(tree, "cache.url", f"redis://user:{SECRET}@redis:6379/0")
    settings = read_tree(tree)
    assert SECRET not in str(dumped(settings))
    assert dumped(settings)["cache"]["url"] == "redis://user:***@redis:6379/0"
    assert settings.cache.url.endswith(f"{SECRET}@redis:6379/0"), "only the printed one is masked"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("memory://", "memory://"),
        ("redis://redis:6379/0", "redis://redis:6379/0"),
        (f"redis://:{SECRET}@redis", "redis://:***@redis"),
        (f"redis://user:{SECRET}@redis:1/2", "redis://user:***@redis:1/2"),
        (f"redis://user:{SECRET}@x@redis", "redis://user:***@redis"),
        (f"redis://:{SECRET}@[::1]:6379", "redis://:***@[::1]:6379"),
        ("redis://user@redis", "redis://user@redis"),
    ],
)
def test_a_password_in_a_url_is_masked(url, masked):
    assert hide_password(url) == masked


def test_a_password_in_a_redis_urls_query_is_masked_too():
    """redis-py takes it there as well."""
    assert SECRET not in hide_password(f"redis://redis:6379/0?username=user&password={SECRET}")


@pytest.mark.parametrize(
    ("address", "text"),
    [(Address("127.0.0.1", 80), "127.0.0.1:80"), (Address("::1", 80), "[::1]:80"), (Address("a.b", 0), "a.b:0")],
)
def test_an_address_is_written_as_it_is_read(address, text, tree):
    assert str(address) == text
    assert read_tree(put({**tree, "allow_anonymous": True}, "listen", text)).listen == (address,)


@pytest.mark.parametrize(
    ("key", "value", "fits"),
    [
        ("cache.timeout", "10s", True),
        ("cache.timeout", "250 ms", True),
        ("cache.timeout", "1.5m", True),
        ("cache.timeout", "0.5s", True),
        ("cache.timeout", "0s", False),
        ("cache.timeout", "0.0s", False),
        ("cache.timeout", 10, False),
        ("cache.timeout", "10", False),
        ("freshness.min", "0s", True),
        ("freshness.min", "-1s", False),
        ("platform.max_body", "4MiB", True),
        ("platform.max_body", "4MB", False),
        ("platform.max_body", "0B", False),
        ("listen", "[::1]:8080", True),
        ("listen", "127.0.0.1:0", True),
        ("listen", "8080", False),
        ("listen", ["127.0.0.1:1", "[::1]:2"], True),
        ("listen", [], False),
        ("listen", ["127.0.0.1", 8080], False),
        ("cache.local", "1s", False),
    ],
)
def test_the_schema_describes_what_is_written(tree, key, value, fits):
    tree = put(tree, key, value)
    assert jsonschema.Draft202012Validator(Settings.model_json_schema()).is_valid(tree) is fits
    if fits:
        read_tree(tree)
    else:
        mistakes(tree)


# Where state is kept.


@pytest.mark.parametrize(
    ("state_dir", "environ", "folder"),
    [
        pytest.param("/state", {"XDG_STATE_HOME": "/xdg"}, "/state", id="as-the-settings-say"),
        pytest.param(None, {"XDG_STATE_HOME": "/xdg", "HOME": "/me"}, "/xdg/campaign-gateway", id="as-the-user-says"),
        pytest.param(None, {"HOME": "/me"}, "/me/.local/state/campaign-gateway", id="as-programs-do"),
        pytest.param(None, {"XDG_STATE_HOME": "", "HOME": "/me"}, "/me/.local/state/campaign-gateway", id="empty"),
        pytest.param(None, {"XDG_STATE_HOME": "x", "HOME": "/me"}, "/me/.local/state/campaign-gateway", id="relative"),
    ],
)
def test_the_state_directory_is_the_settings_or_else_the_user_s(monkeypatch, state_dir, environ, folder):
    for name in ("XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert state_folder(Cache(state_dir=state_dir)) == Path(folder)


def test_a_user_without_a_home_has_none(monkeypatch):
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert state_folder(Cache()) is None


def test_a_folder_that_can_be_made_has_no_fault_and_is_not_made(tmp_path):
    assert folder_fault(tmp_path / "a" / "b") is None
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert folder_fault(tmp_path / "file" / "a") == f"{tmp_path}/file is not a directory"


def test_a_folder_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    assert folder_fault(tmp_path / "a") == f"{tmp_path} is not writable"


def test_the_hosts_that_are_known_are_those_named_and_those_listened_on(tree):
    found = read_tree(
        {**tree, "hosts": ["Gateway.example.com"], "listen": "api.example.com:80", "allow_anonymous": True}
    ).known_hosts
    assert {"gateway.example.com", "api.example.com", "127.0.0.1"} <= found


def client_of(tree: dict[str, Any], **limits: object) -> Any:
    row = {"key_sha256": "a" * 64, "streams": ["support"], **limits}
    return read_tree({**tree, "clients": {"reporting": row}}).clients["reporting"]


def test_a_client_has_the_limits_that_are_written(tree):
    client = client_of(tree, rate="200/s", concurrent=100, connections=50)
    assert (client.rate, client.concurrent, client.connections) == ((200, 1.0), 100, 50)
    assert client_of(tree, rate="600/m").rate == (600, 60.0)
    assert client.model_dump(mode="json")["rate"] == "200/s"
    client = client_of(tree)
    assert (client.rate, client.concurrent, client.connections) == (None, None, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("rate", rate) for rate in ("0/s", "1.5/s", "200", "200/d", "-1/s", "\u0663/s", 200)),
        ("concurrent", 0),
        ("connections", 0),
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(tree, name, value):
    with pytest.raises(SettingsError) as refused:
        client_of(tree, **{name: value})
    (mistake,) = refused.value.mistakes
    assert mistake.key == f"clients.reporting.{name}"


@pytest.mark.parametrize(
    ("named", "longest"),
    [
        ({}, {}),
        ({"Ready": {"max": "1m"}}, {"Active": 15.0, "Preparing": 5.0, "Ready": 60.0}),
        ({"Active": {"max": "30s"}}, {"Active": 30.0, "Preparing": 5.0}),
    ],
    ids=["none", "another", "one-of-them"],
)
def test_a_state_that_is_named_leaves_the_others_as_they_are(tree, named, longest):
    rules = read_tree({**tree, "freshness": {"status": named}}).freshness.status
    assert {status: rule.max for status, rule in rules.items()} == longest


# Keys of clients.


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        pytest.param("2027-02-01", "2027-02-01T00:00:00Z", id="text"),
        pytest.param(date(2027, 2, 1), "2027-02-01T00:00:00Z", id="as-yaml-reads-it"),
        pytest.param(datetime.fromisoformat("2027-02-01T12:00"), "2027-02-01T12:00:00Z", id="time-without-a-zone"),
        pytest.param("2027-02-01T12:00:00+02:00", "2027-02-01T10:00:00Z", id="time-with-a-zone"),
        pytest.param("2027-02-01 12:00", "2027-02-01T12:00:00Z", id="time-with-a-space"),
    ],
)
def test_a_key_expires_at_a_date_or_a_time_which_is_written_as_it_can_be_read(tree, written, moment):
    row = {"keys": [{"sha256": HASH.upper(), "expires": written}], "streams": ["support"]}
    settings = read_tree(put(tree, "clients.reporting", row))
    shown = settings.model_dump(mode="json", exclude_none=True)["clients"]["reporting"]
    assert shown["keys"] == [{"sha256": HASH, "expires": moment}]
    assert read_tree(put(tree, "clients.reporting", shown)).clients == settings.clients


@pytest.mark.parametrize(
    "written", ["tomorrow", "2027-02-30", "20270201", 2027, True, "2027-02", "0001-01-01T00:00+23:00"]
)
def test_what_is_no_date_is_refused(tree, written):
    row = {"keys": [{"sha256": HASH, "expires": written}], "streams": ["support"]}
    assert problems(put(tree, "clients.reporting", row)) == ["clients.reporting.keys.0.expires: is no date"]


def test_a_key_without_a_note_is_called_by_the_beginning_of_its_hash(tree):
    row = {"key_sha256": HASH, "keys": [{"sha256": "0" * 64, "note": "2026-11"}], "streams": ["support"]}
    client = read_tree(put(tree, "clients.reporting", row)).clients["reporting"]
    assert {place: key.name for place, key in client.named_keys.items()} == {
        "key_sha256": HASH[:8],
        "keys.0": "2026-11",
    }


def test_keys_that_have_expired_are_named(tree):
    rows = [{"sha256": f"{number}" * 64, "expires": f"2026-0{number}-01"} for number in (1, 2, 3)]
    settings = read_tree(put(tree, "clients.reporting", {"keys": rows, "streams": ["support"]}))
    assert list(map(str, expired_keys(settings, datetime(2026, 2, 1, tzinfo=UTC)))) == [
        "clients.reporting.keys.0.expires: the key 11111111 expired on 2026-01-01 00:00 UTC: remove it",
        "clients.reporting.keys.1.expires: the key 22222222 expired on 2026-02-01 00:00 UTC: remove it",
    ]


@pytest.mark.parametrize(
    ("environ", "wanted", "fault"),
    [
        pytest.param({}, False, None, id="nothing"),
        pytest.param({"OTEL_SERVICE_NAME": "a", "OTEL_TRACES_SAMPLER": "always_on"}, False, None, id="no-collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True, None, id="a-collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/t"}, True, None, id="one-for-traces"),
        pytest.param({"OTEL_TRACES_EXPORTER": "otlp"}, True, None, id="the-default-collector"),
        pytest.param({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "TRUE"}, False, None, id="off"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False, None, id="no-exporter"
        ),
        pytest.param({"OTEL_TRACES_EXPORTER": "zipkin"}, True, "OTEL_TRACES_EXPORTER", id="another-exporter"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            True,
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            id="another-protocol",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            True,
            None,
            id="the-protocol",
        ),
    ],
)
def test_traces_are_asked_for_by_the_standard_variables(environ, wanted, fault):
    assert wants_traces(environ) is wanted
    found = traces_fault(environ)
    assert (found and found[0]) == fault


def test_traces_that_are_asked_for_without_their_packages_are_told_of(monkeypatch):
    monkeypatch.setattr("campaign_gateway.settings.checks._EXPORTER", "a-package-that-there-is-not")
    assert traces_fault({}) is None
    fault = traces_fault({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"})
    assert fault is not None
    assert "campaign-gateway[otel]" in fault[2]
