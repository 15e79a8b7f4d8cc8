"""One application of the platform with everything in it, and one call on it."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from campaign_gateway.sandbox import ids
from campaign_gateway.sandbox.answers import invalid
from campaign_gateway.sandbox.campaigns import CampaignStore
from campaign_gateway.sandbox.contacts import ContactListStore
from campaign_gateway.sandbox.listing import PAGE_ROWS
from campaign_gateway.sandbox.operations import Match


@dataclass(frozen=True, slots=True)
class Tenant:
    """One application.

    Attributes:
        stream_id: Its id in paths.
        app_id: Its id in the header `iid`, as a rule the same.
        account_id: The account it belongs to, which is what the rate limit counts by.
        campaigns: Its campaigns.
        contact_lists: Its contact lists.
        user_id: Who its lists say made them.
        org_id: The organisation its lists name.
        now: Seconds since the epoch.
        rng: Draws ids.
    """

    stream_id: str
    app_id: str
    account_id: str
    campaigns: CampaignStore
    contact_lists: ContactListStore
    user_id: str
    org_id: str
    now: Callable[[], float]
    rng: random.Random

    def new_reference(self, prefix: str) -> str:
        """A fresh id of something that the sandbox does not keep, such as a flow."""
        return ids.sms_id(self.rng, prefix)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that has passed the door.

    Attributes:
        match: What it asks for.
        body: Its body, unread.
        list_lag_seconds: How old a list is to be.
        page_rows: The most rows that a page of a list is to have.
        is_sorted: A list keeps to `sortBy`.
        is_quiet: A write moves no marks.
    """

    match: Match
    body: bytes = b""
    list_lag_seconds: float = 0.0
    page_rows: int = PAGE_ROWS
    is_sorted: bool = True
    is_quiet: bool = False

    @property
    def version(self) -> int:
        """1 or 2."""
        return self.match.version

    @property
    def query(self) -> Mapping[str, str]:
        """The decoded query."""
        return self.match.query

    def document(self) -> Any:
        """The body as JSON; an empty one is `{}`.

        Raises:
            RefusedError: 412, it is not JSON.
        """
        if not self.body.strip():
            return {}
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise invalid("the body is not JSON") from None

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; an empty one is `{}`.

        Raises:
            RefusedError: 412, it is something else.
        """
        document = self.document()
        if not isinstance(document, dict):
            raise invalid("the body must be an object")
        return document
