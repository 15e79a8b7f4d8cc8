"""Reads the settings again when their file changes, or when somebody asks, and has them used: all of them, or none.

1. The file is looked at by its content: Kubernetes swaps a link, and editors write a file anew. What a look finds is
   used once the next one finds the same: half a file is settings too, with half of the clients.
2. What was read is judged whole, as at a start. A mistake, or a key that takes a restart, refuses all of it.
3. What is good is used within one turn of the loop, so that no request sees a part of it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from campaign_gateway.settings import Mistake, Settings, SettingsError, SettingsFile, differing

LOOK_SECONDS = 1.0
"""How often the file is looked at."""
LOOKS_UNTIL_RETRY = 30
"""What was refused is judged again after so many: a file that it names may be there by now."""
MOST_TOLD = 3
"""Mistakes that `/readyz` tells; the log has all."""
_AGAIN = "looked at again"
_log = logging.getLogger(__name__)


class Reloader:
    """The settings in use, and what became of the last ones that were read."""

    def __init__(
        self,
        settings: Settings,
        file: SettingsFile | None,
        adopt: Callable[[Settings], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """A reloader.

        Args:
            settings: those in use.
            file: where they are written; None where they cannot be read again.
            adopt: has others used, which differ in nothing that takes a restart.
            clock: seconds since 1970.
        """
        self._settings, self._file, self._adopt, self._clock = settings, file, adopt, clock
        self._judged = self._found = None if file is None else file.read_first
        """The content that was last used or refused, and that was last seen."""
        self._looks = 0
        """Since they were judged."""
        self._asked = asyncio.Event()
        self.generation = 1
        """Of the settings in use: how often they differed, from 1."""
        self.read_at = clock()
        """When settings were last read and not refused, in seconds since 1970."""
        self.fault: str | None = None
        """Why the last ones were refused; None if they were not."""

    def ask(self) -> None:
        """Has the settings read again at once, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Reads the settings again when it has to, for as long as it runs."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                await self.look()
            else:
                self._asked.clear()
                await self.look("SIGHUP")

    async def look(self, asked_by: str | None = None) -> None:
        """One look at the file; what is there is used if it has changed and stays so, or if somebody asks."""
        file = self._file
        if file is None:
            return
        before, self._found = self._found, await asyncio.to_thread(file.digest)
        self._looks += 1
        is_due = self._found != self._judged or (self.fault is not None and self._looks >= LOOKS_UNTIL_RETRY)
        if asked_by is None and not (is_due and self._found == before):
            return
        who = asked_by or ("the file has changed" if self._found != self._judged else "")
        self._judged, self._looks = self._found, 0
        try:
            # It takes a tenth of a second, and longer where files are far away.
            settings = await asyncio.to_thread(file.load)
        except SettingsError as error:
            self._refuse(error.mistakes, who)
            return
        if keys := differing(self._settings, settings, "restart"):
            self._refuse([Mistake(key, "needs a restart", "restart, or take the change back") for key in keys], who)
            return
        self._use(settings, who)

    def _refuse(self, mistakes: Sequence[Mistake], who: str) -> None:
        more = [f"{len(mistakes) - MOST_TOLD} more"] if len(mistakes) > MOST_TOLD else []
        fault = "; ".join([*map(str, mistakes[:MOST_TOLD]), *more])
        if who or fault != self.fault:
            text = "settings refused (%s): generation %d stays in use: %s"
            _log.warning(text, who or _AGAIN, self.generation, "; ".join(map(str, mistakes)))
        self.fault = fault

    def _use(self, settings: Settings, who: str) -> None:
        who = who or _AGAIN
        changed = differing(self._settings, settings, "reload")
        if changed:
            self._adopt(settings)
            self._settings, self.generation = settings, self.generation + 1
        self.fault, self.read_at = None, self._clock()
        # After it, so that `log` holds for its line already.
        if changed:
            text = "settings reloaded (%s): generation %d is in use: %s"
            _log.info(text, who, self.generation, ", ".join(changed))
        else:
            _log.info("settings read again (%s): nothing differs, generation %d stays in use", who, self.generation)
