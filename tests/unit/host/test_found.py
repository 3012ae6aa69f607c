"""Agents that are no packaged instances: whose process is one, how they are called, what is said of where they run."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from local_agent import events
from local_agent.host.reading.agents import StateFolder
from local_agent.host.reading.found import found_folders, is_agent, user_name
from local_agent.host.reading.instances import Instance
from local_agent.host.reading.past import Past
from local_agent.host.reading.place import Place, place_of
from unit.host.fakes import asked_of, fake_journal, run_id

# holds the lock of a state folder as an agent does; ends with its standard input
_HOLDS = "import sys; held = open(sys.argv[3] + '/lock', 'w'); print('held', flush=True); sys.stdin.read()"

_SUPERVISES = """
import subprocess, sys
with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
    print(child.pid, flush=True)
    sys.stdin.read()
    child.communicate()
"""


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ("/usr/bin/python3 -I /usr/bin/local-agent start --instance prod1", True),
        ("/opt/flows/venv/bin/python3.11 /opt/flows/venv/bin/local-agent start", True),
        ("python -m local_agent start", True),
        ("local-agent start", True),
        ("/usr/bin/python3 -I /usr/bin/local-agent status", False),
        ("sudo local-agent start", False),
        ("/bin/sh -c local-agent start", False),
        ("man local-agent start", False),
        ("python -m local_agent config", False),
        ("python -m", False),
        ("", False),
    ],
)
def test_whose_command_line_is_an_agents(line: str, is_one: bool) -> None:
    assert is_agent(line.split()) == is_one


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose lock a process holds that is called like an agent."""
    # other tests have agents on this machine, too, and their folders other names
    program, folder = tmp_path / "local-agent", tmp_path / f"state-{uuid.uuid4()}"
    program.write_text(_HOLDS)
    folder.mkdir()
    words = [sys.executable, str(program), "start", f"--state-dir={folder}"]
    script = _HOLDS.replace("sys.argv[3]", "sys.argv[2].partition('=')[2]")
    program.write_text(script)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield folder
        process.communicate()


def _found(folder: Path, known: list[StateFolder]) -> list[StateFolder]:
    return [one for one in found_folders(os.geteuid(), known) if one.path == folder]


def test_an_agent_is_found_by_its_process(folder: Path) -> None:
    (found,) = _found(folder, [])
    assert (found.instance, found.uid, found.is_anybodys) == (folder.name, os.geteuid(), False)
    place = place_of(found, found.pid, "")
    assert place is not None
    assert place.pid == found.pid
    if os.geteuid() == 0:
        assert place.log.endswith("reads it from a pipe")


def test_a_folder_whose_name_is_a_command_is_left_alone(folder: Path) -> None:
    """`doctor` prints commands with it for root to type."""
    odd = folder.rename(folder.with_name("x;$(reboot)"))
    assert _found(odd, []) == []
    odd.rename(folder)


def test_one_that_supervisord_has_started(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        return  # others cannot see where its output goes
    supervisor = tmp_path / "supervisord"
    supervisor.write_text(f"#!{sys.executable}\n{_SUPERVISES}")
    supervisor.chmod(0o755)
    with subprocess.Popen([str(supervisor)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        place = place_of(StateFolder("x", tmp_path, 0), child, "another.service")
        process.communicate()
    assert place is not None
    assert place.log == "supervisorctl status names it, supervisorctl tail -f NAME shows it"
    assert place.ends_with == "", "what it says of units that it is not in is not believed"
    assert place.is_new


def test_who_begins_need_not_answer_yet(folder: Path) -> None:
    place = place_of(StateFolder("x", folder, os.geteuid()), os.getpid(), "")
    assert place is not None
    new, old = (replace(place, age_seconds=age) for age in (0.5, 600.0))
    assert Instance("x", None, None, may_ask=True, place=new).problem == ""
    assert "does not answer" in Instance("x", None, None, may_ask=True, place=old).problem


def test_it_is_one_of_those_that_are_known_already(folder: Path) -> None:
    known = StateFolder("mine", folder, os.geteuid())
    (found,) = _found(folder, [known])
    assert found.instance == "mine"
    assert found.pid


def test_two_of_one_name_are_told_apart(folder: Path, tmp_path: Path) -> None:
    user = user_name(os.geteuid())
    taken = StateFolder(folder.name, tmp_path, os.geteuid())
    (found,) = _found(folder, [taken])
    assert found.instance == f"{user}/{folder.name}"
    assert found.name == folder.name
    (found,) = _found(folder, [taken, StateFolder(f"{user}/{folder.name}", tmp_path / "none", os.geteuid())])
    assert found.instance == f"{user}:{folder}"
    assert found.name == folder.name


def test_a_folder_whose_lock_is_another_file_is_not_its(folder: Path) -> None:
    if os.geteuid() != 0:
        return  # others cannot see what a process has open
    (folder / "lock").unlink()
    (folder / "lock").touch()
    assert _found(folder, []) == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (
            Place(7, 0, "a.service", "system", Path("/s"), "a.service", "journalctl -u x"),
            "runs as root, process 7 in a.service; its flow runs end with a.service; its log: journalctl -u x",
        ),
        (Place(7, 0, "", "", Path("/s"), "", "x"), "runs as root, process 7 in no unit of systemd; its log: x"),
        (
            Place(7, 0, "mine.service", "user", Path("/s"), "", "x"),
            "runs as root, process 7 in the user's own mine.service; its log: x",
        ),
    ],
)
def test_where_it_runs_in_words(place: Place, words: str) -> None:
    assert place.in_words == words


def test_others_are_believed_about_their_own_runs_only(tmp_path: Path) -> None:
    def said(uid: int, instance: str, number: int, how: str) -> dict[str, str]:
        return {
            "_UID": str(uid),
            "LOCAL_AGENT": instance,
            "FLOW_RUN_ID": run_id(number),
            "FLOW_RUN_NAME": f"run-{number}",
            events.field_of("how"): how,
            "MESSAGE_ID": events.ENDED.message_id,
            "__REALTIME_TIMESTAMP": "1000000",
        }

    entries = [
        said(1000, "default", 1, "a lie about what is alice's"),
        said(1000, "prod1", 1, "a lie"),
        said(1000, "default", 2, "of her own"),
        said(1001, "default", 3, "of nobody"),
    ]
    past = Past(fake_journal(tmp_path, entries), {990}, {(1000, "default"): "alice/default"})
    # the journal here answers both questions with the same entries: the first is about those who are believed
    runs = past.ended(10, instance="alice/default")
    assert {(run.id, run.how) for run in runs} == {
        (run_id(1), "a lie about what is alice's"),
        (run_id(2), "of her own"),
    }
    _, believed, others = asked_of(tmp_path)
    assert believed.count("_UID=0 _UID=990") == 3
    assert "1000" not in believed
    assert "_UID=1000" in others
    assert "_UID=990" not in others
