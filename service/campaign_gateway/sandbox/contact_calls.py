"""Contact lists and contacts: what the platform does and answers."""

from typing import Any

from campaign_gateway.sandbox import answers, validation
from campaign_gateway.sandbox.answers import Answer, missing, ok
from campaign_gateway.sandbox.campaigns import Status
from campaign_gateway.sandbox.contacts import ContactList
from campaign_gateway.sandbox.listing import Paging
from campaign_gateway.sandbox.tenant import Call, Tenant

# Entries of the list of lists lack these.
_BY_ID_ONLY = frozenset(
    {"isActive", "createdBy", "updatedBy", "isGlobalDNC", "isDefault", "createdAt", "allowDuplicates"}
)


def create(call: Call, tenant: Tenant) -> Answer:
    """A new list, empty."""
    body = call.fields()
    validation.check(body, validation.CONTACT_LIST_CREATE)
    allow_duplicates = body.get("allowDuplicates", False)
    made = tenant.contact_lists.create(body["name"], body["description"], allow_duplicates=allow_duplicates)
    return _about(call, tenant, made, f"Contact list {made.name} created successfully")


def get(call: Call, tenant: Tenant) -> Answer:
    """A list by id; `message` is empty."""
    return _about(call, tenant, _existing(call, tenant), "")


def list_(call: Call, tenant: Tenant) -> Answer:
    """Every list in a bare array, without paging."""
    entries = [
        {key: value for key, value in _shown(call, tenant, contact_list).items() if key not in _BY_ID_ONLY}
        for contact_list in tenant.contact_lists.all()
    ]
    return ok({"status": "success", "message": "", "data": entries})


def update(call: Call, tenant: Tenant) -> Answer:
    """A list renamed or described anew.

    Campaigns show the new name from then on, and their marks do not move: a client that trusts marks alone
    misses it. Whether the real platform behaves so is unknown, which is why the sandbox does.
    """
    contact_list = _existing(call, tenant)
    body = call.fields()
    validation.check(body, validation.CONTACT_LIST_UPDATE)
    old, new = contact_list.name, body["name"]
    changes: dict[str, Any] = {key: body[key] for key in ("name", "description", "allowDuplicates") if key in body}
    tenant.contact_lists.edit(contact_list, changes)
    for campaign in tenant.campaigns.all():
        if old in campaign.fields["contactLists"] and old != new:
            names = [new if name == old else name for name in campaign.fields["contactLists"]]
            tenant.campaigns.edit(campaign.id, {"contactLists": names}, quiet=True)
    shown = {
        "name": new,
        "scope": ["campaign_management"],
        "orgId": tenant.org_id,
        "iId": tenant.stream_id,
        "listType": contact_list.fields["listType"],
        "accountId": tenant.account_id,
        "updatedBy": tenant.user_id,
    }
    data = {"contactListId": contact_list.id, "body": shown}
    return ok({"status": "success", "message": f"Contact list {new} updated successfully", "data": data})


def delete(call: Call, tenant: Tenant) -> Answer:
    """A list taken away; the answer shows it once more."""
    contact_list = _existing(call, tenant)
    answer = _about(call, tenant, contact_list, f"Contact list {contact_list.name} deleted successfully")
    tenant.contact_lists.delete(contact_list.id)
    return answer


def contacts(call: Call, tenant: Tenant) -> Answer:
    """The first contacts of a list; no paging of them is documented."""
    rows = [
        {"_id": contact.id, "createdAt": contact.added, "updatedAt": contact.added, "phoneNumber": contact.phone_number}
        for contact in _existing(call, tenant).contacts
    ]
    return ok({"status": "success", "message": "Contacts retrieved successfully", "data": Paging().envelope(rows)})


def add(call: Call, tenant: Tenant) -> Answer:
    """Contacts queued for a list that the body names; the answer has a message and nothing else."""
    body = call.fields()
    validation.check(body, validation.CONTACTS_ADD)
    contact_list = tenant.contact_lists.by_name(body["contact_list_name"])
    if contact_list is None:
        raise missing(answers.LIST_NOT_FOUND, "contact_list_name names an unknown list")
    tenant.contact_lists.queue(contact_list, [row["phoneNumber"] for row in body["data"]])
    return ok({"message": "Adding contacts to public list is in progress"})


def _existing(call: Call, tenant: Tenant) -> ContactList:
    contact_list = tenant.contact_lists.get(call.match.id)
    if contact_list is None:
        raise missing(answers.LIST_NOT_FOUND, "no contact list with this id")
    return contact_list


def _about(call: Call, tenant: Tenant, contact_list: ContactList, message: str) -> Answer:
    return ok({"status": "success", "message": message, "data": _shown(call, tenant, contact_list)})


def _shown(call: Call, tenant: Tenant, contact_list: ContactList) -> dict[str, Any]:
    using = [campaign for campaign in tenant.campaigns.all() if contact_list.name in campaign.fields["contactLists"]]
    shown = {
        "_id": contact_list.id,
        **contact_list.fields,
        "isListInUse": any(campaign.status == Status.ACTIVE for campaign in using),
        "campaignInUse": [{"id": campaign.id, "name": campaign.name} for campaign in using],
    }
    if call.version == 1:
        owner = {"orgId": tenant.org_id, "iId": tenant.stream_id, "accountId": tenant.account_id}
        shown |= {**owner, "lname": contact_list.name.lower()}
    return shown
