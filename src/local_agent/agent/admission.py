"""May this agent take one more flow run now, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_agent.settings import Settings


class Room(Protocol):
    """What the launcher says of the place where flow runs run; its own Protocol tells what each means."""

    def room(self, held: int) -> str:
        """Return why there is no room, "" where there is."""

    def note_taken(self) -> None:
        """Note one that was taken."""


class Boundless:
    """Where there always is room."""

    def room(self, held: int) -> str:  # noqa: ARG002 - the Protocol's
        """Nothing is against any."""
        return ""

    def note_taken(self) -> None:
        """Nothing follows from it."""


class Admission:
    """Counts places, and asks the launcher whether there is room for what they take.

    A place is held from before the claim until nothing of the run lives any more. `unfit` says why none could be
    started at all.
    """

    def __init__(
        self, settings: Callable[[], Settings], launcher: Room | None = None, unfit: Callable[[], str] = str
    ) -> None:
        self._settings = settings
        self._launcher = launcher or Boundless()
        self._unfit = unfit
        self._held: set[str] = set()
        self._lent: dict[str, str] = {}  # who has the place of a flow run that waits for it
        self._on_leave: Callable[[], None] = lambda: None
        self.draining = False
        self.stopping = False

    def when_one_leaves(self, on_leave: Callable[[], None]) -> None:
        """Have `on_leave` called when a place becomes free."""
        self._on_leave = on_leave

    @property
    def held(self) -> int:
        """How many places are taken. A place that was lent counts once."""
        return len(self._held) - len(self._lent)

    def free(self) -> int | None:
        """Return how many places are free, None where there is no limit."""
        limit = self._settings().limit
        return None if limit is None else max(0, limit - self.held)

    def take(self, flow_run_id: str, parent: str = "") -> bool:
        """Take a place, unless there is a reason not to.

        Where all are taken, a flow run may have that of its `parent`, which has created it and waits for it. Otherwise
        parents would hold all places and wait for ever for children that find none.
        """
        is_full = self.free() == 0
        if (is_full and not self.may_lend(parent)) or self._reason_beside_places():
            return False
        if is_full:
            self._lent[parent] = flow_run_id
        self._held.add(flow_run_id)
        self._launcher.note_taken()
        return True

    def may_lend(self, flow_run_id: str) -> bool:
        """Tell whether a flow run has a place here that it has not lent yet."""
        return flow_run_id in self._held and flow_run_id not in self._lent

    def hold(self, flow_run_id: str) -> None:
        """Count a run that lives here already, limit or not."""
        self._held.add(flow_run_id)

    def leave(self, flow_run_id: str) -> None:
        """Free a place. One that is free already stays so."""
        if flow_run_id in self._held:
            self._held.remove(flow_run_id)
            self._lent.pop(flow_run_id, None)  # then whoever has its place keeps that
            self._lent = {parent: child for parent, child in self._lent.items() if child != flow_run_id}
            self._on_leave()

    @property
    def lacks_only_places(self) -> bool:
        """Whether nothing but the limit keeps further runs from being taken."""
        return self.free() == 0 and not self._reason_beside_places()

    def reason_against(self) -> str:
        """Return why no further run is taken, "" where one may be."""
        if self.free() == 0 and not (self.stopping or self.draining):
            return f"all {self._settings().limit} places are taken"
        return self._reason_beside_places()

    def _reason_beside_places(self) -> str:
        if self.stopping:
            return "the agent is stopping"
        if self.draining:
            return "draining"
        return self._unfit() or self._launcher.room(len(self._held))
