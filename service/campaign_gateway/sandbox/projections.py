"""How one campaign looks: by id, as a row of a list, in answers to writes, through v1.

Each view is a table of field names; a field that the campaign does not have is left out, which is how agentless,
progressive and preview campaigns come to differ.
"""

from typing import Any

from campaign_gateway.sandbox.campaigns import Campaign, Kind

_SHARED = ("schedule", "campaignInstanceId", "contactLists")

_VOICE_HEAD = ("name", "lname", "description", "dncLists", "priority", "dialingMode", "dialingStrategy")
_VOICE_BY_ID = (*_VOICE_HEAD, "experienceFlow", "status", "maxSkips", "isFiltersEnabled", "createdAt", "updatedAt")

_VIEWS: dict[tuple[Kind, str], tuple[str, ...]] = {
    (Kind.VOICE, "by-id"): (*_VOICE_BY_ID, *_SHARED),
    (Kind.VOICE, "v1"): (
        *(field for field in _VOICE_BY_ID if field not in {"dncLists", "isFiltersEnabled"}),
        *_SHARED,
        "enableMachineDetect",
    ),
    (Kind.VOICE, "row"): (
        "name",
        "description",
        "dncLists",
        "priority",
        "dialingMode",
        "status",
        "isFiltersEnabled",
        "createdAt",
        "updatedAt",
        "campaignInstanceUpdatedAt",
        "schedule",
        "connection",
        "contactLists",
    ),
    # The answer to a create shows neither a schedule nor `_id`.
    (Kind.VOICE, "created"): (
        *_VOICE_HEAD,
        "experienceFlow",
        "status",
        "maxSkips",
        "createdAt",
        "updatedAt",
        "isFiltersEnabled",
        "id",
        "contactLists",
        "enableMachineDetect",
    ),
    (Kind.SMS, "by-id"): (
        "name",
        "lname",
        "description",
        "status",
        "dncLists",
        "priority",
        "dialingStrategy",
        "experienceFlow",
        "message",
        "isImported",
        "isFiltersEnabled",
        "createdAt",
        "updatedAt",
        *_SHARED,
        "format",
    ),
    (Kind.SMS, "v1"): (
        "name",
        "lname",
        "description",
        "status",
        "priority",
        "dialingStrategy",
        "experienceFlow",
        "message",
        "createdAt",
        "updatedAt",
        *_SHARED,
        "enableMachineDetect",
        "format",
    ),
    (Kind.SMS, "row"): (
        "name",
        "description",
        "status",
        "dncLists",
        "priority",
        "experienceFlow",
        "message",
        "createdAt",
        "updatedAt",
        "schedule",
        "campaignInstanceId",
        "id",
        "totalMessagesSent",
        "campaignInstanceUpdatedAt",
        "campaignExecutionType",
        "contactLists",
        "format",
    ),
}


def by_id(campaign: Campaign, *, version: int = 2) -> dict[str, Any]:
    """The campaign as a read by id shows it through v1 or v2."""
    view = "by-id" if version > 1 else "v1"
    shown = {"_id": campaign.id} | _pick(campaign, view)
    if campaign.kind is Kind.VOICE:
        strategy = shown.get("dialingStrategy")
        if version == 1 and isinstance(strategy, dict):
            shown["dialingStrategy"] = {key: strategy[key] for key in strategy if key != "useSystemMappings"}
        elif campaign.fields.get("dialingMode") == "Agentless":
            # The vendor's sample of this mode, and of no other, lacks the key.
            shown.pop("isFiltersEnabled", None)
    return shown


def row(campaign: Campaign) -> dict[str, Any]:
    """The campaign as a list shows it: voice rows have `_id`, SMS rows `id`."""
    head = {"_id": campaign.id} if campaign.kind is Kind.VOICE else {}
    return head | _pick(campaign, "row")


def created(campaign: Campaign, *, version: int = 2) -> dict[str, Any]:
    """The campaign as the answer to its create shows it: a mark later than the stored one."""
    if campaign.kind is Kind.VOICE and version > 1:
        shown = _pick(campaign, "created")
    else:
        shown = by_id(campaign, version=version)
        if "schedule" in shown:
            shown["schedule"] = {key: value for key, value in shown["schedule"].items() if key == "isSchedulingEnabled"}
    return shown | {"updatedAt": campaign.fields["createdAt"]}


def updated(campaign: Campaign, *, version: int = 2) -> dict[str, Any]:
    """The campaign as the answer to its update shows it."""
    shown = by_id(campaign, version=version)
    if version > 1:
        shown["isFiltersEnabled"] = campaign.fields.get("isFiltersEnabled", False)
    elif campaign.kind is Kind.VOICE:
        shown["id"] = shown.pop("_id")
    return shown


def _pick(campaign: Campaign, view: str) -> dict[str, Any]:
    fields = {**campaign.fields, "id": campaign.id}
    return {name: fields[name] for name in _VIEWS[campaign.kind, view] if name in fields}
