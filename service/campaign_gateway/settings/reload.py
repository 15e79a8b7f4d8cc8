"""Which sections of the settings take effect while the gateway serves, and what of a change does not."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from campaign_gateway.settings.tree import Section, Settings

SECTIONS: Mapping[str, Literal["reload", "restart"]] = {
    "listen": "restart",
    "admin_listen": "restart",
    "listen_options": "restart",
    "tls": "restart",
    "workers": "restart",
    "keepalive": "restart",
    "send_timeout": "restart",
    "max_unsent": "restart",
    "allow_anonymous": "reload",
    "hosts": "restart",
    "hot_path": "restart",
    "docs": "restart",
    "platform": "restart",
    "credentials": "restart",
    "streams": "restart",
    "budgets": "reload",
    "pause": "reload",
    "clients": "reload",
    "cache": "restart",
    "freshness": "reload",
    "sweep": "reload",
    "changes": "restart",
    "webhooks": "reload",
    "log": "reload",
    "shutdown": "restart",
}
"""What each key at the top takes; the files that `restart` sections name are read again all the same."""


def differing(old: Settings, new: Settings, takes: Literal["reload", "restart"]) -> list[str]:
    """Each key whose value differs, in the sections that take a reload, or a restart; in the order of the README."""
    sections = [name for name, taken in SECTIONS.items() if taken == takes]
    return [key for name in sections for key in _differing(name, getattr(old, name), getattr(new, name))]


def _differing(key: str, old: object, new: object) -> Iterator[str]:
    if old == new:
        return
    before, after = _keys_of(old), _keys_of(new)
    if before is None or after is None:
        yield key
        return
    for name in {**before, **after}:
        yield from _differing(f"{key}.{name}", before.get(name), after.get(name))


def _keys_of(value: object) -> dict[str, Any] | None:
    if isinstance(value, Section):
        # Of pairs: a section with a key that is called `keys` is no mapping, and looks like one.
        return dict(iter(value))
    return value if isinstance(value, dict) else None
