"""Flow runs that live without a record, or with one that this version cannot read: taken up or left alone, and said."""

from __future__ import annotations

import json
import os
from pathlib import Path

from support.agent import AgentProcess, is_alive
from support.api import Api
from support.api_client import wait_until

_PLAY = "report Running\ntouch {here}/up\nawait {here}/go\nreport Success\nexit 0"


def test_a_live_run_whose_record_is_gone_is_adopted_and_said(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    with agent:
        run = _running(api, agent)
        agent.kill()
        (agent.state_dir / "runs" / f"{run}.json").unlink()
        agent.start()
        agent.wait_for("lives here and its record is gone")
        agent.wait_for("is still running, adopted")
        assert agent.ask("live") == "1"
        (folder / "go").touch()
        agent.wait_for(" ended: ")
        agent.wait_until_forgotten()
        assert api.state(run) == "Success"
        assert agent.starts() == [run]
        assert agent.leftovers() == []


def test_without_a_record_the_api_is_not_told_of_an_end(api: Api, folder: Path) -> None:
    """Whose claim it rests on nothing proves any more."""
    agent = AgentProcess(folder, api.url)
    with agent:
        run = _running(api, agent)
        agent.kill()
        (agent.state_dir / "runs" / f"{run}.json").unlink()
        agent.start()
        agent.wait_for("is still running, adopted")
        os.kill(int((folder / "up").read_text()), 9)
        agent.wait_for("ended: Ended by signal 9 (SIGKILL)")
        agent.wait_until_forgotten()
        assert api.state(run) == "Running"


def test_a_record_with_a_field_more_is_that_of_its_live_run(api: Api, folder: Path) -> None:
    """As after a downgrade from a version that writes more."""
    agent = AgentProcess(folder, api.url)
    with agent:
        run = _running(api, agent)
        agent.kill()
        path = agent.state_dir / "runs" / f"{run}.json"
        obj = json.loads(path.read_text().splitlines()[-1])
        path.write_text(f"\n{json.dumps({**obj, 'a_later_field': [1]})}")
        agent.start()
        agent.wait_for("is still running, adopted")
        (folder / "go").touch()
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten()


def test_a_record_of_a_later_format_is_left_as_it_is_and_its_run_not_started_again(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    with agent:
        run = _running(api, agent)
        agent.kill()
        path = agent.state_dir / "runs" / f"{run}.json"
        later = path.read_text().replace('"format": 1', '"format": 3')
        path.write_text(later)
        api.set_state(run, "Scheduled")
        agent.start()
        agent.wait_for("was written by a later version")
        agent.wait_for("Registered at")
        polls = agent.count_polls(api)
        wait_until(lambda: agent.count_polls(api) > polls + 2, lambda: agent.said)
        assert path.read_text() == later
        assert agent.starts() == [run], "it lives: a second time would be twice"
        assert is_alive(int((folder / "up").read_text()))


def _running(api: Api, agent: AgentProcess) -> str:
    run = agent.new_run(api, _PLAY.format(here=agent.folder))
    wait_until(lambda: (agent.folder / "up").exists(), lambda: agent.said)
    return run
