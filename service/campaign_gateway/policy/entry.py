"""What the cache keeps for one key."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from sys import intern

from campaign_gateway.contract.answers import Answer, Verdict
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.clock_offset import AGREED, ClockOffset


@dataclass(frozen=True, slots=True)
class Absence:
    """The platform's own words for "no such campaign", kept to answer with them again."""

    status: int
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Swept:
    """What the list says of an entry; see `policy.sweeping`."""

    at: float
    """When the poll that proved it began, or ended that showed it to be out of date."""
    is_changed: bool = False
    """The campaign has changed since the entry was read."""
    lasts: float = 0.0
    """Seconds from `at` for which the proof is good."""
    blind: float = 0.0
    """Seconds from the entry's read by id after which no poll proves it any longer."""


class Cause(StrEnum):
    """Why stored answers need a new proof."""

    PURGE = "purge"
    """An operator wants them read again, or a caller says that they have changed; until then they are stale."""
    WRITE = "write"
    """A write may have changed what they show; nobody gets them before the platform was asked."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """The last invalidation of an entry's key that still matters for it."""

    at: float
    """Seconds of the store's clock."""
    by: Cause
    is_open: bool
    """Whether the entry was read before it. Else it was read soon after a write, and may show the state before it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer: a campaign, or the knowledge that there is none."""

    body: bytes
    """The platform's bytes, unchanged; empty for an absence."""
    content_type: str
    content: bytes
    """Digest of the body's content, equal where only spelling differs; empty for an absence."""
    revision: str | None
    campaign_status: str | None
    validated_at: float
    """When the read by id that last proved it began, in seconds of the store's clock."""
    absence: Absence | None = None
    clock_offset: float = 0.0
    """Seconds to take out of the time that its revision names to have it by the store's clock; the platform's differs.

    Found out when it was read, and stored, so that its lifetime is the same on every replica.
    """
    swept: Swept | None = None
    """Laid over the stored entry when it is looked at; never stored."""
    invalidation: Invalidation | None = None
    """Laid over it by the store, which knows of invalidations."""

    @property
    def etag(self) -> str:
        """Strong validator with its quotes, made of the body: some microseconds cost less than keeping it."""
        return make_etag(self.body)

    @property
    def is_invalid(self) -> bool:
        """Whether only a read by id makes it good again."""
        return self.invalidation is not None and self.invalidation.is_open

    @property
    def is_overwritten(self) -> bool:
        """Whether a write since its read may have changed what it shows."""
        return self.invalidation is not None and self.invalidation.is_open and self.invalidation.by is Cause.WRITE

    @property
    def attested_at(self) -> float:
        """When its newest proof began. Age counts from here."""
        return (
            self.validated_at if self.swept is None or self.swept.is_changed else max(self.validated_at, self.swept.at)
        )

    @property
    def updated_at(self) -> float | None:
        """The time its revision names, in seconds of the store's clock; None when there is no readable one."""
        moment = instant(self.revision)
        return None if moment is None else moment - self.clock_offset


def make_etag(body: bytes) -> str:
    """The strong validator of these bytes, the same wherever and whenever it is made (RFC 9110 section 8.8.3)."""
    return f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'


def json_type(content_type: str) -> str:
    """The media type to say of a body that is JSON."""
    # The body has been read as JSON: a label that says otherwise, or nothing, is wrong.
    return content_type if "json" in content_type.lower() else "application/json"


SETTLE_SECONDS = 10.0
"""How long after a write a read may still show the state before it."""


def settling(entry: Entry, written_at: float) -> Entry:
    """The entry, marked where it was read so soon after a write that it may show the state before it."""
    if entry.invalidation is not None or entry.validated_at - written_at > SETTLE_SECONDS:
        return entry
    return replace(entry, invalidation=Invalidation(written_at, Cause.WRITE, is_open=False))


def prove(previous: Entry | None, answer: Answer, started: float, clock: ClockOffset = AGREED) -> tuple[Entry, bool]:
    """The entry that `answer`, an `OK` or `MISSING` one to a read begun at `started`, stands for.

    Content equal to the previous entry's keeps the stored bytes and tag and renews only the proof, so that a caller's
    copy stays valid while the platform reorders its keys. `clock` is the platform's, as it is known by then.

    Returns:
        The entry, and whether it is the previous one renewed.
    """
    if answer.verdict is Verdict.MISSING:
        absence = Absence(answer.response.status, answer.code, answer.message)
        return Entry(b"", "", b"", None, None, started, absence), False
    if answer.verdict is not Verdict.OK or answer.content is None:
        raise ValueError(f"{answer.verdict} proves nothing")
    if previous is not None and previous.content == answer.content:
        offset = _offset_of(previous.revision, started, clock)
        return replace(previous, validated_at=started, clock_offset=offset, swept=None, invalidation=None), True
    body = answer.response.body
    return Entry(
        body=body,
        # Thousands of entries share a few of these.
        content_type=intern(json_type(answer.response.content_type)),
        content=answer.content,
        revision=answer.revision,
        campaign_status=answer.campaign_status and intern(answer.campaign_status),
        validated_at=started,
        clock_offset=_offset_of(answer.revision, started, clock),
    ), False


def _offset_of(revision: str | None, started: float, clock: ClockOffset) -> float:
    moment = instant(revision)
    return 0.0 if moment is None else clock.fitting(moment, started)
