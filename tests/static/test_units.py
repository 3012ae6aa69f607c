"""No unit is given up by a limit of starts that a person has to lift, and builds of packages find their tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.checkout import CHECKOUT

_LIMITED = ("service", "socket", "timer", "path")  # the kinds that systemd counts starts of
_UNITS = [
    *(path for path in sorted((CHECKOUT / "units").iterdir()) if path.suffix.removeprefix(".") in _LIMITED),
    CHECKOUT / "src/local_agent/templates/systemd-user.service.j2",
]


@pytest.mark.parametrize("unit", _UNITS, ids=lambda path: path.name)
def test_no_unit_is_given_up(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    assert "StartLimitIntervalSec=0" in lines[: lines.index("[Install]") if "[Install]" in lines else None]
    assert unit.suffix != ".socket" or "TriggerLimitIntervalSec=0" in lines


def test_what_a_build_of_the_packages_tests_is_there() -> None:
    """Builds take minutes and are no part of the quick tiers: a test that moves would be missed for hours."""
    named = re.findall(r"\btests/[\w/.]+", (CHECKOUT / "debian/rules").read_text())
    assert named
    assert [path for path in named if not (CHECKOUT / path).exists()] == []
