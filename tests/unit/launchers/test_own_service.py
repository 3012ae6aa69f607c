"""What becomes of plain processes when the service of their agent stops."""

from __future__ import annotations

import pytest

from local_agent.launchers import own_service
from local_agent.launchers.own_service import OwnService


@pytest.mark.parametrize(
    ("unit", "kill_mode", "takes_all"),
    [
        ("prefect-agent.service", "control-group", True),
        ("prefect-agent.service", "mixed", True),
        ("prefect-agent.service", "process", False),
        ("prefect-agent.service", "none", False),
        ("session-3.scope", "control-group", False),  # it goes on when a program in it ends
        ("", "", False),
    ],
)
def test_a_service_takes_along_what_its_kill_mode_says(unit: str, kill_mode: str, takes_all: bool) -> None:
    assert OwnService(unit, kill_mode).takes_all_along is takes_all


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/prefect-agent.service", "prefect-agent.service"),
        ("/system.slice/prefect-agent.service/payload", "prefect-agent.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service", "mine.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/", ""),
        ("", ""),
    ],
)
def test_the_unit_is_the_innermost_of_the_cgroup(cgroup: str, unit: str) -> None:
    found = own_service.find(cgroup)
    assert found.unit == unit
    # nobody could be asked, or systemd knows no such unit: its default is the careful answer
    assert found.kill_mode == ("control-group" if unit else "")
