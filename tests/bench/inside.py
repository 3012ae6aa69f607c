"""Figures that need systemd as process 1: measured by this same program, in a Debian that is booted for it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

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
        for folder in ("src", "tests"):
            machine.copy_in(CHECKOUT / folder, f"{_FOLDER}/{folder}")
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


def tell(figure: Figure, rows: Sequence[Row]) -> None:
    """Inside: hand a figure's rows out."""
    print(RESULT + json.dumps({"name": figure.name, "rows": rows_as_json(rows)}), flush=True)
