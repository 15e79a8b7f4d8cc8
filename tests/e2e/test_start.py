"""A start that fails, from outside: the real process, whose log is lines of JSON and whose exit code says what it was."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import ROOT, gateway_process, settings_for
from tests.support.tls import Authority

GOOD = (
    "admin_listen: 127.0.0.1:0\ncredentials: {main: {client_id: cs-1, client_secret_file: secret}}\n"
    "streams: {support: {stream_id: st-1, account_id: acc-1, credential: main}}\n"
)
REDIS = "cache: {url: 'redis://127.0.0.1:1'}\n"
TAKEN = "address already in use: stop what listens there, or write another port"
NOT_HERE = "write an address of this machine"
# The least that fails in a way that nobody has thought of.
PLANTED = (
    "import campaign_gateway.app as app\ndef running(*_, **__): raise LookupError('planted')\napp.running = running\n"
)


async def log_of(
    folder: Path, *options: str, environ: Mapping[str, str] | None = None, program: str = ""
) -> tuple[int | None, list[dict[str, Any]]]:
    """The exit code of a `serve` and the lines of its log; a line that is not JSON fails."""
    command = (
        ["-m", "campaign_gateway"] if not program else ["-c", f"{program}from campaign_gateway import cli; cli.main()"]
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "serve", *options),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "service"), "XDG_STATE_HOME": str(folder), **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, [json.loads(line) for line in said.decode().splitlines()]


@pytest.mark.drill(
    "a start that fails",
    planted="no file, no such option, a mistake, a port that is taken or not allowed, a host that is not there, an error",
    seen="one line of JSON with the key and what to do, exit 2 for settings and options, else 1",
)
@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        pytest.param(None, [], 2, "settings: there are none: name a file: --config gateway.yaml", id="no-file-named"),
        pytest.param(None, ["--config", "none"], 2, "settings: none: cannot be read: no such file", id="no-such-file"),
        pytest.param(None, ["--config", "/"], 2, "settings: /: cannot be read: is a directory", id="a-directory"),
        pytest.param(GOOD, ["--colour"], 2, "No such option", id="no-such-option"),
        pytest.param("listen: 'a\n", [], 2, "settings: gateway.yaml:1: opens a quote", id="no-YAML"),
        pytest.param(GOOD + "workers: 0\n", [], 2, "workers: gateway.yaml:4: is too small", id="a-mistake"),
        pytest.param(
            GOOD + "listen: 127.0.0.1:@\n", [], 1, f"listen: cannot listen on 127.0.0.1, port @: {TAKEN}", id="taken"
        ),
        pytest.param(
            GOOD.replace("127.0.0.1:0", "127.0.0.1:@") + "listen: 127.0.0.1:0\n",
            *([], 1, f"admin_listen: cannot listen on 127.0.0.1, port @: {TAKEN}"),
            id="taken-for-operators",
        ),
        pytest.param(
            GOOD + REDIS + "workers: 2\nlisten: 127.0.0.1:@\n",
            *([], 1, f"listen: cannot listen on 127.0.0.1, port @: {TAKEN}"),
            id="taken-for-workers",
        ),
        pytest.param(
            GOOD + "allow_anonymous: true\nlisten: 203.0.113.1:80\n",
            *([], 1, "listen: cannot listen on 203.0.113.1, port 80: cannot assign requested address: " + NOT_HERE),
            id="another-machine's",
        ),
        pytest.param(
            GOOD + "allow_anonymous: true\nlisten: no..host:80\n",
            *([], 1, f"listen: cannot listen on no..host, port 80: no such host: {NOT_HERE}"),
            id="no-such-host",
        ),
        pytest.param(
            GOOD + "listen: 127.0.0.1:0\n", ["planted"], 1, "ended by an error: LookupError: planted", id="an-error"
        ),
    ],
)
async def test_a_start_that_fails_is_one_line_of_json(
    tmp_path: Path, text: str | None, options: list[str], code: int, said: str
) -> None:
    (tmp_path / "secret").write_text("a-secret-of-some-length-to-sign-with")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        if text is not None:
            (tmp_path / "gateway.yaml").write_text(text.replace("@", port))
            options = ["--config", "gateway.yaml", *options]
        program = PLANTED if "planted" in options else ""
        ended, log = await log_of(tmp_path, *(option for option in options if option != "planted"), program=program)
    (line,) = [line for line in log if line["level"] != "info"]
    assert line["level"] == "error"
    assert line["message"].startswith(said.replace("@", port))
    assert ended == code


async def test_several_mistakes_are_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").write_text("colour: red\nstreams: 5\ncredentials: []\n")
    ended, log = await log_of(tmp_path, environ={"GATEWAY_CONFIG": "gateway.yaml"})
    assert ended == 2
    assert [(line["key"], line["line"]) for line in log] == [("credentials", 3), ("streams", 2), ("colour", 1)]


@pytest.mark.drill("a certificate out of its time")
async def test_a_certificate_that_has_expired_is_told_and_keeps_nobody_from_starting(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "authority", (timedelta(days=-30), timedelta(days=-1)))
    settings = settings_for(sandbox, tmp_path)
    settings["platform"]["ca_file"] = str(authority.file)
    async with gateway_process(settings, tmp_path) as gateway:
        (warning,) = [line["message"] for line in gateway.records() if line["level"] == "warning"]
        assert warning.startswith(f"platform.ca_file: {authority.file} expired on ")
        assert (await gateway.get(sandbox.campaigns.all()[0].id))[0] == 200
