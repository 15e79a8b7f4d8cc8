"""How ready the gateway is: all of its parts, and since when each is as it is."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from campaign_gateway.admin.probes import Part
from campaign_gateway.app import status
from campaign_gateway.app.front import Front
from campaign_gateway.app.reload import Reloader
from campaign_gateway.app.runtime import Runtime
from campaign_gateway.app.story import Story

LOOK_SECONDS = 2.0
"""How often the parts are looked at, whether anybody asks or not."""


class Readiness:
    """How ready each part is, and since when."""

    def __init__(self, read: Callable[[], Mapping[str, Part]], clock: Callable[[], float] = time.time) -> None:
        """Readiness.

        Args:
            read: the parts as they are.
            clock: seconds since the epoch.
        """
        self._read = read
        self._clock = clock
        self._changed: dict[str, tuple[str, str]] = {}
        """Each part's status, and when it was first seen in it."""

    def __call__(self) -> Mapping[str, Part]:
        """The parts, each that is not `ok` with the time since when."""
        parts, now = self._read(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        for name, part in parts.items():
            if self._changed.get(name, ("", ""))[0] != part.status:
                self._changed[name] = part.status, now
        return {
            name: part if part.status == "ok" else replace(part, since=self._changed[name][1])
            for name, part in parts.items()
        }

    def since(self, name: str) -> str:
        """When the part was first seen as it is, `ok` or not."""
        return self._changed[name][1]

    async def watch(self) -> None:
        """Looks at them again and again."""
        while True:
            self()
            await asyncio.sleep(LOOK_SECONDS)


def readiness(runtime: Runtime, story: Story, front: Front, reloader: Reloader) -> dict[str, Part]:
    """How ready each part is."""
    plan, fetcher = runtime.plan, story.fetcher
    is_swept = plan.settings.sweep.share > 0
    return {
        "listener": status.listener_part(front.api, front.server, None if front.tls is None else front.tls.fault),
        "store": story.stores.part(),
        "budget": status.budget_part(story.budget, plan.accounts),
        "platform": status.platform_part(fetcher.state, plan.settings.platform.url),
        "credential": status.credential_part(fetcher.state, fetcher.breaker),
        "sweep": status.sweep_part(story.stores.index, plan.identities, story.stated) if is_swept else status.OK,
        "platform_clock": status.clock_part(fetcher.clock),
        "webhooks": story.webhooks.part(),
        "tasks": status.tasks_part([runtime.watchers.failing, runtime.fills.failing]),
        "settings": status.settings_part(reloader),
    }
