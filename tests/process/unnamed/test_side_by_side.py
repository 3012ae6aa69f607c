"""Two agents that nobody named, on one machine and of one user, as Prefect's agent's documentation starts them."""

from __future__ import annotations

from pathlib import Path

from support.agent import AgentProcess
from support.api import Api


class Unnamed(AgentProcess):
    """An agent without an instance and a state folder of its own: it looks for one below `home`."""

    def __init__(self, folder: Path, api_url: str, home: Path) -> None:
        super().__init__(folder, api_url, environ={"XDG_STATE_HOME": str(home)})

    @property
    def command(self) -> list[str]:
        """The command line without what names a folder."""
        words = super().command
        at = words.index("--state-dir")
        return [*words[:at], *words[at + 2 :]]


def test_each_has_a_folder_and_takes_its_runs_up_again(tmp_path: Path) -> None:
    home = tmp_path / "state"
    with (
        Api(tmp_path / "server.db") as api,
        Unnamed(tmp_path / "one", api.url, home) as one,
        Unnamed(tmp_path / "two", api.url, home) as two,
    ):
        for agent in (one, two):
            agent.wait_for("Registered at")
        second = home / "local-agent/default-2"
        said = "Another agent without an --instance name runs here; this one remembers its flow runs in "
        assert sorted(agent.said.count(f"{said}{second}\n") for agent in (one, two)) == [0, 1]

        runs = {
            agent: agent.new_run(api, f"report Running\nawait {tmp_path}/go\nreport Success") for agent in (one, two)
        }
        for run in runs.values():
            api.wait_for_state(run, "Running")
        for agent in runs:
            agent.kill()
        for agent in reversed(runs):
            agent.start()
        for agent in runs:
            agent.wait_for("is still running, adopted")
        (tmp_path / "go").touch()
        for agent, run in runs.items():
            api.wait_for_state(run, "Success")
            assert agent.starts() == [run]
