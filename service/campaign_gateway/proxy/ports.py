"""What the story needs from the adapters.

Adapters implement the protocols and import nothing else of each other. The expected is a value (`Reply`, `Failure`);
exceptions carry only what interrupts a call: `Refused` by the budget, `UpstreamError` on the wire.
"""

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from campaign_gateway.contract.answers import Response
from campaign_gateway.contract.operations import Call
from campaign_gateway.policy.entry import Cause, Entry
from campaign_gateway.policy.ledger import Lane, Ledger
from campaign_gateway.policy.settle import Failure
from campaign_gateway.policy.sweeping import Head, Known, View
from campaign_gateway.problems import Problem
from campaign_gateway.proxy.ask import Stream
from campaign_gateway.proxy.epoch import Epoch

_T = TypeVar("_T")

USED_SECONDS = 600.0
"""A campaign that was asked for within this time is in use."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a store holds for a key, and the fence that stood there when it was looked up."""

    entry: Entry | None
    fence: Hashable
    """Opaque; handed back with the `put` of a fill that began after this look-up."""
    written_at: float = 0.0
    """When a write last may have changed it, as far as this process knows; 0 for never."""
    raw: object = None
    """Opaque; what the entry was made of, for the next look-up to compare."""


@dataclass(frozen=True, slots=True)
class Lead:
    """Whether this replica may fill a key, and what is stored by now."""

    is_mine: bool
    found: Found


class Put(StrEnum):
    """What became of a `put`; also the metric label `outcome`."""

    STORED = "stored"
    FENCED = "fenced"
    """An invalidation came after the fill's look-up."""
    OLDER = "older"
    """The stored entry comes from a read that started later."""
    FAILED = "failed"


class Store(Protocol):
    """Where entries live. Never raises: a store that cannot answer holds nothing."""

    def now(self) -> float:
        """Seconds since the epoch on the one clock that all users of this store share."""
        ...

    def peek(self, key: str) -> Entry | None:
        """The entry, if this process holds a copy that it may use without asking anybody."""
        ...

    def holds(self, key: str) -> bool | None:
        """Whether it may have anything of the key; None where that cannot be known without asking."""
        ...

    @property
    def epoch(self) -> Epoch:
        """Ends when `peek` may say something else of any key, but for what only time brings about."""
        ...

    @property
    def is_told(self) -> bool:
        """Whether it learns of all that ends the epoch; it ends as well when that ceases to be so."""
        ...

    async def get(self, key: str, raw: object = None) -> Found:
        """The entry and the fence of a key, in one trip.

        Args:
            key: the entry's key.
            raw: that of an earlier look-up: if nothing has changed since, this one brings the very same entry.
        """
        ...

    async def lead(self, key: str) -> Lead:
        """Takes the lead in filling the key, unless another replica has it; in one trip.

        A leader that dies loses the lead within seconds, and any leader with the next invalidation. Where replicas
        cannot agree, each leads.
        """
        ...

    async def leave(self, key: str, fence: Hashable) -> None:
        """Gives up the lead, after the fill was stored or failed, and wakes those who `follow`.

        Args:
            key: the entry's key.
            fence: that of the look-up that took the lead; an invalidation since has ended the lead already.
        """
        ...

    async def follow(self, key: str, seconds: float) -> None:
        """Waits until the key's leader has left, or so long."""
        ...

    async def put(self, key: str, entry: Entry, fence: Hashable, keep: float) -> Put:
        """Stores the entry for `keep` seconds, unless the fence moved or a later read is stored already."""
        ...

    async def invalidate(self, key: str, by: Cause) -> None:
        """Moves the fence: what is stored needs a new proof, and no fill that looked up before now will be stored.

        Args:
            key: an entry's key, or that of all answers to an operation of a stream (`all_of`).
            by: why.
        """
        ...

    def invalidated_at(self, key: str) -> float:
        """When the key, or all of its operation, was last invalidated, as far as this process knows; 0 for never."""
        ...

    async def tell_written(self, writer: str) -> None:
        """Lets all replicas know that a write by `writer` (see `proxy.versions`) has just ended."""
        ...

    async def tell_hinted(self, stream: str, campaigns: Sequence[str]) -> bool:
        """Lets the other replicas know which campaigns of a stream are to be read first (see `proxy.hints`).

        Returns:
            Whether there is somebody who may have heard it.
        """
        ...


class Board(Protocol):
    """What polls of a stream's list have shown, for all replicas, and which of them looks after it. Never raises."""

    def view(self, stream: str) -> View:
        """What is known, without asking anybody. Its frozen value may be seconds old where replicas share it."""
        ...

    def ask(self, stream: str, id_: str, now: float) -> None:
        """Notes that a caller asked for the campaign and got it: each time, or now and then while answers stand."""
        ...

    def used(self, stream: str) -> Mapping[str, float]:
        """The campaigns in use (`USED_SECONDS`) and when each was last asked for, without asking anybody.

        By callers of this replica; while it is leading, by those of all replicas, as of about a second ago.
        """
        ...

    def interest(self, stream: str) -> Mapping[str, float]:
        """How often each campaign in use was asked for of late, by the callers that `used` counts.

        A read counts half after each minute. Of hits that go on only some are noted (see `ask`), while each answer that
        is out of date counts.
        """
        ...

    def is_leading(self, stream: str) -> bool:
        """Whether this replica is certainly the one that looks after the stream's list, without asking anybody.

        Of all replicas only one is, and of a stream in use one soon is. Nobody is while they cannot agree, or of a
        stream that is not in use.
        """
        ...

    async def news(self, stream: str, seconds: float) -> None:
        """Waits until something else is known of the stream's list, or so long."""
        ...

    async def wait(self, stream: str, seconds: float) -> None:
        """Waits until something calls for a look after the stream, or so long; for ever if that is infinite.

        That is: a change of `view` or of `is_leading`, or a use of it when it was not in use. What comes while nobody
        waits ends the next wait at once. For one task per stream.
        """
        ...

    async def post(self, stream: str, head: Head, updates: Mapping[str, Known]) -> bool:
        """Whether `head` and `changed` have taken the place of what was known when `head.number` was one less."""
        ...


class LedgerLostError(Exception):
    """The ledgers cannot be reached, or not be changed. Whether the change was made is not known."""


class Ledgers(Protocol):
    """Where the accounts' budgets are written down."""

    is_shared: bool
    """Whether other replicas change them too."""
    wants_ends: bool
    """Whether the end of a call has to be in them at once: they outlive this process, and nobody reports after it."""

    def now(self) -> float:
        """Seconds since the epoch on the one clock that all who share the ledgers use."""
        ...

    @property
    def uncertainty(self) -> float:
        """How far `now` may be off that clock, in seconds."""
        ...

    def server(self, account: str) -> str:
        """Names the run of the server that keeps the account's; another one may have lost the latest changes."""
        ...

    async def change(self, account: str, step: Callable[[Ledger | None, float], tuple[Ledger, _T]]) -> _T:
        """What `step` returned, beside the ledger that it made and that is now in force.

        Args:
            account: whose ledger.
            step: a pure function of the ledger (None where there is none) and the time; may be run several times.

        Raises:
            LedgerLostError: nothing is known to have changed.
        """
        ...

    async def notify(self, accounts: Collection[str]) -> frozenset[str]:
        """Asks whoever else uses the ledgers of these accounts to look at them now.

        Nothing rests on it but how soon they do.

        Args:
            accounts: their names; may be none.

        Returns:
            The accounts that anybody asked to look at within the last seconds.

        Raises:
            LedgerLostError: nobody was asked, as far as is known.
        """
        ...


class Permit(Protocol):
    """The right to send one call."""

    leave_by: float
    """The moment on the monotonic clock after which the request may not leave any more."""

    def void(self) -> None:
        """Says that the call certainly never left."""
        ...


class Refused(Exception):  # noqa: N818 - a verdict, not an error
    """No permit: the budget is spent or the account is paused."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


class Budget(Protocol):
    """The calls an account may make."""

    def refusal(self, account: str, lane: Lane, client: str, key: str, wait: float) -> Failure | None:
        """Why a permit would be refused, as far as is known without asking anybody; None where one may be had.

        A caller who is told by this when to come back may be sure of a permit then.

        Args:
            account: whose budget.
            lane: what the call would be for.
            client: who asks for it.
            key: what it asks for, by which it is known when it is back.
            wait: seconds to wait for a permit at most.
        """
        ...

    def permit(
        self, account: str, lane: Lane, client: str, wait: float, key: str = ""
    ) -> AbstractAsyncContextManager[Permit]:
        """One permit, had by entering; leaving says that the call ended.

        Args:
            account: whose budget.
            lane: what the call is for.
            client: who asked for it; slots are shared fairly between clients.
            wait: seconds to wait for a permit at most.
            key: what is asked for; see `refusal`.

        Raises:
            Refused: on entering, at once when waiting cannot help.
        """
        ...

    async def pause(self, account: str, seconds: float | None) -> float:
        """Stops all calls of the account: the platform said that its limit is exceeded.

        Args:
            account: whose budget.
            seconds: as told; None where the platform did not say.

        Returns:
            The seconds from now until calls may be made again.
        """
        ...


class UpstreamError(Exception):
    """A call that got no whole answer."""

    def __init__(self, problem: Problem, detail: str, *, was_sent: bool = True, may_repeat: bool = False) -> None:
        """An interrupted call.

        Args:
            problem: what to tell a caller.
            detail: one sentence, nothing secret.
            was_sent: False only if the request certainly never left.
            may_repeat: a kept connection was closed instead of an answer, most likely before the request was read; a
                read may be repeated then, a write may not.
        """
        super().__init__(detail)
        self.failure = Failure(problem, detail, was_sent=was_sent)
        self.was_sent = was_sent
        self.may_repeat = may_repeat


class Upstream(Protocol):
    """The platform."""

    async def send(self, stream: Stream, call: Call, leave_by: float) -> Response:
        """The platform's answer to the call, signed for the stream and sent exactly once.

        Args:
            stream: who signs.
            call: the request.
            leave_by: the moment on the monotonic clock after which it may not leave any more.

        Raises:
            UpstreamError: no whole answer came.
        """
        ...

    def credential_version(self, stream: Stream) -> int:
        """A number that changes with the secret the stream signs with."""
        ...

    async def renew_credential(self, stream: Stream, version: int) -> bool:
        """Whether there is another secret than `version`'s, which the platform refused; looks at its source again."""
        ...


class Meter(Protocol):
    """Where the story's numbers go. All arguments are from closed sets."""

    def upstream_call(self, stream: str, operation: str, reason: str, outcome: str, seconds: float) -> None:
        """One call ended."""
        ...

    def budget_wait(self, lane: str, seconds: float) -> None:
        """A permit was given or refused after this wait."""
        ...

    def collapsed(self, scope: str) -> None:
        """A request joined another one's fill."""
        ...

    def store_operation(self, store: str, operation: str, outcome: str) -> None:
        """A store was asked."""
        ...

    def proof(self, kind: str, outcome: str) -> None:
        """A read renewed or replaced an entry, or failed to."""
        ...

    def invalidation(self, cause: str) -> None:
        """A write, a purge or a hint invalidated stored answers."""
        ...

    def change_visible(self, stream: str, seconds: float) -> None:
        """A change of a campaign was stored, so many seconds after it was made."""
        ...


class HitMeter(Protocol):
    """Where hits of one kind go."""

    def hit(self, seconds: float, age: float) -> None:
        """One request was answered, after so long, from an entry so old."""
        ...


class RequestMeter(Protocol):
    """Where the API's numbers go. All arguments are from closed sets but the numbers."""

    def request(self, operation: str, client: str, status: int, cache: str, seconds: float) -> None:
        """One request was answered."""
        ...

    def served(self, operation: str, age: float) -> None:
        """An answer was made from an entry of this age in seconds."""
        ...

    def hits(self, operation: str, client: str, status: int) -> HitMeter:
        """Where hits of one kind are counted: each is a `request` and a `served`."""
        ...


class HitLog(Protocol):
    """Where the log lines of hits go, which are too many to be made one by one."""

    def caller(self, fields: Mapping[str, object]) -> bytes:
        """The first members of a line, after the request's id, which all hits of a caller have in common."""
        ...

    def answer(self, fields: Mapping[str, object]) -> bytes:
        """Those after them, which all hits of one kind have in common: a pattern for `%` with the age in seconds."""
        ...

    def ageless(self, fields: Mapping[str, object]) -> bytes:
        """As `answer` with the age filled in, of an answer that has none."""
        ...

    def hit(self, request_id: bytes, caller: bytes, answer: bytes, seconds: float) -> None:
        """One line, soon.

        Args:
            request_id: plain: nothing that JSON would have to escape.
            caller: made by `caller`.
            answer: made by `answer`, with the age filled in, or by `ageless`.
            seconds: how long it took.
        """
        ...
