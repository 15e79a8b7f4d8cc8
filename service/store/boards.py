"""What rounds of the streams' lists have shown, in Redis for all replicas.

A stream's board is a head, a row per campaign, and an order of the rows by the number of the change that wrote
them; the three change together, by one script that also checks that nobody else has changed them since. So a leader
that was deposed without noticing changes nothing, and a replica that has seen change n asks for what came after it.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec

from service.policy.sweeping import Head, Known, View, apply
from service.proxy.epoch import Epoch
from service.proxy.tasks import Tasks
from service.store.alone import NOTHING, News, note_use
from service.store.bus import Bus
from service.store.keys import Keys
from service.store.link import RedisLink, StoreDownError
from service.store.redis import RedisStore, SharedFence

TELL_SECONDS = 1.0
"""How often a replica says what its callers asked for, and looks for changes that it was not told of."""
KEEP_MILLISECONDS = 3_600_000
USED_MILLISECONDS = 3_600_000
_EPOCH_BYTES = 16

_encode = msgspec.msgpack.Encoder().encode
_heads = msgspec.msgpack.Decoder(Head)
_rows = msgspec.msgpack.Decoder(Known)


class RedisBoard:
    """Implements `Board` for all replicas on one Redis. `view` and `ask` cost no trip."""

    def __init__(self, link: RedisLink, bus: Bus, leads: RedisStore, keys: Keys, epoch: Epoch) -> None:
        """A board that ends the epoch whenever `view` says something else."""
        self._epoch = epoch
        self._link = link
        self._bus = bus
        self._leads = leads
        self._keys = keys
        self._news = News()
        self._post = link.script("post.lua")
        self._catch_up = link.script("catch_up.lua")
        self._views: dict[str, View] = {}
        self._epochs: dict[str, bytes] = {}
        self._asked: dict[str, dict[str, float]] = {}
        self._leases: dict[str, SharedFence] = {}

    def start(self, tasks: Tasks, streams: list[str]) -> None:
        """Follows the boards of these streams."""
        for stream in streams:
            tasks.spawn(self._follow(stream), name="follow the board")

    def view(self, stream: str) -> View:
        """See `Board`."""
        return self._views.get(stream) or NOTHING

    def ask(self, stream: str, id_: str, now: float) -> None:
        """See `Board`."""
        note_use(self._asked.setdefault(stream, {}), id_, now)

    async def news(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._news.wait(stream, seconds)

    async def used(self, stream: str, since: float) -> Mapping[str, float]:
        """See `Board`. One trip; what this replica alone knows while Redis is lost."""
        name = self._keys.used(stream)
        try:
            rows = await self._link.ask(
                "used", lambda: self._link.client.zrangebyscore(name, since, "+inf", withscores=True)
            )
        except StoreDownError:
            rows = []
        used = {id_.decode(): at for id_, at in rows}
        for id_, at in self._asked.get(stream, {}).items():
            if at >= since:
                used[id_] = max(at, used.get(id_, 0.0))
        return used

    async def lead(self, stream: str) -> bool:
        """See `Board`. One trip; nobody leads while Redis is lost, since all would."""
        try:
            is_mine, _, self._leases[stream] = await self._leads.lead(_lead_of(stream))
        except StoreDownError:
            return False
        return is_mine

    async def post(self, stream: str, head: Head, changed: Mapping[str, Known]) -> bool:
        """See `Board`. One trip."""
        epoch = self._epochs.get(stream, b"")
        epoch_now = epoch or uuid.uuid4().hex[:_EPOCH_BYTES].encode()
        rows = [part for id_, known in changed.items() for part in (id_.encode(), _encode(known))]
        arguments = (
            epoch,
            # Not that of the view as it stands: it may have caught up with another leader's change meanwhile.
            head.number - 1,
            epoch_now,
            head.number,
            _encode(head),
            KEEP_MILLISECONDS,
            self._keys.channel,
            self._bus.sender,
            stream,
            *rows,
        )
        names = self._names(stream)
        try:
            is_posted = await self._link.ask("post", lambda: self._post(keys=names, args=arguments))
        except StoreDownError:
            return False
        self._link.meter.store_operation("redis", "post", "stored" if is_posted else "contended")
        if not is_posted:
            return False
        self._epochs[stream] = epoch_now
        self._show(stream, apply(self.view(stream), head, changed))
        self._news.come(stream)
        return True

    async def leave(self, streams: list[str]) -> None:
        """Gives up what this replica leads."""
        for stream, fence in ((stream, self._leases[stream]) for stream in streams if stream in self._leases):
            try:
                await self._leads.leave(_lead_of(stream), fence)
            except StoreDownError:
                return

    async def _follow(self, stream: str) -> None:
        while True:
            try:
                await self._tell(stream)
                await self.catch_up(stream)
            except StoreDownError:
                pass
            await self._bus.wait(stream, TELL_SECONDS)

    async def _tell(self, stream: str) -> None:
        asked = self._asked.pop(stream, {})
        if not asked:
            return
        name = self._keys.used(stream)
        try:
            await self._link.ask("tell", lambda: self._link.client.zadd(name, asked))
            horizon = max(asked.values()) - USED_MILLISECONDS / 1000
            await self._link.ask("tell", lambda: self._link.client.zremrangebyscore(name, "-inf", horizon))
        except StoreDownError:
            self._asked[stream] = {**asked, **self._asked.get(stream, {})}
            raise

    async def catch_up(self, stream: str) -> None:
        """Takes over what has been posted since it was last looked at, in one trip.

        Raises:
            StoreDownError: Redis is lost.
        """
        epoch, view = self._epochs.get(stream, b""), self.view(stream)
        names, arguments = self._names(stream)[:3], (epoch, view.head.number)
        found: list[Any] | None = await self._link.ask("catch_up", lambda: self._catch_up(keys=names, args=arguments))
        if found is None or self.view(stream) is not view:
            # Nothing new; or this replica has posted meanwhile.
            return
        epoch_now, head, *rows = found
        try:
            news = {rows[n].decode(): _rows.decode(rows[n + 1]) for n in range(0, len(rows), 2)}
            base = view if epoch_now == epoch else NOTHING
            self._show(stream, apply(base, _heads.decode(head) if head else Head(), news))
            self._epochs[stream] = epoch_now
            self._news.come(stream)
        except (ValueError, RecursionError):
            # Written by another program, or another version of this one.
            self._show(stream, NOTHING)

    def _show(self, stream: str, view: View) -> None:
        self._views[stream] = view
        self._epoch.end()

    def _names(self, stream: str) -> list[str]:
        return [
            self._keys.board(stream, "head"),
            self._keys.board(stream, "rows"),
            self._keys.board(stream, "order"),
            self._keys.number(stream),
        ]


def _lead_of(stream: str) -> str:
    return f"sweep:{stream}"
