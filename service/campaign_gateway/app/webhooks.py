"""Opens the webhooks that the settings name, and shows how they do."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial

from campaign_gateway.admin.probes import Part
from campaign_gateway.app.build import Plan
from campaign_gateway.app.status import OK
from campaign_gateway.app.stores import Stores
from campaign_gateway.policy.webhooks import Outcome
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.tasks import Tasks
from campaign_gateway.proxy.webhooks import Sender, Webhook, behind
from campaign_gateway.telemetry.metrics import Metrics
from campaign_gateway.upstream.signer import Secret
from campaign_gateway.upstream.webhooks import WebhookTarget


async def open_webhooks(
    plan: Plan, stores: Stores, feed: Feed, metrics: Metrics, stack: AsyncExitStack
) -> Callable[[], Part]:
    """How the webhooks do; changes are sent from now on, until `stack` is left.

    Raises:
        OSError: a secret's file cannot be read.
    """
    me = uuid.uuid4().hex
    senders: list[Sender] = []
    for name, row in plan.settings.webhooks.items():
        target = await stack.enter_async_context(WebhookTarget(row.url, Secret(row.secret_file)))
        webhook = Webhook(name, target, row.types)
        own = [
            Sender(webhook, stream, stores.webhooks, feed, metrics, me)
            for alias, stream in plan.streams.items()
            if row.streams is None or alias in row.streams
        ]
        senders += own
        metrics.deliveries_of(name, (outcome.value for outcome in Outcome))
        text = "Seconds for which the oldest change has been waiting to be received; 0 where none does."
        metrics.gauges.add("webhook_behind_seconds", text, behind(own), webhook=name)
    tasks = Tasks(metrics.task_failures)
    # They end before the connections that they use.
    stack.push_async_callback(tasks.close)
    for sender in senders:
        tasks.supervise(sender.run, name=f"webhook {sender.webhook}")
    return partial(webhooks_part, senders, tasks.failing)


def webhooks_part(senders: Sequence[Sender], failing: Mapping[str, str]) -> Part:
    """Degraded while a target has not taken changes for long, sending has stopped, or its task fails."""
    faults = [fault for sender in senders if (fault := sender.fault) is not None]
    faults += [f"{name} fails in the background ({error})" for name, error in failing.items()]
    return Part("degraded", "; ".join(faults)) if faults else OK
