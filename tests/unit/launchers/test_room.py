"""What this machine can take now, for flow runs that are processes of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from local_agent.launchers.room import MachineRoom
from local_agent.settings import Settings
from support.samples import settings

_MIB = 1024**2


@dataclass
class Host:
    """A machine whose pressure and free memory a test sets."""

    pressure: dict[str, float | None] = field(default_factory=dict)
    available: int | None = None
    rules: Settings = field(default_factory=settings)
    now: float = 1000.0

    def room(self, most_live: int | None = None) -> MachineRoom:
        """Return what decides on this machine."""
        return MachineRoom(lambda: self.rules, most_live, self.pressure.get, lambda: self.available, lambda: self.now)


def test_no_more_live_than_there_are_files_for() -> None:
    room = Host().room(most_live=2)
    assert room.reason_against(1) == ""
    assert room.reason_against(2) == "2 flow runs live, as many as it may open files for (LimitNOFILE= in the unit)"


def test_many_that_were_taken_just_now_show_their_load_first() -> None:
    host = Host(rules=settings(pressure_cpu_percent=50))
    room = host.room()
    while not room.reason_against(0):
        room.note_taken()
    assert "their load does not show yet" in room.reason_against(0)
    host.now += 6
    assert room.reason_against(0) == ""


@pytest.mark.parametrize("resource", ["memory", "cpu"])
def test_pressure_stops_intake_until_it_has_fallen_well_below(resource: str) -> None:
    host = Host(rules=settings(**{f"pressure_{resource}_percent": 50}))
    room = host.room()
    reasons = []
    for pressure in (50, 51, 49, 41, 40, 49, 51):
        host.pressure[resource] = pressure
        reasons.append(room.reason_against(0))
    assert [bool(reason) for reason in reasons] == [False, True, True, True, False, False, True]
    assert reasons[1] == f"{resource} pressure is 51 % (at most 50 %)"


def test_little_free_memory_stops_intake_until_there_is_well_more() -> None:
    host = Host(rules=settings(min_free_memory_bytes=100 * _MIB))
    room = host.room()
    reasons = []
    for mebibytes in (100, 99, 101, 124, 125, 101):
        host.available = mebibytes * _MIB
        reasons.append(room.reason_against(0))
    assert [bool(reason) for reason in reasons] == [False, True, True, True, False, False]
    assert reasons[1] == "only 99.0 MiB of memory free, below min_free_memory (100.0 MiB)"


def test_a_kernel_that_does_not_say_stops_nothing() -> None:
    rules = settings(pressure_memory_percent=1, pressure_cpu_percent=1, min_free_memory_bytes=1)
    assert Host(rules=rules).room().reason_against(0) == ""


def test_the_machine_is_not_looked_at_where_nobody_asked() -> None:
    host = Host(pressure={"memory": 100.0, "cpu": 100.0}, available=0)
    assert host.room().reason_against(0) == ""
