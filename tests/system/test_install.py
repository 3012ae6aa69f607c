"""What `install systemd` makes, as a booted systemd takes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from local_agent.install.files import File
from local_agent.install.plan import make_plan
from local_agent.install.render import system_files
from support.api import Api
from support.hostile import hostile_values
from support.machine import Machine

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

DUMP = "/run/dump.py"
BASE = "[Service]\nType=oneshot\nExecStart=/bin/false\n"


@pytest.fixture
def dumping(machine: Machine) -> Machine:
    """A machine whose instances write down what they were started with."""
    machine.write(DUMP, Path(__file__).with_name("dump_process.py").read_text())
    machine.write("/etc/systemd/system/local-agent@.service", BASE)
    machine.run("rm -rf /run/dumps")
    return machine


def _put(machine: Machine, files: list[File]) -> None:
    for file in files:
        machine.write(str(file.path), file.text, mode=file.mode)


def _dump(machine: Machine, instance: str) -> dict[str, Any]:
    dump: dict[str, Any] = json.loads(machine.read(f"/run/dumps/{instance}"))
    return dump


def test_hostile_words_reach_the_process_as_they_were(dumping: Machine) -> None:
    values = hostile_values(500, seed=6)
    plan = make_plan({"instance": "words"}, (dumping.agent_python, DUMP, *values))
    _put(dumping, system_files(plan))
    dumping.run("systemctl daemon-reload && systemctl start local-agent@words")
    assert _dump(dumping, "words")["argv"][1:] == [*values, "start", "--instance", "words"]


def test_hostile_paths_and_variables_reach_the_process_as_they_were(dumping: Machine) -> None:
    """Each is a folder of settings; where systemd can load a key from it, it holds one too."""
    folders = [f"/etc/local-agent/x{value.replace('/', '_')}x" for value in hostile_values(40, seed=7)]
    has_key = [not re.search(r"[\s\\\x01-\x1f\x7f]", folder) for folder in folders]
    assert 20 < sum(has_key) < 40
    for number, folder in enumerate(folders):
        flags = {"instance": f"p{number}", "config_dir": folder}
        flags |= {"api_key": f"key-{number}"} if has_key[number] else {}
        _put(dumping, system_files(make_plan(flags, (dumping.agent_python, DUMP))))
    _start(dumping, "p", len(folders))
    for number, folder in enumerate(folders):
        dump = _dump(dumping, f"p{number}")
        assert dump["environ"]["LOCAL_AGENT_CONFIG_DIR"] == folder
        assert dump["credential"] == (f"key-{number}\n" if has_key[number] else None)


def test_a_program_of_any_name_is_started(dumping: Machine) -> None:
    values = [value.replace("/", "_") for value in hostile_values(60, seed=8)]
    programs = [f"/opt/programs/x{value}x" for value in values if not re.search(r"[\\\"'\x01-\x1f\x7f]", value)]
    assert len(programs) > 30
    script = f'#!/bin/sh\nexec {dumping.agent_python} {DUMP} "$0" "$@"\n'
    for number, program in enumerate(programs):
        dumping.write(program, script, mode=0o755)
        _put(dumping, system_files(make_plan({"instance": f"n{number}"}, (program,))))
    _start(dumping, "n", len(programs))
    for number, program in enumerate(programs):
        assert _dump(dumping, f"n{number}")["argv"][1] == program


KEY = "hidden-key-1234567890"


def test_an_instance_runs_with_its_key(machine: Machine, tmp_path: Path) -> None:
    with Api(tmp_path / "api.db", key=KEY) as api:
        machine.run(["local-agent", "install", "systemd", "--instance", "prod1", *_options(machine, api)])
        assert machine.run("stat -c '%a %U' /etc/local-agent/prod1.key").stdout == "600 root\n"
        machine.run("systemctl daemon-reload && systemctl enable --now local-agent@prod1")
        machine.wait_until("systemctl show -P StatusText local-agent@prod1 | grep 'API answered'")
        machine.run("systemctl disable --now local-agent@prod1")
        shown = machine.run("systemctl cat local-agent@prod1; cat /etc/local-agent/prod1.toml").stdout
    assert KEY not in shown + machine.journal()


def test_a_user_runs_an_agent_with_its_key(machine: Machine, tmp_path: Path) -> None:
    machine.linger("alice")
    with Api(tmp_path / "api.db", key=KEY) as api:
        install = ["local-agent", "install", "systemd", "--user", "--instance", "mine", *_options(machine, api)]
        machine.run(install, user="alice")
        machine.run("systemctl --user daemon-reload && systemctl --user enable --now local-agent@mine", user="alice")
        status = "systemctl --user show -P StatusText local-agent@mine | grep 'API answered'"
        machine.wait_until(status, user="alice")
        machine.run("systemctl --user reload local-agent@mine", user="alice")
        machine.run("systemctl --user disable --now local-agent@mine", user="alice")
        machine.run("rm -r ~/.config/local-agent ~/.config/systemd ~/.local", user="alice")
    assert KEY not in machine.journal()


def _options(machine: Machine, api: Api) -> list[str]:
    return ["--api", api.url, "-k", KEY, "--label", "x y", "--python", machine.flows_python, "--output", "/"]


def _start(machine: Machine, prefix: str, count: int) -> None:
    units = " ".join(f"local-agent@{prefix}{number}" for number in range(count))
    machine.run(f"systemctl daemon-reload && systemctl start {units}")
