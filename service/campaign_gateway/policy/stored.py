"""What the cache keeps for one key: what the platform answered, and when it was asked."""

import hashlib
import re
from dataclasses import dataclass, field, replace
from sys import intern

from campaign_gateway.contract.answers import Answer, Verdict
from campaign_gateway.contract.document import members, text_of
from campaign_gateway.contract.revisions import instant
from campaign_gateway.policy.clock_offset import AGREED, ClockOffset

_NAME = r"[A-Za-z0-9!#$&^_.+-]{1,64}"
_JSON_TYPE = re.compile(
    rf'(?=[^;]*json){_NAME}/{_NAME}( *; *{_NAME}=({_NAME}|"[A-Za-z0-9 !#$&^_.+/:-]{{0,64}}")){{0,4}}',
    re.IGNORECASE,
)
"""RFC 9110 section 8.3.1, within bounds."""


CLOCKS_DIFFER_SECONDS = 1.0
"""A moment may lie this far ahead of the clock, whose readings differ between replicas. A later one proves nothing."""


def is_from_the_future(moment: float, now: float) -> bool:
    """Whether nothing can have happened at that moment yet, so that the clock was another one, or somebody lies."""
    return moment > now + CLOCKS_DIFFER_SECONDS


@dataclass(frozen=True, slots=True)
class Absence:
    """The platform's own words for "no such campaign", kept to answer with them again."""

    status: int
    code: str | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored answer: a campaign, or the knowledge that there is none. What is known of it since is `Evidence`."""

    body: bytes
    """The platform's bytes, unchanged; empty for an absence."""
    content_type: str
    content: bytes
    """Digest of the body's content, equal where only spelling differs; empty for an absence."""
    revision: str | None
    campaign_status: str | None
    validated_at: float
    """When the read by id began that last validated it, in seconds of the store's clock."""
    absence: Absence | None = None
    clock_offset: float = 0.0
    """Seconds to take out of the time that its revision names, to have it by the store's clock: the platform's may
    differ.

    Found out when it was read, and stored, so that its lifetime is the same on every replica.
    """
    _digest: bytes = field(default=b"", init=False, compare=False, repr=False)
    """The body's, once somebody has asked for it: of a long one that takes longer than all the rest of an answer.

    Never copied by `replace`, which may be given another body; nor is what follows.
    """

    _data: tuple[int, int] | None = field(default=None, init=False, compare=False, repr=False)
    """Where in the body its member `data` stands, once somebody has asked."""

    @property
    def data(self) -> bytes:
        """The body's member `data` as it is spelled; `null` where there is none."""
        if self._data is None:
            _, text = members(text_of(self.body)).get("data", ("", ""))
            spelled = text.encode()
            start = self.body.find(spelled) if spelled else 0
            object.__setattr__(self, "_data", (start, start + len(spelled)))
        start, end = self._data or (0, 0)
        return self.body[start:end] or b"null"

    @property
    def etag(self) -> str:
        """Strong validator with its quotes, made of the body."""
        if not self._digest:
            object.__setattr__(self, "_digest", _digest(self.body))
        return f'"{self._digest.hex()}"'

    @property
    def updated_at(self) -> float | None:
        """The time its revision names, in seconds of the store's clock; None when there is no readable one."""
        moment = instant(self.revision)
        return None if moment is None else moment - self.clock_offset


def make_etag(body: bytes) -> str:
    """The strong validator of these bytes, the same wherever and whenever it is made (RFC 9110 section 8.8.3)."""
    return f'"{_digest(body).hex()}"'


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=12).digest()


def json_type(content_type: str) -> str:
    """The media type to say of a body that is JSON."""
    # The body has been read as JSON: a label that says otherwise, or nothing, is wrong. One with a byte that no field
    # may hold would break every answer that it stands in.
    return content_type if _JSON_TYPE.fullmatch(content_type) else "application/json"


def stored_from(
    previous: Stored | None, answer: Answer, started: float, clock: ClockOffset = AGREED
) -> tuple[Stored, bool]:
    """What to store of `answer`, an `OK` or `MISSING` one to a read begun at `started`.

    Content equal to the previous one's keeps the stored bytes and tag and renews only the validation, so that a
    caller's copy stays valid while the platform reorders its keys. `clock` is the platform's, as it is known by then.

    Returns:
        What to store, and whether it is the previous one renewed.
    """
    if answer.verdict is Verdict.MISSING:
        absence = Absence(answer.response.status, answer.code, answer.message)
        return Stored(b"", "", b"", None, None, started, absence), False
    if answer.verdict is not Verdict.OK or answer.content is None:
        raise ValueError(f"{answer.verdict} validates nothing")
    if previous is not None and previous.content == answer.content:
        offset = _offset_of(previous.revision, started, clock)
        return replace(previous, validated_at=started, clock_offset=offset), True
    body = answer.response.body
    return Stored(
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
