"""The command line: `campaign-gateway serve | demo | sandbox | check | key new`.

Exit codes: 0 stopped as asked, 2 bad settings or command, 1 anything else. Heavy parts are imported by the command that
needs them, so that `key new` and a mistake in the settings answer at once.
"""

import asyncio
import re
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NoReturn

import click

from service import __version__

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2

_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(min=0)
_SECONDS = click.FloatRange(min=0)

_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file; GATEWAY_CONFIG names it too, and GATEWAY__SECTION__KEY variables are laid over it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A caching gateway for the Kore.ai Campaign Management API."""


@main.command()
@_config_option
def serve(config: Path | None) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    settings = _load(config)
    from service.telemetry import logs  # noqa: PLC0415

    logs.set_up()
    _run(_serve(settings))


@main.command()
@_config_option
def check(config: Path | None) -> None:
    """Validate the settings and print the effective ones, secrets masked."""
    settings = _load(config)
    from ruamel.yaml import YAML  # noqa: PLC0415

    printer = YAML(typ="safe", pure=True)
    printer.default_flow_style = False
    printer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # the stub knows only None
    printer.dump(settings.model_dump(mode="json", exclude_none=True), sys.stdout)


@main.command()
@click.option("--port", default=8080, show_default=True, help="The gateway's port on 127.0.0.1; 0 takes a free one.")
@click.option("--admin-port", default=9090, show_default=True, help="Port for metrics and probes.")
def demo(port: int, admin_port: int) -> None:
    """Run a gateway in front of a simulated platform: no settings, no credentials, no Redis."""
    from service.demo import run_demo  # noqa: PLC0415

    _run(run_demo(port, admin_port, _until_asked_to_stop))


@main.command()
@click.option("--port", type=_PORT, default=8081, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--campaigns", type=_COUNT, default=12, show_default=True, help="How many campaigns there are.")
@click.option("--calls", type=_COUNT, default=60, show_default=True, help="Calls allowed per account and minute.")
@click.option("--latency", type=_SECONDS, default=0.05, show_default=True, help="Seconds that each answer takes.")
def sandbox(port: int, campaigns: int, calls: int, latency: float) -> None:
    """Run the simulated platform alone."""
    from service.demo import run_sandbox  # noqa: PLC0415
    from service.sandbox.config import SandboxConfig  # noqa: PLC0415

    try:
        config = SandboxConfig(port=port, campaigns=campaigns, calls=calls, latency_seconds=latency)
    except ValueError as error:
        _fail(EXIT_BAD_SETTINGS, str(error))
    _run(run_sandbox(config, _until_asked_to_stop))


@main.group()
def key() -> None:
    """Client keys."""


@key.command("new")
@click.option("--client", default="my-service", show_default=True, help="Name of the client, for the settings.")
def key_new(client: str) -> None:
    """Make a client key: printed once, with the hash that goes into the settings."""
    from service.settings import ALIAS_PATTERN  # noqa: PLC0415
    from service.web.clients import new_key  # noqa: PLC0415

    if not re.match(ALIAS_PATTERN, client):
        _fail(EXIT_BAD_SETTINGS, "--client: needs 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    secret, digest = new_key()
    click.echo(f"key (give it to the client; it is shown only now): {secret}")
    click.echo("settings:")
    click.echo(f"  clients:\n    {client}: {{key_sha256: {digest}, streams: [...], scopes: [read]}}")


async def _serve(settings: Any) -> None:
    from service.app import running  # noqa: PLC0415

    async with running(settings) as gateway:
        await _until_asked_to_stop()
        await gateway.drain()


async def _until_asked_to_stop() -> None:
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await asked.wait()


def _load(config: Path | None) -> Any:
    from service.settings import SettingsError, load  # noqa: PLC0415

    try:
        return load(config)
    except SettingsError as error:
        _fail(EXIT_BAD_SETTINGS, *error.mistakes)


def _run(work: Coroutine[Any, Any, None]) -> None:
    import uvloop  # noqa: PLC0415

    from service.settings import SettingsError  # noqa: PLC0415

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except SettingsError as error:
        _fail(EXIT_BAD_SETTINGS, *error.mistakes)
    except (OSError, RuntimeError) as error:
        _fail(EXIT_FAILED, str(error))


def _fail(code: int, *lines: str) -> NoReturn:
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)
