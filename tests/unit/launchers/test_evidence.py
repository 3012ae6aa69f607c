"""How a flow run ended, from the traces that are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from local_agent.errors import StateError
from local_agent.launchers import evidence
from local_agent.launchers.evidence import ExitRecord, Traces, Verdict, conclude, parse_exit_record
from local_agent.limits import Limits
from local_agent.model import Cause, Cost
from support.limits import no_descriptors

_WHOLE = """\
exit 137
stopped no
memory.peak 4187593113
memory.events low 0
memory.events oom 1
memory.events oom_kill 2
cpu.stat usage_usec 2500000
cpu.stat user_usec 2000000
io.stat 8:0 rbytes=1024 wbytes=2048 rios=1 wios=1 dbytes=0 dios=0
io.stat 8:16 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0
"""


def _record(text: str) -> ExitRecord:
    parsed = parse_exit_record(text)
    assert parsed is not None
    return parsed


def test_a_whole_record() -> None:
    parsed = _record(_WHOLE)
    assert (parsed.verdict, parsed.code, parsed.stopped) == (Verdict.EXIT, 137, False)
    assert parsed.cost == Cost(
        cpu_seconds=2.5, memory_peak_bytes=4187593113, read_bytes=1025, written_bytes=2050, oom_kills=2
    )


def test_a_record_of_a_run_without_a_cgroup_has_no_cost() -> None:
    parsed = _record("exit 0\nstopped yes\n")
    assert (parsed.verdict, parsed.code, parsed.stopped, parsed.cost) == (Verdict.EXIT, 0, True, Cost())


def test_a_record_of_a_run_whose_gate_never_opened() -> None:
    record = _record("never-started word 0\nstopped no\n")
    assert (record.verdict, record.token, record.code) == (Verdict.NEVER_STARTED, "word", 0)


def test_a_record_of_a_run_that_could_not_begin() -> None:
    record = _record("unable word 11 126\nstopped no\n")
    assert (record.verdict, record.token, record.errno, record.code) == (Verdict.UNABLE, "word", 11, 126)


@pytest.mark.parametrize("text", ["", "exit", "exit 13", "\n", "\nstopped no\n", "\0\0\0\n", "started\n", "gone 3\n"])
def test_a_record_that_was_cut_off_is_none(text: str) -> None:
    assert parse_exit_record(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "exit nonsense\n",
        "exit \u00b2\n",
        "exit 300\n",
        "unable\n",
        "exit 3\nmemory.peak max\n",
        f"exit 3\nmemory.peak {'9' * 5000}\n",
        "exit 3\nio.stat 8:0 rbytes=x wbytes=\u00b2\n",
        "exit 3\n\ufffd\n\0",
    ],
)
def test_nonsense_in_a_record_harms_nobody(text: str) -> None:
    assert _record(text).cost == Cost()


@pytest.mark.parametrize(
    ("text", "code", "passed_gate"),
    [
        ("", None, False),
        ("start", None, False),
        ("started\n", None, True),
        ("started\nexit 13", None, True),
        ("started\nexit 3\nstopped no\n", 3, True),
    ],
)
def test_a_record_on_disk(tmp_path: Path, text: str, code: int | None, passed_gate: bool) -> None:
    base = tmp_path / "run"
    assert evidence.read_exit_record(base) == (None, False)
    (tmp_path / "run.exit").write_text(text)
    record, passed = evidence.read_exit_record(base)
    assert (record.code if record else None, passed) == (code, passed_gate)
    evidence.remove_exit_record(base)
    evidence.remove_exit_record(base)
    assert list(tmp_path.iterdir()) == []


def test_a_gate_cannot_have_opened_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "run.exit").write_text("started\nnever-started word\nstopped no\n")
    assert evidence.read_exit_record(tmp_path / "run") == (None, True)


def test_a_folder_in_its_place_is_left_there(tmp_path: Path) -> None:
    (tmp_path / "run.exit").mkdir()
    evidence.remove_exit_record(tmp_path / "run")
    assert (tmp_path / "run.exit").is_dir()


def test_a_record_that_cannot_be_read_now_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "run.exit").write_text("started\nexit 0\n")
    with no_descriptors(), pytest.raises(StateError, match="cannot read"):
        evidence.read_exit_record(tmp_path / "run")


_EXIT_0, _EXIT_3 = "exit 0\nstopped no\n", "exit 3\nstopped no\n"
_TERM, _TERM_ASKED = "exit 143\nstopped no\n", "exit 143\nstopped yes\n"
_OOM_KILLED = "exit 137\nstopped no\nmemory.events oom_kill 1\n"
_HAD_AN_OOM_KILL = "exit 3\nstopped no\nmemory.events oom_kill 1\n"


@pytest.mark.parametrize(
    ("text", "more", "cause"),
    [
        (_EXIT_0, {}, Cause.EXITED),
        (_EXIT_3, {}, Cause.EXITED),
        (_TERM, {}, Cause.SIGNALLED),
        # who is not the parent any more has the record alone; who is has the status too
        (None, {"shim_status": 3}, Cause.EXITED),
        (None, {"shim_status": -9}, Cause.SIGNALLED),
        # memory
        (_OOM_KILLED, {}, Cause.OUT_OF_MEMORY),
        (_TERM_ASKED, {"result": "oom-kill"}, Cause.OUT_OF_MEMORY),
        (None, {"result": "oom-kill"}, Cause.OUT_OF_MEMORY),
        (_HAD_AN_OOM_KILL, {}, Cause.EXITED),
        # time
        (_TERM_ASKED, {"result": "timeout"}, Cause.DEADLINE),
        (None, {"result": "timeout"}, Cause.DEADLINE),
        ("overran 124\nstopped no\n", {}, Cause.DEADLINE),
        # somebody asked
        (_TERM_ASKED, {}, Cause.STOPPED),
        (_TERM_ASKED, {"cancelled": True}, Cause.CANCELLED),
        (None, {"cancelled": True, "shim_status": -9}, Cause.CANCELLED),
        (_TERM_ASKED, {"shutting_down": True}, Cause.SHUTDOWN),
        (None, {"shutting_down": True}, Cause.SHUTDOWN),
        (_EXIT_3, {"shutting_down": True}, Cause.EXITED),
        # done is done, whatever happened at the same time
        ("exit 0\nstopped yes\n", {"cancelled": True, "result": "timeout"}, Cause.EXITED),
        # nothing is left
        (None, {}, Cause.VANISHED),
        (None, {"same_boot": False}, Cause.POWER_LOST),
        (_EXIT_3, {"same_boot": False}, Cause.EXITED),
        (_TERM_ASKED, {"same_boot": False}, Cause.SHUTDOWN),
    ],
)
def test_the_cause(text: str | None, more: dict[str, Any], cause: Cause) -> None:
    record = _record(text) if text else None
    assert conclude(Traces(record, **more)).cause is cause


def test_an_exit_code_is_no_signal_and_a_signal_no_exit_code() -> None:
    exited = conclude(Traces(_record(_EXIT_3)))
    assert (exited.exit_code, exited.signal) == (3, None)
    signalled = conclude(Traces(_record(_TERM)))
    assert (signalled.exit_code, signalled.signal) == (None, 15)
    killed = conclude(Traces(None, shim_status=-9))
    assert (killed.exit_code, killed.signal) == (None, 9)
    assert conclude(Traces(_record("exit 255\nstopped no\n"))).exit_code == 255


def test_an_end_carries_what_explains_it() -> None:
    limits = Limits(memory_max_bytes=1)
    end = conclude(Traces(_record(_WHOLE), limits=limits))
    assert end.limits == limits
    assert end.cost.oom_kills == 2


def test_last_lines_are_asked_for_only_where_they_help() -> None:
    asked = []

    def last_lines() -> tuple[str, ...]:
        asked.append(True)
        return ("ModuleNotFoundError",)

    assert conclude(Traces(_record(_EXIT_0), last_lines=last_lines)).last_lines == ()
    assert not asked
    assert conclude(Traces(_record(_EXIT_3), last_lines=last_lines)).last_lines == ("ModuleNotFoundError",)
