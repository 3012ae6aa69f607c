"""`make bench`: measures the real Prefect agent and ours in turn, prints one table and writes BENCHMARKS.md."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from bench import inside, report, results, table
from bench.bed import Bed
from bench.figures import FIGURES
from bench.model import SCOPE, Figure, Row
from bench.results import Result
from support.api import Api
from support.cache import SetUpError
from support.checkout import CHECKOUT
from support.prefect_venv import prefect_python

_RESULTS = CHECKOUT / "build/bench"
_REALTIME = "give all that is measured real-time priority, as root on a machine where other programs are busy"
_PRIORITY = 5


def main() -> int:
    """Measure what is wanted, print it, and return 0."""
    wanted = _arguments()
    signal.signal(signal.SIGTERM, _exit)
    if wanted.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))  # whatever is started from here inherits it
    figures = [] if wanted.again else _chosen(wanted.only)
    prefect = wanted.prefect_python or prefect_python()
    if wanted.inside:
        for figure, rows in _measure_here(figures, prefect, wanted.rounds):
            inside.tell(figure, rows)
        return 0
    conditions = report.conditions(prefect) + (", with real-time priority" if wanted.realtime else "")
    measured: list[Row] = []
    try:
        for figure, rows in _measure(figures, prefect, wanted):
            results.save(_RESULTS, Result(figure.name, rows, wanted.rounds, conditions))
            measured += rows
    finally:  # whatever comes to an end early, what is measured is worth seeing
        print(table.as_text(measured) if measured else "nothing measured", flush=True)
    _write_report()
    return 0


def _exit(number: int, _frame: FrameType | None) -> NoReturn:
    """End what was started, too."""
    sys.exit(128 + number)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS") or "5"))
    parser.add_argument("--only", default=os.environ.get("ONLY", ""), help="names of figures, with commas")
    parser.add_argument("--debian", type=int, default=int(os.environ.get("DEBIAN") or "12"))
    parser.add_argument("--again", action="store_true", help="measure nothing, write down what was measured before")
    parser.add_argument("--prefect-python", type=Path, help="an interpreter with prefect 1.4.1")
    parser.add_argument("--realtime", action="store_true", default=os.environ.get("REALTIME") == "1", help=_REALTIME)
    parser.add_argument("--inside", action="store_true", help="systemd is process 1 here; the results go to stdout")
    return parser.parse_args()


def _chosen(only: str) -> list[Figure]:
    names = {figure.name: figure for figure in FIGURES}
    if unknown := sorted(set(filter(None, only.split(","))) - names.keys()):
        sys.exit(f"error: there is no figure {', '.join(unknown)}\nhint: ONLY= takes {', '.join(names)}")
    return [figure for figure in FIGURES if not only or figure.name in only.split(",")]


def _measure(
    figures: Sequence[Figure], prefect: Path, wanted: argparse.Namespace
) -> Iterator[tuple[Figure, list[Row]]]:
    yield from _measure_here([figure for figure in figures if figure.launcher != SCOPE], prefect, wanted.rounds)
    yield from inside.measure([figure for figure in figures if figure.launcher == SCOPE], wanted.rounds, wanted.debian)


def _measure_here(figures: Sequence[Figure], prefect: Path, rounds: int) -> Iterator[tuple[Figure, list[Row]]]:
    """Measure each figure with an API of its own: what one leaves there is nothing to the next."""
    for figure in figures:
        print(f"==> {figure.name}", file=sys.stderr, flush=True)
        with (
            tempfile.TemporaryDirectory(prefix="local-agent-bench-") as folder,
            Api(Path(folder) / "server.db") as api,
        ):
            yield figure, figure.measure(Bed(Path(folder), api, prefect, figure.launcher, rounds))


def _write_report() -> None:
    found = {figure.name: results.load(_RESULTS, figure.name) for figure in FIGURES}
    if missing := [name for name, result in found.items() if result is None]:
        print(f"\nBENCHMARKS.md stays as it is until these are measured, too: {', '.join(missing)}")
        return
    measured = [result for result in found.values() if result is not None]
    report.FILE.write_text(report.renewed(report.FILE.read_text(), measured, FIGURES))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetUpError as error:
        sys.exit(f"error: {error}")
