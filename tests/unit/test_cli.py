import asyncio
import gc
import hashlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from campaign_gateway import __version__, usage
from campaign_gateway.cli import main
from campaign_gateway.process import UntilStopped
from campaign_gateway.settings import ClientSettings, Settings
from tests.support.gateway import ROOT
from tests.support.tls import Authority
from tests.support.wire import free_port

SECRET = "hunter2-must-not-be-told-to-anybody"
SEAL_KEY = "sixteen-characters-at-least"


@pytest.fixture(autouse=True)
def a_process_of_its_own(monkeypatch):
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    yield
    # A `serve` that fails before it serves leaves it off, and ends.
    gc.enable()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def config(tmp_path):
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "seal").write_text(SEAL_KEY)
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"listen: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n"
        f"credentials: {{main: {{client_id: cs-1, client_secret_file: {tmp_path}/secret}}}}\n"
        "streams: {support: {stream_id: st-1, account_id: acc-1, credential: main}}\n"
        f"cache: {{url: 'redis://:{SECRET}@redis:6379/0', seal: {{key_file: {tmp_path}/seal}}}}\n"
    )
    return path


# check


def test_check_prints_the_effective_settings_and_no_secret(config):
    result = run("check", "--config", config)
    assert (result.exit_code, result.stderr) == (0, "")
    tree = YAML(typ="safe", pure=True).load(result.stdout)
    assert tree["platform"]["timeout"] == "10s"
    assert tree["cache"]["url"] == "redis://:***@redis:6379/0"
    assert SECRET not in result.output
    assert SEAL_KEY not in result.output


def test_check_says_what_the_lack_of_a_key_leaves_open(config):
    config.write_text(re.sub(r", seal: \{.*?\}", "", config.read_text()))
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: cache.seal: {config}:5: no key_file: whoever can write to Redis can make up answers, and take calls"
        " out of the ledger: write {key_file: ...}\n"
    )


def test_check_warns_of_a_state_directory_that_cannot_be(config, tmp_path, monkeypatch):
    config.write_text(config.read_text().partition("cache:")[0])
    assert run("check", "--config", config).stderr == ""
    monkeypatch.setenv("XDG_STATE_HOME", str(config))
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert result.stderr == (
        f"warning: cache.state_dir: {config}:1: {config} is not a directory, so a restart loses the calls of the window:"
        " name a directory that this user may write\n"
    )


@pytest.mark.drill("a key that signs nothing, a certificate without its key")
def test_check_signs_with_each_key(config, monkeypatch):
    def fail(*_: object) -> str:
        raise ValueError("not today")

    monkeypatch.setattr("campaign_gateway.upstream.signer._sign", fail)
    result = run("check", "--config", config)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"credentials.main: {config}:3: cannot sign: not today: check its key\n"


def test_check_warns_of_a_secret_that_is_shorter_than_its_digest(config):
    (config.parent / "secret").write_text("ten bytes.")
    result = run("check", "--config", config)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: credentials: {config}:3: The HMAC key is 10 bytes long")
    assert "ten bytes." not in result.output


def test_check_warns_of_a_key_that_has_expired(config):
    rows = "[{sha256: " + "a" * 64 + ", expires: 2026-11-01}]"
    config.write_text(config.read_text() + f"clients:\n  reporting:\n    keys: {rows}\n    streams: [support]\n")
    result = run("check", "--offline", "--config", config)
    assert result.exit_code == 0
    said = f"clients.reporting.keys.0.expires: {config}:{len(config.read_text().splitlines()) - 1}: "
    assert f"warning: {said}the key aaaaaaaa expired on 2026-11-01 00:00 UTC: remove it\n" in result.stderr


def test_check_warns_of_a_proxy_that_only_the_environment_names(config, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:password@egress:3128")
    result = run("check", "--config", config)
    assert result.exit_code == 0
    said = "HTTPS_PROXY is set and not used for calls to the platform: write platform.proxy"
    assert result.stderr == f"warning: platform.proxy: {config}:1: {said}\n"
    monkeypatch.setenv("GATEWAY__PLATFORM__PROXY", "http://egress:3128")
    assert run("check", "--config", config).stderr == ""


def test_what_check_prints_can_be_loaded_again(config):
    once = run("check", "--config", config).stdout
    again = config.with_name("again.yaml")
    again.write_text(once)
    assert run("check", "--config", again).stdout == once


def test_check_prints_in_the_order_of_the_readme(config):
    tree = YAML(typ="safe", pure=True).load(run("check", "--config", config).stdout)
    assert list(tree) == [name for name in Settings.model_fields if name in tree]


def test_check_takes_the_file_from_the_environment(config, monkeypatch):
    monkeypatch.setenv("GATEWAY_CONFIG", str(config))
    monkeypatch.setenv("GATEWAY__CACHE__PREFIX", "from-env")
    assert "prefix: from-env" in run("check").stdout


def test_mistakes_are_one_line_each_on_standard_error_and_exit_2(config):
    config.write_text(f"colour: {SECRET}\nplatform: {{timeout: 10}}\n")
    result = run("check", "--config", config)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line.partition(":")[0] for line in result.stderr.splitlines()] == [
        "platform.timeout",
        "credentials",
        "streams",
        "colour",
    ]
    assert SECRET not in result.output


def test_mistakes_between_keys_are_one_line_each_too(config):
    config.write_text(config.read_text().replace("credential: main", "credential: x") + "budgets: {acc-9: {}}\n")
    result = run("check", "--config", config)
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        f"streams.support.credential: {config}:4: no credential is named x: write main",
        f"budgets.acc-9: {config}:6: no stream has this account_id: write default or acc-1",
    ]


def test_a_file_that_is_not_there_is_a_bad_setting(tmp_path):
    result = run("check", "--config", tmp_path / "none.yaml")
    said = (
        f"settings: {tmp_path}/none.yaml: cannot be read: no such file or directory: name another file with --config\n"
    )
    assert (result.exit_code, result.stderr) == (2, said)


DAY = timedelta(days=1)


@pytest.mark.drill(
    "a certificate out of its time",
    planted="expired, not yet good; of a client, in a chain, of all authorities of a bundle",
    seen="`check` names its key and date and ends with 2; a start goes on, with a warning",
)
@pytest.mark.parametrize(
    ("good", "said"),
    [
        pytest.param((-30 * DAY, -DAY), "expired on 20", id="expired"),
        pytest.param((DAY, 30 * DAY), "is not valid before 20", id="not-yet-good"),
    ],
)
def test_check_finds_a_certificate_that_is_not_good_now(config, tmp_path, good, said):
    authority = Authority(tmp_path, "authority")
    late, now = authority.issue("late", good=good), authority.issue("now")
    chain, bundle = tmp_path / "chain.pem", tmp_path / "bundle.pem"
    chain.write_text(now.cert_file.read_text() + late.cert_file.read_text())
    rows = {"tls.cert_file": late.cert_file, "tls.ca_file": Authority(tmp_path, "old", good).file}
    for name, (cert, ca, found) in {
        "each": (late.cert_file, rows["tls.ca_file"], {"cache.tls.cert_file", "platform.ca_file"}),
        "bundle": (chain, bundle, {"cache.tls.cert_file"}),
    }.items():
        bundle.write_text(rows["tls.ca_file"].read_text() + authority.file.read_text())
        key = late.key_file if name == "each" else now.key_file
        path = tmp_path / f"{name}.yaml"
        tls = f"url: 'rediss://redis:1', tls: {{cert_file: {cert}, key_file: {key}}},"
        text = re.sub(r"url: '.*?',", tls, config.read_text())
        path.write_text(f"{text}platform: {{ca_file: {ca}}}\n")
        result = run("check", "--config", path)
        lines = result.stderr.splitlines()
        assert {line.partition(":")[0] for line in lines} == found
        assert all(said in line for line in lines)
        assert result.exit_code == 2
        assert run("check", "--offline", "--config", path).exit_code == 0


def test_check_looks_at_no_file_and_no_secret_where_it_is_offline(config, tmp_path):
    for name in ("secret", "seal"):
        (tmp_path / name).unlink()
    assert run("check", "--config", config).exit_code == 2
    result = run("check", "--offline", "--config", config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "client_secret_file" in result.stdout
    config.write_text(config.read_text() + "workers: 0\n")
    assert run("check", "--offline", "--config", config).exit_code == 2


def test_check_has_one_document_for_programs(config):
    document = json.loads(run("check", "--json", "--config", config).stdout)
    assert (document["ok"], document["findings"]) == (True, [])
    assert document["settings"]["platform"]["timeout"] == "10s"
    config.write_text(config.read_text() + f"colour: {SECRET}\nworkers: 0\n")
    result = run("check", "--json", "--config", config)
    assert (result.exit_code, result.stderr) == (2, "")
    document = json.loads(result.stdout)
    assert (document["ok"], document["settings"]) == (False, None)
    assert document["findings"][0] == {
        "severity": "error",
        "key": "workers",
        "source": str(config),
        "line": 7,
        "problem": "is too small",
        "advice": "write 1 or more",
    }
    assert document["findings"][1]["key"] == "colour"
    assert SECRET not in result.stdout


def test_check_tells_programs_of_warnings_too(config):
    config.write_text(re.sub(r", seal: \{.*?\}", "", config.read_text()))
    document = json.loads(run("check", "--json", "--config", config).stdout)
    assert document["ok"]
    assert [(row["severity"], row["key"], row["line"]) for row in document["findings"]] == [
        ("warning", "cache.seal", 5)
    ]


# doctor


def test_doctor_tells_what_it_finds_and_what_to_do(config):
    config.write_text(config.read_text() + "listne: 127.0.0.1:0\n")
    result = run("doctor", "--config", config)
    assert result.exit_code == 2
    assert result.stdout == (f"✗ settings           listne: {config}:6: unknown key\n  → did you mean listen?\n")


def test_doctor_prints_one_document_for_programs(config):
    config.write_text(config.read_text() + f"platform: {{url: 'http://127.0.0.1:{free_port()}'}}\n")
    result = run("doctor", "--config", config, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ok"], told["exit"], told["probe"]) == (1, False, 1, {})
    rows = [(row["check"], row["status"]) for row in told["findings"]]
    assert ("platform.tcp", "error") in rows
    assert ("stream.call", "skipped") in rows
    assert SECRET not in result.output


# serve


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_demo_whose_port_is_taken_names_its_option(option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--port": 0, "--admin-port": 0, option: taken.getsockname()[1]}
        ended = subprocess.run(
            [sys.executable, "-m", "campaign_gateway", "demo", *(f"{name}={port}" for name, port in ports.items())],
            env={**os.environ, "PYTHONPATH": str(ROOT / "service")},
            capture_output=True,
            check=False,
            timeout=30,
        )
    assert ended.returncode == 1
    (line,) = ended.stderr.decode().splitlines()
    assert line.startswith(f"{option}: cannot listen on 127.0.0.1, port {ports[option]}: address already in use")


async def test_once_it_serves_garbage_is_collected_again():
    lifeline, end = os.pipe()
    gc.disable()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(UntilStopped(None, frozenset())(lifeline))
            await asyncio.sleep(0)
            is_collected = gc.isenabled()
            os.close(end)
    finally:
        gc.unfreeze()
    os.close(lifeline)
    assert is_collected


# Signals. Each of these is a process of its own.


async def end_of(
    command: Sequence[str], signals: Sequence[signal.Signals], environ: Mapping[str, str]
) -> tuple[int | None, str]:
    """The exit code of a program that was sent the signals once it had printed a line, and what it logged."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command),
        env={**os.environ, **environ},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(20):
            assert process.stdout is not None
            assert await process.stdout.readline()
            for number in signals:
                process.send_signal(number)
            _, log = await process.communicate()
            return process.returncode, log.decode()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.drill(
    "signals before, while and after it serves",
    planted="sent to processes that import, start, end",
    seen="exit 0; SIGHUP, SIGUSR1 and SIGUSR2 a log line",
)
@pytest.mark.parametrize(
    ("command", "signals", "code"),
    [
        ("serve", [signal.SIGTERM], 0),
        ("serve", [signal.SIGINT], 0),
        ("serve", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM], 0),
        ("demo", [signal.SIGTERM], 0),
        ("check", [signal.SIGTERM], -signal.SIGTERM),
    ],
)
async def test_who_is_stopped_before_all_is_imported_has_stopped_as_asked(
    tmp_path: Path, command: str, signals: list[signal.Signals], code: int
):
    (tmp_path / "click.py").write_text("print(0, flush=True)\nimport time\ntime.sleep(1000)\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT / "service")])
    ended = await end_of(["-m", "campaign_gateway", command], signals, {"PYTHONPATH": path})
    assert ended == (code, "")


async def test_who_asks_again_when_all_is_done_changes_nothing():
    program = """
import atexit, sys, time
from campaign_gateway import __main__, cli

def end():
    print(0, flush=True)
    time.sleep(0.5)

atexit.register(end)
cli.main = lambda: None
sys.argv[1:] = ["serve"]
__main__.main()
"""
    assert await end_of(["-c", program], [signal.SIGTERM], {}) == (0, "")


IGNORED = "SIGHUP is ignored\nSIGUSR1 is ignored\nSIGUSR2 is ignored\n"


@pytest.mark.drill("signals before, while and after it serves")
@pytest.mark.parametrize(
    ("work", "deadline", "signals", "log"),
    [
        pytest.param("await forever()", 1000, ["SIGTERM"], "", id="a-start-is-given-up"),
        pytest.param("await stop()", 1000, ["SIGINT", "SIGTERM"], "", id="twice"),
        pytest.param("await stop()", 1000, ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTERM"], IGNORED, id="others"),
        pytest.param("await stop(); await forever()", 0.1, ["SIGTERM"], "what is left is cut off\n", id="no-end"),
    ],
)
async def test_signals_are_heeded_from_the_start_to_the_end(work: str, deadline: float, signals: list[str], log: str):
    program = f"""
import asyncio, logging, sys
from campaign_gateway import __main__, cli, process

async def forever():
    await asyncio.Event().wait()

async def work(stop):
    print("up", flush=True)
    {work}

logging.basicConfig(level=logging.INFO, format="%(message)s")
cli.main = lambda: process.run_until_stopped(work, {deadline})
sys.argv[1:] = ["serve"]
__main__.main()
"""
    code, logged = await end_of(["-c", program], [signal.Signals[name] for name in signals], {})
    assert code == 0
    assert sorted(logged.rpartition(": ")[2].splitlines()) == sorted(log.splitlines())


# key new


def test_key_new_prints_a_key_and_the_hash_that_matches_it():
    result = run("key", "new", "--client", "reporting")
    assert result.exit_code == 0
    key = re.search(r"cgk_[A-Za-z0-9_-]{43}", result.stdout)
    digest = re.search(r"sha256: ([0-9a-f]{64})", result.stdout)
    assert key is not None
    assert digest is not None
    assert digest[1] == hashlib.sha256(key[0].encode()).hexdigest()
    assert result.stdout.count(key[0]) == 1


@pytest.mark.parametrize(
    ("options", "expires"),
    [
        ((), None),
        (("--expires", "2999-02-01"), datetime(2999, 2, 1, tzinfo=UTC)),
        (("--expires", "2999-02-01T12:30:00+02:00"), datetime(2999, 2, 1, 10, 30, tzinfo=UTC)),
    ],
)
def test_key_new_names_the_client_in_settings_that_can_be_pasted(options, expires):
    printed = run("key", "new", "--client", "reporting", *options).stdout.partition("settings:\n")[2]
    (client,) = YAML(typ="safe", pure=True).load(printed)["clients"].values()
    assert set(client) == {"keys", "streams", "scopes"}
    row = ClientSettings.model_validate({**client, "streams": ["support"]})
    (key,) = row.named_keys.values()
    assert (key.note, key.expires) == (f"{datetime.now(UTC):%Y-%m}", expires)


@pytest.mark.parametrize("date", ["2020-01-01", "tomorrow", "2027-02-30", "2999"])
def test_key_new_makes_no_key_that_has_expired_or_never_would(date):
    result = run("key", "new", "--expires", date)
    assert result.exit_code == 2
    assert "cgk_" not in result.output


def test_each_key_is_another():
    assert run("key", "new").stdout != run("key", "new").stdout


@pytest.mark.parametrize("name", ["a b", "-a", "a/b", "x" * 65, "a: {b"])
def test_key_new_makes_no_key_for_a_name_that_the_settings_refuse(name):
    result = run("key", "new", f"--client={name}")
    assert result.exit_code == 2
    assert "cgk_" not in result.output


# plan


def planned(*options: str) -> dict[str, str]:
    """The lines of a plan by their names."""
    result = run("plan", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    rows = [re.split(r"\s{2,}|: ", line.strip(), maxsplit=1) for line in result.stdout.splitlines()]
    return dict(rows)


def seconds(text: str) -> float:
    match = re.search(r"([0-9.]+)([smh])$", text)
    assert match is not None
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


BUSY = ("--campaigns=2000", "--used=50%", "--change-rate=1/s")


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (("--campaigns=2",), "polls", "none: reading each campaign is as good, and lifetimes count"),
        (("--campaigns=2",), "signal bound", "10.0m"),
        ((*BUSY, "--share=0"), "polls", "none: reading each campaign is as good, and lifetimes count"),
        (BUSY, "calls a minute", "55.0 and a reserve of 5.0"),
        ((*BUSY, "--budget=120"), "calls a minute", "110.0 and a reserve of 10.0"),
        ((*BUSY, "--budget=20", "--window=30s"), "calls a minute", "38.0 and a reserve of 2.0"),
        ((*BUSY, "--reserve=0"), "calls a minute", "60.0 and a reserve of 0.0"),
        ((*BUSY, "--interactive=6"), "callers and writes", "6.0"),
        ((*BUSY, "--interactive=6", "--window=30s", "--budget=30"), "callers and writes", "6.0"),
        (("--campaigns=600", "--change-rate=6/m"), "changed campaigns", "6.0"),
        (("--campaigns=600", "--change-rate=360/h"), "changed campaigns", "6.0"),
        (("--campaigns=600", "--change-rate=0.1/s", "--used=0.5"), "changed campaigns", "3.0"),
        (("--campaigns=600", "--change-rate=0.1/s", "--used=60"), "changed campaigns", "0.6"),
        (("--campaigns=0",), "signal bound", "10.0m"),
    ],
)
def test_plan_says(options, name, value):
    assert planned(*options)[name] == value


@pytest.mark.parametrize(
    ("better", "worse", "name"),
    [
        ((*BUSY, "--budget=120"), BUSY, "signal bound"),
        ((*BUSY, "--budget=120"), BUSY, "rotation"),
        (BUSY, (*BUSY, "--interactive=30"), "signal bound"),
        (BUSY, (*BUSY, "--reserve=30"), "signal bound"),
        ((*BUSY, "--used=100"), BUSY, "blind bound"),
        (BUSY, (*BUSY, "--page-rows=10"), "full scan"),
        ((*BUSY, "--sms=0.1"), (*BUSY, "--sms=0.9"), "poll of voice"),
    ],
)
def test_a_plan_is_better_with(better, worse, name):
    assert seconds(planned(*better)[name]) < seconds(planned(*worse)[name])


def test_the_lag_is_part_of_the_signal_bound():
    near, far = (seconds(planned(*BUSY, f"--lag={lag}")["signal bound"]) for lag in ("1s", "31s"))
    assert far - near == pytest.approx(30, abs=0.1)


def test_a_plan_never_spends_more_than_there_is():
    for rate in ("0/s", "5/m", "1/s", "9/s"):
        plan = planned("--campaigns=2000", f"--change-rate={rate}")
        purposes = ("callers and writes", "polls of the list", "full scans", "reads in rotation", "changed campaigns")
        assert sum(float(plan[purpose]) for purpose in purposes) <= 55.3


def test_more_changes_than_calls_are_warned_of():
    plan = planned("--campaigns=2000", "--change-rate=1/s")
    assert plan["warning"].startswith("60.0 campaigns in use change a minute and ")
    assert "warning" not in planned("--campaigns=2000", "--change-rate=5/m")
    assert "warning" not in planned("--campaigns=400", "--used=50%", "--change-rate=20/h", "--interactive=20")


@pytest.mark.parametrize("channel", ["voice", "sms"])
def test_a_channel_without_campaigns_has_no_polls(channel):
    plan = planned("--campaigns=100", f"--sms={int(channel == 'voice')}")
    assert f"poll of {channel}" not in plan
    assert sum(name.startswith("poll of") for name in plan) == 1


def test_the_values_of_a_plan_stand_in_one_column():
    lines = run("plan", *BUSY).stdout.splitlines()
    lines = [line for line in lines if not line.startswith("warning")]
    columns = [match.end() for line in lines if (match := re.match(r"\s*\S.*?\s{2,}", line))]
    assert columns == [columns[0]] * len(lines)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--campaigns=-1",),
        ("--campaigns=some",),
        ("--campaigns=9", "--used=-1"),
        ("--campaigns=9", "--used=10"),
        ("--campaigns=9", "--used=1.5"),
        ("--campaigns=9", "--used=101%"),
        ("--campaigns=9", "--used=half"),
        ("--campaigns=9", "--used=nan%"),
        ("--campaigns=9", "--sms=2"),
        ("--campaigns=9", "--budget=0"),
        ("--campaigns=9", "--reserve=60"),
        ("--campaigns=9", "--window=60"),
        ("--campaigns=9", "--window=0s"),
        ("--campaigns=9", "--lag=-1s"),
        ("--campaigns=9", "--share=1.1"),
        ("--campaigns=9", "--change-rate=1"),
        ("--campaigns=9", "--change-rate=1/d"),
        ("--campaigns=9", "--change-rate=-1/s"),
        ("--campaigns=9", "--interactive=-1"),
        ("--campaigns=9", "--page-rows=0"),
    ],
    ids=" ".join,
)
def test_a_plan_that_cannot_be_is_exit_2(options):
    result = run("plan", *options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert options[-1].partition("=")[0] in result.stderr if options else "--campaigns" in result.stderr
    assert "Traceback" not in result.output


# The command line itself.


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["check", "--no-such-option"],
        ["check", "superfluous"],
        ["check", "--config"],
        ["key", "old"],
        ["demo", "--port", "many"],
        ["sandbox", "--calls", "some"],
    ],
    ids=" ".join,
)
def test_a_bad_command_is_exit_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    "option", ["--campaigns=-1", "--port=70000", "--port=-1", "--calls=-1", "--latency=-1", "--page-rows=0"]
)
def test_a_sandbox_that_cannot_be_is_exit_2(monkeypatch, option):
    async def never_run(*_: object) -> None:
        return

    monkeypatch.setattr("campaign_gateway.demo.run_sandbox", never_run)
    result = run("sandbox", option)
    assert result.exit_code == 2
    assert result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("option", ["--port=70000", "--admin-port=-1"])
def test_a_demo_that_cannot_be_is_exit_2_in_one_line(option):
    result = run("demo", option)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_commands(option):
    result = run(option)
    assert result.exit_code == 0
    for command in ("serve", "demo", "sandbox", "check", "plan", "key"):
        assert f"\n  {command} " in result.stdout


def test_each_command_has_examples_that_it_takes():
    listed = dict(usage.commands(main))
    assert usage.EXAMPLES.keys() == listed.keys()
    for name, lines in usage.EXAMPLES.items():
        shown = run(*name.split(), "--help").stdout
        for line in lines:
            assert f"  campaign-gateway {line}\n" in shown
            typed = re.split(" [>#]|   #", line)[0].removeprefix(name)
            # Reads its options, as a call would, and does nothing.
            listed[name].make_context(name, shlex.split(typed))


@pytest.mark.parametrize("shell", usage.SHELLS)
def test_a_shell_completes_what_there_is(shell):
    script = run("completion", shell).stdout
    assert "_CAMPAIGN_GATEWAY_COMPLETE" in script
    # What the script has the program say when a word is begun.
    variables = {"COMP_WORDS": "campaign-gateway sandbox --with", "COMP_CWORD": "2" if shell != "fish" else "--with"}
    found = CliRunner().invoke(
        main, env={"_CAMPAIGN_GATEWAY_COMPLETE": f"{shell}_complete", **variables}, prog_name="campaign-gateway"
    )
    assert "--with-gateway" in found.stdout


def test_the_version_is_told():
    assert run("--version").stdout.split()[-1] == __version__
