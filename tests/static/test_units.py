"""No unit has a limit after which systemd starts it no more until a person comes."""

from __future__ import annotations

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
