"""The documentation of the agent that this one replaces, followed line by line with `local-agent` in its place.

Every command stands here as it stands there. What it is to be pointed at is said once, in Prefect's own configuration
of root. docs/documentation.md has the sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.api import Api, wait_until
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.prefect, pytest.mark.timeout(300)]

_FLOWS = "/srv/documented_flows.py"
_PREFECT_HOME = "/srv/prefect"
_NO_DEFAULT_LABELS = "PREFECT__FLOWS__DEFAULTS__STORAGE__ADD_DEFAULT_LABELS=false"


@pytest.fixture(scope="module")
def api(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The Prefect Server of this walk."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        booted.write("/root/.prefect/config.toml", f'[server]\nendpoint = "{api.url}"\n')
        booted.run([booted.flows_python, "-m", "prefect", "backend", "server"])
        booted.write("/srv/documented_flows.py", Path(__file__).with_name("documented_flows.py").read_text())
        booted.run("mkdir /srv/work")
        yield api


@dataclass(frozen=True)
class Walk:
    """A booted Debian on which somebody types what the documentation says."""

    machine: Machine
    api: Api
    labelled: Mapping[str, str]  # flow's name -> id, as Prefect registers by default
    unlabelled: Mapping[str, str]  # the same without the hostname label that Local storage brings

    @property
    def hostname(self) -> str:
        """The label that Prefect and the agent add."""
        return self.machine.run("hostname").stdout.strip()

    @contextmanager
    def typed(self, command: str) -> Iterator[Agent]:
        """Type a command that starts an agent; Ctrl-C ends it at the end of the block."""
        with _foreground(self.machine, command) as agent:
            yield agent

    def labels(self) -> list[list[str]]:
        """Return the labels of all agents that the API knows, sorted as it has them, those of the latest agent last."""
        found = self.api.graphql("{ agent(order_by: {created: asc}) { labels } }")["agent"]
        return [agent["labels"] for agent in found]

    def wait_for_output(self, flow_run_id: str, text: str) -> None:
        """Wait until the journal has what a flow run printed."""
        self.wait_for_journal(text, "-t", f"flow-run-{flow_run_id}")

    def wait_for_journal(self, text: str, *options: str) -> None:
        """Wait until the journal has a line."""
        self.machine.wait_until(lambda: text in self.machine.journal("-o", "cat", *options))


@pytest.fixture(scope="module")
def registered(booted: Machine, api: Api) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The flows, registered as Prefect does by default, and once more without the hostname label."""
    return _register(booted, "by-default"), _register(booted, "no-default-labels", _NO_DEFAULT_LABELS)


@pytest.fixture
def walk(machine: Machine, api: Api, registered: tuple[Mapping[str, str], Mapping[str, str]]) -> Walk:
    """What each test walks on: the interpreter with prefect is named, nothing else."""
    machine.write("/etc/local-agent/agent.toml", f'python = "{machine.flows_python}"\n')
    return Walk(machine, api, *registered)


def _register(machine: Machine, project: str, *variables: str) -> Mapping[str, str]:
    home = f"PREFECT__HOME_DIR={_PREFECT_HOME}"  # everybody may read the flows there
    command = ["env", home, *variables, machine.flows_python, _FLOWS, project]
    printed = machine.run(command, timeout_seconds=120).stdout
    ids: dict[str, str] = json.loads(printed.splitlines()[-1])
    return ids


@dataclass(frozen=True)
class Agent:
    """An agent in the foreground of a terminal that is piped into a file."""

    machine: Machine
    log: str

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.machine.read(self.log)

    def wait_for(self, text: str) -> None:
        """Wait until it has printed something."""
        self.machine.wait_until(lambda: text in self.said)


@contextmanager
def _foreground(machine: Machine, command: str) -> Iterator[Agent]:
    folder = machine.run("mktemp -d").stdout.strip()
    machine.spawn(f"cd /root; echo $$ >{folder}/pid; exec {command} >{folder}/log 2>&1")
    machine.wait_until(f"test -s {folder}/pid -a -e {folder}/log")
    agent = Agent(machine, f"{folder}/log")
    agent.wait_for("Registered at")
    yield agent
    pid = machine.read(f"{folder}/pid").strip()
    machine.run(f"kill -INT {pid}")
    machine.wait_until(f"! test -e /proc/{pid}")
    assert "Traceback" not in agent.said


def test_an_agent_runs_flows_as_they_are_configured(walk: Walk) -> None:
    with walk.typed("local-agent start") as agent:
        assert walk.labels()[-1] == [walk.hostname]
        configured = walk.api.create_flow_run(walk.labelled["configured"])
        plain = walk.api.create_flow_run(walk.labelled["plain"])
        for run in (configured, plain):
            walk.api.wait_for_state(run, "Success")
        walk.wait_for_output(configured, "SOME_VAR is VALUE in /srv/work")
        walk.wait_for_output(plain, "SOME_VAR is None in /root")
        assert "SOME_VAR" not in agent.said


def test_labels_decide_which_flow_runs_it_takes(walk: Walk) -> None:
    api, flow = walk.api, walk.unlabelled["plain"]
    both, stranger = (api.create_flow_run(flow, labels=[*labels]) for labels in (["label1", "label2"], ["label3"]))
    of_this_host, without = (api.create_flow_run(flow, labels=labels) for labels in ([walk.hostname], []))
    with walk.typed("local-agent start -l label1 -l label2") as agent:
        assert walk.labels()[-1] == sorted(["label1", "label2", walk.hostname])
        for run in (both, of_this_host):
            api.wait_for_state(run, "Success")
        assert without not in agent.said
    later = api.create_flow_run(flow, labels=[walk.hostname])
    with walk.typed("local-agent start --no-hostname-label") as agent:
        assert walk.labels()[-1] == []
        api.wait_for_state(without, "Success")
        agent.wait_for(f"({later}) of plain waits: it has every label of this agent but the hostname label")
    for run in (stranger, later):
        assert api.state(run) == "Scheduled"
        api.cancel(run)


def test_it_shows_the_logs_of_flow_runs(walk: Walk) -> None:
    with walk.typed("local-agent start --show-flow-logs") as agent:
        run = walk.api.create_flow_run(walk.labelled["configured"], name="shown-one")
        walk.api.wait_for_state(run, "Success")
        wait_until(lambda: "SOME_VAR is VALUE in /srv/work" in agent.said, lambda: agent.said)
        lines = [line for line in agent.said.splitlines() if "SOME_VAR" in line]
        assert all(line.startswith("shown-one | ") for line in lines)
        assert "\x1b[" not in agent.said, "colours where nobody sees them"


def test_a_real_supervisord_runs_what_install_prints(walk: Walk) -> None:
    machine, ask = walk.machine, "supervisorctl -c /srv/supervisor/supervisord.conf"
    machine.run("mkdir /srv/supervisor && local-agent install >/srv/supervisor/supervisord.conf")
    machine.spawn("supervisord -n -c /srv/supervisor/supervisord.conf")
    machine.wait_until(f"{ask} status local-agent | grep RUNNING")
    run = walk.api.create_flow_run(walk.labelled["plain"])
    walk.api.wait_for_state(run, "Success")
    machine.wait_until(f"grep {run} /srv/supervisor/local-agent.log")
    machine.run(f"{ask} shutdown")
    machine.wait_until(f"! {ask} pid")


def test_two_agents_share_a_machine(walk: Walk) -> None:
    with (
        walk.typed("local-agent start --no-hostname-label --label prod1") as prod1,
        walk.typed("local-agent start --no-hostname-label --label prod2") as prod2,
    ):
        runs = [walk.api.create_flow_run(walk.unlabelled[name]) for name in ("example1", "example2")]
        for run in runs:
            walk.api.wait_for_state(run, "Success")
        for agent, run, other in ((prod1, runs[0], runs[1]), (prod2, runs[1], runs[0])):
            agent.wait_for(f"({run}) of example")
            assert other not in agent.said


def test_two_instances_are_the_two_agents(walk: Walk) -> None:
    """An instance's label is its name, so nothing else is to be written."""
    machine = walk.machine
    machine.write("/etc/local-agent/agent.toml", f'api = "{walk.api.url}"\npython = "{machine.flows_python}"\n')
    machine.run("systemctl enable --now local-agent@prod1 local-agent@prod2")
    for name, instance in (("example1", "prod1"), ("example2", "prod2")):
        run = walk.api.create_flow_run(walk.unlabelled[name])
        walk.api.wait_for_state(run, "Success")
        started = f"of {name} started: flow-run-{run}.scope"
        walk.wait_for_journal(started, f"FLOW_RUN_ID={run}", f"LOCAL_AGENT={instance}")
