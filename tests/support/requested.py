"""What the platform can be asked, ready to be asked: of each of its operations, something to ask it about."""

import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest

from campaign_gateway.sandbox import seeds
from campaign_gateway.sandbox.campaigns import Campaign, Kind, Status
from campaign_gateway.sandbox.contacts import ContactList
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.sandbox.schedule import plan
from tests.support.section_8 import SECTION_8

_numbers = itertools.count(1)
_FORMS = {"voice": "Progressive", "sms": "simple"}


def campaign_body(form: str, **changes: Any) -> dict[str, Any]:
    """A body that creates or updates a campaign of a form."""
    days = [{"day": "MO", "start": "9:00 AM", "end": "6:00 PM"}]
    strategy: dict[str, Any] = {
        "callerId": {"phoneNumber": "+12025550111"},
        "callingHours": {"frequency": "WEEKLY", "timezone": "Europe/Dublin", "days": days},
    }
    made: dict[str, Any] = {
        "name": f"New {form}",
        "description": "Made by a test.",
        "contactLists": [seeds.LIST_NAMES[0]],
        "dncLists": {"name": seeds.DNC_LIST_NAME},
        "priority": "3",
        "dialingStrategy": strategy,
        "schedule": {"isSchedulingEnabled": False},
        "campaignType": seeds.kind_of(form).value,
    }
    if made["campaignType"] == "voice":
        strategy |= {"dialingOrder": "FIFO", "maxAttemptsPerRecord": 3, "defaultRetryPeriod": 15, "maxRingTime": 25}
        made |= {"dialingMode": form}
        made |= {"experienceFlowName": "Flow"} if form == "Agentless" else {"queue_name": "Queue"}
        made |= {"maxSkips": 2} if form == "Preview" else {}
    else:
        made["format"] = "advanced" if form == "advanced" else "simple"
        if form == "advanced":
            made["experienceFlowName"] = "Flow"
        else:
            template = {"template_name": "Dues"} if form == "template" else {}
            made["message"] = {"message": "SGVsbG8%3D"} | template
    return made | changes


@dataclass(frozen=True)
class Asked:
    """One request: what its placeholders stand for, its body, and the campaign and the list that it concerns."""

    campaign: Campaign
    contact_list: ContactList
    values: Mapping[str, str] = field(default_factory=dict)
    body: Any = None
    """As it is sent; None for none."""
    arrives: Any = None
    """As it arrives, where that is something else."""

    @property
    def sent(self) -> bytes | None:
        """The body's bytes, spelt as no serialiser of ours would."""
        return None if self.body is None else json.dumps(self.body, indent=1).encode()


def make_list(sandbox: Sandbox) -> ContactList:
    """A contact list that nothing else is about."""
    return sandbox.contact_lists.create(f"List {next(_numbers)} | 5/7", "Made by a test.")


def make_campaign(
    sandbox: Sandbox, channel: str = "voice", status: Status = Status.READY, *, contact_list: ContactList | None = None
) -> Campaign:
    """A campaign at rest that nothing else is about. Its name needs encoding."""
    tenant = sandbox.tenants[sandbox.config.stream_id]
    dnc = tenant.contact_lists.by_name(seeds.DNC_LIST_NAME)
    name = f"Campaign {next(_numbers)} | 5/7 & \u00e9"
    fields = seeds.campaign_fields(tenant.rng, _FORMS[channel], name, dnc_list_id=dnc.id if dnc else "")
    if contact_list is not None:
        fields["contactLists"] = [contact_list.name]
    made = tenant.campaigns.create(Kind(channel), fields)
    tenant.campaigns.set_status(tenant.campaigns.get(made.id) or made, status)
    settled = tenant.campaigns.get(made.id)
    assert settled is not None
    return settled


def _campaign(
    sandbox: Sandbox, channel: str, status: Status = Status.READY, *, body: Any = None, arrives: Any = None
) -> Asked:
    contact_list = make_list(sandbox)
    campaign = make_campaign(sandbox, channel, status, contact_list=contact_list)
    values = {"id": campaign.id, "name": str(campaign.fields["name"])}
    return Asked(campaign, contact_list, values, body, arrives)


def _with_body(sandbox: Sandbox, channel: str, form: str | None = None) -> Asked:
    asked = _campaign(sandbox, channel)
    changes = {"name": f"Body {next(_numbers)}", "contactLists": [asked.contact_list.name]}
    body = campaign_body(form or _FORMS[channel], **changes)
    return Asked(asked.campaign, asked.contact_list, asked.values, body)


def _list(sandbox: Sandbox, channel: str) -> Asked:
    asked = _campaign(sandbox, channel)
    # A page size of its own, so that no other case has asked the same.
    limit = 1 + next(_numbers) % 90
    body = {"limit": limit, "page": "", "filters": {}, "type": channel}
    arrives = {"type": channel, "limit": limit, "skip": 0}
    return Asked(asked.campaign, asked.contact_list, {"limit": str(limit)}, body, arrives)


def _outcomes(sandbox: Sandbox, _channel: str) -> Asked:
    asked = _campaign(sandbox, "voice", Status.ACTIVE)
    return Asked(asked.campaign, asked.contact_list, asked.values, {"page": 1, "limit": 100})


def _schedule_on(sandbox: Sandbox, channel: str) -> Asked:
    begins = datetime.now(UTC) + timedelta(days=2)
    span = (begins, begins + timedelta(days=20))
    body = {
        **{key: f"{at:%Y-%m-%d %H:%M:%S}" for key, at in zip(("startDateTime", "endDateTime"), span, strict=True)},
        "recurrenceObject": {"recurType": "Daily", "dailyDetails": {"onceEveryNdays": 1}},
    }
    return _campaign(sandbox, channel, body=body)


def _schedule_off(sandbox: Sandbox, channel: str) -> Asked:
    asked = _campaign(sandbox, channel)
    body = _schedule_on(sandbox, channel).body
    sandbox.campaigns.set_plan(asked.campaign, plan(body, datetime.now(UTC).timestamp()))
    return Asked(asked.campaign, asked.contact_list, asked.values, None, {})


def _call_back(sandbox: Sandbox, _channel: str) -> Asked:
    asked = _campaign(sandbox, "voice", Status.ACTIVE)
    instance = str(asked.campaign.fields["campaignInstanceId"])
    later = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%S.000Z}"
    body = [{"campaignDialingListId": "cid-1f7a3c8-90b2-4e56-a8d4-b3c09e7f6125", "timeToContact": later}]
    return Asked(asked.campaign, asked.contact_list, {"id": instance}, body)


def _contact_list(sandbox: Sandbox, channel: str, body: Any = None, arrives: Any = None) -> Asked:
    asked = _campaign(sandbox, channel)
    return Asked(asked.campaign, asked.contact_list, {"id": asked.contact_list.id}, body, arrives)


def _new_list(sandbox: Sandbox, channel: str) -> Asked:
    body = {"name": f"New list {next(_numbers)}", "description": "Made by a test.", "source": "passiveApi"}
    return _contact_list(sandbox, channel, body)


def _changed_list(sandbox: Sandbox, channel: str) -> Asked:
    return _contact_list(sandbox, channel, {"name": f"Renamed {next(_numbers)}", "description": "Changed by a test."})


def _contacts(sandbox: Sandbox, channel: str) -> Asked:
    asked = _contact_list(sandbox, channel)
    body = {"contact_list_name": asked.contact_list.name, "data": [{"phoneNumber": "+12025550177"}]}
    return Asked(asked.campaign, asked.contact_list, asked.values, body)


@dataclass(frozen=True)
class Case:
    """How a test asks for an operation."""

    prepare: Callable[[Sandbox, str], Asked]
    """Sees to it that it can be asked; given `voice` or `sms`."""
    route: str = ""
    """Method and path under `/v1`; empty for the first version, which has none."""


_EMPTY: dict[str, Any] = {}

# By `section_8.Line.key`.
CASES: Mapping[str, Case] = {
    "get-A": Case(_campaign, "GET /campaigns/{id}"),
    "get-B": Case(_campaign),
    "list-A": Case(_list, "GET /campaigns?type={type}&limit={limit}"),
    "list-B": Case(_list),
    "status-A": Case(lambda sandbox, kind: _campaign(sandbox, kind, arrives=_EMPTY), "GET /campaigns/{id}/status"),
    "status-B": Case(lambda sandbox, kind: _campaign(sandbox, kind, arrives=_EMPTY)),
    "outcomes-A": Case(_outcomes, "GET /campaigns/{id}/outcomes"),
    "outcomes-B": Case(_outcomes),
    "create-A": Case(_with_body, "POST /campaigns"),
    "create-D": Case(lambda sandbox, _: _with_body(sandbox, "sms", "advanced"), "POST /campaigns"),
    "create-B": Case(_with_body),
    "update-A": Case(_with_body, "PUT /campaigns/{id}"),
    "update-B": Case(_with_body),
    "delete-A": Case(_campaign, "DELETE /campaigns/{id}"),
    "delete-B": Case(_campaign),
    **{
        f"{name}-{family}": Case(prepare, f"POST /campaigns/{{id}}/{name}" if family != "C" else "")
        for name, status in (("start", Status.READY), ("stop", Status.ACTIVE))
        for prepare in [lambda sandbox, kind, status=status: _campaign(sandbox, kind, status, arrives=_EMPTY)]
        for family in ("A", "D", "C")
    },
    "schedule-on-A": Case(_schedule_on, "POST /schedules?campaignName={name}"),
    "schedule-off-A": Case(_schedule_off, "DELETE /schedules?campaignName={name}"),
    "call-back-A": Case(_call_back, "POST /campaign-instances/{id}/call-backs"),
    "contact-list-create-A": Case(_new_list, "POST /contact-lists"),
    "contact-list-create-B": Case(_new_list),
    "contact-list-get-A": Case(_contact_list, "GET /contact-lists/{id}"),
    "contact-list-get-B": Case(_contact_list),
    **{
        f"contact-list-list-{family}": Case(lambda sandbox, kind: _contact_list(sandbox, kind, arrives=_EMPTY), route)
        for family, route in (("A", "GET /contact-lists"), ("B", ""))
    },
    "contact-list-update-A": Case(_changed_list, "PUT /contact-lists/{id}"),
    "contact-list-update-B": Case(_changed_list),
    "contact-list-delete-A": Case(_contact_list, "DELETE /contact-lists/{id}"),
    "contact-list-delete-B": Case(_contact_list),
    "contacts-A": Case(_contact_list, "GET /contact-lists/{id}/contacts"),
    "contacts-B": Case(_contact_list),
    "contacts-add-E": Case(_contacts, "POST /contacts"),
}


def each(*, kinds: str = "R RP RX W", families: str = "ABCDE") -> list[Any]:
    """Parameters of tests: each line of section 8 with each kind of campaign that it is for."""
    return [
        pytest.param(line, channel, id=f"{line.key}-{channel}")
        for line in SECTION_8
        if line.kind in kinds.split() and line.family in families
        for channel in line.channels
    ]


def filled(template: str, sandbox: Sandbox, asked: Asked, channel: str) -> str:
    """A target or a route with its values in it, encoded."""
    tenant = {"stream": sandbox.config.stream_id, "account": sandbox.config.account_id}
    values = {**tenant, "type": channel, **asked.values}
    return template.format_map({name: quote(value, safe="") for name, value in values.items()})
