"""Run inside a booted Debian, as root: many scopes end at the same moment. Prints what that took, as JSON.

    python many_scopes.py FOLDER COUNT

An even one's flow run exits with 0, an odd one's with 3; the last one leaves a daemon behind.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local_agent.aio.clock import SystemClock
from local_agent.aio.threads import Workers
from local_agent.launchers import LiveRun
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.output import FileOutput
from local_agent.launchers.parts import Parts
from local_agent.launchers.room import MachineRoom
from local_agent.launchers.scope import Place, ScopeLauncher
from local_agent.limits import Limits
from local_agent.model import Child, End, Record, Step
from local_agent.settings import Settings
from local_agent.systemd.manager import DBusScopeManager

_NOW = datetime.now(UTC)


class _Counted(DBusScopeManager):
    """Counts what systemd is asked."""

    asked = 0

    async def _asked(self, *given: Any) -> Any:  # noqa: ANN401 - as its base has it
        self.asked += 1
        return await super()._asked(*given)


def _nothing_is_set() -> Settings:
    raise AssertionError


class _Nobody:
    def follow(self, record: Record, path: str | Path) -> None:
        """Read nothing."""

    def resume(self, record: Record, path: str | Path) -> None:
        """Read nothing."""


def _record() -> Record:
    run = str(uuid.uuid4())
    return Record(run, "many", "many", "nonce", Step.RUNNING, "boot", _NOW, _NOW)


async def _watch_to_the_end(process: LiveRun) -> tuple[End, float]:
    """Return how it ended, and after how many seconds that was known."""
    await process.ended()
    began = time.monotonic()
    await process.sweep()
    end = await process.evidence()
    await process.release()
    return end, time.monotonic() - began


async def _many(folder: Path, count: int) -> dict[str, object]:
    manager = _Counted("SYSTEM")
    files = Belongings(folder.joinpath, Workers("files", 1), lambda *_: None)
    parts = Parts(files, FileOutput(_Nobody()), SystemClock(), MachineRoom(_nothing_is_set))
    launcher = ScopeLauncher(manager, Place("many.slice", ""), parts)
    wait = 'exec 9>/dev/null; flock -s "$1/lock" sh -c "echo told; $2"'
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        processes = []
        for number in range(count):
            then = "setsid sleep 3600 >&- 2>&- & exit 0" if number == count - 1 else f"exit {number % 2 * 3}"
            child = Child(("/bin/sh", "-c", wait, "sh", str(folder), then), {"PATH": "/usr/bin:/bin"}, folder)
            processes.append(await launcher.launch(_record(), child, Limits()))
            processes[-1].open_gate()
        await asyncio.sleep(1)  # what PID 1 still has to do for the starts is not what is measured
        asked = manager.asked
        began = time.monotonic()
    ends = await asyncio.gather(*(_watch_to_the_end(process) for process in processes))
    told = sorted(seconds for _, seconds in ends)
    await manager.close()
    return {
        "asked": manager.asked - asked,
        "codes": sorted(end.exit_code or 0 for end, _ in ends),
        "median_seconds": told[len(told) // 2],
        "last_seconds": told[-1],
        "all_seconds": time.monotonic() - began,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_many(Path(sys.argv[1]), int(sys.argv[2])))))
