"""Settings that change while the real process serves: nobody is failed, and what was taken away is gone at once."""

import asyncio
import hashlib
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

KEYS = {"old": "cgk_old", "new": "cgk_new"}
SECONDS = 30.0


def client(*notes: str) -> dict[str, Any]:
    rows = [{"sha256": hashlib.sha256(KEYS[note].encode()).hexdigest(), "note": note} for note in notes]
    return {"reporting": {"keys": rows, "streams": ["support"]}}


class Connection:
    """A caller's connection that stays open; one request is answered before the next is sent."""

    def __init__(self, gateway: GatewayProcess, campaign: str, key: str) -> None:
        self._address = gateway.url.removeprefix("http://").split(":")
        self._request = (
            f"GET /v1/campaigns/{campaign} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        )
        self.seen: Counter[int] = Counter()

    async def __aenter__(self) -> Self:
        host, port = self._address
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def ask(self) -> tuple[int, bytes]:
        """The status and the head of an answer."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        await self._reader.readexactly(int(fields[b"content-length"]))
        status = int(head.split(b" ", 2)[1])
        self.seen[status] += 1
        return status, head

    async def go_on(self, is_over: Callable[[], bool]) -> None:
        """Asks without a pause."""
        while not is_over():
            await self.ask()


async def generation(gateway: GatewayProcess, number: int) -> None:
    """Waits until these settings are in use."""

    async def is_in_use() -> bool:
        return await gateway.metric("settings_generation") == number

    await until(is_in_use, SECONDS)


def told(gateway: GatewayProcess) -> list[str]:
    """What the log says of settings, without the details."""
    messages = [row["message"] for row in gateway.records() if row["logger"] == "campaign_gateway.app.reload"]
    return [" ".join(message.split()[:2]) for message in messages]


async def refused(gateway: GatewayProcess) -> str:
    """Waits until settings were refused: why."""

    async def is_refused() -> bool:
        return bool((await gateway.get_json("/readyz"))["parts"]["settings"]["status"] == "degraded")

    await until(is_refused, SECONDS)
    part = (await gateway.get_json("/readyz"))["parts"]["settings"]
    assert part["since"]
    return str(part["reason"])


@pytest.mark.drill(
    "settings change under load",
    planted="other freshness, a bad file, a restart's key and a revoked key, while callers ask without a pause",
    seen="no request fails; the bad file changes nothing; the next request with the key, on an open connection, is a 401",
)
async def test_settings_change_under_load(sandbox: Sandbox, tmp_path: Path, figure: Callable[[str], None]) -> None:
    campaign = sandbox.campaigns.all()[0].id
    settings = settings_for(sandbox, tmp_path, clients=client("old", "new"), log={"access": "off"})
    is_over = False
    async with gateway_process(settings, tmp_path) as gateway, asyncio.TaskGroup() as group:
        loaded = [Connection(gateway, campaign, KEYS["new"]) for _ in range(4)]
        async with Connection(gateway, campaign, KEYS["old"]) as old, loaded[0], loaded[1], loaded[2], loaded[3]:
            for _ in range(5):
                assert (await old.ask())[0] == 200
            asking = [group.create_task(row.go_on(lambda: is_over)) for row in loaded]

            # Callers who have their answers from the fast connection see other freshness.
            settings |= {"freshness": {"stale_while_revalidate": "7s"}}
            gateway.write(settings)
            gateway.process.send_signal(signal.SIGHUP)
            await generation(gateway, 2)
            assert b"stale-while-revalidate=7," in (await old.ask())[1]

            for change, key in (
                ({"freshness": {"max": "soon"}, "clients": client("new")}, "freshness.max"),
                ({"cache": {"prefix": "other"}, "clients": client("new")}, "cache.prefix: needs a restart"),
            ):
                gateway.write(settings | change)
                gateway.process.send_signal(signal.SIGHUP)

                async def names_it(key: str = key) -> bool:
                    return key in await refused(gateway)

                await until(names_it, SECONDS)
                assert await gateway.metric("config_last_reload_successful") == 0
                assert await gateway.metric("settings_generation") == 2
                assert (await old.ask())[0] == 200

            # By the file alone.
            gateway.write(settings | {"clients": client("new")})
            await generation(gateway, 3)
            assert (await old.ask())[0] == 401
            assert await gateway.metric("config_last_reload_successful") == 1
            assert (await gateway.get_json("/readyz"))["parts"]["settings"]["status"] == "ok"
            is_over = True
            await asyncio.wait(asking)
            # A line is on its way for a moment.
            said = ["settings reloaded", "settings refused", "settings refused", "settings reloaded"]
            await until(lambda: told(gateway) == said, SECONDS)
    asked: Counter[int] = sum((row.seen for row in loaded), Counter())
    assert set(asked) == {200}
    figure(f"{asked[200]:,} requests meanwhile, none failed")


async def test_a_key_that_is_given_an_end_lets_its_open_connection_in_until_then(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = settings_for(sandbox, tmp_path, clients=client("old"))
    async with gateway_process(settings, tmp_path) as gateway:
        async with Connection(gateway, sandbox.campaigns.all()[0].id, KEYS["old"]) as caller:
            for _ in range(5):
                assert (await caller.ask())[0] == 200
            ends = int(time.time()) + 3
            changed = client("old")
            changed["reporting"]["keys"][0]["expires"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
            gateway.write(settings | {"clients": changed})
            gateway.process.send_signal(signal.SIGHUP)

            async def is_refused() -> bool:
                return (await caller.ask())[0] == 401

            await until(is_refused, SECONDS)
            assert time.time() >= ends
            assert set(caller.seen) == {200, 401}
        assert await gateway.metric("client_key_expiry_timestamp_seconds", client="reporting", key="old") == ends

        def reasons() -> list[str]:
            return [row["reason"] for row in gateway.records() if row.get("status") == 401]

        await until(reasons, SECONDS)
        assert reasons() == ["the key old of client reporting has expired"]


async def test_all_workers_change_their_settings(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    cache = {"url": redis.url, "timeout": "1s"}
    settings = settings_for(sandbox, tmp_path, clients=client("old"), workers=2, cache=cache)
    async with gateway_process(settings, tmp_path, {"TMPDIR": str(tmp_path)}) as gateway:
        gateway.write(settings | {"clients": client("new")})
        gateway.process.send_signal(signal.SIGHUP)
        # The sum of two.
        await generation(gateway, 4)
        for note, status in (("old", 401), ("new", 200)):
            fields = {"Authorization": f"Bearer {KEYS[note]}", "Connection": "close"}
            for _ in range(6):
                assert (await gateway.get(sandbox.campaigns.all()[0].id, **fields))[0] == status
        gateway.write(settings | {"workers": 3})
        gateway.process.send_signal(signal.SIGHUP)

        async def is_told_by_both() -> bool:
            return "(worker 0, 1)" in await refused(gateway)

        await until(is_told_by_both, SECONDS)
        gateway.terminate()
        assert await gateway.process.wait() == 0
