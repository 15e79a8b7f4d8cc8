"""What the store and the list together say of a stored answer at this moment."""

from collections.abc import Callable
from dataclasses import dataclass

from campaign_gateway.contract.operations import GET
from campaign_gateway.policy.decide import Decision, decide
from campaign_gateway.policy.evidence import Evidence
from campaign_gateway.policy.freshness import Freshness
from campaign_gateway.policy.stored import Stored
from campaign_gateway.proxy.ports import CampaignIndex
from campaign_gateway.proxy.request import Request


@dataclass(slots=True)
class Assessor:
    """Brings the rules, the list and the time to each decision."""

    index: CampaignIndex
    rules: Freshness
    """Others, once the settings say so."""
    now: Callable[[], float]
    """The store's clock."""

    def decide(self, request: Request, stored: Stored | None, evidence: Evidence) -> Decision:
        """What to do with the request, and what is said of what is stored."""
        listed = None
        if stored is not None and request.is_about_a_campaign:
            snapshot = self.index.snapshot(request.stream.identity)
            listed = snapshot.campaigns.get(request.id), snapshot.state
        return decide(stored, evidence, request.directives, self.rules, self.now(), listed)

    def note_use(self, request: Request, stored: Stored | None) -> None:
        """Counts the campaign as in use, if that is what is answered with."""
        if stored is not None and stored.absence is None and request.operation.name == GET.name:
            self.index.record_use(request.stream.identity, request.id, self.now())
