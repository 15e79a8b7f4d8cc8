"""Sends a stream's changes to a webhook: one replica at a time, in order, each until it was received.

The rules are those of `policy.webhooks`. A sender counts as one who listens, so polls of the lists go on for it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from campaign_gateway.policy.webhooks import (
    LEASE_SECONDS,
    SPARE_SECONDS,
    Outcome,
    Sending,
    failed,
    is_free,
    moved,
    released,
    resumed,
    taken,
)
from campaign_gateway.proxy.change_events import rendered, rendered_reset, write_cursor
from campaign_gateway.proxy.change_window import Position, Window
from campaign_gateway.proxy.changes import Feed
from campaign_gateway.proxy.explain import Informed
from campaign_gateway.proxy.ports import Meter, SendingRecords, Target
from campaign_gateway.proxy.request import Stream

_log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""How often a process that does not send looks whether it should."""
PAUSE_SECONDS = (LEASE_SECONDS - SPARE_SECONDS) / 2
"""How long a sender waits at a time, so that its lease does not end meanwhile."""
FAILING_SECONDS = 60.0
"""After which failures are more than a target that is restarted."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Who is told of changes, and of which."""

    name: str
    target: Target
    types: Collection[str] | None
    """None for all."""


@dataclass(frozen=True, slots=True)
class _Message:
    id: str
    body: bytes
    log: str
    position: Position
    seen_at: float


class Sender:
    """Sends one stream's changes to one webhook, whenever this process has the lease."""

    def __init__(
        self, webhook: Webhook, stream: Stream, records: SendingRecords, feed: Feed, meter: Meter, me: str
    ) -> None:
        """A sender.

        Args:
            webhook: to whom.
            stream: whose changes.
            records: how far it is, for all replicas.
            feed: the changes.
            meter: where deliveries are counted.
            me: the name of this process among replicas.
        """
        self.webhook, self.stream = webhook.name, stream.alias
        self._webhook = webhook
        self._stream = stream
        self._records = records
        self._feed = feed
        self._meter = meter
        self._me = me
        self._name = f"{webhook.name}:{stream.identity}"
        self._known = Sending()
        """The record as it was seen last; where this process holds the lease, as it is to be."""
        self._began = feed.now()
        """What failed before that is nothing to it."""

    def resume(self) -> None:
        """Has it go on at once, if it has stopped or waits after a failure."""
        self._began = self._feed.now()

    @property
    def behind(self) -> float:
        """For how many seconds the oldest change has been waiting; 0 where none does."""
        return max(0.0, self._feed.now() - self._known.oldest) if self._known.oldest else 0.0

    @property
    def informed(self) -> Informed:
        """How it does, for an explanation."""
        cursor = self._cursor(self._known) if self._known.log else ""
        return Informed(self.webhook, cursor, self.behind, self.fault)

    @property
    def fault(self) -> str | None:
        """What is wrong, for people; None while changes are received, or have not been refused for long."""
        known, name = self._known, f"{self.webhook} ({self._stream.alias})"
        if known.stopped_at:
            return f"{name} has stopped after cursor {self._cursor(known)} ({known.failure}): {_CURE}"
        if known.failing_since and self._feed.now() - known.failing_since >= FAILING_SECONDS:
            return f"{name} does not take changes ({known.failure}): they are sent again and again, for a day at most"
        return None

    async def run(self) -> None:
        """Sends for as long as it runs, while this process has the lease."""
        try:
            while True:
                if await self._has_lease():
                    with self._feed.listening(self._stream.identity):
                        await self._send_all()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self._records.change(self._name, self._release)

    # The lease.

    async def _has_lease(self) -> bool:
        held = await self._records.read(self._name)
        if held is not None and held.holder != self._me:
            self._known = held
        if not is_free(held, self._me, self._began, self._feed.now()):
            return False
        kept = await self._records.change(self._name, self._take)
        self._known = kept or self._known
        if kept is None or kept.stopped_at:
            return False
        if held is not None and held.stopped_at:
            _log.info("webhook %s goes on after cursor %s", self.webhook, self._cursor(kept))
        return True

    def _take(self, held: Sending | None, now: float) -> Sending | None:
        if not is_free(held, self._me, self._began, now):
            return None
        # Where Redis has lost the record, or this process wrote it last, what is known here is newer.
        newest = self._known if held is None or held.holder == self._me else held
        return taken(newest, self._me, self._began, now)

    def _release(self, held: Sending | None, _now: float) -> Sending | None:
        return released(self._known) if held is not None and held.holder == self._me else None

    async def _keep(self, sending: Sending) -> bool:
        """Whether the record is this from now on, and the lease still held."""
        self._known = sending

        def step(held: Sending | None, now: float) -> Sending | None:
            if held is None or held.holder != self._me:
                return None
            return sending if sending.stopped_at else replace(sending, ends=now + LEASE_SECONDS)

        kept = await self._records.change(self._name, step)
        self._known = kept or sending
        return kept is not None and not kept.stopped_at

    # Deliveries.

    async def _send_all(self) -> None:
        """Sends until the lease is lost, the changes cannot be read, or sending stops."""
        while (window := await self._feed.window(self._stream.identity)) is not None:
            now = self._feed.now()
            if 0 < self._known.failing_since < self._began:
                self._known = resumed(self._known)
            if self._known.ends - now < SPARE_SECONDS or not self._known.log:
                # For the first time, from now on.
                is_new = not self._known.log
                if not await self._keep(moved(self._known, window.name, window.last) if is_new else self._known):
                    return
            elif self._known.retry_at > now:
                await asyncio.sleep(min(PAUSE_SECONDS, self._known.retry_at - now))
            elif (message := await self._next(window, now)) is None:
                await window.wait(PAUSE_SECONDS)
            elif not await self._send(message):
                return

    async def _next(self, window: Window, now: float) -> _Message | None:
        """The next change that is wanted; None if there is none, or that is not known yet."""
        known, stream = self._known, self._stream
        is_same_log = known.log == window.name
        if is_same_log and not await self._feed.catch_up(stream.identity, window, known.position):
            return None
        entries = window.after(known.position, now) if known.log == window.name else None
        if entries is None:
            id_ = f"{write_cursor(stream, window.name, window.last)}-reset"
            return _Message(id_, rendered_reset(id_, stream, now), window.name, window.last, now)
        wanted = self._webhook.types
        for entry in entries:
            if wanted is None or entry.change.type.value in wanted:
                id_, body = write_cursor(stream, window.name, entry.position), rendered(entry, stream, window.name)
                return _Message(id_, body, window.name, entry.position, entry.change.at)
        # Written down with the next delivery, or with the lease.
        self._known = replace(known, position=window.last)
        return None

    async def _send(self, message: _Message) -> bool:
        """Whether to go on."""
        known = self._known = replace(self._known, oldest=message.seen_at)
        delivery = await self._webhook.target.post(message.id, message.body)
        self._meter.webhook_delivery(self.webhook, delivery.outcome.value)
        if delivery.outcome is Outcome.RECEIVED:
            after = moved(known, message.log, message.position)
        else:
            after = failed(known, delivery, self._feed.now())
        self._say(known, after)
        return await self._keep(after)

    def _say(self, before: Sending, after: Sending) -> None:
        """One line for each change of state."""
        if after.stopped_at:
            text = "webhook %s has stopped after cursor %s (%s): %s"
            _log.error(text, self.webhook, self._cursor(after), after.failure, _CURE)
        elif after.failing_since and not before.failing_since:
            text = "webhook %s does not take a change of %s (%s): it is sent again, for a day at most"
            _log.warning(text, self.webhook, self._stream.alias, after.failure)
        elif before.failing_since and not after.failing_since:
            _log.info("webhook %s takes changes of %s again", self.webhook, self._stream.alias)

    def _cursor(self, sending: Sending) -> str:
        return write_cursor(self._stream, sending.log, sending.position)


_CURE = "mend the target, then send SIGHUP to a gateway, which goes on from there"


def behind(senders: Collection[Sender]) -> Callable[[], float]:
    """What reads how far the one that is furthest behind is."""
    return lambda: max(sender.behind for sender in senders)
