"""Many flow runs at once, at the limits of open files: each once, its end told soon, and nothing of ours fails."""

from __future__ import annotations

import os
import resource
import statistics
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pytest

from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api
from support.api_client import wait_until
from support.long_form import is_long_form

# the moment of its end is when its file is made: that costs no process of its own
_ENDS = 'echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>"$PLAY_STARTS"; : >"$ENDS/$PREFECT__CONTEXT__FLOW_RUN_ID"; exit 3'
_WAITS = 'echo "$PREFECT__CONTEXT__FLOW_RUN_ID" >>"$PLAY_STARTS"; read line <"$GATE"; ' + _ENDS.partition("; ")[2]
_SECONDS = 900.0 if is_long_form() else 120.0
_, _HARD = resource.getrlimit(resource.RLIMIT_NOFILE)
_MAX_MEDIAN_SECONDS = 10.0  # a net: this machine may be busy. The figure itself is printed


@pytest.mark.timeout(2000)
@pytest.mark.parametrize(
    ("limits", "count"),
    [((1024, _HARD), 2000 if is_long_form() else 300), ((64, 256), 2000 if is_long_form() else 150)],
    ids=["soft 1024", "hard 256"],
)
def test_many_due_at_once(api: Api, folder: Path, limits: tuple[int, int], count: int) -> None:
    agent = _agent(api, folder, limits, _ENDS)
    runs = api.create_flow_runs(api.create_flow(agent.label, labels=[agent.label]), count)
    with agent:
        _check(api, agent, runs)


@pytest.mark.timeout(2000)
def test_more_live_at_once_than_the_soft_limit_would_hold(api: Api, folder: Path) -> None:
    count, soft = (1200, 1024) if is_long_form() else (150, 64)
    agent = _agent(api, folder, (soft, _HARD), _WAITS)
    os.mkfifo(folder / "gate")
    runs = api.create_flow_runs(api.create_flow(agent.label, labels=[agent.label]), count)
    with agent:
        agent.wait_until_up()
        wait_until(lambda: len(agent.starts()) == count, lambda: agent.said[-3000:], seconds=_SECONDS)
        assert agent.ask("live") == str(count)
        print(f"{count} live; the agent has {_memory_kib(agent.pid)} KiB of memory, {_count_open(agent.pid)} files")
        _forget_lost_claim(folder / "gate")
        _check(api, agent, runs)


@pytest.mark.timeout(300)
def test_a_flow_run_has_the_limit_that_the_agent_was_given(api: Api, folder: Path) -> None:
    limits = 'echo "$(ulimit -Sn) $(ulimit -Hn)" >"$ENDS/limits"'
    agent = _agent(api, folder, (64, 256), limits)
    api.create_flow_run(api.create_flow(agent.label, labels=[agent.label]))
    with agent:
        agent.wait_for(" ended: ")
        assert (folder / "ends" / "limits").read_text().split() == ["64", "256"]
        assert "256" in Path(f"/proc/{agent.pid}/limits").read_text().partition("Max open files")[2].split()[0]


@pytest.mark.timeout(300)
def test_a_limit_that_holds_no_flow_run_is_a_wrong_setting(api: Api, folder: Path) -> None:
    agent = _agent(api, folder, (64, 64), _ENDS)
    agent.start()
    assert agent.wait() == 78
    assert "only 64 files may be open at once" in agent.said


def _agent(api: Api, folder: Path, limits: tuple[int, int], script: str) -> AgentProcess:
    """Make an agent with a soft and a hard limit of open files."""
    (folder / "ends").mkdir(parents=True)
    soft, hard = limits
    limited = f'ulimit -Sn {soft} && ulimit -Hn {hard} && "$@"; exit $?'
    return AgentProcess(
        folder,
        api.url,
        environ={"ENDS": str(folder / "ends"), "GATE": str(folder / "gate")},
        python=f"{SAYS_VERSION}\n{script}",
        wrapper=("sh", "-c", limited, "sh"),
    )


def _memory_kib(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmRSS:")[2].split()[0])


def _count_open(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _forget_lost_claim(gate: Path) -> None:
    """End every flow run that waits at the pipe: each opens it anew when its writer is gone."""
    descriptor = os.open(gate, os.O_WRONLY)
    os.close(descriptor)


def _check(api: Api, agent: AgentProcess, runs: Sequence[str]) -> None:
    def explain() -> str:
        return f"{len(agent.starts())} started; the agent said:\n{agent.said[-3000:]}"

    agent.wait_until_up()
    wait_until(lambda: agent.said.count(" ended: ") >= len(runs), explain, seconds=_SECONDS)
    wait_until(lambda: not agent.records(), explain, seconds=_SECONDS)
    assert sorted(agent.starts()) == sorted(runs), "each exactly once"
    assert "Traceback" not in agent.said
    assert "fault of local-agent" not in agent.said
    late = sorted(_lateness(api, agent.folder / "ends", runs))
    print(f"{len(runs)} ends told after {statistics.median(late):.2f} s at the median, {late[-1]:.2f} s at most")
    assert statistics.median(late) < _MAX_MEDIAN_SECONDS
    assert agent.leftovers() == []


def _lateness(api: Api, ends: Path, runs: Sequence[str]) -> list[float]:
    query = "query($ids: [uuid!]) { flow_run(where: {id: {_in: $ids}}) { id state state_timestamp } }"
    rows = api.graphql(query, {"ids": list(runs)})["flow_run"]
    assert len(rows) == len(runs)
    assert {row["state"] for row in rows} == {"Failed"}
    told = {row["id"]: datetime.fromisoformat(row["state_timestamp"]).timestamp() for row in rows}
    return [told[run] - (ends / run).stat().st_mtime for run in runs]
