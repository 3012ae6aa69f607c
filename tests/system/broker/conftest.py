"""Puppets in the place of agents, and scopes that the broker has made for them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from support.machine import Machine
from support.puppets import Line, Puppets, Remote


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


def start_message(pid: int, flow_run: str = "", **parts: object) -> dict[str, object]:
    """Given a process, return a request to start a scope around it."""
    message = {
        "do": "start",
        "flow_run": flow_run or str(uuid.uuid4()),
        "pid": pid,
        "description": "a test's",
        "stop_seconds": 5,
        "limits": {},
    }
    return message | parts
