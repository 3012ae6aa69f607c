"""The sessions in docs/commands are what a terminal shows.

LOCAL_AGENT_TESTS_RECORD=1 writes them anew, from Debian 13, and with each the command's help; a new page begins with
an empty block ```console and an empty block ```text:

    LOCAL_AGENT_TESTS_RECORD=1 .venv/bin/python -m pytest tests/system/host/test_sessions.py -k debian13
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from difflib import unified_diff
from pathlib import Path

import prometheus_client
import pytest

from support.api import wait_until
from support.commands_docs import DOCS
from support.ports import ports_to_try
from system.host.conftest import Host
from system.host.sessions import Step, comparable, page, recorded, typed

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_RECORD = os.environ.get("LOCAL_AGENT_TESTS_RECORD") == "1"
_NIGHTLY = """\
report Running
await /srv/go
say [2026-01-31 02:00:07+0000] INFO - prefect.load | 1200 rows loaded
say [2026-01-31 02:00:08+0000] WARNING - prefect.load | 3 rows without a date
report Success
"""


class Scene:
    """A host with three flow runs: one that ended well, one that was killed, one that goes on."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.metrics = f"127.0.0.1:{ports_to_try()[0]}"
        # optional, and so not there by itself
        host.machine.copy_in(
            Path(prometheus_client.__file__).parent, "/usr/lib/python3/dist-packages/prometheus_client"
        )
        host.start(f'limit = 4\ncancel_grace = 1\nagent_address = "{self.metrics}"')
        self.well()  # and with it, its look for flow runs with a hostname label, which may come between
        self.nightly = self._new("nightly-load", "brave-otter", _NIGHTLY)
        self.killed = self._new("export", "red-lark", "report Running\nawait /srv/never")
        self.training = self._new("train-model", "quiet-heron", "report Running\nawait /srv/never")
        for run in (self.nightly, self.killed, self.training):
            host.api.wait_for_state(run, "Running")
            self._wait_for_event(run, "started: flow-run-")
        host.machine.write("/srv/go", "")
        host.machine.run(["systemctl", "kill", "--signal=KILL", f"flow-run-{self.killed}.scope"])
        for run in (self.nightly, self.killed):
            self._wait_for_event(run, "ended: ")
            host.wait_until_ended(run)

    def _new(self, flow: str, name: str, play: str) -> str:
        config = {"type": "LocalRun", "labels": ["prod1"], "env": {"PLAY": play}, "__version__": "1.4.1"}
        return self.host.api.create_flow_run(self.host.api.create_flow(flow, run_config=config), name=name)

    def _wait_for_event(self, run: str, text: str) -> None:
        journal = self.host.machine.journal
        wait_until(lambda: text in journal(f"FLOW_RUN_ID={run}", "-o", "cat"), self.host.instance.journal)

    def known_to_the_api(self) -> None:
        """Wait until the agent has looked at how the run stands at the API."""
        wait_until(lambda: self.host.runs()[self.training]["api_state"] == "running", self.host.instance.journal)

    def well(self) -> None:
        """Wait until systemd, too, was told that all is well."""
        shown = self.host.instance.show
        wait_until(lambda: "API answered" in shown("StatusText")["StatusText"], self.host.instance.journal)

    def misconfigured(self) -> None:
        """Write a setting that there is not, as a hurried person does."""
        self.host.machine.write("/etc/local-agent/prod1.toml", "limitt = 8\n")

    def configured(self) -> None:
        """Take it back."""
        self.host.machine.run("rm /etc/local-agent/prod1.toml")


def _sessions(scene: Scene) -> Iterator[tuple[str, list[Step]]]:
    look: Callable[[], object] = scene.known_to_the_api
    yield "ps", [Step("ps", ready=look), Step("ps -a", width=None), Step("ps", user="alice")]
    yield "top", [Step("top --delay 0.2", width=None)]
    yield (
        "logs",
        [
            Step("logs brave-otter"),
            Step("logs brave-otter --flow-only -n 1"),
            Step("logs red-lark --agent-only"),
            Step("logs black-swan"),
        ],
    )
    yield "status", [Step("status", ready=scene.well), Step("status", user="alice"), Step("status --instance prod2")]
    yield "doctor", [Step("doctor", width=None)]
    figures = "'^local_agent_(runs|slots_free|launches_total|ends_total|api_reachable)'"
    yield "metrics", [Step(f"-s http://{scene.metrics}/metrics | grep -E {figures}", program="curl")]
    named = "--instance prod1"
    yield "drain", [Step(f"drain {named}"), Step("status"), Step(f"undrain {named}"), Step("drain")]
    yield "undrain", [Step(f"undrain {named}"), Step("status")]
    yield "poke", [Step(f"poke {named}"), Step(f"poke {named}", user="alice")]
    yield "reload", [Step(f"reload {named}"), Step(f"reload {named}", ready=scene.misconfigured)]
    some = "grep -E '^(instance|labels|limit|python) '"
    yield "config", [Step(f"config {named} | {some}", ready=scene.configured), Step(f"config {named} --limit many")]
    yield "install", [Step("install systemd --instance prod2 --label etl --limit 8 --output /srv/installed")]
    yield "freeze", [Step("freeze quiet-heron"), Step("ps", ready=look), Step("freeze brave-otter")]
    yield "thaw", [Step("thaw quiet-heron"), Step("thaw quiet-heron", user="alice")]
    yield "set", [Step("set quiet-heron memory=8G cpu=150%"), Step("set quiet-heron memory=lots cpus=2")]
    yield "cancel", [Step("cancel quiet-heron"), Step("cancel black-swan")]


def test_sessions_are_what_a_terminal_shows(host: Host) -> None:
    scene = Scene(host)
    wrong: list[str] = []
    for name, steps in _sessions(scene):
        session = typed(host, steps)
        if _RECORD:
            (DOCS / f"{name}.md").write_text(page(name, session))
        wrong += unified_diff(comparable(recorded(name)), comparable(session), f"docs/commands/{name}.md", "now")
    assert not wrong, "the docstring of this file says how to record them anew:\n" + "\n".join(wrong)
