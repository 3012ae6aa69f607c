"""kill -9 of the agent at each step of a flow run's story: the next start finishes it, once and rightly."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local_agent.launchers.handle import ProcessHandle
from local_agent.linux.procfs import identity_of
from local_agent.model import ProcessIdentity, Step
from local_agent.store.records import Store
from support.agent import AgentProcess, command_of
from support.api import Api
from support.api_client import wait_until
from support.faults import Exchange, FaultyProxy, Rule

_CLAIM = "set_flow_run_states"
_REPORT = "set_flow_run_states"
_READ_OF_AN_END = 'task_runs(where: { state: { _in: ["Running", "Scheduled"'
_SUCCEEDS = "report Running\nreport Success"
_SUBMIT_LOCK_SECONDS = 30


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultyProxy]:
    """What stops the agent at a request."""
    with FaultyProxy(api.url) as running:
        yield running


@dataclass
class Stop:
    """A request at which the agent waits: before it reaches the API, or before the answer comes back."""

    rule: Rule
    go_on: threading.Event

    def wait_until_there(self) -> None:
        """Wait until the agent waits."""
        self.rule.wait_for_hits()


@contextmanager
def _stopped(proxy: FaultyProxy, matching: str, *, applied: bool, answered: bool = False) -> Iterator[Stop]:
    """Stop the next such request; `answered` says whether its answer is delivered when it may go on."""
    go_on = threading.Event()

    def fault(exchange: Exchange) -> tuple[int, str, bytes] | None:
        status, body = exchange.forward() if applied else (0, b"")
        go_on.wait(300)
        return (status, "application/json", body) if answered else None

    try:
        yield Stop(proxy.add(fault, matching, times=1), go_on)
    finally:
        go_on.set()


def _agent(folder: Path, api: Api, proxy: FaultyProxy, *options: str) -> AgentProcess:
    return AgentProcess(folder, proxy.url, *options, environ={"PLAY_API": api.url})


def test_before_the_claim_is_sent(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    with _agent(folder, api, proxy, "--request-timeout", "2") as agent:
        with _stopped(proxy, _CLAIM, applied=False) as stop:
            run = agent.new_run(api, _SUCCEEDS)
            stop.wait_until_there()
            agent.kill()
        assert agent.records() == [run]
        assert api.state(run) == "Scheduled"
        agent.start()
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert agent.starts() == [run]
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]


def test_a_claim_that_lands_after_the_restart(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    with _agent(folder, api, proxy) as agent:
        held, release = proxy.hold(_CLAIM)
        run = agent.new_run(api, _SUCCEEDS)
        held.wait_for_hits()
        agent.kill()
        agent.start()
        agent.wait_for("Registered at")
        assert agent.records() == [run]
        release.set()
        agent.wait_for("was given back to the queue")
        agent.wait_until_forgotten()
        assert agent.starts() == []
        assert api.state_types(run) == ["Scheduled", "Submitted", "Scheduled"]


def test_runs_whose_gate_never_opened_are_given_back_and_run_later(
    api: Api, proxy: FaultyProxy, tmp_path: Path
) -> None:
    kills = {"claimed": _kill_once_claimed, "launched": _kill_once_launched, "recorded": _kill_once_recorded}
    agents = {name: _agent(tmp_path / name, api, proxy) for name in kills}
    with agents["claimed"], agents["launched"], agents["recorded"]:
        runs = {name: kill(api, proxy, agents[name]) for name, kill in kills.items()}
        for name, agent in agents.items():
            agent.start()
            agent.wait_for("was given back to the queue")
            agent.wait_until_forgotten()
            assert agent.leftovers() == []
            assert agent.starts() == []
            _check_given_back(api, runs[name])
        for name, agent in agents.items():
            api.wait_for_state(runs[name], "Success")
            assert agent.starts() == [runs[name]]


def _check_given_back(api: Api, run: str) -> None:
    states = api.states(run)
    assert [state["type"] for state in states] == ["Scheduled", "Submitted", "Scheduled"]
    start = datetime.fromisoformat(states[-1]["start_time"])
    assert (start - datetime.now(UTC)).total_seconds() <= _SUBMIT_LOCK_SECONDS + 1
    submitted = api.graphql(
        'query($id: uuid!) { flow_run_by_pk(id: $id) { states(where: {state: {_eq: "Submitted"}}) { timestamp } } }',
        {"id": run},
    )["flow_run_by_pk"]["states"][0]["timestamp"]
    assert (start - datetime.fromisoformat(submitted)).total_seconds() >= _SUBMIT_LOCK_SECONDS


def _kill_once_claimed(api: Api, proxy: FaultyProxy, agent: AgentProcess) -> str:
    """After the claim was applied, before its answer."""
    with _stopped(proxy, _CLAIM, applied=True):
        run = agent.new_run(api, _SUCCEEDS)
        api.wait_for_state(run, "Submitted")
        agent.kill()
    return run


def _kill_once_launched(api: Api, proxy: FaultyProxy, agent: AgentProcess) -> str:
    """After the process was started at its gate, before the record says so."""
    return _kill_at_the_gate(api, proxy, agent)[0]


def _kill_once_recorded(api: Api, proxy: FaultyProxy, agent: AgentProcess) -> str:
    """After the record says which process it is, before the gate opens: no request and no file lies between these."""
    run, process = _kill_at_the_gate(api, proxy, agent)
    store = Store(agent.state_dir)
    (record,) = store.load_all()[0]
    store.save(replace(record, step=Step.RUNNING, launcher="process", handle=ProcessHandle(process).as_json()))
    return run


def _kill_at_the_gate(api: Api, proxy: FaultyProxy, agent: AgentProcess) -> tuple[str, ProcessIdentity]:
    """The record cannot be written because its file is a pipe that nobody reads; so the gate stays shut."""
    with _stopped(proxy, _CLAIM, applied=True, answered=True) as stop:
        run = agent.new_run(api, _SUCCEEDS)
        api.wait_for_state(run, "Submitted")
        pipe = agent.state_dir / "runs" / f"{run}.json"
        claim = pipe.rename(agent.state_dir / "claim")
        os.mkfifo(pipe)
        stop.go_on.set()
        wait_until(lambda: _shims(agent), lambda: f"no shim; the agent said:\n{agent.said}")
        process = identity_of(_shims(agent)[0])
        assert process is not None
        agent.kill()
    claim.replace(pipe)
    wait_until(lambda: not agent.processes(), lambda: "the shim stays at its gate")
    return run, process


def _shims(agent: AgentProcess) -> list[int]:
    return [pid for pid in agent.processes() if "shim.sh" in command_of(pid)]


def test_after_the_gate(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    with _agent(folder, api, proxy) as agent:
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nreport Success")
        api.wait_for_state(run, "Running")
        agent.kill()
        agent.start()
        agent.wait_for("is still running, adopted")
        (folder / "go").touch()
        agent.wait_until_forgotten()
        assert agent.starts() == [run]
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]


@pytest.mark.parametrize("end", ["exit 3", "report Success"])
def test_after_the_end_before_the_report(api: Api, proxy: FaultyProxy, folder: Path, end: str) -> None:
    with _agent(folder, api, proxy) as agent:
        with _stopped(proxy, _READ_OF_AN_END, applied=False) as stop:
            run = agent.new_run(api, f"report Running\n{end}")
            stop.wait_until_there()
            agent.kill()
        assert agent.records() == [run]
        agent.start()
        agent.wait_until_forgotten()
        assert agent.leftovers() == []
        assert agent.starts() == [run]
        last = "Failed" if end == "exit 3" else "Success"
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", last]


def test_after_the_report(api: Api, proxy: FaultyProxy, folder: Path) -> None:
    with _agent(folder, api, proxy) as agent:
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nexit 3")
        api.wait_for_state(run, "Running")
        with _stopped(proxy, _REPORT, applied=True):
            (folder / "go").touch()
            api.wait_for_state(run, "Failed")
            agent.kill()
        assert agent.records() == [run]
        agent.start()
        agent.wait_until_forgotten()
        assert agent.leftovers() == []
        assert agent.starts() == [run]
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Failed"]
