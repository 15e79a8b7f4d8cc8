"""The command line: `campaign-gateway` and its commands.

Exit codes: 0 stopped as asked, 2 bad settings or command, 3 `doctor` has warnings only, 1 anything else. Heavy parts
are imported by the command that needs them, so that `key new` and a mistake in the settings answer at once.
"""

import gc
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
from typing_extensions import override

from campaign_gateway import __version__
from campaign_gateway.parameters import COUNT, PORT, SECONDS, MomentType
from campaign_gateway.plan import plan
from campaign_gateway.process import EXIT_BAD_SETTINGS, UntilStopped, ending_in_one_line, fail, run_until_stopped
from campaign_gateway.usage import SHELLS, add_examples, completion_script

_log = logging.getLogger(__name__)


_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="YAML file; default: GATEWAY_CONFIG. Variables GATEWAY__SECTION__KEY override it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A caching gateway for the Kore.ai Campaign Management API."""


class _ServeCommand(click.Command):
    """Tells of options that there are not as of all else that keeps it from starting: in its log."""

    @override
    def make_context(self, *arguments: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **more)
        except click.UsageError as error:
            _set_up_log(None)
            _log.error(error.format_message())
            sys.exit(EXIT_BAD_SETTINGS)


@main.command(cls=_ServeCommand)
@_config_option
@click.option(
    "--worker",
    nargs=3,
    type=(int, str, click.Path(path_type=Path)),
    hidden=True,
    help="Serve as one of several workers; added by the supervisor. See app.WorkerSlot.",
)
def serve(config: Path | None, worker: tuple[int, str, Path] | None) -> None:
    """Run the gateway until SIGTERM or SIGINT."""
    # Next to nothing that a start makes is garbage, and looking for it takes a tenth of the start.
    gc.disable()
    _set_up_log(worker)
    with ending_in_one_line(_log_reason):
        _serve_until_stopped(config, worker)


def _serve_until_stopped(config: Path | None, worker: tuple[int, str, Path] | None) -> None:
    from campaign_gateway.settings import (  # noqa: PLC0415
        SettingsFile,
        certificate_checks,
        expired_keys,
        traces_fault,
        unused_proxy,
    )

    file = SettingsFile(config)
    settings = file.load()
    _set_up_log(worker, level=settings.log.level, format=settings.log.format)
    if worker is not None:
        run_until_stopped(partial(_serve_as_worker, settings, file, worker), settings.shutdown.seconds)
        return
    _say_start(settings, config)
    if (name := unused_proxy(settings)) is not None:
        _log.warning("%s is set and not used for calls to the platform: set platform.proxy", name)
    if (untraced := traces_fault()) is not None:
        _log.warning("no traces: %s %s: %s", *untraced)
    for mistake in (*certificate_checks(settings, time.time()), *expired_keys(settings, datetime.now(UTC))):
        _log.warning(str(mistake))
    if settings.workers == 1:
        run_until_stopped(partial(_serve, settings, file), settings.shutdown.seconds)
        return
    sys.exit(run_until_stopped(partial(_supervise, settings)))


def _set_up_log(worker: tuple[int, str, Path] | None, **options: Any) -> None:
    from campaign_gateway.telemetry import logs  # noqa: PLC0415

    if worker is not None:
        options["worker"] = worker[0]
    logs.set_up(**options)


@main.command()
@_config_option
@click.option("--offline", is_flag=True, help="Look at the settings only: at no secret, key, certificate or directory.")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document: ok, findings, settings.")
def check(config: Path | None, *, offline: bool, is_json: bool) -> None:
    """Validate the settings and print the effective ones, secrets masked."""
    from campaign_gateway.check import examine  # noqa: PLC0415

    report = examine(config, is_offline=offline)
    if is_json:
        click.echo(json.dumps(report.as_document(), indent=2))
    else:
        if not report.errors:
            from ruamel.yaml import YAML  # noqa: PLC0415

            printer = YAML(typ="safe", pure=True)
            printer.default_flow_style = False
            printer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # the stub knows only None
            printer.dump(report.printed_settings(), sys.stdout)
        for mistake in report.errors:
            click.echo(str(mistake), err=True)
        for mistake in report.warnings:
            click.echo(f"warning: {mistake}", err=True)
    sys.exit(EXIT_BAD_SETTINGS if report.errors else 0)


@main.command()
@_config_option
@click.option(
    "--probe", "has_probe", is_flag=True, help="Measure what the platform's list does, for at most 10 calls a stream."
)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document: ok, exit, findings, probe.")
def doctor(config: Path | None, *, has_probe: bool, is_json: bool) -> None:
    """Try all that a gateway needs, from names to credentials, and say what to do.

    Each stream's list is read once, out of the account's budget; nothing is written. Exit code: 0 it works, 1 something
    will not work, 2 bad settings, 3 it works, with warnings.
    """
    import asyncio  # noqa: PLC0415

    from campaign_gateway.doctor import Finding, Style, examine, lines_of  # noqa: PLC0415

    style = Style((sys.stdout.encoding or "").lower().replace("-", "") == "utf8", sys.stdout.isatty())

    def tell(finding: Finding) -> None:
        for line in lines_of(finding, style):
            click.echo(line)

    # What the parts that it is made of would log is what it finds.
    with ending_in_one_line(_print_reason), _without_log():
        diagnosis = asyncio.run(examine(config, (lambda _: None) if is_json else tell, has_probe=has_probe))
    if is_json:
        click.echo(json.dumps(diagnosis.as_document(), indent=2))
    sys.exit(diagnosis.exit_code)


@main.command()
def schema() -> None:
    """Print the settings as JSON Schema, for editors: a sentence for each."""
    from campaign_gateway.settings.schema import schema_text  # noqa: PLC0415

    click.echo(schema_text(), nl=False)


_host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="GATEWAY_DEMO_HOST",
    help="Where to listen; 0.0.0.0 lets other machines in.",
)


@main.command()
@_host_option
@click.option("--port", type=int, help="The gateway's; 0 takes a free one.  [default: 8080, or a free one]")
@click.option("--admin-port", type=int, help="For metrics and probes.  [default: 9090, or a free one]")
def demo(host: str, port: int | None, admin_port: int | None) -> None:
    """Run a gateway in front of a simulated platform: no settings, no credentials, no Redis."""
    click.echo("Starting a gateway in front of a simulated platform: a second or two.")
    from campaign_gateway.demo import run_demo  # noqa: PLC0415

    with ending_in_one_line(_print_reason):
        run_until_stopped(partial(run_demo, host, port, admin_port), ends_with_terminal=True)


@main.command()
@_host_option
@click.option("--port", type=PORT, default=8081, show_default=True, help="Where to listen; 0 takes a free one.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed makes the same campaigns.")
@click.option("--campaigns", type=COUNT, default=12, show_default=True, help="Number of campaigns.")
@click.option("--calls", type=COUNT, default=60, show_default=True, help="Calls allowed per account and minute.")
@click.option("--latency", type=SECONDS, default=0.05, show_default=True, help="Seconds that each answer takes.")
@click.option(
    "--page-rows",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Most rows of a list in one answer.",
)
@click.option("--with-gateway", is_flag=True, help="A gateway in front of it too.")
@click.option("--gateway-port", type=PORT, default=8080, show_default=True, help="That gateway's.")
@click.option("--admin-port", type=PORT, default=9090, show_default=True, help="For that gateway's operators.")
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON when all is ready.")
def sandbox(
    host: str,
    port: int,
    seed: int,
    campaigns: int,
    calls: int,
    latency: float,
    page_rows: int,
    gateway_port: int,
    admin_port: int,
    *,
    with_gateway: bool,
    is_json: bool,
) -> None:
    """Run the simulated platform, alone or with a gateway in front of it, for tests of your own."""
    from campaign_gateway.demo import Places, run_sandbox  # noqa: PLC0415
    from campaign_gateway.sandbox.config import SandboxConfig  # noqa: PLC0415

    try:
        config = SandboxConfig(
            host=host,
            port=port,
            seed=seed,
            campaigns=campaigns,
            calls=calls,
            page_rows=page_rows,
            latency_seconds=latency,
        )
    except ValueError as error:
        fail(EXIT_BAD_SETTINGS, str(error))
    places = Places(host, gateway_port, admin_port) if with_gateway else None
    with ending_in_one_line(_print_reason):
        run_until_stopped(partial(run_sandbox, config, places, is_json=is_json), ends_with_terminal=True)


@main.command()
@click.option(
    "--admin", default="http://127.0.0.1:9090", show_default=True, help="Where the gateway's admin_listen is."
)
@click.option("--stream", help="The stream to look at, by its alias. [default: the gateway's]")
@click.option("--once", "is_once", is_flag=True, help="Print it once, as it does where there is no terminal.")
def top(admin: str, stream: str | None, *, is_once: bool) -> None:
    """Show the console's cells and figures in a terminal; q or Ctrl-C ends it."""
    from campaign_gateway.top import NoAnswerError, run  # noqa: PLC0415

    try:
        run(admin, stream, is_once=is_once)
    except NoAnswerError as error:
        fail(1, str(error))


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands and options."""
    click.echo(completion_script(main, shell))


@main.group()
def key() -> None:
    """Client keys."""


@key.command("new")
@click.option("--client", default="my-service", show_default=True, help="Name of the client, for the settings.")
@click.option(
    "--expires", type=MomentType(), help="When it lets nobody in any longer, such as 2027-02-01. [default: never]"
)
def key_new(client: str, expires: str | None) -> None:
    """Make a client key: printed once, with the hash that goes into the settings."""
    from campaign_gateway.settings import ALIAS_PATTERN  # noqa: PLC0415
    from campaign_gateway.web.clients import new_key  # noqa: PLC0415

    if not re.match(ALIAS_PATTERN, client):
        fail(EXIT_BAD_SETTINGS, "--client: needs 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    secret, digest = new_key()
    click.echo(f"key (give it to the client; it is shown only now): {secret}")
    click.echo("settings:")
    until = "" if expires is None else f", expires: {expires}"
    row = f"{{sha256: {digest}, note: {datetime.now(UTC):%Y-%m}{until}}}"
    click.echo(f"  clients:\n    {client}: {{keys: [{row}], streams: [...], scopes: [read]}}")


def _say_start(settings: Any, config: Path | None) -> None:
    from campaign_gateway.settings import hide_password  # noqa: PLC0415

    fields = {
        "version": __version__,
        "python": platform.python_version(),
        "settings": os.fspath(config or os.environ.get("GATEWAY_CONFIG", "")) or "environment",
        "streams": len(settings.streams),
        "clients": len(settings.clients),
        "platform": settings.platform.url,
        "cache": hide_password(settings.cache.url),
        "workers": settings.workers,
    }
    said = ", ".join(f"{name} {value}" for name, value in fields.items())
    _log.info("starting: %s", said, extra={"fields": fields})


async def _supervise(settings: Any, until_stopped: UntilStopped) -> int:
    from campaign_gateway.supervisor import supervise  # noqa: PLC0415

    # As this process was started: interpreter, its options, and ours.
    command = [sys.executable, *sys.orig_argv[1:], "--worker"]
    return await supervise(settings, command, until_stopped, until_stopped.on_hangup)


async def _serve(settings: Any, file: Any, until_stopped: UntilStopped) -> None:
    from campaign_gateway.app import running  # noqa: PLC0415

    async with running(settings, file=file) as gateway:
        until_stopped.on_hangup(gateway.reload)
        await gateway.drain(await until_stopped())
    _log.info("stopped, exit code 0")


async def _serve_as_worker(settings: Any, file: Any, slot: tuple[int, str, Path], until_stopped: UntilStopped) -> None:
    from campaign_gateway.app import WorkerSlot, running  # noqa: PLC0415

    number, ports, path = slot
    worker = WorkerSlot(number, [int(port) for port in ports.split(",")], path)
    async with running(settings, worker, file) as gateway:
        until_stopped.on_hangup(gateway.reload)
        # The supervisor waits for this line; and when standard input ends, there is no supervisor any longer.
        click.echo("up")
        await gateway.drain(await until_stopped(lifeline=sys.stdin.fileno()))
    _log.info("stopped, exit code 0")


def _log_reason(line: str, parts: Mapping[str, object]) -> None:
    _log.error("%s", line, extra={"fields": parts})


def _print_reason(line: str, _parts: Mapping[str, object]) -> None:
    key, *rest = line.split(": ", 1)
    # Who has written no settings knows of the options only.
    click.echo(": ".join([_OPTIONS.get(key, key), *rest]), err=True)


@contextmanager
def _without_log() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(before)


_OPTIONS = {"listen": "--port", "admin_listen": "--admin-port"}
"""The options of `demo` that become these settings."""


main.add_command(plan)
add_examples(main)
