"""The ways to the platform and to webhooks' targets: the name, the proxy in front, TCP, TLS. No request is sent."""

import time
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from campaign_gateway.doctor import reach, verdicts
from campaign_gateway.doctor.findings import Check, Finding, Status, has_failed, skipped
from campaign_gateway.doctor.redis_verdicts import at
from campaign_gateway.settings.tree import Platform, WebhookSettings
from campaign_gateway.upstream.client import Route
from campaign_gateway.upstream.webhooks import DELIVERY_SECONDS

_Server = tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Way:
    """How a server is found."""

    section: str
    """The settings that name it."""
    url: str
    route: Route
    name: Check
    tcp: Check
    tls: Check
    patience: tuple[float, str]
    """Seconds for a connection, and what says so."""


async def look_at_platform(platform: Platform, *, is_ca_broken: bool) -> list[Finding]:
    """How far a connection to the platform gets.

    Args:
        platform: where it is, and how to get there.
        is_ca_broken: whether the file with its authorities cannot be used.
    """
    way = _Way(
        section="platform",
        url=platform.url,
        route=Route(platform.proxy, platform.ca_file, platform.min_tls),
        name=Check.PLATFORM_NAME,
        tcp=Check.PLATFORM_TCP,
        tls=Check.PLATFORM_TLS,
        patience=(platform.connect_timeout, "platform.connect_timeout"),
    )
    return await _look_along(way, is_ca_broken=is_ca_broken)


async def look_at_webhook(name: str, webhook: WebhookSettings, *, is_ca_broken: bool) -> list[Finding]:
    """How far a connection to the webhook's target gets. What fails is a warning: the gateway serves all the same.

    Args:
        name: the webhook's.
        webhook: where its target is, and how to get there.
        is_ca_broken: whether the file with its authorities cannot be used.
    """
    way = _Way(
        section=f"webhooks.{name}",
        url=webhook.url,
        route=Route(webhook.proxy, webhook.ca_file),
        name=Check.WEBHOOK_NAME,
        tcp=Check.WEBHOOK_TCP,
        tls=Check.WEBHOOK_TLS,
        patience=(DELIVERY_SECONDS, "the time of a delivery"),
    )
    found = await _look_along(way, is_ca_broken=is_ca_broken)
    return [replace(one, status=Status.WARNING) if one.status is Status.ERROR else one for one in found]


async def _look_along(way: _Way, *, is_ca_broken: bool) -> list[Finding]:
    server, authorities = _server(way.url), f"{way.section}.ca_file"
    proxy = None if way.route.proxy is None else _server(way.route.proxy)
    found = await (_directly(way, server) if proxy is None else _by_proxy(way, server, proxy))
    if not way.url.startswith("https:"):
        return found
    if has_failed(found):
        return [*found, skipped(way.tls, at(server), "not tried: no connection")]
    if is_ca_broken:
        return [*found, skipped(way.tls, at(server), f"not tried: {authorities} cannot be used")]
    try:
        context = way.route.open_context()
    except OSError:
        return [*found, skipped(way.tls, at(server), "not tried: the authorities cannot be read")]
    shown = await reach.greet(*server, context, proxy)
    return [*found, verdicts.tls(way.tls, at(server), shown, authorities, time.time())]


async def _directly(way: _Way, server: _Server) -> list[Finding]:
    found = [verdicts.name(way.name, server[0], await reach.resolve(*server))]
    if has_failed(found):
        return [*found, skipped(way.tcp, at(server), "not tried: the name has no address")]
    return [*found, verdicts.tcp(way.tcp, at(server), await reach.connect(*server), *way.patience)]


async def _by_proxy(way: _Way, server: _Server, proxy: _Server) -> list[Finding]:
    found = [
        skipped(way.name, server[0], f"the proxy {at(proxy)} finds it"),
        verdicts.name(Check.PROXY_NAME, proxy[0], await reach.resolve(*proxy)),
    ]
    if not has_failed(found):
        found.append(verdicts.tcp(Check.PROXY_TCP, at(proxy), await reach.connect(*proxy), *way.patience))
    # In clear text a proxy is asked for each request, and not to connect.
    if not has_failed(found) and way.url.startswith("https:"):
        tunnel = await reach.ask_proxy(proxy, server)
        found.append(verdicts.connect(at(proxy), at(server), tunnel, f"{way.section}.proxy"))
    return found


def _server(url: str) -> _Server:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
