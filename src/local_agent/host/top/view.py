"""`local-agent top`: what it shows, and what its keys do. Neither reads a key nor writes to a terminal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from local_agent.host.output.ps import run_as_json
from local_agent.host.output.status import in_words, machine_as_json
from local_agent.host.table import Cell, Colour, Column, Terminal, compact_bytes, compact_seconds, cut, render, width_of
from local_agent.host.top.history import sparkline, summed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from local_agent.host.output.status import Pressure
    from local_agent.host.reading.runs import Run
    from local_agent.host.top.history import Histories

FORMAT = 1

_SPARK = 12
_WHOLE_CPU = 100.0
_COLUMNS = (
    Column(" "),
    Column("ID"),
    Column("FLOW", enough=10, least=8),
    Column("NAME", enough=10, least=8),
    Column("STATE"),
    Column("INSTANCE", goes=4),
    Column("SINCE", right=True, goes=3),
    Column("CPU", right=True),
    Column("CPU OVER TIME", goes=1),
    Column("MEMORY", right=True),
    Column("OVER TIME", goes=2),
    Column("LIMIT", right=True, goes=5),
    Column("TASKS", right=True, goes=6),
)
_KEYS = "c m s n: sort   arrows: choose   f: freeze   t: thaw   x: cancel   q: quit"
_MAX_INSTANCES = 5


class SortKey(Enum):
    """By what the runs are sorted; the key that asks for it."""

    CPU = "c"
    MEMORY = "m"
    SINCE = "s"
    NAME = "n"


class Action(Enum):
    """What a key asks to be done to the chosen run; the key."""

    FREEZE = "f"
    THAW = "t"
    CANCEL = "x"


@dataclass(frozen=True, slots=True)
class State:
    """What the person has chosen so far. `asked` is a deed that waits for a yes."""

    order: SortKey = SortKey.CPU
    chosen: str = ""
    message: str = ""
    asked: Action | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was seen at one look at the host."""

    runs: Sequence[Run]
    histories: Histories
    pressure: Pressure
    at: datetime
    problems: Sequence[str] = ()


def sorted_runs(look: Snapshot, order: SortKey) -> list[Run]:
    """Return the runs in an order; those that use most are first, and so are the oldest."""
    keys: Mapping[SortKey, Callable[[Run], object]] = {
        SortKey.CPU: lambda run: (-_last(look.histories.cpu_percents(run.id)), run.id),
        SortKey.MEMORY: lambda run: (-(run.figures.memory_bytes or 0), run.id),
        SortKey.SINCE: lambda run: (run.since.timestamp() if run.since else 0.0, run.id),
        SortKey.NAME: lambda run: (run.flow_name, run.name, run.id),
    }
    return sorted(look.runs, key=keys[order])  # type: ignore[arg-type] # within an order all keys are of one type


def pressed(state: State, key: str, look: Snapshot) -> tuple[State, Action | None]:
    """Given a key, return the state after it, and what is to be done to the chosen run now."""
    if state.asked is not None:
        done = state.asked if key in ("y", "Y") else None
        return replace(state, asked=None, message="" if done else "nothing was done"), done
    if key == "q":
        return replace(state, is_over=True), None
    if key in ("up", "down"):
        return replace(state, chosen=_moved(state, look, -1 if key == "up" else 1), message=""), None
    if key in {order.value for order in SortKey}:
        return replace(state, order=SortKey(key), message=""), None
    if key in {deed.value for deed in Action}:
        return _asked(state, Action(key), look)
    return state, None


def _asked(state: State, deed: Action, look: Snapshot) -> tuple[State, Action | None]:
    run = chosen_run(state, look)
    if run is None:
        return replace(state, message="choose a flow run first, with the arrow keys"), None
    if deed is Action.CANCEL:
        return replace(state, asked=deed, message=f"cancel {run.label}? y or n"), None
    return state, deed


def chosen_run(state: State, look: Snapshot) -> Run | None:
    """Return the run that is chosen, None where none is or it is gone."""
    return next((run for run in look.runs if run.id == state.chosen), None)


def _moved(state: State, look: Snapshot, step: int) -> str:
    ids = [run.id for run in sorted_runs(look, state.order)]
    if not ids:
        return ""
    if state.chosen not in ids:
        return ids[0]
    return ids[max(0, min(len(ids) - 1, ids.index(state.chosen) + step))]


def frame(look: Snapshot, state: State, terminal: Terminal, height: int) -> list[str]:
    """Return the lines of a screen of `height`; a height of 0 has room for all."""
    runs = sorted_runs(look, state.order)
    head = [*_total(look, terminal), *_instances(look), ""]
    table = render(_COLUMNS, [_row(run, look, state) for run in runs], terminal)
    # a line of their own: a problem can last as long as the boot, and must not hide what the keys do or did
    foot = [look.problems[0] if look.problems else "", state.message or _KEYS]
    room = max(1, height - len(head) - len(foot) - 1) if height else len(runs)
    first = _first_shown([run.id for run in runs], state.chosen, room)
    rows = table[1 + first : 1 + first + room]
    width = terminal.width or 10_000
    return [*(cut(line, width) for line in head), table[0], *rows, *(cut(line, width) for line in foot)]


def _first_shown(ids: Sequence[str], chosen: str, room: int) -> int:
    """Scroll so far that the chosen run is to be seen."""
    return max(0, ids.index(chosen) - room + 1) if chosen in ids else 0


def _total(look: Snapshot, terminal: Terminal) -> list[str]:
    at = look.at.astimezone().strftime("%H:%M:%S")
    sums, pressure = f"{at}  {_sums('all', look.runs, look)}", in_words(look.pressure)
    one_line = f"{sums}  {pressure}"
    fits = terminal.width is None or width_of(one_line) <= terminal.width
    return [one_line] if fits else [sums, f"          {pressure}"]


def _instances(look: Snapshot) -> list[str]:
    names = sorted({run.instance for run in look.runs})[:_MAX_INSTANCES]
    by_name = {name: [run for run in look.runs if run.instance == name] for name in names}
    return [f"          {_sums(name or '-', runs, look)}" for name, runs in by_name.items()]


def _sums(name: str, runs: Sequence[Run], look: Snapshot) -> str:
    cpu = summed([look.histories.cpu_percents(run.id) for run in runs])
    memory = summed([look.histories.memory(run.id) for run in runs])
    count = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    used = f"CPU {_last(cpu):.0f}% {sparkline(cpu, _SPARK, _WHOLE_CPU)}"
    held = f"memory {compact_bytes(int(memory[-1]) if memory else None)} {sparkline(memory, _SPARK, 0.0)}"
    return f"{name}: {count}, {used}  {held}"


def _row(run: Run, look: Snapshot, state: State) -> list[Cell]:
    cpu, memory = look.histories.cpu_percents(run.id), look.histories.memory(run.id)
    is_chosen = run.id == state.chosen
    colour = Colour.BOLD if is_chosen else Colour.PLAIN
    figures = run.figures
    return [
        Cell(">" if is_chosen else "", colour),
        Cell(run.id[:8], colour),
        Cell(run.flow_name or "-", colour),
        Cell(run.name or "-", colour),
        Cell(run.state, Colour.DOUBTFUL if run.state == "frozen" else Colour.PLAIN),
        Cell(run.instance or "-"),
        Cell(compact_seconds((look.at - run.since).total_seconds() if run.since else None)),
        Cell(f"{_last(cpu):.0f}%"),
        Cell(sparkline(cpu, _SPARK, _WHOLE_CPU)),
        Cell(compact_bytes(figures.memory_bytes)),
        Cell(sparkline(memory, _SPARK, float(figures.memory_limit_bytes or 0))),
        Cell(compact_bytes(figures.memory_limit_bytes)),
        Cell("-" if figures.tasks is None else str(figures.tasks)),
    ]


def as_json(look: Snapshot) -> dict[str, Any]:
    """Return what scripts get of a look; docs/commands/json.md says what each key means."""
    percents = {run.id: _last(look.histories.cpu_percents(run.id)) for run in look.runs}
    return {
        "format": FORMAT,
        "at": look.at.isoformat(timespec="milliseconds"),
        "machine": machine_as_json(look.pressure),
        "runs": [{**run_as_json(run), "cpu_percent": round(percents[run.id], 1)} for run in look.runs],
        "problems": list(look.problems),
    }


def _last(values: Sequence[float]) -> float:
    return values[-1] if values else 0.0
