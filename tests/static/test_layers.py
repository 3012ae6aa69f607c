"""Imports go one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from static.imports import PACKAGE, cycles, import_graph
from static.layers import APART, apart_name, layer_of, longest_first
from static.rooms_picture import picture
from support.checkout import CHECKOUT

Graph = dict[str, set[str]]


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Who imports whom, of the whole package."""
    return import_graph(CHECKOUT / "src" / PACKAGE)


def test_modules_import_only_downwards(graph: Graph) -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, all_imported in graph.items()
        for imported in sorted(all_imported)
        if not _may_import(module, imported)
    ]
    assert not wrong, "see tests/static/layers.py"


def test_every_module_has_its_place(graph: Graph) -> None:
    nowhere = [module for module in graph if apart_name(module) is None and layer_of(module) is None]
    assert not nowhere, "give these their place in tests/static/layers.py"


def test_imports_have_no_cycle(graph: Graph) -> None:
    assert "errors" in graph["cli.main"]
    assert cycles(graph) == []


def test_cycle_would_be_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"]]


def test_the_privileged_process_holds_little() -> None:
    """The broker is uid 0. All that it imports is Python's own, jeepney, and what the table says."""
    script = "import sys; had = set(sys.modules); import local_agent.broker.__main__; print(*set(sys.modules) - had)"
    shown = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    foreign = {name.partition(".")[0] for name in shown} - sys.stdlib_module_names - {"jeepney"}
    ours = {name.removeprefix(f"{PACKAGE}.") for name in shown if name.startswith(f"{PACKAGE}.")}
    allowed = APART["broker"][0] | {"broker"}
    empty = {package for name in allowed for package in longest_first(name)[1:]}  # packages, of which only one part is
    assert foreign == {PACKAGE}
    assert {name for name in ours - empty if not allowed & set(longest_first(name))} == set()
    assert all(_is_a_docstring(CHECKOUT / "src" / PACKAGE / package / "__init__.py") for package in empty)
    assert {"broker.operations", "dbus.systemd", "units.names"} <= ours


def _is_a_docstring(file: Path) -> bool:
    (only,) = ast.parse(file.read_text()).body
    return isinstance(only, ast.Expr)


def _may_import(module: str, imported: str) -> bool:
    own, other = apart_name(module), apart_name(imported)
    if own and own == other:
        return True
    if own:
        return any(name in APART[own][0] for name in longest_first(imported))
    if other:
        return module in APART[other][1]
    upper, lower = layer_of(module), layer_of(imported)
    return upper is not None and lower is not None and upper <= lower


def test_the_picture_shows_the_code() -> None:
    shown = (CHECKOUT / "docs/rooms.svg").read_text()
    assert shown == picture(), "PYTHONPATH=tests python -m static.rooms_picture >docs/rooms.svg"
