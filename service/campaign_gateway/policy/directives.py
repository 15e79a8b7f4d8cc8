"""What a caller's `Cache-Control` asks for (RFC 9111 section 5.2.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

_LONGEST = 2.0**31
"""Seconds; larger deltas are read as this (RFC 9111 section 1.2.2)."""
_TAKE_SECONDS = frozenset({"max-age", "min-fresh", "max-stale"})


@dataclass(frozen=True, slots=True)
class RequestDirectives:
    """What is asked for is paid from the budget if it can be, and evicts nothing. Seconds; None where not asked."""

    no_cache: bool = False
    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    """How stale an answer may be; infinite when the directive came without a value."""
    only_if_cached: bool = False
    newer_than: float | None = None
    """The moment of a write, in seconds of the store's clock: only answers validated after it count."""


NO_DIRECTIVES = RequestDirectives()


def read_directives(cache_control: str | None, pragma: str | None = None) -> RequestDirectives:
    """The directives in these header values, which may each be several lines joined with commas.

    Unknown directives are ignored, and so is one whose argument cannot be read: what nobody understands costs no call.
    (Where RFC 9111 section 4.2.1 encourages the strictest reading, it speaks of answers.) `Pragma: no-cache` counts
    only without a `Cache-Control` (section 5.4).
    """
    if cache_control is None:
        return RequestDirectives(no_cache=True) if ("no-cache", None) in _directives(pragma or "") else NO_DIRECTIVES
    names, seconds = set(), dict[str, float]()
    for name, value in _directives(cache_control):
        names.add(name)
        # Of a directive given twice, the first counts that can be read (section 4.2.1).
        if name in _TAKE_SECONDS and name not in seconds and (amount := _seconds(name, value)) is not None:
            seconds[name] = amount
    return RequestDirectives(
        no_cache="no-cache" in names,
        max_age=seconds.get("max-age"),
        min_fresh=seconds.get("min-fresh"),
        max_stale=seconds.get("max-stale"),
        only_if_cached="only-if-cached" in names,
    )


def _directives(field: str) -> Iterator[tuple[str, str | None]]:
    for directive in _split(field):
        name, has_value, value = directive.partition("=")
        yield name.strip().lower(), value.strip() if has_value else None


def _split(field: str) -> list[str]:
    """The members of a list field; a comma inside quotes parts nothing (RFC 9110 section 5.6.1). Takes linear time."""
    pieces = field.split('"')
    if len(pieces) % 2 == 0:
        # A quote that is never closed quotes nothing.
        return field.split(",")
    outside = (piece if index % 2 == 0 else piece.replace(",", ";") for index, piece in enumerate(pieces))
    return '"'.join(outside).split(",")


def _seconds(name: str, value: str | None) -> float | None:
    if value is None:
        return float("inf") if name == "max-stale" else None
    digits = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
    return min(float(digits.lstrip("0")[:11] or 0), _LONGEST) if digits.isascii() and digits.isdigit() else None
