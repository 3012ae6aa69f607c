"""What an agent in the foreground prints, and what it sends to the runs' own logs."""

from __future__ import annotations

from pathlib import Path

from support.agent import AgentProcess
from support.api import Api
from support.api_client import wait_until


def test_show_flow_logs_puts_the_name_of_the_run_before_each_line(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--show-flow-logs") as agent:
        runs = [agent.new_run(api, f"say line of {name}\nsay last words of {name}\nreport Success") for name in "ab"]
        for run, name in zip(runs, "ab", strict=True):
            prefix = api.flow_run(run)["name"]
            agent.wait_for(f"\n{prefix} | line of {name}\n{prefix} | last words of {name}\n")
        assert "\x1b[" not in agent.said, "no colours where nobody can see them"
        agent.wait_until_forgotten()
        assert agent.leftovers() == []


def test_a_run_of_an_earlier_life_is_shown_from_there_on(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--show-flow-logs") as agent:
        run = agent.new_run(api, f"report Running\nsay before\nawait {folder}/go\nsay after\nreport Success")
        agent.wait_for("| before\n")
        agent.kill()
        agent.start()
        agent.wait_for("still running, adopted")
        (folder / "go").touch()
        agent.wait_for(f"{api.flow_run(run)['name']} | after\n")
        agent.wait_until_forgotten()
        assert "| before" not in agent.said


def test_without_it_the_output_stays_off_the_console(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, "say a line\nreport Success")
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        assert "a line" not in agent.said


def test_the_last_lines_of_a_run_that_died_early_are_its_message(api: Api, folder: Path) -> None:
    # shown on the console the output goes into a file and not into a journal that this test could not read
    with AgentProcess(folder, api.url, "--show-flow-logs") as agent:
        run = agent.new_run(api, "say ModuleNotFoundError: flows\nexit 1")
        api.wait_for_state(run, "Failed")
        message = api.states(run)[-1]["message"]
        assert message.startswith("Exited with code 1 before the flow started; last lines:")
        assert "ModuleNotFoundError: flows" in message


def test_max_polls_ends_the_agent_and_leaves_its_runs(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url, "--max-polls", "2", "--poll-interval", "0.5")
    run = agent.new_run(api, f"report Running\nawait {folder}/go\nreport Success")
    with agent:
        assert agent.wait() == 0
        assert agent.records() == [run]
        api.wait_for_state(run, "Running")
        (folder / "go").touch()
        api.wait_for_state(run, "Success")


def test_a_run_is_told_where_it_runs_in_its_own_log(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, "report Success")
        wait_until(lambda: len(api.logs(run)) == 2, lambda: f"its log has {api.messages(run)}")
        submitted, ended = api.logs(run)
        assert submitted["message"].startswith("Submitted for execution: PID ")
        assert submitted["name"] == agent.label
        assert submitted["level"] == "INFO"
        assert ended["message"].startswith("Exited with code 0")


def test_no_cloud_logs_sends_none(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--no-cloud-logs", "--show-flow-logs") as agent:
        run = agent.new_run(api, "env PREFECT__CLOUD__SEND_FLOW_RUN_LOGS\nreport Success")
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()
        agent.wait_for("PREFECT__CLOUD__SEND_FLOW_RUN_LOGS=false")
        agent.stop()
        assert api.messages(run) == []


def test_info_is_what_it_says_by_default_and_warning_less(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--log-level", "WARNING") as agent:
        run = agent.new_run(api, "report Running\nexit 3")
        agent.wait_for("ended: Exited with code 3")
        agent.wait_until_forgotten()
        assert len(agent.said.splitlines()) == 1, agent.said
        assert f"WARNING - {agent.label} | Flow run" in agent.said
        assert run in agent.said
