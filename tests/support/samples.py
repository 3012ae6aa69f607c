"""Samples of the model for tests: a record, a flow run, settings; each with what a test says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from local_agent.backends import kind
from local_agent.backends.prefect1.detail import Detail, RunConfig
from local_agent.events import Event, Subject
from local_agent.model import FlowRun, Record, Step
from local_agent.settings import Settings
from support.clock import START

RUN_ID = "0e5a8f5c-3a55-4d6f-9e02-7b0f1d5f1a01"
FLOW_ID = "5f2b9a3e-64a5-4ff6-a7a0-61bb1d7f3c02"
NONCE = "nonce-of-this-agent"
NEEDS = kind("prefect1").needs


def settings(**given: Any) -> Settings:  # noqa: ANN401 - settings are of many types
    """Return settings that are default but for what is given."""
    return Settings(**{"state_dir": Path("/nonexistent"), "python": Path("/opt/flows/bin/python"), **given})


def record(**given: Any) -> Record:  # noqa: ANN401 - a record's fields are of many types
    """Return the record of a run that was claimed at START."""
    usual: dict[str, Any] = {
        "id": RUN_ID,
        "name": "calm-otter",
        "flow_name": "etl",
        "nonce": NONCE,
        "step": Step.RUNNING,
        "boot_id": "this-boot",
        "due": START,
        "claimed_at": START,
        "backend": "prefect1",
    }
    return Record(**{**usual, **given})


def flow_run(**given: Any) -> FlowRun:  # noqa: ANN401 - a flow run's fields are of many types
    """Return a flow run of Prefect 1 that is due at START. What no other API has goes into its detail."""
    usual: dict[str, Any] = {
        "id": RUN_ID,
        "name": "calm-otter",
        "flow_name": "etl",
        "due": START,
        "read_at_seconds": 1000.0,
    }
    rest: dict[str, Any] = {
        "version": 1,
        "flow_id": FLOW_ID,
        "state": {"type": "Scheduled", "start_time": START.isoformat()},
        "run_config": RunConfig(kind="LocalRun"),
        "storage": "Local",
    }
    detail = Detail(**{name: given.pop(name, value) for name, value in rest.items()})
    return FlowRun(**{**usual, "detail": detail, **given})


class ListLog:
    """Keeps the events that are said."""

    def __init__(self) -> None:
        self.said: list[tuple[Event, Subject | None, dict[str, object]]] = []

    def say(self, event: Event, subject: Subject | None = None, **fields: object) -> None:
        """Keep one; fail where the event's text asks for a field that it was not given."""
        about = {"run": subject.id, "flow": subject.flow_name} if subject else {}
        event.text.format(**about, **fields)
        self.said.append((event, subject, fields))

    @property
    def events(self) -> Sequence[Event]:
        """The events in their order."""
        return [event for event, _, _ in self.said]
