"""Lists of campaigns, and polls and full scans over them while they stand still."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from campaign_gateway.contract.listing import Channel, Page, Row
from campaign_gateway.policy.entry import Entry
from campaign_gateway.policy.list_scan import Scan, ScanResult, begin, conclude, conclude_full, learn, step
from campaign_gateway.policy.sweeping import View, apply
from tests.support.builders import NOW, entry, stamp

LONG_AGO = NOW - 5000
LASTS, BLIND = 30.0, 300.0


def row(id_: str, changed: float = LONG_AGO, *, status: str = "Ready", mark: str | None = "by-time") -> Row:
    updated_at = stamp(changed) if mark == "by-time" else mark
    return Row(id_, f"{updated_at}||{status}", updated_at, status, {"status": status})


def rows(count: int, newest: float = LONG_AGO) -> list[Row]:
    """So many campaigns, changed one second after the other."""
    return [row(f"c{number}", newest - number) for number in range(count)]


def paged(listed: Sequence[Row], scan: Scan, size: int = 100, **fields: Any) -> Page:
    """What the platform answers to the scan's next question."""
    assert scan.skip is not None
    shown = tuple(listed[scan.skip : scan.skip + size])
    page = Page(shown, len(listed), has_more=scan.skip + len(shown) < len(listed))
    return replace(page, **fields)


def polled(
    view: View,
    listed: Sequence[Row],
    now: float,
    channel: Channel = Channel.VOICE,
    size: int = 100,
    **fields: Any,
) -> Scan:
    """A whole poll of a list that stands still."""
    scan = begin(channel, now)
    while scan.skip is not None:
        scan = step(scan, paged(listed, scan, size, **fields), view)
    return scan


def seen(view: View, listed: Sequence[Row], now: float, **options: Any) -> tuple[View, ScanResult]:
    """The view after such a poll, which took a second."""
    scan = polled(view, listed, now, **options)
    assert scan.flaw is None
    result = conclude(scan, view, now + 1, LASTS)
    return apply(view, replace(result.head, blind=BLIND), result.updates), result


def scanned(view: View, listed: Sequence[Row], now: float, channel: Channel = Channel.VOICE, **options: Any) -> View:
    """The view after a full scan, which took a second."""
    size = options.pop("size", 100)
    scan, met = begin(channel, now, is_full=True), set[str]()
    while scan.skip is not None:
        scan = step(scan, paged(listed, scan, size, **options), view)
        assert scan.flaw is None
        met |= scan.rows.keys()
        result = learn(view, channel, scan.rows.values(), now + 1)
        view = apply(view, result.head, result.updates)
    ended = conclude_full(scan, met, view, now + 1)
    return view if ended is None else apply(view, ended.head, ended.updates)


def view_of(listed: Sequence[Row], now: float = NOW - 100, **options: Any) -> View:
    """The view after the first poll and the first full scan of the list."""
    view, _ = seen(View(), listed, now, **options)
    return scanned(view, listed, now, **options)


def read(id_row: Row, at: float) -> Entry:
    """What a read by id brought, begun then."""
    return entry(NOW - at, mark=id_row.updated_at)
