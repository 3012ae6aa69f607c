"""What a flow run has beside its record: a pipe by which it is asked to end, a folder of its own."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local_agent.launchers import LiveRun
from local_agent.launchers.belongings import CONTROL_VARIABLE
from local_agent.limits import Limits
from local_agent.model import Cause, Child
from support import samples
from support.agent import is_alive
from support.launcher_bed import Bed, pid_of, sh
from support.users import as_another_user, environment, open_folder

_DEADLINE = pytest.mark.parametrize(
    "limits", [Limits(), Limits(runtime_max_seconds=60)], ids=["no deadline", "deadline"]
)


async def _launch(bed: Bed, script: str, *, limits: Limits | None = None, folder: Path | None = None) -> LiveRun:
    child = Child(sh(script), {"PATH": "/usr/bin:/bin"}, folder, has_control=True)
    process = await bed.launcher.launch(bed.record, child, limits or Limits())
    process.open_gate()
    return process


@_DEADLINE
async def test_whoever_listens_is_told_by_the_pipe(bed: Bed, limits: Limits) -> None:
    listen = f'exec 3<>"${CONTROL_VARIABLE}"; echo up >{bed.folder}/up; dd bs=1 count=1 <&3 >{bed.folder}/told 2>&-'
    process = await _launch(bed, f"{listen}; exit 9", limits=limits, folder=bed.folder)
    pipe = bed.folder / f"{samples.RUN_ID}.control"
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert stat.S_IMODE(pipe.lstat().st_mode) == 0o600
    bed.wait_for("up")
    adopted = await bed.adopt(bed.adopted(process))
    adopted.interrupt()
    adopted.detach()
    assert (await bed.conclude(process)).exit_code == 9
    assert (bed.folder / "told").read_text() == "c"


_ENDS_WHEN_TOLD = "sleep 3600 & echo $! >{0}/other; trap 'exit 7' TERM; echo up >{0}/up; wait"


@_DEADLINE
async def test_whoever_does_not_listen_gets_a_sigterm_and_nobody_else(bed: Bed, limits: Limits) -> None:
    process = await bed.launch(*sh(_ENDS_WHEN_TOLD.format(bed.folder)), limits=limits)
    process.interrupt()  # before the gate nothing is there to be told
    process.open_gate()
    bed.wait_for("up")
    process.interrupt()
    await process.ended()
    assert is_alive(int(bed.wait_for("other"))), "what it has started is not asked"
    process.interrupt()
    end = await bed.conclude(process)
    assert end.cause is Cause.CANCELLED


@pytest.mark.parametrize("spoil", ["leave it", "fill it", "a file in its place", "a link in its place", "remove it"])
async def test_a_pipe_by_which_nobody_hears(bed: Bed, spoil: str) -> None:
    process = await _launch(bed, _ENDS_WHEN_TOLD.format(bed.folder), folder=bed.folder)
    bed.wait_for("up")
    pipe, kept = bed.folder / f"{samples.RUN_ID}.control", os.open("/dev/null", os.O_RDONLY)
    if spoil == "fill it":
        os.close(kept)
        kept = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        while not _is_full(kept):
            pass
    elif spoil != "leave it":
        pipe.unlink()
    if spoil == "a file in its place":
        pipe.write_text("mine")
    if spoil == "a link in its place":
        (bed.folder / "mine").write_text("mine")
        pipe.symlink_to(bed.folder / "mine")
    process.interrupt()
    end = await bed.conclude(process)
    os.close(kept)
    assert (end.cause, end.signal) == (Cause.CANCELLED, None)
    if spoil == "a link in its place":
        assert (bed.folder / "mine").read_text() == "mine"


def _is_full(pipe: int) -> bool:
    try:
        return os.write(pipe, b"x" * 4096) == 0
    except BlockingIOError:
        return True


async def test_a_folder_of_its_own_is_gone_with_it(bed: Bed) -> None:
    """With what it has put there, and shut."""
    process = await _launch(bed, f"pwd -P >{bed.folder}/where; mkdir -p a/b; touch a/b/c; chmod 0 a/b a; exit 3")
    end = await bed.conclude(process)
    assert end.exit_code == 3
    assert Path((bed.folder / "where").read_text().strip()) == bed.folder / f"{samples.RUN_ID}.scratch"
    assert bed.left == []


_AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from local_agent.launchers.belongings import _removed

folder, kept = Path(sys.argv[1]) / "scratch", Path(sys.argv[1]) / "kept"
kept.mkdir()
kept.chmod(0o755)
(folder / "shut/below").mkdir(parents=True)
(folder / "shut/below/file").touch()
for place in (folder, folder / "shut"):
    (place / "link").symlink_to(kept)
for place in (folder / "shut/below", folder / "shut", folder):
    place.chmod(0)
assert _removed(str(folder)) == ""
assert not folder.exists()
assert kept.stat().st_mode & 0o777 == 0o755, "what a link leads to is not opened"
folder.symlink_to(kept)
assert _removed(str(folder)) == ""
assert kept.exists() and not folder.is_symlink()
"""


def test_what_a_flow_run_shuts_is_removed_and_nothing_that_it_links_to() -> None:
    """As a user whom modes hold up."""
    with open_folder(0o777) as shared:
        words = (*as_another_user(), sys.executable, "-c", _AS_ANOTHER_USER, str(shared))
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_a_folder_of_its_own_is_its_users_alone(bed: Bed) -> None:
    process = await _launch(bed, "true")
    assert stat.S_IMODE((bed.folder / f"{samples.RUN_ID}.scratch").stat().st_mode) == 0o700
    await bed.conclude(process)


async def test_after_a_crash_of_the_agent_its_record_is_enough_to_remove_them(bed: Bed) -> None:
    process = await _launch(bed, f"touch here; echo up >{bed.folder}/up; exec sleep 3600")
    bed.wait_for("up")
    os.killpg(pid_of(process), signal.SIGKILL)
    await process.ended()
    process.detach()
    assert (await bed.end_by_adopting(bed.adopted(process))).cause is Cause.VANISHED
    assert {path.suffix for path in bed.folder.glob(f"{samples.RUN_ID}*")} == {".exit", ".out", ".control", ".scratch"}
    await bed.new_launcher().forget(bed.adopted(process))
    assert list(bed.folder.glob(f"{samples.RUN_ID}*")) == []


async def test_what_an_earlier_one_could_not_remove_is_no_ones_folder(bed: Bed) -> None:
    stale = bed.folder / f"{samples.RUN_ID}.scratch"
    stale.mkdir()
    (stale / "old").touch()
    process = await _launch(bed, f"ls -A >{bed.folder}/found; echo >>{bed.folder}/found")
    await bed.conclude(process)
    assert (bed.folder / "found").read_text() == "\n"
