"""The floor plan of `service/campaign_gateway/`: the contracts in `pyproject.toml` bite, and pure rooms are pure."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).parents[2]
HOUSE = REPOSITORY / "service" / "campaign_gateway"

PURE = ("contract", "policy", "problems.py")
IMPURE_MODULES = {
    *("asyncio", "concurrent", "multiprocessing", "threading", "queue", "contextvars"),
    *("time", "random", "secrets", "uuid", "os", "io", "pathlib", "tempfile", "subprocess"),
    *("socket", "ssl", "select", "selectors", "logging", "warnings"),
    *("aiohttp", "redis", "prometheus_client", "pydantic", "uvloop"),
}
IMPURE_NAMES = {"cache", "lru_cache", "cached_property", "now", "utcnow", "today", "open", "print", "input"}
"""Caches, clocks and I/O, by the last part of the name by which they are called, imported or laid over a function."""

KNOWN = {
    "contract/revisions.py: lru_cache",  # short texts to numbers, 20,000 at most
    "contract/operations.py: cache",  # rows of the table by name, as many as the table has
}


def impurities(source: str) -> Iterator[str]:
    """What makes a module impure: a module it imports, a name it uses, a function that waits."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names if name.name.partition(".")[0] in IMPURE_MODULES)
            case ast.ImportFrom(str(module), names, 0):
                if module.partition(".")[0] in IMPURE_MODULES:
                    yield module
                yield from (name.name for name in names if name.name in IMPURE_NAMES)
            case ast.Attribute(ast.Name("functools" | "datetime" | "date"), name) if name in IMPURE_NAMES:
                yield name
            case ast.Call(ast.Name(name)) if name in IMPURE_NAMES:
                yield name
            case ast.AsyncFunctionDef(name):
                yield f"async def {name}"
            case ast.Global(names):
                yield from (f"global {name}" for name in names)
            case _:
                pass


def test_pure_rooms_are_pure():
    modules = [
        path for room in PURE for path in ((HOUSE / room).rglob("*.py") if room[-3:] != ".py" else [HOUSE / room])
    ]
    assert len(modules) > 20
    found = {f"{path.relative_to(HOUSE)}: {name}" for path in modules for name in impurities(path.read_text("utf-8"))}
    assert found == KNOWN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import re\nfrom collections.abc import Mapping\nfrom functools import partial", []),
        ("import time, os.path\nfrom redis.asyncio import Redis", ["time", "os.path", "redis.asyncio"]),
        ("def late():\n    from random import random", ["random"]),
        ("import socket\nfrom threading import Lock", ["socket", "threading"]),
        ("from functools import lru_cache", ["lru_cache"]),
        ("import functools\n@functools.cache\ndef f(): ...", ["cache"]),
        ("from datetime import datetime\nx = datetime.now()", ["now"]),
        ("x = open('file')", ["open"]),
        ("class P:\n    async def read(self): ...", ["async def read"]),
        ("def f():\n    global count", ["global count"]),
    ],
)
def test_the_rule_of_purity_finds_what_is_planted(source: str, found: list[str]):
    assert list(impurities(source)) == found


MOST_UNNAMED = 6
"""Arguments of a call in the wiring that go without their names: with more, nobody sees which is which."""


def unnamed(source: str) -> Iterator[str]:
    """Calls that hand over many arguments without their names, or hide them in a tuple."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (
            len(node.args) > MOST_UNNAMED
            or any(isinstance(arg, ast.Starred) and isinstance(arg.value, ast.Tuple) for arg in node.args)
        ):
            yield ast.unparse(node.func)


def test_the_wiring_names_what_it_hands_over():
    modules = list((HOUSE / "app").glob("*.py"))
    assert len(modules) > 10
    found = [f"{path.name}: {name}" for path in modules for name in unnamed(path.read_text("utf-8"))]
    assert found == ["console.py: beside"], "which hands its arguments on"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("make(a, b, c, d, e, f, g=1)", []),
        ("make(a, b, c, d, e, f, g)", ["make"]),
        ("room.make(*(a, b), c=1)", ["room.make"]),
        ("make(*rows)", []),
    ],
)
def test_the_rule_of_names_finds_what_is_planted(source: str, found: list[str]):
    assert list(unnamed(source)) == found


def test_no_package_is_in_a_circle_with_its_own_modules():
    """The contract `No circles` compares modules beside each other; this is the rest of that rule."""
    graph = grimp.build_graph("campaign_gateway", cache_dir=None)
    assert [
        (package, module)
        for package in sorted(graph.modules)
        for module in sorted(graph.find_modules_directly_imported_by(package))
        if module.startswith(f"{package}.") and graph.find_shortest_chain(module, package)
    ] == []


PLANTED = [
    # Where it is planted, what, and a line of the report.
    ("contract/up.py", "import campaign_gateway.policy", "campaign_gateway.contract.up -> campaign_gateway.policy (l.2)"),
    ("policy/late.py", "def late():\n    import campaign_gateway.cli", "campaign_gateway.policy.late -> campaign_gateway.cli (l.3)"),
    ("proxy/typed.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .. import app", "campaign_gateway.proxy.typed -> campaign_gateway.app (l.4)"),
    ("store/aside.py", "from campaign_gateway import telemetry", "campaign_gateway.store.aside -> campaign_gateway.telemetry (l.2)"),
    ("web/one.py", "from campaign_gateway.web import two", "- .two -> .one (1 import)"),
    ("web/two.py", "from campaign_gateway.web import one", "- .two -> .one (1 import)"),
    ("problems.py", "import campaign_gateway.contract", "campaign_gateway.problems -> campaign_gateway.contract (l."),
    ("settings/up.py", "import campaign_gateway.contract", "campaign_gateway.settings.up -> campaign_gateway.contract (l.2)"),
    ("sandbox/up.py", "import campaign_gateway.contract", "campaign_gateway.sandbox.up -> campaign_gateway.contract (l.2)"),
    ("__init__.py", "import campaign_gateway.problems", "campaign_gateway -> campaign_gateway.problems (l."),
    ("web/reads.py", "import campaign_gateway.settings", "campaign_gateway.web.reads -> campaign_gateway.settings (l.2)"),
    ("upstream/opens.py", "import campaign_gateway.sandbox", "campaign_gateway.upstream.opens -> campaign_gateway.sandbox (l.2)"),
    ("attic.py", "", "campaign_gateway.attic"),
]  # fmt: skip


def test_the_contracts_find_what_is_planted(tmp_path: Path):
    house = tmp_path / "campaign_gateway"
    shutil.copytree(HOUSE, house, ignore=shutil.ignore_patterns("__pycache__", "viewer"))
    for name, line, _ in PLANTED:
        with (house / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")
    program = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command as run; run()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "--no-cache", str(REPOSITORY / "pyproject.toml")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for _, _, line in PLANTED if line not in ran.stdout] == [], ran.stdout + ran.stderr
    assert "0 kept" in ran.stdout
    assert ran.returncode == 1
