"""What replicas tell each other.

A key was filled (`changed`), or invalidated by a `write` or a `purge`; its leader has `left`; a client `wrote`. With a
`hint` the key is a stream's, and campaigns of it that are to be read first.

Laws of this module:

1. Nothing depends on a message for being right, but copies in other processes: they may be used only while messages
   would be heard, and for a short, configured time after that.
2. Messages are numbered where they are published, by the script that makes them true, for each part of the keys. A
   number that does not follow its part's last one means that something was missed.
3. After a gap, and after each new subscription, nothing is known of the copies: they go.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable

from campaign_gateway.store.redis.keys import Keys
from campaign_gateway.store.redis.link import FAILURES, RedisLink

_log = logging.getLogger(__name__)

PING_SECONDS = 1.0
"""How often a quiet subscription is tried."""
DEAF_SECONDS = 2.5
"""A subscription on which nothing is heard for this long, not even the answer to a ping, is a lost one."""
RETRY_SECONDS = 0.5
POLL_SECONDS = 0.5
"""How long a follower trusts that it will be told: the net under lost messages."""


class Bus:
    """One replica's ear, and the name under which it speaks."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self.sender = uuid.uuid4().hex[:12]
        self._last: dict[int, int] = {}
        """The number of each part's last message."""
        self._heard_at = float("-inf")
        self._is_subscribed = False
        self._waiting: dict[str, asyncio.Event] = {}
        self.on_published: Callable[[str], None] = lambda _: None
        """Called with each stream whose index another replica has changed."""

    def silent_for(self) -> float:
        """Seconds for which messages may have been missed; 0 while the subscription is good."""
        return 0.0 if self._is_subscribed else time.monotonic() - self._heard_at

    async def wait(self, key: str, seconds: float) -> None:
        """Waits until something is said about the key, or so long at most, or until it is time to look anyway."""
        event = self._waiting.setdefault(key, asyncio.Event())
        try:
            async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                await event.wait()
        except TimeoutError:
            self._waiting.pop(key, None)

    async def listen(
        self, on_news: Callable[[str, str], None], on_gap: Callable[[], None], on_lost: Callable[[], None]
    ) -> None:
        """Hears what others say, for as long as it runs.

        Args:
            on_news: called with the word and the key of all that other replicas say.
            on_gap: called when messages were, or may have been, missed.
            on_lost: called when from now on nothing is heard.
        """
        failure = ""
        while True:
            try:
                await self._subscription(on_news, on_gap)
            except FAILURES as error:
                # Once for each loss, and once for each reason why it is not to be had at all.
                if self._is_subscribed or failure != type(error).__name__:
                    failure = type(error).__name__
                    _log.warning("the bus is lost (%s)", failure)
            self._is_subscribed = False
            on_lost()
            await asyncio.sleep(RETRY_SECONDS)

    async def _subscription(self, on_news: Callable[[str, str], None], on_gap: Callable[[], None]) -> None:
        async with self._link.client.pubsub() as ear:
            await ear.subscribe(self._keys.channel)
            while True:
                heard = await ear.get_message(timeout=PING_SECONDS)
                now = time.monotonic()
                if heard is None:
                    if self._is_subscribed and now - self._heard_at > DEAF_SECONDS:
                        raise ConnectionError("nothing is heard")
                    await ear.ping()
                    continue
                self._heard_at = now
                if heard["type"] == "subscribe":
                    self._last.clear()
                    on_gap()
                    self._is_subscribed = True
                elif heard["type"] == "message":
                    self._take(heard["data"], on_news, on_gap)

    def _take(self, data: bytes, on_news: Callable[[str, str], None], on_gap: Callable[[], None]) -> None:
        words = data.decode("utf-8", "replace").split(" ", 3)
        if len(words) != 4 or not words[2].isdigit():  # noqa: PLR2004 - kind, sender, number, key
            return
        kind, sender, number, key = words
        part = self._keys.part(key)
        if part in self._last and int(number) != self._last[part] + 1:
            on_gap()
        self._last[part] = int(number)
        if (event := self._waiting.pop(key, None)) is not None:
            event.set()
        if sender == self.sender:
            return
        if kind == "swept":
            self.on_published(key)
        on_news(kind, key)
