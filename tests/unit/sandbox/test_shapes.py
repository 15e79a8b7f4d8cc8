"""The answers have the shapes of the documented samples: the same keys and the same JSON types."""

from typing import Any

import pytest

from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.operations import Family

B, D, E = Family.B, Family.D, Family.E


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value)


def check(reply, expected):
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert shape(reply.document) == shape(expected)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("campaign-voice-agentless.json", "Agentless"),
        ("campaign-sms-simple.json", "simple"),
        ("campaign-sms-advanced.json", "advanced"),
        ("campaign-voice-preview.json", "Preview"),
    ],
)
async def test_by_id(platform, sample, name, form):
    campaign = platform.made(form)
    reply = await platform.get(campaign)
    check(reply, sample(name))
    assert list(reply.document["data"]) == list(sample(name)["data"])
    assert reply.document["message"] == f"Campaign {campaign.name} retrieved successfully"
    hours = [document["data"]["dialingStrategy"]["callingHours"] for document in (reply.document, sample(name))]
    assert list(hours[0]) == list(hours[1])


@pytest.mark.parametrize(
    ("name", "form"), [("campaign-voice-progressive.json", "Progressive"), ("campaign-sms-template.json", "template")]
)
async def test_by_id_after_a_run(platform, sample, name, form):
    campaign = platform.sandbox.campaigns.set_status(platform.made(form), Status.ACTIVE)
    check(await platform.get(campaign), sample(name))


async def test_by_id_through_v1(platform, sample):
    campaign = platform.made("advanced")
    reply = await platform.get(campaign, family=B)
    check(reply, sample("campaign-v1-sms-advanced.json"))
    assert list(reply.document["data"]) == list(sample("campaign-v1-sms-advanced.json")["data"])


async def test_voice_through_v1_lacks_what_v2_added(platform):
    data = (await platform.get(platform.made("Agentless"), family=B)).document["data"]
    assert not {"dncLists", "isFiltersEnabled"} & data.keys()
    assert "useSystemMappings" not in data["dialingStrategy"]
    assert data["enableMachineDetect"] is False


async def test_voice_list(start, sample):
    platform = await start(campaigns=0)
    expected = sample("campaign-voice-list.json")
    for form in ("Preview", "Agentless", "Progressive"):
        platform.made(form)
    reply = await platform.rows(limit=50, skip=0, page=1)
    check(reply, expected)
    assert [shape(row) for row in reply.document["data"]["results"]] == list(map(shape, expected["data"]["results"]))
    assert reply.document["message"] == expected["message"]


async def test_sms_list_in_two_pages(start, sample):
    platform = await start(campaigns=0)
    ran = platform.sandbox.campaigns.set_status(platform.made("template"), Status.ACTIVE)
    platform.made("advanced")
    platform.made("simple")
    data = {}
    for page, name in ((1, "campaign-sms-list.json"), (2, "campaign-sms-list-page-2.json")):
        expected = sample(name)["data"]
        reply = await platform.rows(type="sms", limit=2, skip=2 * (page - 1), page=page)
        data = reply.document["data"]
        assert list(map(shape, data["results"])) == list(map(shape, expected["results"]))
        assert {**data, "results": []} == {**expected, "results": []}
    assert data["results"][0]["id"] == ran.id
    assert data["results"][0]["updatedAt"] != data["results"][0]["campaignInstanceUpdatedAt"]


async def test_empty_list(start, sample):
    platform = await start(campaigns=0)
    reply = await platform.rows(type="sms", limit="", skip="", page="")
    assert reply.document == sample("campaign-list-empty.json")


async def test_status(platform, sample):
    campaign = platform.made("Progressive")
    path = f"/campaign/{campaign.id}/status"
    check(await platform.write("POST", path, {}, view="status"), sample("campaign-status.json"))
    # Documented without a body, and without a content type.
    check(await platform.call("POST", path, view="status"), sample("campaign-status.json"))


async def test_contact_outcomes(platform, sample):
    campaign = platform.sandbox.campaigns.set_status(platform.made("Agentless"), Status.ACTIVE)
    reply = await platform.write("POST", f"/campaign/{campaign.id}/status", {"page": 1, "limit": 100}, view="contacts")
    check(reply, sample("campaign-contact-outcomes.json"))
    assert len(reply.document["data"]["results"]) == 2


async def test_contact_outcomes_before_a_run(platform):
    campaign = platform.made("Agentless")
    reply = await platform.write("POST", f"/campaign/{campaign.id}/status", {"page": 1, "limit": 1}, view="contacts")
    assert reply.document["data"] == {"results": [], "page": 1, "limit": 1, "totalPages": 0, "totalResults": 0}


async def test_create_voice(platform, sample, body):
    reply = await platform.write("POST", "/campaign", body("Agentless"), campaignType="voice")
    check(reply, sample("create-voice-agentless-result.json"))
    assert reply.document["data"]["status"] == "Preparing"


async def test_create_sms(platform, sample, body):
    reply = await platform.write("POST", "/campaign", body("simple"), campaignType="sms")
    check(reply, sample("create-sms-simple-result.json"))


async def test_create_preview_through_v1(platform, sample, body):
    reply = await platform.write("POST", "/campaign", body("Preview"), family=B, campaignType="voice")
    check(reply, sample("create-voice-preview-v1-result.json"))
    assert reply.document["id"] == reply.document["data"]["campId"]


async def test_update_voice(platform, sample, body):
    campaign = platform.made("Agentless", maxSkips=1)
    reply = await platform.write("PUT", f"/campaign/{campaign.id}", body("Agentless"), campaignType="voice")
    check(reply, sample("update-voice-result.json"))


async def test_update_voice_through_v1_has_another_id_key(platform, body):
    campaign = platform.made("Agentless")
    path = f"/campaign/{campaign.id}"
    reply = await platform.write("PUT", path, body("Agentless"), family=B, campaignType="voice")
    assert reply.document["id"] == reply.document["data"]["id"] == campaign.id
    assert "_id" not in reply.document["data"]


async def test_update_sms(platform, sample, body):
    campaign = platform.made("advanced")
    changed = body("advanced")
    del changed["dncLists"]
    reply = await platform.write("PUT", f"/campaign/{campaign.id}", changed, campaignType="sms")
    check(reply, sample("update-sms-result.json"))


async def test_delete(platform, sample):
    campaign = platform.sandbox.campaigns.set_status(platform.made("template"), Status.ACTIVE)
    reply = await platform.call("DELETE", f"/campaign/{campaign.id}", campaignType="sms")
    check(reply, sample("delete-sms-result.json"))


async def test_voice_triggers(platform, sample):
    path = f"/campaign/trigger/{platform.made('Agentless').id}"
    for trigger, name in (("play", "trigger-voice-start.json"), ("stop", "trigger-voice-stop.json")):
        reply = await platform.write("POST", path, {}, family=D, campaignType="voice", trigger=trigger)
        check(reply, sample(name))
        assert reply.document["status"] == sample(name)["status"]


async def test_sms_triggers(platform, sample):
    campaign = platform.made("simple")
    reply = await platform.write("POST", f"/campaign/{campaign.id}", {}, campaignType="sms", trigger="play")
    check(reply, sample("trigger-sms-start.json"))
    # The doubled slash is the documented path.
    reply = await platform.write("POST", f"/campaign//trigger/{campaign.id}", {}, campaignType="sms", trigger="stop")
    check(reply, sample("trigger-sms-stop.json"))


async def test_schedule(platform, sample):
    campaign = platform.made("Agentless", name="Odd | name / here")
    on = {
        "startDateTime": "2026-03-02 09:00:00",
        "endDateTime": "2026-03-27 18:00:00",
        "recurrenceObject": {"recurType": "Weekly", "weeklyDetails": {"onceEveryNweeks": 1, "whichDays": ["Mon"]}},
    }
    for switch, given, name in (("true", on, "schedule-enabled.json"), ("false", {}, "schedule-disabled.json")):
        query = {"enableSchedule": switch, "campaignName": campaign.name}
        reply = await platform.write("POST", "/campaign/schedule", given, **query)
        check(reply, sample(name))
        assert reply.document["id"] == campaign.id


async def test_call_back(platform, sample):
    campaign = platform.sandbox.campaigns.set_status(platform.made("Progressive"), Status.ACTIVE)
    path = f"/campaign/{campaign.fields['campaignInstanceId']}/callContactAt"
    times = ["2026-01-01T10:00:00Z", "2027-01-01T10:00:00Z"]
    wishes = [{"campaignDialingListId": "cid-1", "timeToContact": time} for time in times]
    reply = await platform.write("POST", path, wishes)
    check(reply, sample("callback-partial-failure.json"))
    assert [item["status"] for item in reply.document["data"]] == ["failed", "success"]


async def test_contact_list(platform, sample):
    campaign = platform.made("Agentless")
    found = platform.sandbox.contact_lists.by_name(campaign.fields["contactLists"][0])
    assert found
    reply = await platform.call("GET", f"/campaign/contactList/{found.id}")
    expected = sample("contact-list.json")
    if "apiConfigurations" not in found.fields:
        del expected["data"]["apiConfigurations"]
        expected["data"]["columns"], expected["data"]["files"] = [""], [{"fileId": "", "fileName": ""}]
    check(reply, expected)


async def test_contact_lists(platform, sample):
    expected = sample("contact-lists.json")["data"]
    entries = (await platform.call("POST", "/campaign/contactList/getAllListDetails", type="call")).document["data"]
    by_source = {entry["source"]: entry for entry in entries if entry["campaignInUse"]}
    assert shape(by_source["passiveApi"]) == shape(expected[0])
    assert shape(by_source["localDrive"]) == shape(expected[1])


async def test_contact_list_through_v1_names_its_owner(platform):
    found = platform.sandbox.contact_lists.all()[0]
    data = (await platform.call("GET", f"/campaign/contactList/{found.id}", family=B)).document["data"]
    assert {"orgId", "iId", "accountId", "lname"} <= data.keys()


async def test_contact_list_create_and_delete(platform, sample):
    given = {"name": "A new list", "description": "For a test.", "source": "passiveApi"}
    reply = await platform.write("POST", "/campaign/contactList/createContactList", given)
    expected = sample("contact-list.json")
    expected["data"]["campaignInUse"] = []
    check(reply, expected)
    check(await platform.call("DELETE", f"/campaign/contactList/{reply.document['data']['_id']}"), expected)


async def test_contact_list_update(platform, sample):
    found = platform.sandbox.contact_lists.all()[0]
    given = {"name": "Renamed", "description": "For a test."}
    reply = await platform.write("PUT", f"/campaign/contactList/{found.id}", given)
    check(reply, sample("contact-list-update-result.json"))


async def test_contacts(platform, sample):
    found = platform.sandbox.contact_lists.all()[0]
    # The vendor's sample sends neither `iid` nor `accountId` as headers here.
    bare = {"iid": None, "accountId": None}
    reply = await platform.call("GET", f"/campaign/contactList/{found.id}/getAllContacts", headers=bare)
    check(reply, sample("contact-list-contacts.json"))


async def test_add_contacts(platform, sample):
    found = platform.sandbox.contact_lists.all()[0]
    given = {"contact_list_name": found.name, "data": [{"phoneNumber": "12025550163"}]}
    reply = await platform.write("POST", "/campaign/contactList/addContacts", given, family=E)
    assert reply.document == sample("add-contacts-accepted.json")
