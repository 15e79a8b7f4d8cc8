"""Lists of campaigns, and polls and full scans over them while they stand still."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from campaign_gateway.contract.listing import Channel, ListPage, Row
from campaign_gateway.policy.evidence import GOOD, Evidence, Validation
from campaign_gateway.policy.list_findings import ScanResult, conclude, conclude_full, learn
from campaign_gateway.policy.list_scan import Scan, begin, step
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexSnapshot, apply, validate_by_list
from tests.support.builders import NOW, entry, stamp

LONG_AGO = NOW - 5000
LASTS, BLIND = 30.0, 300.0


def row(id_: str, changed: float = LONG_AGO, *, status: str = "Ready", revision: str | None = "by-time") -> Row:
    updated_at = stamp(changed) if revision == "by-time" else revision
    return Row(id_, f"{updated_at}||{status}", updated_at, status, {"status": status})


def rows(count: int, newest: float = LONG_AGO) -> list[Row]:
    """So many campaigns, changed one second after the other."""
    return [row(f"c{number}", newest - number) for number in range(count)]


def paged(listed: Sequence[Row], scan: Scan, size: int = 100, **fields: Any) -> ListPage:
    """What the platform answers to the scan's next question."""
    assert not scan.has_ended
    shown = tuple(listed[scan.skip : scan.skip + size])
    page = ListPage(shown, len(listed), has_more=scan.skip + len(shown) < len(listed))
    return replace(page, **fields)


def polled(
    snapshot: IndexSnapshot,
    listed: Sequence[Row],
    now: float,
    channel: Channel = Channel.VOICE,
    size: int = 100,
    **fields: Any,
) -> Scan:
    """A whole poll of a list that stands still."""
    scan = begin(channel, now)
    while not scan.has_ended:
        scan = step(scan, paged(listed, scan, size, **fields), snapshot)
    return scan


def seen(
    snapshot: IndexSnapshot, listed: Sequence[Row], now: float, **options: Any
) -> tuple[IndexSnapshot, ScanResult]:
    """The snapshot after such a poll, which took a second."""
    scan = polled(snapshot, listed, now, **options)
    assert scan.flaw is None
    result = conclude(scan, snapshot, now + 1, LASTS)
    return apply(snapshot, replace(result.state, blind=BLIND), result.updates), result


def scanned(
    snapshot: IndexSnapshot, listed: Sequence[Row], now: float, channel: Channel = Channel.VOICE, **options: Any
) -> IndexSnapshot:
    """The snapshot after a full scan, which took a second."""
    size = options.pop("size", 100)
    scan, met = begin(channel, now, is_full=True), set[str]()
    while not scan.has_ended:
        scan = step(scan, paged(listed, scan, size, **options), snapshot)
        assert scan.flaw is None
        met |= scan.rows.keys()
        result = learn(snapshot, channel, scan.rows.values(), now + 1)
        snapshot = apply(snapshot, result.state, result.updates)
    ended = conclude_full(scan, met, snapshot, now + 1)
    return snapshot if ended is None else apply(snapshot, ended.state, ended.updates)


def snapshot_of(listed: Sequence[Row], now: float = NOW - 100, **options: Any) -> IndexSnapshot:
    """The snapshot after the first poll and the first full scan of the list."""
    snapshot, _ = seen(IndexSnapshot(), listed, now, **options)
    return scanned(snapshot, listed, now, **options)


def read(id_row: Row, at: float) -> Stored:
    """What a read by id brought, begun then."""
    return entry(NOW - at, revision=id_row.updated_at)


def by_list(stored: Stored, snapshot: IndexSnapshot, id_: str = "c0", evidence: Evidence = GOOD) -> Evidence:
    """What is known of the stored answer with what the list shows."""
    return validate_by_list(stored, evidence, snapshot.campaigns.get(id_), snapshot.state)


def validated(at: float) -> Evidence:
    """That of a poll which began then."""
    return Evidence(validation=Validation(at, LASTS, BLIND))


def superseded(since: float) -> Evidence:
    """That of a list which shows another state."""
    return Evidence(superseded_since=since)
