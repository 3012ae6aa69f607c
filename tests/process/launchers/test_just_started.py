"""A shim is found although /proc hides it until its execve is over: from an agent that nobody may trace."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.users import as_another_user, environment, open_folder

# many descriptors that are closed on exec: an execve takes milliseconds longer, all of them before the child is open
_LAUNCH = """
import asyncio, os, resource, sys
from pathlib import Path
from local_agent.linux import dumps
from local_agent.limits import Limits
from support.launcher_bed import Bed, sh

async def launch(bed):
    process = await bed.launch(*sh("exit 0"))
    process.open_gate()
    assert (await bed.conclude(process)).is_clean

first = os.open("/dev/null", os.O_RDONLY)
most = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 50_000)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
kept = [os.dup(first) for _ in range(most - 500)]
dumps.forbid()
for number in range(20):
    folder = Path(sys.argv[1]) / str(number)
    folder.mkdir()
    asyncio.run(launch(Bed(folder)))
"""
# what ProtectProc=invisible does: only of this mount
_HIDING = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=invisible proc /proc && exec "$@"', "sh")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which any user may make others."""
    with open_folder(0o777) as folder:
        yield folder


def test_a_shim_that_is_not_to_be_seen_yet_has_not_ended(shared: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a /proc")
    words = (*_HIDING, *as_another_user(), sys.executable, "-c", _LAUNCH, str(shared))
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
