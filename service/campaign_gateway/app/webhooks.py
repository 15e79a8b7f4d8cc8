"""Opens the webhooks that the settings name, and shows how they do."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack

from campaign_gateway.admin.probes import Part
from campaign_gateway.app.build import Plan
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.status import OK
from campaign_gateway.app.stores import Stores
from campaign_gateway.policy.webhooks import Outcome
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.explain import Informed
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.webhooks import Sender, Webhook, behind
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.client import Route
from campaign_gateway.upstream.signer import Secret
from campaign_gateway.upstream.webhooks import WebhookTarget


class Webhooks:
    """The webhooks that the settings name, replaced as a whole when those change."""

    def __init__(self, plan: Plan, stores: Stores, feed: Feed, metrics: Metrics) -> None:
        """None yet.

        Args:
            plan: names them, and the streams.
            stores: have how far each is.
            feed: the changes.
            metrics: where deliveries are counted.
        """
        self._plan, self._stores, self._feed, self._metrics = plan, stores, feed, metrics
        self._me = uuid.uuid4().hex
        self._senders: list[Sender] = []
        self._opened = AsyncExitStack()
        self._are_adopted = asyncio.Event()
        self._replacing = Tasks(metrics.task_failures)
        self._sending = Tasks(metrics.task_failures)

    async def open(self) -> None:
        """Has changes sent from now on, to those of the plan's settings at any time.

        Raises:
            OSError: a file cannot be read, or holds no certificate.
        """
        await self._begin(self._targets())
        self._replacing.supervise(self._replace, name="replace webhooks")

    def adopt(self) -> None:
        """Has those of the plan's settings take the place of these, which first end what is under way."""
        self._are_adopted.set()

    def _targets(self) -> Mapping[str, WebhookTarget]:
        """By name, not opened yet.

        Raises:
            OSError: a file cannot be read, or holds no certificate.
            ValueError: one holds no secret.
        """
        rows = self._plan.settings.webhooks
        return {
            name: WebhookTarget(row.url, Secret(row.secret_file), Route(row.proxy, row.ca_file))
            for name, row in rows.items()
        }

    async def _begin(self, targets: Mapping[str, WebhookTarget]) -> None:
        gauges, text = self._metrics.gauges, "Seconds for which the oldest change has been waiting to be received."
        gauges.drop(_BEHIND)
        for name, target in targets.items():
            row = self._plan.settings.webhooks[name]
            webhook = Webhook(name, await self._opened.enter_async_context(target), row.types)
            own = [
                Sender(webhook, stream, self._stores.webhooks, self._feed, self._metrics, self._me)
                for alias, stream in self._plan.streams.items()
                if row.streams is None or alias in row.streams
            ]
            self._senders += own
            self._metrics.deliveries_of(name, (outcome.value for outcome in Outcome))
            gauges.add(_BEHIND, text, behind(own), webhook=name)
        for sender in self._senders:
            self._sending.supervise(sender.run, name=f"webhook {sender.webhook}")

    def resume(self) -> None:
        """Has those go on at once that have stopped, or wait after a failure."""
        for sender in self._senders:
            sender.resume()

    async def _replace(self) -> None:
        """Follows what is adopted. Where a secret cannot be read, those of before go on until it can."""
        while True:
            await self._are_adopted.wait()
            targets = self._targets()
            self._are_adopted.clear()
            await self._end()
            await self._begin(targets)

    async def _end(self) -> None:
        # Senders end before the connections that they use.
        await self._sending.close()
        await self._opened.aclose()
        self._senders.clear()

    async def close(self) -> None:
        """Ends them; another replica goes on."""
        await self._replacing.close()
        await self._end()

    def informed(self, stream: str) -> Sequence[Informed]:
        """Those that are told of a stream's changes, by its alias."""
        return [sender.informed for sender in self._senders if sender.stream == stream]

    def part(self) -> Part:
        """How they do."""
        return webhooks_part(self._senders, {**self._sending.failing, **self._replacing.failing})


_BEHIND = "webhook_behind_seconds"


async def open_webhooks(runtime: Runtime, stores: Stores, feed: Feed) -> Webhooks:
    """The webhooks; changes are sent from now on, until the runtime's stack is left.

    Raises:
        OSError: a file cannot be read, or holds no certificate.
    """
    webhooks = Webhooks(runtime.plan, stores, feed, runtime.metrics)
    runtime.stack.push_async_callback(webhooks.close)
    await webhooks.open()
    return webhooks


def webhooks_part(senders: Sequence[Sender], failing: Mapping[str, str]) -> Part:
    """Degraded while a target has not taken changes for long, sending has stopped, or its task fails."""
    faults = [fault for sender in senders if (fault := sender.fault) is not None]
    faults += [f"{name} fails in the background ({error})" for name, error in failing.items()]
    return Part("degraded", "; ".join(faults)) if faults else OK
