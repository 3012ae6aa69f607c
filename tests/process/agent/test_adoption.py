"""A restarted agent knows its live flow runs, counts them, and learns how they ended."""

from __future__ import annotations

import fcntl
import os
import statistics
import time
from pathlib import Path
from signal import Signals

import pytest

from support.agent import SAYS_VERSION, AgentProcess, is_alive, pid_in
from support.api import Api
from support.api_client import wait_until

_RUNS = 200
_RESTARTS = 5
_GENEROUS_SECONDS = 30.0  # what it takes is printed; on a machine that does nothing else it is about a second
_WAITS_FOR_LOCK = 'echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>"$PLAY_STARTS"; exec flock -s "$HOLD" sh -c "exit 4"'


@pytest.mark.parametrize("end", [Signals.SIGTERM, Signals.SIGKILL])
def test_a_live_run_is_taken_up_again(api: Api, folder: Path, end: Signals) -> None:
    with AgentProcess(folder, api.url, "--limit", "1") as agent:
        first = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/go\nexit 7")
        pid = pid_in(folder / "pid")
        agent.send(end)
        agent.wait()
        assert is_alive(pid)

        agent.start()
        agent.wait_for("is still running, adopted: PID")
        second = agent.new_run(api, "report Running\nreport Success")
        agent.wait_for("No further flow run is taken: all 1 places are taken")
        assert agent.ask("status").startswith("1 running, 0 slots free; ")
        assert api.state(second) == "Scheduled"

        (folder / "go").touch()
        api.wait_for_state(second, "Success")
        assert agent.starts() == [first, second]
        agent.wait_until_forgotten()
        assert api.state_types(first) == ["Scheduled", "Submitted", "Running", "Failed"]
        assert api.states(first)[-1]["message"] == "Exited with code 7"
        assert agent.leftovers() == []
        assert agent.zombies() == 0


def test_ends_without_an_agent_are_learnt_at_its_start(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        plays = {"ok": "report Success", "code": "exit 5", "signal": "signal KILL"}
        runs = {
            name: agent.new_run(api, f"report Running\ntouch {folder}/{name}\nawait {folder}/go\n{end}")
            for name, end in plays.items()
        }
        for name in plays:
            pid_in(folder / name)
        agent.kill()
        (folder / "go").touch()
        wait_until(lambda: not agent.processes(), lambda: f"still there: {agent.processes()}")

        agent.start()
        agent.wait_until_forgotten()
        ends = {name: api.states(run)[-1] for name, run in runs.items()}
        assert {name: state["type"] for name, state in ends.items()} == {
            "ok": "Success",
            "code": "Failed",
            "signal": "Failed",
        }
        assert ends["code"]["message"] == "Exited with code 5"
        assert ends["signal"]["message"] == "Ended by signal 9 (SIGKILL)"
        assert agent.leftovers() == []
        assert sorted(agent.starts()) == sorted(runs.values())


def test_what_outlives_its_shim_while_no_agent_runs_is_ended_before_the_run_is_reported(api: Api, folder: Path) -> None:
    """Else a flow run that is failed, or started again, would still be running."""
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, f"report Running\ntouch {folder}/pid\nawait {folder}/go")
        pid = pid_in(folder / "pid")
        agent.kill()
        shim = os.getpgid(pid)
        os.kill(shim, Signals.SIGKILL)
        wait_until(lambda: not is_alive(shim), lambda: "the shim lives")
        assert is_alive(pid)

        agent.start()
        api.wait_for_state(run, "Failed")
        assert not is_alive(pid)
        agent.wait_until_forgotten()
        assert agent.processes() == []


def test_two_hundred_live_runs_are_taken_up_again(api: Api, folder: Path) -> None:
    lock = folder / "lock"
    agent = AgentProcess(
        folder,
        api.url,
        *("--limit", str(_RUNS)),
        python=f"{SAYS_VERSION}\n{_WAITS_FOR_LOCK}",
        environ={"HOLD": str(lock)},
    )
    flow = api.create_flow(agent.label, labels=[agent.label])
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with agent:
            runs = api.create_flow_runs(flow, _RUNS)
            agent.wait_for(" started: ", _RUNS, seconds=120)
            wait_until(lambda: len(agent.starts()) == _RUNS, lambda: f"{len(agent.starts())} of {_RUNS} started")
            took = [_restart(agent) for _ in range(_RESTARTS)]
            assert agent.ask("status").startswith("200 running, 0 slots free")
            print(f"{_RUNS} live flow runs adopted within {statistics.median(took):.2f} s of exec: {took}")
            assert statistics.median(took) < _GENEROUS_SECONDS
            fcntl.flock(held, fcntl.LOCK_UN)
            agent.wait_for("Exited with code 4", _RUNS, seconds=120)
            agent.wait_until_forgotten()
            assert agent.leftovers() == []
            assert sorted(agent.starts()) == sorted(runs)
            assert set(api.states_of(runs).values()) == {"Failed"}


def _restart(agent: AgentProcess) -> float:
    """Kill it and start it again. Return for how many seconds it had not adopted all its flow runs yet."""
    agent.kill()
    began = time.monotonic()
    agent.start()
    agent.wait_for("is still running, adopted", _RUNS)
    return time.monotonic() - began
