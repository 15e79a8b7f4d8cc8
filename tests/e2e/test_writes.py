"""What a write changes, as all replicas show it afterwards; and what becomes of writes that go wrong."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from campaign_gateway.contract.effects import effects_of
from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.platform import Sandbox
from tests.support.estate import KEYS, Estate, estate
from tests.support.requested import CASES, Asked, each, filled, make_campaign
from tests.support.section_8 import PREFIXES, Line

pytestmark = pytest.mark.asyncio(loop_scope="module")
REPLICAS = 3
SOON = 1.0
"""Seconds within which every replica shows what was written."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(REPLICAS, tmp_path_factory.mktemp("writes"), timeout="3s") as made:
        yield made


@pytest.fixture(autouse=True)
def no_faults_left(fleet: Estate) -> Iterator[None]:
    yield
    fleet.sandbox.faults.clear()


def reads_of(sandbox: Sandbox, asked: Asked) -> dict[str, tuple[str, bytes | None]]:
    """By resource, the request line and the body of every read that may show what a write to these has changed."""
    account = f"accountId={sandbox.config.account_id}"
    wanted = {"type": asked.campaign.kind.value, "limit": 100, "sortBy": {"createdAt": "desc"}}
    reads: dict[str, tuple[str, bytes | None]] = {}
    for revision, family, query in (("", "A", account), ("-v1", "B", "")):
        root = PREFIXES[family].replace("{stream}", sandbox.config.stream_id) + "/campaign"
        reads |= {
            f"get{revision}": (f"GET {root}/{asked.campaign.id}?{query}", None),
            f"status{revision}": (f"POST {root}/{asked.campaign.id}/status?{query}&view=status", b"{}"),
            f"list{revision}": (f"POST {root}/getAllCampaignDetails?{query}", json.dumps(wanted).encode()),
            f"contact-list-get{revision}": (f"GET {root}/contactList/{asked.contact_list.id}?{query}", None),
            f"contact-list-list{revision}": (f"POST {root}/contactList/getAllListDetails?{query}&type=call", b"{}"),
        }
    return reads


async def truths(fleet: Estate, reads: dict[str, tuple[str, bytes | None]]) -> dict[str, object]:
    return {name: (await fleet.ask_platform(line, body)).document for name, (line, body) in reads.items()}


async def write(fleet: Estate, line: Line, asked: Asked, channel: str, at: int = 0) -> None:
    answer = await fleet.ask(
        f"{line.method} {filled(line.target, fleet.sandbox, asked, channel)}", body=asked.sent, at=at
    )
    assert answer.status == 200, answer.body
    assert answer.cache == "campaign-gateway; fwd=method; fwd-status=200"
    assert answer.headers["Campaign-Gateway-Version"]


async def until_kept(fleet: Estate, at: int, request: str, body: bytes | None = None) -> None:
    """Returns once the replica answers out of its cache: an answer is stored beside its way to the first caller."""
    async with asyncio.timeout(20):
        while not (await fleet.ask(request, body=body, at=at)).cache.startswith("campaign-gateway; hit;"):
            pass


async def until_shown(fleet: Estate, at: int, name: str, read: tuple[str, bytes | None], truth: object) -> None:
    """Returns once the replica shows the platform's present state."""
    shown = None
    try:
        async with asyncio.timeout(SOON):
            while shown != truth:
                shown = (await fleet.ask(read[0], body=read[1], at=at)).document
    except TimeoutError:
        pytest.fail(f"{name} on replica {at} still shows {shown}, not {truth}")


@pytest.mark.parametrize(("line", "channel"), each(kinds="W"))
async def test_what_a_write_changes_is_shown_by_every_replica(fleet: Estate, line: Line, channel: str) -> None:
    asked = CASES[line.key].prepare(fleet.sandbox, channel)
    reads = reads_of(fleet.sandbox, asked)
    # What other writes have made stale is read again before, so that each replica has a copy of its own.
    for at in range(REPLICAS):
        for request, body in reads.values():
            await until_kept(fleet, at, request, body)
    before = await truths(fleet, reads)
    await write(fleet, line, asked, channel)
    after = await truths(fleet, reads)
    changed = {name for name in reads if before[name] != after[name]}
    reached = {effect.resource for effect in effects_of(line.name)}
    assert changed <= reached, "the table leaves something out"
    assert changed or line.name == "call-back", "the case changes nothing, and shows nothing"
    for at in range(REPLICAS):
        for name in sorted(reached):
            await until_shown(fleet, at, name, reads[name], after[name])


IN_FLIGHT = {
    "contact-list-create": "contact-list-list",
    "contacts-add": "contact-list-get",
    "create": "contact-list-get",
}
"""What is being read while this is written; other writes to lists change the list, the rest the campaign by id."""


@pytest.mark.parametrize(("line", "channel"), [case for case in each(kinds="W") if case.values[0].name != "call-back"])
async def test_a_fill_in_flight_when_a_write_began_is_never_stored(fleet: Estate, line: Line, channel: str) -> None:
    asked = CASES[line.key].prepare(fleet.sandbox, channel)
    is_list = line.name.startswith("contact-list")
    name = IN_FLIGHT.get(line.name, "contact-list-get" if is_list else "get")
    request, body = reads_of(fleet.sandbox, asked)[name]
    # The read is carried out and its answer held: it shows the state from before the write when it arrives at last.
    fault = fleet.sandbox.faults.add("hang", operation=name, performed=True, times=1)
    since = fleet.sandbox.log.count
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(fleet.ask(request, body=body, headers={"Cache-Control": "no-cache"}, at=1))
        await fleet.sandbox.log.wait_for(since + 1)
        await write(fleet, line, asked, channel)
        fleet.sandbox.faults.remove(fault.id)
    assert reading.result().status == 200
    truth = (await fleet.ask_platform(request, body)).document
    assert reading.result().document != truth
    since = fleet.sandbox.log.count
    for at in range(REPLICAS):
        await until_shown(fleet, at, name, (request, body), truth)
    assert len(fleet.sandbox.log.of(name, since=since)) == 1, "one new call, for all replicas"


@pytest.mark.parametrize("key", ["update-A", "delete-B", "start-D", "contact-list-update-A"])
async def test_a_fill_that_began_and_ended_while_a_write_was_under_way_is_read_again(fleet: Estate, key: str) -> None:
    line = next(case.values[0] for case in each(kinds="W") if case.values[0].key == key)
    asked = CASES[key].prepare(fleet.sandbox, "voice")
    name = "contact-list-get" if line.name.startswith("contact-list") else "get"
    request, body = reads_of(fleet.sandbox, asked)[name]
    operation = "trigger" if line.name == "start" else line.name
    # The write has arrived, and changes nothing yet.
    fault, since = fleet.sandbox.faults.add("hang", operation=operation), fleet.sandbox.log.count
    async with asyncio.TaskGroup() as group:
        group.create_task(write(fleet, line, asked, "voice"))
        await fleet.sandbox.log.wait_for(since + 1)
        for at in range(REPLICAS):
            await until_kept(fleet, at, request, body)
        fleet.sandbox.faults.remove(fault.id)
    truth = (await fleet.ask_platform(request, body)).document
    for at in range(REPLICAS):
        await until_shown(fleet, at, name, (request, body), truth)


async def test_two_writes_of_a_herd_of_readers_end_with_the_last(fleet: Estate) -> None:
    campaign = make_campaign(fleet.sandbox, "sms")
    routes = [f"POST /v1/campaigns/{campaign.id}/{word}?type=sms" for word in ("start", "stop")]
    is_over = asyncio.Event()

    async def read(at: int) -> None:
        while not is_over.is_set():
            assert (await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at)).status == 200

    async with asyncio.TaskGroup() as group:
        for at in range(REPLICAS):
            group.create_task(read(at))
        for number in range(6):
            assert (await fleet.ask(routes[number % 2], at=number % REPLICAS)).status == 200
        is_over.set()
    for at in range(REPLICAS):
        answer = await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at)
        assert answer.document["data"]["status"] == "Stopped"


# Writes that go wrong.


async def test_a_write_that_takes_too_long_may_have_happened_and_is_sent_once(fleet: Estate) -> None:
    campaign = make_campaign(fleet.sandbox)
    for at in range(REPLICAS):
        await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at)
    since = fleet.sandbox.log.count
    fleet.sandbox.faults.add("latency", operation="trigger", seconds=30.0, performed=True)
    answer = await fleet.ask(f"POST /v1/campaigns/{campaign.id}/start?type=voice")
    assert (answer.status, answer.problem) == (504, "upstream-timeout")
    assert "not known" in answer.document["detail"]
    assert answer.headers["Campaign-Gateway-Version"]
    assert len(fleet.sandbox.log.since(since)) == 1
    for at in range(REPLICAS):
        shown = await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at)
        assert shown.document["data"]["status"] == "Active", "it had been carried out"
    assert [arrival.operation for arrival in fleet.sandbox.log.since(since)] == ["trigger", "get"]


@pytest.mark.parametrize("fault", ["reset", "bad-gateway", "cut-body", "html-200", "cut-json"])
async def test_a_write_without_a_good_answer_is_sent_once_and_what_it_may_have_changed_is_read_again(
    fleet: Estate, fault: str
) -> None:
    campaign = make_campaign(fleet.sandbox)
    # Several answers in a row, so that connections are kept: a client might take a reset for a closed one, and repeat.
    for at in range(REPLICAS):
        await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at, headers={"Cache-Control": "no-cache"})
    since = fleet.sandbox.log.count
    if fault.startswith("cut"):
        fleet.sandbox.faults.add(fault, operation="trigger")
    else:
        fleet.sandbox.faults.add(fault, operation="trigger", performed=True)
    answer = await fleet.ask(f"POST /v1/campaigns/{campaign.id}/start?type=voice")
    assert answer.status == 502
    assert "not known" in answer.document["detail"]
    assert [arrival.operation for arrival in fleet.sandbox.log.since(since)] == ["trigger"]
    for at in range(REPLICAS):
        shown = await fleet.ask(f"GET /v1/campaigns/{campaign.id}", at=at)
        assert shown.document["data"]["status"] == "Active"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_kept_connection_that_the_platform_resets_is_no_reason_to_write_twice(
    fleet: Estate, method: str
) -> None:
    """Libraries repeat just these methods by themselves."""
    asked = CASES["update-A"].prepare(fleet.sandbox, "voice")
    await fleet.ask(f"GET /v1/campaigns/{asked.campaign.id}")
    since = fleet.sandbox.log.count
    fleet.sandbox.faults.add("reset")
    body = asked.sent if method == "PUT" else None
    answer = await fleet.ask(f"{method} /v1/campaigns/{asked.campaign.id}?type=voice", body=body)
    assert (answer.status, answer.problem) == (502, "upstream-unavailable")
    assert len(fleet.sandbox.log.since(since)) == 1


async def test_a_write_that_the_platform_refuses_is_told_with_its_words(fleet: Estate) -> None:
    campaign = make_campaign(fleet.sandbox)
    answer = await fleet.ask(f"PUT /v1/campaigns/{campaign.id}?type=voice", body=b'{"name": "too little"}')
    assert (answer.status, answer.problem) == (422, "upstream-rejected")
    assert answer.document["upstream_status"] == 412
    assert answer.document["upstream_code"] == "412"
    assert answer.document["upstream_message"] == "Validation errors/ Invalid arguments"


# Who wrote what.


async def called_back(fleet: Estate, at: int = 0) -> tuple[Asked, str]:
    """A call-back by the writer, of a campaign that all replicas had a copy of. The write's version comes with it."""
    asked = CASES["call-back-A"].prepare(fleet.sandbox, "voice")
    for replica in range(REPLICAS):
        assert (await fleet.ask(f"GET /v1/campaigns/{asked.campaign.id}", at=replica)).status == 200
    answer = await fleet.ask(
        f"POST /v1/campaign-instances/{asked.values['id']}/call-backs", body=asked.sent, at=at, key=KEYS["writer"]
    )
    assert answer.status == 200
    return asked, answer.headers["Campaign-Gateway-Version"]


async def test_what_a_write_may_have_changed_its_client_reads_anew_on_every_replica(fleet: Estate) -> None:
    asked, _ = await called_back(fleet)
    line = f"GET /v1/campaigns/{asked.campaign.id}"
    for at in range(REPLICAS):
        stranger = await fleet.ask(line, key=KEYS["other"], at=at)
        assert stranger.cache.startswith("campaign-gateway; hit;")
    since = fleet.sandbox.log.count
    for at in reversed(range(REPLICAS)):
        answer = await fleet.ask(line, key=KEYS["writer"], at=at)
        # The first one asked is not the one that wrote.
        assert ("fwd=request; fwd-status=200" in answer.cache) is (at == REPLICAS - 1)
        assert "before-write" not in answer.cache
    assert len(fleet.sandbox.log.of("get", since=since)) == 1, "one new validation serves all replicas"


async def test_a_version_holds_another_client_to_the_write(fleet: Estate) -> None:
    asked, version = await called_back(fleet)
    line, since = f"GET /v1/campaigns/{asked.campaign.id}", fleet.sandbox.log.count
    told = {"Campaign-Gateway-Version": version}
    answer = await fleet.ask(line, key=KEYS["reader"], headers=told, at=1)
    assert "fwd=request; fwd-status=200" in answer.cache
    again = await fleet.ask(line, key=KEYS["reader"], headers=told, at=1)
    assert again.cache.startswith("campaign-gateway; hit;")
    assert len(fleet.sandbox.log.of("get", since=since)) == 1


# Purges and hints.


@pytest.mark.parametrize("target", ["/v1/purge", "/v1/changed"])
@pytest.mark.parametrize("key", ["other", "reader"])
async def test_purges_and_hints_need_the_scope_of_a_purge(fleet: Estate, key: str, target: str) -> None:
    answer = await fleet.ask(f"POST {target}", body=b'{"campaigns": ["cd-1"]}', key=KEYS[key])
    assert (answer.status, answer.problem) == (403, "forbidden")


@pytest.mark.parametrize("what", ["named", "all"])
async def test_a_purge_is_soft_and_is_refilled_for_all_replicas(fleet: Estate, what: str) -> None:
    campaign = make_campaign(fleet.sandbox, "sms")
    line = f"GET /v1/campaigns/{campaign.id}"
    for at in range(REPLICAS):
        await fleet.ask(line, at=at)
    fleet.sandbox.campaigns.edit(campaign.id, {"description": "changed behind our back"})
    since = fleet.sandbox.log.count
    # What a purge asks for is held, so that it is seen what is served meanwhile.
    fault = fleet.sandbox.faults.add("hang", operation="get")
    body = {"campaigns": [campaign.id]} if what == "named" else {"all": True}
    assert (await fleet.ask("POST /v1/purge", body=json.dumps(body).encode())).status == 200
    if what == "named":
        await fleet.sandbox.log.wait_for(since + 1)
    for at in range(REPLICAS):
        stale = await fleet.ask(line, at=at)
        assert stale.document["data"]["description"] != "changed behind our back"
        assert "detail=stale-while-revalidate" in stale.cache
    fleet.sandbox.faults.remove(fault.id)
    for at in range(REPLICAS):
        shown = ""
        async with asyncio.timeout(20):
            while shown != "changed behind our back":
                shown = (await fleet.ask(line, at=at)).document["data"]["description"]
    assert len(fleet.sandbox.log.of("get", since=since)) == 1


async def test_a_purge_of_a_thousand_is_taken(fleet: Estate) -> None:
    ids = [f"cd-{number}" for number in range(999)] + [make_campaign(fleet.sandbox).id]
    answer = await fleet.ask("POST /v1/purge", body=json.dumps({"campaigns": ids}).encode())
    assert answer.status == 200
    assert await fleet.gateways[0].metric("store_up", store="redis") == 1
    assert fleet.sandbox.campaigns.get(ids[-1]) is not None
    records = fleet.gateways[0].records()
    assert [line for line in records if line["level"] != "info" and line["message"] != "request"] == []


async def test_what_is_hinted_at_is_read_at_once_and_shown_by_all_replicas(fleet: Estate) -> None:
    campaign = make_campaign(fleet.sandbox, "sms")
    line = f"GET /v1/campaigns/{campaign.id}"
    for at in range(REPLICAS):
        await until_kept(fleet, at, line)
    fleet.sandbox.campaigns.edit(campaign.id, {"description": "changed behind our back"})
    since = fleet.sandbox.log.count
    # The read is held, so that it is seen what is served meanwhile.
    fault = fleet.sandbox.faults.add("hang", operation="get")
    hinted = await fleet.ask("POST /v1/changed", body=json.dumps({"campaigns": [campaign.id]}).encode())
    assert (hinted.status, hinted.document) == (202, {"accepted": [campaign.id]})
    await fleet.sandbox.log.wait_for(since + 1)
    for at in range(REPLICAS):
        stale = await fleet.ask(line, at=at)
        assert stale.document["data"]["description"] != "changed behind our back"
        assert "detail=stale-while-revalidate" in stale.cache
    fleet.sandbox.faults.remove(fault.id)
    for at in range(REPLICAS):
        shown = ""
        async with asyncio.timeout(20):
            while shown != "changed behind our back":
                shown = (await fleet.ask(line, at=at)).document["data"]["description"]
    assert len(fleet.sandbox.log.of("get", since=since)) == 1
    reads = [await gateway.metric("upstream_requests_total", reason="hint") for gateway in fleet.gateways]
    assert reads == [1.0, 0.0, 0.0]


async def test_a_hint_of_a_thousand_is_taken(fleet: Estate) -> None:
    ids = [f"cd-{number}" for number in range(1000)]
    answer = await fleet.ask("POST /v1/changed", body=json.dumps({"campaigns": ids}).encode())
    assert (answer.status, len(answer.document["accepted"])) == (202, 1000)


# Budgets.


POOR = {"default": {"calls": 3, "window": "60s", "reserve": 0}}


async def test_a_write_that_the_budget_refuses_is_not_sent_and_spoils_nothing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async with estate(2, tmp_path_factory.mktemp("poor"), budgets=POOR) as small:
        campaigns = [make_campaign(small.sandbox) for _ in range(2)]
        assert (await small.ask(f"GET /v1/campaigns/{campaigns[0].id}")).status == 200
        spending = [await small.ask(f"POST /v1/campaigns/{campaigns[1].id}/start?type=voice") for _ in range(4)]
        assert [answer.status for answer in spending] == [200, 422, 503, 503]
        spent = small.sandbox.log.count
        answer = await small.ask(f"POST /v1/campaigns/{campaigns[0].id}/start?type=voice")
        assert (answer.status, answer.problem) == (503, "budget-exhausted")
        assert int(answer.headers["Retry-After"]) > 0
        assert "Campaign-Gateway-Version" not in answer.headers
        assert "not known" not in answer.document["detail"]
        assert small.sandbox.log.count == spent
        for at in range(2):
            kept = await small.ask(f"GET /v1/campaigns/{campaigns[0].id}", at=at)
            assert kept.cache.startswith("campaign-gateway; hit;")
            assert "detail" not in kept.cache
        refused = await small.ask(
            f"POST {PREFIXES['C'].replace('{stream}', small.sandbox.config.stream_id)}/campaign/{campaigns[0].id}"
            "?campaignType=voice&trigger=play"
        )
        assert refused.status == 429
        assert refused.document["errors"][0]["msg"].startswith("You've exceeded the per-minute rate limit.")


@pytest.mark.parametrize("write", ["start", "call-back"])
async def test_where_no_call_is_left_for_a_newer_answer_the_answer_says_so(
    tmp_path_factory: pytest.TempPathFactory, write: str
) -> None:
    async with estate(2, tmp_path_factory.mktemp("poor"), budgets=POOR) as small:
        asked = CASES["call-back-A"].prepare(small.sandbox, "voice")
        campaign = asked.campaign.id if write == "call-back" else make_campaign(small.sandbox, "sms").id
        async with asyncio.timeout(20):
            # What was granted ahead to the other replica comes back within a second.
            while small.sandbox.log.count < 2:
                await small.ask(f"GET /v1/campaigns/{campaign}", headers={"Cache-Control": "no-cache"})
                await asyncio.sleep(0.2)
        line = f"POST /v1/campaigns/{campaign}/start?type=sms"
        if write == "call-back":
            line = f"POST /v1/campaign-instances/{asked.values['id']}/call-backs"
        async with asyncio.timeout(20):
            # So does the last one; a write that is refused meanwhile was not sent.
            while (written := await small.ask(line, body=asked.sent)).status == 503:
                await asyncio.sleep(0.2)
        assert written.status == 200
        for at in range(2):
            answer = await small.ask(f"GET /v1/campaigns/{campaign}", at=at)
            assert answer.status == 200
            assert answer.cache.endswith("; detail=before-write")
            assert answer.document["data"]["status"] == (Status.ACTIVE if write == "call-back" else Status.READY)
