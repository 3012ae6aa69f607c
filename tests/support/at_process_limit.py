"""Run as a program: launch a command in FOLDER while this user may have NPROC processes, and say what came of it."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

from local_agent.errors import LocalAgentError
from local_agent.limits import Limits
from support.launcher_bed import Bed


async def _come_to(folder: Path, runtime_max_seconds: float | None, *argv: str) -> str:
    bed = Bed(folder)
    try:
        end = await bed.run(*argv, limits=Limits(runtime_max_seconds=runtime_max_seconds))
    except LocalAgentError as error:
        return f"{type(error).__name__}: {error}"
    return f"{end.cause.value} {end.exit_code}"


if __name__ == "__main__":
    most = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
    sys.stdout.write(asyncio.run(_come_to(Path(sys.argv[1]), float(sys.argv[3]) or None, *sys.argv[4:])))
