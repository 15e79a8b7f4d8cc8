"""Faults as a client meets them on the wire."""

import asyncio
import gzip
import json

import aiohttp
import pytest

from campaign_gateway.sandbox.canned import CANNED
from campaign_gateway.sandbox.distortions import OTHER_ID
from campaign_gateway.sandbox.faults import FaultName


@pytest.fixture
def campaign(platform):
    return platform.made("simple")


@pytest.mark.parametrize(
    ("fault", "status", "name"),
    [
        ("server-error", 500, "error-500.json"),
        ("not-found-json", 404, "error-404.json"),
        ("error-200", 200, "error-200-status-error.json"),
        ("error-200-capital", 200, "error-200-status-capital.json"),
        ("limit-429", 429, "error-429.json"),
        ("unauthorized", 401, "error-401-bad-signature.json"),
        ("unauthorized-not-a-token", 401, "error-401-not-a-jwt.json"),
        ("unauthorized-expired", 401, "error-401-expired-token.json"),
        ("unauthorized-replay", 401, "error-401-jti-replay.json"),
        ("unauthorized-lifetime", 401, "error-401-jti-lifetime.json"),
        ("unauthorized-scope", 401, "error-401-scope.json"),
        ("unauthorized-scope-message", 401, "error-401-scope-message-key.json"),
        ("forbidden-scope", 403, "error-403-scope.json"),
    ],
)
async def test_answers_of_the_samples(platform, campaign, sample, fault, status, name):
    platform.sandbox.faults.add(fault)
    reply = await platform.get(campaign)
    assert (reply.status, reply.document) == (status, sample(name))


@pytest.mark.parametrize(
    ("fault", "given", "status", "content_type", "part"),
    [
        ("bad-gateway", {}, 502, "text/html", b"<h1>502 Bad Gateway</h1>"),
        ("unavailable", {}, 503, None, b""),
        ("not-found-html", {}, 404, "text/html", b"<html"),
        ("html-200", {}, 200, "text/html", b"Sign in"),
        ("not-json", {}, 200, "application/json; charset=utf-8", b"upstream connect error"),
        ("status", {}, 500, "application/json; charset=utf-8", b""),
        ("status", {"status": 418, "body": "tea", "content_type": "text/plain"}, 418, "text/plain", b"tea"),
        ("status", {"status": 200, "body": "{}", "content_type": ""}, 200, None, b"{}"),
        ("bad-content-type", {}, 200, "text/html", b'"success"'),
        ("bad-content-type", {"content_type": ""}, 200, None, b'"success"'),
        ("limit-429-seconds", {"retry_after_seconds": 9}, 429, "application/json; charset=utf-8", b"per-minute"),
    ],
)
async def test_other_answers(platform, campaign, fault, given, status, content_type, part):
    platform.sandbox.faults.add(fault, **given)
    reply = await platform.get(campaign)
    assert (reply.status, reply.headers.get("Content-Type")) == (status, content_type)
    assert part in reply.body
    assert len(reply.body) == int(reply.headers["Content-Length"])


async def test_a_redirect_keeps_the_target(platform, campaign):
    platform.sandbox.faults.add("redirect", times=1)
    platform.sandbox.faults.add("redirect", status=307, location="https://other.invalid/x")
    first, second = [await platform.get(campaign) for _ in range(2)]
    assert first.headers["Location"] == f"https://elsewhere.invalid{platform.sandbox.log.since()[0].target}"
    assert (first.status, second.status, second.headers["Location"]) == (302, 307, "https://other.invalid/x")


async def test_a_fault_ends_after_its_requests(platform, campaign):
    platform.sandbox.faults.add("server-error", times=2, operation="get", campaign=campaign.id)
    statuses = [(await platform.get(campaign)).status for _ in range(3)]
    assert statuses == [500, 500, 200]
    assert (await platform.rows()).status == 200
    assert [arrival.faults for arrival in platform.sandbox.log.since()] == [("server-error",)] * 2 + [()] * 2
    assert [arrival.status for arrival in platform.sandbox.log.since()] == [500, 500, 200, 200]


@pytest.mark.parametrize("fault", sorted({*CANNED, FaultName.RESET}))
@pytest.mark.parametrize("performed", [False, True])
async def test_a_write_behind_a_failure_happened_or_not(platform, campaign, fault, performed):
    platform.sandbox.faults.add(fault, operation="delete", performed=performed)
    try:
        await platform.call("DELETE", f"/campaign/{campaign.id}", campaignType="sms")
    except aiohttp.ClientError:
        assert fault == "reset"
    assert (platform.sandbox.campaigns.get(campaign.id) is None) is performed


async def test_a_reset_is_logged_and_never_answered(platform, campaign):
    platform.sandbox.faults.add("reset", times=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await platform.rows()
    assert [(arrival.status, arrival.faults) for arrival in platform.sandbox.log.since()] == [(None, ("reset",))]


async def test_the_log_shows_what_a_client_sends_again_on_its_own(platform, campaign):
    platform.sandbox.faults.add("reset", times=1)
    # One call for its caller: aiohttp repeats a GET on a broken connection without a word.
    assert (await platform.get(campaign)).status == 200
    assert [arrival.status for arrival in platform.sandbox.log.since()] == [None, 200]


async def test_an_idle_connection_is_closed_without_a_word(platform, campaign):
    platform.sandbox.faults.add("close-idle", times=1)
    host, port = platform.sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    async with asyncio.timeout(5):
        said = await reader.read()
    assert said.startswith(b"HTTP/1.1 404")
    assert b"connection: close" not in said.lower()
    assert said.endswith(b"</html>\n")
    writer.close()


async def test_cut_json_is_honest_about_its_length(platform, campaign):
    whole = (await platform.get(campaign)).body
    platform.sandbox.faults.add("cut-json")
    reply = await platform.get(campaign)
    assert reply.body == whole[: len(whole) // 2]
    assert int(reply.headers["Content-Length"]) == len(reply.body)


async def test_a_cut_body_breaks_its_promise(platform, campaign):
    platform.sandbox.faults.add("cut-body")
    with pytest.raises(aiohttp.ClientPayloadError):
        await platform.get(campaign)


async def test_a_cut_body_without_framing_looks_whole(platform, campaign):
    whole = (await platform.get(campaign)).body
    platform.sandbox.faults.add("cut-unframed")
    reply = await platform.get(campaign)
    assert (reply.status, reply.body) == (200, whole[: len(whole) // 2])
    assert "Content-Length" not in reply.headers


async def test_a_slow_body_arrives_whole(platform, campaign):
    whole = (await platform.get(campaign)).body
    platform.sandbox.faults.add("slow-body", seconds=0.0, size_bytes=100)
    reply = await platform.get(campaign)
    assert reply.body == whole


async def test_a_slow_body_can_be_abandoned(platform, campaign):
    fault = platform.sandbox.faults.add("slow-body", seconds=60.0, size_bytes=10)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(platform.get(campaign), 0.05)
    assert platform.sandbox.faults.remove(fault.id)
    assert (await platform.get(campaign)).status == 200


async def test_the_wrong_campaign(platform, campaign):
    platform.sandbox.faults.add("wrong-id")
    assert (await platform.get(campaign)).document["data"]["_id"] == OTHER_ID
    status = await platform.call("POST", f"/campaign/{campaign.id}/status", view="status")
    assert status.document["data"]["id"] == OTHER_ID
    assert (await platform.send("GET", f"{platform.sandbox.url}/x")).status == 404


async def test_an_oversize_body_is_still_json(platform, campaign):
    platform.sandbox.faults.add("oversize", size_bytes=3_000_000)
    reply = await platform.get(campaign)
    assert len(reply.body) == 3_000_000
    assert reply.document["data"]["_id"] == campaign.id
    page = await platform.send("GET", f"{platform.sandbox.url}/x")
    assert len(page.body) == 3_000_000


async def test_a_gzip_bomb_is_small_on_the_wire(platform, campaign):
    platform.sandbox.faults.add("gzip-bomb", size_bytes=1_000_000)
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        platform.session, kept = session, platform.session
        reply = await platform.get(campaign)
        platform.session = kept
    assert reply.headers["Content-Encoding"] == "gzip"
    assert len(reply.body) < 10_000
    unfolded = gzip.decompress(reply.body)
    assert len(unfolded) == 1_000_000
    assert json.loads(unfolded)["data"]["_id"] == campaign.id


async def test_a_hang_is_a_gate(platform, campaign):
    fault = platform.sandbox.faults.add("hang", times=1)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        hanging = group.create_task(platform.get(campaign))
        await platform.sandbox.log.wait_for(1)
        platform.sandbox.campaigns.edit(campaign.id, {"priority": "1"})
        assert (await platform.get(campaign)).status == 200
        assert not hanging.done()
        assert platform.sandbox.log.since()[0].status is None
        platform.sandbox.faults.remove(fault.id)
    assert hanging.result().document["data"]["priority"] == "1"


async def test_an_answer_that_is_old_when_it_arrives(platform, campaign):
    platform.sandbox.faults.add("hang", times=1, performed=True)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        hanging = group.create_task(platform.get(campaign))
        await platform.sandbox.log.wait_for(1)
        await platform.get(campaign)
        platform.sandbox.campaigns.edit(campaign.id, {"name": "Later"})
        platform.sandbox.faults.clear()
    assert hanging.result().document["data"]["name"] == campaign.name


async def test_stopping_lets_go_of_what_hangs(start):
    platform = await start()
    campaign = platform.made("simple")
    platform.sandbox.faults.add("hang")
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        hanging = group.create_task(platform.get(campaign))
        await platform.sandbox.log.wait_for(1)
        await platform.sandbox.stop()
    assert hanging.result().status == 200


async def test_latency(platform, campaign):
    platform.sandbox.faults.add("latency", seconds=0.02)
    loop = asyncio.get_running_loop()
    before = loop.time()
    assert (await platform.get(campaign)).status == 200
    assert loop.time() - before >= 0.02


async def test_latency_of_every_answer(start):
    platform = await start(latency_seconds=0.02)
    loop = asyncio.get_running_loop()
    before = loop.time()
    await platform.get("cd-1")
    assert loop.time() - before >= 0.02


async def test_a_broken_sort(start, clock):
    platform = await start(campaigns=0)
    for _ in range(3):
        platform.made("simple")
    orders = []
    for _ in range(2):
        rows = (await platform.rows(type="sms")).document["data"]["results"]
        orders.append([row["createdAt"] for row in rows])
        platform.sandbox.faults.add("list-unsorted")
    assert orders[0] == sorted(orders[0], reverse=True) == orders[1][::-1]


async def test_a_lagging_list(platform, clock):
    campaign = platform.made("simple")
    platform.sandbox.faults.add("list-lag", seconds=5.0)
    platform.sandbox.campaigns.edit(campaign.id, {"name": "Later"})
    names = []
    for seconds in (4, 2):
        clock.advance(seconds)
        rows = (await platform.rows(type="sms")).document["data"]["results"]
        names.append({row["id"]: row["name"] for row in rows}[campaign.id])
        assert (await platform.get(campaign)).document["data"]["name"] == "Later"
    assert names == [campaign.name, "Later"]


async def test_revisions_that_do_not_move(platform, clock, body):
    campaign = platform.made("simple")
    platform.sandbox.faults.add("marks-frozen")
    clock.advance(5)
    await platform.write("PUT", f"/campaign/{campaign.id}", body("simple"), campaignType="sms")
    await platform.call("POST", f"/campaign/{campaign.id}", campaignType="sms", trigger="play")
    read = (await platform.get(campaign)).document["data"]
    assert (read["status"], read["updatedAt"]) == ("Active", campaign.fields["updatedAt"])
