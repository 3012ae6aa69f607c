"""journald's limit of lines, lifted for the scopes of flow runs.

Of what a unit writes beyond some 10,000 lines in 30 s journald keeps nothing, the end of a traceback included, and says
so only if the same unit writes again later. LogRateLimitIntervalSec= lifts that limit, but scopes do not take it
(systemd.exec(5)). journald looks it up for a unit of any type, though, where PID 1 leaves it for services: in a link
named log-rate-limit-interval:UNIT that points to a number of microseconds [systemd 240 to 257]. This makes such links,
with 0 for "no limit".

A link stays for some minutes after its scope: what the flow run wrote last may still wait to be read by journald.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FOLDER = Path("/run/systemd/units")
_LINK = "log-rate-limit-interval:"
_LOADED = "invocation:"  # what PID 1 leaves of each unit that it has started, until it unloads it
_SCOPE = "flow-run-"
_STAY_SECONDS = 600.0
_SWEEP_SECONDS = 60.0


class LineLimits:
    """The links of this machine's flow runs. Nothing is raised: a flow run without one starts all the same."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._folder = folder
        self._swept_at = 0.0

    @contextlib.contextmanager
    def lifted(self, unit: str) -> Iterator[None]:
        """Lift the limit for a scope that is started within the context; where that raises it is as before."""
        self._sweep_now_and_then()
        link = self._folder / f"{_LINK}{unit}"
        with contextlib.suppress(OSError):
            os.symlink("0", link)  # noqa: PTH211 - nothing is named by it
        try:
            yield
        except BaseException:
            if not os.path.lexists(self._folder / f"{_LOADED}{unit}"):
                with contextlib.suppress(OSError):
                    link.unlink()
            raise

    def note_end(self, unit: str) -> None:
        """Keep the link of a scope that has ended for a while, counted from now."""
        with contextlib.suppress(OSError):
            os.utime(self._folder / f"{_LINK}{unit}", follow_symlinks=False)

    def _sweep_now_and_then(self) -> None:
        now = time.monotonic()
        if not self._swept_at or now - self._swept_at > _SWEEP_SECONDS:
            self._swept_at = now
            with contextlib.suppress(OSError):
                self._sweep(set(os.listdir(self._folder)))  # noqa: PTH208 - names, of which there may be thousands

    def _sweep(self, names: set[str]) -> None:
        """Remove the links of scopes that are not loaded any more."""
        for name in names:
            unit = name.removeprefix(_LINK)
            if unit.startswith(_SCOPE) and unit != name and f"{_LOADED}{unit}" not in names:
                with contextlib.suppress(OSError):
                    self._remove_if_old(self._folder / name)

    @staticmethod
    def _remove_if_old(link: Path) -> None:
        if time.time() - link.lstat().st_mtime > _STAY_SECONDS:
            link.unlink()
