"""Completion of flow runs and instances, as a shell asks for it."""

from __future__ import annotations

import importlib
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from local_agent.cli.completing import complete_values
from local_agent.cli.main import cli
from local_agent.units.names import new_id_of_nobody, scope_of

RUNS = ("aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host with two flow runs, one of them a user's own, and three instances."""
    for place, run in zip(("", "user.slice/user-1000.slice/user@1000.service"), RUNS, strict=True):
        (tmp_path / f"sys/fs/cgroup/{place}/flowruns.slice/flowruns-a.slice/flow-run-{run}.scope").mkdir(parents=True)
    own_needs = scope_of(new_id_of_nobody())
    (tmp_path / f"sys/fs/cgroup/flowruns.slice/flowruns-a.slice/{own_needs}").mkdir()
    (tmp_path / "etc/local-agent").mkdir(parents=True)
    for name in ("agent", "prod1", "prod-2"):
        (tmp_path / f"etc/local-agent/{name}.toml").touch()
    wants = tmp_path / "etc/systemd/system/local-agent.target.wants"
    wants.mkdir(parents=True)
    (wants / "local-agent@prod3.service").touch()
    return tmp_path


def _completed(name: str, words: list[str], incomplete: str, root: Path) -> list[str]:
    command: click.Command = importlib.import_module(f"local_agent.cli.{name}").command
    complete_values(command, root)
    try:
        return [item.value for item in ShellComplete(command, {}, name, "X").get_completions(words, incomplete)]
    finally:
        complete_values(command)


@pytest.mark.parametrize("command", ["cancel", "logs", "freeze"])
def test_live_flow_runs_are_completed(command: str, root: Path) -> None:
    assert _completed(command, [], "", root) == sorted(RUNS)
    assert _completed(command, [], "bbb", root) == [RUNS[1]]


@pytest.mark.parametrize("command", ["start", "poke", "ps"])
def test_instances_are_completed(command: str, root: Path) -> None:
    assert _completed(command, ["--instance"], "", root) == ["prod-2", "prod1", "prod3"]
    assert _completed(command, ["--instance"], "prod-", root) == ["prod-2"]


def test_a_host_without_any_completes_nothing(tmp_path: Path) -> None:
    assert _completed("cancel", [], "", tmp_path) == []


def test_commands_are_completed() -> None:
    completed = [item.value for item in ShellComplete(cli, {}, "local-agent", "X").get_completions([], "re")]
    assert completed == ["reload"]


def test_a_name_that_a_shell_would_run_is_not_completed(root: Path) -> None:
    """Any user with a manager of their own can make such a cgroup."""
    mine = root / "sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/flowruns.slice/flowruns-a.slice"
    for name in ("$(reboot)", "`id`", "a b", RUNS[0] + ";id"):
        (mine / f"flow-run-{name}.scope").mkdir()
        (root / f"etc/local-agent/{name}.toml").touch()
    assert _completed("logs", [], "", root) == sorted(RUNS)
    assert _completed("ps", ["--instance"], "", root) == ["prod-2", "prod1", "prod3"]
