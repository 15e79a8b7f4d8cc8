"""Reads and edits of campaigns: what the platform does and answers."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from campaign_gateway.sandbox import answers, listing, projections, seeds, validation
from campaign_gateway.sandbox.answers import Answer, invalid, missing, ok
from campaign_gateway.sandbox.campaigns import Campaign, Kind, Status
from campaign_gateway.sandbox.tenant import Call, Tenant

# Fields that a create or an update takes over as they are.
_TAKEN_OVER = ("name", "description", "priority", "contactLists")

# Fields that a full replacement takes away when the body does not bring them.
_REPLACED = frozenset({"experienceFlow", "message", "dncLists"})

# What a new campaign has before anyone says so.
_NEW: Mapping[str, Any] = {
    "schedule": {"isSchedulingEnabled": False, "isRecurrenceEnabled": False},
    "isFiltersEnabled": False,
    "enableMachineDetect": False,
}
_NEW_OF_KIND: Mapping[Kind, Mapping[str, Any]] = {
    Kind.VOICE: {},
    Kind.SMS: {"isImported": False, "totalMessagesSent": 0, "campaignExecutionType": "NORMAL"},
}

# Contact outcomes that a run shows, in turn; their phone numbers are invented like all others.
_OUTCOMES: Sequence[Mapping[str, Any]] = (
    {
        "dialerOutcome": "completed",
        "numberOfAttemptsSoFar": 1,
        "agentDispositionCodes": ["Interested"],
        "botOutboundStatus": "agentHangUp",
        "botOutboundStatusDetail": "agent_hangup",
    },
    {
        "dialerOutcome": "",
        "numberOfAttemptsSoFar": 2,
        "agentDispositionCodes": [],
        "botOutboundStatus": "userHangUp",
        "botOutboundStatusDetail": "Client side",
    },
)


def get(call: Call, tenant: Tenant) -> Answer:
    """A campaign by id."""
    campaign = existing(call, tenant)
    return _about(campaign, "retrieved successfully", projections.by_id(campaign, version=call.version))


def list_(call: Call, tenant: Tenant) -> Answer:
    """One page of rows."""
    asked = listing.wanted(call.fields(), call.page_rows)
    campaigns = tenant.campaigns.all(lag_seconds=call.list_lag_seconds)
    found = listing.matching(campaigns, asked, is_sorted=call.is_sorted)
    page = asked.paging.envelope(found)
    data = page | {"results": [projections.row(campaign) for campaign in page["results"]]}
    # The name is empty, so two spaces are left between the words, as the platform sends them.
    return ok({"status": "success", "message": "Campaign  retrieved successfully", "data": data})


def status(call: Call, tenant: Tenant) -> Answer:
    """The status of a campaign: two different `status` keys and no message."""
    if call.query.get("view") != "status":
        raise invalid("view must be status or contacts")
    call.fields()
    campaign = existing(call, tenant)
    data = {"id": campaign.id, "status": campaign.status, "name": campaign.name}
    return ok({"status": "success", "data": data})


def outcomes(call: Call, tenant: Tenant) -> Answer:
    """What became of each contact; nothing for a campaign that has not run, or does not dial."""
    body = call.fields()
    validation.check(body, validation.OUTCOMES)
    campaign = existing(call, tenant)
    has_run = campaign.kind is Kind.VOICE and "campaignInstanceId" in campaign.fields
    rows = [_outcome(campaign, index) for index in range(len(_OUTCOMES))] if has_run else []
    paging = listing.Paging(skip=(body["page"] - 1) * body["limit"], limit=body["limit"]).envelope(rows)
    data = {"results": paging["results"], "page": body["page"]}
    data |= {key: paging[key] for key in ("limit", "totalPages", "totalResults")}
    return ok({"status": "success", "data": data})


def create(call: Call, tenant: Tenant) -> Answer:
    """A new campaign; its answer shows a mark that no read will show."""
    body = call.fields()
    kind = query_kind(call)
    if body.get("campaignType", kind) != kind:
        raise invalid("campaignType differs between query and body")
    validation.check(body, validation.campaign_rules(kind, body, version=call.version))
    if call.match.row and call.match.row.campaign_type and body["format"] != "advanced":
        raise invalid("this path creates advanced SMS campaigns only")
    campaign = tenant.campaigns.create(kind, {**_NEW, **_NEW_OF_KIND[kind], **campaign_fields(body, kind, tenant)})
    if call.version == 1 and campaign.fields.get("dialingMode") == "Preview":
        return _about(campaign, "creation in progress", {"campId": campaign.id}, has_top_level_id=True)
    return _about(campaign, "creation in progress", projections.created(campaign, version=call.version))


def update(call: Call, tenant: Tenant) -> Answer:
    """A campaign replaced; an active one cannot be."""
    body = call.fields()
    # One vendor page shows another type in the query than in the body: the campaign itself decides.
    query_kind(call)
    campaign = existing(call, tenant)
    if body.get("campaignType", campaign.kind) != campaign.kind:
        raise invalid(f"campaignType of this campaign is {campaign.kind}")
    validation.check(body, validation.campaign_rules(campaign.kind, body, version=call.version))
    if campaign.status == Status.ACTIVE:
        raise missing("Active campaign cannot be edited", "the campaign is active")
    changes = campaign_fields(body, campaign.kind, tenant)
    if campaign.plan is not None:
        # Schedules have a call of their own, which alone switches them off.
        changes.pop("schedule", None)
    edited = tenant.campaigns.edit(campaign.id, changes, without=_REPLACED, quiet=call.is_quiet) or campaign
    shown = projections.updated(edited, version=call.version)
    return _about(edited, "details updated successfully", shown, has_top_level_id=edited.kind is Kind.VOICE)


def delete(call: Call, tenant: Tenant) -> Answer:
    """A campaign taken away; the answer shows it once more."""
    query_kind(call)
    campaign = existing(call, tenant)
    tenant.campaigns.delete(campaign.id)
    return _about(campaign, "deleted successfully", projections.by_id(campaign, version=call.version))


def existing(call: Call, tenant: Tenant) -> Campaign:
    """The campaign that the path names.

    Raises:
        RefusedError: 400, there is none.
    """
    campaign = tenant.campaigns.get(call.match.id)
    if campaign is None:
        raise missing(answers.NOT_FOUND, "no campaign with this id")
    return campaign


def query_kind(call: Call) -> Kind:
    """The `campaignType` of the query.

    Raises:
        RefusedError: 412, it is absent, or not the one that this path serves.
    """
    given = call.query.get("campaignType")
    if given not in list(Kind):
        raise invalid("the query needs campaignType=voice or campaignType=sms")
    if call.match.row and call.match.row.campaign_type not in {"", given}:
        raise invalid(f"this path serves campaignType={call.match.row.campaign_type} only")
    return Kind(given)


def campaign_fields(body: Mapping[str, Any], kind: Kind, tenant: Tenant) -> dict[str, Any]:
    """What the platform stores of a body that has been checked.

    Raises:
        RefusedError: 400, it names a contact list that does not exist.
    """
    for name in body["contactLists"]:
        if tenant.contact_lists.by_name(name) is None:
            raise missing(answers.LIST_NOT_FOUND, "contactLists names an unknown list")
    fields = {key: body[key] for key in _TAKEN_OVER} | {"lname": body["name"].lower()}
    if "schedule" in body:
        enabled = body["schedule"]["isSchedulingEnabled"]
        fields["schedule"] = {"isSchedulingEnabled": enabled, "isRecurrenceEnabled": False}
    if "experienceFlowName" in body:
        # Bodies name a flow, answers show an id; flows themselves are not simulated.
        fields["experienceFlow"] = tenant.new_reference("cf")
    if "dncLists" in body:
        fields["dncLists"] = _dnc(body["dncLists"]["name"], kind, tenant)
    return fields | (_voice_fields(body) if kind is Kind.VOICE else _sms_fields(body, tenant))


def _voice_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    # v2 asks with a word or not at all, v1 with a boolean; answers show a boolean.
    detects = body.get("enableMachineDetect") not in {None, "no", False}
    fields = {
        "dialingMode": body["dialingMode"],
        "dialingStrategy": seeds.voice_strategy(body["dialingStrategy"]),
        "connection": body.get("queue_name", body.get("experienceFlowName", "")),
        "enableMachineDetect": detects,
    }
    # Not taken away when the mode changes: an update answer of the vendor shows one left over.
    return fields | ({"maxSkips": body["maxSkips"]} if "maxSkips" in body else {})


def _sms_fields(body: Mapping[str, Any], tenant: Tenant) -> dict[str, Any]:
    fields = {
        "dialingStrategy": seeds.sms_strategy(body["dialingStrategy"]),
        "format": "advanced" if body["format"] == "advanced" else "simple",
    }
    if body["format"] == "advanced":
        return fields
    message = body["message"]
    if "template_name" not in message:
        return fields | {"message": {"message": message["message"]}}
    # The stored text is the template's, whatever text came with the request.
    text = seeds.encoded_text(f"<p>Text of the template {message['template_name']}.</p>")
    stored = {"template_name": message["template_name"], "message": text, "templateId": tenant.new_reference("cmt")}
    return fields | {"message": stored}


def _dnc(name: str, kind: Kind, tenant: Tenant) -> dict[str, str]:
    found = tenant.contact_lists.by_name(name)
    if found is None:
        raise missing(answers.LIST_NOT_FOUND, "dncLists names an unknown list")
    return {"id": found.id, "name": name} if kind is Kind.VOICE else {"name": name}


def _about(campaign: Campaign, what: str, data: Any, *, has_top_level_id: bool = False) -> Answer:
    top_level_id = {"id": campaign.id} if has_top_level_id else {}
    return ok({"status": "success", "message": f"Campaign {campaign.name} {what}", **top_level_id, "data": data})


def _outcome(campaign: Campaign, index: int) -> dict[str, Any]:
    session = hashlib.sha256(f"{campaign.id}/{index}".encode()).hexdigest()[:24]
    return {
        "phoneNumber": f"120255501{50 + index}",
        "uniqueId": "",
        "botSessionId": session,
        **_OUTCOMES[index],
    }
