"""The simulated platform at the command line, alone or with a gateway in front of it."""

import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from aiohttp import web

from campaign_gateway.app import Gateway, running
from campaign_gateway.sandbox.config import SandboxConfig, Stream
from campaign_gateway.sandbox.control import PREFIX
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.settings import Address, read_tree
from campaign_gateway.telemetry import live
from campaign_gateway.web.routes import ROUTES

UntilStopped = Callable[[], Awaitable[object]]

LATENCY_SECONDS = 0.15
"""What a call to the demo's platform takes, so that a hit and a miss feel different."""
PORT, ADMIN_PORT = 8080, 9090
"""Where the demo listens if nobody says otherwise and they are free."""
_LOG = {"access": "sampled", "hits_per_second": 100}
"""Hits beyond these share lines."""

_WATCHED = 3
"""So many campaigns in use make polls of the list worth their calls; fewer are read again when their lifetimes end."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where a gateway listens."""

    host: str
    port: int
    admin_port: int

    def tree(self) -> dict[str, object]:
        """The settings for it."""
        return {
            "listen": str(Address(self.host, self.port)),
            "admin_listen": str(Address(self.host, self.admin_port)),
            # What it shows is invented, and whoever is let in from other machines was asked for by `--host`.
            "allow_anonymous": True,
        }


async def run_demo(host: str, port: int | None, admin_port: int | None, until_stopped: UntilStopped) -> None:
    """A gateway in front of a sandbox until asked to stop; prints what to try, and then each request as it comes.

    Args:
        host: where the gateway listens; the sandbox is on loopback, with its control also on the operators' port.
        port: the gateway's; 0 for a free one, None for `PORT`, or a free one if that is taken.
        admin_port: the operators', likewise.
        until_stopped: returns when it should end.

    Raises:
        OSError: a port is taken.
    """
    places = Places(host, _wanted(host, port, PORT), _wanted(host, admin_port, ADMIN_PORT))
    async with (
        Sandbox(SandboxConfig(latency_seconds=LATENCY_SECONDS)) as sandbox,
        _gateway(sandbox, places.tree() | {"log": _LOG}) as gateway,
    ):
        live.set_up(_paths(), lambda: _calls_left(sandbox))
        _say_what_to_try(sandbox, gateway)
        await until_stopped()


@asynccontextmanager
async def _gateway(sandbox: Sandbox, tree: Mapping[str, object]) -> AsyncIterator[Gateway]:
    """A gateway in front of the sandbox, with these settings beside those that it needs for that."""
    control = [web.route("*", PREFIX + rest, sandbox.control) for rest in ("", "/{rest:.*}")]
    with TemporaryDirectory(prefix="campaign-gateway-demo-") as folder:
        settings = read_tree({**sandbox_settings(sandbox, Path(folder)), **tree})
        async with running(settings, routes=control) as gateway:
            yield gateway


def _wanted(host: str, port: int | None, usual: int) -> int:
    """The port to listen on: the one that was named, or else the usual one; if that is taken 0, for a free one."""
    if port is not None:
        return port
    try:
        with socket.create_server((host, usual), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return usual
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            # Whoever listens says what is wrong with the host.
            return usual
        click.echo(f"Port {usual} is taken: a free one is used instead.")
        return 0


def _say_what_to_try(sandbox: Sandbox, gateway: Gateway) -> None:
    api, admin = url_of(gateway.listen), url_of(gateway.admin_listen)
    ids = [campaign.id for campaign in sandbox.campaigns.all()[:_WATCHED]]
    read, control = f"{api}/v1/campaigns/{ids[0]}", f"{admin}{PREFIX}"
    click.echo(f"""
gateway             {api}/v1   described at {api}/docs
console             {admin}/console   for operators, as are /readyz and /metrics
simulated platform  {control}   edits, faults and a request log
""")
    for what, *commands in (
        ("Send this twice: the second answer is a hit, and costs no call to the platform.", f"curl -si {read}"),
        (
            "Read some campaigns, edit one at the platform as another user would, and read that one until it shows.",
            f"curl -s '{api}/v1/campaigns?ids={','.join(ids)}'",
            f"""curl -s -X PATCH {control}/campaigns/{ids[0]} -d '{{"name": "Edited"}}'""",
            f"curl -s '{read}?fields=name'",
        ),
        (
            "Break the platform: what is stored is still answered. The second command mends it.",
            f"""curl -s {control}/faults -d '{{"name": "unavailable"}}'""",
            f"curl -s -X DELETE {control}/faults",
        ),
        ("Read it a hundred times: no call is spent.", f"curl -s -o /dev/null '{read}#[1-100]'"),
    ):
        click.echo("\n  ".join([what, *commands]) + "\n")
    click.echo("Each request is a line here: how it was answered, how long it took, and calls left. Ctrl-C stops it.\n")


def url_of(address: Address | Path) -> str:
    """Where a gateway on this machine is reached that listens there."""
    if isinstance(address, Path):
        return f"unix://{address}"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - looked up, not bound
    return f"http://{Address(host, address.port)}"


def _paths() -> dict[str, str]:
    """The path of each operation, with `{id}` where an id goes."""
    return {method.name: f"/v1{route.path}" for route in ROUTES for method in route.methods.values()}


def _calls_left(sandbox: Sandbox) -> str:
    """By the platform's own count."""
    limit = sandbox.limits[sandbox.config.account_id]
    return f"{max(0, limit.calls - limit.used(time.time()))} of {limit.calls} calls left"


@dataclass(frozen=True, slots=True)
class Key:
    """A client key of the gateway in front of the sandbox. Like all secrets here it is known to everyone.

    Attributes:
        text: what callers send.
        scopes: what it opens.
        rate: how often it may ask; None without a limit.
    """

    text: str
    scopes: tuple[str, ...] = ("read", "write", "purge")
    rate: str | None = None

    def tree(self) -> dict[str, object]:
        """The settings of its client."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        limits = {} if self.rate is None else {"rate": self.rate}
        return {"key_sha256": digest, "streams": [_SANDBOX, _SPENT], "scopes": list(self.scopes), **limits}


KEYS: Mapping[str, Key] = {
    "all": Key("sandbox-only-key"),
    "read": Key("sandbox-only-key-that-reads", scopes=("read",)),
    "slow": Key("sandbox-only-key-for-one-a-minute", rate="1/m"),
}
"""By what they are for: everything; `forbidden`, to a write; `rate-limited`, to the second request of a minute."""
_SANDBOX, _SPENT = "sandbox", "spent"
SPENT_STREAM = Stream("st-5a0db0c4-0000-5000-8000-000000000001", "5a0db0c4e91f27d8a6b3c055")
"""Its account may make one call a minute: for `budget-exhausted`, to the second campaign that is read."""


async def run_sandbox(
    config: SandboxConfig, places: Places | None, until_stopped: UntilStopped, *, is_json: bool
) -> None:
    """The simulated platform until asked to stop; prints where it is and how to use it.

    Args:
        config: the sandbox's.
        places: where a gateway in front of it listens; None for none.
        until_stopped: returns when it should end.
        is_json: prints one line of JSON, once all of it serves; else text.

    Raises:
        OSError: a port is taken.
    """
    if places is not None:
        config = replace(config, streams=(*config.streams, SPENT_STREAM))
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(config))
        gateway = None
        if places is not None:
            gateway = await stack.enter_async_context(_gateway(sandbox, places.tree() | _tree_for_tests(config)))
            live.set_up(_paths(), lambda: _calls_left(sandbox))
        ready = _ready(sandbox, gateway)
        click.echo(json.dumps(ready) if is_json else "\n".join(_said(ready)))
        await until_stopped()


def _tree_for_tests(config: SandboxConfig) -> dict[str, object]:
    """Settings of a gateway that tests of others call: keys, and budgets by the sandbox's own limit."""
    return {
        "log": _LOG,
        "budgets": {"default": {"calls": config.calls}, SPENT_STREAM.account_id: {"calls": 1}},
        "clients": {f"tests-{name}": key.tree() for name, key in KEYS.items()},
        # The status of `answer-stale`, so that it is stale at once.
        "freshness": {"status": {"Preparing": {"max": "1ms"}}},
    }


def _ready(sandbox: Sandbox, gateway: Gateway | None) -> dict[str, Any]:
    """What a program has to know of it."""
    config = sandbox.config
    return {
        "platform": sandbox.url,
        "control": f"{sandbox.url}{PREFIX}",
        "client_id": config.client_id,
        "client_secret": config.secret,
        "account_id": config.account_id,
        "stream_id": config.stream_id,
        "campaigns": [campaign.id for campaign in sandbox.campaigns.all()],
        "gateway": None if gateway is None else url_of(gateway.listen),
        "admin": None if gateway is None else url_of(gateway.admin_listen),
        "streams": [] if gateway is None else list(gateway.settings.streams),
        "key": None if gateway is None else KEYS["all"].text,
        "keys": {} if gateway is None else {name: key.text for name, key in KEYS.items()},
    }


def _said(ready: Mapping[str, Any]) -> Iterator[str]:
    """The same for people."""
    yield f"simulated platform  {ready['platform']}"
    yield f"its control         {ready['control']}   every route, fault and special id, with commands to paste"
    if ready["gateway"] is not None:
        yield f"gateway in front    {ready['gateway']}   for operators {ready['admin']}"
        yield ""
        yield f"  curl -si -H 'Authorization: Bearer {ready['key']}' {ready['gateway']}/v1/campaigns/answer-slow"
        return
    yield ""
    yield "Settings for a gateway in front of it (put the secret into a file):"
    yield ""
    yield f"platform: {{url: '{ready['platform']}'}}"
    yield f"credentials: {{main: {{client_id: {ready['client_id']}, client_secret_file: ./sandbox-secret}}}}"
    yield "streams:"
    yield f"  sandbox: {{stream_id: {ready['stream_id']}, account_id: {ready['account_id']}, credential: main}}"
    yield f"# echo '{ready['client_secret']}' > sandbox-secret"


def sandbox_settings(sandbox: Sandbox, folder: Path) -> dict[str, object]:
    """Settings, as a plain tree, for a gateway in front of the sandbox; its files, and its secret, are in `folder`."""
    config, secret = sandbox.config, folder / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text(config.secret + os.linesep)
    return {
        # The secret is known to everyone, so it may be sent in clear text.
        "platform": {"url": sandbox.url, "insecure": True, "timeout": "5s"},
        # The platform is a new one each time, also at an address that an earlier one had.
        "cache": {"state_dir": str(folder)},
        "credentials": {"main": {"client_id": config.client_id, "client_secret_file": str(secret)}},
        "streams": {
            _SPENT if stream_id == SPENT_STREAM.stream_id else _SANDBOX: {
                "stream_id": stream_id,
                "account_id": tenant.account_id,
                "credential": "main",
                "default": stream_id == config.stream_id,
            }
            for stream_id, tenant in sandbox.tenants.items()
        },
    }
