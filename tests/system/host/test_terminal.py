"""A person at a terminal of a booted Debian: the keys of `top`, and Ctrl-C."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.api import wait_until
from system.host import person
from system.host.conftest import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_SCRIPT = "/srv/person.py"


def _at_a_terminal(host: Host, line: str, *steps: str) -> dict[str, Any]:
    """Type `local-agent LINE` at a terminal, and do the steps."""
    host.machine.write(_SCRIPT, Path(person.__file__).read_text())
    words = ["python3", _SCRIPT, json.dumps(steps), "local-agent", *line.split()]
    printed: dict[str, Any] = json.loads(host.machine.run(words, timeout_seconds=120).stdout)
    return printed


def test_the_keys_of_top(host: Host) -> None:
    host.start()
    run = host.running()
    done = _at_a_terminal(
        host,
        "top --delay 1",
        *("wait q: quit", "press f", "wait choose a flow run first"),
        *("press DOWN", "wait m>", "press m", "press s", "press n", "press c", "press f", "wait is frozen"),
        *("wait frozen", "press t", "wait goes on", "press x", "wait ? y or n", "press n", "wait nothing was done"),
        *("press x", "wait ? y or n", "press y", "wait is Cancelling at the API", "press q"),
    )
    assert done["code"] == 0
    assert done["shown"].endswith("\x1b[?1049l"), "the terminal is as it was"
    assert host.api.state(run) in ("Cancelling", "Cancelled")


def test_top_without_a_flow_run(host: Host) -> None:
    host.start()
    done = _at_a_terminal(host, "top --delay 1", "wait q: quit", "press DOWN", "press f", "wait choose", "press CTRL-C")
    assert (done["code"], done["shown"].count("Traceback")) == (0, 0)
    assert "all: 0 runs" in done["shown"]


@pytest.mark.parametrize("line", ["ps --watch", "logs -f --all"])
def test_an_interrupt_ends_what_goes_on_for_ever(host: Host, line: str) -> None:
    host.start()
    host.running()
    wait_until(lambda: "started: " in host.type("logs --all").stdout, host.instance.journal)
    done = _at_a_terminal(host, line, "wait flow", "press CTRL-C")
    assert done["code"] == 130
    assert "Traceback" not in done["shown"]
