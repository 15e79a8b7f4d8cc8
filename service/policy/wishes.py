"""What a caller's `Cache-Control` asks for (RFC 9111 section 5.2.1)."""

import re
from dataclasses import dataclass

_DIRECTIVE = re.compile(r'\s*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)(?:\s*=\s*(?:"([^"]*)"|([^\s,"]*)))?\s*(?:,|$)')

_LONGEST = 2**31
"""Seconds; larger deltas are read as this (RFC 9111 section 1.2.2)."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """A wish is paid from the budget when it can be; it never evicts anything. Seconds; None where not asked."""

    no_cache: bool = False
    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    """How stale an answer may be; infinite when the directive came without a value."""
    only_if_cached: bool = False


NO_WISHES = Wishes()


def read_wishes(cache_control: str | None, pragma: str | None = None) -> Wishes:
    """The wishes in these header values, which may each be several lines joined with commas.

    Unknown directives are ignored; a directive with an unreadable value counts as its strictest form, as RFC 9111
    section 4.2.1 encourages. `Pragma: no-cache` counts only without a `Cache-Control` (section 5.4).
    """
    if cache_control is None:
        return Wishes(no_cache=True) if pragma is not None and "no-cache" in pragma.lower() else NO_WISHES
    given = {name.lower(): quoted or token for name, quoted, token in _DIRECTIVE.findall(cache_control)}
    return Wishes(
        no_cache="no-cache" in given,
        max_age=_seconds(given["max-age"], unreadable=0.0) if "max-age" in given else None,
        min_fresh=_seconds(given["min-fresh"], unreadable=float(_LONGEST)) if "min-fresh" in given else None,
        max_stale=_max_stale(given["max-stale"]) if "max-stale" in given else None,
        only_if_cached="only-if-cached" in given,
    )


def _max_stale(value: str) -> float:
    return _seconds(value, unreadable=0.0) if value else float("inf")


def _seconds(value: str, *, unreadable: float) -> float:
    if not (value.isascii() and value.isdigit()):
        return unreadable
    return float(min(int(value[:10]), _LONGEST))
