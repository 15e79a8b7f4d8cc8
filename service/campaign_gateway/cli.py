"""The command line: `campaign-gateway serve | demo | sandbox | check | schema | plan | key new`.

Exit codes: 0 stopped as asked, 2 bad settings or command, 1 anything else. Heavy parts are imported by the command that
needs them, so that `key new` and a mistake in the settings answer at once.
"""

import asyncio
import gc
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from campaign_gateway import __version__
from campaign_gateway.parameters import DurationType, RateType, UsedType

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2

_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(min=0)
_SECONDS = click.FloatRange(min=0)
_PART = click.FloatRange(min=0, max=1)


_config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file; default: GATEWAY_CONFIG. Variables GATEWAY__SECTION__KEY override it.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def main() -> None:
    """A caching gateway for the Kore.ai Campaign Management API."""


@main.command()
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
    settings = _load(config)
    from campaign_gateway.settings import proxy_fault  # noqa: PLC0415
    from campaign_gateway.telemetry import logs  # noqa: PLC0415

    if worker is not None:
        logs.set_up(level=settings.log.level, format=settings.log.format, worker=worker[0])
        _run(partial(_serve_as_worker, settings, worker), settings.shutdown.seconds)
        return
    logs.set_up(level=settings.log.level, format=settings.log.format)
    if (fault := proxy_fault(settings)) is not None:
        _log.warning(fault)
    if settings.workers == 1:
        _run(partial(_serve, settings), settings.shutdown.seconds)
        return
    from campaign_gateway.supervisor import supervise  # noqa: PLC0415

    # As this process was started: interpreter, its options, and ours.
    command = [sys.executable, *sys.orig_argv[1:], "--worker"]
    sys.exit(_run(partial(supervise, settings, command)))


@main.command()
@_config_option
def check(config: Path | None) -> None:
    """Validate the settings and print the effective ones, secrets masked."""
    settings = _load(config)
    _sign_with_each(settings)
    from ruamel.yaml import YAML  # noqa: PLC0415

    from campaign_gateway.settings import proxy_fault  # noqa: PLC0415

    printer = YAML(typ="safe", pure=True)
    printer.default_flow_style = False
    printer.sort_base_mapping_type_on_output = False  # type: ignore[assignment] # the stub knows only None
    printer.dump(settings.model_dump(mode="json", exclude_none=True), sys.stdout)
    if (fault := proxy_fault(settings)) is not None:
        click.echo(f"warning: {fault}", err=True)
    if settings.cache.url == "memory://" and (fault := _state_fault(settings)) is not None:
        click.echo(f"warning: cache.state_dir: {fault}: a restart loses the calls of the window", err=True)
    from campaign_gateway.settings import seal_gap  # noqa: PLC0415

    if (gap := seal_gap(settings.cache)) is not None:
        click.echo(f"warning: cache.seal: {gap}", err=True)


@main.command()
def schema() -> None:
    """Print the settings as JSON Schema, for editors: a sentence for each."""
    from campaign_gateway.settings.schema import schema_text  # noqa: PLC0415

    click.echo(schema_text(), nl=False)


@main.command()
@click.option("--port", default=8080, show_default=True, help="The gateway's port on 127.0.0.1; 0 takes a free one.")
@click.option("--admin-port", default=9090, show_default=True, help="Port for metrics and probes.")
def demo(port: int, admin_port: int) -> None:
    """Run a gateway in front of a simulated platform: no settings, no credentials, no Redis."""
    from campaign_gateway.demo import run_demo  # noqa: PLC0415

    _run(partial(run_demo, port, admin_port), ends_with_terminal=True)


@main.command()
@click.option("--port", type=_PORT, default=8081, show_default=True, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--campaigns", type=_COUNT, default=12, show_default=True, help="Number of campaigns.")
@click.option("--calls", type=_COUNT, default=60, show_default=True, help="Calls allowed per account and minute.")
@click.option("--latency", type=_SECONDS, default=0.05, show_default=True, help="Seconds that each answer takes.")
@click.option(
    "--page-rows",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="Most rows of a list in one answer.",
)
def sandbox(port: int, campaigns: int, calls: int, latency: float, page_rows: int) -> None:
    """Run the simulated platform alone."""
    from campaign_gateway.demo import run_sandbox  # noqa: PLC0415
    from campaign_gateway.sandbox.config import SandboxConfig  # noqa: PLC0415

    try:
        config = SandboxConfig(
            port=port, campaigns=campaigns, calls=calls, page_rows=page_rows, latency_seconds=latency
        )
    except ValueError as error:
        _fail(EXIT_BAD_SETTINGS, str(error))
    _run(partial(run_sandbox, config), ends_with_terminal=True)


@main.command()
@click.option("--campaigns", type=_COUNT, required=True, help="Campaigns in the stream.")
@click.option("--used", type=UsedType(), default="1.0", help="Campaigns in use: 0.5, 50% or 400. [default: all]")
@click.option("--sms", type=_PART, default=0.5, show_default=True, help="The part of the campaigns that is SMS.")
@click.option(
    "--change-rate", type=RateType(), default="0/s", show_default=True, help="Changes of all campaigns: 1/s 30/m 5/h."
)
@click.option("--budget", type=click.IntRange(min=1), default=60, show_default=True, help="Calls in a window.")
@click.option("--window", type=DurationType(), default="60s", show_default=True, help="The budget's window.")
@click.option("--reserve", type=_COUNT, help="Calls kept for callers who wait. [default: one in twelve]")
@click.option("--share", type=_PART, default=0.5, show_default=True, help="The part of the budget for the sweep.")
@click.option("--interactive", type=_SECONDS, default=0.0, show_default=True, help="Callers' own calls a minute.")
@click.option(
    "--page-rows", type=click.IntRange(min=1), default=100, show_default=True, help="Most rows of a list in one answer."
)
@click.option("--lag", type=DurationType(), default="10s", show_default=True, help="How far the list may lag behind.")
def plan(
    campaigns: int,
    used: float,
    sms: float,
    change_rate: float,
    budget: int,
    window: float,
    reserve: int | None,
    share: float,
    interactive: float,
    page_rows: int,
    lag: float,
) -> None:
    """Predict how soon changes are seen, and what the calls are spent on."""
    from campaign_gateway.contract.listing import Channel  # noqa: PLC0415
    from campaign_gateway.policy.forecast import forecast  # noqa: PLC0415
    from campaign_gateway.policy.freshness import Freshness  # noqa: PLC0415
    from campaign_gateway.policy.pacing import Capacity, Workload  # noqa: PLC0415

    count = used if isinstance(used, int) else round(used * campaigns)
    reserved = budget // 12 if reserve is None else reserve
    if count > campaigns:
        _fail(EXIT_BAD_SETTINGS, f"--used: {count} of {campaigns} campaigns cannot be in use")
    if reserved >= budget:
        _fail(EXIT_BAD_SETTINGS, f"--reserve: {reserved} leaves nothing of a budget of {budget} calls")
    parts = {Channel.VOICE: 1 - sms, Channel.SMS: sms}
    moves = change_rate * count / campaigns if campaigns else 0.0
    seen = forecast(
        Capacity(budget, window, reserved, share, others=interactive * window / 60),
        Workload(
            used={channel: round(part * count) for channel, part in parts.items()},
            listed={channel: round(part * campaigns) for channel, part in parts.items()},
            moves={channel: part * moves for channel, part in parts.items()},
            page_rows=page_rows,
        ),
        lag,
        Freshness().max,
    )
    rows = [("signal bound", _spell(seen.signal)), ("blind bound", _spell(seen.blind))]
    rows += [(f"poll of {channel}", f"every {_spell(pace)}") for channel, pace in seen.pace.poll_intervals.items()]
    if seen.pace.poll_intervals:
        rows += [
            ("rotation", f"each campaign in use every {_spell(seen.pace.rotation)}"),
            ("full scan", f"every {_spell(seen.pace.full_scan_after)}"),
        ]
    else:
        rows.append(("polls", "none: reading each campaign is as good, and lifetimes count"))
    rows.append(("calls a minute", f"{seen.capacity:.1f} and a reserve of {reserved * 60 / window:.1f}"))
    rows += [(f"  {purpose}", f"{calls:.1f}") for purpose, calls in seen.calls.items()]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:{width}}  {value}")
    if seen.changes > seen.readable:
        click.echo(
            f"warning: {seen.changes:.1f} campaigns in use change a minute and {seen.readable:.1f} can be read: "
            "the others wait, known to be out of date"
        )


def _spell(seconds: float) -> str:
    """A span of time in the unit that suits it."""
    for unit, length in (("h", 3600.0), ("m", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.1f}s"


@main.group()
def key() -> None:
    """Client keys."""


@key.command("new")
@click.option("--client", default="my-service", show_default=True, help="Name of the client, for the settings.")
def key_new(client: str) -> None:
    """Make a client key: printed once, with the hash that goes into the settings."""
    from campaign_gateway.settings import ALIAS_PATTERN  # noqa: PLC0415
    from campaign_gateway.web.clients import new_key  # noqa: PLC0415

    if not re.match(ALIAS_PATTERN, client):
        _fail(EXIT_BAD_SETTINGS, "--client: needs 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit")
    secret, digest = new_key()
    click.echo(f"key (give it to the client; it is shown only now): {secret}")
    click.echo("settings:")
    click.echo(f"  clients:\n    {client}: {{key_sha256: {digest}, streams: [...], scopes: [read]}}")


async def _serve(settings: Any, until_stopped: "UntilStopped") -> None:
    from campaign_gateway.app import running  # noqa: PLC0415

    async with running(settings) as gateway:
        await until_stopped()
        await gateway.drain()


async def _serve_as_worker(settings: Any, slot: tuple[int, str, Path], until_stopped: "UntilStopped") -> None:
    from campaign_gateway.app import WorkerSlot, running  # noqa: PLC0415

    number, ports, path = slot
    async with running(settings, WorkerSlot(number, [int(port) for port in ports.split(",")], path)) as gateway:
        # The supervisor waits for this line; and when standard input ends, there is no supervisor any longer.
        click.echo("up")
        await until_stopped(lifeline=sys.stdin.fileno())
        await gateway.drain()


class UntilStopped:
    """Returns when somebody asks the process to stop. Who asks before it is called has the start given up."""

    def __init__(self, deadline: float | None, stops: frozenset[signal.Signals]) -> None:
        """Takes the signals over, for the task that starts the service.

        Args:
            deadline: seconds from being asked until the process ends, come what may; None for no such end.
            stops: the signals that ask. Others that would kill are ignored.
        """
        self._loop = asyncio.get_running_loop()
        self._deadline = deadline
        self._starting = asyncio.current_task()
        self._asked = asyncio.Event()
        for number in stops:
            self._loop.add_signal_handler(number, self._ask)
        for number in _DEADLY - stops:
            self._loop.add_signal_handler(number, _log.info, "%s is ignored", number.name)

    async def __call__(self, lifeline: int | None = None) -> None:
        """Waits; the end of what is read from `lifeline`, a file descriptor, asks as well."""
        self._starting = None
        # What the start has made stays to the end: to look through it for garbage keeps all callers waiting for 20 ms.
        gc.freeze()
        gc.enable()
        if lifeline is not None:
            self._loop.add_reader(lifeline, self._ask)
        await self._asked.wait()
        if lifeline is not None:
            self._loop.remove_reader(lifeline)

    def _ask(self) -> None:
        if self._asked.is_set():
            return
        self._asked.set()
        if self._deadline is not None:
            self._loop.call_later(self._deadline, _cut_off)
        if self._starting is not None:
            self._starting.cancel()


_STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
_DEADLY = frozenset({signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2})
"""Signals whose default is death, and that other services take for a reload, a report or a new log file."""


def _cut_off() -> None:
    _log.warning("stopping took longer than shutdown.drain and shutdown.grace: what is left is cut off")
    logging.shutdown()
    os._exit(0)


def _sign_with_each(settings: Any) -> None:
    """Ends the process when a key that looks good cannot sign, and passes on what the signing library warns of."""
    import warnings  # noqa: PLC0415

    from campaign_gateway.app.build import build_signers  # noqa: PLC0415
    from campaign_gateway.settings import SettingsError  # noqa: PLC0415

    try:
        with warnings.catch_warnings(record=True, action="always") as warned:
            build_signers(settings)
    except SettingsError as error:
        _fail(EXIT_BAD_SETTINGS, *error.mistakes)
    for warning in warned:
        click.echo(f"warning: credentials: {warning.message}", err=True)


def _state_fault(settings: Any) -> str | None:
    from campaign_gateway.settings import folder_fault, state_folder  # noqa: PLC0415

    folder = state_folder(settings.cache)
    return "there is no state directory" if folder is None else folder_fault(folder)


def _load(config: Path | None) -> Any:
    from campaign_gateway.settings import SettingsError, load  # noqa: PLC0415

    try:
        return load(config)
    except SettingsError as error:
        _fail(EXIT_BAD_SETTINGS, *error.mistakes)


def _run(
    work: Callable[[UntilStopped], Coroutine[Any, Any, _T]],
    deadline: float | None = None,
    *,
    ends_with_terminal: bool = False,
) -> _T:
    """Runs it on a loop of its own; it ends the process itself where it fails, or is stopped before it serves."""
    import uvloop  # noqa: PLC0415

    from campaign_gateway.settings import SettingsError  # noqa: PLC0415

    stops = _STOPS | {signal.SIGHUP} if ends_with_terminal else _STOPS

    async def run() -> _T:
        return await work(UntilStopped(deadline, stops))

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run())
    except asyncio.CancelledError:
        sys.exit(0)
    except SettingsError as error:
        _fail(EXIT_BAD_SETTINGS, *error.mistakes)
    except (OSError, RuntimeError) as error:
        _fail(EXIT_FAILED, str(error))


def _fail(code: int, *lines: str) -> NoReturn:
    for line in lines:
        click.echo(line, err=True)
    sys.exit(code)
