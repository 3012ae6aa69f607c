"""What an operation costs does not grow with what it does not ask for: counted in SQLite's own steps, not in time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from api.server.local import LocalApi, local_api
from local_agent.server.bounds.budget import DEFAULT

FEW, MANY = 60, 3_000

# A tree of an index that is one level higher takes a few steps more.
_SLACK_STEPS = 150


class Filled:
    """An API with runs that nobody asks for, and a flow and a run of it that somebody does."""

    def __init__(self, api: LocalApi, count: int) -> None:
        self.api = api
        _fill(api, count)
        self.flow = api.create_flow("mine", labels=["mine"])
        self.run = api.create_flow_run(self.flow)
        self.task = api.task_runs(self.run)[0]["task"]["id"]
        self.agent = api.register_agent("a", ["mine", "yours"])

    def steps(self, operation: Callable[[Filled], object]) -> int:
        """Return how many steps an operation takes, when it was done before."""
        operation(self)
        seen = 0

        def count() -> int:
            nonlocal seen
            seen += 1
            return 0

        self.api.database._connection.set_progress_handler(count, 1)
        operation(self)
        self.api.database._connection.set_progress_handler(None, 0)
        return seen


def _fill(api: LocalApi, count: int) -> None:
    other = api.create_flow("other", labels=["nobody"])
    state = {"type": "Scheduled"}
    with api.database.transaction(writes=True):
        for number in range(count):
            now = api.database.now()
            # Each with a label of its own, and half of them running: no other index than the right one helps.
            api.database.insert(
                "flow_run",
                id=str(uuid.uuid4()),
                tenant_id=api.tenant_id,
                flow_id=other,
                labels=["nobody", f"{number:05}"],
                parameters={},
                context={},
                scheduled_start_time=now,
                name=f"n{number}",
                version=1,
                state=("Scheduled", "Running")[number % 2],
                state_start_time=now,
                serialized_state=state,
            )
            api.database.insert("agent", tenant_id=api.tenant_id, name=f"a{number}", type="LocalAgent", labels=[])
    api.database.commit()


@pytest.fixture(scope="module")
def sizes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filled, Filled]]:
    """The same with few runs and with many."""
    folder = Path(tmp_path_factory.mktemp("growth"))
    # All in the loop, whose connection is counted, however busy the machine is.
    patient = replace(DEFAULT, seconds=60.0, short_seconds=60.0, moment_seconds=60.0)
    with (
        local_api(folder / "few.db", budget=patient) as few,
        local_api(folder / "many.db", budget=patient) as many,
    ):
        yield Filled(few, FEW), Filled(many, MANY)


OPERATIONS: dict[str, Callable[[Filled], object]] = {
    "poll, none fits": lambda on: on.api.queue(["yours"], agent_id=on.agent),
    "poll, some fit": lambda on: on.api.queue(["mine", "yours"], agent_id=on.agent),
    "poll without labels": lambda on: on.api.queue(),
    "create_flow_run": lambda on: on.api.create_flow_run(on.flow),
    "set_flow_run_states": lambda on: on.api.set_state(on.run, "Running"),
    "cancel_flow_run": lambda on: on.api.cancel(on.run),
    "heartbeat": lambda on: on.api.mutate("update_flow_run_heartbeat", {"flow_run_id": on.run}),
    "write_run_logs": lambda on: on.api.mutate("write_run_logs", {"logs": [{"flow_run_id": on.run}]}),
    "get_or_create_task_run_info": lambda on: on.api.mutate(
        "get_or_create_task_run_info", {"flow_run_id": on.run, "task_id": on.task, "map_index": -1}
    ),
    "register_agent": lambda on: on.api.register_agent("a", ["mine", "yours"]),
    "create_flow": lambda on: on.api.create_flow("another"),
    "set_schedule_inactive": lambda on: on.api.mutate("set_schedule_inactive", {"flow_id": on.flow}),
    "delete_flow_run": lambda on: on.api.delete_flow_run(on.api.create_flow_run(on.flow)),
    "tenant": lambda on: on.api.graphql("{ tenant { id } }"),
    "flow_run_by_pk": lambda on: on.api.flow_run(on.run, "id state task_runs { id } states { id } logs { id }"),
    "by ids": lambda on: on.api.states_of([on.run]),
    "newest": lambda on: on.api.graphql("{ flow_run(limit: 10, order_by: {created: desc}) { id name } }"),
    "latest": lambda on: on.api.graphql("{ flow_run(limit: 10, order_by: {scheduled_start_time: desc}) { id } }"),
    "any": lambda on: on.api.graphql("{ flow_run(limit: 10) { id name } }"),
    "in a state": lambda on: on.api.graphql('{ flow_run(limit: 10, where: {state: {_eq: "Scheduled"}}) { id } }'),
    "of a flow": lambda on: on.api.graphql(f'{{ flow_by_pk(id: "{on.flow}") {{ flow_runs(limit: 10) {{ id }} }} }}'),
    "newest of a flow": lambda on: on.api.graphql(
        '{ flow(where: {name: {_in: ["other", "before"]}}) { flow_runs(limit: 1, order_by: {created: desc}) { id } } }'
    ),
    "by name": lambda on: on.api.graphql('{ flow_run(where: {name: {_eq: "n7"}}) { id } }'),
    # The last: it archives the flow that others use.
    "archive_flow": lambda on: on.api.mutate("archive_flow", {"flow_id": on.flow}),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_costs_the_same_whatever_else_is_there(sizes: tuple[Filled, Filled], name: str) -> None:
    few, many = (each.steps(OPERATIONS[name]) for each in sizes)
    print(f"{name}: {few} and {many}")
    assert many <= 1.5 * few + _SLACK_STEPS
