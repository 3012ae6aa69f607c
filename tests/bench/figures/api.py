"""The embedded API's requests per second, per operation: it must not be what the other figures measure.

One client sends a request when the last is answered, on one connection, with the bytes made beforehand; so it is the
API's own time, with the way there and back. Each operation gets a second, each sample is a round.
"""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from bench.bed import Bed
from bench.model import Figure, Row
from local_agent.backends.prefect1 import queries
from support.api_client import moment

_SECONDS = 1.0
_PAGE = 25
_BACKLOG = 200
_RUNS = 2000
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class _Operation:
    """A kind of request. `bodies` makes one after the other, each its query and variables."""

    title: str
    bodies: Iterator[tuple[str, Mapping[str, Any] | None]]


def _measure(bed: Bed) -> list[Row]:
    samples: dict[str, list[float]] = {}
    things = _Things(bed)
    for number in range(1, bed.rounds + 1):
        for operation in _operations(things):
            samples.setdefault(operation.title, []).append(_requests_per_second(bed, operation))
        bed.say(f"round {number} of {bed.rounds}")
    return [Row(f"embedded API: {title}", "requests/s", [], found) for title, found in samples.items()]


def _requests_per_second(bed: Bed, operation: _Operation) -> float:
    count, spent = 0, 0.0
    with _Connection(bed.api.url) as connection:
        for query, variables in operation.bodies:
            request = connection.request(query, variables)
            began = time.monotonic()
            answer = connection.exchange(request)
            spent += time.monotonic() - began
            assert b'"errors"' not in answer, f"{operation.title}: {answer.decode()[:1000]}"
            count += 1
            if spent > _SECONDS:
                break
    return count / spent


class _Connection:
    """A kept-alive connection that costs next to nothing."""

    def __init__(self, url: str) -> None:
        self._address = (urlsplit(url).hostname or "127.0.0.1", urlsplit(url).port or 80)

    def __enter__(self) -> _Connection:
        self._socket = socket.create_connection(self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, query: str, variables: Mapping[str, Any] | None) -> bytes:
        """Return a request as Prefect sends it: the variables are text."""
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        lines = ("POST / HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def exchange(self, request: bytes) -> bytes:
        """Send a request and return its answer."""
        self._socket.sendall(request)
        answer = b""
        while _END_OF_HEAD not in answer:
            answer += self._receive()
        head, _, body = answer.partition(_END_OF_HEAD)
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._receive()
        return body

    def _receive(self) -> bytes:
        data = self._socket.recv(1 << 18)
        assert data, "the API has hung up"
        return data


def _operations(things: _Things) -> list[_Operation]:
    """Return what agents and flow runs ask for."""
    now = datetime.now(UTC)
    pages, claimed = itertools.cycle(things.pages), itertools.cycle(things.runs)
    return [
        _Operation("hello", itertools.repeat((queries.HELLO, None))),
        _Operation("get_runs_in_queue, none due", itertools.repeat((queries.RUNS_IN_QUEUE, things.queue("nobody")))),
        _Operation(
            f"get_runs_in_queue, {_BACKLOG} due, a page of {_PAGE}",
            itertools.repeat((queries.RUNS_IN_QUEUE, things.queue(things.backlog_label))),
        ),
        _Operation(
            f"flow_run with all for a launch, {_PAGE} runs", _each(pages, lambda ids: queries.flow_runs(ids, now))
        ),
        _Operation("flow_run as the watch asks, 500 runs", itertools.repeat((queries.views(things.runs[:500]), None))),
        _Operation("set_flow_run_states, 1 run", ((queries.set_states(0, 1), things.states([run])) for run in claimed)),
        _Operation(
            f"set_flow_run_states, {_PAGE} runs aliased",
            ((queries.set_states(0, _PAGE), things.states(page)) for page in pages),
        ),
        _Operation(f"flow_run with claims, {_PAGE} runs", _each(pages, queries.claims)),
        _Operation(f"flow_run with ends, {_PAGE} runs", _each(pages, queries.ends)),
        _Operation("write_run_logs, 1 line", ((queries.WRITE_LOGS, things.logs([run])) for run in claimed)),
        _Operation(f"write_run_logs, {_PAGE} lines", ((queries.WRITE_LOGS, things.logs(page)) for page in pages)),
        _Operation("update_flow_run_heartbeat", _each(claimed, lambda run: queries.heartbeats([run]))),
        _Operation("flow_run_by_pk, as a flow run looks for its cancellation", _each(claimed, _by_pk)),
        _Operation("get_or_create_task_run_info", _each(claimed, things.task_run_info)),
        _Operation("create_flow_run", itertools.repeat((_CREATE, {"input": things.run_of_tomorrow()}))),
    ]


_CREATE = "mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }"


def _each(things: Iterator[Any], query: Callable[[Any], str]) -> Iterator[tuple[str, None]]:
    return ((query(thing), None) for thing in things)


def _by_pk(run: str) -> str:
    return (
        f'query {{ flow_run_by_pk(id: "{run}") {{ id name flow_id parameters context version '
        "scheduled_start_time serialized_state "
        "task_runs(where: { map_index: { _eq: -1 } }) { id task { id slug } version serialized_state } "
        "flow { project { name id } } } }"
    )


class _Things:
    """Flow runs that are there to be asked about."""

    def __init__(self, bed: Bed) -> None:
        self._api = bed.api
        self.backlog_label = f"backlog-{bed.new_folder().name}"
        flow = bed.api.create_flow(self.backlog_label, labels=[self.backlog_label])
        bed.api.create_flow_runs(flow, _BACKLOG)
        self.other_flow = bed.api.create_flow(f"{self.backlog_label}-other", labels=["nobody-at-all"])
        self.runs = [
            run
            for _ in range(_RUNS // _BACKLOG)
            for run in bed.api.create_flow_runs(self.other_flow, _BACKLOG, start_in=24 * 3600)
        ]
        self.pages = [self.runs[first : first + _PAGE] for first in range(0, _RUNS, _PAGE)]
        self._task = bed.api.graphql(
            "query($id: uuid) { task(where: {flow_id: {_eq: $id}}) { id } }", {"id": self.other_flow}
        )["task"][0]["id"]

    def run_of_tomorrow(self) -> Mapping[str, Any]:
        """Return what creates a flow run that no later poll has to look at."""
        return {"flow_id": self.other_flow, "scheduled_start_time": moment(24 * 3600)}

    def queue(self, label: str) -> Mapping[str, Any]:
        """Return a poll's variables."""
        now = datetime.now(UTC).isoformat()
        return {"input": {"before": now, "labels": [label], "tenant_id": self._api.tenant_id}}

    def states(self, runs: list[str]) -> Mapping[str, Any]:
        """Return variables that set flow runs Running."""
        state = {"type": "Running", "message": "Running flow.", "context": {}, "__version__": "1.4.1"}
        return {
            f"i{number}": {"states": [{"flow_run_id": run, "version": 1, "state": state}]}
            for number, run in enumerate(runs)
        }

    def logs(self, runs: list[str]) -> Mapping[str, Any]:
        """Return variables with a line for each run."""
        line = {"name": "prefect.CloudFlowRunner", "message": "Beginning Flow run", "level": "INFO"}
        return {"input": {"logs": [{**line, "flow_run_id": run} for run in runs]}}

    def task_run_info(self, run: str) -> str:
        """Return the query with which a flow run finds its task run."""
        given = f'flow_run_id: "{run}", task_id: "{self._task}", map_index: -1'
        return f"mutation {{ get_or_create_task_run_info(input: {{ {given} }}) {{ id version serialized_state }} }}"


FIGURE = Figure("api", _measure)
