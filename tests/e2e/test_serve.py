"""The main job from outside: the real process, real sockets, a platform that checks real tokens."""

import asyncio
import hashlib
import json
import platform
import re
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from campaign_gateway import __version__
from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.journal import most_in_window
from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig, Stream
from tests.support.doubles import begun
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.tls import Authority, tunnel
from tests.support.waiting import until
from tests.support.wire import Exchange, raw_server

QUICK = {"factor": 0.0, "min": "300ms", "max": "300ms", "default": "300ms", "status": {}}
"""Freshness so short that a test can outlive it."""


def ready(sandbox: Sandbox) -> str:
    """The id of a campaign that changes only when a test changes it."""
    return next(campaign.id for campaign in sandbox.campaigns.all() if campaign.status == Status.READY)


async def test_a_cold_read_costs_one_signed_call_and_the_next_one_none(sandbox: Sandbox, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    async with gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
        status, headers, body = await gateway.get(campaign)
        assert status == 200
        assert headers["Cache-Status"].startswith("campaign-gateway; fwd=uri-miss; fwd-status=200; stored; ttl=")
        assert json.loads(body)["data"]["_id"] == campaign
        (arrival,) = sandbox.log.of("get")
        assert arrival.status == 200
        assert arrival.iid == sandbox.config.stream_id
        assert arrival.account_id == sandbox.config.account_id
        assert arrival.target.endswith(f"/campaign/{campaign}?accountId={sandbox.config.account_id}")
        assert arrival.claims is not None
        assert arrival.claims.keys() == {"appId", "sub", "iat", "exp"}

        status, again, same_body = await gateway.get(campaign)
        assert (status, same_body) == (200, body)
        assert re.fullmatch(r"campaign-gateway; hit; ttl=\d+", again["Cache-Status"])
        assert again["ETag"] == headers["ETag"]
        assert int(again["Age"]) >= 0
        assert parsedate_to_datetime(again["Last-Modified"]).timestamp() > 0
        assert re.fullmatch(
            r"private, max-age=\d+, stale-while-revalidate=\d+, stale-if-error=\d+", again["Cache-Control"]
        )
        assert "aiohttp" not in again["Server"]
        assert "x-sandbox-reason" not in again

        status, _, nothing = await gateway.get(campaign, If_None_Match=headers["ETag"])
        assert (status, nothing) == (304, b"")
        assert len(sandbox.log.of("get")) == 1


@pytest.mark.parametrize("ahead", [-30.0, 30.0])
async def test_a_platform_whose_clock_is_off_is_told_by_its_answers(tmp_path: Path, ahead: float) -> None:
    async with Sandbox(SandboxConfig(campaigns=80), now=lambda: time.time() + ahead) as sandbox:
        campaign = ready(sandbox)
        # Long enough for a campaign that changed just now by our clock, and far from what any other rule gives.
        freshness = {**QUICK, "factor": 0.1, "max": "10m", "default": "8m"}
        async with gateway_process(settings_for(sandbox, tmp_path, freshness=freshness), tmp_path) as gateway:
            assert (await gateway.get_json("/readyz"))["parts"]["platform_clock"] == {"status": "ok", "reason": None}
            assert await gateway.metric("platform_clock_uncertainty_seconds") == float("inf")
            await gateway.get(campaign)
            sandbox.campaigns.edit(campaign, {"description": "changed"})
            edited_at = time.time()
            status, headers, _ = await gateway.get(campaign, Cache_Control="no-cache")
            # A tenth of the moment since the edit, held to the least: neither a platform's future nor its past.
            assert (status, headers["Campaign-Gateway-Bound"]) == (200, "61")
            seen = await gateway.metric("change_visible_seconds_sum", stream="support")
            uncertainty = await gateway.metric("platform_clock_uncertainty_seconds")
            assert 0 <= seen <= time.time() - edited_at + 2 * uncertainty + 0.1
            assert await gateway.metric("change_visible_seconds_count", stream="support") == 1
            assert abs(await gateway.metric("platform_clock_offset_seconds") - ahead) <= uncertainty < 1.0
            part = (await gateway.get_json("/readyz"))["parts"]["platform_clock"]
            assert part["status"] == "degraded"
            assert re.match(
                rf"the platform's clock is (29|30)\.\d s {'ahead of' if ahead > 0 else 'behind'} ours", part["reason"]
            )
            said = [record["message"] for record in gateway.records() if "platform's clock" in record["message"]]
            assert len(said) == 1


async def test_an_edit_is_seen_once_the_lifetime_has_passed(sandbox: Sandbox, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    freshness = {**QUICK, "stale_while_revalidate": "0s"}
    async with gateway_process(settings_for(sandbox, tmp_path, freshness=freshness), tmp_path) as gateway:
        _, before, _ = await gateway.get(campaign)
        sandbox.campaigns.edit(campaign, {"description": "changed"})
        await asyncio.sleep(0.35)
        _, after, body = await gateway.get(campaign)
        assert json.loads(body)["data"]["description"] == "changed"
        assert after["ETag"] != before["ETag"]
        assert "fwd=stale; fwd-status=200" in after["Cache-Status"]
        status, _, _ = await gateway.get(campaign, If_None_Match=before["ETag"])
        assert status == 200


async def test_stale_while_revalidate_answers_at_once_and_refreshes_beside(sandbox: Sandbox, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    async with gateway_process(settings_for(sandbox, tmp_path, freshness=QUICK), tmp_path) as gateway:
        await gateway.get(campaign)
        sandbox.campaigns.edit(campaign, {"description": "changed"})
        await asyncio.sleep(0.35)
        _, headers, body = await gateway.get(campaign)
        assert re.fullmatch(r"campaign-gateway; hit; ttl=-\d+; detail=stale-while-revalidate", headers["Cache-Status"])
        assert b"changed" not in body
        await sandbox.log.wait_for(2)
        async with asyncio.timeout(20):
            while b"changed" not in body:
                _, _, body = await gateway.get(campaign)


async def test_a_broken_platform_gets_a_stale_answer_that_says_so_until_the_hard_bound(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    campaign = ready(sandbox)
    freshness = {**QUICK, "stale_while_revalidate": "0s", "stale_if_error": "2s"}
    async with gateway_process(settings_for(sandbox, tmp_path, freshness=freshness), tmp_path) as gateway:
        _, _, good = await gateway.get(campaign)
        began = asyncio.get_running_loop().time()
        for fault in ("bad-gateway", "reset", "html-200", "cut-json", "error-200", "unauthorized", "wrong-id"):
            sandbox.faults.add(fault)
            await asyncio.sleep(0.32 if fault == "bad-gateway" else 0)
            status, headers, body = await gateway.get(campaign)
            assert (status, body) == (200, good), fault
            assert "detail=stale-if-error" in headers["Cache-Status"]
            assert "ttl=-" in headers["Cache-Status"]
            sandbox.faults.clear()
        sandbox.faults.add("bad-gateway")
        await asyncio.sleep(max(0.0, began + 2.1 - asyncio.get_running_loop().time()))
        status, headers, body = await gateway.get(campaign)
        assert status == 502
        assert headers["Content-Type"] == "application/problem+json"
        assert json.loads(body)["type"] == "/problems/upstream-unavailable"


@pytest.mark.parametrize(
    ("fault", "status", "problem"),
    [
        ("bad-gateway", 502, "upstream-unavailable"),
        ("server-error", 502, "upstream-unavailable"),
        ("reset", 502, "upstream-unavailable"),
        ("html-200", 502, "upstream-invalid"),
        ("not-found-html", 502, "upstream-invalid"),
        ("cut-json", 502, "upstream-invalid"),
        ("cut-body", 502, "upstream-invalid"),
        ("cut-unframed", 502, "upstream-invalid"),
        ("not-json", 502, "upstream-invalid"),
        ("error-200", 502, "upstream-invalid"),
        ("error-200-capital", 502, "upstream-invalid"),
        ("wrong-id", 502, "upstream-invalid"),
        ("oversize", 502, "upstream-invalid"),
        ("gzip-bomb", 502, "upstream-invalid"),
        ("redirect", 502, "upstream-invalid"),
        ("unauthorized", 502, "upstream-unauthorized"),
        ("forbidden-scope", 502, "upstream-unauthorized"),
        ("hang", 504, "upstream-timeout"),
        ("not-found-json", 404, "campaign-not-found"),
        ("gone", 404, "campaign-not-found"),
        ("limit-429", 503, "upstream-paused"),
        ("limit-200", 503, "upstream-paused"),
        ("limit-400", 503, "upstream-paused"),
        ("limit-403", 503, "upstream-paused"),
        ("bad-content-type", 200, None),
        ("slow-body", 504, "upstream-timeout"),
    ],
)
async def test_each_fault_has_its_answer_and_a_good_one_follows(
    sandbox: Sandbox, tmp_path: Path, fault: str, status: int, problem: str | None
) -> None:
    settings = settings_for(sandbox, tmp_path, freshness={"missing": "0s"})
    settings["platform"]["timeout"] = "1500ms"
    if fault in {"oversize", "gzip-bomb"}:
        settings["platform"]["max_body"] = "64KiB"
    async with gateway_process(settings, tmp_path) as gateway:
        sandbox.faults.add(fault, times=1)
        found, headers, body = await gateway.get(ready(sandbox))
        assert found == status
        if problem is not None:
            assert json.loads(body)["type"] == f"/problems/{problem}"
            assert ("Retry-After" in headers) == (status == 503)
        sandbox.faults.clear()
        found, headers, _ = await gateway.get(ready(sandbox))
        assert found == (503 if fault.startswith("limit") else 200)


async def test_a_thousand_cold_readers_cost_one_call(sandbox: Sandbox, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    async with gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
        sandbox.faults.add("latency", seconds=0.5)
        answers = await asyncio.gather(*(gateway.get(campaign) for _ in range(1000)))
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, _, body in answers}) == 1
        assert len(sandbox.log.of("get")) == 1
        assert await gateway.metric("collapsed_requests_total", scope="process") >= 900


async def test_the_budget_holds_and_the_rest_is_told_when_to_come_back(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = settings_for(sandbox, tmp_path, budgets={"default": {"calls": 20, "window": "3s"}})
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    async with gateway_process(settings, tmp_path) as gateway:
        answers = await asyncio.gather(*(gateway.get(campaign) for campaign in ids[:61]))
        statuses = [status for status, _, _ in answers]
        assert statuses.count(200) == 19, "one is for writes"
        assert statuses.count(503) == 42
        refused = [(headers, json.loads(body)) for status, headers, body in answers if status == 503]
        assert {problem["type"] for _, problem in refused} == {"/problems/budget-exhausted"}
        waits = {int(headers["Retry-After"]) for headers, _ in refused}
        # Nineteen in each of the next windows; in each of them everybody may take its time.
        assert waits <= {2, 3, 5, 6, 7, 9, 10}
        for headers, _ in refused:
            assert headers["RateLimit-Policy"] == '"calls";q=20;w=3'
            assert re.fullmatch(r'"calls";r=[01];t=[123]', headers["RateLimit"])
        assert len(sandbox.log.of("get")) == 19
        await asyncio.sleep(min(waits))
        status, _, _ = await gateway.get(ids[70])
        assert status == 200
        assert most_in_window([arrival.monotonic for arrival in sandbox.log.since(0)], 3.0) <= 20


async def test_a_restart_with_redis_is_still_a_hit(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url})
    async with gateway_process(settings, tmp_path) as gateway:
        _, first, body = await gateway.get(campaign)
        gateway.terminate()
        assert await gateway.process.wait() == 0
    async with gateway_process(settings, tmp_path) as gateway:
        _, second, same = await gateway.get(campaign)
    assert same == body
    assert second["ETag"] == first["ETag"]
    assert "; hit; " in second["Cache-Status"]
    assert len(sandbox.log.of("get")) == 1


async def test_reads_go_on_while_redis_is_gone_and_after(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    known, unknown = (campaign.id for campaign in sandbox.campaigns.all()[:2])
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url})
    async with gateway_process(settings, tmp_path) as gateway:
        await redis.wait_for_listeners()
        await gateway.get(known)
        assert await gateway.metric("store_up", store="redis") == 1
        redis.kill()
        for campaign in (known, unknown, known, unknown):
            status, _, _ = await gateway.get(campaign)
            assert status == 200
        assert len(sandbox.log.of("get")) == 2
        ready_status = await gateway.get_json("/readyz")
        assert ready_status["status"] == "degraded"
        assert ready_status["parts"]["store"]["reason"].startswith("redis: ")
        assert await gateway.metric("store_up", store="redis") == 0
        await redis.start()
        async with asyncio.timeout(20):
            while await gateway.metric("store_up", store="redis") == 0:
                await asyncio.sleep(0.05)
        for campaign in (known, unknown):
            assert (await gateway.get(campaign))[0] == 200
        lines = [line for line in gateway.log if "redis is" in line]
        assert len(lines) == 3, "one line per change of state"


async def test_a_hung_redis_costs_one_time_out_and_no_answer(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    campaign = ready(sandbox)
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url, "timeout": "200ms"})
    async with gateway_process(settings, tmp_path) as gateway:
        await redis.wait_for_listeners()
        await gateway.get(campaign)
        redis.pause()
        try:
            answers = await asyncio.gather(*(gateway.get(campaign) for _ in range(50)))
            assert {status for status, _, _ in answers} == {200}
            assert len(sandbox.log.of("get")) == 1
        finally:
            redis.resume()


async def test_two_streams_never_mix(tmp_path: Path, redis: RedisServer) -> None:
    other = Stream("st-7d1f0c3a-0000-5111-8222-933344455566", "65f0a1b2c3d4e5f607182933")
    async with Sandbox(SandboxConfig(streams=(other,))) as platform:
        settings = settings_for(platform, tmp_path, cache={"url": redis.url})
        settings["streams"]["support"]["default"] = True
        settings["streams"]["sales"] = {
            "stream_id": other.stream_id,
            "account_id": other.account_id,
            "credential": "main",
        }
        keys = {"a": "key-of-a", "b": "key-of-b"}
        settings["clients"] = {
            name: {"key_sha256": hashlib.sha256(key.encode()).hexdigest(), "streams": streams}
            for (name, key), streams in zip(keys.items(), (["support"], ["sales"]), strict=True)
        }
        mine, theirs = (tenant.campaigns.all()[0].id for tenant in platform.tenants.values())
        async with gateway_process(settings, tmp_path) as gateway:

            async def ask(path: str, key: str | None) -> tuple[int, bytes]:
                headers = {"Authorization": f"Bearer {key}"} if key else {}
                async with gateway.session.get(gateway.url + path, headers=headers) as response:
                    return response.status, await response.read()

            assert (await ask(f"/v1/campaigns/{mine}", keys["a"]))[0] == 200
            assert (await ask(f"/v1/streams/sales/campaigns/{theirs}", keys["b"]))[0] == 200
            # The same id in the other stream is another campaign, also when it is cached for the first.
            assert (await ask(f"/v1/streams/sales/campaigns/{mine}", keys["b"]))[0] == 404
            for path, key, status in [
                (f"/v1/streams/sales/campaigns/{theirs}", keys["a"], 403),
                (f"/v1/campaigns/{mine}", keys["b"], 403),
                (f"/v1/streams/nope/campaigns/{mine}", keys["a"], 403),
                (f"/v1/campaigns/{mine}", None, 401),
                (f"/v1/campaigns/{mine}", "wrong", 401),
            ]:
                found, body = await ask(path, key)
                assert found == status
                assert theirs.encode() not in body
                assert other.stream_id.encode() not in body


@pytest.mark.parametrize(
    "path",
    ["..%2f..%2fadmin", "%00", "a" * 10_000, "%C3%A9", "é", "a%0d%0aX:%201", "a%20b", ".", "%2e%2e", "a;b", "a?x=1"],
)
async def test_an_id_that_cannot_be_one_is_refused_without_a_call(sandbox: Sandbox, tmp_path: Path, path: str) -> None:
    async with gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /v1/campaigns/{path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        assert answer.split(b" ", 2)[1] == b"400"
        assert b"application/problem+json" in answer
        assert sandbox.log.count == 0


async def test_no_secret_is_in_any_log_metric_answer_or_stored_value(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    key = "cgk_the-client-key"
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url})
    clients = {"a": {"key_sha256": hashlib.sha256(key.encode()).hexdigest(), "streams": ["support"]}}
    bearer = f"Bearer {key}"
    async with gateway_process({**settings, "clients": clients}, tmp_path) as gateway:
        seen: list[bytes] = []
        for headers in ({"Authorization": bearer}, {"Authorization": "Bearer cgk_wrong"}, {}):
            _, fields, body = await gateway.get(ready(sandbox), **headers)
            seen += [body, repr(fields).encode()]
        sandbox.faults.add("unauthorized")
        _, fields, body = await gateway.get(sandbox.campaigns.all()[1].id, Authorization=bearer)
        seen += [body, repr(fields).encode()]
        host, port = gateway.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\x01\r\n\r\n".encode())
        seen.append(await reader.read())
        writer.close()
        seen.append((await gateway.metrics()).encode())
        client = redis.client()
        names = await client.keys("*")
        assert names
        contents: dict[Any, Any] = {
            b"string": client.get,
            b"hash": client.hgetall,
            b"zset": partial(client.zrange, start=0, end=-1),
        }
        for name in names:
            seen.append(repr((name, await contents[await client.type(name)](name))).encode())
        await client.aclose()
        await asyncio.sleep(0.1)
        seen += [line.encode() for line in gateway.log]
        tokens = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.")
        for text in seen:
            assert key.encode() not in text
            assert b"cgk_wrong" not in text
            assert sandbox.config.secret.encode() not in text
            assert not tokens.search(text)


async def test_a_rotated_secret_is_read_again_once_and_the_read_succeeds(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = settings_for(sandbox, tmp_path)
    first, second = (campaign.id for campaign in sandbox.campaigns.all()[:2])
    async with gateway_process(settings, tmp_path) as gateway:
        assert (await gateway.get(first))[0] == 200
        sandbox.app.secret = "b" * 64
        (tmp_path / "client-secret").write_text("b" * 64)
        assert (await gateway.get(second))[0] == 200
        assert [arrival.status for arrival in sandbox.log.of("get")] == [200, 401, 200]


async def test_many_hits_at_once_have_a_whole_line_each(sandbox: Sandbox, tmp_path: Path) -> None:
    campaign = ready(sandbox)
    async with gateway_process(settings_for(sandbox, tmp_path, log={"access": "all"}), tmp_path) as gateway:
        await gateway.get(campaign)
        ids = {f"hit-{number}" for number in range(600)}
        await asyncio.gather(*(gateway.get(campaign, X_Request_ID=id_) for id_ in ids))
        await until(lambda: sum('"request_id":"hit-' in line for line in gateway.log) >= len(ids))
    # A line that is not whole cannot be read.
    hits = [line["request_id"] for line in map(json.loads, gateway.log) if line.get("cache") == "hit"]
    assert len(hits) == len(ids)
    assert set(hits) == ids


async def test_sigterm_finishes_what_is_in_flight_and_exits_with_0(sandbox: Sandbox, tmp_path: Path) -> None:
    settings = settings_for(sandbox, tmp_path)
    settings["shutdown"]["drain"] = "300ms"
    async with gateway_process(settings, tmp_path) as gateway:
        sandbox.faults.add("latency", seconds=0.8)
        reading = begun(gateway.get(ready(sandbox)))
        await sandbox.log.wait_for(1)
        gateway.terminate()
        async with asyncio.timeout(20):
            while True:
                async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/readyz") as response:
                    if response.status == 503:
                        break
        status, headers, _ = await reading
        assert status == 200
        assert headers["Connection"] == "close"
        assert await gateway.process.wait() == 0
        await until(lambda: gateway.records()[-1]["message"] == "stopped, exit code 0")
        said = [record["message"] for record in gateway.records()]
        assert "stopping (SIGTERM): 1 requests in flight on 1 connections, the listener closes in 0.3 s" in said
    start = gateway.records()[0]
    assert start["message"].startswith("starting: version ")
    assert (start["version"], start["python"]) == (__version__, platform.python_version())
    assert (start["streams"], start["clients"], start["cache"]) == (1, 0, "memory://")
    assert Path(start["settings"]).parent == tmp_path


async def test_a_refused_credential_does_not_spend_the_budget_and_a_new_secret_ends_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    async with gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
        sandbox.app.secret = "c" * 64
        answers = [await gateway.get(campaign) for campaign in ids[:20]]
        assert {status for status, _, _ in answers} == {502}
        assert {json.loads(body)["type"] for _, _, body in answers} == {"/problems/upstream-unauthorized"}
        assert sandbox.log.count == 2
        assert await gateway.metric("credentials_refused") == 1
        (tmp_path / "client-secret").write_text("c" * 64)
        assert (await gateway.get(ids[30]))[0] == 200


@pytest.mark.drill("no way out but a proxy, an authority of one's own")
async def test_the_platform_is_reached_through_a_proxy_and_by_an_authority_of_its_own(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "authority")
    body = b'{"status":"success","data":{"_id":"c-1","updatedAt":"2026-02-03T14:06:48.902Z"}}'

    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        await exchange.send(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    identity = authority.issue("platform", "localhost")
    async with raw_server(answer, tls=identity.server_context()) as platform, raw_server(tunnel) as proxy:
        row = {"url": f"https://localhost:{platform.port}", "proxy": proxy.url, "ca_file": str(authority.file)}
        settings = settings_for(sandbox, tmp_path, platform=row, sweep={"share": 0})
        async with gateway_process(settings, tmp_path) as gateway:
            assert (await gateway.get("c-1"))[0] == 200
        assert len(platform.exchanges) == 1
        assert [head.split()[:2] for head in proxy.heads] == [[b"CONNECT", b"localhost:%d" % platform.port]]


@pytest.mark.drill("used-up file descriptors")
async def test_used_up_descriptors_leave_those_who_are_connected_and_operators_in_peace(
    sandbox: Sandbox, redis: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(sandbox, tmp_path, cache={"url": redis.url}, sweep={"share": 0})
    ids = [campaign.id for campaign in sandbox.campaigns.all()]
    async with gateway_process(settings, tmp_path, descriptors=128) as gateway:
        assert (await gateway.get(ids[0]))[0] == 200
        address = gateway.url.removeprefix("http://").split(":")
        callers = [await asyncio.open_connection(*address) for _ in range(150)]
        await until(lambda: any("others are refused" in line for line in gateway.log))
        for campaign in ids[:2]:
            assert (await gateway.get(campaign))[0] == 200
        ready = await gateway.get_json("/readyz")
        assert ready["status"] == "degraded"
        assert "file descriptors" in ready["parts"]["listener"]["reason"]
        assert await gateway.metric("store_up", store="redis") == 1
        assert await gateway.metric("connections_refused_total") > 40
        assert await gateway.metric("connections") == 96
        for _, writer in callers:
            writer.close()
        await until(lambda: any("accepted again" in line for line in gateway.log))
        await until(gateway.is_ready)
        assert not [line for line in gateway.records() if line["level"] == "error"]
        assert len([line for line in gateway.log if "refused" in line]) == 1


@pytest.mark.drill("answers that nobody reads")
async def test_callers_who_never_read_are_cut_off_and_others_are_served(
    sandbox: Sandbox, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    campaign, other = (each.id for each in sandbox.campaigns.all()[:2])
    sandbox.faults.add("oversize", campaign=campaign, size_bytes=3 * 2**20)
    settings = settings_for(sandbox, tmp_path, send_timeout="2s", max_unsent="1GiB")
    settings["platform"]["timeout"] = "10s"
    request = f"GET /v1/campaigns/{campaign} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    async with gateway_process(settings, tmp_path) as gateway, AsyncExitStack() as stack:
        port = int(gateway.url.rpartition(":")[2])
        assert (await gateway.get(campaign))[0] == 200
        for _ in range(8):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", port))
            peer.sendall(request)
        seconds = await until(lambda: _is_counted(gateway, "connections_unread_total", 8))
        assert (await gateway.get(other))[0] == 200
        assert len([line for line in gateway.records() if "does not read its answer" in line["message"]]) == 1
    figure(f"8 of 8 readers of nothing cut off, {seconds:.0f} s after they came, with 2 s allowed")


async def _is_counted(gateway: GatewayProcess, name: str, count: int) -> bool:
    return await gateway.metric(name) == count
