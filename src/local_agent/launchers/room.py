"""What this machine can take now: for launchers whose flow runs are processes of it."""

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


class MachineRoom:
    """Looks at the machine's pressure and free memory, and counts open files.

    `most_live` is how many flow runs this process has files for (capacity.py), None for any number. `pressure_percent`
    and `available_bytes` read the machine (procfs has the real ones).
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        most_live: int | None = None,
        pressure_percent: Callable[[str], float | None] = procfs.pressure_percent,
        available_bytes: Callable[[], int | None] = procfs.available_memory_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._most_live = most_live
        self._pressure_percent = pressure_percent
        self._available_bytes = available_bytes
        self._monotonic = monotonic
        self._taken_at: deque[float] = deque(maxlen=_RAMP_RUNS)
        self._short = False

    def note_taken(self) -> None:
        """Note that a flow run is about to start, whose load does not show yet."""
        self._taken_at.append(self._monotonic())

    def reason_against(self, held: int) -> str:
        """Return why no further flow run is taken beside those `held`, "" where one may be."""
        if self._most_live is not None and held >= self._most_live:
            return f"{held} flow runs live, as many as it may open files for (LimitNOFILE= in the unit)"
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
            return f"only {in_bytes(free)} of memory free, below min_free_memory ({in_bytes(least)})"
        return ""
