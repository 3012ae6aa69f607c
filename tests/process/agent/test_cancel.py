"""A flow run that is cancelled and does not end by itself is ended; what a flow run leaves behind is, too."""

from __future__ import annotations

from pathlib import Path

from support.agent import AgentProcess, is_alive, pid_in
from support.api import Api
from support.api_client import wait_until


def test_a_run_that_ignores_everything_is_killed_with_its_group(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--cancel-grace", "1") as agent:
        run = agent.new_run(
            api, f"ignore INT TERM\nreport Running\nsibling {folder}/sibling\ntouch {folder}/pid\nawait {folder}/never"
        )
        other = agent.new_run(api, f"report Running\nawait {folder}/go\nreport Success")
        pids = [pid_in(folder / "pid"), pid_in(folder / "sibling")]
        api.wait_for_state(other, "Running")
        assert api.cancel(run) == "Cancelling"
        agent.wait_for("is cancelled and did not end itself: stopping it")
        api.wait_for_state(run, "Cancelled")
        assert not any(is_alive(pid) for pid in pids), "reported only when nothing of it lives"
        agent.wait_until_forgotten([run])
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Cancelling", "Cancelled"]
        assert "Cancelled: its process did not end by itself in time" in api.states(run)[-1]["message"]
        assert api.state(other) == "Running"
        (folder / "go").touch()
        api.wait_for_state(other, "Success")
        assert agent.zombies() == 0


def test_what_a_run_leaves_in_its_group_is_swept(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url) as agent:
        run = agent.new_run(api, f"report Running\nsibling {folder}/sibling\nreport Success")
        left = pid_in(folder / "sibling")
        agent.wait_for(f"({run}) of")
        wait_until(lambda: not is_alive(left), lambda: "what the run left behind lives on")
        agent.wait_until_forgotten()
        assert api.state_types(run) == ["Scheduled", "Submitted", "Running", "Success"]


def test_leftovers_can_be_kept(api: Api, folder: Path) -> None:
    with AgentProcess(folder, api.url, "--leftovers", "keep") as agent:
        agent.new_run(api, f"report Running\nsibling {folder}/sibling\nreport Success")
        left = pid_in(folder / "sibling")
        agent.wait_for("ended: Exited with code 0")
        agent.wait_until_forgotten()
        assert is_alive(left)
