"""What replicas publish to each other.

A key was filled (`changed`); keys of one partition were invalidated together by a `write` or a `purge`; a lease was
released (`left`); a client `wrote`. With a `hint` the key is a stream's, and campaigns of it that are to be read first.

Laws of this module:

1. Nothing depends on a message for being right, but copies in other processes: they may be used only while this replica
   is subscribed, and for a short, configured time after that.
2. Messages are numbered where they are published, by the script that makes them true, for each partition of the keys. A
   number that does not follow its partition's last one means that a message was missed.
3. After a gap, and after each new subscription, nothing is known of the copies: they go.
4. Only the answer to a ping proves that all was received that had been published when that ping was sent. So a process
   that stood still for a while knows, before it reads a byte, that it may have missed something.
5. Each waiter waits for itself: one that gives up, or is cancelled, takes no other along.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from campaign_gateway.store.redis.failures import FAILURES, kind_of, read_reply
from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import RedisLink

_log = logging.getLogger(__name__)

PING_SECONDS = 0.5
"""How often it is tried whether the subscription brings everything."""
UNPROVEN_SECONDS = 1.5
"""For how long an answered ping is worth something: longer than a ping takes to be due and answered."""
MAX_QUIET_SECONDS = 2.5
"""A subscription on which nothing comes for this long, not even the answer to a ping, is lost."""
RETRY_SECONDS = 0.5
_MESSAGE = re.compile(rb"(?P<kind>[a-z]+) (?P<replica>[^ ]+) (?P<number>[0-9]{1,18}) (?P<key>.+)", re.DOTALL)
KEYS_APART = "\n"
"""What stands between the keys that are invalidated together."""
LONGEST_MESSAGE = 2**21
"""Bytes: several times what the largest purge takes. What is longer is not looked at, and counts as a gap."""
AT_A_TIME = 100
"""Keys of one message that are invalidated before others have their turn."""
_OF_KEYS = frozenset({"write", "purge"})
POLL_SECONDS = 0.5
"""How long a waiter relies on messages: the net under those that are lost."""


class _Received(NamedTuple):
    """What came on the subscription."""

    type: str
    data: bytes

    @classmethod
    def read(cls, reply: object) -> "_Received | None":
        match reply:
            case None:
                return None
            case {"type": "message", "data": bytes() as data}:
                return cls("message", data)
            case {"type": "pong", "data": bytes() as data}:
                return cls("pong", data)
            case {"type": "subscribe" | "pong" as type_}:
                return cls(type_, b"")
            case _:
                raise ValueError("nothing that a subscription brings")


class Bus:
    """One replica's subscription, and the name under which it publishes."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self.replica_id = uuid.uuid4().hex[:12]
        self._last: dict[int, int] = {}
        """The number of each partition's last message."""
        self._received_at = self._heard_until = float("-inf")
        self._ping_at = float("inf")
        """When the next ping is due, which is late only where this process stood still."""
        self._is_subscribed = False
        self._departures = 0
        """The link's, when it subscribed: what the server that it has left says is not all that is said."""
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self.on_published: Callable[[str], None] = lambda _: None
        """Called with each stream whose index another replica has changed."""
        self.on_heard: Callable[[float], None] = lambda _: None
        """Called with each moment, on the monotonic clock, up to which all that was published has been received."""

    def silent_for(self) -> float:
        """Seconds for which messages may have been missed; 0 while the subscription is good."""
        now = time.monotonic()
        if now - self._ping_at > UNPROVEN_SECONDS:
            return float("inf")
        silence = now - self._heard_until
        is_with_all = self._is_subscribed and self._departures == self._link.departures
        return 0.0 if is_with_all and silence <= UNPROVEN_SECONDS else silence

    async def wait(self, key: str, seconds: float) -> None:
        """Waits until a message about the key comes, or so long at most, or until it is time to look anyway."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(key, set()).add(waiter)
        try:
            await asyncio.wait([waiter], timeout=min(seconds, POLL_SECONDS))
        finally:
            waiters = self._waiters.get(key, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(key, None)

    async def listen(
        self, on_message: Callable[[str, str], None], on_gap: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """Receives what others publish, for as long as it runs.

        Args:
            on_message: called with the kind and the key of each message of another replica.
            on_gap: called when messages were, or may have been, missed.
            on_lost: called when the subscription is lost.
        """
        failure, self._link.on_departure = "", on_lost
        while True:
            try:
                await self._subscribe(on_message, on_gap)
            except FAILURES as error:
                # Once for each loss, and once for each reason why there is no subscription at all.
                if self._is_subscribed or failure != kind_of(error):
                    failure = kind_of(error)
                    _log.warning(
                        "subscription to other replicas lost (%s): local copies answer for cache.local_unwatched only",
                        failure,
                    )
            finally:
                self._is_subscribed, self._ping_at = False, float("inf")
                on_lost()
            await asyncio.sleep(RETRY_SECONDS)

    async def _subscribe(self, on_message: Callable[[str, str], None], on_gap: Callable[[], None]) -> None:
        self._departures = self._link.departures
        async with self._link.client.pubsub() as subscription:
            await subscription.subscribe(self._keys.channel)
            self._ping_at = time.monotonic() + PING_SECONDS
            while True:
                get = partial(subscription.get_message, timeout=max(0.0, self._ping_at - time.monotonic()))
                received = await read_reply(get, _Received.read)
                now = time.monotonic()
                if self._departures != self._link.departures:
                    raise ConnectionError("the link has left this server")
                if now >= self._ping_at:
                    if now - self._ping_at > UNPROVEN_SECONDS:
                        text = "this process stood still for %.1f s: local copies answer again once all messages are in"
                        _log.warning(text, now - self._ping_at)
                        # However long copies may answer without a subscription: this one was not lost.
                        self._heard_until = float("-inf")
                        # Commands under way may have run into their time-outs: copies then stand in for Redis.
                        on_gap()
                    self._ping_at = now + PING_SECONDS
                    # What comes back says when it was sent.
                    await subscription.ping(repr(now))
                if received is None:
                    if self._is_subscribed and now - self._received_at > MAX_QUIET_SECONDS:
                        raise ConnectionError("nothing was received")
                    continue
                self._received_at = now
                if received.type == "subscribe":
                    self._last.clear()
                    on_gap()
                    self._is_subscribed = True
                    self._hear(now)
                elif received.type == "pong":
                    self._hear(_moment(received.data))
                elif received.type == "message":
                    await self._receive(received.data, on_message, on_gap)
                    # While more has arrived already, nothing above ever waits.
                    await asyncio.sleep(0)

    def _hear(self, moment: float) -> None:
        self._heard_until = max(self._heard_until, moment)
        self.on_heard(self._heard_until)

    async def _receive(self, data: bytes, on_message: Callable[[str, str], None], on_gap: Callable[[], None]) -> None:
        if len(data) > LONGEST_MESSAGE:
            on_gap()
            return
        match = _MESSAGE.fullmatch(data)
        if match is None:
            # Somebody else's. Had it been one of ours, the next number shows that it was missed.
            return
        kind, replica_id, key = (match[part].decode("utf-8", "replace") for part in ("kind", "replica", "key"))
        keys = key.split(KEYS_APART) if kind in _OF_KEYS else [key]
        number, partition = int(match["number"]), self._keys.partition(keys[0])
        if partition in self._last and number != self._last[partition] + 1:
            on_gap()
        self._last[partition] = number
        for waiter in [waiter for key in keys for waiter in self._waiters.pop(key, ())]:
            waiter.set_result(None)
        if replica_id == self.replica_id:
            return
        if kind == "swept":
            self.on_published(key)
        for count, each in enumerate(keys, 1):
            on_message(kind, each)
            if count % AT_A_TIME == 0:
                await asyncio.sleep(0)


def _moment(data: bytes) -> float:
    """What a ping carried; long ago, if it is none of ours."""
    try:
        return min(float(data), time.monotonic())
    except ValueError:
        return float("-inf")
