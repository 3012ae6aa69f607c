"""What keeps every flow run from being started keeps them from being claimed, is said, and passes when it is fixed."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from support.agent import SAYS_VERSION, AgentProcess
from support.api import Api
from support.api_client import wait_until

_SUCCEEDS = "report Running\nreport Success"


def test_a_state_folder_that_is_gone(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)

    @contextmanager
    def gone() -> Iterator[None]:
        (agent.state_dir / "runs").rename(agent.state_dir / "elsewhere")
        yield
        (agent.state_dir / "elsewhere").rename(agent.state_dir / "runs")

    _check(api, agent, gone, "is gone; a restart of the agent makes it anew")


def test_a_state_folder_that_became_read_only(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    runs = agent.state_dir / "runs"

    @contextmanager
    def read_only() -> Iterator[None]:
        subprocess.run(["mount", "--bind", runs, runs], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", runs], check=True)
            yield
        finally:
            subprocess.run(["umount", runs], check=True)

    _check(api, agent, read_only, "cannot be written")


def test_no_descriptor_left(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)

    @contextmanager
    def few() -> Iterator[None]:
        in_use = len(os.listdir(f"/proc/{agent.pid}/fd"))  # noqa: PTH208 - numbers, not paths
        before = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (in_use + 20, before[1]))
        yield
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, before)

    _check(api, agent, few, "files may still be opened")


def test_no_interpreter(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    working = agent.python.read_text()
    agent.write_python('[ "$1" != -c ] || exit 1')
    with agent:
        agent.wait_for("has no prefect")
        run = agent.new_run(api, _SUCCEEDS)
        agent.wait_for("No further flow run is taken")
        _check_that_it_waits(api, agent, run)
        agent.write_python(working.partition("\n")[2])
        agent.wait_for("Flow runs are taken again")
        api.wait_for_state(run, "Success")


def test_what_no_check_foresees_is_tried_with_one_run_only(api: Api, folder: Path) -> None:
    """Every launch fails, of flow runs that are not to blame: the agent's own folder is gone."""
    agent = AgentProcess(
        folder, api.url, "--poll-interval", "0.5", python=f"{SAYS_VERSION}\nexit 3", wrapper=_IN_A_FOLDER
    )
    (folder / "work").mkdir()
    with agent:
        agent.wait_for("Registered at")
        (folder / "work").rmdir()
        runs = api.create_flow_runs(api.create_flow(agent.label, labels=[agent.label]), 1)
        agent.wait_for("was given back to the queue")
        runs += api.create_flow_runs(api.create_flow(f"{agent.label}-2", labels=[agent.label]), 20)
        agent.wait_for("No further flow run is taken: the last one could not be started")
        agent.wait_for("was given back to the queue", 2, seconds=30)
        claimed = [run for run in runs if "Submitted" in api.state_types(run)]
        assert len(claimed) <= 3, f"{len(claimed)} of {len(runs)} were claimed, kept from other agents, and given back"
        assert "Traceback" not in agent.said


_IN_A_FOLDER = ("sh", "-c", 'cd "$AGENT_TEST_FOLDER/work" && "$@"; exit $?', "sh")


def _check(api: Api, agent: AgentProcess, trouble: Callable[[], AbstractContextManager[None]], reason: str) -> None:
    with agent:
        api.wait_for_state(agent.new_run(api, _SUCCEEDS), "Success")
        agent.wait_until_forgotten()
        with trouble():
            run = agent.new_run(api, _SUCCEEDS)
            agent.wait_for("No further flow run is taken: ")
            assert reason in agent.said
            assert reason in agent.ask("status")
            _check_that_it_waits(api, agent, run)
        agent.wait_for("Flow runs are taken again")
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert "Traceback" not in agent.said


def _check_that_it_waits(api: Api, agent: AgentProcess, run: str) -> None:
    polls = agent.count_polls(api)
    wait_until(lambda: agent.count_polls(api) > polls + 2, lambda: agent.said)
    assert api.state_types(run) == ["Scheduled"], "claimed, it would be kept from other agents"
