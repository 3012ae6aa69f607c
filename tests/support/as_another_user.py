"""Run as a program: end a process group with the rights of whoever runs this, and say what is left of it."""

from __future__ import annotations

import asyncio
import sys

from local_agent.aio.clock import SystemClock
from local_agent.launchers.group import end_group


async def _left(group: int) -> list[str]:
    left = await end_group(group, lambda _: True, 0.1, SystemClock())
    return [member.name for member in left]


if __name__ == "__main__":
    sys.stdout.write(" ".join(asyncio.run(_left(int(sys.argv[1])))))
