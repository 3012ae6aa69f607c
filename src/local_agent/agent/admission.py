"""May this machine take one more flow run now, and why not."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from local_agent.linux import procfs
from local_agent.wording import in_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from local_agent.settings import Settings

# once short, the machine must recover by this much before more is taken, or intake would flutter at the threshold
_HYSTERESIS = 0.8
_RAMP_RUNS = 2 * (os.cpu_count() or 1)
_RAMP_SECONDS = 5.0


class Admission:
    """Counts places, and looks at the machine's pressure and free memory.

    A place is held from before the claim until nothing of the run lives any more. `pressure_percent` and
    `available_bytes` read the machine (procfs has the real ones). `most_live` is how many flow runs may live at once
    whatever the settings say, None for any number: capacity.py. `unfit` says why none could be started at all.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        pressure_percent: Callable[[str], float | None] = procfs.pressure_percent,
        available_bytes: Callable[[], int | None] = procfs.available_memory_bytes,
        monotonic: Callable[[], float] = time.monotonic,
        most_live: int | None = None,
        unfit: Callable[[], str] = str,
    ) -> None:
        self._settings = settings
        self._pressure_percent = pressure_percent
        self._available_bytes = available_bytes
        self._monotonic = monotonic
        self._most_live = most_live
        self._unfit = unfit
        self._held: set[str] = set()
        self._lent: dict[str, str] = {}  # who has the place of a flow run that waits for it
        self._taken_at: deque[float] = deque(maxlen=_RAMP_RUNS)
        self._short = False
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
        self._taken_at.append(self._monotonic())
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
        if self._most_live is not None and len(self._held) >= self._most_live:
            return f"{len(self._held)} flow runs live, as many as it may open files for (LimitNOFILE= in the unit)"
        if unfit := self._unfit():
            return unfit
        reason = self._shortage(_HYSTERESIS if self._short else 1.0)
        self._short = bool(reason)
        return reason

    def _is_ramping(self) -> bool:
        """Tell whether so many were taken just now that pressure, an average over 10 s, cannot show what they cost."""
        is_full = len(self._taken_at) == _RAMP_RUNS
        return is_full and self._monotonic() - self._taken_at[0] < _RAMP_SECONDS

    def _shortage(self, strictness: float) -> str:
        settings = self._settings()
        watched = (settings.pressure_memory_percent, settings.pressure_cpu_percent, settings.min_free_memory_bytes)
        if any(limit is not None for limit in watched) and self._is_ramping():
            return f"{_RAMP_RUNS} flow runs started within {_RAMP_SECONDS:.0f} s, and their load does not show yet"
        for resource, most in (
            ("memory", settings.pressure_memory_percent),
            ("cpu", settings.pressure_cpu_percent),
        ):
            now = self._pressure_percent(resource) if most is not None else None
            if now is not None and most is not None and now > most * strictness:
                return f"{resource} pressure is {now:.0f} % (at most {most} %)"
        least = settings.min_free_memory_bytes
        free = self._available_bytes() if least is not None else None
        if free is not None and least is not None and free < least / strictness:
            return f"only {in_bytes(free)} of memory are free (at least {in_bytes(least)})"
        return ""
