"""Whoever goes by settings that may change while the gateway serves, and what each is told when they do."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from campaign_gateway.app import build, status
from campaign_gateway.app.front import Front
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.story import Story
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.settings import Settings
from campaign_gateway.telemetry import logs
from campaign_gateway.telemetry.access import AccessLines


@dataclass(frozen=True, slots=True)
class Live:
    """All of them. What reads its settings off the plan each time needs to be told nothing."""

    runtime: Runtime
    story: Story
    sweepers: Collection[Sweeper]
    front: Front

    def adopt(self, settings: Settings) -> None:
        """Has these settings used from the next request on, on open connections too.

        Nothing is awaited, so nobody sees a part of them.

        Args:
            settings: differ in nothing that takes a restart.
        """
        plan, story, front = self.runtime.plan, self.story, self.front
        before, callers = plan.settings, build.build_callers(settings)
        plan.adopt(settings)
        story.budget.amend()
        if settings.freshness != before.freshness:
            rules = plan.freshness
            story.writers.seconds = settings.freshness.read_your_writes
            front.bounds.announce(rules.stale_while_revalidate, rules.stale_if_error)
            # A hit stands for as long as the rules of its time said.
            front.hits.forget(None)
        story.exchange.adopt(plan.freshness, is_polled=settings.sweep.share > 0)
        for sweeper in self.sweepers:
            sweeper.adopt(settings.sweep.share, build.build_lag(settings.sweep))
        if settings.webhooks != before.webhooks:
            story.webhooks.adopt()
            self.runtime.certificates.show(settings)
        if settings.log != before.log:
            log, worker = settings.log, self.runtime.worker
            fields: dict[str, Any] = {} if worker is None else {"worker": worker}
            if (log.level, log.format) != (before.log.level, before.log.format):
                logs.set_up(level=log.level, format=log.format, **fields)
            front.lines.want(AccessLines(log.access, log.hits_per_second, log.slow))
        # Last, since it ends the epoch: whatever was granted before is worked out anew.
        front.clients.replace(*callers)
        status.show_keys(self.runtime.metrics.gauges, front.clients)
