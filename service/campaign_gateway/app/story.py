"""Opens the story: what reads, writes and changes go through, on top of the adapters that it asks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from campaign_gateway.app import build, status
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.stores import Stores, open_stores
from campaign_gateway.app.webhooks import Webhooks, open_webhooks
from campaign_gateway.proxy.bounds import StatedBounds, stated_bounds
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.explain import Explainer
from campaign_gateway.proxy.fetch import Fetcher
from campaign_gateway.proxy.flights import Flights, Timeouts
from campaign_gateway.proxy.forward import Forwarder
from campaign_gateway.proxy.hints import Hints, Readers
from campaign_gateway.proxy.invalidate import Invalidator
from campaign_gateway.proxy.ports import Handlers, Ledgers
from campaign_gateway.proxy.read import Exchange
from campaign_gateway.proxy.request import Stream
from campaign_gateway.proxy.sweep import Sweeper
from campaign_gateway.proxy.writers import Writers
from campaign_gateway.upstream.budget import CallBudget
from campaign_gateway.upstream.client import PlatformClient


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What reads, writes and changes go through."""

    platform: PlatformClient
    stores: Stores
    budget: CallBudget
    fetcher: Fetcher
    exchange: Exchange
    """Answers reads."""
    forwarder: Forwarder
    """Sends on writes, and what is never stored."""
    invalidator: Invalidator
    hints: Hints
    readers: Readers
    writers: Writers
    feed: Feed
    webhooks: Webhooks
    stated: Callable[[str], StatedBounds]
    """By the stream's identity."""
    explainer: Explainer


async def open_story(runtime: Runtime) -> Story:
    """The story, and what it asks: the platform, the stores, the budget. Left in reverse, after the tasks that use it.

    Raises:
        OSError: a secret's file cannot be read.
        SettingsError: a key looks good and cannot sign.
    """
    plan, metrics, clock, fills, traces = runtime.plan, runtime.metrics, runtime.clock, runtime.fills, runtime.traces
    signers = build.build_signers(runtime.settings.credentials)
    platform = await runtime.stack.enter_async_context(build.build_platform(runtime.settings, signers))
    flights, readers = Flights(fills), Readers()
    writers = Writers(clock.now, runtime.settings.freshness.read_your_writes)
    stores = await open_stores(runtime, Handlers(flights.forget, writers.note, readers.hand))
    store, index = stores.entries, stores.index
    budget = await _open_budget(runtime, stores.ledgers)
    runtime.stack.push_async_callback(runtime.watchers.close)
    runtime.stack.push_async_callback(fills.close, runtime.farewell / 2)
    fetcher = Fetcher(platform, budget, store, metrics, lambda: clock.ahead, traces)
    status.show_platform(metrics.gauges, fetcher.breaker, fetcher.clock)
    timeouts = Timeouts(runtime.settings.platform.timeout)
    feed = _open_feed(runtime, stores, fetcher)
    exchange = Exchange(
        store=store,
        index=index,
        fetcher=fetcher,
        flights=flights,
        rules=plan.freshness,
        meter=metrics,
        timeouts=timeouts,
        writers=writers,
        traces=traces,
        on_stored=feed.note_read,
        is_polled=runtime.settings.sweep.share > 0,
    )
    webhooks = await open_webhooks(runtime, stores, feed)
    invalidator = Invalidator(store, flights, exchange, metrics, fills)
    forwarder = Forwarder(
        exchange=exchange,
        fetcher=fetcher,
        invalidator=invalidator,
        index=index,
        store=store,
        writers=writers,
        timeouts=timeouts,
        tasks=fills,
        feed=feed,
    )
    stated = partial(_stated_bounds, plan, stores)
    explainer = Explainer(
        store=store,
        index=index,
        rules=lambda: plan.freshness,
        bounds=stated,
        remaining=budget.remaining,
        prospect=exchange.prospect,
        informed=webhooks.informed,
    )
    return Story(
        platform=platform,
        stores=stores,
        budget=budget,
        fetcher=fetcher,
        exchange=exchange,
        forwarder=forwarder,
        invalidator=invalidator,
        hints=Hints(readers, invalidator, exchange, index, store, fills),
        readers=readers,
        writers=writers,
        feed=feed,
        webhooks=webhooks,
        stated=stated,
        explainer=explainer,
    )


async def _open_budget(runtime: Runtime, ledgers: Ledgers) -> CallBudget:
    plan, metrics = runtime.plan, runtime.metrics
    replicas = runtime.settings.cache.replicas * runtime.settings.workers
    budget = CallBudget(plan.allowance, ledgers, metrics, runtime.watchers, replicas=replicas)
    status.show_budget(metrics.gauges, budget, plan)
    await budget.start(plan.accounts)
    runtime.stack.push_async_callback(budget.depart)
    return budget


def _open_feed(runtime: Runtime, stores: Stores, fetcher: Fetcher) -> Feed:
    plan, metrics = runtime.plan, runtime.metrics
    # Of two aliases of one stream, the first one counts.
    aliases = {identity: alias for alias, identity in sorted(plan.identities.items(), reverse=True)}
    ahead = fetcher.clock.seconds_ahead
    feed = Feed(stores.log, stores.index, runtime.clock.now, runtime.fills, metrics, aliases, seconds_ahead=ahead)
    stores.log.on_added = feed.note_added
    for stream in plan.streams.values():
        status.show_changes(metrics, stream, stores.index, feed)
    runtime.watchers.supervise(feed.keep_in_use, name="note listeners")
    return feed


def _stated_bounds(plan: build.Plan, stores: Stores, stream: str) -> StatedBounds:
    return stated_bounds(stores.index, stores.entries, plan.freshness.max, stream)


def open_sweepers(runtime: Runtime, story: Story) -> Mapping[str, Sweeper]:
    """What keeps each stream up to date, by its alias; it has begun."""
    return {stream.alias: _open_sweeper(runtime, story, stream) for stream in runtime.plan.streams.values()}


def _open_sweeper(runtime: Runtime, story: Story, stream: Stream) -> Sweeper:
    index, fetcher = story.stores.index, story.fetcher
    sweeper = Sweeper(
        stream=stream,
        index=index,
        store=story.stores.entries,
        fetcher=fetcher,
        refresh=story.exchange.read_again,
        config=build.build_sweep_config(runtime.plan, stream, story.budget, fetcher.clock.seconds_ahead),
        tasks=runtime.watchers,
        meter=runtime.metrics,
    )
    story.readers.register(stream.identity, sweeper.hint, partial(index.is_leading, stream.identity))
    status.show_sweep(runtime.metrics.gauges, stream, sweeper, index, story.stated)
    runtime.watchers.supervise(sweeper.run, name=f"sweep {stream.alias}")
    return sweeper
