"""Seeded campaigns and contact lists: the same seed makes the same ones, ids included.

Names are invented, and phone numbers come from the range reserved for fiction (+1 202 555 01xx).
"""

import base64
import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from campaign_gateway.sandbox import ids
from campaign_gateway.sandbox.campaigns import Campaign, Change, Kind, Status
from campaign_gateway.sandbox.marks import mark

LIST_NAMES = ("Quarry Lane Members", "Saltmarsh Spring Visitors", "Orchard Week Sign-Ups", "Northgate Trial Users")
DNC_LIST_NAME = "Quarry Lane Opt-Outs"

_PLACES = ("Quarry Lane", "Saltmarsh", "Orchard Week", "Northgate", "Copper Mill", "Fern Valley", "Old Pier")
_VOICE_PURPOSES = ("Feedback Calls", "Renewal Desk", "Welcome Round", "Appointment Calls", "Follow-Up Line")
_SMS_PURPOSES = ("Opening Notice", "Parking Hint", "Dues Reminder", "Survey Link", "Arrival Text")
_TIMEZONES = ("America/New_York", "America/Chicago", "Europe/Dublin")
_QUEUES = ("Front Desk", "Member Care", "Welcome Team")
_FLOWS = ("Feedback Entry Flow", "Text Helper Flow")
_DAYS = ("MO", "TU", "WE", "TH", "FR")

# One campaign of each form in turn, so that the first six show all of them.
FORMS = ("Agentless", "simple", "Progressive", "template", "Preview", "advanced")

_VOICE_FORMS = frozenset({"Agentless", "Progressive", "Preview"})

# What a seeded campaign may be, most of them at rest so that marks hold still while someone looks.
_STATUSES = (Status.READY, Status.READY, Status.READY, Status.STOPPED, Status.COMPLETED, Status.READY)

_DAY_SECONDS = 86_400.0
_OLDEST_DAYS = 120.0
_NEWEST_EDIT_SECONDS = 600.0


def campaigns(rng: random.Random, count: int, *, now: float, dnc_list_id: str, run_seconds: float) -> list[Campaign]:
    """So many campaigns of all forms, created within the last months, the last edit at least ten minutes ago.

    The third one (progressive) is `Active` and completes by itself `run_seconds` from now.
    """
    made = []
    for index in range(count):
        form = FORMS[index % len(FORMS)]
        status = Status.ACTIVE if index == FORMS.index("Progressive") else _STATUSES[rng.randrange(len(_STATUSES))]
        made.append(_campaign(rng, index, form, status, now=now, dnc_list_id=dnc_list_id, run_seconds=run_seconds))
    return made


def campaign_fields(rng: random.Random, form: str, name: str, *, dnc_list_id: str) -> dict[str, Any]:
    """The fields of a new campaign without status and marks.

    Args:
        rng: Draws ids and choices.
        form: `Agentless`, `Progressive`, `Preview`, `simple`, `template` or `advanced`.
        name: Its name.
        dnc_list_id: The id that voice campaigns show beside the name of their opt-out list.
    """
    common: dict[str, Any] = {
        "name": name,
        "lname": name.lower(),
        "description": f"Simulated {form.lower()} campaign.",
        "priority": str(rng.randint(1, 5)),
        "schedule": {"isSchedulingEnabled": False, "isRecurrenceEnabled": False},
        "contactLists": [rng.choice(LIST_NAMES)],
        "isFiltersEnabled": False,
        "enableMachineDetect": False,
    }
    if kind_of(form) is Kind.VOICE:
        return common | _voice_fields(rng, form, dnc_list_id)
    return common | _sms_fields(rng, form)


def kind_of(form: str) -> Kind:
    """Voice for the dialling modes, SMS for the rest."""
    return Kind.VOICE if form in _VOICE_FORMS else Kind.SMS


def voice_strategy(given: Mapping[str, Any]) -> dict[str, Any]:
    """A voice dialling strategy as the platform stores it, in its own key order."""
    hours = given["callingHours"]
    days = [{key: day[key] for key in ("start", "end", "day")} for day in hours["days"]]
    numbers = ("dialingOrder", "maxAttemptsPerRecord", "defaultRetryPeriod", "maxRingTime")
    return {
        "callerId": given["callerId"],
        "callingHours": {"frequency": hours["frequency"], "days": days, "timezone": hours["timezone"]},
        **{key: given[key] for key in numbers},
        "useSystemMappings": given.get("useSystemMappings", False),
    }


def sms_strategy(given: Mapping[str, Any]) -> dict[str, Any]:
    """An SMS dialling strategy as the platform stores it, in its own key order."""
    hours = given["callingHours"]
    days = [{key: day[key] for key in ("day", "start", "end")} for day in hours["days"]]
    return {
        "callerId": given["callerId"],
        "callingHours": {"frequency": hours["frequency"], "timezone": hours["timezone"], "days": days},
    }


def encoded_text(text: str) -> str:
    """An SMS text as v2 carries it: Base64, then percent-encoded."""
    return quote(base64.b64encode(text.encode()).decode(), safe="")


def _voice_fields(rng: random.Random, form: str, dnc_list_id: str) -> dict[str, Any]:
    strategy = _strategy(rng) | {
        "dialingOrder": rng.choice(("FIFO", "LIFO")),
        "maxAttemptsPerRecord": rng.randint(1, 5),
        "defaultRetryPeriod": rng.choice((15, 30, 60)),
        "maxRingTime": rng.choice((20, 25, 30)),
    }
    fields: dict[str, Any] = {
        "dncLists": {"id": dnc_list_id, "name": DNC_LIST_NAME},
        "dialingMode": form,
        "dialingStrategy": voice_strategy(strategy),
        "connection": rng.choice(_QUEUES),
    }
    if form == "Agentless":
        fields |= {"experienceFlow": ids.sms_id(rng, "cf"), "connection": _FLOWS[0]}
    if form == "Preview":
        # Some campaigns show no recurrence key at all; preview ones do here, so that readers meet it.
        fields |= {"maxSkips": rng.randint(1, 3), "schedule": {"isSchedulingEnabled": False}}
    return fields


def _sms_fields(rng: random.Random, form: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "dialingStrategy": sms_strategy(_strategy(rng)),
        "isImported": False,
        "totalMessagesSent": 0,
        "campaignExecutionType": "NORMAL",
        "format": "advanced" if form == "advanced" else "simple",
    }
    match form:
        case "simple":
            message = {"message": encoded_text("The gates open at 10 today. See you there.")}
        case "template":
            text = encoded_text("<p>Hello <strong><First Name></strong>, your dues are due.</p>")
            message = {"template_name": "Dues", "message": text, "templateId": ids.sms_id(rng, "cmt")}
        case _:
            # The two-way form has a flow instead of a text, and its opt-out list is optional and absent.
            return fields | {"experienceFlow": ids.sms_id(rng, "cf")}
    return fields | {"message": message, "dncLists": {"name": DNC_LIST_NAME}}


def _strategy(rng: random.Random) -> dict[str, Any]:
    days = [{"day": day, "start": "9:00 AM", "end": "6:00 PM"} for day in _DAYS]
    return {
        "callerId": {"phoneNumber": f"+120255501{rng.randint(10, 49)}"},
        "callingHours": {"frequency": "WEEKLY", "timezone": rng.choice(_TIMEZONES), "days": days},
    }


def _campaign(
    rng: random.Random, index: int, form: str, status: Status, *, now: float, dnc_list_id: str, run_seconds: float
) -> Campaign:
    kind = kind_of(form)
    new_id = ids.voice_id if kind is Kind.VOICE else ids.sms_id
    purposes = _VOICE_PURPOSES if kind is Kind.VOICE else _SMS_PURPOSES
    name = f"{_PLACES[index % len(_PLACES)]} {purposes[(index // 2) % len(purposes)]}"
    if index >= len(_PLACES) * len(purposes):
        name = f"{name} {index + 1}"
    created = now - rng.uniform(_DAY_SECONDS, _OLDEST_DAYS * _DAY_SECONDS)
    updated = mark(rng.uniform(created, now - _NEWEST_EDIT_SECONDS))
    campaign_id = new_id(rng, "cd")
    fields = campaign_fields(rng, form, name, dnc_list_id=dnc_list_id) | {
        "status": status,
        "createdAt": mark(created),
        "updatedAt": updated,
        "campaignInstanceUpdatedAt": updated,
    }
    if status is not Status.READY:
        fields["campaignInstanceId"] = new_id(rng, "cid")
    if status is Status.COMPLETED and kind is Kind.SMS:
        fields["totalMessagesSent"] = rng.randint(10, 2_000)
    due = Change(now + run_seconds, Status.COMPLETED) if status is Status.ACTIVE else None
    return Campaign(campaign_id, kind, fields, due)
