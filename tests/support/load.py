"""How many requests a second the embedded API answers, operation by operation, and what CPU time each takes it.

    PYTHONPATH=src:tests python -m support.load [--runs 1000] [--json]

The requests are the very ones of this agent and of the real prefect 1.4.1 (as recorded in tests/api/server), each with
ids of its own as in life, one after another on a kept connection. CPU time is the API's own. `--source PATH` measures
the API of another checkout's `src`, for a comparison in turns.
"""

from __future__ import annotations

import argparse
import json
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from local_agent.backends.prefect1 import queries
from support.api import Api

# Of the queue; and so the agent's reads and claims are by as many.
PAGE = 25
_AT_ONCE = 8

_HEADERS = (
    "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: python-requests/2.28.1\r\nAccept-Encoding: gzip, deflate\r\n"
    "Accept: */*\r\nConnection: keep-alive\r\nX-PREFECT-CORE-VERSION: 1.4.1\r\nX-PREFECT-AGENT-ID: {agent}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
_NO_RESULT = {"__version__": "1.4.1", "type": "NoResultType"}


@dataclass(frozen=True)
class Figure:
    """What one operation costs. `runs` is how many flow runs each of its requests is about."""

    operation: str
    requests: int
    runs: int
    requests_per_second: float
    cpu_ms_per_request: float

    @property
    def cpu_ms_per_run(self) -> float:
        """The CPU time that the API spends on one flow run."""
        return self.cpu_ms_per_request / self.runs


@dataclass(frozen=True)
class Question:
    """A request: a GraphQL document with its variables."""

    query: str
    variables: dict[str, Any] | None = None

    def body(self) -> bytes:
        """Return it as both clients send it: variables are text."""
        return json.dumps({"query": self.query, "variables": json.dumps(self.variables)}).encode()


class Client:
    """One kept connection. It does no more than it must, so that what is measured is the API."""

    def __init__(self, url: str, agent_id: str = "") -> None:
        address = urlsplit(url)
        self._agent_id = agent_id
        self._socket = socket.create_connection((address.hostname or "", address.port or 0), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def rendered(self, question: Question) -> bytes:
        """Return a question as it goes over the wire."""
        body = question.body()
        return _HEADERS.format(agent=self._agent_id, length=len(body)).encode() + body

    def exchange(self, request: bytes) -> bytes:
        """Send a request and return the body of its answer."""
        self._socket.sendall(request)
        received = self._socket.recv(1 << 20)
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._more()
        return body

    def _more(self) -> bytes:
        received = self._socket.recv(1 << 20)
        assert received, "the API hung up"
        return received

    def ask(self, question: Question) -> dict[str, Any]:
        """Return the data of the answer. Raise AssertionError for an answer with errors."""
        return _data(self.exchange(self.rendered(question)))


def _data(answer: bytes) -> dict[str, Any]:
    document = json.loads(answer)
    assert not document.get("errors"), document["errors"]
    data: dict[str, Any] = document["data"]
    return data


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, ended threads included, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | 2)  # the kernel's name for that clock: clock_getcpuclockid(3)


class Load:
    """Measures one API that has `count` flow runs waiting."""

    def __init__(self, api: Api, count: int) -> None:
        self._api = api
        self._count = count
        self._flow = api.create_flow("load", labels=["load"])
        self._agent_id = api.register_agent("load", ["load"])
        self._runs: list[str] = []

    def figures(self) -> Iterator[Figure]:
        """Measure one operation after the other; later ones need what earlier ones did."""
        with Client(self._api.url, self._agent_id) as client:
            yield self._measured(client, "hello", [Question(queries.HELLO)] * 500)
            yield self._measured(client, "agent: poll, nothing waits", [self._poll()] * 200)
            yield self._creation(client)
            for operation, one_request in self._agents():
                pages = [one_request(page) for page in _pages(self._runs)]
                yield self._measured(client, operation, pages, runs=PAGE)
            for operation, one_question in self._flows(client):
                yield self._measured(client, operation, [one_question(run) for run in self._runs[: self._count // 2]])
            yield self._burst(client)
        yield self._at_once()
        yield self._single_connections()

    def _measured(self, client: Client, operation: str, questions: Sequence[Question], *, runs: int = 1) -> Figure:
        return self._timed(operation, [client.rendered(each) for each in questions], client.exchange, runs=runs)

    def _timed(
        self, operation: str, requests: Sequence[bytes], exchange: Callable[[bytes], bytes], *, runs: int = 1
    ) -> Figure:
        cpu, begin = cpu_seconds(self._api.pid), time.perf_counter()
        answers = [exchange(request) for request in requests]
        seconds, cpu = time.perf_counter() - begin, cpu_seconds(self._api.pid) - cpu
        for answer in answers:
            _data(answer)
        return Figure(operation, len(requests), runs, len(requests) / seconds, 1000 * cpu / len(requests))

    def _creation(self, client: Client) -> Figure:
        query = "mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }"
        requests = [
            client.rendered(Question(query, {"input": _new_run(self._flow, f"run-{number}")}))
            for number in range(self._count)
        ]

        def keep(request: bytes) -> bytes:
            answer = client.exchange(request)
            self._runs.append(_data(answer)["create_flow_run"]["id"])
            return answer

        return self._timed("prefect: create_flow_run", requests, keep)

    def _poll(self) -> Question:
        before = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
        given = {"before": before, "labels": ["load"], "tenant_id": self._api.tenant_id}
        return Question(queries.RUNS_IN_QUEUE, {"input": given})

    def _agents(self) -> Iterator[tuple[str, Callable[[Sequence[str]], Question]]]:
        yield "agent: poll, a full page", lambda _page: self._poll()
        yield "agent: details of 25 runs", lambda page: Question(queries.flow_runs(page, datetime.now(UTC)))
        yield "agent: claim 25 runs", lambda page: _set_states(page, _submitted)
        yield "agent: read 25 claims back", lambda page: Question(queries.claims(page))
        yield "agent: 25 log lines", lambda page: _logs(page)
        yield "agent: watch 25 live runs", lambda page: Question(queries.views(page))
        yield "agent: 25 heartbeats", lambda page: Question(queries.heartbeats(page))
        yield "agent: look at 25 ends", lambda page: Question(queries.ends(page))
        yield "agent: report 25 ends", lambda page: _set_states(page, lambda: _state("Failed"))

    def _flows(self, client: Client) -> Iterator[tuple[str, Callable[[str], Question]]]:
        yield "prefect: run info", lambda run: Question(_RUN_INFO % run)
        yield "prefect: set Running", lambda run: _set_state("flow", run, "Running")
        yield "prefect: heartbeat", lambda run: Question(queries.heartbeats([run]))
        task_runs = self._task_runs(client)
        yield "prefect: task run info", lambda run: Question(_TASK_RUN_INFO % (run, task_runs[run][0]))
        yield "prefect: set task Running", lambda run: _set_state("task", task_runs[run][1], "Running")
        yield "prefect: look at the state", lambda run: Question(_STATE % run)
        yield "prefect: 10 log lines", lambda run: _logs([run] * 10)
        yield "prefect: set Success", lambda run: _set_state("flow", run, "Success")

    def _task_runs(self, client: Client) -> dict[str, tuple[str, str]]:
        query = 'query { task_run(where: { flow_run: { flow_id: { _eq: "%s" } } }) { id task_id flow_run_id } }'
        found = client.ask(Question(query % self._flow))["task_run"]
        return {row["flow_run_id"]: (row["task_id"], row["id"]) for row in found}

    def _burst(self, client: Client) -> Figure:
        """All that the agent asks when many runs become ready at once, end reports aside."""
        self._api.create_flow_runs(self._flow, self._count)
        cpu, begin = cpu_seconds(self._api.pid), time.perf_counter()
        requests = 0
        for _ in range(self._count // PAGE):
            page = client.ask(self._poll())["get_runs_in_queue"]["flow_run_ids"]
            steps = [
                Question(queries.flow_runs(page, datetime.now(UTC))),
                _set_states(page, _submitted),
                Question(queries.claims(page)),
                _logs(page),
            ]
            for step in steps:
                client.ask(step)
            requests += 1 + len(steps)
        seconds, cpu = time.perf_counter() - begin, cpu_seconds(self._api.pid) - cpu
        # per run and not per request: what limits a burst
        return Figure("burst, per flow run", requests, 1, self._count / seconds, 1000 * cpu / self._count)

    def _at_once(self) -> Figure:
        """Set a state of each run, over several connections at once, as flow runs do."""
        with ExitStack() as stack, ThreadPoolExecutor(_AT_ONCE) as threads:
            clients = [stack.enter_context(Client(self._api.url)) for _ in range(_AT_ONCE)]
            requests = [clients[0].rendered(_set_state("flow", run, "Running")) for run in self._runs]
            cpu, begin = cpu_seconds(self._api.pid), time.perf_counter()
            parts = [
                threads.submit(_exchange_all, client, requests[number::_AT_ONCE])
                for number, client in enumerate(clients)
            ]
            for part in parts:
                part.result()
            seconds, cpu = time.perf_counter() - begin, cpu_seconds(self._api.pid) - cpu
        operation = f"prefect: set Running, {_AT_ONCE} at once"
        return Figure(operation, len(requests), 1, len(requests) / seconds, 1000 * cpu / len(requests))

    def _single_connections(self) -> Figure:
        def exchange(request: bytes) -> bytes:
            with Client(self._api.url) as client:
                return client.exchange(request)

        with Client(self._api.url) as any_client:
            hello = any_client.rendered(Question(queries.HELLO))
        return self._timed("hello, each on a new connection", [hello] * 500, exchange)


def _exchange_all(client: Client, requests: Sequence[bytes]) -> None:
    for request in requests:
        _data(client.exchange(request))


def _pages(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + PAGE] for start in range(0, len(ids), PAGE)]


def _new_run(flow: str, name: str) -> dict[str, Any]:
    key = uuid.uuid4().hex
    return {"flow_id": flow, "idempotency_key": key, "parameters": {"n": 2}, "context": {}, "flow_run_name": name}


def _state(kind: str, **more: object) -> dict[str, Any]:
    state = {"context": {}, "message": f"{kind} by the load", "_result": _NO_RESULT, "cached_inputs": {}}
    return {**state, **more, "__version__": "1.4.1", "type": kind}


def _submitted() -> dict[str, Any]:
    context = {"local_agent": {"nonce": uuid.uuid4().hex}}
    return _state("Submitted", context=context, state=_state("Scheduled", start_time=datetime.now(UTC).isoformat()))


def _set_states(page: Sequence[str], state: Callable[[], dict[str, Any]]) -> Question:
    variables = {
        f"i{index}": {"states": [{"flow_run_id": run, "state": state(), "version": 1}]}
        for index, run in enumerate(page)
    }
    return Question(queries.set_states(0, len(page)), variables)


def _set_state(kind: str, run: str, state: str) -> Question:
    name = f"set_{kind}_run_states"
    query = f"mutation($input: {name}_input!) {{ {name}(input: $input) {{ states {{ id message status }} }} }}"
    return Question(query, {"input": {"states": [{"state": _state(state), f"{kind}_run_id": run, "version": 1}]}})


def _logs(runs: Sequence[str]) -> Question:
    now = datetime.now(UTC).isoformat()
    message = "Submitted for execution: flow-run.scope, PID 4711"
    lines = [
        {"flow_run_id": run, "timestamp": now, "name": "agent", "message": message, "level": "INFO"} for run in runs
    ]
    return Question(queries.WRITE_LOGS, {"input": {"logs": lines}})


_RUN_INFO = (
    'query { flow_run_by_pk(id: "%s") { id name flow_id parameters context version scheduled_start_time'
    " serialized_state task_runs(where: { map_index: { _eq: -1 } }) { id task { id slug } version serialized_state }"
    " flow { project { name id } } } }"
)
_TASK_RUN_INFO = (
    'mutation { get_or_create_task_run_info(input: { flow_run_id: "%s", task_id: "%s", map_index: -1 })'
    " { id version serialized_state } }"
)
_STATE = 'query { flow_run_by_pk(id: "%s") { serialized_state } }'


def measure(*, runs: int, source: Path | None = None) -> list[Figure]:
    """Start an embedded API, from another `src` if given, and return what its operations cost."""
    environment = {"PYTHONPATH": str(source)} if source else {}
    with (
        tempfile.TemporaryDirectory(prefix="local-agent-load-") as folder,
        Api(Path(folder) / "server.db", environment=environment) as api,
    ):
        return list(Load(api, runs).figures())


def table(figures: Sequence[Figure]) -> str:
    """Return the figures as a table."""
    lines = [f"{'operation':<32} {'requests/s':>11} {'CPU ms/request':>15} {'CPU ms/run':>11}"]
    lines += [
        f"{each.operation:<32} {each.requests_per_second:>11.0f} {each.cpu_ms_per_request:>15.2f}"
        f" {each.cpu_ms_per_run:>11.3f}"
        for each in figures
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="flow runs to measure with, a multiple of 50")
    parser.add_argument("--source", type=Path, help="the src folder whose API is measured; otherwise our own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    figures = measure(runs=given.runs, source=given.source)
    print(json.dumps([asdict(each) for each in figures], indent=2) if given.json else table(figures))


if __name__ == "__main__":
    main()
