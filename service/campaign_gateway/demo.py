"""The simulated platform at the command line, alone or with a gateway in front of it."""

import errno
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from aiohttp import web

from campaign_gateway.app import Gateway, running
from campaign_gateway.sandbox.config import SandboxConfig
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
_LINES_PER_SECOND = 100
"""Of hits; more of them share lines."""

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
    async with Sandbox(SandboxConfig(latency_seconds=LATENCY_SECONDS)) as sandbox:
        log = {"access": "sampled", "hits_per_second": _LINES_PER_SECOND}
        async with _gateway(sandbox, places.tree() | {"log": log}) as gateway:
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
the API             {api}/v1   described at {api}/docs
console             {admin}/console   for operators, as are /readyz and /metrics
simulated platform  {control}   edits, faults and a request log
""")
    for what, *commands in (
        ("Send this twice: the second answer is a hit, and costs no call to the platform.", f"curl -si {read}"),
        (
            "Ask for some campaigns, edit one at the platform as another user would, and read it until it shows.",
            f"curl -s '{api}/v1/campaigns?ids={','.join(ids)}'",
            f"""curl -s -X PATCH {control}/campaigns/{ids[0]} -d '{{"name": "Edited"}}'""",
            f"curl -s '{read}?fields=name'",
        ),
        (
            "Break the platform: what is stored is still answered. The second command mends it.",
            f"""curl -s {control}/faults -d '{{"name": "unavailable"}}'""",
            f"curl -s -X DELETE {control}/faults",
        ),
        ("Ask a hundred times: no call is spent.", f"curl -s -o /dev/null '{read}#[1-100]'"),
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


async def run_sandbox(config: SandboxConfig, until_stopped: UntilStopped) -> None:
    """The simulated platform until asked to stop; prints the settings of a gateway that can use it.

    Raises:
        OSError: the port is taken.
    """
    async with Sandbox(config) as sandbox:
        click.echo(f"simulated platform on {sandbox.url}, control under {sandbox.url}/_sandbox/\n")
        click.echo("Settings for a gateway in front of it (put the secret into a file):\n")
        click.echo(f"platform: {{url: '{sandbox.url}'}}")
        click.echo(f"credentials: {{main: {{client_id: {config.client_id}, client_secret_file: ./sandbox-secret}}}}")
        stream = f"stream_id: {config.stream_id}, account_id: {config.account_id}, credential: main"
        click.echo(f"streams: {{sandbox: {{{stream}}}}}")
        click.echo(f"# echo '{config.secret}' > sandbox-secret")
        await until_stopped()


def sandbox_settings(sandbox: Sandbox, folder: Path) -> dict[str, object]:
    """Settings, as a plain tree, for a gateway in front of the sandbox; its files, and its secret, are in `folder`."""
    secret = folder / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text(sandbox.config.secret + os.linesep)
    return {
        # The secret is known to everyone, so it may be sent in clear text.
        "platform": {"url": sandbox.url, "insecure": True},
        # The platform is a new one each time, also at an address that an earlier one had.
        "cache": {"state_dir": str(folder)},
        "credentials": {"main": {"client_id": sandbox.config.client_id, "client_secret_file": str(secret)}},
        "streams": {
            "demo": {
                "stream_id": sandbox.config.stream_id,
                "account_id": sandbox.config.account_id,
                "credential": "main",
            }
        },
    }
