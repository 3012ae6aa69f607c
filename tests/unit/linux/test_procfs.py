"""What /proc tells, asked about processes of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local_agent.linux import procfs
from support.api_client import wait_until


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    with subprocess.Popen([sys.executable, "-S", "-E", "-c", "import time; time.sleep(3600)"]) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_its_start_time_and_boot(sleeper: subprocess.Popen[bytes]) -> None:
    identity = procfs.identity_of(sleeper.pid)
    assert identity is not None
    assert identity.pid == sleeper.pid
    assert identity.boot_id == procfs.boot_id()
    assert procfs.is_alive(identity)
    assert not procfs.is_alive(replace(identity, start_ticks=identity.start_ticks - 1)), "a recycled pid"
    assert not procfs.is_alive(replace(identity, boot_id="another")), "the same pid before a reboot"


def test_a_zombie_is_no_process_any_more(sleeper: subprocess.Popen[bytes]) -> None:
    identity = procfs.identity_of(sleeper.pid)
    assert identity is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert procfs.identity_of(sleeper.pid) is None
    assert not procfs.is_alive(identity)
    sleeper.wait()
    assert procfs.identity_of(sleeper.pid) is None


def test_a_name_with_parentheses_and_blanks_confuses_nobody(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    shutil.copy("/bin/sleep", odd)
    with subprocess.Popen([odd, "3600"]) as process:
        try:
            wait_until(
                lambda: Path(f"/proc/{process.pid}/comm").read_text() == "a) R 1 (b\n", lambda: "it did not start"
            )
            identity = procfs.identity_of(process.pid)
            assert identity is not None
            assert _start_ticks_of_this_process() <= identity.start_ticks <= _ticks_now()
            assert procfs.is_alive(identity)
        finally:
            process.kill()


def _start_ticks_of_this_process() -> int:
    identity = procfs.identity_of(os.getpid())
    assert identity is not None
    return identity.start_ticks


def test_the_machine_says_what_is_free() -> None:
    available = procfs.available_memory_bytes()
    assert available is not None
    assert available > 1024**2


def _ticks_now() -> int:
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


@pytest.mark.parametrize("resource", ["memory", "cpu", "nonsense"])
def test_pressure_is_a_share_where_the_kernel_counts_it(resource: str) -> None:
    now = procfs.pressure_percent(resource)
    assert (now is not None) == Path(f"/proc/pressure/{resource}").exists()
    assert now is None or 0 <= now <= 100


def test_a_process_that_is_gone_has_no_cgroup() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert procfs.cgroup_of(process.pid) == ""
