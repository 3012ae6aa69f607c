"""What only one kind of API has is known only to its own backend, and to what reads its settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_PACKAGE = CHECKOUT / "src" / "local_agent"

# Prefect 1's own notions, in names and in what is said. (A label of a record or of a metric is none of its.)
_TERMS = {
    "labels": re.compile(r"(?<![a-z])(hostname_?label|effective_labels|labels)(?![a-z])", re.IGNORECASE),
    "task runs": re.compile(r"task[ _]?run", re.IGNORECASE),
    "heartbeats": re.compile("heartbeat", re.IGNORECASE),
    "run configs": re.compile(r"run[ _]?config|LocalRun|UniversalRun"),
    "its name": re.compile(r"prefect ?1", re.IGNORECASE),
}

# its backend, its server, its settings; and the other kinds, which have words of their own
_AT_HOME = ("backends/prefect1/", "backends/prefect3/", "server/", "settings/", "cli/server.py")

# What is not true yet, or is another thing by the same name: file -> terms. It may only shrink.
_REMAINS: dict[str, set[str]] = {
    # an API may hear from its flow runs; which it hears from, their backend says
    **{name: {"heartbeats"} for name in ("agent/flow_run.py", "agent/watch.py", "events.py", "model.py")},
    # the registry, the command that runs the embedded API, and the file as 0.1.0 reads it
    "backends/__init__.py": {"heartbeats", "its name"},
    "cli/main.py": {"its name"},
    "store/record_format.py": {"heartbeats", "its name", "task runs"},
    # labels of Prometheus
    "service/metering.py": {"heartbeats", "labels"},
    "service/metrics.py": {"heartbeats", "labels"},
    # the key `labels` of what scripts read, and doctor's comparison of labels, for the kind of API that has them
    **{name: {"labels"} for name in ("report.py", "service/commands.py", "host/output/status.py")},
    **{f"host/doctor/{name}.py": {"labels"} for name in ("checkup", "instance", "look")},
}


def _words_of(file: Path) -> Iterator[str]:
    """Return the names and texts of a file, but for docstrings: those explain."""
    tree = ast.parse(file.read_text())
    explained = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in explained:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


def _terms_in(words: Iterator[str]) -> set[str]:
    found = list(words)
    return {term for term, pattern in _TERMS.items() if any(pattern.search(word) for word in found)}


def _found() -> dict[str, set[str]]:
    files = {str(path.relative_to(_PACKAGE)): path for path in sorted(_PACKAGE.rglob("*.py"))}
    terms = {name: _terms_in(_words_of(path)) for name, path in files.items() if not name.startswith(_AT_HOME)}
    return {name: found for name, found in terms.items() if found}


def test_what_prefect_1_alone_has_is_known_to_nobody_else() -> None:
    assert _found() == _REMAINS


@pytest.mark.parametrize("kind", ["prefect1", "prefect3"])
def test_nobody_imports_a_backend_by_its_name(kind: str) -> None:
    """But for itself: `backends.KINDS` names it in a text, and imports it when it is used."""
    files = [path for path in _PACKAGE.rglob("*.py") if f"backends/{kind}/" not in str(path)]
    pattern = re.compile(rf"(from|import) local_agent\.backends\.{kind}")
    assert [str(path) for path in files if pattern.search(path.read_text())] == []


def test_a_term_would_be_found(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        'def hostname_label(run):\n    """Explain task runs."""\n    return run.heartbeat, \'a run_config\'\n'
    )
    assert _terms_in(_words_of(file)) == {"labels", "heartbeats", "run configs"}
