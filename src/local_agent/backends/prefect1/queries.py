"""The GraphQL documents. Values travel as variables wherever the Server's own parser lets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


def _text(value: str) -> str:
    return json.dumps(value)  # a GraphQL string is a JSON string


def _list(values: Iterable[str]) -> str:
    return json.dumps(list(values))


HELLO = "query { hello }"
TENANT = "query { tenant { id } }"
AUTH_INFO = "query { auth_info { tenant_id } }"
REGISTER_AGENT = """mutation($input: register_agent_input!) { register_agent(input: $input) { id } }"""
RUNS_IN_QUEUE = """mutation($input: get_runs_in_queue_input!) { get_runs_in_queue(input: $input) { flow_run_ids } }"""
CANCEL = """mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }"""
WRITE_LOGS = """mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"""

_RUN_FIELDS = """
    id version state serialized_state scheduled_start_time run_config name
    flow { id name storage run_config }
    task_runs(where: { state: { _in: ["Scheduled", "Retrying", "Paused", "Resume", "Queued"] },
                       state_start_time: { _lte: %(due)s } }) { id version serialized_state }
"""

# By version: the Server's clock may step back, and it takes the highest version for a run's present state itself
_NEWEST_FIRST = "order_by: [{ version: desc }, { timestamp: desc }]"

# Whose claim counts, and what a claim that came late may hide. Most runs have three; the bound is for agents by the
# hundred that claim one run
_MAX_STATES = 200
_STATES = f"states({_NEWEST_FIRST}, limit: {_MAX_STATES}) {{ version timestamp serialized_state }}"
_RECENT_STATES = f"recent: {_STATES}"


def agents(since: datetime) -> str:
    """Ask which agents have polled lately."""
    return f"query {{ agent(where: {{ last_queried: {{ _gte: {_text(since.isoformat())} }} }}) {{ name labels }} }}"


def last_queried(agent_id: str) -> str:
    """Ask when an agent has polled last, by the API's clock."""
    return f"query {{ agent(where: {{ id: {{ _eq: {_text(agent_id)} }} }}) {{ id last_queried }} }}"


def agent_config(config_id: str) -> str:
    """Ask for an agent configuration's settings."""
    return f"query {{ agent_config(where: {{ id: {{ _eq: {_text(config_id)} }} }}) {{ settings }} }}"


def flow_runs(ids: Iterable[str], due: datetime) -> str:
    """Ask for everything that a launch needs, and for the task runs that wait and were due before `due`."""
    fields = _RUN_FIELDS % {"due": _text(due.isoformat())}
    return f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) {{ {fields} }} }}"


def idempotency_keys(ids: Iterable[str]) -> str:
    """Ask for what tells which task run has created flow runs."""
    return f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) {{ id idempotency_key }} }}"


def flow_runs_of(task_runs: Iterable[str]) -> str:
    """Ask which flow runs task runs belong to."""
    return f"query {{ task_run(where: {{ id: {{ _in: {_list(task_runs)} }} }}) {{ id flow_run_id }} }}"


def views(ids: Iterable[str]) -> str:
    """Ask how live flow runs stand at the API."""
    return f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) {{ id state heartbeat }} }}"


def claims(ids: Iterable[str]) -> str:
    """Ask whose claim flow runs carry: table T1."""
    return (
        f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) "
        f"{{ id version state serialized_state {_RECENT_STATES} }} }}"
    )


def ends(ids: Iterable[str]) -> str:
    """Ask for what decides about an end: table T2."""
    return (
        f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) {{ "
        f"id version state serialized_state {_STATES} "
        f'task_runs(where: {{ state: {{ _in: ["Running", "Scheduled", "Retrying", "Paused", "Resume", "Queued", '
        f'"Submitted"] }} }}) {{ id version state serialized_state }} }} }}'
    )


def histories(ids: Iterable[str]) -> str:
    """Ask for the newest states of flow runs."""
    return (
        f"query {{ flow_run(where: {{ id: {{ _in: {_list(ids)} }} }}) "
        f"{{ id states({_NEWEST_FIRST}, limit: 10) {{ serialized_state }} }} }}"
    )


def task_runs(ids: Iterable[str]) -> str:
    """Ask for the states of single task runs, and what came before."""
    fields = f"id version serialized_state {_RECENT_STATES}"
    return f"query {{ task_run(where: {{ id: {{ _in: {_list(ids)} }} }}) {{ {fields} }} }}"


def marked_task_runs(flow_run_id: str) -> str:
    """Ask which task runs of a flow run somebody has marked for a start of it."""
    where = f'flow_run_id: {{ _eq: {_text(flow_run_id)} }}, state: {{ _eq: "Submitted" }}'
    return f"query {{ task_run(where: {{ {where} }}) {{ id version serialized_state }} }}"


def set_states(task_runs: int, flow_runs: int) -> str:
    """Set task run states, then flow run states, in one request: root fields `s0`, `s1`, ..., variables `i0`, ...

    Each has an answer of its own. In one list a single refused state would hide the answers of all the others.
    """
    total = task_runs + flow_runs
    declared = ", ".join(
        f"$i{index}: set_{'task' if index < task_runs else 'flow'}_run_states_input!" for index in range(total)
    )
    fields = " ".join(
        f"s{index}: set_{'task' if index < task_runs else 'flow'}_run_states(input: $i{index}) "
        "{ states { id status message } }"
        for index in range(total)
    )
    return f"mutation({declared}) {{ {fields} }}"


def heartbeats(ids: Sequence[str]) -> str:
    """Send the heartbeat of flow runs, each as a root field."""
    fields = " ".join(
        f"h{index}: update_flow_run_heartbeat(input: {{ flow_run_id: {_text(flow_run_id)} }}) {{ success }}"
        for index, flow_run_id in enumerate(ids)
    )
    return f"mutation {{ {fields} }}"
