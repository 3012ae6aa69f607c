"""A flow as Prefect serializes it, parsed: what could never be run, or never be read back, is refused here.

The real Server does this with pydantic; names, defaults and what is refused are its.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from local_agent.server.data import intervals
from local_agent.server.input import shapes
from local_agent.server.input.refusals import RefusedError

# As in the real Server's config.toml.
CORE_VERSION_CUTOFF = "0.6.1"


@dataclass(frozen=True)
class Parameter:
    """A parameter that a flow declares."""

    name: str
    is_required: bool
    default: Any


@dataclass(frozen=True)
class Task:
    """A task of a flow: the columns of its row."""

    columns: dict[str, Any]

    @property
    def slug(self) -> str:
        """What it is known by within its flow."""
        return str(self.columns["slug"])


@dataclass(frozen=True)
class Edge:
    """From one task to another, by their slugs."""

    upstream: str
    downstream: str
    key: str | None
    mapped: bool


@dataclass(frozen=True)
class Flow:
    """A serialized flow. `whole` is all of it, as it came."""

    whole: dict[str, Any]
    name: str
    core_version: str | None
    columns: dict[str, Any]
    tasks: list[Task]
    edges: list[Edge]


def flow(value: object) -> Flow:
    """Given a serialized flow's JSON, return it parsed. Raise RefusedError with the path of what is wrong."""
    if not isinstance(value, dict) or not value.get("name"):
        raise RefusedError("A serialized flow must be an object with a name")
    whole = value
    core_version = _core_version(whole.get("__version__"))
    parameters(whole.get("parameters"), "parameters")
    schedule(whole.get("schedule"), "schedule")
    return Flow(
        whole=whole,
        name=shapes.text(whole["name"], "name"),
        core_version=core_version,
        columns={
            "environment": run_config(whole.get("environment"), "environment"),
            "run_config": run_config(whole.get("run_config"), "run_config"),
            "storage": shapes.mapping_or_none(whole.get("storage"), "storage"),
            "parameters": whole.get("parameters") or [],
            "schedule": whole.get("schedule"),
        },
        tasks=tasks(whole.get("tasks"), "tasks"),
        edges=edges(whole.get("edges"), "edges"),
    )


def _core_version(value: object) -> str | None:
    version = shapes.text_or_none(value, "__version__")
    if version and _release(version) < _release(CORE_VERSION_CUTOFF):
        raise RefusedError(
            f"Prefect backends require new flows to be built with Prefect {CORE_VERSION_CUTOFF}+, but this flow was"
            f" built with Prefect {version[:40]}."
        )
    return version


def _release(version: str) -> tuple[int, ...]:
    """Return the numbers in front: (1, 4, 1) for 1.4.1, 1.4.1+3.gabc and 1.4.1rc2. None are before every release."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", version)
    return tuple(map(int, found[1].split("."))) if found else ()


def parameters(value: object, path: str) -> list[Parameter]:
    """Return the parameters that a flow declares."""
    return [
        Parameter(
            name=shapes.text(each.get("name") or each.get("slug"), f"{path}[{number}].name"),
            is_required=shapes.flag(each.get("required"), f"{path}[{number}].required"),
            default=each.get("default"),
        )
        for number, each in enumerate(shapes.mappings(value, path))
    ]


def run_config(value: object, path: str) -> dict[str, Any] | None:
    """Return a run config or an environment, whose labels are texts."""
    config = shapes.mapping_or_none(value, path)
    if config is not None:
        shapes.texts(config.get("labels"), f"{path}.labels")
    return config


def schedule(value: object, path: str) -> list[dict[str, Any]]:
    """Return the clocks of a schedule, each with `parameter_defaults`; none if there is no schedule."""
    found = shapes.mapping_or_none(value, path) or {}
    clocks = shapes.mappings(found.get("clocks"), f"{path}.clocks")
    for number, clock in enumerate(clocks):
        shapes.mapping_or_none(clock.get("parameter_defaults"), f"{path}.clocks[{number}].parameter_defaults")
        shapes.texts(clock.get("labels"), f"{path}.clocks[{number}].labels")
    return clocks


def tasks(value: object, path: str) -> list[Task]:
    """Return the tasks in a list."""
    return [_task(each, f"{path}[{number}]") for number, each in enumerate(shapes.mappings(value, path))]


def _task(task: dict[str, Any], path: str) -> Task:
    trigger = task.get("trigger")
    if not task.get("slug"):
        raise RefusedError(f"Every task needs a slug: {path} has none")
    flags = ("mapped", "auto_generated", "is_reference_task", "is_root_task", "is_terminal_task")
    return Task(
        {
            "slug": shapes.text(task["slug"], f"{path}.slug"),
            "name": shapes.text_or_none(task.get("name"), f"{path}.name"),
            "type": shapes.text_or_none(task.get("type"), f"{path}.type"),
            "max_retries": shapes.whole(task.get("max_retries"), f"{path}.max_retries"),
            "retry_delay": intervals.from_json(task.get("retry_delay"), f"{path}.retry_delay"),
            # Prefect sends the trigger as an object with its function's name.
            "trigger": shapes.text_or_none(
                trigger.get("fn") if isinstance(trigger, dict) else trigger, f"{path}.trigger"
            ),
            "tags": shapes.texts(task.get("tags"), f"{path}.tags"),
            "cache_key": shapes.text_or_none(task.get("cache_key"), f"{path}.cache_key"),
            **{name: shapes.flag(task.get(name), f"{path}.{name}") for name in flags},
        }
    )


def edges(value: object, path: str) -> list[Edge]:
    """Return the edges in a list."""
    return [
        Edge(
            upstream=_slug(each.get("upstream_task"), f"{path}[{number}].upstream_task"),
            downstream=_slug(each.get("downstream_task"), f"{path}[{number}].downstream_task"),
            key=shapes.text_or_none(each.get("key"), f"{path}[{number}].key"),
            mapped=shapes.flag(each.get("mapped"), f"{path}[{number}].mapped"),
        )
        for number, each in enumerate(shapes.mappings(value, path))
    ]


def _slug(task: object, path: str) -> str:
    """Prefect names an edge's tasks as objects with a slug and nothing else."""
    return shapes.text(task.get("slug") if isinstance(task, dict) else task, path)
