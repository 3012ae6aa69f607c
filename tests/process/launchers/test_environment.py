"""A flow run gets exactly its environment, its shim nothing of it, and nobody reads it on the way."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from local_agent.launchers import LiveRun
from local_agent.launchers.starter import PERL, SHIM_ENV
from local_agent.limits import Limits
from local_agent.model import Child
from support.api_client import wait_until
from support.launcher_bed import Bed, pid_of, sh

_NO_PERL = "/nonexistent/perl"
_TELL = """
import os, sys
with open(sys.argv[1] + ".part", "wb") as file:
    file.write(open("/proc/self/environ", "rb").read())
os.rename(sys.argv[1] + ".part", sys.argv[1])
"""
_SECRET = "a-secret-that-nobody-sees"
_AS_THE_SHIM_HAS = {
    **{name: f"the user's {name}" for name in ("base", "cgroup", "seconds", "stopped", "folder", "gate", "token")},
    **{name: f"the user's {name}" for name in ("verdict", "code", "now", "began", "counters", "line", "file")},
}
_KEPT_BY_NO_SHELL = {
    "spark.driver.memory": "4g",
    "MY-VAR": "dash",
    "1ST": "digit first",
    "BASH_FUNC_module%%": "() {  echo module $1\n}",
    "": "no name",
    "ÄÖ ": " \n'\"\\ ",
    "NOT_UTF8": "\udcff\udcfe",
}
_CHANGED_BY_SHELLS = {"PWD": "/wrong", "OLDPWD": "/old", "IFS": ":", "PS1": "$ ", "_": "under", "SHLVL": "9"}
_ACTING_ON_SHELLS = {
    "PATH": "/opt/app/bin",
    "ENV": "/nonexistent/env",
    "BASH_ENV": "/nonexistent/env",
    "SHELLOPTS": "xtrace",
    "PERL5OPT": "-Mnonexistent",
    "PERL5LIB": "/nonexistent",
    "PYTHONHOME": "/nonexistent",
    "PYTHONSTARTUP": "/nonexistent",
    "POSIXLY_CORRECT": "1",
    "LC_ALL": "tlh_KL.UTF-8",
    "CDPATH": "/tmp",
}
_ALL = {**_AS_THE_SHIM_HAS, **_KEPT_BY_NO_SHELL, **_CHANGED_BY_SHELLS, **_ACTING_ON_SHELLS, "SECRET": _SECRET}


def _as_read(folder: Path) -> dict[str, str]:
    entries = (folder / "environ").read_bytes().split(b"\0")[:-1]
    return dict(os.fsdecode(entry).partition("=")[::2] for entry in entries)


# -I: this python is not to act on it
_TELLER = (sys.executable, "-I", "-S", "-c", _TELL)


@pytest.mark.parametrize("limits", [Limits(), Limits(runtime_max_seconds=60)], ids=["no deadline", "deadline"])
@pytest.mark.parametrize("perl", [PERL, _NO_PERL])
async def test_every_variable_arrives_and_no_other(bed: Bed, limits: Limits, perl: str) -> None:
    child = Child((*_TELLER, f"{bed.folder}/environ"), _ALL, bed.folder)
    process = await bed.launcher_with(perl).launch(bed.record, child, limits)
    process.open_gate()
    assert (await bed.conclude(process)).is_clean
    expected = {name: text for name, text in _ALL.items() if name or perl == PERL}
    assert _as_read(bed.folder) == expected


_PLAIN = {
    **_AS_THE_SHIM_HAS,
    **_CHANGED_BY_SHELLS,
    **_ACTING_ON_SHELLS,
    "SECRET": _SECRET,
    "TEXT": 'it\'s $HOME `id` \\ \t\n "quoted" \x01\x7f',
    "EMPTY": "",
    "READONLY": "1",
    "PS2": "> ",
    "PS4": "+ ",
    "OPTARG": "x",
    "OPTERR": "0",
    "MAIL": "/nonexistent/mail",
    "MAILPATH": "/nonexistent/mail",
    "TERM": "none",
    "HISTSIZE": "many",
    "RANDOM": "7",
    "UID": "0",
    "FUNCNAME": "f",
}


async def test_a_dash_passes_on_every_plain_variable(bed: Bed) -> None:
    """The way of most flow runs, without a process more."""
    child = Child((*_TELLER, f"{bed.folder}/environ"), _PLAIN, bed.folder)
    process = await bed.launcher.launch(bed.record, child, Limits())
    command = Path(f"/proc/{pid_of(process)}/cmdline")
    wait_until(lambda: "\0plain\0" in _read(command), lambda: _read(command))
    process.open_gate()
    assert (await bed.conclude(process)).is_clean
    assert _as_read(bed.folder) == _PLAIN


@pytest.mark.parametrize("name", ["LINENO", "OPTIND", "PPID"])
async def test_what_a_dash_keeps_for_itself_arrives_too(bed: Bed, name: str) -> None:
    child = Child((*_TELLER, f"{bed.folder}/environ"), {name: "x"}, bed.folder)
    process = await bed.launcher.launch(bed.record, child, Limits())
    process.open_gate()
    assert (await bed.conclude(process)).is_clean
    assert _as_read(bed.folder) == {name: "x"}


async def test_an_empty_environment_stays_empty(bed: Bed) -> None:
    child = Child((*_TELLER, f"{bed.folder}/environ"), {}, bed.folder)
    process = await bed.launcher.launch(bed.record, child, Limits())
    process.open_gate()
    assert (await bed.conclude(process)).is_clean
    assert _as_read(bed.folder) == {}


async def test_its_arguments_and_folder_are_its_own(bed: Bed) -> None:
    folder = bed.folder / "-a folder\n"
    folder.mkdir()
    tell = f"{{ pwd -P; tr '\\0' '|' </proc/$$/cmdline; }} >{bed.folder}/told; echo >>{bed.folder}/told"
    process = await bed.launcher.launch(bed.record, Child((*sh(tell), "$HOME", "-x", ""), {}, folder), Limits())
    process.open_gate()
    assert (await bed.conclude(process)).is_clean
    told = bed.wait_for("told")
    assert told.startswith(f"{folder}\n/bin/sh|-c|")
    assert told.endswith("|$HOME|-x||\n")


@pytest.mark.parametrize("limits", [Limits(), Limits(runtime_max_seconds=60)], ids=["no deadline", "deadline"])
async def test_nobody_reads_a_secret_on_its_way(bed: Bed, limits: Limits) -> None:
    """At the gate and behind it: not in an argument of any process, nor in a file that has a name."""
    script = f"echo up >{bed.folder}/up; while [ ! -e {bed.folder}/go ]; do /bin/sleep 0.02; done"
    process = await bed.launcher.launch(bed.record, Child(sh(script), {"SECRET": _SECRET}, bed.folder), limits)
    _check_hidden(bed, process)
    process.open_gate()
    bed.wait_for("up")
    _check_hidden(bed, process)
    assert _size_of_what_the_shim_keeps(process) == 0
    (bed.folder / "go").touch()
    assert (await bed.conclude(process)).is_clean


def _check_hidden(bed: Bed, process: LiveRun) -> None:
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if _SECRET in _read(path)]
    assert not [path for path in bed.folder.iterdir() if _SECRET in path.read_text()]
    environ = Path(f"/proc/{pid_of(process)}/environ")
    assert _SECRET not in environ.read_text()
    assert stat.S_IMODE(environ.stat().st_mode) == 0o400


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _size_of_what_the_shim_keeps(process: LiveRun) -> int:
    kept = Path(f"/proc/{pid_of(process)}/fd/3")
    assert "environment" in str(kept.readlink())
    return kept.stat().st_size


@pytest.mark.parametrize("perl", [PERL, _NO_PERL])
@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("/nonexistent/python", 127, "No such file or directory"),
        ("/", 126, "Permission denied"),
        ("python-that-nobody-has", 127, "No such file or directory"),
    ],
)
@pytest.mark.parametrize("more", [{}, {"no-name-of-a-shell": "1"}], ids=["plain", "entered"])
async def test_a_command_that_cannot_be_executed(
    bed: Bed, perl: str, command: str, code: int, words: str, more: dict[str, str]
) -> None:
    child = Child((command,), {"PATH": "/usr/bin:/bin", **more}, bed.folder)
    process = await bed.launcher_with(perl).launch(bed.record, child, Limits())
    process.open_gate()
    end = await bed.conclude(process)
    assert end.exit_code == code
    assert end.last_lines[-1] == f"local-agent: cannot execute {command}: {words}"


_DESCRIPTORS = """
import os, sys
there = []
for number in range(256):
    try:
        os.fstat(number)
    except OSError:
        continue
    there.append(number)
sys.exit(0 if there == [0, 1, 2] else max(there))
"""


@pytest.mark.parametrize("limits", [Limits(), Limits(runtime_max_seconds=60)], ids=["no deadline", "deadline"])
@pytest.mark.parametrize("more", [{}, {"no-name-of-a-shell": "1"}], ids=["plain", "entered"])
@pytest.mark.parametrize("perl", [PERL, _NO_PERL])
async def test_no_descriptor_of_the_shim_is_the_flow_runs(
    bed: Bed, perl: str, more: dict[str, str], limits: Limits
) -> None:
    """An errno that it wrote into the file of its environment would mean: it has not begun, so start it again."""
    command = (sys.executable, "-I", "-S", "-c", _DESCRIPTORS)
    process = await bed.launcher_with(perl).launch(bed.record, Child(command, {"A": "1", **more}, bed.folder), limits)
    process.open_gate()
    assert (await bed.conclude(process)).is_clean


async def test_what_stands_in_the_environment_of_the_agent_is_not_for_its_shim(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/nonexistent/library.so")
    process = await bed.launch(*sh("exit 5"))
    expected = "".join(f"{name}={text}\0" for name, text in SHIM_ENV.items())
    environ = Path(f"/proc/{pid_of(process)}/environ")
    wait_until(lambda: _read(environ) != "", lambda: "it is still in the middle of its execve")
    assert _read(environ) == expected
    process.open_gate()
    assert (await bed.conclude(process)).exit_code == 5
