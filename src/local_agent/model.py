"""The words of this program as types. Nothing here does anything; nothing here imports anything of ours but limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from local_agent.limits import Limits

    Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
    Handle: TypeAlias = Mapping[str, Json]


class RunState(Enum):
    """What a flow run's state at the API means to an agent; the API knows finer ones."""

    WAITING = "waiting"  # Scheduled and its kin: nobody has taken it
    SUBMITTED = "submitted"  # an agent has taken it, its process has not reported yet
    RUNNING = "running"
    CANCELLING = "cancelling"  # somebody asked for an end; its process is to stop itself
    CANCELLED = "cancelled"
    FINISHED = "finished"  # any other final state
    MISSING = "missing"  # the API says that it knows no such run


@dataclass(frozen=True, slots=True)
class FlowRun:
    """A flow run as the queue handed it out: what every API has, and a part that only its own backend reads.

    `due` is when it may start; `read_at_seconds` is the monotonic time at which the API said all this.
    """

    id: str
    name: str
    flow_name: str
    due: datetime
    read_at_seconds: float
    detail: object = field(default=None, repr=False)  # a frozen class of the backend's own


@dataclass(frozen=True, slots=True)
class RunView:
    """A live flow run as the API sees it now."""

    state: RunState
    heartbeat: datetime | None = None  # None: never


class Claim(Enum):
    """What came of a claim, once it is certain."""

    OURS = "ours"
    LOST = "lost"  # another agent's, cancelled, finished or gone
    LATER = "later"  # not ours, yet still waiting: leave it alone for half a minute, then claim anew


class Cause(Enum):
    """Why a flow run's process ended."""

    EXITED = "exited"  # by itself, with an exit code
    SIGNALLED = "signalled"
    OUT_OF_MEMORY = "out-of-memory"
    DEADLINE = "deadline"  # ran longer than its runtime_max
    CANCELLED = "cancelled"  # the API asked for it and this agent enforced it
    STOPPED = "stopped"  # somebody on this host stopped its scope
    SERVICE_STOPPED = "service-stopped"  # it lived in the cgroup of the agent's service, which was stopped
    SHUTDOWN = "shutdown"  # the machine went down in an orderly way
    POWER_LOST = "power-lost"  # the machine has booted since, and nothing tells of an end
    NEVER_STARTED = "never-started"  # its gate never opened
    VANISHED = "vanished"  # its process is gone and left no record


@dataclass(frozen=True, slots=True)
class Cost:
    """What a flow run used, as its cgroup counted it; None where nothing counted."""

    cpu_seconds: float | None = None
    memory_peak_bytes: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    oom_kills: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """How a flow run's process ended, as evidence."""

    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    cost: Cost = Cost()
    limits: Limits | None = None
    last_lines: tuple[str, ...] = ()
    may_have_begun_early: bool = False  # by a wall clock that stood before the run's start, or was set back since

    @property
    def is_clean(self) -> bool:
        """Tell whether the process ended by itself with exit code 0. That says nothing about its flow."""
        return self.cause is Cause.EXITED and self.exit_code == 0


class CrashAction(Enum):
    """What to do with a flow run whose process ended without reporting its state."""

    FAIL = "fail"
    LEAVE = "leave"
    RESCHEDULE = "reschedule"


@dataclass(frozen=True, slots=True)
class CrashPolicy:
    """The action, and for `reschedule` how many times at most (otherwise 0)."""

    action: CrashAction
    times: int = 0

    def __str__(self) -> str:
        return f"reschedule({self.times})" if self.times else self.action.value


class Outcome(Enum):
    """What an end came to at the API."""

    NOTHING_TO_SAY = "nothing-to-say"  # the API knew already, or it is normal
    REPORTED = "reported"
    GIVEN_BACK = "given-back"
    RESCHEDULED = "rescheduled"
    NOT_OURS = "not-ours"  # somebody else has the run now


class Step(Enum):
    """How far a flow run's story had come when its record was written."""

    CLAIMING = "claiming"
    RUNNING = "running"  # its process exists and waits at the gate, or is past it
    ENDED = "ended"  # its end is known and not yet reported


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process, for certain: a pid is recycled, a pid with its start time on one boot is not (proc(5))."""

    pid: int
    start_ticks: int
    boot_id: str


@dataclass(frozen=True, slots=True)
class Child:
    """The command of a flow run: what to execute, with which environment, where.

    `asked` are the limits that it asked for: name -> text, named as in the table `limits` (memory_max) or as the
    variable (LOCAL_AGENT_MEMORY_MAX); what is wrong with one is told by the name that was written.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False)  # the API key is in it
    working_dir: Path | None  # on the machine where it will run; None: a new folder of its own, gone at its end
    asked: Mapping[str, str] = field(default_factory=dict, repr=False)
    stops_itself: bool = True  # it learns from the API that it was cancelled, and ends
    has_control: bool = False  # it reads the pipe that LOCAL_AGENT_CONTROL names, by which it can be interrupted
    sends_heartbeat: bool = False  # the API hears from it while it lives, so silence means something


@dataclass(frozen=True, slots=True)
class Record:
    """What the disk knows of a flow run: enough to finish its story after a kill -9 at any point."""

    id: str
    name: str
    flow_name: str
    nonce: str
    step: Step
    boot_id: str  # of the boot on which it was claimed
    due: datetime
    claimed_at: datetime
    launcher: str = ""  # by name; "" in a claim of a version that did not say
    handle: Handle = field(default_factory=dict)  # what its launcher finds it by; nobody else reads it
    limits: Limits | None = None
    end: End | None = None
    backend: str = ""  # the kind of API that it was claimed at; "" where nothing tells
    ticket: Mapping[str, object] = field(default_factory=dict)  # what that one needs to finish the story, as JSON
    stops_itself: bool = True  # as of its Child
    sends_heartbeat: bool = True  # likewise
    gate_at_seconds: float | None = None  # what the wall clock showed when the gate was about to open (Unix time)
    gate_at_monotonic_seconds: float | None = None  # and the monotonic clock of that boot
    unknown: Mapping[str, object] = field(default_factory=dict)  # what another version added, to be written back

    @property
    def label(self) -> str:
        """Name the run for people: its name and the first part of its id."""
        return f"{self.name or 'flow run'} ({self.id[:8]})"
