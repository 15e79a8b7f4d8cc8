"""The floor plan of `service/campaign_gateway/`, held: an import only ever points down."""

import ast
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2] / "service" / "campaign_gateway"

# Rooms, floor by floor from the top. A room is a package or a module right under `campaign_gateway`.
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
    """The room a module is in; `version` is the ground slab, `service/campaign_gateway/__init__`."""
    if module == "campaign_gateway":
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
        graph[module] = {name for name in names if name.split(".")[0] == "campaign_gateway"}
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
    """The modules of `campaign_gateway` as they stand, and which of them are packages."""
    sources, packages = {}, set()
    for path in HOUSE.rglob("*.py"):
        parts = ["campaign_gateway", *path.relative_to(HOUSE).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
            packages.add(".".join(parts))
        sources[".".join(parts)] = path.read_text(encoding="utf-8")
    return sources, packages


def test_every_import_in_the_house_points_down():
    sources, packages = house()
    assert {
        "campaign_gateway",
        "campaign_gateway.contract.answers",
        "campaign_gateway.policy.plan",
        "campaign_gateway.problems",
    } <= set(sources)
    assert violations(sources, packages) == []


@pytest.mark.parametrize(
    "sources",
    [
        pytest.param(
            {
                "campaign_gateway.proxy.exchange": "from campaign_gateway.policy.plan import plan",
                "campaign_gateway.policy.plan": "",
            },
            id="one-floor-down",
        ),
        pytest.param(
            {
                "campaign_gateway.__main__": "from campaign_gateway.contract import answers",
                "campaign_gateway.contract.answers": "",
            },
            id="many-floors-down",
        ),
        pytest.param(
            {
                "campaign_gateway.web.api": "from campaign_gateway.web import answers",
                "campaign_gateway.web.answers": "",
            },
            id="within-a-room",
        ),
        pytest.param(
            {"campaign_gateway.cli": "import campaign_gateway.doctor", "campaign_gateway.doctor": ""},
            id="from-door-to-door",
        ),
        pytest.param(
            {"campaign_gateway.app": "from campaign_gateway.settings import Settings", "campaign_gateway.settings": ""},
            id="app-imports-the-settings",
        ),
        pytest.param(
            {
                "campaign_gateway.store.redis": "from campaign_gateway.problems import Problem",
                "campaign_gateway.problems": "",
            },
            id="anyone-may-import-the-problems",
        ),
        pytest.param(
            {"campaign_gateway.telemetry.metrics": "from campaign_gateway import __version__", "campaign_gateway": ""},
            id="anyone-may-import-the-version",
        ),
        pytest.param(
            {
                "campaign_gateway.demo": "from campaign_gateway.settings import Settings",
                "campaign_gateway.settings": "import os",
            },
            id="a-door-imports-the-settings",
        ),
        pytest.param(
            {
                "campaign_gateway.demo": "from campaign_gateway.sandbox.server import Server",
                "campaign_gateway.sandbox.server": "",
            },
            id="a-door-imports-the-sandbox",
        ),
        pytest.param(
            {"campaign_gateway.proxy.tasks": "import asyncio\nasync def run(): ...", "campaign_gateway": ""},
            id="a-room-that-may-wait",
        ),
        pytest.param(
            {"campaign_gateway.policy.wishes": "import re\nfrom collections.abc import Mapping"}, id="pure-imports"
        ),
    ],
)
def test_the_rule_lets_good_houses_stand(sources: dict[str, str]):
    assert violations(sources) == []


@pytest.mark.parametrize(
    ("sources", "lines"),
    [
        pytest.param(
            {
                "campaign_gateway.contract.marks": "from campaign_gateway.policy.plan import plan",
                "campaign_gateway.policy.plan": "",
            },
            ["campaign_gateway.contract.marks imports campaign_gateway.policy.plan: up"],
            id="up-one-floor",
        ),
        pytest.param(
            {
                "campaign_gateway.policy.plan": "def late():\n    import campaign_gateway.cli",
                "campaign_gateway.cli": "",
            },
            ["campaign_gateway.policy.plan imports campaign_gateway.cli: up"],
            id="up-inside-a-function",
        ),
        pytest.param(
            {
                "campaign_gateway.web.api": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from campaign_gateway.app import App",
                "campaign_gateway.app": "",
            },
            ["campaign_gateway.web.api imports campaign_gateway.app: up"],
            id="up-for-a-type",
        ),
        pytest.param(
            {"campaign_gateway.policy.plan": "from ..proxy import ports", "campaign_gateway.proxy.ports": ""},
            ["campaign_gateway.policy.plan imports campaign_gateway.proxy.ports: up"],
            id="up-by-a-relative-import",
        ),
        pytest.param(
            {"campaign_gateway.policy.plan": "from campaign_gateway import proxy", "campaign_gateway.proxy": ""},
            ["campaign_gateway.policy.plan imports campaign_gateway.proxy: up"],
            id="up-to-a-whole-room",
        ),
        pytest.param(
            {
                "campaign_gateway.store.redis": "from campaign_gateway.telemetry.metrics import Metrics",
                "campaign_gateway.telemetry.metrics": "",
            },
            ["campaign_gateway.store.redis imports campaign_gateway.telemetry.metrics: sideways"],
            id="sideways",
        ),
        pytest.param(
            {
                "campaign_gateway.policy.plan": "import campaign_gateway.policy.settle",
                "campaign_gateway.policy.settle": "from . import plan",
            },
            ["circle: campaign_gateway.policy.plan, campaign_gateway.policy.settle"],
            id="circle-of-two",
        ),
        pytest.param(
            {
                "campaign_gateway.web.a": "from campaign_gateway.web import b",
                "campaign_gateway.web.b": "from campaign_gateway.web import c",
                "campaign_gateway.web.c": "from campaign_gateway.web import a",
                "campaign_gateway.web.d": "from campaign_gateway.web import a",
            },
            ["circle: campaign_gateway.web.a, campaign_gateway.web.b, campaign_gateway.web.c"],
            id="circle-of-three",
        ),
        pytest.param(
            {
                "campaign_gateway.proxy.ports": "import campaign_gateway.policy.plan",
                "campaign_gateway.policy.plan": "",
                "campaign_gateway.policy.settle": "import campaign_gateway.proxy.ports",
            },
            ["campaign_gateway.policy.settle imports campaign_gateway.proxy.ports: up", "circle: policy, proxy"],
            id="circle-of-rooms",
        ),
        pytest.param(
            {
                "campaign_gateway.settings": "from campaign_gateway.store import redis",
                "campaign_gateway.store.redis": "",
            },
            ["campaign_gateway.settings imports campaign_gateway.store.redis: may not import that"],
            id="settings-import-an-adapter",
        ),
        pytest.param(
            {
                "campaign_gateway.settings": "from campaign_gateway.policy.freshness import Freshness",
                "campaign_gateway.policy.freshness": "",
            },
            ["campaign_gateway.settings imports campaign_gateway.policy.freshness: may not import that"],
            id="settings-import-policy",
        ),
        pytest.param(
            {
                "campaign_gateway.web.api": "from campaign_gateway.settings import Settings",
                "campaign_gateway.settings": "",
            },
            ["campaign_gateway.web.api imports campaign_gateway.settings: may not import that"],
            id="an-adapter-imports-the-settings",
        ),
        pytest.param(
            {
                "campaign_gateway.app": "from campaign_gateway.sandbox.server import Server",
                "campaign_gateway.sandbox.server": "",
            },
            ["campaign_gateway.app imports campaign_gateway.sandbox.server: may not import that"],
            id="app-imports-the-sandbox",
        ),
        pytest.param(
            {
                "campaign_gateway.problems": "from campaign_gateway.contract.answers import Verdict",
                "campaign_gateway.contract.answers": "",
            },
            ["campaign_gateway.problems imports campaign_gateway.contract.answers: may not import that"],
            id="problems-import-something",
        ),
        pytest.param(
            {"campaign_gateway": "from campaign_gateway.app import running", "campaign_gateway.app": ""},
            ["campaign_gateway imports campaign_gateway.app: may not import that"],
            id="the-version-imports-something",
        ),
        pytest.param(
            {
                "campaign_gateway.sandbox.server": "from campaign_gateway.contract import answers",
                "campaign_gateway.contract.answers": "",
            },
            ["campaign_gateway.sandbox.server imports campaign_gateway.contract.answers: may not import that"],
            id="the-sandbox-imports-something",
        ),
        pytest.param(
            {
                "campaign_gateway.upstream.client": "import campaign_gateway.sandbox.server as platform",
                "campaign_gateway.sandbox.server": "",
            },
            ["campaign_gateway.upstream.client imports campaign_gateway.sandbox.server: may not import that"],
            id="an-adapter-imports-the-sandbox",
        ),
        pytest.param(
            {"campaign_gateway.attic": ""}, ["campaign_gateway.attic stands on no floor"], id="a-room-nobody-planned"
        ),
        pytest.param(
            {"campaign_gateway.web.api": "from campaign_gateway.attic import box"},
            ["campaign_gateway.web.api imports campaign_gateway.attic, which stands on no floor"],
            id="an-import-of-a-room-nobody-planned",
        ),
        pytest.param(
            {"campaign_gateway.policy.plan": "import time, os.path\nfrom redis.asyncio import Redis"},
            [
                f"campaign_gateway.policy.plan is pure, yet imports {name}"
                for name in ("os.path", "redis.asyncio", "time")
            ],
            id="impure-imports",
        ),
        pytest.param(
            {"campaign_gateway.contract.answers": "def late():\n    from random import random"},
            ["campaign_gateway.contract.answers is pure, yet imports random"],
            id="impure-import-inside-a-function",
        ),
        pytest.param(
            {"campaign_gateway.problems": "class P:\n    async def tell(self): ..."},
            ["campaign_gateway.problems is pure, yet waits in tell"],
            id="a-pure-room-that-waits",
        ),
    ],
)
def test_the_rule_finds_what_is_planted(sources: dict[str, str], lines: list[str]):
    assert violations(sources) == lines


@pytest.mark.parametrize(
    ("module", "is_package", "statement", "names"),
    [
        pytest.param(
            "campaign_gateway.policy.plan",
            False,
            "from . import settle",
            {"campaign_gateway.policy.settle"},
            id="sibling",
        ),
        pytest.param(
            "campaign_gateway.policy",
            True,
            "from . import settle",
            {"campaign_gateway.policy.settle"},
            id="from-the-package-itself",
        ),
        pytest.param(
            "campaign_gateway.policy.plan",
            False,
            "from .settle import Fill",
            {"campaign_gateway.policy.settle"},
            id="out-of-a-sibling",
        ),
        pytest.param(
            "campaign_gateway.policy.plan",
            False,
            "from .. import __version__",
            {"campaign_gateway"},
            id="out-of-the-house",
        ),
        pytest.param(
            "campaign_gateway.policy.plan",
            False,
            "import campaign_gateway.policy.settle, re",
            {"campaign_gateway.policy.settle", "re"},
            id="several",
        ),
    ],
)
def test_imports_are_read_as_python_reads_them(module: str, is_package: bool, statement: str, names: set[str]):
    assert (
        set(imported(module, statement, {"campaign_gateway", "campaign_gateway.policy.settle"}, is_package=is_package))
        == names
    )
