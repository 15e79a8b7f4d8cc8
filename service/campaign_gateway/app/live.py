"""Whoever goes by settings that may change while the gateway serves, and what each is told when they do."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from campaign_gateway.app import build, status
from campaign_gateway.app.listen import WorkerSlot
from campaign_gateway.app.webhooks import Webhooks
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.settings import Settings
from campaign_gateway.telemetry import logs
from campaign_gateway.telemetry.access import AccessLines
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.web.clients import Clients
from campaign_gateway.web.rendered import RenderedHits
from campaign_gateway.web.responses import Bounds


@dataclass(frozen=True, slots=True)
class Live:
    """All of them. What reads its settings off the plan each time needs to be told nothing."""

    plan: build.Plan
    budget: CallBudget
    exchange: Exchange
    writers: Writers
    sweepers: Collection[Sweeper]
    bounds: Bounds
    hits: RenderedHits
    clients: Clients
    lines: logs.HitLines
    metrics: Metrics
    slot: WorkerSlot | None
    """This process's, if it is one of several workers."""
    webhooks: Webhooks

    def adopt(self, settings: Settings) -> None:
        """Has these settings used from the next request on, on open connections too.

        Nothing is awaited, so nobody sees a part of them.

        Args:
            settings: differ in nothing that takes a restart.
        """
        before, callers = self.plan.settings, build.build_callers(settings)
        self.plan.adopt(settings)
        self.budget.amend()
        if settings.freshness != before.freshness:
            rules = self.plan.freshness
            self.writers.seconds = settings.freshness.read_your_writes
            self.bounds.announce(rules.stale_while_revalidate, rules.stale_if_error)
            # A hit stands for as long as the rules of its time said.
            self.hits.forget(None)
        self.exchange.adopt(self.plan.freshness, is_polled=settings.sweep.share > 0)
        for sweeper in self.sweepers:
            sweeper.adopt(settings.sweep.share, build.build_lag(settings.sweep))
        if settings.webhooks != before.webhooks:
            self.webhooks.adopt()
        if settings.log != before.log:
            log = settings.log
            fields: dict[str, Any] = {} if self.slot is None else {"worker": self.slot.number}
            if (log.level, log.format) != (before.log.level, before.log.format):
                logs.set_up(level=log.level, format=log.format, **fields)
            self.lines.want(AccessLines(log.access, log.hits_per_second, log.slow))
        # Last, since it ends the epoch: whatever was granted before is worked out anew.
        self.clients.replace(*callers)
        status.show_keys(self.metrics.gauges, self.clients)
