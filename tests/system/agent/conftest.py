"""An embedded API outside, a booted Debian with real flows registered inside, and an instance of the agent in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import real_flows
from support.api import Api
from support.machine import Machine

FLOWS_HOME = "/srv/flows"


@pytest.fixture(scope="module")
def api(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An embedded API for each booted Debian, on this machine's loopback, which it shares."""
    with Api(tmp_path_factory.mktemp("api") / "server.db") as api:
        yield api


@pytest.fixture(scope="module")
def flows(api: Api, booted: Machine) -> Mapping[str, str]:
    """Real flows with the label prod1, registered once by the prefect inside: name -> id."""
    script = "/srv/real_flows.py"
    booted.write(script, Path(real_flows.__file__).read_text())
    variables = [f"{name}={value}" for name, value in real_flows.environment(api.url, FLOWS_HOME).items()]
    done = booted.run(["env", *variables, booted.flows_python, script, "prod1"], timeout_seconds=120)
    booted.run(["chmod", "-R", "a+rX", FLOWS_HOME])
    return real_flows.registered(done.stdout)


@dataclass
class Instance:
    """`local-agent@prod1` in a booted Debian."""

    machine: Machine
    api: Api
    name: str = "prod1"

    @property
    def unit(self) -> str:
        """Its service."""
        return f"local-agent@{self.name}.service"

    @property
    def slice(self) -> str:
        """Where its flow runs lie."""
        return f"flowruns-{self.name}.slice"

    def configure(self, *, python: str = "", api_url: str = "", more: str = "") -> None:
        """Write agent.toml: real prefect unless another interpreter is named."""
        variables = real_flows.environment(self.api.url, FLOWS_HOME)
        wanted = {name: value for name, value in variables.items() if name.startswith("PREFECT__CLOUD")}
        env = "\n".join(f'{name} = "{value}"' for name, value in wanted.items())
        chosen = f'api = "{api_url or self.api.url}"\npython = "{python or self.machine.flows_python}"\n{more}'
        self.machine.write("/etc/local-agent/agent.toml", f"{chosen}\n[env]\n{env}\n")

    def drop_in(self, text: str) -> None:
        """Add a drop-in to its service."""
        self.machine.write(f"/etc/systemd/system/{self.unit}.d/test.conf", text)
        self.machine.run("systemctl daemon-reload")

    def start(self) -> None:
        """Start it."""
        self.machine.run(["systemctl", "start", self.unit], timeout_seconds=90)

    def show(self, *names: str) -> dict[str, str]:
        """Return properties of its service."""
        printed = self.machine.run(["systemctl", "show", self.unit, *(f"-p{name}" for name in names)]).stdout
        return dict(line.partition("=")[::2] for line in printed.splitlines())

    def journal(self, *arguments: str) -> str:
        """Return its entries in the journal."""
        return self.machine.journal("-u", self.unit, *arguments)

    def scope_is(self, flow_run_id: str, state: str) -> bool:
        """Tell whether a flow run's scope is in an active state, in systemd's words."""
        unit = f"flow-run-{flow_run_id}.scope"
        return self.machine.run(["systemctl", "is-active", unit], check=False).stdout.strip() == state


@pytest.fixture
def instance(machine: Machine, api: Api) -> Instance:
    """An instance that is configured for real prefect and not yet started."""
    instance = Instance(machine, api)
    instance.configure()
    return instance
