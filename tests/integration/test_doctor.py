"""`doctor` on set-ups with one fault each: the first thing that is not well names it."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from campaign_gateway.doctor import Diagnosis, Finding, examine
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.support.gateway import gateway_process, settings_for
from tests.support.redis_server import RedisServer, redis_cluster, redis_server
from tests.support.tls import Authority, copy, tls_front, tunnel
from tests.support.wire import Exchange, free_port, raw_server, tcp_server

PASSWORD = "hunter2-must-not-be-told"
AN_HOUR = 3_600.0


@dataclass
class SetUp:
    """A folder, and settings in front of a platform that works, for a fault to be put in."""

    stack: AsyncExitStack
    folder: Path
    sandbox: Sandbox
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    async def made(
        cls, stack: AsyncExitStack, folder: Path, now: Callable[[], float] = time.time, **config: Any
    ) -> "SetUp":
        sandbox = await stack.enter_async_context(Sandbox(SandboxConfig(**config), now=now))
        settings = settings_for(sandbox, folder)
        # On a busy machine, too.
        settings["platform"] |= {"timeout": "20s", "connect_timeout": "10s"}
        return cls(stack, folder, sandbox, settings)

    def file(self, name: str, text: str) -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def authority(self, good: tuple[timedelta, timedelta] = (timedelta(minutes=-5), timedelta(days=30))) -> Authority:
        return Authority(self.folder, "Our Authority", good)

    async def redis(self, **options: str) -> int:
        server = await self.stack.enter_async_context(redis_server(self.folder, **options))
        self.settings["cache"] = {"url": server.url, "timeout": "10s"}
        return server.port

    async def redis_behind(self, pattern: bytes, put: Callable[[re.Match[bytes]], bytes]) -> None:
        """A Redis some of whose replies are changed on the way."""
        port = await self.redis()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind, ahead = await asyncio.open_connection("127.0.0.1", port)
            try:
                await asyncio.gather(copy(reader, ahead), changed(behind, writer))
            finally:
                ahead.close()

        async def changed(behind: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while piece := await behind.read(2**16):
                writer.write(re.sub(pattern, put, piece))
            writer.close()

        front = await self.stack.enter_async_context(tcp_server(serve))
        self.settings["cache"]["url"] = f"redis://127.0.0.1:{front}/0"

    async def answer(self, answer: Callable[[Exchange], Awaitable[None]], tls: Any = None) -> int:
        return (await self.stack.enter_async_context(raw_server(answer, tls))).port

    async def web_server(self) -> int:
        """One that is asked for something that is no HTTP."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(5)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()

        return await self.stack.enter_async_context(tcp_server(serve))

    async def examine(self, *, has_probe: bool = False) -> Diagnosis:
        config = self.folder / "gateway.yaml"
        with config.open("w") as file:
            YAML(typ="safe", pure=True).dump(self.settings, file)
        return await examine(config, lambda _: None, has_probe=has_probe)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


def first_trouble(diagnosis: Diagnosis) -> Finding:
    return next(finding for finding in diagnosis.findings if finding.status in {"error", "warning"})


async def _silent(exchange: Exchange) -> None:
    exchange.close()


async def _refuse(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


# Each of them puts one fault into a set-up that works.


async def unknown_key(setup: SetUp) -> None:
    setup.settings["listne"] = "127.0.0.1:0"


async def no_secret(setup: SetUp) -> None:
    setup.settings["credentials"]["main"]["client_secret_file"] = str(setup.folder / "nothing-here")


async def certificate_has_expired(setup: SetUp) -> None:
    authority = setup.authority()
    own = authority.issue("own", "localhost", good=(timedelta(days=-2), timedelta(days=-1)))
    setup.settings["tls"] = {"cert_file": str(own.cert_file), "key_file": str(own.key_file)}


async def no_such_host(setup: SetUp) -> None:
    setup.settings["platform"]["url"] = "https://platform.invalid"


async def nobody_listens(setup: SetUp) -> None:
    setup.settings["platform"]["url"] = f"http://127.0.0.1:{free_port()}"


async def _platform_with(setup: SetUp, host: str = "127.0.0.1", days: int = 30, *, is_known: bool = True) -> None:
    authority = setup.authority()
    shown = authority.issue("platform", host, good=(timedelta(days=-60), timedelta(days=days)))
    port = await setup.answer(_silent, shown.server_context())
    setup.settings["platform"]["url"] = f"https://127.0.0.1:{port}"
    if is_known:
        setup.settings["platform"]["ca_file"] = str(authority.file)


async def unknown_authority(setup: SetUp) -> None:
    await _platform_with(setup, is_known=False)


async def certificate_of_somebody_else(setup: SetUp) -> None:
    await _platform_with(setup, "10.1.2.3")


async def platform_has_expired(setup: SetUp) -> None:
    await _platform_with(setup, days=-1)


async def no_tls_there(setup: SetUp) -> None:
    setup.settings["platform"]["url"] = f"https://127.0.0.1:{await setup.web_server()}"


async def no_proxy_there(setup: SetUp) -> None:
    await _platform_with(setup)
    setup.settings["platform"]["proxy"] = f"http://127.0.0.1:{free_port()}"


async def proxy_refuses(setup: SetUp) -> None:
    await _platform_with(setup)
    setup.settings["platform"]["proxy"] = f"http://127.0.0.1:{await setup.answer(_refuse)}"


async def unknown_authority_behind_a_proxy(setup: SetUp) -> None:
    await _platform_with(setup, is_known=False)
    setup.settings["platform"]["proxy"] = f"http://127.0.0.1:{await setup.answer(tunnel)}"


def _webhook(setup: SetUp, **row: Any) -> None:
    secret = setup.file("webhook-secret", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLw==")
    setup.settings["webhooks"] = {"crm": {"secret_file": secret, **row}}


async def no_target_there(setup: SetUp) -> None:
    _webhook(setup, url=f"http://127.0.0.1:{free_port()}/hook")


async def target_of_an_unknown_authority(setup: SetUp) -> None:
    shown = setup.authority().issue("crm", "127.0.0.1").server_context()
    _webhook(setup, url=f"https://127.0.0.1:{await setup.answer(_silent, shown)}/hook")


async def proxy_refuses_the_target(setup: SetUp) -> None:
    _webhook(setup, url="https://crm.example.com/hook", proxy=f"http://127.0.0.1:{await setup.answer(_refuse)}")


async def no_redis_there(setup: SetUp) -> None:
    setup.settings["cache"] = {"url": f"redis://127.0.0.1:{free_port()}/0"}


async def something_else_there(setup: SetUp) -> None:
    setup.settings["cache"] = {"url": f"redis://127.0.0.1:{await setup.web_server()}/0", "timeout": "10s"}


async def _sentinel(setup: SetUp, *lines: str, master: str = "ours") -> None:
    port = await setup.redis()
    asked = free_port()
    text = "\n".join((f"sentinel monitor ours 127.0.0.1 {port} 1", *lines))
    config = setup.file("sentinel.conf", text)
    server = RedisServer(setup.folder, port=str(asked))
    server.options = {"port": str(asked), "bind": "127.0.0.1"}
    setup.stack.callback(server.kill)
    await server.start(config, "--sentinel")
    setup.settings["cache"]["url"] = f"redis+sentinel://127.0.0.1:{asked}/{master}/0"


async def sentinel_wants_a_password(setup: SetUp) -> None:
    await _sentinel(setup, f"requirepass {PASSWORD}")


async def sentinel_knows_another_master(setup: SetUp) -> None:
    await _sentinel(setup, master="theirs")


async def redis_wants_a_password(setup: SetUp) -> None:
    await setup.redis(requirepass=PASSWORD)


async def wrong_password(setup: SetUp) -> None:
    await setup.redis(requirepass=PASSWORD)
    setup.settings["cache"]["password_file"] = setup.file("password", "another-one")


async def _redis_with_user(setup: SetUp, *rules: str) -> None:
    users = setup.file(
        "users.acl", f"user default on nopass ~* &* +@all\nuser gateway on >{PASSWORD} {' '.join(rules)}\n"
    )
    await setup.redis(aclfile=users)
    setup.settings["cache"] |= {"username": "gateway", "password_file": setup.file("password", PASSWORD)}


async def no_right_to_a_command(setup: SetUp) -> None:
    await _redis_with_user(setup, "~cg:*", "&cg:*", "+@all", "-@admin", "-@dangerous", "+info", "-zadd")


async def no_right_to_the_keys(setup: SetUp) -> None:
    await _redis_with_user(setup, "~other:*", "&cg:*", "+@all")


async def no_right_to_the_channel(setup: SetUp) -> None:
    await _redis_with_user(setup, "~cg:*", "resetchannels", "+@all")


async def redis_evicts(setup: SetUp) -> None:
    await setup.redis(maxmemory="100mb", maxmemory_policy="allkeys-lru")


async def redis_is_old(setup: SetUp) -> None:
    await setup.redis_behind(rb"redis_version:\d\.\d\.\d", lambda _: b"redis_version:4.0.9")


async def redis_clock_is_off(setup: SetUp) -> None:
    await setup.redis_behind(
        rb"\*2\r\n\$10\r\n(\d{10})\r\n", lambda found: b"*2\r\n$10\r\n%d\r\n" % (int(found[1]) + 600)
    )


async def redis_is_a_replica(setup: SetUp) -> None:
    first = await setup.redis()
    await setup.redis(replicaof=f"127.0.0.1 {first}")


async def redis_is_part_of_a_cluster(setup: SetUp) -> None:
    await setup.redis_behind(rb"cluster_enabled:0", lambda _: b"cluster_enabled:1")


async def no_cluster_there(setup: SetUp) -> None:
    port = await setup.redis()
    setup.settings["cache"]["url"] = f"redis+cluster://127.0.0.1:{port}"


async def redis_has_a_ledger_of_another_key(setup: SetUp) -> None:
    await setup.redis()
    setup.settings["cache"]["seal"] = {"key_file": setup.file("seal", "the key of the running gateways")}
    await setup.examine()
    setup.settings["cache"]["seal"] = {"key_file": setup.file("other-seal", "the key of somebody else")}


async def redis_is_full(setup: SetUp) -> None:
    await setup.redis(maxmemory="1")


async def wrong_secret(setup: SetUp) -> None:
    setup.settings["credentials"]["main"]["client_secret_file"] = setup.file(
        "other", "some-other-secret-of-fair-length-ok"
    )


async def no_scope(setup: SetUp) -> None:
    setup.sandbox.app.scopes = frozenset({"analytics"})


async def wrong_application(setup: SetUp) -> None:
    setup.settings["streams"]["support"]["stream_id"] = "st-5a0db0c4-0000-5b18-a6c3-04d9e8f1b257"


async def wrong_account(setup: SetUp) -> None:
    setup.settings["streams"]["support"]["account_id"] = "5a0db0c4e91f27d8a6b3c055"


async def wrong_application_of_an_account(setup: SetUp) -> None:
    setup.sandbox.app.account_level = True
    await wrong_application(setup)


async def somebody_else_calls(setup: SetUp) -> None:
    setup.sandbox.limits[setup.sandbox.config.account_id].calls = 0


async def the_app_wants_jti(setup: SetUp) -> None:
    setup.sandbox.app.enforce_jti = True


async def a_page_in_front(setup: SetUp) -> None:
    setup.sandbox.faults.add("bad-gateway")


SET_UPS: list[tuple[Callable[[SetUp], Awaitable[None]], str, str]] = [
    (unknown_key, "settings", "unknown key"),
    (no_secret, "files", "cannot be read"),
    (certificate_has_expired, "certificates", "expired on"),
    (no_such_host, "platform.name", "has no address"),
    (nobody_listens, "platform.tcp", "Connection refused"),
    (unknown_authority, "platform.tls", "unable to get local issuer certificate; certificate of 127.0.0.1 by Our Auth"),
    (certificate_of_somebody_else, "platform.tls", "mismatch"),
    (platform_has_expired, "platform.tls", "certificate has expired"),
    (no_tls_there, "platform.tls", "wrong version number"),
    (no_proxy_there, "proxy.tcp", "Connection refused"),
    (proxy_refuses, "proxy.connect", "status 403 Forbidden"),
    (unknown_authority_behind_a_proxy, "platform.tls", "by Our Authority"),
    (no_target_there, "webhook.tcp", "Connection refused"),
    (target_of_an_unknown_authority, "webhook.tls", "by Our Authority"),
    (proxy_refuses_the_target, "proxy.connect", "status 403 Forbidden"),
    (no_redis_there, "redis.tcp", "Connection refused"),
    (something_else_there, "redis.answer", "does not speak as Redis does"),
    (sentinel_wants_a_password, "sentinel.auth", "refuses the user name or the password"),
    (sentinel_knows_another_master, "sentinel.master", "knows no master theirs"),
    (redis_wants_a_password, "redis.auth", "refuses the user name or the password"),
    (wrong_password, "redis.auth", "refuses the user name or the password"),
    (no_right_to_a_command, "redis.rights", "lacks the commands zadd"),
    (no_right_to_the_keys, "redis.rights", "lacks the keys cg:*"),
    (no_right_to_the_channel, "redis.rights", "lacks the channel cg:bus"),
    (redis_evicts, "redis.eviction", "allkeys-lru"),
    (redis_is_old, "redis.version", "too old"),
    (redis_clock_is_off, "redis.clock", "s ahead of this machine's"),
    (redis_is_a_replica, "redis.role", "takes no writes"),
    (redis_is_part_of_a_cluster, "redis.cluster", "part of a cluster"),
    (redis_has_a_ledger_of_another_key, "redis.ledger", "another key"),
    (redis_is_full, "redis.answer", "no memory left"),
    (no_cluster_there, "redis.cluster", "a part of the cluster is missing"),
    (wrong_secret, "stream.credential", "Invalid SDK credentials"),
    (the_app_wants_jti, "stream.credential", "but not with a jti"),
    (no_scope, "stream.scope", "Scope is incorrect"),
    (wrong_application, "stream.ids", "Invalid SDK credentials"),
    (wrong_account, "stream.ids", "Invalid SDK credentials"),
    (wrong_application_of_an_account, "stream.ids", "Invalid StreamId"),
    (somebody_else_calls, "stream.limit", "the ledger knows of 0 of 60 calls"),
    (a_page_in_front, "stream.answer", "status 502"),
]
WARNED = {
    *(redis_evicts, redis_clock_is_off, redis_is_full),
    *(no_target_there, target_of_an_unknown_authority, proxy_refuses_the_target),
}
WITH_REDIS = {somebody_else_calls}


@pytest.mark.drill(
    "a set-up with one fault",
    planted="in settings, files, names, TCP, TLS, proxy, sentinels, Redis, credential, ids, clocks, other callers",
    seen="the first finding of `doctor` that is not well names it, and what to do; no second error follows",
)
@pytest.mark.parametrize(("put", "check", "found"), [pytest.param(*row, id=row[0].__name__) for row in SET_UPS])
async def test_the_first_finding_that_is_not_well_names_the_fault(put, check, found, stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    if put in WITH_REDIS:
        await setup.redis()
    await put(setup)
    diagnosis = await setup.examine()
    trouble = first_trouble(diagnosis)
    assert (trouble.check, found in trouble.found) == (check, True), trouble
    assert trouble.advice
    assert diagnosis.exit_code == (2 if check == "settings" else 3 if put in WARNED else 1)
    errors = [finding for finding in diagnosis.findings if finding.status == "error"]
    assert len(errors) == (0 if put in WARNED else 1), errors
    assert setup.sandbox.limits[setup.sandbox.config.account_id].used(time.time()) <= 3
    assert PASSWORD not in repr(diagnosis.findings)
    assert setup.sandbox.config.secret not in repr(diagnosis.findings)


async def test_what_works_has_no_finding_but_good_ones(stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    await setup.redis()
    diagnosis = await setup.examine()
    assert {finding.status for finding in diagnosis.findings} == {"ok"}
    assert diagnosis.exit_code == 0
    assert [arrival.operation for arrival in setup.sandbox.log.since()] == ["list"]


async def by_tls(setup: SetUp) -> None:
    port, authority = await setup.redis(), setup.authority()
    shown, ours = authority.issue("redis", "127.0.0.1"), authority.issue("us")
    front = await setup.stack.enter_async_context(tls_front(port, shown, authority))
    files = {"ca_file": authority.file, "cert_file": ours.cert_file, "key_file": ours.key_file}
    setup.settings["cache"] |= {"url": f"rediss://127.0.0.1:{front}/0", "tls": {key: str(files[key]) for key in files}}


async def by_a_socket(setup: SetUp) -> None:
    path = f"/tmp/doctor-{os.getpid()}.sock"  # the test's own folder has too long a name for a socket
    setup.stack.callback(Path(path).unlink, missing_ok=True)
    await setup.redis(unixsocket=path)
    setup.settings["cache"]["url"] = f"unix://{path}"


async def by_a_cluster(setup: SetUp) -> None:
    cluster = await setup.stack.enter_async_context(redis_cluster(setup.folder))
    setup.settings["cache"] = {"url": cluster.url, "timeout": "10s"}


@pytest.mark.parametrize("way", [_sentinel, by_tls, by_a_socket, by_a_cluster])
async def test_every_way_to_redis_leads_there(way, stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    await way(setup)
    diagnosis = await setup.examine()
    assert [finding for finding in diagnosis.findings if finding.status != "ok"] == []
    assert "redis.rights" in {finding.check for finding in diagnosis.findings}


@pytest.mark.parametrize(
    ("ahead", "status"), [(2 * AN_HOUR, "error"), (60.0, "warning"), (-60.0, "warning"), (1.0, "ok")], ids=str
)
async def test_a_clock_that_is_off_is_told_apart_from_a_wrong_credential(ahead, status, stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path, now=lambda: time.time() + ahead)
    diagnosis = await setup.examine()
    (clock,) = [finding for finding in diagnosis.findings if finding.check == "stream.clock"]
    assert clock.status == status
    assert diagnosis.exit_code == {"error": 1, "warning": 3, "ok": 0}[status]
    if status != "ok":
        assert first_trouble(diagnosis) is clock


async def test_its_calls_are_taken_from_the_ledger_of_the_gateways(stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    await setup.redis()
    account = setup.sandbox.config.account_id
    setup.settings["budgets"] = {account: {"calls": 2, "reserve": 0}}
    told = [await setup.examine() for _ in range(3)]
    assert setup.sandbox.limits[account].used(time.time()) == 2
    assert [diagnosis.exit_code for diagnosis in told] == [0, 0, 3]
    assert first_trouble(told[2]).check == "stream.call"
    assert "2 of 2 calls of the window are in use" in first_trouble(told[2]).found


async def test_a_stream_of_a_credential_that_works_elsewhere_has_wrong_ids(stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    good = setup.settings["streams"]["support"]
    setup.settings["streams"]["sales"] = {**good, "stream_id": "st-5a0db0c4-0000-5b18-a6c3-04d9e8f1b257"}
    diagnosis = await setup.examine()
    assert [(row.check, row.subject) for row in diagnosis.findings if row.status == "error"] == [
        ("stream.ids", "sales")
    ]
    assert setup.sandbox.limits[setup.sandbox.config.account_id].used(time.time()) == 2


# The probe.


async def probed(setup: SetUp) -> tuple[Mapping[str, Finding], Any]:
    """What was measured: the findings by their checks, and the document."""
    setup.settings["budgets"] = {"default": {"calls": 60, "reserve": 20}}
    diagnosis = await setup.examine(has_probe=True)
    arrivals = setup.sandbox.log.since()
    assert {arrival.operation for arrival in arrivals} <= {"list", "get"}
    measured = diagnosis.as_document()["probe"]["support"]
    assert measured["calls"] == len(arrivals) <= 10
    return {finding.check: finding for finding in diagnosis.findings if finding.check.startswith("probe")}, measured


async def test_a_platform_as_documented_is_measured_without_a_warning(stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path, campaigns=150)
    found, measured = await probed(setup)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert measured["sort"] == "honoured"
    assert measured["pages"]["voice"] == {"asked": 100, "granted": 50, "is_cut": True}
    assert measured["total"]["voice"] == {"stated": 75, "beyond_shown": 0}
    assert measured["by_id"] == {"compared": 2, "differ": []}
    assert (measured["validators"], measured["not_modified"], measured["limit_headers"]) == ([], None, {})
    assert measured["lag_at_least_seconds"] == 0
    assert 0 < measured["bounds"]["signal_seconds"] < measured["bounds"]["blind_seconds"]


ODDITIES = [
    ("list-unsorted", "probe.sort", "warning", "not honoured"),
    ("total-of-page", "probe.total", "warning", "50 fewer (voice)"),
    ("total-hidden", "probe.total", "ok", "more (voice)"),
    ("rows-differ", "probe.by-id", "warning", "priority"),
    ("validators", "probe.validators", "ok", "ETag, and a conditional read is answered with 304"),
    ("limit-headers", "probe.limits", "warning", "x-ratelimit-limit: 30"),
]


@pytest.mark.drill(
    "a platform that does what nobody knew",
    planted="a list in no order, totals of another kind, rows that differ, validators, limit headers",
    seen="`doctor --probe` finds it with ten reads at most, and no write",
)
@pytest.mark.parametrize(("fault", "check", "status", "text"), ODDITIES, ids=[row[0] for row in ODDITIES])
async def test_each_oddity_of_a_list_is_found(fault, check, status, text, stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path, campaigns=150)
    setup.sandbox.faults.add(fault)
    found, _ = await probed(setup)
    assert (found[check].status, text in found[check].found) == (status, True), found[check]
    assert bool(found[check].advice) is (status == "warning")
    assert {check} >= {name for name, finding in found.items() if finding.status == "warning"}


async def test_a_list_that_lags_further_than_is_allowed_is_found(stack, tmp_path):
    skipped = 0.0
    setup = await SetUp.made(stack, tmp_path, now=lambda: time.time() + skipped, campaigns=2)
    setup.sandbox.faults.add("list-lag", seconds=120.0)
    for campaign in setup.sandbox.campaigns.all():
        setup.sandbox.campaigns.edit(campaign.id, {"name": "Renamed"})
    skipped = 60.0
    found, measured = await probed(setup)
    assert found["probe.lag"].status == "warning"
    assert measured["lag_at_least_seconds"] > 55


async def test_a_gateway_that_runs_by_these_settings_says_how_it_is(stack, tmp_path):
    setup = await SetUp.made(stack, tmp_path)
    gateway = await stack.enter_async_context(gateway_process(setup.settings, tmp_path))
    setup.settings["admin_listen"] = gateway.admin_url.removeprefix("http://")
    diagnosis = await setup.examine()
    (found,) = [finding for finding in diagnosis.findings if finding.check == "gateway.running"]
    assert re.match(r"(ready|degraded, .+), longest turn of its loop \d+ ms$", found.found), found
