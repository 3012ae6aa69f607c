"""Flow runs as plain processes: the real shim, real signals, real ends."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

import pytest

from local_agent.errors import LaunchError
from local_agent.launchers import LiveRun
from local_agent.launchers.handle import ProcessHandle
from local_agent.limits import Limits
from local_agent.linux.procfs import identity_of
from local_agent.model import Cause
from support.agent import is_alive
from support.api_client import wait_until
from support.launcher_bed import Bed, pid_of, sh


@pytest.mark.parametrize(
    ("script", "cause", "code", "number"),
    [
        ("exit 0", Cause.EXITED, 0, None),
        ("exit 7", Cause.EXITED, 7, None),
        ("kill -KILL $$", Cause.SIGNALLED, None, signal.SIGKILL),
        ("kill -INT $$", Cause.SIGNALLED, None, signal.SIGINT),
        ("kill -TERM $$", Cause.SIGNALLED, None, signal.SIGTERM),
        ("exec /nonexistent/python", Cause.EXITED, 127, None),
    ],
)
async def test_how_it_ends(bed: Bed, script: str, cause: Cause, code: int | None, number: int | None) -> None:
    end = await bed.run(*sh(script))
    assert (end.cause, end.exit_code, end.signal) == (cause, code, number)


async def test_a_command_that_does_not_exist_says_so_in_its_last_lines(bed: Bed) -> None:
    end = await bed.run("/nonexistent/python", "-m", "prefect")
    assert (end.cause, end.exit_code) == (Cause.EXITED, 127)
    assert "/nonexistent/python" in end.last_lines[-1]


async def test_nothing_runs_before_the_gate_opens_or_after_it_was_shut(bed: Bed) -> None:
    process = await bed.launch(*sh(f"touch {bed.folder}/ran"))
    assert is_alive(pid_of(process))
    await process.abandon()
    assert not is_alive(pid_of(process))
    assert list(bed.folder.iterdir()) == []


async def test_an_agent_that_dies_at_the_gate_leaves_nothing_running(bed: Bed) -> None:
    process = await bed.launch(*sh(f"touch {bed.folder}/ran"))
    record = bed.adopted(process)
    process.detach()  # as its death closes every descriptor
    wait_until(lambda: not is_alive(pid_of(process)), lambda: "the shim stays at its gate")
    _reap(process)
    assert (await bed.end_by_adopting(record)).cause is Cause.NEVER_STARTED
    await bed.launcher.forget(record)
    assert list(bed.folder.iterdir()) == []


_TELL = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ls -l /proc/self/fd; cat /proc/self/oom_score_adj; nice"


async def test_what_a_child_inherits(bed: Bed) -> None:
    process = await bed.launch(
        *sh(f"({_TELL}; cut -d' ' -f6 /proc/self/stat) >{bed.folder}/told"), limits=Limits(nice=5)
    )
    process.open_gate()
    await bed.conclude(process)
    told = bed.wait_for("told").splitlines()
    masks = {line.split()[0]: int(line.split()[1], 16) for line in told if line.startswith("Sig")}
    assert masks["SigBlk:"] == 0
    assert not any(
        masks["SigIgn:"] >> number - 1 & 1
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGFPE)
    )
    assert masks["SigIgn:"] >> signal.SIGPIPE - 1 & 1, "as for a service of systemd: a journal that ends kills nobody"
    assert [line.split(" -> ")[1] for line in told if " 0 -> " in line] == ["/dev/null"], "nobody types to a flow run"
    assert not any("pipe:" in line or "socket:" in line for line in told), told
    assert told[-3:-1] == ["0", "5"], "no protection from the OOM killer, and the nice value that was asked for"
    assert int(told[-1]) == pid_of(process), "a session of its own: Ctrl-C at the agent does not reach it"


async def test_prefects_own_cancellation_works(bed: Bed) -> None:
    interrupted = (
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(3600)\n"
        "except KeyboardInterrupt:\n    os._exit(9)\n"
    )
    assert (await bed.run(sys.executable, "-S", "-E", "-c", interrupted)).exit_code == 9


async def test_what_it_prints_is_in_its_file_and_the_last_of_it_in_its_end(bed: Bed) -> None:
    process = await bed.launch(*sh("for n in $(seq 30); do echo line $n; done; echo oops >&2; exit 3"))
    process.open_gate()
    end = await bed.conclude(process)
    assert end.last_lines == (*(f"line {number}" for number in range(22, 31)), "oops")


def _reap(process: LiveRun) -> None:
    os.waitpid(pid_of(process), 0)


def _ignoring(then: str) -> tuple[str, ...]:
    return sh(f'trap "" TERM INT; {then}')


async def test_a_cancelled_run_that_ends_when_it_is_told(bed: Bed) -> None:
    process = await bed.launch(*sh(f"echo up >{bed.folder}/up; exec sleep 3600"))
    process.open_gate()
    bed.wait_for("up")
    await process.stop(60)
    end = await bed.conclude(process)
    assert (end.cause, end.signal) == (Cause.CANCELLED, signal.SIGTERM)


async def test_a_cancelled_run_that_ignores_everything_is_killed_with_its_group(bed: Bed) -> None:
    process = await bed.launch(*_ignoring(f"sleep 3600 & echo $! >{bed.folder}/other; while :; do sleep 1; done"))
    process.open_gate()
    other = int(bed.wait_for("other"))
    await process.stop(0.2)
    assert not is_alive(other)
    assert (await bed.conclude(process)).cause is Cause.CANCELLED


async def test_what_is_left_in_the_group_is_swept(bed: Bed) -> None:
    process = await bed.launch(*_ignoring(f"sleep 3600 & echo $! >{bed.folder}/other"))
    process.open_gate()
    other = int(bed.wait_for("other"))
    assert (await bed.conclude(process)).is_clean
    assert not is_alive(other)


async def test_a_stop_by_somebody_else_is_known(bed: Bed) -> None:
    process = await bed.launch(*sh(f"echo up >{bed.folder}/up; exec sleep 3600"))
    process.open_gate()
    bed.wait_for("up")
    os.killpg(pid_of(process), signal.SIGTERM)
    assert (await bed.conclude(process)).cause is Cause.STOPPED


async def test_the_death_of_the_shim_ends_the_run(bed: Bed) -> None:
    process = await bed.launch(*sh(f"echo $$ >{bed.folder}/pid; exec sleep 3600"))
    process.open_gate()
    child = int(bed.wait_for("pid"))
    os.kill(pid_of(process), signal.SIGKILL)
    end = await bed.conclude(process)
    assert (end.cause, end.signal) == (Cause.SIGNALLED, signal.SIGKILL)
    assert not is_alive(child), "a run that nobody watches must not go on"


async def test_a_run_that_takes_too_long(bed: Bed) -> None:
    end = await bed.run(*sh("exec sleep 3600"), limits=Limits(runtime_max_seconds=1))
    assert end.cause is Cause.DEADLINE
    assert end.limits == Limits(runtime_max_seconds=1)


async def test_another_life_of_the_agent_learns_the_end(bed: Bed) -> None:
    process = await bed.launch(
        *sh(f"echo up >{bed.folder}/up; while [ ! -e {bed.folder}/go ]; do sleep 0.02; done; exit 5")
    )
    process.open_gate()
    record = bed.adopted(process)
    bed.wait_for("up")
    process.detach()
    adopted = await bed.adopt(record)
    assert adopted.handle == process.handle
    (bed.folder / "go").touch()
    end = await bed.conclude(adopted)
    assert (end.cause, end.exit_code) == (Cause.EXITED, 5)
    _reap(process)


async def test_a_pid_that_is_somebody_elses_by_now_is_not_adopted(bed: Bed) -> None:
    mine = identity_of(os.getpid())
    assert mine is not None
    stranger = ProcessHandle(replace(mine, start_ticks=mine.start_ticks - 1))
    for record in (replace(bed.record, handle=stranger.as_json()), bed.record):
        assert (await bed.end_by_adopting(record)).cause is Cause.VANISHED


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"env": {"BIG": "x" * 131_072}}, "its environment variable BIG has 131076 bytes"),
        ({"env": {f"BIG{number}": "x" * 100_000 for number in range(30)}}, "its environment has 3"),
        ({"env": {"A": "a\0b"}}, "no process has an environment variable 'A'"),
        ({"env": {"A=B": "c"}}, "no process has an environment variable 'A=B'"),
        ({"env": {"A": "\ud800"}}, "its variable 'A' is no text"),
    ],
)
async def test_what_no_process_can_have(bed: Bed, given: dict[str, dict[str, str]], words: str) -> None:
    with pytest.raises(LaunchError, match=words):
        await bed.launch("true", **given)  # type: ignore[arg-type]  # one of its options
    await bed.launcher.forget(bed.record)
    assert list(bed.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("step_seconds", "script", "cause"),
    [
        (-3600, "exec sleep 3600", Cause.DEADLINE),
        (3600, "exit 124", Cause.EXITED),
    ],
)
async def test_a_wall_clock_that_is_set_meanwhile_moves_no_deadline(
    bed: Bed, step_seconds: int, script: str, cause: Cause
) -> None:
    """As whoever asks date(1) would see it."""
    first = f'[ -e {bed.folder}/told ] || {{ touch {bed.folder}/told; exec /bin/date "$@"; }}'
    date = bed.folder / "date"
    date.write_text(f"#!/bin/sh\n{first}\nexec /bin/date -d '{step_seconds} seconds' \"$@\"\n")
    date.chmod(0o755)
    process = await bed.launch(
        *sh(script), limits=Limits(runtime_max_seconds=1), env={"PATH": f"{bed.folder}:/usr/bin:/bin"}
    )
    process.open_gate()
    assert (await bed.conclude(process)).cause is cause
