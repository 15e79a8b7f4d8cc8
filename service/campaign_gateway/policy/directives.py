"""What a caller's `Cache-Control` asks for (RFC 9111 section 5.2.1)."""

from dataclasses import dataclass

_LONGEST = 2.0**31
"""Seconds; larger deltas are read as this (RFC 9111 section 1.2.2)."""


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

    Unknown directives are ignored; a directive with an unreadable value counts as its strictest form, as RFC 9111
    section 4.2.1 encourages. `Pragma: no-cache` counts only without a `Cache-Control` (section 5.4).
    """
    if cache_control is None:
        return (
            RequestDirectives(no_cache=True) if pragma is not None and "no-cache" in pragma.lower() else NO_DIRECTIVES
        )
    given: dict[str, str | None] = {}
    for directive in _split(cache_control):
        name, has_value, value = directive.partition("=")
        # Of a directive given twice, the first counts (section 4.2.1).
        given.setdefault(name.strip().lower(), value.strip() if has_value else None)
    return RequestDirectives(
        no_cache="no-cache" in given,
        max_age=_seconds(given["max-age"], strictest=0.0) if "max-age" in given else None,
        min_fresh=_seconds(given["min-fresh"], strictest=_LONGEST) if "min-fresh" in given else None,
        max_stale=_max_stale(given["max-stale"]) if "max-stale" in given else None,
        only_if_cached="only-if-cached" in given,
    )


def _split(field: str) -> list[str]:
    """The members of a list field; a comma inside quotes parts nothing (RFC 9110 section 5.6.1). Takes linear time."""
    pieces = field.split('"')
    if len(pieces) % 2 == 0:
        # A quote that is never closed quotes nothing.
        return field.split(",")
    outside = (piece if index % 2 == 0 else piece.replace(",", ";") for index, piece in enumerate(pieces))
    return '"'.join(outside).split(",")


def _max_stale(value: str | None) -> float:
    return float("inf") if value is None else _seconds(value, strictest=0.0)


def _seconds(value: str | None, *, strictest: float) -> float:
    digits = value or ""
    if len(digits) > 1 and digits[0] == digits[-1] == '"':
        digits = digits[1:-1]
    if not (digits.isascii() and digits.isdigit()):
        return strictest
    return min(float(digits.lstrip("0")[:11] or 0), _LONGEST)
