"""Whether answers by id show changes that the list does not."""

from dataclasses import dataclass

from campaign_gateway.policy.list_scan import Scan
from campaign_gateway.policy.settle import Fill
from campaign_gateway.policy.stored import Stored
from campaign_gateway.policy.sweeping import IndexedCampaign, IndexSnapshot, ListFlaw, has_changed, is_listed_reliably

STRIKES = 2
"""Changes that answers by id show and rows do not, before the list is not believed any longer."""


@dataclass(slots=True)
class _Seen:
    """A change that a read by id showed, and that no row has shown yet."""

    read_at: float
    shows_revision: bool


class Disagreement:
    """Compares changes that reads by id have shown with what rows have shown since."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._strikes = 0

    def clear(self) -> None:
        """Begins anew."""
        self._seen.clear()
        self._strikes = 0

    def note(self, id_: str, before: Stored | None, fill: Fill, indexed: IndexedCampaign) -> None:
        """Notes a read by id that showed another state than one that the list had validated."""
        if (
            before is None
            or fill.is_unchanged
            or fill.stored.absence is not None
            or not is_listed_reliably(before, indexed)
        ):
            return
        self._seen[id_] = _Seen(fill.stored.validated_at, shows_revision=fill.stored.revision != before.revision)

    def found(self, scan: Scan, snapshot: IndexSnapshot, lag: float) -> ListFlaw | None:
        """The flaw of a poll that does not show what was read by id `lag` seconds before it, or earlier."""
        for id_, seen in list(self._seen.items()):
            indexed, row = snapshot.campaigns.get(id_), scan.rows.get(id_)
            if indexed is None or indexed.channel is not scan.channel or scan.began < seen.read_at + lag:
                continue
            del self._seen[id_]
            if indexed.since > seen.read_at or (row is not None and has_changed(indexed, row)):
                self._strikes = 0
                continue
            self._strikes += seen.shows_revision
        return ListFlaw.DISAGREES if self._strikes >= STRIKES else None
