"""The agents of this host: where their state lies, what they remember, and what they say of themselves.

Each belongs to its own user; what this user may not read is simply not there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_agent import control
from local_agent.errors import LocalAgentError
from local_agent.store import read_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local_agent.model import Record

SERVICES_STATE = Path("/var/lib/local-agent")
# an agent answers within milliseconds; one whose loop hangs must not hang a listing
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where an instance remembers its flow runs, and the user it belongs to, who is the agent's."""

    instance: str
    path: Path
    uid: int


@dataclass(frozen=True, slots=True)
class AgentRun:
    """A live flow run, as its agent tells of it; `api_state` is what the API said last, "" before it did."""

    id: str
    name: str
    flow_name: str
    api_state: str


@dataclass(frozen=True, slots=True)
class AgentView:
    """How an agent stands, in its own words (operations.py)."""

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


def records_of(folder: StateFolder) -> list[Record]:
    """Return what an instance remembers of its flow runs, as far as this user may read it."""
    try:
        paths = sorted((folder.path / "runs").glob("*.json"))
    except OSError:
        return []
    return [record for path in paths if (record := read_record(path)) is not None]


def ask_agent(folder: StateFolder) -> AgentView | None:
    """Ask the agent of a state folder how it stands; None where none answers, or not to this user."""
    try:
        return agent_view(json.loads(control.ask(folder.path, "inspect", timeout_seconds=_ANSWER_SECONDS)))
    except (LocalAgentError, OSError, ValueError, KeyError, TypeError):
        return None


def agent_view(answer: Mapping[str, Any]) -> AgentView:
    """Given what an agent answered, return it. Raise KeyError or TypeError where it is not of our format."""
    api, slots = answer["api"], answer["slots"]
    return AgentView(
        instance=str(answer["instance"]),
        version=str(answer["version"]),
        labels=tuple(map(str, answer["labels"])),
        api_url=str(api["url"]),
        api_reachable=bool(api["reachable"]),
        api_for_seconds=api["for_seconds"],
        api_reason=str(api["reason"]),
        answered_seconds_ago=api["answered_seconds_ago"],
        slots_limit=slots["limit"],
        slots_taken=int(slots["taken"]),
        draining=bool(answer["draining"]),
        takes_none_because=str(answer["takes_none_because"]),
        unfit_because=str(answer["unfit_because"]),
        runs=tuple(AgentRun(run["id"], run["name"], run["flow"], run["api_state"] or "") for run in answer["runs"]),
    )
