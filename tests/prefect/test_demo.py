"""`make demo` for real: three flows, three states, and nothing left of it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence

import pytest

from support.checkout import CHECKOUT
from support.prefect_venv import prefect_python

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(240)]

_DEMO = [sys.executable, str(CHECKOUT / "packaging/demo/demo.py"), "--prefect-python"]


def _start(*before: str) -> subprocess.Popen[str]:
    command: Sequence[str] = [*before, *_DEMO, str(prefect_python())]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def _assert_shows_the_three_states(printed: str) -> None:
    for name, state in (("load-files", "Success"), ("ask-supplier", "Failed"), ("train-model", "Cancelled")):
        row = rf"^{name}-1 +{state} +\d+\.\d  .*\n +log: \S"
        assert re.search(row, printed, re.MULTILINE), printed


def test_three_flows_end_in_their_three_states() -> None:
    with _start() as demo:
        printed, _ = demo.communicate()
    assert demo.returncode == 0, printed
    _assert_shows_the_three_states(printed)


def test_it_works_in_the_background_of_a_shell() -> None:
    """`nohup make demo &` starts it with these signals ignored; so a flow run must not inherit that."""
    with _start("sh", "-c", 'trap "" INT QUIT HUP; exec "$@"', "sh") as demo:
        printed, _ = demo.communicate()
    assert demo.returncode == 0, printed
    _assert_shows_the_three_states(printed)


def test_ctrl_c_ends_everything() -> None:
    """That nothing is left is checked after every test."""
    with _start() as demo:
        assert demo.stdout is not None
        printed = ""
        while "Running" not in printed:
            line = demo.stdout.readline()
            assert line, f"it ended before a flow run was running:\n{printed}"
            printed += line
        demo.send_signal(signal.SIGINT)
        printed += demo.stdout.read()
    assert demo.returncode == 128 + signal.SIGINT, printed
