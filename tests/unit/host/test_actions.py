"""What is done to flow runs, and what is said when it cannot be."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from local_agent.errors import (
    ApiUnreachableError,
    ConfigError,
    ManagerUnreachableError,
    NotFoundError,
    UnavailableError,
)
from local_agent.host import actions
from local_agent.host.live_limits import properties_of
from local_agent.host.reading.agents import StateFolder
from local_agent.host.reading.runs import Run
from local_agent.net import control
from unit.host.fakes import run_id

_UNIT = f"flow-run-{run_id(1)}.scope"
_RUN = Run(run_id(1), "otter", "etl", "prod1", "running", manager="system", unit=_UNIT)
_FROZEN = Run(run_id(1), "otter", "etl", "prod1", "frozen", manager="system", unit=_UNIT)


def _systemctl(folder: Path, ending: str = "true") -> actions.Systemctl:
    return actions.Systemctl(("sh", "-c", f'echo "$@" >>{shlex.quote(str(folder / "did"))}; {ending}', "systemctl"))


def _did(folder: Path) -> list[str]:
    path = folder / "did"
    return path.read_text().splitlines() if path.exists() else []


def test_freezing_and_thawing(tmp_path: Path) -> None:
    systemctl = _systemctl(tmp_path)
    assert actions.freeze(_RUN, systemctl) == "otter (00000001) is frozen; local-agent thaw 00000001 lets it go on"
    assert actions.thaw(_FROZEN, systemctl) == "otter (00000001) goes on"
    assert _did(tmp_path) == [f"--quiet --runtime freeze {_UNIT}", f"--quiet --runtime thaw {_UNIT}"]


def test_a_frozen_run_is_thawed_before_it_is_stopped(tmp_path: Path) -> None:
    actions.stop(_FROZEN, _systemctl(tmp_path))
    assert _did(tmp_path) == [f"--quiet --runtime thaw {_UNIT}", f"--quiet --runtime stop {_UNIT}"]


def test_a_users_own_manager_is_asked_for_its_scopes(tmp_path: Path) -> None:
    actions.thaw(Run(run_id(1), "otter", "etl", "x", "frozen", manager="user", unit=_UNIT), _systemctl(tmp_path))
    assert _did(tmp_path) == [f"--user --quiet --runtime thaw {_UNIT}"]


def test_systemctls_own_words_are_said(tmp_path: Path) -> None:
    with pytest.raises(ManagerUnreachableError, match=f"systemctl freeze {_UNIT}: Access denied"):
        actions.freeze(_RUN, _systemctl(tmp_path, "echo Access denied >&2; exit 1"))


def test_a_run_without_a_scope_cannot_be_frozen(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no scope"):
        actions.freeze(Run(run_id(1), "otter", "etl", "prod1", "claiming"), _systemctl(tmp_path))


def test_limits_of_a_running_run(tmp_path: Path) -> None:
    properties = properties_of(["memory=8G", "cpu=200%", "tasks=none", "io_weight=50"])
    actions.set_limits(_RUN, properties, _systemctl(tmp_path))
    wanted = f"MemoryMax={8 << 30} MemorySwapMax=0 CPUQuota=200% TasksMax=infinity IOWeight=50"
    assert _did(tmp_path) == [f"--quiet --runtime set-property {_UNIT} {wanted}"]
    none = properties_of(["memory_max=none", "cpu=none"])
    assert none == ["MemoryMax=infinity", "MemorySwapMax=infinity", "CPUQuota="]


def test_what_is_no_limit_is_said_with_all_else_that_is_wrong() -> None:
    with pytest.raises(ConfigError) as caught:
        properties_of(["memory=lots", "cpus=2", "runtime_max=3h", "tasks"])
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        *("memory=lots", "cpus=2", "runtime_max=3h", "tasks")
    ]
    assert "did you mean cpu?" in caught.value.problems[1]


async def _cancelled(
    tmp_path: Path, answer: Callable[[str], Awaitable[str]] | None, run: Run = _RUN, ending: str = "true"
) -> str:
    """Cancel with an agent that answers like that, or with none."""
    folder = StateFolder("prod1", tmp_path, os.getuid())
    systemctl = _systemctl(tmp_path, ending)
    if answer is None:
        return actions.cancel(run, [folder], systemctl)
    async with control.served(tmp_path, {}, {"cancel": answer}, on_fault=pytest.fail):
        return await asyncio.to_thread(actions.cancel, run, [folder], systemctl)


async def test_cancelling_asks_the_agent(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(flow_run_id: str) -> str:
        asked.append(flow_run_id)
        return "Cancelling"

    said = await _cancelled(tmp_path, answer)
    assert said == "otter (00000001) is Cancelling at the API: it ends itself now, or else its agent ends it"
    assert (asked, _did(tmp_path)) == ([run_id(1)], [])
    await _cancelled(tmp_path, answer, _FROZEN)
    assert _did(tmp_path) == [f"--quiet --runtime thaw {_UNIT}"], "a frozen process cannot end itself"


async def test_without_an_agent_the_scope_is_stopped(tmp_path: Path) -> None:
    said = await _cancelled(tmp_path, None)
    assert said.endswith("at its next start: no agent of prod1 answers now")
    assert _did(tmp_path) == [f"--quiet --runtime stop {_UNIT}"]


async def test_an_api_out_of_reach_is_said_and_nothing_is_stopped(tmp_path: Path) -> None:
    async def answer(flow_run_id: str) -> str:
        raise ApiUnreachableError(f"no answer about {flow_run_id}")

    with pytest.raises(UnavailableError, match="is not cancelled: no answer") as caught:
        await _cancelled(tmp_path, answer)
    assert "--stop 00000001" in caught.value.hint
    assert _did(tmp_path) == []
