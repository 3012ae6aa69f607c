"""May this machine take one more flow run?"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from local_agent.admission import Admission
from local_agent.settings import Settings
from support.samples import settings

_MIB = 1024**2


@dataclass
class Host:
    """A machine whose pressure and free memory a test sets."""

    pressure: dict[str, float | None] = field(default_factory=dict)
    available: int | None = None
    rules: Settings = field(default_factory=settings)

    def admission(self) -> Admission:
        """Return what decides on this machine."""
        return Admission(lambda: self.rules, self.pressure.get, lambda: self.available)


def test_without_a_limit_everything_is_taken() -> None:
    admission = Host().admission()
    assert all(admission.take(f"run-{number}") for number in range(1000))
    assert admission.free() is None


def test_a_place_is_held_until_it_is_left() -> None:
    admission = Host(rules=settings(limit=2)).admission()
    assert admission.take("a")
    assert admission.free() == 1
    assert admission.take("b")
    assert not admission.take("c")
    assert admission.reason_against() == "all 2 places are taken"
    admission.leave("a")
    assert admission.take("c")


def test_runs_that_live_here_already_count_even_above_the_limit() -> None:
    admission = Host(rules=settings(limit=1)).admission()
    admission.hold("a")
    admission.hold("b")
    assert admission.held == 2
    assert admission.free() == 0
    admission.leave("a")
    assert not admission.take("c")


def test_a_reload_moves_the_limit() -> None:
    host = Host(rules=settings(limit=1))
    admission = host.admission()
    assert admission.take("a")
    host.rules = settings(limit=2)
    assert admission.take("b")


def test_draining_takes_none() -> None:
    admission = Host().admission()
    admission.draining = True
    assert admission.reason_against() == "draining"
    assert not admission.take("a")


@pytest.mark.parametrize("resource", ["memory", "cpu"])
def test_pressure_stops_intake_until_it_has_fallen_well_below(resource: str) -> None:
    host = Host(rules=settings(**{f"pressure_{resource}_percent": 50}))
    admission = host.admission()
    reasons = []
    for pressure in (50, 51, 49, 41, 40, 49, 51):
        host.pressure[resource] = pressure
        reasons.append(admission.reason_against())
    assert [bool(reason) for reason in reasons] == [False, True, True, True, False, False, True]
    assert reasons[1] == f"{resource} pressure is 51 % (at most 50 %)"


def test_little_free_memory_stops_intake_until_there_is_well_more() -> None:
    host = Host(rules=settings(min_free_memory_bytes=100 * _MIB))
    admission = host.admission()
    reasons = []
    for mebibytes in (100, 99, 101, 124, 125, 101):
        host.available = mebibytes * _MIB
        reasons.append(admission.reason_against())
    assert [bool(reason) for reason in reasons] == [False, True, True, True, False, False]
    assert reasons[1] == "only 99.0 MiB of memory are free (at least 100.0 MiB)"


def test_a_kernel_that_does_not_say_stops_nothing() -> None:
    rules = settings(pressure_memory_percent=1, pressure_cpu_percent=1, min_free_memory_bytes=1)
    assert Host(rules=rules).admission().reason_against() == ""


def test_the_machine_is_not_looked_at_where_nobody_asked() -> None:
    host = Host(pressure={"memory": 100.0, "cpu": 100.0}, available=0)
    assert host.admission().take("a")
