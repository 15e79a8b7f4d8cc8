"""Webhooks, from outside: two gateways on one Redis, a target that goes wrong in each way, and a sender that dies."""

import asyncio
import base64
import hmac
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import GatewayProcess, gateway_process, settings_for
from tests.support.redis_server import RedisServer
from tests.support.waiting import until

PATIENCE = 90.0
SECRET = b"whsec_c29tZSBzZWNyZXQgb2Ygb3VycywgMzIgYnl0ZXM="
BUDGETS = {"default": {"calls": 600, "window": "60s"}}
"""Polls each few seconds, also on a busy machine."""


@dataclass
class Receiver:
    """A target that does what its mode says, and remembers what it has said 2xx to."""

    mode: str = "ok"
    admin: str = ""
    url: str = ""
    tries: list[str] = field(default_factory=list)
    """The mode in which each delivery came."""
    events: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        id_, at = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
        digest = hmac.digest(
            base64.b64decode(SECRET.removeprefix(b"whsec_")), b"%b.%d.%b" % (id_.encode(), at, body), "sha256"
        )
        assert request.headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
        mode = self.mode
        self.tries.append(mode)
        match mode:
            case "410":
                return web.Response(status=410)
            case "500":
                return web.Response(status=500)
            case "redirect":
                raise web.HTTPTemporaryRedirect(f"{self.admin}/readyz")
            case "hang":
                await asyncio.Event().wait()
            case _:
                pass
        event = json.loads(body)
        assert event["id"] == id_
        self.events.append(event)
        response = web.StreamResponse()
        await response.prepare(request)
        while mode == "endless":
            await response.write(b"x" * 65_536)
        return response

    def has(self, name: str) -> bool:
        return any(event["data"].get("name") == name for event in self.events)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver, application = Receiver(), web.Application()
    application.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
        yield receiver
    finally:
        await runner.cleanup()


async def sender_of(gateways: list[GatewayProcess]) -> GatewayProcess | None:
    for gateway in gateways:
        if await gateway.metric("webhook_deliveries_total", webhook="crm"):
            return gateway
    return None


@pytest.mark.drill(
    "a webhook's target that goes wrong, and a sender that dies",
    planted="500s, redirects to the operators' port, bodies without end, SIGKILL of the sender while the target hangs",
    seen="the target has each change of the log once, in order",
)
async def test_nothing_is_lost_doubled_or_overtaken(sandbox: Sandbox, redis: RedisServer, tmp_path: Path) -> None:
    secret = tmp_path / "webhook-secret"
    secret.write_bytes(SECRET)
    quiet = [campaign.id for campaign in sandbox.campaigns.all() if campaign.due is None and campaign.status == "Ready"]
    async with receiving() as receiver, AsyncExitStack() as stack:
        webhooks = {"crm": {"url": receiver.url, "secret_file": str(secret)}}
        cache = {"url": redis.url, "timeout": "5s"}
        settings = settings_for(sandbox, tmp_path, cache=cache, budgets=BUDGETS, webhooks=webhooks)
        gateways = [await stack.enter_async_context(gateway_process(settings, tmp_path)) for _ in range(2)]
        await redis.wait_for_listeners(2)
        receiver.admin = gateways[0].admin_url

        async def are_lists_known() -> bool:
            return any([await gateway.metric("sweep_up") == 1 for gateway in gateways])

        # Nobody reads, and nobody listens: a webhook alone has the lists polled.
        await until(are_lists_known, PATIENCE)
        edits = count()

        async def has_begun() -> bool:
            # It begins with the changes from its first look at the log on: on a busy machine that is any moment.
            sandbox.campaigns.edit(quiet[0], {"name": f"edit {next(edits)}"})
            await asyncio.sleep(3)
            return bool(receiver.events)

        await until(has_begun, PATIENCE)
        for number, mode in enumerate(("500", "redirect", "endless", "hang")):
            receiver.mode = mode
            for id_ in quiet[:3]:
                sandbox.campaigns.edit(id_, {"name": f"{mode} {id_}"})
            await until(lambda: receiver.tries[-1] == receiver.mode, PATIENCE)
            if mode == "hang":
                sender = await sender_of(gateways)
                assert sender is not None
                sender.process.kill()
                await sender.process.wait()
                gateways.remove(sender)
            receiver.mode = "ok"
            sandbox.campaigns.edit(quiet[3], {"name": f"round {number}"})
            await until(partial(receiver.has, f"round {number}"), PATIENCE)
        async with gateways[0].session.get(f"{gateways[0].url}/v1/changes?after=0&limit=1000") as response:
            log = (await response.json())["changes"]
        await until(lambda: log[-1] in receiver.events, PATIENCE)
        assert (await gateways[0].get_json("/readyz"))["parts"]["webhooks"]["status"] == "ok"
    received = receiver.events[: receiver.events.index(log[-1]) + 1]
    assert received == log[-len(received) :]


async def test_a_reload_changes_who_is_told_and_of_what(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "webhook-secret"
    secret.write_bytes(SECRET)
    quiet = [campaign.id for campaign in sandbox.campaigns.all() if campaign.due is None and campaign.status == "Ready"]
    async with receiving() as first, receiving() as second:
        settings = settings_for(sandbox, tmp_path, budgets=BUDGETS)
        async with gateway_process(settings, tmp_path) as gateway:
            numbers = count()

            def reload(**crm: Any) -> None:
                rows = {"crm": {"secret_file": str(secret), **crm}} if crm else {}
                gateway.write({**settings, "webhooks": rows})
                gateway.process.send_signal(signal.SIGHUP)

            async def log() -> list[dict[str, Any]]:
                async with gateway.session.get(f"{gateway.url}/v1/changes?after=0&limit=1000") as response:
                    return list((await response.json())["changes"])

            async def read(id_: str) -> None:
                url = f"{gateway.url}/v1/campaigns/{id_}"
                async with gateway.session.get(url, headers={"Cache-Control": "no-cache"}) as response:
                    assert response.status in {200, 404}

            async def logged(name: str) -> None:
                sandbox.campaigns.edit(quiet[0], {"name": name})
                await read(quiet[0])

                async def is_there() -> bool:
                    return any(change["data"].get("name") == name for change in await log())

                await until(is_there, PATIENCE)

            async def is_told(receiver: Receiver, what: str) -> bool:
                """The settings take effect at any moment, so until then one after the other is told to others."""
                await logged(f"{what} {next(numbers)}")
                await asyncio.sleep(1)
                return any((event["data"].get("name") or "").startswith(what) for event in receiver.events)

            async def is_known() -> bool:
                return await gateway.metric("sweep_up") == 1

            async def is_nobody_named() -> bool:
                return not (await gateway.get_json(f"/explain/support/{quiet[0]}"))["webhooks"]

            async def are_only_deletions_told() -> bool:
                name, gone = f"filtered {next(numbers)}", quiet.pop()
                await logged(name)
                sandbox.campaigns.delete(gone)
                await read(gone)
                await until(lambda: any(event.get("subject") == gone for event in second.events), PATIENCE)
                return not second.has(name)

            await read(quiet[0])
            reload(url=first.url)
            await until(is_known, PATIENCE)
            await until(partial(is_told, first, "to the first"), PATIENCE)
            reload(url=second.url)
            await until(partial(is_told, second, "to the second"), PATIENCE)
            count_of_first = len(first.events)
            reload(url=second.url, types=["campaign.deleted"])
            await until(are_only_deletions_told, PATIENCE)
            assert len(first.events) == count_of_first
            reload(url=first.url)
            await until(partial(is_told, first, "again to the first"), PATIENCE)

            async def has_stopped() -> bool:
                return "SIGHUP" in ((await gateway.get_json("/readyz"))["parts"]["webhooks"].get("reason") or "")

            first.mode = "410"
            await logged("while it is gone")
            await until(has_stopped, PATIENCE)
            first.mode = "ok"
            gateway.process.send_signal(signal.SIGHUP)
            await until(lambda: first.has("while it is gone"), PATIENCE)
            reload()
            await until(is_nobody_named, PATIENCE)
            await logged("to nobody")
            # It goes on where it was, so this comes first if it comes at all.
            reload(url=second.url, types=["campaign.deleted"])
            await until(are_only_deletions_told, PATIENCE)
            entries = await log()
    for receiver in (first, second):
        # What a reload cuts off before its receipt was written down comes again.
        told = list(dict.fromkeys(event["id"] for event in receiver.events))
        assert told == [entry["id"] for entry in entries if entry["id"] in told], "in order, and no reset"
    assert not {"to nobody"} & {event["data"].get("name") for event in (*first.events, *second.events)}
