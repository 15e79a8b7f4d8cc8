"""The image, as far as it can be judged without building it; `make image` builds and runs it."""

import asyncio
import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from campaign_gateway import __version__
from campaign_gateway.sandbox.platform import Sandbox
from tests.support.gateway import gateway_process, settings_for

ROOT = Path(__file__).parents[2]
HEALTHCHECK = ROOT / "deploy" / "healthcheck.py"


class Instruction(NamedTuple):
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """The exec form's words."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


def stages() -> list[list[Instruction]]:
    """The Dockerfile's instructions, stage by stage; what stands above the first FROM is the first."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: list[list[Instruction]] = [[]]
    for text in filter(None, re.sub(r"\s*\\\n\s*", " ", "\n".join(lines)).split("\n")):
        instruction = Instruction(*text.split(" ", 1))
        if instruction.name == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def named(instructions: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in instructions if instruction.name == name]


def test_hadolint_finds_nothing_and_is_told_to_overlook_nothing():
    result = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--failure-threshold", "style", "--disable-ignore-pragma", ROOT / "Dockerfile"],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, ""), result.stdout + result.stderr
    assert not list(ROOT.glob(".hadolint.*"))


def test_every_stage_stands_on_the_one_base_that_can_be_named():
    above, *following = stages()
    assert named(above, "ARG")[0].text.startswith("PYTHON_IMAGE=docker.io/library/python:3.")
    bases = [stage[0].text.split(" AS ")[0] for stage in following]
    assert bases == ["${PYTHON_IMAGE}", "tools", "${PYTHON_IMAGE}"]


def test_the_last_stage_runs_as_a_numbered_user_and_not_as_root():
    final = stages()[-1]
    (user,) = named(final, "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.text), "Kubernetes can check runAsNonRoot only of a number"
    after = final[final.index(user) + 1 :]
    assert {instruction.name for instruction in after} <= {"EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD", "ARG", "LABEL"}


def test_nothing_runs_through_a_shell_in_the_finished_image():
    final = stages()[-1]
    assert named(final, "ENTRYPOINT")[0].words == ["campaign-gateway"]
    assert named(final, "CMD")[0].words == ["serve"]
    assert all(instruction.name != "SHELL" for instruction in final)
    assert named(final, "HEALTHCHECK")[0].words[0].startswith("/")


def test_the_last_stage_takes_one_folder_of_the_build_and_nothing_of_the_sources():
    final = stages()[-1]
    assert [copy.text for copy in named(final, "COPY")] == ["--from=build /opt/gateway /opt/gateway"]
    assert not named(final, "ADD")


def test_what_the_index_gives_is_checked_by_hash_and_its_settings_are_never_kept():
    runs = [run.text for stage in stages() for run in named(stage, "RUN")]
    installs = [(run, step) for run in runs for step in run.split("&&") if re.search(r"pip\b.* install", step)]
    assert len(installs) == 3
    for run, step in installs:
        if "--no-index" in step:
            continue
        assert "--require-hashes -r /src/requirements" in step
        assert run.startswith("--mount=type=secret,id=pip.conf,target=/etc/pip.conf ")
    settings = [each.text for stage in stages() for name in ("ARG", "ENV") for each in named(stage, name)]
    assert not [text for text in settings if re.search(r"PIP_|INDEX|TOKEN|PASSWORD|SECRET", text)]


def test_the_runtime_is_installed_from_the_runtime_lock_alone():
    _, tools, build, _ = stages()
    assert "requirements-build.lock" in named(tools, "RUN")[0].text
    assert "pytest" not in (ROOT / "requirements-build.lock").read_text("utf-8")
    into_gateway = [
        step for run in named(build, "RUN") for step in run.text.split("&&") if "--python /opt/gateway" in step
    ]
    assert len(into_gateway) == 2
    assert all("build.lock" not in step for step in into_gateway)
    assert "venv --without-pip /opt/gateway" in named(build, "RUN")[0].text


EVERYTHING = """
import jwt, joserfc.jwe, joserfc.jwk, pkgutil, campaign_gateway
for module in pkgutil.walk_packages(campaign_gateway.__path__, "campaign_gateway."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
"""
"""With the libraries that are imported only when they are used."""


def of_the_standard_library(program: str) -> set[str]:
    """The modules with a source that a program imports of it."""
    tell = "\nimport sys\nprint(*(f'{name}={getattr(module, \"__file__\", None)}' for name, module in sys.modules.items()))"
    done = subprocess.run([sys.executable, "-c", program + tell], cwd=ROOT, capture_output=True, text=True, check=True)
    modules = dict(word.split("=", 1) for word in done.stdout.split())
    return {
        name for name, file in modules.items() if file.endswith(".py") and name.split(".")[0] in sys.stdlib_module_names
    }


def test_whatever_is_ever_imported_of_the_standard_library_is_compiled_in_the_image():
    run = named(stages()[-1], "RUN")[0].text
    compiled = re.search(r"/opt/gateway/bin/python -c '(.+?)'", run)
    assert compiled is not None
    assert of_the_standard_library(EVERYTHING) - of_the_standard_library(compiled[1]) <= {"pkgutil"}


def test_the_labels_name_the_version_licence_and_bill_of_materials():
    final = stages()[-1]
    labels = dict(word.split("=", 1) for word in shlex.split(named(final, "LABEL")[0].text))
    arguments = dict(argument.text.split("=", 1) for argument in named(final, "ARG"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oci = "org.opencontainers.image."
    assert labels[oci + "title"] == project["name"]
    assert labels[oci + "licenses"] == project["license"]
    assert project["description"].startswith(labels[oci + "description"])
    assert {labels[oci + name] for name in ("version", "revision", "created")} == {
        "${VERSION}",
        "${REVISION}",
        "${CREATED}",
    }
    assert arguments["VERSION"] == __version__
    assert labels["campaign-gateway.sbom"] in named(stages()[-2], "RUN")[-1].text


# What is sent to the builder


def test_the_context_is_what_the_dockerfile_copies_and_no_more():
    copied = {
        source.rstrip("/")
        for stage in stages()
        for copy in named(stage, "COPY")
        if "--from=" not in copy.text
        for source in [word for word in copy.text.split() if not word.startswith("--")][:-1]
    }
    first, *rules = (ROOT / ".dockerignore").read_text().split()
    assert first == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert "**/__pycache__" in rules
    assert all((ROOT / source).exists() for source in copied)


def test_the_wheel_holds_every_file_of_the_product_and_no_other(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True, timeout=55,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        str(path.relative_to(ROOT / "service"))
        for path in (ROOT / "service/campaign_gateway").rglob("*")
        if path.is_file() and not fnmatch(str(path), "*/__pycache__/*")
    }
    assert {name for name in inside if not name.startswith("campaign_gateway-")} == sources
    assert (
        len([name for name in inside if name.endswith(".lua")])
        == len(list((ROOT / "service/campaign_gateway/store/redis/scripts").glob("*.lua")))
        > 0
    )
    assert any(name.endswith("/licenses/LICENSE") for name in inside)


# The health check, run as the image runs it


def command() -> list[str]:
    """The image's command, with this machine's interpreter and file in place of the image's."""
    program, *options, script = named(stages()[-1], "HEALTHCHECK")[0].words
    assert (program, script) == ("/opt/gateway/bin/python", "/opt/gateway/healthcheck.py")
    assert "deploy/healthcheck.py /opt/gateway/" in "".join(copy.text for copy in named(stages()[-2], "COPY"))
    return [sys.executable, *options, str(HEALTHCHECK)]


async def check(*arguments: str, admin: str | None = None) -> tuple[int | None, str]:
    """Exit code and what was said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY")}
    if admin is not None:
        environment["GATEWAY__ADMIN_LISTEN"] = admin
    async with asyncio.timeout(10):
        process = await asyncio.create_subprocess_exec(
            *command(), *arguments, env=environment, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
    return process.returncode, said.decode()


def test_the_health_check_sees_the_standard_library_only():
    assert set(command()[1:-1]) == {"-I", "-S"}, "no site-packages, and no folder of the caller's"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "importtime", HEALTHCHECK], capture_output=True, text=True, check=False, timeout=10
    ).stderr  # fmt: skip
    heavy = {"asyncio", "email", "http", "json", "ssl", "urllib"}
    assert not heavy & {line.rpartition("|")[2].strip() for line in loaded.splitlines()}


async def test_a_live_gateway_is_healthy_and_a_stopped_one_is_not(tmp_path):
    async with Sandbox() as sandbox:
        async with gateway_process(settings_for(sandbox, tmp_path), tmp_path) as gateway:
            admin = gateway.admin_url.removeprefix("http://")
            port = admin.rpartition(":")[2]
            assert await check(admin=admin) == (0, "")
            assert await check(admin=f"0.0.0.0:{port}") == (0, ""), "the image listens on all addresses"
            assert await check(admin, "/readyz") == (0, "")
            code, said = await check(admin, "/no-such-page")
            assert code == 1
            assert "404" in said
        code, said = await check(admin=admin)
    assert code == 1
    assert admin in said


@asynccontextmanager
async def answering(raw: bytes | None, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a server that answers a connection with the bytes, or never."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if raw is None:
            await reader.read()
        else:
            writer.write(raw)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        is_over.set()

    server = await asyncio.start_server(answer, host, 0)
    async with asyncio.timeout(10):
        yield server.sockets[0].getsockname()[1]
        await is_over.wait()
    server.close()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"HTTP/1.1 503 Service Unavailable\r\n\r\n", id="refused"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", id="almost"),
        pytest.param(b"200 OK\r\n\r\n", id="no HTTP"),
        pytest.param(b"", id="closed"),
        pytest.param(None, id="hung"),
    ],
)
async def test_what_does_not_say_200_is_not_healthy(raw):
    async with answering(raw) as port:
        code, said = await check(admin=f"127.0.0.1:{port}")
    assert code == 1
    assert said.startswith(f"127.0.0.1:{port}")


async def test_all_addresses_of_ipv6_are_asked_on_its_loopback():
    if not socket.has_ipv6:
        pytest.fail("this needs a machine with IPv6")
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", host="::1") as port:
        assert await check(admin=f"[::]:{port}") == (0, "")


async def test_an_address_that_is_none_is_said_and_not_thrown():
    code, said = await check(admin="nonsense")
    assert code == 1
    assert "Traceback" not in said
