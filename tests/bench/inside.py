"""Figures that need systemd as process 1: measured by this same program, in a Debian that is booted for it."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.model import Figure, Row
from bench.results import rows_as_json, rows_from_json
from support.checkout import CHECKOUT
from support.machine import Machine

RESULT = "result: "
_FOLDER = "/srv/checkout"


def measure(figures: Sequence[Figure], rounds: int, release: int) -> Iterator[tuple[Figure, list[Row]]]:
    """Given figures, boot a Debian and return each with its rows as soon as they are there."""
    if not figures:
        return
    by_name = {figure.name: figure for figure in figures}
    with Machine(release) as machine:
        _copy_in(machine)
        names = ",".join(by_name)
        options = ["--inside", "--prefect-python", machine.flows_python, "--rounds", str(rounds), "--only", names]
        path = f"PYTHONPATH={_FOLDER}/tests:{_FOLDER}/src"
        process = machine.spawn(["env", path, machine.agent_python, "-m", "bench", *options])
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(RESULT):
                found = json.loads(line.removeprefix(RESULT))
                yield by_name[found["name"]], rows_from_json(found["rows"])
            else:
                print(line, end="", file=sys.stderr, flush=True)
        if process.wait() != 0:
            sys.exit(f"error: measuring in Debian {release} ended with exit code {process.returncode}; see above")


def _copy_in(machine: Machine) -> None:
    """Copy source and tests, without what Python writes beside them at any time."""
    with tempfile.TemporaryDirectory(prefix="local-agent-bench-") as folder:
        copy = Path(folder) / "checkout"
        for name in ("src", "tests"):
            shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        machine.copy_in(copy, _FOLDER)


def tell(figure: Figure, rows: Sequence[Row]) -> None:
    """Inside: hand a figure's rows out."""
    print(RESULT + json.dumps({"name": figure.name, "rows": rows_as_json(rows)}), flush=True)
