"""What a running agent tells about itself: written by its control socket, read by `status`, `ps` and the others.

Both sides may be of different versions, and who answers at a socket may be anybody. So what later versions added may be
missing, what is not known is passed over, and what is of another kind than it must be is refused.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

FORMAT = 1  # grows when a key changes its meaning or goes
# what the agent's service tells systemd while its API does not answer (sd_notify(3), ERRNO=)
API_LOST_ERRNO = errno.ENOTCONN
_MAX_COUNT = 1 << 53  # what every JSON parser keeps


@dataclass(frozen=True, slots=True)
class RunReport:
    """A live flow run. `where` is for people; `api_state` is what the API said last, "" before it did."""

    id: str
    name: str
    flow_name: str
    where: str = ""
    since: datetime | None = None
    api_state: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return {
            "id": self.id,
            "name": self.name,
            "flow": self.flow_name,
            "where": self.where,
            "since": self.since.isoformat() if self.since else None,
            "api_state": self.api_state or None,
        }

    @classmethod
    def from_json(cls, value: object) -> RunReport:
        """Given what `to_json` of some version returned, return it. Raise ValueError."""
        told = Told(value)
        return cls(
            id=told.text("id"),
            name=told.text("name"),
            flow_name=told.text("flow"),
            where=told.text("where", ""),
            since=told.time("since"),
            api_state=told.text("api_state", ""),
        )


@dataclass(frozen=True, slots=True)
class ApiReport:
    """How the API answers an agent.

    `for_seconds` is how long it has been as `reachable` says, `reason` why it is not; `problem` is what is not well
    although it answers. `clock_ahead_seconds` is this machine's clock, compared with the API's; None where that is not
    known.
    """

    url: str
    reachable: bool
    for_seconds: float | None
    reason: str
    answered_seconds_ago: float | None
    problem: str = ""
    clock_ahead_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return {
            "url": self.url,
            "reachable": self.reachable,
            "for_seconds": self.for_seconds,
            "reason": self.reason,
            "answered_seconds_ago": self.answered_seconds_ago,
            "problem": self.problem,
            "clock_ahead_seconds": self.clock_ahead_seconds,
        }

    @classmethod
    def from_json(cls, value: object) -> ApiReport:
        """Given what `to_json` of some version returned, return it. Raise ValueError."""
        told = Told(value)
        return cls(
            url=told.text("url"),
            reachable=told.flag("reachable"),
            for_seconds=told.seconds("for_seconds"),
            reason=told.text("reason"),
            answered_seconds_ago=told.seconds("answered_seconds_ago"),
            problem=told.text("problem", ""),
            clock_ahead_seconds=told.number("clock_ahead_seconds"),
        )


@dataclass(frozen=True, slots=True)
class AgentReport:
    """How an agent stands. `slots_limit` is None where there is none.

    `ends_with` is the unit with which systemd ends its flow runs, "" where none does. `takes_none_because` and
    `unfit_because` are sentences, "" where it takes flow runs and can start them.
    """

    instance: str
    version: str
    labels: tuple[str, ...]
    api: ApiReport
    slots_limit: int | None
    slots_taken: int
    draining: bool
    takes_none_because: str
    unfit_because: str
    runs: tuple[RunReport, ...]
    name: str = ""
    launcher: str = ""
    ends_with: str = ""
    slots_free: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as `from_json` reads it."""
        return {
            "format": FORMAT,
            "version": self.version,
            "instance": self.instance,
            "name": self.name,
            "labels": list(self.labels),
            "launcher": self.launcher,
            "ends_with": self.ends_with,
            "api": self.api.to_json(),
            "slots": {"limit": self.slots_limit, "taken": self.slots_taken, "free": self.slots_free},
            "draining": self.draining,
            "takes_none_because": self.takes_none_because,
            "unfit_because": self.unfit_because,
            "runs": [run.to_json() for run in self.runs],
        }

    @classmethod
    def from_json(cls, value: object) -> AgentReport:
        """Given what `to_json` of some version returned, return it. Raise ValueError."""
        told = Told(value)
        slots = Told(told.value("slots"))
        return cls(
            instance=told.text("instance"),
            version=told.text("version"),
            labels=tuple(_text(label, "labels") for label in told.list("labels")),
            api=ApiReport.from_json(told.value("api")),
            slots_limit=slots.count("limit"),
            slots_taken=slots.count("taken") or 0,
            draining=told.flag("draining"),
            takes_none_because=told.text("takes_none_because"),
            unfit_because=told.text("unfit_because"),
            runs=tuple(map(RunReport.from_json, told.list("runs"))),
            name=told.text("name", ""),
            launcher=told.text("launcher", ""),
            ends_with=told.text("ends_with", ""),
            slots_free=slots.count("free"),
        )


class Told:
    """A JSON object that somebody sent: each method returns a field, or raises ValueError where it is of another kind.

    A field that is missing or null is the default where there is one, and wrong where there is none.
    """

    def __init__(self, value: object) -> None:
        """Raise ValueError where it is no object."""
        if not isinstance(value, dict):
            raise ValueError("not an object")  # noqa: TRY004 - one error for all that is not of our format
        self._fields: dict[str, object] = value

    def value(self, name: str) -> object:
        """Return what is in a field, None where there is nothing."""
        return self._fields.get(name)

    def text(self, name: str, default: str | None = None) -> str:
        """Return the text in a field."""
        value = self.value(name)
        return default if value is None and default is not None else _text(value, name)

    def flag(self, name: str) -> bool:
        """Return the truth value in a field."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise ValueError(f"{name} is neither true nor false")  # noqa: TRY004 - as above
        return value

    def count(self, name: str) -> int | None:
        """Return the whole number in a field, None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_COUNT:
            raise ValueError(f"{name} is no count")
        return value

    def number(self, name: str) -> float | None:
        """Return the number in a field, None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_MAX_COUNT < value < _MAX_COUNT:
            raise ValueError(f"{name} is no number")
        return float(value)

    def seconds(self, name: str) -> float | None:
        """Return the span in a field, None where there is none."""
        number = self.number(name)
        if number is not None and number < 0:
            raise ValueError(f"{name} is no span of time")
        return number

    def time(self, name: str) -> datetime | None:
        """Return the time in a field, None where there is none. In UTC, as one without a zone is meant."""
        text = self.text(name, "")
        try:
            time = datetime.fromisoformat(text) if text else None
            return time and (time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC))
        except OverflowError as error:
            raise ValueError(f"{name} is out of bounds") from error

    def list(self, name: str) -> list[object]:
        """Return the list in a field."""
        value = self.value(name)
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")  # noqa: TRY004 - as above
        return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is no text")  # noqa: TRY004 - as above
    return value
