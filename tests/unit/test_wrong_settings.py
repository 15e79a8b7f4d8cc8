"""What people write into their settings by mistake, and the one line that each of them gets."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from ruamel.yaml import YAML

from campaign_gateway.settings import Mistake, Settings, SettingsError, load, read_tree
from campaign_gateway.settings.tree import Section

HASH = "ab" * 32
SECRET = "hunter2-must-not-be-told"
GOOD = (
    "credentials:\n  main: {client_id: cs-1, client_secret_file: secret}\n"
    "streams:\n  support: {stream_id: st-1, account_id: acc-1, credential: main}\n"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "short").write_text("whsec_c2hvcnQ=")
    (tmp_path / "broken").write_text(f"{SECRET}\nwhsec_%")
    (tmp_path / "three").write_text(f"{SECRET}\n" * 3)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH", raising=False)


def lines_of(text: str | bytes, *, with_files: bool = True, **variables: str) -> Sequence[str]:
    path = Path("gateway.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as refused:
        load(path, {f"GATEWAY__{name}": value for name, value in variables.items()}, with_files=with_files)
    return [str(mistake) for mistake in refused.value.mistakes]


@pytest.mark.drill(
    "mistakes in the settings",
    planted="a hundred files: signs of YAML, keys, kinds, units, names, secrets, files, contradictions",
    seen="one line each: key, file and line, what is wrong, what to write; no value of theirs",
)
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "settings: @1: the file holds none: write at least credentials and streams"),
        ("{}\n", "settings: @1: the file holds none: write at least credentials and streams"),
        ("- a\n", "settings: @1: is no mapping: write it as `key: value` lines"),
        ("\tlisten: 127.0.0.1:1\n", "settings: @1: has a tab before its text: indent with spaces"),
        ("cache:\n\tprefix: a\n", "settings: @2: has a tab before its text: indent with spaces"),
        ("listen: 'a\nb: 1\n", "settings: @1: opens a quote that is not closed: close it"),
        (
            "listen: [a, b\n",
            "settings: @1: opens a bracket that is not closed: close it, and put commas between what is in it",
        ),
        (
            "listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n",
            "listen: @2: is written twice, in line 1 too: keep one of the two",
        ),
        (
            "cache:\n  prefix: a\n  prefix: b\n",
            "cache.prefix: @3: is written twice, in line 2 too: keep one of the two",
        ),
        (
            "cache:\n  prefix: a: b\n",
            "settings: @2: has a colon that it cannot have: put the value in quotes, or mend the indent",
        ),
        ("cache: {prefix: *x}\n", "settings: @1: has a value that begins with `*`: put the value in quotes"),
        (
            "cache: {prefix: @x}\n",
            "settings: @1: has a value that begins with a sign of YAML's own: put the value in quotes",
        ),
        ("cache: {prefix: !x y}\n", "settings: @1: has a value that begins with `!`: put the value in quotes"),
        ("a: 1\n---\nb: 1\n", "settings: @2: begins a second document: remove the `---` or `...`"),
        (
            "cache:\n  prefix: a\n url: b\n",
            "settings: @3: does not go on with what stands above it: mend the indent, or the quotes",
        ),
        ("listen\n", "settings: @1: is no mapping: write it as `key: value` lines"),
        ("cache: {prefix: 2027-99-99}\n", "settings: @1: has a date that there is not: put the value in quotes"),
        (
            'cache: {prefix: "\\q"}\n',
            "settings: @1: has a backslash that means nothing in double quotes: use single quotes",
        ),
        ("cache: {prefix: \x01}\n", "settings: @1: holds a character that no text has: remove it"),
        ("cache: {prefix: a\x00}\n", "settings: @1: holds a character that no text has: remove it"),
        (GOOD + "platform: {timeout: 99999999d}\n", "platform.timeout: @5: is too large: write 3650d or less"),
        (GOOD + "platform: {max_body: 9999999GiB}\n", "platform.max_body: @5: is too large: write 1024GiB or less"),
        (GOOD + "workers: 99999999999\n", "workers: @5: is too large: write 1000000000 or less"),
        (GOOD + "pause: {1: 2}\n", "pause.1: @5: unknown key: remove it, or write one of max"),
        (
            GOOD + "platform: {url: 'http://[::1'}\n",
            "platform.url: @5: is no URL of a host: write http:// or https:// and a host, without user or password",
        ),
        (GOOD + "frehsness: {}\n", "frehsness: @5: unknown key: did you mean freshness?"),
        (
            GOOD + "colour: red\n",
            "colour: @5: unknown key: remove it, or write one of those in the README",
        ),
        (GOOD + "redis: {}\n", "redis: @5: unknown key: did you mean cache?"),
        (GOOD + "timeout: 5s\n", "timeout: @5: unknown key: did you mean platform.timeout or cache.timeout?"),
        (
            GOOD + "freshness: {stale: 1s}\n",
            "freshness.stale: @5: unknown key: remove it, or write one of factor, min, max, default, status, missing, stale_while_revalidate, stale_if_error, read_your_writes",
        ),
        (GOOD + "platform:\n  time_out: 5s\n", "platform.time_out: @6: unknown key: did you mean timeout?"),
        (
            GOOD.replace("client_secret_file: secret", "client_secret: hunter2"),
            "credentials.main.client_secret: @2: unknown key: write client_secret_file: the path of a file that holds it",
        ),
        (
            GOOD + "clients:\n  reporting:\n    {key_sha256: cgk_hunter2, streams: [support]}\n",
            "clients.reporting.key_sha256: @7: is the key itself: write its SHA-256, and make a new key: campaign-gateway key new",
        ),
        (
            GOOD + "clients:\n  reporting:\n    {key_sha256: abc, streams: [support]}\n",
            "clients.reporting.key_sha256: @7: is not a SHA-256 in 64 hexadecimal digits: write the hash that `campaign-gateway key new` prints",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: support}}\n",
            "clients.reporting.streams: @7: is not a list: write it in brackets: [a, b]",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: [sales]}}\n",
            "clients.reporting.streams: @7: no stream is named sales: write support",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: [support], scopes: [raed]}}\n",
            "clients.reporting.scopes.0: @7: is none of the values that there are: did you mean read?",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: [support], scopes: [root]}}\n",
            "clients.reporting.scopes.0: @7: is none of the values that there are: write read, write or purge",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}}}\n",
            "clients.reporting.streams: @6: missing: write streams: [support], the names of streams",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: []}}\n",
            "clients.reporting.streams: @7: is empty: write at least one",
        ),
        (
            GOOD + "clients:\n  reporting:\n    {key: x, streams: [support]}\n",
            "clients.reporting.key: @7: unknown key: write key_sha256: the hash that `campaign-gateway key new` prints, never the key",
        ),
        (
            GOOD + "clients:\n  reporting:\n    {key_sha256: 12, streams: [support]}\n",
            "clients.reporting.key_sha256: @7: is not text: put the value in quotes",
        ),
        (
            GOOD + f"clients:\n  reporting:\n    {{key_sha256: {HASH}, streams: [support], rate: 5}}\n",
            "clients.reporting.rate: @7: is no rate: write a number for a second, a minute or an hour, such as 200/s or 600/m",
        ),
        (GOOD.replace("acc-1", "12345"), "streams.support.account_id: @4: is not text: put the value in quotes"),
        (GOOD.replace("support:", "5:"), "streams.5: @4: is not text, as names are: put the name in quotes"),
        (
            GOOD.replace("support:", "-a:"),
            "streams.-a: @4: is no name: write 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
        ),
        (
            GOOD + "  sales: {stream_id: st-1, account_id: acc-1, credential: main}\n",
            "streams.sales.stream_id: @5: is that of support too, with the same account_id, app_id and credential: write another id, or remove one of the streams",
        ),
        (
            GOOD.replace("credential: main", "credential: mian"),
            "streams.support.credential: @4: no credential is named mian: write main",
        ),
        (
            GOOD.replace(", credential: main", ""),
            "streams.support.credential: @4: missing: write credential: the name of one under credentials",
        ),
        (
            GOOD + "freshness:\n  status: {Activ: {max: 1s}}\n",
            "freshness.status.Activ: @6: is none of the values that there are: did you mean Active?",
        ),
        (
            GOOD + "freshness:\n  status: {Active: 5s}\n",
            "freshness.status.Active: @6: is not a section: write its keys below it, each as `name: value`",
        ),
        (
            GOOD + "freshness:\n  status: {Foo: {max: 5s}}\n",
            "freshness.status.Foo: @6: is none of the values that there are: write Preparing, Ready, Scheduled, Rescheduled, Active, Paused, Stopped, Completed, Rerun or Run as Emergency",
        ),
        (
            GOOD + "freshness:\n  status: [Active]\n",
            "freshness.status: @6: is not a section: write its keys below it, each as `name: value`",
        ),
        (
            GOOD + "platform: {timeout: 10}\n",
            "platform.timeout: @5: is no time: write a number with a unit (ms, s, m, h, d), such as 250ms or 30s",
        ),
        (
            GOOD + "platform: {timeout: 10 seconds}\n",
            "platform.timeout: @5: is no time: write a number with a unit (ms, s, m, h, d), such as 250ms or 30s",
        ),
        (
            GOOD + "platform: {timeout: -1s}\n",
            "platform.timeout: @5: is no time: write a number with a unit (ms, s, m, h, d), such as 250ms or 30s",
        ),
        (GOOD + "platform: {timeout: 0s}\n", "platform.timeout: @5: is too small: write more than 0"),
        (
            GOOD + "platform: {max_body: 4MB}\n",
            "platform.max_body: @5: is no size: write a number with a unit (B, KiB, MiB, GiB), such as 4MiB",
        ),
        (GOOD + "platform: {max_body: 0B}\n", "platform.max_body: @5: is too small: write more than 0"),
        (
            GOOD + "platform: {timeout: null}\n",
            "platform.timeout: @5: is empty: write what belongs there, or remove the key",
        ),
        (GOOD + "platform:\n", "platform: @5: is empty: write what belongs there, or remove the key"),
        (GOOD + "platform: true\n", "platform: @5: is not a section: write its keys below it, each as `name: value`"),
        (
            GOOD + "platform: {max_headers: true}\n",
            "platform.max_headers: @5: is true or false, not a number: write a number, without quotes",
        ),
        (
            GOOD + "platform: {max_headers: many}\n",
            "platform.max_headers: @5: is not a whole number: write one such as 60, without quotes",
        ),
        (
            GOOD + "platform: {insecure: 1}\n",
            "platform.insecure: @5: is a number, neither true nor false: write true or false",
        ),
        (
            GOOD + "platform: {insecure: perhaps}\n",
            "platform.insecure: @5: is neither true nor false: write true or false",
        ),
        (
            GOOD + "platform: {url: platform.kore.ai}\n",
            "platform.url: @5: is no URL of a host: write http:// or https:// and a host, without user or password",
        ),
        (
            GOOD + "platform: {url: https://a/b}\n",
            "platform.url: @5: has more than a host: write it without a path, a query or a fragment",
        ),
        (
            GOOD + "platform: {url: http://a}\n",
            "platform.url: @5: would send tokens in clear text: use https://, or write platform.insecure: true",
        ),
        (
            GOOD + "platform: {proxy: https://a}\n",
            "platform.proxy: @5: is no URL of a proxy: write http://host:port, without user or password; what goes through it is encrypted all the same",
        ),
        (
            GOOD + "platform: {min_tls: 1.1}\n",
            "platform.min_tls: @5: is none of the values that there are: write 1.2 or 1.3",
        ),
        (GOOD + "platform: {ca_file: 5}\n", "platform.ca_file: @5: is not the path of a file: write one in quotes"),
        (GOOD + "listen: 8080\n", "listen: @5: is no address: write host:port, such as 127.0.0.1:8080 or [::1]:8080"),
        (
            GOOD + "listen: 127.0.0.1:99999\n",
            "listen: @5: is no address: write host:port, such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            GOOD + "listen: 999.1.1.1:80\n",
            "listen: @5: is no address: write host:port, such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (
            GOOD + "listen: '[::::]:80'\n",
            "listen: @5: is no address: write host:port, such as 127.0.0.1:8080 or [::1]:8080",
        ),
        (GOOD + "listen: []\n", "listen: @5: is empty: write at least one"),
        (
            GOOD + "listen: 0.0.0.0:80\n",
            "clients: @1: none are set: name some, or listen on loopback, or write allow_anonymous: true",
        ),
        (GOOD + "budgets: {default: {calls: 0}}\n", "budgets.default.calls: @5: is too small: write 1 or more"),
        (GOOD + "budgets: {default: {calls: -3}}\n", "budgets.default.calls: @5: is too small: write 1 or more"),
        (
            GOOD + "budgets: {default: {lanes: {wirtes: 0.1}}}\n",
            "budgets.default.lanes.wirtes: @5: unknown key: did you mean writes?",
        ),
        (
            GOOD + "budgets: {default: {lanes: {writes: 1.5}}}\n",
            "budgets.default.lanes.writes: @5: is too large: write 1 or less",
        ),
        (
            GOOD + "budgets: {default: {calls: 1.5}}\n",
            "budgets.default.calls: @5: is not a whole number: write one such as 60, without quotes",
        ),
        (
            GOOD + "budgets: {default: {calls: 5, reserve: 5}}\n",
            "budgets.default.reserve: @5: must be below calls: write less than 5",
        ),
        (GOOD + "budgets: {acc-9: {}}\n", "budgets.acc-9: @5: no stream has this account_id: write default or acc-1"),
        (
            GOOD + "budgets: {default: {calls: true}}\n",
            "budgets.default.calls: @5: is true or false, not a number: write a number, without quotes",
        ),
        (
            GOOD + "cache: {url: 'http://x'}\n",
            "cache.url: @5: is no URL of a Redis: write memory://, redis:// or rediss://host:port/db, unix:///path, redis+sentinel://host:port,host:port/master, or redis+cluster://host:port,host:port",
        ),
        (GOOD + "cache: {url: 'redis://x?db=1'}\n", "cache.url: @5: takes no options: set the number in the path"),
        (GOOD + "cache: {prefix: 'a:b'}\n", "cache.prefix: @5: is no prefix: write 1 to 32 of A-Z a-z 0-9 . _ -"),
        (
            GOOD + "cache: {password: x}\n",
            "cache.password: @5: unknown key: write password_file: the path of a file that holds it",
        ),
        (
            GOOD + "cache: {seal: {key_file: 5}}\n",
            "cache.seal.key_file: @5: is not the path of a file: write one in quotes",
        ),
        (
            GOOD + "cache: {seal: {key_file: []}}\n",
            "cache.seal.key_file: @5: is not the path of a file: write one in quotes",
        ),
        (
            GOOD + "cache: {seal: {}}\n",
            "cache.seal.key_file: @5: missing: write key_file: the path of a file with the key in it",
        ),
        (
            GOOD + "cache: {seal: {key_file: none}}\n",
            "cache.seal.key_file: @5: the file that it names cannot be read (No such file or directory): name a file that this user may read",
        ),
        (
            GOOD + "sweep: {lag: soon}\n",
            "sweep.lag: @5: is no time: write a number with a unit (ms, s, m, h, d), such as 250ms or 30s",
        ),
        (GOOD + "sweep: {share: 2}\n", "sweep.share: @5: is too large: write 1 or less"),
        (
            GOOD + "freshness: {factor: .inf}\n",
            "freshness.factor: @5: is not a number: write one such as 0.5, without quotes",
        ),
        (GOOD + "hosts: a\n", "hosts: @5: is not a list: write it in brackets: [a, b]"),
        (
            GOOD + "hosts: ['https://a']\n",
            "hosts.0: @5: is no name of a host: write it without scheme, port or star, such as gateway.example.com",
        ),
        (
            GOOD + "workers: 2\n",
            "workers: @5: more than 1 needs a Redis, which shares budget, fills and invalidations: set cache.url, or write 1",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'http://crm.example.com/a', secret_file: secret}}\n",
            "webhooks.crm.url: @5: would send changes in clear text: use https://, or write webhooks.crm.insecure: true",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://user:pass@crm.example.com', secret_file: secret}}\n",
            "webhooks.crm.url: @5: is no URL to send to: write http:// or https://, a host and a path, without user or password",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com/a#b', secret_file: secret}}\n",
            "webhooks.crm.url: @5: has a fragment, or characters that no URL has: encode them, or leave them out",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: secret, proxy: 'https://p:1'}}\n",
            "webhooks.crm.proxy: @5: is no URL of a proxy: write http://host:port, without user or password; what goes through it is encrypted all the same",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: secret, ca_file: secret}}\n",
            "webhooks.crm.ca_file: @5: secret holds no certificate in PEM: name the file with the authorities' certificates",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: secret, streams: [other]}}\n",
            "webhooks.crm.streams: @5: no stream is named other: write support",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: short}}\n",
            "webhooks.crm.secret_file: @5: has fewer than 16 bytes: a search finds what is shorter: write `whsec_` and what `openssl rand -base64 32` prints, in one line",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: broken}}\n",
            "webhooks.crm.secret_file: @5: has a line that is no base64 after `whsec_`: write `whsec_` and what `openssl rand -base64 32` prints, in one line",
        ),
        (
            GOOD + "webhooks: {crm: {url: 'https://crm.example.com', secret_file: three}}\n",
            "webhooks.crm.secret_file: @5: has more than two secrets, one a line: write one, or two while it is replaced",
        ),
        (GOOD + "allow_anonymous: {}\n", "allow_anonymous: @5: is neither true nor false: write true or false"),
        (
            GOOD.replace("file: secret", "file: empty"),
            "credentials.main.client_secret_file: @2: empty is empty: write into it what the key is to hold",
        ),
        (
            GOOD.replace("file: secret", "file: none"),
            "credentials.main.client_secret_file: @2: the file that it names cannot be read (No such file or directory): name a file that this user may read",
        ),
        (
            GOOD.replace("file: secret", "file: folder"),
            "credentials.main.client_secret_file: @2: the file that it names cannot be read (Is a directory): name a file that this user may read",
        ),
        (
            GOOD.replace("client_secret_file: secret", "client_secret_env: NO_SUCH"),
            "credentials.main.client_secret_env: @2: NO_SUCH is not set: set it, or name another variable",
        ),
        (
            GOOD.replace(", client_secret_file: secret", ""),
            "credentials.main: @2: HS256 needs client_secret_env or client_secret_file: write one of them",
        ),
        (
            GOOD.replace("file: secret", "file: secret, token_lifetime: 2h"),
            "credentials.main.token_lifetime: @2: is too short or too long for the platform: write 10s to 1h",
        ),
        (
            GOOD.replace("file: secret", "file: secret, algorithm: none"),
            "credentials.main.algorithm: @2: is none of the values that there are: write HS256, HS512, RS256 or RS512",
        ),
        (
            GOOD.replace("file: secret", 'file: "a\\0b"'),
            "credentials.main.client_secret_file: @2: is not the path of a file: write the path of a file that holds it",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_key_its_place_what_is_wrong_and_what_to_write(text: str, line: str):
    assert lines_of(text) == [line.replace("@", "gateway.yaml:", 1)]


# The words of the validator, which nobody who writes settings has to know, and what is said for want of better ones.
FOREIGN = (
    "nput should",
    "valid ",
    "pydantic",
    "unable to",
    "frozenset",
    "instance",
    "Value error",
    "parse",
    "right form",
)
ODD: Sequence[Any] = (
    None,
    True,
    -1.5,
    10**30,
    float("nan"),
    "9" * 400 + "d",
    "\\",
    "http://[",
    [[]],
    {"a": None},
    {1: 2},
)
NAMES = {"credentials": "main", "streams": "support", "webhooks": "crm"}


def keys_of(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the settings, after those above it; a name that people choose is one that there is."""
    if isinstance(kind, type) and issubclass(kind, Section):
        for name, field in kind.model_fields.items():
            yield (*path, name)
            yield from keys_of(field.annotation, (*path, name))
    elif get_origin(kind) is dict:
        yield from keys_of(get_args(kind)[1], (*path, NAMES.get(path[0], "Active")))
    else:
        for inner in get_args(kind):
            yield from keys_of(inner, path)


@pytest.mark.parametrize("key", sorted(set(keys_of(Settings))), ids=".".join)
def test_every_key_says_in_plain_words_what_is_wrong_with_any_kind_of_value(key: tuple[str, ...]):
    for value in ODD:
        tree: Any = YAML(typ="safe", pure=True).load(GOOD)
        section = tree
        for name in key[:-1]:
            section = section.setdefault(name, {})
        section[key[-1]] = value
        for mistake in mistakes_of(tree):
            assert mistake.problem
            assert mistake.advice
            assert not any(word in str(mistake) for word in (*FOREIGN, "\n"))


def mistakes_of(tree: Any) -> Sequence[Mistake]:
    try:
        read_tree(tree)
    except SettingsError as error:
        return error.mistakes
    return []


def test_all_mistakes_of_a_file_are_told_each_with_its_line():
    text = (
        GOOD + "colour: red\nplatform:\n  timeout: 10\n  url: x\nclients:\n  a.b: {key_sha256: x, streams: [support]}\n"
    )
    assert [line.split(": ")[:2] for line in lines_of(text)] == [
        ["platform.url", "gateway.yaml:8"],
        ["platform.timeout", "gateway.yaml:7"],
        ["clients.a.b.key_sha256", "gateway.yaml:10"],
        ["colour", "gateway.yaml:5"],
    ]


def test_unknown_keys_hide_no_other_mistake():
    assert [line.split(":")[0] for line in lines_of(GOOD + "workers: 2\ncolour: red\n")] == ["colour", "workers"]


def test_a_key_that_only_is_misspelt_is_not_missing_too():
    (line,) = lines_of(GOOD.replace("account_id", "acount_id"))
    assert line == "streams.support.acount_id: gateway.yaml:4: unknown key: did you mean account_id?"


def test_a_variable_is_named_in_place_of_a_line():
    (line,) = lines_of(GOOD, PLATFORM__TIMEOUT="10")
    assert line.startswith("platform.timeout: GATEWAY__PLATFORM__TIMEOUT: is no time: ")
    (line,) = lines_of(GOOD, BUDGETS="{default: {calls: none}}")
    assert line.startswith("budgets.default.calls: GATEWAY__BUDGETS: is not a whole number: ")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\xff\xfea: 1\n", "settings: @1: is not UTF-8: save the file as UTF-8"),
        (b"a: 1\nb: \xe4\n", "settings: @2: is not UTF-8: save the file as UTF-8"),
        (b"a: " + b"[" * 5_000, "settings: gateway.yaml: has sections within sections without end: close the brackets"),
    ],
)
def test_a_file_that_is_no_text_or_has_no_end_is_one_line_too(content: bytes, line: str):
    assert lines_of(content) == [line.replace("@", "gateway.yaml:")]


PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (f"client_secret_file: {SECRET}", "the file that it names cannot be read"),
        (f"client_secret_file: {SECRET}/x+y/z==", "the file that it names cannot be read"),
        (f"client_secret_env: {SECRET}", "the variable that it names is not set"),
        (f"client_secret_file: {'a' * 5_000}", "the file that it names cannot be read (File name too long)"),
        (f"algorithm: RS256, private_key_file: {json.dumps(PEM)}", "is not the path of a file"),
        ("client_secret_file: /none/there", "/none/there cannot be read"),
        ("client_secret_file: folder/none", "folder/none cannot be read"),
    ],
)
def test_a_secret_in_place_of_its_file_or_variable_is_not_told(written: str, said: str):
    (line,) = lines_of(GOOD.replace("client_secret_file: secret", written))
    assert re.match(rf"credentials\.main\.\w+: gateway\.yaml:2: {re.escape(said)}", line)
    assert not any(text in line for text in (SECRET, "MIIEvQ", "aaaa"))


def test_a_key_in_place_of_its_file_is_found_without_looking_at_files_too():
    text = GOOD.replace("client_secret_file: secret", f"algorithm: RS256, private_key_file: {json.dumps(PEM)}")
    (line,) = lines_of(text, with_files=False)
    assert line.startswith("credentials.main.private_key_file: gateway.yaml:2: is not the path of a file")


def test_a_byte_order_mark_is_none():
    Path("gateway.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(Path("gateway.yaml"), {}).streams


def test_one_status_that_is_named_leaves_the_others_as_they_are():
    Path("gateway.yaml").write_text(GOOD + "freshness: {status: {Paused: {max: 1m}, Active: {max: 5s}}}\n")
    status = load(Path("gateway.yaml"), {}).freshness.status
    assert {name: rule.max for name, rule in status.items()} == {"Active": 5.0, "Preparing": 5.0, "Paused": 60.0}


def test_where_only_the_settings_are_to_hand_no_file_is_looked_at():
    text = GOOD.replace("client_secret_file: secret", "client_secret_env: NO_SUCH") + "platform: {ca_file: none}\n"
    assert len(lines_of(text)) == 2
    assert load(Path("gateway.yaml"), {}, with_files=False).streams
    assert len(lines_of(text + "workers: 2\n", with_files=False)) == 1


def test_no_settings_at_all_name_the_option():
    with pytest.raises(SettingsError) as refused:
        load(None, {})
    assert str(refused.value) == "settings: there are none: name a file: --config gateway.yaml, or GATEWAY_CONFIG"
