"""The few questions that the demo asks of the API, as Prefect's own UI would."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from processes import DemoError

_FINISHED = frozenset({"Success", "Failed", "Cancelled", "TimedOut"})
_ANSWER_SECONDS = 30.0
_READ = """\
query ($ids: [uuid!]) {
    flow_run(where: {id: {_in: $ids}}) { id state start_time end_time task_runs { state } }
    log(where: {flow_run_id: {_in: $ids}}) { flow_run_id message }
}
"""
_CANCEL = "mutation ($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }"


@dataclass(frozen=True)
class FlowRun:
    """What the API says of a flow run."""

    flow: str
    id: str
    name: str
    state: str = "Scheduled"
    seconds: float = 0.0
    where: str = ""
    at_work: bool = False  # one of its task runs is running

    @property
    def is_finished(self) -> bool:
        """Whether it will change no more."""
        return self.state in _FINISHED


@dataclass(frozen=True)
class Api:
    """The embedded API at a URL."""

    url: str

    def read(self, runs: Sequence[FlowRun]) -> list[FlowRun]:
        """Given flow runs, return them as they are now."""
        answer = self._ask(_READ, {"ids": [run.id for run in runs]})
        rows = {row["id"]: row for row in answer["flow_run"]}
        return [_updated(run, rows[run.id], answer["log"]) for run in runs]

    def cancel(self, run: FlowRun) -> None:
        """Cancel a flow run."""
        self._ask(_CANCEL, {"input": {"flow_run_id": run.id}})

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url, body, {"Content-Type": "application/json"})  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as response:  # noqa: S310 - the URL is our own
            answer = json.load(response)
        if answer.get("errors"):
            raise DemoError(f"the API answers: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data


def _updated(run: FlowRun, row: Mapping[str, Any], log: Sequence[Mapping[str, Any]]) -> FlowRun:
    own = [line["message"] for line in log if line["flow_run_id"] == run.id]
    seconds = _seconds(row["start_time"], row["end_time"])
    at_work = any(task["state"] == "Running" for task in row["task_runs"])
    return replace(run, state=row["state"], seconds=seconds, where=_where(own), at_work=at_work)


def _where(messages: Sequence[str]) -> str:
    """The agent writes into the run's own log where it runs."""
    found = (re.match("Submitted for execution: (.*)", message) for message in messages)
    return next((match[1] for match in found if match), "")


def _seconds(start: str | None, end: str | None) -> float:
    if start is None or end is None:
        return 0.0
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
