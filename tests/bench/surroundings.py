"""What the servers stand on, and how it is made sure that each answers as it should, out of its cache."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import aiohttp
from aiohttp import web

from campaign_gateway.sandbox.platform import Sandbox, SandboxConfig
from tests.bench.load import HOST, BadRunError
from tests.bench.servers import Server

CAMPAIGNS = 1_000
BODY_BYTES = 1_700
_AROUND = 130
"""What the platform writes around a campaign's fields."""
_WORDS = " Calls everyone who asked for one, twice at most."
_AT_ONCE = 32


def sandbox(campaigns: int = CAMPAIGNS, body_bytes: int = BODY_BYTES) -> Sandbox:
    """The platform: campaigns whose answers have about the wanted length, and no limit of calls."""
    platform = Sandbox(SandboxConfig(campaigns=campaigns, calls=10**9, keepalive_seconds=3600))
    for campaign in platform.campaigns.all():
        plain = len(json.dumps(campaign.fields, separators=(",", ":")))
        longer = campaign.fields["description"] + (_WORDS * (body_bytes // 40))[: max(0, body_bytes - plain - _AROUND)]
        platform.campaigns.seed(replace(campaign, fields={**campaign.fields, "description": longer}))
    return platform


class Origin:
    """The origin of the peers that are proxies. `asked` counts, so that a miss cannot pass for a hit."""

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self._bodies = bodies
        self.asked = 0
        self.port = 0

    async def serve(self) -> web.ServerRunner:
        """Starts it; the caller cleans the runner up."""
        runner = web.ServerRunner(web.Server(self._answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        return runner

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += 1
        headers = {"Cache-Control": "max-age=3600", "Content-Type": "application/json", "ETag": f'"{self.asked}"'}
        return web.Response(body=self._bodies[request.path.rpartition("/")[2]], headers=headers)


class Judge:
    """Asks for campaigns as a client would, and looks at the answers."""

    def __init__(self, session: aiohttp.ClientSession, ids: Sequence[str], key: str) -> None:
        self._session = session
        self._ids = ids
        self._key = key

    async def warm(self, server: Server) -> dict[str, bytes]:
        """The answer to each id, which is in the server's cache from then on."""
        turns, bodies = iter(self._ids), {}

        async def knock() -> None:
            for id_ in turns:
                status, _, bodies[id_] = await self._get(server, id_)
                if status != 200:
                    raise BadRunError(f"{status} while it was warmed: {bodies[id_][:200]!r}")

        await asyncio.gather(*(knock() for _ in range(_AT_ONCE)))
        return bodies

    async def look(self, server: Server, bodies: Mapping[str, bytes]) -> None:
        """Looks at a few answers.

        Raises:
            BadRunError: one is not the right body, lacks a field, or came without the key that is asked for.
        """
        for id_ in self._ids[:: len(self._ids) // 5]:
            status, fields, body = await self._get(server, id_)
            wanted = bodies[id_]
            if status != 200 or not (body == wanted if server.is_exact else json.loads(body) == json.loads(wanted)):
                raise BadRunError(f"not the right answer for {id_}: {status} {body[:200]!r}")
            for name, text in server.fields.items():
                if text not in fields.get(name, "\0"):
                    raise BadRunError(f"{name} is {fields.get(name)!r}")
        if server.has_keys and (status := (await self._get(server, self._ids[0], key="wrong"))[0]) != 401:
            raise BadRunError(f"{status} without a key")

    async def _get(self, server: Server, id_: str, key: str = "") -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Host": HOST, "Authorization": f"Bearer {key or self._key}", "X-Request-ID": "bench-look"}
        url = f"{server.url}/v1/campaigns/{id_}"
        try:
            async with self._session.get(url, headers=headers, ssl=False) as response:
                return response.status, response.headers, await response.read()
        except aiohttp.ClientError as error:
            raise BadRunError(f"no answer: {error!r}") from error
