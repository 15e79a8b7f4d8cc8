import asyncio
import io
import json

import pytest

from campaign_gateway.sandbox.config import Stream
from campaign_gateway.sandbox.faults import FaultName
from campaign_gateway.sandbox.operations import Family

OTHER_SECRET = "another secret of sixty-four bytes, and otherwise much like the 1"


def path_of(platform):
    return f"/campaign/{platform.sandbox.campaigns.all()[0].id}"


@pytest.mark.parametrize(
    ("headers", "name"),
    [({"auth": None}, "error-401-missing-token.json"), ({"auth": "rubbish"}, "error-401-not-a-jwt.json")],
)
async def test_refused_token(platform, sample, headers, name):
    reply = await platform.call("GET", path_of(platform), headers=headers)
    assert (reply.status, reply.document) == (401, sample(name))


async def test_bad_signature(platform, sample):
    token = platform.token()
    platform.sandbox.app.secret = OTHER_SECRET
    reply = await platform.call("GET", path_of(platform), headers={"auth": token})
    assert (reply.status, reply.document) == (401, sample("error-401-bad-signature.json"))
    assert reply.headers["x-sandbox-reason"] == "wrong signature"


async def test_expired_token(platform, clock, sample):
    token = platform.token(exp=int(clock.now) - 1)
    reply = await platform.call("GET", path_of(platform), headers={"auth": token})
    assert (reply.status, reply.document) == (401, sample("error-401-expired-token.json"))


async def test_single_use_token(platform, clock, sample):
    token = platform.token(exp=int(clock.now) + 60, jti="1")
    replies = [await platform.call("GET", path_of(platform), headers={"auth": token}) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 401]
    assert replies[1].document == sample("error-401-jti-replay.json")
    token = platform.token(exp=int(clock.now) + 9_000, jti="2")
    reply = await platform.call("GET", path_of(platform), headers={"auth": token})
    assert (reply.status, reply.document) == (401, sample("error-401-jti-lifetime.json"))


async def test_missing_scope(start, sample):
    platform = await start(scope="analytics")
    reply = await platform.call("GET", path_of(platform))
    assert (reply.status, reply.document) == (401, sample("error-401-scope.json"))


async def test_missing_campaign(platform, sample):
    reply = await platform.get("cd-no such one")
    assert (reply.status, reply.document) == (400, sample("error-400-not-found.json"))


async def test_ids_are_case_sensitive(platform):
    assert (await platform.get(platform.sandbox.campaigns.all()[0].id.upper())).status == 400


@pytest.mark.parametrize(
    ("account_level", "status", "name"),
    [(False, 401, "error-401-bad-signature.json"), (True, 400, "error-400-unknown-stream.json")],
)
async def test_unknown_stream(start, sample, account_level, status, name):
    platform = await start(account_level=account_level)
    config = platform.sandbox.config
    url = f"{platform.sandbox.url}{Family.A}/st-other{path_of(platform)}?accountId={config.account_id}"
    headers = {"auth": platform.token(), "iid": "st-other", "accountId": config.account_id}
    reply = await platform.send("GET", url, headers=headers)
    assert (reply.status, reply.document) == (status, sample(name))


@pytest.mark.parametrize(
    ("headers", "query", "status", "reason"),
    [
        ({"iid": "st-other"}, {}, 401, "iid"),
        ({"accountId": "other"}, {}, 401, "header accountId"),
        ({}, {"accountId": "other"}, 401, "query accountId"),
        ({}, {"accountId": ""}, 401, "query accountId"),
        ({"iid": None}, {}, 412, "iid"),
        ({"accountId": None}, {}, 412, "accountId"),
    ],
)
async def test_the_tenant_is_checked_in_all_its_places(platform, headers, query, status, reason):
    reply = await platform.call("GET", path_of(platform), headers=headers, **query)
    assert reply.status == status
    assert reason in reply.headers["x-sandbox-reason"]


async def test_an_application_may_have_another_id_in_its_header(start):
    platform = await start(app_id="st-app")
    statuses = [
        (await platform.call("GET", path_of(platform), headers={"iid": iid})).status
        for iid in ("st-app", platform.sandbox.config.stream_id)
    ]
    assert statuses == [200, 401]


@pytest.mark.parametrize(
    ("method", "path", "query", "family", "status"),
    [
        ("GET", "{}", "", Family.A, 412),
        ("GET", "{}", "", Family.B, 200),
        ("POST", "{}/status", "view=status", Family.A, 412),
        ("POST", "{}/status", "view=status", Family.B, 200),
        ("POST", "/campaign/getAllCampaignDetails", "", Family.A, 412),
        ("POST", "/campaign/getAllCampaignDetails", "", Family.B, 200),
    ],
)
async def test_the_account_is_required_in_the_query_of_v2(platform, method, path, query, family, status):
    config = platform.sandbox.config
    headers = {"auth": platform.token(), "iid": config.stream_id, "accountId": config.account_id}
    url = f"{platform.url(path.format(path_of(platform)), family)}?{query}"
    assert (await platform.send(method, url, headers=headers, data=b'{"type": "sms"}')).status == status


async def test_wrong_method_comes_before_the_token(platform, sample):
    reply = await platform.call("PATCH", path_of(platform), headers={"auth": None})
    assert (reply.status, reply.document) == (405, sample("error-405.json"))


async def test_an_unknown_path_is_a_page(platform):
    reply = await platform.send("GET", f"{platform.sandbox.url}/nowhere")
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "text/html"


@pytest.mark.parametrize("given", [b"{", b"[]", b'{"type": "fax"}', b"\xff", b"[" * 100_000])
async def test_a_bad_body_is_refused(platform, sample, given):
    config = platform.sandbox.config
    headers = {"auth": platform.token(), "iid": config.stream_id, "accountId": config.account_id}
    url = f"{platform.url('/campaign/getAllCampaignDetails')}?accountId={config.account_id}"
    reply = await platform.send("POST", url, headers=headers, data=given)
    assert (reply.status, reply.document) == (412, sample("error-412-validation.json"))


async def test_the_limit(start, clock, sample):
    platform = await start(calls=3)
    statuses = [(await platform.call("GET", path_of(platform))).status for _ in range(2)]
    # What is refused for another reason has counted too.
    statuses.append((await platform.call("PATCH", path_of(platform))).status)
    over = await platform.call("GET", path_of(platform))
    assert [*statuses, over.status] == [200, 200, 405, 429]
    assert over.document == sample("error-429.json")
    assert "Retry-After" not in over.headers
    clock.advance(60)
    assert (await platform.call("GET", path_of(platform))).status == 200


@pytest.mark.parametrize(
    ("form", "status", "retry_after"),
    [
        (FaultName.LIMIT_429_SECONDS, 429, "38"),
        (FaultName.LIMIT_429_DATE, 429, "Tue, 03 Feb 2026 14:06:11 GMT"),
        (FaultName.LIMIT_200, 200, None),
        (FaultName.LIMIT_403, 403, None),
    ],
)
async def test_the_form_of_the_limit(start, clock, form, status, retry_after):
    platform = await start(calls=1, limit_form=form)
    await platform.call("GET", path_of(platform))
    clock.advance(22.5)
    over = await platform.call("GET", path_of(platform))
    assert (over.status, over.headers.get("Retry-After")) == (status, retry_after)


async def test_an_account_has_one_limit_and_each_stream_its_own_campaigns(start):
    config = {"account_id": "1", "stream_id": "st-1", "calls": 2}
    platform = await start(**config, streams=(Stream("st-2", "1"), Stream("st-3", "2")))

    async def ask(stream, account, campaign):
        url = f"{platform.sandbox.url}{Family.A}/{stream}/campaign/{campaign.id}?accountId={account}"
        headers = {"auth": platform.token(), "iid": stream, "accountId": account}
        return (await platform.send("GET", url, headers=headers)).status

    first, second, third = (tenant.campaigns.all()[0] for tenant in platform.sandbox.tenants.values())
    assert len({first.id, second.id, third.id}) == 3
    assert await ask("st-1", "1", first) == 200
    assert await ask("st-2", "1", first) == 400
    assert await ask("st-2", "1", second) == 429
    assert await ask("st-3", "2", third) == 200


async def test_the_log_has_every_arrival(platform, clock):
    campaign = platform.sandbox.campaigns.all()[0]
    clock.advance(5)
    await platform.get(campaign)
    await platform.call("GET", f"/campaign/{campaign.id}", headers={"auth": None, "iid": None})
    await platform.send("POST", f"{platform.sandbox.url}/nowhere?x=1", data=b"hello")
    first, second, third = platform.sandbox.log.since()
    config = platform.sandbox.config
    assert (first.at, first.operation, first.campaign_id, first.status) == (clock.now, "get", campaign.id, 200)
    assert (first.iid, first.account_id, first.stream_id) == (config.stream_id, config.account_id, config.stream_id)
    assert first.target == f"{Family.A}/{config.stream_id}/campaign/{campaign.id}?accountId={config.account_id}"
    assert first.claims == {"appId": config.client_id}
    assert (second.has_token, second.iid, second.status, second.reason) == (False, None, 401, "no auth header")
    assert (third.operation, third.body, third.status) == ("unknown", "hello", 404)


async def test_the_date_is_the_platform_clock(platform, clock):
    assert (await platform.get("cd-1")).headers["Date"] == "Tue, 03 Feb 2026 14:05:11 GMT"
    clock.advance(60)
    assert (await platform.get("cd-1")).headers["Date"] == "Tue, 03 Feb 2026 14:06:11 GMT"


async def test_backslashes_and_a_body_without_content_type(platform):
    campaign = platform.made("Agentless")
    config = platform.sandbox.config
    query = rf"?accountId={config.account_id}\&campaignType=voice\&trigger=play"
    headers = {"auth": platform.token(), "iid": config.stream_id, "accountId": config.account_id}
    url = platform.url(f"/campaign/trigger/{campaign.id}", Family.D) + query
    reply = await platform.send("POST", url, headers=headers, data=json.dumps({}) + "\n")
    assert reply.document["status"] == "Active"


@pytest.mark.parametrize("is_gone", [False, True])
async def test_a_body_that_does_not_come_is_given_up(platform, monkeypatch, is_gone):
    monkeypatch.setattr("campaign_gateway.sandbox.server._BODY_SECONDS", 5 if is_gone else 0.01)
    host, port = platform.sandbox.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    await platform.sandbox.log.wait_for(1)
    if is_gone:
        writer.close()
    else:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await platform.sandbox.stop()
    arrival = platform.sandbox.log.since()[0]
    assert (arrival.status, arrival.reason) == (None, "the body did not come")


async def test_a_body_that_is_too_large_is_refused(platform):
    reply = await platform.send("POST", f"{platform.sandbox.url}/x", data=io.BytesIO(b"x" * 1_100_000))
    assert (reply.status, platform.sandbox.log.since()[0].status) == (413, 413)


@pytest.mark.parametrize("given", ["application/json", "text/plain", None])
async def test_the_log_keeps_the_type_of_a_body(platform, given):
    headers = {"auth": platform.token()} | ({} if given is None else {"Content-Type": given})
    await platform.send("GET", platform.url("/campaign/cd-1"), headers=headers)
    assert platform.sandbox.log.since()[-1].content_type == given
