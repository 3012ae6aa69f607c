"""Puppets in the place of agents, and scopes that the broker has made for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from support.machine import Machine
from support.puppets import Line, Puppets, Remote

# a question that changes nothing: no such scope has failed
PROBE: dict[str, object] = {"do": "reset-failed", "flow_run": "00000000-0000-4000-8000-000000000000"}


@pytest.fixture
def puppets(machine: Machine) -> Iterator[Puppets]:
    """Puppets to be placed in the machine."""
    with Puppets(machine) as puppets:
        yield puppets


@pytest.fixture
def agent(puppets: Puppets) -> Remote:
    """A puppet in the place of local-agent@prod1.service."""
    return puppets.agent("prod1")


@pytest.fixture
def broker(agent: Remote) -> Line:
    """Its connection to the broker."""
    return agent.broker()


def start_message(pid: int, flow_run: str = "", /, **parts: object) -> dict[str, object]:
    """Given a process, return a request to start a scope around it."""
    message: dict[str, object] = {
        "do": "start",
        "flow_run": flow_run or str(uuid.uuid4()),
        "pid": pid,
        "description": "a test's",
        "stop_seconds": 5,
        "limits": {},
    }
    return message | parts


def started(agent: Remote, broker: Line, *words: str, **parts: object) -> str:
    """Start a scope around a new process, and return its flow run."""
    flow_run = str(uuid.uuid4())
    answer = broker.asked(start_message(agent.spawn(*(words or ("sleep", "infinity"))), flow_run, **parts))
    assert answer.get("ok") == {}, answer
    return flow_run


def scope_of(flow_run: str) -> str:
    """Return a flow run's scope."""
    return f"flow-run-{flow_run}.scope"


def show(machine: Machine, unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit."""
    printed = machine.run(["systemctl", "show", unit, *(f"-p{name}" for name in names)]).stdout
    return dict(line.partition("=")[::2] for line in printed.splitlines())
