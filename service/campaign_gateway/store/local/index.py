"""The board of a process that shares it with nobody."""

from collections.abc import Callable, Mapping

from campaign_gateway.policy.sweeping import Head, Known, View, apply
from campaign_gateway.proxy.epoch import Epoch
from campaign_gateway.store.usage import Usage
from campaign_gateway.store.waits import News, Wakes

NOTHING = View()


class MemoryBoard:
    """Implements `Board` for one process."""

    def __init__(self, epoch: Epoch, now: Callable[[], float]) -> None:
        """A board.

        Args:
            epoch: ended whenever `view` says something else.
            now: the store's clock.
        """
        self._epoch = epoch
        self._now = now
        self._news, self._wakes = News(), Wakes()
        self._usage = Usage(self._wakes.come)
        self._views: dict[str, View] = {}

    def view(self, stream: str) -> View:
        """See `Board`."""
        return self._views.get(stream) or NOTHING

    def ask(self, stream: str, id_: str, now: float) -> None:
        """See `Board`."""
        self._usage.note(stream, id_, now)

    def used(self, stream: str) -> Mapping[str, float]:
        """See `Board`."""
        return self._usage.used(stream, self._now())

    def interest(self, stream: str) -> Mapping[str, float]:
        """See `Board`."""
        return self._usage.interest(stream, self._now())

    def is_leading(self, _stream: str) -> bool:
        """See `Board`. There is nobody else."""
        return True

    async def news(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._news.wait(stream, seconds)

    async def wait(self, stream: str, seconds: float) -> None:
        """See `Board`."""
        await self._wakes.wait(stream, seconds)

    async def post(self, stream: str, head: Head, updates: Mapping[str, Known]) -> bool:
        """See `Board`."""
        if head.number != self.view(stream).head.number + 1:
            return False
        self._views[stream] = apply(self.view(stream), head, updates)
        self._epoch.end()
        self._news.come(stream)
        self._wakes.come(stream)
        return True
