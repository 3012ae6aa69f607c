"""A pytest within a test, with this checkout's tests/conftest.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.checkout import CHECKOUT


def run_pytest(folder: Path, configuration: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a folder, with a configuration file of its own; return how it ended and what it printed."""
    command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", str(configuration), f"--rootdir={folder}"]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT / "tests"), **environ}
    return subprocess.run([*command, *arguments], cwd=folder, env=env, capture_output=True, text=True)
