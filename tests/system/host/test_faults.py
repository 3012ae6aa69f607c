"""Faults planted for real, one at a time, on a booted Debian: the doctor finds each and names what fixes it.

What only a kernel or a boot can lack is hidden from the doctor alone, in a mount namespace of its own: pressure,
cgroups of version 2, a controller, the bus. An older systemd cannot be had here. The API's faults are the doctor's
alone, too: the settings are changed and the agent, which does not read them again, goes on as before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import player
from support.api import Api, wait_until
from support.faults import FaultyProxy
from support.machine import Machine
from system.agent.conftest import Instance
from system.host.conftest import PLAYER, PYTHON, SCRIPT

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_KEY, _KEY_FILE = "right", "/etc/local-agent/prod1.key"
_STATE = "/var/lib/local-agent"
_ROOM = "size=300M,nr_inodes=2000"
_DROP_INS = "/etc/systemd/system/local-agent@.service.d"
_SOCKET = "/run/local-agent/broker.socket"
_UNIT = "local-agent@prod1.service"
_SETTINGS = f"""\
[Service]
LoadCredential=api-key:{_KEY_FILE}
RestartSec=100ms
"""
_OWN_DROP_INS = f"/etc/systemd/system/{_UNIT}.d"
_INIT = "/opt/local-agent/src/local_agent/__init__.py"
_BROKER = "local-agent-broker.service"
_FAIL_BROKER = (
    f"systemctl start {_BROKER} && systemctl kill -s KILL {_BROKER} && until systemctl is-failed {_BROKER};"
    " do sleep 0.1; done"
)
# a user's own manager, as far as it matters to others: some systems take minutes to start one for a system's user
_MANAGER = "user@$(id -u local-agent).service"
_MANAGER_CONF = f"/run/systemd/system/{_MANAGER}.d"
_A_MANAGER = (
    f"mkdir -p {_MANAGER_CONF} && printf '[Service]\\nType=simple\\nPAMName=\\nExecStart=\\nExecStart=sleep 600\\n'"
    f" >{_MANAGER_CONF}/fault.conf && systemctl daemon-reload"
)
_NO_MANAGER = f"systemctl stop {_MANAGER}; rm -r {_MANAGER_CONF}; systemctl daemon-reload"
# what a container has no controllers of its own for is shown to the doctor as on a machine that has them all
_ALL_CONTROLLERS = "cpuset cpu io memory pids"
# journald knows the unit of a process that still lives, and tells what it threw away with a line of it that comes later
_THROWN_AWAY = "journalctl --quiet MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e | grep -q Suppressed"
_BURST = "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i + 1)); done"
_CHATTER = f"until {_THROWN_AWAY}; do {_BURST}; sleep 1.1; done"
_FIXED = "/etc/systemd/journald.conf.d/zz-local-agent-*.conf"
_SCOPE = "systemd-run --scope --quiet --unit=flow-run-chatter.scope systemd-cat sh -c"

Finding = dict[str, Any]


class Patient:
    """A machine with an agent on it, both healthy until somebody plants a fault."""

    def __init__(self, machine: Machine, api: Api) -> None:
        self.machine = machine
        self.api = api
        self.instance = Instance(machine, api)

    def settle(self) -> None:
        """Bring everything up, and wait until all is well."""
        self.machine.write("/srv/controllers", _ALL_CONTROLLERS)
        self.machine.write(PYTHON, SCRIPT, mode=0o755)
        self.machine.write(PLAYER, Path(player.__file__).read_text())
        self.machine.run(f"mount -t tmpfs -o mode=0755,{_ROOM} tmpfs {_STATE}")
        self.configure()
        self.machine.write(_KEY_FILE, _KEY, mode=0o600)
        self.machine.write(f"{_DROP_INS}/test.conf", _SETTINGS)
        self.machine.run(f"systemctl daemon-reload && systemctl enable {_UNIT}")
        self.start()

    def configure(self, api_url: str = "") -> None:
        """Write the settings: with the API that is there, or with another."""
        self.instance.configure(python=PYTHON, api_url=api_url)

    def start(self) -> None:
        """Start the agent anew, and wait until it has polled."""
        self.machine.run(f"systemctl reset-failed {_UNIT}; systemctl restart {_UNIT}", timeout_seconds=90)
        self.machine.wait_until("local-agent status")

    def wait_until_content(self) -> None:
        """Wait until the doctor complains of nothing: an agent that was just started has not polled yet."""
        wait_until(lambda: not _complaints(self.examine()[1]), lambda: str(_complaints(self.examine()[1])))

    def examine(self, seen: str = "true") -> tuple[int, list[Finding]]:
        """Return the doctor's exit code and findings; `seen` changes what the doctor gets to see."""
        shown = "mount --bind /srv/controllers /sys/fs/cgroup/cgroup.controllers"
        script = f"{shown} && {seen} && exec local-agent doctor --json"
        done = self.machine.run(["unshare", "--mount", "sh", "-c", script], check=False)
        assert done.stdout, done.stderr
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, [finding for finding in findings if _is_ours(finding, seen)]


def _is_ours(finding: Finding, seen: str) -> bool:
    """The disks of a test's machine are this machine's memory, and a kernel may measure no pressure."""
    if finding["check"] == "disk":
        return _STATE in finding["evidence"]
    return finding["check"] != "pressure" or "pressure" in seen or Path("/proc/pressure/memory").exists()


Plant = Callable[[Patient], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """How it is planted, and the finding that tells of it: the check, and part of what fixes it.

    `seen` changes only what the doctor sees. `with_it` are checks that suffer, too. Where it `fixes`, what the doctor
    names is typed, and must do it; where it `shows` what is wrong, it must show that, and `removes` takes it away.
    """

    name: str
    check: str
    fix: str
    plant: Plant | None = None
    seen: str = "true"
    verdict: str = "failure"
    with_it: frozenset[str] = frozenset()
    fixes: bool = False
    shows: str = ""
    removes: str = ""

    @contextmanager
    def planted(self, patient: Patient) -> Iterator[None]:
        """Plant it for the length of the context."""
        if self.plant is None:
            yield
            return
        with self.plant(patient):
            yield


def _typed(plant: str, undo: str, *, started: bool = False) -> Plant:
    """Plant a fault by a shell command and undo it by another; with `started` the agent is started anew then."""

    @contextmanager
    def planted(patient: Patient) -> Iterator[None]:
        try:
            patient.machine.run(plant)
            yield
        finally:
            patient.machine.run(undo)
            if started:
                patient.start()

    return planted


def _journald(settings: str, then: str) -> Plant:
    conf = "/etc/systemd/journald.conf.d/fault.conf"
    restart = "systemctl restart systemd-journald"
    return _typed(
        f"mkdir -p /etc/systemd/journald.conf.d && printf '[Journal]\n{settings}\n' >{conf} && {restart} && {then}",
        f"rm -rf {conf} {_FIXED} /var/log/journal/* && {restart} && journalctl --flush",
    )


def _secret(chmod: str) -> Plant:
    """Put the key into settings that are root's, instead of a credential."""
    path = "/etc/local-agent/prod1.toml"
    return _typed(
        f"echo 'api_key = \"{_KEY}\"' >{path} && chown root:root {path} && {chmod} {path} &&"
        f" mv {_DROP_INS}/test.conf /srv/test.conf && systemctl daemon-reload",
        f"rm {path} && mv /srv/test.conf {_DROP_INS}/test.conf && systemctl daemon-reload",
    )


def _venv(fault: str) -> Plant:
    """Have flow runs run in an environment whose pip only says that it has installed prefect; a fault is in it."""
    python = (
        "#!/bin/sh\n"
        'if [ "$2" = pip ]; then touch /srv/venv/has-prefect; exit; fi\n'
        "[ -e /srv/venv/has-prefect ] || exit 1\n"
        f'exec {PYTHON} "$@"\n'
    )

    @contextmanager
    def planted(patient: Patient) -> Iterator[None]:
        patient.machine.write("/srv/venv/bin/python", python, mode=0o755)
        patient.machine.run("touch /srv/venv/pyvenv.cfg /srv/venv/has-prefect")
        patient.instance.configure(python="/srv/venv/bin/python")
        patient.machine.run(f"local-agent reload --instance prod1 && {fault}")
        try:
            yield
        finally:
            patient.configure()
            patient.machine.run("local-agent reload --instance prod1 && rm -r /srv/venv")

    return planted


def _python(answer: str) -> Plant:
    """Replace the flows' interpreter."""
    script = f"cp {PYTHON} {PYTHON}.away && printf '#!/bin/sh\n{answer}\n' >{PYTHON}"
    return _typed(script, f"mv {PYTHON}.away {PYTHON}")


@contextmanager
def _down(patient: Patient) -> Iterator[None]:
    patient.configure("http://127.0.0.1:9")
    try:
        yield
    finally:
        patient.configure()


def _proxy(go_wrong: Callable[[FaultyProxy], object]) -> Plant:
    """Put an API into the settings that goes wrong."""

    @contextmanager
    def planted(patient: Patient) -> Iterator[None]:
        with FaultyProxy(patient.api.url) as proxy:
            go_wrong(proxy)
            patient.configure(proxy.url)
            try:
                yield
            finally:
                patient.configure()

    return planted


def _clock(ahead_seconds: float) -> Plant:
    return _proxy(lambda proxy: setattr(proxy, "ahead_seconds", ahead_seconds))


# the agent goes on with the API that it had
_API_CHANGED = frozenset(("settings in use",))
FAULTS = (
    Fault(
        "volatile journal", "journal", "Storage=persistent", verdict="warning", fixes=True,
        plant=_journald("Storage=volatile", "rm -rf /var/log/journal/*"),
    ),
    Fault(
        "no journal", "journal", "Storage=persistent", fixes=True, with_it=frozenset(("canary", "rate limit")),
        plant=_journald("Storage=none", "rm -rf /var/log/journal/* /run/log/journal/*"),
    ),
    Fault(
        "lines thrown away", "rate limit", "RateLimitBurst=0", verdict="warning", fixes=True,
        plant=_journald("RateLimitIntervalSec=1s\\nRateLimitBurst=5", f"{_SCOPE} '{_CHATTER}'"),
    ),
    Fault(
        "broker stopped", "broker", "systemctl enable --now local-agent-broker.socket", fixes=True,
        plant=_typed("systemctl stop local-agent-broker.socket", "systemctl start local-agent-broker.socket"),
    ),
    Fault(
        "broker's socket gone", "broker", "systemctl enable --now local-agent-broker.socket", fixes=True,
        plant=_typed(f"rm {_SOCKET}", f"[ -e {_SOCKET} ]"),
    ),
    Fault(
        "broker's socket closed", "broker", "systemctl enable --now local-agent-broker.socket", fixes=True,
        plant=_typed(f"chmod 0600 {_SOCKET}", f"chmod 0660 {_SOCKET}"),
    ),
    Fault(
        "broker's socket of others", "broker", "systemctl enable --now local-agent-broker.socket", fixes=True,
        plant=_typed(f"chgrp root {_SOCKET}", f"chgrp local-agent {_SOCKET}"),
    ),
    Fault("wrong key", "API key", "key", plant=_typed(f"echo wrong >{_KEY_FILE}", f"echo {_KEY} >{_KEY_FILE}")),
    Fault(
        "key's file missing", "settings", "local-agent config --instance prod1",
        plant=_typed(f"mv {_KEY_FILE} /srv/key", f"mv /srv/key {_KEY_FILE}"),
    ),
    Fault("API down", "API", "check that it runs", plant=_down, with_it=_API_CHANGED),
    Fault(
        "another server at its address", "API", "api", plant=_proxy(lambda proxy: proxy.answer_html()),
        with_it=_API_CHANGED,
    ),
    Fault("the API's clock far off", "clock", "timedatectl", plant=_clock(300), with_it=_API_CHANGED),
    Fault("the API's clock late", "clock", "timedatectl", plant=_clock(-40), verdict="warning", with_it=_API_CHANGED),
    Fault(
        "interpreter missing", "settings", "local-agent config --instance prod1",
        plant=_typed(f"mv {PYTHON} {PYTHON}.away", f"mv {PYTHON}.away {PYTHON}"),
    ),
    Fault(
        "interpreter closed to the agent", "settings", "local-agent config --instance prod1",
        plant=_typed(f"chmod 0700 {PYTHON}", f"chmod 0755 {PYTHON}"),
    ),
    Fault(
        "prefect missing", "interpreter", "prefect==1.4.1", plant=_python('exec /usr/bin/python3 "$@"'),
    ),
    Fault("prefect 3", "interpreter", "prefect==1.4.1", plant=_python("echo 3.1.0 3.12.1")),
    Fault(
        "disk full", "disk", "du -xah", shows=f"{_STATE}/full",
        removes=f"rm {_STATE}/full && mount -o remount,{_ROOM} {_STATE}",
        plant=_typed(
            f"mount -o remount,size=4M {_STATE} && ! dd if=/dev/zero of={_STATE}/full bs=64k 2>/dev/null",
            f"rm -f {_STATE}/full && mount -o remount,{_ROOM} {_STATE}",
        ),
    ),
    Fault(
        "no inodes", "disk", "du --inodes", shows=f"{_STATE}/many", removes=f"rm -r {_STATE}/many",
        plant=_typed(
            f"mkdir {_STATE}/many && cd {_STATE}/many && ! seq 3000 | xargs touch 2>/dev/null", f"rm -rf {_STATE}/many"
        ),
    ),
    Fault(
        "state folder read-only", "state folder", "remount,rw", fixes=True,
        plant=_typed(
            f"mount --bind {_STATE}/prod1 {_STATE}/prod1 && mount -o remount,bind,ro {_STATE}/prod1",
            f"umount -l {_STATE}/prod1", started=True,
        ),
    ),
    Fault(
        "a record put aside", "state folder", f"rm {_STATE}/prod1/runs/*.unreadable", verdict="warning", fixes=True,
        plant=_typed(f"touch {_STATE}/prod1/runs/x.json.unreadable", f"rm -f {_STATE}/prod1/runs/*.unreadable"),
    ),
    Fault(
        "state folder open to others", "state folder", f"chmod 0700 {_STATE}/prod1", verdict="warning", fixes=True,
        plant=_typed(f"chmod 0755 {_STATE}/prod1", f"chmod 0700 {_STATE}/prod1"),
    ),
    Fault(
        "a password that all may read", "settings", "chgrp local-agent /etc/local-agent/prod1.toml", verdict="warning",
        fixes=True, plant=_secret("chmod 0644"),
    ),
    Fault(
        "settings of root alone", "settings", "chgrp local-agent /etc/local-agent/prod1.toml", fixes=True,
        plant=_secret("chmod 0640"),
    ),
    Fault(
        "settings in a closed folder", "settings", "chgrp local-agent /etc/local-agent && chmod g+x", fixes=True,
        plant=_typed("chmod 0700 /etc/local-agent", "chmod 0755 /etc/local-agent && chgrp root /etc/local-agent"),
    ),
    Fault(
        "an interpreter that flow runs can write", "environment", f"chown root: {PYTHON}", verdict="warning",
        fixes=True,
        plant=_typed(f"chown local-agent: {PYTHON}", f"chown root: {PYTHON}"),
    ),
    Fault(
        "an environment that flow runs can write", "environment", "chown -R root: /srv/venv", verdict="warning",
        fixes=True, plant=_venv("chown -R local-agent: /srv/venv"),
    ),
    Fault(
        "an environment without prefect", "interpreter", "/srv/venv/bin/python -m pip install", fixes=True,
        plant=_venv("rm /srv/venv/has-prefect"),
    ),
    Fault(
        "an environment of another user without prefect", "interpreter", "runuser -u alice -- /srv/venv", fixes=True,
        plant=_venv("rm /srv/venv/has-prefect && chown -R alice: /srv/venv"),
    ),
    Fault(
        "state folder of root", "state folder", f"chown -R local-agent: {_STATE}/prod1", fixes=True,
        plant=_typed(f"chown root {_STATE}/prod1", f"chown local-agent {_STATE}/prod1"),
        with_it=frozenset(("instance",)),
    ),
    Fault(
        "state folder closed", "state folder", f"chmod 0700 {_STATE}/prod1", fixes=True,
        plant=_typed(f"chmod 0500 {_STATE}/prod1", f"chmod 0700 {_STATE}/prod1"),
    ),
    Fault(
        "slice masked", "canary", "systemctl unmask flowruns.slice", fixes=True,
        with_it=frozenset(("instance",)),  # its interpreter is asked in a scope, too
        plant=_typed(
            "systemctl stop flowruns.slice && systemctl mask --quiet flowruns.slice",
            "systemctl unmask --quiet flowruns.slice",
        ),
    ),
    Fault(
        "units changed", "units", "systemctl daemon-reload", verdict="warning", fixes=True,
        plant=_typed(
            f"printf '[Service]\\nNice=1\\n' >{_DROP_INS}/nice.conf",
            f"rm {_DROP_INS}/nice.conf && systemctl daemon-reload",
        ),
    ),
    Fault(
        "a setting that is none", "settings", "local-agent config --instance prod1",
        plant=_typed(
            f"echo limitt = 3 >/etc/local-agent/prod1.toml; ! systemctl restart {_UNIT}",
            "rm /etc/local-agent/prod1.toml", started=True,
        ),
        with_it=frozenset(("service",)),
    ),
    Fault(
        "service stopped", "service", f"systemctl start {_UNIT}", fixes=True,
        plant=_typed(f"systemctl stop {_UNIT}", "true", started=True),
    ),
    Fault(
        "service restarted", "service", f"journalctl -u {_UNIT}", verdict="warning", fixes=True,
        plant=_typed(
            f"systemctl kill -s KILL {_UNIT} && until systemctl show -p NRestarts {_UNIT} | grep -q =1 &&"
            " local-agent status; do sleep 0.1; done",
            "true", started=True,
        ),
    ),
    Fault(
        "another version installed", "version", f"systemctl restart {_UNIT}", verdict="warning", fixes=True,
        plant=_typed(
            f"sed -i.before 's/^__version__ = .*/__version__ = \"0.0.1\"/' {_INIT} && systemctl restart {_UNIT} &&"
            f" mv {_INIT}.before {_INIT} && until local-agent status; do sleep 0.1; done",
            "true", started=True,
        ),
    ),
    Fault(
        "broker failed", "broker", "systemctl reset-failed local-agent-broker.service", fixes=True,
        plant=_typed(_FAIL_BROKER, f"systemctl reset-failed {_BROKER}; true"),
    ),
    Fault(
        "a user who lingers", "logins", "loginctl disable-linger local-agent", verdict="warning", fixes=True,
        plant=_typed(
            f"{_A_MANAGER} && loginctl enable-linger local-agent", f"loginctl disable-linger local-agent; {_NO_MANAGER}"
        ),
    ),
    Fault(
        "a user with a manager", "logins", "systemctl stop user@", verdict="warning", fixes=True,
        plant=_typed(f"{_A_MANAGER} && systemctl start {_MANAGER}", _NO_MANAGER),
    ),
    Fault(
        "a user who may log in", "logins", "useradd --system --create-home", verdict="warning", fixes=True,
        plant=_typed(
            f"mkdir -p {_OWN_DROP_INS} && printf '[Service]\nUser=alice\n' >{_OWN_DROP_INS}/user.conf &&"
            f" systemctl daemon-reload && systemctl restart {_UNIT}",
            f"rm -r {_OWN_DROP_INS} && systemctl daemon-reload && systemctl stop {_UNIT}; userdel -r flows-prod1;"
            f" chown -R local-agent: {_STATE}/prod1",
            started=True,
        ),
    ),
    Fault(
        "no pressure", "pressure", "psi=1", verdict="warning",
        seen="{ [ ! -e /proc/pressure ] || mount -t tmpfs tmpfs /proc/pressure; }",
    ),
    Fault("cgroups of version 1", "cgroups", "unified_cgroup_hierarchy=1", seen="mount -t tmpfs tmpfs /sys/fs/cgroup"),
    Fault(
        "no memory controller", "cgroups", "cgroup_enable=memory", verdict="warning",
        seen="echo cpu io pids >/run/controllers && mount --bind /run/controllers /sys/fs/cgroup/cgroup.controllers",
    ),
    Fault(
        "no bus", "systemd", "systemctl status dbus", seen="mount -t tmpfs tmpfs /run/dbus",
        with_it=frozenset(("canary", "instance")),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def patient(booted: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Patient]:
    """A healthy one, which the tests of this file share."""
    with Api(tmp_path_factory.mktemp("api") / "server.db", key=_KEY) as api:
        patient = Patient(booted, api)
        patient.settle()
        yield patient
        booted.reset()


def _complaints(findings: list[Finding]) -> dict[str, Finding]:
    return {finding["check"]: finding for finding in findings if finding["verdict"] != "ok"}


def test_the_doctor_is_silent_about_a_healthy_host(patient: Patient) -> None:
    code, findings = patient.examine()
    assert (code, _complaints(findings)) == (0, {})
    assert len(findings) >= 15


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_found(patient: Patient, fault: Fault) -> None:
    with fault.planted(patient):
        code, findings = patient.examine(fault.seen)
        complaints = _complaints(findings)
        found = complaints.pop(fault.check, None)
        assert found, complaints
        assert fault.fix in found["fix"]
        if fault.fixes or fault.shows:
            printed = patient.machine.run(found["fix"], timeout_seconds=90).stdout
            assert fault.shows in printed
            patient.machine.run(fault.removes or "true")
            patient.wait_until_content()
    assert found["verdict"] == fault.verdict, found
    assert found["evidence"]
    assert complaints.keys() <= fault.with_it, "it blames others"
    assert code == (1 if fault.verdict == "failure" else 0)


def test_nothing_is_left_to_complain_of(patient: Patient) -> None:
    patient.wait_until_content()


def test_labels_shared_by_accident(patient: Patient) -> None:
    """The last, because the API remembers for two minutes who polled."""
    patient.machine.write("/etc/local-agent/prod2.toml", 'labels = ["prod1"]\n')
    patient.machine.run("systemctl start local-agent@prod2", timeout_seconds=90)
    code, findings = patient.examine()
    shared = [finding for finding in findings if finding["check"] == "labels"]
    assert [finding["verdict"] for finding in shared] == ["warning", "warning"]
    assert "the same as of instance prod2 of this host" in shared[0]["evidence"]
    assert "`labels`" in shared[0]["fix"]
    assert code == 0
