"""Reads which module of the package imports which, from the source, without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "local_agent"


def import_graph(package_folder: Path) -> dict[str, set[str]]:
    """Given the package's folder, return for each of its modules those of the package that it imports.

    Names are relative to the package: "" is its __init__, "cli.start" is local_agent/cli/start.py.
    """
    files = {_module_name(file, package_folder): file for file in sorted(package_folder.rglob("*.py"))}
    return {
        module: {found for name in _imported(file) if (found := _known(name, files)) not in (None, module)}
        for module, file in files.items()
    }


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Given a graph, return the import cycles found by walking it depth first, each as the list of its modules."""
    found: list[list[str]] = []
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for imported in sorted(graph[module]):
                walk(imported, [*path, module])
            done.add(module)

    for module in graph:
        walk(module, [])
    return found


def _module_name(file: Path, package_folder: Path) -> str:
    parts = file.relative_to(package_folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield from (f"{module}.{alias.name}" for alias in node.names)
            case ast.ImportFrom():
                raise AssertionError(f"{file}:{node.lineno}: a relative import; write the whole name")
            case _:
                pass


def _known(name: str, modules: dict[str, Path]) -> str | None:
    """Given an imported name, return the module that it is or lies in; None for another package's."""
    if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
        return None
    inner = name.removeprefix(PACKAGE).removeprefix(".")
    while inner not in modules:
        inner = inner.rpartition(".")[0]
    return inner
