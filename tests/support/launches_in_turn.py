"""Run inside a booted Debian, as root: launch scopes one after another for SECONDS, and print how long each took.

python launches_in_turn.py FOLDER SECONDS
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

from local_agent.aio.clock import SystemClock
from local_agent.aio.threads import Workers
from local_agent.errors import LocalAgentError
from local_agent.launchers.belongings import Belongings
from local_agent.launchers.output import FileOutput
from local_agent.launchers.parts import Parts
from local_agent.launchers.room import MachineRoom
from local_agent.launchers.scope import Place, ScopeLauncher
from local_agent.limits import Limits
from local_agent.model import Child, Record, Step
from local_agent.settings import Settings
from local_agent.systemd.manager import DBusScopeManager

_NOW = datetime.now(UTC)


def _nothing_is_set() -> Settings:
    raise AssertionError


class _Nobody:
    def follow(self, record: Record, path: str | Path) -> None:
        """Read nothing."""

    def resume(self, record: Record, path: str | Path) -> None:
        """Read nothing."""


async def _one(launcher: ScopeLauncher, folder: Path) -> tuple[float, str]:
    record = Record(str(uuid.uuid4()), "turn", "turn", "nonce", Step.RUNNING, "boot", _NOW, _NOW)
    began = time.monotonic()
    try:
        process = await launcher.launch(record, Child(("/bin/true",), {}, folder), Limits())
    except LocalAgentError as error:
        return time.monotonic() - began, error.message
    took = time.monotonic() - began
    process.open_gate()
    await process.ended()
    await process.sweep()
    end = await process.evidence()
    await process.release()
    return took, "" if end.is_clean else str(end)


async def _in_turn(folder: Path, seconds: float) -> list[tuple[float, str]]:
    manager = DBusScopeManager("SYSTEM")
    files = Belongings(folder.joinpath, Workers("files", 1), lambda *_: None)
    parts = Parts(files, FileOutput(_Nobody()), SystemClock(), MachineRoom(_nothing_is_set))
    launcher = ScopeLauncher(manager, Place("turn.slice", ""), parts)
    until, outcomes = time.monotonic() + seconds, []
    while time.monotonic() < until:
        outcomes.append(await _one(launcher, folder))
    await manager.close()
    return outcomes


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_in_turn(Path(sys.argv[1]), float(sys.argv[2])))))
