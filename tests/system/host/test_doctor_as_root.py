"""Root types `doctor`, and what belongs to a user stays that user's: nothing of it is run or followed as root."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.api import wait_until
from system.host.conftest import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# an interpreter that its user may change: it leaves a trace of whom it runs as, of the terminal, of the environment
_PYTHON = """\
#!/bin/sh
: >/srv/mine/ran/uid-$(id -u)
if ( : </dev/tty ) 2>/dev/null; then : >/srv/mine/ran/terminal; fi
if [ -n "$ROOTS_SECRET" ]; then : >/srv/mine/ran/environment; fi
if ! grep -q '^NoNewPrivs:.1$' /proc/self/status; then : >/srv/mine/ran/privileges; fi
if ! grep -q '^0::/flowruns.slice/flowruns-prod1.slice/.*\\.scope$' /proc/self/cgroup; then : >/srv/mine/ran/outside; fi
if /usr/bin/python3 -I /srv/mine/key.py; then : >/srv/mine/ran/key; fi
setsid sleep 4321 </dev/null >/dev/null 2>&1 &
echo 1.4.1 3.11.2
"""
# a key of root's session, such as a ticket of Kerberos (session-keyring(7)): x86_64's numbers, as this machine's
_KEYRING = "import ctypes; libc = ctypes.CDLL(None); own = ctypes.c_int(-3)\n"
_FIND_KEY = _KEYRING + "import sys; sys.exit(libc.syscall(250, 10, own, b'user', b'ticket', 0) < 0)\n"
_WITH_KEY = (
    _KEYRING
    + """\
import os, sys
assert libc.syscall(250, 1, None) > 0 and libc.syscall(248, b'user', b'ticket', b'secret', 6, own) > 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
)
_NO_BUS = "mount -t tmpfs tmpfs /run/dbus"


@pytest.fixture
def owned(host: Host) -> Iterator[Host]:
    """An instance whose interpreter its own user may write."""
    machine = host.machine
    machine.run("mkdir -p /srv/mine/ran && chmod 0777 /srv/mine/ran")
    machine.write("/srv/mine/python", _PYTHON, mode=0o755)
    machine.write("/srv/mine/key.py", _FIND_KEY)
    machine.run("chown -R local-agent: /srv/mine/python")
    host.instance.configure(python="/srv/mine/python")
    host.instance.start()
    wait_until(lambda: host.type("status", check=False).returncode == 0, host.instance.journal)
    # the agent itself asks its interpreter at the start, in a scope: not to be taken for doctor
    asked = "test -n \"$(ls /srv/mine/ran)\" && ! systemctl list-units --plain --no-legend 'flow-run-*' | grep -q asks"
    wait_until(lambda: machine.run(asked, check=False).returncode == 0, host.instance.journal)
    machine.run("rm -f /srv/mine/ran/*")
    yield host
    machine.run("rm -rf /srv/mine")


def _traces(host: Host) -> set[str]:
    return set(host.machine.run(["ls", "/srv/mine/ran"]).stdout.split())


def _agent_uid(host: Host) -> str:
    return host.machine.run(["id", "-u", "local-agent"]).stdout.strip()


def test_a_users_interpreter_runs_as_its_user_and_out_of_reach_of_roots_terminal(owned: Host) -> None:
    done = owned.machine.run("ROOTS_SECRET=1 script -qec 'local-agent doctor' /dev/null", timeout_seconds=120)
    assert "prefect 1.4.1" in done.stdout
    assert _traces(owned) == {f"uid-{_agent_uid(owned)}"}


def test_what_a_user_runs_for_doctor_stays_in_limits_and_ends(owned: Host) -> None:
    """It is in a scope of its instance's, cannot gain privileges, and leaves nothing behind in root's session."""
    owned.machine.run("pkill -f '[s]leep 4321'", check=False)
    assert "prefect 1.4.1" in owned.type("doctor", check=False).stdout
    assert _traces(owned) == {f"uid-{_agent_uid(owned)}"}
    assert owned.machine.run(["pgrep", "-f", "sleep 4321"], check=False).stdout == ""
    assert owned.machine.run("systemctl list-units --plain --no-legend --all 'local-agent-look-*'").stdout == ""


def test_a_users_interpreter_does_not_reach_the_keys_of_roots_session(owned: Host) -> None:
    with_key = [owned.machine.agent_python, "-I", "-c", _WITH_KEY]
    assert owned.machine.run([*with_key, "/usr/bin/python3", "-I", "/srv/mine/key.py"]).returncode == 0, "it is there"
    done = owned.machine.run([*with_key, "local-agent", "doctor"], check=False, timeout_seconds=120)
    assert "prefect 1.4.1" in done.stdout
    assert _traces(owned) == {f"uid-{_agent_uid(owned)}"}


def test_where_the_bus_does_not_answer_nothing_of_a_users_is_run(owned: Host) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", f"{_NO_BUS} && exec local-agent doctor"]
    done = owned.machine.run(hidden, check=False)
    assert _traces(owned) == set()
    assert "not asked" in done.stdout
    assert "prefect 1.4.1" not in done.stdout


def test_an_instance_of_root_has_its_interpreter_left_alone(owned: Host) -> None:
    """A name for uid 0 is root, too."""
    owned.machine.run("useradd --non-unique --uid 0 --gid 0 --no-create-home toor")
    try:
        for user in ("toor", "root", "0"):
            owned.instance.drop_in(f"[Service]\nUser={user}\n")
            done = owned.type("doctor", check=False)
            assert _traces(owned) == set(), user
            assert "not asked" in done.stdout, user
    finally:
        owned.machine.run("sed -i /^toor:/d /etc/passwd /etc/shadow")


def test_settings_at_a_users_home_are_followed_with_the_users_rights(owned: Host) -> None:
    """Root may read the file that they lead to; their user may not."""
    home = owned.machine.run("getent passwd local-agent | cut -d: -f6").stdout.strip()
    owned.machine.run(f"mkdir -p {home}/.prefect && ln -s /etc/shadow {home}/.prefect/config.toml")
    try:
        done = owned.type("doctor", check=False)
        assert "config.toml: it cannot be read: Permission denied" in done.stdout.replace("\n", " "), done.stdout
        assert "root" not in done.stdout.partition("config.toml")[2].partition("\n")[0]
    finally:
        owned.machine.run(f"rm -r {home}/.prefect")


def test_a_look_that_does_not_end_is_said_and_ended(owned: Host) -> None:
    home = owned.machine.run("getent passwd local-agent | cut -d: -f6").stdout.strip()
    script = (
        "import time, local_agent.host.doctor.owner as owner\n"
        "try: owner.as_owner(owner.owner_of('local-agent', ()), {}, lambda: time.sleep(600), 1.0)\n"
        "except owner.NotAskedError as error: print(error)\n"
    )
    done = owned.machine.run([owned.machine.agent_python, "-I", "-c", script])
    assert done.stdout == "a look at it as local-agent did not come to an end\n"
    assert "owner.as_owner" not in owned.machine.run(["pgrep", "-af", "as_owner"], check=False).stdout
    assert home


def test_an_environment_that_flow_runs_can_change_is_told_of(owned: Host) -> None:
    found = {one["check"]: one for one in owned.read("doctor")["findings"]}
    assert found["environment"]["verdict"] == "warning"
    assert "/srv/mine/python" in found["environment"]["evidence"]
    owned.machine.run("chown root: /srv/mine/python")
    found = {one["check"]: one for one in owned.read("doctor")["findings"]}
    assert found["environment"]["verdict"] == "ok"
