"""What is certain and what a file says, in every combination: no such file, gone or forged, starts a flow run twice."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from local_agent.launchers import evidence
from local_agent.launchers.evidence import Gate, Traces, conclude
from local_agent.launchers.handle import ProcessHandle
from local_agent.launchers.output import FileOutput
from local_agent.launchers.run import traces_left
from local_agent.linux.procfs import boot_id
from local_agent.model import Cause, ProcessIdentity, Record, Step
from support import samples

_TOKEN = samples.NONCE
_STARTED = "started\n"
_NEVER = f"never-started {_TOKEN}\nstopped no\n"
_UNABLE = f"{_STARTED}unable {_TOKEN} 11 126\nstopped no\n"  # EAGAIN
_UNABLE_UNKNOWN = f"{_STARTED}unable {_TOKEN} 0 2\nstopped no\n"  # it was never forked
_WRONG = f"{_STARTED}unable {_TOKEN} 7 126\nstopped no\n"  # E2BIG

_Make = Callable[[Path], object]


def _text(text: str) -> _Make:
    return lambda path: path.write_text(text)


# what is where the exit record should be, and is no word of the shim about this flow run
_NO_EVIDENCE: dict[str, _Make] = {
    "missing": lambda _: None,
    "empty": _text(""),
    "cut in the first line": _text("start"),
    "started": _text(_STARTED),
    "cut in the verdict": _text(f"{_STARTED}exit 13"),
    "garbage": lambda path: path.write_bytes(os.urandom(4096)),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "endless digits": _text(f"{_STARTED}exit {'9' * 100_000}\n"),
    "forged never-started": _text("never-started\nstopped no\n"),
    "another run's never-started": _text("never-started another\nstopped no\n"),
    "forged unable": _text(f"{_STARTED}unable another 11 126\nstopped no\n"),
    "never-started after started": _text(f"{_STARTED}{_NEVER}"),
    "pipe": lambda path: os.mkfifo(path),
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "link to a true one": lambda path: path.symlink_to(_true_one(path)),
    "link to itself": lambda path: path.symlink_to(path),
    "folder": lambda path: path.mkdir(),
}


def _true_one(path: Path) -> Path:
    other = path.with_name("other")
    other.write_text(_NEVER)
    return other


class _Nobody:
    def follow(self, record: Record, path: str | Path) -> None:
        """Read nothing."""

    def resume(self, record: Record, path: str | Path) -> None:
        """Read nothing."""


def _record(step: Step, *, same_boot: bool) -> Record:
    boot = boot_id() if same_boot else "another"
    process = ProcessIdentity(1, 1, boot) if step is Step.RUNNING else None
    return replace(samples.record(step=step), boot_id=boot, handle=ProcessHandle(process).as_json())


def _cause_of_an_earlier_life(folder: Path, make: _Make, step: Step, *, same_boot: bool = True) -> Cause:
    base = folder / "run"
    make(folder / "run.exit")
    return conclude(traces_left(_record(step, same_boot=same_boot), base, FileOutput(_Nobody()))).cause


@pytest.mark.parametrize("name", _NO_EVIDENCE)
def test_a_record_that_says_running_outweighs(tmp_path: Path, name: str) -> None:
    assert _cause_of_an_earlier_life(tmp_path, _NO_EVIDENCE[name], Step.RUNNING) is Cause.VANISHED


@pytest.mark.parametrize("name", _NO_EVIDENCE)
def test_a_record_that_says_running_on_another_boot(tmp_path: Path, name: str) -> None:
    cause = _cause_of_an_earlier_life(tmp_path, _NO_EVIDENCE[name], Step.RUNNING, same_boot=False)
    assert cause is Cause.POWER_LOST


@pytest.mark.parametrize("name", _NO_EVIDENCE)
def test_a_record_that_says_claiming(tmp_path: Path, name: str) -> None:
    """The gate opens after the record says running. Only the shim itself can say that this record was lost."""
    says_started = name in {
        "started",
        "cut in the verdict",
        "endless digits",
        "forged unable",
        "never-started after started",
    }
    expected = Cause.VANISHED if says_started else Cause.NEVER_STARTED
    assert _cause_of_an_earlier_life(tmp_path, _NO_EVIDENCE[name], Step.CLAIMING) is expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (_NEVER, Cause.NEVER_STARTED),
        (_UNABLE, Cause.NEVER_STARTED),
        (_UNABLE_UNKNOWN, Cause.NEVER_STARTED),
        (_WRONG, Cause.EXITED),
        (f"{_STARTED}exit 0\n", Cause.EXITED),
        (f"{_STARTED}exit 3\nstopped no\n", Cause.EXITED),
        (f"{_STARTED}exit 143\nstopped yes\n", Cause.STOPPED),
        (f"{_STARTED}overran 124\nstopped no\n", Cause.DEADLINE),
    ],
)
@pytest.mark.parametrize("step", [Step.CLAIMING, Step.RUNNING])
def test_the_shims_own_words_count(tmp_path: Path, step: Step, text: str, cause: Cause) -> None:
    assert _cause_of_an_earlier_life(tmp_path, _text(text), step) is cause


def _cause(folder: Path, make: _Make, gate: Gate, status: int | None) -> Cause:
    make(folder / "run.exit")
    record, _ = evidence.read_exit_record(folder / "run")
    return conclude(Traces(record, gate, _TOKEN, shim_status=status)).cause


_STATUS = {None: Cause.VANISHED, 0: Cause.EXITED, 3: Cause.EXITED, 74: Cause.EXITED, -9: Cause.SIGNALLED}


@pytest.mark.parametrize(("name", "status"), [*itertools.product([*_NO_EVIDENCE, "never-started"], _STATUS)])
def test_a_gate_that_this_agent_opened_outweighs(tmp_path: Path, name: str, status: int | None) -> None:
    make = _NO_EVIDENCE.get(name, _text(_NEVER))
    assert _cause(tmp_path, make, Gate.OPENED, status) is _STATUS[status]


@pytest.mark.parametrize(("name", "status"), [*itertools.product([*_NO_EVIDENCE, "exit"], _STATUS)])
def test_a_gate_that_this_agent_never_opened_outweighs(tmp_path: Path, name: str, status: int | None) -> None:
    make = _NO_EVIDENCE.get(name, _text(f"{_STARTED}exit 0\n"))
    assert _cause(tmp_path, make, Gate.SHUT, status) is Cause.NEVER_STARTED


@pytest.mark.parametrize(
    ("text", "status", "cause"),
    [
        (_UNABLE, 126, Cause.NEVER_STARTED),
        (_UNABLE, None, Cause.NEVER_STARTED),
        (_UNABLE_UNKNOWN, 2, Cause.NEVER_STARTED),
        (_WRONG, 126, Cause.EXITED),
        (_UNABLE, 0, Cause.EXITED),  # the shim would have exited with what it wrote
        (f"{_STARTED}exit 3\n", 3, Cause.EXITED),
        (f"{_STARTED}exit 0\n", 3, Cause.EXITED),
        (f"{_STARTED}exit 0\n", -9, Cause.EXITED),  # killed after it had written
        (f"{_STARTED}overran 124\n", 124, Cause.DEADLINE),
        (f"{_STARTED}overran 124\n", 0, Cause.EXITED),
    ],
)
def test_the_shims_words_against_its_status(tmp_path: Path, text: str, status: int | None, cause: Cause) -> None:
    assert _cause(tmp_path, _text(text), Gate.OPENED, status) is cause


def test_a_forged_code_does_not_hide_the_true_one(tmp_path: Path) -> None:
    (tmp_path / "run.exit").write_text(f"{_STARTED}exit 0\nstopped no\n")
    record, _ = evidence.read_exit_record(tmp_path / "run")
    assert conclude(Traces(record, Gate.OPENED, _TOKEN, shim_status=3)).exit_code == 3


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"cancelled": True}, Cause.CANCELLED),
        ({"result": "timeout"}, Cause.DEADLINE),
        ({"result": "oom-kill"}, Cause.OUT_OF_MEMORY),
        ({"shutting_down": True}, Cause.NEVER_STARTED),
    ],
)
def test_why_it_could_not_begin(more: dict[str, bool | str], cause: Cause) -> None:
    record = evidence.parse_exit_record(_UNABLE.removeprefix(_STARTED))
    assert conclude(Traces(record, Gate.OPENED, _TOKEN, **more)).cause is cause  # type: ignore[arg-type]  # by name
