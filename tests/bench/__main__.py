"""`make bench`: measures the real Prefect agent and ours in turn, and prints one table."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench import table
from bench.bed import Bed
from bench.figures import FIGURES
from bench.model import Figure, Row
from support.api import Api
from support.prefect_venv import prefect_python


def main() -> int:
    """Measure, print, and return 0."""
    wanted = _arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="local-agent-bench-") as folder, Api(Path(folder) / "server.db") as api:
        bed = Bed(Path(folder), api, wanted.prefect_python or prefect_python(), wanted.launcher, wanted.rounds)
        for figure in _chosen(wanted.only):
            print(f"==> {figure.name}", file=sys.stderr, flush=True)
            rows += figure.measure(bed)
    print(table.as_text(rows))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or "5"))
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="names of figures, with commas")
    parser.add_argument("--launcher", choices=("process", "scope"), default="process")
    parser.add_argument("--prefect-python", type=Path, help="an interpreter with prefect 1.4.1")
    return parser.parse_args()


def _chosen(only: str) -> list[Figure]:
    names = {figure.name: figure for figure in FIGURES}
    if unknown := sorted(set(filter(None, only.split(","))) - names.keys()):
        sys.exit(f"error: there is no figure {', '.join(unknown)}\nhint: ONLY= takes {', '.join(names)}")
    return [figure for figure in FIGURES if not only or figure.name in only.split(",")]


if __name__ == "__main__":
    sys.exit(main())
