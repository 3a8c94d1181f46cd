"""The rooms of the library import downward only, and some of them without any package."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "SemiSupSegLib"

TIERS = (
    {"commands"},
    {"workers", "report"},
    {"training"},
    {"methods"},
    {"inference", "evaluation", "review", "quality"},
    {"networks", "losses", "preparation", "phantom"},
    {"cases", "runs", "models"},
)
"""From the top; every room may import rooms of lower tiers, and its own tier without a circle."""
FOUNDATION = {
    "counting",
    "errors",
    "files",
    "freed_memory",
    "options",
    "processes",
    "resources",
    "waiting_threads",
}
"""Files that every room may import, and that import no room."""
LIGHT = {"cases", "runs", "models", "review", "workers"}
"""What Slicer's window process imports: standard library only at file scope, never torch."""
NETWORK = {
    "aiohttp",
    "asyncio",
    "ftplib",
    "http",
    "httpx",
    "requests",
    "smtplib",
    "socket",
    "socketserver",
    "ssl",
    "telnetlib",
    "urllib",
    "urllib3",
    "webbrowser",
    "xmlrpc",
}
WINDOW = {"slicer", "qt", "ctk", "vtk", "PySide6", "PySide2", "PyQt5", "PyQt6", "PythonQt"}
MODULE = ROOT / "SemiSupSeg"
"""What runs in Slicer's process."""
IN_SLICER = {"slicer", "qt", "ctk", "vtk", "numpy"}
"""What Slicer's Python always has; numpy in functions only, so that Slicer starts fast."""
LEVEL = {room: level for level, tier in enumerate(TIERS) for room in tier}


@dataclass(frozen=True)
class Import:
    """One import found in a file of the library."""

    module: str
    """Who imports."""
    target: str
    """What, as a dotted name."""
    at_file_scope: bool
    """Whether it happens when the file is imported."""
    line: int

    def __str__(self) -> str:
        return f"{self.module} line {self.line} imports {self.target}"


def _module_name(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _modules() -> dict[str, Path]:
    return {_module_name(file): file for file in sorted(LIBRARY.rglob("*.py"))}


@cache
def _imports() -> tuple[Import, ...]:
    return tuple(
        found
        for module, file in _modules().items()
        for found in imports_of(file.read_text(encoding="utf-8"), module)
    )


def imports_of(text: str, module: str) -> list[Import]:
    """Return every import in a file: at file scope, in functions, and for type checking."""
    found: list[Import] = []

    def visit(node: ast.AST, at_file_scope: bool) -> None:
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from package import module` may import the module as well as a name in it.
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            targets = []
        found.extend(Import(module, target, at_file_scope, node.lineno) for target in targets)
        inner = at_file_scope and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.body:
                visit(child, False)
            for child in node.orelse:
                visit(child, inner)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(ast.parse(text), True)
    return found


@cache
def _own(target: str) -> str | None:
    """Return the library's module that a dotted name is or lies in."""
    while target:
        if target in _modules():
            return target
        target = target.rpartition(".")[0]
    return None


def _room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def forbidden_arrow(source: str, target: str) -> bool:
    """Return whether a file of one room may not import a file of the other."""
    if source in ("", "__main__") or target in FOUNDATION or target == "" or source == target:
        return False
    if source in FOUNDATION:
        return True
    return LEVEL[target] < LEVEL[source]


def _circle(arrows: dict[str, set[str]]) -> list[str]:
    """Return a circle in the graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for following in sorted(arrows.get(node, ())):
            if found := walk(following, [*path, node]):
                return found
        done.add(node)
        return []

    for node in sorted(arrows):
        if found := walk(node, []):
            return found
    return []


def _arrows(key) -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = {}
    for one in _imports():
        target = _own(one.target)
        if target is not None and key(target) != key(one.module):
            arrows.setdefault(key(one.module), set()).add(key(target))
    return arrows


def test_every_folder_of_the_library_has_a_tier():
    rooms = {file.name for file in LIBRARY.iterdir() if (file / "__init__.py").is_file()}
    files = {file.stem for file in LIBRARY.glob("*.py")} - {"__init__", "__main__"}

    assert rooms <= set(LEVEL)
    assert files == FOUNDATION


def test_imports_point_downward_only():
    wrong = [
        str(one)
        for one in _imports()
        if (target := _own(one.target)) is not None
        and forbidden_arrow(_room(one.module), _room(target))
    ]

    assert wrong == []


def test_no_rooms_import_each_other_in_a_circle():
    assert _circle(_arrows(_room)) == []


def test_no_files_import_each_other_in_a_circle():
    assert _circle(_arrows(lambda module: module)) == []


def test_torch_is_not_reached_from_what_the_window_imports():
    # In `workers` a function may import what a started worker needs; only file scope counts.
    start = {module for module in _modules() if _room(module) in LIGHT | FOUNDATION}
    reached, waiting = set(start), sorted(start)
    wrong = []
    while waiting:
        module = waiting.pop()
        for one in _imports():
            lazily_by_worker = _room(one.module) == "workers" and not one.at_file_scope
            if one.module != module or lazily_by_worker:
                continue
            if one.target.split(".")[0] == "torch":
                wrong.append(str(one))
            target = _own(one.target)
            if target is not None and target not in reached:
                reached.add(target)
                waiting.append(target)

    assert wrong == []


def test_what_the_window_imports_needs_the_standard_library_only_at_file_scope():
    allowed = {*sys.stdlib_module_names, "SemiSupSegLib"}
    wrong = [
        str(one)
        for one in _imports()
        if one.at_file_scope
        and _room(one.module) in LIGHT | FOUNDATION | {"", "__main__"}
        and one.target.split(".")[0] not in allowed
    ]

    assert wrong == []


def test_commands_are_declared_without_loading_heavy_packages():
    wrong = [
        str(one)
        for one in _imports()
        if one.at_file_scope
        and _room(one.module) == "commands"
        and one.target.split(".")[0] in {"torch", "matplotlib", "scipy", "SimpleITK", "nibabel"}
    ]

    assert wrong == []


@pytest.mark.parametrize(
    ("names", "what"), [(NETWORK, "the network"), (WINDOW, "Slicer or Qt")], ids=["net", "window"]
)
def test_the_library_imports_neither_network_nor_window(names, what):
    wrong = [str(one) for one in _imports() if one.target.split(".")[0] in names]

    assert wrong == [], f"the library must not import {what}"


def test_what_the_window_imports_loads_on_a_bare_interpreter():
    modules = [module for module in _modules() if _room(module) in LIGHT | FOUNDATION]
    program = (
        "import importlib, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "tops = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(tops & {'torch', 'numpy', 'scipy', 'SimpleITK', 'nibabel', 'slicer'}))\n"
    )

    # -S: no site-packages; -I: no PYTHONPATH and no user folder either.
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", program], capture_output=True, text=True
    )

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "[]"


def _imports_of_the_window() -> list[Import]:
    files = sorted(MODULE.rglob("*.py"))
    assert files
    return [
        one
        for file in files
        for one in imports_of(file.read_text(encoding="utf-8"), str(file.relative_to(MODULE)))
    ]


def test_the_window_imports_the_light_rooms_only():
    rooms = {
        str(one): _room(target)
        for one in _imports_of_the_window()
        if (target := _own(one.target)) is not None
    }

    assert {one: room for one, room in rooms.items() if room not in LIGHT | FOUNDATION} == {}


def test_the_window_imports_what_slicer_always_has():
    allowed = {*sys.stdlib_module_names, "SemiSupSegLib", "SemiSupSegUI", *IN_SLICER}
    found = _imports_of_the_window()
    tops = {str(one): one.target.split(".")[0] for one in found}

    at_file_scope = {str(one) for one in found if one.at_file_scope}
    # Modules of other extensions, and of Slicer, may be absent: they are asked for in functions.
    absent = {one for one, top in tops.items() if top == "SampleData" and one not in at_file_scope}

    assert {one: top for one, top in tops.items() if top not in allowed} == dict.fromkeys(
        absent, "SampleData"
    )
    assert [str(one) for one in found if one.at_file_scope and "numpy" in one.target] == []


def test_slicers_start_loads_nothing_of_the_library():
    text = (MODULE / "SemiSupSeg.py").read_text(encoding="utf-8")
    loaded = {
        one.target.split(".")[0] for one in imports_of(text, "SemiSupSeg") if one.at_file_scope
    }

    # Qt and VTK are loaded by Slicer itself.
    assert loaded <= {*sys.stdlib_module_names, "slicer", "qt", "vtk"}


def test_only_jobs_starts_workers_and_only_the_registry_names_user_folders():
    text = {file: file.read_text(encoding="utf-8") for file in MODULE.rglob("*.py")}

    assert {file.name for file, one in text.items() if "import subprocess" in one} == set()
    assert {file.name for file, one in text.items() if "QProcess" in one} == set()


@pytest.mark.parametrize(
    ("source", "target", "forbidden"),
    [
        ("commands", "cases", False),
        ("cases", "commands", True),
        ("methods", "training", True),
        ("models", "cases", False),
        ("files", "cases", True),
        ("cases", "files", False),
        ("inference", "preparation", False),
        ("preparation", "inference", True),
    ],
)
def test_an_arrow_is_judged_by_its_tiers(source, target, forbidden):
    assert forbidden_arrow(source, target) is forbidden


def test_imports_in_functions_and_for_type_checking_are_not_at_file_scope():
    text = (
        "import json\n"
        "if TYPE_CHECKING:\n    import numpy\n"
        "def f():\n    from torch import nn\n"
        "class A:\n    import csv\n"
    )

    scopes = {one.target: one.at_file_scope for one in imports_of(text, "m")}

    assert scopes == {"json": True, "numpy": False, "torch.nn": False, "csv": True}


def test_a_circle_is_found():
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}}) == []
