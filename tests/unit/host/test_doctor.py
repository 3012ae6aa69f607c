"""Faults planted one at a time: the doctor finds each and names what fixes it; where nothing is wrong it is content."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local_agent.backends import ApiView, Neighbour
from local_agent.host.doctor import instance as checks
from local_agent.host.doctor import interpreter, machine, services
from local_agent.host.doctor.check import Finding, Verdict, failure, ok, warning
from local_agent.host.doctor.checkup import as_json, shown, takes_by_labels
from local_agent.host.doctor.instance import Surroundings
from local_agent.host.doctor.look import Inspection
from local_agent.host.reading.agents import StateFolder
from local_agent.host.reading.gaps import DROPPED
from local_agent.host.reading.instances import Instance, Service
from local_agent.host.reading.journal import Journal
from local_agent.host.table import Terminal, width_of
from local_agent.settings import Settings, load_settings
from local_agent.store.records import Store, opened
from support import samples
from unit.host.fakes import FakeReader, fake_journal

_ROOMY = os.statvfs_result((4096, 4096, 1 << 24, 1 << 23, 1 << 23, 1 << 20, 1 << 19, 1 << 19, 0, 255))
_NO_ROOM = os.statvfs_result((4096, 4096, 1 << 24, 10, 10, 1 << 20, 1 << 19, 1 << 19, 0, 255))
_LITTLE_ROOM = os.statvfs_result((4096, 4096, 1 << 24, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 1 << 19, 0, 255))
_NO_INODES = os.statvfs_result((4096, 4096, 1 << 24, 1 << 23, 1 << 23, 1 << 20, 5, 5, 0, 255))


def _file(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _cgroups(folder: Path, controllers: str | None) -> Finding:
    if controllers is not None:
        _file(folder / "cgroup.controllers", controllers)
    return machine.check_cgroups(folder)


def _journal(folder: Path, place: str) -> Finding:
    _file(folder / place / "id" / "system.journal")
    return machine.check_journal("id", folder / "kept", folder / "passing")


def _dropped(folder: Path, text: str) -> Finding:
    said = {"MESSAGE": f"Suppressed 30 messages from {text}", "MESSAGE_ID": DROPPED, "_TRANSPORT": "driver"}
    entry = {**said, "N_DROPPED": "30"}
    return machine.check_dropped(fake_journal(folder, [entry]))


def _no_journalctl(folder: Path) -> Finding:
    readable = fake_journal(folder, [])
    return machine.check_dropped(Journal((str(folder / "gone"),), readable.folders))


def _disk(folder: Path, status: os.statvfs_result) -> Finding:
    (finding,) = machine.check_disks([folder, folder / "gone", folder], lambda _: status)
    return finding


def _broker(
    socket: str, service: str = "inactive", user: str = "local-agent", listens: Path | None = None, group: int = 0
) -> Finding:
    reader = FakeReader()
    reader.add("local-agent@prod1.service", User=user, Group="", SupplementaryGroups=[str(group)])
    listen = [("SequentialPacket", str(listens))] if listens else []
    reader.add("local-agent-broker.socket", active=socket, Listen=listen)
    reader.add("local-agent-broker.service", active=service)
    return services.check_broker(reader)


def _socket(folder: Path, mode: int) -> Path:
    path = _file(folder / "broker.socket")
    path.chmod(mode)
    return path


def _units(*, stale: bool) -> Finding:
    reader = FakeReader()
    reader.add("local-agent@prod1.service", NeedDaemonReload=stale)
    return services.check_reload(reader)


def _service(active: str = "active", restarts: int = 0, version: str = "1") -> Finding:
    service = Service("u.service", "system", active, "running", "exit-code", 78, "", restarts, None, is_enabled=True)
    findings = services.check_service(Instance("prod1", service, None, may_ask=False), version)
    return findings[-1]


def _folder(folder: Path, mode: int, user: str = "") -> Finding:
    folder.chmod(mode)
    return checks.check_folder(StateFolder("prod1", folder, os.getuid()), "prod1", user)


def _record_lost(folder: Path) -> Finding:
    with opened(Store(folder)) as store:
        store.save(samples.record(nonce=""))
    return _folder(folder, 0o700)


def _record_aside(folder: Path) -> Finding:
    _file(folder / "runs/01b8a102.json.unreadable")
    return _folder(folder, 0o700)


def _settings(folder: Path, text: str = "") -> tuple[Settings | None, Finding]:
    environ = {"LOCAL_AGENT_CONFIG_DIR": str(folder), "HOME": str(folder)}
    _file(folder / "agent.toml", text)
    settings, findings = checks.check_settings("prod1", Surroundings("", environ), "thishost")
    return settings, findings[0]


def _clock(ahead_seconds: float | None) -> Finding:
    return checks.check_clock(ApiView((), ahead_seconds), "prod1")


def _interpreter(folder: Path, answer: str) -> Finding:
    python = _file(folder / "bin" / "python", f"#!/bin/sh\n{answer}\n")
    python.chmod(0o755)
    return interpreter.check_interpreter(python, samples.NEEDS, "prod1")


@pytest.mark.parametrize(("protocol", "told"), [("prefect1", True), ("prefect3", False), (None, True)])
def test_labels_are_compared_where_flow_runs_are_taken_by_them(protocol: str | None, told: bool) -> None:
    settings: dict[str, object] = {"protocol": protocol} if protocol else {}
    assert takes_by_labels(Inspection((), settings=settings)) is told


def _labels(folder: Path, labels: str, *neighbours: Neighbour, same_here: bool = False) -> Finding:
    settings, _ = _settings(folder, f"{labels}\n")
    assert settings is not None
    others = [settings, replace(settings, instance="prod2")] if same_here else [settings]
    return checks.check_labels("prod1", settings, others, ApiView(neighbours, None))


_FAULTS: dict[str, tuple[Callable[[Path], Finding], Verdict, str]] = {
    "no systemd": (lambda _: machine.check_systemd(""), Verdict.WARNING, "boot with systemd"),
    "an old systemd": (lambda _: machine.check_systemd("247.3"), Verdict.WARNING, "upgrade"),
    "cgroups of version 1": (lambda path: _cgroups(path, None), Verdict.FAILURE, "unified_cgroup_hierarchy=1"),
    "no memory controller": (lambda path: _cgroups(path, "cpu io pids"), Verdict.WARNING, "cgroup_enable=memory"),
    "no PSI": (lambda path: machine.check_pressure(path), Verdict.WARNING, "psi=1"),
    "PSI that says nothing": (
        lambda path: machine.check_pressure(_file(path / "memory").parent), Verdict.WARNING, "psi=1",
    ),
    "a volatile journal": (lambda path: _journal(path, "passing"), Verdict.WARNING, "Storage=persistent"),
    "no journal": (lambda path: _journal(path, "nowhere"), Verdict.FAILURE, "Storage=persistent"),
    "lines dropped": (lambda path: _dropped(path, "flow-run-1.scope"), Verdict.WARNING, "RateLimitBurst=0"),
    "no journalctl": (lambda path: _no_journalctl(path), Verdict.FAILURE, "command -v"),
    "disk full": (lambda path: _disk(path, _NO_ROOM), Verdict.FAILURE, "du -xah"),
    "disk nearly full": (lambda path: _disk(path, _LITTLE_ROOM), Verdict.WARNING, "journalctl --vacuum-size"),
    "no inodes": (lambda path: _disk(path, _NO_INODES), Verdict.FAILURE, "du --inodes"),
    "broker stopped": (lambda _: _broker("inactive"), Verdict.FAILURE, "systemctl enable --now"),
    "broker failed": (lambda _: _broker("active", "failed"), Verdict.FAILURE, "systemctl enable --now"),
    "broker's socket gone": (
        lambda path: _broker("active", listens=path / "gone"), Verdict.FAILURE, "systemctl enable --now",
    ),
    "broker's socket closed": (
        lambda path: _broker("active", listens=_socket(path, 0o600), group=os.getgid()),
        Verdict.FAILURE, "systemctl enable --now",
    ),
    "broker's socket of another group": (
        lambda path: _broker("active", user="4711", listens=_socket(path, 0o660), group=os.getgid() + 1),
        Verdict.FAILURE, "systemctl enable --now",
    ),
    "units changed": (lambda _: _units(stale=True), Verdict.WARNING, "systemctl daemon-reload"),
    "service failed": (lambda _: _service("failed"), Verdict.FAILURE, "journalctl -u u.service"),
    "service restarted": (lambda _: _service(restarts=3), Verdict.WARNING, "journalctl -u u.service"),
    "folder of another": (lambda path: _folder(path, 0o700, "nobody-else"), Verdict.FAILURE, "chown -R nobody-else:"),
    "folder that cannot be written": (lambda path: _folder(path, 0o500), Verdict.FAILURE, "chmod 0700"),
    "record lost": (lambda path: _record_lost(path), Verdict.WARNING, "at the API"),
    "record put aside": (lambda path: _record_aside(path), Verdict.WARNING, "at the API"),
    "folder open": (lambda path: _folder(path, 0o755), Verdict.WARNING, "chmod 0700"),
    "wrong settings": (lambda path: _settings(path, "limitt = 3")[1], Verdict.FAILURE, "local-agent config"),
    "clock wrong": (lambda _: _clock(-300), Verdict.FAILURE, "timedatectl"),
    "clock late": (lambda _: _clock(30), Verdict.WARNING, "timedatectl"),
    "no interpreter": (
        lambda path: interpreter.check_interpreter(path / "x", samples.NEEDS, "a"), Verdict.FAILURE, "-m venv",
    ),
    "no prefect": (lambda path: _interpreter(path, "exit 1"), Verdict.FAILURE, "prefect==1.4.1"),
    "prefect 3": (lambda path: _interpreter(path, "echo 3.1.0 3.12"), Verdict.FAILURE, "prefect==1.4.1"),
    "labels shared here": (lambda path: _labels(path, "", same_here=True), Verdict.WARNING, "`labels`"),
    "labels shared there": (
        lambda path: _labels(path, "", Neighbour("other", ("prod1",))), Verdict.WARNING, "`labels`",
    ),
    "labels shared but for the host's own": (
        lambda path: _labels(path, 'labels = ["etl"]', Neighbour("other", ("etl",))), Verdict.WARNING, "`labels`",
    ),
}  # fmt: skip

_HEALTHY: dict[str, Callable[[Path], Finding]] = {
    "systemd": lambda _: machine.check_systemd("257.13-1~deb13u1"),
    "cgroups": lambda path: _cgroups(path, "cpuset cpu io memory pids"),
    "pressure": lambda path: machine.check_pressure(_file(path / "memory", "some avg10=0.00").parent),
    "journal": lambda path: _journal(path, "kept"),
    "lines of others dropped": lambda path: _dropped(path, "sshd.service"),
    "disk": lambda path: _disk(path, _ROOMY),
    "broker": lambda path: _broker("active", listens=_socket(path, 0o660), group=os.getgid()),
    "no broker needed": lambda _: _broker("inactive", user=""),
    "units": lambda _: _units(stale=False),
    "service": lambda _: _service(),
    "folder": lambda path: _folder(path, 0o700),
    "no folder": lambda _: checks.check_folder(None, "prod1", "local-agent"),
    "settings": lambda path: _settings(path, "limit = 3")[1],
    "clock": lambda _: _clock(0.4),
    "an API without a clock": lambda _: _clock(None),
    "interpreter": lambda path: _interpreter(path, "echo 1.4.1 3.11.2"),
    "labels": lambda path: _labels(path, "", Neighbour("other", ("prod1", "more")), Neighbour("prod1", ("prod1",))),
}


def test_a_fault_is_found_and_its_fix_named(tmp_path: Path) -> None:
    wrong = {}
    for fault, (plant, verdict, fix) in _FAULTS.items():
        finding = plant(_own_folder(tmp_path, fault))
        if finding.verdict is not verdict or fix not in finding.fix or not finding.evidence:
            wrong[fault] = finding
    assert not wrong
    assert len(_FAULTS) >= 15


def test_what_is_healthy_is_left_alone(tmp_path: Path) -> None:
    findings = {part: look(_own_folder(tmp_path, part)) for part, look in _HEALTHY.items()}
    assert not {part: found for part, found in findings.items() if found.verdict is not Verdict.OK or found.fix}


def _own_folder(folder: Path, name: str) -> Path:
    own = folder / name.replace(" ", "-")
    own.mkdir()
    return own


def test_a_journal_that_may_not_be_read_is_not_called_healthy(tmp_path: Path) -> None:
    assert machine.check_dropped(Journal(("false",), (tmp_path,))).verdict is Verdict.WARNING


def test_a_service_gets_its_key_and_its_environment_from_systemd(tmp_path: Path) -> None:
    reader = FakeReader()
    key = _file(tmp_path / "key", "secret-key")
    key.chmod(0o600)
    given: dict[str, Any] = {
        "LoadCredential": [("api-key", str(key))],
        "Environment": ["LOCAL_AGENT_LIMIT=7", "TZ=UTC"],
        "User": "",
        "Group": "",
        "SupplementaryGroups": [],
    }
    reader.add("local-agent@prod1.service", "", "active", **given)
    around = checks.read_surroundings(reader, "/unit/local-agent@prod1.service")
    settings, _ = checks.check_settings("prod1", replace(around, environ={**(around.environ or {})}), "thishost")
    assert settings is not None
    assert settings.limit == 7
    assert settings.api_key is not None
    assert settings.api_key.reveal() == "secret-key"


def test_how_findings_look() -> None:
    finding = failure("API", "it does not answer " * 5, "curl -v http://api", "prod1")
    lines = shown(finding, Terminal(70))
    assert lines[0].startswith("failure  prod1: API              it does not")
    assert lines[-1] == "         fix: curl -v http://api"
    assert max(map(width_of, lines)) <= 70
    assert shown(ok("systemd", "257"), Terminal()) == ["ok       systemd                 257"]
    assert shown(warning("x", "y", "z"), Terminal(colours=True))[0].startswith("\x1b[33mwarning\x1b[0m  ")


def test_what_a_script_gets() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert as_json([ok("systemd", "257"), failure("API", "no", "fix it", "prod1")], now) == {
        "format": 1,
        "at": "2026-01-01T00:00:00.000+00:00",
        "ok": False,
        "findings": [
            {"check": "systemd", "instance": None, "verdict": "ok", "evidence": "257", "fix": None},
            {"check": "API", "instance": "prod1", "verdict": "failure", "evidence": "no", "fix": "fix it"},
        ],
    }
    assert as_json([warning("x", "y", "z")], now)["ok"]


def test_settings_are_those_that_the_agent_would_read(tmp_path: Path) -> None:
    settings, _ = _settings(tmp_path, 'labels = ["a"]')
    expected = load_settings(
        flags={"instance": "prod1"},
        environ={"LOCAL_AGENT_CONFIG_DIR": str(tmp_path), "HOME": str(tmp_path)},
        hostname="thishost",
    )
    assert settings is not None
    assert settings.effective_labels == expected.effective_labels
