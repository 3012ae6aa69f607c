"""What a process may choose (its name, its cgroup's name) adds nothing to what the kernel says of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from local_agent.linux import proc

# every byte at which some language ends a line
ENDS = [b"\x0b", b"\x0c", b"\x1c", b"\x1d", b"\x1e", b"\x85", b"\r", "\u2028".encode(), "\u2029".encode()]


@pytest.mark.parametrize("end", ENDS)
def test_a_line_of_a_name_is_no_line_of_the_kernels(end: bytes) -> None:
    status = b"Name:\t" + end + b"Uid:\t0\t0\t0\t0\nUmask:\t0022\nUid:\t7\t8\t9\t10\nGid:\t1\t1\t1\t1\n"
    assert proc.uids_in(status) == {7, 8, 9, 10}
    cgroup = b"0::/real" + end + b"0::/mine\n"
    assert proc.cgroup_in(cgroup) == os.fsdecode(cgroup[3:-1])


@pytest.mark.parametrize(
    "status",
    [
        b"",
        b"Uid:\t1\t1\t1\n",
        b"Uid:\t1\t1\t1\t-1\n",
        b"Uid: 1 1 1 1\n",
        b"Uid:\t1\t1\t1\t1\nUid:\t1\t1\t1\t1\n",
        b"Uid:\tx\t1\t1\t1\n",
    ],
)
def test_what_the_kernel_does_not_write_is_nobody(status: bytes) -> None:
    assert proc.uids_in(status) == frozenset()


def test_a_cgroup_is_told_once() -> None:
    assert proc.cgroup_in(b"4:memory:/a\n1:name=systemd:/b\n0::/c d\n") == "/c d"
    assert proc.cgroup_in(b"1:name=systemd:/b\n") == ""
    assert proc.cgroup_in(b"0::/a\n0::/b\n") == ""


def test_a_name_may_be_anything() -> None:
    rest = b" S 11 22 33 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0\n"
    for name in (b"a) R 1 (b", b"\n) Z 0 0", b")", b"\xff\xfe", b""):
        stat = proc.stat_in(b"7 (" + name + b")" + rest)
        assert stat == proc.Stat(os.fsdecode(name), is_gone=False, parent=11, group=22, session=33, start_ticks=4711), (
            name
        )


@pytest.mark.parametrize("data", [b"", b"7 (a) S 1 2", b"7 (a) S x y z" + b" 0" * 30])
def test_what_is_no_stat_is_none(data: bytes) -> None:
    assert proc.stat_in(data) is None


def test_the_kernel_is_understood() -> None:
    assert proc.uids_in(proc.read("/proc/self/status")) == set(os.getresuid())
    stat = proc.stat_in(proc.read("/proc/self/stat"))
    assert stat is not None
    assert (stat.parent, stat.group, stat.session) == (os.getppid(), os.getpgrp(), os.getsid(0))
    assert proc.cgroup_in(proc.read("/proc/self/cgroup")) in Path("/proc/self/cgroup").read_text()
    assert proc.read("/proc/self/nonsense") == b""
