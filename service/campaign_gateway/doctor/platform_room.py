"""The way to the platform: its name, the proxy in front of it, TCP, TLS."""

import ssl
import time
from urllib.parse import urlsplit

from campaign_gateway.doctor import reach, verdicts
from campaign_gateway.doctor.findings import Check, Finding, has_failed, skipped
from campaign_gateway.doctor.redis_verdicts import at
from campaign_gateway.settings.tree import Platform
from campaign_gateway.upstream.client import Route


async def look_at_platform(platform: Platform, *, is_ca_broken: bool) -> list[Finding]:
    """How far a connection to the platform gets.

    Args:
        platform: where it is, and how to get there.
        is_ca_broken: whether the file with its authorities cannot be used.
    """
    server, has_tls = _server(platform.url), platform.url.startswith("https:")
    proxy = None if platform.proxy is None else _server(platform.proxy)
    found = await (_directly(server, platform) if proxy is None else _by_proxy(server, proxy, platform))
    if not has_tls:
        return found
    if has_failed(found):
        return [*found, skipped(Check.PLATFORM_TLS, at(server), "not tried: no connection")]
    if is_ca_broken:
        return [*found, skipped(Check.PLATFORM_TLS, at(server), "not tried: platform.ca_file cannot be used")]
    try:
        context: ssl.SSLContext = Route(ca_file=platform.ca_file, min_tls=platform.min_tls).open_context()
    except OSError:
        return [*found, skipped(Check.PLATFORM_TLS, at(server), "not tried: the authorities cannot be read")]
    shown = await reach.greet(*server, context, proxy)
    return [*found, verdicts.tls(Check.PLATFORM_TLS, at(server), shown, "platform.ca_file", time.time())]


async def _directly(server: tuple[str, int], platform: Platform) -> list[Finding]:
    found = [verdicts.name(Check.PLATFORM_NAME, server[0], await reach.resolve(*server))]
    if has_failed(found):
        return [*found, skipped(Check.PLATFORM_TCP, at(server), "not tried: the name has no address")]
    seen = await reach.connect(*server)
    return [*found, verdicts.tcp(Check.PLATFORM_TCP, at(server), seen, *_patience(platform))]


async def _by_proxy(server: tuple[str, int], proxy: tuple[str, int], platform: Platform) -> list[Finding]:
    found = [
        skipped(Check.PLATFORM_NAME, server[0], f"the proxy {at(proxy)} finds it"),
        verdicts.name(Check.PROXY_NAME, proxy[0], await reach.resolve(*proxy)),
    ]
    if not has_failed(found):
        seen = await reach.connect(*proxy)
        found.append(verdicts.tcp(Check.PROXY_TCP, at(proxy), seen, *_patience(platform)))
    # In clear text a proxy is asked for each request, and not to connect.
    if not has_failed(found) and platform.url.startswith("https:"):
        tunnel = await reach.ask_proxy(proxy, server)
        found.append(verdicts.connect(at(proxy), at(server), tunnel))
    return found


def _patience(platform: Platform) -> tuple[float, str]:
    return platform.connect_timeout, "platform.connect_timeout"


def _server(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
