"""The agents of this host: where their state lies, what they remember, and what they say of themselves.

Each belongs to its own user; what this user may not read is simply not there.
"""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from local_agent.errors import LocalAgentError
from local_agent.net import control
from local_agent.report import AgentReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_Answer = TypeVar("_Answer")

SERVICES_STATE = Path("/var/lib/local-agent")
# an agent answers within milliseconds; one whose loop hangs must not hang a listing
_ANSWER_SECONDS = 1.0
_MAX_AT_ONCE = 64


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
class Met:
    """An agent that answered: what it told, and the process that did, as the kernel knows it."""

    report: AgentReport
    pid: int


def state_folders(environ: Mapping[str, str], services: Path = SERVICES_STATE) -> list[StateFolder]:
    """Return the state folders of the services' instances, and of this user's own agents."""
    home = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME") or "/") / ".local" / "state"
    own = Path(home) / "local-agent"
    return [folder for place in dict.fromkeys([services, own]) for folder in _in_place(place)]


def _in_place(place: Path) -> list[StateFolder]:
    try:
        paths = sorted(place.iterdir())
    except OSError:
        return []
    return [folder for path in paths if (folder := _state_folder(path))]


def _state_folder(path: Path) -> StateFolder | None:
    """Return what lies there, None where it is none or cannot be looked at: one hides no others.

    Its user may have mounted something over it that not even root may look at (FUSE).
    """
    try:
        status = path.stat()
    except OSError:
        return None
    return StateFolder(path.name, path, status.st_uid) if stat.S_ISDIR(status.st_mode) else None


def ask_agents(folders: Sequence[StateFolder]) -> dict[Path, Met]:
    """Ask the agents of several state folders at once how they stand. Left out is who does not answer this user."""
    return ask_each(folders, ask_agent)


def ask_agent(folder: StateFolder) -> Met | None:
    """Ask the agent of a state folder how it stands; None where none answers, or not to this user."""
    return answered(folder, "inspect", _ANSWER_SECONDS, lambda answer, pid: Met(AgentReport.from_json(answer), pid))


def ask_each(folders: Sequence[StateFolder], ask: Callable[[StateFolder], _Answer | None]) -> dict[Path, _Answer]:
    """Ask several at once; left out are those of which `ask` returns None."""
    if len(folders) <= 1:
        found = [ask(folder) for folder in folders]
    else:
        from concurrent.futures import ThreadPoolExecutor  # costs 5 ms that the usual one agent does not need

        with ThreadPoolExecutor(min(len(folders), _MAX_AT_ONCE)) as pool:
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
