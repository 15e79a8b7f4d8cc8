"""The campaigns of one application: every version of each, and the changes they make by themselves.

Laws of this module:

1. A campaign is a value. Every change appends a version; readers of an older moment (a lagging list) see the
   version of that moment, and a deletion is a version too.
2. Nothing runs in the background. A change that is due is applied, with the moment it was due at, before the
   next look at the campaign; so an injected clock decides everything.
3. A change moves the mark, unless it is asked to be quiet. Marks are for equality: after a create the stored
   mark is *earlier* than the one the create answered, as the vendor's samples show.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from campaign_gateway.sandbox import ids
from campaign_gateway.sandbox.marks import mark, moved
from campaign_gateway.sandbox.schedule import Plan

# Older versions are forgotten; enough for a list that lags by minutes behind a campaign edited every second.
_VERSIONS_KEPT = 256

# As in the vendor's samples: a stored mark lies 189 to 342 ms before the one its create answered.
_CREATE_MARK_LEAD_SECONDS = (0.189, 0.342)

# The marks, and how far behind the event each of them lies when a status changes.
_MARKS = {"updatedAt": 0.0, "campaignInstanceUpdatedAt": 0.007}


class Kind(StrEnum):
    """What a campaign does; the value is the API's `campaignType`."""

    VOICE = "voice"
    SMS = "sms"


class Status(StrEnum):
    """The states that the simulated platform puts a campaign into."""

    PREPARING = "Preparing"
    READY = "Ready"
    ACTIVE = "Active"
    COMPLETED = "Completed"
    STOPPED = "Stopped"
    PAUSED = "Paused"
    SCHEDULED = "Scheduled"
    RESCHEDULED = "Rescheduled"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of status that happens by itself at a moment (seconds since the epoch)."""

    at: float
    status: Status


@dataclass(frozen=True, slots=True)
class Campaign:
    """One version of a campaign.

    Attributes:
        id: Opaque and case-sensitive.
        kind: Voice or SMS.
        fields: Everything any projection may show, by its name in the API. Not to be changed in place.
        due: What happens next by itself, None when nothing will.
        plan: The schedule in force, None without one.
    """

    id: str
    kind: Kind
    fields: Mapping[str, Any]
    due: Change | None = None
    plan: Plan | None = None

    @property
    def name(self) -> str:
        """The name, by which schedules find a campaign."""
        return str(self.fields["name"])

    @property
    def status(self) -> str:
        """The status as the API writes it; a user's edit may have made it any text."""
        return str(self.fields["status"])


class CampaignStore:
    """Every campaign of one application, with its history."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        rng: random.Random,
        preparing_seconds: float = 1.0,
        run_seconds: float = 120.0,
    ) -> None:
        """An empty store.

        Args:
            now: Seconds since the epoch.
            rng: Draws ids and the small differences between marks.
            preparing_seconds: How long a new voice campaign stays `Preparing`.
            run_seconds: How long a started campaign stays `Active` before it completes.
        """
        self._now = now
        self._rng = rng
        self._preparing_seconds = preparing_seconds
        self._run_seconds = run_seconds
        # For each id its versions, oldest first, each with the moment it began; None: deleted.
        self._versions: dict[str, deque[tuple[float, Campaign | None]]] = {}

    def new_id(self, kind: Kind, prefix: str = "cd") -> str:
        """A fresh id in the form of the kind."""
        return (ids.voice_id if kind is Kind.VOICE else ids.sms_id)(self._rng, prefix)

    def get(self, campaign_id: str) -> Campaign | None:
        """The campaign as it is now; None if it never was or is deleted."""
        versions = self._versions.get(campaign_id)
        if versions is None:
            return None
        self._settle(versions, self._now())
        return versions[-1][1]

    def all(self, *, lag_seconds: float = 0.0) -> list[Campaign]:
        """Every campaign as it was so many seconds ago, in the order of creation.

        With a lag, a campaign younger than the lag is absent and one deleted within it is still there.
        """
        now = self._now()
        moment = now - lag_seconds
        found = []
        for versions in self._versions.values():
            self._settle(versions, now)
            began, campaign = versions[-1]
            if began > moment:
                campaign = next((version for began, version in reversed(versions) if began <= moment), None)
            if campaign is not None:
                found.append(campaign)
        return found

    def by_name(self, name: str) -> Campaign | None:
        """The newest campaign of that name, None if there is none."""
        return next((campaign for campaign in reversed(self.all()) if campaign.name == name), None)

    def seed(self, campaign: Campaign) -> None:
        """Stores a campaign that was always there, for a lagging list too."""
        self._append(campaign.id, -math.inf, campaign)

    def create(self, kind: Kind, fields: Mapping[str, Any], campaign_id: str = "") -> Campaign:
        """A new campaign, with this id or a fresh one.

        Voice starts as `Preparing` and gets `Ready` by itself; SMS is `Ready` at once. The answer to a create shows
        `createdAt` as its mark; the stored mark is a little earlier.
        """
        now = self._now()
        stored_mark = mark(now - self._rng.uniform(*_CREATE_MARK_LEAD_SECONDS))
        prepares = kind is Kind.VOICE
        campaign = Campaign(
            id=campaign_id or self.new_id(kind),
            kind=kind,
            fields={
                **fields,
                "status": Status.PREPARING if prepares else Status.READY,
                "createdAt": mark(now),
                "updatedAt": stored_mark,
                "campaignInstanceUpdatedAt": stored_mark,
            },
            due=Change(now + self._preparing_seconds, Status.READY) if prepares else None,
        )
        return self._put(campaign)

    def edit(
        self,
        campaign_id: str,
        changes: Mapping[str, Any],
        *,
        without: frozenset[str] = frozenset(),
        quiet: bool = False,
    ) -> Campaign | None:
        """The campaign with fields replaced, None if there is none.

        Args:
            campaign_id: Which one.
            changes: Field names of the API and their new values.
            without: Field names to take away.
            quiet: The marks stay as they are.
        """
        campaign = self.get(campaign_id)
        if campaign is None:
            return None
        fields = {key: value for key, value in campaign.fields.items() if key not in without}
        if not quiet:
            text = moved(campaign.fields.get("updatedAt", ""), self._now())
            fields |= {key: text for key in _MARKS if key not in without}
        # Last, because an edit by hand may set a mark itself, to any text.
        fields |= changes
        fields["lname"] = str(fields["name"]).lower()
        # Someone who sets a status by hand means it to stay.
        due = None if "status" in changes else campaign.due
        return self._put(replace(campaign, fields=fields, due=due))

    def delete(self, campaign_id: str) -> Campaign | None:
        """The campaign as it was last, and no more; None if there was none."""
        campaign = self.get(campaign_id)
        if campaign is not None:
            self._append(campaign_id, self._now(), None)
        return campaign

    def set_status(self, campaign: Campaign, status: Status, *, quiet: bool = False) -> Campaign:
        """The campaign in another status from now on; `Active` begins a run that completes by itself."""
        return self._put(self._with_status(campaign, Change(self._now(), status), quiet=quiet))

    def set_plan(self, campaign: Campaign, plan: Plan | None, *, quiet: bool = False) -> Campaign:
        """The campaign with a schedule, or without one; a scheduled start happens by itself."""
        status = Status.SCHEDULED if plan else Status.READY
        planned = self._with_status(campaign, Change(self._now(), status), quiet=quiet)
        schedule = {"isSchedulingEnabled": plan is not None, "isRecurrenceEnabled": bool(plan and plan.recurs)}
        due = Change(plan.start, Status.ACTIVE) if plan else None
        return self._put(replace(planned, plan=plan, due=due, fields={**planned.fields, "schedule": schedule}))

    def _put(self, campaign: Campaign) -> Campaign:
        self._append(campaign.id, self._now(), campaign)
        return campaign

    def _append(self, campaign_id: str, began: float, campaign: Campaign | None) -> None:
        versions = self._versions.setdefault(campaign_id, deque(maxlen=_VERSIONS_KEPT))
        versions.append((began, campaign))

    def _settle(self, versions: deque[tuple[float, Campaign | None]], now: float) -> None:
        campaign = versions[-1][1]
        while campaign is not None and campaign.due is not None and campaign.due.at <= now:
            due = campaign.due
            campaign = self._with_status(campaign, due)
            versions.append((due.at, campaign))

    def _with_status(self, campaign: Campaign, change: Change, *, quiet: bool = False) -> Campaign:
        fields = dict(campaign.fields)
        status, due = change.status, None
        match status:
            case Status.ACTIVE:
                fields["campaignInstanceId"] = self.new_id(campaign.kind, "cid")
                due = Change(change.at + self._run_seconds, Status.COMPLETED)
            case Status.COMPLETED if campaign.plan and (start := campaign.plan.next_start(change.at)):
                status, due = Status.RESCHEDULED, Change(start, Status.ACTIVE)
            case _:
                pass
        fields["status"] = status
        if not quiet:
            for key, lag in _MARKS.items():
                fields[key] = moved(fields.get(key, ""), change.at + lag)
        return replace(campaign, fields=fields, due=due)
