"""Which settings a running agent uses, asked from itself, and those that wait for a reload or a restart.

Its answer is its user's word: it is shown, bounded and made printable, and nothing is done by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local_agent.host.reading.agents import answered, ask_each
from local_agent.plain import short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from local_agent.host.reading.agents import StateFolder

_ANSWER_SECONDS = 1.5
_MAX_KEYS = 100
_MAX_PROBLEM = 1000
_KEY = re.compile(r"[a-z_.]{1,40}")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The keys of settings that were changed since an agent read them: for a reload, for a restart, and why neither
    will do, "" where they are right."""

    reload: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problem: str = ""

    def in_words(self, how_to_restart: str, how_to_reload: str) -> tuple[str, ...]:
        """Say what waits, a sentence each."""
        said = []
        if self.restart:
            said.append(f"{', '.join(self.restart)} changed and waits for a restart: {how_to_restart}")
        if self.reload:
            said.append(f"{', '.join(self.reload)} changed since the agent read it: {how_to_reload}")
        if self.problem:
            said.append(f"the agent goes on with settings that a restart would refuse now: {self.problem}")
        return tuple(said)


@dataclass(frozen=True, slots=True)
class InUse:
    """What an agent told: its settings as `config --json` prints them and as lines, and what waits."""

    told: Mapping[str, Any]
    lines: tuple[str, ...]
    waiting: Waiting = field(default_factory=Waiting)


def ask_settings(folder: StateFolder) -> InUse | None:
    """Ask an agent which settings it uses; None where none answers, not to this user, or not that (0.1)."""
    return answered(folder, "settings", _ANSWER_SECONDS, lambda answer, _pid: in_use(answer))


def ask_all(folders: Sequence[StateFolder]) -> dict[Path, InUse]:
    """Ask several at once; left out are those that do not tell."""
    return ask_each(folders, ask_settings)


def in_use(answer: object) -> InUse:
    """Given what an agent answered, return it. Raise ValueError where it is not of our format."""
    if not isinstance(answer, dict) or not isinstance(answer.get("settings"), dict):
        raise ValueError("no settings")  # noqa: TRY004 - one error for all that is not of our format
    waiting = answer.get("waiting")
    if not isinstance(waiting, dict):
        raise ValueError("nothing about what waits")  # noqa: TRY004 - as above
    problem = waiting.get("problem")
    told = {key: value for key, value in answer.items() if key not in ("lines", "format")}
    return InUse(
        told,
        _texts(answer.get("lines")),
        Waiting(
            _keys(waiting.get("reload")),
            _keys(waiting.get("restart")),
            short(problem, _MAX_PROBLEM) if isinstance(problem, str) else "",
        ),
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError("no list of texts")
    return tuple(value)


def _keys(value: object) -> tuple[str, ...]:
    """A later agent may have settings that are not known here; all are called alike."""
    return tuple(key for key in _texts(value) if _KEY.fullmatch(key))[:_MAX_KEYS]
