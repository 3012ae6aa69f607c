"""Which flow runs an agent takes, and when."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until

_SUCCEEDS = "report Running\nreport Success"
_MAX_THREADS = 12
_DUE_IN_SECONDS = 8  # a queue is asked for what is due within ten


def test_waiting_runs_hold_no_thread_and_start_at_their_time(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--log-level", "DEBUG", "--poll-interval", "0.5") as agent:
        agent.wait_for("Registered at")
        flow = agent.new_flow(api, _SUCCEEDS)
        due = datetime.now(UTC) + timedelta(seconds=_DUE_IN_SECONDS)
        waiting = api.create_flow_runs(flow, 20, start_in=_DUE_IN_SECONDS)
        agent.wait_for("Took flow run", len(waiting))

        at_once = api.create_flow_run(flow)
        api.wait_for_state(at_once, "Success")
        assert agent.threads() <= _MAX_THREADS
        cancelled, kept = waiting[:-2], waiting[-2:]
        _cancel(api, cancelled)
        assert datetime.now(UTC) < due, "this machine is too slow for this test"

        for run in kept:
            api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert sorted(agent.starts()) == sorted([at_once, *kept])
        assert all(at >= due for run, at in agent.started_at().items() if run != at_once)
        assert set(api.states_of(cancelled).values()) == {"Cancelled"}


def _cancel(api: Api, runs: list[str]) -> None:
    fields = " ".join(
        f'c{index}: cancel_flow_run(input: {{flow_run_id: "{run}"}}) {{ state }}' for index, run in enumerate(runs)
    )
    assert {one["state"] for one in api.graphql(f"mutation {{ {fields} }}").values()} == {"Cancelled"}


def test_two_agents_with_the_same_labels_share_the_work(api: Api, tmp_path: Path) -> None:
    first, second = AgentProcess(tmp_path / "first", api.url), AgentProcess(tmp_path / "second", api.url)
    second.label = first.label
    runs = api.create_flow_runs(first.new_flow(api, _SUCCEEDS), 30)
    with first, second:
        wait_until(lambda: set(api.states_of(runs).values()) == {"Success"}, lambda: f"{first.said}\n\n{second.said}")
        first.wait_until_forgotten()
        second.wait_until_forgotten()
        assert sorted(first.starts() + second.starts()) == sorted(runs)
        assert all(
            api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"] for run in (runs[0], runs[-1])
        )


def test_a_limit_holds(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--limit", "2") as agent:
        runs = api.create_flow_runs(agent.new_flow(api, f"report Running\nawait {folder}/go\nreport Success"), 4)
        wait_until(lambda: len(agent.starts()) == 2, lambda: agent.said)
        agent.wait_for("No further flow run is taken: all 2 places are taken")
        assert agent.ask("status").startswith("2 running, 0 slots free")
        assert len(agent.starts()) == 2
        assert list(api.states_of(runs).values()).count("Scheduled") == 2
        (folder / "go").touch()
        wait_until(lambda: set(api.states_of(runs).values()) == {"Success"}, lambda: agent.said)
        assert sorted(agent.starts()) == sorted(runs)


def test_a_long_retry_is_started_when_its_earlier_process_has_ended(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--poll-interval", "0.5") as agent:
        run = agent.new_run(api, f"report Running\nawait {folder}/go\nexit 0")
        api.wait_for_state(run, "Running")
        task = api.task_runs(run)[0]["id"]
        api.set_task_state(task, "Running")
        due_long_ago = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
        api.set_task_state(task, {"type": "Retrying", "start_time": due_long_ago, "run_count": 2})
        polls = agent.count_polls(api)
        wait_until(lambda: agent.count_polls(api) >= polls + 4, lambda: agent.said)
        assert agent.starts() == [run], "not while its earlier process lives here"

        (folder / "go").touch()
        agent.wait_for("ended: Exited with code 0")
        (folder / "go").unlink()
        wait_until(lambda: api.state_types(run).count("Running") == 2, lambda: agent.said)
        assert api.task_runs(run)[0]["state"] == "Submitted"
        api.set_task_state(task, "Success")
        api.set_state(run, "Success")
        (folder / "go").touch()
        agent.wait_until_forgotten()
        assert agent.starts() == [run, run]
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Running", "Success"]


def test_what_no_local_agent_can_run_is_left_alone_and_said_once(api: Api, folder: Path) -> None:
    docker_storage = {"type": "Docker", "image_name": "x", "image_tag": "y", "__version__": "1.4.1"}
    with AgentProcess(folder, api.url) as agent:
        docker = agent.new_run(api, "", type="DockerRun")
        stored = api.create_flow_run(api.create_flow(agent.label, labels=[agent.label], storage=docker_storage))
        agent.wait_for("is left to other agents: it has a `run_config` of type `DockerRun`")
        agent.wait_for("is left to other agents: it has Docker storage")
        polls = agent.count_polls(api)
        wait_until(lambda: agent.count_polls(api) >= polls + 3, lambda: agent.said)
        assert agent.said.count("is left to other agents") == 2
        wait_until(lambda: api.messages(docker) and api.messages(stored), lambda: "nothing in the runs' own logs")
        assert api.messages(docker) == [
            "Left to other agents: it has a `run_config` of type `DockerRun`; only LocalRun and UniversalRun run here"
        ]
        assert api.state_types(docker) == api.state_types(stored) == ["Scheduled"]


def test_reject_unsupported_fails_it_as_the_original_did(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--reject-unsupported") as agent:
        run = agent.new_run(api, "", type="DockerRun")
        api.wait_for_state(run, "Failed")
        agent.wait_until_forgotten()
        assert "only LocalRun and UniversalRun run here" in api.states(run)[-1]["message"]
        assert api.state_types(run) == ["Scheduled", "Submitted", "Failed"]
        assert agent.leftovers() == []


def test_a_working_dir_that_does_not_exist_fails_the_run_in_words(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, "", working_dir="/nope")
        api.wait_for_state(run, "Failed")
        agent.wait_until_forgotten()
        sentence = f"Flow run {run} has a nonexistent `working_dir` configured: /nope"
        assert api.states(run)[-1]["message"] == sentence
        assert f"could not be started: {sentence}" in agent.said
        wait_until(lambda: sentence in api.messages(run), lambda: f"in its log: {api.messages(run)}")
        assert agent.leftovers() == []


def test_an_environment_that_no_process_can_have_fails_the_run_in_words(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, "", env={"BIG": "x" * 300_000})
        api.wait_for_state(run, "Failed")
        agent.wait_until_forgotten()
        assert "cannot start the flow run: its environment variable BIG" in api.states(run)[-1]["message"]
        assert agent.leftovers() == []


def test_a_run_that_only_lacks_the_hostname_label_is_named(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    flow = api.create_flow(agent.label, labels=[agent.label, socket.gethostname()])
    run = api.create_flow_run(flow)
    with agent:
        agent.wait_for(f"({run}) of {agent.label} waits: it has every label of this agent but the hostname label")
        assert api.state_types(run) == ["Scheduled"]
