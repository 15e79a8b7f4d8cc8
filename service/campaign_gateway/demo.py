"""The simulated platform at the command line, alone or with a gateway in front of it."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from campaign_gateway.app import running
from campaign_gateway.sandbox.config import SandboxConfig
from campaign_gateway.sandbox.platform import Sandbox
from campaign_gateway.settings import read_tree

UntilStopped = Callable[[], Awaitable[object]]

LATENCY_SECONDS = 0.15
"""What a call to the demo's platform takes, so that a hit and a miss feel different."""


async def run_demo(port: int, admin_port: int, until_stopped: UntilStopped) -> None:
    """A gateway in front of a sandbox, both on loopback, until asked to stop.

    Raises:
        OSError: a port is taken.
    """
    with TemporaryDirectory(prefix="campaign-gateway-demo-") as folder:
        async with Sandbox(SandboxConfig(latency_seconds=LATENCY_SECONDS)) as sandbox:
            settings = read_tree(demo_settings(sandbox, Path(folder), port, admin_port))
            async with running(settings) as gateway:
                campaign = sandbox.campaigns.all()[0].id
                url = f"http://{gateway.listen}/v1/campaigns/{campaign}"
                click.echo(f"simulated platform  {sandbox.url}   (edits, faults and a request log under /_sandbox/)")
                click.echo(f"gateway             http://{gateway.listen}")
                click.echo(f"metrics and probes  http://{gateway.admin_listen}/metrics  /readyz\n")
                click.echo("Send this twice; the second answer is a hit and costs no platform call:\n")
                click.echo(f"  curl -si {url}")
                click.echo(f"  curl -si {url} | grep -iE '^(cache-status|age|etag)'\n")
                click.echo("Ctrl-C stops it.")
                await until_stopped()


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


def demo_settings(sandbox: Sandbox, folder: Path, port: int, admin_port: int) -> dict[str, object]:
    """Settings, as a plain tree, for a gateway in front of the sandbox; its files, and its secret, are in `folder`."""
    secret = folder / "client-secret"
    secret.touch(mode=0o600)
    secret.write_text(sandbox.config.secret + os.linesep)
    return {
        "listen": f"127.0.0.1:{port}",
        "admin_listen": f"127.0.0.1:{admin_port}",
        "platform": {"url": sandbox.url},
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
