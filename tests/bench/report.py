"""BENCHMARKS.md: what is between its two marks is written here, the rest is people's."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import table
from bench.model import Figure
from bench.results import Result
from support.checkout import CHECKOUT

FILE = CHECKOUT / "BENCHMARKS.md"
_BEGIN = "<!-- from here to the next mark: written by `make bench` -->"
_END = "<!-- end of what `make bench` writes -->"


def conditions(prefect_python: Path) -> str:
    """Return on what is measured here and now, in words."""
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    prefect = _said([str(prefect_python), "-c", "import prefect; print(prefect.__version__)"])
    return (
        f"local-agent {_commit()}, prefect {prefect}, Python {platform.python_version()}, "
        f"{_os_name()}, Linux {platform.release()}, {os.cpu_count()} CPUs ({cpu[1] if cpu else platform.machine()}), "
        f"{datetime.now(UTC):%Y-%m-%d}"
    )


def renewed(text: str, results: Sequence[Result], figures: Sequence[Figure]) -> str:
    """Given the file's text and all figures' results, return it with their part renewed."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{_written(results, figures)}\n\n{_END}{after}"


def _written(results: Sequence[Result], figures: Sequence[Figure]) -> str:
    rows = [row for result in results for row in result.rows]
    against = [row for row in rows if not row.title.startswith("embedded API")]
    api = [row for row in rows if row.title.startswith("embedded API")]
    return "\n\n".join(
        [
            _all_conditions(results),
            "Each cell is the median of all samples, with the least and the most.",
            table.as_markdown(against),
            "## The embedded API",
            table.as_markdown(api, ("figure", "ours")),
            "## What is measured",
            *_explained(figures),
        ]
    )


def _all_conditions(results: Sequence[Result]) -> str:
    found: dict[str, list[str]] = {}
    for result in results:
        found.setdefault(f"{result.conditions}, {result.rounds} rounds", []).append(result.name)
    if len(found) == 1:
        return f"Measured on {next(iter(found))}."
    return "\n".join(f"* {', '.join(names)}: measured on {words}." for words, names in found.items())


def _explained(figures: Sequence[Figure]) -> list[str]:
    """Return what figures measure; those of one module are explained together."""
    names: dict[str, dict[str, None]] = {}
    for figure in figures:
        names.setdefault(figure.explanation, {})[figure.name.removesuffix("-scope")] = None
    return [f"**{', '.join(found)}.** {explanation}" for explanation, found in names.items()]


def _commit() -> str:
    commit = _said(["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"])
    return commit or "of no commit"


def _os_name() -> str:
    found = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.MULTILINE)
    version = Path("/etc/debian_version")
    return f"{found[1] if found else 'Linux'} {version.read_text().strip() if version.exists() else ''}".strip()


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
