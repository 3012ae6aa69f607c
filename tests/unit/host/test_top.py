"""What `top` shows, and what its keys do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from local_agent.host.output.status import Pressure
from local_agent.host.reading.runs import Run
from local_agent.host.table import Terminal, width_of
from local_agent.host.top.history import Histories, sparkline, summed
from local_agent.host.top.session import TopSession
from local_agent.host.top.terminal import named_keys
from local_agent.host.top.view import Action, Snapshot, SortKey, State, frame, pressed, sorted_runs
from local_agent.host.view import Host
from local_agent.linux.cgroup import Figures
from unit.host.fakes import FakeReader, flowruns_slice, run_id

_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
_PRESSURE = Pressure(1.0, 2.0, 3.0, 1 << 30)


def _run(number: int, cpu_seconds: float, memory: int | None, instance: str = "prod1") -> Run:
    figures = Figures(cpu_seconds=cpu_seconds, memory_bytes=memory, memory_limit_bytes=8 << 30, tasks=3)
    since = _NOW - timedelta(minutes=number)
    return Run(run_id(number), f"name-{9 - number}", "etl", instance, "running", since=since, figures=figures)


def _look() -> Snapshot:
    histories = Histories()
    before = [_run(1, 0.0, 1 << 20), _run(2, 10.0, 5 << 20, "prod2"), _run(3, 0.0, None)]
    after = [_run(1, 1.0, 2 << 20), _run(2, 14.0, 1 << 20, "prod2"), _run(3, 0.0, None)]
    histories.add(before, 100.0)
    histories.add(after, 102.0)
    return Snapshot(after, histories, _PRESSURE, _NOW)


def test_rates_and_those_that_are_gone() -> None:
    look = _look()
    assert look.histories.cpu_percents(run_id(1)) == [50.0]
    assert look.histories.memory(run_id(3)) == []
    look.histories.add([_run(2, 14.0, 1 << 20)], 104.0)
    assert look.histories.cpu_percents(run_id(2)) == [200.0, 0.0]
    assert look.histories.cpu_percents(run_id(1)) == []


def test_sparklines() -> None:
    assert sparkline([0, 50, 100], 4, 100.0) == " ▁▅█"
    assert sparkline([400, 100], 2, 100.0) == "█▃", "a higher value sets the scale"
    assert sparkline([0, 0], 2, 0.0) == "▁▁"
    assert sparkline([1, 2, 3], 2, 3.0) == "▆█"
    assert summed([[1, 2], [10], []]) == [1, 12]


def test_orders() -> None:
    look = _look()
    orders = {order: [run.id for run in sorted_runs(look, order)] for order in SortKey}
    one, two, three = run_id(1), run_id(2), run_id(3)
    assert orders[SortKey.CPU] == [two, one, three]
    assert orders[SortKey.MEMORY] == [one, two, three]
    assert orders[SortKey.SINCE] == [three, two, one]
    assert orders[SortKey.NAME] == [three, two, one]


def test_what_is_shown() -> None:
    lines = frame(_look(), State(chosen=run_id(1)), Terminal(), 0)
    assert "all: 3 runs, CPU 250%" in lines[0]
    assert "memory 3.0M" in lines[0]
    assert "pressure: cpu 1.0 %" in lines[0]
    assert "prod1: 2 runs, CPU 50%" in lines[1]
    assert "prod2: 1 run, CPU 200%" in lines[2]
    assert [line.split()[0] for line in lines[5:8]] == [run_id(2)[:8], ">", run_id(3)[:8]]
    assert lines[-1].startswith("c m s n: sort")


def test_it_fits_the_screen() -> None:
    look = _look()
    for width in (60, 80, 120, 200):
        for height in (10, 24):
            lines = frame(look, State(chosen=run_id(3)), Terminal(width), height)
            assert max(map(width_of, lines)) <= width
            assert len(lines) <= height
            assert any(line.startswith(">") for line in lines), "the chosen run is to be seen"


def test_where_there_is_little_room_the_pressure_has_a_line_of_its_own() -> None:
    assert "pressure: cpu" in frame(_look(), State(), Terminal(200), 24)[0]
    total, pressure = frame(_look(), State(), Terminal(80), 24)[:2]
    assert "pressure" not in total
    assert pressure.strip().startswith("pressure: cpu 1.0 %, memory 2.0 %, io 3.0 %")


def test_arrows_choose() -> None:
    look, state = _look(), State()
    chosen = []
    for key in ("down", "down", "down", "down", "up"):
        state, deed = pressed(state, key, look)
        assert deed is None
        chosen.append(state.chosen)
    assert chosen == [run_id(2), run_id(1), run_id(3), run_id(3), run_id(1)]
    assert pressed(State(), "up", replace(look, runs=[]))[0].chosen == ""


def test_keys_that_sort_and_quit() -> None:
    assert pressed(State(), "m", _look())[0].order is SortKey.MEMORY
    assert pressed(State(), "q", _look())[0].is_over
    assert pressed(State(), "?", _look()) == (State(), None)


def test_a_run_is_frozen_at_once_and_cancelled_after_a_yes() -> None:
    look, state = _look(), State(chosen=run_id(1))
    assert pressed(state, "f", look)[1] is Action.FREEZE
    asked, deed = pressed(state, "x", look)
    assert (deed, asked.message) == (None, "cancel name-8 (00000001)? y or n")
    assert pressed(asked, "y", look)[1] is Action.CANCEL
    assert pressed(asked, "q", look) == (replace(state, message="nothing was done"), None)
    nobody, deed = pressed(State(), "x", look)
    assert deed is None
    assert "choose a flow run first" in nobody.message


def test_a_problem_hides_neither_the_keys_nor_what_a_key_did() -> None:
    look = replace(_look(), problems=("journald threw 3 lines away in this boot",))
    terminal = Terminal(width=120, colours=False)
    assert frame(look, State(), terminal, 20)[-2:] == [look.problems[0], frame(_look(), State(), terminal, 20)[-1]]
    assert frame(look, State(message="it is frozen"), terminal, 20)[-2:] == [look.problems[0], "it is frozen"]


def test_what_terminals_send() -> None:
    assert named_keys(b"c\x1b[A\x1bOBq") == ["c", "up", "down", "q"]
    assert named_keys(b"\x03") == ["q"]
    assert named_keys(b"") == ["q"], "the terminal is gone"
    assert named_keys(b"\x1b[5~") == ["[", "5", "~"]


class _Keys:
    """A screen whose person presses these keys, one after another."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)
        self.screens: list[list[str]] = []

    def show(self, lines: list[str]) -> None:
        """Note what is shown."""
        self.screens.append(lines)

    def keys(self, timeout_seconds: float) -> list[str]:
        """Press the next key."""
        assert timeout_seconds > 0
        return [self._keys.pop(0)]


def test_a_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = FakeReader()
    flowruns_slice(reader)
    session = TopSession(Host(1000, {"system": lambda: reader}, ()))
    session.look()
    keys = _Keys("down", "f", "q")
    session.wait(keys, 60.0, Terminal(80), 24)
    assert session.state.is_over
    assert len(keys.screens) == 3
    assert "choose a flow run first" in keys.screens[-1][-1]
