"""What a write changes, seen through the reads that follow it."""

import pytest

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.marks import moment
from campaign_gateway.sandbox.operations import Family


async def create(platform, body, form, **changes):
    given = body(form, **changes)
    reply = await platform.write("POST", "/campaign", given, campaignType=given["campaignType"])
    data = reply.document["data"]
    return data.get("_id", data.get("id")), data


async def test_the_revision_goes_backwards_after_a_create(platform, body):
    campaign_id, answered = await create(platform, body, "simple")
    read = (await platform.get(campaign_id)).document["data"]
    assert answered["updatedAt"] == answered["createdAt"] == read["createdAt"]
    assert 0.18 < moment(answered["updatedAt"]) - moment(read["updatedAt"]) < 0.35


async def test_voice_gets_ready_behind_the_create(platform, clock, body):
    campaign_id, _ = await create(platform, body, "Progressive")
    seen = []
    for _ in range(2):
        seen.append((await platform.get(campaign_id)).document["data"])
        clock.advance(1)
    assert [data["status"] for data in seen] == ["Preparing", "Ready"]
    assert seen[0]["updatedAt"] != seen[1]["updatedAt"]


async def test_a_template_campaign_stores_another_text(platform, body):
    campaign_id, _ = await create(platform, body, "template")
    message = (await platform.get(campaign_id)).document["data"]["message"]
    assert message["template_name"] == "Dues"
    assert message["message"] != body("template")["message"]["message"]
    assert message["templateId"].startswith("cmt-")


async def test_an_update_replaces_and_moves_the_revision(platform, clock, body):
    campaign = platform.made("simple")
    clock.advance(5)
    given = body("simple", name="Changed", priority="5")
    del given["dncLists"]
    reply = await platform.write("PUT", f"/campaign/{campaign.id}", given, campaignType="sms")
    read = (await platform.get(campaign)).document["data"]
    row = (await platform.rows(type="sms")).document["data"]["results"][0]
    assert reply.document["message"] == "Campaign Changed details updated successfully"
    assert (read["name"], read["lname"], read["priority"], row["name"]) == ("Changed", "changed", "5", "Changed")
    assert "dncLists" not in read
    assert read["updatedAt"] == row["updatedAt"] == reply.document["data"]["updatedAt"]
    assert read["updatedAt"] != campaign.fields["updatedAt"]


async def test_an_update_with_another_type_in_its_query_is_taken_as_the_vendor_shows_it(platform, body):
    campaign = platform.made("Agentless")
    reply = await platform.write("PUT", f"/campaign/{campaign.id}", body("Agentless"), campaignType="sms")
    assert reply.status == 200


async def test_a_mode_change_leaves_skips_behind(platform, body):
    campaign = platform.made("Preview")
    await platform.write("PUT", f"/campaign/{campaign.id}", body("Agentless"), campaignType="voice")
    read = (await platform.get(campaign)).document["data"]
    assert (read["dialingMode"], read["maxSkips"]) == ("Agentless", campaign.fields["maxSkips"])


async def test_a_deleted_campaign_is_gone_everywhere(platform):
    campaign = platform.made("simple")
    await platform.call("DELETE", f"/campaign/{campaign.id}", campaignType="sms")
    rows = (await platform.rows(type="sms")).document["data"]["results"]
    assert (await platform.get(campaign)).message == "Campaign not found"
    assert campaign.id not in {row["id"] for row in rows}


async def test_a_run_from_start_to_completion(platform, clock):
    campaign = platform.made("simple")
    trigger = f"/campaign/{campaign.id}"
    reply = await platform.call("POST", trigger, campaignType="sms", trigger="play")
    active = (await platform.get(campaign)).document["data"]
    row = (await platform.rows(type="sms")).document["data"]["results"][0]
    # Three marks for one event.
    assert len({reply.document["updatedAt"], active["updatedAt"], row["campaignInstanceUpdatedAt"]}) == 3
    clock.advance(platform.sandbox.config.run_seconds)
    done = (await platform.get(campaign)).document["data"]
    assert (active["status"], done["status"]) == ("Active", "Completed")
    assert active["updatedAt"] != done["updatedAt"]


async def test_a_schedule_survives_an_edit_and_starts_the_campaign(platform, clock, body):
    campaign = platform.made("simple")
    given = {"startDateTime": "2026-02-04 09:00:00", "endDateTime": "2026-02-05 09:00:00"}
    query = {"enableSchedule": "true", "campaignName": campaign.name}
    await platform.write("POST", "/campaign/schedule", given, **query)
    assert (await platform.get(campaign)).document["data"]["status"] == "Scheduled"
    await platform.write("PUT", f"/campaign/{campaign.id}", body("simple"), campaignType="sms")
    assert (await platform.get(campaign)).document["data"]["schedule"]["isSchedulingEnabled"] is True
    clock.now = moment("2026-02-04T09:00:01")
    assert (await platform.get(campaign)).document["data"]["status"] == "Active"


@pytest.mark.parametrize(
    ("form", "status", "path", "query", "expected"),
    [
        ("simple", Status.ACTIVE, "/campaign/{}", {"campaignType": "sms", "trigger": "play"}, 400),
        ("simple", Status.READY, "/campaign/trigger/{}", {"campaignType": "sms", "trigger": "stop"}, 400),
        ("simple", Status.READY, "/campaign/{}", {"campaignType": "sms", "trigger": "pause"}, 412),
        ("simple", Status.READY, "/campaign/{}", {"campaignType": "sms"}, 412),
        ("simple", Status.READY, "/campaign/{}", {"trigger": "play"}, 412),
        ("simple", Status.READY, "/campaign/{}", {"campaignType": "voice", "trigger": "play"}, 412),
        ("Agentless", Status.READY, "/campaign/{}", {"campaignType": "sms", "trigger": "play"}, 412),
        ("simple", Status.READY, "/campaign/{}/status", {"view": "all"}, 412),
        ("simple", Status.READY, "/campaign/{}/status", {"view": "contacts"}, 412),
        ("simple", Status.READY, "/campaign/schedule", {"enableSchedule": "yes", "campaignName": "A simple one"}, 412),
        ("simple", Status.READY, "/campaign/schedule", {"enableSchedule": "true", "campaignName": "A simple one"}, 412),
        ("simple", Status.READY, "/campaign/schedule", {"enableSchedule": "true", "campaignName": "Nobody's"}, 400),
        ("simple", Status.READY, "/campaign/cid-1/callContactAt", {}, 412),
        ("simple", Status.READY, "/campaign", {}, 412),
        ("simple", Status.READY, "/campaign", {"campaignType": "fax"}, 412),
        ("simple", Status.READY, "/campaign/contactList/createContactList", {}, 412),
    ],
)
async def test_refused_calls(platform, form, status, path, query, expected):
    campaign = platform.sandbox.campaigns.set_status(platform.made(form), status)
    before = platform.sandbox.campaigns.get(campaign.id)
    reply = await platform.write("POST", path.format(campaign.id), {}, **query)
    assert reply.status == expected
    assert platform.sandbox.campaigns.get(campaign.id) == before


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"contactLists": ["No such list"]}, 400),
        ({"dncLists": {"name": "No such list"}}, 400),
        ({"campaignType": "voice"}, 412),
        ({"name": ""}, 412),
    ],
)
async def test_refused_bodies(platform, body, changes, status):
    given = body("simple", **changes)
    assert (await platform.write("POST", "/campaign", given, campaignType="sms")).status == status
    path = f"/campaign/{platform.made('simple').id}"
    assert (await platform.write("PUT", path, given, campaignType="sms")).status == status


async def test_an_active_campaign_cannot_be_edited_or_scheduled(platform, body):
    campaign = platform.sandbox.campaigns.set_status(platform.made("simple"), Status.ACTIVE)
    reply = await platform.write("PUT", f"/campaign/{campaign.id}", body("simple"), campaignType="sms")
    assert reply.status == 400
    given = {"startDateTime": "2026-02-04 09:00:00", "endDateTime": "2026-02-05 09:00:00"}
    query = {"enableSchedule": "true", "campaignName": campaign.name}
    assert (await platform.write("POST", "/campaign/schedule", given, **query)).status == 400


async def test_advanced_sms_has_a_path_of_its_own(platform, body):
    statuses = [
        (await platform.write("POST", "/campaign", body(form), family=Family.D, campaignType="sms")).status
        for form in ("advanced", "simple")
    ]
    assert statuses == [200, 412]


@pytest.mark.parametrize(
    "wish", [{}, {"timeToContact": "soon", "campaignDialingListId": "cid-1"}, {"timeToContact": "2027-01-01"}]
)
async def test_bad_call_backs(platform, wish):
    campaign = platform.sandbox.campaigns.set_status(platform.made("Agentless"), Status.ACTIVE)
    path = f"/campaign/{campaign.fields['campaignInstanceId']}/callContactAt"
    assert (await platform.write("POST", path, [wish])).status == 412
    assert (await platform.write("POST", "/campaign/cid-unknown/callContactAt", [wish])).status == 400


async def test_a_renamed_list_changes_campaigns_behind_their_revisions(platform):
    campaign = platform.made("simple")
    found = platform.sandbox.contact_lists.by_name(campaign.fields["contactLists"][0])
    assert found
    await platform.write("PUT", f"/campaign/contactList/{found.id}", {"name": "Renamed", "description": "x"})
    read = (await platform.get(campaign)).document["data"]
    assert (read["contactLists"], read["updatedAt"]) == (["Renamed"], campaign.fields["updatedAt"])


async def test_a_list_knows_who_uses_it(platform):
    campaign = platform.made("simple", contactLists=[seeds.LIST_NAMES[1]])
    found = platform.sandbox.contact_lists.by_name(seeds.LIST_NAMES[1])
    assert found
    data = (await platform.call("GET", f"/campaign/contactList/{found.id}")).document["data"]
    assert {"id": campaign.id, "name": campaign.name} in data["campaignInUse"]


async def test_a_deleted_list_is_missing(platform):
    path = f"/campaign/contactList/{platform.sandbox.contact_lists.all()[0].id}"
    statuses = [(await platform.call(method, path)).status for method in ("DELETE", "GET", "DELETE")]
    assert statuses == [200, 400, 400]


async def test_added_contacts_appear_later_and_once(platform, clock):
    found = platform.sandbox.contact_lists.all()[0]
    rows = [{"phoneNumber": "+12025550144"}, {"phoneNumber": "12025550144"}]
    given = {"contact_list_name": found.name, "data": rows}
    before = found.fields["totalRecordCount"]
    await platform.write("POST", "/campaign/contactList/addContacts", given, family=Family.E)
    counts = []
    for _ in range(2):
        data = (await platform.call("GET", f"/campaign/contactList/{found.id}")).document["data"]
        counts.append(data["totalRecordCount"])
        clock.advance(1)
    assert counts == [before, before + 1]


async def test_contacts_for_an_unknown_list(platform):
    given = {"contact_list_name": "No such list", "data": [{"phoneNumber": "12025550144"}]}
    reply = await platform.write("POST", "/campaign/contactList/addContacts", given, family=Family.E)
    assert (reply.status, reply.message) == (400, "Contact list not found")
