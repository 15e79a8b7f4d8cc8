"""What the measures of a probe mean. Pure: what was seen in, findings and a document out."""

import re
from typing import Any

from campaign_gateway.contract.listing import Channel
from campaign_gateway.doctor.findings import Check, Finding, ok, skipped, warning
from campaign_gateway.doctor.measures import Seen, differences_of, granted_rows, hidden_of, is_cut, lag_of, sort_of
from campaign_gateway.policy.forecast import Forecast, described
from campaign_gateway.policy.trust import MOST_LAG_SECONDS

_LIMIT_HEADER = re.compile(r"rate-?limit|^retry-after$", re.IGNORECASE)
_LIMIT_ITSELF = re.compile(r"^(x-)?rate-?limit-limit$", re.IGNORECASE)
_VALIDATORS = ("ETag", "Last-Modified")


def judge(seen: Seen, budget: tuple[int, float], lag: float | None, forecast: Forecast, alias: str) -> list[Finding]:
    """What the probe has found, and what it means.

    Args:
        seen: what it saw.
        budget: calls and seconds of the account's window, by the settings.
        lag: `sweep.lag` in seconds; None where the gateway measures it.
        forecast: what to expect of lists like these.
        alias: the stream's.
    """
    return [
        _sort(seen, alias),
        _page(seen, alias),
        _total(seen, alias),
        _by_id(seen, alias),
        _validators(seen, alias),
        _limits(seen, alias, budget),
        _lag_found(seen, alias, lag),
        _bounds(seen, alias, forecast),
    ]


def _sort(seen: Seen, alias: str) -> Finding:
    sort = sort_of(seen)
    if sort is None:
        return skipped(Check.PROBE_SORT, alias, "not known: too few campaigns differ in updatedAt")
    if sort:
        rows = sum(len(one.page.rows) for one in seen.pages)
        return ok(Check.PROBE_SORT, alias, f"sortBy updatedAt is honoured, both ways, in {rows} rows")
    found = "sortBy updatedAt is not honoured: polls cannot tell what has changed"
    return warning(Check.PROBE_SORT, alias, found, "only the blind bound holds; ask the vendor how to sort the list")


def _page(seen: Seen, alias: str) -> Finding:
    limit = max((one.limit for one in seen.pages), default=0)
    granted = granted_rows(seen)
    if granted is None:
        most = max((len(one.page.rows) for one in seen.pages), default=0)
        return ok(Check.PROBE_PAGE, alias, f"each list fits into one page, of {most} rows at most")
    means = "" if granted >= limit else f": full scans take {limit / granted:.1f} times as many calls"
    return ok(Check.PROBE_PAGE, alias, f"{granted} rows are granted where {limit} are asked for{means}")


def _total(seen: Seen, alias: str) -> Finding:
    hidden = {channel: count for channel in Channel if (count := hidden_of(seen, channel)) is not None}
    if not hidden:
        return skipped(Check.PROBE_TOTAL, alias, "not known: totalResults is not stated, or its end was not reached")
    if not any(hidden.values()):
        return ok(Check.PROBE_TOTAL, alias, "totalResults counts what is shown")
    said = " and ".join(
        f"{abs(count)} {'more' if count > 0 else 'fewer'} ({channel})" for channel, count in hidden.items() if count
    )
    found = f"totalResults counts at least {said} than are shown"
    if min(hidden.values()) < 0:
        advice = "campaigns after the first page are validated by id only; ask the vendor what totalResults counts"
        return warning(Check.PROBE_TOTAL, alias, found, advice)
    return ok(Check.PROBE_TOTAL, alias, f"{found}, which the gateway allows for")


def _by_id(seen: Seen, alias: str) -> Finding:
    if not seen.campaigns:
        return skipped(Check.PROBE_BY_ID, alias, "not known: no campaign was read by id")
    count = len(seen.campaigns)
    if differ := differences_of(seen):
        found = f"rows and answers by id differ in {', '.join(differ)}"
        if "updatedAt" in differ:
            return warning(Check.PROBE_BY_ID, alias, found, "polls validate less: ask the vendor what moves updatedAt")
        return warning(
            Check.PROBE_BY_ID, alias, found, "do not ask for these with ?fields=, which may answer out of rows"
        )
    return ok(Check.PROBE_BY_ID, alias, f"{count} row{'s'[: count > 1]} agree{'s'[: count == 1]} with the answer by id")


def _validators(seen: Seen, alias: str) -> Finding:
    found = [name for name in _VALIDATORS if name.lower() in seen.headers]
    if not seen.campaigns:
        return skipped(Check.PROBE_VALIDATORS, alias, "not known: no campaign was read by id")
    if not found:
        return ok(Check.PROBE_VALIDATORS, alias, "none, as documented: no ETag and no Last-Modified")
    answered = {None: "", True: ", and a conditional read is answered with 304", False: ", which change nothing"}
    return ok(Check.PROBE_VALIDATORS, alias, f"{' and '.join(found)}{answered[seen.is_validated]}")


def limit_headers(seen: Seen) -> dict[str, str]:
    """The fields that speak of a limit, by their names in lower case."""
    return {name: value[:80] for name, value in seen.headers.items() if _LIMIT_HEADER.search(name)}


def _limits(seen: Seen, alias: str, budget: tuple[int, float]) -> Finding:
    fields = limit_headers(seen)
    if not seen.campaigns:
        return skipped(Check.PROBE_LIMITS, alias, "not known: no campaign was read by id")
    if not fields:
        return ok(Check.PROBE_LIMITS, alias, "no header speaks of the limit, as documented")
    said = ", ".join(f"{name}: {value}" for name, value in fields.items())
    calls, window = budget
    stated = {int(value) for name, value in fields.items() if _LIMIT_ITSELF.match(name) and value.isdecimal()}
    if stated - {calls}:
        advice = "find out what it counts, and write the account's real limit into budgets"
        return warning(Check.PROBE_LIMITS, alias, f"{said}; budgets say {calls} calls in {window:g} s", advice)
    return ok(Check.PROBE_LIMITS, alias, said)


def _lag_found(seen: Seen, alias: str, lag: float | None) -> Finding:
    known, allowed = lag_of(seen), MOST_LAG_SECONDS if lag is None else lag
    if not seen.campaigns:
        return skipped(Check.PROBE_LAG, alias, "not known: no campaign was read by id")
    if known > allowed:
        advice = "set sweep.lag above it: changes are seen later than the signal bound says"
        return warning(
            Check.PROBE_LAG, alias, f"a row was at least {known:.0f} s behind, and {allowed:g} s is allowed", advice
        )
    if known:
        return ok(Check.PROBE_LAG, alias, f"a row was at least {known:.1f} s behind")
    count = len(seen.campaigns)
    found = f"none in {count} comparison{'s'[: count > 1]} with answers by id, nor between two looks at each list"
    return ok(Check.PROBE_LAG, alias, f"{found}: that proves no bound, and sweep.lag: auto goes on measuring")


def _bounds(seen: Seen, alias: str, forecast: Forecast) -> Finding:
    rows = dict(described(forecast))
    if sort_of(seen) is False:
        rows = {name: value for name, value in rows.items() if name != "signal bound" and not name.startswith("poll")}
    said = "; ".join(f"{name} {value}" for name, value in rows.items())
    return ok(Check.PROBE_BOUNDS, alias, f"with all campaigns in use: {said}")


def as_document(seen: Seen, calls: int, forecast: Forecast) -> dict[str, Any]:
    """What was measured, for programs. None stands for what is not known."""
    sort = sort_of(seen)
    firsts = {channel: one for channel in Channel if (one := seen.first(channel)) is not None}
    return {
        "calls": calls,
        "sort": None if sort is None else "honoured" if sort else "ignored",
        "pages": {
            channel.value: {"asked": one.limit, "granted": len(one.page.rows), "is_cut": is_cut(one)}
            for channel, one in firsts.items()
        },
        "total": {
            channel.value: {"stated": one.page.total, "beyond_shown": hidden_of(seen, channel)}
            for channel, one in firsts.items()
        },
        "by_id": {"compared": len(seen.campaigns), "differ": list(differences_of(seen))},
        "validators": [name for name in _VALIDATORS if name.lower() in seen.headers],
        "not_modified": seen.is_validated,
        "limit_headers": limit_headers(seen),
        "lag_at_least_seconds": round(lag_of(seen), 3),
        "bounds": {
            "signal_seconds": None if sort is False else round(forecast.signal, 1),
            "blind_seconds": round(forecast.blind, 1),
        },
    }
