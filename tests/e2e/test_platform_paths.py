"""A client that was written for the platform, with nothing changed but its host; and where personal data ends up."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from campaign_gateway.sandbox.campaigns import Status
from tests.support.estate import CALLER, KEYS, Answer, Estate, estate
from tests.support.requested import CASES, make_campaign
from tests.support.section_8 import PREFIXES

pytestmark = pytest.mark.asyncio(loop_scope="module")
PHONE = "12025550163"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Estate]:
    async with estate(1, tmp_path_factory.mktemp("dropin")) as made:
        yield made


@pytest.fixture(autouse=True)
def no_faults_left(one: Estate) -> Iterator[None]:
    yield
    one.sandbox.faults.clear()


def path_of(one: Estate, campaign: str, family: str = "A") -> str:
    return f"{PREFIXES[family].replace('{stream}', one.sandbox.config.stream_id)}/campaign/{campaign}"


def error_of(answer: Answer) -> dict[str, object]:
    assert answer.headers["Content-Type"] == "application/json"
    (error,) = answer.document["errors"]
    return dict(error)


# What is refused has the platform's shape.


@pytest.mark.parametrize(
    ("key", "stream", "status", "text"),
    [
        (None, "", 401, "Invalid SDK credentials"),
        ("cgk_no-such-key", "", 401, "Invalid SDK credentials"),
        (KEYS["writer"], "st-of-somebody-else", 403, "Invalid SDK credentials"),
    ],
)
async def test_who_may_not_is_told_as_the_platform_tells_it(
    one: Estate, key: str | None, stream: str, status: int, text: str
) -> None:
    since = one.sandbox.log.count
    path = path_of(one, "cd-1").replace(one.sandbox.config.stream_id, stream or one.sandbox.config.stream_id)
    answer = await one.ask(f"GET {path}", key=key, headers=CALLER)
    assert answer.status == status
    assert error_of(answer)["code"] == 4002
    assert str(error_of(answer)["msg"]).startswith(text)
    assert one.sandbox.log.count == since


async def test_a_reader_starts_nothing(one: Estate) -> None:
    campaign = make_campaign(one.sandbox, "sms")
    line = f"POST {path_of(one, campaign.id)}?campaignType=sms&trigger=play"
    answer = await one.ask(line, key=KEYS["reader"], headers=CALLER)
    assert (answer.status, error_of(answer)["code"]) == (403, 4002)
    kept = one.sandbox.campaigns.get(campaign.id)
    assert kept is not None
    assert kept.status == Status.READY


@pytest.mark.parametrize(
    ("fault", "status", "code", "text"),
    [
        ("not-found-json", 404, 404, "Campaign not found"),
        ("gone", 410, 410, "Campaign not found"),
        ("limit-429", 429, 429, "You've exceeded the per-minute rate limit. Please wait for sometime before retrying."),
        ("bad-gateway", 502, 502, None),
        ("server-error", 502, 500, None),
        ("reset", 502, 502, None),
        ("html-200", 502, 502, None),
        ("cut-json", 502, 502, None),
        ("unauthorized", 502, 4002, "Invalid SDK credentials"),
        ("hang", 504, 504, None),
    ],
)
async def test_trouble_of_the_platforms_keeps_its_shape(
    tmp_path_factory: pytest.TempPathFactory, one: Estate, fault: str, status: int, code: int, text: str | None
) -> None:
    estate_ = one
    if fault in {"limit-429", "unauthorized"}:
        # They are remembered: a gateway of its own.
        async with estate(1, tmp_path_factory.mktemp("trouble")) as fresh:
            await _trouble(fresh, fault, status, code, text)
        return
    await _trouble(estate_, fault, status, code, text)


async def _trouble(one: Estate, fault: str, status: int, code: int, text: str | None) -> None:
    one.sandbox.faults.add(fault)
    answer = await one.ask(f"GET {path_of(one, make_campaign(one.sandbox).id)}", headers=CALLER)
    error = error_of(answer)
    assert (answer.status, error["code"]) == (status, code)
    assert text is None or error["msg"] == text
    assert answer.headers["X-Request-ID"]


async def test_a_missing_campaign_and_a_refused_write_are_told_as_the_platform_told_them(one: Estate) -> None:
    missing = await one.ask(f"GET {path_of(one, 'cd-none')}")
    assert (missing.status, missing.document) == (400, {"errors": [{"msg": "Campaign not found", "code": 400}]})
    line = f"PUT {path_of(one, make_campaign(one.sandbox).id)}?campaignType=voice"
    refused = await one.ask(line, body=b'{"name": "too little"}', headers=CALLER)
    assert refused.status == 412
    assert refused.document == {"errors": [{"msg": "Validation errors/ Invalid arguments", "code": 412}]}


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("GET {}/cd-1/nothing", 404),
        ("GET {}/..", 400),
        ("GET {}/a%2fb", 400),
        ("PATCH {}/cd-1", 405),
        ("POST {}/cd-1", 400),
        ("POST {}/cd-1?campaignType=sms&trigger=pause", 400),
        ("POST {}/getAllCampaignDetails", 400),
    ],
)
async def test_what_is_no_operation_is_refused_and_costs_no_call(one: Estate, line: str, status: int) -> None:
    since = one.sandbox.log.count
    answer = await one.ask(line.format(path_of(one, "").removesuffix("/")), headers=CALLER)
    assert (answer.status, error_of(answer)["code"]) == (status, status)
    assert one.sandbox.log.count == since


async def test_a_method_override_never_deletes_nor_reads(one: Estate) -> None:
    campaign = make_campaign(one.sandbox)
    since = one.sandbox.log.count
    for line in (f"POST {path_of(one, campaign.id)}", f"GET {path_of(one, campaign.id)}"):
        answer = await one.ask(line, headers={**CALLER, "x-http-method-override": "delete"})
        assert (answer.status, error_of(answer)["code"]) == (400, 400)
    assert one.sandbox.log.count == since


async def test_the_quirks_of_the_platforms_pages_work(one: Estate) -> None:
    campaign = make_campaign(one.sandbox, "sms")
    path, since = path_of(one, campaign.id), one.sandbox.log.count
    started = await one.ask(f"POST {path}?accountId=x\\&campaignType=sms\\&trigger=play", headers=CALLER)
    assert (started.status, started.document["status"]) == (200, "Active")
    stop = path_of(one, f"/trigger/{campaign.id}")
    stopped = await one.ask(f"POST {stop}?accountId=x&campaignType=sms&trigger=stop", body=b"{}\n", headers=CALLER)
    assert (stopped.status, stopped.document["status"]) == (200, "Stopped")
    assert [arrival.operation for arrival in one.sandbox.log.since(since)] == ["trigger", "trigger"]
    read = await one.ask(f"GET {path.replace('/campaign/cd', '//campaign/cd')}/", headers=CALLER)
    assert read.document["data"]["status"] == "Stopped"
    status = await one.ask(f"GET {path}/status?view=status", headers=CALLER)
    assert status.document["data"]["status"] == "Stopped"


# Contacts' personal data.


async def test_contacts_are_in_no_store_and_phone_numbers_in_no_log_line(one: Estate) -> None:
    numbers = {contact.phone_number for row in one.sandbox.contact_lists.all() for contact in row.contacts}
    shown = set()
    for key in ("outcomes-A", "contacts-A"):
        asked = CASES[key].prepare(one.sandbox, "voice")
        seeded = one.sandbox.contact_lists.all()[0].id
        route = {
            "outcomes-A": f"campaigns/{asked.values['id']}/outcomes",
            "contacts-A": f"contact-lists/{seeded}/contacts",
        }
        family_a = {
            "outcomes-A": f"POST {path_of(one, asked.values['id'])}/status?view=contacts",
            "contacts-A": f"GET {path_of(one, f'contactList/{seeded}/getAllContacts')}",
        }
        for line, body in ((f"GET /v1/{route[key]}", None), (family_a[key], asked.sent)):
            answer = await one.ask(line, body=body)
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            found = {row["phoneNumber"] for row in answer.document["data"]["results"]}
            assert found
            shown |= found
    assert shown & numbers
    # Numbers in other places: an id, the id of a request, a name, a list's contacts, an unknown path.
    for line in (
        f"GET /v1/campaigns/{PHONE}",
        f"GET {path_of(one, PHONE)}",
        f"GET /v1/campaigns?ids={PHONE}",
        f"GET /v1/{PHONE}",
        f"DELETE /v1/schedules?campaignName={PHONE}",
        f"GET /v1/streams/{PHONE}/campaigns/a",
    ):
        await one.ask(line, headers={"X-Request-ID": PHONE})
    add = CASES["contacts-add-E"].prepare(one.sandbox, "voice")
    body = json.dumps({**add.body, "data": [{"phoneNumber": f"+{PHONE}"}]}).encode()
    assert (await one.ask("POST /v1/contacts", body=body)).status == 200

    secret = {number.encode() for number in shown | {PHONE}}
    client = one.redis.client()
    try:
        names = [name async for name in client.scan_iter(count=1000)]
        values = [await client.dump(name) or b"" for name in names]
        read = [await client.get(name) or b"" for name in names if await client.type(name) == b"string"]
    finally:
        await client.aclose()
    assert names
    for number in secret - {PHONE.encode()}:
        assert not any(number in text for text in [*names, *values, *read])
    # The id that looks like one is a key, as any id is; no value holds it.
    assert not any(PHONE.encode() in text for text in read)
    log = "".join(one.gateways[0].log)
    assert "outcomes" in log
    assert "contacts-add" in log
    for number in secret:
        assert number.decode() not in log
