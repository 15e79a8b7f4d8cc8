"""The floor plan of `service/`, held: an import only ever points down."""

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "service"

# Rooms, floor by floor from the top. A room is a package or a module right under `service`.
FLOORS: tuple[AbstractSet[str], ...] = (
    {"doors"},
    {"app"},
    {"web", "admin", "upstream", "store", "telemetry"},
    {"proxy"},
    {"policy"},
    {"contract"},
)
DOORS = {"__main__", "cli", "doctor", "demo", "supervisor"}
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Rooms beside the floors: what they may import, and who may import them (None: anyone).
MAY_IMPORT: Mapping[str, AbstractSet[str]] = {
    "version": set(),
    "problems": {"version"},
    "settings": {"version"},
    "sandbox": {"version"},
}
IMPORTED_BY: Mapping[str, AbstractSet[str] | None] = {
    "version": None,
    "problems": None,
    "settings": {"doors", "app"},
    "sandbox": {"doors"},
}

PURE = {"contract", "policy", "problems"}
IMPURE = {"asyncio", "time", "random", "os", "logging", "aiohttp", "redis", "prometheus_client"}


def room_of(module: str) -> str:
    """The room a module is in; `version` is the ground slab, `service/__init__`."""
    if module == "service":
        return "version"
    room = module.split(".")[1]
    return "doors" if room in DOORS else room


def imported(module: str, source: str, modules: AbstractSet[str], *, is_package: bool) -> Iterator[str]:
    """The dotted names that a module imports anywhere in its text, inside functions and for types as well.

    Of `from a import b`, that is `a.b` when that is a module and `a` otherwise.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names):
                yield from (name.name for name in names)
            case ast.ImportFrom(where, names, level):
                above = module.split(".")
                base = above[: len(above) - level + is_package] if level else []
                origin = ".".join([*base, *([where] if where else [])])
                for name in names:
                    inner = f"{origin}.{name.name}"
                    yield inner if inner in modules else origin
            case _:
                pass


def circles(graph: Mapping[str, AbstractSet[str]]) -> Iterator[str]:
    """One line for every group of names that can reach each other."""
    reach = {name: set(targets) for name, targets in graph.items()}
    for middle in graph:
        for targets in reach.values():
            if middle in targets:
                targets.update(reach[middle])
    groups = {frozenset({other for other in reach[name] if name in reach.get(other, ())}) for name in graph}
    yield from sorted(f"circle: {', '.join(sorted(group))}" for group in groups if group)


def broken_step(room: str, target: str) -> str | None:
    """What is wrong with an import out of one room into another; None when it points down."""
    if room in MAY_IMPORT:
        return None if target in MAY_IMPORT[room] else "may not import that"
    if target in IMPORTED_BY:
        guests = IMPORTED_BY[target]
        return None if guests is None or room in guests else "may not import that"
    step = FLOOR_OF[target] - FLOOR_OF[room]
    return None if step > 0 else "sideways" if step == 0 else "up"


def impurities(module: str, source: str, names: AbstractSet[str]) -> Iterator[str]:
    yield from (f"{module} is pure, yet imports {name}" for name in sorted(names) if name.split(".")[0] in IMPURE)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncFunctionDef):
            yield f"{module} is pure, yet waits in {node.name}"


def violations(sources: Mapping[str, str], packages: AbstractSet[str] = frozenset()) -> list[str]:
    """What breaks the floor plan, a line each.

    Args:
        sources: dotted module name to source text.
        packages: those of them that are an `__init__`.
    """
    found = []
    modules = set(sources)
    graph: dict[str, set[str]] = {}
    rooms: dict[str, set[str]] = {}
    for module, source in sources.items():
        room = room_of(module)
        if room not in FLOOR_OF and room not in MAY_IMPORT:
            found.append(f"{module} stands on no floor")
            continue
        names = set(imported(module, source, modules, is_package=module in packages))
        if room in PURE:
            found.extend(impurities(module, source, names))
        graph[module] = {name for name in names if name.split(".")[0] == "service"}
        for name in sorted(graph[module]):
            target = room_of(name)
            rooms.setdefault(room, set())
            if target == room:
                continue
            rooms[room].add(target)
            if target not in FLOOR_OF and target not in MAY_IMPORT:
                found.append(f"{module} imports {name}, which stands on no floor")
            elif wrong := broken_step(room, target):
                found.append(f"{module} imports {name}: {wrong}")
    return [*found, *circles(graph), *circles(rooms)]


def house() -> tuple[dict[str, str], set[str]]:
    """The modules of `service` as they stand, and which of them are packages."""
    sources, packages = {}, set()
    for path in HOUSE.rglob("*.py"):
        parts = ["service", *path.relative_to(HOUSE).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources, packages


def test_every_import_in_the_house_points_down():
    sources, packages = house()
    assert {"service", "service.contract.answers", "service.policy.plan", "service.problems"} <= set(sources)
    assert violations(sources, packages) == []


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(
            {"service.proxy.exchange": "from service.policy.plan import plan", "service.policy.plan": ""},
            id="one-floor-down",
        ),
        pytest.param(
            {"service.__main__": "from service.contract import answers", "service.contract.answers": ""},
            id="many-floors-down",
        ),
        pytest.param(
            {"service.web.api": "from service.web import answers", "service.web.answers": ""}, id="within-a-room"
        ),
        pytest.param({"service.cli": "import service.doctor", "service.doctor": ""}, id="from-door-to-door"),
        pytest.param(
            {"service.app": "from service.settings import Settings", "service.settings": ""},
            id="app-imports-the-settings",
        ),
        pytest.param(
            {"service.store.redis": "from service.problems import Problem", "service.problems": ""},
            id="anyone-may-import-the-problems",
        ),
        pytest.param(
            {"service.telemetry.metrics": "from service import __version__", "service": ""},
            id="anyone-may-import-the-version",
        ),
        pytest.param(
            {"service.demo": "from service.settings import Settings", "service.settings": "import os"},
            id="a-door-imports-the-settings",
        ),
        pytest.param(
            {"service.demo": "from service.sandbox.server import Server", "service.sandbox.server": ""},
            id="a-door-imports-the-sandbox",
        ),
        pytest.param(
            {"service.proxy.tasks": "import asyncio\nasync def run(): ...", "service": ""}, id="a-room-that-may-wait"
        ),
        pytest.param({"service.policy.wishes": "import re\nfrom collections.abc import Mapping"}, id="pure-imports"),
    ],
)
def test_the_rule_lets_good_houses_stand(sources: dict[str, str]):
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("sources", "lines"),
    [
        pytest.param(
            {"service.contract.marks": "from service.policy.plan import plan", "service.policy.plan": ""},
            ["service.contract.marks imports service.policy.plan: up"],
            id="up-one-floor",
        ),
        pytest.param(
            {"service.policy.plan": "def late():\n    import service.cli", "service.cli": ""},
            ["service.policy.plan imports service.cli: up"],
            id="up-inside-a-function",
        ),
        pytest.param(
            {
                "service.web.api": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from service.app import App",
                "service.app": "",
            },
            ["service.web.api imports service.app: up"],
            id="up-for-a-type",
        ),
        pytest.param(
            {"service.policy.plan": "from ..proxy import ports", "service.proxy.ports": ""},
            ["service.policy.plan imports service.proxy.ports: up"],
            id="up-by-a-relative-import",
        ),
        pytest.param(
            {"service.policy.plan": "from service import proxy", "service.proxy": ""},
            ["service.policy.plan imports service.proxy: up"],
            id="up-to-a-whole-room",
        ),
        pytest.param(
            {"service.store.redis": "from service.telemetry.metrics import Metrics", "service.telemetry.metrics": ""},
            ["service.store.redis imports service.telemetry.metrics: sideways"],
            id="sideways",
        ),
        pytest.param(
            {"service.policy.plan": "import service.policy.settle", "service.policy.settle": "from . import plan"},
            ["circle: service.policy.plan, service.policy.settle"],
            id="circle-of-two",
        ),
        pytest.param(
            {
                "service.web.a": "from service.web import b",
                "service.web.b": "from service.web import c",
                "service.web.c": "from service.web import a",
                "service.web.d": "from service.web import a",
            },
            ["circle: service.web.a, service.web.b, service.web.c"],
            id="circle-of-three",
        ),
        pytest.param(
            {
                "service.proxy.ports": "import service.policy.plan",
                "service.policy.plan": "",
                "service.policy.settle": "import service.proxy.ports",
            },
            ["service.policy.settle imports service.proxy.ports: up", "circle: policy, proxy"],
            id="circle-of-rooms",
        ),
        pytest.param(
            {"service.settings": "from service.store import redis", "service.store.redis": ""},
            ["service.settings imports service.store.redis: may not import that"],
            id="settings-import-an-adapter",
        ),
        pytest.param(
            {"service.settings": "from service.policy.freshness import Freshness", "service.policy.freshness": ""},
            ["service.settings imports service.policy.freshness: may not import that"],
            id="settings-import-policy",
        ),
        pytest.param(
            {"service.web.api": "from service.settings import Settings", "service.settings": ""},
            ["service.web.api imports service.settings: may not import that"],
            id="an-adapter-imports-the-settings",
        ),
        pytest.param(
            {"service.app": "from service.sandbox.server import Server", "service.sandbox.server": ""},
            ["service.app imports service.sandbox.server: may not import that"],
            id="app-imports-the-sandbox",
        ),
        pytest.param(
            {"service.problems": "from service.contract.answers import Verdict", "service.contract.answers": ""},
            ["service.problems imports service.contract.answers: may not import that"],
            id="problems-import-something",
        ),
        pytest.param(
            {"service": "from service.app import running", "service.app": ""},
            ["service imports service.app: may not import that"],
            id="the-version-imports-something",
        ),
        pytest.param(
            {"service.sandbox.server": "from service.contract import answers", "service.contract.answers": ""},
            ["service.sandbox.server imports service.contract.answers: may not import that"],
            id="the-sandbox-imports-something",
        ),
        pytest.param(
            {"service.upstream.client": "import service.sandbox.server as platform", "service.sandbox.server": ""},
            ["service.upstream.client imports service.sandbox.server: may not import that"],
            id="an-adapter-imports-the-sandbox",
        ),
        pytest.param({"service.attic": ""}, ["service.attic stands on no floor"], id="a-room-nobody-planned"),
        pytest.param(
            {"service.web.api": "from service.attic import box"},
            ["service.web.api imports service.attic, which stands on no floor"],
            id="an-import-of-a-room-nobody-planned",
        ),
        pytest.param(
            {"service.policy.plan": "import time, os.path\nfrom redis.asyncio import Redis"},
            [f"service.policy.plan is pure, yet imports {name}" for name in ("os.path", "redis.asyncio", "time")],
            id="impure-imports",
        ),
        pytest.param(
            {"service.contract.answers": "def late():\n    from random import random"},
            ["service.contract.answers is pure, yet imports random"],
            id="impure-import-inside-a-function",
        ),
        pytest.param(
            {"service.problems": "class P:\n    async def tell(self): ..."},
            ["service.problems is pure, yet waits in tell"],
            id="a-pure-room-that-waits",
        ),
    ],
)
def test_the_rule_finds_what_is_planted(sources: dict[str, str], lines: list[str]):
    assert violations(sources) == lines


@pytest.mark.parametrize(
    ("module", "is_package", "statement", "names"),
    [
        pytest.param("service.policy.plan", False, "from . import settle", {"service.policy.settle"}, id="sibling"),
        pytest.param(
            "service.policy", True, "from . import settle", {"service.policy.settle"}, id="from-the-package-itself"
        ),
        pytest.param(
            "service.policy.plan", False, "from .settle import Fill", {"service.policy.settle"}, id="out-of-a-sibling"
        ),
        pytest.param("service.policy.plan", False, "from .. import __version__", {"service"}, id="out-of-the-house"),
        pytest.param(
            "service.policy.plan",
            False,
            "import service.policy.settle, re",
            {"service.policy.settle", "re"},
            id="several",
        ),
    ],
)
def test_imports_are_read_as_python_reads_them(module: str, is_package: bool, statement: str, names: set[str]):
    assert set(imported(module, statement, {"service", "service.policy.settle"}, is_package=is_package)) == names
