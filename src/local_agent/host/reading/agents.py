"""The agents of this host: where their state lies, what they remember, and what they say of themselves.

Each belongs to its own user; what this user may not read is simply not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from local_agent.errors import LocalAgentError
from local_agent.net import control

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Answer = TypeVar("_Answer")

SERVICES_STATE = Path("/var/lib/local-agent")
# an agent answers within milliseconds; one whose loop hangs must not hang a listing
_ANSWER_SECONDS = 1.0
_MOST_AT_ONCE = 64
_MOST_COUNT = 1 << 53


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where an instance remembers its flow runs, and the user it belongs to, who is the agent's.

    `instance` is what it is called here: another user's agent that is no packaged instance is USER/NAME. Of such a one
    `is_anybodys` holds: whatever it says is believed about its own flow runs only. `pid` is the process that has the
    folder, 0 where that is not known.
    """

    instance: str
    path: Path
    uid: int
    is_anybodys: bool = False
    pid: int = 0

    @property
    def name(self) -> str:
        """What the agent calls itself in its events."""
        return self.instance.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A live flow run, as its agent tells of it; `api_state` is what the API said last, "" before it did."""

    id: str
    name: str
    flow_name: str
    api_state: str


@dataclass(frozen=True, slots=True)
class AgentView:
    """How an agent stands, in its own words (service/commands.py)."""

    instance: str
    version: str
    labels: tuple[str, ...]
    api_url: str
    api_reachable: bool
    api_for_seconds: float | None
    api_reason: str
    answered_seconds_ago: float | None
    slots_limit: int | None
    slots_taken: int
    draining: bool
    takes_none_because: str
    unfit_because: str
    runs: tuple[AgentRun, ...]
    api_problem: str = ""  # what is not well although the API answers
    ends_with: str = ""  # the unit with which systemd ends its flow runs
    pid: int = 0  # as the kernel tells, not the agent


def state_folders(environ: Mapping[str, str], services: Path = SERVICES_STATE) -> list[StateFolder]:
    """Return the state folders of the services' instances, and of this user's own agents."""
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "/") / ".local" / "state"
    own = Path(home) / "local-agent"
    return [folder for place in dict.fromkeys([services, own]) for folder in _in_place(place)]


def _in_place(place: Path) -> list[StateFolder]:
    try:
        return [StateFolder(path.name, path, path.stat().st_uid) for path in sorted(place.iterdir()) if path.is_dir()]
    except OSError:
        return []


def ask_agents(folders: Sequence[StateFolder]) -> dict[Path, AgentView]:
    """Ask the agents of several state folders at once how they stand. Left out is who does not answer this user."""
    return ask_each(folders, ask_agent)


def ask_agent(folder: StateFolder) -> AgentView | None:
    """Ask the agent of a state folder how it stands; None where none answers, or not to this user."""
    return answered(folder, "inspect", _ANSWER_SECONDS, lambda answer, pid: replace(agent_view(answer), pid=pid))


def ask_each(folders: Sequence[StateFolder], ask: Callable[[StateFolder], _Answer | None]) -> dict[Path, _Answer]:
    """Ask several at once; left out are those of which `ask` returns None."""
    if len(folders) <= 1:
        found = [ask(folder) for folder in folders]
    else:
        from concurrent.futures import ThreadPoolExecutor  # costs 5 ms that the usual one agent does not need

        with ThreadPoolExecutor(min(len(folders), _MOST_AT_ONCE)) as pool:
            found = list(pool.map(ask, folders))
    return {folder.path: told for folder, told in zip(folders, found, strict=True) if told is not None}


def answered(
    folder: StateFolder, command: str, timeout_seconds: float, read: Callable[[object, int], _Answer]
) -> _Answer | None:
    """Ask the agent of a state folder at its control socket.

    Return what `read` makes of its answer's JSON and its pid. None where none answers in time, or not to this user, or
    not what is understood: `read` may raise ValueError.
    """
    met: list[int] = []

    def meet(pid: int, uid: int) -> None:
        if folder.is_anybodys and uid != folder.uid:
            raise OSError("who answers there is another user")
        met.append(pid)

    try:
        answer = control.ask(folder.path, command, timeout_seconds=timeout_seconds, meet=meet)
        return read(json.loads(answer), met[0])
    except (LocalAgentError, OSError, ValueError, RecursionError):
        return None


def agent_view(answer: object) -> AgentView:
    """Given what an agent answered, return it. Raise ValueError where it is not of our format: its user may be any."""
    told = _Told(answer)
    api, slots = told.below("api"), told.below("slots")
    return AgentView(
        instance=told.text("instance"),
        version=told.text("version"),
        labels=tuple(_as_text(label) for label in told.list("labels")),
        api_url=api.text("url"),
        api_reachable=api.flag("reachable"),
        api_for_seconds=api.seconds("for_seconds"),
        api_reason=api.text("reason"),
        answered_seconds_ago=api.seconds("answered_seconds_ago"),
        slots_limit=slots.count("limit") if slots.has("limit") else None,
        slots_taken=slots.count("taken"),
        draining=told.flag("draining"),
        takes_none_because=told.text("takes_none_because"),
        unfit_because=told.text("unfit_because"),
        runs=tuple(_run(_Told(run)) for run in told.list("runs")),
        # which agents of 0.1 do not tell
        api_problem=api.text("problem") if api.has("problem") else "",
        ends_with=told.text("ends_with") if told.has("ends_with") else "",
    )


def _run(told: _Told) -> AgentRun:
    api_state = told.text("api_state") if told.has("api_state") else ""
    return AgentRun(told.text("id"), told.text("name"), told.text("flow"), api_state)


class _Told:
    """An object of an agent's answer; whatever is of another kind than it must be raises ValueError."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for all that is not of our format
        self._fields: dict[str, object] = value

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._fields.get(name) is not None

    def below(self, name: str) -> _Told:
        """Return the object in a field."""
        return _Told(self._fields.get(name))

    def text(self, name: str) -> str:
        """Return the text in a field."""
        return _as_text(self._fields.get(name))

    def flag(self, name: str) -> bool:
        """Return the truth value in a field."""
        value = self._fields.get(name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")  # noqa: TRY004 - as above
        return value

    def count(self, name: str) -> int:
        """Return the whole number in a field."""
        value = self._fields.get(name)
        if type(value) is not int or not 0 <= value < _MOST_COUNT:
            raise ValueError(f"{name} is no count")
        return value

    def seconds(self, name: str) -> float | None:
        """Return the span in a field, None where there is none."""
        value = self._fields.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= float(str(value)) < _MOST_COUNT:
            raise ValueError(f"{name} is no span of time")
        return float(str(value))

    def list(self, name: str) -> list[object]:
        """Return the list in a field."""
        value = self._fields.get(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")  # noqa: TRY004 - as above
        return value


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - as above
    return value
