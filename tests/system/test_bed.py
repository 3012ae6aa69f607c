"""The bed itself: what the other tests of this folder take for granted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.cgroups import unified_hierarchy
from support.checkout import CHECKOUT
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_systemd_is_the_release_own(machine: Machine) -> None:
    expected = {12: "252", 13: "257"}[machine.release]
    assert machine.run("systemctl --version").stdout.split()[1] == expected
    assert machine.run(["cat", "/proc/1/comm"]).stdout == "systemd\n"
    assert machine.run("systemctl is-system-running").stdout == "running\n"


def test_transient_scope_has_a_cgroup_of_its_own(machine: Machine) -> None:
    result = machine.run("systemd-run --scope --unit=bed-test.scope cat /proc/self/cgroup")
    assert "0::/system.slice/bed-test.scope" in result.stdout


def test_journal_keeps_a_line_with_its_identifier(machine: Machine) -> None:
    machine.run("echo from the bed | systemd-cat -t bed-test")
    machine.wait_until("journalctl --no-pager -t bed-test -o cat | grep -q 'from the bed'")


def test_user_manager_can_be_reached(machine: Machine) -> None:
    machine.linger("alice")
    result = machine.run("systemd-run --user --scope --quiet cat /proc/self/cgroup", user="alice")
    assert "/user@1000.service/" in result.stdout


def test_agent_comes_from_this_checkout(machine: Machine) -> None:
    code = "import local_agent, graphql; print(local_agent.__file__)"
    assert machine.run([machine.agent_python, "-c", code]).stdout.startswith("/opt/local-agent/src/")
    assert machine.run("local-agent --version").stdout.startswith("local-agent")


def test_prefect_is_there_for_flows(machine: Machine) -> None:
    version = machine.run([machine.flows_python, "-c", "import prefect; print(prefect.__version__)"])
    assert version.stdout == "1.4.1\n"


def test_files_go_in_and_come_out(machine: Machine, tmp_path: Path) -> None:
    machine.write("/etc/bed/one.conf", "one\n", mode=0o600)
    assert machine.run("stat -c %a /etc/bed/one.conf").stdout == "600\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "two").write_text("two\n")
    machine.copy_in(folder, "/etc/bed/copied")
    assert machine.read("/etc/bed/copied/two") == "two\n"


def test_command_that_fails_or_hangs_says_so(machine: Machine) -> None:
    with pytest.raises(AssertionError, match=r"exit code 3\nfor this reason"):
        machine.run("echo for this reason >&2; exit 3")
    with pytest.raises(AssertionError, match=r"did not end within 0\.5 s"):
        machine.run("sleep 1000", timeout_seconds=0.5)
    machine.wait_until("! pgrep -x sleep")


def test_spawned_command_ends_with_the_test(machine: Machine) -> None:
    process = machine.spawn("echo started; exec sleep 1000")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    machine.reset()
    machine.wait_until("! pgrep -x sleep")


_BOOT_AND_WAIT = """\
import sys
from support.machine import Machine
with Machine(13) as machine:
    print(machine._container.name, machine._container.leader_pid, flush=True)
    sys.stdin.read()
"""


def _boot_elsewhere() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _BOOT_AND_WAIT],
        cwd=CHECKOUT / "tests",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _left_of(name: str) -> list[Path]:
    places = [unified_hierarchy(), Path("/run/local-agent-machines"), Path("/run/systemd/nspawn/propagate")]
    return [place / name for place in places if (place / name).exists()]


def test_nothing_is_left_of_a_machine() -> None:
    with Machine(13) as machine:
        name = machine._container.name
        assert _left_of(name)
    assert _left_of(name) == []
    assert name not in Path("/proc/self/mounts").read_text()


def test_nothing_is_left_when_its_process_is_killed() -> None:
    with _boot_elsewhere() as killed:
        assert killed.stdout is not None
        name, leader_pid = killed.stdout.readline().split()
        killed.kill()
    with Machine(12):
        assert _left_of(name) == []
        stat = Path("/proc", leader_pid, "stat")
        assert not stat.exists() or ") Z " in stat.read_text()  # whose parent was killed, PID 1 waits for it
