"""Process groups: ended whole, never another's, and never waited for without end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_agent.model import Cause
from support.agent import is_alive
from support.api_client import wait_until
from support.launcher_bed import Bed, pid_of, sh
from support.users import as_another_user, environment

_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@contextlib.contextmanager
def _in_a_group(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script in a session of its own, and end it and its group."""
    leader = subprocess.Popen(sh(script), start_new_session=True)
    try:
        yield leader
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def test_what_is_another_users_is_named_and_not_waited_for(tmp_path: Path) -> None:
    """As a flow run leaves it that starts something with sudo."""
    told = f"echo $! >{tmp_path}/pid.part; mv {tmp_path}/pid.part {tmp_path}/pid"
    user = as_another_user()
    script = f"{' '.join(user)} sleep 3600 & {told}; exec tail -f /dev/null"
    with _in_a_group(script) as leader:
        wait_until((tmp_path / "pid").exists, lambda: "it is not up")
        other = int((tmp_path / "pid").read_text())
        wait_until(lambda: Path(f"/proc/{other}/comm").read_text() == "sleep\n", lambda: "it is not up")
        program = [*user, sys.executable, "-m", "support.as_another_user", str(leader.pid)]
        done = subprocess.run(program, env=environment(), capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("tail", "")
        assert not is_alive(other)
        assert is_alive(leader.pid)


async def test_whoever_has_the_pid_of_an_adopted_shim_by_then_is_left_alone(bed: Bed) -> None:
    process = await bed.launch(*sh(f"while [ ! -e {bed.folder}/go ]; do sleep 0.02; done; exit 5"))
    process.open_gate()
    adopted = await bed.adopt(bed.adopted(process))
    (bed.folder / "go").touch()
    await process.ended()
    await adopted.ended()
    process.detach()  # takes its exit status: the pid is free
    with _with_the_pid(pid_of(process)) as stranger:
        await adopted.stop(0.1)
        await adopted.sweep()
        assert (await adopted.evidence()).cause is Cause.CANCELLED
        assert (await bed.end_by_adopting(bed.adopted(process))).cause is Cause.EXITED
        assert stranger.poll() is None
    await adopted.release()


@contextlib.contextmanager
def _with_the_pid(pid: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a stranger that has this pid. Others take pids too, hence more than once."""
    for _ in range(1000):
        _LAST_PID.write_text(str(pid - 1))
        with _in_a_group("exec sleep 3600") as stranger:
            if stranger.pid == pid:
                yield stranger
                return
    pytest.fail(f"no process gets the pid {pid}")
