"""Starts, stops, schedules and call-backs: what the platform does and answers."""

from collections.abc import Mapping
from typing import Any

from campaign_gateway.sandbox import answers
from campaign_gateway.sandbox.answers import Answer, invalid, missing, ok
from campaign_gateway.sandbox.campaign_calls import existing, query_kind
from campaign_gateway.sandbox.campaigns import Campaign, Kind, Status
from campaign_gateway.sandbox.marks import mark, moment
from campaign_gateway.sandbox.schedule import plan
from campaign_gateway.sandbox.tenant import Call, Tenant

# A trigger answers a mark of its own, some milliseconds past the stored one.
_TRIGGER_MARK_LAG_SECONDS = 0.029

_STARTABLE = frozenset(
    {Status.READY, Status.STOPPED, Status.COMPLETED, Status.PAUSED, Status.SCHEDULED, Status.RESCHEDULED}
)


def trigger(call: Call, tenant: Tenant) -> Answer:
    """A start or a stop. The answer's `status` is the campaign's state, not a sign of success."""
    kind = query_kind(call)
    wanted = call.query.get("trigger")
    if wanted not in {"play", "stop"}:
        raise invalid("the query needs trigger=play or trigger=stop")
    campaign = existing(call, tenant)
    if campaign.kind is not kind:
        raise invalid(f"campaignType of this campaign is {campaign.kind}")
    if wanted == "play":
        if campaign.status not in _STARTABLE:
            raise missing(f"Campaign cannot be started in status {campaign.status}", "not in a state to start")
        started = tenant.campaigns.set_status(campaign, Status.ACTIVE, quiet=call.is_quiet)
        return ok(_triggered(started, "Campaign Started", tenant.now()))
    if campaign.status != Status.ACTIVE:
        raise missing("Campaign is not active", "only an active campaign can be stopped")
    stopped = tenant.campaigns.set_status(campaign, Status.STOPPED, quiet=call.is_quiet)
    return ok(_triggered(stopped, "Campaign Stopped", tenant.now()))


def schedule(call: Call, tenant: Tenant) -> Answer:
    """A schedule switched on or off for a campaign that the query names; the id is in the answer alone."""
    switch = call.query.get("enableSchedule")
    if switch not in {"true", "false"}:
        raise invalid("the query needs enableSchedule=true or enableSchedule=false")
    campaign = tenant.campaigns.by_name(call.query.get("campaignName", ""))
    if campaign is None:
        raise missing(answers.NOT_FOUND, "no campaign with this campaignName")
    if switch == "false":
        tenant.campaigns.set_plan(campaign, None, quiet=call.is_quiet)
        return _scheduled(campaign, "schedule has been disabled successfully")
    wanted = plan(call.fields(), tenant.now())
    if campaign.status in {Status.ACTIVE, Status.PREPARING}:
        raise missing(f"Campaign cannot be scheduled in status {campaign.status}", "not in a state to schedule")
    tenant.campaigns.set_plan(campaign, wanted, quiet=call.is_quiet)
    return _scheduled(campaign, "scheduled successfully")


def call_back(call: Call, tenant: Tenant) -> Answer:
    """What became of each wish for a call-back: failures are inside a success."""
    wishes = call.document()
    if not isinstance(wishes, list) or not wishes or not all(isinstance(wish, dict) for wish in wishes):
        raise invalid("the body must be a list of objects")
    campaigns = tenant.campaigns.all()
    if not any(campaign.fields.get("campaignInstanceId") == call.match.id for campaign in campaigns):
        raise missing("Campaign instance not found", "no campaign has run under this id")
    return ok({"status": "success", "data": [_called_back(wish, tenant.now()) for wish in wishes]})


def _triggered(campaign: Campaign, message: str, now: float) -> dict[str, Any]:
    is_start = campaign.status == Status.ACTIVE
    shown: dict[str, Any] = {"status": campaign.status, "message": message}
    if campaign.kind is Kind.VOICE and is_start:
        shown["totalCallsCompleted"] = 0
    shown["updatedAt"] = mark(now + _TRIGGER_MARK_LAG_SECONDS)
    if campaign.kind is Kind.VOICE:
        shown["campaignInstanceId"] = campaign.fields.get("campaignInstanceId", "")
    elif not is_start:
        shown["campaignExecutionType"] = campaign.fields.get("campaignExecutionType", "NORMAL")
    return shown


def _scheduled(campaign: Campaign, what: str) -> Answer:
    return ok({"status": "success", "message": f"Campaign {campaign.name} {what}", "id": campaign.id})


def _called_back(wish: Mapping[str, Any], now: float) -> dict[str, Any]:
    name = wish.get("campaignDialingListId")
    try:
        wanted = moment(wish["timeToContact"])
    except (KeyError, TypeError, ValueError):
        raise invalid("timeToContact must be a timestamp") from None
    if not isinstance(name, str):
        raise invalid("campaignDialingListId must be text")
    if wanted <= now:
        return {"campaignDialingListId": name, "status": "failed", "reason": "time_in_past"}
    # The vendor shows no accepted item; the same keys are assumed.
    return {"campaignDialingListId": name, "status": "success", "reason": ""}
