"""What cannot work is said in one line with a hint, and ends with an exit code that says so; never a traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from local_agent.errors import ConfigError, StateError
from support.agent import AgentProcess
from support.api import Api

_API = "http://127.0.0.1:9"


def _start(agent: AgentProcess) -> tuple[int, list[str]]:
    """Run an agent to its end; return its exit code and the lines that it printed."""
    result = subprocess.run(
        agent.command, env=agent.environment, capture_output=True, text=True, check=False, timeout=60
    )
    return result.returncode, (result.stdout + result.stderr).splitlines()


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (["--launcher", "rocket"], 'flag --launcher: "rocket" is not one of', "auto, scope, process"),
        (["--python", "/nope/python"], "flag --python: there is no /nope/python", "Prefect 1"),
        (["--instance", "two words"], 'flag --instance: "two words" cannot name an instance', "prod1"),
        (["-e", "FOO"], 'flag --env: "FOO" has no "="', "KEY=VALUE"),
        (["--api", "nonsense"], 'flag --api: "nonsense" is not an http or https URL', "http://localhost:4200"),
        (["--agent-address", "nonsense"], 'flag --agent-address: "nonsense" is not a host', "127.0.0.1:8080"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_one_line_and_a_hint(folder: Path, options: list[str], error: str, hint: str) -> None:
    code, lines = _start(AgentProcess(folder, _API, *options))
    assert code == ConfigError.exit_code == 78
    assert len(lines) == 2, lines
    assert lines[0].startswith(f"error: {error}")
    assert lines[1].startswith("hint: ")
    assert hint in lines[1]


def test_an_unknown_option_is_named(folder: Path) -> None:
    code, lines = _start(AgentProcess(folder, _API, "--lable", "x"))
    assert code == 78
    assert "--lable" in lines[0]
    assert "--label" in lines[0], "the option that was meant"


def test_two_agents_on_one_state_folder(folder: Path) -> None:
    with AgentProcess(folder, _API) as first:
        first.wait_until_up()
        code, lines = _start(first)
        assert code == 78
        assert lines == [
            f"error: another agent uses {first.state_dir}",
            "hint: give each agent an --instance name, and with it a state folder, of its own",
        ]
        assert first.ask("status")


def test_a_state_folder_that_cannot_be_made(folder: Path) -> None:
    agent = AgentProcess(folder, _API)
    agent.state_dir.write_text("a file where the folder should be")
    code, lines = _start(agent)
    assert code == StateError.exit_code == 74
    assert lines[0].startswith(f"error: cannot use {agent.state_dir}")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_a_console_on_a_full_disk_keeps_no_agent_from_its_work(api: Api, folder: Path) -> None:
    agent = AgentProcess(folder, api.url)
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(agent.command, env=agent.environment, stdout=full, stderr=full)
    try:
        run = agent.new_run(api, "report Running\nreport Success")
        api.wait_for_state(run, "Success")
        agent.wait_until_forgotten([run])
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        agent.end_flow_runs()
