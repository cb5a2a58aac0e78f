"""The package is a house with floors: imports only go down, and what judges touches nothing of the world."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

PACKAGE: Final = Path(__file__).resolve().parents[1] / "supervisor"

FLOOR: Final = {
    "model": 0,
    "config": 1,
    "sense": 1,
    "decide": 1,
    "systemd": 1,
    "llama": 1,
    "act": 2,
    "daemon": 3,
    "cli": 4,
    "web": 4,
}
BESIDE: Final = "guard"  # lives inside a worker; nobody imports it but itself

STDLIB: Final = sys.stdlib_module_names
FOREIGN_TO_DECIDE: Final = {
    "asyncio",
    "datetime",
    "logging",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "socket",
    "structlog",
    "subprocess",
    "threading",
    "time",
}
WEB_FRAMEWORKS: Final = {
    "aiohttp",
    "bottle",
    "django",
    "fastapi",
    "flask",
    "h11",
    "litestar",
    "microdot",
    "sanic",
    "starlette",
    "tornado",
    "uvicorn",
    "websockets",
    "wsproto",
}
ONLY_FOR_WEB: Final = {"http.server", "prometheus_client", "wsgiref", *WEB_FRAMEWORKS}

MODULES: Final = sorted(path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.py"))


def imports_of(source: str) -> Iterator[str]:
    """Yield the full name of everything that a module imports, at its top or within a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield start
            yield from (f"{start}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """Return the part of the house that `supervisor.part.module` belongs to; empty for the package itself."""
    return name.removeprefix("supervisor").removeprefix(".").partition(".")[0]


def faults(module: str, source: str) -> list[str]:
    """List what a module, named by its path below the checkout, may not import."""
    own = (
        "cli" if module == "supervisor/__main__.py" else part_of(module.replace("/", ".").removesuffix(".py"))
    )
    return [
        f"{module} imports {name}: {why}"
        for name in dict.fromkeys(imports_of(source))
        if (why := _fault(own, name)) is not None
    ]


def _fault(own: str, name: str) -> str | None:
    if name.startswith("."):
        return "imports are absolute"
    top = name.partition(".")[0]
    if top == "supervisor":
        return _fault_inside(own, part_of(name))
    if own == "decide" and top in FOREIGN_TO_DECIDE:
        return "decide/ takes values and returns values"
    if own == BESIDE and top not in STDLIB:
        return "guard/ lives inside a worker, on the standard library alone"
    if own == "model" and top not in {*STDLIB, "msgspec"}:
        return "model/ knows the standard library and msgspec"
    if own != "web" and any(name == frame or name.startswith(f"{frame}.") for frame in ONLY_FOR_WEB):
        return "only web/ speaks with a web framework"
    return None


def _fault_inside(own: str, part: str) -> str | None:
    if part not in FLOOR:
        return f"{BESIDE}/ is for workers" if part == BESIDE and own != BESIDE else None
    if own == BESIDE:
        return f"{BESIDE}/ knows nothing of the rest"
    if own not in FLOOR:
        return f"{own or 'supervisor'} stands on no floor and may import none"
    if own == part:
        return None
    if FLOOR[own] < FLOOR[part]:
        return f"{own} is on floor {FLOOR[own]}, {part} on {FLOOR[part]}: imports go down"
    if FLOOR[own] == FLOOR[part]:
        return f"{own} and {part} are strangers on floor {FLOOR[own]}"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_go_down(module: str) -> None:
    assert faults(module, (PACKAGE.parent / module).read_text()) == []


def test_every_part_of_the_package_stands_on_a_floor() -> None:
    parts = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert parts - {*FLOOR, BESIDE} == set()


@pytest.mark.parametrize(
    ("module", "source", "why"),
    [
        ("supervisor/model/plan.py", "import msgspec\nimport json", None),
        ("supervisor/model/plan.py", "import psutil", "model/ knows the standard library and msgspec"),
        ("supervisor/model/plan.py", "from supervisor.decide import turn", "imports go down"),
        ("supervisor/sense/host.py", "import supervisor.decide.turn", "strangers on floor 1"),
        ("supervisor/sense/host.py", "from supervisor import decide", "strangers on floor 1"),
        ("supervisor/sense/gpu/nvml.py", "def f():\n    import supervisor.act", "imports go down"),
        ("supervisor/sense/gpu/nvml.py", "from supervisor.sense.procfs import read_stat", None),
        ("supervisor/decide/age.py", "from time import monotonic", "takes values and returns values"),
        ("supervisor/decide/age.py", "import os.path", "takes values and returns values"),
        ("supervisor/decide/age.py", "import math", None),
        ("supervisor/act/direct.py", "from . import launcher", "imports are absolute"),
        ("supervisor/act/direct.py", "from supervisor.sense import forest", None),
        ("supervisor/daemon/loop.py", "import starlette.routing", "only web/ speaks"),
        ("supervisor/daemon/loop.py", "from http.server import HTTPServer", "only web/ speaks"),
        ("supervisor/daemon/loop.py", "import prometheus_client", "only web/ speaks"),
        ("supervisor/daemon/loop.py", "from http import HTTPStatus", None),
        ("supervisor/cli/status.py", "from supervisor.web import app", "strangers on floor 4"),
        ("supervisor/guard/memory.py", "import torch", "on the standard library alone"),
        ("supervisor/guard/memory.py", "from supervisor.model.plan import Plan", "knows nothing of the rest"),
        ("supervisor/daemon/loop.py", "from supervisor.guard import wire", "guard/ is for workers"),
        ("supervisor/__init__.py", "from supervisor.model import plan", "stands on no floor"),
        ("supervisor/__main__.py", "from supervisor.cli.main import main", None),
        ("supervisor/cli/main.py", "from supervisor import __version__", None),
    ],
)
def test_what_may_be_imported_is_told_from_what_may_not(module: str, source: str, why: str | None) -> None:
    found = faults(module, source)
    if why is None:
        assert found == []
    else:
        assert found
        assert all(why in fault for fault in found)
