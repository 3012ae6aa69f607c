"""Starting a flow run, watching it, ending it.

A launcher is one way to do so: `scope` puts each flow run into a systemd scope of its own, `process` into a session of
its own where there is no systemd. A new way fulfils `Launcher`, passes tests/contract, and has its line in
`registry.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from local_agent.limits import Limits
    from local_agent.linux.cgroup import Figures
    from local_agent.model import Child, End, Handle, Record


class LiveRun(Protocol):
    """A flow run that was launched: at the gate, running, or just ended."""

    @property
    def handle(self) -> Handle:
        """What its launcher finds it by in another life of the agent. It goes into the record, and says its version."""

    @property
    def where(self) -> str:
        """Where it runs, for people: "flow-run-... .scope, PID 12"."""

    def open_gate(self) -> None:
        """Let the flow run start. To be called once, when its record is on disk."""

    async def abandon(self) -> None:
        """Instead of opening the gate, shut it for good and leave nothing behind."""

    async def ended(self) -> None:
        """Return when its process has ended, whether by itself or not."""

    def interrupt(self) -> None:
        """Ask the flow run to end by itself, and return at once.

        By its control pipe where it listens to one, else by SIGTERM to its own process and to none that it started.
        Whoever does not heed it, or cannot be asked, is for `stop`.
        """

    async def stop(self, grace_seconds: float) -> None:
        """End everything of it: SIGTERM first, SIGKILL for what is left after the grace. Return when it is gone."""

    async def sweep(self) -> None:
        """After its process has ended, end what that left behind. Return when nothing is left."""

    async def evidence(self) -> End:
        """After its process has ended, return how. To be asked once, before `release`."""

    def usage(self) -> Figures | None:
        """Return what it uses now, None where nobody counts that. May be called from any thread."""

    def end_if_outside(self) -> str:
        """End it if it has left the place that its limits hold in. Return where it went, "" where all is well.

        Raise ExhaustedError where that cannot be told now.
        """

    def detach(self) -> None:
        """Leave it running, for the agent's next life: let go of descriptors and of nothing else."""

    async def release(self) -> None:
        """Let go of everything that is held for it: descriptors, the failed scope's name, the exit record."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A flow run that lives and has no record; `launcher` is the one to say in a new one, `where` is for people."""

    id: str
    launcher: str
    handle: Handle
    where: str


class Launcher(Protocol):
    """One way to run flow runs. None of its methods blocks for longer than a file of this machine takes."""

    @property
    def name(self) -> str:
        """What the setting `launcher` calls it; stands in each record."""

    @property
    def ends_with(self) -> str:
        """The unit with which systemd ends its flow runs, "" where they outlive the agent's service."""

    def room(self, held: int) -> str:
        """Return why no flow run can be taken beside those `held` at the moment, "" where one can be.

        What is scarce where they run: pressure, memory, places in a queue. Asked for each flow run and each poll.
        """

    def note_taken(self) -> None:
        """Note that one more is about to be claimed and launched, whose load does not show yet."""

    async def reason_against(self, *, in_doubt: bool) -> str:
        """Return why none could be started at all, "" where nothing is known against it, or raise LocalAgentError.

        `in_doubt`: a launch failed, so look closer than is cheap.
        """

    def lost(self, known: AbstractSet[str], *, leftovers: bool) -> Sequence[Lost]:
        """Return the flow runs of this agent that live and are not `known`, by id. `leftovers`: and what others left.

        Asked once, at the start.
        """

    async def shut_down(self, grace_seconds: float) -> None:
        """End every flow run that ends with this process anyway, which is process 1 of a container."""

    @property
    def outlives_reboot(self) -> bool:
        """Whether its flow runs go on when this machine boots anew: then each handle reaches the disk before the gate
        opens, however suddenly the power goes."""

    async def launch(self, record: Record, child: Child, limits: Limits) -> LiveRun:
        """Start a flow run and leave it waiting at the gate. When it raises, nothing is left.

        Raise LaunchError for what is the flow run's own fault; LauncherUnavailableError, ExhaustedError or StateError
        for what is not: then the flow run is given back.
        """

    def may_live(self, record: Record) -> bool:
        """Tell whether what was launched by the time of this record can live still. No power cut ended it for sure."""

    async def adopt(self, record: Record) -> LiveRun | End:
        """Take up a flow run of an earlier process of this agent, or end what it left behind and return how it ended.

        Its name may be another launcher's, for which this one stands in (registry.py).

        A record that is still claiming has no handle, and its gate was never opened unless a trace says otherwise: what
        waits at a gate is ended, and the end is NEVER_STARTED. To be asked again is harmless. Raise
        LauncherUnavailableError, ExhaustedError or StateError where that cannot be told now: nothing is concluded then.
        """

    async def forget(self, record: Record) -> None:
        """Let go of what is kept for a flow run of an earlier process: the failed scope's name, the exit record."""
