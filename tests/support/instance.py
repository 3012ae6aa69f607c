"""An instance of the agent as a service inside a booted machine, at an embedded API outside."""

from __future__ import annotations

import json
from collections.abc import Mapping

from local_agent.events import Event
from support.api import Api
from support.checkout import CHECKOUT
from support.machine import Machine

_FLOWS = "/opt/flows/real_flows.py"
_CANCELLATION_CHECK_SECONDS = 2


class Instance:
    """`local-agent@NAME` in a machine: configure it, start it, give it real flows, and look at it as an admin would."""

    def __init__(self, machine: Machine, api: Api, name: str = "prod1") -> None:
        """Given the machine and an API that runs outside."""
        self.machine = machine
        self.api = api
        self.name = name
        self.unit = f"local-agent@{name}.service"
        self.slice = f"flowruns-{name}.slice"

    def start(self, settings: Mapping[str, object] | None = None, drop_in: str = "") -> None:
        """Given settings for its file, and lines for a drop-in, start it and return when systemd says it has."""
        check = f'{{ PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL = "{_CANCELLATION_CHECK_SECONDS}" }}'
        fixed = {"api": self.api.url, "python": self.machine.flows_python, **(settings or {})}
        lines = [f"{key} = {json.dumps(value)}" for key, value in fixed.items()]
        self.machine.write(f"/etc/local-agent/{self.name}.toml", "\n".join([*lines, f"env = {check}", ""]))
        if drop_in:
            self.machine.write(f"/etc/systemd/system/{self.unit}.d/test.conf", drop_in)
            self.machine.run("systemctl daemon-reload")
        self.machine.run(["systemctl", "start", self.unit])

    def show(self, name: str, unit: str = "") -> str:
        """Return a property of its unit, or of another one."""
        return self.machine.run(["systemctl", "show", "--property", name, "--value", unit or self.unit]).stdout.strip()

    def create_run(self, flow: str) -> str:
        """Given the name of a flow in real_flows.py, register it with the real prefect and return a new run's id."""
        self.machine.run("rm -f /run/flow-may-end")
        self.machine.write(_FLOWS, (CHECKOUT / "tests/system/real_flows.py").read_text())
        own = ["PREFECT__BACKEND=server", f"PREFECT__SERVER__ENDPOINT={self.api.url}"]
        command = ["env", *own, self.machine.flows_python, _FLOWS, flow, self.name]
        return self.machine.run(command).stdout.split()[-1]

    def let_flows_end(self) -> None:
        """Let the flows that wait for it end."""
        self.machine.run("touch /run/flow-may-end")

    def pids_of(self, flow_run_id: str) -> list[int]:
        """Return the processes in a flow run's scope, as they are numbered inside."""
        cgroup = self.show("ControlGroup", f"flow-run-{flow_run_id}.scope")
        if not cgroup:
            return []
        found = self.machine.run(f"find /sys/fs/cgroup{cgroup} -name cgroup.procs -exec cat {{}} +", check=False)
        return [int(pid) for pid in found.stdout.split()]

    def wait_for_event(self, event: Event, flow_run_id: str) -> None:
        """Return when the journal has the event about the flow run."""
        match = [f"MESSAGE_ID={event.message_id}", f"FLOW_RUN_ID={flow_run_id}"]
        words = " ".join(["journalctl", "--quiet", "--no-pager", *match])
        self.machine.wait_until(f'test -n "$({words})"')

    def output_of(self, flow_run_id: str) -> str:
        """Return what the journal has under a flow run's identifier."""
        return self.machine.journal("-o", "cat", "-t", f"flow-run-{flow_run_id}")
